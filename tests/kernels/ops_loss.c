/* Softmax cross entropy: loss and gradient, ignored rows, a padded vocabulary. */
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

enum { IGNORED = -100 };

typedef struct shape {
    const char *what;
    int64_t rows, vocab, padded;
    float range; /* of the logits */
} shape;

static const shape g_shapes[] = {
    {"one column", 2, 1, 1, 1},         {"small, padded", 3, 5, 8, 3},
    {"off the vector", 4, 77, 77, 1},   {"large logits", 3, 300, 320, 80},
    {"over a chunk", 5, 4099, 4112, 5}, {"many rows", 301, 65, 128, 8},
};

static void run(op_run *on, const void *input, float *out) {
    seo_cross_entropy_args a = *(const seo_cross_entropy_args *)input;
    a.loss = poisoned(on, a.loss);
    a.logits = to_device_s(on, a.logits);
    a.targets = to_device(on, a.targets);
    must(seo_cross_entropy(on->dev, &a));
    to_host(on, &a.logits, to_host(on, &a.loss, out));
}

/* The loss of one row, as a function of its logits. */
typedef struct row_problem {
    int64_t vocab;
    int32_t target;
} row_problem;

static double row_loss(const double *logits, const void *context) {
    const row_problem *p = context;
    double top = logits[0], sum = 0;
    for (int64_t v = 0; v < p->vocab; v++) top = fmax(top, logits[v]);
    for (int64_t v = 0; v < p->vocab; v++) sum += exp(logits[v] - top);
    return log(sum) + top - logits[p->target];
}

/* A sum of a row may be added in pieces of at most this many terms, which are then added in f64 or,
 * being few, in f32. */
enum { PIECE = 128 };

/* Roundings of one exponential: that of its argument, which is up to `spread`, and its own. A GPU
 * computes 2^y with y = x log2 e, which rounds the factor and the product as well, and its
 * ex2.approx is off by 2^-22, 4 roundings. */
static double exp_roundings(double spread) {
    return g_targets.is_cpu ? spread + 2 : 3 * spread + 6;
}

static void want_row(const seo_cross_entropy_args *a, const float *logits, int32_t target,
                     seo_dtype storage, double *loss_and_bound, double *want, double *bound) {
    const int64_t padded = a->logits.dims[1], vocab = a->vocab_size;
    const row_problem p = {vocab, target};
    double *x = new_f64(padded), *gradient = new_f64(padded), spread = 0, top = -INFINITY;
    for (int64_t v = 0; v < vocab; v++) top = fmax(top, x[v] = (double)logits[v]);
    for (int64_t v = 0; v < vocab; v++) spread = fmax(spread, top - x[v]);
    const double loss = row_loss(x, &p);
    const double term = exp_roundings(spread);
    const double sum_off = sum_bound(PIECE, term, 1);
    loss_and_bound[0] = loss;
    loss_and_bound[1] = sum_off + 2 * F32_ROUND * fabs(loss);
    for (int64_t v = 0; v < vocab; v++) {
        const double log_p = x[v] - (loss + (double)logits[target]);
        gradient[v] = exp(log_p) - (v == target);
    }
    check_gradient("cross_entropy", row_loss, &p, x, gradient, vocab);
    for (int64_t v = 0; v < padded; v++) {
        if (!a->with_gradient) {
            want[v] = (double)logits[v];
            continue;
        }
        const double scale = (double)a->grad_scale, softmax = gradient[v] + (v == target);
        want[v] = v < vocab ? scale * gradient[v] : 0;
        /* Probabilities below 1e-37 may be flushed to 0. */
        bound[v] = v < vocab ? fabs(scale) * (softmax * (sum_off + (term + 4) * F32_ROUND) +
                                              F32_ROUND * fabs(gradient[v]) + 1e-37)
                             : 0;
        if (v < vocab) bound[v] = stored_bound(storage, want[v], bound[v]);
    }
    free(x);
    free(gradient);
}

static void one_case(const shape *s, bool with_gradient, seo_dtype storage) {
    const int64_t n = s->rows * s->padded, count = s->rows + n;
    float *logits = new_f32(n);
    int32_t *targets = malloc((size_t)s->rows * sizeof *targets);
    double *want = new_f64(count), *bound = new_f64(count);
    assert_non_null(targets);
    fill_uniform(logits, n, -s->range, s->range, 41);
    to_storage(logits, n, storage);
    fill_ids(targets, s->rows, (int32_t)s->vocab, 42);
    if (s->rows > 1) targets[1] = IGNORED;
    targets[s->rows - 1] = (int32_t)s->vocab - 1;
    for (int64_t r = 0; r < s->rows; r++) {
        /* Padded columns must not be looked at. */
        for (int64_t v = s->vocab; with_gradient && v < s->padded; v++) {
            logits[r * s->padded + v] = v % 2 ? NAN : INFINITY;
        }
    }
    const seo_cross_entropy_args a = {.loss = seo_tensor_1d(NULL, SEO_DTYPE_F32, s->rows),
                                      .logits =
                                          seo_tensor_2d(logits, SEO_DTYPE_F32, s->rows, s->padded),
                                      .targets = seo_tensor_1d(targets, SEO_DTYPE_I32, s->rows),
                                      .vocab_size = s->vocab,
                                      .ignore_index = IGNORED,
                                      .grad_scale = 0.125f,
                                      .with_gradient = with_gradient};
    for (int64_t r = 0; r < s->rows; r++) {
        double *row_want = want + s->rows + r * s->padded;
        double *row_bound = bound + s->rows + r * s->padded, result[2] = {0, 0};
        const float *row = logits + r * s->padded;
        if (targets[r] != IGNORED) {
            want_row(&a, row, targets[r], storage, result, row_want, row_bound);
        }
        for (int64_t v = 0; targets[r] == IGNORED && !with_gradient && v < s->padded; v++) {
            row_want[v] = (double)row[v];
        }
        want[r] = result[0];
        bound[r] = result[1];
    }
    check_everywhere(&(op_case){s->what, run, &a, count, want, bound, .storage = storage});
    free(logits);
    free(targets);
    free(want);
    free(bound);
}

