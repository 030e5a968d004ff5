#include "tests/kernels/gelu_oracle.h"

#include <math.h>

#include "tests/support/compare.h"

static const double k_pi = 3.14159265358979323846;

/* The argument of the tanh form's sigmoid: (1 + tanh u) / 2 = 1 / (1 + e^-2u), which does not
 * cancel in double where u is far below 0. */
static double twice_u(double x) {
    return 2 * sqrt(2 / k_pi) * (x + 0.044715 * x * x * x);
}
static double twice_u_slope(double x) {
    return 2 * sqrt(2 / k_pi) * (1 + 3 * 0.044715 * x * x);
}

double gelu_want(double x, seo_gelu_kind kind) {
    if (kind == SEO_GELU_ERF) return 0.5 * x * erfc(-x / sqrt(2));
    return x / (1 + exp(-twice_u(x)));
}

double gelu_slope_want(double x, seo_gelu_kind kind) {
    if (kind == SEO_GELU_ERF) {
        return 0.5 * erfc(-x / sqrt(2)) + x * exp(-0.5 * x * x) / sqrt(2 * k_pi);
    }
    const double s = 1 / (1 + exp(-twice_u(x))), rest = 1 / (1 + exp(twice_u(x)));
    return s + x * s * rest * twice_u_slope(x);
}

/* Roundings on the way: the exponent z is off by a few of its own size (z = 2u for the tanh form,
 * x^2/2 for the other), the exponential and what is built on it by a dozen more. Phi or the
 * sigmoid, s, feels the error only as far as it is away from 1. Exponentials below
 * e^-86, where f32 is about to end, may be anything below that. */
static double f32_bound(double x, seo_gelu_kind kind, bool slope) {
    const bool erf_form = kind == SEO_GELU_ERF;
    const double z = erf_form ? 0.5 * x * x : twice_u(fabs(x));
    const double tail = erf_form ? 0.5 * erfc(fabs(x) / sqrt(2)) : 1 / (1 + exp(z));
    const double off = F32_ROUND * ((4 * z + 16) * tail + 4 * (x > 0 ? 1 : tail));
    if (!slope) return fabs(x) * (off + exp(-86));
    const double second = fabs(gelu_slope_want(x, kind) - (x > 0 ? 1 - tail : tail));
    const double growth = fabs(x) * twice_u_slope(x);
    return off + F32_ROUND * (4 * z + 24) * second + (1 + growth) * exp(-86);
}

/* Under bf16 storage the tanh may be tanh.approx, off by 2^-10.987: s and 1 - s by half of that, in
 * opposite directions. Both are then rounded near 1, which off counts too. */
static double tanh_instruction_bound(double x, bool slope) {
    const double off = 0.5 * exp2(-10.987) + 4 * F32_ROUND;
    if (!slope) return fabs(x) * off;
    const double s = 1 / (1 + exp(-twice_u(x)));
    return off + fabs(x) * twice_u_slope(x) * off * (fabs(1 - 2 * s) + off);
}

double gelu_bound(double x, seo_gelu_kind kind, bool slope, seo_dtype storage) {
    const double bound = f32_bound(x, kind, slope);
    if (storage != SEO_DTYPE_BF16 || kind != SEO_GELU_TANH) return bound;
    return bound + tanh_instruction_bound(x, slope);
}
