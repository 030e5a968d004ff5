/* Matrix products against the formula in double: every layout, sizes on and off the tiles, on every
 * target and in both storage types. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/check.h"
#include "tests/support/compare.h"
#include "tests/support/fill.h"
#include "tests/support/op_check.h"

typedef struct shape {
    int64_t m, n, k;
} shape;

/* On the CPU tiles are up to 12 x 32, tasks 120 rows, pieces of k 384 long, several threads work
 * from 2^21 multiplications on: each of these is met, missed by one and passed. */
static const shape SHAPES[] = {
    {1, 1, 1},      {1, 1, 7},      {1, 33, 13},    {2, 5, 3},      {3, 129, 65},   {4, 4, 4},
    {7, 13, 33},    {12, 32, 16},   {13, 33, 17},   {16, 450, 300}, {17, 65, 129},  {24, 96, 385},
    {33, 7, 769},   {48, 31, 384},  {49, 130, 5},   {65, 129, 385}, {120, 64, 400}, {121, 97, 390},
    {129, 100, 12}, {1, 4100, 520}, {37, 4100, 14}, {4100, 37, 14}, {2900, 40, 3},
};

typedef struct matmul_case {
    seo_matmul_args args; /* on the host */
    int repeat;           /* runs of the operator on the same output */
    seo_dtype storage;
} matmul_case;

/* out: f32 where it is added to, else an S tensor. */
static void run(op_run *on, const void *input, float *out) {
    const matmul_case *c = input;
    seo_matmul_args args = c->args;
    args.out = args.accumulate ? to_device(on, args.out) : poisoned_s(on, args.out);
    args.a = to_device_s(on, args.a);
    args.b = to_device_s(on, args.b);
    args.bias = to_device_s(on, args.bias);
    for (int i = 0; i < c->repeat; i++) must(seo_matmul(on->dev, &args));
    to_host(on, &args.out, out);
}

static float element(const seo_tensor *t, int64_t row, int64_t col, bool transposed) {
    const float *x = t->data;
    return transposed ? x[col * t->dims[1] + row] : x[row * t->dims[1] + col];
}

/* Sums of k that was split. */
enum { MORE_TERMS = 32 };

/* The formula, and the bound of its rounding: one product and one addition a term. Sums of whole
 * numbers are exact, so there nothing but storing the result may change it. */
static void expect(const matmul_case *c, bool whole, double *want, double *bound) {
    const seo_matmul_args *a = &c->args;
    int64_t m = a->out.dims[0], n = a->out.dims[1];
    int64_t k_count = seo_tensor_count(&a->a) / m;
    bool at = a->layout == SEO_MATMUL_TN, bt = a->layout == SEO_MATMUL_NT;
    for (int64_t i = 0; i < m * n; i++) {
        double sum = 0.0, size = 0.0;
        for (int64_t k = 0; k < k_count; k++) {
            double x = (double)element(&a->a, i / n, k, at) * element(&a->b, k, i % n, bt);
            sum += x;
            size += fabs(x);
        }
        double bias = seo_tensor_given(&a->bias) ? ((const float *)a->bias.data)[i % n] : 0.0;
        double start = a->accumulate ? ((const float *)a->out.data)[i] : 0.0;
        int times = a->accumulate ? c->repeat : 1;
        double each = g_targets.is_cpu ? 3 : 3 + MORE_TERMS;
        want[i] = start + times * (sum + bias);
        bound[i] = dot_bound(c->storage, k_count, each, fabs(start) + times * (size + fabs(bias)));
        if (whole) bound[i] = 0.0;
        if (whole && !a->accumulate) want[i] = (double)stored(c->storage, (float)want[i]);
        if (!whole && !a->accumulate) bound[i] = stored_bound(c->storage, want[i], bound[i]);
    }
}

static void fill(float *x, int64_t count, bool whole, uint32_t stream) {
    if (whole)
        fill_whole(x, count, -4, 4, stream);
    else
        fill_uniform(x, count, -1.0f, 1.0f, stream);
}

static void check(shape s, const matmul_case *c, bool whole) {
    static const char *const LAYOUTS[] = {"NT", "NN", "TN"};
    char what[96];
    snprintf(what, sizeof(what), "%s %lldx%lldx%lld%s%s%s", LAYOUTS[c->args.layout], (long long)s.m,
             (long long)s.n, (long long)s.k, c->args.accumulate ? " +=" : "",
             seo_tensor_given(&c->args.bias) ? " bias" : "", whole ? " whole" : "");
    double *want = new_f64(s.m * s.n), *bound = new_f64(s.m * s.n);
    expect(c, whole, want, bound);
    check_everywhere(&(op_case){what, run, c, s.m * s.n, want, bound, .storage = c->storage,
                                .work = (double)(s.m * s.n * s.k), .by_capability = true});
    free(want);
    free(bound);
}

