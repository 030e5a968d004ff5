/* Private to kernels/cpu: one vector of floats, as wide as the level of this build has it, and the
 * few functions the compilers' vector types lack. Arithmetic is written with the plain operators
 * (a * b + c becomes one FMA where the level has it), so one source serves all levels.
 *
 * Refuses: gathers, permutations, anything whose cost differs much between levels. */
#pragma once

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
enum { SEO_VWIDTH = 16 };
#elif defined(__AVX2__)
enum { SEO_VWIDTH = 8 };
#else
enum { SEO_VWIDTH = 4 };
#endif

typedef float seo_vf __attribute__((vector_size(SEO_VWIDTH * 4)));
typedef int32_t seo_vi __attribute__((vector_size(SEO_VWIDTH * 4)));
typedef float seo_vf_memory __attribute__((vector_size(SEO_VWIDTH * 4), aligned(4), may_alias));

/* Loops of constant length that must disappear, because they index arrays meant for registers. */
#if defined(__clang__)
#define SEO_UNROLL _Pragma("unroll")
#else
#define SEO_UNROLL _Pragma("GCC unroll 64")
#endif
#define SEO_INLINE static inline __attribute__((always_inline))

/* No alignment is asked for. */
SEO_INLINE seo_vf seo_vload(const float *p) {
    return *(const seo_vf_memory *)p;
}
SEO_INLINE void seo_vstore(float *p, seo_vf v) {
    *(seo_vf_memory *)p = v;
}
SEO_INLINE seo_vf seo_vset(float x) {
    return x - (seo_vf){0};
}

/* The first n lanes, 0 <= n <= SEO_VWIDTH; the others read as 0 and are not touched in memory. */
SEO_INLINE seo_vf seo_vload_n(const float *p, int64_t n) {
#if defined(__AVX512F__)
    return (seo_vf)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1u), p);
#else
    seo_vf v = {0};
    memcpy(&v, p, (size_t)n * sizeof(float));
    return v;
#endif
}
SEO_INLINE void seo_vstore_n(float *p, seo_vf v, int64_t n) {
#if defined(__AVX512F__)
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1u), (__m512)v);
#else
    memcpy(p, &v, (size_t)n * sizeof(float));
#endif
}

/* Lane by lane; where one lane is not a number the result is b's. */
SEO_INLINE seo_vf seo_vmax(seo_vf a, seo_vf b) {
#if defined(__AVX512F__)
    return (seo_vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (seo_vf)_mm256_max_ps((__m256)a, (__m256)b);
#elif defined(__SSE2__)
    return (seo_vf)_mm_max_ps((__m128)a, (__m128)b);
#else
    seo_vi a_wins = a > b;
    return (seo_vf)(((seo_vi)a & a_wins) | ((seo_vi)b & ~a_wins));
#endif
}
SEO_INLINE seo_vf seo_vmin(seo_vf a, seo_vf b) {
    return -seo_vmax(-a, -b);
}

/* mask lanes are all ones or all zeros, as comparisons give them. */
SEO_INLINE seo_vf seo_vselect(seo_vi mask, seo_vf yes, seo_vf no) {
    return (seo_vf)(((seo_vi)yes & mask) | ((seo_vi)no & ~mask));
}
SEO_INLINE seo_vf seo_vabs(seo_vf x) {
    return (seo_vf)((seo_vi)x & 0x7fffffff);
}

/* Over the lanes, in halves: always the same order. */
typedef float seo_vf4 __attribute__((vector_size(16)));
typedef float seo_vf8 __attribute__((vector_size(32)));
SEO_INLINE float seo_vsum(seo_vf v) {
#if defined(__AVX512F__)
    seo_vf8 e = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
                __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
#elif defined(__AVX2__)
    seo_vf8 e = v;
#endif
#if defined(__AVX2__)
    seo_vf4 f =
        __builtin_shufflevector(e, e, 0, 1, 2, 3) + __builtin_shufflevector(e, e, 4, 5, 6, 7);
#else
    seo_vf4 f = v;
#endif
    return (f[0] + f[2]) + (f[1] + f[3]);
}
SEO_INLINE float seo_vmax_lane(seo_vf v) {
    float lanes[4];
#if defined(__AVX512F__)
    __m256 low = _mm512_castps512_ps256((__m512)v);
    __m256 e = _mm256_max_ps(low, _mm512_extractf32x8_ps((__m512)v, 1));
#elif defined(__AVX2__)
    __m256 e = (__m256)v;
#endif
#if defined(__AVX2__)
    _mm_storeu_ps(lanes, _mm_max_ps(_mm256_castps256_ps128(e), _mm256_extractf128_ps(e, 1)));
#else
    memcpy(lanes, &v, sizeof(lanes));
#endif
    float a = lanes[0] > lanes[1] ? lanes[0] : lanes[1];
    float b = lanes[2] > lanes[3] ? lanes[2] : lanes[3];
    return a > b ? a : b;
}

/* 0, 1, 2 ... */
SEO_INLINE seo_vi seo_vlanes(void) {
    seo_vi lanes;
    for (int i = 0; i < SEO_VWIDTH; i++) lanes[i] = i;
    return lanes;
}

/* e^x to about 1 ulp. Exactly 0 below -87.33 (where the result would be subnormal) and for minus
 * infinity, infinity above 88.73, and not a number stays so. Cody and Waite's reduction to
 * |r| <= ln2/2, then 1 + r + r^2 q(r) with q a Chebyshev fit of degree 4 (remainder 7e-9). */
SEO_INLINE seo_vf seo_vexp(seo_vf x) {
    const float to_integer = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    seo_vi underflow = x < -87.33f;
    x = seo_vmax(seo_vset(-88.0f), x);
    x = -seo_vmax(seo_vset(-89.0f), -x);
    seo_vf shifted = x * 1.44269504f + to_integer;
    seo_vf n = shifted - to_integer;
    seo_vf r = x - n * 0.693145751953125f;
    r = r - n * 1.42860682e-6f;
    seo_vf q = r * 0.00139262508f + 0.00836323288f;
    q = q * r + 0.0416665542f;
    q = q * r + 0.166665767f;
    q = q * r + 0.5f;
    seo_vf p = q * (r * r) + r + 1.0f;
    /* 2^n in two factors, because 2^128 is not a float. */
    seo_vi power = (seo_vi)shifted - 0x4b400000;
    seo_vi half = power >> 1;
    p = p * (seo_vf)((half + 127) << 23) * (seo_vf)((power - half + 127) << 23);
    return (seo_vf)((seo_vi)p & ~underflow);
}

/* tanh x to about 2 ulp: an odd polynomial near 0, where 1 - 2 / (e^2x + 1) would cancel. */
SEO_INLINE seo_vf seo_vtanh(seo_vf x) {
    seo_vf z = x * x;
    seo_vf p = z * 0.00226950168f - 0.00832318706f;
    p = p * z + 0.0217625029f;
    p = p * z - 0.0539584616f;
    p = p * z + 0.133333001f;
    p = p * z - 0.333333331f;
    seo_vf small = x + x * (z * p);
    seo_vf size = seo_vabs(x);
    seo_vf large = 1.0f - 2.0f / (seo_vexp(size + size) + 1.0f);
    seo_vf magnitude = (seo_vf)((seo_vi)large | ((seo_vi)x & (int32_t)0x80000000));
    return seo_vselect(size < 0.63f, small, magnitude);
}
