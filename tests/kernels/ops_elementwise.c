/* The residual addition, GELU, tanh, dropout and normal numbers. */
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

static const int64_t g_counts[] = {1, 3, 17, 250, 4099, 20011};

static void run_add(op_run *on, const void *input, float *out) {
    seo_add_args a = *(const seo_add_args *)input;
    a.out = poisoned_s(on, a.out);
    a.a = to_device_s(on, a.a);
    a.b = to_device_s(on, a.b);
    must(seo_add(on->dev, &a));
    out = to_host(on, &a.out, out);
    /* in place, on the left and on the right */
    must(seo_add(on->dev, &(seo_add_args){.out = a.a, .a = a.a, .b = a.b}));
    out = to_host(on, &a.a, out);
    must(seo_add(on->dev, &(seo_add_args){.out = a.b, .a = a.out, .b = a.b}));
    to_host(on, &a.b, out);
}

static void add_case(int64_t n, seo_dtype s) {
    float *x = new_f32(2 * n);
    double *want = new_f64(3 * n), *bound = new_f64(3 * n);
    fill_uniform(x, 2 * n, -1, 1, 21);
    to_storage(x, 2 * n, s);
    for (int64_t i = 0; i < n; i++) {
        /* The f32 sum, rounded once more under bf16. */
        const float sum = stored(s, x[i] + x[n + i]);
        want[i] = want[n + i] = (double)sum;
        want[2 * n + i] = (double)stored(s, sum + x[n + i]);
    }
    const seo_add_args a = {.out = seo_tensor_1d(NULL, SEO_DTYPE_F32, n),
                            .a = seo_tensor_1d(x, SEO_DTYPE_F32, n),
                            .b = seo_tensor_1d(x + n, SEO_DTYPE_F32, n)};
    check_everywhere(&(op_case){"add", run_add, &a, 3 * n, want, bound, .storage = s});
    free(x);
    free(want);
    free(bound);
}

void test_add(void **state) {
    (void)state;
    EACH_STORAGE(s) {
        for (int i = 0; i < SEO_COUNT_OF(g_counts); i++) add_case(g_counts[i], s);
    }
}

static void run_gelu_fwd(op_run *on, const void *input, float *out) {
    seo_gelu_fwd_args a = *(const seo_gelu_fwd_args *)input;
    a.out = poisoned_s(on, a.out);
    a.inp = to_device_s(on, a.inp);
    must(seo_gelu_fwd(on->dev, &a));
    to_host(on, &a.out, out);
}

/* A sweep over (-range, range), with 0 and small numbers among them. */
static void gelu_inputs(float *x, int64_t n, int which, seo_dtype storage) {
    static const float ranges[] = {0.01f, 1, 6, 14};
    fill_uniform(x, n, -ranges[which % 4], ranges[which % 4], 22);
    if (n > 3) x[2] = 0.0f;
    to_storage(x, n, storage);
}

static void gelu_fwd_case(int which, seo_dtype s) {
    const int64_t n = g_counts[which / 4];
    float *x = new_f32(n);
    double *want = new_f64(n), *bound = new_f64(n);
    gelu_inputs(x, n, which, s);
    for (int kind = SEO_GELU_TANH; kind <= SEO_GELU_ERF; kind++) {
        const seo_gelu_fwd_args a = {.out = seo_tensor_1d(NULL, SEO_DTYPE_F32, n),
                                     .inp = seo_tensor_1d(x, SEO_DTYPE_F32, n),
                                     .kind = (seo_gelu_kind)kind};
        for (int64_t i = 0; i < n; i++) {
            const double at = (double)x[i];
            want[i] = gelu_want(at, a.kind);
            bound[i] = stored_bound(s, want[i], gelu_bound(at, a.kind, false, s));
        }
        check_everywhere(&(op_case){kind ? "gelu erf" : "gelu tanh", run_gelu_fwd, &a, n, want,
                                    bound, .storage = s});
    }
    free(x);
    free(want);
    free(bound);
}

void test_gelu_fwd(void **state) {
    (void)state;
    EACH_STORAGE(s) {
        for (int i = 0; i < 4 * SEO_COUNT_OF(g_counts); i++) gelu_fwd_case(i, s);
    }
}

