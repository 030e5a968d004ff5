/* Comparisons that say where they fail. Bounds are computed by the caller, element by element, from
 * the rounding of f32 and the number of terms; nothing here is a tuned tolerance. */
#pragma once

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Half a unit in the last place of 1: the relative error of one f32 operation. */
#define F32_ROUND (1.0 / 16777216.0)

/* The same of bf16, which has 8 binary digits. */
#define BF16_ROUND (1.0 / 256.0)

/* The bound of a sum of `terms` numbers in f32, added in any order, each of them off by `each`
 * roundings: `size` is the sum of their absolute values. */
static inline double sum_bound(int64_t terms, double each, double size) {
    return ((double)terms + each) * F32_ROUND * size;
}

/* The bound of a dot product of `terms` f32 or, on tensor cores, bf16 products. There a step takes
 * 8 exact products and the sum so far, cuts each off at 2^-23 of the largest, and cuts the result
 * off to f32: 10 errors of up to 2^-23 of the sizes' sum in every 8 terms (the model of sm_80,
 * arXiv 2511.10909; that of sm_90 is finer). */
static inline double dot_bound(seo_dtype storage, int64_t terms, double each, double size) {
    if (storage != SEO_DTYPE_BF16) return sum_bound(terms, each, size);
    const double steps = ceil((double)terms / 8);
    return sum_bound(0, each + 20 * steps, size);
}

/* The bound of a number that is off by `bound` and then stored. */
static inline double stored_bound(seo_dtype storage, double want, double bound) {
    if (storage != SEO_DTYPE_BF16) return bound;
    const double least = 4.6e-41; /* half of bf16's least step, which is that of f32 times 2^16 */
    return bound + BF16_ROUND * (fabs(want) + bound) + least;
}

/* True when |got - want| <= bound everywhere and got is finite where want is; else prints the worst
 * element, measured in its bound. */
static inline bool all_close(const char *what, const float *got, const double *want,
                             const double *bound, int64_t count) {
    int64_t worst = -1, wrong = 0;
    double excess = 1.0;
    for (int64_t i = 0; i < count; i++) {
        double off = fabs((double)got[i] - want[i]);
        if (off <= bound[i] || (double)got[i] == want[i] || (isnan(got[i]) && isnan(want[i]))) {
            continue;
        }
        wrong++;
        double ratio = bound[i] > 0 && isfinite(off) ? off / bound[i] : INFINITY;
        if (worst >= 0 && ratio <= excess) continue;
        worst = i;
        excess = ratio;
    }
    if (worst < 0) return true;
    fprintf(stderr,
            "%s: %lld of %lld elements are off; worst [%lld]: got %.9g, want %.17g, %.3g times the "
            "bound %.3g\n",
            what, (long long)wrong, (long long)count, (long long)worst, (double)got[worst],
            want[worst], excess, bound[worst]);
    return false;
}

/* True when both arrays have the same bits; else prints the first difference. */
static inline bool same_bits(const char *what, const float *a, const float *b, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        if (memcmp(&a[i], &b[i], sizeof(float)) == 0) continue;
        fprintf(stderr, "%s: bits differ at [%lld]: %.9g and %.9g\n", what, (long long)i,
                (double)a[i], (double)b[i]);
        return false;
    }
    return true;
}

#ifdef __cplusplus
}
#endif
