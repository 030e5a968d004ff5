/* GELU by itself and tanh, forward and backward. The arithmetic is f32's in both storage types: an
 * elementwise kernel has time for it, unlike the epilogue of a matrix product. */
#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/gelu.cuh"

template <int N, seo_gelu_kind KIND, class T> SEO_DEVICE void gelu_fwd_span(T *out, const T *inp) {
    float x[N];
    load_f32(x, inp);
#pragma unroll
    for (int i = 0; i < N; i++) x[i] = gelu_value<float>(x[i], KIND);
    store_f32(out, x);
}

template <int N, seo_gelu_kind KIND, class T>
SEO_DEVICE void gelu_bwd_span(T *dinp, const T *dout, const T *inp) {
    float x[N], g[N];
    load_f32(x, inp);
    load_f32(g, dout);
#pragma unroll
    for (int i = 0; i < N; i++) g[i] *= gelu_slope<float>(x[i], KIND);
    store_f32(dinp, g);
}

/* Grid-stride: a thread takes SPAN elements, then the rest singly. No shared memory. `spans` is 0
 * unless all arrays begin at a multiple of 16 bytes. Bound: 2 elements' bytes an element. */
template <seo_gelu_kind KIND, class T>
__global__ void __launch_bounds__(ELEMENT_THREADS, ELEMENT_RESIDENT)
    gelu_fwd_kernel(T *out, const T *inp, int64_t spans, int64_t count) {
    const int64_t first = thread_of_grid(), step = threads_of_grid();
    for (int64_t i = first; i < spans; i += step) {
        gelu_fwd_span<SPAN, KIND>(out + i * SPAN, inp + i * SPAN);
    }
    for (int64_t i = spans * SPAN + first; i < count; i += step) {
        gelu_fwd_span<1, KIND>(out + i, inp + i);
    }
}

/* The same; dinp may be dout, since a thread has read what it overwrites. Bound: 3 elements' bytes
 * an element. */
template <seo_gelu_kind KIND, class T>
__global__ void __launch_bounds__(ELEMENT_THREADS, ELEMENT_RESIDENT)
    gelu_bwd_kernel(T *dinp, const T *dout, const T *inp, int64_t spans, int64_t count) {
    const int64_t first = thread_of_grid(), step = threads_of_grid();
    for (int64_t i = first; i < spans; i += step) {
        gelu_bwd_span<SPAN, KIND>(dinp + i * SPAN, dout + i * SPAN, inp + i * SPAN);
    }
    for (int64_t i = spans * SPAN + first; i < count; i += step) {
        gelu_bwd_span<1, KIND>(dinp + i, dout + i, inp + i);
    }
}

template <class T> static cudaError_t gelu_fwd(seo_device *dev, const seo_gelu_fwd_args *a) {
    const int64_t count = seo_tensor_count(&a->inp);
    const int64_t spans = spans_fit(a->out.data, a->inp.data) ? count / SPAN : 0;
    return seo_launch(grid_over_elements(dev, spans, count),
                      a->kind == SEO_GELU_TANH ? gelu_fwd_kernel<SEO_GELU_TANH, T>
                                               : gelu_fwd_kernel<SEO_GELU_ERF, T>,
                      (T *)a->out.data, (const T *)a->inp.data, spans, count);
}

template <class T> static cudaError_t gelu_bwd(seo_device *dev, const seo_gelu_bwd_args *a) {
    const int64_t count = seo_tensor_count(&a->inp);
    const int64_t spans = spans_fit(a->dinp.data, a->dout.data, a->inp.data) ? count / SPAN : 0;
    return seo_launch(grid_over_elements(dev, spans, count),
                      a->kind == SEO_GELU_TANH ? gelu_bwd_kernel<SEO_GELU_TANH, T>
                                               : gelu_bwd_kernel<SEO_GELU_ERF, T>,
                      (T *)a->dinp.data, (const T *)a->dout.data, (const T *)a->inp.data, spans,
                      count);
}

seo_err seo_cuda_gelu_fwd(seo_device *dev, const seo_gelu_fwd_args *a) {
    return seo_cuda_check(a->inp.dtype == SEO_DTYPE_BF16 ? gelu_fwd<bf16>(dev, a)
                                                         : gelu_fwd<float>(dev, a),
                          "gelu_fwd");
}

