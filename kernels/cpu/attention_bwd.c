/* Attention, backward: probabilities are made again, block by block, from the saved log-sum of each
 * query.
 *
 * A task is a whole head. Spans of keys, whose gradients gather in scratch, are met by all blocks
 * of queries that see them; the gradient of a query is added up in ascending order of keys, that of
 * a key in ascending order of queries. One thread owns a head, so the bits do not depend on the
 * number of threads, and more threads than B * H find no work here.
 * Refuses: allocation; heads whose blocks do not fit the scratch. Source: Dao et al. 2022,
 * algorithm 4. */
#include <omp.h>

#include "kernels/cpu/attention.h"

/* One head's problem. */
typedef struct head {
    rows q, k, v, out, dout, dq, dk, dv;
    const float *lse;
    float *delta;
    int64_t window;
    drops drops;
    float scale;
    bool causal;
} head;

/* The tiles of one thread. A name ending in _rows is padded rows, the others are packed. */
typedef struct tiles {
    float *k, *v, *k_rows, *dk, *dv;           /* of a span of keys */
    float *q, *dout, *q_rows, *dout_rows, *dq; /* of a block of queries */
    float *p, *ds;                             /* (QUERIES, KEYS) */
} tiles;

static int64_t scratch_floats(int64_t width) {
    return 2 * width * (SPAN + QUERIES) + 3 * padded(width) * (SPAN + QUERIES) +
           2 * QUERIES * KEYS + 12 * 16;
}

static tiles tiles_init(float *at, int64_t width) {
    int64_t ld = padded(width);
    tiles w;
    w.k = carve(&at, SPAN * width);
    w.v = carve(&at, SPAN * width);
    w.k_rows = carve(&at, SPAN * ld);
    w.dk = carve(&at, SPAN * ld);
    w.dv = carve(&at, SPAN * ld);
    w.q = carve(&at, QUERIES * width);
    w.dout = carve(&at, QUERIES * width);
    w.q_rows = carve(&at, QUERIES * ld);
    w.dout_rows = carve(&at, QUERIES * ld);
    w.dq = carve(&at, QUERIES * ld);
    w.p = carve(&at, (int64_t)QUERIES * KEYS);
    w.ds = carve(&at, (int64_t)QUERIES * KEYS);
    return w;
}

/* delta[i] = dout_i . out_i */
static void compute_delta(const head *h) {
    for (int64_t i = 0; i < h->out.count; i++) {
        seo_vf sum = {0};
        for (int64_t d = 0; d < h->out.width; d += SEO_VWIDTH) {
            int64_t n = seo_min_i64(SEO_VWIDTH, h->out.width - d);
            sum += seo_vload_n(h->out.data + i * h->out.ld + d, n) *
                   seo_vload_n(h->dout.data + i * h->dout.ld + d, n);
        }
        h->delta[i] = seo_vsum(sum);
    }
}

/* The vectors at j of a query's p and ds, of which [from, to) are seen; see differentiate. */
SEO_INLINE void differentiate_some(float *ps, float *dss, const head *h, int64_t query, int64_t j,
                                   int64_t from, int64_t to) {
    const seo_vi in = lanes_within(j, from, to);
    seo_vf p = seo_vexp(seo_vload(ps + j) * h->scale - h->lse[query]);
    seo_vf ds = p * ((seo_vload(dss + j) - h->delta[query]) * h->scale);
    seo_vstore(ps + j, (seo_vf)((seo_vi)p & in));
    seo_vstore(dss + j, (seo_vf)((seo_vi)ds & in));
}

static void zero_both(float *ps, float *dss, int64_t j) {
    seo_vstore(ps + j, (seo_vf){0});
    seo_vstore(dss + j, (seo_vf){0});
}

