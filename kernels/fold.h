/* Private to kernels/: the sum of parts that lie in host memory, in one of the orders of
 * seo_sum_order. Each element is summed by itself, so that the bits depend on nothing but the parts
 * and their order: not on slices, threads or widths of registers. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/bf16.h"
#include "base/check.h"
#include "base/tensor.h"
#include "kernels/sum_order.h"

#ifdef __cplusplus
extern "C" {
#endif

/* `count` parts of f32 or bf16, each `stride` elements after the one before. */
typedef struct seo_parts {
    const void *first;
    int64_t count, stride;
    seo_dtype dtype;
    seo_sum_order order;
} seo_parts;

/* Elements that are summed side by side: a row of them stays in the cache. */
enum { SEO_FOLD_WIDTH = 128 };

static inline void seo_parts_load(float *to, const seo_parts *p, int64_t part, int64_t from,
                                  int64_t width) {
    const int64_t at = part * p->stride + from;
    if (p->dtype == SEO_DTYPE_BF16) {
        const uint16_t *x = (const uint16_t *)p->first + at;
        for (int64_t i = 0; i < width; i++) to[i] = seo_f32_from_bf16(x[i]);
    } else {
        memcpy(to, (const float *)p->first + at, (size_t)width * sizeof *to);
    }
}

/* In f32, where later parts are added to earlier ones. */
static inline void seo_fold_sequence(float *total, const seo_parts *p, int64_t from,
                                     int64_t width) {
    float next[SEO_FOLD_WIDTH];
    seo_parts_load(total, p, 0, from, width);
    for (int64_t part = 1; part < p->count; part++) {
        seo_parts_load(next, p, part, from, width);
        for (int64_t i = 0; i < width; i++) total[i] += next[i];
    }
}

/* A binary counter: subtree[l] waits for its right neighbour, of 2^l parts like itself. */
static inline void seo_fold_tree(float *total, const seo_parts *p, int64_t from, int64_t width) {
    float subtree[SEO_SUM_TREE_LEVELS][SEO_FOLD_WIDTH];
    SEO_ASSERT(p->count <= SEO_SUM_TREE_MAX && (p->count & (p->count - 1)) == 0);
    for (int64_t part = 0; part < p->count; part++) {
        int level = 0;
        seo_parts_load(total, p, part, from, width);
        for (; part >> level & 1; level++) {
            for (int64_t i = 0; i < width; i++) total[i] = subtree[level][i] + total[i];
        }
        if (part + 1 < p->count) memcpy(subtree[level], total, (size_t)width * sizeof *total);
    }
}

/* out[i] (= or +=) the sum of the parts' elements i, for i in [from, end). out may be one of the
 * parts. */
static inline void seo_parts_fold(const seo_parts *p, float *out, bool accumulate, int64_t from,
                                  int64_t end) {
    for (int64_t at = from; at < end; at += SEO_FOLD_WIDTH) {
        const int64_t width = end - at < SEO_FOLD_WIDTH ? end - at : SEO_FOLD_WIDTH;
        float total[SEO_FOLD_WIDTH];
        if (p->order == SEO_SUM_TREE) {
            seo_fold_tree(total, p, at, width);
        } else {
            seo_fold_sequence(total, p, at, width);
        }
        if (accumulate) {
            for (int64_t i = 0; i < width; i++) out[at + i] += total[i];
        } else {
            memcpy(out + at, total, (size_t)width * sizeof *total);
        }
    }
}

#ifdef __cplusplus
}
#endif
