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
    int in_place;         /* sum is written over 1: inp, 2: add */
} shape;

/* Widths: on and off whole pieces of 16 bytes, within a warp's reach and beyond. */
static const shape g_shapes[] = {
    {"one element", 1, 1, false, true, true, 0, 0},
    {"off the vector", 3, 5, true, true, true, 0, 0},
    {"no bias, nothing kept", 2, 67, false, false, false, 0, 0},
    {"with add, no bias", 5, 64, true, false, true, 0, 0},
    {"far from zero", 4, 768, false, true, true, 300, 0},
    {"many rows", 131, 193, true, true, true, 1, 0},
    {"sum over inp", 7, 72, true, true, true, 0, 1},
    {"sum over add", 7, 37, true, true, false, 0, 2},
    {"sum without add", 3, 40, false, true, true, 0, 3},
    {"rows of 264", 3, 264, true, true, true, 0, 0},
    {"rows of 768", 26, 768, true, true, true, 0, 0},
    {"rows of 1000", 2, 1000, false, true, true, 0, 0},
    {"rows of 1280", 3, 1280, true, false, true, 0, 0},
    {"rows of 1600", 3, 1600, true, true, true, 0, 0},
    {"rows of 2304", 2, 2304, false, true, true, 0, 0},
    {"rows of 2312", 3, 2312, true, true, true, 0, 0},
    {"rows of 4104", 2, 4104, true, true, true, 0, 0},
    {"rows of 6152", 2, 6152, false, true, true, 0, 0},
    {"rows of 9001", 2, 9001, false, true, true, 0, 0},
    {"rows of 12296", 1, 12296, true, true, true, 0, 0},
};

typedef struct fwd_input {
    seo_layernorm_fwd_args a;
    int in_place;
} fwd_input;

static void run_fwd(op_run *on, const void *input, float *out) {
    const fwd_input *f = input;
    seo_layernorm_fwd_args a = f->a;
    a.out = poisoned_s(on, a.out);
    a.mean = poisoned(on, a.mean);
    a.rstd = poisoned(on, a.rstd);
    a.inp = to_device_s(on, a.inp);
    a.add = to_device_s(on, a.add);
    a.weight = to_device_s(on, a.weight);
    a.bias = to_device_s(on, a.bias);
    a.sum = f->in_place == 1 ? a.inp : f->in_place == 2 ? a.add : poisoned_s(on, a.sum);
    must(seo_layernorm_fwd(on->dev, &a));
    out = to_host(on, &a.out, out);
    out = to_host(on, &a.sum, out);
    out = to_host(on, &a.mean, out);
    to_host(on, &a.rstd, out);
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

/* What is normalised is the sum as it is stored: rounded once, which has no slack. */
static void want_fwd(const seo_layernorm_fwd_args *a, seo_dtype storage, double *want,
                     double *bound) {
    const int64_t rows = a->inp.dims[0], c_count = a->inp.dims[1], n = rows * c_count;
    const int64_t mean_at = seo_tensor_given(&a->sum) ? 2 * n : n;
    const float *inp = a->inp.data, *add = a->add.data;
    double *x = new_f64(c_count);
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t c = 0; c < c_count; c++) {
            const int64_t i = r * c_count + c;
            x[c] = (double)(add ? stored(storage, inp[i] + add[i]) : inp[i]);
            if (seo_tensor_given(&a->sum)) want[n + i] = x[c];
        }
        const stats row = stats_of(x, c_count, (double)a->eps);
        want_row(a, x, c_count, &row, want + r * c_count, bound + r * c_count);
        for (int64_t i = r * c_count; i < (r + 1) * c_count; i++) {
            bound[i] = stored_bound(storage, want[i], bound[i]);
        }
        if (!seo_tensor_given(&a->mean)) continue;
        want[mean_at + r] = row.mean;
        bound[mean_at + r] = row.mean_off;
        want[mean_at + rows + r] = row.rstd;
        bound[mean_at + rows + r] = row.rstd_off;
    }
    free(x);
}

