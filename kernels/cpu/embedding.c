/* Token, position and token type embeddings. The backward is split by columns: every thread walks
 * all rows in order over its own columns, so rows that share a token are added in one order and
 * nobody needs a lock. */
#include "base/check.h"
#include "kernels/cpu/cpu.h"

enum { COLUMN_UNIT = 16 }; /* a cache line of floats: threads never share one */

/* All ids, or types, are looked at before anything is written; a tensor that is not given has none.
 */
static seo_err check_ids(const char *op, const char *name, const seo_tensor *ids, int64_t limit) {
    const int32_t *id = ids->data;
    int64_t count = seo_tensor_count(ids);
    for (int64_t i = 0; i < count; i++) {
        if (id[i] >= 0 && id[i] < limit) continue;
        return SEO_FAIL(SEO_ERR_ARG, "%s: %s[%lld, %lld] is %d, outside [0, %lld)", op, name,
                        (long long)(i / ids->dims[1]), (long long)(i % ids->dims[1]), (int)id[i],
                        (long long)limit);
    }
    return SEO_OK;
}

static void add_row(float *restrict to, const float *restrict from, int64_t count) {
    for (int64_t c = 0; c < count; c++) to[c] += from[c];
}

seo_err SEO_CPU_FN(embedding_fwd)(seo_device *dev, const seo_embedding_fwd_args *a) {
    seo_err err = check_ids("embedding_fwd", "ids", &a->ids, a->wte.dims[0]);
    if (err == SEO_OK) err = check_ids("embedding_fwd", "types", &a->types, a->wtt.dims[0]);
    if (err != SEO_OK) return err;
    const int64_t t_count = a->out.dims[1], c_count = a->out.dims[2];
    const int64_t rows = a->out.dims[0] * t_count;
    const int32_t *ids = a->ids.data, *types = a->types.data;
    const float *wte = a->wte.data, *wtt = a->wtt.data;
    const float *wpe = (const float *)a->wpe.data + a->first_position * c_count;
    float *out = a->out.data;
#pragma omp parallel for num_threads(seo_cpu_threads(dev, rows *c_count)) schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        const float *token = wte + ids[r] * c_count;
        const float *position = wpe + r % t_count * c_count;
        float *restrict to = out + r * c_count;
        for (int64_t c = 0; c < c_count; c++) to[c] = token[c] + position[c];
        if (types) add_row(to, wtt + types[r] * c_count, c_count);
    }
    return SEO_OK;
}

seo_err SEO_CPU_FN(embedding_bwd)(seo_device *dev, const seo_embedding_bwd_args *a) {
    seo_err err = check_ids("embedding_bwd", "ids", &a->ids, a->dwte.dims[0]);
    if (err == SEO_OK) err = check_ids("embedding_bwd", "types", &a->types, a->dwtt.dims[0]);
    if (err != SEO_OK) return err;
    const int64_t t_count = a->dout.dims[1], c_count = a->dout.dims[2];
    const int64_t rows = a->dout.dims[0] * t_count;
    const int32_t *ids = a->ids.data, *types = a->types.data;
    const float *dout = a->dout.data;
    float *dwte = a->dwte.data, *dwtt = a->dwtt.data;
    float *dwpe = (float *)a->dwpe.data + a->first_position * c_count;
    const int threads = seo_cpu_threads(dev, rows * c_count);
    /* One strip of columns for a thread; what a strip holds does not touch the order of a sum. */
    const int64_t strip = seo_round_up(seo_div_up(c_count, threads), COLUMN_UNIT);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t c = 0; c < c_count; c += strip) {
        const int64_t width = seo_min_i64(strip, c_count - c);
        for (int64_t r = 0; r < rows; r++) {
            const float *from = dout + r * c_count + c;
            add_row(dwte + ids[r] * c_count + c, from, width);
            add_row(dwpe + r % t_count * c_count + c, from, width);
            if (types) add_row(dwtt + types[r] * c_count + c, from, width);
        }
    }
    return SEO_OK;
}
