/* Sums of fixed order: the gradient of a bias, parts, squares unit by unit, the clip factor. */
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

/* ---- fold ---- */

static void run_fold(op_run *on, const void *input, float *out) {
    seo_fold_args a = *(const seo_fold_args *)input;
    a.inp = to_device_s(on, a.inp);
    a.out = a.accumulate ? to_device(on, a.out) : poisoned(on, a.out);
    must(seo_fold(on->dev, &a));
    if (a.accumulate) must(seo_fold(on->dev, &a));
    to_host(on, &a.out, out);
}

/* The sum goes into the middle one of the parts; the others stay as they were. */
static void run_fold_in_place(op_run *on, const void *input, float *out) {
    seo_fold_args a = *(const seo_fold_args *)input;
    const int64_t middle = a.inp.dims[0] / 2, n = a.inp.dims[1];
    a.inp = to_device(on, a.inp);
    a.out.data = (float *)a.inp.data + middle * n;
    must(seo_fold(on->dev, &a));
    to_host(on, &a.inp, out);
}

/* The sum of x[0], x[stride] ... in f32, by the definition of the order. */
static float fold_by_definition(seo_sum_order order, const float *x, int64_t parts,
                                int64_t stride) {
    if (parts == 1) return x[0];
    const int64_t left = order == SEO_SUM_TREE ? parts / 2 : parts - 1;
    const float a = fold_by_definition(order, x, left, stride);
    return a + fold_by_definition(order, x + left * stride, parts - left, stride);
}

/* No error is allowed: every sum has the bits of its definition. */
static void fold_case(seo_fold_args a, int64_t parts, int64_t n, seo_dtype dtype) {
    const int64_t count = parts * n, middle = parts / 2 * n;
    float *inp = new_f32(count), *start = new_f32(n);
    double *want = new_f64(n), *want_all = new_f64(count), *bound = new_f64(count);
    fill_uniform(inp, count, -1, 1, 34);
    fill_uniform(start, n, -1, 1, 35);
    to_storage(inp, count, dtype);
    a.out = seo_tensor_1d(start, SEO_DTYPE_F32, n);
    a.inp = seo_tensor_2d(inp, SEO_DTYPE_F32, parts, n);
    for (int64_t i = 0; i < count; i++) want_all[i] = (double)inp[i];
    for (int64_t i = 0; i < n; i++) {
        const float sum = fold_by_definition(a.order, inp + i, parts, n);
        want[i] = (double)(a.accumulate ? start[i] + sum + sum : sum);
        want_all[middle + i] = (double)sum;
    }
    check_everywhere(&(op_case){"fold", run_fold, &a, n, want, bound, .storage = dtype});
    if (!a.accumulate && dtype == SEO_DTYPE_F32) {
        check_everywhere(&(op_case){"fold in place", run_fold_in_place, &a, count, want_all, bound,
                                    .storage = dtype});
    }
    free(inp);
    free(start);
    free(want);
    free(want_all);
    free(bound);
}

/* Bit for bit the sum that the order defines, for parts that leave gaps in the tree's counter, for
 * the variants of many parts, and for rows that begin off an aligned address. */
void test_fold(void **state) {
    (void)state;
    static const int64_t shapes[][2] = {{1, 5},  {2, 8},    {3, 200}, {4, 1030}, {7, 1},
                                        {8, 64}, {16, 129}, {32, 24}, {64, 7},   {4096, 1}};
    for (int i = 0; i < SEO_COUNT_OF(shapes) * 8; i++) {
        const int64_t parts = shapes[i / 8][0], n = shapes[i / 8][1];
        const seo_fold_args a = {.order = i & 2 ? SEO_SUM_TREE : SEO_SUM_SEQUENCE,
                                 .accumulate = i & 4};
        if (a.order == SEO_SUM_TREE && (parts & (parts - 1)) != 0) continue;
        fold_case(a, parts, n, i & 1 ? SEO_DTYPE_BF16 : SEO_DTYPE_F32);
    }
}

/* ---- sum_squares, clip_factor ---- */

/* All units at once, and then each by itself. */
static void run_squares(op_run *on, const void *input, float *out) {
    seo_sum_squares_args a = *(const seo_sum_squares_args *)input;
    const int64_t n = a.inp.dims[0];
    a.inp = to_device(on, a.inp);
    a.out = poisoned(on, a.out);
    must(seo_sum_squares(on->dev, &a));
    out = to_host(on, &a.out, out);
    a.out = poisoned(on, a.out);
    for (int64_t u = 0; u < a.out.dims[0]; u++) {
        const int64_t from = u * SEO_SQUARES_UNIT;
        float *of_unit = (float *)a.out.data + u, *inp = (float *)a.inp.data + from;
        const int64_t count = seo_min_i64(SEO_SQUARES_UNIT, n - from);
        must(seo_sum_squares(
            on->dev, &(seo_sum_squares_args){.out = seo_tensor_1d(of_unit, SEO_DTYPE_F32, 1),
                                             .inp = seo_tensor_1d(inp, SEO_DTYPE_F32, count)}));
    }
    to_host(on, &a.out, out);
}

