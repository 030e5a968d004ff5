/* A whole small GPT-2 against transformers' GPT2LMHeadModel in float64: logits, loss, every
 * gradient, twenty AdamW steps. The numbers and the versions they were made with are in
 * tests/golden/gpt2_tiny.h5 (scripts/make_golden.py). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <float.h>
#include <hdf5.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "golden_fixture.h"
#include "kernels/kernels.h"
#include "train/optim.h"

enum { SEQUENCES = 3, STEPS = 20 };

typedef struct golden {
    hid_t file;
    seo_model_config config;
    int32_t *ids; /* STEPS x SEQUENCES x (seq_len + 1) */
} golden;

static void golden_open(golden *g) {
    g->file = golden_file("gpt2_tiny.h5");
    g->config = (seo_model_config){
        .family = SEO_FAMILY_GPT2,
        .num_layers = golden_int(g->file, "num_layers"),
        .num_heads = golden_int(g->file, "num_heads"),
        .hidden_size = golden_int(g->file, "hidden_size"),
        .ffn_hidden_size = 4 * golden_int(g->file, "hidden_size"),
        .seq_len = golden_int(g->file, "seq_len"),
        .vocab_size = golden_int(g->file, "vocab_size"),
        .activation = SEO_GELU_TANH,
        .norm_eps = 1e-5,
    };
    g->ids =
        golden_set(g->file, "ids", H5T_NATIVE_INT32, STEPS * SEQUENCES * (g->config.seq_len + 1));
}

static void golden_close(golden *g) {
    free(g->ids);
    H5Fclose(g->file);
}

typedef struct bench {
    golden golden;
    seo_device *dev;
    seo_model *model;
    void *losses;
    int64_t rows;
} bench;

static void bench_open(bench *b, int32_t threads) {
    golden_open(&b->golden);
    b->rows = SEQUENCES * b->golden.config.seq_len;
    assert_int_equal(seo_device_open_cpu(&(seo_cpu_options){.threads = threads}, &b->dev), SEO_OK);
    const seo_model_args args = {.dev = b->dev,
                                 .config = &b->golden.config,
                                 .mode = SEO_MODEL_TRAIN,
                                 .batch = SEQUENCES,
                                 .seed = 1};
    assert_int_equal(seo_model_open(&args, &b->model), SEO_OK);
    assert_int_equal(seo_device_alloc(b->dev, b->rows * 4, &b->losses), SEO_OK);
    golden_load(b->golden.file, b->model);
}

static void bench_close(bench *b) {
    seo_model_close(b->model);
    seo_device_free(b->dev, b->losses);
    seo_device_close(b->dev);
    golden_close(&b->golden);
}

static seo_pass_args pass_of(const bench *b, int step) {
    const int64_t stride = b->golden.config.seq_len + 1;
    const int32_t *ids = b->golden.ids + step * SEQUENCES * stride;
    return (seo_pass_args){.ids = ids,
                           .targets = ids + 1,
                           .stride = stride,
                           .batch = SEQUENCES,
                           .positions = b->golden.config.seq_len,
                           .losses = seo_tensor_1d(b->losses, SEO_DTYPE_F32, b->rows),
                           .grad_scale = 1.0f / (float)b->rows};
}

static double mean_loss(const bench *b) {
    float *losses = malloc((size_t)b->rows * 4);
    assert_non_null(losses);
    assert_int_equal(seo_device_copy_out(b->dev, losses, b->losses, b->rows * 4), SEO_OK);
    double sum = 0;
    for (int64_t i = 0; i < b->rows; i++) sum += losses[i];
    free(losses);
    return sum / (double)b->rows;
}

