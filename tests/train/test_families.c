/* What families promise beside their numbers: documents that do not see each other, bands, passes
 * for logits alone, losses that come from outside. */
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

enum { ROW_TOKENS = TINY_POSITIONS + 1, HIDDEN = TINY_POSITIONS * TINY_WIDTH };

static void ok(seo_err err) {
    if (err != SEO_OK) fail_msg("%s", seo_err_detail());
}

static void enliven(seo_model *model) {
    seo_param_set *weights = seo_model_weights(model);
    for (int64_t row = 0; row < weights->count; row++) {
        const seo_rng_key key = {.seed = (uint64_t)row, .purpose = SEO_PURPOSE_TEST};
        float *values = weights->tensors[row].data;
        for (int64_t i = 0; i < seo_tensor_count(&weights->tensors[row]); i++) {
            values[i] += 0.4f * (seo_uniform_from(seo_rng_u32(key, (uint64_t)i)) - 0.5f);
        }
    }
}

/* The part of the sequence that a position of the first row belongs to. */
static int32_t part_begin(const tiny_inputs *in, int64_t position) {
    return in->spans[2 * position];
}

/* One sequence: its last hidden states. */
static void run(tiny_model *t, const tiny_inputs *in, float *hidden) {
    const seo_pass_args pass = tiny_inputs_pass(t, in, 0, 1, 1);
    ok(seo_model_forward(t->model, &pass));
    const seo_tensor last = seo_model_hidden(t->model);
    memcpy(hidden, last.data, HIDDEN * sizeof *hidden);
    assert_int_equal(seo_tensor_count(&last), HIDDEN);
}

/* Other tokens in one document change no bit of another one, and its own do change. */
static void documents(void **state) {
    for (int i = 0; i < TINY_CASES; i++) {
        if (!tiny_cases[i].spans) continue;
        const seo_model_config config = tiny_case_config(&tiny_cases[i], *(double *)*state);
        tiny_model t;
        tiny_inputs in, other;
        float before[HIDDEN], after[HIDDEN];
        tiny_open(&t, &config, SEO_MODEL_EVAL, 1);
        enliven(t.model);
        tiny_make_inputs(&config, 4, &in);
        other = in;
        for (int64_t p = 0; p < TINY_POSITIONS; p++) {
            const bool middle = part_begin(&in, p) == 5;
            if (middle) other.tokens[p] = (other.tokens[p] + 1) % TINY_VOCAB;
        }
        run(&t, &in, before);
        run(&t, &other, after);
        for (int64_t p = 0; p < TINY_POSITIONS; p++) {
            const bool same = memcmp(before + p * TINY_WIDTH, after + p * TINY_WIDTH,
                                     TINY_WIDTH * sizeof *before) == 0;
            if (same == (part_begin(&in, p) == 5)) {
                fail_msg("%s: position %lld", tiny_cases[i].name, (long long)p);
            }
        }
        tiny_close(&t);
    }
}

/* Only targets of the first document count: positions of the others get a gradient of exactly 0. */
static void gradients_stay(void **state) {
    for (int i = 0; i < TINY_CASES; i++) {
        if (!tiny_cases[i].spans || tiny_cases[i].classes > 0) continue;
        const seo_model_config config = tiny_case_config(&tiny_cases[i], *(double *)*state);
        const int64_t first = config.family == SEO_FAMILY_ROBERTA ? 2 : 0;
        tiny_model t;
        tiny_inputs in;
        float wpe[(TINY_POSITIONS + 2) * TINY_WIDTH];
        tiny_open(&t, &config, SEO_MODEL_TRAIN, 1);
        enliven(t.model);
        tiny_make_inputs(&config, 4, &in);
        for (int64_t p = 0; p < TINY_POSITIONS; p++) {
            if (part_begin(&in, p) != 0) in.tokens[p + 1] = SEO_TARGET_IGNORE;
        }
        int32_t ids[TINY_POSITIONS];
        for (int32_t p = 0; p < TINY_POSITIONS; p++) ids[p] = (7 * p + 3) % TINY_VOCAB;
        for (int64_t p = 0; p < TINY_PICKS; p++) {
            if (part_begin(&in, in.picks[p]) != 0) in.pick_targets[p] = SEO_TARGET_IGNORE;
        }
        seo_pass_args pass = tiny_inputs_pass(&t, &in, 0, 1, 1);
        pass.ids = ids;
        ok(seo_model_forward_backward(t.model, &pass));
        ok(seo_model_get_grad(t.model, "wpe", wpe, (TINY_POSITIONS + first) * TINY_WIDTH));
        for (int64_t p = 0; p < TINY_POSITIONS; p++) {
            double largest = 0;
            for (int64_t c = 0; c < TINY_WIDTH; c++) {
                largest = fmax(largest, fabs((double)wpe[(first + p) * TINY_WIDTH + c]));
            }
            if ((largest > 0) != (part_begin(&in, p) == 0)) {
                fail_msg("%s: position %lld, %g", tiny_cases[i].name, (long long)p, largest);
            }
        }
        tiny_close(&t);
    }
}

