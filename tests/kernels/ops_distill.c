/* The losses of knowledge distillation and their gradients: ignored and uncounted rows,
 * vocabularies padded in two ways, temperatures, weights of 0. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "tests/kernels/ops_tests.h"
#include "tests/support/compare.h"
#include "tests/support/fill.h"
#include "tests/support/op_check.h"

enum { IGNORED = -100 };

typedef struct shape {
    const char *what;
    int64_t rows, vocab, padded, padded_teacher;
    float range; /* of the logits */
    float temperature, hard, soft;
    bool all_count, with_hard;
} shape;

static const shape g_shapes[] = {
    {"one column", 2, 1, 1, 1, 1, 2, 0.5f, 0.5f, true, true},
    {"small, padded", 5, 5, 8, 16, 3, 2, 2, 5, false, true},
    {"off the vector", 4, 77, 77, 79, 1, 1, 1, 1, false, false},
    {"the soft loss alone", 3, 300, 320, 304, 20, 4, 0, 1, true, true},
    {"the hard loss alone", 3, 130, 136, 136, 10, 2, 1, 0, true, true},
    {"over a chunk", 4, 4099, 4112, 4104, 5, 2, 2, 5, false, true},
    {"many rows", 201, 65, 128, 72, 8, 3, 1, 2, false, false},
    {"a cold temperature", 3, 33, 40, 40, 2, 0.25f, 1, 1, false, true},
};

static void run_distill(op_run *on, const void *input, float *out) {
    seo_distill_cross_entropy_args a = *(const seo_distill_cross_entropy_args *)input;
    a.loss = poisoned(on, a.loss);
    a.hard = poisoned(on, a.hard);
    a.student = to_device_s(on, a.student);
    a.teacher = to_device_s(on, a.teacher);
    a.targets = to_device(on, a.targets);
    a.counts = to_device(on, a.counts);
    must(seo_distill_cross_entropy(on->dev, &a));
    to_host(on, &a.student, to_host(on, &a.hard, to_host(on, &a.loss, out)));
}

/* One row's loss as a function of the student's logits. */
typedef struct row_problem {
    const seo_distill_cross_entropy_args *a;
    const float *teacher;
    int32_t target;
} row_problem;

/* log softmax of x / temperature. */
static void log_softmax(const double *x, int64_t n, double temperature, double *out) {
    double top = x[0], sum = 0;
    for (int64_t v = 0; v < n; v++) top = fmax(top, x[v]);
    for (int64_t v = 0; v < n; v++) sum += exp((x[v] - top) / temperature);
    for (int64_t v = 0; v < n; v++) out[v] = (x[v] - top) / temperature - log(sum);
}

typedef struct parts {
    double hard, soft;
} parts;

static parts parts_of(const double *student, const row_problem *p) {
    const int64_t n = p->a->vocab_size;
    const double temperature = (double)p->a->temperature;
    double *s = new_f64(n), *t = new_f64(n), *x = new_f64(n);
    parts loss = {0, 0};
    for (int64_t v = 0; v < n; v++) x[v] = (double)p->teacher[v];
    log_softmax(student, n, 1, s);
    if (p->target != IGNORED) loss.hard = -s[p->target];
    log_softmax(student, n, temperature, s);
    log_softmax(x, n, temperature, t);
    for (int64_t v = 0; v < n; v++) {
        loss.soft += temperature * temperature * exp(t[v]) * (t[v] - s[v]);
    }
    free(s);
    free(t);
    free(x);
    return loss;
}

static double row_loss(const double *student, const void *context) {
    const row_problem *p = context;
    const parts loss = parts_of(student, p);
    return (double)p->a->hard_weight * loss.hard + (double)p->a->soft_weight * loss.soft;
}

enum { PIECE = 128 }; /* as in ops_loss.c: terms that are added in f32 */

/* Roundings of one exponential of a number down to -spread, which was divided by the temperature:
 * those of the quotient, the argument's and its own; see exp_roundings of ops_loss.c. */
static double exp_roundings(double spread) {
    return g_targets.is_cpu ? 3 * spread + 2 : 5 * spread + 6;
}

