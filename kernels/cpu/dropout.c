/* Dropout. */
#include "base/check.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/philox.h"

seo_err SEO_CPU_FN(dropout)(seo_device *dev, const seo_dropout_args *a) {
    seo_rng_key key = a->key;
    int64_t first = a->first_index;
    if (seo_tensor_given(&a->place)) {
        const int32_t *place = a->place.data;
        const int64_t row =
            (int64_t)place[SEO_PLACE_ROW_HIGH] << 32 | (uint32_t)place[SEO_PLACE_ROW_LOW];
        key.step = (uint32_t)place[SEO_PLACE_STEP];
        first += row * a->inp.dims[a->inp.rank - 1];
    }
    const int64_t count = seo_tensor_count(&a->inp), lead = first % 4;
    const uint32_t least = seo_uniform_least(a->rate);
    const float scale = (float)(1.0 / (1.0 - (double)a->rate));
    const float *inp = a->inp.data;
    float *out = a->out.data;
    /* Strips of whole blocks: `lead` elements of the first block lie before the tensor. */
    const int64_t strips = seo_div_up(count + lead, SEO_PHILOX_STRIP);
#pragma omp parallel for num_threads(seo_cpu_threads(dev, count * 4)) schedule(static)
    for (int64_t s = 0; s < strips; s++) {
        uint32_t bits[SEO_PHILOX_STRIP];
        seo_philox_strip(key, (uint64_t)(first / 4 + s * SEO_PHILOX_BLOCKS), bits);
        const int64_t start =
            s * SEO_PHILOX_STRIP - lead; /* of bits[0]; below 0 in the first strip */
        const int64_t from = seo_max_i64(start, 0),
                      end = seo_min_i64(start + SEO_PHILOX_STRIP, count);
        for (int64_t i = from; i < end; i++) {
            const float kept = inp[i] * scale;
            out[i] = bits[i - start] >> 8 >= least ? kept : 0.0f;
        }
    }
    return SEO_OK;
}
