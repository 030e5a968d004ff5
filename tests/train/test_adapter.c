/* Low-rank adapters of a whole model: which rows there are, gradients against finite differences,
 * the merged product, what stays as it is, and how little memory they take. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/rng.h"
#include "tiny_model.h"

enum {
    ROW_TOKENS = TINY_POSITIONS + 1,
    RANK = 5,
    ALL = SEO_LORA_QKV | SEO_LORA_PROJ | SEO_LORA_FC | SEO_LORA_MLP_PROJ,
    ELEMENTS_MAX = 4 * TINY_WIDTH * TINY_WIDTH,
    LOGITS = TINY_POSITIONS * TINY_VOCAB
};
static const double k_alpha = 8;

static void ok(seo_err err) {
    if (err != SEO_OK) fail_msg("%s", seo_err_detail());
}

static void adapt(seo_model_config *config, int32_t targets) {
    config->lora_rank = RANK;
    config->lora_alpha = k_alpha;
    config->lora_targets = targets;
}

static seo_model_config adapted(int32_t targets, double dropout) {
    seo_model_config config = tiny_config(dropout);
    adapt(&config, targets);
    return config;
}

static float noise(const char *name, int64_t index) {
    uint64_t seed = 0;
    for (; *name; name++) seed = seed * 131 + (unsigned char)*name;
    const seo_rng_key key = {.seed = seed, .purpose = SEO_PURPOSE_TEST, .step = 1};
    return 2 * seo_uniform_from(seo_rng_u32(key, (uint64_t)index)) - 1;
}

/* Values that depend on the name alone, so that models with other tables have the same ones; those
 * of adapters' B are 0 when `fresh`. */
static void fill(seo_model *model, bool fresh) {
    const seo_params *table = seo_model_table(model);
    float *values = malloc(ELEMENTS_MAX * sizeof *values);
    for (int64_t row = 0; row < table->count; row++) {
        const seo_param *p = &table->items[row];
        const int64_t count = seo_param_elements(p);
        const bool zero = fresh && strstr(p->name, ".lora_b") != NULL;
        const float around = p->init == SEO_INIT_ONES ? 1.0f : 0.0f;
        assert_true(count <= ELEMENTS_MAX);
        for (int64_t i = 0; i < count; i++) {
            values[i] = zero ? 0.0f : around + 0.2f * noise(p->name, i);
        }
        ok(seo_model_set_param(model, p->name, values, count));
    }
    free(values);
}

static double mean_loss(tiny_model *t, const int32_t *tokens) {
    const seo_pass_args pass = tiny_pass(t, tokens, TINY_BATCH, TINY_BATCH);
    ok(seo_model_forward(t->model, &pass));
    return tiny_loss(t, TINY_BATCH) / (double)(TINY_BATCH * TINY_POSITIONS);
}

static double objective(tiny_model *t, const tiny_inputs *in) {
    const seo_pass_args pass = tiny_inputs_pass(t, in, 0, TINY_BATCH, TINY_BATCH);
    ok(seo_model_forward(t->model, &pass));
    return tiny_objective(t, TINY_BATCH, TINY_BATCH);
}

/* Rows: two for each linear layer that is named, the trained ones; all else is as without. */
static void rows(void **state) {
    (void)state;
    seo_params plain = {0}, with = {0};
    const seo_model_config base = tiny_config(0);
    const seo_model_config config = adapted(SEO_LORA_QKV | SEO_LORA_FC, 0);
    ok(seo_model_params(&base, &plain));
    ok(seo_model_params(&config, &with));
    assert_int_equal(with.count, plain.count + 3 * 4);
    assert_int_equal(seo_params_trained(&plain), seo_params_elements(&plain));
    const int64_t each =
        RANK * (TINY_WIDTH + 3 * TINY_WIDTH) + RANK * (TINY_WIDTH + 4 * TINY_WIDTH);
    assert_int_equal(seo_params_trained(&with), 3 * each);
    for (int64_t row = 0; row < with.count; row++) {
        const seo_param *p = &with.items[row];
        const bool own = strstr(p->name, ".lora_") != NULL;
        assert_int_equal(p->frozen, !own);
        assert_int_equal(seo_params_find(&plain, p->name) >= 0, !own);
    }
    const int64_t a = seo_params_find(&with, "blocks.1.mlp.fc.lora_a");
    const int64_t b = seo_params_find(&with, "blocks.1.mlp.fc.lora_b");
    assert_true(a >= 0 && b >= 0 && seo_params_find(&with, "blocks.1.mlp.proj.lora_a") < 0);
    assert_int_equal(with.items[a].dims[0], RANK);
    assert_int_equal(with.items[a].dims[1], TINY_WIDTH);
    assert_int_equal(with.items[b].dims[0], 4 * TINY_WIDTH);
    assert_int_equal(with.items[b].dims[1], RANK);
    seo_params_free(&plain);
    seo_params_free(&with);
}