static void logits_and_gradients(void **state) {
    (void)state;
    bench b = {0};
    bench_open(&b, 2);
    const int64_t vocab = b.golden.config.vocab_size, count = b.rows * vocab;
    const seo_pass_args pass = pass_of(&b, 0);
    float *logits = malloc((size_t)count * 4),
          *wanted = golden_set(b.golden.file, "logits", H5T_NATIVE_FLOAT, count);
    double *losses = golden_set(b.golden.file, "losses", H5T_NATIVE_DOUBLE, STEPS);
    assert_int_equal(seo_model_forward(b.model, &pass), SEO_OK);
    assert_int_equal(seo_model_logits(b.model, 0, b.rows, logits), SEO_OK);
    golden_assert_close("logits", logits, wanted, count,
                        golden_bound(4.0 * (double)b.golden.config.hidden_size));
    assert_true(fabs(mean_loss(&b) - losses[0]) <= golden_bound(1) * losses[0]);

    assert_int_equal(seo_model_zero_grads(b.model), SEO_OK);
    assert_int_equal(seo_model_forward_backward(b.model, &pass), SEO_OK);
    golden_gradients(b.golden.file, b.model,
                     golden_bound(4.0 * (double)b.golden.config.hidden_size + (double)b.rows));
    free(losses);
    free(wanted);
    free(logits);
    bench_close(&b);
}

/* How far an element may be off after all steps. Adam moves an element by about lr a step whatever
 * its gradient's size, so bounds are in steps of lr. The bias of the keys shifts all scores of a
 * row alike, which softmax does not see: its gradient is zero but for rounding, Adam divides noise
 * by noise, and each step may go either way. */
static double allowed_move(const seo_model_config *config, const char *name, int64_t index,
                           double lr) {
    const bool key_bias = strstr(name, "attn.qkv.bias") && index / config->hidden_size == 1;
    return (key_bias ? 2.0 : 0.02) * lr * STEPS;
}

static void twenty_steps(void **state) {
    (void)state;
    bench b = {0};
    bench_open(&b, 2);
    const hid_t file = b.golden.file;
    const seo_optimizer_config config = {.lr = golden_float(file, "lr"),
                                         .bias_correction = true,
                                         .beta1 = golden_float(file, "beta1"),
                                         .beta2 = golden_float(file, "beta2"),
                                         .eps = golden_float(file, "eps"),
                                         .weight_decay = golden_float(file, "weight_decay"),
                                         .clip = golden_float(file, "clip")};
    seo_optim *optim = NULL;
    assert_int_equal(seo_optim_open(b.model, &config, &optim), SEO_OK);
    double *losses = golden_set(file, "losses", H5T_NATIVE_DOUBLE, STEPS);
    double *norms = golden_set(file, "grad_norms", H5T_NATIVE_DOUBLE, STEPS);
    for (int step = 0; step < STEPS; step++) {
        const seo_pass_args pass = pass_of(&b, step);
        double norm = 0;
        assert_int_equal(seo_model_zero_grads(b.model), SEO_OK);
        assert_int_equal(seo_model_forward_backward(b.model, &pass), SEO_OK);
        assert_int_equal(seo_optim_norm(optim, &norm), SEO_OK);
        const double loss = mean_loss(&b);
        /* Errors of earlier steps live on in the parameters, at most one step's worth each. */
        const double allowed = golden_bound(1) * (step + 1) * 4;
        if (!(fabs(loss - losses[step]) <= allowed * losses[step])) {
            fail_msg("step %d: loss %.9g, golden %.9g", step, loss, losses[step]);
        }
        if (!(fabs(norm - norms[step]) <= 8 * allowed * norms[step])) {
            fail_msg("step %d: norm %.9g, golden %.9g", step, norm, norms[step]);
        }
        assert_int_equal(seo_optim_update(optim, config.lr, step + 1), SEO_OK);
    }
    const seo_params *table = seo_model_table(b.model);
    for (int64_t i = 0; i < table->count; i++) {
        char name[128];
        snprintf(name, sizeof name, "final/%s", table->items[i].name);
        const int64_t elements = seo_param_elements(&table->items[i]);
        float *wanted = golden_set(file, name, H5T_NATIVE_FLOAT, elements),
              *got = malloc((size_t)elements * 4);
        assert_int_equal(seo_model_get_param(b.model, table->items[i].name, got, elements), SEO_OK);
        for (int64_t k = 0; k < elements; k++) {
            const double off = fabs((double)got[k] - wanted[k]);
            if (!(off <= allowed_move(&b.golden.config, table->items[i].name, k, config.lr))) {
                fail_msg("%s[%lld]: %.9g, golden %.9g", name, (long long)k, (double)got[k],
                         (double)wanted[k]);
            }
        }
        free(got);
        free(wanted);
    }
    free(norms);
    free(losses);
    seo_optim_close(optim);
    bench_close(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_and_gradients),
        cmocka_unit_test(twenty_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
