/* Runs that begin from another run's parameters: what they take, what they refuse, and that they
 * need the source only once. */
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
#include "run_fixture.h"
#include "train/checkpoint.h"
#include "train/eval.h"
#include "train/merge.h"
#include "train/restore.h"

static const char k_fresh[] = "optimizer.lr=1e-30";

/* "checkpoint.init_from=<scratch>/NAME" */
static void from(const run_bench *b, const char *name, char out[SEO_PATH_MAX]) {
    char folder[SEO_PATH_MAX];
    fixture_path(&b->scratch, name, folder);
    snprintf(out, SEO_PATH_MAX, "checkpoint.init_from=%.*s", SEO_PATH_MAX - 32, folder);
}

static bool same_values(seo_ckpt *a, seo_ckpt *b, const char *name) {
    int64_t na = 0, nb = 0;
    float *x = run_values(a, name, &na), *y = run_values(b, name, &nb);
    const int64_t n = seo_min_i64(na, nb);
    const bool same = memcmp(x, y, (size_t)n * sizeof *x) == 0;
    free(x);
    free(y);
    return same;
}

/* Of a run's newest checkpoint, as `seodang eval` does it. */
static double held_out_loss(const run_bench *b, const char *name) {
    char folder[SEO_PATH_MAX];
    seo_restored restored = {0};
    seo_dataset *dataset = NULL;
    seo_eval_result result = {0};
    fixture_path(&b->scratch, name, folder);
    run_ok(seo_restore(
        &(seo_restore_args){
            .path = folder, .mode = SEO_MODEL_EVAL, .device = SEO_DEVICE_CPU, .threads = 1},
        &restored));
    run_ok(seo_dataset_open(b->data.folder, "held-out", &dataset));
    run_ok(seo_eval(&(seo_eval_args){.model = restored.model,
                                     .batch = restored.config.train.micro_batch,
                                     .datasets = &dataset,
                                     .dataset_count = 1},
                    &result));
    const double loss = result.loss;
    seo_eval_free(&result);
    seo_dataset_close(dataset);
    seo_restored_close(&restored);
    return loss;
}

/* One step at a rate that changes no bit: what the run began with is what the source ended with,
 * on other data, at step 1, with the moments of one step. */
static void begins(void **state) {
    const run_bench *b = *state;
    char source[SEO_PATH_MAX], data[SEO_PATH_MAX];
    seo_ckpt *base = NULL, *tuned = NULL, *random = NULL;
    from(b, "base", source);
    snprintf(data, sizeof data, "data.path=%.*s", SEO_PATH_MAX - 16, b->other.folder);
    run_ok(run_train(b, "base", (run_words){0}));
    const run_words words = {.sets = {source, data, k_fresh, "train.steps=1", "train.seed=9",
                                      "schedule.warmup_steps=0"}};
    run_words without = words;
    without.sets[0] = "eval.every=0";
    run_ok(run_train(b, "tuned", words));
    run_ok(run_train(b, "random", without));
    run_open(b, "base", &base);
    run_open(b, "tuned", &tuned);
    run_open(b, "random", &random);
    const seo_ckpt_state *s = seo_ckpt_state_of(tuned);
    assert_int_equal(s->step, 1);
    assert_string_equal(s->base_path, seo_ckpt_path(base));
    assert_string_equal(s->base_hash, seo_ckpt_hash(base));
    assert_int_equal(seo_ckpt_state_of(base)->base_path[0], '\0');
    int64_t parameters = 0;
    for (int64_t i = 0; i < seo_ckpt_tensor_count(base); i++) {
        const char *name = seo_ckpt_tensor_at(base, i).name;
        if (strncmp(name, "parameters/", 11) != 0) continue;
        parameters++;
        assert_true(same_values(base, tuned, name + 11));
    }
    assert_int_equal(parameters, 16);
    assert_false(same_values(base, random, "wte"));
    seo_ckpt_close(base);
    seo_ckpt_close(tuned);
    seo_ckpt_close(random);
}

/* Stopped, its source removed, and gone on: the same bits as in one go. */
static void source_is_needed_once(void **state) {
    const run_bench *b = *state;
    char source[SEO_PATH_MAX], folder[SEO_PATH_MAX], gone[SEO_PATH_MAX];
    from(b, "base", source);
    run_ok(run_train(b, "base", (run_words){.sets = {"train.steps=3"}}));
    run_ok(run_train(b, "whole", (run_words){.sets = {source}}));
    run_ok(run_train(b, "parts", (run_words){.sets = {source, "train.steps=4"}}));
    fixture_path(&b->scratch, "base", folder);
    fixture_path(&b->scratch, "gone", gone);
    run_ok(seo_rename(folder, gone));
    run_ok(run_train(b, "parts", (run_words){.sets = {source}}));
    run_same_state(b, "whole", "parts");
    run_same_metrics(b, "whole", "parts");
    /* A new run does need it. */
    assert_int_equal(run_train(b, "new", (run_words){.sets = {source}}), SEO_ERR_MISSING);
    assert_non_null(strstr(seo_err_detail(), "checkpoint.init_from"));
    /* And a run that goes on is not another run. */
    assert_int_equal(run_train(b, "parts", (run_words){0}), SEO_ERR_USAGE);
    assert_non_null(strstr(seo_err_detail(), "checkpoint.init_from"));
}

