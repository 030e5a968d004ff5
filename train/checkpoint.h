/* Checkpoints: the state of a run on disk, whole or absent.
 *
 *   RUN/checkpoints/step-00001000/
 *       part-0000-of-0004.h5   plain HDF5: /parameters/<name>, /moment1/<name>, /moment2/<name>,
 *                              f32: what rank 0 of 4 held of them; a file for each rank
 *       tokenizer.json         what turns text into ids for these parameters (when known)
 *       config.yaml            the resolved configuration
 *       manifest.json          written last: step, state, tensor table, XXH3-128 of every dataset
 *                              and file, and of itself (its layout: train/checkpoint/manifest.h)
 *
 * How many parts there are says who wrote it, and binds no one: it is read by any number of ranks.
 *
 * Commit: tmp.<step>.<attempt>/ - every return code checked - fsync each file - read back and
 * compare - manifest - fsync - fsync folder - fence - rename - fsync parent; only then is it
 * "saved", and only then are old ones removed, manifest first. A folder without a valid manifest is
 * not a checkpoint. Everything is verified against the manifest before HDF5 sees a byte, and HDF5
 * never touches the disk by itself (train/checkpoint/driver.h). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/tensor.h"
#include "base/text.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { SEO_CKPT_NAME_MAX = 96, SEO_CKPT_SPIKE_MAX = 1024 };

/* train/world/world.h; NULL wherever it is asked for: this process alone. */
typedef struct seo_world seo_world;

/* One tensor of the state, f32, in host memory. Names: "parameters/blocks.0.attn.qkv.weight",
 * "moment1/...", "moment2/...". */
typedef struct seo_ckpt_tensor {
    char name[SEO_CKPT_NAME_MAX];
    int32_t rank;
    int64_t dims[4];
    float *data;
} seo_ckpt_tensor;

/* A run of a tensor's elements, row-major. */
typedef struct seo_ckpt_range {
    int64_t tensor; /* index in a table of tensors */
    int64_t offset, count;
    float *data; /* `count` values; where they go to or come from */
} seo_ckpt_range;

/* All of a run's state that is not a tensor. Data order needs the step alone. */
typedef struct seo_ckpt_state {
    int64_t step, tokens; /* done so far */
    uint64_t seed;
    double loss_mean;                 /* the running mean that the step line shows */
    double train_seconds;             /* of all attempts together */
    int64_t skipped_steps;            /* steps whose update was left out (non-finite gradient) */
    char precision[8];                /* "f32", "bf16": what passes computed in; "" when unknown */
    char config_hash[33];             /* seo_config_hash */
    char data_sha256[SEO_SHA256_HEX]; /* of the dataset's manifest */
    char tokenizer_sha256[SEO_SHA256_HEX]; /* "" when unknown */
    /* The checkpoint whose parameters the run began from: its folder, and the hash of its manifest.
     * "": random ones. */
    char base_path[SEO_PATH_MAX];
    char base_hash[SEO_XXH128_HEX];
    /* The same of the teacher that it learns from. "": none. */
    char teacher_path[SEO_PATH_MAX];
    char teacher_hash[SEO_XXH128_HEX];
    int64_t bad_in_row;  /* steps left out since the last good one */
    int64_t spike_count; /* of spike_window; what lies beyond is not saved */
    double
        spike_window[SEO_CKPT_SPIKE_MAX]; /* losses the spike detector compares with, bit exact */
} seo_ckpt_state;

/* Puts the values of range `index` of a snapshot (of tensor `index` where it has no ranges) into
 * host memory. */
typedef seo_err seo_ckpt_fetch(void *context, int64_t index, float *out);

