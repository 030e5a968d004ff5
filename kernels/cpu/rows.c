/* Rows of a matrix by number: taken out, and put back. A row has one owner, so that no order
 * matters. */
#include <string.h>

#include "base/check.h"
#include "kernels/cpu/cpu.h"

/* All of them are looked at before anything is written. */
static seo_err check_index(const char *op, const seo_tensor *index, int64_t rows) {
    const int32_t *at = index->data;
    const int64_t count = seo_tensor_count(index);
    for (int64_t i = 0; i < count; i++) {
        if (at[i] >= -1 && at[i] < rows) continue;
        return SEO_FAIL(SEO_ERR_ARG, "%s: index[%lld] is %d, neither in [0, %lld) nor -1", op,
                        (long long)i, (int)at[i], (long long)rows);
    }
    return SEO_OK;
}

seo_err SEO_CPU_FN(gather_rows)(seo_device *dev, const seo_gather_rows_args *a) {
    const int64_t columns = a->inp.dims[a->inp.rank - 1];
    const seo_err err = check_index("gather_rows", &a->index, seo_tensor_count(&a->inp) / columns);
    if (err != SEO_OK) return err;
    const int64_t count = seo_tensor_count(&a->index);
    const size_t bytes = (size_t)columns * sizeof(float);
    const int32_t *index = a->index.data;
    const float *inp = a->inp.data;
    float *out = a->out.data;
#pragma omp parallel for num_threads(seo_cpu_threads(dev, count *columns)) schedule(static)
    for (int64_t i = 0; i < count; i++) {
        if (index[i] < 0) {
            memset(out + i * columns, 0, bytes);
        } else {
            memcpy(out + i * columns, inp + index[i] * columns, bytes);
        }
    }
    return SEO_OK;
}

seo_err SEO_CPU_FN(scatter_rows)(seo_device *dev, const seo_scatter_rows_args *a) {
    const int64_t columns = a->out.dims[a->out.rank - 1];
    const int64_t rows = seo_tensor_count(&a->out) / columns;
    const seo_err err = check_index("scatter_rows", &a->index, rows);
    if (err != SEO_OK) return err;
    const int64_t count = seo_tensor_count(&a->index);
    const int32_t *index = a->index.data;
    const float *inp = a->inp.data;
    float *out = a->out.data;
    const int threads = seo_cpu_threads(dev, rows * columns);
    if (!a->accumulate) {
#pragma omp parallel for num_threads(threads) schedule(static)
        for (int64_t r = 0; r < rows; r++) {
            memset(out + r * columns, 0, (size_t)columns * sizeof(float));
        }
    }
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < count; i++) {
        if (index[i] < 0) continue;
        const float *restrict from = inp + i * columns;
        float *restrict to = out + index[i] * columns;
        for (int64_t c = 0; c < columns; c++) to[c] = a->accumulate ? to[c] + from[c] : from[c];
    }
    return SEO_OK;
}