static double spread_of(const float *x, int64_t n) {
    float low = x[0], high = x[0];
    for (int64_t v = 0; v < n; v++) {
        low = fminf(low, x[v]);
        high = fmaxf(high, x[v]);
    }
    return (double)high - (double)low;
}

/* The gradient without grad_scale, its bound, and both losses' bounds. */
static void want_row(const row_problem *p, const float *student, double *gradient, double *off,
                     parts *loss, parts *loss_off) {
    const seo_distill_cross_entropy_args *a = p->a;
    const int64_t n = a->vocab_size;
    const double temperature = (double)a->temperature, hard_weight = (double)a->hard_weight;
    const double soft_weight = (double)a->soft_weight;
    double *x = new_f64(n), *t = new_f64(n), *soft = new_f64(n), *hard = new_f64(n);
    const double spread = spread_of(student, n), teacher_spread = spread_of(p->teacher, n);
    const double widest = fmax(spread, teacher_spread) / temperature;
    const double hard_off = sum_bound(PIECE, exp_roundings(spread), 1);
    const double soft_off = sum_bound(PIECE, exp_roundings(widest), 1);
    for (int64_t v = 0; v < n; v++) x[v] = (double)p->teacher[v];
    log_softmax(x, n, temperature, t);
    for (int64_t v = 0; v < n; v++) x[v] = (double)student[v];
    log_softmax(x, n, temperature, soft);
    log_softmax(x, n, 1, hard);
    *loss = parts_of(x, p);
    loss_off->hard = hard_off + 3 * F32_ROUND * (spread + log((double)n));
    /* Terms of e (t - s), whose sum is over the teacher's, and two logarithms. */
    loss_off->soft =
        temperature * temperature *
        ((2 * widest + 1) * 3 * soft_off + 8 * F32_ROUND * (2 * widest + 2 * log((double)n) + 1));
    for (int64_t v = 0; v < n; v++) {
        const bool hit = p->target == v, has_hard = p->target != IGNORED;
        const double h = has_hard ? hard_weight * exp(hard[v]) : 0;
        const double s = soft_weight * temperature * exp(soft[v]);
        const double u = soft_weight * temperature * exp(t[v]);
        gradient[v] = h - (hit ? hard_weight : 0) + s - u;
        const double sizes = h + s + u + (hit ? fabs(hard_weight) : 0);
        off[v] = h * hard_off + (s + u) * soft_off + 6 * F32_ROUND * sizes +
                 (exp_roundings(fmax(spread, widest)) + 4) * F32_ROUND * (h + s + u) + 1e-36;
    }
    check_gradient("distill_cross_entropy", row_loss, p, x, gradient, n);
    free(x);
    free(t);
    free(soft);
    free(hard);
}

/* The expected outputs of one row: loss, hard loss where it is asked for, and what becomes of the
 * logits. */
static void settle_row(const seo_distill_cross_entropy_args *a, int64_t r, seo_dtype storage,
                       double *want, double *bound) {
    const int64_t rows = a->loss.dims[0], padded = a->student.dims[1];
    const float *student = (const float *)a->student.data + r * padded;
    const row_problem p = {a, (const float *)a->teacher.data + r * a->teacher.dims[1],
                           ((const int32_t *)a->targets.data)[r]};
    const int32_t *counts = a->counts.data;
    const int64_t at = rows + (a->hard.rank ? rows : 0) + r * padded;
    double *gradient = new_f64(padded), *off = new_f64(padded);
    parts loss = {0, 0}, loss_off = {0, 0};
    if (!counts || counts[r]) want_row(&p, student, gradient, off, &loss, &loss_off);
    const double weights[2] = {(double)a->hard_weight, (double)a->soft_weight};
    want[r] = weights[0] * loss.hard + weights[1] * loss.soft;
    bound[r] = fabs(weights[0]) * loss_off.hard + fabs(weights[1]) * loss_off.soft +
               4 * F32_ROUND * fabs(want[r]);
    if (a->hard.rank) want[rows + r] = loss.hard;
    if (a->hard.rank) bound[rows + r] = loss_off.hard + F32_ROUND * loss.hard;
    for (int64_t v = 0; v < padded; v++) {
        const double scale = (double)a->grad_scale;
        const bool inside = v < a->vocab_size;
        want[at + v] = !a->with_gradient ? (double)student[v] : inside ? scale * gradient[v] : 0;
        if (a->with_gradient && inside && off[v] > 0) {
            bound[at + v] = stored_bound(storage, want[at + v], fabs(scale) * off[v]);
        }
    }
    free(gradient);
    free(off);
}

