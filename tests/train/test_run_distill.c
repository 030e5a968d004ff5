/* Runs that learn from a teacher: what they begin as, what they record, that they go on with the
 * same bits, and which teachers they refuse. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "run_fixture.h"
#include "train/checkpoint.h"
#include "train/checkpoint/remake.h"
#include "train/teacher.h"

/* A learning rate that changes no bit. */
static const char k_still[] = "optimizer.lr=1e-30";

static void teacher_setting(const run_bench *b, const char *name, char out[SEO_PATH_MAX]) {
    char folder[SEO_PATH_MAX];
    fixture_path(&b->scratch, name, folder);
    snprintf(out, SEO_PATH_MAX, "distill.teacher=%.*s", SEO_PATH_MAX - 32, folder);
}

static void train_teacher(const run_bench *b, const char *name, const char *seed) {
    run_ok(run_train(
        b, name,
        (run_words){.sets = {"model.num_layers=4", "train.steps=3", seed, "eval.every=0"}}));
}

static bool same_values(seo_ckpt *a, const char *name, seo_ckpt *b, const char *there) {
    int64_t na = 0, nb = 0;
    float *x = run_values(a, name, &na), *y = run_values(b, there, &nb);
    const bool same = na == nb && memcmp(x, y, (size_t)na * sizeof *x) == 0;
    free(x);
    free(y);
    return same;
}

/* Layer for layer, by default (0, 3) and as told. */
static void begins_as_layers(void **state) {
    const run_bench *b = *state;
    char teacher[SEO_PATH_MAX];
    static const char *const parts[] = {"norm1.bias", "attn.qkv.weight", "mlp.proj.weight"};
    static const struct {
        const char *set;
        int layers[2];
    } cases[] = {{"eval.every=0", {0, 3}}, {"distill.layers=2, 1", {2, 1}}};
    seo_ckpt *from = NULL;
    train_teacher(b, "teacher", "train.seed=8");
    teacher_setting(b, "teacher", teacher);
    run_open(b, "teacher", &from);
    for (int i = 0; i < SEO_COUNT_OF(cases); i++) {
        char name[32], here[64], there[64];
        seo_ckpt *student = NULL;
        snprintf(name, sizeof name, "student%d", i);
        run_ok(run_train(b, name,
                         (run_words){.sets = {teacher, cases[i].set, k_still, "model.num_layers=2",
                                              "train.steps=1", "schedule.warmup_steps=0"}}));
        run_open(b, name, &student);
        assert_string_equal(seo_ckpt_state_of(student)->teacher_hash, seo_ckpt_hash(from));
        assert_string_equal(seo_ckpt_state_of(student)->teacher_path, seo_ckpt_path(from));
        assert_true(same_values(student, "wte", from, "wte"));
        assert_true(same_values(student, "wpe", from, "wpe"));
        assert_true(same_values(student, "norm_final.weight", from, "norm_final.weight"));
        for (int l = 0; l < 2; l++) {
            for (int p = 0; p < SEO_COUNT_OF(parts); p++) {
                snprintf(here, sizeof here, "blocks.%d.%s", l, parts[p]);
                snprintf(there, sizeof there, "blocks.%d.%s", cases[i].layers[l], parts[p]);
                assert_true(same_values(student, here, from, there));
            }
        }
        seo_ckpt_close(student);
    }
    seo_ckpt_close(from);
}

/* With none every parameter is random, as without a teacher. */
static void begins_as_nothing(void **state) {
    const run_bench *b = *state;
    char teacher[SEO_PATH_MAX];
    seo_ckpt *taught = NULL, *alone = NULL;
    train_teacher(b, "teacher", "train.seed=8");
    teacher_setting(b, "teacher", teacher);
    const run_words words = {.sets = {k_still, "train.steps=1", "schedule.warmup_steps=0", teacher,
                                      "distill.layers=none"}};
    run_words without = words;
    without.sets[3] = NULL;
    run_ok(run_train(b, "taught", words));
    run_ok(run_train(b, "alone", without));
    run_open(b, "taught", &taught);
    run_open(b, "alone", &alone);
    assert_true(same_values(taught, "wte", alone, "wte"));
    assert_true(same_values(taught, "blocks.0.mlp.fc.weight", alone, "blocks.0.mlp.fc.weight"));
    seo_ckpt_close(taught);
    seo_ckpt_close(alone);
}

