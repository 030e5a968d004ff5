/* Whole runs through seo_train: going on, starting anew, other data, numbers out of hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "../support/dataset_fixture.h"
#include "base/check.h"
#include "base/log.h"
#include "odd_device.h"
#include "train/checkpoint.h"
#include "train/run.h"

typedef struct bench {
    fixture data, other;
    char config[SEO_PATH_MAX]; /* of the first dataset, in its folder's neighbour */
    fixture scratch;
} bench;

static const char k_config[] = "model: {num_layers: 1, num_heads: 2, hidden_size: 16, seq_len: 16, "
                               "vocab_size: 40, dropout: 0.1}\n"
                               "data: {path: %s}\n"
                               "train: {steps: 12, batch_tokens: 64, micro_batch: 2, seed: 3}\n"
                               "optimizer: {lr: 1e-2}\n"
                               "schedule: {name: constant, warmup_steps: 2}\n"
                               "eval: {every: 4, tokens: 0}\n"
                               "checkpoint: {every: 5, keep_last: 2}\n";

static fixture small(uint64_t seed) {
    fixture f = fixture_usual();
    f.vocab_size = 40;
    f.documents = 50;
    f.document_most = 60;
    f.seed = seed;
    return f;
}

static int make(void **state) {
    bench *b = calloc(1, sizeof *b);
    char text[8192];
    seo_log_setup(&(seo_log_options){.level = SEO_LOG_QUIET});
    b->data = small(1);
    b->other = small(2);
    fixture_make(&b->data);
    fixture_make(&b->other);
    fixture_folder(&b->scratch);
    fixture_path(&b->scratch, "run.yaml", b->config);
    const int bytes = snprintf(text, sizeof text, k_config, b->data.folder);
    SEO_ASSERT(seo_file_write_atomic(b->config, text, bytes) == SEO_OK);
    *state = b;
    return 0;
}

static int clear(void **state) {
    bench *b = *state;
    fixture_remove(&b->data);
    fixture_remove(&b->other);
    fixture_remove(&b->scratch);
    free(b);
    return 0;
}

/* Up to four settings, ended by NULL. */
typedef struct words {
    const char *sets[5];
    const char *allow;
    bool from_scratch;
    seo_cuda_opener *open_cuda;
} words;

static seo_err train(const bench *b, const char *name, words w) {
    char folder[SEO_PATH_MAX];
    int64_t count = 0;
    fixture_path(&b->scratch, name, folder);
    while (w.sets[count]) count++;
    return seo_train(&(seo_train_args){.config_path = b->config,
                                       .sets = w.sets,
                                       .set_count = count,
                                       .run_dir = folder,
                                       .threads = 1,
                                       .allow = &w.allow,
                                       .allow_count = w.allow ? 1 : 0,
                                       .from_scratch = w.from_scratch,
                                       .open_cuda = w.open_cuda});
}

static void ok(seo_err err) {
    if (err != SEO_OK) fail_msg("%s", seo_err_detail());
}

/* The metrics as a list of objects without what the clock decides. */
static json_t *metrics(const bench *b, const char *run) {
    char name[128], path[SEO_PATH_MAX], *text = NULL;
    int64_t bytes = 0;
    snprintf(name, sizeof name, "%s/metrics.jsonl", run);
    fixture_path(&b->scratch, name, path);
    ok(seo_file_read(path, 1 << 20, &text, &bytes));
    json_t *list = json_array();
    for (char *line = text; *line != '\0';) {
        char *end = strchr(line, '\n');
        assert_non_null(end);
        json_t *object = json_loadb(line, (size_t)(end - line), JSON_REJECT_DUPLICATES, NULL);
        assert_non_null(object);
        json_object_del(object, "time");
        json_array_append_new(list, object);
        line = end + 1;
    }
    free(text);
    return list;
}

static void same_metrics(const bench *b, const char *run, const char *as) {
    json_t *one = metrics(b, run), *two = metrics(b, as);
    assert_true(json_array_size(one) > 0);
    assert_true(json_equal(one, two));
    json_decref(one);
    json_decref(two);
}

static void same_state(const bench *b, const char *run, const char *as) {
    char one[SEO_PATH_MAX], two[SEO_PATH_MAX];
    seo_buf report = {0};
    bool same = false;
    fixture_path(&b->scratch, run, one);
    fixture_path(&b->scratch, as, two);
    ok(seo_ckpt_diff(one, two, &same, &report));
    if (!same) fail_msg("%s", report.data);
    seo_buf_free(&report);
}

/* Twelve steps at once, and in three parts that are extended; then once more, finished. */
static void parts(void **state) {
    const bench *b = *state;
    ok(train(b, "whole", (words){0}));
    ok(train(b, "parts", (words){.sets = {"train.steps=4"}}));
    ok(train(b, "parts", (words){.sets = {"train.steps=5"}}));
    ok(train(b, "parts", (words){0}));
    ok(train(b, "parts", (words){0}));
    same_state(b, "whole", "parts");
    json_t *list = metrics(b, "whole");
    assert_int_equal(json_array_size(list), 12);
    for (size_t i = 0; i < 12; i++) {
        const json_t *line = json_array_get(list, i);
        assert_int_equal(json_integer_value(json_object_get(line, "step")), (json_int_t)i + 1);
        assert_int_equal(json_integer_value(json_object_get(line, "tokens")),
                         64 * ((json_int_t)i + 1));
        assert_int_equal(json_object_get(line, "eval_loss") != NULL, (i + 1) % 4 == 0);
    }
    json_decref(list);
}