static void one_case(const shape *s, bool with_gradient, seo_dtype storage) {
    const int64_t n = s->rows * s->padded, m = s->rows * s->padded_teacher;
    const int64_t count = s->rows * (s->with_hard ? 2 : 1) + n;
    float *student = new_f32(n), *teacher = new_f32(m);
    int32_t *targets = malloc((size_t)s->rows * sizeof *targets);
    int32_t *counts = malloc((size_t)s->rows * sizeof *counts);
    double *want = new_f64(count), *bound = new_f64(count);
    assert_true(targets && counts);
    fill_uniform(student, n, -s->range, s->range, 61);
    fill_uniform(teacher, m, -s->range, s->range, 62);
    to_storage(student, n, storage);
    to_storage(teacher, m, storage);
    fill_ids(targets, s->rows, (int32_t)s->vocab, 63);
    if (s->rows > 1) targets[1] = IGNORED;
    targets[s->rows - 1] = (int32_t)s->vocab - 1;
    for (int64_t r = 0; r < s->rows; r++) counts[r] = r % 3 != 2;
    if (!s->all_count) targets[2] = 1 << 20; /* of a row that does not count: not looked at */
    /* Padded columns must not be looked at. */
    for (int64_t r = 0; r < s->rows; r++) {
        for (int64_t v = s->vocab; with_gradient && v < s->padded; v++) {
            student[r * s->padded + v] = v % 2 ? NAN : INFINITY;
        }
        for (int64_t v = s->vocab; v < s->padded_teacher; v++) {
            teacher[r * s->padded_teacher + v] = v % 2 ? INFINITY : NAN;
        }
    }
    const seo_tensor none = {0};
    const seo_distill_cross_entropy_args a = {
        .loss = seo_tensor_1d(NULL, SEO_DTYPE_F32, s->rows),
        .hard = s->with_hard ? seo_tensor_1d(NULL, SEO_DTYPE_F32, s->rows) : none,
        .student = seo_tensor_2d(student, SEO_DTYPE_F32, s->rows, s->padded),
        .teacher = seo_tensor_2d(teacher, SEO_DTYPE_F32, s->rows, s->padded_teacher),
        .targets = seo_tensor_1d(targets, SEO_DTYPE_I32, s->rows),
        .counts = s->all_count ? none : seo_tensor_1d(counts, SEO_DTYPE_I32, s->rows),
        .vocab_size = s->vocab,
        .ignore_index = IGNORED,
        .temperature = s->temperature,
        .hard_weight = s->hard,
        .soft_weight = s->soft,
        .grad_scale = 0.125f,
        .with_gradient = with_gradient};
    for (int64_t r = 0; r < s->rows; r++) settle_row(&a, r, storage, want, bound);
    check_everywhere(&(op_case){s->what, run_distill, &a, count, want, bound, .storage = storage});
    free(student);
    free(teacher);
    free(targets);
    free(counts);
    free(want);
    free(bound);
}

static seo_distill_cross_entropy_args two_rows(op_run *on, float logits[6],
                                               const int32_t targets[2]) {
    return (seo_distill_cross_entropy_args){
        .loss = poisoned(on, seo_tensor_1d(NULL, SEO_DTYPE_F32, 2)),
        .student = to_device_s(on, seo_tensor_2d(logits, SEO_DTYPE_F32, 2, 3)),
        .teacher = to_device_s(on, seo_tensor_2d(logits, SEO_DTYPE_F32, 2, 3)),
        .targets = to_device(on, seo_tensor_1d((void *)(uintptr_t)targets, SEO_DTYPE_I32, 2)),
        .vocab_size = 3,
        .ignore_index = IGNORED,
        .temperature = 2,
        .hard_weight = 1,
        .soft_weight = 1,
        .grad_scale = 1,
        .with_gradient = true};
}

/* The CPU finds a target outside before anything is written; a queue tells of it at the next wait.
 */
