/* Normal numbers for initial parameters. Written in plain floats that the compiler turns into
 * vectors; this file is compiled without contraction, so that every level gives the same bits. */
#include <math.h>
#include <string.h>

#include "base/check.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/philox.h"

enum { PAIRS = SEO_PHILOX_STRIP / 2 };

/* ln u for u in (0, 1): u = 2^e m with m in [sqrt(1/2), sqrt(2)), ln m = 2 artanh((m - 1) / (m +
 * 1)) by its series, whose next term is below 2e-9 of the first. */
static inline float natural_log(float u) {
    int32_t bits = 0;
    memcpy(&bits, &u, sizeof bits);
    const int32_t exponent = (bits - 0x3f3504f3) >> 23;
    bits -= exponent * (1 << 23);
    float m = 0;
    memcpy(&m, &bits, sizeof m);
    const float s = (m - 1.0f) / (m + 1.0f), q = s * s;
    const float series = 1.0f + q * (1.0f / 3 + q * (1.0f / 5 + q * (1.0f / 7 + q * (1.0f / 9))));
    return 2.0f * s * series + (float)exponent * 0.69314718056f;
}

/* cos and sin of 2 pi u: the quarter turn nearest to u is taken out exactly, Taylor's series does
 * the rest within pi/4. */
static inline void turn(float u, float *cosine, float *sine) {
    const int32_t quarter = (int32_t)(4.0f * u + 0.5f);
    const float x = 6.28318530718f * (u - 0.25f * (float)quarter), q = x * x;
    const float s =
        x * (1.0f - q * (1.0f / 6 - q * (1.0f / 120 - q * (1.0f / 5040 - q * (1.0f / 362880)))));
    const float c =
        1.0f -
        q * (0.5f - q * (1.0f / 24 - q * (1.0f / 720 - q * (1.0f / 40320 - q * (1.0f / 3628800)))));
    const float even = quarter & 1 ? s : c, odd = quarter & 1 ? c : s;
    *cosine = (quarter + 1) & 2 ? -even : even;
    *sine = quarter & 2 ? -odd : odd;
}

/* SEO_PHILOX_STRIP numbers of standard deviation std. */
static void box_muller(const uint32_t bits[SEO_PHILOX_STRIP], float std,
                       float out[SEO_PHILOX_STRIP]) {
    float u1[PAIRS], u2[PAIRS];
    for (int p = 0; p < PAIRS; p++) {
        u1[p] = seo_uniform_from(bits[2 * p]);
        u2[p] = seo_uniform_from(bits[2 * p + 1]);
    }
    for (int p = 0; p < PAIRS; p++) {
        float cosine = 0, sine = 0;
        const float radius = std * sqrtf(-2.0f * natural_log(u1[p]));
        turn(u2[p], &cosine, &sine);
        u1[p] = radius * cosine;
        u2[p] = radius * sine;
    }
    for (int p = 0; p < PAIRS; p++) {
        out[2 * p] = u1[p];
        out[2 * p + 1] = u2[p];
    }
}

seo_err SEO_CPU_FN(normal)(seo_device *dev, const seo_normal_args *a) {
    const int64_t count = seo_tensor_count(&a->out);
    const int64_t strips = seo_div_up(count, SEO_PHILOX_STRIP);
    float *out = a->out.data;
#pragma omp parallel for num_threads(seo_cpu_threads(dev, count * 16)) schedule(static)
    for (int64_t strip = 0; strip < strips; strip++) {
        uint32_t bits[SEO_PHILOX_STRIP];
        float values[SEO_PHILOX_STRIP];
        const int64_t first = strip * SEO_PHILOX_STRIP;
        seo_philox_strip(a->key, (uint64_t)(a->first_index + first) / 4, bits);
        box_muller(bits, a->std, values);
        const int64_t n = seo_min_i64(SEO_PHILOX_STRIP, count - first);
        memcpy(out + first, values, (size_t)n * sizeof *out);
    }
    return SEO_OK;
}
