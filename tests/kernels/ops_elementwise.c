/* The residual addition, GELU, dropout and normal numbers. */
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

static const int64_t g_counts[] = {1, 3, 17, 250, 4099, 20011};

static void run_add(seo_device *dev, const void *input, float *out) {
    seo_add_args a = *(const seo_add_args *)input;
    a.out = to_device(dev, a.out);
    a.a = to_device(dev, a.a);
    a.b = to_device(dev, a.b);
    must(seo_add(dev, &a));
    to_host(dev, &a.out, out);
    must(seo_add(dev, &(seo_add_args){.out = a.a, .a = a.a, .b = a.b})); /* in place */
    to_host(dev, &a.a, out + seo_tensor_count(&a.out));
}

void test_add(void **state) {
    (void)state;
    for (int i = 0; i < SEO_COUNT_OF(g_counts); i++) {
        const int64_t n = g_counts[i];
        float *x = new_f32(3 * n);
        double *want = new_f64(2 * n), *bound = new_f64(2 * n);
        fill_uniform(x, 2 * n, -1, 1, 21);
        for (int64_t j = 0; j < 2 * n; j++) want[j] = (double)(x[j % n] + x[n + j % n]);
        const seo_add_args a = {.out = seo_tensor_1d(x + 2 * n, SEO_DTYPE_F32, n),
                                .a = seo_tensor_1d(x, SEO_DTYPE_F32, n),
                                .b = seo_tensor_1d(x + n, SEO_DTYPE_F32, n)};
        check_everywhere(&(op_case){"add", run_add, &a, 2 * n, want, bound});
        free(x);
        free(want);
        free(bound);
    }
}

static const double g_pi = 3.14159265358979323846;

/* The argument of the tanh form's sigmoid: (1 + tanh u) / 2 = 1 / (1 + e^-2u), which does not
 * cancel in double where u is far below 0. */
static double twice_u(double x) {
    return 2 * sqrt(2 / g_pi) * (x + 0.044715 * x * x * x);
}

static double gelu(double x, seo_gelu_kind kind) {
    if (kind == SEO_GELU_ERF) return 0.5 * x * erfc(-x / sqrt(2));
    return x / (1 + exp(-twice_u(x)));
}

static double gelu_slope(double x, seo_gelu_kind kind) {
    if (kind == SEO_GELU_ERF) {
        return 0.5 * erfc(-x / sqrt(2)) + x * exp(-0.5 * x * x) / sqrt(2 * g_pi);
    }
    const double s = 1 / (1 + exp(-twice_u(x))), rest = 1 / (1 + exp(twice_u(x)));
    return s + x * s * rest * 2 * sqrt(2 / g_pi) * (1 + 3 * 0.044715 * x * x);
}

/* Roundings on the way: the exponent z is off by a few of its own size (z = 2u for the tanh form,
 * x^2/2 for the other), the exponential and what is built on it by a dozen more. Phi or the
 * sigmoid, s, feels the error only as far as it is away from 1. Exponentials below
 * e^-86, where f32 is about to end, may be anything below that. */
static double gelu_bound(double x, seo_gelu_kind kind, bool slope) {
    const bool erf_form = kind == SEO_GELU_ERF;
    const double z = erf_form ? 0.5 * x * x : twice_u(fabs(x));
    const double tail = erf_form ? 0.5 * erfc(fabs(x) / sqrt(2)) : 1 / (1 + exp(z));
    const double off = F32_ROUND * ((4 * z + 16) * tail + 4 * (x > 0 ? 1 : tail));
    if (!slope) return fabs(x) * (off + exp(-86));
    const double second = fabs(gelu_slope(x, kind) - (x > 0 ? 1 - tail : tail));
    const double growth =
        fabs(x) * 2 * sqrt(2 / g_pi) * (1 + 3 * 0.044715 * x * x); /* x times (2u)' */
    return off + F32_ROUND * (4 * z + 24) * second + (1 + growth) * exp(-86);
}

static void run_gelu_fwd(seo_device *dev, const void *input, float *out) {
    seo_gelu_fwd_args a = *(const seo_gelu_fwd_args *)input;
    a.out = to_device(dev, a.out);
    a.inp = to_device(dev, a.inp);
    must(seo_gelu_fwd(dev, &a));
    to_host(dev, &a.out, out);
}

