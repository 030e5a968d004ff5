/* The losses of knowledge distillation, each fused with its gradient: a row of the student's logits
 * and one of the teacher's are read for their maxima, for the sums of their exponentials, and for
 * the gradient, for which the exponentials are computed again: two rows stay in the second-level
 * cache. */
#include <math.h>
#include <string.h>

#include "base/check.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vec.h"

enum { CHUNK = 1024 }; /* terms summed in f32 before they are added in f64 */

static seo_err check_targets(const seo_distill_cross_entropy_args *a) {
    const int32_t *target = a->targets.data, *counts = a->counts.data;
    const int64_t rows = seo_tensor_count(&a->targets);
    for (int64_t i = 0; i < rows; i++) {
        if (target[i] == a->ignore_index || (counts && counts[i] == 0)) continue;
        if (target[i] >= 0 && target[i] < a->vocab_size) continue;
        return SEO_FAIL(SEO_ERR_ARG,
                        "distill_cross_entropy: targets[%lld] is %d, neither in [0, %lld) nor the "
                        "ignored %d",
                        (long long)i, (int)target[i], (long long)a->vocab_size,
                        (int)a->ignore_index);
    }
    return SEO_OK;
}

/* A row of logits less its largest one, with 1 / temperature. */
typedef struct soft_row {
    const float *x;
    float top, cooling;
} soft_row;

static soft_row soft_row_of(const float *x, int64_t count, float temperature) {
    seo_vf best = seo_vset(-INFINITY);
    int64_t c = 0;
    for (; c + SEO_VWIDTH <= count; c += SEO_VWIDTH) best = seo_vmax(best, seo_vload(x + c));
    float top = seo_vmax_lane(best);
    for (; c < count; c++) top = x[c] > top ? x[c] : top;
    return (soft_row){.x = x, .top = top, .cooling = 1.0f / temperature};
}

/* The first n lanes from column c on; the others are 0 once they are exponentials. */
SEO_INLINE seo_vf shifted(const soft_row *r, int64_t c, int64_t n) {
    const seo_vf x = seo_vload_n(r->x + c, n) - r->top;
    return n == SEO_VWIDTH ? x : seo_vselect(seo_vlanes() < (int32_t)n, x, seo_vset(-INFINITY));
}

/* Over the vocabulary: e^s at temperature 1; e^s and e^t at the call's; and e^t (t - s), s and t
 * being the shifted logits over the temperature. */
enum { SUM_HARD, SUM_STUDENT, SUM_TEACHER, SUM_GAP, SUMS };

SEO_INLINE void add_terms(seo_vf sum[SUMS], const soft_row *student, const soft_row *teacher,
                          int64_t c, int64_t n) {
    const seo_vf x = shifted(student, c, n), s = x * student->cooling;
    const seo_vf t = shifted(teacher, c, n) * teacher->cooling, e = seo_vexp(t);
    sum[SUM_HARD] += seo_vexp(x);
    sum[SUM_STUDENT] += seo_vexp(s);
    sum[SUM_TEACHER] += e;
    const seo_vf gap = e * (t - s);
    sum[SUM_GAP] +=
        n == SEO_VWIDTH ? gap : seo_vselect(seo_vlanes() < (int32_t)n, gap, (seo_vf){0});
}

static void row_sums(const soft_row *student, const soft_row *teacher, int64_t count,
                     double total[SUMS]) {
    for (int64_t from = 0; from < count; from += CHUNK) {
        const int64_t end = seo_min_i64(from + CHUNK, count);
        seo_vf sum[SUMS] = {{0}};
        int64_t c = from;
        for (; c + SEO_VWIDTH <= end; c += SEO_VWIDTH) {
            add_terms(sum, student, teacher, c, SEO_VWIDTH);
        }
        if (c < end) add_terms(sum, student, teacher, c, end - c);
        for (int i = 0; i < SUMS; i++) total[i] += (double)seo_vsum(sum[i]);
    }
}

/* The factors of the three exponentials in the gradient. */
typedef struct gradient_scale {
    float hard, student, teacher;
} gradient_scale;

SEO_INLINE void gradient_at(float *logits, const soft_row *student, const soft_row *teacher,
                            const gradient_scale *by, int64_t c, int64_t n) {
    const seo_vf x = shifted(student, c, n), t = shifted(teacher, c, n) * teacher->cooling;
    const seo_vf soft = by->student * seo_vexp(x * student->cooling) - by->teacher * seo_vexp(t);
    seo_vstore_n(logits + c, by->hard * seo_vexp(x) + soft, n);
}

static void row_gradient(const seo_distill_cross_entropy_args *a, float *logits,
                         const soft_row *student, const soft_row *teacher, int32_t target,
                         const double total[SUMS]) {
    const int64_t padded = a->student.dims[a->student.rank - 1], vocab = a->vocab_size;
    const bool hard = target != a->ignore_index;
    const double hard_scale = hard ? (double)a->grad_scale * (double)a->hard_weight : 0.0;
    const double soft_scale =
        (double)a->grad_scale * (double)a->soft_weight * (double)a->temperature;
    const gradient_scale by = {.hard = (float)(hard_scale / total[SUM_HARD]),
                               .student = (float)(soft_scale / total[SUM_STUDENT]),
                               .teacher = (float)(soft_scale / total[SUM_TEACHER])};
    int64_t c = 0;
    for (; c + SEO_VWIDTH <= vocab; c += SEO_VWIDTH) {
        gradient_at(logits, student, teacher, &by, c, SEO_VWIDTH);
    }
    if (c < vocab) gradient_at(logits, student, teacher, &by, c, vocab - c);
    if (hard) logits[target] -= (float)hard_scale;
    memset(logits + vocab, 0, (size_t)(padded - vocab) * sizeof(float));
}

