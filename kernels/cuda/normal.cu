/* Normal numbers for initial parameters: the formulas of kernels/cpu/normal.c with the same
 * roundings, so the same bits. Every operation is written as an intrinsic that the compiler does
 * not contract. */
#include "kernels/cuda/elements.cuh"

SEO_DEVICE float mul(float a, float b) {
    return __fmul_rn(a, b);
}
SEO_DEVICE float add(float a, float b) {
    return __fadd_rn(a, b);
}
SEO_DEVICE float sub(float a, float b) {
    return __fadd_rn(a, -b);
}

/* ln u for u in (0, 1): u = 2^e m with m in [sqrt(1/2), sqrt(2)), ln m = 2 artanh((m - 1) / (m +
 * 1)) by its series. */
SEO_DEVICE float natural_log(float u) {
    const int bits = __float_as_int(u), exponent = (bits - 0x3f3504f3) >> 23;
    const float m = __int_as_float(bits - exponent * (1 << 23));
    const float s = __fdiv_rn(sub(m, 1.0f), add(m, 1.0f)), q = mul(s, s);
    float series = add(1.0f / 7, mul(q, 1.0f / 9));
    series = add(1.0f / 5, mul(q, series));
    series = add(1.0f / 3, mul(q, series));
    series = add(1.0f, mul(q, series));
    return add(mul(mul(2.0f, s), series), mul((float)exponent, 0.69314718056f));
}

/* cos and sin of 2 pi u: the quarter turn nearest to u is taken out exactly, Taylor's series does
 * the rest within pi/4. */
SEO_DEVICE void turn(float u, float &cosine, float &sine) {
    const int quarter = (int)add(mul(4.0f, u), 0.5f);
    const float x = mul(6.28318530718f, sub(u, mul(0.25f, (float)quarter))), q = mul(x, x);
    float s = sub(1.0f / 5040, mul(q, 1.0f / 362880));
    s = sub(1.0f / 120, mul(q, s));
    s = sub(1.0f / 6, mul(q, s));
    s = mul(x, sub(1.0f, mul(q, s)));
    float c = sub(1.0f / 40320, mul(q, 1.0f / 3628800));
    c = sub(1.0f / 720, mul(q, c));
    c = sub(1.0f / 24, mul(q, c));
    c = sub(0.5f, mul(q, c));
    c = sub(1.0f, mul(q, c));
    const float even = quarter & 1 ? s : c, odd = quarter & 1 ? c : s;
    cosine = (quarter + 1) & 2 ? -even : even;
    sine = quarter & 2 ? -odd : odd;
}

/* Grid-stride: a thread takes the four numbers of one Philox block. No shared memory. out is f32
 * and may begin anywhere. Runs once in a run; arithmetic bounds it, some 200 instructions a number.
 */
static __global__ void __launch_bounds__(ELEMENT_THREADS, ELEMENT_RESIDENT)
    normal_kernel(float *out, seo_rng_key key, uint64_t first_block, float std, int64_t count) {
    const int64_t blocks = (count + 3) / 4;
    for (int64_t b = thread_of_grid(); b < blocks; b += threads_of_grid()) {
        const seo_u32x4 bits = seo_philox(key, first_block + (uint64_t)b);
#pragma unroll
        for (int p = 0; p < 2; p++) {
            const float u1 = seo_uniform_from(bits.v[2 * p]);
            const float radius = mul(std, __fsqrt_rn(mul(-2.0f, natural_log(u1))));
            float cosine, sine;
            turn(seo_uniform_from(bits.v[2 * p + 1]), cosine, sine);
            const int64_t at = 4 * b + 2 * p;
            if (at < count) out[at] = mul(radius, cosine);
            if (at + 1 < count) out[at + 1] = mul(radius, sine);
        }
    }
}

seo_err seo_cuda_normal(seo_device *dev, const seo_normal_args *a) {
    const int64_t count = seo_tensor_count(&a->out);
    const seo_grid grid = grid_over(dev, seo_div_up(count, 4), ELEMENT_THREADS, ELEMENT_THREADS);
    return seo_cuda_check(seo_launch(grid, normal_kernel, (float *)a->out.data, a->key,
                                     (uint64_t)a->first_index / 4, a->std, count),
                          "normal");
}
