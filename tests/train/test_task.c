/* A task's examples on a small model: losses and guesses against passes made by hand, any number of
 * ranks, and what is wrong with a file or a model. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "../support/dataset_fixture.h"
#include "../support/threads_comm.h"
#include "base/check.h"
#include "data/bpe_train.h"
#include "tiny_model.h"
#include "train/task.h"

enum { BYTES = 257, LABELS = 3 };

static const char k_pairs[] = "{\"prompt\": \"ab\", \"completion\": \"cde\"}\n"
                              "{\"prompt\": \"\", \"completion\": \"x\"}\n"
                              "{\"prompt\": \"hello\", \"completion\": \" you\"}\n";
static const char k_texts[] = "label\ttext\n"
                              "red\tab cd\n"
                              "green\tnothing at all\n"
                              "blue\tq\n"
                              "green\tsome more\n"
                              "red\tof these\n";

typedef struct bench {
    fixture scratch;
    char tokenizer[SEO_PATH_MAX], file[SEO_PATH_MAX];
    seo_config config;
    tiny_model t;
    seo_task *task;
} bench;

static void ok(seo_err err) {
    if (err != SEO_OK) fail_msg("%s", seo_err_detail());
}

static void enliven(seo_model *model) {
    const seo_params *table = seo_model_table(model);
    for (int64_t row = 0; row < table->count; row++) {
        const seo_param *p = &table->items[row];
        const int64_t count = seo_param_elements(p);
        float *values = malloc((size_t)count * sizeof *values);
        uint32_t state = 12345u + (uint32_t)row;
        for (int64_t i = 0; i < count; i++) {
            state = state * 1664525u + 1013904223u;
            values[i] = (p->init == SEO_INIT_ONES ? 1.0f : 0.0f) +
                        0.4f * ((float)(state >> 8) / (float)(1 << 24) - 0.5f);
        }
        ok(seo_model_set_param(model, p->name, values, count));
        free(values);
    }
}

static seo_err open_task(bench *b, const char *name, const char *text) {
    fixture_path(&b->scratch, name, b->file);
    ok(seo_file_write_atomic(b->file, text, (int64_t)strlen(text)));
    return seo_task_open(
        &(seo_task_args){.config = &b->config, .tokenizer_path = b->tokenizer, .held_out = b->file},
        &b->task);
}

static void bench_open(bench *b, seo_task_kind kind, seo_family family) {
    seo_word_table none = {0};
    seo_tokenizer *bytes = NULL;
    *b = (bench){0};
    fixture_folder(&b->scratch);
    fixture_path(&b->scratch, "tokenizer.json", b->tokenizer);
    ok(seo_bpe_train_words(&none, BYTES, SEO_SPECIAL_GPT2, &bytes));
    ok(seo_tokenizer_save(bytes, b->tokenizer));
    seo_tokenizer_free(bytes);
    b->config.model = tiny_config(0.1);
    b->config.model.family = family;
    b->config.model.vocab_size = BYTES;
    b->config.model.has_spans = true;
    b->config.task.kind = kind;
    if (kind == SEO_TASK_CLASSIFY) {
        b->config.model.classes = LABELS;
        snprintf(b->config.task.labels, sizeof b->config.task.labels, "red, green, blue");
    }
    tiny_open(&b->t, &b->config.model, SEO_MODEL_EVAL, 1);
    enliven(b->t.model);
}

static void bench_close(bench *b) {
    seo_task_close(b->task);
    tiny_close(&b->t);
    fixture_remove(&b->scratch);
}

static seo_task_eval_args args_of(const bench *b) {
    return (seo_task_eval_args){.task = b->task, .model = b->t.model, .batch = 2};
}

/* The sum of losses of one row of ids with these targets. */
static double nats_of(bench *b, const int32_t *ids, const int32_t *targets, int64_t count) {
    const seo_tensor losses = seo_tensor_1d(b->t.losses.data, SEO_DTYPE_F32, count);
    ok(seo_model_forward(b->t.model, &(seo_pass_args){.ids = ids,
                                                      .targets = targets,
                                                      .stride = count,
                                                      .batch = 1,
                                                      .positions = count,
                                                      .losses = losses}));
    float values[TINY_POSITIONS];
    ok(seo_device_copy_out(b->t.dev, values, losses.data, count * 4));
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += (double)values[i];
    return sum;
}

