/* bf16 matrix product on Hopper (sm_90a): TMA, mbarriers and wgmma, in the layout NT. */
#include "kernels/cuda/matmul_epilogue.cuh"
#include "kernels/cuda/tensor_map.cuh"

enum {
    GROUP = 128, /* threads of a warpgroup */
    CONSUMERS = 2,
    THREADS = GROUP * (1 + CONSUMERS),
    BLOCK_K = 64, /* of a stage: 128 bytes, a line of the swizzle */
    STAGES = 4,
    PARTS = 2, /* of 64 rows, that a consumer multiplies */
    BLOCK_M = CONSUMERS * PARTS * 64,
    BLOCK_N = 128,
    PART_BYTES = 64 * BLOCK_K * 2,
    A_BYTES = BLOCK_M * BLOCK_K * 2,
    STAGE_BYTES = A_BYTES + BLOCK_N * BLOCK_K * 2,
    SMEM_BYTES = STAGES * STAGE_BYTES,
    PRODUCER_REGISTERS = 40,
    CONSUMER_REGISTERS = 232
};

#ifdef SEO_SM90A

/* The stages of one block's ring, in the order in which they are used. `parity` is that of the
 * phase in which the stage is full. */
struct ring_place {
    int stage;
    uint32_t parity;
};
SEO_DEVICE void ring_advance(ring_place &at) {
    at.stage = at.stage == STAGES - 1 ? 0 : at.stage + 1;
    if (at.stage == 0) at.parity ^= 1;
}

/* One thread fills every stage that the consumers have released. */
SEO_DEVICE void produce(const CUtensorMap *a, const CUtensorMap *b, uint32_t smem, uint32_t full,
                        uint32_t empty, int m0, int n0, int k0, int tiles) {
    ring_place at = {0, 0};
    for (int i = 0; i < tiles; i++) {
        const uint32_t stage = smem + at.stage * STAGE_BYTES, ready = full + at.stage * 8;
        ptx_mbar_wait(empty + at.stage * 8, at.parity ^ 1); /* the first time round: at once */
        ptx_mbar_arrive_expect_tx(ready, STAGE_BYTES);
        ptx_tma_load_2d(stage, a, k0 + i * BLOCK_K, m0, ready);
        ptx_tma_load_2d(stage + A_BYTES, b, k0 + i * BLOCK_K, n0, ready);
        ring_advance(at);
    }
}

/* A consumer's 128 x 128 sums. A stage is released one late: when the next one has been queued and
 * wait_group tells that the multiplications before it have read their operands. */
SEO_DEVICE void consume(float (&acc)[PARTS][64], uint32_t smem, uint32_t full, uint32_t empty,
                        int consumer, int tiles) {
    ring_place at = {0, 0};
    uint32_t before = 0; /* the barrier of the stage before */
    for (int i = 0; i < tiles; i++) {
        const uint32_t stage = smem + at.stage * STAGE_BYTES;
        const uint32_t a = stage + consumer * PARTS * PART_BYTES, b = stage + A_BYTES;
        ptx_mbar_wait(full + at.stage * 8, at.parity);
#pragma unroll
        for (int part = 0; part < PARTS; part++) ptx_fence_registers(acc[part]);
        ptx_wgmma_fence();
#pragma unroll
        for (int k = 0; k < BLOCK_K / 16; k++) {
#pragma unroll
            for (int part = 0; part < PARTS; part++) {
                ptx_wgmma_m64n128k16(acc[part], ptx_desc_sw128(a + part * PART_BYTES + k * 32),
                                     ptx_desc_sw128(b + k * 32), i > 0 || k > 0);
            }
        }
        ptx_wgmma_commit();
#pragma unroll
        for (int part = 0; part < PARTS; part++) ptx_fence_registers(acc[part]);
        ptx_wgmma_wait<1>();
        if (i > 0 && threadIdx.x % WARP == 0) ptx_mbar_arrive(before);
        before = empty + at.stage * 8;
        ring_advance(at);
    }
    ptx_wgmma_wait<0>();
#pragma unroll
    for (int part = 0; part < PARTS; part++) ptx_fence_registers(acc[part]);
}

/* The consumer's sums plus bias, rounded, into four boxes of 64 x 64 with the swizzle of the map,
 * and from there to the output by TMA. Boxes at or beyond its end are not stored. */
SEO_DEVICE void store_by_map(const float (&acc)[PARTS][64], unsigned char *boxes,
                             const CUtensorMap *map, const matmul_output &to, int64_t m0,
                             int64_t n0, int consumer) {
    const int warp = threadIdx.x % GROUP / WARP, lane = threadIdx.x % WARP;
#pragma unroll
    for (int i = 0; i < PARTS * 64; i += 2) {
        const int part = i / 64, row = warp * 16 + i / 2 % 2 * 8 + lane / 4;
        const int chunk = i % 64 / 4; /* of 8 columns: 0..15 */
        const int64_t column = n0 + chunk * 8 + lane % 4 * 2;
        float low = acc[part][i % 64], high = acc[part][i % 64 + 1];
        if (to.bias && column < to.n) {
            const bf162 bias = *(const bf162 *)((const bf16 *)to.bias + column);
            low += to_f32(bias.x);
            high += to_f32(bias.y);
        }
        unsigned char *box = boxes + (part * 2 + chunk / 8) * PART_BYTES;
        *(uint32_t *)(box + row * 128 + (chunk % 8 ^ row % 8) * 16 + lane % 4 * 4) =
            pack_bf16(low, high);
    }
    ptx_fence_proxy_async();
    ptx_bar_sync(2 + consumer, GROUP);
    if (threadIdx.x % GROUP != 0) return;
    for (int box = 0; box < PARTS * 2; box++) {
        const int64_t row = m0 + box / 2 * 64, column = n0 + box % 2 * 64;
        if (row >= to.m || column >= to.n) continue;
        ptx_tma_store_2d(map, (int)column, (int)row, ptx_smem(boxes + box * PART_BYTES));
    }
    ptx_bulk_commit();
    ptx_bulk_wait_read();
}

