/* The losses of knowledge distillation, fused with their gradients. */
#include <math.h>

#include "kernels/cuda/block_sums.cuh"

/* ---- distill_cross_entropy ---- */

enum { DISTILL_THREADS_MAX = 512, DISTILL_WARPS_MAX = DISTILL_THREADS_MAX / WARP };

template <class T> struct distill_rows {
    float *loss, *hard; /* hard may be null */
    T *student;
    const T *teacher;
    const int32_t *targets, *counts; /* counts may be null */
    int64_t padded, padded_teacher, vocab;
    int32_t ignore_index;
    float temperature, hard_weight, soft_weight, grad_scale;
    bool with_gradient;
    int32_t *fault;
};

/* A row that does not count, or whose target is out of range, which is reported. */
template <int N, class T>
SEO_DEVICE void no_distillation(const distill_rows<T> &a, T *row, bool counted) {
    if (threadIdx.x == 0) {
        a.loss[blockIdx.x] = counted ? NAN : 0.0f;
        if (a.hard) a.hard[blockIdx.x] = counted ? NAN : 0.0f;
        if (counted) *a.fault = SEO_CUDA_FAULT_TARGET;
    }
    if (!a.with_gradient) return;
    const float zero[N] = {};
    for (int64_t c = (int64_t)threadIdx.x * N; c < a.padded; c += (int64_t)blockDim.x * N) {
        store_f32(row + c, zero);
    }
}

/* A thread's sums over its columns; see kernels/cpu/distill.c. */
struct distill_sums {
    float hard, student, teacher, gap;
};

/* The largest logit among a thread's columns. */
template <int N, class T> SEO_DEVICE float top_of(const T *row, int64_t vocab) {
    float top = -INFINITY;
    for (int64_t c = (int64_t)threadIdx.x * N; c < vocab; c += (int64_t)blockDim.x * N) {
        float x[N];
        load_logits(x, row, c, vocab);
#pragma unroll
        for (int i = 0; i < N; i++) top = fmaxf(top, x[i]);
    }
    return top;
}

template <int N, class T>
SEO_DEVICE distill_sums sums_of(const distill_rows<T> &a, const T *row, const T *teacher_row,
                                float top, float teacher_top) {
    const float cooling = 1.0f / a.temperature;
    distill_sums sum = {0.0f, 0.0f, 0.0f, 0.0f};
    for (int64_t c = (int64_t)threadIdx.x * N; c < a.vocab; c += (int64_t)blockDim.x * N) {
        float x[N], t[N];
        load_logits(x, row, c, a.vocab);
        load_logits(t, teacher_row, c, a.vocab);
#pragma unroll
        for (int i = 0; i < N; i++) {
            const float s = (x[i] - top) * cooling, u = (t[i] - teacher_top) * cooling;
            const float e = exp_of(u, T());
            sum.hard += exp_of(x[i] - top, T());
            sum.student += exp_of(s, T());
            sum.teacher += e;
            if (c + i < a.vocab) sum.gap += e * (u - s);
        }
    }
    return sum;
}

/* One block a row, N columns a thread at a time: maxima, sums, and the gradient, each with the rows
 * read again, which the cache has then. A thread meets the same columns every time, so that it
 * overwrites nothing that another one reads. Sums: a thread's columns in ascending order, then as
 * block_sum. N = SPAN demands rows of both that begin at multiples of 16 bytes. Shared memory: a
 * number for each warp and sum. Bound: 3 elements' bytes an element, 2 without gradient. */
