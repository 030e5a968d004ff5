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
#include "base/rng.h"
#include "tests/support/fill.h"
#include "train/distill.h"
#include "train/teacher.h"
#include "train/values.h"

enum { BATCH = 3, POSITIONS = 12, PICKS = 4, VOCAB = 37, ROWS = BATCH * POSITIONS };

/* Which student learns from which teacher. */
typedef struct pair {
    const char *what;
    seo_family teacher, student;
    int64_t teacher_width, student_width;
    double soft, hard, cosine;
} pair;

static const pair g_pairs[] = {
    {"bert, distilbert", SEO_FAMILY_BERT, SEO_FAMILY_DISTILBERT, 24, 24, 5, 2, 1},
    {"bert, narrower bert", SEO_FAMILY_BERT, SEO_FAMILY_BERT, 24, 16, 1, 1, 3},
    {"roberta, wider roberta", SEO_FAMILY_ROBERTA, SEO_FAMILY_ROBERTA, 16, 24, 2, 0, 2},
    {"gpt2, gpt2", SEO_FAMILY_GPT2, SEO_FAMILY_GPT2, 24, 24, 2, 1, 1},
    {"gpt2, narrower gpt2", SEO_FAMILY_GPT2, SEO_FAMILY_GPT2, 24, 16, 1, 1, 2},
    {"without the hidden states", SEO_FAMILY_BERT, SEO_FAMILY_DISTILBERT, 24, 16, 5, 2, 0},
};

static void ok(seo_err err) {
    if (err != SEO_OK) fail_msg("%s", seo_err_detail());
}

static seo_model_config model_config(seo_family family, int64_t layers, int64_t width) {
    const bool encoder = seo_family_is_encoder(family);
    return (seo_model_config){.family = family,
                              .num_layers = layers,
                              .num_heads = 2,
                              .hidden_size = width,
                              .ffn_hidden_size = 2 * width,
                              .seq_len = POSITIONS,
                              .vocab_size = VOCAB,
                              .activation = SEO_GELU_ERF,
                              .norm_eps = 1e-5,
                              .type_vocab_size = family == SEO_FAMILY_BERT      ? 2
                                                 : family == SEO_FAMILY_ROBERTA ? 1
                                                                                : 0,
                              .picks = encoder ? PICKS : 0};
}

typedef struct bench {
    const pair *p;
    seo_config config; /* the student's */
    seo_model_config teacher_config;
    seo_device *dev;
    seo_model *teacher, *student;
    seo_distill *distill;
    int32_t ids[BATCH * (POSITIONS + 1)], types[ROWS], spans[2 * ROWS];
    int32_t picks[BATCH * PICKS], pick_targets[BATCH * PICKS];
    int64_t targets; /* that count */
} bench;

/* Weights far from their initial values, so that every path carries signal. */
static void enliven(seo_model *model, uint32_t stream) {
    seo_param_set *weights = seo_model_weights(model);
    for (int64_t row = 0; row < weights->count; row++) {
        const int64_t count = seo_tensor_count(&weights->tensors[row]);
        float *noise = new_f32(count), *values = weights->tensors[row].data;
        fill_uniform(noise, count, -0.3f, 0.3f, stream + (uint32_t)row);
        for (int64_t i = 0; i < count; i++) values[i] += noise[i];
        free(noise);
    }
}

/* Sequence 1 is padded from position 8 on where the student is bert, which has sentence pairs; one
 * pick of each but the last sequence is none, one target does not count. */
static void fill_inputs(bench *b) {
    fill_ids(b->ids, BATCH * (POSITIONS + 1), VOCAB, 71);
    fill_ids(b->pick_targets, BATCH * PICKS, VOCAB, 72);
    const bool padded = b->config.model.next_sentence;
    for (int64_t r = 0; r < ROWS; r++) {
        const bool padding = padded && r / POSITIONS == 1 && r % POSITIONS >= 8;
        b->types[r] = r % POSITIONS >= 5;
        b->spans[2 * r] = padding ? 8 : 0;
        b->spans[2 * r + 1] = padded && r / POSITIONS == 1 && !padding ? 8 : POSITIONS;
    }
    for (int64_t i = 0; i < BATCH * PICKS; i++) {
        const bool none = i % PICKS == PICKS - 1 && i / PICKS < BATCH - 1;
        b->picks[i] = none ? -1 : (int32_t)(i % PICKS * 2 + 1);
        if (none) b->pick_targets[i] = SEO_TARGET_IGNORE;
    }
    b->targets = seo_family_is_encoder(b->p->student) ? BATCH * PICKS - (BATCH - 1) : ROWS;
}

