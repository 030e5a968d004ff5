/* Small models of the other families against transformers' own classes in float64: logits, losses,
 * every gradient. The numbers and the versions they were made with are in tests/golden/
 * (scripts/make_golden.py). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>

#include "base/check.h"
#include "golden_fixture.h"
#include "kernels/kernels.h"

static void ok(seo_err err) {
    if (err != SEO_OK) fail_msg("%s", seo_err_detail());
}

/* A golden file and the model that it is of. */
typedef struct bench {
    hid_t file;
    seo_model_config config;
    int64_t batch, positions, width, vocab;
    seo_device *dev;
    seo_model *model;
} bench;

static void bench_open(bench *b, const char *name, seo_family family, int64_t batch,
                       seo_recompute recompute) {
    b->file = golden_file(name);
    b->config = (seo_model_config){
        .family = family,
        .num_layers = golden_int(b->file, "num_layers"),
        .num_heads = golden_int(b->file, "num_heads"),
        .hidden_size = golden_int(b->file, "hidden_size"),
        .ffn_hidden_size = golden_int(b->file, "ffn_hidden_size"),
        .seq_len = golden_int(b->file, "seq_len"),
        .vocab_size = golden_int(b->file, "vocab_size"),
        .activation = golden_is(b->file, "activation", "gelu_erf") ? SEO_GELU_ERF : SEO_GELU_TANH,
        .norm_eps = golden_float(b->file, "norm_eps")};
    if (seo_family_is_encoder(family)) {
        b->config.type_vocab_size = golden_int(b->file, "type_vocab_size");
        b->config.next_sentence = golden_int(b->file, "next_sentence") != 0;
        b->config.picks = golden_int(b->file, "pick_count") / batch;
    }
    b->batch = batch;
    b->positions = b->config.seq_len;
    b->width = b->config.hidden_size;
    b->vocab = b->config.vocab_size;
    ok(seo_device_open_cpu(&(seo_cpu_options){.threads = 2}, &b->dev));
    ok(seo_model_open(&(seo_model_args){.dev = b->dev,
                                        .config = &b->config,
                                        .mode = SEO_MODEL_TRAIN,
                                        .batch = batch,
                                        .seed = 1,
                                        .recompute = recompute},
                      &b->model));
    golden_load(b->file, b->model);
}

static void bench_close(bench *b) {
    seo_model_close(b->model);
    seo_device_close(b->dev);
    H5Fclose(b->file);
}

static void check_logits(bench *b, int64_t rows) {
    const int64_t count = rows * b->vocab;
    float *got = malloc((size_t)count * sizeof *got),
          *wanted = golden_set(b->file, "logits", H5T_NATIVE_FLOAT, count);
    ok(seo_model_logits(b->model, 0, rows, got));
    golden_assert_close("logits", got, wanted, count, golden_bound(4.0 * (double)b->width));
    free(wanted);
    free(got);
}

static double mean(const seo_tensor *losses) {
    const float *values = losses->data;
    const int64_t count = seo_tensor_count(losses);
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += (double)values[i];
    return sum / (double)count;
}

static void check_mean(const char *name, const seo_tensor *losses, double wanted) {
    const double got = mean(losses);
    if (!(fabs(got - wanted) <= golden_bound(1) * wanted)) {
        fail_msg("%s: %.9g, golden %.9g", name, got, wanted);
    }
}

static double gradient_bound(const bench *b) {
    return golden_bound(4.0 * (double)b->width + (double)(b->batch * b->positions));
}

static void gpt1(void **state) {
    enum { SEQUENCES = 3 };
    bench b;
    bench_open(&b, "gpt1_tiny.h5", SEO_FAMILY_GPT1, SEQUENCES, *(seo_recompute *)*state);
    const int64_t rows = SEQUENCES * b.positions;
    int32_t *ids = golden_set(b.file, "ids", H5T_NATIVE_INT32, rows + SEQUENCES);
    double *loss = golden_set(b.file, "losses", H5T_NATIVE_DOUBLE, 1);
    const seo_pass_args pass = {.ids = ids,
                                .targets = ids + 1,
                                .stride = b.positions + 1,
                                .batch = SEQUENCES,
                                .positions = b.positions,
                                .losses = seo_model_losses(b.model),
                                .grad_scale = 1.0f / (float)rows};
    ok(seo_model_forward(b.model, &pass));
    check_logits(&b, rows);
    ok(seo_model_forward_backward(b.model, &pass));
    check_mean("loss", &pass.losses, loss[0]);
    golden_gradients(b.file, b.model, gradient_bound(&b));
    free(loss);
    free(ids);
    bench_close(&b);
}

/* What an encoder reads. The file counts picks over the whole batch, a pass in their sequence. */
typedef struct encoder_inputs {
    int32_t *ids, *types, *spans, *picks, *pick_targets, *labels;
} encoder_inputs;

