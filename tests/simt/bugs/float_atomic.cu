/* Must not compile: a sum whose order depends on timing. */
#include "kernels/cuda/device.cuh"

__global__ void float_atomic(float *sum, float x) {
    atomicAdd(sum, x);
}
