/* Test inputs: the same numbers on every machine, from the counter-based generator. `stream` tells
 * arrays of one case apart. */
#pragma once

#include <stdint.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/rng.h"

#ifdef __cplusplus
extern "C" {
#endif

static inline seo_rng_key fill_key(uint32_t stream) {
    seo_rng_key key = {.seed = 20261123, .purpose = SEO_PURPOSE_TEST, .step = stream};
    return key;
}
static inline float *new_f32(int64_t count) {
    float *x = (float *)calloc((size_t)(count > 0 ? count : 1), sizeof(float));
    SEO_ASSERT(x != NULL);
    return x;
}
static inline double *new_f64(int64_t count) {
    double *x = (double *)calloc((size_t)(count > 0 ? count : 1), sizeof(double));
    SEO_ASSERT(x != NULL);
    return x;
}
/* Uniform in (low, high). */
static inline void fill_uniform(float *x, int64_t count, float low, float high, uint32_t stream) {
    for (int64_t i = 0; i < count; i++) {
        x[i] = low + (high - low) * seo_uniform_from(seo_rng_u32(fill_key(stream), (uint64_t)i));
    }
}
/* Whole numbers in [low, high]: sums of few enough of them are exact in f32 in any order. */
static inline void fill_whole(float *x, int64_t count, int32_t low, int32_t high, uint32_t stream) {
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits = seo_rng_u32(fill_key(stream), (uint64_t)i);
        x[i] = (float)(low + (int32_t)(bits % (uint32_t)(high - low + 1)));
    }
}
/* Ids in [0, limit). */
static inline void fill_ids(int32_t *x, int64_t count, int32_t limit, uint32_t stream) {
    for (int64_t i = 0; i < count; i++) {
        x[i] = (int32_t)(seo_rng_u32(fill_key(stream), (uint64_t)i) % (uint32_t)limit);
    }
}

#ifdef __cplusplus
}
#endif
