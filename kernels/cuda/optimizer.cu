/* AdamW (Loshchilov & Hutter 2019, algorithm 2): all parameters in one launch. */
#include "kernels/cuda/elements.cuh"

static_assert(SEO_ADAMW_UNIT % SPAN == 0, "the elements of a span decay alike");
static_assert(SPAN == 8, "a Philox block rounds a span");

template <class P> struct adamw_arrays {
    P *param;
    float *m, *v;
    const float *grad;
    bf16 *working;         /* null: not given */
    const int32_t *ranges; /* null: all decay */
    const float *hyper;
    int64_t range_count, spans, count;
    seo_rng_key key;
    int64_t first_block; /* of Philox: first_index / 8 */
    float beta1, beta2, eps, weight_decay;
};

/* What is the same for every element. */
struct update {
    float factor, beta1, rest1, beta2, rest2, rate, correction2, eps, keep;
};

template <class P> SEO_DEVICE update update_of(const adamw_arrays<P> &a) {
    const float lr = a.hyper[SEO_HYPER_LR];
    return {a.hyper[SEO_HYPER_GRAD_FACTOR],
            a.beta1,
            1.0f - a.beta1,
            a.beta2,
            1.0f - a.beta2,
            lr * a.hyper[SEO_HYPER_CORRECTION1],
            a.hyper[SEO_HYPER_CORRECTION2],
            a.eps,
            (float)(1.0 - (double)lr * (double)a.weight_decay)};
}

/* The new parameter; m and v are replaced. A factor of 0 drops a gradient that is not finite; times
 * 0 it would still be NaN. */
SEO_DEVICE float step_of(const update &u, float param, float &m, float &v, float grad, float keep) {
    const float g = u.factor == 0.0f ? 0.0f : grad * u.factor;
    m = u.beta1 * m + u.rest1 * g;
    v = u.beta2 * v + u.rest2 * (g * g);
    return param * keep - __fdiv_rn(u.rate * m, __fsqrt_rn(v * u.correction2) + u.eps);
}

/* 16 random bits are added to those that a bf16 lacks, then these are cut. What is not a number
 * stays so: its bits could overflow. */
SEO_DEVICE float rounded_by(float x, uint32_t random) {
    const uint32_t bits = __float_as_uint(x);
    return x == x ? __uint_as_float((bits + random) & 0xffff0000u) : x;
}
/* The 16 bits of element j of 8. */
SEO_DEVICE uint32_t half_of(const seo_u32x4 &block, int j) {
    const uint32_t pair = j / 2 == 0   ? block.v[0]
                          : j / 2 == 1 ? block.v[1]
                          : j / 2 == 2 ? block.v[2]
                                       : block.v[3];
    return j % 2 == 0 ? pair & 0xffffu : pair >> 16;
}

/* N elements from `first` on. A bf16 param is rounded by chance; an f32 one is kept, and its
 * working copy is rounded to nearest. What is read and written here is not met again in this step.
 */
template <int N, class P>
SEO_DEVICE void update_elements(const adamw_arrays<P> &a, const update &u, const seo_rng_key &key,
                                int64_t first, float keep) {
    float param[N], m[N], v[N], grad[N];
    load_once(param, a.param + first);
    load_once(m, a.m + first);
    load_once(v, a.v + first);
    load_once(grad, a.grad + first);
#pragma unroll
    for (int i = 0; i < N; i++) param[i] = step_of(u, param[i], m[i], v[i], grad[i], keep);
    if constexpr (sizeof(P) == sizeof(bf16)) {
        const seo_u32x4 block = seo_philox(key, (uint64_t)(a.first_block + first / SPAN));
#pragma unroll
        for (int i = 0; i < N; i++) {
            param[i] = rounded_by(param[i], half_of(block, N == SPAN ? i : (int)(first % SPAN)));
        }
    } else if (a.working) {
        store_f32(a.working + first, param);
    }
    store_once(a.param + first, param);
    store_once(a.m + first, m);
    store_once(a.v + first, v);
}

/* Whether element i decays: the ranges whose end lies at or before it alternate from `without`. */
template <class P> SEO_DEVICE bool decays(const adamw_arrays<P> &a, int64_t i) {
    if (!a.ranges) return true;
    const int64_t unit = i / SEO_ADAMW_UNIT;
    int64_t low = 0, high = a.range_count;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (a.ranges[middle] <= unit)
            low = middle + 1;
        else
            high = middle;
    }
    return low < a.range_count && low % 2 == 1;
}

/* Grid-stride: a thread takes SPAN elements, which decay alike, then the rest singly. No shared
 * memory. `spans` is 0 unless all arrays begin at a multiple of 16 bytes. lr, corrections and the
 * clip factor are read from `hyper`, so that a recorded step can be replayed. Bound: 28 bytes an
 * element of f32, 30 with a working copy, 24 of bf16. */
template <class P>
__global__ void __launch_bounds__(ELEMENT_THREADS, ELEMENT_RESIDENT)
    adamw_kernel(const adamw_arrays<P> a) {
    const update u = update_of(a);
    seo_rng_key key = a.key;
    key.step = (uint32_t)a.hyper[SEO_HYPER_STEP];
    const int64_t first = thread_of_grid(), step = threads_of_grid();
    for (int64_t i = first; i < a.spans; i += step) {
        const float keep = decays(a, i * SPAN) ? u.keep : 1.0f;
        update_elements<SPAN>(a, u, key, i * SPAN, keep);
    }
    for (int64_t i = a.spans * SPAN + first; i < a.count; i += step) {
        update_elements<1>(a, u, key, i, decays(a, i) ? u.keep : 1.0f);
    }
}

template <class P> static cudaError_t adamw(seo_device *dev, const seo_adamw_args *a) {
    const int64_t count = seo_tensor_count(&a->param);
    const bool fit = spans_fit(a->param.data, a->m.data, a->v.data, a->grad.data, a->working.data);
    const adamw_arrays<P> x = {(P *)a->param.data,
                               (float *)a->m.data,
                               (float *)a->v.data,
                               (const float *)a->grad.data,
                               (bf16 *)a->working.data,
                               (const int32_t *)a->ranges.data,
                               (const float *)a->hyper.data,
                               a->ranges.dims[0],
                               fit ? count / SPAN : 0,
                               count,
                               a->key,
                               a->first_index / SPAN,
                               a->beta1,
                               a->beta2,
                               a->eps,
                               a->weight_decay};
    return seo_launch(grid_over_elements(dev, x.spans, count), adamw_kernel<P>, x);
}

seo_err seo_cuda_adamw(seo_device *dev, const seo_adamw_args *a) {
    return seo_cuda_check(
        a->param.dtype == SEO_DTYPE_BF16 ? adamw<bf16>(dev, a) : adamw<float>(dev, a), "adamw");
}
