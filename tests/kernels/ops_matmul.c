/* The matrix product in its three layouts, with everything that may become of a sum before it is
 * stored; more shapes are in its own program. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "tests/kernels/gelu_oracle.h"
#include "tests/kernels/ops_tests.h"
#include "tests/support/compare.h"
#include "tests/support/fill.h"
#include "tests/support/op_check.h"

typedef struct variant {
    const char *what;
    bool bias, accumulate;
    seo_matmul_epilogue epilogue;
    seo_gelu_kind gelu;
    bool wide; /* an f32 output of bf16 operands */
} variant;

static const variant g_variants[] = {
    {.what = "matmul"},
    {.what = "matmul, bias", .bias = true},
    {.what = "matmul, f32 out", .bias = true, .wide = true},
    {.what = "matmul +=, bias", .bias = true, .accumulate = true, .wide = true},
    {.what = "matmul, GELU tanh", .bias = true, .epilogue = SEO_EPILOGUE_GELU},
    {.what = "matmul, GELU erf", .epilogue = SEO_EPILOGUE_GELU, .gelu = SEO_GELU_ERF},
    {.what = "matmul, f32 GELU", .bias = true, .epilogue = SEO_EPILOGUE_GELU, .wide = true},
    {.what = "matmul, dGELU tanh", .epilogue = SEO_EPILOGUE_DGELU},
    {.what = "matmul, dGELU erf, bias",
     .bias = true,
     .epilogue = SEO_EPILOGUE_DGELU,
     .gelu = SEO_GELU_ERF},
};

typedef struct problem {
    seo_matmul_args a; /* on the host */
    const variant *v;
    seo_dtype storage;
    int64_t count; /* of out */
} problem;

/* out, and behind it pre when the operator writes it. With accumulate twice. */
static void run(op_run *on, const void *input, float *out) {
    const problem *p = input;
    seo_matmul_args a = p->a;
    seo_tensor (*blank)(op_run *, seo_tensor) = p->v->wide ? poisoned : poisoned_s;
    a.out = a.accumulate ? to_device(on, a.out) : blank(on, a.out);
    a.a = to_device_s(on, a.a);
    a.b = to_device_s(on, a.b);
    a.bias = to_device_s(on, a.bias);
    if (a.epilogue == SEO_EPILOGUE_GELU) {
        a.pre = blank(on, a.pre);
    } else {
        a.pre = p->v->wide ? to_device(on, a.pre) : to_device_s(on, a.pre);
    }
    must(seo_matmul(on->dev, &a));
    if (a.accumulate) must(seo_matmul(on->dev, &a));
    out = to_host(on, &a.out, out);
    if (a.epilogue == SEO_EPILOGUE_GELU) to_host(on, &a.pre, out);
}

/* GELU is taken of pre as it was stored, so it is expected of what was found there. */
static void settle(const void *input, const float *got, double *want, double *bound) {
    const problem *p = input;
    const seo_dtype stored_as = p->v->wide ? SEO_DTYPE_F32 : p->storage;
    for (int64_t i = 0; i < p->count; i++) {
        const double pre = (double)got[p->count + i];
        want[i] = gelu_want(pre, p->v->gelu);
        bound[i] = stored_bound(stored_as, want[i], gelu_bound(pre, p->v->gelu, false, p->storage));
    }
}

/* The sum of one element, with the sum of its terms' sizes. */
static void sum_of(const problem *p, int64_t row, int64_t column, double *sum, double *size) {
    const float *left = p->a.a.data, *right = p->a.b.data;
    const bool across_a = p->a.layout == SEO_MATMUL_TN, across_b = p->a.layout != SEO_MATMUL_NT;
    const int64_t m = p->a.out.dims[0], n = p->a.out.dims[1];
    const int64_t k_count = p->a.a.dims[across_a ? 0 : 1];
    for (int64_t k = 0; k < k_count; k++) {
        const double term = (double)left[across_a ? k * m + row : row * k_count + k] *
                            (double)right[across_b ? k * n + column : column * k_count + k];
        *sum += term;
        *size += fabs(term);
    }
    if (!p->v->bias) return;
    *sum += (double)((const float *)p->a.bias.data)[column];
    *size += fabs((double)((const float *)p->a.bias.data)[column]);
}

/* Beside the products, 32 more additions: the bias, and sums of k that was split. */
enum { MORE_TERMS = 32 };