/* x and, in the forward, what is added to it; far from 0 bf16 has few numbers, so they lie wider
 * apart. */
static void fill_inputs(const shape *s, float *inp, int64_t count, seo_dtype storage) {
    const float spread = storage == SEO_DTYPE_BF16 && s->offset > 8 ? s->offset / 4 : 1;
    fill_uniform(inp, count, s->offset - spread, s->offset + spread, 11);
    to_storage(inp, count, storage);
}

static void fwd_case(const shape *s, seo_dtype storage) {
    const int64_t n = s->rows * s->c, most = 2 * n + 2 * s->rows;
    float *inp = new_f32(n), *add = new_f32(n), *weight = new_f32(s->c), *bias = new_f32(s->c);
    double *want = new_f64(most), *bound = new_f64(most);
    fill_inputs(s, inp, n, storage);
    fill_uniform(add, n, -1, 1, 12);
    fill_uniform(weight, s->c, 0.5f, 1.5f, 13);
    fill_uniform(bias, s->c, -1, 1, 14);
    to_storage(add, n, storage);
    to_storage(weight, s->c, storage);
    to_storage(bias, s->c, storage);
    const seo_tensor none = {0}, rows_c = seo_tensor_2d(NULL, SEO_DTYPE_F32, s->rows, s->c);
    const seo_tensor per_row = seo_tensor_1d(NULL, SEO_DTYPE_F32, s->rows);
    const bool with_sum = s->add || s->in_place > 0;
    const fwd_input f = {
        .a = {.out = rows_c,
              .sum = with_sum ? rows_c : none,
              .mean = s->kept ? per_row : none,
              .rstd = s->kept ? per_row : none,
              .inp = seo_tensor_2d(inp, SEO_DTYPE_F32, s->rows, s->c),
              .add = s->add ? seo_tensor_2d(add, SEO_DTYPE_F32, s->rows, s->c) : none,
              .weight = seo_tensor_1d(weight, SEO_DTYPE_F32, s->c),
              .bias = s->bias ? seo_tensor_1d(bias, SEO_DTYPE_F32, s->c) : none,
              .eps = 1e-5f},
        .in_place = s->in_place};
    want_fwd(&f.a, storage, want, bound);
    const int64_t count = (with_sum ? 2 * n : n) + (s->kept ? 2 * s->rows : 0);
    check_everywhere(&(op_case){s->what, run_fwd, &f, count, want, bound, .storage = storage});
    free(inp);
    free(add);
    free(weight);
    free(bias);
    free(want);
    free(bound);
}

/* The sum may be written over either of its terms, and the bits are the same. */
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
    EACH_STORAGE(storage) {
        for (int i = 0; i < SEO_COUNT_OF(g_shapes); i++) fwd_case(&g_shapes[i], storage);
    }
    if (g_targets.is_cpu) sum_in_place();
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

typedef struct bwd_input {
    seo_layernorm_bwd_args a;
    seo_dtype storage;
    const double *dx, *dx_off; /* (R, C): the formula, and how far f32 may be off it */
} bwd_input;

/* Twice. out: dinp after the first call and after the second, then what is summed over the rows. */
static void run_bwd(op_run *on, const void *input, float *out) {
    seo_layernorm_bwd_args a = ((const bwd_input *)input)->a;
    a.dinp = a.accumulate ? to_device_s(on, a.dinp) : poisoned_s(on, a.dinp);
    a.dweight = to_device(on, a.dweight);
    a.dbias = to_device(on, a.dbias);
    a.dinp_sum = to_device(on, a.dinp_sum);
    a.dout = to_device_s(on, a.dout);
    a.inp = to_device_s(on, a.inp);
    a.weight = to_device_s(on, a.weight);
    a.mean = to_device(on, a.mean);
    a.rstd = to_device(on, a.rstd);
    must(seo_layernorm_bwd(on->dev, &a));
    out = to_host(on, &a.dinp, out);
    must(seo_layernorm_bwd(on->dev, &a));
    out = to_host(on, &a.dinp, out);
    out = to_host(on, &a.dweight, out);
    out = to_host(on, &a.dbias, out);
    to_host(on, &a.dinp_sum, out);
}

