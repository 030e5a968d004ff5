/* GELU by its formulas, in double, with bounds of what an operator may lose. */
#pragma once

#include <stdbool.h>

#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

double gelu_want(double x, seo_gelu_kind kind);
double gelu_slope_want(double x, seo_gelu_kind kind);
/* Of the value, or of its slope, as it is before it is stored as `storage`. */
double gelu_bound(double x, seo_gelu_kind kind, bool slope, seo_dtype storage);

#ifdef __cplusplus
}
#endif