/* A sweep over (-range, range), with 0 and small numbers among them. */
static void gelu_inputs(float *x, int64_t n, int which) {
    static const float ranges[] = {0.01f, 1, 6, 14};
    fill_uniform(x, n, -ranges[which % 4], ranges[which % 4], 22);
    if (n > 3) x[2] = 0.0f;
}

void test_gelu_fwd(void **state) {
    (void)state;
    for (int i = 0; i < 4 * SEO_COUNT_OF(g_counts); i++) {
        const int64_t n = g_counts[i / 4];
        float *x = new_f32(2 * n);
        double *want = new_f64(n), *bound = new_f64(n);
        gelu_inputs(x, n, i);
        for (int kind = SEO_GELU_TANH; kind <= SEO_GELU_ERF; kind++) {
            const seo_gelu_fwd_args a = {.out = seo_tensor_1d(x + n, SEO_DTYPE_F32, n),
                                         .inp = seo_tensor_1d(x, SEO_DTYPE_F32, n),
                                         .kind = (seo_gelu_kind)kind};
            for (int64_t j = 0; j < n; j++) {
                want[j] = gelu((double)x[j], a.kind);
                bound[j] = gelu_bound((double)x[j], a.kind, false);
            }
            check_everywhere(
                &(op_case){kind ? "gelu erf" : "gelu tanh", run_gelu_fwd, &a, n, want, bound});
        }
        free(x);
        free(want);
        free(bound);
    }
}

static void run_gelu_bwd(seo_device *dev, const void *input, float *out) {
    seo_gelu_bwd_args a = *(const seo_gelu_bwd_args *)input;
    a.dinp = to_device(dev, a.dinp);
    a.dout = to_device(dev, a.dout);
    a.inp = to_device(dev, a.inp);
    must(seo_gelu_bwd(dev, &a));
    to_host(dev, &a.dinp, out);
    a.dinp = a.dout; /* in place */
    must(seo_gelu_bwd(dev, &a));
    to_host(dev, &a.dinp, out + seo_tensor_count(&a.inp));
}

static double gelu_at(const double *x, const void *kind) {
    return gelu(x[0], *(const seo_gelu_kind *)kind);
}

void test_gelu_bwd(void **state) {
    (void)state;
    for (int i = 0; i < 4 * SEO_COUNT_OF(g_counts); i++) {
        const int64_t n = g_counts[i / 4];
        float *x = new_f32(3 * n), *dout = x + n;
        double *want = new_f64(2 * n), *bound = new_f64(2 * n);
        gelu_inputs(x, n, i);
        fill_uniform(dout, n, -2, 2, 23);
        for (int kind = SEO_GELU_TANH; kind <= SEO_GELU_ERF; kind++) {
            const seo_gelu_bwd_args a = {.dinp = seo_tensor_1d(x + 2 * n, SEO_DTYPE_F32, n),
                                         .dout = seo_tensor_1d(dout, SEO_DTYPE_F32, n),
                                         .inp = seo_tensor_1d(x, SEO_DTYPE_F32, n),
                                         .kind = (seo_gelu_kind)kind};
            for (int64_t j = 0; j < n; j++) {
                double at = (double)x[j], slope = gelu_slope(at, a.kind);
                if (j < 64) check_gradient("gelu", gelu_at, &a.kind, &at, &slope, 1);
                want[j] = want[n + j] = (double)dout[j] * slope;
                bound[j] = bound[n + j] =
                    fabs((double)dout[j]) * gelu_bound((double)x[j], a.kind, true) +
                    F32_ROUND * fabs(want[j]);
            }
            check_everywhere(&(op_case){kind ? "gelu_bwd erf" : "gelu_bwd tanh", run_gelu_bwd, &a,
                                        2 * n, want, bound});
        }
        free(x);
        free(want);
        free(bound);
    }
}

static void run_dropout(seo_device *dev, const void *input, float *out) {
    seo_dropout_args a = *(const seo_dropout_args *)input;
    a.out = to_device(dev, a.out);
    a.inp = to_device(dev, a.inp);
    must(seo_dropout(dev, &a));
    to_host(dev, &a.out, out);
}

