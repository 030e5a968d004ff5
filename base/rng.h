/* Counter-based random numbers: Philox 4x32-10 (Salmon et al. 2011, "Parallel random numbers: as
 * easy as 1, 2, 3"). A number is a pure function of (seed, purpose, step, element index), so it is
 * the same on CPU and GPU and does not depend on thread count, block size or sharding. No state is
 * kept. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#ifdef __CUDACC__
#define SEO_HOST_DEVICE __host__ __device__
#else
#define SEO_HOST_DEVICE
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* What a number is for; two purposes never share numbers. Values are part of the checkpoint's
 * meaning: append, never renumber. Dropout sites add their layer number to the step's high bits. */
typedef enum seo_purpose {
    SEO_PURPOSE_INIT = 1,
    SEO_PURPOSE_DROPOUT = 2,
    SEO_PURPOSE_SAMPLE = 3,
    SEO_PURPOSE_SPLIT = 4,
    SEO_PURPOSE_TEST = 5,
    SEO_PURPOSE_ROUNDING = 6,
    SEO_PURPOSE_MASK = 7, /* masked tokens of a row; the site is the source, the step the epoch */
    SEO_PURPOSE_PAIR = 8  /* sentence pairs, likewise */
} seo_purpose;

typedef struct seo_rng_key {
    uint64_t seed;
    uint32_t purpose; /* seo_purpose, with the site in the upper 24 bits: purpose | site << 8 */
    uint32_t step;
} seo_rng_key;

typedef struct seo_u32x4 {
    uint32_t v[4];
} seo_u32x4;

SEO_HOST_DEVICE static inline seo_u32x4 seo_philox_round(seo_u32x4 c, uint32_t k0, uint32_t k1) {
    uint64_t p0 = (uint64_t)0xD2511F53u * c.v[0], p1 = (uint64_t)0xCD9E8D57u * c.v[2];
    seo_u32x4 r = {{(uint32_t)(p1 >> 32) ^ c.v[1] ^ k0, (uint32_t)p1,
                    (uint32_t)(p0 >> 32) ^ c.v[3] ^ k1, (uint32_t)p0}};
    return r;
}

/* Four independent 32-bit numbers for block `index` of the stream `key`. */
SEO_HOST_DEVICE static inline seo_u32x4 seo_philox(seo_rng_key key, uint64_t index) {
    seo_u32x4 c = {{(uint32_t)index, (uint32_t)(index >> 32), key.purpose, key.step}};
    uint32_t k0 = (uint32_t)key.seed, k1 = (uint32_t)(key.seed >> 32);
    for (int round = 0; round < 10; round++) {
        c = seo_philox_round(c, k0, k1);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return c;
}

/* The 32-bit number of element `index`: lane index % 4 of block index / 4. */
SEO_HOST_DEVICE static inline uint32_t seo_rng_u32(seo_rng_key key, uint64_t index) {
    return seo_philox(key, index >> 2).v[index & 3];
}

/* Uniform in (0, 1): (top 23 bits + 0.5) / 2^23, exact in f32, never 0 or 1. A 24th bit would round
 * the largest value up to 1. */
SEO_HOST_DEVICE static inline float seo_uniform_from(uint32_t bits) {
    return ((float)(bits >> 9) + 0.5f) * (1.0f / 8388608.0f);
}

/* The same comparison in whole numbers: seo_uniform_from(bits) >= limit exactly when bits >> 8 is
 * this or more. In 0 .. 2^24. */
static inline uint32_t seo_uniform_least(float limit) {
    uint32_t low = 0, high = 1u << 24; /* the answer is in low..high */
    while (low < high) {
        const uint32_t middle = (low + high) / 2;
        const bool reached = seo_uniform_from(middle << 8) >= limit;
        high = reached ? middle : high;
        low = reached ? low : middle + 1;
    }
    return low;
}

#ifdef __cplusplus
}
#endif
