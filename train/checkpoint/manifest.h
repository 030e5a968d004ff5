/* manifest.json: what a checkpoint holds, and the hash of every byte of it.
 *
 * A JSON object, its members one below the other:
 *
 *   format "seodang-checkpoint", format_version 2, program
 *   state     step tokens seed loss_mean train_seconds skipped_steps bad_in_row spike_window
 *             precision config_hash data_sha256 tokenizer_sha256; base_path base_xxh3_128 of a run
 *             that began from another checkpoint, teacher_path teacher_xxh3_128 of one that learns
 *             from it. A float is {"value": for people, "bits": its IEEE 754 bits in hex}, the
 *             window an array of such bits, the seed a decimal string, because JSON readers do not
 *             agree on 64-bit numbers
 *   parts     how many part files: one for each rank that wrote
 *   files     name, bytes, xxh3_128 of the whole, xxh3_64 of each block of block_bytes
 *   tensors   name, dtype, shape, pieces: part, offset and count in elements, xxh3_128 of the data
 *   manifest_xxh3_128   the hash of all the text before this last member's line
 *
 * Version 1 is read as well: it had one part, and neither bad_in_row nor spike_window.
 *
 * The last two lines are the same in every version, so that damage can be told from a format this
 * program is too old for. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/text.h"
#include "train/checkpoint.h"
#include "train/checkpoint/files.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SEO_CKPT_FORMAT "seodang-checkpoint"
enum {
    SEO_CKPT_FORMAT_VERSION = 2,
    SEO_CKPT_FILE_NAME_MAX = 64,
    SEO_CKPT_PARTS_MAX = 4096,
    SEO_CKPT_MANIFEST_BYTES_MAX = 256 << 20
};

typedef struct seo_ckpt_file {
    char name[SEO_CKPT_FILE_NAME_MAX];
    seo_ckpt_digest digest;
} seo_ckpt_file;

/* A run of a tensor's elements that lies in one part. */
typedef struct seo_ckpt_piece {
    int64_t part, offset, count;
    char hash[SEO_XXH128_HEX];
} seo_ckpt_piece;

/* One tensor; its pieces cover it without gap or overlap, in order. */
typedef struct seo_ckpt_entry {
    char name[SEO_CKPT_NAME_MAX];
    int32_t rank;
    int64_t dims[4];
    int64_t count; /* of elements */
    int64_t piece_first, piece_count;
} seo_ckpt_entry;

typedef struct seo_ckpt_manifest {
    seo_ckpt_state state;
    char program[64];
    char hash[SEO_XXH128_HEX]; /* of the text it was read from */
    int64_t part_count;
    seo_ckpt_file *files;
    int64_t file_count;
    seo_ckpt_entry *entries;
    int64_t entry_count;
    seo_ckpt_piece *pieces;
    int64_t piece_count;
} seo_ckpt_manifest;

/* "part-0000-of-0004.h5" */
void seo_ckpt_part_name(char out[SEO_CKPT_FILE_NAME_MAX], int64_t part, int64_t part_count);

/* "group/leaf" of letters, digits and ._- : what a tensor may be called. */
bool seo_ckpt_name_ok(const char *name);

/* The number of elements of a shape of 1 to 4 positive dimensions; false when it has none such, or
 * its bytes do not fit. */
bool seo_ckpt_shape_count(int32_t rank, const int64_t *dims, int64_t *count);

/* Appends the text of manifest.json. */
seo_err seo_ckpt_manifest_write(const seo_ckpt_manifest *manifest, seo_buf *out);

/* Checks the text's own hash, then every value. `path` is for messages. */
seo_err seo_ckpt_manifest_parse(const char *path, const char *text, size_t bytes,
                                seo_ckpt_manifest *out);
seo_err seo_ckpt_manifest_load(const char *path, seo_ckpt_manifest *out);
void seo_ckpt_manifest_free(seo_ckpt_manifest *manifest);

/* NULL when no file or tensor of that name is listed. */
const seo_ckpt_file *seo_ckpt_manifest_file(const seo_ckpt_manifest *manifest, const char *name);
const seo_ckpt_entry *seo_ckpt_manifest_entry(const seo_ckpt_manifest *manifest, const char *name);

/* Appends the closing lines that carry the hash of what `out` holds so far. For tests too. */
void seo_ckpt_manifest_seal(seo_buf *out);

#ifdef __cplusplus
}
#endif
