/* Attention, forward: blocks of queries pass over blocks of keys with a running maximum and sum for
 * each query, so no more than one block of scores exists at a time.
 *
 * A task is a span of queries of one head; it alone writes their output, in ascending order of
 * keys, so the bits do not depend on the number of threads. Blocks that the causal mask hides are
 * left out. Refuses: allocation; heads whose blocks do not fit the scratch. Sources: Milakov &
 * Gimelshein 2018 (online softmax), Dao et al. 2022 (tiles). */
#include "kernels/cpu/attention.h"

#include <math.h>
#include <omp.h>

/* One head's problem. */
typedef struct head {
    rows q, k, v, out;
    float *lse;    /* q.count; NULL: not wanted */
    int64_t ahead; /* position of query 0 less that of key 0 */
    float scale;
    bool causal;
} head;

/* The tiles of one thread. */
typedef struct tiles {
    float *q, *k, *v;                           /* packed for the products */
    float *score;                               /* (QUERIES, KEYS), then the probabilities */
    float *out;                                 /* (SPAN, padded width), not yet divided by sum */
    float *top;                                 /* (SPAN) largest raw score so far */
    float *sum;                                 /* (SPAN, SEO_VWIDTH) of exponentials, by lane */
    float new_top[QUERIES], old_share[QUERIES]; /* exp(scale (top - new_top)) */
} tiles;

static int64_t scratch_floats(int64_t width) {
    return width * (SPAN + KEYS) + padded(width) * (KEYS + SPAN) + QUERIES * KEYS +
           SPAN * (SEO_VWIDTH + 1) + 7 * 16;
}

static tiles tiles_init(float *at, int64_t width) {
    tiles w;
    w.q = carve(&at, SPAN * width);
    w.k = carve(&at, KEYS * width);
    w.v = carve(&at, KEYS * padded(width));
    w.score = carve(&at, (int64_t)QUERIES * KEYS);
    w.out = carve(&at, SPAN * padded(width));
    w.top = carve(&at, SPAN);
    w.sum = carve(&at, (int64_t)SPAN * SEO_VWIDTH);
    return w;
}

/* new_top and old_share of each query of the block at `first`. */
static void raise_tops(tiles *w, int64_t first, const meeting *m, float scale) {
    seo_vi lanes = seo_vlanes();
    for (int64_t i = 0; i < m->queries; i++) {
        const float *score = w->score + i * KEYS;
        seo_vf top = seo_vset(w->top[first + i]);
        int64_t n = seen(m, i), j = 0;
        for (; j + SEO_VWIDTH <= n; j += SEO_VWIDTH) top = seo_vmax(top, seo_vload(score + j));
        if (j < n) {
            seo_vi in = lanes < (int32_t)(n - j);
            top = seo_vmax(top, seo_vselect(in, seo_vload(score + j), seo_vset(-INFINITY)));
        }
        w->new_top[i] = seo_vmax_lane(top);
    }
    for (int64_t i = 0; i < m->queries; i += SEO_VWIDTH) {
        seo_vf fall = seo_vload(w->top + first + i) - seo_vload(w->new_top + i);
        seo_vstore(w->old_share + i, seo_vexp(fall * scale));
    }
}

/* Scores become exp(scale (score - top)), 0 where not seen; the sums move on. */
static void exponentiate(tiles *w, int64_t first, const meeting *m, float scale) {
    seo_vi lanes = seo_vlanes();
    for (int64_t i = 0; i < m->queries; i++) {
        float *score = w->score + i * KEYS, *sums = w->sum + (first + i) * SEO_VWIDTH;
        seo_vf offset = seo_vset(-scale * w->new_top[i]);
        seo_vf sum = seo_vload(sums) * w->old_share[i];
        int64_t n = seen(m, i), j = 0;
        for (; j + SEO_VWIDTH <= n; j += SEO_VWIDTH) {
            seo_vf p = seo_vexp(seo_vload(score + j) * scale + offset);
            seo_vstore(score + j, p);
            sum += p;
        }
        if (j < n) {
            seo_vf p = seo_vexp(seo_vload(score + j) * scale + offset);
            p = (seo_vf)((seo_vi)p & (lanes < (int32_t)(n - j)));
            seo_vstore(score + j, p);
            sum += p;
            j += SEO_VWIDTH;
        }
        for (; j < KEYS; j += SEO_VWIDTH) seo_vstore(score + j, (seo_vf){0});
        seo_vstore(sums, sum);
        w->top[first + i] = w->new_top[i];
    }
}

/* out = old_share * out + probabilities * values. */
static void add_values(tiles *w, int64_t first, const meeting *m, int64_t width) {
    int64_t ld = padded(width);
    for (int64_t i = 0; i < m->queries; i++) {
        float *out = w->out + (first + i) * ld;
        seo_vf share = seo_vset(w->old_share[i]);
        for (int64_t d = 0; d < ld; d += SEO_VWIDTH)
            seo_vstore(out + d, seo_vload(out + d) * share);
    }
    for (int64_t i = 0; i < m->queries; i += SEO_TILE_ROWS) {
        add_rows((rows){w->out + (first + i) * ld, ld, SEO_TILE_ROWS, ld},
                 (seo_tile_a){w->score + i * KEYS, KEYS, 1}, (seo_tile_b){w->v, ld},
                 seen_by_group(m, i));
    }
}

