/* Attention against its formula in double: forward, backward and over a cache; widths and lengths
 * on and off the tiles, on every target and in both storage types. The formula's gradient itself is
 * checked against finite differences of the forward. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/check.h"
#include "tests/kernels/attention_oracle.h"
#include "tests/support/compare.h"
#include "tests/support/fill.h"
#include "tests/support/op_check.h"

/* B sequences of T positions, H heads of D. */
typedef struct shape {
    int64_t b, t, h, d;
} shape;

/* On the CPU blocks are 48 queries by 96 keys, spans 192; on a GPU tiles are 64 and 128 long: each
 * is met, missed by one and passed. */
static const shape SHAPES[] = {
    {1, 1, 1, 1},    {2, 1, 3, 8},     {1, 2, 2, 1},    {2, 17, 2, 24},  {1, 17, 1, 80},
    {1, 48, 2, 16},  {1, 49, 1, 128},  {2, 64, 2, 64},  {1, 65, 3, 8},   {1, 65, 1, 80},
    {1, 96, 1, 33},  {1, 97, 2, 16},   {1, 192, 1, 64}, {1, 193, 1, 24}, {1, 200, 2, 64},
    {1, 200, 1, 1},  {1, 200, 1, 128}, {1, 400, 1, 16}, {1, 130, 1, 32}, {1, 129, 1, 96},
    {1, 128, 2, 48}, {3, 31, 2, 64},
};

/* One head of a packed (B, T, n * C) array, as double: column `at` onwards. */
static void gather(double *to, const float *from, int64_t count, int64_t ld, int64_t width) {
    for (int64_t t = 0; t < count; t++) {
        for (int64_t d = 0; d < width; d++) to[t * width + d] = from[t * ld + d];
    }
}
/* Bounds of what is stored: `want` likewise. */
static void scatter_bound(double *to, const double *from, const double *want, int64_t count,
                          int64_t ld, int64_t width, seo_dtype storage) {
    for (int64_t i = 0; i < count * width; i++) {
        to[i / width * ld + i % width] = stored_bound(storage, want[i], from[i]);
    }
}
static void scatter(double *to, const double *from, int64_t count, int64_t ld, int64_t width) {
    for (int64_t t = 0; t < count; t++) {
        for (int64_t d = 0; d < width; d++) to[t * ld + d] = from[t * width + d];
    }
}

/* Room for one head: operands, forward, gradients, bounds. */
typedef struct room {
    double *q, *k, *v, *dout;
    oracle_fwd fwd;
    oracle_bwd grad, bound;
    double *all;
} room;

static room room_new(int64_t t, int64_t d) {
    room r;
    r.all = new_f64(11 * t * d + 3 * t + t * t);
    double *at = r.all;
    double **wide[] = {&r.q,       &r.k,       &r.v,        &r.dout,     &r.fwd.out, &r.grad.dq,
                       &r.grad.dk, &r.grad.dv, &r.bound.dq, &r.bound.dk, &r.bound.dv};
    for (int64_t i = 0; i < SEO_COUNT_OF(wide); i++, at += t * d) *wide[i] = at;
    r.fwd.lse = at;
    r.grad.delta = at + t;
    r.bound.delta = at + 2 * t;
    r.fwd.p = at + 3 * t;
    return r;
}

/* A case: its inputs in f32 and what is expected of all its outputs, one after the other. */
typedef struct attention_case {
    shape s;
    float scale;
    bool causal;
    seo_dtype storage;
    float *qkv, *dout, *out, *lse;
    int64_t cached;
    double *want, *bound;
} attention_case;

static attention_case case_new(shape s, bool causal, seo_dtype storage) {
    int64_t rows = s.b * s.t, channels = s.h * s.d;
    attention_case c = {
        .s = s, .causal = causal, .storage = storage, .scale = (float)(1.0 / sqrt((double)s.d))};
    c.qkv = new_f32(rows * 3 * channels);
    c.dout = new_f32(rows * channels);
    c.out = new_f32(rows * channels);
    c.lse = new_f32(s.b * s.h * s.t);
    c.want = new_f64(rows * (4 * channels + s.h));
    c.bound = new_f64(rows * (4 * channels + s.h));
    fill_uniform(c.qkv, rows * 3 * channels, -2.0f, 2.0f, 1);
    fill_uniform(c.dout, rows * channels, -1.0f, 1.0f, 2);
    to_storage(c.qkv, rows * 3 * channels, storage);
    to_storage(c.dout, rows * channels, storage);
    return c;
}
static void case_free(attention_case *c) {
    free(c->qkv);
    free(c->dout);
    free(c->out);
    free(c->lse);
    free(c->want);
    free(c->bound);
}