/* B is 0 at first: the model is what it was, to the last bit where no GELU stands beside. */
static void begins_as_the_base(void **state) {
    (void)state;
    const seo_model_config base = tiny_config(0);
    const seo_model_config config = adapted(SEO_LORA_QKV | SEO_LORA_PROJ | SEO_LORA_MLP_PROJ, 0);
    tiny_model plain, with;
    int32_t tokens[TINY_BATCH * ROW_TOKENS];
    tiny_tokens(tokens, TINY_BATCH, 3);
    tiny_open(&plain, &base, SEO_MODEL_TRAIN, 1);
    tiny_open(&with, &config, SEO_MODEL_TRAIN, 1);
    fill(plain.model, true);
    fill(with.model, true);
    assert_true(mean_loss(&plain, tokens) == mean_loss(&with, tokens));
    tiny_close(&plain);
    tiny_close(&with);
}

/* Elements of the trained rows, one after the other, as the parameter sets have them. */
static void move(seo_model *model, const float *base, const float *direction, float step) {
    const seo_params *table = seo_model_table(model);
    const seo_param_set *weights = seo_model_weights(model);
    for (int64_t row = 0, at = 0; row < table->count; row++) {
        if (table->items[row].frozen) continue;
        float *values = weights->tensors[row].data;
        const int64_t count = seo_param_elements(&table->items[row]);
        for (int64_t i = 0; i < count; i++, at++) values[i] = base[at] + step * direction[at];
    }
}

/* The derivative along a direction in one row (or all, only < 0) against the sum of gradient times
 * direction; bounds as in the test of the whole model. */
static void check_direction(tiny_model *t, const tiny_inputs *in, int64_t only, const float *base,
                            float *direction) {
    const seo_params *table = seo_model_table(t->model);
    const seo_param_set *grads = seo_model_grads(t->model);
    double want = 0, norm = 0;
    for (int64_t row = 0, at = 0; row < table->count; row++) {
        if (table->items[row].frozen) continue;
        const float *g = grads->tensors[row].data;
        for (int64_t i = 0; i < seo_param_elements(&table->items[row]); i++, at++) {
            const bool moves = only < 0 || row == only;
            direction[at] = moves ? copysignf(0.5f + 0.5f * noise("direction", at), g[i]) : 0;
            want += (double)g[i] * (double)direction[at];
            norm += (double)direction[at] * (double)direction[at];
        }
    }
    const float length = 1.0f / 256 / (float)sqrt(norm) * 4;
    move(t->model, base, direction, length);
    const double up = objective(t, in);
    move(t->model, base, direction, -length);
    const double down = objective(t, in);
    move(t->model, base, direction, 0);
    const double got = (up - down) / (2 * (double)length);
    const int64_t numbers = tiny_objective_numbers(seo_model_config_of(t->model), TINY_BATCH);
    const double bound = 3.2e-6 / sqrt((double)numbers) / (double)length + 5e-3 * fabs(want);
    assert_true(want > 0);
    if (!(fabs(got - want) <= bound)) {
        fail_msg("%s: difference quotient %.8g, gradient %.8g, bound %.3g",
                 only < 0 ? "all" : table->items[only].name, got, want, bound);
    }
}

static void check_gradients(const seo_model_config *config) {
    tiny_model t;
    tiny_inputs in;
    tiny_open(&t, config, SEO_MODEL_TRAIN, 1);
    fill(t.model, false);
    tiny_make_inputs(config, 5, &in);
    const seo_pass_args pass = tiny_inputs_pass(&t, &in, 0, TINY_BATCH, TINY_BATCH);
    ok(seo_model_forward_backward(t.model, &pass));
    const seo_params *table = seo_model_table(t.model);
    const seo_param_set *weights = seo_model_weights(t.model);
    const size_t bytes = (size_t)seo_params_trained(table) * sizeof(float);
    float *base = malloc(bytes), *direction = malloc(bytes), one = 0;
    for (int64_t row = 0, at = 0; row < table->count; row++) {
        const seo_param *p = &table->items[row];
        const int64_t count = seo_param_elements(p);
        if (p->frozen) {
            assert_int_equal(seo_model_get_grad(t.model, p->name, &one, count), SEO_ERR_MISSING);
            continue;
        }
        memcpy(base + at, weights->tensors[row].data, (size_t)count * sizeof *base);
        at += count;
    }
    for (int64_t row = -1; row < table->count; row++) {
        if (row >= 0 && table->items[row].frozen) continue;
        check_direction(&t, &in, row, base, direction);
    }
    free(base);
    free(direction);
    tiny_close(&t);
}

