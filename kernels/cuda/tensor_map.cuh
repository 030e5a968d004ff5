/* Tensor maps: how TMA finds the tiles of a matrix. Made on the host, passed to a kernel by value
 * as `const __grid_constant__ CUtensorMap`. */
#pragma once

#include <cuda.h>

#include "kernels/cuda/device.cuh"

/* The driver's function. It is asked for at run time, so that the plug-in loads where there is no
 * driver. */
static inline cudaError_t tensor_map_encoder(decltype(&cuTensorMapEncodeTiled) *out) {
    cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
    void *function = nullptr;
#if CUDART_VERSION >= 12050
    const cudaError_t err = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function,
                                                             12000, cudaEnableDefault, &found);
#else
    const cudaError_t err =
        cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &function, cudaEnableDefault, &found);
#endif
    if (err != cudaSuccess) return err;
    *out = (decltype(&cuTensorMapEncodeTiled))function;
    return found == cudaDriverEntryPointSuccess ? cudaSuccess : cudaErrorNotSupported;
}

/* A row-major bf16 matrix in boxes of box_rows (at most 256) x 64, which lie in shared memory as
 * lines of 128 bytes with the swizzle of 128 bytes: chunk c of line r at c ^ (r % 8), the box
 * aligned to 1,024 bytes. What lies beyond the matrix is read as 0 and not written. Demands rows
 * that start at multiples of 16 bytes, and fewer than 2^32 of them. */
enum { TENSOR_MAP_COLUMNS = 64 };
static inline cudaError_t tensor_map_bf16(CUtensorMap *map, const void *matrix, int64_t rows,
                                          int64_t columns, int box_rows) {
    decltype(&cuTensorMapEncodeTiled) encode = nullptr;
    const cudaError_t err = tensor_map_encoder(&encode);
    if (err != cudaSuccess) return err;
    const cuuint64_t size[2] = {(cuuint64_t)columns, (cuuint64_t)rows};
    const cuuint64_t pitch[1] = {(cuuint64_t)columns * sizeof(bf16)};
    const cuuint32_t box[2] = {TENSOR_MAP_COLUMNS, (cuuint32_t)box_rows};
    const cuuint32_t step[2] = {1, 1};
    const CUresult made =
        encode(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, (void *)matrix, size, pitch, box, step,
               CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
               CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    return made == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}
