/* Test inputs: the same numbers on every machine, from the counter-based generator. `stream` tells
 * arrays of one case apart. The seed is that of the environment variable SEODANG_TEST_SEED, where
 * it is set. */
#pragma once

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/rng.h"
#include "base/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

#define FILL_SEED_VARIABLE "SEODANG_TEST_SEED"
static inline uint64_t fill_seed(void) {
    const char *seed = getenv(FILL_SEED_VARIABLE);
    return seed ? strtoull(seed, NULL, 10) : 20261123;
}
static inline seo_rng_key fill_key(uint32_t stream) {
    seo_rng_key key = {.seed = fill_seed(), .purpose = SEO_PURPOSE_TEST, .step = stream};
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
    const seo_rng_key key = fill_key(stream);
    for (int64_t i = 0; i < count; i++) {
        x[i] = low + (high - low) * seo_uniform_from(seo_rng_u32(key, (uint64_t)i));
    }
}
/* Whole numbers in [low, high]: sums of few enough of them are exact in f32 in any order. */
static inline void fill_whole(float *x, int64_t count, int32_t low, int32_t high, uint32_t stream) {
    const seo_rng_key key = fill_key(stream);
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits = seo_rng_u32(key, (uint64_t)i);
        x[i] = (float)(low + (int32_t)(bits % (uint32_t)(high - low + 1)));
    }
}
/* Ids in [0, limit). */
static inline void fill_ids(int32_t *x, int64_t count, int32_t limit, uint32_t stream) {
    const seo_rng_key key = fill_key(stream);
    for (int64_t i = 0; i < count; i++) {
        x[i] = (int32_t)(seo_rng_u32(key, (uint64_t)i) % (uint32_t)limit);
    }
}

/* The upper half of an f32, rounded to nearest, ties to even; NaN stays NaN. */
static inline uint16_t bf16_from(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (x != x) return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}
static inline float f32_from(uint16_t half) {
    const uint32_t bits = (uint32_t)half << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
/* x as a tensor of this type stores it. */
static inline float stored(seo_dtype storage, float x) {
    return storage == SEO_DTYPE_BF16 ? f32_from(bf16_from(x)) : x;
}
static inline void to_storage(float *x, int64_t count, seo_dtype storage) {
    for (int64_t i = 0; i < count; i++) x[i] = stored(storage, x[i]);
}

#ifdef __cplusplus
}
#endif
