/* Attention against its formula in double: forward, backward and over a cache; widths and lengths
 * on and off the tiles, on every target and in both storage types. The formula's gradient itself is
 * checked against finite differences of the forward. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    oracle_mask mask;
    int32_t *spans; /* (B, T, 2), or NULL */
    seo_dtype storage;
    float *qkv, *dout, *out, *lse;
    int64_t cached;
    double *want, *bound;
} attention_case;

static attention_case case_new(shape s, oracle_mask mask, seo_dtype storage) {
    int64_t rows = s.b * s.t, channels = s.h * s.d;
    attention_case c = {
        .s = s, .mask = mask, .storage = storage, .scale = (float)(1.0 / sqrt((double)s.d))};
    c.spans = oracle_spans(&mask, s.b, s.t);
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
    free(c->spans);
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
    oracle_head h = {.q = r->q,
                     .k = r->k,
                     .v = r->v,
                     .queries = s->t,
                     .keys = s->t,
                     .width = s->d,
                     .scale = (double)c->scale,
                     .mask = &c->mask,
                     .pair = pair,
                     .heads = s->h,
                     .storage = c->storage};
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

static seo_attention_mask mask_of(op_run *on, const attention_case *c) {
    seo_attention_mask mask = {.causal = c->mask.causal, .window = c->mask.window};
    if (!c->spans) return mask;
    mask.spans = to_device(on, seo_tensor_3d(c->spans, SEO_DTYPE_I32, c->s.b, c->s.t, 2));
    return mask;
}

static seo_attention_dropout dropout_of(op_run *on, const attention_case *c) {
    int32_t place[SEO_PLACE_COUNT];
    oracle_place(c->s.t, place);
    seo_attention_dropout dropout = {.key = oracle_key(), .rate = c->mask.rate};
    if (dropout.rate > 0) {
        dropout.place = to_device(on, seo_tensor_1d(place, SEO_DTYPE_I32, SEO_PLACE_COUNT));
    }
    return dropout;
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
                                .mask = mask_of(on, c),
                                .dropout = dropout_of(on, c)};
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
                                .mask = mask_of(on, c),
                                .dropout = dropout_of(on, c)};
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
                                   .window = c->mask.window,
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
    char what[160];
    snprintf(what, sizeof(what),
             "attention %s%s B %lld T %lld H %lld D %lld cached %lld window %lld parts %lld.. "
             "rate %g",
             name, c->mask.causal ? " causal" : "", (long long)c->s.b, (long long)c->s.t,
             (long long)c->s.h, (long long)c->s.d, (long long)c->cached, (long long)c->mask.window,
             (long long)c->mask.lengths[0], (double)c->mask.rate);
    check_everywhere(&(op_case){what, run, c, count, c->want, c->bound, .storage = c->storage,
                                .work = work_of(c->s)});
}

static void check_forward(shape s, oracle_mask mask, seo_dtype storage) {
    if (!fits(work_of(s))) return;
    attention_case c = case_new(s, mask, storage);
    expect_fwd(&c);
    check(&c, "forward", s.b * s.t * s.h * (s.d + 1), run_fwd);
    case_free(&c);
}

static void check_backward(shape s, oracle_mask mask, seo_dtype storage) {
    if (!fits(work_of(s))) return;
    attention_case c = case_new(s, mask, storage);
    expect_bwd(&c);
    check(&c, "backward", s.b * s.t * s.h * (3 * s.d + 1), run_bwd);
    case_free(&c);
}

static void test_forward(void **state) {
    (void)state;
    EACH_STORAGE(storage) {
        for (int64_t i = 0; i < 2 * SEO_COUNT_OF(SHAPES); i++) {
            check_forward(SHAPES[i / 2], (oracle_mask){.causal = i % 2 != 0}, storage);
        }
    }
}

static void test_backward(void **state) {
    (void)state;
    EACH_STORAGE(storage) {
        for (int64_t i = 0; i < 2 * SEO_COUNT_OF(SHAPES); i++) {
            check_backward(SHAPES[i / 2], (oracle_mask){.causal = i % 2 != 0}, storage);
        }
    }
}

/* Bands as wide as each tile, one less and one more, down to the query alone and beyond the
 * sequence's length. */
