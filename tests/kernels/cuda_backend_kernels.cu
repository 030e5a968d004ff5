/* Kernels for the tests of the CUDA backend: what operators do only when something is wrong. */
#include "kernels/cuda/device.cuh"

/* One thread notes a fault as the operators' kernels do. */
__global__ void note_fault(int32_t *word, int32_t fault) {
    if (threadIdx.x == 0) *word = fault;
}
extern "C" cudaError_t test_note_fault(int32_t *word, int32_t fault, cudaStream_t stream) {
    return seo_launch({dim3(1), dim3(32), 0, stream}, note_fault, word, fault);
}
