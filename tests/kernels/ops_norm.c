/* Layer norm: bounds follow the error of the mean and of the variance through the formula. */
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

typedef struct shape {
    const char *what;
    int64_t rows, c;
    bool add, bias, kept; /* kept: mean and rstd are asked for */
    float offset;         /* of the inputs: a large mean must not cost the variance */
} shape;

static const shape g_shapes[] = {
    {"one element", 1, 1, false, true, true, 0},
    {"off the vector", 3, 5, true, true, true, 0},
    {"no bias, nothing kept", 2, 67, false, false, false, 0},
    {"with add, no bias", 5, 64, true, false, true, 0},
    {"far from zero", 4, 768, false, true, true, 300},
    {"many rows", 131, 193, true, true, true, 1},
};

static void run_fwd(seo_device *dev, const void *input, float *out) {
    seo_layernorm_fwd_args a = *(const seo_layernorm_fwd_args *)input;
    a.out = to_device(dev, a.out);
    a.sum = to_device(dev, a.sum);
    a.mean = to_device(dev, a.mean);
    a.rstd = to_device(dev, a.rstd);
    a.inp = to_device(dev, a.inp);
    a.add = to_device(dev, a.add);
    a.weight = to_device(dev, a.weight);
    a.bias = to_device(dev, a.bias);
    must(seo_layernorm_fwd(dev, &a));
    out = to_host(dev, &a.out, out);
    out = to_host(dev, &a.sum, out);
    out = to_host(dev, &a.mean, out);
    to_host(dev, &a.rstd, out);
}

/* Mean and 1/sqrt(var + eps) of a row, and how far f32 may be off them. */
typedef struct stats {
    double mean, rstd, mean_off, rstd_off;
} stats;

static stats stats_of(const double *x, int64_t c_count, double eps) {
    double sum = 0, size = 0, var = 0;
    for (int64_t c = 0; c < c_count; c++) {
        sum += x[c];
        size += fabs(x[c]);
    }
    const double n = (double)c_count, mean = sum / n;
    for (int64_t c = 0; c < c_count; c++) var += (x[c] - mean) * (x[c] - mean) / n;
    stats s = {.mean = mean, .rstd = 1 / sqrt(var + eps)};
    s.mean_off = sum_bound(c_count, 1, size / n);
    /* The mean's own error enters the variance squared: the sum of (x - mean) is 0. */
    const double var_off = sum_bound(c_count, 4, var) + s.mean_off * s.mean_off;
    s.rstd_off = s.rstd * (0.5 * var_off / (var + eps) + 4 * F32_ROUND);
    return s;
}

static void want_row(const seo_layernorm_fwd_args *a, const double *x, int64_t c_count,
                     const stats *s, double *want, double *bound) {
    const float *w = a->weight.data, *b = a->bias.data;
    for (int64_t c = 0; c < c_count; c++) {
        const double d = x[c] - s->mean, shift = b ? (double)b[c] : 0;
        const double d_off = s->mean_off + F32_ROUND * fabs(d);
        const double scaled = d * s->rstd * (double)w[c];
        want[c] = scaled + shift;
        bound[c] = fabs((double)w[c]) * (s->rstd * d_off + fabs(d) * s->rstd_off) +
                   4 * F32_ROUND * (fabs(scaled) + fabs(shift)) + s->rstd_off * d_off;
    }
}

