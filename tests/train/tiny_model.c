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

const tiny_case tiny_cases[TINY_CASES] = {
    {.name = "gpt1", .family = SEO_FAMILY_GPT1},
    {.name = "gpt2", .family = SEO_FAMILY_GPT2},
    {.name = "gpt3", .family = SEO_FAMILY_GPT3},
    {.name = "bert", .family = SEO_FAMILY_BERT, .spans = true},
    {.name = "roberta", .family = SEO_FAMILY_ROBERTA, .spans = true},
    {.name = "distilbert", .family = SEO_FAMILY_DISTILBERT},
    {.name = "gpt3, documents", .family = SEO_FAMILY_GPT3, .spans = true},
    {.name = "gpt1, classes", .family = SEO_FAMILY_GPT1, .classes = TINY_CLASSES, .lm_weight = 0.5},
    {.name = "gpt2, classes", .family = SEO_FAMILY_GPT2, .classes = TINY_CLASSES},
    {.name = "bert, classes", .family = SEO_FAMILY_BERT, .classes = TINY_CLASSES, .spans = true},
    {.name = "roberta, classes", .family = SEO_FAMILY_ROBERTA, .classes = TINY_CLASSES},
    {.name = "distilbert, classes", .family = SEO_FAMILY_DISTILBERT, .classes = TINY_CLASSES},
};

seo_model_config tiny_case_config(const tiny_case *c, double dropout) {
    seo_model_config config = tiny_config(dropout);
    const bool encoder = seo_family_is_encoder(c->family), bert = c->family == SEO_FAMILY_BERT;
    config.family = c->family;
    config.attention_dropout = dropout;
    config.activation = encoder ? SEO_GELU_ERF : SEO_GELU_TANH;
    config.band = c->family == SEO_FAMILY_GPT3 ? 5 : 0;
    config.type_vocab_size = bert ? 2 : c->family == SEO_FAMILY_ROBERTA;
    config.next_sentence = bert && c->classes == 0;
    config.picks = encoder && c->classes == 0 ? TINY_PICKS : 0;
    config.classes = c->classes;
    config.lm_weight = c->lm_weight;
    config.has_spans = c->spans;
    return config;
}

/* Three parts of a sequence, not of the same length in every one. */
static void make_spans(int64_t row, int32_t *spans) {
    const int32_t ends[] = {(int32_t)(5 + row), 12, TINY_POSITIONS};
    for (int32_t t = 0, part = 0; t < TINY_POSITIONS; t++) {
        if (t == ends[part]) part++;
        spans[2 * t] = part == 0 ? 0 : ends[part - 1];
        spans[2 * t + 1] = ends[part];
    }
}

void tiny_make_inputs(const seo_model_config *config, uint32_t salt, tiny_inputs *in) {
    const seo_rng_key key = {.seed = salt, .purpose = SEO_PURPOSE_TEST, .step = 1};
    const int64_t types = config->type_vocab_size;
    tiny_tokens(in->tokens, TINY_BATCH, salt);
    for (int64_t i = 0; i < TINY_BATCH * TINY_POSITIONS; i++) {
        in->types[i] = types > 1 ? (int32_t)(i % TINY_POSITIONS / 7 % types) : 0;
    }
    for (int64_t row = 0; row < TINY_BATCH; row++) {
        make_spans(row, in->spans + row * TINY_POSITIONS * 2);
        for (int64_t p = 0; p < TINY_PICKS; p++) {
            in->picks[row * TINY_PICKS + p] = (int32_t)(1 + row + 5 * p);
        }
        in->last[row] = (int32_t)(TINY_POSITIONS - 1 - row);
        in->labels[row] = (int32_t)row % 2;
    }
    for (int64_t i = 0; i < TINY_BATCH * TINY_PICKS; i++) {
        in->pick_targets[i] = (int32_t)(seo_rng_u32(key, (uint64_t)i) % TINY_VOCAB);
    }
    in->picks[2 * TINY_PICKS - 1] = -1;
    in->pick_targets[2 * TINY_PICKS - 1] = SEO_TARGET_IGNORE;
    in->labels[2] = SEO_TARGET_IGNORE;
}

/* Losses of a sequence. */
static int64_t row_losses(const seo_model_config *config) {
    return seo_model_loss_shape(config).rows;
}

seo_pass_args tiny_inputs_pass(const tiny_model *t, const tiny_inputs *in, int64_t first,
                               int64_t rows, int64_t of_rows) {
    const seo_model_config *config = seo_model_config_of(t->model);
    const bool encoder = seo_family_is_encoder(config->family);
    const bool label = seo_model_loss_shape(config).label;
    const int32_t *tokens = in->tokens + first * (TINY_POSITIONS + 1);
    seo_pass_args pass = {.ids = tokens,
                          .stride = TINY_POSITIONS + 1,
                          .batch = rows,
                          .positions = TINY_POSITIONS,
                          .label_scale = 1.0f / (float)of_rows,
                          .dropout = true,
                          .first_sequence = first};
    if (row_losses(config) > 0) {
        pass.grad_scale = 1.0f / (float)(of_rows * row_losses(config));
        pass.losses = seo_tensor_1d(seo_model_losses(t->model).data, SEO_DTYPE_F32,
                                    rows * row_losses(config));
    }
    if (!encoder) pass.targets = tokens + 1;
    if (config->type_vocab_size > 0) pass.types = in->types + first * TINY_POSITIONS;
    if (config->has_spans) pass.spans = in->spans + first * TINY_POSITIONS * 2;
    if (encoder) {
        pass.picks = in->picks + first * TINY_PICKS;
        pass.pick_targets = in->pick_targets + first * TINY_PICKS;
    } else {
        pass.picks = in->last + first;
    }
    if (label) {
        pass.labels = in->labels + first;
        pass.label_losses =
            seo_tensor_1d(seo_model_label_losses(t->model).data, SEO_DTYPE_F32, rows);
    }
    return pass;
}

static double sum_of(const tiny_model *t, seo_tensor losses, int64_t count) {
    float values[TINY_BATCH * TINY_POSITIONS];
    const seo_err err =
        seo_device_copy_out(t->dev, values, losses.data, count * (int64_t)sizeof *values);
    SEO_ASSERT(err == SEO_OK && count <= TINY_BATCH * TINY_POSITIONS);
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += (double)values[i];
    return sum;
}

double tiny_objective(const tiny_model *t, int64_t rows, int64_t of_rows) {
    const seo_model_config *config = seo_model_config_of(t->model);
    const int64_t each = row_losses(config);
    const double weight = config->classes > 0 ? config->lm_weight : 1;
    double sum = 0;
    if (each > 0) {
        sum +=
            weight * sum_of(t, seo_model_losses(t->model), rows * each) / (double)(of_rows * each);
    }
    if (seo_model_loss_shape(config).label) {
        sum += sum_of(t, seo_model_label_losses(t->model), rows) / (double)of_rows;
    }
    return sum;
}

int64_t tiny_objective_numbers(const seo_model_config *config, int64_t rows) {
    return rows * (seo_model_loss_shape(config).label ? 1 : row_losses(config));
}
