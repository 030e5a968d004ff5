/* AdamW: each step against the formula in double, and three steps of a constant gradient in closed
 * form. */
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
} problem;

static const float g_beta1 = 0.9f, g_beta2 = 0.95f;

static void set_hyper(const problem *p, int step, float hyper[SEO_HYPER_COUNT]) {
    hyper[SEO_HYPER_LR] = p->lr;
    hyper[SEO_HYPER_CORRECTION1] = (float)(1 / (1 - pow((double)g_beta1, step)));
    hyper[SEO_HYPER_CORRECTION2] = (float)(1 / (1 - pow((double)g_beta2, step)));
    hyper[SEO_HYPER_STEP] = (float)step;
    hyper[SEO_HYPER_GRAD_FACTOR] = p->factor;
}

/* out: the state (param, m, v) after each of the steps. */
static void run(seo_device *dev, const void *input, float *out) {
    const problem *p = input;
    const int64_t n = p->count;
    seo_adamw_args a = {.param = to_device(dev, seo_tensor_1d(p->start, SEO_DTYPE_F32, n)),
                        .m = to_device(dev, seo_tensor_1d(p->start + n, SEO_DTYPE_F32, n)),
                        .v = to_device(dev, seo_tensor_1d(p->start + 2 * n, SEO_DTYPE_F32, n)),
                        .beta1 = g_beta1,
                        .beta2 = g_beta2,
                        .eps = p->eps,
                        .weight_decay = p->weight_decay};
    for (int step = 1; step <= STEPS; step++) {
        float hyper[SEO_HYPER_COUNT];
        set_hyper(p, step, hyper);
        a.hyper = to_device(dev, seo_tensor_1d(hyper, SEO_DTYPE_F32, SEO_HYPER_COUNT));
        a.grad = to_device(dev, seo_tensor_1d(p->grads + (step - 1) * n, SEO_DTYPE_F32, n));
        must(seo_adamw(dev, &a));
        out = to_host(dev, &a.v, to_host(dev, &a.m, to_host(dev, &a.param, out)));
    }
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
    const double decayed = state[0] * (1 - lr * (double)p->weight_decay);
    off[0] += update_off + 3 * F32_ROUND * (fabs(decayed) + fabs(update));
    state[0] = decayed - update;
}

static void one_case(int64_t n, float factor, float weight_decay, bool constant) {
    problem p = {.count = n,
                 .start = new_f32(3 * n),
                 .grads = new_f32(STEPS * n),
                 .factor = factor,
                 .lr = 3e-3f,
                 .weight_decay = weight_decay,
                 .eps = constant ? 1e-8f : 0.1f}; /* large enough to see where it is added */
    double *want = new_f64(3 * STEPS * n), *bound = new_f64(3 * STEPS * n);
    fill_uniform(p.start, n, -1, 1, 51);
    if (!constant) fill_uniform(p.start + n, n, -0.5f, 0.5f, 52);
    if (!constant) fill_uniform(p.start + 2 * n, n, 0, 0.5f, 53);
    fill_uniform(p.grads, constant ? n : STEPS * n, 0.5f, 1, 54);
    for (int64_t i = n; constant && i < STEPS * n; i++) p.grads[i] = p.grads[i - n];
    for (int64_t i = 0; i < n; i++) {
        const double start = (double)p.start[i];
        double state[3] = {start, (double)p.start[n + i], (double)p.start[2 * n + i]}, off[3] = {0};
        for (int step = 1; step <= STEPS; step++) {
            want_step(&p, step, i, state, off);
            for (int j = 0; j < 3; j++) {
                want[(3 * (step - 1) + j) * n + i] = state[j];
                bound[(3 * (step - 1) + j) * n + i] = off[j];
            }
            if (!constant || weight_decay > 0) continue;
            /* From zero moments a constant gradient moves by lr g / (|g| + eps) at every step: the
             * double formula itself is checked, up to the corrections' f32 rounding. */
            const double g = (double)factor * (double)p.grads[i];
            const double closed = start - step * (double)p.lr * g / (fabs(g) + (double)p.eps);
            assert_true(fabs(state[0] - closed) <= step * (double)p.lr * 4 * F32_ROUND);
        }
    }
    check_everywhere(&(op_case){"adamw", run, &p, 3 * STEPS * n, want, bound});
    free(p.start);
    free(p.grads);
    free(want);
    free(bound);
}

/* Factor 0, which stands for a norm that is not finite, takes the gradient as 0. */
static void dropped_gradient(void) {
    float param[3] = {1, 2, 3}, m[3] = {0}, v[3] = {0}, grad[3] = {NAN, INFINITY, 1};
    float hyper[SEO_HYPER_COUNT] = {0.1f, 1, 1, 1, 0};
    seo_device *dev = open_device(SEO_CPU_AUTO, 1);
    const seo_adamw_args a = {.param = seo_tensor_1d(param, SEO_DTYPE_F32, 3),
                              .m = seo_tensor_1d(m, SEO_DTYPE_F32, 3),
                              .v = seo_tensor_1d(v, SEO_DTYPE_F32, 3),
                              .grad = seo_tensor_1d(grad, SEO_DTYPE_F32, 3),
                              .hyper = seo_tensor_1d(hyper, SEO_DTYPE_F32, SEO_HYPER_COUNT),
                              .beta1 = g_beta1,
                              .beta2 = g_beta2,
                              .eps = 1e-8f};
    must(seo_adamw(dev, &a));
    for (int i = 0; i < 3; i++) {
        assert_true(param[i] == (float)(i + 1) && m[i] == 0.0f && v[i] == 0.0f);
    }
    seo_device_close(dev);
}

void test_adamw(void **state) {
    (void)state;
    static const int64_t counts[] = {1, 7, 33, 20011};
    for (int i = 0; i < SEO_COUNT_OF(counts); i++) {
        one_case(counts[i], 1, 0, true);
        one_case(counts[i], 0.25f, 0, true);
        one_case(counts[i], 0.5f, 0.1f, false);
    }
    dropped_gradient();
}