static void fwd_case(const shape *s) {
    const int64_t n = s->rows * s->c, most = 2 * n + 2 * s->rows;
    float *inp = new_f32(n), *add = new_f32(n), *weight = new_f32(s->c), *bias = new_f32(s->c);
    float *zero = new_f32(n);
    double *want = new_f64(most), *bound = new_f64(most), *x = new_f64(n);
    fill_uniform(inp, n, s->offset - 1, s->offset + 1, 11);
    fill_uniform(add, n, -1, 1, 12);
    fill_uniform(weight, s->c, 0.5f, 1.5f, 13);
    fill_uniform(bias, s->c, -1, 1, 14);
    const seo_tensor none = {0};
    const seo_layernorm_fwd_args a = {
        .out = seo_tensor_2d(zero, SEO_DTYPE_F32, s->rows, s->c),
        .sum = s->add ? seo_tensor_2d(zero, SEO_DTYPE_F32, s->rows, s->c) : none,
        .mean = s->kept ? seo_tensor_1d(zero, SEO_DTYPE_F32, s->rows) : none,
        .rstd = s->kept ? seo_tensor_1d(zero, SEO_DTYPE_F32, s->rows) : none,
        .inp = seo_tensor_2d(inp, SEO_DTYPE_F32, s->rows, s->c),
        .add = s->add ? seo_tensor_2d(add, SEO_DTYPE_F32, s->rows, s->c) : none,
        .weight = seo_tensor_1d(weight, SEO_DTYPE_F32, s->c),
        .bias = s->bias ? seo_tensor_1d(bias, SEO_DTYPE_F32, s->c) : none,
        .eps = 1e-5f};
    const int64_t mean_at = s->add ? 2 * n : n;
    for (int64_t r = 0; r < s->rows; r++) {
        for (int64_t i = r * s->c; i < (r + 1) * s->c; i++) {
            /* What is normalised is the sum as it is stored: rounded once, which has no slack. */
            x[i] = (double)(s->add ? inp[i] + add[i] : inp[i]);
            if (s->add) want[n + i] = x[i];
        }
        const stats row = stats_of(x + r * s->c, s->c, (double)a.eps);
        want_row(&a, x + r * s->c, s->c, &row, want + r * s->c, bound + r * s->c);
        if (!s->kept) continue;
        want[mean_at + r] = row.mean;
        bound[mean_at + r] = row.mean_off;
        want[mean_at + s->rows + r] = row.rstd;
        bound[mean_at + s->rows + r] = row.rstd_off;
    }
    const int64_t count = mean_at + (s->kept ? 2 * s->rows : 0);
    check_everywhere(&(op_case){s->what, run_fwd, &a, count, want, bound});
    free(inp);
    free(add);
    free(weight);
    free(bias);
    free(zero);
    free(want);
    free(bound);
    free(x);
}

/* The sum may be written over either of its terms. */
static void sum_in_place(void) {
    enum { ROWS = 3, C = 37 };
    float x[ROWS * C], y[ROWS * C], apart[2][ROWS * C], same[2][ROWS * C], weight[C];
    fill_uniform(x, ROWS * C, -1, 1, 15);
    fill_uniform(y, ROWS * C, -1, 1, 16);
    fill_uniform(weight, C, -1, 1, 17);
    seo_device *dev = open_device(SEO_CPU_AUTO, 2);
    seo_layernorm_fwd_args a = {.out = seo_tensor_2d(apart[0], SEO_DTYPE_F32, ROWS, C),
                                .sum = seo_tensor_2d(apart[1], SEO_DTYPE_F32, ROWS, C),
                                .inp = seo_tensor_2d(x, SEO_DTYPE_F32, ROWS, C),
                                .add = seo_tensor_2d(y, SEO_DTYPE_F32, ROWS, C),
                                .weight = seo_tensor_1d(weight, SEO_DTYPE_F32, C),
                                .eps = 1e-5f};
    must(seo_layernorm_fwd(dev, &a));
    for (int which = 0; which < 2; which++) {
        memcpy(same[1], which ? y : x, sizeof x);
        a.out.data = same[0];
        a.sum.data = same[1];
        a.inp.data = which ? x : same[1];
        a.add.data = which ? same[1] : y;
        must(seo_layernorm_fwd(dev, &a));
        assert_true(same_bits("sum in place", apart[0], same[0], 2 * ROWS * C));
    }
    seo_device_close(dev);
}