/* The second call adds to what the first one stored, and dinp_sum is the sum of what both did. */
static void settle_bwd(const void *input, const float *got, double *want, double *bound) {
    const bwd_input *b = input;
    const int64_t rows = b->a.dinp.dims[0], c_count = b->a.dinp.dims[1], n = rows * c_count;
    for (int64_t i = 0; i < n && b->a.accumulate; i++) {
        want[n + i] = (double)got[i] + b->dx[i];
        const double off = b->dx_off[i] + F32_ROUND * fabs(want[n + i]);
        bound[n + i] = stored_bound(b->storage, want[n + i], off);
    }
    const float *start = b->a.dinp_sum.data;
    const int64_t at = 2 * n + (seo_tensor_given(&b->a.dbias) ? 2 : 1) * c_count;
    for (int64_t c = 0; c < c_count && start; c++) {
        double sum = (double)start[c], size = fabs(sum);
        for (int64_t r = 0; r < 2 * rows; r++) {
            sum += (double)got[r * c_count + c];
            size += fabs((double)got[r * c_count + c]);
        }
        want[at + c] = sum;
        bound[at + c] = sum_bound(rows, 4, size);
    }
}

/* What is expected of all outputs but dinp_sum, which settle_bwd knows. size: as of
 * explicit_gradient. */
static void want_bwd(const bwd_input *b, const double *gradient, const double *size, double *want,
                     double *bound) {
    const int64_t rows = b->a.dinp.dims[0], c_count = b->a.dinp.dims[1], n = rows * c_count;
    const float *start = b->a.dinp.data;
    for (int64_t i = 0; i < n; i++) {
        const double base = b->a.accumulate ? (double)start[i] : 0;
        want[i] = want[n + i] = base + gradient[i];
        const double off = size[i] + (b->a.accumulate ? F32_ROUND * fabs(want[i]) : 0);
        bound[i] = bound[n + i] = stored_bound(b->storage, want[i], off);
    }
    for (int64_t c = 0; c < 2 * c_count; c++) {
        const float *from = c < c_count ? b->a.dweight.data : b->a.dbias.data;
        if (!from) break;
        const double base = (double)from[c % c_count];
        want[2 * n + c] = base + 2 * gradient[n + c];
        bound[2 * n + c] = 2 * sum_bound(rows, 5, size[n + c]) +
                           2 * F32_ROUND * (fabs(base) + fabs(want[2 * n + c]));
    }
}

/* Each column of three sums is added up by 8 threads, and again in parts of rows. */
static double bwd_work(const shape *s) {
    return SEO_WORK_THREAD * (double)(24 * s->c + s->rows * 32);
}

