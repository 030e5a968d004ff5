/* Attention: forward, backward and cached, against the whole T x T matrix in double. More shapes
 * are in its own program. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "tests/kernels/attention_oracle.h"
#include "tests/kernels/ops_tests.h"
#include "tests/support/compare.h"
#include "tests/support/fill.h"
#include "tests/support/op_check.h"

typedef struct shape {
    const char *what;
    int64_t b, t, heads, width;
    oracle_mask mask;
} shape;

static const shape g_shapes[] = {
    {"one of everything", 1, 1, 1, 1, {.causal = true}},
    {"small, causal", 2, 5, 2, 3, {.causal = true}},
    {"small, both ways", 1, 6, 3, 4, {.causal = false}},
    {"over a tile, causal", 1, 67, 2, 16, {.causal = true}},
    {"over a tile, both ways", 1, 67, 1, 20, {.causal = false}},
    {"wide heads", 1, 9, 1, 70, {.causal = true}},
    {"head size 96, both ways", 1, 66, 1, 96, {.causal = false}},
    {"head size 128, causal", 1, 40, 1, 128, {.causal = true}},
    {"head size 32, causal", 1, 70, 2, 32, {.causal = true}},
    {"head size 64, both ways", 1, 65, 1, 64, {.causal = false}},
    {"window of the query alone", 1, 35, 1, 8, {.causal = true, .window = 1}},
    {"window, over tiles", 1, 135, 1, 16, {.causal = true, .window = 33}},
    {"documents, causal", 2, 67, 1, 24, {.causal = true, .lengths = {30, 1, 3, 64}}},
    {"documents, both ways", 2, 70, 1, 64, {.lengths = {32, 33}}},
    {"documents with windows", 1, 70, 1, 20, {.causal = true, .window = 9, .lengths = {40, 21}}},
    {"dropout, causal", 2, 33, 2, 8, {.causal = true, .rate = 0.3f}},
    {"documents, dropout", 1, 66, 2, 32, {.lengths = {3, 50, 1}, .rate = 0.1f}},
    {"all of it, wide", 1, 45, 1, 96, {true, 20, {30, 10}, 0.5f}},
};

/* Scores and probabilities of one query of one head, and the error of a score in this storage
 * type, whose products may be those of tensor cores. */
typedef struct query {
    int64_t b, head, i, from, to;
    double *s, *p, *factor; /* of keys [from, to); factor: of dropout */
    double lse, s_off;
    seo_dtype storage;
} query;

static query query_new(int64_t t, seo_dtype storage) {
    return (query){.s = new_f64(t), .p = new_f64(t), .factor = new_f64(t), .storage = storage};
}
static void query_free(query *q) {
    free(q->s);
    free(q->p);
    free(q->factor);
}

/* Under bf16 probabilities and their gradients are rounded before they are multiplied. */
static double operand_round(seo_dtype storage) {
    return storage == SEO_DTYPE_BF16 ? BF16_ROUND : 0;
}

static int64_t at_qkv(const shape *s, const query *q, int64_t row, int which) {
    const int64_t c = s->heads * s->width;
    return (q->b * s->t + row) * 3 * c + which * c + q->head * s->width;
}
static int64_t at_out(const shape *s, const query *q) {
    return (q->b * s->t + q->i) * s->heads * s->width + q->head * s->width;
}
static double scale_of(const shape *s) {
    return (double)(float)(1 / sqrt((double)s->width));
}

