/* Attention, forward: blocks of queries pass over blocks of keys with a running maximum and sum for
 * each query, so no more than one block of scores exists at a time.
 *
 * A task is a span of queries of one head; it alone writes their output, in ascending order of
 * keys, so the bits do not depend on the number of threads. Blocks that the mask hides are left
 * out. Refuses: allocation; heads whose blocks do not fit the scratch. Sources: Milakov &
 * Gimelshein 2018 (online softmax), Dao et al. 2022 (tiles). */
#include "kernels/cpu/attention.h"

#include <float.h>
#include <math.h>
#include <omp.h>

/* One head's problem. */
typedef struct head {
    rows q, k, v, out;
    float *lse;    /* q.count; NULL: not wanted */
    int64_t ahead; /* position of query 0 less that of key 0 */
    int64_t window;
    drops drops;
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
    const seo_vf lowest = seo_vset(-INFINITY);
    for (int64_t i = 0; i < m->queries; i++) {
        const float *score = w->score + i * KEYS;
        seo_vf top = seo_vset(w->top[first + i]);
        const int64_t from = seen_from(m, i), to = seen_to(m, i);
        int64_t j = from / SEO_VWIDTH * SEO_VWIDTH;
        if (j < from) {
            seo_vi in = lanes_within(j, from, to);
            top = seo_vmax(top, seo_vselect(in, seo_vload(score + j), lowest));
            j += SEO_VWIDTH;
        }
        for (; j + SEO_VWIDTH <= to; j += SEO_VWIDTH) top = seo_vmax(top, seo_vload(score + j));
        if (j < to) {
            seo_vi in = lanes_within(j, from, to);
            top = seo_vmax(top, seo_vselect(in, seo_vload(score + j), lowest));
        }
        w->new_top[i] = seo_vmax_lane(top);
    }
    for (int64_t i = 0; i < m->queries; i += SEO_VWIDTH) {
        seo_vf fall = seo_vload(w->top + first + i) - seo_vload(w->new_top + i);
        seo_vstore(w->old_share + i, seo_vexp(fall * scale));
    }
}

/* The vector of scores at j, of which [from, to) are seen, becomes exp(scale score + offset). */
SEO_INLINE seo_vf exponentiate_some(float *score, int64_t j, int64_t from, int64_t to, float scale,
                                    seo_vf offset) {
    seo_vf p = seo_vexp(seo_vload(score + j) * scale + offset);
    p = (seo_vf)((seo_vi)p & lanes_within(j, from, to));
    seo_vstore(score + j, p);
    return p;
}

