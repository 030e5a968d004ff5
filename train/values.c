#include "train/values.h"

#include "base/bf16.h"
#include "base/check.h"

/* Elements that are converted at a time. */
enum { PIECE = 16384 };

seo_err seo_values_read(seo_device *dev, const seo_tensor *t, float *out) {
    const int64_t count = seo_tensor_count(t);
    if (t->dtype == SEO_DTYPE_F32) return seo_device_copy_out(dev, out, t->data, count * 4);
    SEO_ASSERT(t->dtype == SEO_DTYPE_BF16);
    const uint16_t *from = t->data;
    uint16_t piece[PIECE];
    for (int64_t first = 0; first < count; first += PIECE) {
        const int64_t n = seo_min_i64(PIECE, count - first);
        const seo_err err = seo_device_copy_out(dev, piece, from + first, n * 2);
        if (err != SEO_OK) return err;
        for (int64_t i = 0; i < n; i++) out[first + i] = seo_f32_from_bf16(piece[i]);
    }
    return SEO_OK;
}

seo_err seo_values_write(seo_device *dev, const seo_tensor *t, const float *values) {
    const int64_t count = seo_tensor_count(t);
    if (t->dtype == SEO_DTYPE_F32) return seo_device_copy_in(dev, t->data, values, count * 4);
    SEO_ASSERT(t->dtype == SEO_DTYPE_BF16);
    uint16_t *to = t->data;
    uint16_t piece[PIECE];
    for (int64_t first = 0; first < count; first += PIECE) {
        const int64_t n = seo_min_i64(PIECE, count - first);
        for (int64_t i = 0; i < n; i++) piece[i] = seo_bf16_from_f32(values[first + i]);
        const seo_err err = seo_device_copy_in(dev, to + first, piece, n * 2);
        if (err != SEO_OK) return err;
    }
    return SEO_OK;
}
