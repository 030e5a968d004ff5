/* GELU in both forms, and dropout. */
#include <string.h>

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

/* The random bits of LANES * 4 consecutive elements, from the block `block` on: the generator of
 * base/rng.h, with LANES counters side by side so that the multiplications become vectors. */
enum { LANES = 16 };
static void random_bits(seo_rng_key key, uint64_t block, uint32_t bits[restrict 4 * LANES]) {
    seo_u32x4 counters[LANES];
    for (int i = 0; i < LANES; i++) counters[i] = seo_philox(key, block + (uint64_t)i);
    memcpy(bits, counters, sizeof counters);
}

seo_err SEO_CPU_FN(dropout)(seo_device *dev, const seo_dropout_args *a) {
    const int64_t count = seo_tensor_count(&a->inp), lead = a->first_index % 4;
    const float rate = a->rate, scale = (float)(1.0 / (1.0 - (double)a->rate));
    const float *inp = a->inp.data;
    float *out = a->out.data;
    /* Strips of whole blocks: `lead` elements of the first block lie before the tensor. */
    const int64_t strips = seo_div_up(count + lead, 4 * LANES);
#pragma omp parallel for num_threads(seo_cpu_threads(dev, count * 4)) schedule(static)
    for (int64_t s = 0; s < strips; s++) {
        uint32_t bits[4 * LANES];
        random_bits(a->key, (uint64_t)(a->first_index / 4 + s * LANES), bits);
        const int64_t start = s * 4 * LANES - lead; /* of bits[0]; below 0 in the first strip */
        const int64_t from = seo_max_i64(start, 0);
        const int64_t end = seo_min_i64(start + 4 * LANES, count);
        for (int64_t i = from; i < end; i++) {
            out[i] = seo_uniform_from(bits[i - start]) >= rate ? inp[i] * scale : 0.0f;
        }
    }
    return SEO_OK;
}
