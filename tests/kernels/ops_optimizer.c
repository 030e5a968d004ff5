/* AdamW: each step against the formula in double, three steps of a constant gradient in closed
 * form, ranges with and without decay, the working copy, and the rounding of a bf16 parameter. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "tests/kernels/ops_tests.h"
#include "tests/support/compare.h"
#include "tests/support/fill.h"
#include "tests/support/op_check.h"

enum { STEPS = 3 };

typedef struct problem {
    int64_t count;
    float *start; /* param, m, v, one after the other */
    float *grads; /* STEPS times count */
    float factor, lr, weight_decay, eps;
    const int32_t *ranges;
    int64_t range_count; /* 0: left out */
    bool working;
    seo_dtype storage; /* of param */
    int64_t first_index;
} problem;

static const float g_beta1 = 0.9f, g_beta2 = 0.95f;

static void set_hyper(const problem *p, int step, float hyper[SEO_HYPER_COUNT]) {
    hyper[SEO_HYPER_LR] = p->lr;
    hyper[SEO_HYPER_CORRECTION1] = (float)(1 / (1 - pow((double)g_beta1, step)));
    hyper[SEO_HYPER_CORRECTION2] = (float)(1 / (1 - pow((double)g_beta2, step)));
    hyper[SEO_HYPER_STEP] = (float)step;
    hyper[SEO_HYPER_GRAD_FACTOR] = p->factor;
}

/* out: the state (param, m, v, and the working copy) after each of the steps. */
static void run(op_run *on, const void *input, float *out) {
    const problem *p = input;
    const int64_t n = p->count;
    const seo_tensor none = {0};
    const seo_tensor ranges = {(void *)(uintptr_t)p->ranges, SEO_DTYPE_I32, 1, {p->range_count}};
    seo_adamw_args a = {.param = to_device_s(on, seo_tensor_1d(p->start, SEO_DTYPE_F32, n)),
                        .m = to_device(on, seo_tensor_1d(p->start + n, SEO_DTYPE_F32, n)),
                        .v = to_device(on, seo_tensor_1d(p->start + 2 * n, SEO_DTYPE_F32, n)),
                        .working = p->working ? poisoned(on, seo_tensor_1d(NULL, SEO_DTYPE_BF16, n))
                                              : none,
                        .ranges = p->range_count > 0 ? to_device(on, ranges) : none,
                        .key = {.seed = 7 + ((uint64_t)9 << 35), .purpose = SEO_PURPOSE_ROUNDING},
                        .first_index = p->first_index,
                        .beta1 = g_beta1,
                        .beta2 = g_beta2,
                        .eps = p->eps,
                        .weight_decay = p->weight_decay};
    for (int step = 1; step <= STEPS; step++) {
        float hyper[SEO_HYPER_COUNT];
        set_hyper(p, step, hyper);
        a.hyper = to_device(on, seo_tensor_1d(hyper, SEO_DTYPE_F32, SEO_HYPER_COUNT));
        a.grad = to_device(on, seo_tensor_1d(p->grads + (step - 1) * n, SEO_DTYPE_F32, n));
        must(seo_adamw(on->dev, &a));
        out = to_host(on, &a.v, to_host(on, &a.m, to_host(on, &a.param, out)));
        out = to_host(on, &a.working, out);
    }
}

/* Ends in `ranges` are ascending; the element belongs to the first range that ends behind it. */
static bool decays(const problem *p, int64_t i) {
    if (p->range_count == 0) return true;
    for (int64_t r = 0; r < p->range_count; r++) {
        if (i < (int64_t)p->ranges[r] * SEO_ADAMW_UNIT) return r % 2 == 1;
    }
    return false;
}

/* One step in double with the error that f32 adds; `off` carries it from step to step. */
static void want_step(const problem *p, int step, int64_t i, double state[3], double off[3]) {
    float hyper[SEO_HYPER_COUNT];
    set_hyper(p, step, hyper);
    const double b1 = (double)g_beta1, b2 = (double)g_beta2, lr = (double)p->lr;
    const double c1 = (double)hyper[SEO_HYPER_CORRECTION1];
    const double c2 = (double)hyper[SEO_HYPER_CORRECTION2];
    const double g = (double)p->factor * (double)p->grads[(step - 1) * p->count + i];
    const double m_size = fabs(b1 * state[1]) + fabs((1 - b1) * g);
    state[1] = b1 * state[1] + (1 - b1) * g;
    state[2] = b2 * state[2] + (1 - b2) * g * g;
    off[1] = b1 * off[1] + 4 * F32_ROUND * m_size;
    off[2] = b2 * off[2] + 6 * F32_ROUND * state[2];
    const double root = sqrt(state[2] * c2), den = root + (double)p->eps;
    const double update = lr * state[1] * c1 / den;
    const double relative = state[2] > 0 ? 0.5 * off[2] / state[2] : 0;
    const double update_off = lr * c1 * off[1] / den + fabs(update) * (relative + 8 * F32_ROUND);
    const double decay = decays(p, i) ? lr * (double)p->weight_decay : 0;
    const double decayed = state[0] * (1 - decay);
    off[0] += update_off + 3 * F32_ROUND * (fabs(decayed) + fabs(update));
    state[0] = decayed - update;
}