/* Loads head `pair` and attends by the formula. */
static oracle_head load_head(const attention_case *c, const room *r, int64_t pair) {
    const shape *s = &c->s;
    int64_t channels = s->h * s->d, row = pair / s->h * s->t, at = pair % s->h * s->d;
    const float *x = c->qkv + row * 3 * channels + at;
    gather(r->q, x, s->t, 3 * channels, s->d);
    gather(r->k, x + channels, s->t, 3 * channels, s->d);
    gather(r->v, x + 2 * channels, s->t, 3 * channels, s->d);
    gather(r->dout, c->dout + row * channels + at, s->t, channels, s->d);
    oracle_head h = {r->q,      r->k,      r->v, s->t, s->t, s->d, 0, (double)c->scale,
                     c->causal, c->storage};
    oracle_attend(&h, &r->fwd);
    return h;
}

/* out (B, T, C), then lse (B, H, T). */
static void expect_fwd(attention_case *c) {
    const shape *s = &c->s;
    room r = room_new(s->t, s->d);
    int64_t channels = s->h * s->d, total = s->b * s->t * channels;
    for (int64_t pair = 0; pair < s->b * s->h; pair++) {
        oracle_head h = load_head(c, &r, pair);
        int64_t at = pair / s->h * s->t * channels + pair % s->h * s->d;
        scatter(c->want + at, r.fwd.out, s->t, channels, s->d);
        memcpy(c->want + total + pair * s->t, r.fwd.lse, (size_t)s->t * sizeof(double));
        oracle_fwd_bound(&h, &r.fwd, r.grad.dq, c->bound + total + pair * s->t);
        scatter_bound(c->bound + at, r.grad.dq, r.fwd.out, s->t, channels, s->d, c->storage);
    }
    free(r.all);
}

/* dqkv (B, T, 3C), then delta (B, H, T); the operator's inputs out and lse are the formula's. */
static void expect_bwd(attention_case *c) {
    const shape *s = &c->s;
    room r = room_new(s->t, s->d);
    int64_t channels = s->h * s->d, total = s->b * s->t * 3 * channels;
    for (int64_t pair = 0; pair < s->b * s->h; pair++) {
        oracle_head h = load_head(c, &r, pair);
        /* The operator is given out as it was stored. */
        for (int64_t i = 0; i < s->t * s->d && c->storage == SEO_DTYPE_BF16; i++) {
            r.fwd.out[i] = (double)stored(c->storage, (float)r.fwd.out[i]);
        }
        oracle_differentiate(&h, &r.fwd, r.dout, &r.grad, &r.bound);
        int64_t row = pair / s->h * s->t, at = pair % s->h * s->d;
        for (int64_t t = 0; t < s->t; t++) {
            c->lse[pair * s->t + t] = (float)r.fwd.lse[t];
            c->want[total + pair * s->t + t] = r.grad.delta[t];
            c->bound[total + pair * s->t + t] = r.bound.delta[t];
            for (int64_t d = 0; d < s->d; d++) {
                c->out[(row + t) * channels + at + d] = (float)r.fwd.out[t * s->d + d];
            }
        }
        const double *grads[] = {r.grad.dq, r.grad.dk, r.grad.dv};
        const double *bounds[] = {r.bound.dq, r.bound.dk, r.bound.dv};
        for (int64_t part = 0; part < 3; part++) {
            int64_t to = row * 3 * channels + part * channels + at;
            scatter(c->want + to, grads[part], s->t, 3 * channels, s->d);
            scatter_bound(c->bound + to, bounds[part], grads[part], s->t, 3 * channels, s->d,
                          c->storage);
        }
    }
    free(r.all);
}

/* out (B, N, C) of the last N = T - cached positions, then both caches (B, T, C). */
static void expect_cached(attention_case *c) {
    const shape *s = &c->s;
    int64_t channels = s->h * s->d, rows = s->b * s->t, fresh = s->t - c->cached;
    int64_t outs = s->b * fresh * channels;
    double *want = new_f64(rows * (channels + s->h)), *bound = new_f64(rows * (channels + s->h));
    attention_case whole = *c;
    whole.want = want;
    whole.bound = bound;
    expect_fwd(&whole);
    for (int64_t i = 0; i < outs; i++) {
        int64_t b = i / (fresh * channels), rest = i % (fresh * channels);
        c->want[i] = want[(b * s->t + c->cached) * channels + rest];
        c->bound[i] = bound[(b * s->t + c->cached) * channels + rest];
    }
    for (int64_t i = 0; i < rows * channels; i++) {
        const float *x = c->qkv + i / channels * 3 * channels + i % channels;
        c->want[outs + i] = x[channels];
        c->want[outs + rows * channels + i] = x[2 * channels];
    }
    free(want);
    free(bound);
}

