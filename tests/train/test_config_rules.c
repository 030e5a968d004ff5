/* What follows from the family and the task, and the mistakes that join their keys. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "config_fixture.h"

static seo_config g_config; /* large: not for the stack */

static void test_families(void **state) {
    (void)state;
    static const struct {
        const char *set;
        double norm_eps;
        int64_t band, types, picks;
        seo_gelu_kind activation;
        bool next_sentence;
    } cases[] = {
        {"model.family=gpt1", 1e-5, 0, 0, 0, SEO_GELU_TANH, false},
        {"model.family=gpt2", 1e-5, 0, 0, 0, SEO_GELU_TANH, false},
        {"model.family=gpt3", 1e-5, 32, 0, 0, SEO_GELU_TANH, false},
        {"model.family=gpt3\nmodel.seq_len=512", 1e-5, 256, 0, 0, SEO_GELU_TANH, false},
        {"model.family=bert", 1e-12, 0, 2, 5, SEO_GELU_ERF, true}, /* 0.15 x 32 = 4.8 */
        {"model.family=bert\nmodel.next_sentence=false", 1e-12, 0, 2, 5, SEO_GELU_ERF, false},
        {"model.family=roberta", 1e-5, 0, 1, 5, SEO_GELU_ERF, false},
        {"model.family=distilbert", 1e-12, 0, 0, 5, SEO_GELU_ERF, false},
        {"model.family=roberta\ndata.max_predictions=3", 1e-5, 0, 1, 3, SEO_GELU_ERF, false},
    };
    for (int64_t i = 0; i < SEO_COUNT_OF(cases); i++) {
        read_small(cases[i].set, &g_config);
        const seo_model_config *m = &g_config.model;
        assert_true(m->norm_eps == cases[i].norm_eps);
        assert_int_equal(m->band, cases[i].band);
        assert_int_equal(m->type_vocab_size, cases[i].types);
        assert_int_equal(m->picks, cases[i].picks);
        assert_int_equal(m->activation, cases[i].activation);
        assert_int_equal(m->next_sentence, cases[i].next_sentence);
        assert_int_equal(m->classes, 0);
        assert_int_equal(m->lora_rank, 0);
    }
}

static void test_items(void **state) {
    (void)state;
    char word[SEO_CONFIG_TEXT_MAX];
    static const char list[] = " austen,king james ,, kjv\t";
    static const char *const words[] = {"austen", "king james", "", "kjv"};
    for (int64_t i = 0; i < SEO_COUNT_OF(words); i++) {
        assert_true(seo_config_item(list, i, word));
        assert_string_equal(word, words[i]);
    }
    assert_false(seo_config_item(list, SEO_COUNT_OF(words), word));
    assert_false(seo_config_item("", 0, word));
    assert_false(seo_config_item(" \n", 0, word));
}

/* Changes to the small configuration, each with the one mistake that it makes. */
static const struct {
    const char *sets, *key, *says;
} k_mistakes[] = {
    {"model.band=8", "model.band", "the layers of gpt2 are dense"},
    {"model.family=bert\nmodel.band=8", "model.band", "the layers of bert are dense"},
    {"model.family=gpt3\nmodel.band=33", "model.band", "give at most 32, or 0"},
    {"model.type_vocab_size=2", "model.type_vocab_size", "gpt2 has no token types"},
    {"model.family=distilbert\nmodel.type_vocab_size=2", "model.type_vocab_size",
     "has no token types"},
    {"model.family=roberta\nmodel.next_sentence=true", "model.next_sentence",
     "roberta has no head"},
    {"model.next_sentence=true", "model.next_sentence", "gpt2 has no head for it"},
    {"model.family=bert\nmodel.type_vocab_size=1", "model.type_vocab_size", "need 2 token types"},
    {"data.mask_fraction=0.3", "data.mask_fraction", "gpt2 predicts the next token"},
    {"data.max_predictions=3", "data.max_predictions", "gpt2 predicts the next token"},
    {"data.short_sequences=0.5", "data.short_sequences", "is for pairs of sentences"},
    {"model.family=roberta\ndata.short_sequences=0", "data.short_sequences", "is for pairs"},
    {"model.family=roberta\ndata.mask_fraction=0", "data.mask_fraction", "nothing to learn"},
    {"model.family=roberta\ndata.max_predictions=0", "data.max_predictions", "1 to 32 can be"},
    {"model.family=roberta\ndata.max_predictions=33", "data.max_predictions", "1 to 32 can be"},
    {"model.family=roberta\nmodel.seq_len=2\ntrain.batch_tokens=2", "model.seq_len",
     "give 3 or more"},
    {"model.family=bert\nmodel.seq_len=4\ntrain.batch_tokens=4", "model.seq_len", "give 5 or more"},
    {"task.examples=a.jsonl", "task.examples", "is not used by task.kind: pretrain"},
    {"task.held_out=a.jsonl", "task.held_out", "is not used by task.kind: pretrain"},
    {"task.labels=a", "task.labels", "is not used by task.kind: pretrain"},
    {"train.batch_start_tokens=64", "train.batch_start_tokens", "is for a batch that grows"},
    {"train.batch_ramp_tokens=1000\ntrain.batch_start_tokens=1024", "train.batch_start_tokens",
     "is more than train.batch_tokens 512"},
    {"train.batch_ramp_tokens=1000\ntrain.batch_start_tokens=40", "train.batch_start_tokens",
     "a multiple of 32 tokens, one sequence; the nearest: 32 and 64"},
    {"train.batch_ramp_tokens=1000\ntrain.batch_start_tokens=64\nparallel.invariant=true\n"
     "parallel.slots=4\ntrain.micro_batch=1",
     "train.batch_start_tokens", "a multiple of 128 tokens, parallel.slots x train.micro_batch"},
    {"train.batch_ramp_tokens=1M\ntrain.batch_start_tokens=64", "train.batch_ramp_tokens",
     "and the run has 100; give a train.batch_ramp_tokens of at most"},
    {"task.lm_weight=0.5", "task.lm_weight", "is for task.kind: classify with a decoder"},
};