/* A target out of range is found before anything is written; a number that is not finite shows. */
static void outside_on_cpu(void) {
    float logits[6] = {1, 2, 3, 4, 5, 6}, loss[2] = {9, 9};
    int32_t targets[2] = {1, 3};
    seo_device *dev = open_device(SEO_CPU_AUTO, 2);
    const seo_cross_entropy_args a = {.loss = seo_tensor_1d(loss, SEO_DTYPE_F32, 2),
                                      .logits = seo_tensor_2d(logits, SEO_DTYPE_F32, 2, 3),
                                      .targets = seo_tensor_1d(targets, SEO_DTYPE_I32, 2),
                                      .vocab_size = 3,
                                      .ignore_index = IGNORED,
                                      .grad_scale = 1,
                                      .with_gradient = true};
    must_fail(seo_cross_entropy(dev, &a), SEO_ERR_ARG, "targets[1] is 3, neither in [0, 3)");
    targets[1] = -1;
    must_fail(seo_cross_entropy(dev, &a), SEO_ERR_ARG, "targets[1] is -1");
    for (int i = 0; i < 6; i++) assert_true(logits[i] == (float)(i + 1));
    assert_true(loss[0] == 9.0f && loss[1] == 9.0f);
    targets[1] = 0;
    logits[1] = NAN;
    logits[4] = INFINITY;
    must(seo_cross_entropy(dev, &a));
    assert_true(!isfinite(loss[0]) && !isfinite(loss[1]));
    seo_device_close(dev);
}

static seo_cross_entropy_args two_rows(op_run *on, float logits[6], const int32_t targets[2]) {
    return (seo_cross_entropy_args){
        .loss = poisoned(on, seo_tensor_1d(NULL, SEO_DTYPE_F32, 2)),
        .logits = to_device_s(on, seo_tensor_2d(logits, SEO_DTYPE_F32, 2, 3)),
        .targets =
            to_device(on, (seo_tensor){(void *)(uintptr_t)targets, SEO_DTYPE_I32, 1, {2, 0, 0, 0}}),
        .vocab_size = 3,
        .ignore_index = IGNORED,
        .grad_scale = 1,
        .with_gradient = true};
}

/* A device with a queue tells of it at the next wait, and is fine afterwards. */
static void run_outside(op_run *on, const void *input, float *out) {
    float logits[6] = {1, 2, 3, 4, 5, 6};
    const seo_cross_entropy_args a = two_rows(on, logits, input);
    must(seo_cross_entropy(on->dev, &a));
    must_fail(seo_device_sync(on->dev), SEO_ERR_ARG, "target");
    must(seo_device_sync(on->dev));
    *out = 0;
}

/* The loss of a row with a NaN is NaN; with an infinity it is not finite either. */
static void run_not_finite(op_run *on, const void *input, float *out) {
    (void)input;
    float logits[6] = {1, NAN, 3, 4, INFINITY, 6};
    const int32_t targets[2] = {1, 0};
    const seo_cross_entropy_args a = two_rows(on, logits, targets);
    must(seo_cross_entropy(on->dev, &a));
    to_host(on, &a.loss, out);
    if (isnan(out[1])) out[1] = INFINITY;
}

void test_cross_entropy(void **state) {
    (void)state;
    EACH_STORAGE(storage) {
        for (int i = 0; i < SEO_COUNT_OF(g_shapes); i++) {
            one_case(&g_shapes[i], false, storage);
            one_case(&g_shapes[i], true, storage);
        }
    }
    if (g_targets.is_cpu) {
        outside_on_cpu();
        return;
    }
    static const int32_t outside[][2] = {{0, 3}, {-1, 0}, {1, INT32_MAX}, {INT32_MIN, 1}};
    const double zero = 0;
    for (int i = 0; i < SEO_COUNT_OF(outside); i++) {
        check_everywhere(&(op_case){"a target outside", run_outside, outside[i], 1, &zero, &zero,
                                    .storage = SEO_DTYPE_F32});
    }
    const double both[2] = {NAN, INFINITY}, bound[2] = {0, 0};
    check_everywhere(&(op_case){"logits that are not finite", run_not_finite, NULL, 2, both, bound,
                                .storage = SEO_DTYPE_F32});
}