static void test_windows(void **state) {
    (void)state;
    static const int64_t windows[] = {1,   2,   15,  16,  17,  31,  32,  33,  47,
                                      48,  49,  63,  64,  65,  95,  96,  97,  127,
                                      128, 129, 191, 192, 193, 229, 230, 231, 1000};
    EACH_STORAGE(storage) {
        for (int i = 0; i < SEO_COUNT_OF(windows); i++) {
            const oracle_mask mask = {.causal = true, .window = windows[i]};
            const shape s = {1, 230, 1, i % 3 == 0 ? 40 : i % 3 == 1 ? 16 : 7};
            check_forward(s, mask, storage);
            check_backward(s, mask, storage);
        }
        const oracle_mask far = {.causal = true, .window = 200};
        check_forward((shape){1, 600, 1, 8}, far, storage);
        check_backward((shape){1, 600, 1, 8}, far, storage);
    }
}

/* Documents with borders on the tiles' edges and off them, single positions, padding at the end,
 * several sequences that differ; with windows and with dropout. */
static const oracle_mask MASKS[] = {
    {.lengths = {1}},
    {.lengths = {64, 32, 96, 1}},
    {.lengths = {63, 1, 66, 31, 300}},
    {.lengths = {130, 5}},
    {.lengths = {48, 144, 1, 1, 2, 3}},
    {.lengths = {1000}},
    {.lengths = {33, 20, 1, 100}, .window = 17},
    {.lengths = {90, 7, 150}, .window = 64},
    {.rate = 0.1f},
    {.window = 40, .rate = 0.25f},
    {.lengths = {50, 1, 81, 13}, .rate = 0.5f},
    {.lengths = {128, 64}, .window = 30, .rate = 0.9f},
};

static void test_masks(void **state) {
    (void)state;
    static const shape shapes[] = {{2, 200, 1, 16}, {1, 97, 2, 64}, {1, 141, 1, 96}};
    EACH_STORAGE(storage) {
        for (int i = 0; i < 2 * SEO_COUNT_OF(MASKS); i++) {
            oracle_mask mask = MASKS[i / 2];
            mask.causal = i % 2 != 0;
            if (mask.window > 0 && !mask.causal) continue;
            for (int j = 0; j < SEO_COUNT_OF(shapes); j++) {
                check_forward(shapes[j], mask, storage);
                check_backward(shapes[j], mask, storage);
            }
        }
    }
}

/* One query alone has a gradient of its output: what it does not see, and every other query, has a
 * gradient of exactly 0. */
static void test_unseen_gradients_are_zero(void **state) {
    (void)state;
    const shape s = {1, 150, 1, 24};
    const oracle_mask masks[] = {{.lengths = {40, 70, 1}},
                                 {.lengths = {40, 70, 1}, .causal = true},
                                 {.window = 30, .causal = true, .rate = 0.5f}};
    EACH_STORAGE(storage) {
        for (int i = 0; i < SEO_COUNT_OF(masks) && fits(work_of(s)); i++) {
            attention_case c = case_new(s, masks[i], storage);
            const int64_t query = 75, total = s.t * 3 * s.d;
            int64_t zeros = 0;
            for (int64_t n = 0; n < s.t * s.d; n++) {
                if (n / s.d != query) c.dout[n] = 0.0f;
            }
            expect_bwd(&c);
            for (int64_t n = 0; n < total; n++) zeros += c.bound[n] < 1e-40;
            assert_true(zeros >= total - s.d - 2 * 70 * s.d && zeros < total);
            check(&c, "gradients", total + s.t, run_bwd);
            case_free(&c);
        }
    }
}

/* Outputs of positions outside [POISON_FROM, POISON_TO), which hold something that is no number, or
 * hardly one, against the same without it: 0 where no bit differs. */
