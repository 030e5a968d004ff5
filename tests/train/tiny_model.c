#include "tiny_model.h"

#include "base/check.h"
#include "base/rng.h"

seo_model_config tiny_config(double dropout) {
    return (seo_model_config){.family = SEO_FAMILY_GPT2,
                              .num_layers = 3,
                              .num_heads = 3,
                              .hidden_size = TINY_WIDTH,
                              .ffn_hidden_size = 4 * TINY_WIDTH,
                              .seq_len = TINY_POSITIONS,
                              .vocab_size = TINY_VOCAB,
                              .activation = SEO_GELU_TANH,
                              .dropout = dropout,
                              .norm_eps = 1e-5};
}

void tiny_open(tiny_model *t, const seo_model_config *config, seo_model_mode mode,
               int32_t threads) {
    seo_err err = seo_device_open_cpu(&(seo_cpu_options){.threads = threads}, &t->dev);
    SEO_ASSERT(err == SEO_OK);
    const seo_model_args args = {.dev = t->dev,
                                 .config = config,
                                 .mode = mode,
                                 .batch = mode == SEO_MODEL_GENERATE ? 1 : TINY_BATCH,
                                 .seed = 11};
    err = seo_model_open(&args, &t->model);
    SEO_ASSERT(err == SEO_OK);
    t->losses = seo_model_losses(t->model);
}

void tiny_close(tiny_model *t) {
    seo_model_close(t->model);
    seo_device_close(t->dev);
}

void tiny_tokens(int32_t *tokens, int64_t rows, uint32_t salt) {
    const seo_rng_key key = {.seed = salt, .purpose = SEO_PURPOSE_TEST};
    for (int64_t i = 0; i < rows * (TINY_POSITIONS + 1); i++) {
        tokens[i] = (int32_t)(seo_rng_u32(key, (uint64_t)i) % TINY_VOCAB);
    }
}

seo_pass_args tiny_pass(const tiny_model *t, const int32_t *tokens, int64_t rows, int64_t of_rows) {
    const int64_t count = rows * TINY_POSITIONS;
    return (seo_pass_args){.ids = tokens,
                           .targets = tokens + 1,
                           .stride = TINY_POSITIONS + 1,
                           .batch = rows,
                           .positions = TINY_POSITIONS,
                           .losses = seo_tensor_1d(t->losses.data, SEO_DTYPE_F32, count),
                           .grad_scale = 1.0f / (float)(of_rows * TINY_POSITIONS),
                           .dropout = true};
}

double tiny_loss(const tiny_model *t, int64_t rows) {
    float losses[TINY_BATCH * TINY_POSITIONS];
    const seo_err err = seo_device_copy_out(t->dev, losses, t->losses.data,
                                            rows * TINY_POSITIONS * (int64_t)sizeof *losses);
    SEO_ASSERT(err == SEO_OK && rows <= TINY_BATCH);
    double sum = 0;
    for (int64_t i = 0; i < rows * TINY_POSITIONS; i++) sum += (double)losses[i];
    return sum;
}
