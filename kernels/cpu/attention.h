/* Private to kernels/cpu: what the forward and the backward of attention share. A head's queries
 * are taken in blocks of QUERIES, its keys in blocks of KEYS; both are multiples of the register
 * tile of every level. What is multiplied from the left is packed in groups of SEO_TILE_ROWS lines,
 * what is multiplied from the right in panels of SEO_TILE_COLS columns or in rows padded with zeros
 * to whole vectors. */
#pragma once

#include "base/check.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/philox.h"
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

/* Where a block of queries meets a block of keys: query i sees those in [seen_from, seen_to). Both
 * ends grow with i. */
typedef struct meeting {
    int64_t queries, keys; /* in the blocks */
    int64_t ahead;         /* position of the first query less that of the first key */
    int64_t window;        /* the most that a query sees; see window_or_all */
    bool causal;
} meeting;

/* More than any distance where there is no window, so that one formula does for both. */
static inline int64_t window_or_all(int64_t window) {
    return window > 0 ? window : INT64_MAX / 2;
}

static inline int64_t seen_to(const meeting *m, int64_t query) {
    int64_t count = m->causal ? seo_min_i64(m->ahead + query + 1, m->keys) : m->keys;
    return seo_max_i64(0, count);
}
static inline int64_t seen_from(const meeting *m, int64_t query) {
    int64_t first = seo_max_i64(0, m->ahead + query + 1 - m->window);
    return seo_min_i64(first, seen_to(m, query));
}
/* Of the group of SEO_TILE_ROWS queries that starts at `query`: no one sees more. */
static inline int64_t group_to(const meeting *m, int64_t query) {
    return seen_to(m, seo_min_i64(query + SEO_TILE_ROWS, m->queries) - 1);
}
static inline int64_t group_from(const meeting *m, int64_t query) {
    return seen_from(m, query);
}
/* True when no query sees any key. */
static inline bool meets_nobody(const meeting *m) {
    return seen_to(m, m->queries - 1) == 0 || m->ahead + 1 - m->window >= m->keys;
}

/* All ones in the lanes that stand for [from, to) when lane 0 is number j. */
static inline seo_vi lanes_within(int64_t j, int64_t from, int64_t to) {
    const seo_vi lanes = seo_vlanes();
    return (lanes >= (int32_t)(from - j)) & (lanes < (int32_t)(to - j));
}

/* out (QUERIES, KEYS) = left right^T over `width`, leaving out the tiles that nobody sees. left:
 * groups of SEO_TILE_ROWS queries; right: panels of SEO_TILE_COLS keys. */
static inline void query_key_products(float *out, const float *left, const float *right,
                                      int64_t width, const meeting *m) {
    for (int64_t j = 0; j < m->keys; j += SEO_TILE_COLS) {
        for (int64_t i = 0; i < m->queries; i += SEO_TILE_ROWS) {
            if (group_to(m, i) <= j || group_from(m, i) >= j + SEO_TILE_COLS) continue;
            tile_into((rows){out + i * KEYS + j, KEYS, 0, 0}, SEO_TILE_VECS, false,
                      (seo_tile_a){left + i * width, 1, SEO_TILE_ROWS},
                      (seo_tile_b){right + j * width, SEO_TILE_COLS}, width);
        }
    }
}

/* The part of the sequence that position t belongs to; `spans` (T, 2) of this sequence, or NULL:
 * all `count` positions are one part. A part is worked on as a sequence of its own, so that nothing
 * of another one is ever read, and its numbers are those it has when it is alone. */
typedef struct part {
    int64_t begin, end;
} part;
static inline part part_at(const int32_t *spans, int64_t t, int64_t count) {
    if (!spans) return (part){0, count};
    return (part){spans[2 * t], spans[2 * t + 1]};
}
/* Of sequence b; NULL where the mask has no spans. */
static inline const int32_t *spans_of(const seo_attention_mask *mask, int64_t b) {
    if (!seo_tensor_given(&mask->spans)) return NULL;
    return (const int32_t *)mask->spans.data + b * mask->spans.dims[1] * 2;
}
/* SEO_ERR_ARG, with the position, unless parts lie in order and tile each sequence. */
seo_err SEO_CPU_FN(attention_check_spans)(const seo_attention_mask *mask);

/* Dropout on the probabilities of one head; `first` is the number of p[0, 0]. */
typedef struct drops {
    seo_rng_key key;
    int64_t first, row; /* row: numbers of a query */
    uint32_t least;     /* of 24 random bits that keep a probability; 0: there is no dropout */
    float scale;        /* of what is kept */
} drops;

/* Of the first head of the pass. */
static inline drops drops_of(const seo_attention_dropout *d, int64_t heads, int64_t positions) {
    if (!(d->rate > 0)) return (drops){.scale = 1.0f};
    const int32_t *place = d->place.data;
    const int64_t row =
        (int64_t)place[SEO_PLACE_ROW_HIGH] << 32 | (uint32_t)place[SEO_PLACE_ROW_LOW];
    drops made = {.key = d->key,
                  .first = row / positions * heads * positions * positions,
                  .row = positions,
                  .least = seo_uniform_least(d->rate),
                  .scale = (float)(1.0 / (1.0 - (double)d->rate))};
    made.key.step = (uint32_t)place[SEO_PLACE_STEP];
    return made;
}
/* Of the numbers of the head from query and key `begin` on. */
static inline drops drops_from(drops d, int64_t begin) {
    d.first += begin * d.row + begin;
    return d;
}

/* What the probabilities of a query at keys [key, key + count) are multiplied with: 0 or the scale.
 * Whole vectors: factors (KEYS). */
static inline void draw_factors(float *factors, const drops *d, int64_t query, int64_t key,
                                int64_t count) {
    enum { ROOM = KEYS + SEO_VWIDTH + SEO_PHILOX_STRIP };
    uint32_t bits[ROOM];
    const int64_t index = d->first + query * d->row + key, lead = index % 4;
    const int64_t end = seo_round_up(count, SEO_VWIDTH) + lead;
    for (int64_t at = 0; at < end; at += SEO_PHILOX_STRIP) {
        seo_philox_strip(d->key, (uint64_t)((index + at) / 4), bits + at);
    }
    for (int64_t j = 0; j < count; j += SEO_VWIDTH) {
        seo_vi drawn;
        memcpy(&drawn, bits + lead + j, sizeof drawn);
        const seo_vi kept = (drawn >> 8 & 0xffffff) >= (int32_t)d->least;
        seo_vstore(factors + j, (seo_vf)((seo_vi)seo_vset(d->scale) & kept));
    }
}

/* Rows of probabilities (QUERIES, KEYS), or of their gradients, times their factors. `query` and
 * `key` are those of the block's first; what is not seen is left as it is, to whole vectors. Not
 * inlined: without dropout the loops around it stay what they are. */
__attribute__((noinline)) static void drop_seen(float *p, const drops *d, int64_t query,
                                                int64_t key, const meeting *m) {
    for (int64_t i = 0; i < m->queries; i++) {
        const int64_t from = seen_from(m, i) / SEO_VWIDTH * SEO_VWIDTH, to = seen_to(m, i);
        float factors[KEYS];
        draw_factors(factors, d, query + i, key + from, to - from);
        for (int64_t j = from; j < to; j += SEO_VWIDTH) {
            float *at = p + i * KEYS + j;
            seo_vstore(at, seo_vload(at) * seo_vload(factors + j - from));
        }
    }
}