/* Of two layers the first, which is dense, has an attention that adds nothing, so that what a
 * position sees of another one it sees through the second: with a band, its last positions. */
static void bands(void **state) {
    (void)state;
    const tiny_case plain = {.family = SEO_FAMILY_GPT3};
    for (int64_t banded = 0; banded < 2; banded++) {
        seo_model_config config = tiny_case_config(&plain, 0);
        config.num_layers = 2;
        config.band = banded ? 3 : 0;
        tiny_model t;
        tiny_inputs in;
        float before[HIDDEN], after[HIDDEN];
        tiny_open(&t, &config, SEO_MODEL_EVAL, 1);
        enliven(t.model);
        const float zeros[TINY_WIDTH * TINY_WIDTH] = {0};
        ok(seo_model_set_param(t.model, "blocks.0.attn.proj.weight", zeros,
                               TINY_WIDTH * TINY_WIDTH));
        tiny_make_inputs(&config, 4, &in);
        run(&t, &in, before);
        in.tokens[6] = (in.tokens[6] + 1) % TINY_VOCAB;
        run(&t, &in, after);
        for (int64_t p = 0; p < TINY_POSITIONS; p++) {
            const bool same = memcmp(before + p * TINY_WIDTH, after + p * TINY_WIDTH,
                                     TINY_WIDTH * sizeof *before) == 0;
            const bool sees = p >= 6 && (!banded || p - 6 < config.band);
            if (same == sees)
                fail_msg("band %lld, position %lld", (long long)config.band, (long long)p);
        }
        tiny_close(&t);
    }
}

/* Without targets a pass is for its logits, which are those of a pass with them. */
static void logits_alone(void **state) {
    (void)state;
    for (int i = 0; i < TINY_CASES; i++) {
        const seo_model_config config = tiny_case_config(&tiny_cases[i], 0);
        const seo_loss_shape shape = seo_model_loss_shape(&config);
        const int64_t rows = TINY_BATCH * shape.rows;
        tiny_model t;
        tiny_inputs in;
        float logits[2][TINY_BATCH * TINY_POSITIONS * TINY_VOCAB] = {{0}};
        float labels[2][TINY_BATCH * TINY_CLASSES] = {{0}};
        tiny_open(&t, &config, SEO_MODEL_EVAL, 1);
        tiny_make_inputs(&config, 4, &in);
        seo_pass_args pass = tiny_inputs_pass(&t, &in, 0, TINY_BATCH, TINY_BATCH);
        for (int alone = 0; alone < 2; alone++) {
            if (alone) pass.targets = pass.pick_targets = pass.labels = NULL;
            ok(seo_model_forward(t.model, &pass));
            if (rows > 0) ok(seo_model_logits(t.model, 0, rows, logits[alone]));
            if (shape.label) ok(seo_model_label_logits(t.model, labels[alone]));
        }
        assert_memory_equal(logits[0], logits[1], sizeof logits[0]);
        assert_memory_equal(labels[0], labels[1], sizeof labels[0]);
        assert_true(rows == 0 || logits[0][rows * TINY_VOCAB - 1] != 0);
        assert_true(!shape.label || labels[0][0] != 0);
        tiny_close(&t);
    }
}

typedef struct lesson {
    int64_t next, chunks, hidden;
    bool backward;
} lesson;

/* The usual score, by the operator itself. */
static seo_err score(void *context, const seo_pass *pass, const seo_head_chunk *chunk) {
    lesson *l = context;
    assert_int_equal(chunk->first, l->next);
    assert_int_equal(chunk->with_gradient, l->backward);
    l->next += seo_tensor_count(&chunk->targets);
    l->chunks++;
    return seo_cross_entropy(pass->dev,
                             &(seo_cross_entropy_args){.loss = chunk->losses,
                                                       .logits = chunk->logits,
                                                       .targets = chunk->targets,
                                                       .vocab_size = chunk->vocab_size,
                                                       .ignore_index = chunk->ignore_index,
                                                       .grad_scale = chunk->grad_scale,
                                                       .with_gradient = chunk->with_gradient});
}

/* The sum of all hidden states, as a loss. */
static seo_err add_one(void *context, const seo_pass *pass, const seo_tensor *hidden,
                       const seo_tensor *dhidden) {
    lesson *l = context;
    assert_non_null(hidden->data);
    assert_int_equal(dhidden != NULL, l->backward);
    l->hidden++;
    for (int64_t i = 0; dhidden && i < seo_pass_rows(pass) * TINY_WIDTH; i++) {
        ((float *)dhidden->data)[i] += 1.0f;
    }
    return SEO_OK;
}

