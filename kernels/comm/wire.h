/* Private to kernels/comm: a rank's addends as they are sent, in host memory. */
#pragma once

#include <string.h>

#include "base/bf16.h"
#include "base/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

static inline void seo_wire_from_f32(void *to, seo_dtype wire, const float *from, int64_t count) {
    if (wire == SEO_DTYPE_BF16) {
        uint16_t *half = (uint16_t *)to;
        for (int64_t i = 0; i < count; i++) half[i] = seo_bf16_from_f32(from[i]);
    } else {
        memcpy(to, from, (size_t)count * sizeof *from);
    }
}

#ifdef __cplusplus
}
#endif