enum { POISON_FROM = 40, POISON_TO = 110 };
static void run_poisoned(op_run *on, const void *input, float *out) {
    const attention_case *c = input;
    const shape *s = &c->s;
    const int64_t channels = s->h * s->d, rows = s->b * s->t;
    const int64_t fwd = rows * (channels + s->h), bwd = rows * (3 * channels + s->h);
    float *got[2] = {new_f32(fwd + bwd), new_f32(fwd + bwd)};
    attention_case bad = *c;
    bad.qkv = new_f32(rows * 3 * channels);
    bad.dout = new_f32(rows * channels);
    bad.out = new_f32(rows * channels);
    bad.lse = new_f32(rows * s->h);
    const float poisons[] = {NAN, INFINITY, 3e38f, -3e38f};
    for (int64_t i = 0; i < rows * 3 * channels; i++) {
        const int64_t t = i / (3 * channels) % s->t,
                      n = i / (3 * channels) * channels + i % channels;
        const bool poisoned = t >= POISON_FROM && t < POISON_TO;
        const float poison = stored(c->storage, poisons[i % SEO_COUNT_OF(poisons)]);
        bad.qkv[i] = poisoned ? poison : c->qkv[i];
        bad.dout[n] = poisoned ? poison : c->dout[n];
        bad.out[n] = poisoned ? poison : c->out[n];
    }
    for (int64_t i = 0; i < rows * s->h; i++) {
        const int64_t t = i % s->t;
        bad.lse[i] = t >= POISON_FROM && t < POISON_TO ? poisons[i % 4] : c->lse[i];
    }
    for (int i = 0; i < 2; i++) {
        run_fwd(on, i ? &bad : c, got[i]);
        run_bwd(on, i ? &bad : c, got[i] + fwd);
    }
    for (int64_t i = 0; i < fwd + bwd; i++) {
        /* out, lse, dqkv, delta */
        const int64_t outs = rows * channels, at = i < fwd ? i : i - fwd;
        const int64_t ld = i < fwd ? channels : 3 * channels, wide = i < fwd ? outs : 3 * outs;
        const int64_t t = at < wide ? at / ld % s->t : (at - wide) % s->t;
        const bool same = memcmp(&got[0][i], &got[1][i], sizeof(float)) == 0;
        out[i] = same || (t >= POISON_FROM && t < POISON_TO) ? 0.0f : 1.0f;
    }
    for (int i = 0; i < 2; i++) free(got[i]);
    free(bad.qkv);
    free(bad.dout);
    free(bad.out);
    free(bad.lse);
}

static void test_poison_stays_in_its_document(void **state) {
    (void)state;
    const shape shapes[] = {{1, 150, 2, 24}, {1, 140, 1, 64}, {1, 140, 1, 128}};
    EACH_STORAGE(storage) {
        for (int i = 0; i < 4 * SEO_COUNT_OF(shapes); i++) {
            const shape s = shapes[i / 4];
            if (!fits(2 * work_of(s))) continue;
            const oracle_mask mask = {.lengths = {POISON_FROM, POISON_TO - POISON_FROM, 100},
                                      .causal = i % 2 != 0,
                                      .rate = i / 2 % 2 ? 0.2f : 0.0f};
            attention_case c = case_new(s, mask, storage);
            expect_bwd(&c);
            const int64_t count = s.b * s.t * s.h * (4 * s.d + 2);
            double *none = new_f64(count);
            check_everywhere(&(op_case){"poisoned document", run_poisoned, &c, count, none, none,
                                        .storage = storage, .work = 2 * work_of(s)});
            free(none);
            case_free(&c);
        }
    }
}

/* SEO_ERR_ARG at once, or by the next time that the device is waited for. */
static void run_wrong_spans(op_run *on, const void *input, float *out) {
    const attention_case *c = input;
    const int64_t t = c->s.t, d = c->s.d;
    const seo_attention_fwd_args fwd = {.out = poisoned(on, tensor(NULL, 1, t, d)),
                                        .lse = poisoned(on, tensor(NULL, 1, 1, t)),
                                        .qkv = to_device(on, tensor(c->qkv, 1, t, 3 * d)),
                                        .head_count = 1,
                                        .scale = c->scale,
                                        .mask = mask_of(on, c)};
    const seo_attention_bwd_args bwd = {.dqkv = poisoned(on, tensor(NULL, 1, t, 3 * d)),
                                        .delta = poisoned(on, tensor(NULL, 1, 1, t)),
                                        .dout = fwd.out,
                                        .out = to_device(on, tensor(c->out, 1, t, d)),
                                        .qkv = fwd.qkv,
                                        .lse = to_device(on, tensor(c->lse, 1, 1, t)),
                                        .head_count = 1,
                                        .scale = c->scale,
                                        .mask = fwd.mask};
    for (int i = 0; i < 2; i++) {
        seo_err err = i ? seo_attention_bwd(on->dev, &bwd) : seo_attention_fwd(on->dev, &fwd);
        if (err == SEO_OK) err = seo_device_sync(on->dev);
        must_fail(err, SEO_ERR_ARG, "mask.spans");
    }
    out[0] = 0.0f;
}

