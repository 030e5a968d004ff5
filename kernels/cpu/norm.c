/* Layer norm (Ba, Kiros, Hinton 2016). Rows are independent but for the gradients of weight and
 * bias, which are summed in fixed blocks of rows. Mean and variance take two passes over a row,
 * which lies in the first-level cache by then: one pass would cancel where the mean is large. */
#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/row_blocks.h"
#include "kernels/cpu/vec.h"

/* Four vectors of partial sums, so that additions of one sum need not wait for each other. */
typedef struct row_sum {
    seo_vf lane[4];
} row_sum;

static float row_sum_total(const row_sum *s) {
    return seo_vsum((s->lane[0] + s->lane[1]) + (s->lane[2] + s->lane[3]));
}

/* x = inp (+ add), kept in sum when there is one; returns where x lies and its mean. */
static const float *row_take(const seo_layernorm_fwd_args *a, int64_t r, int64_t c_count,
                             float *mean) {
    const float *inp = (const float *)a->inp.data + r * c_count;
    const float *add = seo_tensor_given(&a->add) ? (const float *)a->add.data + r * c_count : NULL;
    float *sum = seo_tensor_given(&a->sum) ? (float *)a->sum.data + r * c_count : NULL;
    row_sum s = {0};
    int64_t c = 0;
    for (; c + 4 * SEO_VWIDTH <= c_count; c += 4 * SEO_VWIDTH) {
        SEO_UNROLL
        for (int i = 0; i < 4; i++) {
            int64_t at = c + i * SEO_VWIDTH;
            seo_vf x = seo_vload(inp + at);
            if (add) x = x + seo_vload(add + at);
            if (sum) seo_vstore(sum + at, x);
            s.lane[i] += x;
        }
    }
    for (; c < c_count; c += SEO_VWIDTH) {
        int64_t n = seo_min_i64(SEO_VWIDTH, c_count - c);
        seo_vf x = seo_vload_n(inp + c, n);
        if (add) x = x + seo_vload_n(add + c, n);
        if (sum) seo_vstore_n(sum + c, x, n);
        s.lane[0] += x;
    }
    *mean = row_sum_total(&s) / (float)c_count;
    return sum ? sum : inp;
}

static float row_variance(const float *x, float mean, int64_t c_count) {
    row_sum s = {0};
    int64_t c = 0;
    for (; c + 4 * SEO_VWIDTH <= c_count; c += 4 * SEO_VWIDTH) {
        SEO_UNROLL
        for (int i = 0; i < 4; i++) {
            seo_vf d = seo_vload(x + c + i * SEO_VWIDTH) - mean;
            s.lane[i] += d * d;
        }
    }
    float rest = 0.0f;
    for (; c < c_count; c++) rest += (x[c] - mean) * (x[c] - mean);
    return (row_sum_total(&s) + rest) / (float)c_count;
}

seo_err SEO_CPU_FN(layernorm_fwd)(seo_device *dev, const seo_layernorm_fwd_args *a) {
    const int64_t c_count = a->weight.dims[0];
    const int64_t rows = seo_tensor_count(&a->inp) / c_count;
    const float *weight = a->weight.data;
    const float *bias = seo_tensor_given(&a->bias) ? a->bias.data : NULL;
    float *mean_out = seo_tensor_given(&a->mean) ? a->mean.data : NULL;
    float *rstd_out = seo_tensor_given(&a->rstd) ? a->rstd.data : NULL;
#pragma omp parallel for num_threads(seo_cpu_threads(dev, rows *c_count)) schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        float mean;
        const float *x = row_take(a, r, c_count, &mean);
        const float rstd = 1.0f / sqrtf(row_variance(x, mean, c_count) + a->eps);
        float *restrict out = (float *)a->out.data + r * c_count;
        if (bias) {
            for (int64_t c = 0; c < c_count; c++) {
                out[c] = (x[c] - mean) * rstd * weight[c] + bias[c];
            }
        } else {
            for (int64_t c = 0; c < c_count; c++) out[c] = (x[c] - mean) * rstd * weight[c];
        }
        if (mean_out) mean_out[r] = mean;
        if (rstd_out) rstd_out[r] = rstd;
    }
    return SEO_OK;
}

typedef struct bwd_row {
    float *dinp;
    const float *dout, *x, *weight;
    float mean, rstd;
    float *dweight, *dbias, *dinp_sum; /* the block's part; += */
} bwd_row;

