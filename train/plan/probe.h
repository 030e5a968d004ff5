/* How fast this machine's processor multiplies matrices, by trying. */
#pragma once

#include <stdint.h>

#include "base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_probe {
    int32_t threads;
    double flops; /* a second, f32, in a product of a small model's size */
} seo_probe;

/* Takes about a third of a second. threads 0: what a run would take. */
seo_err seo_probe_cpu(int32_t threads, seo_probe *out);

#ifdef __cplusplus
}
#endif