/* Every family with every task; a classification head is trained beside the adapters. */
static void gradients(void **state) {
    for (int i = 0; i < TINY_CASES; i++) {
        seo_model_config config = tiny_case_config(&tiny_cases[i], *(double *)*state);
        seo_params table = {0};
        adapt(&config, ALL);
        print_message("%s\n", tiny_cases[i].name);
        check_gradients(&config);
        ok(seo_model_params(&config, &table));
        const int64_t head = seo_params_find(&table, "classify.out.weight");
        assert_int_equal(head >= 0, config.classes > 0);
        assert_true(head < 0 || !table.items[head].frozen);
        seo_params_free(&table);
    }
}

/* W += (alpha / r) B A, in double. */
static void merge(seo_model *from, seo_model *into, const char *linear) {
    char name[SEO_PARAM_NAME_MAX];
    const seo_params *table = seo_model_table(from);
    static float a[ELEMENTS_MAX], b[ELEMENTS_MAX], w[ELEMENTS_MAX];
    snprintf(name, sizeof name, "%.48s.lora_a", linear);
    const seo_param *pa = &table->items[seo_params_find(table, name)];
    ok(seo_model_get_param(from, name, a, seo_param_elements(pa)));
    snprintf(name, sizeof name, "%.48s.lora_b", linear);
    const seo_param *pb = &table->items[seo_params_find(table, name)];
    ok(seo_model_get_param(from, name, b, seo_param_elements(pb)));
    snprintf(name, sizeof name, "%.48s.weight", linear);
    const int64_t out = pb->dims[0], in = pa->dims[1];
    ok(seo_model_get_param(from, name, w, out * in));
    for (int64_t o = 0; o < out; o++) {
        for (int64_t i = 0; i < in; i++) {
            double sum = 0;
            for (int64_t r = 0; r < RANK; r++) {
                sum += (double)b[o * RANK + r] * (double)a[r * in + i];
            }
            w[o * in + i] = (float)((double)w[o * in + i] + k_alpha / RANK * sum);
        }
    }
    ok(seo_model_set_param(into, name, w, out * in));
}

static void merge_all(seo_model *from, seo_model *into) {
    static const char *const linears[] = {"attn.qkv", "attn.proj", "mlp.fc", "mlp.proj"};
    char name[SEO_PARAM_NAME_MAX];
    for (int l = 0; l < 3; l++) {
        for (int64_t i = 0; i < SEO_COUNT_OF(linears); i++) {
            snprintf(name, sizeof name, "blocks.%d.%s", l, linears[i]);
            merge(from, into, name);
        }
    }
}

/* Logits that took N additions and products one after the other are apart by no more than N
 * roundings of the largest among them: the norms keep what goes through a block at its size. */
static void same_logits(const float *want, const float *got) {
    const double additions = 3.0 * (TINY_WIDTH + TINY_POSITIONS + TINY_WIDTH + TINY_WIDTH +
                                    4 * TINY_WIDTH + 4 * 2 * RANK) +
                             TINY_WIDTH;
    double largest = 0, apart = 0;
    for (int64_t i = 0; i < LOGITS; i++) {
        largest = fmax(largest, fabs((double)want[i]));
        apart = fmax(apart, fabs((double)(want[i] - got[i])));
    }
    if (!(largest > 0 && apart <= additions * FLT_EPSILON * largest)) {
        fail_msg("logits of up to %g are %g apart", largest, apart);
    }
}

/* The same function with and without the product in W, whole and through the cache; and another one
 * than that of the base. */
static void merged(void **state) {
    (void)state;
    const seo_model_config base = tiny_config(0), config = adapted(ALL, 0);
    tiny_model plain, with, cached;
    static float want[LOGITS], got[LOGITS], before[LOGITS];
    int32_t tokens[ROW_TOKENS];
    tiny_tokens(tokens, 1, 7);
    tiny_open(&plain, &base, SEO_MODEL_EVAL, 1);
    tiny_open(&with, &config, SEO_MODEL_EVAL, 1);
    tiny_open(&cached, &config, SEO_MODEL_GENERATE, 1);
    fill(plain.model, false);
    fill(with.model, false);
    fill(cached.model, false);
    const seo_pass_args pass = tiny_pass(&plain, tokens, 1, 1);
    seo_pass_args adapted_pass = tiny_pass(&with, tokens, 1, 1);
    ok(seo_model_forward(plain.model, &pass));
    ok(seo_model_logits(plain.model, 0, TINY_POSITIONS, before));
    merge_all(with.model, plain.model);
    ok(seo_model_forward(plain.model, &pass));
    ok(seo_model_logits(plain.model, 0, TINY_POSITIONS, want));
    ok(seo_model_forward(with.model, &adapted_pass));
    ok(seo_model_logits(with.model, 0, TINY_POSITIONS, got));
    same_logits(want, got);
    double moved = 0;
    for (int64_t i = 0; i < LOGITS; i++) {
        moved = fmax(moved, fabs((double)(want[i] - before[i])));
    }
    assert_true(moved > 0.1);
    for (int64_t at = 0; at < TINY_POSITIONS; at += 4) {
        ok(seo_model_forward_cached(cached.model,
                                    &(seo_cached_args){.ids = tokens + at,
                                                       .count = 4,
                                                       .cached = at,
                                                       .rows = 4,
                                                       .out = got + at * TINY_VOCAB}));
    }
    same_logits(want, got);
    tiny_close(&plain);
    tiny_close(&with);
    tiny_close(&cached);
}

