/* A part file: plain HDF5 with one dataset per tensor, for any HDF5 reader.
 *
 *   /parameters/<name> /moment1/<name> /moment2/<name>    f32 little endian, in the tensor's shape,
 *       chunked with fletcher32; attributes global_shape (int64 per dimension) and offset (int64:
 *       elements of the whole tensor that lie before this piece)
 *   root attributes format "seodang-checkpoint", format_version, step
 *
 * Format bounds v110 and no object times: the same state gives the same bytes. */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "train/checkpoint.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Creates `path`, writes all tensors whole, syncs, closes. Every return code is checked. */
seo_err seo_ckpt_part_write(const char *path, int64_t step, const seo_ckpt_tensor *tensors,
                            int64_t count);

typedef struct seo_ckpt_part seo_ckpt_part;

/* Opens a file whose every byte has been verified before. */
seo_err seo_ckpt_part_open(const char *path, seo_ckpt_part **out);
void seo_ckpt_part_close(seo_ckpt_part *part);

/* Reads the piece of `count` values stored under `name` into data. */
seo_err seo_ckpt_part_read(seo_ckpt_part *part, const char *name, int64_t count, float *data);

/* SEO_ERR_FORMAT unless the dataset holds the tensor's shape and, bit for bit, its values. */
seo_err seo_ckpt_part_compare(seo_ckpt_part *part, const seo_ckpt_tensor *tensor);

#ifdef __cplusplus
}
#endif
