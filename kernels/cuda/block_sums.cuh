/* What losses over a row of logits share, one block a row: its columns, exponentials, and sums over
 * the block in one order. */
#pragma once

#include <math.h>

#include "kernels/cuda/elements.cuh"

/* e^x, x <= 0: what is lost of f32's exponential lies far below a bf16. */
SEO_DEVICE float exp_of(float x, float) {
    return expf(x);
}
SEO_DEVICE float exp_of(float x, bf16) {
    return ptx_exp2(x * 1.44269504f);
}

/* The same in every thread; the sum over lanes as a butterfly, over warps in ascending order. part:
 * a number for each warp, used for this alone. */
SEO_DEVICE float block_max(float x, float *part) {
    x = warp_max(x);
    if (threadIdx.x % WARP == 0) part[threadIdx.x / WARP] = x;
    __syncthreads();
    for (int w = 0; w < (int)blockDim.x / WARP; w++) x = fmaxf(x, part[w]);
    return x;
}
SEO_DEVICE float block_sum(float x, float *part) {
    x = warp_sum(x);
    if (threadIdx.x % WARP == 0) part[threadIdx.x / WARP] = x;
    __syncthreads();
    x = 0.0f;
    for (int w = 0; w < (int)blockDim.x / WARP; w++) x += part[w];
    return x;
}

/* N logits from column c on; padded columns read as minus infinity, whatever they hold. */
template <int N, class T>
SEO_DEVICE void load_logits(float (&x)[N], const T *row, int64_t c, int64_t vocab) {
    load_f32(x, row + c);
    if (c + N <= vocab) return;
#pragma unroll
    for (int i = 0; i < N; i++) {
        if (c + i >= vocab) x[i] = -INFINITY;
    }
}