/* A longer and a shorter context have the positions that both know. */
static void other_context(void **state) {
    const run_bench *b = *state;
    char source[SEO_PATH_MAX];
    static const char *const lengths[] = {"model.seq_len=32", "model.seq_len=8"};
    from(b, "base", source);
    run_ok(run_train(b, "base", (run_words){.sets = {"train.steps=3"}}));
    for (int i = 0; i < 2; i++) {
        seo_ckpt *base = NULL, *tuned = NULL;
        char name[32];
        int64_t count = 0;
        snprintf(name, sizeof name, "tuned%d", i);
        run_ok(run_train(b, name,
                         (run_words){.sets = {source, lengths[i], k_fresh, "train.steps=2"}}));
        run_open(b, "base", &base);
        run_open(b, name, &tuned);
        assert_true(same_values(base, tuned, "wpe"));
        assert_true(same_values(base, tuned, "wte"));
        float *wpe = run_values(tuned, "wpe", &count);
        assert_int_equal(count, (i == 0 ? 32 : 8) * 16);
        bool zero = true;
        for (int64_t e = count - 16; e < count; e++) zero = zero && wpe[e] == 0.0f;
        assert_false(zero);
        free(wpe);
        seo_ckpt_close(base);
        seo_ckpt_close(tuned);
    }
}

/* Adapters: the run's checkpoints hold these alone, it goes on with the same bits, and is merged
 * into a checkpoint that predicts the same. */
static void adapters(void **state) {
    const run_bench *b = *state;
    char source[SEO_PATH_MAX], whole[SEO_PATH_MAX], merged[SEO_PATH_MAX];
    static const char targets[] = "lora.targets=attn.qkv, mlp.fc", rank[] = "lora.rank=3";
    seo_ckpt *ckpt = NULL;
    from(b, "base", source);
    run_ok(run_train(b, "base", (run_words){.sets = {"train.steps=3"}}));
    run_ok(run_train(b, "whole", (run_words){.sets = {source, rank, targets}}));
    run_ok(run_train(b, "parts", (run_words){.sets = {source, rank, targets, "train.steps=4"}}));
    run_ok(run_train(b, "parts", (run_words){.sets = {source, rank, targets}}));
    run_same_state(b, "whole", "parts");
    run_same_metrics(b, "whole", "parts");
    run_open(b, "whole", &ckpt);
    assert_int_equal(seo_ckpt_tensor_count(ckpt), 3 * 4);
    for (int64_t i = 0; i < seo_ckpt_tensor_count(ckpt); i++) {
        assert_non_null(strstr(seo_ckpt_tensor_at(ckpt, i).name, ".lora_"));
    }
    seo_ckpt_close(ckpt);
    fixture_path(&b->scratch, "whole", whole);
    fixture_path(&b->scratch, "merged", merged);
    run_ok(seo_merge(whole, merged));
    assert_int_equal(seo_merge(whole, merged), SEO_ERR_USAGE);
    assert_int_equal(seo_merge(merged, "elsewhere"), SEO_ERR_USAGE);
    assert_non_null(strstr(seo_err_detail(), "no adapters"));
    const double one = held_out_loss(b, "whole"), two = held_out_loss(b, "merged");
    const double before = held_out_loss(b, "base");
    /* Losses of f32 numbers that took some hundred roundings. */
    if (!(fabs(one - two) < 500 * FLT_EPSILON * one)) fail_msg("%.9g, merged %.9g", one, two);
    assert_true(fabs(one - before) > 1e-3);
    /* A run can begin from the merged one, and not from adapters alone. */
    from(b, "merged", source);
    run_ok(run_train(b, "next", (run_words){.sets = {source, "train.steps=2"}}));
    from(b, "whole", source);
    assert_int_equal(run_train(b, "none", (run_words){.sets = {source}}), SEO_ERR_USAGE);
    assert_non_null(strstr(seo_err_detail(), "seodang checkpoint merge"));
}

