/* Comparisons that say where they fail. Bounds are computed by the caller, element by element, from
 * the rounding of f32 and the number of terms; nothing here is a tuned tolerance. */
#pragma once

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Half a unit in the last place of 1: the relative error of one f32 operation. */
#define F32_ROUND (1.0 / 16777216.0)

/* The bound of a sum of `terms` numbers in f32, added in any order, each of them off by `each`
 * roundings: `size` is the sum of their absolute values. */
static inline double sum_bound(int64_t terms, double each, double size) {
    return ((double)terms + each) * F32_ROUND * size;
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
