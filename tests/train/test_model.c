/* The whole model: gradients against finite differences, micro-batches, threads, the cache, and
 * that it learns. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/rng.h"
#include "tiny_model.h"

enum { ROW_TOKENS = TINY_POSITIONS + 1 };

static void ok(seo_err err) {
    if (err != SEO_OK) fail_msg("%s", seo_err_detail());
}

/* A reproducible number in (-1, 1). */
static float noise(uint32_t salt, int64_t index) {
    const seo_rng_key key = {.seed = salt, .purpose = SEO_PURPOSE_TEST, .step = 1};
    return 2 * seo_uniform_from(seo_rng_u32(key, (uint64_t)index)) - 1;
}

/* Larger weights than GPT-2's, biases and norms off their initial values: every path carries
 * signal. */
static void enliven(seo_model *model) {
    seo_param_set *weights = seo_model_weights(model);
    for (int64_t row = 0; row < weights->count; row++) {
        float *values = weights->tensors[row].data;
        for (int64_t i = 0; i < seo_tensor_count(&weights->tensors[row]); i++) {
            values[i] += 0.2f * noise((uint32_t)row, i);
        }
    }
}

static double mean_loss(tiny_model *t, const int32_t *tokens, int64_t rows) {
    const seo_pass_args pass = tiny_pass(t, tokens, rows, rows);
    ok(seo_model_forward(t->model, &pass));
    return tiny_loss(t, rows) / (double)(rows * TINY_POSITIONS);
}

static double objective(tiny_model *t, const tiny_inputs *in) {
    const seo_pass_args pass = tiny_inputs_pass(t, in, 0, TINY_BATCH, TINY_BATCH);
    ok(seo_model_forward(t->model, &pass));
    return tiny_objective(t, TINY_BATCH, TINY_BATCH);
}

/* weights[row] = base + step * direction. The direction is the gradient's own sign pattern mixed
 * with noise, so that the derivative along it is large against the rounding of the loss. */
static void move(seo_param_set *weights, const float *base, const float *direction, float step) {
    for (int64_t row = 0, at = 0; row < weights->count; row++) {
        float *values = weights->tensors[row].data;
        for (int64_t i = 0; i < seo_tensor_count(&weights->tensors[row]); i++, at++) {
            values[i] = base[at] + step * direction[at];
        }
    }
}

/* One tensor's (or all tensors', row < 0) directional derivative: central differences against the
 * sum of gradient times direction. */
static void check_direction(tiny_model *t, const tiny_inputs *in, int64_t row, const float *base,
                            float *direction) {
    seo_param_set *weights = seo_model_weights(t->model), *grads = seo_model_grads(t->model);
    const float step = 1.0f / 256;
    double want = 0, norm = 0;
    for (int64_t r = 0, at = 0; r < weights->count; r++) {
        const float *g = grads->tensors[r].data;
        for (int64_t i = 0; i < seo_tensor_count(&weights->tensors[r]); i++, at++) {
            const bool moves = row < 0 || r == row;
            direction[at] = moves ? copysignf(0.5f + 0.5f * noise(99, at), g[i]) : 0;
            want += (double)g[i] * (double)direction[at];
            norm += (double)direction[at] * (double)direction[at];
        }
    }
    /* A step of fixed length whatever the number of elements: the error grows with its square. */
    const float length = step / (float)sqrt(norm) * 4;
    move(weights, base, direction, length);
    const double up = objective(t, in);
    move(weights, base, direction, -length);
    const double down = objective(t, in);
    move(weights, base, direction, 0);
    const double got = (up - down) / (2 * (double)length);
    /* The loss is a mean of f32 numbers near 4, each of which is off by some units (3.2e-6 are
     * seven), the third derivative adds a part in some thousands. */
    const int64_t numbers = tiny_objective_numbers(seo_model_config_of(t->model), TINY_BATCH);
    const double bound = 3.2e-6 / sqrt((double)numbers) / (double)length + 5e-3 * fabs(want);
    if (!(fabs(got - want) <= bound)) {
        fail_msg("%s: difference quotient %.8g, gradient %.8g, bound %.3g",
                 row < 0 ? "all" : seo_model_table(t->model)->items[row].name, got, want, bound);
    }
}

static void check_gradients(const seo_model_config *config) {
    tiny_model t;
    tiny_inputs in;
    tiny_open(&t, config, SEO_MODEL_TRAIN, 1);
    enliven(t.model);
    tiny_make_inputs(config, 5, &in);
    const seo_pass_args pass = tiny_inputs_pass(&t, &in, 0, TINY_BATCH, TINY_BATCH);
    ok(seo_model_forward_backward(t.model, &pass));
    const seo_param_set *weights = seo_model_weights(t.model);
    const int64_t elements = seo_params_elements(seo_model_table(t.model));
    float *base = malloc((size_t)elements * sizeof *base);
    float *direction = malloc((size_t)elements * sizeof *direction);
    for (int64_t row = 0, at = 0; row < weights->count; row++) {
        memcpy(base + at, weights->tensors[row].data,
               (size_t)seo_tensor_bytes(&weights->tensors[row]));
        at += seo_tensor_count(&weights->tensors[row]);
    }
    for (int64_t row = -1; row < weights->count; row++) {
        check_direction(&t, &in, row, base, direction);
    }
    free(base);
    free(direction);
    tiny_close(&t);
}