/* Losses from outside take the place of the head's, and those of the hidden states join: the bias
 * of the last norm, which is added to every one of them, has as many more as there are rows. */
static void teaching(void **state) {
    (void)state;
    for (int i = 0; i < TINY_CASES; i++) {
        const seo_model_config config = tiny_case_config(&tiny_cases[i], 0);
        const bool post = config.family != SEO_FAMILY_GPT2 && config.family != SEO_FAMILY_GPT3;
        const char *bias = post ? "blocks.2.norm2.bias" : "norm_final.bias";
        tiny_model t;
        tiny_inputs in;
        float grads[2][TINY_WIDTH];
        double objective[2];
        tiny_open(&t, &config, SEO_MODEL_TRAIN, 1);
        tiny_make_inputs(&config, 4, &in);
        seo_pass_args pass = tiny_inputs_pass(&t, &in, 0, TINY_BATCH, TINY_BATCH);
        lesson l = {.backward = true};
        const seo_teaching taught = {
            .score = {.chunk = score, .context = &l}, .hidden = add_one, .context = &l};
        for (int with = 0; with < 2; with++) {
            pass.teaching = with ? &taught : NULL;
            ok(seo_model_zero_grads(t.model));
            ok(seo_model_forward_backward(t.model, &pass));
            objective[with] = tiny_objective(&t, TINY_BATCH, TINY_BATCH);
            ok(seo_model_get_grad(t.model, bias, grads[with], TINY_WIDTH));
        }
        assert_true(objective[0] == objective[1]);
        assert_int_equal(l.hidden, 1);
        assert_int_equal(l.next, TINY_BATCH * seo_model_loss_shape(&config).rows);
        for (int64_t c = 0; c < TINY_WIDTH; c++) {
            const double off = (double)grads[1][c] - (double)grads[0][c];
            /* A sum of 64 numbers near one, each rounded to f32. */
            assert_true(fabs(off - TINY_BATCH * TINY_POSITIONS) <= 64 * 64 * 1.2e-7);
        }
        tiny_close(&t);
    }
}

static void encoders_do_not_generate(void **state) {
    (void)state;
    for (int i = 0; i < TINY_CASES; i++) {
        const seo_model_config config = tiny_case_config(&tiny_cases[i], 0);
        seo_device *dev = NULL;
        seo_model *model = NULL;
        if (!seo_family_is_encoder(config.family)) continue;
        ok(seo_device_open_cpu(&(seo_cpu_options){.threads = 1}, &dev));
        const seo_model_args args = {
            .dev = dev, .config = &config, .mode = SEO_MODEL_GENERATE, .batch = 1};
        assert_int_equal(seo_model_open(&args, &model), SEO_ERR_USAGE);
        assert_non_null(strstr(seo_err_detail(), "fill"));
        seo_device_close(dev);
    }
}

/* What is told without a device is what a model takes, to the byte: in every mode, at every level
 * of recomputation. */
static void memory(void **state) {
    (void)state;
    for (int i = 0; i < TINY_CASES; i++) {
        const seo_model_config config = tiny_case_config(&tiny_cases[i], 0.1);
        for (int kind = 0; kind < 4; kind++) {
            seo_device *dev = NULL;
            seo_model *model = NULL;
            seo_memory_table told = {0};
            ok(seo_device_open_cpu(&(seo_cpu_options){.threads = 1}, &dev));
            const seo_device_facts facts = seo_device_facts_of(dev);
            const int64_t before = seo_device_bytes(dev);
            const seo_model_args args = {.dev = dev,
                                         .config = &config,
                                         .mode = kind == 3 ? SEO_MODEL_EVAL : SEO_MODEL_TRAIN,
                                         .batch = 3,
                                         .recompute = (seo_recompute)(kind % 3)};
            ok(seo_model_measure(&args, &facts, &told));
            ok(seo_model_open(&args, &model));
            assert_int_equal(seo_device_bytes(dev) - before, seo_memory_total(&told));
            seo_model_close(model);
            seo_device_close(dev);
        }
    }
}

int main(void) {
    double none = 0, some = 0.25;
    const struct CMUnitTest tests[] = {cmocka_unit_test_prestate(documents, &none),
                                       cmocka_unit_test_prestate(gradients_stay, &none),
                                       cmocka_unit_test_prestate(gradients_stay, &some),
                                       cmocka_unit_test(bands),
                                       cmocka_unit_test(logits_alone),
                                       cmocka_unit_test(teaching),
                                       cmocka_unit_test(memory),
                                       cmocka_unit_test(encoders_do_not_generate)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
