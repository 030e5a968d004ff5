/* A layer norm with a two-level reduction, and what can be forgotten in it. */
#include "kernels/cuda/tile.cuh"
#include "tests/simt/bugs/bugs.h"

static const int THREADS = 256;

/* The sum of the block in every thread: the warps' sums through part[]. */
SEO_DEVICE float block_sum(float x, float *part, int bug) {
    int lane = (int)threadIdx.x % WARP;
    int warp = (int)threadIdx.x / WARP;
    x = warp_sum(x);
    if (lane == 0) part[warp] = x;
    if (bug != NORM_NO_SYNC_BEFORE_READ) __syncthreads();
    bool written = lane < THREADS / WARP || bug == NORM_UNWRITTEN_SLOTS;
    x = warp_sum(written ? part[lane] : 0.0f);
    if (bug != NORM_NO_SYNC_BEFORE_REUSE) __syncthreads();
    return x;
}

/* One block a row. */
__global__ void norm_with_bug(int bug, float *out, const float *x, int width) {
    SEO_SHARED(float, part, 32);
    typedef vec<float> vec4;
    const float *row = x + (size_t)blockIdx.x * (size_t)width;
    float *out_row = out + (size_t)blockIdx.x * (size_t)width;
    int first = (int)threadIdx.x * 4;
    int end = bug == NORM_ONE_VECTOR_TOO_MANY ? width + 4 : width;
    float sum = 0;
    for (int i = first; i < end; i += THREADS * 4) {
        vec4 v = *(const vec4 *)(row + i);
        for (int j = 0; j < 4; j++) sum += v.x[j];
    }
    float mean = block_sum(sum, part, bug) / (float)width;
    sum = 0;
    for (int i = first; i < width; i += THREADS * 4) {
        for (int j = 0; j < 4; j++) sum += (row[i + j] - mean) * (row[i + j] - mean);
    }
    float scale = rsqrtf(block_sum(sum, part, bug) / (float)width + 1e-5f);
    for (int i = first; i < width; i += THREADS * 4) {
        for (int j = 0; j < 4; j++) out_row[i + j] = (row[i + j] - mean) * scale;
    }
}

cudaError_t bug_norm(int bug, float *out, const float *x, int rows, int width) {
    return seo_launch({dim3((unsigned)rows), dim3(THREADS), 0, nullptr}, norm_with_bug, bug, out, x,
                      width);
}