/* What depends on stored values: the working copy is param rounded; a bf16 param starts each step
 * where the one before left it, and is then one of its neighbours. */
static void settle(const void *input, const float *got, double *want, double *bound) {
    const problem *p = input;
    const int64_t n = p->count, each = (p->working ? 4 : 3) * n;
    for (int64_t i = 0; i < n * STEPS && p->working; i++) {
        const int64_t at = i / n * each + i % n;
        want[at + 3 * n] = (double)stored(SEO_DTYPE_BF16, got[at]);
    }
    for (int64_t i = 0; i < n && p->storage == SEO_DTYPE_BF16; i++) {
        double state[3] = {(double)p->start[i], (double)p->start[n + i],
                           (double)p->start[2 * n + i]};
        double off[3] = {0};
        for (int step = 1; step <= STEPS; step++) {
            const int64_t at = (step - 1) * each + i;
            want_step(p, step, i, state, off);
            want[at] = state[0];
            bound[at] = off[0] + 2 * BF16_ROUND * (fabs(state[0]) + off[0]);
            state[0] = (double)got[at];
            off[0] = 0;
        }
    }
}

static void expect(const problem *p, int64_t i, bool constant, double *want, double *bound) {
    const int64_t n = p->count, each = (p->working ? 4 : 3) * n;
    const double start = (double)p->start[i];
    double state[3] = {start, (double)p->start[n + i], (double)p->start[2 * n + i]}, off[3] = {0};
    for (int step = 1; step <= STEPS; step++) {
        want_step(p, step, i, state, off);
        for (int j = 0; j < 3; j++) {
            want[(step - 1) * each + j * n + i] = state[j];
            bound[(step - 1) * each + j * n + i] = off[j];
        }
        if (!constant || p->weight_decay > 0) continue;
        /* From zero moments a constant gradient moves by lr g / (|g| + eps) at every step: the
         * double formula itself is checked, up to the corrections' f32 rounding. */
        const double g = (double)p->factor * (double)p->grads[i];
        const double closed = start - step * (double)p->lr * g / (fabs(g) + (double)p->eps);
        assert_true(fabs(state[0] - closed) <= step * (double)p->lr * 4 * F32_ROUND);
    }
}

/* like: all but start and grads. */
static void check(const problem *like, bool constant) {
    problem p = *like;
    const int64_t n = p.count, all = (p.working ? 4 : 3) * STEPS * n;
    double *want = new_f64(all), *bound = new_f64(all);
    p.lr = 3e-3f;
    p.eps = constant ? 1e-8f : 0.1f; /* large enough to see where it is added */
    p.start = new_f32(3 * n);
    p.grads = new_f32(STEPS * n);
    fill_uniform(p.start, n, -1, 1, 51);
    to_storage(p.start, n, p.storage);
    if (!constant) fill_uniform(p.start + n, n, -0.5f, 0.5f, 52);
    if (!constant) fill_uniform(p.start + 2 * n, n, 0, 0.5f, 53);
    fill_uniform(p.grads, constant ? n : STEPS * n, 0.5f, 1, 54);
    for (int64_t i = n; constant && i < STEPS * n; i++) p.grads[i] = p.grads[i - n];
    for (int64_t i = 0; i < n; i++) expect(&p, i, constant, want, bound);
    check_everywhere(&(op_case){p.storage == SEO_DTYPE_BF16 ? "adamw on bf16" : "adamw", run, &p,
                                all, want, bound, .storage = p.storage, .settle = settle});
    free(p.start);
    free(p.grads);
    free(want);
    free(bound);
}

/* Decay in some parameters and not in others: the first range may be empty, so may others, the last
 * may end before the elements do or behind them. */
static void check_ranges(const problem *like) {
    static const struct {
        int64_t count;
        int32_t ends[5];
    } ranges[] = {
        {1, {1}},          {2, {0, 1}},          {2, {1, 3}},    {3, {2, 2, 4}},
        {4, {0, 2, 2, 5}}, {5, {1, 2, 3, 4, 5}}, {2, {0, 1000}}, {2, {3, 1 << 20}},
        {1, {0}},          {5, {0, 0, 0, 1, 2}},
    };
    for (int i = 0; i < SEO_COUNT_OF(ranges); i++) {
        problem p = *like;
        p.ranges = ranges[i].ends;
        p.range_count = ranges[i].count;
        check(&p, false);
    }
}

