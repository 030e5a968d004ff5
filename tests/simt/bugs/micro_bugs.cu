/* Small wrong kernels, and some right ones that look like them. */
#include "kernels/cuda/tile.cuh"
#include "tests/simt/bugs/bugs.h"

__global__ void no_syncwarp(float *out) {
    SEO_SHARED(float, s, 32);
    s[threadIdx.x] = (float)threadIdx.x;
    out[threadIdx.x] = s[threadIdx.x ^ 1];
}
__global__ void blocks_add_plainly(float *out) {
    if (threadIdx.x == 0) out[0] += 1.0f;
}
__global__ void blocks_add_atomically(unsigned *out) {
    if (threadIdx.x == 0) atomicAdd(&out[0], 1u);
}
__global__ void divergent_shuffle(float *out) {
    float x = (float)threadIdx.x;
    if (threadIdx.x < 16) x = __shfl_xor_sync(FULL_WARP, x, 1);
    out[threadIdx.x] = x;
}
__global__ void shuffle_beyond_mask(float *out) {
    float x = (float)threadIdx.x;
    if (threadIdx.x < 16) x = __shfl_xor_sync(0x0000ffffu, x, 16);
    out[threadIdx.x] = x;
}
__global__ void misaligned_vector(float *out) {
    float4 x = *(const float4 *)(out + 1);
    out[0] = x.x;
}
__global__ void barrier_count(float *out) {
    if (threadIdx.x < 64) ptx_bar_sync(1, 96);
    out[threadIdx.x] = 1.0f;
}
/* Legal since Volta: the threads that have returned count as arrived. */
__global__ void barrier_after_exit(float *out) {
    SEO_SHARED(float, s, 64);
    s[threadIdx.x] = 1.0f;
    __syncthreads();
    if (threadIdx.x < 32) {
        out[threadIdx.x] = s[threadIdx.x + 32];
    } else {
        __syncthreads();
    }
}
__global__ void spin_on_absent_block(volatile int *flag) {
    if (blockIdx.x == 1) *flag = 1;
    while (*flag == 0) __nanosleep(100);
}
__global__ void static_overrun(float *out) {
    SEO_SHARED(float, s, 32);
    float *beyond = s + 1;
    beyond[threadIdx.x] = 1.0f;
    __syncthreads();
    out[threadIdx.x] = beyond[threadIdx.x];
}
__global__ void dynamic_overrun(float *out) {
    SEO_DYN_SMEM(smem);
    float *s = (float *)smem;
    s[threadIdx.x + 1] = 1.0f;
    __syncthreads();
    out[threadIdx.x] = s[threadIdx.x + 1];
}

/* 32 arrivals are right. */
__global__ void mbarrier_misuse(int bug) {
    SEO_SHARED(uint64_t, bars, 2);
    uint32_t bar = ptx_smem(bars);
    if (threadIdx.x == 0) {
        ptx_mbar_init(bar, 32);
        ptx_fence_mbar_init();
    }
    __syncthreads();
    if (bug == MICRO_MBARRIER_OVERWRITTEN && threadIdx.x == 5) bars[0] = 7;
    __syncwarp();
    ptx_mbar_arrive(bar);
    if (bug == MICRO_MBARRIER_ARRIVES_TWICE && threadIdx.x == 3) ptx_mbar_arrive(bar);
    ptx_mbar_wait(bar, 0);
}
__global__ void mbarrier_before_barrier() {
    SEO_SHARED(uint64_t, bars, 1);
    uint32_t bar = ptx_smem(bars);
    if (threadIdx.x == 0) ptx_mbar_init(bar, 32);
    ptx_mbar_arrive(bar);
    ptx_mbar_wait(bar, 0);
}
__global__ void index_overflow(float *out, int n) {
    int i = n * (int)(threadIdx.x + 1);
    out[threadIdx.x] = i < 0 ? 1.0f : 2.0f;
}
__global__ void unwritten_global(float *out, const float *x) {
    out[threadIdx.x] = x[threadIdx.x];
}

