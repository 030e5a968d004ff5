/* Shows a test which block works on what. */
#include "kernels/cuda/attention.cuh"

/* out: 2 numbers for each block. */
static __global__ void __launch_bounds__(32) places_kernel(int32_t *out, attention_shape s) {
    const attention_place place = place_of_block(s);
    if (threadIdx.x > 0) return;
    out[2 * blockIdx.x] = (int32_t)place.pair;
    out[2 * blockIdx.x + 1] = place.rank;
}

extern "C" cudaError_t test_attention_places(int32_t *out, int32_t tiles, int32_t pairs,
                                             int32_t group, cudaStream_t stream) {
    attention_shape s = {};
    s.tiles = tiles;
    s.pairs = (uint32_t)pairs;
    s.group = (uint32_t)group;
    const seo_grid grid = {dim3((uint32_t)(tiles * pairs)), dim3(32), 0, stream};
    return seo_launch(grid, places_kernel, out, s);
}
