/* Sums whose order is fixed by the shape: a bias' gradient, parts of a sum, the squares of all
 * gradients, the clip factor; and the residual addition. */
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

/* ---- fold ---- */

/* What of the tree is kept in registers: the variant for up to 2^LEVELS parts. */
enum { FOLD_LEVELS_FEW = 4, FOLD_RESIDENT = 2 };

template <int N> SEO_DEVICE void add_to(float (&x)[N], const float (&left)[N]) {
#pragma unroll
    for (int i = 0; i < N; i++) x[i] = left[i] + x[i];
}

/* ((part 0 + part 1) + part 2) + ... */
template <int N, class T>
SEO_DEVICE void fold_sequence(float (&total)[N], const T *inp, int64_t stride, int64_t parts) {
    load_f32(total, inp);
#pragma unroll 4
    for (int64_t p = 1; p < parts; p++) {
        float next[N];
        load_f32(next, inp + p * stride);
#pragma unroll
        for (int i = 0; i < N; i++) total[i] += next[i];
    }
}

/* (0 + 1) + (2 + 3) ... as a binary counter: subtree[l] waits for its right neighbour of 2^l parts.
 * All lanes have the same p, so none of the branches splits a warp. */
template <int N, int LEVELS, class T>
SEO_DEVICE void fold_tree(float (&total)[N], const T *inp, int64_t stride, int64_t parts) {
    float subtree[LEVELS][N];
#pragma unroll
    for (int l = 0; l < LEVELS; l++) {
#pragma unroll
        for (int i = 0; i < N; i++) subtree[l][i] = 0.0f;
    }
    for (int64_t p = 0; p < parts; p++) {
        load_f32(total, inp + p * stride);
        bool carries = true;
#pragma unroll
        for (int l = 0; l < LEVELS; l++) {
            const bool full = (p >> l & 1) != 0;
            if (carries && full) add_to(total, subtree[l]);
            if (carries && !full) {
#pragma unroll
                for (int i = 0; i < N; i++) subtree[l][i] = total[i];
            }
            carries = carries && full;
        }
    }
}

template <int N, int LEVELS, class T>
SEO_DEVICE void fold_span(float *out, const T *inp, int64_t stride, int64_t parts,
                          bool accumulate) {
    float total[N] = {}; /* there is at least one part */
    if constexpr (LEVELS == 0) {
        fold_sequence(total, inp, stride, parts);
    } else {
        fold_tree<N, LEVELS>(total, inp, stride, parts);
    }
    if (accumulate) {
        float before[N];
        load_f32(before, out);
        add_to(total, before);
    }
    store_f32(out, total);
}

/* Grid-stride over spans of N elements, then over the rest one by one. LEVELS 0: in sequence; else
 * as a tree of up to 2^LEVELS parts. A thread has read all parts of an element before it writes it,
 * so out may be one of them. No shared memory. N = SPAN demands rows that begin at multiples of 16
 * bytes, else `spans` is 0. Bound: the bytes of all parts, read once. */
template <int LEVELS, class T>
__global__ void __launch_bounds__(ELEMENT_THREADS, FOLD_RESIDENT)
    fold_kernel(float *out, const T *inp, int64_t parts, int64_t spans, int64_t count,
                bool accumulate) {
    const int64_t first = thread_of_grid(), step = threads_of_grid();
    for (int64_t i = first; i < spans; i += step) {
        fold_span<SPAN, LEVELS>(out + i * SPAN, inp + i * SPAN, count, parts, accumulate);
    }
    for (int64_t i = spans * SPAN + first; i < count; i += step) {
        fold_span<1, LEVELS>(out + i, inp + i, count, parts, accumulate);
    }
}

template <int LEVELS, class T> static cudaError_t fold(seo_device *dev, const seo_fold_args *a) {
    const int64_t parts = a->inp.dims[0], count = a->inp.dims[1];
    const bool rows_fit = count % SPAN == 0 && spans_fit(a->out.data, a->inp.data);
    const int64_t spans = rows_fit ? count / SPAN : 0;
    return seo_launch(grid_over_elements(dev, spans, count), fold_kernel<LEVELS, T>,
                      (float *)a->out.data, (const T *)a->inp.data, parts, spans, count,
                      a->accumulate);
}

template <class T> static cudaError_t fold_by_order(seo_device *dev, const seo_fold_args *a) {
    if (a->order == SEO_SUM_SEQUENCE) return fold<0, T>(dev, a);
    if (a->inp.dims[0] <= 1 << FOLD_LEVELS_FEW) return fold<FOLD_LEVELS_FEW, T>(dev, a);
    return fold<SEO_SUM_TREE_LEVELS, T>(dev, a);
}

seo_err seo_cuda_fold(seo_device *dev, const seo_fold_args *a) {
    return seo_cuda_check(a->inp.dtype == SEO_DTYPE_BF16 ? fold_by_order<bf16>(dev, a)
                                                         : fold_by_order<float>(dev, a),
                          "fold");
}

