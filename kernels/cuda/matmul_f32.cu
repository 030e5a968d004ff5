/* f32 matrix product on the scalar units of any GPU: exact products, one fused rounding a term. */
#include "kernels/cuda/matmul_epilogue.cuh"

enum { F32_K = 16, F32_PAD = 4 }; /* k of a stage; floats that keep lines of k in other banks */

/* One operand's tile: F32_K lines of TILE floats, MN contiguous, whatever the layout in memory. */
template <int TILE> struct f32_tile {
    static const int pitch = TILE + F32_PAD, floats = F32_K * pitch;
    static const int threads = (TILE / 8) * (TILE / 8);
};

/* Fills a tile from (mn, k) on, zeros where the operand ends; `at` is its first element there. */
template <bool K_MAJOR, int TILE>
SEO_DEVICE void load_tile(float *tile, const float *at, int64_t pitch, int mn_left, int k_here,
                          int32_t aligned) {
    const int threads = f32_tile<TILE>::threads;
    if (!K_MAJOR && aligned) {
#pragma unroll
        for (int i = 0; i < F32_K * TILE / 4 / threads; i++) {
            const int id = threadIdx.x + i * threads, k = id / (TILE / 4), mn = id % (TILE / 4) * 4;
            const bool in = mn < mn_left && k < k_here;
            ptx_cp_async16(ptx_smem(tile + k * f32_tile<TILE>::pitch + mn),
                           in ? at + k * pitch + mn : at, in ? 16 : 0);
        }
        return;
    }
#pragma unroll 2
    for (int i = 0; i < F32_K * TILE / threads; i++) {
        const int id = threadIdx.x + i * threads;
        const int k = K_MAJOR ? id % F32_K : id / TILE, mn = K_MAJOR ? id / F32_K : id % TILE;
        const bool in = mn < mn_left && k < k_here;
        const float *src = K_MAJOR ? at + mn * pitch + k : at + k * pitch + mn;
        ptx_cp_async4(ptx_smem(tile + k * f32_tile<TILE>::pitch + mn), in ? src : at, in ? 4 : 0);
    }
}

/* Eight of a thread's rows or columns in a line of a tile: 4 in each half of it. */
template <int TILE> SEO_DEVICE void load_eight(float (&x)[8], const float *line, int thread) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const vec<float> v = *(const vec<float> *)(line + half * (TILE / 2) + thread * 4);
#pragma unroll
        for (int i = 0; i < 4; i++) x[half * 4 + i] = v.x[i];
    }
}

/* The rolled loop finds its row of sums by comparing, so that the epilogue is there once. */
template <int TILE>
SEO_DEVICE void store_sums(const float (&acc)[8][8], const matmul_output &to, int64_t m0,
                           int64_t n0) {
    const int tx = threadIdx.x % (TILE / 8), ty = threadIdx.x / (TILE / 8);
#pragma unroll 1
    for (int i = 0; i < 8; i++) {
        float row[8] = {};
#pragma unroll
        for (int at = 0; at < 8; at++) {
#pragma unroll
            for (int j = 0; j < 8; j++) row[j] = at == i ? acc[at][j] : row[j];
        }
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const matmul_span span = matmul_span_of<4>(to, m0 + i / 4 * (TILE / 2) + ty * 4 + i % 4,
                                                       n0 + half * (TILE / 2) + tx * 4);
            float x[4] = {row[half * 4], row[half * 4 + 1], row[half * 4 + 2], row[half * 4 + 3]};
            float prior[4];
            matmul_prior<float>(prior, to, span);
            matmul_finish<float>(x, prior, to, span);
        }
    }
}

/* A block makes TILE x TILE elements of the output (block x), of the k of one split (block y); a
 * thread 8 x 8 of them, four rows and columns in either half of the tile. 16 k at a time lie in
 * shared memory with MN contiguous; a second stage is filled meanwhile.
 * Static shared memory: 33,792 bytes for TILE 128, 17,408 for 64; up to 128 and 168
 * registers. Any alignment; MN-major operands with 16-byte rows are copied 16 bytes at a time.
 * Summation order: k ascending, fused multiply-add. Bound: flops. */
