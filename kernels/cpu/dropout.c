/* Dropout. The generator of base/rng.h is run on several counters side by side: a lane of 64 bits
 * for each, of which only the low half counts, because that is the shape of the one vector
 * instruction that multiplies 32 bits to 64. */
#include <string.h>

#include "base/check.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vec.h"

enum {
    WIDE = SEO_VWIDTH / 2, /* counters in a vector */
    CHAINS = 2,            /* vectors at a time: a multiplication takes long, but two can overlap */
    BLOCKS = WIDE * CHAINS,
    STRIP = 4 * BLOCKS /* elements */
};

typedef uint64_t vu64 __attribute__((vector_size(SEO_VWIDTH * 4)));
typedef uint64_t vu64_memory __attribute__((vector_size(SEO_VWIDTH * 4), aligned(4), may_alias));

/* The low halves of the lanes, times m. */
SEO_INLINE vu64 multiply_low(vu64 x, uint32_t m) {
    const vu64 by = (vu64){0} + m;
#if defined(__AVX512F__)
    return (vu64)_mm512_mul_epu32((__m512i)x, (__m512i)by);
#elif defined(__AVX2__)
    return (vu64)_mm256_mul_epu32((__m256i)x, (__m256i)by);
#elif defined(__SSE2__)
    return (vu64)_mm_mul_epu32((__m128i)x, (__m128i)by);
#else
    return (x & 0xffffffffu) * by;
#endif
}

/* Stores a[0], b[0], a[1], b[1] ... */
SEO_INLINE void store_by_turns(uint32_t *to, vu64 a, vu64 b) {
#if defined(__AVX512F__)
    vu64 low = __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
    vu64 high = __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
#elif defined(__AVX2__)
    vu64 low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
    vu64 high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
#else
    vu64 low = __builtin_shufflevector(a, b, 0, 2);
    vu64 high = __builtin_shufflevector(a, b, 1, 3);
#endif
    *(vu64_memory *)to = low;
    *(vu64_memory *)(to + SEO_VWIDTH) = high;
}

/* The random bits of STRIP consecutive elements, from block `block` on: seo_philox on each block.
 */
static void random_bits(seo_rng_key key, uint64_t block, uint32_t bits[STRIP]) {
    static const uint64_t lane_numbers[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    vu64 lane, c0[CHAINS], c1[CHAINS], c2[CHAINS], c3[CHAINS];
    memcpy(&lane, lane_numbers, sizeof lane);
    SEO_UNROLL
    for (int i = 0; i < CHAINS; i++) {
        c0[i] = lane + (block + (uint64_t)(i * WIDE));
        c1[i] = c0[i] >> 32;
        c2[i] = (vu64){0} + key.purpose;
        c3[i] = (vu64){0} + key.step;
    }
    uint32_t k0 = (uint32_t)key.seed, k1 = (uint32_t)(key.seed >> 32);
    for (int round = 0; round < 10; round++) {
        SEO_UNROLL
        for (int i = 0; i < CHAINS; i++) {
            const vu64 p0 = multiply_low(c0[i], 0xD2511F53u), p1 = multiply_low(c2[i], 0xCD9E8D57u);
            c0[i] = (p1 >> 32) ^ c1[i] ^ k0;
            c2[i] = (p0 >> 32) ^ c3[i] ^ k1;
            c1[i] = p1;
            c3[i] = p0;
        }
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    SEO_UNROLL
    for (int i = 0; i < CHAINS; i++) {
        store_by_turns(bits + 4 * WIDE * i, (c0[i] & 0xffffffffu) | c1[i] << 32,
                       (c2[i] & 0xffffffffu) | c3[i] << 32);
    }
}

/* The mask is looked at as whole numbers: u >= rate is bits >> 8 >= the least k whose u is. */
static uint32_t least_kept(float rate) {
    uint32_t low = 0, high = 1u << 24; /* the answer is in low..high */
    while (low < high) {
        const uint32_t middle = (low + high) / 2;
        if (seo_uniform_from(middle << 8) >= rate)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

seo_err SEO_CPU_FN(dropout)(seo_device *dev, const seo_dropout_args *a) {
    const int64_t count = seo_tensor_count(&a->inp), lead = a->first_index % 4;
    const uint32_t least = least_kept(a->rate);
    const float scale = (float)(1.0 / (1.0 - (double)a->rate));
    const float *inp = a->inp.data;
    float *out = a->out.data;
    /* Strips of whole blocks: `lead` elements of the first block lie before the tensor. */
    const int64_t strips = seo_div_up(count + lead, STRIP);
#pragma omp parallel for num_threads(seo_cpu_threads(dev, count * 4)) schedule(static)
    for (int64_t s = 0; s < strips; s++) {
        uint32_t bits[STRIP];
        random_bits(a->key, (uint64_t)(a->first_index / 4 + s * BLOCKS), bits);
        const int64_t start = s * STRIP - lead; /* of bits[0]; below 0 in the first strip */
        const int64_t from = seo_max_i64(start, 0), end = seo_min_i64(start + STRIP, count);
        for (int64_t i = from; i < end; i++) {
            const float kept = inp[i] * scale;
            out[i] = bits[i - start] >> 8 >= least ? kept : 0.0f;
        }
    }
    return SEO_OK;
}
