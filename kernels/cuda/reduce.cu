/* Sums whose order is fixed by the shape: a bias' gradient, the square sum of all gradients, the
 * clip factor; and the residual addition. */
#include <math.h>

#include "kernels/cuda/column_parts.cuh"

template <int N, class T> SEO_DEVICE void add_span(T *out, const T *a, const T *b) {
    float x[N], y[N];
    load_f32(x, a);
    load_f32(y, b);
#pragma unroll
    for (int i = 0; i < N; i++) x[i] += y[i];
    store_f32(out, x);
}

/* Grid-stride: a thread takes SPAN elements, then the rest singly; out may be a or b, since a
 * thread has read what it overwrites. No shared memory. `spans` is 0 unless all arrays begin at a
 * multiple of 16 bytes. Bound: 3 elements' bytes an element. */
template <class T>
__global__ void __launch_bounds__(ELEMENT_THREADS, ELEMENT_RESIDENT)
    add_kernel(T *out, const T *a, const T *b, int64_t spans, int64_t count) {
    const int64_t first = thread_of_grid(), step = threads_of_grid();
    for (int64_t i = first; i < spans; i += step) {
        add_span<SPAN>(out + i * SPAN, a + i * SPAN, b + i * SPAN);
    }
    for (int64_t i = spans * SPAN + first; i < count; i += step) add_span<1>(out + i, a + i, b + i);
}

template <class T> static cudaError_t add(seo_device *dev, const seo_add_args *a) {
    const int64_t count = seo_tensor_count(&a->out);
    const int64_t spans = spans_fit(a->out.data, a->a.data, a->b.data) ? count / SPAN : 0;
    return seo_launch(grid_over_elements(dev, spans, count), add_kernel<T>, (T *)a->out.data,
                      (const T *)a->a.data, (const T *)a->b.data, spans, count);
}

seo_err seo_cuda_add(seo_device *dev, const seo_add_args *a) {
    return seo_cuda_check(a->out.dtype == SEO_DTYPE_BF16 ? add<bf16>(dev, a) : add<float>(dev, a),
                          "add");
}

/* ---- bias_bwd ---- */

enum { BIAS_WARPS = 8, BIAS_THREADS = BIAS_WARPS * WARP, BIAS_ROWS_LEAST = 4 * BIAS_WARPS };

/* Column sums of a block of rows. Block (x, y) has the columns of tile x, N a lane, and the rows of
 * row block y: warp w adds rows w, w + 8 ... in ascending order, then the warps are added in
 * ascending order. 1 KB of shared memory for each column of a lane. N = SPAN demands rows that
 * begin at multiples of 16 bytes. Bound: one element's bytes an element. */
template <int N, class T>
__global__ void __launch_bounds__(BIAS_THREADS)
    bias_bwd_kernel(float *parts, const T *dout, column_plan plan, int64_t rows, int64_t columns) {
    SEO_SHARED(float, warp_total, BIAS_THREADS *N);
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    const int64_t column = ((int64_t)blockIdx.x * WARP + lane) * N;
    const int64_t from = blockIdx.y * plan.rows, end = min(rows, from + plan.rows);
    float total[N] = {};
    if (column < columns) {
#pragma unroll 4
        for (int64_t r = from + warp; r < end; r += BIAS_WARPS) {
            float x[N];
            load_f32(x, dout + r * columns + column);
#pragma unroll
            for (int i = 0; i < N; i++) total[i] += x[i];
        }
    }
#pragma unroll
    for (int i = 0; i < N; i++) warp_total[(warp * N + i) * WARP + lane] = total[i];
    __syncthreads();
    if (warp > 0 || column >= columns) return;
    for (int w = 1; w < BIAS_WARPS; w++) {
#pragma unroll
        for (int i = 0; i < N; i++) total[i] += warp_total[(w * N + i) * WARP + lane];
    }
    float *part = parts + blockIdx.y * plan.part + column;
#pragma unroll
    for (int i = 0; i < N; i++) part[i] = total[i];
}

template <int N, class T>
static cudaError_t bias_bwd(seo_device *dev, const seo_bias_bwd_args *a, const column_plan &plan) {
    const int64_t columns = a->dbias.dims[0], rows = seo_tensor_count(&a->dout) / columns;
    const seo_grid grid = {dim3((unsigned)seo_div_up(columns, WARP * N), (unsigned)plan.blocks),
                           dim3(BIAS_THREADS), 0, seo_cuda_of(dev)->stream};
    return seo_launch(grid, bias_bwd_kernel<N, T>, (float *)dev->scratch, (const T *)a->dout.data,
                      plan, rows, columns);
}

seo_err seo_cuda_bias_bwd(seo_device *dev, const seo_bias_bwd_args *a) {
    const int64_t columns = a->dbias.dims[0], rows = seo_tensor_count(&a->dout) / columns;
    const int64_t most = SEO_CUDA_SCRATCH_BYTES / (int64_t)sizeof(float);
    if (columns > most) {
        return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                        "bias_bwd: N is %lld, the CUDA backend takes up to %lld",
                        (long long)columns, (long long)most);
    }
    const column_plan plan = plan_columns(rows, columns, BIAS_ROWS_LEAST);
    const bool spans = columns % SPAN == 0 && spans_fit(a->dout.data);
    cudaError_t queued;
    if (a->dout.dtype == SEO_DTYPE_BF16) {
        queued = spans ? bias_bwd<SPAN, bf16>(dev, a, plan) : bias_bwd<1, bf16>(dev, a, plan);
    } else {
        queued = spans ? bias_bwd<SPAN, float>(dev, a, plan) : bias_bwd<1, float>(dev, a, plan);
    }
    if (queued == cudaSuccess) {
        queued =
            add_column_parts(dev, plan, {{(float *)a->dbias.data, nullptr, nullptr}, 1, columns});
    }
    return seo_cuda_check(queued, "bias_bwd");
}

