/* Private to kernels/cpu: what the forward and the backward of attention share. A head's queries
 * are taken in blocks of QUERIES, its keys in blocks of KEYS; both are multiples of the register
 * tile of every level. What is multiplied from the left is packed in groups of SEO_TILE_ROWS lines,
 * what is multiplied from the right in panels of SEO_TILE_COLS columns or in rows padded with zeros
 * to whole vectors. */
#pragma once

#include "base/check.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/tile.h"

enum {
    QUERIES = 48,
    KEYS = 96,
    SPAN = 192 /* queries of the forward, keys of the backward, that share what is packed */
};

/* Rows of one head: position t at data + t * ld, `width` numbers; `count` positions. */
typedef struct rows {
    float *data;
    int64_t ld, count, width;
} rows;

/* Head h of sequence b in a (B, T, n * C) tensor; part counts in C. */
static inline rows head_rows(const seo_tensor *t, int64_t b, int64_t offset, int64_t width) {
    rows r = {(float *)t->data + b * t->dims[1] * t->dims[2] + offset, t->dims[2], t->dims[1],
              width};
    return r;
}
static inline rows rows_from(rows r, int64_t first, int64_t count) {
    rows part = {r.data + first * r.ld, r.ld, seo_max_i64(0, seo_min_i64(count, r.count - first)),
                 r.width};
    return part;
}

/* Hands out 64-byte-aligned pieces of a thread's scratch. */
static inline float *carve(float **at, int64_t floats) {
    float *piece = *at;
    *at += seo_round_up(floats, 16);
    return piece;
}

static inline int64_t padded(int64_t width) {
    return seo_round_up(width, SEO_VWIDTH);
}

/* `lines` lines of `from` (zeros where it has fewer) as groups of `group` columns: the left operand
 * for group SEO_TILE_ROWS, the transposed right one for SEO_TILE_COLS. */
SEO_INLINE void pack_groups(float *dst, int64_t group, rows from, int64_t lines) {
    for (int64_t i = 0; i < lines; i += group) {
        rows part = rows_from(from, i, group);
        seo_pack_transposed(dst + i * from.width, group,
                            (seo_lines){part.data, part.ld, part.count}, from.width);
    }
}

/* Rows padded to whole vectors. */
static inline void copy_padded(float *dst, rows from) {
    int64_t ld = padded(from.width);
    for (int64_t i = 0; i < from.count; i++) {
        for (int64_t d = 0; d < from.width; d += SEO_VWIDTH) {
            int64_t n = seo_min_i64(SEO_VWIDTH, from.width - d);
            seo_vstore(dst + i * ld + d, seo_vload_n(from.data + i * from.ld + d, n));
        }
    }
}

/* SEO_TILE_ROWS rows of out, SEO_VWIDTH * vecs columns: out = A B, or += with add. */
SEO_INLINE void tile_into(rows out, int vecs, bool add, seo_tile_a a, seo_tile_b b, int64_t k) {
    seo_tile tile;
    seo_tile_zero(&tile);
    seo_tile_add_product(&tile, vecs, a, b, k);
    SEO_UNROLL
    for (int i = 0; i < SEO_TILE_ROWS; i++) {
        SEO_UNROLL
        for (int v = 0; v < vecs; v++) {
            float *at = out.data + i * out.ld + v * SEO_VWIDTH;
            seo_vstore(at, add ? seo_vload(at) + tile.sum[i][v] : tile.sum[i][v]);
        }
    }
}

/* out (SEO_TILE_ROWS, out.width) += A B, where out.width is whole vectors. */
SEO_INLINE void add_rows(rows out, seo_tile_a a, seo_tile_b b, int64_t k) {
    int64_t d = 0;
    for (; d + SEO_TILE_COLS <= out.width; d += SEO_TILE_COLS) {
        rows part = {out.data + d, out.ld, 0, 0};
        tile_into(part, SEO_TILE_VECS, true, a, (seo_tile_b){b.at + d, b.step}, k);
    }
    for (; d < out.width; d += SEO_VWIDTH) {
        rows part = {out.data + d, out.ld, 0, 0};
        tile_into(part, 1, true, a, (seo_tile_b){b.at + d, b.step}, k);
    }
}

/* Where a block of queries meets a block of keys: query i sees the first `seen(i)` keys. */
typedef struct meeting {
    int64_t queries, keys; /* in the blocks */
    int64_t ahead;         /* position of the first query less that of the first key */
    bool causal;
} meeting;

static inline int64_t seen(const meeting *m, int64_t query) {
    int64_t count = m->causal ? seo_min_i64(m->ahead + query + 1, m->keys) : m->keys;
    return seo_max_i64(0, count);
}
/* Of the group of SEO_TILE_ROWS queries that starts at `query`: the most any of them sees. */
static inline int64_t seen_by_group(const meeting *m, int64_t query) {
    return seen(m, seo_min_i64(query + SEO_TILE_ROWS, m->queries) - 1);
}

/* out (QUERIES, KEYS) = left right^T over `width`, leaving out the tiles that nobody sees. left:
 * groups of SEO_TILE_ROWS queries; right: panels of SEO_TILE_COLS keys. */
static inline void query_key_products(float *out, const float *left, const float *right,
                                      int64_t width, const meeting *m) {
    for (int64_t j = 0; j < m->keys; j += SEO_TILE_COLS) {
        for (int64_t i = 0; i < m->queries; i += SEO_TILE_ROWS) {
            if (seen_by_group(m, i) <= j) continue;
            tile_into((rows){out + i * KEYS + j, KEYS, 0, 0}, SEO_TILE_VECS, false,
                      (seo_tile_a){left + i * width, 1, SEO_TILE_ROWS},
                      (seo_tile_b){right + j * width, SEO_TILE_COLS}, width);
        }
    }
}
