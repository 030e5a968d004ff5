/* Change of type between f32 and bf16. */
#include <string.h>

#include "base/bf16.h"
#include "base/check.h"
#include "kernels/cpu/cpu.h"

enum { CHUNK = 65536 }; /* elements a thread takes at a time */

static void cast_chunk(const seo_cast_args *a, int64_t first, int64_t count) {
    const int64_t in_bytes = seo_dtype_bytes(a->inp.dtype),
                  out_bytes = seo_dtype_bytes(a->out.dtype);
    const char *inp = (const char *)a->inp.data + first * in_bytes;
    char *out = (char *)a->out.data + first * out_bytes;
    if (in_bytes == out_bytes) {
        memcpy(out, inp, (size_t)(count * in_bytes));
    } else if (a->out.dtype == SEO_DTYPE_BF16) {
        for (int64_t i = 0; i < count; i++) {
            ((uint16_t *)(void *)out)[i] = seo_bf16_from_f32(((const float *)(const void *)inp)[i]);
        }
    } else {
        for (int64_t i = 0; i < count; i++) {
            ((float *)(void *)out)[i] = seo_f32_from_bf16(((const uint16_t *)(const void *)inp)[i]);
        }
    }
}

seo_err SEO_CPU_FN(cast)(seo_device *dev, const seo_cast_args *a) {
    const int64_t count = seo_tensor_count(&a->inp);
#pragma omp parallel for num_threads(seo_cpu_threads(dev, count)) schedule(static)
    for (int64_t first = 0; first < count; first += CHUNK) {
        cast_chunk(a, first, seo_min_i64(CHUNK, count - first));
    }
    return SEO_OK;
}
