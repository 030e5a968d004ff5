/* Kernels for the tests of the emulated runtime. */
#include "kernels/cuda/device.cuh"

/* y[i] = a * y[i] + x[i]: one thread an element. */
__global__ void scale_add(float *y, const float *x, float a, int n) {
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n) y[i] = a * y[i] + x[i];
}
extern "C" cudaError_t test_scale_add(float *y, const float *x, float a, int n,
                                      cudaStream_t stream) {
    const unsigned threads = 64;
    unsigned blocks = ((unsigned)n + threads - 1) / threads;
    return seo_launch({dim3(blocks), dim3(threads), 0, stream}, scale_add, y, x, a, n);
}

__global__ void trap_always() {
    __trap();
}
extern "C" cudaError_t test_trap(cudaStream_t stream) {
    return seo_launch({dim3(1), dim3(32), 0, stream}, trap_always);
}