template <int N, class T>
__global__ void __launch_bounds__(DISTILL_THREADS_MAX, 2) distill_kernel(const distill_rows<T> a) {
    SEO_SHARED(float, part, 6 * DISTILL_WARPS_MAX);
    T *row = a.student + blockIdx.x * a.padded;
    const T *teacher_row = a.teacher + blockIdx.x * a.padded_teacher;
    const int64_t target = a.targets[blockIdx.x];
    const bool counted = !a.counts || a.counts[blockIdx.x] != 0, hard = target != a.ignore_index;
    if (!counted || (hard && (target < 0 || target >= a.vocab))) {
        no_distillation<N>(a, row, counted);
        return;
    }
    /* Before anybody overwrites it, which is after a barrier. */
    const float at_target = hard ? to_f32(row[target]) : 0.0f;
    const float top = block_max(top_of<N>(row, a.vocab), part);
    const float teacher_top = block_max(top_of<N>(teacher_row, a.vocab), part + DISTILL_WARPS_MAX);
    const distill_sums mine = sums_of<N>(a, row, teacher_row, top, teacher_top);
    const float hard_sum = block_sum(mine.hard, part + 2 * DISTILL_WARPS_MAX);
    const float student_sum = block_sum(mine.student, part + 3 * DISTILL_WARPS_MAX);
    const float teacher_sum = block_sum(mine.teacher, part + 4 * DISTILL_WARPS_MAX);
    const float gap = block_sum(mine.gap, part + 5 * DISTILL_WARPS_MAX);
    if (threadIdx.x == 0) {
        const float hard_loss = hard ? logf(hard_sum) - (at_target - top) : 0.0f;
        const float divergence = gap / teacher_sum - logf(teacher_sum) + logf(student_sum);
        const float soft_loss = a.temperature * a.temperature * divergence;
        a.loss[blockIdx.x] = a.hard_weight * hard_loss + a.soft_weight * soft_loss;
        if (a.hard) a.hard[blockIdx.x] = hard_loss;
    }
    if (!a.with_gradient) return;
    const float cooling = 1.0f / a.temperature, hard_scale = a.grad_scale * a.hard_weight;
    const float soft_scale = a.grad_scale * a.soft_weight * a.temperature;
    const float by_hard = hard ? __fdiv_rn(hard_scale, hard_sum) : 0.0f;
    const float by_student = __fdiv_rn(soft_scale, student_sum);
    const float by_teacher = __fdiv_rn(soft_scale, teacher_sum);
    for (int64_t c = (int64_t)threadIdx.x * N; c < a.padded; c += (int64_t)blockDim.x * N) {
        float x[N] = {}, t[N];
        if (c < a.vocab) {
            load_logits(x, row, c, a.vocab);
            load_logits(t, teacher_row, c, a.vocab);
#pragma unroll
            for (int i = 0; i < N; i++) {
                const float s = x[i] - top, u = (t[i] - teacher_top) * cooling;
                const float soft =
                    by_student * exp_of(s * cooling, T()) - by_teacher * exp_of(u, T());
                const float g = by_hard * exp_of(s, T()) + soft;
                x[i] = c + i < a.vocab ? g - (hard && c + i == target ? hard_scale : 0.0f) : 0.0f;
            }
        }
        store_f32(row + c, x);
    }
}

template <class T>
static cudaError_t distill(seo_device *dev, const seo_distill_cross_entropy_args *a) {
    const distill_rows<T> x = {(float *)a->loss.data,
                               (float *)a->hard.data,
                               (T *)a->student.data,
                               (const T *)a->teacher.data,
                               (const int32_t *)a->targets.data,
                               (const int32_t *)a->counts.data,
                               a->student.dims[a->student.rank - 1],
                               a->teacher.dims[a->teacher.rank - 1],
                               a->vocab_size,
                               a->ignore_index,
                               a->temperature,
                               a->hard_weight,
                               a->soft_weight,
                               a->grad_scale,
                               a->with_gradient,
                               seo_cuda_of(dev)->fault};
    const bool spans =
        x.padded % SPAN == 0 && x.padded_teacher % SPAN == 0 && spans_fit(x.student, x.teacher);
    const int64_t rows = seo_tensor_count(&a->targets);
    const int64_t wanted = seo_round_up(seo_div_up(x.padded, spans ? SPAN : 1), WARP);
    const int64_t threads = seo_min_i64(wanted, DISTILL_THREADS_MAX);
    const seo_grid grid = {dim3((unsigned)rows), dim3((unsigned)threads), 0,
                           seo_cuda_of(dev)->stream};
    return seo_launch(grid, spans ? distill_kernel<SPAN, T> : distill_kernel<1, T>, x);
}

seo_err seo_cuda_distill_cross_entropy(seo_device *dev, const seo_distill_cross_entropy_args *a) {
    return seo_cuda_check(a->student.dtype == SEO_DTYPE_BF16 ? distill<bf16>(dev, a)
                                                             : distill<float>(dev, a),
                          "distill_cross_entropy");
}

/* ---- cosine_loss ---- */

enum { COSINE_THREADS = 256, COSINE_WARPS = COSINE_THREADS / WARP };