static void check_mistake(const char *sets, const char *key, const char *says) {
    seo_buf report = {0};
    char place[96];
    assert_int_equal(read_text(k_small_config, sets, &g_config, &report), SEO_ERR_USAGE);
    assert_non_null(report.data);
    snprintf(place, sizeof place, "--set %s=", key);
    const char *error = strstr(report.data, "error: ");
    if (strncmp(report.data, place, strlen(place)) != 0 || !strstr(error, says) ||
        strstr(error + 1, "error: ")) {
        fail_msg("%s: wanted %s ... %s, got:\n%s", sets, place, says, report.data);
    }
    seo_buf_free(&report);
}

static void test_mistakes(void **state) {
    (void)state;
    for (int64_t i = 0; i < SEO_COUNT_OF(k_mistakes); i++) {
        check_mistake(k_mistakes[i].sets, k_mistakes[i].key, k_mistakes[i].says);
    }
}

/* What rules that wait for a part of this version would say, whatever else is said. */
static const struct {
    const char *sets, *says;
} k_said[] = {
    {"model.family=bert\ndata.document_mask=true", "the two sentences of a pair see each other"},
    {"task.kind=pairs", "task.examples is missing: the file that task.kind: pairs learns from"},
    {"task.kind=classify\ntask.examples=a", "task.labels has 0 names"},
    {"task.kind=classify\ntask.examples=a\ntask.labels=x", "task.labels has 1 name,"},
    {"task.kind=classify\ntask.examples=a\ntask.labels=x,,y", "task.labels: name 2 is empty"},
    {"task.kind=classify\ntask.examples=a\ntask.labels=x,y,x", "name 3 is there twice: x"},
    {"task.kind=pairs\ntask.examples=a\ntask.labels=x,y", "task.labels is for task.kind: class"},
    {"task.kind=pairs\ntask.examples=a\nmodel.family=bert", "bert fills in masks and does not"},
    {"task.kind=pairs\ntask.examples=a\ndata.path=", "checkpoint.init_from is missing: the run"},
    {"task.kind=pairs\ntask.examples=a\ndata.document_mask=true", "a sequence of its own"},
    {"task.kind=classify\ntask.examples=a\ntask.labels=x,y\nmodel.family=bert\n"
     "data.mask_fraction=0.3",
     "bert is not trained on masked text by this task.kind"},
    {"task.kind=classify\ntask.examples=a\ntask.labels=x,y\nmodel.family=bert\n"
     "model.next_sentence=true",
     "model.next_sentence: true is for task.kind: pretrain"},
    {"lora.rank=4", "checkpoint.init_from is missing: lora.rank 4 trains adapters"},
    {"lora.rank=64\ncheckpoint.init_from=a", "matrices 32 wide"},
    {"lora.rank=4\ncheckpoint.init_from=a\nlora.alpha=0", "would count nothing"},
    {"lora.rank=4\ncheckpoint.init_from=a\nlora.targets=attn.qkv, mlp", "\"mlp\" is no matrix"},
    {"lora.rank=4\ncheckpoint.init_from=a\nlora.targets=mlp.fc,mlp.fc", "\"mlp.fc\" is there twic"},
    {"lora.rank=4\ncheckpoint.init_from=a\nlora.targets= ", "names no matrix"},
    {"distill.teacher=t\ndistill.layers=0", "has 1 numbers, model.num_layers is 2"},
    {"distill.teacher=t\ndistill.layers=0, x", "\"x\" is no number of a layer"},
    {"distill.teacher=t\ndistill.layers=0, -1", "\"-1\" is no number of a layer"},
    {"distill.teacher=t\nlora.rank=2\ncheckpoint.init_from=a", "give one of the two"},
    {"distill.teacher=t\ntask.kind=pairs\ntask.examples=a", "distil first, then fine-tune"},
    {"distill.teacher=t\ndistill.soft=0\ndistill.hard=0\ndistill.cosine=0", "no loss is left"},
};

