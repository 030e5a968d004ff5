/* One warp does one thing and writes what its lanes got. */
#include "kernels/cuda/tile.cuh"
#include "tests/simt/bugs/bugs.h"

__global__ void shuffles(uint32_t *out, int kind, int operand, int width) {
    uint32_t value = 1000 + threadIdx.x;
    switch (kind) {
    case 0: value = __shfl_sync(FULL_WARP, value, operand, width); break;
    case 1: value = __shfl_up_sync(FULL_WARP, value, (unsigned)operand, width); break;
    case 2: value = __shfl_down_sync(FULL_WARP, value, (unsigned)operand, width); break;
    default: value = __shfl_xor_sync(FULL_WARP, value, operand, width); break;
    }
    out[threadIdx.x] = value;
}
cudaError_t warp_shuffles(uint32_t *out, int kind, int operand, int width) {
    return seo_launch({dim3(1), dim3(32), 0, nullptr}, shuffles, out, kind, operand, width);
}

/* Ballot, any and all among the lanes whose number is a multiple of 3, and the elected lane. */
__global__ void votes(uint32_t *out, uint32_t predicates) {
    const uint32_t mask = 0x49249249u;
    uint32_t *row = out + 4 * threadIdx.x;
    row[3] = simt::elect_one();
    if (!(mask >> threadIdx.x & 1)) return;
    int predicate = (int)(predicates >> threadIdx.x & 1);
    row[0] = __ballot_sync(mask, predicate);
    row[1] = (uint32_t)__any_sync(mask, predicate);
    row[2] = (uint32_t)__all_sync(mask, predicate);
}
cudaError_t warp_votes(uint32_t *out, uint32_t predicates) {
    return seo_launch({dim3(1), dim3(32), 0, nullptr}, votes, out, predicates);
}

__global__ void matrices(uint32_t *out, const uint32_t *in, bool store_transposed,
                         bool load_transposed) {
    SEO_SHARED_ALIGN(unsigned char, tiles, 4 * 128, 16);
    uint32_t addr = ptx_smem(tiles) + threadIdx.x * 16;
    uint32_t r[4];
    for (int i = 0; i < 4; i++) r[i] = in[threadIdx.x * 4 + (unsigned)i];
    simt::stmatrix(4, store_transposed, addr, r);
    __syncwarp();
    if (load_transposed) {
        ptx_ldmatrix_x4_trans(r, addr);
    } else {
        ptx_ldmatrix_x4(r, addr);
    }
    for (int i = 0; i < 4; i++) out[threadIdx.x * 4 + (unsigned)i] = r[i];
}
cudaError_t warp_matrices(uint32_t *out, const uint32_t *in, int store_transposed,
                          int load_transposed) {
    return seo_launch({dim3(1), dim3(32), 0, nullptr}, matrices, out, in, store_transposed != 0,
                      load_transposed != 0);
}

__global__ void product(float *out, uint32_t a, uint32_t b, int terms, float c) {
    const uint32_t a_regs[4] = {a << 16 | a, a << 16 | a, a << 16 | a, a << 16 | a};
    float d[4] = {c, c, c, c};
    uint32_t b_regs[2] = {0, 0};
    for (int i = 0; i < 4; i++) {
        int k = (int)threadIdx.x % 4 * 2 + i % 2 + i / 2 * 8;
        if (k < terms) b_regs[i / 2] |= b << i % 2 * 16;
    }
    ptx_mma_m16n8k16(d, a_regs, b_regs[0], b_regs[1]);
    for (int i = 0; i < 4; i++) out[threadIdx.x * 4 + (unsigned)i] = d[i];
}
cudaError_t warp_product(float *out, uint16_t a, uint16_t b, int terms, float c) {
    return seo_launch({dim3(1), dim3(32), 0, nullptr}, product, out, (uint32_t)a, (uint32_t)b,
                      terms, c);
}

__global__ void hand_over(uint32_t *out) {
    SEO_SHARED(uint32_t, s, 32);
    if (threadIdx.x >= WARP) {
        s[threadIdx.x - WARP] = threadIdx.x;
        simt::bar_arrive(1, 64);
        return;
    }
    ptx_bar_sync(1, 64);
    out[threadIdx.x] = s[threadIdx.x];
}
cudaError_t warp_hand_over(uint32_t *out) {
    return seo_launch({dim3(1), dim3(64), 0, nullptr}, hand_over, out);
}
