/* Sums whose order is fixed by the shape: a bias' gradient, parts of a sum, the squares of all
 * gradients, the clip factor; and the residual addition. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/row_blocks.h"
#include "kernels/fold.h"

seo_err SEO_CPU_FN(add)(seo_device *dev, const seo_add_args *args) {
    const int64_t count = seo_tensor_count(&args->out);
    const float *a = args->a.data, *b = args->b.data;
    float *out = args->out.data;
#pragma omp parallel for simd num_threads(seo_cpu_threads(dev, count)) schedule(static)
    for (int64_t i = 0; i < count; i++) out[i] = a[i] + b[i];
    return SEO_OK;
}

/* part[c] += the sum of four rows at a time: a quarter of the traffic to the part. */
static void add_rows(float *restrict part, const float *rows, int64_t count, int64_t columns) {
    int64_t r = 0;
    for (; r + 4 <= count; r += 4) {
        const float *p = rows + r * columns;
        const float *q = p + columns, *s = q + columns, *t = s + columns;
        for (int64_t c = 0; c < columns; c++) part[c] += (p[c] + q[c]) + (s[c] + t[c]);
    }
    for (; r < count; r++) {
        const float *p = rows + r * columns;
        for (int64_t c = 0; c < columns; c++) part[c] += p[c];
    }
}

seo_err SEO_CPU_FN(bias_bwd)(seo_device *dev, const seo_bias_bwd_args *a) {
    const int64_t columns = a->dbias.dims[0];
    const int64_t rows = seo_tensor_count(&a->dout) / columns;
    const float *dout = a->dout.data;
    if (columns > SEO_ROW_PART_MAX) {
        return SEO_FAIL(SEO_ERR_UNSUPPORTED, "bias_bwd: N is %lld, the CPU takes up to %d",
                        (long long)columns, SEO_ROW_PART_MAX);
    }
    const seo_row_blocks blocks = seo_row_blocks_plan(rows, columns);
#pragma omp parallel for num_threads(seo_cpu_threads(dev, rows *columns)) schedule(static)
    for (int64_t b = 0; b < blocks.count; b++) {
        float *part = (float *)dev->scratch + b * blocks.part;
        memset(part, 0, (size_t)columns * sizeof(float));
        const int64_t from = b * blocks.rows;
        add_rows(part, dout + from * columns, seo_min_i64(blocks.rows, rows - from), columns);
    }
    seo_row_blocks_add(dev, &blocks, 0, columns, a->dbias.data);
    return SEO_OK;
}

seo_err SEO_CPU_FN(fold)(seo_device *dev, const seo_fold_args *a) {
    enum { CHUNK = 32 * SEO_FOLD_WIDTH };
    const int64_t parts = a->inp.dims[0], n = a->inp.dims[1];
    const seo_parts all = {.first = a->inp.data,
                           .count = parts,
                           .stride = n,
                           .dtype = a->inp.dtype,
                           .order = a->order};
    float *out = a->out.data;
#pragma omp parallel for num_threads(seo_cpu_threads(dev, parts *n)) schedule(static)
    for (int64_t from = 0; from < n; from += CHUNK) {
        seo_parts_fold(&all, out, a->accumulate, from, seo_min_i64(from + CHUNK, n));
    }
    return SEO_OK;
}

/* Sums that need not wait for each other, of elements 0, 32 ..., 1, 33 ...; then added as a tree.
 */
enum { SUM_LANES = 32 };

static double add_lanes(double *lane) {
    for (int half = SUM_LANES / 2; half > 0; half /= 2) {
        for (int j = 0; j < half; j++) lane[j] += lane[j + half];
    }
    return lane[0];
}

static double sum_of_squares(const float *x, int64_t count) {
    double lane[SUM_LANES] = {0};
    int64_t i = 0;
    for (; i + SUM_LANES <= count; i += SUM_LANES) {
        for (int j = 0; j < SUM_LANES; j++) lane[j] += (double)x[i + j] * (double)x[i + j];
    }
    for (int j = 0; i < count; i++, j++) lane[j] += (double)x[i] * (double)x[i];
    return add_lanes(lane);
}

static double sum_of(const float *x, int64_t count) {
    double lane[SUM_LANES] = {0};
    int64_t i = 0;
    for (; i + SUM_LANES <= count; i += SUM_LANES) {
        for (int j = 0; j < SUM_LANES; j++) lane[j] += (double)x[i + j];
    }
    for (int j = 0; i < count; i++, j++) lane[j] += (double)x[i];
    return add_lanes(lane);
}

seo_err SEO_CPU_FN(sum_squares)(seo_device *dev, const seo_sum_squares_args *a) {
    const int64_t count = seo_tensor_count(&a->inp);
    const float *x = a->inp.data;
    float *out = a->out.data;
#pragma omp parallel for num_threads(seo_cpu_threads(dev, count)) schedule(static)
    for (int64_t from = 0; from < count; from += SEO_SQUARES_UNIT) {
        out[from / SEO_SQUARES_UNIT] =
            (float)sum_of_squares(x + from, seo_min_i64(SEO_SQUARES_UNIT, count - from));
    }
    return SEO_OK;
}

seo_err SEO_CPU_FN(clip_factor)(seo_device *dev, const seo_clip_factor_args *a) {
    (void)dev;
    const float norm = (float)sqrt(sum_of(a->sum_squares.data, a->sum_squares.dims[0]));
    float factor = 1.0f;
    if (a->max_norm > 0) factor = fminf(1.0f, a->max_norm / (norm + 1e-6f));
    if (!isfinite(norm)) factor = 0.0f;
    *(float *)a->norm.data = norm;
    ((float *)a->hyper.data)[SEO_HYPER_GRAD_FACTOR] = factor;
    return SEO_OK;
}
