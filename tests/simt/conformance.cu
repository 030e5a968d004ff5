/* One kernel for each instruction of ptx.cuh, or for a few that only make sense together. Every
 * kernel works on in + blockIdx.x * in_words and out + blockIdx.x * out_words; out starts as 0xff.
 */
#include "kernels/cuda/tile.cuh"
#include "tests/simt/conformance.h"

enum { GROUP = 128 }; /* threads of a warpgroup */

/* ---- addresses and asynchronous copies ---- */

__global__ void case_smem(uint32_t *out, const uint32_t *) {
    SEO_SHARED_ALIGN(uint32_t, words, 64, 16);
    words[threadIdx.x] = 0;
    out[blockIdx.x * 32 + threadIdx.x] = ptx_smem(&words[threadIdx.x * 2]) - ptx_smem(words);
}

/* Two groups: 16-byte copies with every source size, then 4-byte copies of size 0 or 4. The first
 * group is read while the second may still be in flight. */
__global__ void case_cp_async(uint32_t *out, const uint32_t *in) {
    SEO_SHARED_ALIGN(uint32_t, large, 32 * 4, 16);
    SEO_SHARED_ALIGN(uint32_t, small, 32, 16);
    int lane = (int)threadIdx.x;
    in += blockIdx.x * 160;
    out += blockIdx.x * 160;
    int bytes = (lane + (int)blockIdx.x) % 17;
    ptx_cp_async16(ptx_smem(large + lane * 4), in + lane * 4, bytes);
    ptx_cp_async_commit();
    ptx_cp_async4(ptx_smem(small + lane), in + 128 + lane, lane % 3 ? 4 : 0);
    ptx_cp_async_commit();
    ptx_cp_async_wait<1>();
    for (int i = 0; i < 4; i++) out[lane * 4 + i] = large[lane * 4 + i];
    ptx_cp_async_wait<0>();
    out[128 + lane] = small[lane];
}

/* ---- matrix fragments ---- */

/* Rows in an order given by the inputs, so that lanes and rows cannot be confused. */
template <bool TRANSPOSED> __global__ void case_ldmatrix(uint32_t *out, const uint32_t *in) {
    SEO_SHARED_ALIGN(uint32_t, rows, 32 * 4, 16);
    unsigned lane = threadIdx.x;
    in += blockIdx.x * 160;
    out += blockIdx.x * 128;
    for (unsigned i = 0; i < 4; i++) rows[lane * 4 + i] = in[lane * 4 + i];
    __syncwarp();
    uint32_t row = (lane * (in[128] | 1) + in[129]) % 32;
    uint32_t r[4];
    if (TRANSPOSED) {
        ptx_ldmatrix_x4_trans(r, ptx_smem(rows) + row * 16);
    } else {
        ptx_ldmatrix_x4(r, ptx_smem(rows) + row * 16);
    }
    for (unsigned i = 0; i < 4; i++) out[lane * 4 + i] = r[i];
}

/* Fragments straight from the matrices, by the formulas of the PTX ISA. */
__global__ void case_mma(uint32_t *out, const uint32_t *in) {
    const uint32_t *a = in + blockIdx.x * 320;
    const uint32_t *b = a + 16 * 16 / 2;
    const float *c = (const float *)(b + 8 * 16 / 2);
    float *d_out = (float *)out + blockIdx.x * 128;
    int group = (int)threadIdx.x / 4;
    int t = (int)threadIdx.x % 4;
    uint32_t a_regs[4];
    float d[4];
    for (int i = 0; i < 4; i++) {
        a_regs[i] = a[(group + i % 2 * 8) * 8 + t + i / 2 * 4];
        int at = (group + i / 2 * 8) * 8 + t * 2 + i % 2;
        d[i] = blockIdx.x % 2 ? 0.0f : c[at];
    }
    ptx_mma_m16n8k16(d, a_regs, b[group * 8 + t], b[group * 8 + t + 4]);
    for (int i = 0; i < 4; i++) d_out[(group + i / 2 * 8) * 8 + t * 2 + i % 2] = d[i];
}

/* ---- barriers and arithmetic ---- */

/* Warps 0 and 1, and warps 2 and 3, exchange through a barrier of their own. */
__global__ void case_bar_sync(uint32_t *out, const uint32_t *in) {
    SEO_SHARED(uint32_t, words, 128);
    words[threadIdx.x] = in[blockIdx.x * 128 + threadIdx.x];
    ptx_bar_sync(1 + (int)threadIdx.x / 64, 64);
    out[blockIdx.x * 128 + threadIdx.x] = words[threadIdx.x ^ 32];
}