/* What a step reports apart adds up to its loss. */
static void check_metrics(const run_bench *b, const char *run, double cosine) {
    json_t *list = run_metrics(b, run);
    assert_int_equal(json_array_size(list), 12);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *r = json_array_get(list, i);
        const double loss = json_real_value(json_object_get(r, "loss"));
        const double hard = json_real_value(json_object_get(r, "hard_loss"));
        const double soft = json_real_value(json_object_get(r, "soft_loss"));
        const double angle = json_real_value(json_object_get(r, "cosine_loss"));
        assert_true(hard > 0 && soft > 0);
        assert_true((angle > 0) == (cosine > 0));
        /* Nine digits are written. */
        const double off = loss - (2 * hard + 5 * soft + angle);
        assert_true(off < 1e-7 * loss && -off < 1e-7 * loss);
    }
    json_decref(list);
}

/* In two pieces as in one, with a projection and dropout. */
static void goes_on(void **state) {
    const run_bench *b = *state;
    char teacher[SEO_PATH_MAX];
    train_teacher(b, "teacher", "train.seed=8");
    teacher_setting(b, "teacher", teacher);
    run_words words = {.sets = {teacher, "model.hidden_size=8", "model.num_layers=2"}};
    run_words first = words;
    first.sets[3] = "train.steps=4";
    run_ok(run_train(b, "whole", words));
    run_ok(run_train(b, "parts", first));
    run_ok(run_train(b, "parts", words));
    run_same_state(b, "whole", "parts");
    run_same_metrics(b, "whole", "parts");
    check_metrics(b, "whole", 1);
    seo_ckpt *student = NULL;
    int64_t count = 0;
    run_open(b, "whole", &student);
    free(run_values(student, "distill.proj.weight", &count));
    assert_int_equal(count, 16 * 8);
    seo_ckpt_close(student);
    words.sets[3] = "distill.cosine=0";
    run_ok(run_train(b, "no_angle", words));
    check_metrics(b, "no_angle", 0);
}

static void refuses(const run_bench *b, const char *run, run_words words, const char *says) {
    const seo_err err = run_train(b, run, words);
    if (err != SEO_ERR_USAGE || !strstr(seo_err_detail(), says)) {
        fail_msg("wanted \"%s\", got: %s", says, err == SEO_OK ? "no error" : seo_err_detail());
    }
}

static void other_teacher_on_the_way(void **state) {
    const run_bench *b = *state;
    char teacher[SEO_PATH_MAX], other[SEO_PATH_MAX];
    train_teacher(b, "teacher", "train.seed=8");
    train_teacher(b, "other", "train.seed=9");
    teacher_setting(b, "teacher", teacher);
    teacher_setting(b, "other", other);
    run_ok(run_train(b, "student", (run_words){.sets = {teacher, "train.steps=5"}}));
    refuses(b, "student", (run_words){.sets = {other}}, "learned from another teacher (");
    refuses(b, "student", (run_words){.sets = {0}},
            "distill.teacher: given in the checkpoint, null now");
    run_ok(run_train(b, "alone", (run_words){.sets = {"train.steps=5"}}));
    refuses(b, "alone", (run_words){.sets = {teacher}},
            "distill.teacher: null in the checkpoint, given now");
}

static void refused(void **state) {
    const run_bench *b = *state;
    char teacher[SEO_PATH_MAX], data[SEO_PATH_MAX];
    static const struct {
        const char *sets[2], *says;
    } cases[] = {
        {{"model.vocab_size=48"}, "has a vocabulary of 40 tokens, the student of 48"},
        {{"model.seq_len=32"}, "at most 16 tokens, the student's have 32: use model.seq_len: 16"},
        {{"distill.layers=4"}, "there is no layer 4: "},
        {{"model.num_layers=5"}, "the student has 5 layers, its teacher "},
    };
    train_teacher(b, "teacher", "train.seed=8");
    teacher_setting(b, "teacher", teacher);
    for (int64_t i = 0; i < SEO_COUNT_OF(cases); i++) {
        refuses(b, "student", (run_words){.sets = {teacher, cases[i].sets[0]}}, cases[i].says);
    }
    fixture stranger = fixture_usual();
    stranger.vocab_size = 40;
    stranger.documents = 50;
    stranger.document_most = 60;
    stranger.other_tokenizer = true;
    fixture_make(&stranger);
    snprintf(data, sizeof data, "data.path=%.*s", SEO_PATH_MAX - 16, stranger.folder);
    refuses(b, "student", (run_words){.sets = {teacher, data}}, "another tokenizer");
    assert_non_null(strstr(seo_err_detail(), "seodang data build --tokenizer "));
    fixture_remove(&stranger);
    teacher_setting(b, "nobody", teacher);
    assert_int_equal(run_train(b, "student", (run_words){.sets = {teacher}}), SEO_ERR_MISSING);
    assert_non_null(strstr(seo_err_detail(), "distill.teacher"));
}