static void expect(const problem *p, int64_t i, double *want, double *bound) {
    const int64_t k = seo_tensor_count(&p->a.a) / p->a.out.dims[0];
    const seo_dtype stored_as = p->v->wide ? SEO_DTYPE_F32 : p->storage;
    double sum = 0, size = 0;
    sum_of(p, i / p->a.out.dims[1], i % p->a.out.dims[1], &sum, &size);
    const double off = dot_bound(p->storage, k, MORE_TERMS, size);
    switch (p->v->epilogue) {
    case SEO_EPILOGUE_NONE:
        want[i] = sum;
        bound[i] = stored_bound(stored_as, sum, off);
        if (!p->v->accumulate) return;
        want[i] = (double)((const float *)p->a.out.data)[i] + 2 * sum;
        bound[i] = 2 * off + 2 * F32_ROUND * (fabs(want[i]) + fabs(sum));
        return;
    case SEO_EPILOGUE_GELU:
        want[p->count + i] = sum;
        bound[p->count + i] = stored_bound(stored_as, sum, off);
        return;
    case SEO_EPILOGUE_DGELU: break;
    }
    const double pre = (double)((const float *)p->a.pre.data)[i];
    const double slope = gelu_slope_want(pre, p->v->gelu);
    const double slope_off = gelu_bound(pre, p->v->gelu, true, p->storage);
    want[i] = sum * slope;
    bound[i] = off * (fabs(slope) + slope_off) + fabs(sum) * slope_off + F32_ROUND * fabs(want[i]);
    bound[i] = stored_bound(stored_as, want[i], bound[i]);
}

static void one_case(const int64_t size[3], seo_matmul_layout layout, const variant *v,
                     seo_dtype s) {
    const int64_t m = size[0], n = size[1], k = size[2], count = m * n;
    const bool across_a = layout == SEO_MATMUL_TN, across_b = layout != SEO_MATMUL_NT;
    float *out = new_f32(count), *pre = new_f32(count), *bias = new_f32(n);
    float *left = new_f32(m * k), *right = new_f32(k * n);
    double *want = new_f64(2 * count), *bound = new_f64(2 * count);
    fill_uniform(out, count, -1, 1, 61);
    fill_uniform(left, m * k, -1, 1, 62);
    fill_uniform(right, k * n, -1, 1, 63);
    fill_uniform(bias, n, -1, 1, 64);
    fill_uniform(pre, count, -4, 4, 65);
    to_storage(left, m * k, s);
    to_storage(right, k * n, s);
    to_storage(bias, n, s);
    to_storage(pre, count, s);
    const seo_tensor none = {0};
    const bool with_pre = v->epilogue != SEO_EPILOGUE_NONE;
    const problem p = {
        .a = {.out = seo_tensor_2d(out, SEO_DTYPE_F32, m, n),
              .a = seo_tensor_2d(left, SEO_DTYPE_F32, across_a ? k : m, across_a ? m : k),
              .b = seo_tensor_2d(right, SEO_DTYPE_F32, across_b ? k : n, across_b ? n : k),
              .bias = v->bias ? seo_tensor_1d(bias, SEO_DTYPE_F32, n) : none,
              .pre = with_pre ? seo_tensor_2d(pre, SEO_DTYPE_F32, m, n) : none,
              .layout = layout,
              .epilogue = v->epilogue,
              .gelu = v->gelu,
              .accumulate = v->accumulate},
        .v = v,
        .storage = s,
        .count = count};
    for (int64_t i = 0; i < count; i++) expect(&p, i, want, bound);
    const bool gelu = v->epilogue == SEO_EPILOGUE_GELU;
    check_everywhere(&(op_case){v->what, run, &p, gelu ? 2 * count : count, want, bound,
                                .storage = s, .work = (double)(count * k), .by_capability = true,
                                .settle = gelu ? settle : NULL});
    free(out);
    free(pre);
    free(bias);
    free(left);
    free(right);
    free(want);
    free(bound);
}

void test_matmul(void **state) {
    (void)state;
    /* Rows of 8 are whole pieces of 16 bytes; others are not. */
    static const int64_t sizes[][3] = {{1, 1, 1},    {2, 3, 5},     {9, 8, 16},    {33, 65, 17},
                                       {40, 72, 48}, {130, 97, 70}, {136, 264, 40}};
    EACH_STORAGE(s) {
        for (int i = 0; i < SEO_COUNT_OF(sizes) * SEO_COUNT_OF(g_variants) * 3; i++) {
            const int64_t *size = sizes[i / 3 / SEO_COUNT_OF(g_variants)];
            if (!fits((double)(size[0] * size[1] * size[2]))) continue;
            one_case(size, (seo_matmul_layout)(i % 3),
                     &g_variants[i / 3 % SEO_COUNT_OF(g_variants)], s);
        }
    }
}