/* What a save writes. All memory is the caller's. */
typedef struct seo_ckpt_snapshot {
    seo_ckpt_state state; /* rank 0's is written */
    /* The whole state's tensors: the same names and shapes in the same order on all ranks. */
    const seo_ckpt_tensor *tensors;
    int64_t tensor_count;
    /* What of them this rank writes: by tensor, then offset, none twice; together the ranks' ranges
     * cover every tensor without gap or overlap. NULL: this rank writes every tensor whole, from
     * the tensor's data. A rank that writes nothing gives a pointer and count 0. */
    const seo_ckpt_range *ranges;
    int64_t range_count;
    /* For seo_ckpt_writer_submit: how it gets the values where they are not in host memory. NULL:
     * they lie at each range's or tensor's data. */
    seo_ckpt_fetch *fetch;
    void *fetch_context;
    const char *config_yaml;    /* text of config.yaml */
    const char *tokenizer_path; /* copied into the checkpoint; NULL: none */
} seo_ckpt_snapshot;

/* Writes and commits RUN/checkpoints/step-XXXXXXXX; any failure leaves earlier checkpoints whole
 * and removes the temporary folder where it can. A good checkpoint of the same step with the same
 * tensors is kept and counts as saved; with other values it is SEO_ERR_USAGE and stays; a damaged
 * one is replaced. What earlier unfinished saves left is removed. SEO_ERR_LOCKED: a newer attempt
 * owns the folder (seo_run_dir_fence), and this run must stop. attempt 0: no fence, for a folder
 * that no run owns.
 *
 * With several ranks all call it with the same step, over SEO_CHANNEL_SAVE: each writes its part,
 * rank 0 decides, gathers the table and commits, and all get the same outcome: a rank that fails
 * fails the save on every rank, with its name. */
seo_err seo_ckpt_save(const char *run_dir, int64_t attempt, seo_world *world,
                      const seo_ckpt_snapshot *snapshot);

/* Removes checkpoints beyond the newest keep_last, except those at multiples of keep_every (0:
 * none); never the newest. */
seo_err seo_ckpt_prune(const char *run_dir, int64_t keep_last, int64_t keep_every);

/* For a start from scratch: renames RUN/checkpoints to RUN/checkpoints.set-aside-<n>, so that no
 * checkpoint is lost and none is found. `aside` (SEO_PATH_MAX bytes) gets the new name, "" when
 * there was nothing to set aside. */
seo_err seo_ckpt_set_aside(const char *run_dir, char *aside);

/* A checkpoint opened for reading: its manifest and every byte of its files verified. */
typedef struct seo_ckpt seo_ckpt;

/* `path`: a run folder (its newest good checkpoint; damaged ones are named in warnings and passed
 * over) or one step-... folder (damage is an error). SEO_ERR_MISSING: there is none at all, a run
 * may begin. SEO_ERR_FORMAT: there are some and none is good. SEO_ERR_UNSUPPORTED: the newest is of
 * a newer format. Any failure to look (EIO, EACCES) is SEO_ERR_IO: never taken for "none".
 *
 * With several ranks all call it, over SEO_CHANNEL_RUN: they share the verifying among them, and
 * all open the same checkpoint or get the same error. Reading is each rank's own affair. */
seo_err seo_ckpt_open(const char *path, seo_world *world, seo_ckpt **out);
void seo_ckpt_close(seo_ckpt *ckpt);

const seo_ckpt_state *seo_ckpt_state_of(const seo_ckpt *ckpt);
int64_t seo_ckpt_part_count(const seo_ckpt *ckpt); /* ranks that wrote it */
const char *seo_ckpt_path(const seo_ckpt *ckpt);   /* of the step-... folder */
const char *seo_ckpt_hash(const seo_ckpt *ckpt);   /* of its manifest, which covers every byte */
int64_t seo_ckpt_tensor_count(const seo_ckpt *ckpt);
/* Name and shape of tensor i; data is NULL. Manifest order. */
seo_ckpt_tensor seo_ckpt_tensor_at(const seo_ckpt *ckpt, int64_t index);
/* Reads tensors[i].data (sized by its dims) for each name; a missing name or another shape is
 * SEO_ERR_FORMAT. The bytes read are checked against the manifest. */
