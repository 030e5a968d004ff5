/* Private to kernels/cpu: the register tile that all matrix arithmetic here is made of, and the
 * transposition that feeds it.
 *
 * A tile is SEO_TILE_ROWS x up to SEO_TILE_COLS sums held in registers. Each step of k multiplies
 * one column of A, element by element broadcast, with one row of B in vectors. The shapes fill the
 * register file of each level: 24 of 32 registers hold sums with AVX-512, 12 of 16 with AVX2, 8 of
 * 16 where a product needs a register of its own. The idea is from Goto & van de Geijn 2008 and
 * Van Zee & van de Geijn 2015 (BLIS). */
#pragma once

#include "base/check.h"
#include "kernels/cpu/vec.h"

#if defined(__AVX512F__)
enum { SEO_TILE_ROWS = 12 };
#elif defined(__AVX2__)
enum { SEO_TILE_ROWS = 6 };
#else
enum { SEO_TILE_ROWS = 4 };
#endif
enum { SEO_TILE_VECS = 2, SEO_TILE_COLS = SEO_TILE_VECS * SEO_VWIDTH };

/* A[i,k] = at[i * row + k * step]. Strides that are constants after inlining cost nothing. */
typedef struct seo_tile_a {
    const float *at;
    int64_t row, step;
} seo_tile_a;

/* B[k,j] = at[k * step + j]. */
typedef struct seo_tile_b {
    const float *at;
    int64_t step;
} seo_tile_b;

typedef struct seo_tile {
    seo_vf sum[SEO_TILE_ROWS][SEO_TILE_VECS];
} seo_tile;

/* tile += A (SEO_TILE_ROWS, k_count) * B (k_count, vecs vectors), k ascending; vecs is a constant
 * of 1..SEO_TILE_VECS. */
SEO_INLINE void seo_tile_add_product(seo_tile *tile, int vecs, seo_tile_a a, seo_tile_b b,
                                     int64_t k_count) {
    for (int64_t k = 0; k < k_count; k++) {
        seo_vf row[SEO_TILE_VECS];
        SEO_UNROLL
        for (int v = 0; v < vecs; v++) row[v] = seo_vload(b.at + k * b.step + v * SEO_VWIDTH);
        SEO_UNROLL
        for (int i = 0; i < SEO_TILE_ROWS; i++) {
            float x = a.at[i * a.row + k * a.step];
            SEO_UNROLL
            for (int v = 0; v < vecs; v++) tile->sum[i][v] += x * row[v];
        }
    }
}

SEO_INLINE void seo_tile_zero(seo_tile *tile) {
    SEO_UNROLL
    for (int i = 0; i < SEO_TILE_ROWS; i++) {
        SEO_UNROLL
        for (int v = 0; v < SEO_TILE_VECS; v++) tile->sum[i][v] = (seo_vf){0};
    }
}

/* Four rows of four, from stride `ld` to columns of stride `width`. */
SEO_INLINE void seo_transpose_4x4(float *dst, int64_t width, const float *src, int64_t ld) {
    seo_vf4 a, b, c, d;
    memcpy(&a, src, sizeof(a));
    memcpy(&b, src + ld, sizeof(b));
    memcpy(&c, src + 2 * ld, sizeof(c));
    memcpy(&d, src + 3 * ld, sizeof(d));
    seo_vf4 ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
    seo_vf4 ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    seo_vf4 cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5);
    seo_vf4 cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    a = __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5);
    b = __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7);
    c = __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5);
    d = __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7);
    memcpy(dst, &a, sizeof(a));
    memcpy(dst + width, &b, sizeof(b));
    memcpy(dst + 2 * width, &c, sizeof(c));
    memcpy(dst + 3 * width, &d, sizeof(d));
}

/* Where a panel comes from: `count` lines of k_count numbers, line r at data + r * ld. */
typedef struct seo_lines {
    const float *data;
    int64_t ld, count;
} seo_lines;

/* dst[k * width + r] = line r at k, and 0 for r in [lines.count, width). */
SEO_INLINE void seo_pack_transposed(float *dst, int64_t width, seo_lines lines, int64_t k_count) {
    int64_t whole_k = k_count / 4 * 4, whole_r = seo_min_i64(lines.count, width) / 4 * 4;
    for (int64_t k = 0; k < whole_k; k += 4) {
        for (int64_t r = 0; r < whole_r; r += 4) {
            seo_transpose_4x4(dst + k * width + r, width, lines.data + r * lines.ld + k, lines.ld);
        }
    }
    for (int64_t k = whole_k; k < k_count; k++) {
        for (int64_t r = 0; r < whole_r; r++) dst[k * width + r] = lines.data[r * lines.ld + k];
    }
    for (int64_t r = whole_r; r < width; r++) {
        const float *line = lines.data + r * lines.ld;
        bool given = r < lines.count;
        for (int64_t k = 0; k < k_count; k++) dst[k * width + r] = given ? line[k] : 0.0f;
    }
}