static void run_gelu_bwd(op_run *on, const void *input, float *out) {
    seo_gelu_bwd_args a = *(const seo_gelu_bwd_args *)input;
    a.dinp = poisoned_s(on, a.dinp);
    a.dout = to_device_s(on, a.dout);
    a.inp = to_device_s(on, a.inp);
    must(seo_gelu_bwd(on->dev, &a));
    out = to_host(on, &a.dinp, out);
    a.dinp = a.dout; /* in place */
    must(seo_gelu_bwd(on->dev, &a));
    to_host(on, &a.dinp, out);
}

static double gelu_at(const double *x, const void *kind) {
    return gelu_want(x[0], *(const seo_gelu_kind *)kind);
}

static void gelu_bwd_case(int which, seo_dtype s) {
    const int64_t n = g_counts[which / 4];
    float *x = new_f32(2 * n), *dout = x + n;
    double *want = new_f64(2 * n), *bound = new_f64(2 * n);
    gelu_inputs(x, n, which, s);
    fill_uniform(dout, n, -2, 2, 23);
    to_storage(dout, n, s);
    for (int kind = SEO_GELU_TANH; kind <= SEO_GELU_ERF; kind++) {
        const seo_gelu_bwd_args a = {.dinp = seo_tensor_1d(NULL, SEO_DTYPE_F32, n),
                                     .dout = seo_tensor_1d(dout, SEO_DTYPE_F32, n),
                                     .inp = seo_tensor_1d(x, SEO_DTYPE_F32, n),
                                     .kind = (seo_gelu_kind)kind};
        for (int64_t i = 0; i < n; i++) {
            double at = (double)x[i], slope = gelu_slope_want(at, a.kind);
            const double g = (double)dout[i];
            if (i < 64) check_gradient("gelu", gelu_at, &a.kind, &at, &slope, 1);
            want[i] = want[n + i] = g * slope;
            const double off =
                fabs(g) * gelu_bound(at, a.kind, true, s) + F32_ROUND * fabs(want[i]);
            bound[i] = bound[n + i] = stored_bound(s, want[i], off);
        }
        check_everywhere(&(op_case){kind ? "gelu_bwd erf" : "gelu_bwd tanh", run_gelu_bwd, &a,
                                    2 * n, want, bound, .storage = s});
    }
    free(x);
    free(want);
    free(bound);
}

void test_gelu_bwd(void **state) {
    (void)state;
    EACH_STORAGE(s) {
        for (int i = 0; i < 4 * SEO_COUNT_OF(g_counts); i++) gelu_bwd_case(i, s);
    }
}

static void run_tanh_fwd(op_run *on, const void *input, float *out) {
    seo_tanh_fwd_args a = *(const seo_tanh_fwd_args *)input;
    a.out = poisoned_s(on, a.out);
    a.inp = to_device_s(on, a.inp);
    must(seo_tanh_fwd(on->dev, &a));
    out = to_host(on, &a.out, out);
    a.out = a.inp; /* in place */
    must(seo_tanh_fwd(on->dev, &a));
    to_host(on, &a.out, out);
}

/* The CPU's tanh and CUDA's are right to 2 units of the last place, each two roundings. */
static void tanh_fwd_case(int which, seo_dtype s) {
    const int64_t n = g_counts[which / 4];
    float *x = new_f32(n);
    double *want = new_f64(2 * n), *bound = new_f64(2 * n);
    gelu_inputs(x, n, which, s);
    for (int64_t i = 0; i < n; i++) {
        want[i] = want[n + i] = tanh((double)x[i]);
        bound[i] = bound[n + i] = stored_bound(s, want[i], 4 * F32_ROUND * fabs(want[i]));
    }
    const seo_tanh_fwd_args a = {.out = seo_tensor_1d(NULL, SEO_DTYPE_F32, n),
                                 .inp = seo_tensor_1d(x, SEO_DTYPE_F32, n)};
    check_everywhere(&(op_case){"tanh_fwd", run_tanh_fwd, &a, 2 * n, want, bound, .storage = s});
    free(x);
    free(want);
    free(bound);
}

