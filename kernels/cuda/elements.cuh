/* What operators on rows and flat arrays share: spans of consecutive elements as f32, and grids.
 *
 * Such a kernel is written once for N elements a lane at a time. N = SPAN is the fast variant: 16
 * bytes an access, for addresses that are multiples of 16 bytes. N = 1 takes the elements that no
 * span covers, or all of them where an address or a width does not allow spans. */
#pragma once

#include "base/check.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/tile.cuh"

enum {
    SPAN = 8, /* elements: one access of bf16, two of f32 */
    ELEMENT_THREADS = 256,
    ELEMENT_RESIDENT = 4,         /* blocks that registers must leave room for */
    BLOCKS_PER_MULTIPROCESSOR = 8 /* of a grid: as many as the threads leave room for */
};

/* SPAN elements as they are stored, to be held in few registers. */
template <class T> struct span { uint4 word[SPAN * sizeof(T) / 16]; };
template <class T> SEO_DEVICE span<T> span_load(const T *at) {
    span<T> s;
#pragma unroll
    for (int i = 0; i < (int)sizeof(s) / 16; i++) s.word[i] = ((const uint4 *)at)[i];
    return s;
}
/* The same, first to leave the cache. */
template <class T> SEO_DEVICE span<T> span_load_once(const T *at) {
    span<T> s;
#pragma unroll
    for (int i = 0; i < (int)sizeof(s) / 16; i++) s.word[i] = __ldcs((const uint4 *)at + i);
    return s;
}
template <class T> SEO_DEVICE void span_store(T *at, const span<T> &s) {
#pragma unroll
    for (int i = 0; i < (int)sizeof(s) / 16; i++) ((uint4 *)at)[i] = s.word[i];
}
template <class T> SEO_DEVICE void span_store_once(T *at, const span<T> &s) {
#pragma unroll
    for (int i = 0; i < (int)sizeof(s) / 16; i++) __stcs((uint4 *)at + i, s.word[i]);
}

SEO_DEVICE void span_unpack(float (&x)[SPAN], const span<float> &s) {
#pragma unroll
    for (int i = 0; i < SPAN / 4; i++) {
        x[4 * i] = __uint_as_float(s.word[i].x);
        x[4 * i + 1] = __uint_as_float(s.word[i].y);
        x[4 * i + 2] = __uint_as_float(s.word[i].z);
        x[4 * i + 3] = __uint_as_float(s.word[i].w);
    }
}
/* A bf16 is the upper half of the f32 of the same value. */
SEO_DEVICE void span_unpack(float (&x)[SPAN], const span<bf16> &s) {
    const unsigned pair[4] = {s.word[0].x, s.word[0].y, s.word[0].z, s.word[0].w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        x[2 * i] = __uint_as_float(pair[i] << 16);
        x[2 * i + 1] = __uint_as_float(pair[i] & 0xffff0000u);
    }
}
SEO_DEVICE void span_pack(span<float> &s, const float (&x)[SPAN]) {
#pragma unroll
    for (int i = 0; i < SPAN / 4; i++) {
        s.word[i] = make_uint4(__float_as_uint(x[4 * i]), __float_as_uint(x[4 * i + 1]),
                               __float_as_uint(x[4 * i + 2]), __float_as_uint(x[4 * i + 3]));
    }
}
SEO_DEVICE void span_pack(span<bf16> &s, const float (&x)[SPAN]) {
    s.word[0] = make_uint4(pack_bf16(x[0], x[1]), pack_bf16(x[2], x[3]), pack_bf16(x[4], x[5]),
                           pack_bf16(x[6], x[7]));
}

/* N elements as f32, N = SPAN or 1. */
template <class T> SEO_DEVICE void load_f32(float (&x)[SPAN], const T *at) {
    span_unpack(x, span_load(at));
}
template <class T> SEO_DEVICE void load_f32(float (&x)[1], const T *at) {
    x[0] = to_f32(*at);
}
template <class T> SEO_DEVICE void store_f32(T *at, const float (&x)[SPAN]) {
    span<T> s;
    span_pack(s, x);
    span_store(at, s);
}
template <class T> SEO_DEVICE void store_f32(T *at, const float (&x)[1]) {
    store_f32(at, x[0]);
}

/* The same of what a step reads or writes once: it need not stay in the cache. */
template <class T> SEO_DEVICE void load_once(float (&x)[SPAN], const T *at) {
    span_unpack(x, span_load_once(at));
}
template <class T> SEO_DEVICE void load_once(float (&x)[1], const T *at) {
    x[0] = to_f32(*at);
}
template <class T> SEO_DEVICE void store_once(T *at, const float (&x)[SPAN]) {
    span<T> s;
    span_pack(s, x);
    span_store_once(at, s);
}
template <class T> SEO_DEVICE void store_once(T *at, const float (&x)[1]) {
    store_f32(at, x[0]);
}

/* x as it is after it was stored as a T. */
SEO_DEVICE float rounded(float x, float) {
    return x;
}
SEO_DEVICE float rounded(float x, bf16) {
    return to_f32(__float2bfloat16_rn(x));
}

/* The sum of N numbers, in halves. */
SEO_DEVICE float sum_of(const float (&x)[SPAN]) {
    return ((x[0] + x[1]) + (x[2] + x[3])) + ((x[4] + x[5]) + (x[6] + x[7]));
}
SEO_DEVICE float sum_of(const float (&x)[1]) {
    return x[0];
}

/* True when spans may be read at each address. */
static inline bool spans_fit(const void *a, const void *b = nullptr, const void *c = nullptr,
                             const void *d = nullptr, const void *e = nullptr) {
    return (((uintptr_t)a | (uintptr_t)b | (uintptr_t)c | (uintptr_t)d | (uintptr_t)e) & 15) == 0;
}

/* A grid for `items` of independent work in blocks that take `each` at a time and go on until all
 * is done: at most as many as are resident together. */
static inline seo_grid grid_over(const seo_device *dev, int64_t items, int64_t each, int threads) {
    const seo_cuda *cuda = seo_cuda_of(dev);
    const int64_t resident =
        (int64_t)cuda->multiprocessors * BLOCKS_PER_MULTIPROCESSOR * ELEMENT_THREADS / threads;
    const int64_t blocks = seo_min_i64(seo_div_up(items, each), resident);
    return {dim3((unsigned)seo_max_i64(blocks, 1)), dim3((unsigned)threads), 0, cuda->stream};
}
/* The grid of an elementwise kernel: one span a thread at a time, the rest one by one. */
static inline seo_grid grid_over_elements(const seo_device *dev, int64_t spans, int64_t count) {
    const int64_t rest = count - spans * SPAN;
    return grid_over(dev, seo_max_i64(spans, rest), ELEMENT_THREADS, ELEMENT_THREADS);
}
SEO_DEVICE int64_t thread_of_grid() {
    return (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
}
SEO_DEVICE int64_t threads_of_grid() {
    return (int64_t)gridDim.x * blockDim.x;
}