static void distill_row(const seo_distill_cross_entropy_args *a, int64_t r) {
    const int64_t padded = a->student.dims[a->student.rank - 1];
    const int64_t padded_teacher = a->teacher.dims[a->teacher.rank - 1];
    float *logits = (float *)a->student.data + r * padded;
    float *loss = (float *)a->loss.data + r, *hard_loss = a->hard.data;
    const int32_t target = ((const int32_t *)a->targets.data)[r], *counts = a->counts.data;
    if (counts && counts[r] == 0) {
        *loss = 0.0f;
        if (hard_loss) hard_loss[r] = 0.0f;
        if (a->with_gradient) memset(logits, 0, (size_t)padded * sizeof(float));
        return;
    }
    const soft_row student = soft_row_of(logits, a->vocab_size, a->temperature);
    const soft_row teacher = soft_row_of((const float *)a->teacher.data + r * padded_teacher,
                                         a->vocab_size, a->temperature);
    const double at_target =
        target == a->ignore_index ? 0.0 : (double)logits[target] - (double)student.top;
    double total[SUMS] = {0};
    row_sums(&student, &teacher, a->vocab_size, total);
    const double hard = target == a->ignore_index ? 0.0 : log(total[SUM_HARD]) - at_target;
    const double divergence =
        total[SUM_GAP] / total[SUM_TEACHER] - log(total[SUM_TEACHER]) + log(total[SUM_STUDENT]);
    const double soft = (double)a->temperature * (double)a->temperature * divergence;
    *loss = (float)((double)a->hard_weight * hard + (double)a->soft_weight * soft);
    if (hard_loss) hard_loss[r] = (float)hard;
    if (a->with_gradient) row_gradient(a, logits, &student, &teacher, target, total);
}

seo_err SEO_CPU_FN(distill_cross_entropy)(seo_device *dev,
                                          const seo_distill_cross_entropy_args *a) {
    const seo_err err = check_targets(a);
    if (err != SEO_OK) return err;
    const int64_t rows = seo_tensor_count(&a->targets), work = seo_tensor_count(&a->student);
#pragma omp parallel for num_threads(seo_cpu_threads(dev, work * 4)) schedule(static)
    for (int64_t r = 0; r < rows; r++) distill_row(a, r);
    return SEO_OK;
}

/* The sum of x y, or of x^2 where they are one. */
static double dot(const float *x, const float *y, int64_t count) {
    double total = 0.0;
    for (int64_t from = 0; from < count; from += CHUNK) {
        const int64_t end = seo_min_i64(from + CHUNK, count);
        seo_vf sum = {0};
        int64_t c = from;
        for (; c + SEO_VWIDTH <= end; c += SEO_VWIDTH) sum += seo_vload(x + c) * seo_vload(y + c);
        sum += seo_vload_n(x + c, end - c) * seo_vload_n(y + c, end - c);
        total += (double)seo_vsum(sum);
    }
    return total;
}

static void cosine_row(const seo_cosine_loss_args *a, int64_t r) {
    const int64_t columns = a->a.dims[a->a.rank - 1];
    const float *x = (const float *)a->a.data + r * columns;
    const float *y = (const float *)a->b.data + r * columns;
    float *gradient = a->da.data ? (float *)a->da.data + r * columns : NULL;
    const int32_t *counts = a->counts.data;
    const bool counted = !counts || counts[r] != 0;
    const double xx = counted ? dot(x, x, columns) : 0, yy = counted ? dot(y, y, columns) : 0;
    float *loss = (float *)a->loss.data + r;
    *loss = 0.0f;
    if (xx == 0.0 || yy == 0.0) {
        if (gradient && !a->accumulate) memset(gradient, 0, (size_t)columns * sizeof(float));
        return;
    }
    const double norms = sqrt(xx) * sqrt(yy), cosine = dot(x, y, columns) / norms;
    *loss = (float)((double)a->weight * (1.0 - cosine));
    if (!gradient) return;
    const double scale = (double)a->grad_scale * (double)a->weight;
    const float of_x = (float)(scale * cosine / xx), of_y = (float)(-scale / norms);
    for (int64_t c = 0; c < columns; c++) {
        const float g = of_x * x[c] + of_y * y[c];
        gradient[c] = a->accumulate ? gradient[c] + g : g;
    }
}

seo_err SEO_CPU_FN(cosine_loss)(seo_device *dev, const seo_cosine_loss_args *a) {
    const int64_t rows = seo_tensor_count(&a->loss), work = seo_tensor_count(&a->a);
#pragma omp parallel for num_threads(seo_cpu_threads(dev, work)) schedule(static)
    for (int64_t r = 0; r < rows; r++) cosine_row(a, r);
    return SEO_OK;
}
