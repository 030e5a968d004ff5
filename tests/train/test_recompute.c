/* Activations that are computed again: the same bits of losses and gradients as if they had been
 * kept, and as much less memory as was said. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/rng.h"
#include "tiny_model.h"

enum { ROWS = TINY_BATCH * TINY_POSITIONS, LEVELS = 3 };

static const seo_recompute k_levels[LEVELS] = {SEO_RECOMPUTE_NONE, SEO_RECOMPUTE_SELECTIVE,
                                               SEO_RECOMPUTE_FULL};

static void ok(seo_err err) {
    if (err != SEO_OK) fail_msg("%s", seo_err_detail());
}

static void open_level(tiny_model *t, const seo_model_config *config, seo_recompute recompute) {
    ok(seo_device_open_cpu(&(seo_cpu_options){.threads = 1}, &t->dev));
    ok(seo_model_open(&(seo_model_args){.dev = t->dev,
                                        .config = config,
                                        .mode = SEO_MODEL_TRAIN,
                                        .batch = TINY_BATCH,
                                        .seed = 11,
                                        .recompute = recompute},
                      &t->model));
    t->losses = seo_model_losses(t->model);
    /* Biases and norms off their initial values, so that all of them matter. */
    float *values = seo_model_trained(t->model).data;
    const seo_shards *shards = seo_model_shards(t->model);
    for (int64_t row = 0; row < shards->row_count; row++) {
        const seo_rng_key key = {.seed = (uint64_t)row, .purpose = SEO_PURPOSE_TEST};
        float *at = values + seo_shards_row_at(shards, SEO_LAYOUT_WHOLE, row);
        for (int64_t i = 0; i < shards->rows[row].count; i++) {
            at[i] += 0.2f * (seo_uniform_from(seo_rng_u32(key, (uint64_t)i)) - 0.5f);
        }
    }
}

static int g_entered;

static seo_err count_hook(void *context, int64_t segment, bool backward) {
    (void)context;
    (void)segment;
    (void)backward;
    g_entered++;
    return SEO_OK;
}

/* Two micro-batches, the second one smaller, the losses of both. */
static void accumulate(tiny_model *t, float losses[2 * ROWS], bool hooks) {
    const seo_pass_hooks counting = {.enter = count_hook, .leave = count_hook};
    const seo_model_config *config = seo_model_config_of(t->model);
    tiny_inputs in;
    const int64_t counts[] = {3, 1};
    tiny_make_inputs(config, 5, &in);
    memset(losses, 0, 2 * ROWS * sizeof *losses);
    for (int64_t m = 0, first = 0; m < 2; first += counts[m], m++) {
        seo_pass_args pass = tiny_inputs_pass(t, &in, first, counts[m], TINY_BATCH);
        pass.step = 7;
        pass.hooks = hooks ? &counting : NULL;
        ok(seo_model_forward_backward(t->model, &pass));
        if (pass.losses.rank > 0) {
            memcpy(losses + first * TINY_POSITIONS, pass.losses.data,
                   (size_t)seo_tensor_bytes(&pass.losses));
        }
        if (pass.label_losses.rank > 0) {
            memcpy(losses + ROWS + first, pass.label_losses.data,
                   (size_t)seo_tensor_bytes(&pass.label_losses));
        }
    }
}

static void check_bits(const seo_model_config *config) {
    tiny_model t[LEVELS];
    float losses[LEVELS][2 * ROWS];
    for (int i = 0; i < LEVELS; i++) {
        open_level(&t[i], config, k_levels[i]);
        accumulate(&t[i], losses[i], i == 2);
        assert_memory_equal(losses[i], losses[0], sizeof losses[0]);
        const seo_tensor a = seo_model_grads(t[0].model)->flat,
                         b = seo_model_grads(t[i].model)->flat;
        assert_memory_equal(a.data, b.data, (size_t)seo_tensor_bytes(&a));
    }
    for (int i = 0; i < LEVELS; i++) tiny_close(&t[i]);
}

static void same_bits(void **state) {
    for (int i = 0; i < TINY_CASES; i++) {
        for (int64_t layers = 1; layers <= 4; layers += 3) {
            for (int gelu = 0; gelu < 2; gelu++) {
                seo_model_config config = tiny_case_config(&tiny_cases[i], *(double *)*state);
                config.num_layers = layers;
                config.activation = gelu ? SEO_GELU_ERF : SEO_GELU_TANH;
                check_bits(&config);
            }
        }
    }
    assert_true(g_entered > 0);
}

/* Numbers that one position keeps of each further block, and what is shared is there once. */
static void saves(void **state) {
    (void)state;
    const int64_t costly[] = {10, 11}; /* pre-norm, post-norm */
    const int64_t lse = 3;             /* one for each head */
    for (int post = 0; post < 2; post++) {
        const int64_t kept[LEVELS] = {16 * TINY_WIDTH + 4, costly[post] * TINY_WIDTH + 4,
                                      TINY_WIDTH};
        int64_t bytes[LEVELS][2];
        for (int i = 0; i < LEVELS; i++) {
            for (int64_t layers = 1; layers <= 2; layers++) {
                seo_model_config config = tiny_config(0);
                config.family = post ? SEO_FAMILY_GPT1 : SEO_FAMILY_GPT2;
                config.num_layers = layers;
                tiny_model t;
                open_level(&t, &config, k_levels[i]);
                bytes[i][layers - 1] = seo_model_activation_bytes(t.model);
                tiny_close(&t);
            }
            const int64_t each = kept[i] + (k_levels[i] == SEO_RECOMPUTE_FULL ? 0 : lse);
            assert_int_equal(bytes[i][1] - bytes[i][0], each * ROWS * 4);
            assert_int_equal(bytes[i][0], bytes[0][0]);
        }
    }
}

int main(void) {
    double none = 0, some = 0.25;
    const struct CMUnitTest tests[] = {cmocka_unit_test_prestate(same_bits, &none),
                                       cmocka_unit_test_prestate(same_bits, &some),
                                       cmocka_unit_test(saves)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
