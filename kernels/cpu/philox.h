/* Random bits in bulk: the generator of base/rng.h on several counters side by side. A counter has
 * a lane of 64 bits, of which only the low half counts, because that is the shape of the one vector
 * instruction that multiplies 32 bits to 64. */
#pragma once

#include <stdint.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vec.h"

enum {
    SEO_PHILOX_WIDE = SEO_VWIDTH / 2, /* counters in a vector */
    SEO_PHILOX_CHAINS = 2, /* vectors at a time: a multiplication takes long, but two can overlap */
    SEO_PHILOX_BLOCKS = SEO_PHILOX_WIDE * SEO_PHILOX_CHAINS,
    SEO_PHILOX_STRIP = 4 * SEO_PHILOX_BLOCKS /* elements */
};

typedef uint64_t seo_vu64 __attribute__((vector_size(SEO_VWIDTH * 4)));
typedef uint64_t seo_vu64_memory
    __attribute__((vector_size(SEO_VWIDTH * 4), aligned(4), may_alias));

/* The low halves of the lanes, times m. */
SEO_INLINE seo_vu64 seo_multiply_low(seo_vu64 x, uint32_t m) {
    const seo_vu64 by = (seo_vu64){0} + m;
#if defined(__AVX512F__)
    return (seo_vu64)_mm512_mul_epu32((__m512i)x, (__m512i)by);
#elif defined(__AVX2__)
    return (seo_vu64)_mm256_mul_epu32((__m256i)x, (__m256i)by);
#elif defined(__SSE2__)
    return (seo_vu64)_mm_mul_epu32((__m128i)x, (__m128i)by);
#else
    return (x & 0xffffffffu) * by;
#endif
}

/* Stores a[0], b[0], a[1], b[1] ... */
SEO_INLINE void seo_store_by_turns(uint32_t *to, seo_vu64 a, seo_vu64 b) {
#if defined(__AVX512F__)
    seo_vu64 low = __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
    seo_vu64 high = __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
#elif defined(__AVX2__)
    seo_vu64 low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
    seo_vu64 high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
#else
    seo_vu64 low = __builtin_shufflevector(a, b, 0, 2);
    seo_vu64 high = __builtin_shufflevector(a, b, 1, 3);
#endif
    *(seo_vu64_memory *)to = low;
    *(seo_vu64_memory *)(to + SEO_VWIDTH) = high;
}

/* The random bits of SEO_PHILOX_STRIP consecutive elements, from block `block` on: seo_philox on
 * each block.
 */
static inline void seo_philox_strip(seo_rng_key key, uint64_t block,
                                    uint32_t bits[SEO_PHILOX_STRIP]) {
    static const uint64_t lane_numbers[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    seo_vu64 lane, c0[SEO_PHILOX_CHAINS], c1[SEO_PHILOX_CHAINS], c2[SEO_PHILOX_CHAINS],
        c3[SEO_PHILOX_CHAINS];
    memcpy(&lane, lane_numbers, sizeof lane);
    SEO_UNROLL
    for (int i = 0; i < SEO_PHILOX_CHAINS; i++) {
        c0[i] = lane + (block + (uint64_t)(i * SEO_PHILOX_WIDE));
        c1[i] = c0[i] >> 32;
        c2[i] = (seo_vu64){0} + key.purpose;
        c3[i] = (seo_vu64){0} + key.step;
    }
    uint32_t k0 = (uint32_t)key.seed, k1 = (uint32_t)(key.seed >> 32);
    for (int round = 0; round < 10; round++) {
        SEO_UNROLL
        for (int i = 0; i < SEO_PHILOX_CHAINS; i++) {
            const seo_vu64 p0 = seo_multiply_low(c0[i], 0xD2511F53u),
                           p1 = seo_multiply_low(c2[i], 0xCD9E8D57u);
            c0[i] = (p1 >> 32) ^ c1[i] ^ k0;
            c2[i] = (p0 >> 32) ^ c3[i] ^ k1;
            c1[i] = p1;
            c3[i] = p0;
        }
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    SEO_UNROLL
    for (int i = 0; i < SEO_PHILOX_CHAINS; i++) {
        seo_store_by_turns(bits + 4 * SEO_PHILOX_WIDE * i, (c0[i] & 0xffffffffu) | c1[i] << 32,
                           (c2[i] & 0xffffffffu) | c3[i] << 32);
    }
}
