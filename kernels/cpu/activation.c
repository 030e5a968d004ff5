/* GELU in both forms, and tanh. */
#include <stddef.h>

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

/* x Phi(x). Phi(-y) = e^(-y^2 / 2) h(y) for y = |x|, where h is a polynomial of degree 9 in
 * 1 / (1 + y / 4), fitted for the least relative error over [0, 13.5] (1.3e-8; beyond, the
 * exponential is 0): so the lower tail keeps its digits, and the density comes for nothing. */
SEO_INLINE gelu_terms gelu_erf(seo_vf x) {
    seo_vf y = seo_vabs(x);
    seo_vf t = 1.0f / (1.0f + 0.25f * y);
    seo_vf h = t * 0.0344786495f - 0.19904989f;
    h = h * t + 0.401725888f;
    h = h * t - 0.342410982f;
    h = h * t + 0.311918497f;
    h = h * t - 0.0243817195f;
    h = h * t + 0.122958004f;
    h = h * t + 0.0945192724f;
    h = h * t + 0.100265794f;
    h = h * t - 2.35351781e-05f;
    seo_vf e = seo_vexp(x * x * -0.5f);
    seo_vf tail = e * h;
    seo_vf phi = seo_vselect(x > 0.0f, 1.0f - tail, tail);
    gelu_terms g = {.value = x * phi, .slope = phi + x * (e * 0.3989422804f)};
    return g;
}

/* A chunk with its kind known at compile time. dout is NULL in the forward. */
SEO_INLINE void gelu_chunk(float *out, const float *dout, const float *inp, int64_t count,
                           seo_gelu_kind kind) {
    int64_t i = 0;
    for (; i + SEO_VWIDTH <= count; i += SEO_VWIDTH) {
        const seo_vf x = seo_vload(inp + i);
        const gelu_terms g = kind == SEO_GELU_TANH ? gelu_tanh(x) : gelu_erf(x);
        seo_vstore(out + i, dout ? g.slope * seo_vload(dout + i) : g.value);
    }
    const seo_vf x = seo_vload_n(inp + i, count - i);
    const gelu_terms g = kind == SEO_GELU_TANH ? gelu_tanh(x) : gelu_erf(x);
    seo_vstore_n(out + i, dout ? g.slope * seo_vload_n(dout + i, count - i) : g.value, count - i);
}

seo_err SEO_CPU_FN(gelu_fwd)(seo_device *dev, const seo_gelu_fwd_args *a) {
    const int64_t count = seo_tensor_count(&a->inp);
    const float *inp = a->inp.data;
    float *out = a->out.data;
    const bool tanh_form = a->kind == SEO_GELU_TANH;
#pragma omp parallel for num_threads(seo_cpu_threads(dev, count * 4)) schedule(static)
    for (int64_t c = 0; c < count; c += CHUNK) {
        const int64_t n = seo_min_i64(CHUNK, count - c);
        if (tanh_form)
            gelu_chunk(out + c, NULL, inp + c, n, SEO_GELU_TANH);
        else
            gelu_chunk(out + c, NULL, inp + c, n, SEO_GELU_ERF);
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
        const int64_t n = seo_min_i64(CHUNK, count - c);
        if (tanh_form)
            gelu_chunk(dinp + c, dout + c, inp + c, n, SEO_GELU_TANH);
        else
            gelu_chunk(dinp + c, dout + c, inp + c, n, SEO_GELU_ERF);
    }
    return SEO_OK;
}

/* dout is NULL in the forward; x is the input there, and tanh of it in the backward. */
SEO_INLINE seo_vf tanh_value(seo_vf x, seo_vf dout, bool backward) {
    return backward ? dout * (1.0f - x * x) : seo_vtanh(x);
}

SEO_INLINE void tanh_chunk(float *out, const float *dout, const float *x, int64_t count) {
    const bool backward = dout != NULL;
    int64_t i = 0;
    for (; i + SEO_VWIDTH <= count; i += SEO_VWIDTH) {
        const seo_vf g = backward ? seo_vload(dout + i) : (seo_vf){0};
        seo_vstore(out + i, tanh_value(seo_vload(x + i), g, backward));
    }
    const seo_vf g = backward ? seo_vload_n(dout + i, count - i) : (seo_vf){0};
    seo_vstore_n(out + i, tanh_value(seo_vload_n(x + i, count - i), g, backward), count - i);
}

seo_err SEO_CPU_FN(tanh_fwd)(seo_device *dev, const seo_tanh_fwd_args *a) {
    const int64_t count = seo_tensor_count(&a->inp);
    const float *inp = a->inp.data;
    float *out = a->out.data;
#pragma omp parallel for num_threads(seo_cpu_threads(dev, count * 4)) schedule(static)
    for (int64_t c = 0; c < count; c += CHUNK) {
        tanh_chunk(out + c, NULL, inp + c, seo_min_i64(CHUNK, count - c));
    }
    return SEO_OK;
}

seo_err SEO_CPU_FN(tanh_bwd)(seo_device *dev, const seo_tanh_bwd_args *a) {
    const int64_t count = seo_tensor_count(&a->out);
    const float *value = a->out.data, *dout = a->dout.data;
    float *dinp = a->dinp.data;
#pragma omp parallel for num_threads(seo_cpu_threads(dev, count)) schedule(static)
    for (int64_t c = 0; c < count; c += CHUNK) {
        tanh_chunk(dinp + c, dout + c, value + c, seo_min_i64(CHUNK, count - c));
    }
    return SEO_OK;
}
