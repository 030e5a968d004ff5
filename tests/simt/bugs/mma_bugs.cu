/* A matmul by cp.async, ldmatrix and mma.sync with two stages, and what can be wrong in it. */
#include "kernels/cuda/tile.cuh"
#include "tests/simt/bugs/bugs.h"

static const int TILE_M = 64;
static const int TILE_N = 64;
static const int TILE_K = 32;
static const int THREADS = 128;
static const int A_BYTES = TILE_M * TILE_K * 2;
static const int B_BYTES = TILE_K * TILE_N * 2;

struct problem {
    const bf16 *a, *b;
    int m, n, k, bug;
};

/* Byte offset of a chunk of 8 elements: rows of A are 4 chunks, rows of B are 8. */
SEO_DEVICE uint32_t chunk_a(const problem &p, int row, int chunk) {
    int swizzled = p.bug == MMA_NO_SWIZZLE ? chunk : chunk ^ (row >> 1 & 3);
    return (uint32_t)(row * 4 + swizzled) * 16;
}
SEO_DEVICE uint32_t chunk_b(int row, int chunk) {
    return (uint32_t)(row * 8 + (chunk ^ (row & 7))) * 16;
}
SEO_DEVICE uint32_t chunk_b_read(const problem &p, int row, int chunk) {
    int key = p.bug == MMA_SWIZZLES_DIFFER ? row >> 1 & 7 : row & 7;
    return (uint32_t)(row * 8 + (chunk ^ key)) * 16;
}

SEO_DEVICE void load_tiles(const problem &p, uint32_t a_smem, uint32_t b_smem, int k0) {
    int m0 = (int)blockIdx.y * TILE_M;
    int n0 = (int)blockIdx.x * TILE_N;
    int rows = p.bug == MMA_ONE_ROW_TOO_MANY ? p.m + 1 : p.m;
    for (int i = (int)threadIdx.x; i < TILE_M * 4; i += THREADS) {
        int row = m0 + i / 4;
        int k = k0 + i % 4 * 8;
        bool inside = row < rows && k < p.k;
        if (p.bug == MMA_TAIL_NOT_ZEROED && !inside) continue;
        const bf16 *src = inside ? p.a + (size_t)row * (size_t)p.k + k : p.a;
        ptx_cp_async16(a_smem + chunk_a(p, i / 4, i % 4), src, inside ? 16 : 0);
    }
    for (int i = (int)threadIdx.x; i < TILE_K * 8; i += THREADS) {
        int k = k0 + i / 8;
        int column = n0 + i % 8 * 8;
        bool inside = k < p.k && column < p.n;
        if (p.bug == MMA_TAIL_NOT_ZEROED && !inside) continue;
        const bf16 *src = inside ? p.b + (size_t)k * (size_t)p.n + column : p.b;
        ptx_cp_async16(b_smem + chunk_b(i / 8, i % 8), src, inside ? 16 : 0);
    }
}

/* One tile of 64 x 64; each of the 4 warps owns 32 x 32 of it. */
SEO_DEVICE void multiply_tiles(const problem &p, float (&acc)[2][4][4], uint32_t a_smem,
                               uint32_t b_smem) {
    int lane = (int)threadIdx.x % WARP;
    int warp = (int)threadIdx.x / WARP;
    int row = (warp & 1) * 32 + (lane & 15);
    int chunk = (warp >> 1) * 4 + (lane >> 4);
    for (int step = 0; step < TILE_K / 16; step++) {
        uint32_t a[2][4], b[2][4];
        for (int i = 0; i < 2; i++) {
            ptx_ldmatrix_x4(a[i], a_smem + chunk_a(p, row + i * 16, step * 2 + (lane >> 4)));
            ptx_ldmatrix_x4_trans(b[i],
                                  b_smem + chunk_b_read(p, step * 16 + (lane & 15), chunk + i * 2));
        }
        for (int i = 0; i < 2; i++) {
            for (int j = 0; j < 4; j++) {
                const uint32_t *pair = &b[j / 2][j % 2 * 2];
                ptx_mma_m16n8k16(acc[i][j], a[i], pair[0], pair[1]);
            }
        }
    }
}

SEO_DEVICE void store_tile(const problem &p, float *out, const float (&acc)[2][4][4]) {
    int lane = (int)threadIdx.x % WARP;
    int warp = (int)threadIdx.x / WARP;
    int m0 = (int)blockIdx.y * TILE_M + (warp & 1) * 32 + lane / 4;
    int n0 = (int)blockIdx.x * TILE_N + (warp >> 1) * 32 + lane % 4 * 2;
    for (int i = 0; i < 2 * 4 * 2; i++) {
        int row = m0 + i / 8 * 16 + i % 2 * 8;
        int column = n0 + i / 2 % 4 * 8;
        const float *pair = &acc[i / 8][i / 2 % 4][i % 2 * 2];
        if (row >= p.m || column >= p.n) continue;
        *(float2 *)(out + (size_t)row * (size_t)p.n + column) = make_float2(pair[0], pair[1]);
    }
}

__global__ void mma_with_bug(float *out, problem p) {
    SEO_SHARED_ALIGN(unsigned char, a_tiles, 2 * A_BYTES, 128);
    SEO_SHARED_ALIGN(unsigned char, b_tiles, 2 * B_BYTES, 128);
    uint32_t a_smem = ptx_smem(a_tiles);
    uint32_t b_smem = ptx_smem(b_tiles);
    int steps = (p.k + TILE_K - 1) / TILE_K;
    float acc[2][4][4] = {};
    load_tiles(p, a_smem, b_smem, 0);
    ptx_cp_async_commit();
    for (int step = 0; step < steps; step++) {
        uint32_t stage = (uint32_t)step & 1;
        uint32_t other = stage ^ 1;
        if (step + 1 < steps) {
            load_tiles(p, a_smem + other * A_BYTES, b_smem + other * B_BYTES, (step + 1) * TILE_K);
        }
        ptx_cp_async_commit();
        if (p.bug == MMA_WAITS_FOR_TOO_FEW) {
            ptx_cp_async_wait<2>();
        } else {
            ptx_cp_async_wait<1>();
        }
        if (p.bug != MMA_NO_SYNC_BEFORE_READ) __syncthreads();
        multiply_tiles(p, acc, a_smem + stage * A_BYTES, b_smem + stage * B_BYTES);
        if (p.bug != MMA_NO_SYNC_BEFORE_REUSE) __syncthreads();
    }
    store_tile(p, out, acc);
}

cudaError_t bug_mma(int bug, float *out, const uint16_t *a, const uint16_t *b, int m, int n,
                    int k) {
    dim3 grid((unsigned)((n + TILE_N - 1) / TILE_N), (unsigned)((m + TILE_M - 1) / TILE_M));
    problem p = {(const bf16 *)a, (const bf16 *)b, m, n, k, bug};
    return seo_launch({grid, dim3(THREADS), 0, nullptr}, mma_with_bug, out, p);
}
