/* bf16 matrix product on the tensor cores of sm_80 and later: mma.sync, ldmatrix, cp.async. */
#include "kernels/cuda/matmul_epilogue.cuh"
#include "kernels/cuda/matmul_tile.cuh"

enum { STAGES = 4, K_STEPS = TILE_K / 16 };

/* M x N of a block and of a warp, and how many blocks a multiprocessor should hold. */
template <int M, int N, int WARP_M, int WARP_N, int BLOCKS> struct mma_tile {
    static const int m = M, n = N, warp_m = WARP_M, warp_n = WARP_N, blocks = BLOCKS;
    static const int threads = M / WARP_M * (N / WARP_N) * WARP;
    static const int a_bytes = M * TILE_K * 2, stage_bytes = (M + N) * TILE_K * 2;
    static const int smem_bytes = STAGES * stage_bytes;
};
typedef mma_tile<128, 256, 64, 64, 1> tile_256;
typedef mma_tile<128, 128, 64, 64, 2> tile_128;
typedef mma_tile<64, 64, 32, 32, 4> tile_64;
typedef mma_tile<64, 64, 32, 32, 2> tile_elements; /* loads hold many elements in registers */

template <int LAYOUT> struct k_major {
    static const bool a = LAYOUT != SEO_MATMUL_TN, b = LAYOUT == SEO_MATMUL_NT;
};

template <class TILE> struct fragments {
    uint32_t a[TILE::warp_m / 16][4], b[TILE::warp_n / 16][4];
};
template <class TILE> struct accumulators { float x[TILE::warp_m / 16][TILE::warp_n / 8][4]; };

/* The next tile of both operands as one group of cp.async; an empty one when none is `coming`. */
template <int LAYOUT, class TILE, bool ALIGNED>
SEO_DEVICE void load_stage(unsigned char *smem, uint32_t stage, operand_view &a, operand_view &b,
                           int32_t coming, int k_last) {
    typedef k_major<LAYOUT> major;
    if (coming > 0) {
        const int k_here = coming > 1 ? (int)TILE_K : k_last;
        load_operand<major::a, TILE::m, TILE::threads, ALIGNED>(smem, stage, a, k_here);
        load_operand<major::b, TILE::n, TILE::threads, ALIGNED>(smem, stage + TILE::a_bytes, b,
                                                                k_here);
    }
    ptx_cp_async_commit();
}

template <int LAYOUT, class TILE>
SEO_DEVICE void load_fragments(fragments<TILE> &f, uint32_t stage, uint32_t a_lane, uint32_t b_lane,
                               int kk) {
    typedef k_major<LAYOUT> major;
#pragma unroll
    for (int i = 0; i < TILE::warp_m / 16; i++) {
        load_fragment<major::a, TILE::m>(f.a[i], stage, a_lane, i, kk);
    }
#pragma unroll
    for (int j = 0; j < TILE::warp_n / 16; j++) {
        load_fragment<major::b, TILE::n>(f.b[j], stage + TILE::a_bytes, b_lane, j, kk);
    }
}

template <class TILE> SEO_DEVICE void multiply(accumulators<TILE> &acc, const fragments<TILE> &f) {
#pragma unroll
    for (int i = 0; i < TILE::warp_m / 16; i++) {
#pragma unroll
        for (int j = 0; j < TILE::warp_n / 8; j++) {
            ptx_mma_m16n8k16(acc.x[i][j], f.a[i], f.b[j / 2][j % 2 * 2], f.b[j / 2][j % 2 * 2 + 1]);
        }
    }
}

/* Slab by slab. The loop is rolled, and finds its slab by comparing, so that the epilogue is there
 * once and the sums stay in registers. */
template <class TILE>
SEO_DEVICE void store_sums(const accumulators<TILE> &acc, unsigned char *smem,
                           const matmul_output &to, int64_t row, int64_t column) {
    const int columns = TILE::warp_n;
    static_assert(TILE::threads / WARP * slab_lines<columns>::bytes <= TILE::smem_bytes, "fits");
    float *slab = (float *)(smem + threadIdx.x / WARP * slab_lines<columns>::bytes);
#pragma unroll 1
    for (int i = 0; i < TILE::warp_m / 16; i++) {
        float prior[slab_lines<columns>::steps][8];
        slab_prior<columns>(prior, to, row + i * 16, column);
        __syncwarp();
#pragma unroll
        for (int at = 0; at < TILE::warp_m / 16; at++) {
            if (at == i) slab_put<columns>(slab, &acc.x[at][0][0]);
        }
        __syncwarp();
        slab_finish<columns>(slab, prior, to, row + i * 16, column);
    }
}