static seo_tensor tensor(float *data, int64_t b, int64_t t, int64_t c) {
    return seo_tensor_3d(data, SEO_DTYPE_F32, b, t, c);
}

static void run_fwd(op_run *on, const void *input, float *out) {
    const attention_case *c = input;
    int64_t channels = c->s.h * c->s.d;
    seo_attention_fwd_args a = {.out = poisoned_s(on, tensor(NULL, c->s.b, c->s.t, channels)),
                                .lse = poisoned(on, tensor(NULL, c->s.b, c->s.h, c->s.t)),
                                .qkv =
                                    to_device_s(on, tensor(c->qkv, c->s.b, c->s.t, 3 * channels)),
                                .head_count = c->s.h,
                                .scale = c->scale,
                                .mask.causal = c->causal};
    must(seo_attention_fwd(on->dev, &a));
    to_host(on, &a.lse, to_host(on, &a.out, out));
}

static void run_bwd(op_run *on, const void *input, float *out) {
    const attention_case *c = input;
    int64_t channels = c->s.h * c->s.d;
    seo_attention_bwd_args a = {.dqkv = poisoned_s(on, tensor(NULL, c->s.b, c->s.t, 3 * channels)),
                                .delta = poisoned(on, tensor(NULL, c->s.b, c->s.h, c->s.t)),
                                .dout = to_device_s(on, tensor(c->dout, c->s.b, c->s.t, channels)),
                                .out = to_device_s(on, tensor(c->out, c->s.b, c->s.t, channels)),
                                .qkv =
                                    to_device_s(on, tensor(c->qkv, c->s.b, c->s.t, 3 * channels)),
                                .lse = to_device(on, tensor(c->lse, c->s.b, c->s.h, c->s.t)),
                                .head_count = c->s.h,
                                .scale = c->scale,
                                .mask.causal = c->causal};
    /* Twice: dqkv is overwritten, not added to. */
    must(seo_attention_bwd(on->dev, &a));
    must(seo_attention_bwd(on->dev, &a));
    to_host(on, &a.delta, to_host(on, &a.dqkv, out));
}

static void run_cached(op_run *on, const void *input, float *out) {
    const attention_case *c = input;
    int64_t channels = c->s.h * c->s.d, rows = c->s.b * c->s.t, fresh = c->s.t - c->cached;
    float *k = new_f32(rows * channels), *v = new_f32(rows * channels);
    float *qkv = new_f32(c->s.b * fresh * 3 * channels);
    for (int64_t row = 0; row < rows; row++) {
        const float *x = c->qkv + row * 3 * channels;
        int64_t b = row / c->s.t, t = row % c->s.t;
        if (t < c->cached) {
            memcpy(k + row * channels, x + channels, (size_t)channels * sizeof(float));
            memcpy(v + row * channels, x + 2 * channels, (size_t)channels * sizeof(float));
        } else {
            memcpy(qkv + (b * fresh + t - c->cached) * 3 * channels, x,
                   (size_t)channels * 3 * sizeof(float));
            for (int64_t i = 0; i < channels; i++) {
                k[row * channels + i] = v[row * channels + i] = NAN;
            }
        }
    }
    seo_attention_cached_args a = {.out = poisoned_s(on, tensor(NULL, c->s.b, fresh, channels)),
                                   .cache_k = to_device_s(on, tensor(k, c->s.b, c->s.t, channels)),
                                   .cache_v = to_device_s(on, tensor(v, c->s.b, c->s.t, channels)),
                                   .qkv = to_device_s(on, tensor(qkv, c->s.b, fresh, 3 * channels)),
                                   .cached = c->cached,
                                   .head_count = c->s.h,
                                   .scale = c->scale};
    must(seo_attention_cached(on->dev, &a));
    to_host(on, &a.cache_v, to_host(on, &a.cache_k, to_host(on, &a.out, out)));
    free(k);
    free(v);
    free(qkv);
}

static double work_of(shape s) {
    return 2 * (double)(s.b * s.h * s.t * s.t * s.d);
}

static void check(const attention_case *c, const char *name, int64_t count,
                  void (*run)(op_run *, const void *, float *)) {
    char what[128];
    snprintf(what, sizeof(what), "attention %s%s B %lld T %lld H %lld D %lld cached %lld", name,
             c->causal ? " causal" : "", (long long)c->s.b, (long long)c->s.t, (long long)c->s.h,
             (long long)c->s.d, (long long)c->cached);
    check_everywhere(&(op_case){what, run, c, count, c->want, c->bound, .storage = c->storage,
                                .work = work_of(c->s)});
}