seo_err seo_cuda_gelu_bwd(seo_device *dev, const seo_gelu_bwd_args *a) {
    return seo_cuda_check(a->inp.dtype == SEO_DTYPE_BF16 ? gelu_bwd<bf16>(dev, a)
                                                         : gelu_bwd<float>(dev, a),
                          "gelu_bwd");
}

/* ---- tanh ---- */

template <int N, class T> SEO_DEVICE void tanh_fwd_span(T *out, const T *inp) {
    float x[N];
    load_f32(x, inp);
#pragma unroll
    for (int i = 0; i < N; i++) x[i] = tanhf(x[i]);
    store_f32(out, x);
}

template <int N, class T> SEO_DEVICE void tanh_bwd_span(T *dinp, const T *dout, const T *out) {
    float x[N], g[N];
    load_f32(x, out);
    load_f32(g, dout);
#pragma unroll
    for (int i = 0; i < N; i++) g[i] *= 1.0f - x[i] * x[i];
    store_f32(dinp, g);
}

/* As gelu_fwd_kernel; out may be inp, since a thread has read what it overwrites. */
template <class T>
__global__ void __launch_bounds__(ELEMENT_THREADS, ELEMENT_RESIDENT)
    tanh_fwd_kernel(T *out, const T *inp, int64_t spans, int64_t count) {
    const int64_t first = thread_of_grid(), step = threads_of_grid();
    for (int64_t i = first; i < spans; i += step) {
        tanh_fwd_span<SPAN>(out + i * SPAN, inp + i * SPAN);
    }
    for (int64_t i = spans * SPAN + first; i < count; i += step) tanh_fwd_span<1>(out + i, inp + i);
}

/* As gelu_bwd_kernel. */
template <class T>
__global__ void __launch_bounds__(ELEMENT_THREADS, ELEMENT_RESIDENT)
    tanh_bwd_kernel(T *dinp, const T *dout, const T *out, int64_t spans, int64_t count) {
    const int64_t first = thread_of_grid(), step = threads_of_grid();
    for (int64_t i = first; i < spans; i += step) {
        tanh_bwd_span<SPAN>(dinp + i * SPAN, dout + i * SPAN, out + i * SPAN);
    }
    for (int64_t i = spans * SPAN + first; i < count; i += step) {
        tanh_bwd_span<1>(dinp + i, dout + i, out + i);
    }
}

template <class T> static cudaError_t tanh_fwd(seo_device *dev, const seo_tanh_fwd_args *a) {
    const int64_t count = seo_tensor_count(&a->inp);
    const int64_t spans = spans_fit(a->out.data, a->inp.data) ? count / SPAN : 0;
    return seo_launch(grid_over_elements(dev, spans, count), tanh_fwd_kernel<T>, (T *)a->out.data,
                      (const T *)a->inp.data, spans, count);
}

template <class T> static cudaError_t tanh_bwd(seo_device *dev, const seo_tanh_bwd_args *a) {
    const int64_t count = seo_tensor_count(&a->out);
    const int64_t spans = spans_fit(a->dinp.data, a->dout.data, a->out.data) ? count / SPAN : 0;
    return seo_launch(grid_over_elements(dev, spans, count), tanh_bwd_kernel<T>, (T *)a->dinp.data,
                      (const T *)a->dout.data, (const T *)a->out.data, spans, count);
}

seo_err seo_cuda_tanh_fwd(seo_device *dev, const seo_tanh_fwd_args *a) {
    return seo_cuda_check(a->inp.dtype == SEO_DTYPE_BF16 ? tanh_fwd<bf16>(dev, a)
                                                         : tanh_fwd<float>(dev, a),
                          "tanh_fwd");
}

seo_err seo_cuda_tanh_bwd(seo_device *dev, const seo_tanh_bwd_args *a) {
    return seo_cuda_check(a->out.dtype == SEO_DTYPE_BF16 ? tanh_bwd<bf16>(dev, a)
                                                         : tanh_bwd<float>(dev, a),
                          "tanh_bwd");
}
