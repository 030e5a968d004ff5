/* What the processor's multiply-add units can do at most, in f32, at a given level. */
#pragma once

#include <stdint.h>

#include "kernels/device.h"

#ifdef __cplusplus
extern "C" {
#endif

/* GFLOP/s of `threads` threads together over some 2 ms of independent multiply-adds in registers; 0
 * where this processor has no such loop. */
double peak_gflops(seo_cpu_level level, int32_t threads);

#ifdef __cplusplus
}
#endif