static void gradients(void **state) {
    for (int i = 0; i < TINY_CASES; i++) {
        for (int gelu = 0; gelu < 2; gelu++) {
            seo_model_config config = tiny_case_config(&tiny_cases[i], *(double *)*state);
            config.activation = gelu ? SEO_GELU_ERF : SEO_GELU_TANH;
            print_message("%s\n", tiny_cases[i].name);
            check_gradients(&config);
        }
    }
}

static void forward_twice(void **state) {
    (void)state;
    const seo_model_config config = tiny_config(0);
    tiny_model train, eval;
    int32_t tokens[TINY_BATCH * ROW_TOKENS];
    tiny_tokens(tokens, TINY_BATCH, 6);
    tiny_open(&train, &config, SEO_MODEL_TRAIN, 1);
    tiny_open(&eval, &config, SEO_MODEL_EVAL, 1);
    const double loss = mean_loss(&train, tokens, TINY_BATCH);
    assert_true(fabs(loss - log(TINY_VOCAB)) < 0.05);
    assert_true(mean_loss(&eval, tokens, TINY_BATCH) == loss);
    const seo_pass_args pass = tiny_pass(&train, tokens, TINY_BATCH, TINY_BATCH);
    ok(seo_model_forward_backward(train.model, &pass));
    assert_true(tiny_loss(&train, TINY_BATCH) / (TINY_BATCH * TINY_POSITIONS) == loss);
    assert_true(seo_model_activation_bytes(eval.model) < seo_model_activation_bytes(train.model));
    tiny_close(&train);
    tiny_close(&eval);
}

/* Two passes of two rows against one of four: gradients equal up to the order of their sums,
 * dropout masks included. */
static void check_micro_batches(const seo_model_config *config) {
    tiny_model one, two;
    tiny_inputs in;
    tiny_make_inputs(config, 8, &in);
    tiny_open(&one, config, SEO_MODEL_TRAIN, 1);
    tiny_open(&two, config, SEO_MODEL_TRAIN, 1);
    const seo_pass_args whole = tiny_inputs_pass(&one, &in, 0, TINY_BATCH, TINY_BATCH);
    ok(seo_model_forward_backward(one.model, &whole));
    double loss = 0;
    for (int64_t half = 0; half < 2; half++) {
        const seo_pass_args pass = tiny_inputs_pass(&two, &in, half * 2, 2, TINY_BATCH);
        ok(seo_model_forward_backward(two.model, &pass));
        loss += tiny_objective(&two, 2, TINY_BATCH);
    }
    assert_true(fabs(loss - tiny_objective(&one, TINY_BATCH, TINY_BATCH)) < 2e-6);
    const seo_tensor a = seo_model_grads(one.model)->flat, b = seo_model_grads(two.model)->flat;
    double largest = 0, apart = 0;
    for (int64_t i = 0; i < seo_tensor_count(&a); i++) {
        largest = fmax(largest, fabs((double)((float *)a.data)[i]));
        apart = fmax(apart, fabs((double)(((float *)a.data)[i] - ((float *)b.data)[i])));
    }
    /* Sums of at most 64 rows of f32. */
    assert_true(largest > 0 && apart <= largest * 64 * 1.2e-7);
    tiny_close(&one);
    tiny_close(&two);
}

static void micro_batches(void **state) {
    for (int i = 0; i < TINY_CASES; i++) {
        const seo_model_config config = tiny_case_config(&tiny_cases[i], *(double *)*state);
        check_micro_batches(&config);
    }
}

/* Steps of AdamW on one batch of two sequences; leaves the parameters in `out` when it is given. */
static double train(const seo_model_config *config, int32_t threads, int64_t steps, double lr,
                    float *out) {
    const seo_optimizer_config adamw = {.lr = lr,
                                        .bias_correction = true,
                                        .beta1 = 0.9,
                                        .beta2 = 0.99,
                                        .eps = 1e-8,
                                        .weight_decay = 0.1,
                                        .clip = 1};
    tiny_model t;
    tiny_inputs in;
    seo_optim *optim = NULL;
    double norm = 0;
    tiny_make_inputs(config, 3, &in);
    tiny_open(&t, config, SEO_MODEL_TRAIN, threads);
    ok(seo_optim_open(t.model, &adamw, &optim));
    for (int64_t step = 1; step <= steps; step++) {
        seo_pass_args pass = tiny_inputs_pass(&t, &in, 0, 2, 2);
        pass.step = step;
        ok(seo_model_zero_grads(t.model));
        ok(seo_model_forward_backward(t.model, &pass));
        ok(seo_optim_norm(optim, &norm));
        assert_true(isfinite(norm) && norm > 0);
        ok(seo_optim_update(optim, lr, step));
    }
    const double loss = tiny_objective(&t, 2, 2);
    const seo_tensor whole = seo_model_weights(t.model)->flat;
    if (out) memcpy(out, whole.data, (size_t)seo_tensor_bytes(&whole));
    seo_optim_close(optim);
    tiny_close(&t);
    return loss;
}

