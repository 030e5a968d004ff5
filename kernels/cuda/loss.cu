/* Softmax cross entropy, fused with its gradient: a row of logits is read from memory once, kept in
 * the block's shared memory where it fits, and overwritten by the gradient. */
#include <math.h>

#include "kernels/cuda/block_sums.cuh"

enum {
    LOSS_THREADS_MAX = 512,
    LOSS_WARPS_MAX = LOSS_THREADS_MAX / WARP,
    LOSS_BATCH = 4 /* spans that a thread has on the way from memory together */
};

template <class T> struct loss_rows {
    float *loss;
    T *logits;
    const int32_t *targets;
    int64_t padded, vocab;
    int32_t ignore_index;
    float grad_scale;
    bool with_gradient;
    int32_t *fault;
};

/* A block's dynamic shared memory: `kept` elements of its row, then two numbers for each warp. All
 * of it is dynamic, because what is static would be followed by a gap up to the alignment. */
template <class T> __host__ __device__ constexpr int64_t kept_bytes(int64_t kept) {
    return (kept * (int64_t)sizeof(T) + 15) / 16 * 16;
}
template <class T> static int64_t loss_smem_bytes(int64_t kept) {
    return kept_bytes<T>(kept) + 2 * LOSS_WARPS_MAX * (int64_t)sizeof(float);
}

/* A thread's columns so far: their largest logit, and the sum of e^(x - top). */
struct online_sum {
    float top, sum;
};

/* What is subtracted from logits of which `top` is the largest: nothing where all are minus
 * infinity, whose exponentials are then 0. */
SEO_DEVICE float shift_of(float top) {
    return top == -INFINITY ? 0.0f : top;
}

/* Takes BATCH spans in (Milakov & Gimelshein 2018). */
template <class T, int BATCH, int N>
SEO_DEVICE void take_in(online_sum &so_far, const float (&x)[BATCH][N]) {
    float top = so_far.top;
#pragma unroll
    for (int i = 0; i < BATCH * N; i++) top = fmaxf(top, x[i / N][i % N]);
    const float shift = shift_of(top);
    float sum = so_far.sum * exp_of(so_far.top - shift, T());
#pragma unroll
    for (int b = 0; b < BATCH; b++) {
        float e[N];
#pragma unroll
        for (int i = 0; i < N; i++) e[i] = exp_of(x[b][i] - shift, T());
        sum += sum_of(e);
    }
    so_far = {top, sum};
}

/* The gradient of N columns from c on: scale * e^(x - top), less grad_scale at the target, 0 where
 * padded. */
template <int N, class T>
SEO_DEVICE void gradient_of(float (&x)[N], const loss_rows<T> &a, int64_t c, int64_t target,
                            float top, float scale) {
#pragma unroll
    for (int i = 0; i < N; i++) x[i] = exp_of(x[i] - top, T()) * scale;
    if (c <= target && target < c + N) {
#pragma unroll
        for (int i = 0; i < N; i++) {
            if (c + i == target) x[i] -= a.grad_scale;
        }
    }
    if (c + N <= a.vocab) return;
#pragma unroll
    for (int i = 0; i < N; i++) {
        if (c + i >= a.vocab) x[i] = 0.0f;
    }
}

/* A row without a loss: ignored, or of a target that is out of range, which is reported. */
template <int N, class T> SEO_DEVICE void no_loss(const loss_rows<T> &a, T *row, bool ignored) {
    if (threadIdx.x == 0) {
        a.loss[blockIdx.x] = ignored ? 0.0f : NAN;
        if (!ignored) *a.fault = SEO_CUDA_FAULT_TARGET;
    }
    if (!a.with_gradient) return;
    const float zero[N] = {};
    for (int64_t c = (int64_t)threadIdx.x * N; c < a.padded; c += (int64_t)blockDim.x * N) {
        store_f32(row + c, zero);
    }
}

/* One block a row, N columns a thread at a time: the maximum and the sum of the exponentials
 * together, then the gradient, for which the exponentials are computed again. A thread meets the
 * same columns both times, so a row that is KEPT in shared memory needs no barrier, and one that is
 * not has the same bits: it is read again from the cache. Sums: a span in halves, a thread's spans
 * in ascending order, then as block_sum. N = SPAN demands rows that begin at multiples of 16 bytes.
 * Dynamic shared memory: loss_smem_bytes. Bound: 2 elements' bytes an element, 1 without gradient.
 */
