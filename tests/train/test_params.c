/* The parameter table: counts of the published models to the unit, names, decay, initial values. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "train/models/model.h"

static seo_model_config gpt(int64_t layers, int64_t heads, int64_t width, int64_t positions) {
    return (seo_model_config){.family = positions > 1024 ? SEO_FAMILY_GPT3 : SEO_FAMILY_GPT2,
                              .num_layers = layers,
                              .num_heads = heads,
                              .hidden_size = width,
                              .ffn_hidden_size = 4 * width,
                              .seq_len = positions,
                              .vocab_size = 50257,
                              .norm_eps = 1e-5};
}

static void counts(void **state) {
    (void)state;
    const struct {
        int64_t layers, heads, width, positions, parameters;
    } models[] = {
        {12, 12, 768, 1024, 124439808},    {24, 16, 1024, 1024, 354823168},
        {36, 20, 1280, 1024, 774030080},   {48, 25, 1600, 1024, 1557611200},
        {12, 12, 768, 2048, 125226240},    {24, 16, 1024, 2048, 355871744},
        {24, 16, 1536, 2048, 760300032},   {24, 16, 2048, 2048, 1315723264},
        {32, 32, 2560, 2048, 2651553280},  {32, 32, 4096, 2048, 6658404352},
        {40, 40, 5120, 2048, 12853386240}, {96, 96, 12288, 2048, 174604259328},
    };
    for (int64_t i = 0; i < SEO_COUNT_OF(models); i++) {
        const seo_model_config config =
            gpt(models[i].layers, models[i].heads, models[i].width, models[i].positions);
        int64_t count = 0;
        assert_int_equal(seo_model_count(&config, &count), SEO_OK);
        assert_int_equal(count, models[i].parameters);
    }
}

/* Large and small of the other families, with all their heads. */
static void family_counts(void **state) {
    (void)state;
    const struct {
        seo_family family;
        int64_t layers, width, positions, vocab, parameters;
    } models[] = {
        {SEO_FAMILY_GPT1, 12, 768, 512, 40478, 116534784},
        {SEO_FAMILY_BERT, 12, 768, 512, 30522, 110106428},
        {SEO_FAMILY_BERT, 24, 1024, 512, 30522, 336226108},
        {SEO_FAMILY_ROBERTA, 12, 768, 512, 50265, 124697433},
        {SEO_FAMILY_ROBERTA, 24, 1024, 512, 50265, 355412057},
        {SEO_FAMILY_DISTILBERT, 6, 768, 512, 30522, 66985530},
    };
    for (int64_t i = 0; i < SEO_COUNT_OF(models); i++) {
        const bool bert = models[i].family == SEO_FAMILY_BERT;
        seo_model_config config =
            gpt(models[i].layers, models[i].width / 64, models[i].width, models[i].positions);
        int64_t count = 0;
        config.family = models[i].family;
        config.vocab_size = models[i].vocab;
        config.type_vocab_size = bert ? 2 : models[i].family == SEO_FAMILY_ROBERTA;
        config.next_sentence = bert;
        assert_int_equal(seo_model_count(&config, &count), SEO_OK);
        assert_int_equal(count, models[i].parameters);
    }
}

static void has_row(const seo_params *params, const char *name, int64_t first, int64_t second) {
    const int64_t row = seo_params_find(params, name);
    if (row < 0) fail_msg("no row %s", name);
    assert_int_equal(params->items[row].dims[0], first);
    assert_int_equal(params->items[row].dims[1], second);
}

/* What a task brings, and what it leaves out. */
static void heads(void **state) {
    (void)state;
    seo_model_config config = gpt(2, 2, 8, 16);
    seo_params params;
    config.family = SEO_FAMILY_ROBERTA;
    config.type_vocab_size = 1;
    assert_int_equal(seo_model_params(&config, &params), SEO_OK);
    has_row(&params, "wpe", 18, 8);
    has_row(&params, "wtt", 1, 8);
    has_row(&params, "head.dense.weight", 8, 8);
    has_row(&params, "head.bias", 50257, 0);
    assert_true(seo_params_find(&params, "pooler.weight") < 0);
    seo_params_free(&params);
    config.classes = 3;
    assert_int_equal(seo_model_params(&config, &params), SEO_OK);
    has_row(&params, "classify.dense.weight", 8, 8);
    has_row(&params, "classify.out.weight", 3, 8);
    assert_true(seo_params_find(&params, "head.dense.weight") < 0);
    seo_params_free(&params);
    config.family = SEO_FAMILY_BERT;
    assert_int_equal(seo_model_params(&config, &params), SEO_OK);
    has_row(&params, "pooler.weight", 8, 8);
    has_row(&params, "classify.out.bias", 3, 0);
    assert_true(seo_params_find(&params, "next.weight") < 0);
    seo_params_free(&params);
    config = gpt(2, 2, 8, 16);
    config.family = SEO_FAMILY_GPT1;
    config.classes = 3;
    assert_int_equal(seo_model_params(&config, &params), SEO_OK);
    has_row(&params, "classify.out.weight", 3, 8);
    assert_true(seo_params_find(&params, "norm_final.weight") < 0);
    seo_params_free(&params);
}

