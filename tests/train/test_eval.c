/* Evaluation: every token of a split is scored exactly once, and the numbers follow from the
 * scores. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "../support/dataset_fixture.h"
#include "../support/threads_comm.h"
#include "base/check.h"
#include "tiny_model.h"
#include "train/eval.h"

typedef struct bench {
    fixture data;
    seo_dataset *held_out;
    seo_dataset_info info;
    tiny_model t;
} bench;

static void ok(seo_err err) {
    if (err != SEO_OK) fail_msg("%s", seo_err_detail());
}

static void bench_open(bench *b, seo_model_mode mode) {
    b->data = fixture_usual();
    b->data.vocab_size = TINY_VOCAB;
    b->data.documents = 60;
    b->data.document_most = 150;
    fixture_make(&b->data);
    ok(seo_dataset_open(b->data.folder, "held-out", &b->held_out));
    b->info = seo_dataset_info_get(b->held_out);
    const seo_model_config config = tiny_config(0.1);
    tiny_open(&b->t, &config, mode, 2);
}

static void bench_close(bench *b) {
    tiny_close(&b->t);
    seo_dataset_close(b->held_out);
    fixture_remove(&b->data);
}

static seo_eval_args args_of(bench *b) {
    return (seo_eval_args){
        .model = b->t.model, .batch = TINY_BATCH, .datasets = &b->held_out, .dataset_count = 1};
}

static int64_t source_tokens(const seo_eval_result *r) {
    int64_t tokens = 0;
    for (int64_t s = 0; s < r->source_count; s++) tokens += r->sources[s].tokens;
    return tokens;
}

/* Logits that are all equal: ln V for every token, nothing to be unsure about. */
static void uniform(void **state) {
    (void)state;
    bench b;
    seo_eval_result r;
    bench_open(&b, SEO_MODEL_EVAL);
    const seo_param_set *weights = seo_model_weights(b.t.model);
    memset(weights->tensors[0].data, 0, (size_t)seo_tensor_bytes(&weights->tensors[0]));
    const seo_eval_args args = args_of(&b);
    ok(seo_eval(&args, &r));
    assert_int_equal(r.tokens, b.info.token_count);
    assert_int_equal(r.bytes, b.info.byte_count);
    assert_int_equal(r.windows, seo_div_up(b.info.token_count, TINY_POSITIONS));
    assert_int_equal(source_tokens(&r), r.tokens);
    /* Each loss is an f32 near 3.6. */
    assert_true(fabs(r.loss - log(TINY_VOCAB)) < 5e-7);
    assert_true(fabs(r.perplexity - TINY_VOCAB) < 2e-5);
    assert_true(fabs(r.bits_per_byte - r.loss / log(2) * (double)r.tokens / (double)r.bytes) <
                1e-12);
    assert_true(r.loss_stderr < 1e-6 && r.ci_low <= r.loss && r.ci_high >= r.loss);
    seo_eval_free(&r);
    bench_close(&b);
}

/* The loss of one window by itself: ids built from the whole token list, no batch, no padding. */
static double window_nats(bench *b, const int32_t *tokens, int64_t count, int64_t first) {
    int32_t ids[TINY_POSITIONS], targets[TINY_POSITIONS];
    const int64_t length = seo_min_i64(TINY_POSITIONS, count - first);
    for (int64_t t = 0; t < length; t++) {
        ids[t] = first + t > 0 ? tokens[first + t - 1] : b->info.eot_id;
        targets[t] = tokens[first + t];
    }
    const seo_tensor losses = seo_tensor_1d(b->t.losses.data, SEO_DTYPE_F32, length);
    ok(seo_model_forward(b->t.model, &(seo_pass_args){.ids = ids,
                                                      .targets = targets,
                                                      .stride = length,
                                                      .batch = 1,
                                                      .positions = length,
                                                      .losses = losses}));
    double nats = 0;
    for (int64_t t = 0; t < length; t++) nats += (double)((const float *)losses.data)[t];
    return nats;
}

static void window_by_window(void **state) {
    (void)state;
    bench b;
    seo_eval_result r;
    bench_open(&b, SEO_MODEL_TRAIN);
    const seo_eval_args args = args_of(&b);
    ok(seo_eval(&args, &r));
    int64_t count = 0;
    int32_t *tokens = fixture_tokens(&b.data, SEO_SPLIT_HELD_OUT, &count);
    assert_int_equal(count, b.info.token_count);
    double nats = 0, squares = 0;
    for (int64_t first = 0; first < count; first += TINY_POSITIONS) {
        const double window = window_nats(&b, tokens, count, first);
        const double off = window - r.loss * (double)seo_min_i64(TINY_POSITIONS, count - first);
        nats += window;
        squares += off * off;
    }
    /* A shorter or lone row may be multiplied in other blocks: rounding of f32. */
    assert_true(fabs(r.loss - nats / (double)count) < 1e-6);
    const double n = (double)r.windows;
    assert_true(fabs(r.loss_stderr - sqrt(n / (n - 1) * squares) / (double)count) < 1e-6);
    assert_true(fabs(r.ci_high - r.ci_low - 2 * 1.96 * r.loss_stderr) < 1e-9);
    free(tokens);
    seo_eval_free(&r);
    bench_close(&b);
}