static void read_inputs(const bench *b, encoder_inputs *in) {
    const int64_t rows = b->batch * b->positions, picks = b->batch * b->config.picks;
    in->ids = golden_set(b->file, "ids", H5T_NATIVE_INT32, rows);
    in->types = golden_set(b->file, "types", H5T_NATIVE_INT32, rows);
    in->spans = golden_set(b->file, "spans", H5T_NATIVE_INT32, 2 * rows);
    in->picks = golden_set(b->file, "picks", H5T_NATIVE_INT32, picks);
    in->pick_targets = golden_set(b->file, "pick_targets", H5T_NATIVE_INT32, picks);
    in->labels = golden_set(b->file, "labels", H5T_NATIVE_INT32, b->batch);
    for (int64_t i = 0; i < picks; i++) {
        assert_int_equal(in->picks[i] / b->positions, i / b->config.picks);
        in->picks[i] %= (int32_t)b->positions;
    }
}

static void free_inputs(encoder_inputs *in) {
    free(in->ids);
    free(in->types);
    free(in->spans);
    free(in->picks);
    free(in->pick_targets);
    free(in->labels);
}

/* The last hidden states of real tokens; at padding the file has zeros. */
static void check_hidden(const bench *b, const encoder_inputs *in) {
    const int64_t rows = b->batch * b->positions, count = rows * b->width;
    float *wanted = golden_set(b->file, "hidden", H5T_NATIVE_FLOAT, count);
    float *got = malloc((size_t)count * sizeof *got);
    const seo_tensor hidden = seo_model_hidden(b->model);
    assert_int_equal(seo_tensor_count(&hidden), count);
    for (int64_t i = 0; i < count; i++) {
        const bool real = in->spans[i / b->width * 2] == 0;
        got[i] = real ? ((const float *)hidden.data)[i] : 0.0f;
    }
    golden_assert_close("hidden", got, wanted, count, golden_bound(4.0 * (double)b->width));
    free(got);
    free(wanted);
}

static void check_label_logits(bench *b) {
    float *wanted = golden_set(b->file, "next_logits", H5T_NATIVE_FLOAT, 2 * b->batch);
    float *got = malloc((size_t)(2 * b->batch) * sizeof *got);
    ok(seo_model_label_logits(b->model, got));
    golden_assert_close("next_logits", got, wanted, 2 * b->batch,
                        golden_bound(4.0 * (double)b->width));
    free(got);
    free(wanted);
}

typedef struct encoder_case {
    const char *file;
    seo_family family;
    seo_recompute recompute;
} encoder_case;

static void encoder(void **state) {
    enum { SEQUENCES = 3 };
    const encoder_case *c = *state;
    bench b;
    encoder_inputs in;
    bench_open(&b, c->file, c->family, SEQUENCES, c->recompute);
    read_inputs(&b, &in);
    const int64_t picks = SEQUENCES * b.config.picks;
    const bool next = b.config.next_sentence;
    const seo_pass_args pass = {.ids = in.ids,
                                .stride = b.positions,
                                .types = in.types,
                                .spans = in.spans,
                                .picks = in.picks,
                                .pick_targets = in.pick_targets,
                                .labels = next ? in.labels : NULL,
                                .batch = SEQUENCES,
                                .positions = b.positions,
                                .losses = seo_model_losses(b.model),
                                .label_losses = seo_model_label_losses(b.model),
                                .grad_scale = 1.0f / (float)picks,
                                .label_scale = 1.0f / SEQUENCES};
    ok(seo_model_forward(b.model, &pass));
    check_logits(&b, picks);
    check_hidden(&b, &in);
    if (next) check_label_logits(&b);
    ok(seo_model_forward_backward(b.model, &pass));
    check_mean("masked", &pass.losses, golden_float(b.file, "loss_masked"));
    if (next) check_mean("next", &pass.label_losses, golden_float(b.file, "loss_next"));
    golden_gradients(b.file, b.model, gradient_bound(&b));
    free_inputs(&in);
    bench_close(&b);
}

int main(void) {
    seo_recompute none = SEO_RECOMPUTE_NONE, full = SEO_RECOMPUTE_FULL;
    encoder_case bert = {"bert_tiny.h5", SEO_FAMILY_BERT, SEO_RECOMPUTE_NONE};
    encoder_case bert_again = {"bert_tiny.h5", SEO_FAMILY_BERT, SEO_RECOMPUTE_SELECTIVE};
    encoder_case roberta = {"roberta_tiny.h5", SEO_FAMILY_ROBERTA, SEO_RECOMPUTE_NONE};
    encoder_case distilbert = {"distilbert_tiny.h5", SEO_FAMILY_DISTILBERT, SEO_RECOMPUTE_NONE};
    const struct CMUnitTest tests[] = {cmocka_unit_test_prestate(gpt1, &none),
                                       cmocka_unit_test_prestate(gpt1, &full),
                                       cmocka_unit_test_prestate(encoder, &bert),
                                       cmocka_unit_test_prestate(encoder, &bert_again),
                                       cmocka_unit_test_prestate(encoder, &roberta),
                                       cmocka_unit_test_prestate(encoder, &distilbert)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