static void dropout_case(int64_t n, float rate, int64_t first) {
    float *x = new_f32(2 * n);
    double *want = new_f64(n), *bound = new_f64(n);
    fill_uniform(x, n, 0.5f, 2, 24);
    const seo_dropout_args a = {.out = seo_tensor_1d(x + n, SEO_DTYPE_F32, n),
                                .inp = seo_tensor_1d(x, SEO_DTYPE_F32, n),
                                .key = {.seed = 77 + ((uint64_t)5 << 40),
                                        .purpose = SEO_PURPOSE_DROPOUT | 3 << 8,
                                        .step = 9},
                                .first_index = first,
                                .rate = rate};
    for (int64_t i = 0; i < n; i++) {
        const float u = seo_uniform_from(seo_rng_u32(a.key, (uint64_t)(first + i)));
        want[i] = u >= rate ? (double)x[i] / (1 - (double)rate) : 0;
        bound[i] = rate > 0 ? 2 * F32_ROUND * fabs(want[i]) : 0;
    }
    check_everywhere(&(op_case){"dropout", run_dropout, &a, n, want, bound});
    free(x);
    free(want);
    free(bound);
}

/* How many of a million stay, within five standard deviations; in two pieces as two ranks would
 * have them; and the same elements for other values, as in the backward. */
static void dropout_statistics(float rate) {
    enum { N = 1 << 20, CUT = 300007 };
    float *x = new_f32(N), *out = new_f32(N), *pieces = new_f32(N);
    seo_device *dev = open_device(SEO_CPU_AUTO, 2);
    for (int64_t i = 0; i < N; i++) x[i] = 1.0f;
    seo_dropout_args a = {.out = seo_tensor_1d(out, SEO_DTYPE_F32, N),
                          .inp = seo_tensor_1d(x, SEO_DTYPE_F32, N),
                          .key = {.seed = 1, .purpose = SEO_PURPOSE_DROPOUT, .step = 2},
                          .first_index = 123456789,
                          .rate = rate};
    must(seo_dropout(dev, &a));
    int64_t kept = 0;
    for (int64_t i = 0; i < N; i++) kept += out[i] > 0.0f;
    const double p = 1 - (double)rate;
    assert_true(fabs((double)kept - N * p) <= 5 * sqrt(N * p * (1 - p)));
    seo_dropout_args piece = a;
    piece.out = seo_tensor_1d(pieces, SEO_DTYPE_F32, CUT);
    piece.inp = seo_tensor_1d(x, SEO_DTYPE_F32, CUT);
    must(seo_dropout(dev, &piece));
    piece.out = seo_tensor_1d(pieces + CUT, SEO_DTYPE_F32, N - CUT);
    piece.inp = seo_tensor_1d(x + CUT, SEO_DTYPE_F32, N - CUT);
    piece.first_index += CUT;
    must(seo_dropout(dev, &piece));
    assert_true(same_bits("dropout in pieces", out, pieces, N));
    fill_uniform(x, N, -2, -1, 25);
    a.out.data = x;
    must(seo_dropout(dev, &a));
    for (int64_t i = 0; i < N; i++) assert_true((x[i] < 0.0f) == (out[i] > 0.0f));
    seo_device_close(dev);
    free(x);
    free(out);
    free(pieces);
}

/* A rate that is some element's own number: that element stays, because u >= rate keeps. */
static void dropout_edge(void) {
    enum { N = 200 };
    const seo_rng_key key = {.seed = 3, .purpose = SEO_PURPOSE_DROPOUT};
    float x[N], out[N];
    for (int i = 0; i < N; i++) x[i] = 1.0f;
    seo_device *dev = open_device(SEO_CPU_AUTO, 1);
    for (int i = 0; i < N; i++) {
        const float rate = seo_uniform_from(seo_rng_u32(key, (uint64_t)i));
        const float above = nextafterf(rate, 1.0f);
        seo_dropout_args a = {.out = seo_tensor_1d(out, SEO_DTYPE_F32, N),
                              .inp = seo_tensor_1d(x, SEO_DTYPE_F32, N),
                              .key = key,
                              .rate = rate};
        must(seo_dropout(dev, &a));
        assert_true(out[i] > 0.0f);
        a.rate = above;
        if (above < 1.0f) must(seo_dropout(dev, &a));
        assert_true(above >= 1.0f || out[i] == 0.0f);
    }
    seo_device_close(dev);
}