static void part_of_a_split(void **state) {
    (void)state;
    bench b;
    seo_eval_result whole, part;
    bench_open(&b, SEO_MODEL_EVAL);
    seo_eval_args args = args_of(&b);
    ok(seo_eval(&args, &whole));
    args.tokens_max = b.info.token_count / 3;
    ok(seo_eval(&args, &part));
    assert_true(part.tokens <= args.tokens_max && part.tokens > args.tokens_max / 2);
    assert_true(fabs(part.loss - whole.loss) < 5 * part.loss_stderr);
    assert_int_equal(source_tokens(&part), part.tokens);
    seo_eval_free(&part);
    args.tokens_max = 1; /* at least one window */
    ok(seo_eval(&args, &part));
    assert_int_equal(part.windows, 1);
    assert_true(isnan(part.loss_stderr));
    seo_eval_free(&part);
    args.tokens_max = b.info.token_count * 2;
    ok(seo_eval(&args, &part));
    assert_true(part.loss == whole.loss && part.tokens == whole.tokens);
    seo_eval_free(&part);
    /* Two datasets count as their sum. */
    seo_dataset *twice[2] = {b.held_out, b.held_out};
    args = args_of(&b);
    args.datasets = twice;
    args.dataset_count = 2;
    ok(seo_eval(&args, &part));
    assert_int_equal(part.tokens, 2 * whole.tokens);
    assert_int_equal(part.bytes, 2 * whole.bytes);
    assert_true(fabs(part.loss - whole.loss) < 1e-12);
    seo_eval_free(&part);
    seo_eval_free(&whole);
    bench_close(&b);
}

static void json(void **state) {
    (void)state;
    seo_eval_source sources[] = {{.path = "a \"b\"", .nats = 6, .tokens = 3},
                                 {.path = "c", .nats = 2, .tokens = 1}};
    const seo_eval_result r = {.loss = 2,
                               .perplexity = exp(2),
                               .bits_per_byte = 1.5,
                               .loss_stderr = NAN,
                               .ci_low = NAN,
                               .ci_high = NAN,
                               .tokens = 4,
                               .bytes = 9,
                               .windows = 1,
                               .sources = sources,
                               .source_count = 2};
    seo_buf out = {0};
    seo_eval_json(&r, 12, &out);
    json_t *object = json_loads(out.data, 0, NULL);
    assert_non_null(object);
    assert_true(json_number_value(json_object_get(object, "perplexity")) == exp(2));
    assert_int_equal(json_integer_value(json_object_get(object, "tokens")), 4);
    assert_int_equal(json_integer_value(json_object_get(object, "step")), 12);
    assert_true(json_is_null(json_object_get(object, "loss_stderr")));
    assert_int_equal(json_array_size(json_object_get(object, "loss_ci95")), 2);
    const json_t *first = json_array_get(json_object_get(object, "sources"), 0);
    assert_string_equal(json_string_value(json_object_get(first, "path")), "a \"b\"");
    assert_true(json_number_value(json_object_get(first, "loss")) == 2);
    json_decref(object);
    seo_buf_clear(&out);
    seo_eval_table(&r, &out);
    assert_non_null(strstr(out.data, "perplexity      7.39"));
    seo_buf_free(&out);
}

/* The result of one rank, and that of as many as the body is run with. */
typedef struct shared_eval {
    const bench *b;
    const seo_eval_result *alone;
    seo_dataset *held_out[8]; /* one for each rank: a dataset is read by one thread */
} shared_eval;

static seo_err same_as_alone(void *context, seo_comm *comm, seo_device *dev) {
    seo_err err = SEO_OK;
    shared_eval *s = context;
    seo_model *model = NULL;
    seo_eval_result r = {0};
    const seo_model_config config = tiny_config(0.1);
    SEO_TRY(seo_model_open(
        &(seo_model_args){
            .dev = dev, .config = &config, .mode = SEO_MODEL_EVAL, .batch = TINY_BATCH, .seed = 11},
        &model));
    SEO_TRY(seo_eval(&(seo_eval_args){.model = model,
                                      .batch = TINY_BATCH,
                                      .datasets = &s->held_out[seo_comm_rank(comm)],
                                      .dataset_count = 1,
                                      .comm = comm},
                     &r));
    if (r.loss != s->alone->loss || r.loss_stderr != s->alone->loss_stderr ||
        r.tokens != s->alone->tokens || r.bytes != s->alone->bytes ||
        r.windows != s->alone->windows) {
        err = SEO_FAIL(SEO_ERR_NUMERIC, "%.17g, alone %.17g", r.loss, s->alone->loss);
    }
done:
    seo_eval_free(&r);
    seo_model_close(model);
    return err;
}

/* Any number of ranks, also more than there are passes for in the last round: the same bits. */
static void any_number_of_ranks(void **state) {
    (void)state;
    bench b;
    seo_eval_result alone;
    bench_open(&b, SEO_MODEL_EVAL);
    const seo_eval_args args = args_of(&b);
    ok(seo_eval(&args, &alone));
    shared_eval s = {.b = &b, .alone = &alone};
    for (int r = 0; r < 8; r++) ok(seo_dataset_open(b.data.folder, "held-out", &s.held_out[r]));
    const int32_t sizes[] = {1, 2, 3, 8};
    for (int64_t i = 0; i < SEO_COUNT_OF(sizes); i++) {
        assert_true(sizes[i] == 1 || seo_div_up(alone.windows, TINY_BATCH) % 8 != 0);
        ok(threads_run(sizes[i], same_as_alone, &s));
    }
    for (int r = 0; r < 8; r++) seo_dataset_close(s.held_out[r]);
    seo_eval_free(&alone);
    bench_close(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(any_number_of_ranks),
                                       cmocka_unit_test(uniform),
                                       cmocka_unit_test(window_by_window),
                                       cmocka_unit_test(part_of_a_split), cmocka_unit_test(json)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
