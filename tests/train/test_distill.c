/* Distillation: the gradient of a student's whole loss, through both heads and the projection,
 * against finite differences; the losses against their formulas from both models' own outputs;
 * which layers a student begins as. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "distill_fixture.h"
#include "tests/support/fill.h"
#include "train/teacher.h"
#include "train/values.h"

static const distill_pair g_pairs[] = {
    {"bert, distilbert", SEO_FAMILY_BERT, SEO_FAMILY_DISTILBERT, 24, 24, 5, 2, 1},
    {"bert, narrower bert", SEO_FAMILY_BERT, SEO_FAMILY_BERT, 24, 16, 1, 1, 3},
    {"roberta, wider roberta", SEO_FAMILY_ROBERTA, SEO_FAMILY_ROBERTA, 16, 24, 2, 0, 2},
    {"gpt2, gpt2", SEO_FAMILY_GPT2, SEO_FAMILY_GPT2, 24, 24, 2, 1, 1},
    {"gpt2, narrower gpt2", SEO_FAMILY_GPT2, SEO_FAMILY_GPT2, 24, 16, 1, 1, 2},
    {"without the hidden states", SEO_FAMILY_BERT, SEO_FAMILY_DISTILBERT, 24, 16, 5, 2, 0},
};

static seo_err open_cpu(seo_device **out) {
    return seo_device_open_cpu(&(seo_cpu_options){.threads = 1}, out);
}

/* Sign pattern of the gradient mixed with noise, so that the derivative along it is large against
 * the rounding of the loss. */
static double direction_of(const seo_tensor *gradient, float *direction, double *length) {
    const int64_t count = seo_tensor_count(gradient);
    const float *g = gradient->data;
    double slope = 0, square = 0;
    fill_uniform(direction, count, 0.1f, 1, 73);
    for (int64_t i = 0; i < count; i++) {
        direction[i] = copysignf(direction[i], g[i]);
        slope += (double)direction[i] * (double)g[i];
        square += (double)direction[i] * (double)direction[i];
    }
    *length = sqrt(square);
    return slope;
}

static double loss_at(distill_bench *b, float *values, const float *base, const float *direction,
                      int64_t count, double step) {
    for (int64_t i = 0; i < count; i++) values[i] = base[i] + (float)(step * (double)direction[i]);
    return distill_student_pass(b).loss;
}

/* One row of the table: central differences against the sum of gradient times direction. */
static void check_row(distill_bench *b, int64_t row, const seo_tensor *gradient) {
    float *values = seo_model_weights(b->student)->tensors[row].data;
    const int64_t count = seo_tensor_count(gradient);
    float *direction = new_f32(count), *base = new_f32(count);
    double norm = 0;
    const double slope = direction_of(gradient, direction, &norm);
    const double step = 1.0 / 128 / norm;
    memcpy(base, values, (size_t)count * sizeof *base);
    const double up = loss_at(b, values, base, direction, count, step);
    const double down = loss_at(b, values, base, direction, count, -step);
    (void)loss_at(b, values, base, direction, count, 0);
    const double got = (up - down) / (2 * step), scale = 1 + fabs(up);
    /* Two losses of f32 numbers, a few roundings each of their size; the third derivative is cut
     * off at a part in some hundreds. */
    const double bound = 16 * 6e-8 * scale / step + 1e-2 * fabs(slope);
    if (!(fabs(got - slope) <= bound)) {
        fail_msg("%s, %s: difference quotient %.8g, gradient %.8g, bound %.2g", b->p->what,
                 seo_model_table(b->student)->items[row].name, got, slope, bound);
    }
    free(direction);
    free(base);
}

static void check_gradients(const distill_pair *p, bool next_sentence) {
    distill_bench *b = distill_bench_open(p, next_sentence, open_cpu, SEO_DTYPE_F32);
    seo_param_set *grads = seo_model_grads(b->student);
    distill_ok(seo_model_zero_grads(b->student));
    (void)distill_student_pass(b);
    for (int64_t row = 0; row < grads->count; row++) {
        seo_tensor kept = grads->tensors[row];
        float *copy = new_f32(seo_tensor_count(&kept));
        distill_ok(seo_model_zero_grads(b->student));
        (void)distill_student_pass(b);
        memcpy(copy, kept.data, (size_t)seo_tensor_bytes(&kept));
        kept.data = copy;
        check_row(b, row, &kept);
        free(copy);
    }
    const int64_t projection = seo_params_find(seo_model_table(b->student), "distill.proj.weight");
    assert_int_equal(projection >= 0, b->config.model.distill_width > 0);
    distill_bench_close(b);
}

static void gradients(void **state) {
    (void)state;
    for (int i = 0; i < SEO_COUNT_OF(g_pairs); i++) check_gradients(&g_pairs[i], false);
    check_gradients(&g_pairs[1], true);
}

/* ---- the losses, from both models' own logits and hidden states ---- */