/* A stop between a step and its evaluation leaves a line without one; going on adds it. */
static void late_evaluation(void **state) {
    const bench *b = *state;
    ok(train(b, "whole", (words){.sets = {"eval.every=6"}}));
    ok(train(b, "late", (words){.sets = {"train.steps=6", "eval.every=0"}}));
    ok(train(b, "late", (words){.sets = {"eval.every=6"}}));
    same_metrics(b, "whole", "late");
    same_state(b, "whole", "late");
}

static void from_scratch(void **state) {
    const bench *b = *state;
    char path[SEO_PATH_MAX];
    seo_path_kind kind = SEO_PATH_NONE;
    ok(train(b, "whole", (words){0}));
    ok(train(b, "anew", (words){.sets = {"train.seed=4"}}));
    assert_int_equal(train(b, "anew", (words){0}), SEO_ERR_USAGE);
    assert_non_null(strstr(seo_err_detail(), "train.seed"));
    ok(train(b, "anew", (words){.from_scratch = true}));
    same_metrics(b, "whole", "anew");
    same_state(b, "whole", "anew");
    fixture_path(&b->scratch, "anew/metrics.jsonl.set-aside-1", path);
    ok(seo_path_look(path, &kind));
    assert_int_equal(kind, SEO_PATH_FILE);
}

static void other_data(void **state) {
    const bench *b = *state;
    char set[SEO_PATH_MAX + 16];
    ok(train(b, "run", (words){.sets = {"train.steps=5"}}));
    snprintf(set, sizeof set, "data.path=%s", b->other.folder);
    assert_int_equal(train(b, "run", (words){.sets = {set}}), SEO_ERR_USAGE);
    assert_non_null(strstr(seo_err_detail(), "another dataset"));
    assert_int_equal(train(b, "small", (words){.sets = {"model.vocab_size=39"}}), SEO_ERR_USAGE);
    assert_non_null(strstr(seo_err_detail(), "model.vocab_size"));
}

static void allowed_change(void **state) {
    const bench *b = *state;
    const words changed = {.sets = {"optimizer.lr=2e-2"}};
    words allowed = changed;
    allowed.allow = "optimizer.lr";
    ok(train(b, "run", (words){.sets = {"train.steps=5"}}));
    assert_int_equal(train(b, "run", changed), SEO_ERR_USAGE);
    ok(train(b, "run", allowed));
    allowed.allow = "optimizer.rl";
    assert_int_equal(train(b, "run", allowed), SEO_ERR_USAGE);
    ok(train(b, "run", changed)); /* the checkpoint has the new value now */
}

static void mixture(void **state) {
    const bench *b = *state;
    char set[2 * SEO_PATH_MAX + 64], same[2 * SEO_PATH_MAX + 64];
    snprintf(set, sizeof set, "data.mix={%s: 2, %s: 1}", b->data.folder, b->other.folder);
    snprintf(same, sizeof same, "data.mix={%s: 2, %s: 1}", b->other.folder, b->data.folder);
    ok(train(b, "mix", (words){.sets = {"data.path=null", set}}));
    json_t *list = metrics(b, "mix");
    assert_int_equal(json_array_size(list), 12);
    json_decref(list);
    /* The same folders with their weights changed round are another run. */
    assert_int_equal(train(b, "mix", (words){.sets = {"data.path=null", same}}), SEO_ERR_USAGE);
}

/* A rate that multiplies the weights by a thousand each step. */
static void out_of_hand(void **state) {
    const bench *b = *state;
    const words wild = {.sets = {"optimizer.lr=100", "optimizer.weight_decay=10", "train.steps=80",
                                 "eval.every=0"}};
    assert_int_equal(train(b, "wild", wild), SEO_ERR_NUMERIC);
    assert_non_null(strstr(seo_err_detail(), "10 steps in a row"));
    json_t *list = metrics(b, "wild");
    const size_t count = json_array_size(list);
    assert_true(count > 10 && count < 80);
    for (size_t i = 0; i < count; i++) {
        const json_t *line = json_array_get(list, i);
        const bool skipped = json_object_get(line, "skipped") != NULL;
        assert_true(skipped || i < count - 10);
        assert_true(!skipped || i > 0);
        assert_int_equal(json_is_number(json_object_get(line, "loss_mean")), 1);
    }
    json_decref(list);
}

static seo_err small_gpu(const seo_cuda_options *options, seo_device **out) {
    (void)options;
    *out = odd_device_open((odd_options){.memory_bytes = 128 << 10, .gpu = true});
    return SEO_OK;
}

/* A run that does not fit is a wrong configuration, and leaves nothing that looks like a run. */
static void too_little_memory(void **state) {
    const bench *b = *state;
    const char *const absent[] = {"big/config.yaml", "big/metrics.jsonl", "big/checkpoints"};
    assert_int_equal(train(b, "big", (words){.open_cuda = small_gpu}), SEO_ERR_USAGE);
    assert_non_null(strstr(seo_err_detail(), "out of memory"));
    for (int64_t i = 0; i < SEO_COUNT_OF(absent); i++) {
        char path[SEO_PATH_MAX];
        seo_path_kind kind = SEO_PATH_FILE;
        fixture_path(&b->scratch, absent[i], path);
        ok(seo_path_look(path, &kind));
        assert_int_equal(kind, SEO_PATH_NONE);
    }
    ok(train(b, "big", (words){.sets = {"train.steps=3"}}));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make, clear)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(parts),          TEST(late_evaluation), TEST(from_scratch), TEST(other_data),
        TEST(allowed_change), TEST(mixture),         TEST(out_of_hand),  TEST(too_little_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