/* Any epilogue: slabs of 64 columns, in a rolled loop that finds its slab by comparing. */
SEO_DEVICE void store_by_slabs(const float (&acc)[PARTS][64], unsigned char *smem,
                               const matmul_output &to, int64_t m0, int64_t n0) {
    const int warp = threadIdx.x % GROUP / WARP;
    float *slab = (float *)(smem + (threadIdx.x / WARP - GROUP / WARP) * slab_lines<64>::bytes);
#pragma unroll 1
    for (int i = 0; i < PARTS * 2; i++) {
        const int64_t row = m0 + i / 2 * 64 + warp * 16, column = n0 + i % 2 * 64;
        float prior[slab_lines<64>::steps][8];
        slab_prior<64>(prior, to, row, column);
        __syncwarp();
#pragma unroll
        for (int at = 0; at < PARTS * 2; at++) {
            if (at == i) slab_put<64>(slab, &acc[at / 2][at % 2 * 32]);
        }
        __syncwarp();
        slab_finish<64>(slab, prior, to, row, column);
    }
}

#endif

/* A block makes 256 x 128 elements of the output (block x), of the k of one split (block y), with
 * three warpgroups: one thread of the first loads stages of 64 k by TMA into a ring of four in
 * shared memory, the other two multiply 128 rows each by wgmma. The ring is reused for the output.
 * Demands 16-byte rows of both operands; `out` is the map of the output where by_map is set, which
 * asks for a bf16 output with 16-byte rows and nothing but a bias.
 * Dynamic shared memory: 196,608 bytes. Registers: 168 a thread at the start, then 40 of the
 * producer's and 232 of the consumers'.
 * Summation order: k ascending, 16 at a time inside the tensor core. Bound: flops. */
__global__ void __launch_bounds__(THREADS, 1)
    matmul_wgmma_kernel(const __grid_constant__ CUtensorMap a,
                        const __grid_constant__ CUtensorMap b,
                        const __grid_constant__ CUtensorMap out,
                        const __grid_constant__ matmul_problem p, int32_t by_map) {
#ifdef SEO_SM90A
    SEO_DYN_SMEM(smem);
    SEO_SHARED_ALIGN(uint64_t, full_bars, STAGES, 8);
    SEO_SHARED_ALIGN(uint64_t, empty_bars, STAGES, 8);
    const uint32_t full = ptx_smem(full_bars), empty = ptx_smem(empty_bars);
    const int group = threadIdx.x / GROUP;
    const matmul_place place = matmul_place_of(blockIdx.x, (int32_t)((p.m + BLOCK_M - 1) / BLOCK_M),
                                               (int32_t)((p.n + BLOCK_N - 1) / BLOCK_N));
    const int64_t m0 = (int64_t)place.row * BLOCK_M, n0 = (int64_t)place.column * BLOCK_N;
    const int64_t k0 = blockIdx.y * p.k_split;
    const int64_t k_count = p.k - k0 < p.k_split ? p.k - k0 : p.k_split;
    const int tiles = (int)((k_count + BLOCK_K - 1) / BLOCK_K);
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; i++) {
            ptx_mbar_init(full + i * 8, 1);
            ptx_mbar_init(empty + i * 8, CONSUMERS * GROUP / WARP);
        }
        ptx_fence_mbar_init();
    }
    __syncthreads();

    if (group == 0) {
        ptx_setmaxnreg_dec<PRODUCER_REGISTERS>();
        if (threadIdx.x == 0) {
            produce(&a, &b, ptx_smem(smem), full, empty, (int)m0, (int)n0, (int)k0, tiles);
        }
        return;
    }
    ptx_setmaxnreg_inc<CONSUMER_REGISTERS>();
    const int consumer = group - 1;
    float acc[PARTS][64];
    consume(acc, ptx_smem(smem), full, empty, consumer, tiles);
    ptx_bar_sync(1, CONSUMERS * GROUP); /* the ring is read no more */

    const int64_t row = m0 + consumer * PARTS * 64;
    if (by_map) {
        store_by_map(acc, smem + consumer * PARTS * 2 * PART_BYTES, &out, p.to, row, n0, consumer);
    } else {
        matmul_output to = p.to;
        if (p.splits > 1) to.out = (float *)to.out + blockIdx.y * p.m * p.n;
        store_by_slabs(acc, smem, to, row, n0);
    }
#endif
}

static cudaError_t launch_wgmma(const matmul_problem &p, cudaStream_t stream) {
    static_assert(MATMUL_K_UNIT % BLOCK_K == 0, "splits are whole stages");
    CUtensorMap a, b, out = {};
    const bool by_map =
        p.to.vectors && !p.to.wide && !p.to.accumulate && p.to.epilogue == SEO_EPILOGUE_NONE;
    cudaError_t err = tensor_map_bf16(&a, p.a, p.m, p.k, BLOCK_M);
    if (err == cudaSuccess) err = tensor_map_bf16(&b, p.b, p.n, p.k, BLOCK_N);
    if (err == cudaSuccess && by_map) err = tensor_map_bf16(&out, p.to.out, p.m, p.n, 64);
    if (err != cudaSuccess) return err;
    return seo_launch({matmul_grid(p, BLOCK_M, BLOCK_N), dim3(THREADS), SMEM_BYTES, stream},
                      matmul_wgmma_kernel, a, b, out, p, by_map);
}

matmul_launch *const seo_matmul_wgmma[3] = {launch_wgmma, nullptr, nullptr};