/* Bits of any kind at first, then values where the function is neither 0 nor saturated. */
SEO_DEVICE float argument(const uint32_t *in, unsigned i, float scale) {
    float x = __uint_as_float(in[i]);
    return i % 2 ? x : (float)(int)in[i] * (1.0f / 2147483648.0f) * scale;
}
__global__ void case_exp2(uint32_t *out, const uint32_t *in) {
    unsigned i = blockIdx.x * 256 + threadIdx.x;
    out[i] = __float_as_uint(ptx_exp2(argument(in, i, 140.0f)));
}
__global__ void case_tanh(uint32_t *out, const uint32_t *in) {
    unsigned i = blockIdx.x * 256 + threadIdx.x;
    out[i] = __float_as_uint(ptx_tanh(argument(in, i, 6.0f)));
}

/* ---- mbarrier, TMA, wgmma ---- */

/* Two warps take turns four times: each hands its values over by its own mbarrier. */
__global__ void case_mbarrier(uint32_t *out, const uint32_t *in) {
#ifdef SEO_SM90A
    SEO_SHARED_ALIGN(uint64_t, bars, 2, 8);
    SEO_SHARED(uint32_t, words, 32);
    unsigned warp = threadIdx.x / WARP;
    unsigned lane = threadIdx.x % WARP;
    if (threadIdx.x == 0) {
        ptx_mbar_init(ptx_smem(&bars[0]), WARP);
        ptx_mbar_init(ptx_smem(&bars[1]), WARP);
        ptx_fence_mbar_init();
    }
    __syncthreads();
    for (unsigned turn = 0; turn < 4; turn++) {
        if (warp == 0) {
            if (turn) ptx_mbar_wait(ptx_smem(&bars[1]), (turn - 1) & 1);
            words[lane] = in[blockIdx.x * 128 + turn * WARP + lane];
            ptx_mbar_arrive(ptx_smem(&bars[0]));
        } else {
            ptx_mbar_wait(ptx_smem(&bars[0]), turn & 1);
            out[blockIdx.x * 128 + turn * WARP + lane] = words[lane ^ turn];
            ptx_mbar_arrive(ptx_smem(&bars[1]));
        }
    }
#else
    (void)out;
    (void)in;
#endif
}

/* Boxes of 16 rows of 64 bf16 from a tensor of 24 rows a block, inside it and over its edges. */
enum { BOX_ROWS = 16, BOX_COLUMNS = 64, BOX_WORDS = BOX_ROWS * BOX_COLUMNS / 2 };
enum { TENSOR_ROWS = 24 }; /* of a block */
#ifdef SEO_SM90A
SEO_DEVICE void box_place(int *x, int *y) {
    int block = (int)blockIdx.x;
    int last = (int)gridDim.x - 1;
    const int columns[4] = {0, -8, 40, 16};
    *x = columns[block % 4];
    *y = block * TENSOR_ROWS + (block == 0 ? -3 : block == last ? 12 : 5);
}
#endif
__global__ void case_tma_load(uint32_t *out, const __grid_constant__ CUtensorMap map) {
#ifdef SEO_SM90A
    SEO_SHARED_ALIGN(uint32_t, box, BOX_ROWS * BOX_COLUMNS / 2, 1024);
    SEO_SHARED_ALIGN(uint64_t, bar, 1, 8);
    uint32_t bar_addr = ptx_smem(bar);
    int x, y;
    box_place(&x, &y);
    if (threadIdx.x == 0) {
        ptx_mbar_init(bar_addr, 1);
        ptx_fence_mbar_init();
        ptx_mbar_arrive_expect_tx(bar_addr, BOX_ROWS * BOX_COLUMNS * 2);
        ptx_tma_load_2d(ptx_smem(box), &map, x, y, bar_addr);
    }
    __syncthreads();
    ptx_mbar_wait(bar_addr, 0);
    for (unsigned i = threadIdx.x; i < BOX_WORDS; i += blockDim.x) {
        out[blockIdx.x * 512 + i] = box[i];
    }
#else
    (void)out;
    (void)map;
#endif
}
__global__ void case_tma_store(const uint32_t *in, const __grid_constant__ CUtensorMap map) {
#ifdef SEO_SM90A
    SEO_SHARED_ALIGN(uint32_t, box, BOX_ROWS * BOX_COLUMNS / 2, 1024);
    int x, y;
    box_place(&x, &y);
    for (unsigned i = threadIdx.x; i < BOX_WORDS; i += blockDim.x) {
        box[i] = in[blockIdx.x * 768 + i];
    }
    ptx_fence_proxy_async();
    __syncthreads();
    if (threadIdx.x != 0) return;
    ptx_tma_store_2d(&map, x, y, ptx_smem(box));
    ptx_bulk_commit();
    ptx_bulk_wait_read();
#else
    (void)in;
    (void)map;
#endif
}