static void test_said(void **state) {
    (void)state;
    for (int64_t i = 0; i < SEO_COUNT_OF(k_said); i++) {
        seo_buf report = {0};
        assert_int_equal(read_text(k_small_config, k_said[i].sets, &g_config, &report),
                         SEO_ERR_USAGE);
        if (!strstr(report.data, k_said[i].says)) {
            fail_msg("%s: no '%s' in:\n%s", k_said[i].sets, k_said[i].says, report.data);
        }
        seo_buf_free(&report);
    }
}

/* Batches of 4 sequences of 32 tokens grow to 16: 128 tokens are in a step until 500 were seen (at
 * 512), 256 until 1,000 (at 1,024, after 6 steps). */
static void test_ramp(void **state) {
    (void)state;
    static const char ramp[] = "train.batch_ramp_tokens=1500\ntrain.batch_start_tokens=128\n";
    char sets[256];
    snprintf(sets, sizeof sets, "%sschedule.warmup_tokens=1000\nschedule.decay_tokens=10k", ramp);
    read_small(sets, &g_config);
    assert_int_equal(g_config.schedule.warmup_steps, 6);
    /* 384 tokens until 1,500 (at 1,792, after 8), then 512: 8,208 more are 17 steps. */
    assert_int_equal(g_config.schedule.decay_steps, 8 + 17);
    read_small("train.batch_ramp_tokens=1500", &g_config);
    assert_int_equal(g_config.train.batch_start_tokens, 8 * 32);
    read_small("train.batch_ramp_tokens=1500\ntrain.micro_batch=1\nparallel.invariant=true",
               &g_config);
    assert_int_equal(g_config.train.batch_start_tokens, 8 * 32);
}

/* A recipe or a source's config.yaml says how it learned from masked text; a task on the command
 * line replaces that, and what the command line itself says is never dropped. */
static void test_task_over_file(void **state) {
    (void)state;
    static const char text[] =
        "model: {family: bert, num_layers: 2, num_heads: 2, hidden_size: 32, seq_len: 32,\n"
        "        vocab_size: 257, next_sentence: true}\n"
        "data: {path: shards, max_predictions: 5}\n"
        "train: {steps: 100, batch_tokens: 512}\n"
        "optimizer: {lr: 1e-3}\n";
    static const char task[] = "task.kind=classify\ntask.examples=a\ntask.labels=x,y";
    char sets[256];
    if (read_text(text, task, &g_config, NULL) != SEO_OK) fail_msg("%s", seo_err_detail());
    assert_false(g_config.model.next_sentence);
    assert_int_equal(g_config.data.max_predictions, 0);
    assert_int_equal(g_config.model.picks, 0);
    if (read_text(text, NULL, &g_config, NULL) != SEO_OK) fail_msg("%s", seo_err_detail());
    assert_true(g_config.model.next_sentence);
    assert_int_equal(g_config.data.max_predictions, 5);
    static const char *const said[] = {"model.next_sentence=true", "data.max_predictions=5"};
    for (int64_t i = 0; i < SEO_COUNT_OF(said); i++) {
        snprintf(sets, sizeof sets, "%s\n%s", task, said[i]);
        assert_int_equal(read_text(text, sets, &g_config, NULL), SEO_ERR_USAGE);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_families), cmocka_unit_test(test_items),
        cmocka_unit_test(test_mistakes), cmocka_unit_test(test_said),
        cmocka_unit_test(test_ramp),     cmocka_unit_test(test_task_over_file)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