static void open_model(bench *b, const seo_model_config *config, seo_model_mode mode,
                       seo_model **out) {
    ok(seo_model_open(
        &(seo_model_args){.dev = b->dev, .config = config, .mode = mode, .batch = BATCH, .seed = 5},
        out));
}

static bench *bench_open(const pair *p, bool next_sentence) {
    bench *b = calloc(1, sizeof *b);
    assert_non_null(b);
    b->p = p;
    b->teacher_config = model_config(p->teacher, 2, p->teacher_width);
    b->config.model = model_config(p->student, 1, p->student_width);
    b->config.model.next_sentence = next_sentence;
    const bool other = p->teacher_width != p->student_width && p->cosine > 0;
    b->config.model.distill_width = other ? p->teacher_width : 0;
    b->config.train.micro_batch = BATCH;
    b->config.distill = (seo_distill_config){
        .temperature = 2.5, .soft = p->soft, .hard = p->hard, .cosine = p->cosine};
    ok(seo_device_open_cpu(&(seo_cpu_options){.threads = 1}, &b->dev));
    open_model(b, &b->teacher_config, SEO_MODEL_EVAL, &b->teacher);
    open_model(b, &b->config.model, SEO_MODEL_TRAIN, &b->student);
    enliven(b->teacher, 1000);
    enliven(b->student, 2000);
    fill_inputs(b);
    ok(seo_distill_open(
        &(seo_distill_args){
            .config = &b->config, .student = b->student, .teacher = b->teacher, .sequences = BATCH},
        &b->distill));
    return b;
}

static void bench_close(bench *b) {
    seo_distill_close(b->distill);
    seo_model_close(b->student);
    seo_model_close(b->teacher);
    seo_device_close(b->dev);
    free(b);
}

static seo_pass_args pass_of(const bench *b, const seo_model *model) {
    const bool encoder = seo_family_is_encoder(b->p->student);
    const bool typed = seo_model_config_of(model)->type_vocab_size == 2;
    seo_pass_args pass = {.ids = b->ids,
                          .stride = POSITIONS + 1,
                          .types = typed ? b->types : NULL,
                          .spans = encoder ? b->spans : NULL,
                          .batch = BATCH,
                          .positions = POSITIONS,
                          .losses = seo_model_losses(model),
                          .label_losses = seo_model_label_losses(model),
                          .grad_scale = 1.0f / (float)b->targets};
    if (encoder) {
        pass.picks = b->picks;
        pass.pick_targets = b->pick_targets;
    } else {
        pass.targets = b->ids + 1;
    }
    return pass;
}

/* Sums of the tokens' losses of the last pass, of the hard ones, and of the cosines. */
typedef struct sums {
    double tokens, hard, cosine, loss;
} sums;

