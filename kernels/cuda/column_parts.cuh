/* Sums over rows for each column. The rows are split into blocks whose number follows from the
 * shape alone; each writes its sums to a part of its own in the device's scratch, and a second
 * kernel adds the parts in one order. So the bits do not depend on the device. */
#pragma once

#include "kernels/cuda/elements.cuh"

enum {
    COLUMN_BLOCKS_MAX = 256, /* of rows: about two for each multiprocessor of a large device */
    COLUMN_SLICES = 8,       /* of the parts, summed side by side */
    COLUMN_THREADS = WARP * COLUMN_SLICES
};

struct column_plan {
    int64_t blocks;
    int64_t rows; /* of every block but the last */
    int64_t part; /* floats of a block's part */
};

/* `least`: rows that are worth a part. part * 4 <= SEO_CUDA_SCRATCH_BYTES. */
static inline column_plan plan_columns(int64_t rows, int64_t part, int64_t least) {
    const int64_t room = SEO_CUDA_SCRATCH_BYTES / (int64_t)sizeof(float) / part;
    const int64_t most = seo_min_i64(COLUMN_BLOCKS_MAX, room);
    const int64_t each = seo_div_up(rows, seo_min_i64(most, seo_div_up(rows, least)));
    return {seo_div_up(rows, each), each, part};
}

enum { COLUMN_SUMS_MAX = 3 };
struct column_sums {
    float *to[COLUMN_SUMS_MAX]; /* null: not wanted */
    int count;                  /* a part holds `count` times `columns` floats */
    int64_t columns;
};

/* to[y][c] += the sum of parts[block][y * columns + c] over the blocks, y = blockIdx.y. A block of
 * 256 threads has 32 columns, one a lane; warp s sums the s-th slice of consecutive parts in
 * ascending order, then warp 0 adds the slices in ascending order. 1 KB of shared memory. Bound: 4
 * bytes a float of a part. */
static __global__ void __launch_bounds__(COLUMN_THREADS)
    add_column_parts_kernel(column_sums sums, column_plan plan, const float *parts) {
    SEO_SHARED(float, slice_sum, COLUMN_THREADS);
    const int lane = (int)threadIdx.x % WARP, slice = (int)threadIdx.x / WARP;
    const int64_t column = (int64_t)blockIdx.x * WARP + lane;
    const int64_t each = (plan.blocks + COLUMN_SLICES - 1) / COLUMN_SLICES;
    const int64_t from = slice * each, end = min(plan.blocks, from + each);
    float total = 0.0f;
    if (column < sums.columns) {
        const float *at = parts + blockIdx.y * sums.columns + column;
#pragma unroll 8
        for (int64_t b = from; b < end; b++) total += at[b * plan.part];
    }
    slice_sum[threadIdx.x] = total;
    __syncthreads();
    float *to = blockIdx.y == 0 ? sums.to[0] : blockIdx.y == 1 ? sums.to[1] : sums.to[2];
    if (slice > 0 || column >= sums.columns || !to) return;
#pragma unroll
    for (int s = 1; s < COLUMN_SLICES; s++) total += slice_sum[s * WARP + lane];
    to[column] += total;
}

static inline cudaError_t add_column_parts(seo_device *dev, const column_plan &plan,
                                           const column_sums &sums) {
    const seo_grid grid = {dim3((unsigned)seo_div_up(sums.columns, WARP), (unsigned)sums.count),
                           dim3(COLUMN_THREADS), 0, seo_cuda_of(dev)->stream};
    return seo_launch(grid, add_column_parts_kernel, sums, plan, (const float *)dev->scratch);
}
