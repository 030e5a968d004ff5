/* Whole runs through seo_train: going on, starting anew, other data, numbers out of hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "odd_device.h"
#include "run_fixture.h"

/* Twelve steps at once, and in three parts that are extended; then once more, finished. */
static void parts(void **state) {
    const run_bench *b = *state;
    run_ok(run_train(b, "whole", (run_words){0}));
    run_ok(run_train(b, "parts", (run_words){.sets = {"train.steps=4"}}));
    run_ok(run_train(b, "parts", (run_words){.sets = {"train.steps=5"}}));
    run_ok(run_train(b, "parts", (run_words){0}));
    run_ok(run_train(b, "parts", (run_words){0}));
    run_same_state(b, "whole", "parts");
    json_t *list = run_metrics(b, "whole");
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
    const run_bench *b = *state;
    run_ok(run_train(b, "whole", (run_words){.sets = {"eval.every=6"}}));
    run_ok(run_train(b, "late", (run_words){.sets = {"train.steps=6", "eval.every=0"}}));
    run_ok(run_train(b, "late", (run_words){.sets = {"eval.every=6"}}));
    run_same_metrics(b, "whole", "late");
    run_same_state(b, "whole", "late");
}

static void from_scratch(void **state) {
    const run_bench *b = *state;
    char path[SEO_PATH_MAX];
    seo_path_kind kind = SEO_PATH_NONE;
    run_ok(run_train(b, "whole", (run_words){0}));
    run_ok(run_train(b, "anew", (run_words){.sets = {"train.seed=4"}}));
    assert_int_equal(run_train(b, "anew", (run_words){0}), SEO_ERR_USAGE);
    assert_non_null(strstr(seo_err_detail(), "train.seed"));
    run_ok(run_train(b, "anew", (run_words){.from_scratch = true}));
    run_same_metrics(b, "whole", "anew");
    run_same_state(b, "whole", "anew");
    fixture_path(&b->scratch, "anew/metrics.jsonl.set-aside-1", path);
    run_ok(seo_path_look(path, &kind));
    assert_int_equal(kind, SEO_PATH_FILE);
}

static void other_data(void **state) {
    const run_bench *b = *state;
    char set[SEO_PATH_MAX + 16];
    run_ok(run_train(b, "run", (run_words){.sets = {"train.steps=5"}}));
    snprintf(set, sizeof set, "data.path=%s", b->other.folder);
    assert_int_equal(run_train(b, "run", (run_words){.sets = {set}}), SEO_ERR_USAGE);
    assert_non_null(strstr(seo_err_detail(), "another dataset"));
    assert_int_equal(run_train(b, "small", (run_words){.sets = {"model.vocab_size=39"}}),
                     SEO_ERR_USAGE);
    assert_non_null(strstr(seo_err_detail(), "model.vocab_size"));
}

static void allowed_change(void **state) {
    const run_bench *b = *state;
    const run_words changed = {.sets = {"optimizer.lr=2e-2"}};
    run_words allowed = changed;
    allowed.allow = "optimizer.lr";
    run_ok(run_train(b, "run", (run_words){.sets = {"train.steps=5"}}));
    assert_int_equal(run_train(b, "run", changed), SEO_ERR_USAGE);
    run_ok(run_train(b, "run", allowed));
    allowed.allow = "optimizer.rl";
    assert_int_equal(run_train(b, "run", allowed), SEO_ERR_USAGE);
    run_ok(run_train(b, "run", changed)); /* the checkpoint has the new value now */
}

static void mixture(void **state) {
    const run_bench *b = *state;
    char set[2 * SEO_PATH_MAX + 64], same[2 * SEO_PATH_MAX + 64];
    snprintf(set, sizeof set, "data.mix={%s: 2, %s: 1}", b->data.folder, b->other.folder);
    snprintf(same, sizeof same, "data.mix={%s: 2, %s: 1}", b->other.folder, b->data.folder);
    run_ok(run_train(b, "mix", (run_words){.sets = {"data.path=null", set}}));
    json_t *list = run_metrics(b, "mix");
    assert_int_equal(json_array_size(list), 12);
    json_decref(list);
    /* The same folders with their weights changed round are another run. */
    assert_int_equal(run_train(b, "mix", (run_words){.sets = {"data.path=null", same}}),
                     SEO_ERR_USAGE);
}

