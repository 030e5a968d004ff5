/* From sums to the output of a matrix product: bias, GELU, its derivative, accumulation, rounding.
 * One thread has COUNT columns of a row, and loads what the epilogue needs first (matmul_prior), so
 * that the latency of several rows overlaps. S is the storage type of the call. */
#pragma once

#include "kernels/cuda/gelu.cuh"
#include "kernels/cuda/matmul.cuh"

/* Where a thread's COUNT columns lie. */
struct matmul_span {
    int64_t at;     /* of the first one, in out and pre */
    int64_t column; /* of the first one */
    int32_t count;  /* that are inside the output: 0..COUNT */
    int32_t vector; /* all are, and they may be moved 16 bytes at a time */
};
template <int COUNT>
SEO_DEVICE matmul_span matmul_span_of(const matmul_output &to, int64_t row, int64_t column) {
    const int64_t left = row < to.m ? to.n - column : 0;
    const int32_t count = left >= COUNT ? COUNT : left > 0 ? (int32_t)left : 0;
    return {row * to.n + column, column, count, to.vectors && count == COUNT};
}

template <class T, int COUNT>
SEO_DEVICE void load_span(float (&x)[COUNT], const void *from, int64_t at, const matmul_span &s) {
    const T *src = (const T *)from + at;
    if (s.vector) {
#pragma unroll
        for (int i = 0; i < COUNT; i += vec<T>::count) {
            const vec<T> v = *(const vec<T> *)(src + i);
#pragma unroll
            for (int e = 0; e < vec<T>::count; e++) x[i + e] = to_f32(v.x[e]);
        }
    } else {
#pragma unroll
        for (int i = 0; i < COUNT; i++) x[i] = i < s.count ? to_f32(src[i]) : 0.0f;
    }
}
template <class T, int COUNT>
SEO_DEVICE void store_span(void *to, int64_t at, const float (&x)[COUNT], const matmul_span &s) {
    T *dst = (T *)to + at;
    if (s.vector) {
#pragma unroll
        for (int i = 0; i < COUNT; i += vec<T>::count) {
            vec<T> v;
#pragma unroll
            for (int e = 0; e < vec<T>::count; e++) store_f32(&v.x[e], x[i + e]);
            *(vec<T> *)(dst + i) = v;
        }
    } else {
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            if (i < s.count) store_f32(dst + i, x[i]);
        }
    }
}

/* Out of registers as it would be after a store and a load. */
SEO_DEVICE float rounded(float x, float) {
    return x;
}
SEO_DEVICE float rounded(float x, bf16) {
    return to_f32(__float2bfloat16_rn(x));
}

/* The numbers that are there already: out of an accumulation, pre of DGELU. */
template <class S, int COUNT>
SEO_DEVICE void matmul_prior(float (&prior)[COUNT], const matmul_output &to, const matmul_span &s) {
    const void *from = to.accumulate                       ? to.out
                       : to.epilogue == SEO_EPILOGUE_DGELU ? to.pre
                                                           : nullptr;
    if (!from) return;
    if (to.wide) {
        load_span<float>(prior, from, s.at, s);
    } else {
        load_span<S>(prior, from, s.at, s);
    }
}

template <class S, int COUNT>
SEO_DEVICE void store_out(void *out, const float (&x)[COUNT], int32_t wide, const matmul_span &s) {
    if (wide) {
        store_span<float>(out, s.at, x, s);
    } else {
        store_span<S>(out, s.at, x, s);
    }
}

/* Stores sum (+ bias) as the epilogue says. */
template <class S, int COUNT>
SEO_DEVICE void matmul_finish(float (&x)[COUNT], const float (&prior)[COUNT],
                              const matmul_output &to, const matmul_span &s) {
    if (s.count == 0) return;
    if (to.bias) {
        float bias[COUNT];
        load_span<S>(bias, to.bias, s.column, s);
#pragma unroll
        for (int i = 0; i < COUNT; i++) x[i] += bias[i];
    }
    if (to.accumulate) {
#pragma unroll
        for (int i = 0; i < COUNT; i++) x[i] += prior[i];
    } else if (to.epilogue == SEO_EPILOGUE_GELU) {
        store_out<S>(to.pre, x, to.wide, s);
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            x[i] = gelu_value<S>(to.wide ? x[i] : rounded(x[i], S()), to.gelu);
        }
    } else if (to.epilogue == SEO_EPILOGUE_DGELU) {
#pragma unroll
        for (int i = 0; i < COUNT; i++) x[i] *= gelu_slope<S>(prior[i], to.gelu);
    }
    store_out<S>(to.out, x, to.wide, s);
}

/* A slab: 16 rows x COLUMNS of a warp's sums, in the fragments of mma.m16n8k16 and of wgmma. It
 * goes through the warp's own part of shared memory, in lines of COLUMNS + 8 floats so that the 8
 * bytes of 16 lanes lie in different banks, and comes back as 8 columns a lane for stores of 16
 * bytes. */
template <int COLUMNS> struct slab_lines {
    static const int pitch = COLUMNS + 8, bytes = 16 * pitch * (int)sizeof(float);
    static const int lanes = COLUMNS / 8; /* that share a row */
    static const int rows = WARP / lanes; /* that the warp takes at a time */
    static const int steps = 16 / rows;
};
template <int COLUMNS>
SEO_DEVICE matmul_span slab_span(const matmul_output &to, int64_t row, int64_t column, int step) {
    typedef slab_lines<COLUMNS> lines;
    const int lane = threadIdx.x % WARP;
    return matmul_span_of<8>(to, row + step * lines::rows + lane / lines::lanes,
                             column + lane % lines::lanes * 8);
}

template <int COLUMNS>
SEO_DEVICE void slab_prior(float (&prior)[slab_lines<COLUMNS>::steps][8], const matmul_output &to,
                           int64_t row, int64_t column) {
#pragma unroll
    for (int s = 0; s < slab_lines<COLUMNS>::steps; s++) {
        matmul_prior<bf16>(prior[s], to, slab_span<COLUMNS>(to, row, column, s));
    }
}

/* x: COLUMNS / 8 fragments of 4. */
template <int COLUMNS> SEO_DEVICE void slab_put(float *slab, const float *x) {
    const int pitch = slab_lines<COLUMNS>::pitch, lane = threadIdx.x % WARP;
    float *dst = slab + lane / 4 * pitch + lane % 4 * 2;
#pragma unroll
    for (int j = 0; j < COLUMNS / 8; j++) {
        *(float2 *)(dst + j * 8) = make_float2(x[j * 4], x[j * 4 + 1]);
        *(float2 *)(dst + j * 8 + 8 * pitch) = make_float2(x[j * 4 + 2], x[j * 4 + 3]);
    }
}

template <int COLUMNS>
SEO_DEVICE void slab_finish(const float *slab, const float (&prior)[slab_lines<COLUMNS>::steps][8],
                            const matmul_output &to, int64_t row, int64_t column) {
    typedef slab_lines<COLUMNS> lines;
    const int lane = threadIdx.x % WARP;
#pragma unroll
    for (int s = 0; s < lines::steps; s++) {
        const float *src =
            slab + (s * lines::rows + lane / lines::lanes) * lines::pitch + lane % lines::lanes * 8;
        const vec<float> low = *(const vec<float> *)src, high = *(const vec<float> *)(src + 4);
        float x[8] = {low.x[0],  low.x[1],  low.x[2],  low.x[3],
                      high.x[0], high.x[1], high.x[2], high.x[3]};
        matmul_finish<bf16>(x, prior[s], to, slab_span<COLUMNS>(to, row, column, s));
    }
}
