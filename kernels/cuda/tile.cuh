/* What kernels share: element types, 16-byte vectors, sums over a warp in a fixed order. */
#pragma once

#include "kernels/cuda/ptx.cuh"

enum { WARP = 32 };
#define FULL_WARP 0xffffffffu

SEO_DEVICE float to_f32(float x) {
    return x;
}
SEO_DEVICE float to_f32(bf16 x) {
    return __bfloat162float(x);
}
SEO_DEVICE void store_f32(float *at, float x) {
    *at = x;
}
SEO_DEVICE void store_f32(bf16 *at, float x) {
    *at = __float2bfloat16_rn(x);
}

/* 16 bytes of T: one load or store instruction. */
template <class T> struct alignas(16) vec {
    static const int count = 16 / (int)sizeof(T);
    T x[16 / sizeof(T)];
};

/* Two f32 as the bf16 pair of a fragment register, the first in the lower half. */
SEO_DEVICE uint32_t pack_bf16(float low, float high) {
    union {
        bf162 pair;
        uint32_t bits;
    } u;
    u.pair = __floats2bfloat162_rn(low, high);
    return u.bits;
}

/* The same sum in every lane: a butterfly, so the order is fixed. */
SEO_DEVICE float warp_sum(float x) {
#pragma unroll
    for (int offset = WARP / 2; offset > 0; offset /= 2) {
        x += __shfl_xor_sync(FULL_WARP, x, offset);
    }
    return x;
}
SEO_DEVICE float warp_max(float x) {
#pragma unroll
    for (int offset = WARP / 2; offset > 0; offset /= 2) {
        x = fmaxf(x, __shfl_xor_sync(FULL_WARP, x, offset));
    }
    return x;
}