/* Factor 0, which stands for a norm that is not finite, takes the gradient as 0. */
static void run_dropped(op_run *on, const void *input, float *out) {
    (void)input;
    float param[3] = {1, 2, 3}, zero[3] = {0}, grad[3] = {NAN, INFINITY, 1};
    float hyper[SEO_HYPER_COUNT] = {0.1f, 1, 1, 1, 0};
    const seo_adamw_args a = {
        .param = to_device_s(on, seo_tensor_1d(param, SEO_DTYPE_F32, 3)),
        .m = to_device(on, seo_tensor_1d(zero, SEO_DTYPE_F32, 3)),
        .v = to_device(on, seo_tensor_1d(zero, SEO_DTYPE_F32, 3)),
        .grad = to_device(on, seo_tensor_1d(grad, SEO_DTYPE_F32, 3)),
        .hyper = to_device(on, seo_tensor_1d(hyper, SEO_DTYPE_F32, SEO_HYPER_COUNT)),
        .beta1 = g_beta1,
        .beta2 = g_beta2,
        .eps = 1e-8f};
    must(seo_adamw(on->dev, &a));
    to_host(on, &a.v, to_host(on, &a.m, to_host(on, &a.param, out)));
}

/* Of a bf16 parameter that only decays, the f32 value is known to the bit, and so is its rounding:
 * 16 random bits are added below the cut. */
typedef struct decay_input {
    int64_t count, first_index;
    float *param;
    float step;
} decay_input;

static const float g_decay_lr = 1.0f / 256, g_decay = 0.125f;

static const seo_rng_key g_rounding = {.seed = 31 + ((uint64_t)1 << 40),
                                       .purpose = SEO_PURPOSE_ROUNDING};

static void run_decay(op_run *on, const void *input, float *out) {
    const decay_input *d = input;
    float hyper[SEO_HYPER_COUNT] = {g_decay_lr, 1, 1, d->step, 1};
    float *zero = new_f32(d->count);
    const seo_tensor zeros = seo_tensor_1d(zero, SEO_DTYPE_F32, d->count);
    const seo_adamw_args a = {
        .param = to_device_s(on, seo_tensor_1d(d->param, SEO_DTYPE_F32, d->count)),
        .m = to_device(on, zeros),
        .v = to_device(on, zeros),
        .grad = to_device(on, zeros),
        .hyper = to_device(on, seo_tensor_1d(hyper, SEO_DTYPE_F32, SEO_HYPER_COUNT)),
        .key = g_rounding,
        .first_index = d->first_index,
        .eps = 1,
        .weight_decay = g_decay};
    must(seo_adamw(on->dev, &a));
    to_host(on, &a.param, out);
    free(zero);
}

static void rounding_case(int64_t n, int64_t first_index, uint32_t step) {
    const decay_input d = {
        .count = n, .first_index = first_index, .param = new_f32(n), .step = (float)step};
    double *want = new_f64(n), *bound = new_f64(n);
    fill_uniform(d.param, n, -2, 2, 55);
    to_storage(d.param, n, SEO_DTYPE_BF16);
    const float keep = 1 - g_decay_lr * g_decay; /* exact, and so is its product with a bf16 */
    seo_rng_key key = g_rounding;
    key.step = step;
    for (int64_t i = 0; i < n; i++) {
        const uint64_t j = (uint64_t)(first_index + i);
        const uint32_t pair = seo_philox(key, j / 8).v[j % 8 / 2];
        const uint32_t random = j % 2 ? pair >> 16 : pair & 0xffff;
        const float exact = d.param[i] * keep;
        uint32_t bits;
        memcpy(&bits, &exact, sizeof bits);
        want[i] = (double)f32_from((uint16_t)((bits + random) >> 16));
    }
    check_everywhere(&(op_case){"rounding of a bf16 parameter", run_decay, &d, n, want, bound,
                                .storage = SEO_DTYPE_BF16});
    free(d.param);
    free(want);
    free(bound);
}

static void check_where_there_is_bf16(int64_t n) {
    check(&(problem){.count = n, .factor = 0.5f, .weight_decay = 0.1f, .working = true}, false);
    problem half = {.count = n, .factor = 0.5f, .weight_decay = 0.1f, .storage = SEO_DTYPE_BF16};
    half.first_index = 8 * n;
    check(&half, false);
    rounding_case(n, 0, 1);
    rounding_case(n, 8, (1 << 24) - 1);
    rounding_case(n, ((int64_t)1 << 35) - 16, 77); /* the block's number passes 2^32 */
}

void test_adamw(void **state) {
    (void)state;
    static const int64_t counts[] = {1, 7, 33, 20011};
    for (int i = 0; i < SEO_COUNT_OF(counts); i++) {
        const int64_t n = counts[i];
        check(&(problem){.count = n, .factor = 1}, true);
        check(&(problem){.count = n, .factor = 0.25f}, true);
        check(&(problem){.count = n, .factor = 0.5f, .weight_decay = 0.1f}, false);
        if (g_targets.last_storage == SEO_DTYPE_BF16) check_where_there_is_bf16(n);
    }
    problem ranged = {.count = 4 * SEO_ADAMW_UNIT + 5, .factor = 1, .weight_decay = 10};
    check_ranges(&ranged);
    ranged.count = 20011;
    check_ranges(&ranged);
    ranged.working = true;
    if (g_targets.last_storage == SEO_DTYPE_BF16) check_ranges(&ranged);
    EACH_STORAGE(s) {
        const double want[9] = {1, 2, 3}, bound[9] = {0};
        check_everywhere(
            &(op_case){"adamw, factor 0", run_dropped, NULL, 9, want, bound, .storage = s});
    }
}