/* Visits query number n of all B x H x T; its arrays must have room for T. */
static void fill_query(const shape *s, const double *qkv, int64_t n, query *q) {
    q->b = n / (s->heads * s->t);
    q->head = n / s->t % s->heads;
    q->i = n % s->t;
    int32_t span[2];
    oracle_span(&s->mask, q->b, q->i, s->t, span);
    q->from = span[0];
    q->to = s->mask.causal ? q->i + 1 : span[1];
    if (s->mask.window > 0) q->from = seo_max_i64(q->from, q->i + 1 - s->mask.window);
    q->s_off = 0;
    double top = -INFINITY, sum = 0;
    for (int64_t j = q->from; j < q->to; j++) {
        double dot = 0, size = 0;
        for (int64_t d = 0; d < s->width; d++) {
            const double term =
                qkv[at_qkv(s, q, q->i, 0) + d] * qkv[at_qkv(s, q, j, 1) + d] * scale_of(s);
            dot += term;
            size += fabs(term);
        }
        q->s[j] = dot;
        top = fmax(top, dot);
        q->s_off = fmax(q->s_off, dot_bound(q->storage, s->width, 3, size));
        const int64_t pair = q->b * s->heads + q->head;
        q->factor[j] = oracle_factor(&s->mask, s->heads, s->t, pair, q->i, j);
    }
    for (int64_t j = q->from; j < q->to; j++) sum += q->p[j] = exp(q->s[j] - top);
    for (int64_t j = q->from; j < q->to; j++) q->p[j] /= sum;
    q->lse = top + log(sum);
}

/* How far off a probability may be, relative to itself: its score, the maximum or log-sum-exp that
 * is taken off, the exponential, and the sum of them. */
static double p_off(const query *q, int64_t terms) {
    double largest = fabs(q->lse);
    for (int64_t j = q->from; j < q->to; j++) largest = fmax(largest, fabs(q->s[j]));
    return 2 * q->s_off + F32_ROUND * (6 * largest + (double)terms + 8);
}

static void forward(const shape *s, seo_dtype storage, const double *qkv, double *out, double *lse,
                    double *bound) {
    const int64_t queries = s->b * s->heads * s->t, outs = queries * s->width;
    query q = query_new(s->t, storage);
    for (int64_t n = 0; n < queries; n++) {
        fill_query(s, qkv, n, &q);
        lse[n] = q.lse;
        if (bound) bound[outs + n] = p_off(&q, q.to - q.from) + 2 * F32_ROUND * fabs(q.lse);
        for (int64_t d = 0; d < s->width; d++) {
            double sum = 0, size = 0;
            for (int64_t j = q.from; j < q.to; j++) {
                const double v = qkv[at_qkv(s, &q, j, 2) + d];
                sum += q.p[j] * q.factor[j] * v;
                size += fabs(q.p[j] * q.factor[j] * v);
            }
            out[at_out(s, &q) + d] = sum;
            if (bound) {
                const double off = p_off(&q, q.to - q.from) + operand_round(storage);
                bound[at_out(s, &q) + d] = stored_bound(
                    storage, sum, size * off + dot_bound(storage, q.to - q.from, 6, size));
            }
        }
    }
    query_free(&q);
}

static seo_tensor tensor_of(float *data, int64_t a, int64_t b, int64_t c) {
    return seo_tensor_3d(data, SEO_DTYPE_F32, a, b, c);
}

/* Of the case, on the host; to be freed with mask.spans. */
static seo_attention_mask mask_of(const shape *s) {
    seo_attention_mask mask = {.causal = s->mask.causal, .window = s->mask.window};
    int32_t *spans = oracle_spans(&s->mask, s->b, s->t);
    if (spans) mask.spans = seo_tensor_3d(spans, SEO_DTYPE_I32, s->b, s->t, 2);
    return mask;
}
static seo_attention_dropout dropout_of(const shape *s, int32_t place[SEO_PLACE_COUNT]) {
    seo_attention_dropout dropout = {.key = oracle_key(), .rate = s->mask.rate};
    oracle_place(s->t, place);
    if (dropout.rate > 0) dropout.place = seo_tensor_1d(place, SEO_DTYPE_I32, SEO_PLACE_COUNT);
    return dropout;
}

static void run_fwd(op_run *on, const void *input, float *out) {
    seo_attention_fwd_args a = *(const seo_attention_fwd_args *)input;
    a.mask.spans = to_device(on, a.mask.spans);
    a.dropout.place = to_device(on, a.dropout.place);
    a.out = poisoned_s(on, a.out);
    a.lse = poisoned(on, a.lse);
    a.qkv = to_device_s(on, a.qkv);
    must(seo_attention_fwd(on->dev, &a));
    to_host(on, &a.lse, to_host(on, &a.out, out));
}

