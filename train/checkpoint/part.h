/* A part file: plain HDF5 with one dataset for each tensor that it holds something of, for any HDF5
 * reader.
 *
 *   /parameters/<name> /moment1/<name> /moment2/<name>    f32 little endian; a whole tensor in its
 *       shape, a run of its elements in one dimension; chunked with fletcher32; attributes
 *       global_shape (int64 per dimension) and offset (int64: elements of the whole tensor that lie
 *       before this piece)
 *   root attributes format "seodang-checkpoint", format_version, step
 *
 * Format bounds v110 and no object times: the same state gives the same bytes. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/hash.h"
#include "train/checkpoint.h"
#include "train/checkpoint/stream.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a part holds of one tensor: its elements [offset, offset + count), row-major. */
typedef struct seo_ckpt_held {
    const char *name;
    int32_t rank;
    const int64_t *dims; /* of the whole tensor */
    int64_t offset, count;
} seo_ckpt_held;

bool seo_ckpt_held_whole(const seo_ckpt_held *held);

/* Where values come from that need not be in memory all at once: elements [first, first + count) of
 * tensor `index` into out. */
typedef struct seo_ckpt_source {
    seo_err (*read)(void *context, int64_t index, int64_t first, int64_t count, float *out);
    void *context;
} seo_ckpt_source;

/* One dataset to write: from `data`, or, where it is NULL, from the source by pieces of at most
 * SEO_CKPT_PIECE_VALUES. */
typedef struct seo_ckpt_write {
    seo_ckpt_held held;
    const float *data;
    int64_t index; /* for the source */
} seo_ckpt_write;

/* Creates `path`, writes the datasets, syncs, closes. Every return code is checked. */
seo_err seo_ckpt_part_write(const char *path, int64_t step, const seo_ckpt_write *writes,
                            int64_t count, const seo_ckpt_source *source);

typedef struct seo_ckpt_part seo_ckpt_part;

/* Opens a file whose every byte has been verified before. */
seo_err seo_ckpt_part_open(const char *path, seo_ckpt_part **out);
void seo_ckpt_part_close(seo_ckpt_part *part);

/* Reads `count` elements of the tensor from its element `first` on, all of which the part holds. */
seo_err seo_ckpt_part_read(seo_ckpt_part *part, const seo_ckpt_held *held, int64_t first,
                           int64_t count, float *data);

/* Reads all that is held and gives its XXH3-128. */
seo_err seo_ckpt_part_hash(seo_ckpt_part *part, const seo_ckpt_held *held,
                           char hash[SEO_XXH128_HEX]);

#ifdef __cplusplus
}
#endif