seo_err seo_ckpt_read(seo_ckpt *ckpt, const seo_ckpt_tensor *tensors, int64_t count);
/* *index: where the tensor of this name and shape stands in the checkpoint's table; SEO_ERR_FORMAT
 * as above. */
seo_err seo_ckpt_find(const seo_ckpt *ckpt, const seo_ckpt_tensor *tensor, int64_t *index);
/* Reads any runs of elements, `tensor` being an index of this checkpoint's table, whatever parts
 * they lie in; no memory is taken beyond HDF5's chunk of a megabyte. A piece that is read whole is
 * checked against the manifest once more, any other by HDF5's own checksums of its chunks. */
seo_err seo_ckpt_read_ranges(seo_ckpt *ckpt, const seo_ckpt_range *ranges, int64_t count);

/* Saving in the background: submit copies what the snapshot's ranges hold (waiting only if the
 * previous save is not done) and returns; a thread saves, prunes and reports. A failed save is
 * loud, and training goes on; failures in a row are counted. One thread at a time uses a writer.
 * With an HDF5 library that is not thread-safe, submit saves before it returns. With several ranks
 * each has a writer, and all submit the same steps in the same order. */
typedef struct seo_ckpt_writer seo_ckpt_writer;
typedef struct seo_ckpt_writer_args {
    const char *run_dir;
    int64_t attempt;
    seo_world *world;
    int64_t keep_last, keep_every;
} seo_ckpt_writer_args;
seo_err seo_ckpt_writer_open(const seo_ckpt_writer_args *args, seo_ckpt_writer **out);
seo_err seo_ckpt_writer_submit(seo_ckpt_writer *writer, const seo_ckpt_snapshot *snapshot);
/* Waits for the save under way; the error of the last save that ended. */
seo_err seo_ckpt_writer_wait(seo_ckpt_writer *writer);
int64_t seo_ckpt_writer_failures(const seo_ckpt_writer *writer); /* in a row, up to now */
void seo_ckpt_writer_close(seo_ckpt_writer *writer);             /* waits */

/* Appends what the checkpoint holds: a table, or one line of JSON. */
typedef enum seo_ckpt_style { SEO_CKPT_STYLE_TABLE, SEO_CKPT_STYLE_JSON } seo_ckpt_style;
seo_err seo_ckpt_describe(const seo_ckpt *ckpt, seo_ckpt_style style, seo_buf *out);

/* Reads every byte and every tensor of one checkpoint, or of all in a run folder. Appends one line
 * for each to `report`: good, or which file is damaged and where. The error of the newest bad one.
 */
seo_err seo_ckpt_verify(const char *path, seo_buf *report);

/* Compares two checkpoints (or run folders): step, parameters, both moments, bit for bit. Appends
 * to `report` "identical" or the first tensors that differ, with the index, both values and how
 * many differ. *same tells. */
seo_err seo_ckpt_diff(const char *path_a, const char *path_b, bool *same, seo_buf *report);

/* Writes the checkpoint at `path` anew as DIR/checkpoints/step-... of `parts` parts, by the same
 * commit, and verifies it. The values are the same; memory stays bounded. SEO_ERR_USAGE: something
 * stands there. */
seo_err seo_ckpt_reshard(const char *path, const char *dir, int64_t parts);

/* Writes DIR/checkpoints/step-...: the mean of the parameters of `count` checkpoints of one model
 * (SEO_ERR_USAGE when configurations, tokenizers or tensors differ), added in f64 in the given
 * order and rounded once. Moments are left out: the mean of several is no state to train on from,
 * and a run refuses it for want of them. State and configuration are those of the newest. */
seo_err seo_ckpt_average(const char *const *paths, int64_t count, const char *dir);

#ifdef __cplusplus
}
#endif
