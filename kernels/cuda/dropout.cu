/* Dropout. */
#include "kernels/cuda/elements.cuh"

struct dropout_mask {
    seo_rng_key key;
    int64_t first; /* index of the first element */
    int64_t row;   /* elements of a row */
    uint32_t least;
    float scale;
};

/* The random bits of element `index`, without an array that would have to lie in memory. */
SEO_DEVICE uint32_t bits_of(seo_rng_key key, int64_t index) {
    const seo_u32x4 block = seo_philox(key, (uint64_t)index / 4);
    const int lane = (int)(index % 4);
    return lane == 0 ? block.v[0] : lane == 1 ? block.v[1] : lane == 2 ? block.v[2] : block.v[3];
}

SEO_DEVICE float kept_or_zero(float x, uint32_t bits, const dropout_mask &mask) {
    return bits >> 8 >= mask.least ? x * mask.scale : 0.0f;
}

/* SPAN elements from `index` on, a multiple of 4. */
template <class T>
SEO_DEVICE void dropout_span(T *out, const T *inp, int64_t index, const dropout_mask &mask) {
    float x[SPAN];
    load_f32(x, inp);
#pragma unroll
    for (int b = 0; b < SPAN / 4; b++) {
        const seo_u32x4 block = seo_philox(mask.key, (uint64_t)(index / 4 + b));
#pragma unroll
        for (int i = 0; i < 4; i++) {
            x[4 * b + i] = kept_or_zero(x[4 * b + i], block.v[i], mask);
        }
    }
    store_f32(out, x);
}

/* Grid-stride: a thread takes SPAN elements with two blocks of Philox, then the rest singly with a
 * block each. Spans are taken if the first index, which only `place` may tell, is a multiple of 4.
 * out may be inp, since a thread has read what it overwrites. No shared memory. `spans` is 0 unless
 * both arrays begin at a multiple of 16 bytes. Bound: 2 elements' bytes an element; Philox takes
 * about 25 instructions of it. */
template <class T>
__global__ void __launch_bounds__(ELEMENT_THREADS, ELEMENT_RESIDENT)
    dropout_kernel(T *out, const T *inp, const int32_t *place, dropout_mask mask, int64_t spans,
                   int64_t count) {
    if (place) {
        const uint64_t row = (uint64_t)mask.row;
        mask.key.step = (uint32_t)place[SEO_PLACE_STEP];
        mask.first += (int64_t)((uint32_t)place[SEO_PLACE_ROW_LOW] * row +
                                ((uint32_t)place[SEO_PLACE_ROW_HIGH] * row << 32));
    }
    if (mask.first % 4 != 0) spans = 0;
    const int64_t first = thread_of_grid(), step = threads_of_grid();
    for (int64_t i = first; i < spans; i += step) {
        dropout_span(out + i * SPAN, inp + i * SPAN, mask.first + i * SPAN, mask);
    }
    for (int64_t i = spans * SPAN + first; i < count; i += step) {
        store_f32(out + i, kept_or_zero(to_f32(inp[i]), bits_of(mask.key, mask.first + i), mask));
    }
}

template <class T>
static cudaError_t dropout(seo_device *dev, const seo_dropout_args *a, const dropout_mask &mask) {
    const int64_t count = seo_tensor_count(&a->inp);
    const int64_t spans = spans_fit(a->out.data, a->inp.data) ? count / SPAN : 0;
    return seo_launch(grid_over_elements(dev, spans, count), dropout_kernel<T>, (T *)a->out.data,
                      (const T *)a->inp.data, (const int32_t *)a->place.data, mask, spans, count);
}

seo_err seo_cuda_dropout(seo_device *dev, const seo_dropout_args *a) {
    const dropout_mask mask = {a->key, a->first_index, a->inp.dims[a->inp.rank - 1],
                               seo_uniform_least(a->rate), (float)(1.0 / (1.0 - (double)a->rate))};
    return seo_cuda_check(a->inp.dtype == SEO_DTYPE_BF16 ? dropout<bf16>(dev, a, mask)
                                                         : dropout<float>(dev, a, mask),
                          "dropout");
}