template <class T> struct cosine_rows {
    float *loss;
    T *da; /* may be null */
    const T *a, *b;
    const int32_t *counts; /* may be null */
    int64_t rows, columns;
    float weight, grad_scale;
    bool accumulate;
};

/* of_a a + of_b b for one row's N columns of a lane at a time, = or +=. */
template <int N, class T>
SEO_DEVICE void cosine_gradient(const cosine_rows<T> &x, int64_t row, float of_a, float of_b) {
    for (int64_t c = (int64_t)(threadIdx.x % WARP) * N; c < x.columns; c += WARP * N) {
        const int64_t at = row * x.columns + c;
        float a[N], b[N], before[N] = {};
        load_f32(a, x.a + at);
        load_f32(b, x.b + at);
        if (x.accumulate) load_f32(before, x.da + at);
#pragma unroll
        for (int i = 0; i < N; i++) a[i] = before[i] + (of_a * a[i] + of_b * b[i]);
        store_f32(x.da + at, a);
    }
}

/* One warp a row, N columns a lane at a time; grid-stride. Sums: a span in halves, a lane's spans
 * in ascending order, then a butterfly. N = SPAN demands rows that begin at multiples of 16 bytes.
 * No shared memory. Bound: 3 elements' bytes an element. */
template <int N, class T>
__global__ void __launch_bounds__(COSINE_THREADS, ELEMENT_RESIDENT)
    cosine_loss_kernel(const cosine_rows<T> x) {
    const int lane = (int)threadIdx.x % WARP;
    const int64_t step = threads_of_grid() / WARP;
    for (int64_t row = thread_of_grid() / WARP; row < x.rows; row += step) {
        const bool counted = !x.counts || x.counts[row] != 0;
        float aa = 0.0f, bb = 0.0f, ab = 0.0f;
        for (int64_t c = lane * N; counted && c < x.columns; c += WARP * N) {
            float a[N], b[N], product[N];
            load_f32(a, x.a + row * x.columns + c);
            load_f32(b, x.b + row * x.columns + c);
#pragma unroll
            for (int i = 0; i < N; i++) product[i] = a[i] * b[i];
            ab += sum_of(product);
#pragma unroll
            for (int i = 0; i < N; i++) a[i] *= a[i];
            aa += sum_of(a);
#pragma unroll
            for (int i = 0; i < N; i++) b[i] *= b[i];
            bb += sum_of(b);
        }
        aa = warp_sum(aa);
        bb = warp_sum(bb);
        ab = warp_sum(ab);
        const bool none = aa == 0.0f || bb == 0.0f;
        const float norms = __fsqrt_rn(aa) * __fsqrt_rn(bb);
        const float cosine = none ? 0.0f : __fdiv_rn(ab, norms);
        if (lane == 0) x.loss[row] = none ? 0.0f : x.weight * (1.0f - cosine);
        if (!x.da || (none && x.accumulate)) continue;
        const float scale = none ? 0.0f : x.grad_scale * x.weight;
        cosine_gradient<N>(x, row, none ? 0.0f : __fdiv_rn(scale * cosine, aa),
                           none ? 0.0f : -__fdiv_rn(scale, norms));
    }
}

template <class T> static cudaError_t cosine_loss(seo_device *dev, const seo_cosine_loss_args *a) {
    const cosine_rows<T> x = {(float *)a->loss.data,
                              (T *)a->da.data,
                              (const T *)a->a.data,
                              (const T *)a->b.data,
                              (const int32_t *)a->counts.data,
                              seo_tensor_count(&a->loss),
                              a->a.dims[a->a.rank - 1],
                              a->weight,
                              a->grad_scale,
                              a->accumulate};
    const bool spans = x.columns % SPAN == 0 && spans_fit(x.da, x.a, x.b);
    return seo_launch(grid_over(dev, x.rows, COSINE_WARPS, COSINE_THREADS),
                      spans ? cosine_loss_kernel<SPAN, T> : cosine_loss_kernel<1, T>, x);
}

seo_err seo_cuda_cosine_loss(seo_device *dev, const seo_cosine_loss_args *a) {
    return seo_cuda_check(a->a.dtype == SEO_DTYPE_BF16 ? cosine_loss<bf16>(dev, a)
                                                       : cosine_loss<float>(dev, a),
                          "cosine_loss");
}