static void test_wrong_spans(void **state) {
    (void)state;
    static const int32_t wrong[][8] = {
        {0, 2, 0, 2, 2, 5, 2, 5}, {0, 2, 0, 2, 3, 4, 3, 4}, {-1, 2, -1, 2, 2, 4, 2, 4},
        {0, 2, 0, 3, 2, 4, 2, 4}, {0, 2, 0, 2, 2, 2, 3, 4}, {0, 4, 1, 4, 0, 4, 0, 4},
        {0, 1, 1, 2, 2, 3, 0, 4}, {0, 2, 0, 2, 0, 2, 2, 4}, {2, 4, 2, 4, 0, 2, 0, 2},
    };
    for (int i = 0; i < SEO_COUNT_OF(wrong); i++) {
        const oracle_mask mask = {.lengths = {2}};
        attention_case c = case_new((shape){1, 4, 1, 8}, mask, SEO_DTYPE_F32);
        memcpy(c.spans, wrong[i], sizeof wrong[i]);
        check(&c, "wrong spans", 1, run_wrong_spans);
        case_free(&c);
    }
}

static void check_cached(shape s, int64_t window, seo_dtype storage) {
    int64_t t = s.t, starts[] = {0, t - 1, t / 2, t > 3 ? t - 3 : 0};
    for (int64_t j = g_targets.is_cpu ? 0 : 2; j < SEO_COUNT_OF(starts); j++) {
        attention_case c = case_new(s, (oracle_mask){.causal = true, .window = window}, storage);
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
            if (!fits(work_of(SHAPES[i]))) continue;
            check_cached(SHAPES[i], 0, storage);
            if (g_targets.is_cpu)
                check_cached(SHAPES[i], i % 3 == 0 ? 1 : i % 3 == 1 ? 33 : 97, storage);
        }
    }
}

/* Scores far apart: the running maximum rises by more than an f32 exponential can hold, from block
 * to block and back, and must neither overflow nor lose what counts. */
static void test_scores_far_apart(void **state) {
    (void)state;
    for (int i = 0; i < 2 * ((int)g_targets.last_storage + 1); i++) {
        const bool falling = i % 2;
        const oracle_mask mask = {.causal = falling};
        attention_case c = case_new((shape){1, 200, 1, 8}, mask, (seo_dtype)(i / 2));
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
    static const oracle_mask masks[] = {{.causal = false},
                                        {.causal = true},
                                        {.causal = true, .window = 2},
                                        {.lengths = {2, 3}},
                                        {.lengths = {4, 1}, .causal = true, .rate = 0.3f}};
    for (int i = 0; i < SEO_COUNT_OF(masks); i++) {
        float random[4 * N];
        double x[4 * N], grad[3 * N], bound[3 * N], delta[T], unused[T], out[N], lse[T], p[T * T];
        fill_uniform(random, 4 * N, -1.0f, 1.0f, 7);
        for (int n = 0; n < 4 * N; n++) x[n] = random[n];
        loss_context l = {x + 3 * N,
                          {.q = x,
                           .k = x + N,
                           .v = x + 2 * N,
                           .queries = T,
                           .keys = T,
                           .width = D,
                           .scale = 0.6,
                           .mask = &masks[i],
                           .heads = 1}};
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
        cmocka_unit_test(test_windows),
        cmocka_unit_test(test_masks),
        cmocka_unit_test(test_unseen_gradients_are_zero),
        cmocka_unit_test(test_poison_stays_in_its_document),
        cmocka_unit_test(test_wrong_spans),
        cmocka_unit_test(test_cached_equals_uncached),
        cmocka_unit_test(test_scores_far_apart),
    };
    return run_everywhere(tests, SEO_COUNT_OF(tests));
}