/* Completions and the end of text count, prompts do not. */
static void pairs(void **state) {
    (void)state;
    bench b;
    seo_task_result r;
    bench_open(&b, SEO_TASK_PAIRS, SEO_FAMILY_GPT2);
    ok(open_task(&b, "pairs.jsonl", k_pairs));
    const seo_task_eval_args args = args_of(&b);
    ok(seo_task_eval(&args, &r));
    assert_int_equal(r.examples, 3);
    assert_int_equal(r.tokens, (3 + 1) + (1 + 1) + (4 + 1));
    const int32_t end = seo_tokenizer_eot(seo_task_tokenizer(b.task));
    const int32_t ids1[] = {'a', 'b', 'c', 'd', 'e'}, to1[] = {-1, 'c', 'd', 'e', end};
    const int32_t ids2[] = {end, 'x'}, to2[] = {'x', end};
    const int32_t ids3[] = {'h', 'e', 'l', 'l', 'o', ' ', 'y', 'o', 'u'};
    const int32_t to3[] = {-1, -1, -1, -1, ' ', 'y', 'o', 'u', end};
    const double want =
        (nats_of(&b, ids1, to1, 5) + nats_of(&b, ids2, to2, 2) + nats_of(&b, ids3, to3, 9)) / 11;
    /* Rows of another length: the same sums of f32 numbers in other orders. */
    if (!(fabs(r.loss - want) <= 200 * FLT_EPSILON * want))
        fail_msg("%.9g, not %.9g", r.loss, want);
    assert_true(r.perplexity == exp(r.loss));
    seo_task_result_free(&r);
    bench_close(&b);
}

/* What the table of guesses says is what each text by itself gives, for decoders and encoders. */
static void classes(void **state) {
    (void)state;
    static const char *const texts[] = {"ab cd", "nothing at all", "q", "some more", "of these"};
    static const int64_t labels[] = {0, 1, 2, 1, 0};
    bench b;
    seo_task_result r;
    bench_open(&b, SEO_TASK_CLASSIFY, SEO_FAMILY_GPT2);
    ok(open_task(&b, "texts.tsv", k_texts));
    const seo_task_eval_args args = args_of(&b);
    ok(seo_task_eval(&args, &r));
    seo_confusion m = {0};
    ok(seo_confusion_open(LABELS, &m));
    double nats = 0;
    for (int64_t i = 0; i < SEO_COUNT_OF(texts); i++) {
        float logits[LABELS];
        double p[LABELS];
        ok(seo_task_logits(b.task, b.t.model, texts[i], NULL, logits));
        ok(seo_confusion_add(&m, labels[i], seo_classify_guess(logits, LABELS)));
        seo_classify_probabilities(logits, LABELS, p);
        nats -= log(p[labels[i]]);
    }
    assert_memory_equal(m.counts, r.confusion.counts, LABELS * LABELS * sizeof *m.counts);
    assert_int_equal(r.examples, 5);
    assert_int_equal(r.scores.examples, 5);
    if (!(fabs(r.loss - nats / 5) <= 200 * FLT_EPSILON * r.loss)) {
        fail_msg("%.9g, not %.9g", r.loss, nats / 5);
    }
    seo_confusion_free(&m);
    seo_task_result_free(&r);
    bench_close(&b);
}

typedef struct shared_eval {
    bench *b;
    const seo_task_result *alone;
} shared_eval;

static seo_err same_as_alone(void *context, seo_comm *comm, seo_device *dev) {
    seo_err err = SEO_OK;
    const shared_eval *s = context;
    seo_task_result r = {0};
    seo_model *model = NULL;
    SEO_TRY(seo_model_open(&(seo_model_args){.dev = dev,
                                             .config = &s->b->config.model,
                                             .mode = SEO_MODEL_EVAL,
                                             .batch = 2,
                                             .seed = 11},
                           &model));
    enliven(model);
    SEO_TRY(seo_task_eval(&(seo_task_eval_args){.task = s->b->task,
                                                .model = model,
                                                .batch = 2,
                                                .comm = seo_comm_size(comm) > 1 ? comm : NULL},
                          &r));
    if (memcmp(&r.loss, &s->alone->loss, sizeof r.loss) != 0 ||
        memcmp(r.confusion.counts, s->alone->confusion.counts,
               LABELS * LABELS * sizeof *r.confusion.counts) != 0) {
        err = SEO_FAIL(SEO_ERR_NUMERIC, "%.17g, alone %.17g", r.loss, s->alone->loss);
    }
done:
    seo_task_result_free(&r);
    seo_model_close(model);
    return err;
}

