/* Sampling, the sliding context, and whole characters. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "tiny_model.h"
#include "train/generate.h"

static void ok(seo_err err) {
    if (err != SEO_OK) fail_msg("%s", seo_err_detail());
}

static const float k_logits[5] = {1.0f, 3.0f, 2.0f, 3.0f, -INFINITY};

static int32_t sample(seo_sample_args args, int64_t position) {
    seo_sampler *sampler = NULL;
    int32_t id = -1;
    ok(seo_sampler_open(&args, 5, &sampler));
    ok(seo_sampler_next(sampler, k_logits, position, &id));
    seo_sampler_close(sampler);
    return id;
}

static void sampling(void **state) {
    (void)state;
    for (int64_t position = 0; position < 50; position++) {
        assert_int_equal(sample((seo_sample_args){.temperature = 0, .top_p = 1}, position), 1);
        assert_int_equal(
            sample((seo_sample_args){.temperature = 1, .top_k = 1, .top_p = 1}, position), 1);
        assert_int_equal(sample((seo_sample_args){.temperature = 1, .top_p = 0.3}, position), 1);
        const int32_t two =
            sample((seo_sample_args){.temperature = 1, .top_k = 2, .top_p = 1}, position);
        assert_true(two == 1 || two == 3);
        const int32_t cool = sample((seo_sample_args){.temperature = 0.02, .top_p = 1}, position);
        assert_true(cool == 1 || cool == 3);
        assert_int_equal(
            sample((seo_sample_args){.temperature = 1, .top_p = 1, .seed = 4}, position),
            sample((seo_sample_args){.temperature = 1, .top_p = 1, .seed = 4}, position));
    }
}

/* Frequencies of 20,000 draws against softmax at temperature 2: chi-square with 3 degrees of
 * freedom is below 21.1 in all but one of 10,000 seeds, and the seed is fixed. */
static void distribution(void **state) {
    (void)state;
    enum { DRAWS = 20000 };
    seo_sampler *sampler = NULL;
    double counts[5] = {0}, chi = 0, sum = 0;
    ok(seo_sampler_open(&(seo_sample_args){.temperature = 2, .top_p = 1, .seed = 9}, 5, &sampler));
    for (int64_t i = 0; i < DRAWS; i++) {
        int32_t id = -1;
        ok(seo_sampler_next(sampler, k_logits, i, &id));
        counts[id]++;
    }
    assert_true(counts[4] == 0);
    for (int v = 0; v < 4; v++) sum += exp((double)k_logits[v] / 2);
    for (int v = 0; v < 4; v++) {
        const double want = DRAWS * exp((double)k_logits[v] / 2) / sum;
        chi += (counts[v] - want) * (counts[v] - want) / want;
    }
    assert_true(chi < 21.1);
    seo_sampler_close(sampler);
}

static void refuses(void **state) {
    (void)state;
    const seo_sample_args bad[] = {{.temperature = -1, .top_p = 1},
                                   {.temperature = NAN, .top_p = 1},
                                   {.top_p = 0},
                                   {.top_p = 1.5},
                                   {.top_p = 1, .top_k = -1}};
    seo_sampler *sampler = NULL;
    for (int64_t i = 0; i < SEO_COUNT_OF(bad); i++) {
        assert_int_equal(seo_sampler_open(&bad[i], 5, &sampler), SEO_ERR_USAGE);
        assert_null(sampler);
    }
    const float none[2] = {NAN, INFINITY};
    int32_t id = 0;
    ok(seo_sampler_open(&(seo_sample_args){.top_p = 1}, 2, &sampler));
    assert_int_equal(seo_sampler_next(sampler, none, 0, &id), SEO_ERR_NUMERIC);
    seo_sampler_close(sampler);
}

/* The next token without a cache: the whole window through the forward pass. */
static int32_t most_likely(tiny_model *t, const int32_t *window, int64_t count) {
    float logits[TINY_VOCAB];
    int32_t best = 0;
    ok(seo_model_forward(
        t->model, &(seo_pass_args){.ids = window,
                                   .targets = window,
                                   .stride = count,
                                   .batch = 1,
                                   .positions = count,
                                   .losses = seo_tensor_1d(t->losses.data, SEO_DTYPE_F32, count)}));
    ok(seo_model_logits(t->model, count - 1, 1, logits));
    for (int32_t v = 1; v < TINY_VOCAB; v++) best = logits[v] > logits[best] ? v : best;
    return best;
}