static void fill_qkv(float *x, double *wide, int64_t count, seo_dtype storage) {
    fill_uniform(x, count, -1.5f, 1.5f, 71);
    to_storage(x, count, storage);
    for (int64_t i = 0; i < count; i++) wide[i] = (double)x[i];
}

static double work_of(const shape *s) {
    return 2 * (double)(s->b * s->heads * s->t * s->t * s->width);
}

static void fwd_case(const shape *s, seo_dtype storage) {
    const int64_t c = s->heads * s->width, outs = s->b * s->t * c, lses = s->b * s->heads * s->t;
    float *qkv = new_f32(3 * outs);
    double *wide = new_f64(3 * outs), *want = new_f64(outs + lses), *bound = new_f64(outs + lses);
    fill_qkv(qkv, wide, 3 * outs, storage);
    forward(s, storage, wide, want, want + outs, bound);
    int32_t place[SEO_PLACE_COUNT];
    const seo_attention_fwd_args a = {.out = tensor_of(NULL, s->b, s->t, c),
                                      .lse = tensor_of(NULL, s->b, s->heads, s->t),
                                      .qkv = tensor_of(qkv, s->b, s->t, 3 * c),
                                      .head_count = s->heads,
                                      .scale = (float)scale_of(s),
                                      .mask = mask_of(s),
                                      .dropout = dropout_of(s, place)};
    check_everywhere(&(op_case){s->what, run_fwd, &a, outs + lses, want, bound, .storage = storage,
                                .work = work_of(s)});
    free(a.mask.spans.data);
    free(qkv);
    free(wide);
    free(want);
    free(bound);
}

void test_attention_fwd(void **state) {
    (void)state;
    EACH_STORAGE(storage) {
        for (int i = 0; i < SEO_COUNT_OF(g_shapes); i++) {
            if (fits(work_of(&g_shapes[i]))) fwd_case(&g_shapes[i], storage);
        }
    }
}

typedef struct gradient_problem {
    const shape *s;
    const double *dout, *out; /* out: as the operator is given it */
} gradient_problem;

static double weighted_out(const double *qkv, const void *context) {
    const gradient_problem *g = context;
    const int64_t queries = g->s->b * g->s->heads * g->s->t, outs = queries * g->s->width;
    double *out = new_f64(outs), *lse = new_f64(queries), total = 0;
    forward(g->s, SEO_DTYPE_F32, qkv, out, lse, NULL);
    for (int64_t i = 0; i < outs; i++) total += out[i] * g->dout[i];
    free(out);
    free(lse);
    return total;
}

/* Adds one query's part to the gradients and to their bounds. */
static void backward_query(const gradient_problem *g, const double *qkv, const query *q,
                           double *gradient, double *bound) {
    const shape *s = g->s;
    const int64_t o = at_out(s, q), from_q = at_qkv(s, q, q->i, 0);
    const double scale = scale_of(s), off = p_off(q, q->to - q->from);
    double delta = 0, delta_size = 0;
    for (int64_t d = 0; d < s->width; d++) {
        delta += g->dout[o + d] * g->out[o + d];
        delta_size += fabs(g->dout[o + d] * g->out[o + d]);
    }
    for (int64_t j = q->from; j < q->to; j++) {
        const int64_t k = at_qkv(s, q, j, 1), v = at_qkv(s, q, j, 2);
        double dp = 0, dp_size = 0;
        for (int64_t d = 0; d < s->width; d++) {
            dp += q->factor[j] * g->dout[o + d] * qkv[v + d];
            dp_size += fabs(q->factor[j] * g->dout[o + d] * qkv[v + d]);
        }
        const double ds = q->p[j] * (dp - delta) * scale;
        const double ds_off =
            fabs(ds) * off +
            q->p[j] * scale * dot_bound(q->storage, s->width, 6, dp_size + delta_size);
        for (int64_t d = 0; d < s->width; d++) {
            const double grow = dot_bound(q->storage, s->t, 2, 1) + operand_round(q->storage);
            const double x_q = qkv[from_q + d], x_k = qkv[k + d], x_v = g->dout[o + d];
            gradient[from_q + d] += ds * x_k;
            gradient[k + d] += ds * x_q;
            gradient[v + d] += q->p[j] * q->factor[j] * x_v;
            bound[from_q + d] += (ds_off + fabs(ds) * grow) * fabs(x_k);
            bound[k + d] += (ds_off + fabs(ds) * grow) * fabs(x_q);
            bound[v + d] += q->p[j] * q->factor[j] * (off + grow + 2 * F32_ROUND) * fabs(x_v);
        }
    }
}

