/* GELU in both forms, and dropout. */
#include <math.h>

#include "base/check.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vec.h"

enum { CHUNK = 4096 }; /* elements a thread takes at a time; whole Philox blocks */

typedef struct gelu_terms {
    seo_vf value, slope;
} gelu_terms;

/* 0.5 x (1 + tanh u) = x s with s = 1 / (1 + e^-2u): no cancellation where the tanh nears -1.
 * The exponent is held where e^-2u is finite, so that e * s, which is 1 - s without its rounding,
 * never becomes infinity times 0. */
SEO_INLINE gelu_terms gelu_tanh(seo_vf x) {
    const float k = 0.7978845608f, cubic = 0.044715f;
    seo_vf square = x * x;
    seo_vf exponent = x * (square * (-2.0f * k * cubic) - 2.0f * k);
    seo_vf e = seo_vexp(seo_vmin(seo_vset(87.0f), exponent));
    seo_vf s = 1.0f / (1.0f + e);
    seo_vf slope = square * (6.0f * k * cubic) + 2.0f * k; /* of 2u */
    gelu_terms g = {.value = x * s, .slope = s + x * slope * (s * (e * s))};
    return g;
}

/* x Phi(x), with Phi from the C library's erf, lane by lane. */
SEO_INLINE gelu_terms gelu_erf(seo_vf x) {
    gelu_terms g;
    for (int i = 0; i < SEO_VWIDTH; i++) {
        float phi = 0.5f * erfcf(-0.70710678f * x[i]);
        g.value[i] = x[i] * phi;
        g.slope[i] = phi + x[i] * 0.3989422804f * expf(-0.5f * x[i] * x[i]);
    }
    return g;
}

seo_err SEO_CPU_FN(dropout)(seo_device *dev, const seo_dropout_args *a) {
    const int64_t count = seo_tensor_count(&a->inp);
    const uint64_t first = (uint64_t)a->first_index;
    const float rate = a->rate, scale = (float)(1.0 / (1.0 - (double)a->rate));
    const float *inp = a->inp.data;
    float *out = a->out.data;
#pragma omp parallel for num_threads(seo_cpu_threads(dev, count * 4)) schedule(static)
    for (int64_t i = 0; i < count; i++) {
        const float u = seo_uniform_from(seo_rng_u32(a->key, first + (uint64_t)i));
        out[i] = u >= rate ? inp[i] * scale : 0.0f;
    }
    return SEO_OK;
}

seo_err SEO_CPU_FN(gelu_fwd)(seo_device *dev, const seo_gelu_fwd_args *a) {
    const int64_t count = seo_tensor_count(&a->inp);
    const float *inp = a->inp.data;
    float *out = a->out.data;
    const bool tanh_form = a->kind == SEO_GELU_TANH;
#pragma omp parallel for num_threads(seo_cpu_threads(dev, count * 4)) schedule(static)
    for (int64_t c = 0; c < count; c += CHUNK) {
        const int64_t end = seo_min_i64(c + CHUNK, count);
        for (int64_t i = c; i < end; i += SEO_VWIDTH) {
            const int64_t n = seo_min_i64(SEO_VWIDTH, end - i);
            const seo_vf x = seo_vload_n(inp + i, n);
            seo_vstore_n(out + i, (tanh_form ? gelu_tanh(x) : gelu_erf(x)).value, n);
        }
    }
    return SEO_OK;
}

seo_err SEO_CPU_FN(gelu_bwd)(seo_device *dev, const seo_gelu_bwd_args *a) {
    const int64_t count = seo_tensor_count(&a->inp);
    const float *inp = a->inp.data, *dout = a->dout.data;
    float *dinp = a->dinp.data;
    const bool tanh_form = a->kind == SEO_GELU_TANH;
#pragma omp parallel for num_threads(seo_cpu_threads(dev, count * 4)) schedule(static)
    for (int64_t c = 0; c < count; c += CHUNK) {
        const int64_t end = seo_min_i64(c + CHUNK, count);
        for (int64_t i = c; i < end; i += SEO_VWIDTH) {
            const int64_t n = seo_min_i64(SEO_VWIDTH, end - i);
            const seo_vf x = seo_vload_n(inp + i, n);
            const seo_vf slope = (tanh_form ? gelu_tanh(x) : gelu_erf(x)).slope;
            seo_vstore_n(dinp + i, slope * seo_vload_n(dout + i, n), n);
        }
    }
    return SEO_OK;
}