void test_dropout(void **state) {
    (void)state;
    dropout_edge();
    for (int i = 0; i < SEO_COUNT_OF(g_counts); i++) {
        dropout_case(g_counts[i], 0.1f, 0);
        dropout_case(g_counts[i], 0.5f, 1 + i);
        dropout_case(g_counts[i], 0.0f, 5);
        dropout_case(g_counts[i], 0.999f, (int64_t)1 << 40);
        dropout_case(g_counts[i], 0.25f, ((int64_t)4 << 32) - 10); /* a carry into the high word */
    }
    dropout_statistics(0.1f);
    dropout_statistics(0.5f);
}

static void run_normal(seo_device *dev, const void *input, float *out) {
    seo_normal_args a = *(const seo_normal_args *)input;
    a.out = to_device(dev, a.out);
    must(seo_normal(dev, &a));
    to_host(dev, &a.out, out);
}

/* Against the formula in double. The logarithm and the sine each err by a few roundings of the
 * largest term; near u1 = 1 the logarithm is small and its rounding is that of its parts. */
static void normal_case(int64_t n, int64_t first, float std) {
    float *x = new_f32(n);
    double *want = new_f64(n), *bound = new_f64(n);
    const seo_normal_args a = {.out = seo_tensor_1d(x, SEO_DTYPE_F32, n),
                               .key = {.seed = 42, .purpose = SEO_PURPOSE_INIT | 7 << 8},
                               .first_index = first,
                               .std = std};
    for (int64_t i = 0; i < n; i++) {
        const uint64_t even = (uint64_t)(first + i) & ~(uint64_t)1;
        const double u1 = (double)seo_uniform_from(seo_rng_u32(a.key, even));
        const double turn =
            6.283185307179586 * (double)seo_uniform_from(seo_rng_u32(a.key, even + 1));
        const double radius = (double)std * sqrt(-2 * log(u1));
        want[i] = radius * (i % 2 ? sin(turn) : cos(turn));
        bound[i] = 16 * F32_ROUND * radius;
    }
    check_everywhere(&(op_case){"normal", run_normal, &a, n, want, bound});
    free(x);
    free(want);
    free(bound);
}

/* Mean, variance and fourth moment of a million numbers, within five standard errors; and the same
 * bits on every level. */
static void normal_statistics(void) {
    enum { N = 1 << 20 };
    float *first = new_f32(N), *x = new_f32(N);
    seo_normal_args a = {.key = {.seed = 5, .purpose = SEO_PURPOSE_INIT}, .std = 1};
    for (int level = SEO_CPU_PLAIN; level <= SEO_CPU_AVX512; level++) {
        seo_device *dev = NULL;
        const seo_cpu_options options = {.threads = 2, .level = (seo_cpu_level)level};
        if (seo_device_open_cpu(&options, &dev) != SEO_OK) continue;
        a.out = seo_tensor_1d(level == SEO_CPU_PLAIN ? first : x, SEO_DTYPE_F32, N);
        must(seo_normal(dev, &a));
        if (level != SEO_CPU_PLAIN) assert_true(same_bits("normal on two levels", first, x, N));
        seo_device_close(dev);
    }
    double sum = 0, square = 0, fourth = 0;
    for (int64_t i = 0; i < N; i++) {
        const double v = (double)first[i];
        sum += v;
        square += v * v;
        fourth += v * v * v * v;
    }
    assert_true(fabs(sum / N) <= 5 * sqrt(1.0 / N));
    assert_true(fabs(square / N - 1) <= 5 * sqrt(2.0 / N));
    assert_true(fabs(fourth / N - 3) <= 5 * sqrt(96.0 / N));
    free(first);
    free(x);
}

void test_normal(void **state) {
    (void)state;
    for (int i = 0; i < SEO_COUNT_OF(g_counts); i++) normal_case(g_counts[i], 0, 0.02f);
    normal_case(1000, 4096, 1.0f);
    normal_case(1000, (int64_t)1 << 34, 1.0f);
    normal_statistics();
}