/* A block makes TILE::m x TILE::n elements of the output (block x), of the k of one split (block
 * y); a warp warp_m x warp_n of them. Stages of 32 k go through a ring of four in shared memory:
 * three are in flight while one is multiplied, and the fragments of the next 16 k are fetched while
 * the current ones are multiplied. One barrier a stage: it makes the next stage visible, and tells
 * that nobody reads the one before any more.
 * ALIGNED demands 16-byte rows of both operands; otherwise their elements are loaded one by one.
 * Dynamic shared memory: tile_256 98,304 bytes, tile_128 65,536, tile_64 32,768. Registers: up to
 * 238, 242 and 128; element by element, 168.
 * Summation order: k ascending, 16 at a time inside the tensor core.
 * Bound: flops, from M N K / (M K + N K + M N) of a few hundred on. */
template <int LAYOUT, class TILE, bool ALIGNED>
__global__ void __launch_bounds__(TILE::threads, TILE::blocks)
    matmul_mma_kernel(const __grid_constant__ matmul_problem p) {
    typedef k_major<LAYOUT> major;
    SEO_DYN_SMEM(smem);
    const int warp = threadIdx.x / WARP;
    const int warp_m = warp % (TILE::m / TILE::warp_m) * TILE::warp_m;
    const int warp_n = warp / (TILE::m / TILE::warp_m) * TILE::warp_n;
    const matmul_place place = matmul_place_of(blockIdx.x, (int32_t)((p.m + TILE::m - 1) / TILE::m),
                                               (int32_t)((p.n + TILE::n - 1) / TILE::n));
    const int64_t m0 = (int64_t)place.row * TILE::m, n0 = (int64_t)place.column * TILE::n;
    const int64_t k0 = blockIdx.y * p.k_split;
    const int64_t k_count = p.k - k0 < p.k_split ? p.k - k0 : p.k_split;
    const int32_t tiles = (int32_t)((k_count + TILE_K - 1) / TILE_K);
    const int k_last = (int)((k_count - 1) % TILE_K) + 1;

    operand_view a = operand_view_of<major::a, TILE::m>(p.a, p.a_pitch, m0, p.m, k0);
    operand_view b = operand_view_of<major::b, TILE::n>(p.b, p.b_pitch, n0, p.n, k0);
    for (int s = 0; s < STAGES - 1; s++) {
        load_stage<LAYOUT, TILE, ALIGNED>(smem, s * TILE::stage_bytes, a, b, tiles - s, k_last);
    }
    ptx_cp_async_wait<STAGES - 2>();
    __syncthreads();

    const uint32_t a_lane = fragment_lane<major::a, TILE::m, true>(warp_m);
    const uint32_t b_lane = fragment_lane<major::b, TILE::n, false>(warp_n);
    accumulators<TILE> acc = {};
    fragments<TILE> f[2];
    uint32_t stage = 0; /* byte of the one that is multiplied */
    load_fragments<LAYOUT, TILE>(f[0], ptx_smem(smem) + stage, a_lane, b_lane, 0);
    for (int32_t left = tiles; left > 0; left--) {
        load_fragments<LAYOUT, TILE>(f[1], ptx_smem(smem) + stage, a_lane, b_lane, 1);
        const uint32_t before = (stage == 0 ? TILE::smem_bytes : stage) - TILE::stage_bytes;
        load_stage<LAYOUT, TILE, ALIGNED>(smem, before, a, b, left - (STAGES - 1), k_last);
        multiply(acc, f[0]);

        ptx_cp_async_wait<STAGES - 2>();
        __syncthreads();
        stage = stage == TILE::smem_bytes - TILE::stage_bytes ? 0 : stage + TILE::stage_bytes;
        if (left > 1) {
            load_fragments<LAYOUT, TILE>(f[0], ptx_smem(smem) + stage, a_lane, b_lane, 0);
        }
        multiply(acc, f[1]);
    }

    matmul_output to = p.to;
    if (p.splits > 1) to.out = (float *)to.out + blockIdx.y * p.m * p.n;
    store_sums(acc, smem, to, m0 + warp_m, n0 + warp_n);
}

template <int LAYOUT, class TILE, bool ALIGNED>
static cudaError_t launch_mma(const matmul_problem &p, cudaStream_t stream) {
    static_assert(MATMUL_K_UNIT % TILE_K == 0, "splits are whole stages");
    return seo_launch(
        {matmul_grid(p, TILE::m, TILE::n), dim3(TILE::threads), (size_t)TILE::smem_bytes, stream},
        matmul_mma_kernel<LAYOUT, TILE, ALIGNED>, p);
}

#define LAUNCHES(tile, aligned)                                                                    \
    {                                                                                              \
        launch_mma<SEO_MATMUL_NT, tile, aligned>, launch_mma<SEO_MATMUL_NN, tile, aligned>,        \
            launch_mma<SEO_MATMUL_TN, tile, aligned>                                               \
    }
matmul_launch *const seo_matmul_mma_256[3] = LAUNCHES(tile_256, true);
matmul_launch *const seo_matmul_mma_128[3] = LAUNCHES(tile_128, true);
matmul_launch *const seo_matmul_mma_64[3] = LAUNCHES(tile_64, true);
matmul_launch *const seo_matmul_mma_elements[3] = LAUNCHES(tile_elements, false);