/* A rate that multiplies the weights by a thousand each step. */
static void out_of_hand(void **state) {
    const run_bench *b = *state;
    const run_words wild = {.sets = {"optimizer.lr=100", "optimizer.weight_decay=10",
                                     "train.steps=80", "eval.every=0"}};
    assert_int_equal(run_train(b, "wild", wild), SEO_ERR_NUMERIC);
    assert_non_null(strstr(seo_err_detail(), "10 steps in a row"));
    /* Sequences of the first of them, by document and source; how many have no finite loss is a
     * matter of the instruction level. */
    assert_non_null(strstr(seo_err_detail(), "\n  step "));
    assert_non_null(strstr(seo_err_detail(), ", sequence "));
    assert_non_null(strstr(seo_err_detail(), ": document"));
    assert_non_null(strstr(seo_err_detail(), " from "));
    json_t *list = run_metrics(b, "wild");
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

/* The keys "skipped" and "spike" of each step as letters: '.' none, 's' a spike, 'x' left out too.
 */
static void read_spikes(const run_bench *b, const char *run, char *out, size_t room) {
    json_t *list = run_metrics(b, run);
    const size_t count = json_array_size(list);
    assert_true(count < room);
    for (size_t i = 0; i < count; i++) {
        const json_t *line = json_array_get(list, i);
        const bool spike = json_object_get(line, "spike") != NULL;
        const bool skipped = json_object_get(line, "skipped") != NULL;
        assert_true(spike || !skipped);
        out[i] = skipped ? 'x' : spike ? 's' : '.';
    }
    out[count] = '\0';
    json_decref(list);
}

/* A watch so strict that noise is a spike: none before the window is full, some after it; left out
 * they change the course, warned of they do not. */
#define WATCHED "train.steps=48", "train.spike_window=16", "eval.every=0"
static void spikes(void **state) {
    const run_bench *b = *state;
    char off[64], warned[64], skipped[64];
    run_ok(run_train(b, "off", (run_words){.sets = {WATCHED, "train.spike_sigma=0"}}));
    run_ok(run_train(b, "warn", (run_words){.sets = {WATCHED, "train.spike_sigma=0.01"}}));
    run_ok(run_train(b, "skip",
                     (run_words){.sets = {WATCHED, "train.spike_sigma=0.01", "train.on_spike=skip",
                                          "train.max_bad_steps=48"}}));
    run_same_state(b, "off", "warn");
    /* The window goes with the checkpoint: in parts the same steps are spikes. */
    run_ok(run_train(b, "parts",
                     (run_words){.sets = {WATCHED, "train.spike_sigma=0.01", "train.on_spike=skip",
                                          "train.max_bad_steps=48", "train.steps=21"}}));
    run_ok(run_train(b, "parts",
                     (run_words){.sets = {WATCHED, "train.spike_sigma=0.01", "train.on_spike=skip",
                                          "train.max_bad_steps=48"}}));
    run_same_state(b, "skip", "parts");
    run_same_metrics(b, "skip", "parts");
    read_spikes(b, "off", off, sizeof off);
    read_spikes(b, "warn", warned, sizeof warned);
    read_spikes(b, "skip", skipped, sizeof skipped);
    assert_null(strpbrk(off, "sx"));
    assert_non_null(strchr(warned, 's'));
    assert_null(strchr(warned, 'x'));
    assert_non_null(strchr(skipped, 'x'));
    assert_null(strchr(skipped, 's'));
    assert_true(strcspn(warned, "s") >= 16 && strcspn(skipped, "x") == strcspn(warned, "s"));
    assert_int_equal(
        run_train(b, "few",
                  (run_words){.sets = {WATCHED, "train.spike_sigma=1e-9", "train.on_spike=skip",
                                       "train.max_bad_steps=1"}}),
        SEO_ERR_NUMERIC);
    assert_non_null(strstr(seo_err_detail(), "1 steps in a row"));
    assert_non_null(strstr(seo_err_detail(), "with the highest:\n  step "));
    assert_non_null(strstr(seo_err_detail(), ": document"));
}

static seo_err small_gpu(const seo_cuda_options *options, seo_device **out) {
    (void)options;
    *out = odd_device_open((odd_options){.memory_bytes = 128 << 10, .gpu = true});
    return SEO_OK;
}

/* A run that does not fit is a wrong configuration, and leaves nothing that looks like a run. */
static void too_little_memory(void **state) {
    const run_bench *b = *state;
    const char *const absent[] = {"big/config.yaml", "big/metrics.jsonl", "big/checkpoints"};
    assert_int_equal(run_train(b, "big", (run_words){.open_cuda = small_gpu}), SEO_ERR_USAGE);
    assert_non_null(strstr(seo_err_detail(), "out of memory"));
    for (int64_t i = 0; i < SEO_COUNT_OF(absent); i++) {
        char path[SEO_PATH_MAX];
        seo_path_kind kind = SEO_PATH_FILE;
        fixture_path(&b->scratch, absent[i], path);
        run_ok(seo_path_look(path, &kind));
        assert_int_equal(kind, SEO_PATH_NONE);
    }
    run_ok(run_train(b, "big", (run_words){.sets = {"train.steps=3"}}));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, run_bench_make, run_bench_clear)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(parts),       TEST(late_evaluation), TEST(from_scratch),
        TEST(other_data),  TEST(allowed_change),  TEST(mixture),
        TEST(out_of_hand), TEST(spikes),          TEST(too_little_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