static void run_outside(op_run *on, const void *input, float *out) {
    float logits[6] = {1, 2, 3, 4, 5, 6};
    const seo_distill_cross_entropy_args a = two_rows(on, logits, input);
    if (g_targets.is_cpu) {
        must_fail(seo_distill_cross_entropy(on->dev, &a), SEO_ERR_ARG,
                  "distill_cross_entropy: targets[1] is 3, neither in [0, 3)");
        to_host(on, &a.student, out);
        return;
    }
    must(seo_distill_cross_entropy(on->dev, &a));
    must_fail(seo_device_sync(on->dev), SEO_ERR_ARG, "target");
    must(seo_device_sync(on->dev));
    for (int i = 0; i < 6; i++) out[i] = logits[i];
}

/* A number that is not finite, in the student or in the teacher, shows in the loss. */
static void run_not_finite(op_run *on, const void *input, float *out) {
    float logits[6] = {1, NAN, 3, 4, 5, 6}, sound[6] = {1, 2, 3, 3, 2, 1};
    const int32_t targets[2] = {2, 1};
    seo_distill_cross_entropy_args a = two_rows(on, logits, targets);
    const seo_tensor other = to_device_s(on, seo_tensor_2d(sound, SEO_DTYPE_F32, 2, 3));
    if (*(const bool *)input) {
        a.student = other;
    } else {
        a.teacher = other;
    }
    must(seo_distill_cross_entropy(on->dev, &a));
    to_host(on, &a.loss, out);
    if (isfinite(out[1])) out[1] = 0;
}

void test_distill_cross_entropy(void **state) {
    (void)state;
    EACH_STORAGE(storage) {
        for (int i = 0; i < SEO_COUNT_OF(g_shapes); i++) {
            one_case(&g_shapes[i], false, storage);
            one_case(&g_shapes[i], true, storage);
        }
    }
    static const int32_t outside[2] = {1, 3};
    const double left[6] = {1, 2, 3, 4, 5, 6}, exact[6] = {0};
    check_everywhere(&(op_case){"a target outside", run_outside, outside, 6, left, exact,
                                .storage = SEO_DTYPE_F32});
    const double want[2] = {NAN, 0};
    for (int in_teacher = 0; in_teacher < 2; in_teacher++) {
        const bool input = in_teacher;
        check_everywhere(&(op_case){"logits that are not finite", run_not_finite, &input, 2, want,
                                    exact, .storage = SEO_DTYPE_F32});
    }
}

/* ---- cosine_loss ---- */

/* Overwritten, then added to what the first call left, without da, and once more with it. */
static void run_cosine(op_run *on, const void *input, float *out) {
    seo_cosine_loss_args a = *(const seo_cosine_loss_args *)input;
    a.loss = poisoned(on, a.loss);
    a.da = poisoned_s(on, a.da);
    a.a = to_device_s(on, a.a);
    a.b = to_device_s(on, a.b);
    a.counts = to_device(on, a.counts);
    must(seo_cosine_loss(on->dev, &a));
    out = to_host(on, &a.da, to_host(on, &a.loss, out));
    a.accumulate = true;
    must(seo_cosine_loss(on->dev, &a));
    out = to_host(on, &a.da, out);
    a.da = (seo_tensor){0};
    a.loss = poisoned(on, a.loss);
    must(seo_cosine_loss(on->dev, &a));
    to_host(on, &a.loss, out);
}

typedef struct cosine_problem {
    const float *b;
    int64_t columns;
} cosine_problem;

static double cosine_at(const double *x, const void *context) {
    const cosine_problem *p = context;
    double xx = 0, yy = 0, xy = 0;
    for (int64_t c = 0; c < p->columns; c++) {
        const double y = (double)p->b[c];
        xx += x[c] * x[c];
        yy += y * y;
        xy += x[c] * y;
    }
    return 1 - xy / (sqrt(xx) * sqrt(yy));
}

/* The gradient of 1 - cosine, and the bound of each element: the three sums are off by `sum_off`
 * relative to the norms' product, the quotients by a few roundings. */
