/* The one door between a kernel file and its world. The same source is compiled by nvcc for a GPU,
 * and by a C++ compiler with SEO_SIMT for the CPU test layer (tests/simt), where every CUDA thread
 * is a fiber. What that asks of a kernel file:
 *
 *   - no asm (it stands in ptx.cuh), no <<<>>>, no bare __shared__, no cooperative groups, no CUB;
 *   - shared memory through SEO_SHARED, SEO_SHARED_ALIGN and SEO_DYN_SMEM;
 *   - launches through seo_launch, which both compilers type-check;
 *   - a loop that polls memory contains __nanosleep. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef SEO_SIMT
#include <simt.h>
#else
#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <utility>
#endif

typedef __nv_bfloat16 bf16;
typedef __nv_bfloat162 bf162;

#define SEO_DEVICE __device__ static __forceinline__

/* SEO_SHARED(float, part, 32): a static array of the block. SEO_DYN_SMEM(smem): the dynamic block,
 * aligned to 1,024 bytes. */
#ifdef SEO_SIMT
#define SEO_SHARED(T, name, count) SEO_SHARED_ALIGN(T, name, count, alignof(T))
#define SEO_SHARED_ALIGN(T, name, count, align)                                                    \
    static char name##_key;                                                                        \
    T(&name)[count] = simt::shared_array<T, (count)>(&name##_key, (align))
#define SEO_DYN_SMEM(name) unsigned char *name = simt::dyn_smem()
#else
#define SEO_SHARED(T, name, count) __shared__ T name[count]
#define SEO_SHARED_ALIGN(T, name, count, align)                                                    \
    __shared__ __align__(align)                                                                    \
    T name[count]
#define SEO_DYN_SMEM(name)                                                                         \
    extern __shared__ __align__(1024) unsigned char seo_dyn_smem[];                                \
    unsigned char *name = seo_dyn_smem
#endif

/* Set where wgmma, TMA and setmaxnreg may be used: the sm_90a pass of nvcc, and the CPU layer. A
 * kernel that needs them has an empty body elsewhere, and the variant table never picks it there.
 */
#if defined(SEO_SIMT) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define SEO_SM90A 1
#endif

struct seo_grid {
    dim3 grid, block;
    size_t smem_bytes; /* dynamic */
    cudaStream_t stream;
};

/* Queues kernel(args...). A wrong number or type of arguments does not compile. */
template <class... P, class... A>
static inline cudaError_t seo_launch(const seo_grid &g, void (*kernel)(P...), A &&...args) {
#ifdef SEO_SIMT
    return simt::launch(g.grid, g.block, g.smem_bytes, g.stream, kernel, std::forward<A>(args)...);
#else
    if (g.smem_bytes > 48 * 1024) {
        cudaError_t err = cudaFuncSetAttribute(
            (const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)g.smem_bytes);
        if (err != cudaSuccess) return err;
    }
    cudaLaunchConfig_t config = {};
    config.gridDim = g.grid;
    config.blockDim = g.block;
    config.dynamicSmemBytes = g.smem_bytes;
    config.stream = g.stream;
    return cudaLaunchKernelEx(&config, kernel, std::forward<A>(args)...);
#endif
}