static double soft_loss(const float *student, const float *teacher, double temperature) {
    double loss = 0, totals[2] = {0, 0}, tops[2] = {-INFINITY, -INFINITY};
    const float *const x[2] = {student, teacher};
    for (int m = 0; m < 2; m++) {
        for (int v = 0; v < DISTILL_VOCAB; v++)
            tops[m] = fmax(tops[m], (double)x[m][v] / temperature);
        for (int v = 0; v < DISTILL_VOCAB; v++)
            totals[m] += exp((double)x[m][v] / temperature - tops[m]);
    }
    for (int v = 0; v < DISTILL_VOCAB; v++) {
        const double s = (double)student[v] / temperature - tops[0] - log(totals[0]);
        const double t = (double)teacher[v] / temperature - tops[1] - log(totals[1]);
        loss += exp(t) * (t - s);
    }
    return temperature * temperature * loss;
}

static void check_losses(const distill_pair *p) {
    distill_bench *b = distill_bench_open(p, false, open_cpu, SEO_DTYPE_F32);
    float logits[2][DISTILL_ROWS * DISTILL_VOCAB], hidden[2][DISTILL_ROWS * 24],
        plain[DISTILL_ROWS];
    const bool encoder = seo_family_is_encoder(p->student);
    const int64_t rows = encoder ? DISTILL_BATCH * DISTILL_PICKS : DISTILL_ROWS,
                  width = p->student_width;
    seo_model *models[2] = {b->student, b->teacher};
    const distill_total got = distill_student_pass(b);
    for (int m = 0; m < 2; m++) {
        /* Token types are those that the student has: without them the teacher reads type 0. */
        seo_pass_args pass = distill_pass_of(b, b->student);
        pass.losses = seo_model_losses(models[m]);
        distill_ok(seo_model_forward(models[m], &pass));
        distill_ok(seo_model_logits(models[m], 0, rows, logits[m]));
        const seo_tensor h = seo_model_hidden(models[m]);
        assert_int_equal(seo_tensor_count(&h), DISTILL_ROWS * (m ? p->teacher_width : width));
        distill_ok(seo_values_read(b->dev, &h, hidden[m]));
        if (m == 0) distill_ok(seo_values_read(b->dev, &pass.losses, plain));
    }
    double hard = 0, soft = 0, cosine = 0;
    for (int64_t r = 0; r < rows; r++) {
        if (encoder && b->picks[r] < 0) continue;
        hard += (double)plain[r];
        soft += soft_loss(logits[0] + r * DISTILL_VOCAB, logits[1] + r * DISTILL_VOCAB, 2.5);
    }
    for (int64_t r = 0; r < DISTILL_ROWS; r++) {
        double ab = 0, aa = 0, bb = 0;
        for (int64_t c = 0; c < width; c++) {
            const double x = (double)hidden[0][r * width + c], y = (double)hidden[1][r * width + c];
            ab += x * y;
            aa += x * x;
            bb += y * y;
        }
        cosine += p->cosine * (1 - ab / sqrt(aa * bb)) / DISTILL_POSITIONS;
    }
    /* Sums of some dozens of f32 losses, each right to a few hundred roundings of its parts. */
    const double each = 1e-4;
    assert_true(fabs(got.hard - hard) <= each * (1 + hard));
    assert_true(fabs(got.tokens - (p->hard * hard + p->soft * soft)) <=
                each * (1 + p->hard * hard + p->soft * soft));
    assert_true(fabs(got.cosine - cosine) <= each * (1 + cosine));
    distill_bench_close(b);
}

static void losses(void **state) {
    (void)state;
    check_losses(&g_pairs[0]);
    check_losses(&g_pairs[3]);
}

/* What is told without a device is what is taken of one. */
static void measures(void **state) {
    (void)state;
    for (int i = 0; i < SEO_COUNT_OF(g_pairs); i++) {
        distill_bench *b = distill_bench_open(&g_pairs[i], false, open_cpu, SEO_DTYPE_F32);
        seo_memory_table table = {0};
        distill_ok(
            seo_distill_measure(&b->config, SEO_DTYPE_F32, DISTILL_BATCH, DISTILL_BATCH, &table));
        assert_int_equal(seo_memory_total(&table), b->taken);
        distill_bench_close(b);
    }
}

static void layers(void **state) {
    (void)state;
    static const int64_t six[] = {0, 2, 4, 7, 9, 11};
    for (int i = 0; i < 6; i++) assert_int_equal(seo_teacher_layer(12, 6, i), six[i]);
    static const int64_t three[] = {0, 6, 11};
    for (int i = 0; i < 3; i++) assert_int_equal(seo_teacher_layer(12, 3, i), three[i]);
    for (int i = 0; i < 4; i++) assert_int_equal(seo_teacher_layer(4, 4, i), i);
    assert_int_equal(seo_teacher_layer(12, 1, 0), 0);
    assert_int_equal(seo_teacher_layer(1, 1, 0), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients),
        cmocka_unit_test(losses),
        cmocka_unit_test(measures),
        cmocka_unit_test(layers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
