/* A warp-specialised matmul for sm_90a: TMA, a ring of mbarriers, wgmma; and what can be wrong. */
#include "kernels/cuda/tile.cuh"
#include "tests/simt/bugs/bugs.h"

static const int TILE_M = 128;
static const int TILE_N = 128;
static const int TILE_K = 64;
static const int STAGES = 3;
static const int CONSUMERS = 2; /* warpgroups of 64 rows each */
static const int THREADS = 128 * (1 + CONSUMERS);
static const int A_BYTES = TILE_M * TILE_K * 2;
static const int STAGE_BYTES = A_BYTES + TILE_N * TILE_K * 2;
static const int OUT_BYTES = 64 * TILE_N * 2;
static const int SMEM_BYTES = STAGES * STAGE_BYTES + CONSUMERS * OUT_BYTES;

struct ring {
    uint32_t stages; /* shared address */
    uint32_t full, empty;
    int steps, bug;
};
SEO_DEVICE uint32_t bar_at(uint32_t bars, int stage) {
    return bars + (uint32_t)stage * 8;
}

SEO_DEVICE void produce(const ring &r, const CUtensorMap *a, const CUtensorMap *b) {
    for (int step = 0; step < r.steps; step++) {
        int stage = step % STAGES;
        uint32_t phase = (uint32_t)(step / STAGES) & 1;
        /* The first pass through the ring must not wait. */
        ptx_mbar_wait(bar_at(r.empty, stage), r.bug == WGMMA_PRODUCER_PHASE ? phase : phase ^ 1);
        uint32_t bar = bar_at(r.full, stage);
        uint32_t smem = r.stages + (uint32_t)(stage * STAGE_BYTES);
        ptx_mbar_arrive_expect_tx(bar, r.bug == WGMMA_TX_BYTES ? A_BYTES : STAGE_BYTES);
        ptx_tma_load_2d(smem, a, step * TILE_K, (int)blockIdx.y * TILE_M, bar);
        ptx_tma_load_2d(smem + A_BYTES, b, step * TILE_K, (int)blockIdx.x * TILE_N, bar);
    }
}

SEO_DEVICE uint64_t operand(const ring &r, uint32_t addr) {
    uint64_t desc = ptx_desc_sw128(addr);
    if (r.bug == WGMMA_DESC_STRIDE) desc ^= (uint64_t)(1024 >> 4 ^ 512 >> 4) << 32;
    if (r.bug == WGMMA_DESC_MODE) desc ^= (uint64_t)3 << 62;
    return desc;
}

SEO_DEVICE void consume(const ring &r, float (&acc)[64], int group) {
    bool leader = threadIdx.x % WARP == 0;
    for (int step = 0; step < r.steps; step++) {
        int stage = step % STAGES;
        uint32_t phase = (uint32_t)(step / STAGES) & 1;
        uint32_t smem = r.stages + (uint32_t)(stage * STAGE_BYTES);
        uint32_t a = smem + (uint32_t)group * 64 * 128;
        ptx_mbar_wait(bar_at(r.full, stage), r.bug == WGMMA_CONSUMER_PHASE ? 0 : phase);
        ptx_fence_registers(acc);
        if (r.bug != WGMMA_NO_FENCE || step > 0) ptx_wgmma_fence();
        for (uint32_t k = 0; k < TILE_K / 16; k++) {
            ptx_wgmma_m64n128k16(acc, operand(r, a + k * 32), operand(r, smem + A_BYTES + k * 32),
                                 1);
        }
        ptx_wgmma_commit();
        ptx_fence_registers(acc);
        if (r.bug == WGMMA_EARLY_RELEASE && leader) ptx_mbar_arrive(bar_at(r.empty, stage));
        ptx_wgmma_wait<1>(); /* the step before is finished: its stage is free */
        if (r.bug != WGMMA_EARLY_RELEASE && leader && step > 0) {
            ptx_mbar_arrive(bar_at(r.empty, (step - 1) % STAGES));
        }
    }
    if (r.bug != WGMMA_NO_WAIT) ptx_wgmma_wait<0>();
    ptx_fence_registers(acc);
}

/* Registers to shared memory, row-major, and from there by TMA. */
SEO_DEVICE void store(const ring &r, const float (&acc)[64], int group, const CUtensorMap *out) {
    SEO_DYN_SMEM(smem);
    unsigned char *smem_out = smem + STAGES * STAGE_BYTES + group * OUT_BYTES;
    int lane = (int)threadIdx.x % WARP;
    int row = (int)threadIdx.x / WARP % 4 * 16 + lane / 4;
    for (int i = 0; i < 64; i += 2) {
        int at = (row + i / 2 % 2 * 8) * TILE_N + i / 4 * 8 + lane % 4 * 2;
        *(bf162 *)(smem_out + at * 2) = __floats2bfloat162_rn(acc[i], acc[i + 1]);
    }
    if (r.bug != WGMMA_NO_PROXY_FENCE) ptx_fence_proxy_async();
    if (r.bug != WGMMA_NO_BARRIER) ptx_bar_sync(1 + group, 128);
    if (threadIdx.x % 128 != 0) return;
    ptx_tma_store_2d(out, (int)blockIdx.x * TILE_N, (int)blockIdx.y * TILE_M + group * 64,
                     ptx_smem(smem_out));
    ptx_bulk_commit();
    ptx_bulk_wait_read();
}

