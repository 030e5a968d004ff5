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

/* p = exp(scale * p - lse), ds = scale * p * (ds - delta); 0 where not seen. */
static void differentiate(const tiles *w, const head *h, int64_t query, const meeting *m) {
    seo_vi lanes = seo_vlanes();
    for (int64_t i = 0; i < m->queries; i++) {
        float *ps = w->p + i * KEYS, *dss = w->ds + i * KEYS;
        float lse = h->lse[query + i], delta = h->delta[query + i];
        int64_t n = seen(m, i), j = 0;
        for (; j + SEO_VWIDTH <= n; j += SEO_VWIDTH) {
            seo_vf p = seo_vexp(seo_vload(ps + j) * h->scale - lse);
            seo_vstore(ps + j, p);
            seo_vstore(dss + j, p * ((seo_vload(dss + j) - delta) * h->scale));
        }
        if (j < n) {
            seo_vi in = lanes < (int32_t)(n - j);
            seo_vf p = seo_vexp(seo_vload(ps + j) * h->scale - lse);
            seo_vf ds = p * ((seo_vload(dss + j) - delta) * h->scale);
            seo_vstore(ps + j, (seo_vf)((seo_vi)p & in));
            seo_vstore(dss + j, (seo_vf)((seo_vi)ds & in));
            j += SEO_VWIDTH;
        }
        for (; j < KEYS; j += SEO_VWIDTH) {
            seo_vstore(ps + j, (seo_vf){0});
            seo_vstore(dss + j, (seo_vf){0});
        }
    }
}

/* dv += p^T dout, dk += ds^T q, dq += ds k for one block of keys, `key` counted in the span. */
static void add_gradients(const tiles *w, int64_t key, int64_t width, const meeting *m) {
    int64_t ld = padded(width);
    for (int64_t j = 0; j < m->keys; j += SEO_TILE_ROWS) {
        /* The first query that sees key j. */
        int64_t first = m->causal ? seo_max_i64(0, j - m->ahead) : 0;
        if (first >= m->queries) break;
        int64_t count = m->queries - first, at = first * KEYS + j, to = (key + j) * ld;
        add_rows((rows){w->dv + to, ld, SEO_TILE_ROWS, ld}, (seo_tile_a){w->p + at, 1, KEYS},
                 (seo_tile_b){w->dout_rows + first * ld, ld}, count);
        add_rows((rows){w->dk + to, ld, SEO_TILE_ROWS, ld}, (seo_tile_a){w->ds + at, 1, KEYS},
                 (seo_tile_b){w->q_rows + first * ld, ld}, count);
    }
    for (int64_t i = 0; i < m->queries; i += SEO_TILE_ROWS) {
        add_rows((rows){w->dq + i * ld, ld, SEO_TILE_ROWS, ld},
                 (seo_tile_a){w->ds + i * KEYS, KEYS, 1}, (seo_tile_b){w->k_rows + key * ld, ld},
                 seen_by_group(m, i));
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
    pack_groups(w->q, SEO_TILE_ROWS, q, seo_round_up(q.count, SEO_TILE_ROWS));
    pack_groups(w->dout, SEO_TILE_ROWS, dout, seo_round_up(q.count, SEO_TILE_ROWS));
    copy_padded(w->q_rows, q);
    copy_padded(w->dout_rows, dout);
    memset(w->dq, 0, (size_t)(QUERIES * padded(width)) * sizeof(float));
    int64_t span_end = seo_min_i64(span + SPAN, h->k.count);
    for (int64_t key = span; key < span_end; key += KEYS) {
        meeting m = {q.count, seo_min_i64(KEYS, span_end - key), query - key, h->causal};
        if (seen(&m, m.queries - 1) == 0) break;
        query_key_products(w->p, w->q, w->k + (key - span) * width, width, &m);
        query_key_products(w->ds, w->dout, w->v + (key - span) * width, width, &m);
        differentiate(w, h, query, &m);
        add_gradients(w, key - span, width, &m);
    }
    store_rows(rows_from(h->dq, query, QUERIES), w->dq, span > 0);
}

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
        memset(w.dk, 0, (size_t)(SPAN * padded(width)) * sizeof(float));
        memset(w.dv, 0, (size_t)(SPAN * padded(width)) * sizeof(float));
        for (int64_t query = h->causal ? span : 0; query < h->q.count; query += QUERIES) {
            meet_span(h, &w, query, span);
        }
        store_rows(rows_from(h->dk, span, SPAN), w.dk, false);
        store_rows(rows_from(h->dv, span, SPAN), w.dv, false);
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
                  .scale = a->scale,
                  .causal = a->mask.causal};
        differentiate_head(&h, seo_cpu_scratch(dev, omp_get_thread_num()));
    }
    return SEO_OK;
}
