/* Sums whose order is fixed by the shape: a bias' gradient, the square sum of all gradients, the
 * clip factor; and the residual addition. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/row_blocks.h"

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

enum { SQUARE_BLOCK = 32768, SQUARE_LANES = 32, SQUARE_GROUP = 1024 };

static double square_block(const float *x, int64_t count) {
    double lane[SQUARE_LANES] = {0};
    int64_t i = 0;
    for (; i + SQUARE_LANES <= count; i += SQUARE_LANES) {
        for (int j = 0; j < SQUARE_LANES; j++) lane[j] += (double)x[i + j] * (double)x[i + j];
    }
    for (int j = 0; i < count; i++, j++) lane[j] += (double)x[i] * (double)x[i];
    for (int half = SQUARE_LANES / 2; half > 0; half /= 2) {
        for (int j = 0; j < half; j++) lane[j] += lane[j + half];
    }
    return lane[0];
}

seo_err SEO_CPU_FN(sum_squares)(seo_device *dev, const seo_sum_squares_args *a) {
    const int64_t count = seo_tensor_count(&a->inp);
    const int64_t blocks = seo_div_up(count, SQUARE_BLOCK);
    const float *x = a->inp.data;
    float *out = a->out.data;
    double total = a->accumulate ? (double)out[0] : 0.0;
    /* Groups of blocks keep the list of parts small for any count. */
    for (int64_t first = 0; first < blocks; first += SQUARE_GROUP) {
        double parts[SQUARE_GROUP];
        const int64_t n = seo_min_i64(SQUARE_GROUP, blocks - first);
#pragma omp parallel for num_threads(seo_cpu_threads(dev, n *SQUARE_BLOCK)) schedule(static)
        for (int64_t i = 0; i < n; i++) {
            const int64_t from = (first + i) * SQUARE_BLOCK;
            parts[i] = square_block(x + from, seo_min_i64(SQUARE_BLOCK, count - from));
        }
        for (int64_t i = 0; i < n; i++) total += parts[i];
    }
    out[0] = (float)total;
    return SEO_OK;
}

seo_err SEO_CPU_FN(clip_factor)(seo_device *dev, const seo_clip_factor_args *a) {
    (void)dev;
    const float norm = sqrtf(*(const float *)a->sum_squares.data);
    float factor = 1.0f;
    if (a->max_norm > 0) factor = fminf(1.0f, a->max_norm / (norm + 1e-6f));
    if (!isfinite(norm)) factor = 0.0f;
    *(float *)a->norm.data = norm;
    ((float *)a->hyper.data)[SEO_HYPER_GRAD_FACTOR] = factor;
    return SEO_OK;
}
