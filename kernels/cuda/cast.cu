/* Change of type between f32 and bf16. */
#include "kernels/cuda/elements.cuh"

template <int N, class To, class From> SEO_DEVICE void cast_span(To *out, const From *inp) {
    float x[N];
    load_f32(x, inp);
    store_f32(out, x);
}

/* Grid-stride: a thread takes SPAN elements, which are 16 and 32 bytes, then the rest singly. No
 * shared memory. `spans` is 0 unless both arrays begin at a multiple of 16 bytes. Rounding to bf16
 * is the instruction's: to nearest even, and every NaN becomes one positive NaN. Bound: 6 bytes an
 * element. */
template <class To, class From>
__global__ void __launch_bounds__(ELEMENT_THREADS, ELEMENT_RESIDENT)
    cast_kernel(To *out, const From *inp, int64_t spans, int64_t count) {
    const int64_t first = thread_of_grid(), step = threads_of_grid();
    for (int64_t i = first; i < spans; i += step) {
        cast_span<SPAN>(out + i * SPAN, inp + i * SPAN);
    }
    for (int64_t i = spans * SPAN + first; i < count; i += step) cast_span<1>(out + i, inp + i);
}

template <class To, class From> static cudaError_t cast(seo_device *dev, const seo_cast_args *a) {
    const int64_t count = seo_tensor_count(&a->inp);
    const int64_t spans = spans_fit(a->out.data, a->inp.data) ? count / SPAN : 0;
    return seo_launch(grid_over_elements(dev, spans, count), cast_kernel<To, From>,
                      (To *)a->out.data, (const From *)a->inp.data, spans, count);
}

seo_err seo_cuda_cast(seo_device *dev, const seo_cast_args *a) {
    const bool to_bf16 = a->out.dtype == SEO_DTYPE_BF16;
    if (a->out.dtype == a->inp.dtype) {
        return seo_cuda_check(cudaMemcpyAsync(a->out.data, a->inp.data,
                                              (size_t)seo_tensor_bytes(&a->inp),
                                              cudaMemcpyDeviceToDevice, seo_cuda_of(dev)->stream),
                              "cast");
    }
    return seo_cuda_check(to_bf16 ? cast<bf16, float>(dev, a) : cast<float, bf16>(dev, a), "cast");
}