void test_layernorm_fwd(void **state) {
    (void)state;
    for (int i = 0; i < SEO_COUNT_OF(g_shapes); i++) fwd_case(&g_shapes[i]);
    sum_in_place();
}

/* out, summed with the weights dout, as a function of (x, weight, bias) one after the other. */
typedef struct gradient_problem {
    int64_t rows, c;
    const float *dout;
    double eps;
} gradient_problem;

static double weighted_out(const double *at, const void *context) {
    const gradient_problem *p = context;
    const double *weight = at + p->rows * p->c, *bias = weight + p->c;
    double total = 0;
    for (int64_t r = 0; r < p->rows; r++) {
        const stats s = stats_of(at + r * p->c, p->c, p->eps);
        for (int64_t c = 0; c < p->c; c++) {
            const double xhat = (at[r * p->c + c] - s.mean) * s.rstd;
            total += (double)p->dout[r * p->c + c] * (xhat * weight[c] + bias[c]);
        }
    }
    return total;
}

/* The gradients over (x, weight, bias), from given statistics. With `size`, also the sums of the
 * absolute values that the f32 errors are proportional to: for x already multiplied by roundings.
 */
static void explicit_gradient(const gradient_problem *p, const double *at, const double *mean,
                              const double *rstd, double *gradient, double *size) {
    const int64_t n = p->rows * p->c;
    const double *weight = at + n;
    double *dweight = gradient + n, *dbias = dweight + p->c;
    for (int64_t r = 0; r < p->rows; r++) {
        double first = 0, second = 0, first_size = 0, second_size = 0;
        for (int64_t c = 0; c < p->c; c++) {
            const double g = (double)p->dout[r * p->c + c];
            const double xhat = (at[r * p->c + c] - mean[r]) * rstd[r], dnorm = g * weight[c];
            first += dnorm / (double)p->c;
            second += dnorm * xhat / (double)p->c;
            first_size += fabs(dnorm) / (double)p->c;
            second_size += fabs(dnorm * xhat) / (double)p->c;
            dweight[c] += g * xhat;
            dbias[c] += g;
            if (!size) continue;
            size[n + c] += fabs(g * xhat);
            size[n + p->c + c] += fabs(g);
        }
        for (int64_t c = 0; c < p->c; c++) {
            const double g = (double)p->dout[r * p->c + c];
            const double xhat = (at[r * p->c + c] - mean[r]) * rstd[r], dnorm = g * weight[c];
            gradient[r * p->c + c] = rstd[r] * (dnorm - first - xhat * second);
            if (!size) continue;
            size[r * p->c + c] =
                rstd[r] *
                (sum_bound(p->c, 2, first_size) + fabs(xhat) * sum_bound(p->c, 5, second_size) +
                 F32_ROUND * (6 * fabs(dnorm) + 5 * fabs(first) + 9 * fabs(xhat * second)));
        }
    }
}

/* Twice: with accumulate the second call adds to dinp as well. */
static void run_bwd(seo_device *dev, const void *input, float *out) {
    seo_layernorm_bwd_args a = *(const seo_layernorm_bwd_args *)input;
    a.dinp = to_device(dev, a.dinp);
    a.dweight = to_device(dev, a.dweight);
    a.dbias = to_device(dev, a.dbias);
    a.dout = to_device(dev, a.dout);
    a.inp = to_device(dev, a.inp);
    a.weight = to_device(dev, a.weight);
    a.mean = to_device(dev, a.mean);
    a.rstd = to_device(dev, a.rstd);
    must(seo_layernorm_bwd(dev, &a));
    must(seo_layernorm_bwd(dev, &a));
    to_host(dev, &a.dbias, to_host(dev, &a.dweight, to_host(dev, &a.dinp, out)));
}