/* at: x, weight and bias as double, all of them numbers of the storage type. */
static void bwd_everywhere(const shape *s, const gradient_problem *p, const double *at,
                           bool accumulate, bool summed, seo_dtype storage) {
    const int64_t n = s->rows * s->c, all = n + 2 * s->c, outs = 2 * n + 3 * s->c;
    float *values = new_f32(all), *start = new_f32(n + 3 * s->c), *kept = new_f32(2 * s->rows);
    double *mean = new_f64(2 * s->rows), *rstd = mean + s->rows;
    double *gradient = new_f64(all), *size = new_f64(all);
    double *want = new_f64(outs), *bound = new_f64(outs);
    for (int64_t i = 0; i < all; i++) values[i] = (float)at[i];
    for (int64_t r = 0; r < s->rows; r++) {
        const stats row = stats_of(at + r * s->c, s->c, p->eps);
        mean[r] = (double)(kept[r] = (float)row.mean);
        rstd[r] = (double)(kept[s->rows + r] = (float)row.rstd);
    }
    explicit_gradient(p, at, mean, rstd, gradient, size);
    fill_uniform(start, n + 3 * s->c, -1, 1, 18);
    to_storage(start, n, storage);
    const seo_tensor none = {0};
    const bwd_input b = {
        .a = {.dinp = seo_tensor_2d(start, SEO_DTYPE_F32, s->rows, s->c),
              .dweight = seo_tensor_1d(start + n, SEO_DTYPE_F32, s->c),
              .dbias = s->bias ? seo_tensor_1d(start + n + s->c, SEO_DTYPE_F32, s->c) : none,
              .dinp_sum = summed ? seo_tensor_1d(start + n + 2 * s->c, SEO_DTYPE_F32, s->c) : none,
              .dout = {(void *)(uintptr_t)p->dout, SEO_DTYPE_F32, 2, {s->rows, s->c}},
              .inp = seo_tensor_2d(values, SEO_DTYPE_F32, s->rows, s->c),
              .weight = seo_tensor_1d(values + n, SEO_DTYPE_F32, s->c),
              .mean = seo_tensor_1d(kept, SEO_DTYPE_F32, s->rows),
              .rstd = seo_tensor_1d(kept + s->rows, SEO_DTYPE_F32, s->rows),
              .accumulate = accumulate},
        .storage = storage,
        .dx = gradient,
        .dx_off = size};
    want_bwd(&b, gradient, size, want, bound);
    const int64_t count = 2 * n + (1 + s->bias + summed) * s->c;
    check_everywhere(&(op_case){s->what, run_bwd, &b, count, want, bound, .storage = storage,
                                .work = bwd_work(s), .settle = settle_bwd});
    free(values);
    free(start);
    free(kept);
    free(mean);
    free(gradient);
    free(size);
    free(want);
    free(bound);
}

static void bwd_case(const shape *s, seo_dtype storage) {
    const int64_t n = s->rows * s->c, all = n + 2 * s->c;
    float *values = new_f32(all), *dout = new_f32(n);
    double *at = new_f64(all), *gradient = new_f64(all), *mean = new_f64(2 * s->rows);
    const gradient_problem p = {s->rows, s->c, dout, 1e-5};
    fill_inputs(s, values, n, storage);
    fill_uniform(values + n, 2 * s->c, 0.5f, 1.5f, 13);
    fill_uniform(dout, n, -1, 1, 19);
    to_storage(values + n, 2 * s->c, storage);
    to_storage(dout, n, storage);
    for (int64_t j = 0; j < all; j++) at[j] = (double)values[j];
    for (int64_t r = 0; r < s->rows; r++) {
        const stats row = stats_of(at + r * s->c, s->c, p.eps);
        mean[r] = row.mean;
        mean[s->rows + r] = row.rstd;
    }
    explicit_gradient(&p, at, mean, mean + s->rows, gradient, NULL);
    check_gradient(s->what, weighted_out, &p, at, gradient, all);
    /* Wide rows once, to reach the kernels that are for them. */
    const bool once = s->c > 200 && !g_targets.is_cpu;
    for (int i = 0; i < (once ? 1 : 4); i++) {
        bwd_everywhere(s, &p, at, once || i % 2, once || i / 2 % 2, storage);
    }
    free(values);
    free(dout);
    free(at);
    free(gradient);
    free(mean);
}

void test_layernorm_bwd(void **state) {
    (void)state;
    EACH_STORAGE(storage) {
        for (int i = 0; i < SEO_COUNT_OF(g_shapes); i++) {
            if (fits(bwd_work(&g_shapes[i]))) bwd_case(&g_shapes[i], storage);
        }
    }
}