template <int N, bool KEPT, class T>
__global__ void __launch_bounds__(LOSS_THREADS_MAX, 2) cross_entropy_kernel(const loss_rows<T> a) {
    SEO_DYN_SMEM(smem);
    float *part = (float *)(smem + kept_bytes<T>(KEPT ? a.padded : 0));
    T *row = a.logits + blockIdx.x * a.padded;
    const T *from = KEPT ? (const T *)smem : row;
    const int64_t target = a.targets[blockIdx.x];
    const int64_t first = (int64_t)threadIdx.x * N, step = (int64_t)blockDim.x * N;
    if (target == a.ignore_index || target < 0 || target >= a.vocab) {
        no_loss<N>(a, row, target == a.ignore_index);
        return;
    }
    /* Before anybody overwrites it, which is after a barrier. */
    const float at_target = to_f32(row[target]);
    online_sum mine = {-INFINITY, 0.0f};
    int64_t c = first;
    for (; c + (LOSS_BATCH - 1) * step + N <= a.vocab; c += LOSS_BATCH * step) {
        float x[LOSS_BATCH][N];
#pragma unroll
        for (int b = 0; b < LOSS_BATCH; b++) load_f32(x[b], row + c + b * step);
#pragma unroll
        for (int b = 0; b < LOSS_BATCH; b++) {
            if (KEPT) store_f32((T *)smem + c + b * step, x[b]);
        }
        take_in<T>(mine, x);
    }
    for (; c < a.vocab; c += step) {
        float x[1][N];
        load_logits(x[0], row, c, a.vocab);
        if (KEPT) store_f32((T *)smem + c, x[0]);
        take_in<T>(mine, x);
    }
    const float top = block_max(mine.top, part);
    const float sum =
        block_sum(mine.sum * exp_of(mine.top - shift_of(top), T()), part + LOSS_WARPS_MAX);
    if (threadIdx.x == 0) a.loss[blockIdx.x] = logf(sum) - (at_target - top);
    if (!a.with_gradient) return;
    const float scale = __fdiv_rn(a.grad_scale, sum);
#pragma unroll 2
    for (c = first; c < a.padded; c += step) {
        float x[N];
        if (c < a.vocab) {
            load_logits(x, from, c, a.vocab);
            gradient_of(x, a, c, target, top, scale);
        } else {
#pragma unroll
            for (int i = 0; i < N; i++) x[i] = 0.0f;
        }
        store_f32(row + c, x);
    }
}

/* What a block may have on a device of this compute capability. */
static int64_t smem_room(int32_t capability) {
    return capability == 80 || capability == 87   ? 163 << 10
           : capability >= 90 && capability < 120 ? 227 << 10
                                                  : 99 << 10;
}

template <int N, class T>
static cudaError_t launch_loss(seo_device *dev, const loss_rows<T> &a, int64_t rows) {
    const seo_cuda *cuda = seo_cuda_of(dev);
    const bool kept = loss_smem_bytes<T>(a.padded) <= smem_room(cuda->capability);
    const int64_t bytes = loss_smem_bytes<T>(kept ? a.padded : 0);
    const int64_t wanted = seo_round_up(seo_div_up(a.padded, N), WARP);
    const int64_t threads = seo_min_i64(wanted, LOSS_THREADS_MAX);
    const seo_grid grid = {dim3((unsigned)rows), dim3((unsigned)threads), (size_t)bytes,
                           cuda->stream};
    return seo_launch(
        grid, kept ? cross_entropy_kernel<N, true, T> : cross_entropy_kernel<N, false, T>, a);
}

template <class T>
static cudaError_t cross_entropy(seo_device *dev, const seo_cross_entropy_args *a) {
    const loss_rows<T> x = {(float *)a->loss.data,
                            (T *)a->logits.data,
                            (const int32_t *)a->targets.data,
                            a->logits.dims[a->logits.rank - 1],
                            a->vocab_size,
                            a->ignore_index,
                            a->grad_scale,
                            a->with_gradient,
                            seo_cuda_of(dev)->fault};
    const int64_t rows = seo_tensor_count(&a->targets);
    const bool spans = x.padded % SPAN == 0 && spans_fit(x.logits);
    return spans ? launch_loss<SPAN>(dev, x, rows) : launch_loss<1>(dev, x, rows);
}

seo_err seo_cuda_cross_entropy(seo_device *dev, const seo_cross_entropy_args *a) {
    return seo_cuda_check(a->logits.dtype == SEO_DTYPE_BF16 ? cross_entropy<bf16>(dev, a)
                                                            : cross_entropy<float>(dev, a),
                          "cross_entropy");
}