void test_tanh_fwd(void **state) {
    (void)state;
    EACH_STORAGE(s) {
        for (int i = 0; i < 4 * SEO_COUNT_OF(g_counts); i++) tanh_fwd_case(i, s);
    }
}

static void run_tanh_bwd(op_run *on, const void *input, float *out) {
    seo_tanh_bwd_args a = *(const seo_tanh_bwd_args *)input;
    a.dinp = poisoned_s(on, a.dinp);
    a.dout = to_device_s(on, a.dout);
    a.out = to_device_s(on, a.out);
    must(seo_tanh_bwd(on->dev, &a));
    out = to_host(on, &a.dinp, out);
    a.dinp = a.dout; /* in place */
    must(seo_tanh_bwd(on->dev, &a));
    to_host(on, &a.dinp, out);
}

static double tanh_at(const double *x, const void *context) {
    (void)context;
    return tanh(x[0]);
}

/* From the output as it is stored: the slope 1 - out^2 of that number. */
static void tanh_bwd_case(int which, seo_dtype s) {
    const int64_t n = g_counts[which / 4];
    float *x = new_f32(3 * n), *dout = x + n, *value = x + 2 * n;
    double *want = new_f64(2 * n), *bound = new_f64(2 * n);
    gelu_inputs(x, n, which, SEO_DTYPE_F32);
    fill_uniform(dout, n, -2, 2, 23);
    to_storage(dout, n, s);
    for (int64_t i = 0; i < n; i++) {
        double at = (double)x[i], exact = 1 - tanh(at) * tanh(at);
        if (i < 64) check_gradient("tanh", tanh_at, NULL, &at, &exact, 1);
        value[i] = stored(s, (float)tanh(at));
        const double slope = 1 - (double)value[i] * (double)value[i];
        want[i] = want[n + i] = (double)dout[i] * slope;
        /* The square, which is at most 1, and the difference are rounded, then the product. */
        const double off = fabs((double)dout[i]) * 2 * F32_ROUND + F32_ROUND * fabs(want[i]);
        bound[i] = bound[n + i] = stored_bound(s, want[i], off);
    }
    const seo_tanh_bwd_args a = {.dinp = seo_tensor_1d(NULL, SEO_DTYPE_F32, n),
                                 .dout = seo_tensor_1d(dout, SEO_DTYPE_F32, n),
                                 .out = seo_tensor_1d(value, SEO_DTYPE_F32, n)};
    check_everywhere(&(op_case){"tanh_bwd", run_tanh_bwd, &a, 2 * n, want, bound, .storage = s});
    free(x);
    free(want);
    free(bound);
}

void test_tanh_bwd(void **state) {
    (void)state;
    EACH_STORAGE(s) {
        for (int i = 0; i < 4 * SEO_COUNT_OF(g_counts); i++) tanh_bwd_case(i, s);
    }
}

static void run_dropout(op_run *on, const void *input, float *out) {
    seo_dropout_args a = *(const seo_dropout_args *)input;
    a.out = poisoned_s(on, a.out);
    a.inp = to_device_s(on, a.inp);
    a.place = to_device(on, a.place);
    must(seo_dropout(on->dev, &a));
    out = to_host(on, &a.out, out);
    a.out = a.inp; /* in place */
    must(seo_dropout(on->dev, &a));
    to_host(on, &a.out, out);
}

/* A tensor (n / width, width) from global element `first` on; with `place`, from row and step of
 * the place on, and first_index beyond that. */
typedef struct dropout_shape {
    int64_t n, width, first;
    float rate;
    const int32_t *place;
} dropout_shape;