/* What the adapters belong to is gone, or another one, or a longer context wants new positions. */
static void adapters_without_base(void **state) {
    const run_bench *b = *state;
    char source[SEO_PATH_MAX], base[SEO_PATH_MAX], gone[SEO_PATH_MAX], run[SEO_PATH_MAX];
    seo_restored restored = {0};
    from(b, "base", source);
    fixture_path(&b->scratch, "base", base);
    fixture_path(&b->scratch, "gone", gone);
    fixture_path(&b->scratch, "run", run);
    const run_words words = {.sets = {source, "lora.rank=3", "train.steps=4"}};
    run_words more = {.sets = {source, "lora.rank=3", "train.steps=6"}};
    run_ok(run_train(b, "base", (run_words){.sets = {"train.steps=3"}}));
    run_ok(run_train(b, "run", words));
    run_words longer = words;
    longer.sets[3] = "model.seq_len=32";
    assert_int_equal(run_train(b, "longer", longer), SEO_ERR_USAGE);
    assert_non_null(strstr(seo_err_detail(), "wpe: (16, 16) there, (32, 16) here"));
    run_ok(seo_rename(base, gone));
    const seo_restore_args restore = {
        .path = run, .mode = SEO_MODEL_EVAL, .device = SEO_DEVICE_CPU, .threads = 1};
    assert_int_equal(seo_restore(&restore, &restored), SEO_ERR_MISSING);
    assert_non_null(strstr(seo_err_detail(), "these are gone"));
    seo_restored_close(&restored);
    assert_int_equal(run_train(b, "run", more), SEO_ERR_MISSING);
    assert_non_null(strstr(seo_err_detail(), "these are gone"));
    assert_int_equal(seo_merge(run, "elsewhere"), SEO_ERR_MISSING);
    run_ok(run_train(b, "base", (run_words){.sets = {"train.steps=3", "train.seed=4"}}));
    assert_int_equal(seo_restore(&restore, &restored), SEO_ERR_USAGE);
    assert_non_null(strstr(seo_err_detail(), "another checkpoint stands there now"));
    seo_restored_close(&restored);
    assert_int_equal(run_train(b, "run", more), SEO_ERR_USAGE);
    assert_non_null(strstr(seo_err_detail(), "another checkpoint stands there now"));
}

static void refused(void **state) {
    const run_bench *b = *state;
    char source[SEO_PATH_MAX], data[SEO_PATH_MAX];
    static const struct {
        const char *sets[3], *says;
    } cases[] = {
        {{"model.hidden_size=32"}, "model.hidden_size is 16 there, 32 here"},
        {{"model.num_layers=2"}, "model.num_layers is 1 there, 2 here"},
        {{"model.num_heads=4"}, "model.num_heads is 2 there, 4 here"},
        {{"model.vocab_size=48"}, "model.vocab_size is 40 there, 48 here"},
        {{"model.activation=gelu_erf"}, "model.activation"},
        {{"model.norm_eps=1e-6"}, "model.norm_eps is 1e-05 there, 1e-06 here"},
    };
    from(b, "base", source);
    run_ok(run_train(b, "base", (run_words){.sets = {"train.steps=2"}}));
    for (int64_t i = 0; i < SEO_COUNT_OF(cases); i++) {
        run_words words = {.sets = {source, cases[i].sets[0]}};
        assert_int_equal(run_train(b, "tuned", words), SEO_ERR_USAGE);
        if (!strstr(seo_err_detail(), cases[i].says)) fail_msg("%s", seo_err_detail());
    }
    fixture stranger = fixture_usual();
    stranger.vocab_size = 40;
    stranger.documents = 50;
    stranger.document_most = 60;
    stranger.other_tokenizer = true;
    fixture_make(&stranger);
    snprintf(data, sizeof data, "data.path=%.*s", SEO_PATH_MAX - 16, stranger.folder);
    assert_int_equal(run_train(b, "tuned", (run_words){.sets = {source, data}}), SEO_ERR_USAGE);
    assert_non_null(strstr(seo_err_detail(), "another tokenizer"));
    assert_non_null(strstr(seo_err_detail(), "seodang data build --tokenizer "));
    fixture_remove(&stranger);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(begins, run_bench_make, run_bench_clear),
        cmocka_unit_test_setup_teardown(source_is_needed_once, run_bench_make, run_bench_clear),
        cmocka_unit_test_setup_teardown(other_context, run_bench_make, run_bench_clear),
        cmocka_unit_test_setup_teardown(adapters, run_bench_make, run_bench_clear),
        cmocka_unit_test_setup_teardown(adapters_without_base, run_bench_make, run_bench_clear),
        cmocka_unit_test_setup_teardown(refused, run_bench_make, run_bench_clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