static void cosine_gradient(const cosine_problem *p, double *x, double *gradient, double *off) {
    double xx = 0, yy = 0;
    for (int64_t c = 0; c < p->columns; c++) {
        xx += x[c] * x[c];
        yy += (double)p->b[c] * (double)p->b[c];
    }
    const double norms = sqrt(xx) * sqrt(yy), cosine = 1 - cosine_at(x, p);
    const double sum_off = sum_bound(p->columns + 8, 8, 1);
    for (int64_t c = 0; c < p->columns; c++) {
        const double of_x = cosine / xx * x[c], of_y = (double)p->b[c] / norms;
        gradient[c] = of_x - of_y;
        off[c] = 3 * sum_off * (fabs(x[c]) / xx + fabs(of_y));
    }
    check_gradient("cosine_loss", cosine_at, p, x, gradient, p->columns);
}

typedef struct cosine_shape {
    const char *what;
    int64_t rows, columns;
    bool all_count, a_zero_row;
} cosine_shape;

static void cosine_case(const cosine_shape *s, seo_dtype storage) {
    const int64_t n = s->rows * s->columns, count = 2 * s->rows + 2 * n;
    float *a = new_f32(n), *b = new_f32(n);
    int32_t *counts = malloc((size_t)s->rows * sizeof *counts);
    double *want = new_f64(count), *bound = new_f64(count), *x = new_f64(s->columns);
    double *gradient = new_f64(s->columns), *off = new_f64(s->columns);
    const float weight = 0.75f, scale = 0.5f;
    assert_non_null(counts);
    fill_uniform(a, n, -1, 1, 64);
    fill_uniform(b, n, -1, 1, 65);
    if (s->a_zero_row) memset(a, 0, (size_t)s->columns * sizeof *a);
    to_storage(a, n, storage);
    to_storage(b, n, storage);
    for (int64_t r = 0; r < s->rows; r++) counts[r] = r % 4 != 1;
    for (int64_t r = 0; r < s->rows; r++) {
        const cosine_problem p = {b + r * s->columns, s->columns};
        if ((!s->all_count && !counts[r]) || (s->a_zero_row && r == 0)) continue;
        for (int64_t c = 0; c < s->columns; c++) x[c] = (double)a[r * s->columns + c];
        cosine_gradient(&p, x, gradient, off);
        const int64_t last = s->rows + 2 * n + r;
        want[r] = want[last] = (double)weight * cosine_at(x, &p);
        bound[r] = bound[last] = (double)weight * sum_bound(s->columns + 8, 16, 1);
        for (int64_t c = 0; c < s->columns; c++) {
            const double by = (double)weight * (double)scale;
            const int64_t at = s->rows + r * s->columns + c;
            want[at] = by * gradient[c];
            bound[at] = stored_bound(storage, want[at], by * off[c]);
            want[at + n] = 2 * want[at];
            bound[at + n] = stored_bound(storage, want[at + n], bound[at] + 2 * by * off[c]);
        }
    }
    const seo_tensor none = {0};
    const seo_cosine_loss_args args = {
        .loss = seo_tensor_1d(NULL, SEO_DTYPE_F32, s->rows),
        .da = seo_tensor_2d(NULL, SEO_DTYPE_F32, s->rows, s->columns),
        .a = seo_tensor_2d(a, SEO_DTYPE_F32, s->rows, s->columns),
        .b = seo_tensor_2d(b, SEO_DTYPE_F32, s->rows, s->columns),
        .counts = s->all_count ? none : seo_tensor_1d(counts, SEO_DTYPE_I32, s->rows),
        .weight = weight,
        .grad_scale = scale};
    check_everywhere(
        &(op_case){s->what, run_cosine, &args, count, want, bound, .storage = storage});
    free(a);
    free(b);
    free(counts);
    free(want);
    free(bound);
    free(x);
    free(gradient);
    free(off);
}

void test_cosine_loss(void **state) {
    (void)state;
    static const cosine_shape shapes[] = {
        {"one of everything", 1, 1, true, false}, {"a row of zeros", 3, 5, true, true},
        {"off the vector", 6, 77, false, false},  {"whole spans", 9, 136, false, true},
        {"many rows", 300, 24, false, false},     {"long rows", 2, 2100, true, false}};
    EACH_STORAGE(storage) {
        for (int i = 0; i < SEO_COUNT_OF(shapes); i++) cosine_case(&shapes[i], storage);
    }
}