/* at: x, weight and bias as double, f32 values all of them. */
static void bwd_everywhere(const shape *s, const gradient_problem *p, double *at, bool accumulate) {
    const int64_t n = s->rows * s->c, all = n + 2 * s->c;
    float *values = new_f32(all), *start = new_f32(all);
    float *kept = new_f32(2 * s->rows);
    double *mean = new_f64(2 * s->rows), *rstd = mean + s->rows;
    double *want = new_f64(all), *bound = new_f64(all);
    for (int64_t i = 0; i < all; i++) values[i] = (float)at[i];
    for (int64_t r = 0; r < s->rows; r++) {
        const stats row = stats_of(at + r * s->c, s->c, p->eps);
        mean[r] = (double)(kept[r] = (float)row.mean);
        rstd[r] = (double)(kept[s->rows + r] = (float)row.rstd);
    }
    explicit_gradient(p, at, mean, rstd, want, bound);
    fill_uniform(start, all, -1, 1, 18);
    for (int64_t i = 0; i < all; i++) {
        const double base = i < n && !accumulate ? 0 : (double)start[i];
        const double times = i < n && !accumulate ? 1 : 2;
        if (i >= n) bound[i] = sum_bound(s->rows, 5, bound[i]); /* was the sum of sizes */
        want[i] = base + times * want[i];
        bound[i] = times * bound[i] + 2 * F32_ROUND * (fabs(base) + fabs(want[i]));
    }
    const seo_tensor none = {0};
    const seo_layernorm_bwd_args a = {
        .dinp = seo_tensor_2d(start, SEO_DTYPE_F32, s->rows, s->c),
        .dweight = seo_tensor_1d(start + n, SEO_DTYPE_F32, s->c),
        .dbias = s->bias ? seo_tensor_1d(start + n + s->c, SEO_DTYPE_F32, s->c) : none,
        .dout = {(void *)(uintptr_t)p->dout, SEO_DTYPE_F32, 2, {s->rows, s->c}},
        .inp = seo_tensor_2d(values, SEO_DTYPE_F32, s->rows, s->c),
        .weight = seo_tensor_1d(values + n, SEO_DTYPE_F32, s->c),
        .mean = seo_tensor_1d(kept, SEO_DTYPE_F32, s->rows),
        .rstd = seo_tensor_1d(kept + s->rows, SEO_DTYPE_F32, s->rows),
        .accumulate = accumulate};
    check_everywhere(&(op_case){s->what, run_bwd, &a, s->bias ? all : all - s->c, want, bound});
    free(values);
    free(start);
    free(kept);
    free(mean);
    free(want);
    free(bound);
}

void test_layernorm_bwd(void **state) {
    (void)state;
    for (int i = 0; i < SEO_COUNT_OF(g_shapes); i++) {
        const shape *s = &g_shapes[i];
        const int64_t n = s->rows * s->c, all = n + 2 * s->c;
        float *values = new_f32(all), *dout = new_f32(n);
        double *at = new_f64(all), *gradient = new_f64(all), *mean = new_f64(2 * s->rows);
        const gradient_problem p = {s->rows, s->c, dout, 1e-5};
        fill_uniform(values, n, s->offset - 1, s->offset + 1, 11);
        fill_uniform(values + n, 2 * s->c, 0.5f, 1.5f, 13);
        fill_uniform(dout, n, -1, 1, 19);
        for (int64_t j = 0; j < all; j++) at[j] = (double)values[j];
        for (int64_t r = 0; r < s->rows; r++) {
            const stats row = stats_of(at + r * s->c, s->c, p.eps);
            mean[r] = row.mean;
            mean[s->rows + r] = row.rstd;
        }
        explicit_gradient(&p, at, mean, mean + s->rows, gradient, NULL);
        check_gradient(s->what, weighted_out, &p, at, gradient, all);
        bwd_everywhere(s, &p, at, false);
        bwd_everywhere(s, &p, at, true);
        free(values);
        free(dout);
        free(at);
        free(gradient);
        free(mean);
    }
}
