#include "distill_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "tests/support/fill.h"
#include "train/values.h"

void distill_ok(seo_err err) {
    if (err != SEO_OK) fail_msg("%s", seo_err_detail());
}

static seo_model_config model_config(seo_family family, int64_t layers, int64_t width) {
    const bool encoder = seo_family_is_encoder(family);
    return (seo_model_config){.family = family,
                              .num_layers = layers,
                              .num_heads = 2,
                              .hidden_size = width,
                              .ffn_hidden_size = 2 * width,
                              .seq_len = DISTILL_POSITIONS,
                              .vocab_size = DISTILL_VOCAB,
                              .activation = SEO_GELU_ERF,
                              .norm_eps = 1e-5,
                              .type_vocab_size = family == SEO_FAMILY_BERT      ? 2
                                                 : family == SEO_FAMILY_ROBERTA ? 1
                                                                                : 0,
                              .picks = encoder ? DISTILL_PICKS : 0};
}

/* Weights far from their initial values, so that every path carries signal. */
static void enliven(seo_model *model, uint32_t stream) {
    const seo_params *table = seo_model_table(model);
    for (int64_t row = 0; row < table->count; row++) {
        const seo_param *param = &table->items[row];
        const int64_t count = seo_param_elements(param);
        float *values = new_f32(count);
        fill_uniform(values, count, -0.3f, 0.3f, stream + (uint32_t)row);
        for (int64_t i = 0; i < count; i++) values[i] += param->init == SEO_INIT_ONES ? 1.0f : 0.0f;
        to_storage(values, count, SEO_DTYPE_BF16);
        distill_ok(seo_model_set_param(model, param->name, values, count));
        free(values);
    }
}

/* Sequence 1 is padded from position 8 on where the student is bert, which has sentence pairs; one
 * pick of each but the last sequence is none, one target does not count. */
static void fill_inputs(distill_bench *b) {
    fill_ids(b->ids, DISTILL_BATCH * (DISTILL_POSITIONS + 1), DISTILL_VOCAB, 71);
    fill_ids(b->pick_targets, DISTILL_BATCH * DISTILL_PICKS, DISTILL_VOCAB, 72);
    const bool padded = b->config.model.next_sentence;
    for (int64_t r = 0; r < DISTILL_ROWS; r++) {
        const bool padding = padded && r / DISTILL_POSITIONS == 1 && r % DISTILL_POSITIONS >= 8;
        b->types[r] = r % DISTILL_POSITIONS >= 5;
        b->spans[2 * r] = padding ? 8 : 0;
        b->spans[2 * r + 1] =
            padded && r / DISTILL_POSITIONS == 1 && !padding ? 8 : DISTILL_POSITIONS;
    }
    for (int64_t i = 0; i < DISTILL_BATCH * DISTILL_PICKS; i++) {
        const bool none =
            i % DISTILL_PICKS == DISTILL_PICKS - 1 && i / DISTILL_PICKS < DISTILL_BATCH - 1;
        b->picks[i] = none ? -1 : (int32_t)(i % DISTILL_PICKS * 2 + 1);
        if (none) b->pick_targets[i] = SEO_TARGET_IGNORE;
    }
    b->targets = seo_family_is_encoder(b->p->student)
                     ? DISTILL_BATCH * DISTILL_PICKS - (DISTILL_BATCH - 1)
                     : DISTILL_ROWS;
}

static void open_model(distill_bench *b, const seo_model_config *config, seo_model_mode mode,
                       seo_dtype storage, seo_model **out) {
    distill_ok(seo_model_open(&(seo_model_args){.dev = b->dev,
                                                .config = config,
                                                .mode = mode,
                                                .batch = DISTILL_BATCH,
                                                .seed = 5,
                                                .storage = storage},
                              out));
}

distill_bench *distill_bench_open(const distill_pair *p, bool next_sentence,
                                  distill_device_opener *open, seo_dtype storage) {
    distill_bench *b = calloc(1, sizeof *b);
    assert_non_null(b);
    b->p = p;
    b->teacher_config = model_config(p->teacher, 2, p->teacher_width);
    b->config.model = model_config(p->student, 1, p->student_width);
    b->config.model.next_sentence = next_sentence;
    const bool other = p->teacher_width != p->student_width && p->cosine > 0;
    b->config.model.distill_width = other ? p->teacher_width : 0;
    b->config.train.micro_batch = DISTILL_BATCH;
    b->config.distill = (seo_distill_config){
        .temperature = 2.5, .soft = p->soft, .hard = p->hard, .cosine = p->cosine};
    distill_ok(open(&b->dev));
    open_model(b, &b->teacher_config, SEO_MODEL_EVAL, storage, &b->teacher);
    open_model(b, &b->config.model, SEO_MODEL_TRAIN, storage, &b->student);
    enliven(b->teacher, 1000);
    enliven(b->student, 2000);
    fill_inputs(b);
    b->taken = -seo_device_bytes(b->dev);
    distill_ok(seo_distill_open(&(seo_distill_args){.config = &b->config,
                                                    .student = b->student,
                                                    .teacher = b->teacher,
                                                    .sequences = DISTILL_BATCH},
                                &b->distill));
    b->taken += seo_device_bytes(b->dev);
    return b;
}

void distill_bench_close(distill_bench *b) {
    seo_distill_close(b->distill);
    seo_model_close(b->student);
    seo_model_close(b->teacher);
    seo_device_close(b->dev);
    free(b);
}

seo_pass_args distill_pass_of(const distill_bench *b, const seo_model *model) {
    const bool encoder = seo_family_is_encoder(b->p->student);
    const bool typed = seo_model_config_of(model)->type_vocab_size == 2;
    seo_pass_args pass = {.ids = b->ids,
                          .stride = DISTILL_POSITIONS + 1,
                          .types = typed ? b->types : NULL,
                          .spans = b->config.model.next_sentence ? b->spans : NULL,
                          .batch = DISTILL_BATCH,
                          .positions = DISTILL_POSITIONS,
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

/* The loss that is trained, of a forward with its backward. */
distill_total distill_student_pass(distill_bench *b) {
    static const int32_t labels[DISTILL_BATCH] = {SEO_TARGET_IGNORE, SEO_TARGET_IGNORE,
                                                  SEO_TARGET_IGNORE};
    seo_pass_args pass = distill_pass_of(b, b->student);
    seo_distill_sums parts[DISTILL_BATCH];
    float losses[DISTILL_ROWS];
    distill_total out = {0};
    if (b->config.model.next_sentence) pass.labels = labels;
    distill_ok(seo_distill_pass(b->distill, 0, DISTILL_BATCH, &pass));
    distill_ok(seo_model_forward_backward(b->student, &pass));
    distill_ok(seo_distill_passed(b->distill));
    distill_ok(seo_distill_read(b->distill, DISTILL_BATCH, parts));
    distill_ok(seo_values_read(b->dev, &pass.losses, losses));
    for (int64_t i = 0; i < seo_tensor_count(&pass.losses); i++) out.tokens += (double)losses[i];
    for (int64_t s = 0; s < DISTILL_BATCH; s++) {
        out.hard += parts[s].hard;
        out.cosine += parts[s].cosine;
    }
    out.loss = out.tokens / (double)b->targets + out.cosine / DISTILL_BATCH;
    return out;
}