/* A producer warpgroup loads A (128 x 64) and B (128 x 64) by TMA; two consumer warpgroups multiply
 * 64 rows each in four steps of k. */
enum { WG_STEPS = 4 };
__global__ void __launch_bounds__(3 * GROUP, 1)
    case_wgmma(uint32_t *out, const uint32_t *in, const __grid_constant__ CUtensorMap map) {
#ifdef SEO_SM90A
    SEO_DYN_SMEM(smem);
    SEO_SHARED_ALIGN(uint64_t, bar, 1, 8);
    const uint32_t operand_bytes = 128 * 64 * 2;
    const float *c = (const float *)(in + blockIdx.x * 24576 + 2 * 128 * 64 / 2);
    uint32_t a = ptx_smem(smem);
    uint32_t bar_addr = ptx_smem(bar);
    int group = (int)threadIdx.x / GROUP - 1;
    int lane = (int)threadIdx.x % WARP;
    if (threadIdx.x == 0) {
        ptx_mbar_init(bar_addr, 1);
        ptx_fence_mbar_init();
    }
    __syncthreads();
    if (group < 0) {
        ptx_setmaxnreg_dec<40>();
        if (threadIdx.x != 0) return;
        /* The tensor's rows are A's and B's of each block, then its c. */
        int row = (int)blockIdx.x * 768;
        ptx_mbar_arrive_expect_tx(bar_addr, 2 * operand_bytes);
        ptx_tma_load_2d(a, &map, 0, row, bar_addr);
        ptx_tma_load_2d(a + operand_bytes, &map, 0, row + 128, bar_addr);
        return;
    }
    ptx_setmaxnreg_inc<232>();
    int row = group * 64 + (int)threadIdx.x / WARP % 4 * 16 + lane / 4;
    int column = lane % 4 * 2;
    float d[64];
#pragma unroll
    for (int i = 0; i < 64; i++) {
        d[i] = c[(row + i / 2 % 2 * 8) * 128 + i / 4 * 8 + column + i % 2];
    }
    ptx_mbar_wait(bar_addr, 0);
    ptx_fence_registers(d);
    ptx_wgmma_fence();
    uint32_t own_a = a + (uint32_t)group * 64 * 128;
#pragma unroll
    for (int step = 0; step < WG_STEPS; step++) {
        uint32_t k_bytes = (uint32_t)step * 32;
        ptx_wgmma_m64n128k16(d, ptx_desc_sw128(own_a + k_bytes),
                             ptx_desc_sw128(a + operand_bytes + k_bytes),
                             step > 0 || blockIdx.x % 2 == 0);
    }
    ptx_wgmma_commit();
    ptx_wgmma_wait<0>();
    ptx_fence_registers(d);
#pragma unroll
    for (int i = 0; i < 64; i++) {
        int at = (row + i / 2 % 2 * 8) * 128 + i / 4 * 8 + column + i % 2;
        out[blockIdx.x * 16384 + (unsigned)at] = __float_as_uint(d[i]);
    }
#else
    (void)out;
    (void)in;
    (void)map;
#endif
}

/* ---- launches ---- */

typedef void (*plain_kernel)(uint32_t *, const uint32_t *);
template <plain_kernel KERNEL, int THREADS>
static cudaError_t run_plain(const conformance_case *c, uint32_t *out, const uint32_t *in) {
    return seo_launch({dim3((unsigned)c->blocks), dim3(THREADS), 0, nullptr}, KERNEL, out, in);
}