static void test_forward(void **state) {
    (void)state;
    EACH_STORAGE(storage) {
        for (int64_t i = 0; i < 2 * SEO_COUNT_OF(SHAPES); i++) {
            if (!fits(work_of(SHAPES[i / 2]))) continue;
            attention_case c = case_new(SHAPES[i / 2], i % 2 != 0, storage);
            expect_fwd(&c);
            check(&c, "forward", c.s.b * c.s.t * c.s.h * (c.s.d + 1), run_fwd);
            case_free(&c);
        }
    }
}

static void test_backward(void **state) {
    (void)state;
    EACH_STORAGE(storage) {
        for (int64_t i = 0; i < 2 * SEO_COUNT_OF(SHAPES); i++) {
            if (!fits(work_of(SHAPES[i / 2]))) continue;
            attention_case c = case_new(SHAPES[i / 2], i % 2 != 0, storage);
            expect_bwd(&c);
            check(&c, "backward", c.s.b * c.s.t * c.s.h * (3 * c.s.d + 1), run_bwd);
            case_free(&c);
        }
    }
}

static void check_cached(shape s, seo_dtype storage) {
    int64_t t = s.t, starts[] = {0, t - 1, t / 2, t > 3 ? t - 3 : 0};
    for (int64_t j = g_targets.is_cpu ? 0 : 2; j < SEO_COUNT_OF(starts); j++) {
        attention_case c = case_new(s, true, storage);
        c.cached = starts[j];
        expect_cached(&c);
        int64_t channels = c.s.h * c.s.d;
        check(&c, "cached", c.s.b * channels * (3 * t - c.cached), run_cached);
        case_free(&c);
    }
}

static void test_cached_equals_uncached(void **state) {
    (void)state;
    EACH_STORAGE(storage) {
        for (int64_t i = 0; i < SEO_COUNT_OF(SHAPES); i++) {
            if (fits(work_of(SHAPES[i]))) check_cached(SHAPES[i], storage);
        }
    }
}

/* Scores far apart: the running maximum rises by more than an f32 exponential can hold, from block
 * to block and back, and must neither overflow nor lose what counts. */
static void test_scores_far_apart(void **state) {
    (void)state;
    for (int i = 0; i < 2 * ((int)g_targets.last_storage + 1); i++) {
        const bool falling = i % 2;
        attention_case c = case_new((shape){1, 200, 1, 8}, falling, (seo_dtype)(i / 2));
        for (int64_t t = 0; t < 200; t++) {
            float size = (float)(falling ? 199 - t : t);
            for (int64_t d = 0; d < 16; d++) c.qkv[t * 24 + d] = d < 8 ? 1.0f : size;
        }
        expect_fwd(&c);
        check(&c, "far apart", 200 * 9, run_fwd);
        case_free(&c);
    }
}

typedef struct loss_context {
    const double *dout;
    oracle_head h;
} loss_context;

/* sum of dout * out as a function of q, k and v, one after the other. */
static double loss(const double *x, const void *context) {
    const loss_context *l = context;
    oracle_head h = l->h;
    int64_t n = h.queries * h.width;
    double out[64], lse[8], p[64], sum = 0.0;
    h.q = x;
    h.k = x + n;
    h.v = x + 2 * n;
    oracle_attend(&h, &(oracle_fwd){out, lse, p});
    for (int64_t i = 0; i < n; i++) sum += l->dout[i] * out[i];
    return sum;
}

static void test_formula_against_differences(void **state) {
    (void)state;
    enum { T = 6, D = 3, N = T * D };
    for (int causal = 0; causal < 2; causal++) {
        float random[4 * N];
        double x[4 * N], grad[3 * N], bound[3 * N], delta[T], unused[T], out[N], lse[T], p[T * T];
        fill_uniform(random, 4 * N, -1.0f, 1.0f, 7);
        for (int i = 0; i < 4 * N; i++) x[i] = random[i];
        loss_context l = {x + 3 * N,
                          {x, x + N, x + 2 * N, T, T, D, 0, 0.6, causal != 0, SEO_DTYPE_F32}};
        oracle_fwd fwd = {out, lse, p};
        oracle_attend(&l.h, &fwd);
        oracle_differentiate(&l.h, &fwd, l.dout, &(oracle_bwd){grad, grad + N, grad + 2 * N, delta},
                             &(oracle_bwd){bound, bound + N, bound + 2 * N, unused});
        check_gradient("attention formula", loss, &l, x, grad, 3 * N);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formula_against_differences),
        cmocka_unit_test(test_forward),
        cmocka_unit_test(test_backward),
        cmocka_unit_test(test_cached_equals_uncached),
        cmocka_unit_test(test_scores_far_apart),
    };
    return run_everywhere(tests, SEO_COUNT_OF(tests));
}