/* The last block to finish adds up what all wrote: right only if each fences before it counts. */
__global__ void last_block_sums(float *out, unsigned *count, bool fence) {
    SEO_SHARED(unsigned, is_last, 1);
    if (threadIdx.x == 0) {
        out[1 + blockIdx.x] = 1.0f;
        if (fence) __threadfence();
        is_last[0] = atomicAdd(count, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (!is_last[0] || threadIdx.x != 0) return;
    float sum = 0;
    for (unsigned i = 0; i < gridDim.x; i++) sum += out[1 + i];
    out[0] = sum;
}

/* Threads of one block exchange values through global memory. */
__global__ void exchange(float *out, bool synced) {
    out[threadIdx.x] = 1.0f;
    if (synced) __syncthreads();
    float other = out[threadIdx.x ^ 32];
    if (synced) __syncthreads();
    out[threadIdx.x] = other;
}
/* Each thread writes over what its cp.async may still be reading. */
__global__ void copy_source_overwritten(float *out) {
    SEO_SHARED_ALIGN(float, s, 32, 16);
    ptx_cp_async4(ptx_smem(s + threadIdx.x), out + threadIdx.x, 4);
    ptx_cp_async_commit();
    out[threadIdx.x] = 1.0f;
    ptx_cp_async_wait<0>();
}
/* The last warp of a block to finish adds up what the warps wrote. */
__global__ void last_warp_sums(float *out, unsigned *count, bool fence) {
    unsigned warps = blockDim.x / WARP;
    if (threadIdx.x % WARP != 0) return;
    out[1 + threadIdx.x / WARP] = 1.0f;
    if (fence) __threadfence();
    if (atomicAdd(count, 1u) != warps - 1) return;
    float sum = 0;
    for (unsigned i = 0; i < warps; i++) sum += out[1 + i];
    out[0] = sum;
}

static seo_grid shape(unsigned blocks, unsigned threads, size_t smem_bytes = 0) {
    return {dim3(blocks), dim3(threads), smem_bytes, nullptr};
}
cudaError_t bug_micro(int bug, float *zeros, float *unwritten) {
    unsigned *counter = (unsigned *)zeros + 127;
    switch (bug) {
    case MICRO_NO_SYNCWARP: return seo_launch(shape(1, 32), no_syncwarp, zeros);
    case MICRO_BLOCKS_ADD_PLAINLY: return seo_launch(shape(4, 32), blocks_add_plainly, zeros);
    case MICRO_BLOCKS_ADD_ATOMICALLY:
        return seo_launch(shape(4, 32), blocks_add_atomically, counter);
    case MICRO_DIVERGENT_SHUFFLE: return seo_launch(shape(1, 32), divergent_shuffle, zeros);
    case MICRO_SHUFFLE_BEYOND_MASK: return seo_launch(shape(1, 32), shuffle_beyond_mask, zeros);
    case MICRO_MISALIGNED_VECTOR: return seo_launch(shape(1, 1), misaligned_vector, zeros);
    case MICRO_BARRIER_COUNT: return seo_launch(shape(1, 128), barrier_count, zeros);
    case MICRO_BARRIER_AFTER_EXIT: return seo_launch(shape(1, 64), barrier_after_exit, zeros);
    case MICRO_SPIN_ON_ABSENT_BLOCK:
        return seo_launch(shape(2, 1), spin_on_absent_block, (volatile int *)zeros);
    case MICRO_STATIC_OVERRUN: return seo_launch(shape(1, 32), static_overrun, zeros);
    case MICRO_DYNAMIC_OVERRUN: return seo_launch(shape(1, 32, 128), dynamic_overrun, zeros);
    case MICRO_MBARRIER_NO_SYNC: return seo_launch(shape(1, 32), mbarrier_before_barrier);
    case MICRO_MBARRIER_ARRIVES_TWICE:
    case MICRO_MBARRIER_OVERWRITTEN: return seo_launch(shape(1, 32), mbarrier_misuse, bug);
    case MICRO_INDEX_OVERFLOW: return seo_launch(shape(1, 32), index_overflow, zeros, 1 << 30);
    case MICRO_UNWRITTEN_GLOBAL:
        return seo_launch(shape(1, 32), unwritten_global, zeros, unwritten);
    case MICRO_EXCHANGE_SYNCED: return seo_launch(shape(1, 64), exchange, zeros, true);
    case MICRO_EXCHANGE_UNSYNCED: return seo_launch(shape(1, 64), exchange, zeros, false);
    case MICRO_COPY_SOURCE_OVERWRITTEN:
        return seo_launch(shape(1, 32), copy_source_overwritten, zeros);
    case MICRO_LAST_WARP_FENCED:
    case MICRO_LAST_WARP_UNFENCED:
        return seo_launch(shape(1, 128), last_warp_sums, zeros, counter,
                          bug == MICRO_LAST_WARP_FENCED);
    default:
        return seo_launch(shape(8, 32), last_block_sums, zeros, counter,
                          bug == MICRO_LAST_BLOCK_FENCED);
    }
}
