/* Softmax cross entropy, fused with its gradient: one row of logits stays in the second-level cache
 * while it is read for its maximum, turned into exponentials, and scaled. */
#include <math.h>
#include <string.h>

#include "base/check.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vec.h"

enum { EXP_CHUNK = 1024 }; /* exponentials summed in f32 before they are added in f64 */

static seo_err check_targets(const seo_cross_entropy_args *a) {
    const int32_t *target = a->targets.data;
    const int64_t count = seo_tensor_count(&a->targets);
    for (int64_t i = 0; i < count; i++) {
        if (target[i] == a->ignore_index) continue;
        if (target[i] >= 0 && target[i] < a->vocab_size) continue;
        return SEO_FAIL(SEO_ERR_ARG,
                        "cross_entropy: targets[%lld] is %d, neither in [0, %lld) nor the "
                        "ignored %d",
                        (long long)i, (int)target[i], (long long)a->vocab_size,
                        (int)a->ignore_index);
    }
    return SEO_OK;
}

static float row_max(const float *x, int64_t count) {
    seo_vf best[4];
    for (int i = 0; i < 4; i++) best[i] = seo_vset(-INFINITY);
    int64_t c = 0;
    for (; c + 4 * SEO_VWIDTH <= count; c += 4 * SEO_VWIDTH) {
        SEO_UNROLL
        for (int i = 0; i < 4; i++) best[i] = seo_vmax(best[i], seo_vload(x + c + i * SEO_VWIDTH));
    }
    float top = seo_vmax_lane(seo_vmax(seo_vmax(best[0], best[1]), seo_vmax(best[2], best[3])));
    for (; c < count; c++) top = x[c] > top ? x[c] : top;
    return top;
}

/* The sum of e^(x - top), which replaces x when `keep`. */
static double row_exp(float *x, int64_t count, float top, bool keep) {
    double total = 0.0;
    for (int64_t from = 0; from < count; from += EXP_CHUNK) {
        const int64_t end = seo_min_i64(from + EXP_CHUNK, count);
        seo_vf sum[2] = {{0}, {0}};
        int64_t c = from;
        for (; c + 2 * SEO_VWIDTH <= end; c += 2 * SEO_VWIDTH) {
            SEO_UNROLL
            for (int i = 0; i < 2; i++) {
                float *at = x + c + i * SEO_VWIDTH;
                seo_vf e = seo_vexp(seo_vload(at) - top);
                if (keep) seo_vstore(at, e);
                sum[i] += e;
            }
        }
        for (; c < end; c += SEO_VWIDTH) {
            const int64_t n = seo_min_i64(SEO_VWIDTH, end - c);
            seo_vf e = seo_vexp(seo_vload_n(x + c, n) - top);
            if (keep) seo_vstore_n(x + c, e, n);
            for (int64_t i = 0; i < n; i++) total += (double)e[i];
        }
        total += (double)seo_vsum(sum[0] + sum[1]);
    }
    return total;
}

static float one_row(const seo_cross_entropy_args *a, float *logits, int32_t target) {
    const int64_t padded = a->logits.dims[a->logits.rank - 1], vocab = a->vocab_size;
    if (target == a->ignore_index) {
        if (a->with_gradient) memset(logits, 0, (size_t)padded * sizeof(float));
        return 0.0f;
    }
    const float top = row_max(logits, vocab);
    const double shifted = (double)logits[target] - (double)top;
    const double sum = row_exp(logits, vocab, top, a->with_gradient);
    if (a->with_gradient) {
        const float scale = (float)((double)a->grad_scale / sum);
        for (int64_t v = 0; v < vocab; v++) logits[v] *= scale;
        logits[target] -= a->grad_scale;
        memset(logits + vocab, 0, (size_t)(padded - vocab) * sizeof(float));
    }
    return (float)(log(sum) - shifted);
}

seo_err SEO_CPU_FN(cross_entropy)(seo_device *dev, const seo_cross_entropy_args *a) {
    seo_err err = check_targets(a);
    if (err != SEO_OK) return err;
    const int64_t rows = seo_tensor_count(&a->targets);
    const int64_t padded = a->logits.dims[a->logits.rank - 1];
    const int32_t *target = a->targets.data;
    float *loss = a->loss.data, *logits = a->logits.data;
#pragma omp parallel for num_threads(seo_cpu_threads(dev, rows *padded)) schedule(static)
    for (int64_t r = 0; r < rows; r++) loss[r] = one_row(a, logits + r * padded, target[r]);
    return SEO_OK;
}