static void dropout_case(const dropout_shape *d, seo_dtype s) {
    const int64_t n = d->n;
    float *x = new_f32(n);
    double *want = new_f64(2 * n), *bound = new_f64(2 * n);
    fill_uniform(x, n, 0.5f, 2, 24);
    to_storage(x, n, s);
    int32_t place[SEO_PLACE_COUNT] = {0};
    if (d->place) memcpy(place, d->place, sizeof place);
    const seo_tensor none = {0};
    const seo_dropout_args a = {
        .out = seo_tensor_2d(NULL, SEO_DTYPE_F32, n / d->width, d->width),
        .inp = seo_tensor_2d(x, SEO_DTYPE_F32, n / d->width, d->width),
        .place = d->place ? seo_tensor_1d(place, SEO_DTYPE_I32, SEO_PLACE_COUNT) : none,
        .key = {.seed = 77 + ((uint64_t)5 << 40),
                .purpose = SEO_PURPOSE_DROPOUT | 3 << 8,
                .step = 9},
        .first_index = d->first,
        .rate = d->rate};
    seo_rng_key key = a.key;
    const uint64_t row =
        (uint64_t)(uint32_t)place[SEO_PLACE_ROW_HIGH] << 32 | (uint32_t)place[SEO_PLACE_ROW_LOW];
    if (d->place) key.step = (uint32_t)place[SEO_PLACE_STEP];
    const uint64_t first = (uint64_t)d->first + row * (uint64_t)d->width;
    for (int64_t i = 0; i < n; i++) {
        const float u = seo_uniform_from(seo_rng_u32(key, first + (uint64_t)i));
        want[i] = want[n + i] = u >= d->rate ? (double)x[i] / (1 - (double)d->rate) : 0;
        const double off = d->rate > 0 ? 2 * F32_ROUND * fabs(want[i]) : 0;
        /* What is 0, or was not changed, is stored as it is. */
        bound[i] = bound[n + i] = off > 0 ? stored_bound(s, want[i], off) : 0;
    }
    check_everywhere(&(op_case){d->place ? "dropout at a place" : "dropout", run_dropout, &a, 2 * n,
                                want, bound, .storage = s});
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

/* The step and the row of a place, with a row beyond 2^32 and one whose lower half is negative as
 * an int32; the element's index is then beyond 2^32 as well. */
static void dropout_places(seo_dtype s) {
    static const int32_t places[][SEO_PLACE_COUNT] = {
        {0, 0, 0}, {12345, 7, 0}, {2, -5, 0}, {3, 100, 1}, {-1, INT32_MIN, 77}};
    for (int i = 0; i < SEO_COUNT_OF(places); i++) {
        dropout_case(&(dropout_shape){250, 10, 0, 0.3f, places[i]}, s);
        dropout_case(&(dropout_shape){4101, 3, 1000 + i, 0.5f, places[i]}, s);
    }
}

void test_dropout(void **state) {
    (void)state;
    if (g_targets.is_cpu) dropout_edge();
    EACH_STORAGE(s) {
        for (int i = 0; i < SEO_COUNT_OF(g_counts); i++) {
            const int64_t n = g_counts[i], carry = ((int64_t)4 << 32) - 10; /* into the high word */
            dropout_case(&(dropout_shape){n, n, 0, 0.1f, NULL}, s);
            dropout_case(&(dropout_shape){n, n, 1 + i, 0.5f, NULL}, s);
            dropout_case(&(dropout_shape){n, n, 5, 0.0f, NULL}, s);
            dropout_case(&(dropout_shape){n, n, (int64_t)1 << 40, 0.999f, NULL}, s);
            dropout_case(&(dropout_shape){n, n, carry, 0.25f, NULL}, s);
        }
        dropout_places(s);
    }
    if (!g_targets.is_cpu) return;
    dropout_statistics(0.1f);
    dropout_statistics(0.5f);
}

static void run_normal(op_run *on, const void *input, float *out) {
    seo_normal_args a = *(const seo_normal_args *)input;
    a.out = poisoned(on, a.out);
    must(seo_normal(on->dev, &a));
    to_host(on, &a.out, out);
}

/* Against the formula in double. The logarithm and the sine each err by a few roundings of the
 * largest term; near u1 = 1 the logarithm is small and its rounding is that of its parts. */
static void normal_case(int64_t n, int64_t first, float std) {
    double *want = new_f64(n), *bound = new_f64(n);
    const seo_normal_args a = {.out = seo_tensor_1d(NULL, SEO_DTYPE_F32, n),
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
    check_everywhere(
        &(op_case){"normal", run_normal, &a, n, want, bound, .storage = SEO_DTYPE_F32});
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
    if (g_targets.is_cpu) normal_statistics();
}