/* A map of rows of 64 bf16. */
static cudaError_t encode(CUtensorMap *map, const void *base, int rows, int box_rows,
                          bool swizzled) {
    void *encoder = nullptr;
    cudaDriverEntryPointQueryResult found;
    cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &encoder, 12000,
                                                         cudaEnableDefault, &found);
    if (error != cudaSuccess) return error;
    cuuint64_t dim[2] = {(cuuint64_t)BOX_COLUMNS, (cuuint64_t)rows};
    cuuint64_t stride[1] = {(cuuint64_t)BOX_COLUMNS * 2};
    cuuint32_t box[2] = {(cuuint32_t)BOX_COLUMNS, (cuuint32_t)box_rows};
    cuuint32_t ones[2] = {1, 1};
    CUresult result = ((decltype(&cuTensorMapEncodeTiled))encoder)(
        map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, (void *)base, dim, stride, box, ones,
        CU_TENSOR_MAP_INTERLEAVE_NONE,
        swizzled ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_NONE,
        CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}
template <bool SWIZZLED>
static cudaError_t run_tma_load(const conformance_case *c, uint32_t *out, const uint32_t *in) {
    CUtensorMap map;
    cudaError_t error = encode(&map, in, c->blocks * TENSOR_ROWS, BOX_ROWS, SWIZZLED);
    if (error != cudaSuccess) return error;
    return seo_launch({dim3((unsigned)c->blocks), dim3(64), 0, nullptr}, case_tma_load, out, map);
}
static cudaError_t run_tma_store(const conformance_case *c, uint32_t *out, const uint32_t *in) {
    CUtensorMap map;
    cudaError_t error = encode(&map, out, c->blocks * TENSOR_ROWS, BOX_ROWS, false);
    if (error != cudaSuccess) return error;
    return seo_launch({dim3((unsigned)c->blocks), dim3(64), 0, nullptr}, case_tma_store, in, map);
}
static cudaError_t run_wgmma(const conformance_case *c, uint32_t *out, const uint32_t *in) {
    CUtensorMap map;
    cudaError_t error = encode(&map, in, c->blocks * 768, 128, true);
    if (error != cudaSuccess) return error;
    seo_grid grid = {dim3((unsigned)c->blocks), dim3(3 * GROUP), 2 * 128 * 64 * 2, nullptr};
    return seo_launch(grid, case_wgmma, out, in, map);
}

/* name, compare, sm90a, blocks, in, out, bf16, float, m, n, k, run */
const struct conformance_case conformance_cases[] = {
    {"smem addresses", COMPARE_BITS, 0, 1, 1, 32, 0, 0, 0, 0, 0, run_plain<case_smem, 32>},
    {"cp.async", COMPARE_BITS, 0, 17, 160, 160, 0, 0, 0, 0, 0, run_plain<case_cp_async, 32>},
    {"ldmatrix", COMPARE_BITS, 0, 8, 160, 128, 0, 0, 0, 0, 0, run_plain<case_ldmatrix<false>, 32>},
    {"ldmatrix.trans", COMPARE_BITS, 0, 8, 160, 128, 0, 0, 0, 0, 0,
     run_plain<case_ldmatrix<true>, 32>},
    {"mma.m16n8k16", COMPARE_PRODUCT, 0, 64, 320, 128, 192, 128, 16, 8, 16,
     run_plain<case_mma, 32>},
    {"bar.sync", COMPARE_BITS, 0, 4, 128, 128, 0, 0, 0, 0, 0, run_plain<case_bar_sync, 128>},
    {"ex2.approx", COMPARE_EXP2, 0, 16, 256, 256, 0, 0, 0, 0, 0, run_plain<case_exp2, 256>},
    {"tanh.approx", COMPARE_TANH, 0, 16, 256, 256, 0, 0, 0, 0, 0, run_plain<case_tanh, 256>},
    {"mbarrier", COMPARE_BITS, 1, 4, 128, 128, 0, 0, 0, 0, 0, run_plain<case_mbarrier, 64>},
    {"tma load", COMPARE_BITS, 1, 8, 768, 512, 0, 0, 0, 0, 0, run_tma_load<false>},
    {"tma load, swizzled", COMPARE_BITS, 1, 8, 768, 512, 0, 0, 0, 0, 0, run_tma_load<true>},
    {"tma store", COMPARE_BITS, 1, 8, 768, 768, 0, 0, 0, 0, 0, run_tma_store},
    {"wgmma.m64n128k16", COMPARE_PRODUCT, 1, 4, 24576, 16384, 8192, 16384, 128, 128, 64, run_wgmma},
};
const int conformance_case_count = sizeof conformance_cases / sizeof conformance_cases[0];
