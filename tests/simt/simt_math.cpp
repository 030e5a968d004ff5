/* The arithmetic of tensor cores and of the approximate instructions. */
#include "simt_internal.h"

#include <algorithm>

namespace simt {

/* ---- exact products, double sum, one rounding ---- */

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(SIMT_ASAN)
__attribute__((target_clones("avx2", "default"), optimize("O3")))
#endif
__attribute__((noinline)) static void
mma_exact(int n, const float (*a)[16], const float *b, float *d) {
    for (int row = 0; row < 16; row++) {
        for (int first = 0; first < n; first += 8) {
            double sum[8];
            for (int i = 0; i < 8; i++) sum[i] = d[row * n + first + i];
            for (int k = 0; k < 16; k++) {
                double x = a[row][k];
                const float *y = b + k * n + first;
                for (int i = 0; i < 8; i++) sum[i] += x * y[i];
            }
            for (int i = 0; i < 8; i++) d[row * n + first + i] = (float)sum[i];
        }
    }
}

/* ---- the published model of the hardware (arXiv 2511.10909) ----
 * The accumulator and `terms` products are aligned to the largest exponent, truncated to
 * `fraction_bits`, summed exactly, and truncated to f32. */

struct decoded { /* significand * 2^(exponent - 7) */
    int significand, exponent;
};
static decoded decode_bf16(float x) {
    uint32_t bits = __float_as_uint(x);
    int biased = (int)(bits >> 23 & 255);
    int significand = (int)(bits >> 16 & 127) | (biased ? 128 : 0);
    return {bits >> 31 ? -significand : significand, biased ? biased - 127 : -126};
}
static int64_t shifted(int64_t magnitude, int left) {
    if (left >= 0) return magnitude << left;
    return left > -63 ? magnitude >> -left : 0;
}

static float fused_sum(const decoded *a, const decoded *b, int terms, float c, int fraction_bits) {
    const int none = -300;
    uint32_t bits = __float_as_uint(c);
    int c_biased = (int)(bits >> 23 & 255);
    int c_exponent = c_biased ? c_biased - 127 : -126;
    int64_t c_significand = (int64_t)(bits & 0x7fffff) | (c_biased ? 0x800000 : 0);
    int largest = c_significand ? c_exponent : none;
    for (int i = 0; i < terms; i++) {
        if (!a[i].significand || !b[i].significand) continue;
        largest = std::max(largest, a[i].exponent + b[i].exponent);
    }
    if (largest == none) return c;
    int64_t sum = shifted(c_significand, c_exponent - largest + fraction_bits - 23);
    if (bits >> 31) sum = -sum;
    for (int i = 0; i < terms; i++) {
        int64_t product = (int64_t)a[i].significand * b[i].significand;
        int left = a[i].exponent + b[i].exponent - largest + fraction_bits - 14;
        sum += product < 0 ? -shifted(-product, left) : shifted(product, left);
    }
    uint64_t magnitude = sum < 0 ? (uint64_t)-sum : (uint64_t)sum;
    if (!magnitude) return 0.0f;
    int width = 64 - __builtin_clzll(magnitude);
    if (width > 24) magnitude &= ~((1ull << (width - 24)) - 1);
    double result = ldexp((double)magnitude, largest - fraction_bits);
    return (float)(sum < 0 ? -result : result);
}

static void mma_truncated(int n, const float (*a)[16], const float *b, float *d, int terms,
                          int fraction_bits) {
    const int infinite = 128;
    decoded left[16], right[16];
    for (int column = 0; column < n; column++) {
        bool finite_column = true;
        for (int k = 0; k < 16; k++) {
            right[k] = decode_bf16(b[k * n + column]);
            finite_column = finite_column && right[k].exponent < infinite;
        }
        for (int row = 0; row < 16; row++) {
            float &sum = d[row * n + column];
            bool finite = finite_column && isfinite(sum);
            for (int k = 0; k < 16; k++) {
                left[k] = decode_bf16(a[row][k]);
                finite = finite && left[k].exponent < infinite;
            }
            if (!finite) {
                for (int k = 0; k < 16; k++) sum += a[row][k] * b[k * n + column];
                continue;
            }
            for (int k = 0; k < 16; k += terms) {
                sum = fused_sum(left + k, right + k, terms, sum, fraction_bits);
            }
        }
    }
}

void mma_core(int n, const float (*a)[16], const float *b, float *d) {
    switch (options().mma_model) {
    case SIMT_MMA_SM80: mma_truncated(n, a, b, d, 8, 24); break;
    case SIMT_MMA_SM90: mma_truncated(n, a, b, d, 16, 25); break;
    default: mma_exact(n, a, b, d); break;
    }
}

/* ---- approximate functions: rounded to nearest here ---- */

static float flushed(float x) {
    return fabsf(x) < 0x1p-126f ? copysignf(0.0f, x) : x;
}
float ex2_approx(float x) {
    return flushed((float)exp2((double)flushed(x)));
}
float tanh_approx(float x) {
    return (float)tanh((double)x);
}

} // namespace simt
