/* Rows of a matrix by number: taken out, and put back. */
#include <math.h>

#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/memory.h"

enum { ROW_THREADS = 256, ROW_WARPS = ROW_THREADS / WARP };

template <class T> struct row_list {
    T *out;
    const T *inp;
    const int32_t *index;
    int64_t count, rows, columns; /* of index; of the matrix that it numbers */
    int32_t *fault;
};

/* One warp a row of out, N columns a lane at a time; grid-stride. A row whose number is outside the
 * matrix becomes NaN, and the fault is reported. N = SPAN demands rows that begin at multiples of
 * 16 bytes. No shared memory. Bound: 2 elements' bytes an element. */
template <int N, class T>
__global__ void __launch_bounds__(ROW_THREADS, ELEMENT_RESIDENT)
    gather_rows_kernel(const row_list<T> a) {
    const int lane = (int)threadIdx.x % WARP;
    const int64_t step = threads_of_grid() / WARP;
    for (int64_t row = thread_of_grid() / WARP; row < a.count; row += step) {
        const int64_t from = a.index[row];
        const bool outside = from < -1 || from >= a.rows, known = from >= 0 && !outside;
        if (outside && lane == 0) *a.fault = SEO_CUDA_FAULT_ROW;
        for (int64_t c = lane * N; c < a.columns; c += WARP * N) {
            float x[N];
#pragma unroll
            for (int i = 0; i < N; i++) x[i] = outside ? NAN : 0.0f;
            if (known) load_f32(x, a.inp + from * a.columns + c);
            store_f32(a.out + row * a.columns + c, x);
        }
    }
}

/* One warp a row of inp, likewise. A row whose number is outside the matrix goes nowhere, and the
 * fault is reported. Bound: 2 elements' bytes an element, 3 where it adds. */
template <int N, bool ADD, class T>
__global__ void __launch_bounds__(ROW_THREADS, ELEMENT_RESIDENT)
    scatter_rows_kernel(const row_list<T> a) {
    const int lane = (int)threadIdx.x % WARP;
    const int64_t step = threads_of_grid() / WARP;
    for (int64_t row = thread_of_grid() / WARP; row < a.count; row += step) {
        const int64_t to = a.index[row];
        if ((to < -1 || to >= a.rows) && lane == 0) *a.fault = SEO_CUDA_FAULT_ROW;
        if (to < 0 || to >= a.rows) continue;
        for (int64_t c = lane * N; c < a.columns; c += WARP * N) {
            T *at = a.out + to * a.columns + c;
            float x[N], y[N];
            load_f32(x, a.inp + row * a.columns + c);
            if (ADD) {
                load_f32(y, at);
#pragma unroll
                for (int i = 0; i < N; i++) x[i] += y[i];
            }
            store_f32(at, x);
        }
    }
}

template <class T>
static cudaError_t launch_rows(seo_device *dev, void (*by_span)(const row_list<T>),
                               void (*by_element)(const row_list<T>), const row_list<T> &a) {
    const bool spans = a.columns % SPAN == 0 && spans_fit(a.out, a.inp);
    return seo_launch(grid_over(dev, a.count, ROW_WARPS, ROW_THREADS), spans ? by_span : by_element,
                      a);
}

template <class T> static cudaError_t gather_rows(seo_device *dev, const seo_gather_rows_args *a) {
    const int64_t columns = a->inp.dims[a->inp.rank - 1];
    const row_list<T> rows = {(T *)a->out.data,
                              (const T *)a->inp.data,
                              (const int32_t *)a->index.data,
                              seo_tensor_count(&a->index),
                              seo_tensor_count(&a->inp) / columns,
                              columns,
                              seo_cuda_of(dev)->fault};
    return launch_rows<T>(dev, gather_rows_kernel<SPAN, T>, gather_rows_kernel<1, T>, rows);
}

template <class T>
static cudaError_t scatter_rows(seo_device *dev, const seo_scatter_rows_args *a) {
    const int64_t columns = a->out.dims[a->out.rank - 1];
    const row_list<T> rows = {(T *)a->out.data,
                              (const T *)a->inp.data,
                              (const int32_t *)a->index.data,
                              seo_tensor_count(&a->index),
                              seo_tensor_count(&a->out) / columns,
                              columns,
                              seo_cuda_of(dev)->fault};
    return a->accumulate ? launch_rows<T>(dev, scatter_rows_kernel<SPAN, true, T>,
                                          scatter_rows_kernel<1, true, T>, rows)
                         : launch_rows<T>(dev, scatter_rows_kernel<SPAN, false, T>,
                                          scatter_rows_kernel<1, false, T>, rows);
}

seo_err seo_cuda_gather_rows(seo_device *dev, const seo_gather_rows_args *a) {
    return seo_cuda_check(a->inp.dtype == SEO_DTYPE_BF16 ? gather_rows<bf16>(dev, a)
                                                         : gather_rows<float>(dev, a),
                          "gather_rows");
}

seo_err seo_cuda_scatter_rows(seo_device *dev, const seo_scatter_rows_args *a) {
    if (!a->accumulate) {
        const seo_err err = seo_cuda_zero(dev, a->out.data, seo_tensor_bytes(&a->out));
        if (err != SEO_OK) return err;
    }
    return seo_cuda_check(a->out.dtype == SEO_DTYPE_BF16 ? scatter_rows<bf16>(dev, a)
                                                         : scatter_rows<float>(dev, a),
                          "scatter_rows");
}
