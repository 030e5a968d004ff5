/* Kernels with planted bugs, for the tests of the layer: each takes the number of the bug to show,
 * 0 for none. */
#pragma once

#include <stdint.h>

#include "tests/simt/cuda_runtime_api.h"

#ifdef __cplusplus
extern "C" {
#endif

enum norm_bug {
    NORM_RIGHT,
    NORM_NO_SYNC_BEFORE_READ,
    NORM_NO_SYNC_BEFORE_REUSE,
    NORM_ONE_VECTOR_TOO_MANY,
    NORM_UNWRITTEN_SLOTS
};
/* out[rows, width] = (x - mean) / sqrt(var + 1e-5), f32; width a multiple of 4. */
cudaError_t bug_norm(int bug, float *out, const float *x, int rows, int width);

enum mma_bug {
    MMA_RIGHT,
    MMA_NO_SYNC_BEFORE_READ,
    MMA_NO_SYNC_BEFORE_REUSE,
    MMA_ONE_ROW_TOO_MANY,
    MMA_TAIL_NOT_ZEROED,
    MMA_SWIZZLES_DIFFER,
    MMA_NO_SWIZZLE,
    MMA_WAITS_FOR_TOO_FEW
};
/* out[m, n] (f32) = a[m, k] * b[k, n], bf16; n and k multiples of 8. */
cudaError_t bug_mma(int bug, float *out, const uint16_t *a, const uint16_t *b, int m, int n, int k);

enum wgmma_bug {
    WGMMA_RIGHT,
    WGMMA_NO_INIT_FENCE,
    WGMMA_PRODUCER_PHASE,
    WGMMA_CONSUMER_PHASE,
    WGMMA_TX_BYTES,
    WGMMA_NO_FENCE,
    WGMMA_EARLY_RELEASE,
    WGMMA_NO_WAIT,
    WGMMA_NO_PROXY_FENCE,
    WGMMA_NO_BARRIER,
    WGMMA_MAP_WITHOUT_SWIZZLE,
    WGMMA_DESC_STRIDE,
    WGMMA_DESC_MODE
};
/* out[m, n] (bf16) = a[m, k] * b[n, k]^T, bf16; n and k multiples of 8. */
cudaError_t bug_wgmma(int bug, uint16_t *out, const uint16_t *a, const uint16_t *b, int m, int n,
                      int k);
/* out[64, 128] (f32) = a[64, 16] * b[16, 128]: A in registers, B n-major. */
cudaError_t right_wgmma_registers(float *out, const uint16_t *a, const uint16_t *b);

enum micro_bug {
    MICRO_NO_SYNCWARP,
    MICRO_BLOCKS_ADD_PLAINLY,
    MICRO_BLOCKS_ADD_ATOMICALLY,
    MICRO_DIVERGENT_SHUFFLE,
    MICRO_SHUFFLE_BEYOND_MASK,
    MICRO_MISALIGNED_VECTOR,
    MICRO_BARRIER_COUNT,
    MICRO_BARRIER_AFTER_EXIT,
    MICRO_SPIN_ON_ABSENT_BLOCK,
    MICRO_STATIC_OVERRUN,
    MICRO_DYNAMIC_OVERRUN,
    MICRO_MBARRIER_ARRIVES_TWICE,
    MICRO_MBARRIER_NO_SYNC,
    MICRO_MBARRIER_OVERWRITTEN,
    MICRO_INDEX_OVERFLOW,
    MICRO_UNWRITTEN_GLOBAL,
    MICRO_LAST_BLOCK_FENCED,
    MICRO_LAST_BLOCK_UNFENCED,
    MICRO_EXCHANGE_SYNCED,
    MICRO_EXCHANGE_UNSYNCED,
    MICRO_COPY_SOURCE_OVERWRITTEN,
    MICRO_LAST_WARP_FENCED,
    MICRO_LAST_WARP_UNFENCED,
    MICRO_COUNT
};
/* Runs one; `zeros` holds 128 words of 0, `unwritten` 128 that nobody wrote. */
cudaError_t bug_micro(int bug, float *zeros, float *unwritten);

/* What each lane of a warp gets, for the tests of shuffles and votes: see warp_kernels.cu. */
cudaError_t warp_shuffles(uint32_t *out, int kind, int operand, int width);
cudaError_t warp_votes(uint32_t *out, uint32_t predicates);
/* Tiles through shared memory: stored by stmatrix, loaded by ldmatrix, each transposed or not. */
cudaError_t warp_matrices(uint32_t *out, const uint32_t *in, int store_transposed,
                          int load_transposed);
/* out[16, 8] = c + a b: every element of a is `a`, of b is `b` for the first `terms` of k and else
 * 0, of c is `c`; a and b bf16. */
cudaError_t warp_product(float *out, uint16_t a, uint16_t b, int terms, float c);
/* One warp hands a value to the other through a named barrier: bar.arrive and bar.sync. */
cudaError_t warp_hand_over(uint32_t *out);

#ifdef __cplusplus
}
#endif