/* A teacher that never heard of documents reads those of a student's mask all the same. */
static void student_masks_documents(void **state) {
    const run_bench *b = *state;
    char teacher[SEO_PATH_MAX];
    train_teacher(b, "teacher", "train.seed=8");
    teacher_setting(b, "teacher", teacher);
    run_ok(run_train(b, "student", (run_words){.sets = {teacher, "data.document_mask=true"}}));
    check_metrics(b, "student", 1);
}

static seo_err zeros(void *context, int64_t tensor, int64_t first, int64_t count, float *out) {
    (void)context;
    (void)tensor;
    (void)first;
    memset(out, 0, (size_t)count * sizeof *out);
    return SEO_OK;
}

/* A teacher of which there is nothing but its configuration, and what a student makes of it. */
static seo_err open_teacher(const run_bench *b, const char *name, const char *yaml,
                            seo_config *student, seo_teacher **out) {
    char folder[SEO_PATH_MAX];
    seo_ckpt_tensor tensor = {.name = "parameters/wte", .rank = 2, .dims = {40, 16}};
    const seo_ckpt_snapshot snapshot = {.tensors = &tensor, .tensor_count = 1, .config_yaml = yaml};
    const seo_ckpt_source source = {.read = zeros};
    fixture_path(&b->scratch, name, folder);
    run_ok(seo_ckpt_write_anew(folder, &snapshot, 1, &source));
    snprintf(student->distill.teacher, sizeof student->distill.teacher, "%.1000s", folder);
    return seo_teacher_open(student, NULL, out);
}

/* A copy as it was written before GPT-3 had banded layers does not name them: it is dense. */
static void earlier_teacher_is_dense(void **state) {
    const run_bench *b = *state;
    seo_teacher *teacher = NULL;
    seo_config *student = calloc(1, sizeof *student);
    assert_non_null(student);
    run_ok(seo_config_load(b->config, NULL, 0, student));
    run_ok(open_teacher(b, "teacher",
                        "model: {family: gpt3, num_layers: 1, num_heads: 2, hidden_size: 16, "
                        "seq_len: 16, vocab_size: 40}\n"
                        "data: {path: gone}\ntrain: {steps: 1, batch_tokens: 64, micro_batch: 2}\n"
                        "optimizer: {lr: 1e-2}\nschedule: {name: constant}\n",
                        student, &teacher));
    assert_int_equal(teacher->config.model.band, 0);
    seo_teacher_close(teacher);
    free(student);
}

/* RoBERTa has one token type; pairs of sentences have two. */
static void teacher_of_one_type(void **state) {
    const run_bench *b = *state;
    static const char *const one[] = {"model.family=roberta"}, *const two[] = {"model.family=bert"};
    seo_teacher *teacher = NULL;
    seo_buf yaml = {0};
    seo_config *config = calloc(1, sizeof *config);
    assert_non_null(config);
    run_ok(seo_config_load(b->config, one, 1, config));
    run_ok(seo_config_write(config, &yaml));
    run_ok(seo_buf_check(&yaml));
    run_ok(seo_config_load(b->config, two, 1, config));
    assert_int_equal(open_teacher(b, "teacher", yaml.data, config, &teacher), SEO_ERR_USAGE);
    assert_non_null(strstr(seo_err_detail(), "has one token type"));
    assert_null(teacher);
    seo_buf_free(&yaml);
    free(config);
}

#define RUN_TEST(f) cmocka_unit_test_setup_teardown(f, run_bench_make, run_bench_clear)

int main(void) {
    const struct CMUnitTest tests[] = {
        RUN_TEST(begins_as_layers),
        RUN_TEST(begins_as_nothing),
        RUN_TEST(goes_on),
        RUN_TEST(other_teacher_on_the_way),
        RUN_TEST(refused),
        RUN_TEST(earlier_teacher_is_dense),
        RUN_TEST(teacher_of_one_type),
        RUN_TEST(student_masks_documents),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