/* p = exp(scale * p - lse), ds = scale * p * (ds - delta); 0 where not seen. */
static void differentiate(const tiles *w, const head *h, int64_t query, const meeting *m) {
    for (int64_t i = 0; i < m->queries; i++) {
        float *ps = w->p + i * KEYS, *dss = w->ds + i * KEYS;
        float lse = h->lse[query + i], delta = h->delta[query + i];
        const int64_t from = seen_from(m, i), to = seen_to(m, i);
        int64_t j = 0;
        for (; j + SEO_VWIDTH <= from; j += SEO_VWIDTH) zero_both(ps, dss, j);
        if (j < from) {
            differentiate_some(ps, dss, h, query + i, j, from, to);
            j += SEO_VWIDTH;
        }
        for (; j + SEO_VWIDTH <= to; j += SEO_VWIDTH) {
            seo_vf p = seo_vexp(seo_vload(ps + j) * h->scale - lse);
            seo_vstore(ps + j, p);
            seo_vstore(dss + j, p * ((seo_vload(dss + j) - delta) * h->scale));
        }
        if (j < to) {
            differentiate_some(ps, dss, h, query + i, j, from, to);
            j += SEO_VWIDTH;
        }
        for (; j < KEYS; j += SEO_VWIDTH) zero_both(ps, dss, j);
    }
}

/* dv += p^T dout, dk += ds^T q, dq += ds k for one block of keys, `key` counted in the span. */
static void add_gradients(const tiles *w, int64_t key, int64_t width, const meeting *m) {
    int64_t ld = padded(width);
    for (int64_t j = 0; j < m->keys; j += SEO_TILE_ROWS) {
        /* The queries from the first that sees key j to the last that sees the group's last. */
        int64_t first = m->causal ? seo_max_i64(0, j - m->ahead) : 0;
        int64_t end = seo_min_i64(m->queries, j + SEO_TILE_ROWS - 1 - m->ahead + m->window);
        if (first >= m->queries) break;
        int64_t count = end - first, at = first * KEYS + j, to = (key + j) * ld;
        if (count <= 0) continue;
        add_rows((rows){w->dv + to, ld, SEO_TILE_ROWS, ld}, (seo_tile_a){w->p + at, 1, KEYS},
                 (seo_tile_b){w->dout_rows + first * ld, ld}, count);
        add_rows((rows){w->dk + to, ld, SEO_TILE_ROWS, ld}, (seo_tile_a){w->ds + at, 1, KEYS},
                 (seo_tile_b){w->q_rows + first * ld, ld}, count);
    }
    for (int64_t i = 0; i < m->queries; i += SEO_TILE_ROWS) {
        const int64_t from = group_from(m, i);
        add_rows((rows){w->dq + i * ld, ld, SEO_TILE_ROWS, ld},
                 (seo_tile_a){w->ds + i * KEYS + from, KEYS, 1},
                 (seo_tile_b){w->k_rows + (key + from) * ld, ld}, group_to(m, i) - from);
    }
}

/* to = from, or += with add. */
static void store_rows(rows to, const float *from, bool add) {
    for (int64_t i = 0; i < to.count; i++) {
        for (int64_t d = 0; d < to.width; d += SEO_VWIDTH) {
            int64_t n = seo_min_i64(SEO_VWIDTH, to.width - d);
            float *at = to.data + i * to.ld + d;
            seo_vf x = seo_vload(from + i * padded(to.width) + d);
            seo_vstore_n(at, add ? seo_vload_n(at, n) + x : x, n);
        }
    }
}

/* One block of queries against the keys [span, span + SPAN). */
static void meet_span(const head *h, const tiles *w, int64_t query, int64_t span) {
    int64_t width = h->q.width;
    rows q = rows_from(h->q, query, QUERIES), dout = rows_from(h->dout, query, QUERIES);
    const int64_t lines = seo_round_up(q.count, SEO_TILE_ROWS);
    pack_groups(w->q, SEO_TILE_ROWS, q, lines);
    pack_groups(w->dout, SEO_TILE_ROWS, dout, lines);
    copy_padded(w->q_rows, q);
    copy_padded(w->dout_rows, dout);
    memset(w->dq, 0, (size_t)(lines * padded(width)) * sizeof(float));
    int64_t span_end = seo_min_i64(span + SPAN, h->k.count);
    for (int64_t key = span; key < span_end; key += KEYS) {
        meeting m = {q.count, seo_min_i64(KEYS, span_end - key), query - key, h->window, h->causal};
        if (meets_nobody(&m)) continue;
        query_key_products(w->p, w->q, w->k + (key - span) * width, width, &m);
        query_key_products(w->ds, w->dout, w->v + (key - span) * width, width, &m);
        /* Dropout multiplies the gradients of the probabilities that it returned, and those. */
        if (h->drops.least > 0) drop_seen(w->ds, &h->drops, query, key, &m);
        differentiate(w, h, query, &m);
        if (h->drops.least > 0) drop_seen(w->p, &h->drops, query, key, &m);
        add_gradients(w, key - span, width, &m);
    }
    /* The first span that the block meets overwrites what is there. */
    const int64_t oldest = seo_max_i64(0, query + 1 - h->window);
    store_rows(rows_from(h->dq, query, QUERIES), w->dq, span > oldest);
}