/* Weights that make greedy text lively rather than one token for ever. */
static void enliven(seo_model *model) {
    const seo_param_set *weights = seo_model_weights(model);
    for (int64_t row = 0; row < weights->count; row++) {
        if (weights->tensors[row].rank != 2) continue;
        float *values = weights->tensors[row].data;
        for (int64_t i = 0; i < seo_tensor_count(&weights->tensors[row]); i++) values[i] *= 12;
    }
}

static void slides(void **state) {
    (void)state;
    enum { NEW = 5 * TINY_POSITIONS };
    const int64_t prompts[] = {1, 5, TINY_POSITIONS, 3 * TINY_POSITIONS + 1};
    const seo_model_config config = tiny_config(0);
    tiny_model plain, cached;
    tiny_open(&plain, &config, SEO_MODEL_EVAL, 1);
    tiny_open(&cached, &config, SEO_MODEL_GENERATE, 1);
    enliven(plain.model);
    enliven(cached.model);
    for (int64_t p = 0; p < SEO_COUNT_OF(prompts); p++) {
        int32_t tokens[4 * (TINY_POSITIONS + 1)], window[TINY_POSITIONS], kinds[TINY_VOCAB] = {0};
        seo_generator *generator = NULL;
        int64_t count = 0, different = 0;
        tiny_tokens(tokens, 4, 1);
        ok(seo_generator_open(cached.model, &(seo_sample_args){.top_p = 1}, &generator));
        ok(seo_generator_prompt(generator, tokens, prompts[p]));
        for (int64_t i = 0; i < prompts[p] + NEW; i++) {
            int32_t id = i < prompts[p] ? tokens[i] : 0;
            if (i >= prompts[p]) {
                ok(seo_generator_next(generator, &id));
                assert_int_equal(id, most_likely(&plain, window, count));
                kinds[id] = 1;
            }
            if (count == TINY_POSITIONS) {
                count = TINY_POSITIONS / 2;
                memmove(window, window + TINY_POSITIONS - count, (size_t)count * sizeof *window);
            }
            window[count++] = id;
        }
        for (int32_t v = 0; v < TINY_VOCAB; v++) different += kinds[v];
        assert_true(different > 3);
        seo_generator_close(generator);
    }
    tiny_close(&plain);
    tiny_close(&cached);
}

/* Feeds bytes one at a time; after each, what came out must be valid UTF-8. */
static void stream(const char *bytes, int64_t count, const char *want) {
    seo_utf8_stream s = {0};
    seo_buf out = {0};
    for (int64_t i = 0; i < count; i++) {
        seo_utf8_stream_add(&s, bytes + i, 1, &out);
        assert_true(out.bytes == 0 || seo_utf8_first_bad(out.data, out.bytes) < 0);
    }
    seo_utf8_stream_end(&s, &out);
    assert_string_equal(out.data ? out.data : "", want);
    seo_buf_clear(&out);
    seo_utf8_stream_add(&s, bytes, count, &out); /* all at once: the same */
    seo_utf8_stream_end(&s, &out);
    assert_string_equal(out.data ? out.data : "", want);
    seo_buf_free(&out);
}

static void whole_characters(void **state) {
    (void)state;
#define U "\xef\xbf\xbd"
    stream("abc", 3, "abc");
    stream("\xec\x84\x9c\xeb\x8b\xb9!", 7, "\xec\x84\x9c\xeb\x8b\xb9!");
    stream("\xf0\x9f\x8c\xb1\xc3\xa9", 6, "\xf0\x9f\x8c\xb1\xc3\xa9");
    stream("a\xec\x84", 3, "a" U U);
    stream("\xf0\x9f\x8c", 3, U U U);
    stream("\xec\x84z", 3, U U "z");
    stream("\x80\xff\xc3(", 4, U U U "(");
    stream("\xed\xa0\x80", 3, U U U);
    stream("\xc3\xc3\xa9", 3, U "\xc3\xa9");
    stream("\xf0\x9f\xc3\xa9", 4, U U "\xc3\xa9");
#undef U
    seo_utf8_stream s = {0};
    seo_buf out = {0};
    seo_utf8_stream_add(&s, "\xec\x84", 2, &out);
    assert_int_equal(out.bytes, 0); /* held back until it is whole */
    seo_utf8_stream_add(&s, "\x9c", 1, &out);
    assert_string_equal(out.data, "\xec\x84\x9c");
    seo_buf_free(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(sampling), cmocka_unit_test(distribution),
                                       cmocka_unit_test(refuses), cmocka_unit_test(slides),
                                       cmocka_unit_test(whole_characters)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
