/* Sums of fixed order: the gradient of a bias, the square sum, the clip factor. */
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

static void run_bias(op_run *on, const void *input, float *out) {
    seo_bias_bwd_args a = *(const seo_bias_bwd_args *)input;
    a.dbias = to_device(on, a.dbias);
    a.dout = to_device_s(on, a.dout);
    must(seo_bias_bwd(on->dev, &a));
    must(seo_bias_bwd(on->dev, &a)); /* += what the first call left */
    to_host(on, &a.dbias, out);
}

/* 8 threads a column add up rows, and as many the parts. */
static double bias_work(int64_t n) {
    return 16.0 * SEO_WORK_THREAD * (double)n;
}

static void bias_case(int64_t rows, int64_t n, bool whole, seo_dtype storage) {
    float *dbias = new_f32(n), *dout = new_f32(rows * n);
    double *want = new_f64(n), *bound = new_f64(n);
    fill_whole(dbias, n, -9, 9, 31);
    if (whole)
        fill_whole(dout, rows * n, -9, 9, 32);
    else
        fill_uniform(dout, rows * n, -1, 1, 32);
    to_storage(dout, rows * n, storage);
    for (int64_t c = 0; c < n; c++) {
        double size = fabs(want[c] = (double)dbias[c]);
        for (int64_t r = 0; r < rows; r++) {
            want[c] += 2 * (double)dout[r * n + c];
            size += 2 * fabs((double)dout[r * n + c]);
        }
        bound[c] = whole ? 0 : sum_bound(rows, 2, size);
    }
    const seo_bias_bwd_args a = {.dbias = seo_tensor_1d(dbias, SEO_DTYPE_F32, n),
                                 .dout = seo_tensor_2d(dout, SEO_DTYPE_F32, rows, n)};
    check_everywhere(&(op_case){"bias_bwd", run_bias, &a, n, want, bound, .storage = storage,
                                .work = bias_work(n)});
    free(dbias);
    free(dout);
    free(want);
    free(bound);
}

void test_bias_bwd(void **state) {
    (void)state;
    static const int64_t shapes[][2] = {{1, 1},   {1, 70},   {5, 3},     {17, 64},
                                        {33, 65}, {1030, 2}, {129, 257}, {2, 20000}};
    EACH_STORAGE(storage) {
        for (int i = 0; i < SEO_COUNT_OF(shapes); i++) {
            if (!fits(bias_work(shapes[i][1]))) continue;
            bias_case(shapes[i][0], shapes[i][1], true, storage);
            bias_case(shapes[i][0], shapes[i][1], false, storage);
        }
    }
}

static void run_squares(op_run *on, const void *input, float *out) {
    seo_sum_squares_args a = *(const seo_sum_squares_args *)input;
    a.out = a.accumulate ? to_device(on, a.out) : poisoned(on, a.out);
    a.inp = to_device(on, a.inp);
    must(seo_sum_squares(on->dev, &a));
    to_host(on, &a.out, out);
    a.accumulate = true;
    must(seo_sum_squares(on->dev, &a));
    to_host(on, &a.out, out + 1);
}

void test_sum_squares(void **state) {
    (void)state;
    static const int64_t counts[] = {1, 31, 33, 5000, 32768, 32769, 100003};
    for (int i = 0; i < 2 * SEO_COUNT_OF(counts); i++) {
        const int64_t n = counts[i / 2];
        float *x = new_f32(n), start = 7;
        fill_uniform(x, n, -1, 1, 33);
        double sum = 0;
        for (int64_t j = 0; j < n; j++) sum += (double)x[j] * (double)x[j];
        const double base = i % 2 ? 7 : 0;
        const double want[2] = {base + sum, base + 2 * sum};
        /* Summed in f64: what is left is the rounding of each result. */
        const double bound[2] = {1.01 * F32_ROUND * want[0],
                                 1.01 * F32_ROUND * (want[0] + want[1])};
        const seo_sum_squares_args a = {.out = seo_tensor_1d(&start, SEO_DTYPE_F32, 1),
                                        .inp = seo_tensor_1d(x, SEO_DTYPE_F32, n),
                                        .accumulate = i % 2};
        check_everywhere(
            &(op_case){"sum_squares", run_squares, &a, 2, want, bound, .storage = SEO_DTYPE_F32});
        free(x);
    }
}

static void run_clip(op_run *on, const void *input, float *out) {
    seo_clip_factor_args a = *(const seo_clip_factor_args *)input;
    a.norm = poisoned(on, a.norm);
    a.hyper = to_device(on, a.hyper);
    a.sum_squares = to_device(on, a.sum_squares);
    must(seo_clip_factor(on->dev, &a));
    to_host(on, &a.hyper, to_host(on, &a.norm, out));
}

void test_clip_factor(void **state) {
    (void)state;
    const double inf = INFINITY, nan = NAN;
    const struct {
        double sum, max_norm, norm, factor;
    } cases[] = {
        {4, 1, 2, 1 / (2 + 1e-6)},  {0.25, 1, 0.5, 1}, {100, 0, 10, 1},  {0, 1, 0, 1},
        {1e30, 0.5, 1e15, 0.5e-15}, {inf, 1, inf, 0},  {inf, 0, inf, 0}, {nan, 1, nan, 0},
        {nan, 0, nan, 0},
    };
    for (int i = 0; i < SEO_COUNT_OF(cases); i++) {
        float norm = -1, hyper[SEO_HYPER_COUNT] = {1, 2, 3, 4, 5}, sum = (float)cases[i].sum;
        const double want[] = {cases[i].norm, 1, 2, 3, 4, cases[i].factor};
        const double bound[] = {
            isfinite(want[0]) ? 2 * F32_ROUND * want[0] : 0, 0, 0, 0, 0, 4 * F32_ROUND * want[5]};
        const seo_clip_factor_args a = {.norm = seo_tensor_1d(&norm, SEO_DTYPE_F32, 1),
                                        .hyper =
                                            seo_tensor_1d(hyper, SEO_DTYPE_F32, SEO_HYPER_COUNT),
                                        .sum_squares = seo_tensor_1d(&sum, SEO_DTYPE_F32, 1),
                                        .max_norm = (float)cases[i].max_norm};
        check_everywhere(
            &(op_case){"clip_factor", run_clip, &a, 6, want, bound, .storage = SEO_DTYPE_F32});
    }
}