/* What makes a norm independent of how many ranks share the gradient: a unit's bits are its own. */
static void same_units(const void *input, const float *got, double *want, double *bound) {
    (void)want;
    (void)bound;
    const int64_t units = ((const seo_sum_squares_args *)input)->out.dims[0];
    assert_true(same_bits("units by themselves", got, got + units, units));
}

static void squares_case(int64_t n) {
    const int64_t units = seo_div_up(n, SEO_SQUARES_UNIT);
    float *x = new_f32(n), *out = new_f32(units);
    double *want = new_f64(2 * units), *bound = new_f64(2 * units);
    fill_uniform(x, n, -1, 1, 33);
    for (int64_t j = 0; j < n; j++) want[j / SEO_SQUARES_UNIT] += (double)x[j] * (double)x[j];
    for (int64_t u = 0; u < units; u++) {
        want[units + u] = want[u];
        /* Summed in f64: what is left is the rounding of the result. */
        bound[u] = bound[units + u] = 1.01 * F32_ROUND * want[u];
    }
    const seo_sum_squares_args a = {.out = seo_tensor_1d(out, SEO_DTYPE_F32, units),
                                    .inp = seo_tensor_1d(x, SEO_DTYPE_F32, n)};
    check_everywhere(&(op_case){"sum_squares", run_squares, &a, 2 * units, want, bound,
                                .storage = SEO_DTYPE_F32, .settle = same_units});
    free(x);
    free(out);
    free(want);
    free(bound);
}

void test_sum_squares(void **state) {
    (void)state;
    static const int64_t counts[] = {1, 31, 33, 2047, 2048, 2049, 5000, 32768, 100003};
    for (int i = 0; i < SEO_COUNT_OF(counts); i++) squares_case(counts[i]);
}

static void run_clip(op_run *on, const void *input, float *out) {
    seo_clip_factor_args a = *(const seo_clip_factor_args *)input;
    a.norm = poisoned(on, a.norm);
    a.hyper = to_device(on, a.hyper);
    a.sum_squares = to_device(on, a.sum_squares);
    must(seo_clip_factor(on->dev, &a));
    to_host(on, &a.hyper, to_host(on, &a.norm, out));
}

static void clip_case(float *sums, int64_t units, double max_norm, double norm, double factor) {
    float start = -1, hyper[SEO_HYPER_COUNT] = {1, 2, 3, 4, 5};
    const double want[] = {norm, 1, 2, 3, 4, factor};
    const double bound[] = {
        isfinite(norm) ? 2 * F32_ROUND * norm : 0, 0, 0, 0, 0, 4 * F32_ROUND * factor};
    const seo_clip_factor_args a = {.norm = seo_tensor_1d(&start, SEO_DTYPE_F32, 1),
                                    .hyper = seo_tensor_1d(hyper, SEO_DTYPE_F32, SEO_HYPER_COUNT),
                                    .sum_squares = seo_tensor_1d(sums, SEO_DTYPE_F32, units),
                                    .max_norm = (float)max_norm};
    check_everywhere(
        &(op_case){"clip_factor", run_clip, &a, 6, want, bound, .storage = SEO_DTYPE_F32});
}

/* Many units, one of which may spoil all. */
static void clip_many(int64_t units, float spoilt) {
    float *sums = new_f32(units);
    double total = 0;
    fill_uniform(sums, units, 0, 3, 36);
    if (spoilt != 0) sums[units - 1] = spoilt;
    for (int64_t u = 0; u < units; u++) total += (double)sums[u];
    const double norm = sqrt(total);
    clip_case(sums, units, 0.5, norm, isfinite(norm) ? fmin(1, 0.5 / (norm + 1e-6)) : 0);
    free(sums);
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
        float sum = (float)cases[i].sum;
        clip_case(&sum, 1, cases[i].max_norm, cases[i].norm, cases[i].factor);
    }
    static const int64_t units[] = {2, 31, 33, 1025, 40000};
    for (int i = 0; i < SEO_COUNT_OF(units); i++) {
        clip_many(units[i], 0);
        clip_many(units[i], INFINITY);
        clip_many(units[i], NAN);
    }
}