static void any_number_of_ranks(void **state) {
    (void)state;
    bench b;
    seo_task_result alone;
    bench_open(&b, SEO_TASK_CLASSIFY, SEO_FAMILY_GPT2);
    ok(open_task(&b, "texts.tsv", k_texts));
    const seo_task_eval_args args = args_of(&b);
    ok(seo_task_eval(&args, &alone));
    for (int32_t ranks = 1; ranks <= 4; ranks++) {
        ok(threads_run(ranks, same_as_alone, &(shared_eval){.b = &b, .alone = &alone}));
    }
    seo_task_result_free(&alone);
    bench_close(&b);
}

static void json(void **state) {
    (void)state;
    bench b;
    seo_task_result r;
    seo_buf text = {0};
    bench_open(&b, SEO_TASK_CLASSIFY, SEO_FAMILY_GPT2);
    ok(open_task(&b, "texts.tsv", k_texts));
    const seo_task_eval_args args = args_of(&b);
    ok(seo_task_eval(&args, &r));
    seo_task_json(b.task, &r, 7, &text);
    ok(seo_buf_check(&text));
    json_t *root = json_loadb(text.data, text.bytes, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(root);
    assert_true(json_real_value(json_object_get(root, "accuracy")) == r.scores.accuracy);
    assert_int_equal(json_integer_value(json_object_get(root, "step")), 7);
    assert_int_equal(json_array_size(json_object_get(root, "labels")), LABELS);
    const json_t *rows = json_object_get(root, "confusion");
    for (size_t l = 0; l < LABELS; l++) {
        for (size_t g = 0; g < LABELS; g++) {
            assert_int_equal(json_integer_value(json_array_get(json_array_get(rows, l), g)),
                             r.confusion.counts[l * LABELS + g]);
        }
    }
    json_decref(root);
    seo_buf_free(&text);
    seo_task_result_free(&r);
    bench_close(&b);
}

static void says(const char *what) {
    if (!strstr(seo_err_detail(), what)) fail_msg("no '%s' in: %s", what, seo_err_detail());
}

/* Each names the file, and the line where there is one. */
static void wrong_files(void **state) {
    (void)state;
    static const struct {
        seo_task_kind kind;
        const char *name, *text, *says[2];
    } cases[] = {
        {SEO_TASK_CLASSIFY, "a.tsv", "red\tx\nviolet\ty\n", {"a.tsv:2", "violet"}},
        {SEO_TASK_CLASSIFY, "a.jsonl", "{\"text\": \"x\", \"label\": 3}\n", {"a.jsonl:1", "3"}},
        {SEO_TASK_CLASSIFY, "a.tsv", "red\tx\ty\nblue\tz\n", {"a.tsv:2", "second"}},
        {SEO_TASK_PAIRS, "a.jsonl", "\n{\"prompt\": \"x\"}\n", {"a.jsonl:2", "completion"}},
        {SEO_TASK_PAIRS, "a.jsonl", "", {"a.jsonl", ""}},
    };
    for (int64_t i = 0; i < SEO_COUNT_OF(cases); i++) {
        bench b;
        bench_open(&b, cases[i].kind, SEO_FAMILY_GPT2);
        assert_int_not_equal(open_task(&b, cases[i].name, cases[i].text), SEO_OK);
        says("task.held_out");
        says(cases[i].says[0]);
        says(cases[i].says[1]);
        assert_null(b.task);
        bench_close(&b);
    }
    bench b;
    bench_open(&b, SEO_TASK_PAIRS, SEO_FAMILY_GPT2);
    b.config.model.vocab_size = 100;
    assert_int_equal(open_task(&b, "a.jsonl", k_pairs), SEO_ERR_USAGE);
    says("model.vocab_size is 100: make it 257 or more");
    bench_close(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_number_of_ranks),
        cmocka_unit_test(pairs),
        cmocka_unit_test(classes),
        cmocka_unit_test(json),
        cmocka_unit_test(wrong_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