__global__ void __launch_bounds__(THREADS, 1)
    wgmma_with_bug(int bug, const __grid_constant__ CUtensorMap a,
                   const __grid_constant__ CUtensorMap b, const __grid_constant__ CUtensorMap out,
                   int k) {
    SEO_DYN_SMEM(smem);
    SEO_SHARED_ALIGN(uint64_t, full, STAGES, 8);
    SEO_SHARED_ALIGN(uint64_t, empty, STAGES, 8);
    ring r = {ptx_smem(smem), ptx_smem(full), ptx_smem(empty), (k + TILE_K - 1) / TILE_K, bug};
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; i++) {
            ptx_mbar_init(bar_at(r.full, i), 1);
            ptx_mbar_init(bar_at(r.empty, i), CONSUMERS * 4);
        }
        if (bug != WGMMA_NO_INIT_FENCE) ptx_fence_mbar_init();
    }
    __syncthreads();
    int group = (int)threadIdx.x / 128 - 1;
    if (group < 0) {
        ptx_setmaxnreg_dec<40>();
        if (threadIdx.x == 0) produce(r, &a, &b);
    } else {
        ptx_setmaxnreg_inc<232>();
        float acc[64];
        for (int i = 0; i < 64; i++) acc[i] = 0;
        consume(r, acc, group);
        store(r, acc, group, &out);
    }
}

static bool encode(CUtensorMap *map, const void *base, int columns, int rows, int box_columns,
                   int box_rows, CUtensorMapSwizzle swizzle) {
    cuuint64_t dim[2] = {(cuuint64_t)columns, (cuuint64_t)rows};
    cuuint64_t stride[1] = {(cuuint64_t)columns * 2};
    cuuint32_t box[2] = {(cuuint32_t)box_columns, (cuuint32_t)box_rows};
    cuuint32_t ones[2] = {1, 1};
    return cuTensorMapEncodeTiled(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, (void *)base, dim,
                                  stride, box, ones, CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle,
                                  CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
                                  CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

cudaError_t bug_wgmma(int bug, uint16_t *out, const uint16_t *a, const uint16_t *b, int m, int n,
                      int k) {
    CUtensorMap map_a, map_b, map_out;
    CUtensorMapSwizzle a_swizzle =
        bug == WGMMA_MAP_WITHOUT_SWIZZLE ? CU_TENSOR_MAP_SWIZZLE_NONE : CU_TENSOR_MAP_SWIZZLE_128B;
    bool encoded = encode(&map_a, a, k, m, TILE_K, TILE_M, a_swizzle) &&
                   encode(&map_b, b, k, n, TILE_K, TILE_N, CU_TENSOR_MAP_SWIZZLE_128B) &&
                   encode(&map_out, out, n, m, TILE_N, 64, CU_TENSOR_MAP_SWIZZLE_NONE);
    if (!encoded) return cudaErrorInvalidValue;
    dim3 grid((unsigned)((n + TILE_N - 1) / TILE_N), (unsigned)((m + TILE_M - 1) / TILE_M));
    return seo_launch({grid, dim3(THREADS), (size_t)SMEM_BYTES, nullptr}, wgmma_with_bug, bug,
                      map_a, map_b, map_out, k);
}

/* One warpgroup: A straight from global memory into registers, B n-major in two halves of 64
 * columns with 128-byte swizzle. */
__global__ void wgmma_registers(float *out, const bf16 *a, const bf16 *b) {
    SEO_SHARED_ALIGN(bf16, tile, 128 * 16, 1024);
    int lane = (int)threadIdx.x % WARP;
    int warp = (int)threadIdx.x / WARP;
    uint32_t base = ptx_smem(tile);
    for (int i = (int)threadIdx.x; i < 128 * 16; i += 128) {
        int k = i / 128;
        int n = i % 128;
        uint32_t at = (uint32_t)(n / 64 * 2048 + k / 8 * 1024 + k % 8 * 128 + n % 64 * 2);
        at ^= (at >> 7 & 7) << 4;
        tile[at / 2] = b[i];
    }
    ptx_fence_proxy_async();
    __syncthreads();
    uint32_t fragment[4];
    for (int i = 0; i < 4; i++) {
        int row = warp * 16 + lane / 4 + i % 2 * 8;
        int k = lane % 4 * 2 + i / 2 * 8;
        fragment[i] = *(const uint32_t *)(a + row * 16 + k);
    }
    float acc[64];
    for (int i = 0; i < 64; i++) acc[i] = 0;
    uint64_t desc = (uint64_t)(base >> 4) | (uint64_t)(2048 >> 4) << 16 |
                    (uint64_t)(1024 >> 4) << 32 | (uint64_t)1 << 62;
    ptx_wgmma_fence();
    simt::wgmma_bf16(128, acc, fragment, 0, desc, 1, false, true);
    ptx_wgmma_commit();
    ptx_wgmma_wait<0>();
    for (int i = 0; i < 64; i++) {
        int row = warp * 16 + lane / 4 + i / 2 % 2 * 8;
        out[row * 128 + i / 4 * 8 + lane % 4 * 2 + i % 2] = acc[i];
    }
}
cudaError_t right_wgmma_registers(float *out, const uint16_t *a, const uint16_t *b) {
    return seo_launch({dim3(1), dim3(128), 0, nullptr}, wgmma_registers, out, (const bf16 *)a,
                      (const bf16 *)b);
}