/* ---- sum_squares, clip_factor ---- */

enum {
    SQUARE_THREADS = 256,
    SQUARE_BLOCKS_MAX = 1024,
    SQUARE_UNIT = SQUARE_THREADS * SPAN, /* elements that a block takes at a time */
    SQUARE_LANES = 4                     /* sums of a thread, which need not wait for each other */
};

/* The same in every thread: over the lanes as a butterfly, over the warps in ascending order. */
SEO_DEVICE double block_sum(double x, double (&warp_total)[SQUARE_THREADS / WARP]) {
#pragma unroll
    for (int offset = WARP / 2; offset > 0; offset /= 2) {
        x += __shfl_xor_sync(FULL_WARP, x, offset);
    }
    if (threadIdx.x % WARP == 0) warp_total[threadIdx.x / WARP] = x;
    __syncthreads();
    double total = 0.0;
#pragma unroll
    for (int w = 0; w < SQUARE_THREADS / WARP; w++) total += warp_total[w];
    return total;
}

/* parts[b] = the sum of squares of the b-th slice of `each` elements, a multiple of SQUARE_UNIT.
 * A thread squares and adds in f64 what it reads, in ascending order: element i of a span goes to
 * its sum i % 4, and what follows the last whole span to its first one. 64 bytes of shared memory.
 * N = SPAN demands an address that is a multiple of 16 bytes. Bound: 4 bytes an element; on devices
 * with few f64 units, two f64 instructions an element. */
template <int N>
__global__ void __launch_bounds__(SQUARE_THREADS)
    sum_squares_kernel(double *parts, const float *inp, int64_t each, int64_t count) {
    SEO_SHARED(double, warp_total, SQUARE_THREADS / WARP);
    const int64_t from = blockIdx.x * each, end = min(count, from + each);
    const int64_t whole = from + (end - from) / N * N;
    double sum[SQUARE_LANES] = {};
#pragma unroll 2
    for (int64_t i = from + (int64_t)threadIdx.x * N; i < whole; i += SQUARE_THREADS * N) {
        float x[N];
        load_f32(x, inp + i);
#pragma unroll
        for (int j = 0; j < N; j++) {
            sum[j % SQUARE_LANES] = fma((double)x[j], (double)x[j], sum[j % SQUARE_LANES]);
        }
    }
    for (int64_t i = whole + threadIdx.x; i < end; i += SQUARE_THREADS) {
        sum[0] = fma((double)inp[i], (double)inp[i], sum[0]);
    }
    const double total = block_sum((sum[0] + sum[1]) + (sum[2] + sum[3]), warp_total);
    if (threadIdx.x == 0) parts[blockIdx.x] = total;
}

/* out = (accumulate ? out : 0) + the sum of `count` parts. One block; thread t adds parts t, t +
 * 256 ..., then as block_sum. */
static __global__ void __launch_bounds__(SQUARE_THREADS)
    sum_squares_finish_kernel(float *out, const double *parts, int64_t count, bool accumulate) {
    SEO_SHARED(double, warp_total, SQUARE_THREADS / WARP);
    double sum = 0.0;
    for (int64_t i = threadIdx.x; i < count; i += SQUARE_THREADS) sum += parts[i];
    const double total = block_sum(sum, warp_total);
    if (threadIdx.x == 0) *out = (float)((accumulate ? (double)*out : 0.0) + total);
}

seo_err seo_cuda_sum_squares(seo_device *dev, const seo_sum_squares_args *a) {
    const int64_t count = seo_tensor_count(&a->inp);
    const int64_t units = seo_div_up(seo_div_up(count, SQUARE_UNIT), SQUARE_BLOCKS_MAX);
    const int64_t each = units * SQUARE_UNIT, blocks = seo_div_up(count, each);
    const cudaStream_t stream = seo_cuda_of(dev)->stream;
    double *parts = (double *)dev->scratch;
    const float *inp = (const float *)a->inp.data;
    const seo_grid grid = {dim3((unsigned)blocks), dim3(SQUARE_THREADS), 0, stream};
    const bool spans = spans_fit(inp);
    cudaError_t queued = seo_launch(grid, spans ? sum_squares_kernel<SPAN> : sum_squares_kernel<1>,
                                    parts, inp, each, count);
    if (queued == cudaSuccess) {
        const seo_grid one = {dim3(1), dim3(SQUARE_THREADS), 0, stream};
        queued = seo_launch(one, sum_squares_finish_kernel, (float *)a->out.data,
                            (const double *)parts, blocks, a->accumulate);
    }
    return seo_cuda_check(queued, "sum_squares");
}

/* One thread; nothing to be bound by. */
static __global__ void clip_factor_kernel(float *norm_out, float *hyper, const float *sum_squares,
                                          float max_norm) {
    const float norm = __fsqrt_rn(*sum_squares);
    float factor = 1.0f;
    if (max_norm > 0.0f) factor = fminf(1.0f, __fdiv_rn(max_norm, norm + 1e-6f));
    if (!(norm < INFINITY)) factor = 0.0f;
    *norm_out = norm;
    hyper[SEO_HYPER_GRAD_FACTOR] = factor;
}

seo_err seo_cuda_clip_factor(seo_device *dev, const seo_clip_factor_args *a) {
    const seo_grid one = {dim3(1), dim3(1), 0, seo_cuda_of(dev)->stream};
    return seo_cuda_check(seo_launch(one, clip_factor_kernel, (float *)a->norm.data,
                                     (float *)a->hyper.data, (const float *)a->sum_squares.data,
                                     a->max_norm),
                          "clip_factor");
}
