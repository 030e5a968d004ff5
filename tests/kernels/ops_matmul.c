/* The matrix product in its three layouts; more shapes are in its own program. */
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

static void run(seo_device *dev, const void *input, float *out) {
    seo_matmul_args a = *(const seo_matmul_args *)input;
    a.out = to_device(dev, a.out);
    a.a = to_device(dev, a.a);
    a.b = to_device(dev, a.b);
    a.bias = to_device(dev, a.bias);
    must(seo_matmul(dev, &a));
    to_host(dev, &a.out, out);
}

static void one_case(const int64_t size[3], seo_matmul_layout layout, bool more) {
    const int64_t m = size[0], n = size[1], k = size[2];
    float *out = new_f32(m * n), *left = new_f32(m * k), *right = new_f32(k * n);
    float *bias = new_f32(n);
    double *want = new_f64(m * n), *bound = new_f64(m * n);
    fill_uniform(out, m * n, -1, 1, 61);
    fill_uniform(left, m * k, -1, 1, 62);
    fill_uniform(right, k * n, -1, 1, 63);
    fill_uniform(bias, n, -1, 1, 64);
    const bool a_across = layout == SEO_MATMUL_TN, b_across = layout != SEO_MATMUL_NT;
    for (int64_t i = 0; i < m * n; i++) {
        const int64_t row = i / n, column = i % n;
        double sum = more ? (double)out[i] + (double)bias[column] : 0;
        double absolute = more ? fabs((double)out[i]) + fabs((double)bias[column]) : 0;
        for (int64_t j = 0; j < k; j++) {
            const double term = (double)left[a_across ? j * m + row : row * k + j] *
                                (double)right[b_across ? j * n + column : column * k + j];
            sum += term;
            absolute += fabs(term);
        }
        want[i] = sum;
        bound[i] = sum_bound(k, 2, absolute);
    }
    const seo_tensor none = {0};
    const seo_matmul_args a = {
        .out = seo_tensor_2d(out, SEO_DTYPE_F32, m, n),
        .a = seo_tensor_2d(left, SEO_DTYPE_F32, a_across ? k : m, a_across ? m : k),
        .b = seo_tensor_2d(right, SEO_DTYPE_F32, b_across ? k : n, b_across ? n : k),
        .bias = more ? seo_tensor_1d(bias, SEO_DTYPE_F32, n) : none,
        .layout = layout,
        .accumulate = more};
    check_everywhere(&(op_case){"matmul", run, &a, m * n, want, bound});
    free(out);
    free(left);
    free(right);
    free(bias);
    free(want);
    free(bound);
}

void test_matmul(void **state) {
    (void)state;
    static const int64_t sizes[][3] = {{1, 1, 1}, {2, 3, 5}, {33, 65, 17}, {130, 97, 70}};
    for (int i = 0; i < SEO_COUNT_OF(sizes); i++) {
        for (int layout = SEO_MATMUL_NT; layout <= SEO_MATMUL_TN; layout++) {
            one_case(sizes[i], (seo_matmul_layout)layout, false);
            one_case(sizes[i], (seo_matmul_layout)layout, true);
        }
    }
}