/* Steps of AdamW: the loss falls, and what is frozen keeps every bit. */
static void learns(void **state) {
    (void)state;
    const seo_model_config config = adapted(ALL, 0.1);
    const seo_optimizer_config adamw = {.lr = 1e-2,
                                        .beta1 = 0.9,
                                        .beta2 = 0.99,
                                        .eps = 1e-8,
                                        .weight_decay = 0.1,
                                        .clip = 1,
                                        .bias_correction = true};
    tiny_model t;
    seo_optim *optim = NULL;
    int32_t tokens[TINY_BATCH * ROW_TOKENS];
    double first = 0, last = 0, norm = 0;
    tiny_open(&t, &config, SEO_MODEL_TRAIN, 2);
    ok(seo_optim_open(t.model, &adamw, &optim));
    fill(t.model, true);
    const seo_tensor frozen = seo_model_frozen(t.model)->flat;
    const size_t bytes = (size_t)seo_tensor_bytes(&frozen);
    void *before = malloc(bytes);
    memcpy(before, frozen.data, bytes);
    tiny_tokens(tokens, TINY_BATCH, 4);
    for (int64_t step = 1; step <= 60; step++) {
        seo_pass_args pass = tiny_pass(&t, tokens, TINY_BATCH, TINY_BATCH);
        pass.step = step;
        ok(seo_model_zero_grads(t.model));
        ok(seo_model_forward_backward(t.model, &pass));
        last = tiny_loss(&t, TINY_BATCH);
        if (step == 1) first = last;
        ok(seo_optim_norm(optim, &norm));
        ok(seo_optim_update(optim, adamw.lr, step));
    }
    assert_memory_equal(before, frozen.data, bytes);
    if (!(last < 0.7 * first)) fail_msg("a loss of %g has become %g", first, last);
    free(before);
    seo_optim_close(optim);
    tiny_close(&t);
}

/* Gradients and moments of the adapters alone: a small part of what they are without. */
static void memory(void **state) {
    (void)state;
    seo_model_config base = tiny_config(0), config = adapted(ALL, 0);
    base.hidden_size = config.hidden_size = 384;
    base.ffn_hidden_size = config.ffn_hidden_size = 4 * 384;
    tiny_model plain, with;
    seo_optim *optim = NULL;
    const seo_optimizer_config adamw = {
        .lr = 1e-2, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .bias_correction = true};
    tiny_open(&plain, &base, SEO_MODEL_TRAIN, 1);
    tiny_open(&with, &config, SEO_MODEL_TRAIN, 1);
    ok(seo_optim_open(with.model, &adamw, &optim));
    const seo_param_set *sets[] = {seo_model_weights(with.model), seo_model_grads(with.model),
                                   seo_optim_moment1(optim), seo_optim_moment2(optim)};
    /* Five segments end with padding of less than a unit each. */
    const int64_t trained = seo_params_trained(seo_model_table(with.model));
    for (int64_t i = 0; i < SEO_COUNT_OF(sets); i++) {
        assert_true(sets[i]->bytes >= trained * 4);
        assert_true(sets[i]->bytes <= (trained + 5 * SEO_SHARD_UNIT) * 4);
        assert_true(sets[i]->bytes * 10 < seo_model_grads(plain.model)->bytes);
    }
    assert_true(seo_model_frozen(with.model)->bytes <= seo_model_weights(plain.model)->bytes);
    assert_null(seo_model_frozen(plain.model));
    seo_optim_close(optim);
    tiny_close(&plain);
    tiny_close(&with);
}

int main(void) {
    double none = 0, some = 0.25;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows),
        cmocka_unit_test(begins_as_the_base),
        cmocka_unit_test_prestate(gradients, &none),
        cmocka_unit_test_prestate(gradients, &some),
        cmocka_unit_test(merged),
        cmocka_unit_test(learns),
        cmocka_unit_test(memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