static void backward(const gradient_problem *g, seo_dtype storage, const double *qkv,
                     double *gradient, double *bound) {
    query q = query_new(g->s->t, storage);
    for (int64_t n = 0; n < g->s->b * g->s->heads * g->s->t; n++) {
        fill_query(g->s, qkv, n, &q);
        backward_query(g, qkv, &q, gradient, bound);
    }
    query_free(&q);
}

/* Twice: what is there is overwritten. */
static void run_bwd(op_run *on, const void *input, float *out) {
    seo_attention_bwd_args a = *(const seo_attention_bwd_args *)input;
    a.dqkv = poisoned_s(on, a.dqkv);
    a.delta = poisoned(on, a.delta);
    a.mask.spans = to_device(on, a.mask.spans);
    a.dropout.place = to_device(on, a.dropout.place);
    a.dout = to_device_s(on, a.dout);
    a.out = to_device_s(on, a.out);
    a.qkv = to_device_s(on, a.qkv);
    a.lse = to_device(on, a.lse);
    must(seo_attention_bwd(on->dev, &a));
    must(seo_attention_bwd(on->dev, &a));
    to_host(on, &a.dqkv, out);
}

static void bwd_case(const shape *s, seo_dtype storage) {
    const int64_t c = s->heads * s->width, outs = s->b * s->t * c, lses = s->b * s->heads * s->t;
    float *qkv = new_f32(3 * outs), *dout = new_f32(outs), *out = new_f32(outs);
    float *lse = new_f32(lses);
    double *wide = new_f64(3 * outs), *want = new_f64(3 * outs), *bound = new_f64(3 * outs);
    double *wide_out = new_f64(outs + lses), *wide_dout = new_f64(outs);
    fill_qkv(qkv, wide, 3 * outs, storage);
    fill_uniform(dout, outs, -1, 1, 72);
    to_storage(dout, outs, storage);
    forward(s, storage, wide, wide_out, wide_out + outs, NULL);
    for (int64_t i = 0; i < outs; i++) wide_dout[i] = (double)dout[i];
    gradient_problem g = {s, wide_dout, wide_out};
    backward(&g, storage, wide, want, bound);
    check_gradient(s->what, weighted_out, &g, wide, want, 3 * outs);
    for (int64_t i = 0; i < outs; i++) {
        wide_out[i] = (double)(out[i] = stored(storage, (float)wide_out[i]));
    }
    for (int64_t i = 0; i < lses; i++) lse[i] = (float)wide_out[outs + i];
    memset(want, 0, (size_t)(3 * outs) * sizeof *want);
    memset(bound, 0, (size_t)(3 * outs) * sizeof *bound);
    backward(&g, storage, wide, want, bound);
    for (int64_t i = 0; i < 3 * outs; i++) bound[i] = stored_bound(storage, want[i], bound[i]);
    int32_t place[SEO_PLACE_COUNT];
    const seo_attention_bwd_args a = {.dqkv = tensor_of(NULL, s->b, s->t, 3 * c),
                                      .delta = tensor_of(NULL, s->b, s->heads, s->t),
                                      .dout = tensor_of(dout, s->b, s->t, c),
                                      .out = tensor_of(out, s->b, s->t, c),
                                      .qkv = tensor_of(qkv, s->b, s->t, 3 * c),
                                      .lse = tensor_of(lse, s->b, s->heads, s->t),
                                      .head_count = s->heads,
                                      .scale = (float)scale_of(s),
                                      .mask = mask_of(s),
                                      .dropout = dropout_of(s, place)};
    check_everywhere(&(op_case){s->what, run_bwd, &a, 3 * outs, want, bound, .storage = storage,
                                .work = work_of(s)});
    free(a.mask.spans.data);
    free(qkv);
    free(dout);
    free(out);
    free(lse);
    free(wide);
    free(want);
    free(bound);
    free(wide_out);
    free(wide_dout);
}