/* ---- sum_squares, clip_factor ---- */

enum {
    SQUARE_WARPS = 8,
    SQUARE_THREADS = SQUARE_WARPS * WARP,
    SQUARE_LANES = 4, /* sums of a thread, which need not wait for each other */
    CLIP_THREADS = 1024
};

/* The same in every lane, as a butterfly. */
SEO_DEVICE double warp_sum(double x) {
#pragma unroll
    for (int offset = WARP / 2; offset > 0; offset /= 2) {
        x += __shfl_xor_sync(FULL_WARP, x, offset);
    }
    return x;
}

/* out[u] = the sum of squares of unit u, a warp's work. A lane takes spans of 8 elements, every
 * 32nd, and squares and adds them in f64 in ascending order: element i of a span goes to its sum
 * i % 4. SPANS says how they are read, which changes nothing else: as spans, from an address that
 * is a multiple of 16 bytes, or one by one. Grid-stride over the units. No shared memory. Bound: 4
 * bytes an element; on devices with few f64 units, two f64 instructions an element. */
template <bool SPANS>
__global__ void __launch_bounds__(SQUARE_THREADS)
    sum_squares_kernel(float *out, const float *inp, int64_t units, int64_t count) {
    const int64_t lane = threadIdx.x % WARP;
    const int64_t warps = (int64_t)gridDim.x * SQUARE_WARPS;
    for (int64_t u = (int64_t)blockIdx.x * SQUARE_WARPS + threadIdx.x / WARP; u < units;
         u += warps) {
        const int64_t from = u * SEO_SQUARES_UNIT, end = min(count, from + SEO_SQUARES_UNIT);
        double sum[SQUARE_LANES] = {};
#pragma unroll 4
        for (int64_t i = from + lane * SPAN; i < end; i += WARP * SPAN) {
            float x[SPAN] = {};
            if (SPANS && i + SPAN <= end) {
                load_f32(x, inp + i);
            } else {
#pragma unroll
                for (int j = 0; j < SPAN; j++) x[j] = i + j < end ? inp[i + j] : 0.0f;
            }
#pragma unroll
            for (int j = 0; j < SPAN; j++) {
                sum[j % SQUARE_LANES] = fma((double)x[j], (double)x[j], sum[j % SQUARE_LANES]);
            }
        }
        const double total = warp_sum((sum[0] + sum[1]) + (sum[2] + sum[3]));
        if (lane == 0) out[u] = (float)total;
    }
}

seo_err seo_cuda_sum_squares(seo_device *dev, const seo_sum_squares_args *a) {
    const int64_t count = seo_tensor_count(&a->inp), units = a->out.dims[0];
    const float *inp = (const float *)a->inp.data;
    return seo_cuda_check(
        seo_launch(grid_over(dev, units, SQUARE_WARPS, SQUARE_THREADS),
                   spans_fit(inp) ? sum_squares_kernel<true> : sum_squares_kernel<false>,
                   (float *)a->out.data, inp, units, count),
        "sum_squares");
}

/* One block: thread t adds sums t, t + 1024 ... in f64, the lanes are added as a butterfly, the
 * warps in ascending order. 256 bytes of shared memory. Bound: the latency of units / 1024 loads,
 * eight of which are under way together. */
static __global__ void __launch_bounds__(CLIP_THREADS)
    clip_factor_kernel(float *norm_out, float *hyper, const float *sum_squares, int64_t units,
                       float max_norm) {
    SEO_SHARED(double, warp_total, CLIP_THREADS / WARP);
    double sum = 0.0;
#pragma unroll 8
    for (int64_t u = threadIdx.x; u < units; u += CLIP_THREADS) sum += (double)sum_squares[u];
    const double of_warp = warp_sum(sum);
    if (threadIdx.x % WARP == 0) warp_total[threadIdx.x / WARP] = of_warp;
    __syncthreads();
    if (threadIdx.x > 0) return;
    double total = 0.0;
    for (int w = 0; w < CLIP_THREADS / WARP; w++) total += warp_total[w];
    const float norm = (float)sqrt(total);
    float factor = 1.0f;
    if (max_norm > 0.0f) factor = fminf(1.0f, __fdiv_rn(max_norm, norm + 1e-6f));
    if (!(norm < INFINITY)) factor = 0.0f;
    *norm_out = norm;
    hyper[SEO_HYPER_GRAD_FACTOR] = factor;
}

seo_err seo_cuda_clip_factor(seo_device *dev, const seo_clip_factor_args *a) {
    const seo_grid one = {dim3(1), dim3(CLIP_THREADS), 0, seo_cuda_of(dev)->stream};
    return seo_cuda_check(seo_launch(one, clip_factor_kernel, (float *)a->norm.data,
                                     (float *)a->hyper.data, (const float *)a->sum_squares.data,
                                     a->sum_squares.dims[0], a->max_norm),
                          "clip_factor");
}
