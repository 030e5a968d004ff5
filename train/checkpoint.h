/* Checkpoints: the state of a run on disk, whole or absent.
 *
 *   RUN/checkpoints/step-00001000/
 *       part-0000-of-0001.h5   /parameters/<name>, /moment1/<name>, /moment2/<name>, f32: plain
 * HDF5 tokenizer.json         what turns text into ids for these parameters (when known)
 *       config.yaml            the resolved configuration
 *       manifest.json          written last: step, state, tensor table, XXH3-128 of every dataset
 *                              and file, and of itself (its layout: train/checkpoint/manifest.h)
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

enum { SEO_CKPT_NAME_MAX = 96 };

/* One tensor of the state, f32, in host memory. Names: "parameters/blocks.0.attn.qkv.weight",
 * "moment1/...", "moment2/...". */
typedef struct seo_ckpt_tensor {
    char name[SEO_CKPT_NAME_MAX];
    int32_t rank;
    int64_t dims[4];
    float *data;
} seo_ckpt_tensor;

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
} seo_ckpt_state;

/* Puts the values of tensor `index` of a snapshot into host memory. */
typedef seo_err seo_ckpt_fetch(void *context, int64_t index, float *out);

/* What a save writes. All memory is the caller's. */
typedef struct seo_ckpt_snapshot {
    seo_ckpt_state state;
    const seo_ckpt_tensor *tensors;
    int64_t tensor_count;
    /* For seo_ckpt_writer_submit: how it gets the values where they are not in host memory. NULL:
     * they lie at each tensor's data. */
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
 * that no run owns. */
seo_err seo_ckpt_save(const char *run_dir, int64_t attempt, const seo_ckpt_snapshot *snapshot);

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
 * a newer format. Any failure to look (EIO, EACCES) is SEO_ERR_IO: never taken for "none". */
seo_err seo_ckpt_open(const char *path, seo_ckpt **out);
void seo_ckpt_close(seo_ckpt *ckpt);

const seo_ckpt_state *seo_ckpt_state_of(const seo_ckpt *ckpt);
const char *seo_ckpt_path(const seo_ckpt *ckpt); /* of the step-... folder */
int64_t seo_ckpt_tensor_count(const seo_ckpt *ckpt);
/* Name and shape of tensor i; data is NULL. Manifest order. */
seo_ckpt_tensor seo_ckpt_tensor_at(const seo_ckpt *ckpt, int64_t index);
/* Reads tensors[i].data (sized by its dims) for each name; a missing name or another shape is
 * SEO_ERR_FORMAT. The bytes read are checked against the manifest. */
seo_err seo_ckpt_read(seo_ckpt *ckpt, const seo_ckpt_tensor *tensors, int64_t count);

/* Saving in the background: submit copies the snapshot's tensors (waiting only if the previous save
 * is not done) and returns; a thread saves, prunes and reports. A failed save is loud, and training
 * goes on; failures in a row are counted. One thread at a time uses a writer. With an HDF5 library
 * that is not thread-safe, submit saves before it returns. */
typedef struct seo_ckpt_writer seo_ckpt_writer;
typedef struct seo_ckpt_writer_args {
    const char *run_dir;
    int64_t attempt;
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

#ifdef __cplusplus
}
#endif
