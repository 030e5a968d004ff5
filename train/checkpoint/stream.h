/* Hashing values that are never in memory all at once. */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "base/hash.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { SEO_CKPT_PIECE_VALUES = 1 << 18 };

/* Puts values [first, first + count) of a run into out. */
typedef seo_err seo_ckpt_read_run(void *context, int64_t first, int64_t count, float *out);

/* The XXH3-128 of a run of `count` values, read by pieces of at most SEO_CKPT_PIECE_VALUES. */
seo_err seo_ckpt_hash_values(seo_ckpt_read_run *read, void *context, int64_t count,
                             char hash[SEO_XXH128_HEX]);

#ifdef __cplusplus
}
#endif
