/* The matrix product as its kernels see it, and what the variant table (matmul.cu) knows of them.
 * Private to matmul*.cu. */
#pragma once

#include "base/check.h"
#include "kernels/cuda/device.cuh"
#include "kernels/ops.h"

/* What becomes of the sums: kernels/ops.h, seo_matmul. */
struct matmul_output {
    void *out, *pre;  /* S, or f32 when wide */
    const void *bias; /* S */
    int64_t m, n;
    int32_t wide;       /* out and pre are f32 although S is not */
    int32_t vectors;    /* rows of out and pre, and bias, start at multiples of 16 bytes */
    int32_t accumulate; /* out += */
    seo_matmul_epilogue epilogue;
    seo_gelu_kind gelu;
};

/* out (M, N) = A * B in the layout that the kernel is compiled for. With more than one split, block
 * y sums k from y * k_split on, and `to` is the y-th of as many (M, N) f32 partial results. */
struct matmul_problem {
    const void *a, *b;
    int64_t m, n, k;
    int64_t a_pitch, b_pitch; /* elements from a row to the next */
    int64_t k_split;          /* a multiple of MATMUL_K_UNIT, or k */
    int32_t splits;
    int32_t aligned; /* rows of a and b start at multiples of 16 bytes */
    matmul_output to;
};

/* Every kernel takes k in pieces that divide this. */
enum { MATMUL_K_UNIT = 64 };

/* Queues the kernel of one variant and layout. */
typedef cudaError_t matmul_launch(const matmul_problem &p, cudaStream_t stream);

/* matmul_mma.cu: bf16 on tensor cores, sm_80 and later; one entry for each layout. */
extern matmul_launch *const seo_matmul_mma_256[3],
    *const seo_matmul_mma_128[3], *const seo_matmul_mma_64[3], *const seo_matmul_mma_elements[3];
/* matmul_wgmma.cu: bf16 on Hopper; NT only */
extern matmul_launch *const seo_matmul_wgmma[3];
/* matmul_f32.cu */
extern matmul_launch *const seo_matmul_f32_128[3], *const seo_matmul_f32_64[3];

/* Tiles of a grid in super-rows of 8 rows of tiles, columns first inside: blocks that run together
 * share rows of A and columns of B in the second-level cache. */
struct matmul_place {
    int32_t row, column;
};
SEO_DEVICE matmul_place matmul_place_of(int32_t tile, int32_t rows, int32_t columns) {
    const int32_t height = 8;
    const int32_t group = tile / (height * columns), in_group = tile % (height * columns);
    const int32_t first = group * height;
    const int32_t here = rows - first < height ? rows - first : height;
    return {first + in_group % here, in_group / here};
}

/* The grid of a kernel whose block makes a tile of tile_m x tile_n. */
static inline dim3 matmul_grid(const matmul_problem &p, int tile_m, int tile_n) {
    const int64_t tiles = seo_div_up(p.m, tile_m) * seo_div_up(p.n, tile_n);
    SEO_ASSERT(tiles <= INT32_MAX);
    return dim3((unsigned)tiles, (unsigned)p.splits);
}
