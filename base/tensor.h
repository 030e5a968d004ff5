/* A tensor is a typed, contiguous, row-major view of memory somebody else owns. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum seo_dtype { SEO_DTYPE_F32, SEO_DTYPE_BF16, SEO_DTYPE_I32 } seo_dtype;

typedef struct seo_tensor {
    void *data; /* device address; NULL until its slab is bound, or for an omitted optional */
    seo_dtype dtype;
    int32_t rank;    /* 1..4; 0 means "no tensor": an omitted optional argument */
    int64_t dims[4]; /* dims[0] is the slowest; unused ones are 0 */
} seo_tensor;

static inline int64_t seo_dtype_bytes(seo_dtype dtype) {
    return dtype == SEO_DTYPE_BF16 ? 2 : 4;
}
static inline int64_t seo_tensor_count(const seo_tensor *t) {
    int64_t n = t->rank > 0 ? 1 : 0;
    for (int32_t i = 0; i < t->rank; i++) n *= t->dims[i];
    return n;
}
static inline int64_t seo_tensor_bytes(const seo_tensor *t) {
    return seo_tensor_count(t) * seo_dtype_bytes(t->dtype);
}
/* True when the argument was given. */
static inline bool seo_tensor_given(const seo_tensor *t) {
    return t->rank > 0;
}

/* Constructors; the memory stays the caller's. */
static inline seo_tensor seo_tensor_1d(void *data, seo_dtype dtype, int64_t n) {
    seo_tensor t = {data, dtype, 1, {n, 0, 0, 0}};
    return t;
}
static inline seo_tensor seo_tensor_2d(void *data, seo_dtype dtype, int64_t rows, int64_t cols) {
    seo_tensor t = {data, dtype, 2, {rows, cols, 0, 0}};
    return t;
}
static inline seo_tensor seo_tensor_3d(void *data, seo_dtype dtype, int64_t a, int64_t b,
                                       int64_t c) {
    seo_tensor t = {data, dtype, 3, {a, b, c, 0}};
    return t;
}

#ifdef __cplusplus
}
#endif
