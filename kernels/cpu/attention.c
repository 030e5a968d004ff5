/* Attention, plainly: one query row at a time, its probabilities never stored. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

/* Rows of one head: element d of position t is data[t * stride + d]. */
typedef struct head_rows {
    float *data;
    int64_t stride;
} head_rows;

static head_rows rows_of(const seo_tensor *t, int64_t b, int64_t offset) {
    head_rows h = {(float *)t->data + b * t->dims[1] * t->dims[2] + offset, t->dims[2]};
    return h;
}

static float dot(const float *x, const float *y, int64_t count) {
    float sum = 0.0f;
    for (int64_t i = 0; i < count; i++) sum += x[i] * y[i];
    return sum;
}

static void add_scaled(float *to, const float *x, float scale, int64_t count) {
    for (int64_t i = 0; i < count; i++) to[i] += scale * x[i];
}

/* One query over keys [0, count): writes out, returns the log of the sum of exponentials. */
static float attend(float *out, const float *q, head_rows keys, head_rows values, int64_t count,
                    int64_t width, float scale) {
    float top = -INFINITY, sum = 0.0f;
    for (int64_t j = 0; j < count; j++) {
        top = fmaxf(top, scale * dot(q, keys.data + j * keys.stride, width));
    }
    memset(out, 0, (size_t)width * sizeof(float));
    for (int64_t j = 0; j < count; j++) {
        float p = expf(scale * dot(q, keys.data + j * keys.stride, width) - top);
        sum += p;
        add_scaled(out, values.data + j * values.stride, p, width);
    }
    for (int64_t d = 0; d < width; d++) out[d] /= sum;
    return top + logf(sum);
}

seo_err SEO_CPU_FN(attention_fwd)(seo_device *dev, const seo_attention_fwd_args *a) {
    const int64_t t_count = a->out.dims[1], c_count = a->out.dims[2], heads = a->head_count;
    const int64_t width = c_count / heads, pairs = a->out.dims[0] * heads;
    float *lse = a->lse.data;
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (int64_t pair = 0; pair < pairs; pair++) {
        const int64_t b = pair / heads, at = pair % heads * width;
        head_rows out = rows_of(&a->out, b, at), q = rows_of(&a->qkv, b, at);
        head_rows k = rows_of(&a->qkv, b, c_count + at), v = rows_of(&a->qkv, b, 2 * c_count + at);
        for (int64_t i = 0; i < t_count; i++) {
            lse[pair * t_count + i] = attend(out.data + i * out.stride, q.data + i * q.stride, k, v,
                                             a->causal ? i + 1 : t_count, width, a->scale);
        }
    }
    return SEO_OK;
}

seo_err SEO_CPU_FN(attention_bwd)(seo_device *dev, const seo_attention_bwd_args *a) {
    const int64_t t_count = a->out.dims[1], c_count = a->out.dims[2], heads = a->head_count;
    const int64_t width = c_count / heads, pairs = a->out.dims[0] * heads;
    const float *lse = a->lse.data;
    float *delta = a->delta.data;
    memset(a->dqkv.data, 0, (size_t)seo_tensor_bytes(&a->dqkv));
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (int64_t pair = 0; pair < pairs; pair++) {
        const int64_t b = pair / heads, at = pair % heads * width;
        head_rows out = rows_of(&a->out, b, at), dout = rows_of(&a->dout, b, at);
        head_rows x = rows_of(&a->qkv, b, at), dx = rows_of(&a->dqkv, b, at);
        for (int64_t i = 0; i < t_count; i++) {
            const float *g = dout.data + i * dout.stride, *q = x.data + i * x.stride;
            const float d = dot(g, out.data + i * out.stride, width);
            delta[pair * t_count + i] = d;
            for (int64_t j = 0; j < (a->causal ? i + 1 : t_count); j++) {
                const float *k = x.data + j * x.stride + c_count, *v = k + c_count;
                float *dk = dx.data + j * dx.stride + c_count;
                float p = expf(a->scale * dot(q, k, width) - lse[pair * t_count + i]);
                float ds = p * (dot(g, v, width) - d) * a->scale;
                add_scaled(dk + c_count, g, p, width);
                add_scaled(dx.data + i * dx.stride, k, ds, width);
                add_scaled(dk, q, ds, width);
            }
        }
    }
    return SEO_OK;
}

seo_err SEO_CPU_FN(attention_cached)(seo_device *dev, const seo_attention_cached_args *a) {
    const int64_t n_count = a->out.dims[1], c_count = a->out.dims[2], heads = a->head_count;
    const int64_t width = c_count / heads, pairs = a->out.dims[0] * heads;
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (int64_t pair = 0; pair < pairs; pair++) {
        const int64_t b = pair / heads, at = pair % heads * width;
        head_rows out = rows_of(&a->out, b, at), q = rows_of(&a->qkv, b, at);
        head_rows k = rows_of(&a->cache_k, b, at), v = rows_of(&a->cache_v, b, at);
        for (int64_t i = 0; i < n_count; i++) {
            const float *from = q.data + i * q.stride;
            const size_t bytes = (size_t)width * sizeof(float);
            memcpy(k.data + (a->cached + i) * k.stride, from + c_count, bytes);
            memcpy(v.data + (a->cached + i) * v.stride, from + 2 * c_count, bytes);
        }
        for (int64_t i = 0; i < n_count; i++) {
            (void)attend(out.data + i * out.stride, q.data + i * q.stride, k, v, a->cached + i + 1,
                         width, a->scale);
        }
    }
    return SEO_OK;
}