/* Scores become exp(scale (score - top)), 0 where not seen; the sums move on. */
static void exponentiate(tiles *w, int64_t first, const meeting *m, float scale) {
    for (int64_t i = 0; i < m->queries; i++) {
        float *score = w->score + i * KEYS, *sums = w->sum + (first + i) * SEO_VWIDTH;
        seo_vf offset = seo_vset(-scale * w->new_top[i]);
        seo_vf sum = seo_vload(sums) * w->old_share[i];
        const int64_t from = seen_from(m, i), to = seen_to(m, i);
        int64_t j = 0;
        for (; j + SEO_VWIDTH <= from; j += SEO_VWIDTH) seo_vstore(score + j, (seo_vf){0});
        if (j < from) {
            sum += exponentiate_some(score, j, from, to, scale, offset);
            j += SEO_VWIDTH;
        }
        for (; j + SEO_VWIDTH <= to; j += SEO_VWIDTH) {
            seo_vf p = seo_vexp(seo_vload(score + j) * scale + offset);
            seo_vstore(score + j, p);
            sum += p;
        }
        if (j < to) {
            sum += exponentiate_some(score, j, from, to, scale, offset);
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
        const int64_t from = group_from(m, i);
        add_rows((rows){w->out + (first + i) * ld, ld, SEO_TILE_ROWS, ld},
                 (seo_tile_a){w->score + i * KEYS + from, KEYS, 1},
                 (seo_tile_b){w->v + from * ld, ld}, group_to(m, i) - from);
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

/* Queries [first, first + count) of a head, at most SPAN. */
static void attend_span(const head *h, float *scratch, int64_t first, int64_t count) {
    int64_t width = h->q.width;
    tiles w = tiles_init(scratch, width);
    const int64_t lines = seo_round_up(count, SEO_TILE_ROWS);
    pack_groups(w.q, SEO_TILE_ROWS, rows_from(h->q, first, count), lines);
    memset(w.out, 0, (size_t)(lines * padded(width)) * sizeof(float));
    memset(w.sum, 0, (size_t)(lines * SEO_VWIDTH) * sizeof(float));
    /* Not minus infinity: a query may meet blocks of keys before it sees its first one. */
    for (int64_t i = 0; i < SPAN; i++) w.top[i] = -FLT_MAX;
    const int64_t key_end = h->causal ? h->ahead + first + count : h->k.count;
    const int64_t oldest = seo_max_i64(0, h->ahead + first + 1 - h->window);
    for (int64_t key = oldest / KEYS * KEYS; key < key_end; key += KEYS) {
        rows k = rows_from(h->k, key, KEYS);
        pack_groups(w.k, SEO_TILE_COLS, k, seo_round_up(k.count, SEO_TILE_COLS));
        copy_padded(w.v, rows_from(h->v, key, KEYS));
        for (int64_t i = 0; i < count; i += QUERIES) {
            meeting m = {seo_min_i64(QUERIES, count - i), k.count, h->ahead + first + i - key,
                         h->window, h->causal};
            if (meets_nobody(&m)) continue;
            query_key_products(w.score, w.q + i * width, w.k, width, &m);
            raise_tops(&w, i, &m, h->scale);
            exponentiate(&w, i, &m, h->scale);
            if (h->drops.least > 0) drop_seen(w.score, &h->drops, first + i, key, &m);
            add_values(&w, i, &m, width);
        }
    }
    finish(&w, h, first, count);
}

/* Queries [first, first + SPAN) of a sequence, part by part. */
static void attend_parts(const head *h, const int32_t *spans, float *scratch, int64_t first) {
    const int64_t end = seo_min_i64(first + SPAN, h->q.count);
    for (int64_t t = first; t < end;) {
        const part own = part_at(spans, t, h->q.count);
        const int64_t length = own.end - own.begin, stop = seo_min_i64(own.end, end);
        head alone = *h;
        alone.q = rows_from(h->q, own.begin, length);
        alone.k = rows_from(h->k, own.begin, length);
        alone.v = rows_from(h->v, own.begin, length);
        alone.out = rows_from(h->out, own.begin, length);
        alone.lse = h->lse + own.begin;
        alone.drops = drops_from(h->drops, own.begin);
        attend_span(&alone, scratch, t - own.begin, stop - t);
        t = stop;
    }
}

seo_err SEO_CPU_FN(attention_check_spans)(const seo_attention_mask *mask) {
    if (!seo_tensor_given(&mask->spans)) return SEO_OK;
    const int64_t count = mask->spans.dims[1];
    for (int64_t b = 0; b < mask->spans.dims[0]; b++) {
        const int32_t *spans = spans_of(mask, b);
        part own = {0, 0};
        for (int64_t t = 0; t < count; t++) {
            const part told = part_at(spans, t, count);
            const bool fresh = t == own.end;
            const bool right = fresh ? told.begin == t && told.end > t && told.end <= count
                                     : told.begin == own.begin && told.end == own.end;
            if (!right) {
                return SEO_FAIL(SEO_ERR_ARG,
                                "attention: mask.spans says [%lld, %lld) of position %lld of "
                                "sequence %lld; parts must lie in order, tile the %lld positions, "
                                "and be the same for all positions of a part",
                                (long long)told.begin, (long long)told.end, (long long)t,
                                (long long)b, (long long)count);
            }
            own = told;
        }
    }
    return SEO_OK;
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
    if (err == SEO_OK) err = SEO_CPU_FN(attention_check_spans)(&a->mask);
    if (err != SEO_OK) return err;
    const drops first = drops_of(&a->dropout, heads, positions);
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
                  .window = window_or_all(a->mask.window),
                  .drops = first,
                  .scale = a->scale,
                  .causal = a->mask.causal};
        h.drops.first += pair * positions * positions;
        attend_parts(&h, spans_of(&a->mask, pair / heads),
                     seo_cpu_scratch(dev, omp_get_thread_num()), span * SPAN);
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
                  .window = window_or_all(a->window),
                  .scale = a->scale,
                  .causal = true};
        h.k.count = h.v.count = a->cached + a->out.dims[1];
        const int64_t first = task % spans * SPAN;
        attend_span(&h, seo_cpu_scratch(dev, omp_get_thread_num()), first,
                    seo_min_i64(SPAN, h.q.count - first));
    }
    return SEO_OK;
}