static void overfits(void **state) {
    (void)state;
    for (int i = 0; i < TINY_CASES; i++) {
        const seo_model_config config = tiny_case_config(&tiny_cases[i], 0);
        const double loss = train(&config, 1, 120, 1e-2, NULL);
        if (!(loss < 0.02)) {
            fail_msg("%s, two sequences: loss %g after 120 steps", tiny_cases[i].name, loss);
        }
    }
}

static void same_bits(void **state) {
    (void)state;
    enum { ROOM = 1 << 16 };
    float *first = calloc(ROOM, sizeof *first), *other = calloc(ROOM, sizeof *other);
    for (int i = 0; i < TINY_CASES; i++) {
        const seo_model_config config = tiny_case_config(&tiny_cases[i], 0.1);
        const double loss = train(&config, 1, 10, 3e-3, first);
        for (int32_t threads = 2; threads <= 3; threads++) {
            assert_true(train(&config, threads, 10, 3e-3, other) == loss);
            assert_memory_equal(first, other, ROOM * sizeof *first);
        }
    }
    free(first);
    free(other);
}

/* Logits through the cache, in pieces, against those of the whole sequence. */
static void check_cache(const seo_model_config *config) {
    const int64_t pieces[] = {5, 1, 1, 6, 3};
    tiny_model whole, cached;
    int32_t tokens[ROW_TOKENS];
    float want[TINY_POSITIONS * TINY_VOCAB], got[TINY_POSITIONS * TINY_VOCAB];
    tiny_tokens(tokens, 1, 9);
    tiny_open(&whole, config, SEO_MODEL_EVAL, 1);
    tiny_open(&cached, config, SEO_MODEL_GENERATE, 1);
    enliven(whole.model);
    enliven(cached.model);
    const seo_pass_args pass = tiny_pass(&whole, tokens, 1, 1);
    ok(seo_model_forward(whole.model, &pass));
    ok(seo_model_logits(whole.model, 0, TINY_POSITIONS, want));
    for (int round = 0; round < 2; round++) { /* the second one forgets the first */
        memset(got, 0, sizeof got);
        for (int64_t i = 0, at = 0; i < SEO_COUNT_OF(pieces); at += pieces[i], i++) {
            ok(seo_model_forward_cached(cached.model,
                                        &(seo_cached_args){.ids = tokens + at,
                                                           .count = pieces[i],
                                                           .cached = at,
                                                           .rows = pieces[i],
                                                           .out = got + at * TINY_VOCAB}));
        }
        for (int64_t i = 0; i < TINY_POSITIONS * TINY_VOCAB; i++) {
            if (!(fabsf(got[i] - want[i]) <= 1e-4f)) {
                fail_msg("logit %lld: %.7g, %.7g without the cache", (long long)i, (double)got[i],
                         (double)want[i]);
            }
        }
    }
    tiny_close(&whole);
    tiny_close(&cached);
}

static void cache(void **state) {
    (void)state;
    for (int i = 0; i < TINY_CASES; i++) {
        const seo_model_config config = tiny_case_config(&tiny_cases[i], 0);
        const bool encoder = seo_family_is_encoder(config.family);
        if (!encoder && config.classes == 0) check_cache(&config);
    }
}

static void ignored_targets(void **state) {
    (void)state;
    const seo_model_config config = tiny_config(0);
    tiny_model t;
    int32_t tokens[ROW_TOKENS];
    tiny_tokens(tokens, 1, 2);
    tiny_open(&t, &config, SEO_MODEL_TRAIN, 1);
    const seo_pass_args pass = tiny_pass(&t, tokens, 1, 1);
    for (int64_t i = 1; i <= TINY_POSITIONS; i++) tokens[i] = i == 3 ? 1 : SEO_TARGET_IGNORE;
    const int32_t ids[TINY_POSITIONS] = {1, 2, 3};
    seo_pass_args one = pass;
    one.ids = ids;
    ok(seo_model_forward(t.model, &one));
    assert_true(fabs(tiny_loss(&t, 1) - log(TINY_VOCAB)) < 0.2);
    tiny_close(&t);
}

int main(void) {
    double none = 0, some = 0.25;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(gradients, &none),
        cmocka_unit_test(forward_twice),
        cmocka_unit_test_prestate(micro_batches, &none),
        cmocka_unit_test_prestate(micro_batches, &some),
        cmocka_unit_test(overfits),
        cmocka_unit_test(same_bits),
        cmocka_unit_test(cache),
        cmocka_unit_test(ignored_targets),
        cmocka_unit_test_prestate(gradients, &some),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