/* A head of one part. */
static void differentiate_head(const head *h, float *scratch) {
    int64_t width = h->q.width;
    tiles w = tiles_init(scratch, width);
    compute_delta(h);
    for (int64_t span = 0; span < h->k.count; span += SPAN) {
        rows k = rows_from(h->k, span, SPAN);
        int64_t lines = seo_round_up(k.count, SEO_TILE_COLS);
        pack_groups(w.k, SEO_TILE_COLS, k, lines);
        pack_groups(w.v, SEO_TILE_COLS, rows_from(h->v, span, SPAN), lines);
        copy_padded(w.k_rows, k);
        const size_t bytes = (size_t)(seo_round_up(k.count, SEO_TILE_ROWS) * padded(width)) * 4;
        memset(w.dk, 0, bytes);
        memset(w.dv, 0, bytes);
        const int64_t query_end = seo_min_i64(h->q.count, span + k.count - 1 + h->window);
        for (int64_t query = h->causal ? span : 0; query < query_end; query += QUERIES) {
            meet_span(h, &w, query, span);
        }
        store_rows(rows_from(h->dk, span, SPAN), w.dk, false);
        store_rows(rows_from(h->dv, span, SPAN), w.dv, false);
    }
}

/* A head of a whole sequence, part by part. */
static void differentiate_parts(const head *h, const int32_t *spans, float *scratch) {
    for (int64_t t = 0; t < h->q.count;) {
        const part own = part_at(spans, t, h->q.count);
        head alone = *h;
        rows *const all[] = {&alone.q,    &alone.k,  &alone.v,  &alone.out,
                             &alone.dout, &alone.dq, &alone.dk, &alone.dv};
        for (int i = 0; i < SEO_COUNT_OF(all); i++) {
            *all[i] = rows_from(*all[i], own.begin, own.end - own.begin);
        }
        alone.drops = drops_from(h->drops, own.begin);
        alone.lse = h->lse + own.begin;
        alone.delta = h->delta + own.begin;
        differentiate_head(&alone, scratch);
        t = own.end;
    }
}

seo_err SEO_CPU_FN(attention_bwd)(seo_device *dev, const seo_attention_bwd_args *a) {
    int64_t positions = a->out.dims[1], channels = a->out.dims[2], heads = a->head_count;
    int64_t width = channels / heads;
    if (scratch_floats(width) * (int64_t)sizeof(float) > SEO_CPU_SCRATCH_BYTES) {
        return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                        "attention: heads of %lld numbers are too wide for the CPU's tiles; use "
                        "more heads",
                        (long long)width);
    }
    const seo_err err = SEO_CPU_FN(attention_check_spans)(&a->mask);
    if (err != SEO_OK) return err;
    const drops first = drops_of(&a->dropout, heads, positions);
#pragma omp parallel for num_threads(dev->threads) schedule(dynamic)
    for (int64_t pair = 0; pair < a->out.dims[0] * heads; pair++) {
        int64_t b = pair / heads, at = pair % heads * width;
        head h = {.q = head_rows(&a->qkv, b, at, width),
                  .k = head_rows(&a->qkv, b, at + channels, width),
                  .v = head_rows(&a->qkv, b, at + 2 * channels, width),
                  .out = head_rows(&a->out, b, at, width),
                  .dout = head_rows(&a->dout, b, at, width),
                  .dq = head_rows(&a->dqkv, b, at, width),
                  .dk = head_rows(&a->dqkv, b, at + channels, width),
                  .dv = head_rows(&a->dqkv, b, at + 2 * channels, width),
                  .lse = (const float *)a->lse.data + pair * positions,
                  .delta = (float *)a->delta.data + pair * positions,
                  .window = window_or_all(a->mask.window),
                  .drops = first,
                  .scale = a->scale,
                  .causal = a->mask.causal};
        h.drops.first += pair * positions * positions;
        differentiate_parts(&h, spans_of(&a->mask, b), seo_cpu_scratch(dev, omp_get_thread_num()));
    }
    return SEO_OK;
}
