/* Evaluation of encoders: the picks of rows that do not depend on the run, each scored once. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "rows_fixture.h"
#include "train/eval.h"

enum { SEQ = 24, BATCH = 3, PICKS = 4 };

typedef struct bench {
    rows_world world;
    seo_data_config data;
    seo_device *dev;
    seo_model *model;
} bench;

static void ok(seo_err err) {
    if (err != SEO_OK) fail_msg("%s", seo_err_detail());
}

static void open_model(bench *b, seo_family family, int64_t batch, uint64_t seed) {
    const seo_model_config config = {.family = family,
                                     .num_layers = 2,
                                     .num_heads = 2,
                                     .hidden_size = 16,
                                     .ffn_hidden_size = 64,
                                     .seq_len = SEQ,
                                     .vocab_size = seo_tokenizer_vocab_size(b->world.tok),
                                     .activation = SEO_GELU_ERF,
                                     .norm_eps = 1e-5,
                                     .type_vocab_size = family == SEO_FAMILY_BERT ? 2 : 1,
                                     .next_sentence = family == SEO_FAMILY_BERT,
                                     .picks = PICKS};
    ok(seo_device_open_cpu(&(seo_cpu_options){.threads = 2}, &b->dev));
    ok(seo_model_open(
        &(seo_model_args){
            .dev = b->dev, .config = &config, .mode = SEO_MODEL_EVAL, .batch = batch, .seed = seed},
        &b->model));
    b->data =
        (seo_data_config){.mask_fraction = 0.15, .max_predictions = PICKS, .short_sequences = 0.1};
}

static void close_model(bench *b) {
    seo_model_close(b->model);
    seo_device_close(b->dev);
}

static seo_eval_result evaluate(bench *b, int64_t batch, int64_t tokens_max) {
    seo_eval_result r;
    ok(seo_eval(&(seo_eval_args){.model = b->model,
                                 .batch = batch,
                                 .datasets = &b->world.ds,
                                 .dataset_count = 1,
                                 .data = &b->data,
                                 .tokenizer = b->world.tok,
                                 .tokens_max = tokens_max},
                &r));
    return r;
}

static void set_param(bench *b, const char *name, int64_t count, float value) {
    float *values = calloc((size_t)count, sizeof *values);
    for (int64_t i = 0; i < count; i++) values[i] = value;
    ok(seo_model_set_param(b->model, name, values, count));
    free(values);
}

/* Rows and their picks, counted without the evaluation; how many masked ones there are
 * depends on no seed. */
static int64_t count_picks(const bench *b, seo_objective objective, int64_t *rows_out) {
    int64_t picks = 0;
    seo_rows *rows = rows_open((seo_rows_args){.objective = objective,
                                               .datasets = &b->world.ds,
                                               .dataset_count = 1,
                                               .tokenizer = b->world.tok,
                                               .seq_len = SEQ,
                                               .seed = 99,
                                               .mask_fraction = 0.15,
                                               .max_predictions = PICKS,
                                               .short_sequences = 0.1});
    *rows_out = seo_rows_count(rows, 0);
    for (int64_t w = 0; w < *rows_out; w++) {
        int64_t targets = 0;
        ok(seo_rows_targets(rows, (seo_order_place){.window = w}, &targets));
        picks += targets;
    }
    seo_rows_close(rows);
    return picks;
}

/* Equal logits: ln V for each masked token, and each of them once. */
static void masked(void **state) {
    (void)state;
    bench b = {0};
    int64_t rows = 0;
    rows_world_open(&b.world, (rows_text){.documents = 40, .least = 20, .most = 90, .stop = 9});
    open_model(&b, SEO_FAMILY_ROBERTA, BATCH, 7);
    set_param(&b, "wte", VOCAB * 16, 0);
    seo_eval_result r = evaluate(&b, BATCH, 0);
    assert_int_equal(r.tokens, count_picks(&b, SEO_OBJECTIVE_MASKED, &rows));
    assert_int_equal(r.windows, rows);
    assert_true(r.masked && !r.labelled && isnan(r.bits_per_byte));
    assert_int_equal(r.bytes, 0);
    assert_int_equal(r.source_count, 1);
    assert_int_equal(r.sources[0].tokens, r.tokens);
    assert_true(fabs(r.loss - log(VOCAB)) < 1e-6); /* f32 losses near 5.6 */
    seo_eval_free(&r);
    close_model(&b);
    rows_world_close(&b.world);
}

/* A part of the split is a part of its rows; twice the same is the same; another batch differs by
 * no more than rounding, another model by more. */
static void compares(void **state) {
    (void)state;
    bench b = {0};
    rows_world_open(&b.world, (rows_text){.documents = 40, .least = 20, .most = 90, .stop = 9});
    open_model(&b, SEO_FAMILY_ROBERTA, BATCH, 7);
    seo_eval_result all = evaluate(&b, BATCH, 0), again = evaluate(&b, BATCH, 0);
    seo_eval_result one = evaluate(&b, 1, 0), part = evaluate(&b, BATCH, b.world.count / 4);
    assert_true(all.loss == again.loss && all.tokens == again.tokens);
    assert_int_equal(one.tokens, all.tokens);
    assert_true(fabs(one.loss - all.loss) < 1e-5);
    assert_true(part.windows >= all.windows / 5 && part.windows <= all.windows / 3);
    close_model(&b);
    open_model(&b, SEO_FAMILY_ROBERTA, BATCH, 8);
    seo_eval_result other = evaluate(&b, BATCH, 0);
    assert_int_equal(other.tokens, all.tokens);
    assert_true(fabs(other.loss - all.loss) > 1e-4);
    seo_eval_free(&all);
    seo_eval_free(&again);
    seo_eval_free(&one);
    seo_eval_free(&part);
    seo_eval_free(&other);
    close_model(&b);
    rows_world_close(&b.world);
}

/* A head that always says the same is right about half of the pairs, and about the others when it
 * says the opposite. */
static void sentences(void **state) {
    (void)state;
    bench b = {0};
    int64_t rows = 0;
    rows_world_open_wordpiece(&b.world, SEO_SOURCE_DIR "/tests/golden/tokenizer_small.txt", 40);
    open_model(&b, SEO_FAMILY_BERT, BATCH, 7);
    set_param(&b, "next.weight", 2 * 16, 0);
    set_param(&b, "next.bias", 2, 0);
    seo_eval_result equal = evaluate(&b, BATCH, 0);
    assert_true(equal.masked && equal.labelled);
    assert_true(fabs(equal.label_loss - log(2)) < 1e-6);
    /* A pair's length is drawn, and with it how many of its tokens are picked. */
    (void)count_picks(&b, SEO_OBJECTIVE_SENTENCE_PAIRS, &rows);
    assert_int_equal(equal.windows, rows);
    assert_true(equal.tokens >= rows && equal.tokens <= rows * PICKS);
    /* Five standard deviations of a fair coin. */
    assert_true(fabs(equal.label_accuracy - 0.5) < 2.5 / sqrt((double)rows));
    const float says_random[] = {0, 3};
    ok(seo_model_set_param(b.model, "next.bias", says_random, 2));
    seo_eval_result random = evaluate(&b, BATCH, 0);
    assert_true(fabs(random.label_accuracy + equal.label_accuracy - 1) < 1e-12);
    assert_true(random.loss == equal.loss);
    seo_eval_free(&equal);
    seo_eval_free(&random);
    close_model(&b);
    rows_world_close(&b.world);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(masked), cmocka_unit_test(compares),
                                       cmocka_unit_test(sentences)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