template <int LAYOUT, int TILE>
__global__ void __launch_bounds__((TILE / 8) * (TILE / 8), TILE == 128 ? 2 : 4)
    matmul_f32_kernel(const __grid_constant__ matmul_problem p) {
    const bool a_major = LAYOUT != SEO_MATMUL_TN, b_major = LAYOUT == SEO_MATMUL_NT;
    typedef f32_tile<TILE> shape;
    SEO_SHARED_ALIGN(float, a_tiles, 2 * shape::floats, 16);
    SEO_SHARED_ALIGN(float, b_tiles, 2 * shape::floats, 16);
    const matmul_place place = matmul_place_of(blockIdx.x, (int32_t)((p.m + TILE - 1) / TILE),
                                               (int32_t)((p.n + TILE - 1) / TILE));
    const int64_t m0 = (int64_t)place.row * TILE, n0 = (int64_t)place.column * TILE;
    const int64_t k0 = blockIdx.y * p.k_split;
    const int m_left = p.m - m0 < TILE ? (int)(p.m - m0) : TILE;
    const int n_left = p.n - n0 < TILE ? (int)(p.n - n0) : TILE;
    int64_t k_left = p.k - k0 < p.k_split ? p.k - k0 : p.k_split;
    const float *a = (const float *)p.a + (a_major ? m0 * p.a_pitch + k0 : k0 * p.a_pitch + m0);
    const float *b = (const float *)p.b + (b_major ? n0 * p.b_pitch + k0 : k0 * p.b_pitch + n0);
    const int tx = threadIdx.x % (TILE / 8), ty = threadIdx.x / (TILE / 8);
    float acc[8][8] = {};

    int k_here = k_left < F32_K ? (int)k_left : (int)F32_K;
    load_tile<a_major, TILE>(a_tiles, a, p.a_pitch, m_left, k_here, p.aligned);
    load_tile<b_major, TILE>(b_tiles, b, p.b_pitch, n_left, k_here, p.aligned);
    ptx_cp_async_commit();
    for (int stage = 0; k_left > 0; stage ^= 1) {
        ptx_cp_async_wait<0>();
        __syncthreads(); /* this stage is there, and the other one is read no more */
        k_left -= F32_K;
        if (k_left > 0) {
            k_here = k_left < F32_K ? (int)k_left : (int)F32_K;
            a += a_major ? (int64_t)F32_K : F32_K * p.a_pitch;
            b += b_major ? (int64_t)F32_K : F32_K * p.b_pitch;
            const int other = (stage ^ 1) * shape::floats;
            load_tile<a_major, TILE>(a_tiles + other, a, p.a_pitch, m_left, k_here, p.aligned);
            load_tile<b_major, TILE>(b_tiles + other, b, p.b_pitch, n_left, k_here, p.aligned);
            ptx_cp_async_commit();
        }
#pragma unroll 4
        for (int k = 0; k < F32_K; k++) {
            float x[8], y[8];
            load_eight<TILE>(x, a_tiles + stage * shape::floats + k * shape::pitch, ty);
            load_eight<TILE>(y, b_tiles + stage * shape::floats + k * shape::pitch, tx);
#pragma unroll
            for (int i = 0; i < 8; i++) {
#pragma unroll
                for (int j = 0; j < 8; j++) acc[i][j] = fmaf(x[i], y[j], acc[i][j]);
            }
        }
    }

    matmul_output to = p.to;
    if (p.splits > 1) to.out = (float *)to.out + blockIdx.y * p.m * p.n;
    store_sums<TILE>(acc, to, m0, n0);
}

template <int LAYOUT, int TILE>
static cudaError_t launch_f32(const matmul_problem &p, cudaStream_t stream) {
    static_assert(MATMUL_K_UNIT % F32_K == 0, "splits are whole stages");
    return seo_launch({matmul_grid(p, TILE, TILE), dim3(f32_tile<TILE>::threads), 0, stream},
                      matmul_f32_kernel<LAYOUT, TILE>, p);
}

#define LAUNCHES(tile)                                                                             \
    {                                                                                              \
        launch_f32<SEO_MATMUL_NT, tile>, launch_f32<SEO_MATMUL_NN, tile>,                          \
            launch_f32<SEO_MATMUL_TN, tile>                                                        \
    }
matmul_launch *const seo_matmul_f32_128[3] = LAUNCHES(128);
matmul_launch *const seo_matmul_f32_64[3] = LAUNCHES(64);