void test_attention_bwd(void **state) {
    (void)state;
    EACH_STORAGE(storage) {
        for (int i = 0; i < SEO_COUNT_OF(g_shapes); i++) {
            if (fits(work_of(&g_shapes[i]))) bwd_case(&g_shapes[i], storage);
        }
    }
}

/* The whole sequence through the cache, in pieces of 1, 2, 3 ... positions: out after out. Rows of
 * the cache that no position has yet are NaN. */
static void run_cached(op_run *on, const void *input, float *out) {
    const seo_attention_fwd_args *whole = input;
    const int64_t b_count = whole->out.dims[0], t = whole->out.dims[1], c = whole->out.dims[2];
    const seo_tensor k = poisoned_s(on, tensor_of(NULL, b_count, t + 1, c));
    const seo_tensor v = poisoned_s(on, tensor_of(NULL, b_count, t + 1, c));
    for (int64_t cached = 0, n = 1; cached < t; cached += n, n = seo_min_i64(n + 1, t - cached)) {
        float *rows = new_f32(b_count * n * 3 * c), *got = new_f32(b_count * n * c);
        for (int64_t b = 0; b < b_count; b++) {
            const float *from = (const float *)whole->qkv.data + (b * t + cached) * 3 * c;
            memcpy(rows + b * n * 3 * c, from, (size_t)(n * 3 * c) * sizeof *rows);
        }
        const seo_attention_cached_args a = {
            .out = poisoned_s(on, tensor_of(NULL, b_count, n, c)),
            .cache_k = k,
            .cache_v = v,
            .qkv = to_device_s(on, tensor_of(rows, b_count, n, 3 * c)),
            .cached = cached,
            .head_count = whole->head_count,
            .window = whole->mask.window,
            .scale = whole->scale};
        must(seo_attention_cached(on->dev, &a));
        to_host(on, &a.out, got);
        for (int64_t b = 0; b < b_count; b++) {
            memcpy(out + (b * t + cached) * c, got + b * n * c, (size_t)(n * c) * sizeof *got);
        }
        free(rows);
        free(got);
    }
}

static void cached_case(const shape *s, seo_dtype storage) {
    const int64_t c = s->heads * s->width, outs = s->b * s->t * c, lses = s->b * s->heads * s->t;
    float *qkv = new_f32(3 * outs);
    double *wide = new_f64(3 * outs), *want = new_f64(outs + lses), *bound = new_f64(outs + lses);
    fill_qkv(qkv, wide, 3 * outs, storage);
    forward(s, storage, wide, want, want + outs, bound);
    const seo_attention_fwd_args a = {.out = tensor_of(NULL, s->b, s->t, c),
                                      .qkv = tensor_of(qkv, s->b, s->t, 3 * c),
                                      .head_count = s->heads,
                                      .scale = (float)scale_of(s),
                                      .mask.causal = true,
                                      .mask.window = s->mask.window};
    check_everywhere(&(op_case){s->what, run_cached, &a, outs, want, bound, .storage = storage,
                                .work = work_of(s)});
    free(qkv);
    free(wide);
    free(want);
    free(bound);
}

void test_attention_cached(void **state) {
    (void)state;
    EACH_STORAGE(storage) {
        for (int i = 0; i < SEO_COUNT_OF(g_shapes); i++) {
            const shape *s = &g_shapes[i];
            const bool possible = s->mask.causal && s->mask.lengths[0] == 0 && !(s->mask.rate > 0);
            if (possible && fits(work_of(s))) cached_case(s, storage);
        }
    }
}
