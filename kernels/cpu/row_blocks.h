/* Private to kernels/cpu: sums over rows, split into blocks whose number follows from the shape
 * alone. Each block sums its rows into a part of its own in the device's scratch; the parts are
 * then added in the order of the blocks. So the bits do not depend on who did which block. */
#pragma once

#include "base/check.h"
#include "kernels/cpu/cpu.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The most floats of a block's part: what fits in the scratch that even one thread has. */
enum {
    SEO_ROW_PART_MAX = SEO_CPU_SCRATCH_BYTES / (int)sizeof(float),
    SEO_ROW_BLOCKS_MAX = 64,
    SEO_ROW_BLOCK_LEAST = 16 /* rows that are worth a part */
};

typedef struct seo_row_blocks {
    int64_t count;
    int64_t rows; /* of every block but the last */
    int64_t part; /* floats of a block's part */
} seo_row_blocks;

/* part <= SEO_ROW_PART_MAX */
static inline seo_row_blocks seo_row_blocks_plan(int64_t rows, int64_t part) {
    int64_t most = seo_min_i64(SEO_ROW_BLOCKS_MAX, SEO_ROW_PART_MAX / part);
    int64_t count = seo_min_i64(most, seo_div_up(rows, SEO_ROW_BLOCK_LEAST));
    int64_t each = seo_div_up(rows, count);
    seo_row_blocks b = {.count = seo_div_up(rows, each), .rows = each, .part = part};
    return b;
}

/* to[c] += the sum over blocks of parts[block][from + c], for c in [0, columns). */
static inline void seo_row_blocks_add(const seo_device *dev, const seo_row_blocks *b, int64_t from,
                                      int64_t columns, float *to) {
    const float *parts = dev->scratch;
#pragma omp parallel for num_threads(seo_cpu_threads(dev, b->count *columns)) schedule(static)
    for (int64_t c0 = 0; c0 < columns; c0 += 64) {
        const int64_t width = seo_min_i64(64, columns - c0);
        float total[64] = {0};
        for (int64_t i = 0; i < b->count; i++) {
            const float *part = parts + i * b->part + from + c0;
            for (int64_t c = 0; c < width; c++) total[c] += part[c];
        }
        for (int64_t c = 0; c < width; c++) to[c0 + c] += total[c];
    }
}

#ifdef __cplusplus
}
#endif
