/* Change of type between f32 and bf16. */
#include <string.h>

#include "base/check.h"
#include "kernels/cpu/cpu.h"

enum { CHUNK = 65536 }; /* elements a thread takes at a time */

/* The upper half of an f32, rounded to nearest, ties to even; NaN keeps its sign and becomes quiet,
 * since adding to its bits could make an infinity of it. */
static uint16_t bf16_from(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

static float f32_from(uint16_t x) {
    const uint32_t bits = (uint32_t)x << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void cast_chunk(const seo_cast_args *a, int64_t first, int64_t count) {
    const int64_t in_bytes = seo_dtype_bytes(a->inp.dtype),
                  out_bytes = seo_dtype_bytes(a->out.dtype);
    const char *inp = (const char *)a->inp.data + first * in_bytes;
    char *out = (char *)a->out.data + first * out_bytes;
    if (in_bytes == out_bytes) {
        memcpy(out, inp, (size_t)(count * in_bytes));
    } else if (a->out.dtype == SEO_DTYPE_BF16) {
        for (int64_t i = 0; i < count; i++) {
            ((uint16_t *)(void *)out)[i] = bf16_from(((const float *)(const void *)inp)[i]);
        }
    } else {
        for (int64_t i = 0; i < count; i++) {
            ((float *)(void *)out)[i] = f32_from(((const uint16_t *)(const void *)inp)[i]);
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