/* The loss that is trained, of a forward with its backward. */
static sums student_pass(bench *b) {
    static const int32_t labels[BATCH] = {SEO_TARGET_IGNORE, SEO_TARGET_IGNORE, SEO_TARGET_IGNORE};
    seo_pass_args pass = pass_of(b, b->student);
    seo_distill_sums parts[BATCH];
    float losses[ROWS];
    sums out = {0};
    if (b->config.model.next_sentence) pass.labels = labels;
    ok(seo_distill_pass(b->distill, 0, BATCH, &pass));
    ok(seo_model_forward_backward(b->student, &pass));
    ok(seo_distill_passed(b->distill));
    ok(seo_distill_read(b->distill, BATCH, parts));
    ok(seo_values_read(b->dev, &pass.losses, losses));
    for (int64_t i = 0; i < seo_tensor_count(&pass.losses); i++) out.tokens += (double)losses[i];
    for (int64_t s = 0; s < BATCH; s++) {
        out.hard += parts[s].hard;
        out.cosine += parts[s].cosine;
    }
    out.loss = out.tokens / (double)b->targets + out.cosine / BATCH;
    return out;
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

static double loss_at(bench *b, float *values, const float *base, const float *direction,
                      int64_t count, double step) {
    for (int64_t i = 0; i < count; i++) values[i] = base[i] + (float)(step * (double)direction[i]);
    return student_pass(b).loss;
}

/* One row of the table: central differences against the sum of gradient times direction. */
static void check_row(bench *b, int64_t row, const seo_tensor *gradient) {
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

static void check_gradients(const pair *p, bool next_sentence) {
    bench *b = bench_open(p, next_sentence);
    seo_param_set *grads = seo_model_grads(b->student);
    ok(seo_model_zero_grads(b->student));
    (void)student_pass(b);
    for (int64_t row = 0; row < grads->count; row++) {
        seo_tensor kept = grads->tensors[row];
        float *copy = new_f32(seo_tensor_count(&kept));
        ok(seo_model_zero_grads(b->student));
        (void)student_pass(b);
        memcpy(copy, kept.data, (size_t)seo_tensor_bytes(&kept));
        kept.data = copy;
        check_row(b, row, &kept);
        free(copy);
    }
    const int64_t projection = seo_params_find(seo_model_table(b->student), "distill.proj.weight");
    assert_int_equal(projection >= 0, b->config.model.distill_width > 0);
    bench_close(b);
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
        for (int v = 0; v < VOCAB; v++) tops[m] = fmax(tops[m], (double)x[m][v] / temperature);
        for (int v = 0; v < VOCAB; v++) totals[m] += exp((double)x[m][v] / temperature - tops[m]);
    }
    for (int v = 0; v < VOCAB; v++) {
        const double s = (double)student[v] / temperature - tops[0] - log(totals[0]);
        const double t = (double)teacher[v] / temperature - tops[1] - log(totals[1]);
        loss += exp(t) * (t - s);
    }
    return temperature * temperature * loss;
}

static void check_losses(const pair *p) {
    bench *b = bench_open(p, false);
    float logits[2][ROWS * VOCAB], hidden[2][ROWS * 24], plain[ROWS];
    const bool encoder = seo_family_is_encoder(p->student);
    const int64_t rows = encoder ? BATCH * PICKS : ROWS, width = p->student_width;
    seo_model *models[2] = {b->student, b->teacher};
    const sums got = student_pass(b);
    for (int m = 0; m < 2; m++) {
        /* Token types are those that the student has: without them the teacher reads type 0. */
        seo_pass_args pass = pass_of(b, b->student);
        pass.losses = seo_model_losses(models[m]);
        ok(seo_model_forward(models[m], &pass));
        ok(seo_model_logits(models[m], 0, rows, logits[m]));
        const seo_tensor h = seo_model_hidden(models[m]);
        assert_int_equal(seo_tensor_count(&h), ROWS * (m ? p->teacher_width : width));
        ok(seo_values_read(b->dev, &h, hidden[m]));
        if (m == 0) ok(seo_values_read(b->dev, &pass.losses, plain));
    }
    double hard = 0, soft = 0, cosine = 0;
    for (int64_t r = 0; r < rows; r++) {
        if (encoder && b->picks[r] < 0) continue;
        hard += (double)plain[r];
        soft += soft_loss(logits[0] + r * VOCAB, logits[1] + r * VOCAB, 2.5);
    }
    for (int64_t r = 0; r < ROWS; r++) {
        double ab = 0, aa = 0, bb = 0;
        for (int64_t c = 0; c < width; c++) {
            const double x = (double)hidden[0][r * width + c], y = (double)hidden[1][r * width + c];
            ab += x * y;
            aa += x * x;
            bb += y * y;
        }
        cosine += p->cosine * (1 - ab / sqrt(aa * bb)) / POSITIONS;
    }
    /* Sums of some dozens of f32 losses, each right to a few hundred roundings of its parts. */
    const double each = 1e-4;
    assert_true(fabs(got.hard - hard) <= each * (1 + hard));
    assert_true(fabs(got.tokens - (p->hard * hard + p->soft * soft)) <=
                each * (1 + p->hard * hard + p->soft * soft));
    assert_true(fabs(got.cosine - cosine) <= each * (1 + cosine));
    bench_close(b);
}

static void losses(void **state) {
    (void)state;
    check_losses(&g_pairs[0]);
    check_losses(&g_pairs[3]);
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
        cmocka_unit_test(layers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