typedef struct variant {
    seo_matmul_layout layout;
    bool accumulate;
    int64_t bias_count; /* 0: none */
} variant;

static void check_shape_as(shape s, variant v, bool whole, seo_dtype storage) {
    bool at = v.layout == SEO_MATMUL_TN, bt = v.layout == SEO_MATMUL_NT;
    float *a = new_f32(s.m * s.k), *b = new_f32(s.k * s.n);
    float *out = new_f32(s.m * s.n), *bias = new_f32(s.n);
    fill(a, s.m * s.k, whole, 1);
    fill(b, s.k * s.n, whole, 2);
    fill(out, s.m * s.n, whole, 3);
    fill(bias, s.n, whole, 4);
    to_storage(a, s.m * s.k, storage);
    to_storage(b, s.k * s.n, storage);
    to_storage(bias, s.n, storage);
    matmul_case c = {{.out = seo_tensor_2d(out, SEO_DTYPE_F32, s.m, s.n),
                      .a = seo_tensor_2d(a, SEO_DTYPE_F32, at ? s.k : s.m, at ? s.m : s.k),
                      .b = seo_tensor_2d(b, SEO_DTYPE_F32, bt ? s.n : s.k, bt ? s.k : s.n),
                      .layout = v.layout,
                      .accumulate = v.accumulate},
                     2,
                     storage};
    if (v.bias_count > 0) c.args.bias = seo_tensor_1d(bias, SEO_DTYPE_F32, s.n);
    check(s, &c, whole);
    free(a);
    free(b);
    free(out);
    free(bias);
}

static void check_shape(shape s, variant v, bool whole) {
    if (!fits((double)(s.m * s.n * s.k))) return;
    EACH_STORAGE(storage) check_shape_as(s, v, whole, storage);
}

static void check_shapes(seo_matmul_layout layout) {
    for (int64_t i = 0; i < SEO_COUNT_OF(SHAPES); i++) {
        bool odd = i % 2 != 0;
        check_shape(SHAPES[i], (variant){layout, odd, odd ? 0 : SHAPES[i].n}, true);
        if (i % 3 == layout) check_shape(SHAPES[i], (variant){layout, !odd, SHAPES[i].n}, false);
    }
}

static void test_nt(void **state) {
    (void)state;
    check_shapes(SEO_MATMUL_NT);
}
static void test_nn(void **state) {
    (void)state;
    check_shapes(SEO_MATMUL_NN);
}
static void test_tn(void **state) {
    (void)state;
    check_shapes(SEO_MATMUL_TN);
}

/* Each way of starting a sum, with and without what may be left out, through each inner path. */
static void test_variants(void **state) {
    (void)state;
    static const shape PATHS[] = {{5, 37, 50}, {40, 70, 400}, {130, 64, 33}};
    for (int64_t i = 0; i < SEO_COUNT_OF(PATHS) * 12; i++) {
        variant v = {(seo_matmul_layout)(i % 3), i / 3 % 2 != 0, i / 6 % 2 ? PATHS[i / 12].n : 0};
        check_shape(PATHS[i / 12], v, true);
    }
}

/* More of k, of columns and of rows than the shared scratch holds at once. */
static void test_several_blocks(void **state) {
    (void)state;
    check_shape((shape){20, 2700, 3073}, (variant){SEO_MATMUL_NN, true, 2700}, true);
    check_shape((shape){2700, 20, 3073}, (variant){SEO_MATMUL_NN, false, 20}, true);
}

/* A (2, 3, C) tensor counts as (6, C). */
static void test_leading_dimensions_fold(void **state) {
    (void)state;
    EACH_STORAGE(s) {
        float a[2 * 3 * 5], b[4 * 5];
        double want[24], bound[24] = {0};
        fill_whole(a, 30, -4, 4, 1);
        fill_whole(b, 20, -4, 4, 2);
        matmul_case c = {{.out = seo_tensor_2d(NULL, SEO_DTYPE_F32, 6, 4),
                          .a = seo_tensor_2d(a, SEO_DTYPE_F32, 6, 5),
                          .b = seo_tensor_2d(b, SEO_DTYPE_F32, 4, 5),
                          .layout = SEO_MATMUL_NT},
                         1,
                         s};
        expect(&c, true, want, bound);
        c.args.out = seo_tensor_3d(NULL, SEO_DTYPE_F32, 2, 3, 4);
        c.args.a = seo_tensor_3d(a, SEO_DTYPE_F32, 2, 3, 5);
        check_everywhere(&(op_case){"folded dimensions", run, &c, 24, want, bound, .storage = s});
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nt),
        cmocka_unit_test(test_nn),
        cmocka_unit_test(test_tn),
        cmocka_unit_test(test_variants),
        cmocka_unit_test(test_several_blocks),
        cmocka_unit_test(test_leading_dimensions_fold),
    };
    return run_everywhere(tests, SEO_COUNT_OF(tests));
}