static void table(void **state) {
    (void)state;
    const seo_model_config config = gpt(2, 2, 8, 16);
    seo_params params;
    assert_int_equal(seo_model_params(&config, &params), SEO_OK);
    assert_int_equal(params.count, 2 + 2 * 12 + 2);
    assert_string_equal(params.items[0].name, "wte");
    assert_string_equal(params.items[1].name, "wpe");
    const int64_t qkv = seo_params_find(&params, "blocks.1.attn.qkv.weight");
    assert_true(qkv > seo_params_find(&params, "blocks.0.mlp.proj.bias"));
    assert_int_equal(params.items[qkv].dims[0], 24);
    assert_int_equal(params.items[qkv].dims[1], 8);
    assert_int_equal(params.items[qkv].block, 1);
    assert_true(seo_params_find(&params, "blocks.2.norm1.weight") < 0);
    assert_string_equal(params.items[params.count - 1].name, "norm_final.bias");
    for (int64_t i = 0; i < params.count; i++) {
        assert_int_equal(params.items[i].decay, params.items[i].rank == 2);
    }
    seo_params_free(&params);
}

static void refuses(void **state) {
    (void)state;
    int64_t count = 0;
    seo_model_config config = gpt(2, 3, 8, 16);
    assert_int_equal(seo_model_count(&config, &count), SEO_ERR_USAGE);
    config = gpt(2, 2, 8, 0);
    assert_int_equal(seo_model_count(&config, &count), SEO_ERR_USAGE);
    config = gpt(2, 2, 8, 16);
    config.band = 4;
    assert_int_equal(seo_model_count(&config, &count), SEO_ERR_USAGE);
    config = gpt(2, 2, 8, 16);
    config.next_sentence = true;
    assert_int_equal(seo_model_count(&config, &count), SEO_ERR_USAGE);
    config.family = SEO_FAMILY_ROBERTA;
    assert_int_equal(seo_model_count(&config, &count), SEO_ERR_USAGE);
    config.family = SEO_FAMILY_BERT;
    assert_int_equal(seo_model_count(&config, &count), SEO_OK);
    config.classes = 1;
    assert_int_equal(seo_model_count(&config, &count), SEO_ERR_USAGE);
    config = gpt(3, 1, INT32_MAX, 16);
    config.ffn_hidden_size = INT32_MAX;
    assert_int_equal(seo_model_count(&config, &count), SEO_ERR_SHAPE);
}

/* Mean and standard deviation of a row of the table. */
static void moments(seo_model *model, const char *name, double *mean, double *std) {
    const seo_params *params = seo_model_table(model);
    const int64_t n = seo_param_elements(&params->items[seo_params_find(params, name)]);
    float *values = malloc((size_t)n * sizeof *values);
    assert_int_equal(seo_model_get_param(model, name, values, n), SEO_OK);
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)values[i];
    *mean = sum / (double)n;
    for (int64_t i = 0; i < n; i++) squares += pow((double)values[i] - *mean, 2);
    *std = sqrt(squares / (double)n);
    free(values);
}

/* Within five standard errors of an estimate from n numbers. */
static void normal(seo_model *model, const char *name, double std) {
    double mean = 0, measured = 0;
    const seo_params *params = seo_model_table(model);
    const double n = (double)seo_param_elements(&params->items[seo_params_find(params, name)]);
    moments(model, name, &mean, &measured);
    assert_true(fabs(mean) < 5 * std / sqrt(n));
    assert_true(fabs(measured - std) < 5 * std / sqrt(2 * n));
}

static void initial_values(void **state) {
    (void)state;
    const seo_model_config config = gpt(2, 2, 64, 128);
    seo_device *dev = NULL;
    seo_model *model = NULL;
    double mean = 0, std = 0;
    assert_int_equal(seo_device_open_cpu(&(seo_cpu_options){.threads = 1}, &dev), SEO_OK);
    const seo_model_args args = {
        .dev = dev, .config = &config, .mode = SEO_MODEL_EVAL, .batch = 1, .seed = 7};
    assert_int_equal(seo_model_open(&args, &model), SEO_OK);
    normal(model, "wte", 0.02);
    normal(model, "wpe", 0.02);
    normal(model, "blocks.1.attn.qkv.weight", 0.02);
    normal(model, "blocks.0.attn.proj.weight", 0.02 / 2);
    normal(model, "blocks.1.mlp.proj.weight", 0.02 / 2);
    moments(model, "blocks.0.norm1.weight", &mean, &std);
    assert_true(mean == 1 && std == 0);
    moments(model, "blocks.0.mlp.fc.bias", &mean, &std);
    assert_true(mean == 0 && std == 0);
    float one[8 * 64], other[8 * 64];
    assert_int_equal(seo_model_get_param(model, "wte", one, 3), SEO_ERR_SHAPE);
    assert_int_equal(seo_model_get_param(model, "wtf", one, 3), SEO_ERR_MISSING);
    memcpy(one, seo_model_weights(model)->tensors[0].data, sizeof one);
    memcpy(other, seo_model_weights(model)->tensors[1].data, sizeof other);
    assert_true(memcmp(one, other, sizeof one) != 0);
    seo_model_close(model);
    seo_device_close(dev);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(counts),  cmocka_unit_test(family_counts),
                                       cmocka_unit_test(heads),   cmocka_unit_test(table),
                                       cmocka_unit_test(refuses), cmocka_unit_test(initial_values)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