static void finish(const tiles *w, const head *h, int64_t first, int64_t count) {
    int64_t width = h->q.width, ld = padded(width);
    for (int64_t i = 0; i < count; i++) {
        float sum = seo_vsum(seo_vload(w->sum + i * SEO_VWIDTH));
        float *out = h->out.data + (first + i) * h->out.ld;
        for (int64_t d = 0; d < width; d += SEO_VWIDTH) {
            seo_vstore_n(out + d, seo_vload(w->out + i * ld + d) / sum,
                         seo_min_i64(SEO_VWIDTH, width - d));
        }
        if (h->lse) h->lse[first + i] = h->scale * w->top[i] + logf(sum);
    }
}

/* Queries [first, first + SPAN) of a head. */
static void attend_span(const head *h, float *scratch, int64_t first) {
    int64_t width = h->q.width;
    tiles w = tiles_init(scratch, width);
    rows q = rows_from(h->q, first, SPAN);
    pack_groups(w.q, SEO_TILE_ROWS, q, seo_round_up(q.count, SEO_TILE_ROWS));
    memset(w.out, 0, (size_t)(SPAN * padded(width)) * sizeof(float));
    memset(w.sum, 0, (size_t)SPAN * SEO_VWIDTH * sizeof(float));
    for (int64_t i = 0; i < SPAN; i++) w.top[i] = -INFINITY;
    int64_t key_end = h->causal ? h->ahead + first + q.count : h->k.count;
    for (int64_t key = 0; key < key_end; key += KEYS) {
        rows k = rows_from(h->k, key, KEYS);
        pack_groups(w.k, SEO_TILE_COLS, k, seo_round_up(k.count, SEO_TILE_COLS));
        copy_padded(w.v, rows_from(h->v, key, KEYS));
        for (int64_t i = 0; i < q.count; i += QUERIES) {
            meeting m = {seo_min_i64(QUERIES, q.count - i), k.count, h->ahead + first + i - key,
                         h->causal};
            if (seen(&m, m.queries - 1) == 0) continue;
            query_key_products(w.score, w.q + i * width, w.k, width, &m);
            raise_tops(&w, i, &m, h->scale);
            exponentiate(&w, i, &m, h->scale);
            add_values(&w, i, &m, width);
        }
    }
    finish(&w, h, first, q.count);
}

static seo_err check_width(int64_t width) {
    if (scratch_floats(width) * (int64_t)sizeof(float) <= SEO_CPU_SCRATCH_BYTES) return SEO_OK;
    return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                    "attention: heads of %lld numbers are too wide for the CPU's tiles; use more "
                    "heads",
                    (long long)width);
}

seo_err SEO_CPU_FN(attention_fwd)(seo_device *dev, const seo_attention_fwd_args *a) {
    int64_t positions = a->out.dims[1], channels = a->out.dims[2], heads = a->head_count;
    int64_t width = channels / heads, spans = seo_div_up(positions, SPAN);
    seo_err err = check_width(width);
    if (err != SEO_OK) return err;
#pragma omp parallel for num_threads(dev->threads) schedule(dynamic)
    for (int64_t task = 0; task < a->out.dims[0] * heads * spans; task++) {
        int64_t pair = task / spans, at = pair % heads * width;
        int64_t span = spans - 1 - task % spans; /* the longest first */
        rows q = head_rows(&a->qkv, pair / heads, at, width);
        head h = {.q = q,
                  .k = {q.data + channels, q.ld, q.count, width},
                  .v = {q.data + 2 * channels, q.ld, q.count, width},
                  .out = head_rows(&a->out, pair / heads, at, width),
                  .lse = (float *)a->lse.data + pair * positions,
                  .scale = a->scale,
                  .causal = a->mask.causal};
        attend_span(&h, seo_cpu_scratch(dev, omp_get_thread_num()), span * SPAN);
    }
    return SEO_OK;
}

static void extend_cache(const seo_attention_cached_args *a) {
    int64_t count = a->out.dims[1], channels = a->out.dims[2], room = a->cache_k.dims[1];
    for (int64_t b = 0; b < a->out.dims[0]; b++) {
        float *k = (float *)a->cache_k.data + (b * room + a->cached) * channels;
        float *v = (float *)a->cache_v.data + (b * room + a->cached) * channels;
        const float *from = (const float *)a->qkv.data + b * count * 3 * channels;
        for (int64_t i = 0; i < count; i++) {
            size_t bytes = (size_t)channels * sizeof(float);
            memcpy(k + i * channels, from + (3 * i + 1) * channels, bytes);
            memcpy(v + i * channels, from + (3 * i + 2) * channels, bytes);
        }
    }
}

seo_err SEO_CPU_FN(attention_cached)(seo_device *dev, const seo_attention_cached_args *a) {
    int64_t heads = a->head_count, width = a->out.dims[2] / heads;
    int64_t spans = seo_div_up(a->out.dims[1], SPAN);
    seo_err err = check_width(width);
    if (err != SEO_OK) return err;
    extend_cache(a);
#pragma omp parallel for num_threads(dev->threads) schedule(dynamic)
    for (int64_t task = 0; task < a->out.dims[0] * heads * spans; task++) {
        int64_t pair = task / spans, at = pair % heads * width;
        head h = {.q = head_rows(&a->qkv, pair / heads, at, width),
                  .k = head_rows(&a->cache_k, pair / heads, at, width),
                  .v = head_rows(&a->cache_v, pair / heads, at, width),
                  .out = head_rows(&a->out, pair / heads, at, width),
                  .ahead = a->cached,
                  .scale = a->scale,
                  .causal = true};
        h.k.count = h.v.count = a->cached + a->out.dims[1];
        attend_span(&h, seo_cpu_scratch(dev, omp_get_thread_num()), task % spans * SPAN);
    }
    return SEO_OK;
}