/* One pass gathers both sums and adds to the part, the second writes dinp. */
static void bwd_one_row(const bwd_row *w, int64_t c_count, bool accumulate) {
    const seo_vf mean = seo_vset(w->mean), rstd = seo_vset(w->rstd);
    row_sum d_sum = {0}, dx_sum = {0};
    int64_t c = 0;
    for (; c + SEO_VWIDTH <= c_count; c += SEO_VWIDTH) {
        const int i = (int)(c / SEO_VWIDTH % 2);
        seo_vf dout = seo_vload(w->dout + c);
        seo_vf xhat = (seo_vload(w->x + c) - mean) * rstd;
        seo_vf dnorm = dout * seo_vload(w->weight + c);
        seo_vstore(w->dweight + c, seo_vload(w->dweight + c) + dout * xhat);
        seo_vstore(w->dbias + c, seo_vload(w->dbias + c) + dout);
        d_sum.lane[i] += dnorm;
        dx_sum.lane[i] += dnorm * xhat;
    }
    float d_rest = 0.0f, dx_rest = 0.0f;
    for (; c < c_count; c++) {
        float xhat = (w->x[c] - w->mean) * w->rstd, dnorm = w->dout[c] * w->weight[c];
        w->dweight[c] += w->dout[c] * xhat;
        w->dbias[c] += w->dout[c];
        d_rest += dnorm;
        dx_rest += dnorm * xhat;
    }
    const float d_mean = (row_sum_total(&d_sum) + d_rest) / (float)c_count;
    const float dx_mean = (row_sum_total(&dx_sum) + dx_rest) / (float)c_count;
    float *restrict dinp = w->dinp;
    const float *dout = w->dout, *x = w->x, *weight = w->weight;
    const float row_mean = w->mean, row_rstd = w->rstd;
    for (c = 0; c < c_count; c++) {
        float xhat = (x[c] - row_mean) * row_rstd;
        float dx = row_rstd * (dout[c] * weight[c] - d_mean - xhat * dx_mean);
        dinp[c] = accumulate ? dinp[c] + dx : dx;
    }
    if (!w->dinp_sum) return;
    float *restrict total = w->dinp_sum;
    for (c = 0; c < c_count; c++) total[c] += dinp[c];
}

seo_err SEO_CPU_FN(layernorm_bwd)(seo_device *dev, const seo_layernorm_bwd_args *a) {
    const int64_t c_count = a->weight.dims[0];
    const int64_t rows = seo_tensor_count(&a->inp) / c_count;
    const float *mean = a->mean.data, *rstd = a->rstd.data;
    const bool sums = seo_tensor_given(&a->dinp_sum);
    if (3 * c_count > SEO_ROW_PART_MAX) {
        return SEO_FAIL(SEO_ERR_UNSUPPORTED, "layernorm_bwd: C is %lld, the CPU takes up to %d",
                        (long long)c_count, SEO_ROW_PART_MAX / 3);
    }
    const seo_row_blocks blocks = seo_row_blocks_plan(rows, (sums ? 3 : 2) * c_count);
#pragma omp parallel for num_threads(seo_cpu_threads(dev, rows *c_count)) schedule(static)
    for (int64_t b = 0; b < blocks.count; b++) {
        float *part = (float *)dev->scratch + b * blocks.part;
        memset(part, 0, (size_t)blocks.part * sizeof(float));
        const int64_t end = seo_min_i64(rows, (b + 1) * blocks.rows);
        for (int64_t r = b * blocks.rows; r < end; r++) {
            const bwd_row row = {.dinp = (float *)a->dinp.data + r * c_count,
                                 .dout = (const float *)a->dout.data + r * c_count,
                                 .x = (const float *)a->inp.data + r * c_count,
                                 .weight = a->weight.data,
                                 .mean = mean[r],
                                 .rstd = rstd[r],
                                 .dweight = part,
                                 .dbias = part + c_count,
                                 .dinp_sum = sums ? part + 2 * c_count : NULL};
            bwd_one_row(&row, c_count, a->accumulate);
        }
    }
    seo_row_blocks_add(dev, &blocks, 0, c_count, a->dweight.data);
    if (seo_tensor_given(&a->dbias)) {
        seo_row_blocks_add(dev, &blocks, c_count, c_count, a->dbias.data);
    }
    if (sums) seo_row_blocks_add(dev, &blocks, 2 * c_count, c_count, a->dinp_sum.data);
    return SEO_OK;
}
