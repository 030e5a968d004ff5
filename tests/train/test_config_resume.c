/* The resolved copy, the hash of what decides a run, and the differences that a resume is refused
 * for; the presets of configs/. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/file.h"
#include "config_fixture.h"
#include "train/config_fields.h"
#include "train/models/model.h"

static seo_config g_config, g_other; /* large: not for the stack */

/* Every field of both has the same value; `what` names the case. */
static void assert_same(const seo_config *a, const seo_config *b, const char *what) {
    for (int64_t i = 0; i < SEO_CONFIG_FIELDS; i++) {
        seo_buf x = {0}, y = {0};
        seo_field_format(&seo_config_fields[i], a, &x);
        seo_field_format(&seo_config_fields[i], b, &y);
        if (strcmp(x.data, y.data) != 0) {
            fail_msg("%s: %s: %s and %s", what, seo_config_fields[i].path, x.data, y.data);
        }
        seo_buf_free(&x);
        seo_buf_free(&y);
    }
}

static void check_round_trip(const seo_config *config, const char *what) {
    seo_buf text = {0};
    assert_int_equal(seo_config_write(config, &text), SEO_OK);
    if (read_text(text.data, NULL, &g_other, NULL) != SEO_OK) {
        fail_msg("%s: %s", what, seo_err_detail());
    }
    assert_same(config, &g_other, what);
    char a[33], b[33];
    seo_config_hash(config, a);
    seo_config_hash(&g_other, b);
    assert_string_equal(a, b);
    seo_buf_free(&text);
}

static void test_round_trip(void **state) {
    (void)state;
    static const char *const sets[] = {
        "train.steps=100",
        "schedule.warmup_tokens=1000\nschedule.decay_tokens=20k",
        "schedule.name=constant",
        "schedule.name=wsd\nschedule.warmup_steps=3",
        "data.mix={a: 0.1, \"b: #c\": 3e-7}",
        "data.path= spaced 'quoted' \"path\" \\ # \xed\x95\x99\xea\xb5\x90 \x01 \x7f",
        "optimizer.lr=0.1234567890123456789\noptimizer.eps=3.0000000000000004e-19",
        "train.seed=9223372036854775807\ncheckpoint.every_seconds=1.5s\ncheckpoint.every=1T",
        "optimizer.clip=1e6\ndevice=cpu\nkernels.matmul=own\ndata.shuffle=false",
        "parallel.invariant=true\ntrain.micro_batch=1\nparallel.slots=16\nparallel.timeout=1.5s",
        "parallel.zero=3\nparallel.reduce=bf16\nparallel.recompute=full\nparallel.backend=mpi",
        "train.spike_sigma=0.1\ntrain.on_spike=skip\ntrain.max_bad_steps=1",
        "device=cuda\nprecision=bf16\nkernels.matmul=cublaslt\noptimizer.master_weights=false",
        "model.family=gpt1",
        "model.family=gpt3\nmodel.band=7",
        "model.family=bert\ndata.max_predictions=3",
        "model.family=roberta\ndata.mask_fraction=0.3",
        "model.family=distilbert\nmodel.activation=gelu_tanh",
    };
    for (int64_t i = 0; i < SEO_COUNT_OF(sets); i++) {
        read_small(sets[i], &g_config);
        check_round_trip(&g_config, sets[i]);
    }
}

static void test_origins(void **state) {
    (void)state;
    read_small("train.seed=5", &g_config);
    seo_buf text = {0};
    assert_int_equal(seo_config_write(&g_config, &text), SEO_OK);
    static const struct {
        const char *key, *origin;
    } wanted[] = {{"  seed: 5 ", "# --set\n"},
                  {"  lr: 0.001 ", "# file, line 4\n"},
                  {"  ffn_hidden_size: 128 ", "# derived\n"},
                  {"  beta1: 0.9 ", "# default\n"}};
    for (int64_t i = 0; i < SEO_COUNT_OF(wanted); i++) {
        const char *line = strstr(text.data, wanted[i].key);
        assert_non_null(line);
        const char *comment = strchr(line, '#');
        assert_int_equal(strncmp(comment, wanted[i].origin, strlen(wanted[i].origin)), 0);
    }
    seo_buf_free(&text);
}

/* For each field another legal value, with what it needs to be legal. */
static const struct {
    const char *path, *sets;
} k_changes[] = {
    {"model.family", "model.family=gpt3\nmodel.band=0"},
    {"model.num_layers", "model.num_layers=3"},
    {"model.num_heads", "model.num_heads=4"},
    {"model.hidden_size", "model.hidden_size=64\nmodel.ffn_hidden_size=128"},
    {"model.ffn_hidden_size", "model.ffn_hidden_size=64"},
    {"model.seq_len", "model.seq_len=64"},
    {"model.max_positions", "model.max_positions=64"},
    {"model.vocab_size", "model.vocab_size=258"},
    {"model.activation", "model.activation=gelu_erf"},
    {"model.dropout", "model.dropout=0.1"},
    {"model.norm_eps", "model.norm_eps=1e-6"},
    {"data.path", "data.path=elsewhere"},
    {"data.shuffle", "data.shuffle=false"},
    {"data.mix", "data.mix={a: 1}"},
    {"train.steps", "train.steps=200"},
    {"train.batch_tokens", "train.batch_tokens=1024\ntrain.micro_batch=8"},
    {"train.micro_batch", "train.micro_batch=4"},
    {"train.seed", "train.seed=1"},
    {"optimizer.lr", "optimizer.lr=2e-3"},
    {"optimizer.beta1", "optimizer.beta1=0.8"},
    {"optimizer.beta2", "optimizer.beta2=0.8"},
    {"optimizer.eps", "optimizer.eps=1e-6"},
    {"optimizer.weight_decay", "optimizer.weight_decay=0"},
    {"optimizer.clip", "optimizer.clip=0"},
    {"optimizer.master_weights", "optimizer.master_weights=false\nprecision=bf16"},
    {"schedule.name", "schedule.name=linear"},
    {"schedule.warmup_steps", "schedule.warmup_steps=5"},
    {"schedule.decay_steps", "schedule.decay_steps=50"},
    {"schedule.final_lr_fraction", "schedule.final_lr_fraction=0"},
    {"eval.every", "eval.every=3"},
    {"eval.tokens", "eval.tokens=3"},
    {"checkpoint.every", "checkpoint.every=3"},
    {"checkpoint.every_seconds", "checkpoint.every_seconds=3"},
    {"checkpoint.keep_last", "checkpoint.keep_last=4"},
    {"checkpoint.keep_every", "checkpoint.keep_every=4"},
    {"checkpoint.init_from", "checkpoint.init_from=a"},
    {"train.max_bad_steps", "train.max_bad_steps=2"},
    {"train.on_spike", "train.on_spike=skip"},
    {"parallel.zero", "parallel.zero=3"},
    {"parallel.invariant", "parallel.invariant=true\nparallel.slots=2"},
    {"parallel.reduce", "parallel.reduce=bf16"},
    {"parallel.recompute", "parallel.recompute=full"},
    {"parallel.backend", "parallel.backend=mpi"},
    {"parallel.timeout", "parallel.timeout=5s"},
    {"parallel.join_timeout", "parallel.join_timeout=5s"},
    {"kernels.matmul", "kernels.matmul=own"},
    {"device", "device=cpu"},
    {"optimizer.bias_correction", "optimizer.bias_correction=false"},
    {"model.attention_dropout", "model.attention_dropout=0.1"},
    {"data.document_mask", "data.document_mask=true"},
};

/* Likewise of an encoder. */
static const struct {
    const char *path, *sets;
} k_encoder_changes[] = {
    {"model.type_vocab_size", "model.type_vocab_size=3"},
    {"model.next_sentence", "model.next_sentence=false"},
    {"data.mask_fraction", "data.mask_fraction=0.2\ndata.max_predictions=5"},
    {"data.max_predictions", "data.max_predictions=4"},
    {"data.short_sequences", "data.short_sequences=0.2"},
};

/* Fields that have no second legal value, whose change shows in another field, or with rules of
 * their own. */
static const char *const k_single[] = {"optimizer.name",
                                       "schedule.warmup_tokens",
                                       "schedule.decay_tokens",
                                       "train.spike_sigma",
                                       "train.spike_window",
                                       "parallel.slots",
                                       "precision",
                                       "model.band",
                                       "task.kind",
                                       "task.examples",
                                       "task.held_out",
                                       "task.labels",
                                       "task.lm_weight",
                                       "train.batch_ramp_tokens",
                                       "train.batch_start_tokens",
                                       "lora.rank",
                                       "lora.alpha",
                                       "lora.targets",
                                       "distill.teacher",
                                       "distill.layers",
                                       "distill.temperature",
                                       "distill.soft",
                                       "distill.hard",
                                       "distill.cosine"};

static void test_every_field_has_a_change(void **state) {
    (void)state;
    assert_int_equal(SEO_COUNT_OF(k_changes) + SEO_COUNT_OF(k_encoder_changes) +
                         SEO_COUNT_OF(k_single),
                     SEO_CONFIG_FIELDS);
    for (int64_t i = 0; i < SEO_COUNT_OF(k_changes); i++) {
        assert_true(seo_field_find(k_changes[i].path) >= 0);
    }
    for (int64_t i = 0; i < SEO_COUNT_OF(k_single); i++) {
        assert_true(seo_field_find(k_single[i]) >= 0);
    }
}

/* The hash and the difference agree with each other and with what the table says of the field. */
static void check_change(const char *path, const char *base, const char *sets) {
    char before[33], after[33], both[512];
    const bool decides = seo_config_fields[seo_field_find(path)].decides;
    snprintf(both, sizeof both, "%s%s", base, sets);
    read_small(base, &g_config);
    read_small(both, &g_other);
    seo_config_hash(&g_config, before);
    seo_config_hash(&g_other, after);
    seo_buf report = {0};
    const int64_t count = seo_config_diff(&g_config, &g_other, NULL, 0, &report);
    if ((strcmp(before, after) != 0) != decides || (count == 1) != decides) {
        fail_msg("%s: hashes %s %s, %lld differences:\n%s", path, before, after, (long long)count,
                 report.data ? report.data : "");
    }
    if (decides) {
        char line[128];
        snprintf(line, sizeof line, "  %s: ", path);
        assert_int_equal(strncmp(report.data, line, strlen(line)), 0);
        assert_int_equal(seo_config_diff(&g_config, &g_other, &path, 1, &report), 0);
    }
    seo_buf_free(&report);
}

static void test_what_decides(void **state) {
    (void)state;
    static const char ramp[] = "train.batch_ramp_tokens=1500\ntrain.batch_start_tokens=128\n";
    check_change("train.batch_ramp_tokens", ramp, "train.batch_ramp_tokens=1400");
    check_change("train.batch_start_tokens", ramp, "train.batch_start_tokens=256");
    for (int64_t i = 0; i < SEO_COUNT_OF(k_changes); i++) {
        check_change(k_changes[i].path, "", k_changes[i].sets);
    }
    for (int64_t i = 0; i < SEO_COUNT_OF(k_encoder_changes); i++) {
        check_change(k_encoder_changes[i].path, "model.family=bert\ndata.max_predictions=5\n",
                     k_encoder_changes[i].sets);
    }
}

/* The hash of runs that were made before there were other families and tasks: made by that version.
 */
static void test_hash_of_earlier_versions(void **state) {
    (void)state;
    static const struct {
        const char *sets, *hash;
    } cases[] = {{NULL, "92de885e9ab49b438efff6185fb18a9c"},
                 {"model.family=gpt3\nmodel.band=0", "9ce1c59b7edb6d944afbafcd8af68b46"},
                 {"data.mix={a: 1}", "7b803bf65d86bf3a6ab0e20f2c0a6a7f"}};
    char hash[33];
    for (int64_t i = 0; i < SEO_COUNT_OF(cases); i++) {
        read_small(cases[i].sets, &g_config);
        seo_config_hash(&g_config, hash);
        assert_string_equal(hash, cases[i].hash);
    }
}

/* A resolved copy without the keys that came later is the run that it was: gpt3 had dense layers.
 */
static void test_copies_of_earlier_versions(void **state) {
    (void)state;
    char path[] = "/tmp/seodang_resolved_XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    seo_buf text = {0}, report = {0};
    read_small("model.family=gpt3", &g_other);
    assert_int_equal(g_other.model.band, 32);
    assert_int_equal(seo_config_write(&g_other, &text), SEO_OK);
    for (int64_t i = 0; i < SEO_CONFIG_FIELDS; i++) {
        char key[2 * SEO_SHORT_TEXT], section[SEO_SHORT_TEXT];
        snprintf(key, sizeof key, "\n  %s: ", seo_field_split(seo_config_fields[i].path, section));
        char *line = seo_config_fields[i].before ? strstr(text.data, key) : NULL;
        if (line) line[1] = '#'; /* a comment */
    }
    assert_int_equal(write(fd, text.data, text.bytes), (ssize_t)text.bytes);
    close(fd);
    if (seo_config_load_resolved(path, &g_config) != SEO_OK) fail_msg("%s", seo_err_detail());
    unlink(path);
    assert_int_equal(g_config.model.band, 0);
    assert_int_equal(seo_config_diff(&g_config, &g_other, NULL, 0, &report), 1);
    assert_string_equal(report.data, "  model.band: 0 in the checkpoint, 32 now\n");
    read_small("model.family=gpt3\nmodel.band=0", &g_other);
    seo_buf_clear(&report);
    assert_int_equal(seo_config_diff(&g_config, &g_other, NULL, 0, &report), 0);
    seo_buf_free(&text);
    seo_buf_free(&report);
}

/* Whether what both say makes the same run, and the hash agrees. */
static void check_pair(const char *saved, const char *now, int64_t differences) {
    char a[33], b[33];
    seo_buf report = {0};
    read_small(saved, &g_config);
    read_small(now, &g_other);
    seo_config_hash(&g_config, a);
    seo_config_hash(&g_other, b);
    const int64_t count = seo_config_diff(&g_config, &g_other, NULL, 0, &report);
    if (count != differences || (strcmp(a, b) == 0) != (differences == 0)) {
        fail_msg("%s | %s: %lld differences:\n%s", saved, now, (long long)count,
                 report.data ? report.data : "");
    }
    seo_buf_free(&report);
}

/* Slots count with the tree of them; the watch for spikes counts where their updates are left out.
 */
static void test_what_decides_with_another(void **state) {
    (void)state;
#define SMALL "train.micro_batch=1\n"
    check_pair(SMALL "parallel.slots=8", SMALL "parallel.slots=4", 0);
    check_pair(SMALL "parallel.invariant=true", SMALL "parallel.invariant=true\nparallel.slots=4",
               1);
    check_pair(SMALL "parallel.slots=4", SMALL "parallel.invariant=true", 1);
    check_pair("train.spike_sigma=3", "train.spike_sigma=0", 0);
    check_pair("train.spike_window=32", "train.spike_window=64", 0);
    check_pair("train.on_spike=skip\ntrain.spike_sigma=0", "train.on_spike=warn", 0);
    check_pair("train.on_spike=skip", "train.on_spike=skip\ntrain.spike_sigma=3", 1);
    check_pair("train.on_spike=skip", "train.on_spike=skip\ntrain.spike_window=32", 1);
    check_pair("train.on_spike=skip", "train.on_spike=skip\ntrain.spike_sigma=0", 1);
#undef SMALL
}

static void test_diff_text(void **state) {
    (void)state;
    read_small(NULL, &g_config);
    read_small("model.num_layers=3\noptimizer.lr=2e-3", &g_other);
    seo_buf report = {0};
    assert_int_equal(seo_config_diff(&g_config, &g_other, NULL, 0, &report), 2);
    assert_string_equal(report.data, "  model.num_layers: 2 in the checkpoint, 3 now\n"
                                     "  optimizer.lr: 0.001 in the checkpoint, 0.002 now\n");
    seo_buf_free(&report);
}

/* A precision that is left open goes with any other; two that are given must be the same. */
static void test_precision(void **state) {
    (void)state;
    static const char *const words[] = {"auto", "f32", "bf16"};
    for (int saved = 0; saved < 3; saved++) {
        for (int now = 0; now < 3; now++) {
            char set[64];
            snprintf(set, sizeof set, "precision=%s", words[saved]);
            read_small(set, &g_config);
            snprintf(set, sizeof set, "precision=%s", words[now]);
            read_small(set, &g_other);
            seo_buf report = {0};
            const bool refused = saved != now && saved > 0 && now > 0;
            assert_int_equal(seo_config_diff(&g_config, &g_other, NULL, 0, &report), refused);
            if (refused) {
                char line[64];
                snprintf(line, sizeof line, "  precision: %s in the checkpoint, %s now\n",
                         words[saved], words[now]);
                assert_string_equal(report.data, line);
            }
            seo_buf_free(&report);
        }
    }
}

/* More steps are welcome where the learning rate does not depend on their number. */
static void test_extending(void **state) {
    (void)state;
    static const struct {
        const char *saved, *now;
        int64_t differences;
    } cases[] = {
        {"schedule.name=constant", "schedule.name=constant\ntrain.steps=500", 0},
        {"schedule.decay_steps=100", "schedule.decay_steps=100\ntrain.steps=500", 0},
        {"schedule.name=linear\nschedule.decay_steps=80",
         "schedule.name=linear\nschedule.decay_steps=80\ntrain.steps=500", 0},
        {"train.steps=100", "schedule.decay_steps=100\ntrain.steps=500", 0},
        {"train.steps=100", "train.steps=500", 1},
        {"schedule.name=linear", "schedule.name=linear\ntrain.steps=500", 1},
        {"schedule.name=wsd\nschedule.decay_steps=20",
         "schedule.name=wsd\nschedule.decay_steps=20\ntrain.steps=500", 1},
        {"schedule.warmup_steps=2", "schedule.warmup_tokens=1000", 0},
    };
    for (int64_t i = 0; i < SEO_COUNT_OF(cases); i++) {
        read_small(cases[i].saved, &g_config);
        read_small(cases[i].now, &g_other);
        seo_buf report = {0};
        const int64_t count = seo_config_diff(&g_config, &g_other, NULL, 0, &report);
        if (count != cases[i].differences) fail_msg("case %lld: %s", (long long)i, report.data);
        if (count > 0) assert_non_null(strstr(report.data, "train.steps: 100 in the checkpoint"));
        static const char *const allow[] = {"train.steps"};
        assert_int_equal(seo_config_diff(&g_config, &g_other, allow, 1, &report), 0);
        seo_buf_free(&report);
    }
}

/* The published figures, counted by the parameter table. */
static const struct {
    const char *name;
    int64_t parameters, vocab_size;
} k_presets[] = {
    {"quickstart", 0, 2048},
    {"shakespeare-char", 834432, 257},
    {"gpt2-124m", 124439808, 50257},
    {"gpt2-355m", 354823168, 50257},
    {"gpt2-774m", 774030080, 50257},
    {"gpt2-1558m", 1557611200, 50257},
    {"gpt3-125m", 125226240, 50257},
    {"gpt3-350m", 355871744, 50257},
    {"gpt3-760m", 760300032, 50257},
    {"gpt3-1.3b", 1315723264, 50257},
    {"gpt3-2.7b", 2651553280, 50257},
    {"gpt3-6.7b", 6658404352, 50257},
    {"gpt3-13b", 12853386240, 50257},
    {"gpt3-175b", 174604259328, 50257},
    {"gpt1-117m", 116534784, 40478},
    {"bert-base", 110106428, 30522},
    {"bert-large", 336226108, 30522},
    {"roberta-base", 124697433, 50265},
    {"roberta-large", 355412057, 50265},
    {"distilbert", 66985530, 30522},
    {"tiny-gpt1", 2197248, 2048},
    {"tiny-gpt3", 2197632, 2048},
    {"tiny-roberta", 2206208, 2048},
    {"tiny-bert", 2272258, 2048},
    {"tiny-distilbert", 2205440, 2048},
};

static void test_presets(void **state) {
    (void)state;
    for (int64_t i = 0; i < SEO_COUNT_OF(k_presets); i++) {
        char path[SEO_PATH_MAX], count[SEO_SHORT_TEXT], line[128], *text = NULL;
        int64_t bytes = 0;
        snprintf(path, sizeof path, "%s/configs/%s.yaml", SEO_SOURCE_DIR, k_presets[i].name);
        if (seo_config_load(path, NULL, 0, &g_config) != SEO_OK) fail_msg("%s", seo_err_detail());
        seo_params table = {0};
        assert_int_equal(seo_model_params(&g_config.model, &table), SEO_OK);
        const int64_t parameters = seo_params_elements(&table);
        seo_params_free(&table);
        if (k_presets[i].parameters > 0) assert_int_equal(parameters, k_presets[i].parameters);
        assert_int_equal(g_config.model.vocab_size, k_presets[i].vocab_size);
        /* The opening comment tells the same number, and the cost. */
        assert_int_equal(seo_file_read(path, 1 << 16, &text, &bytes), SEO_OK);
        snprintf(line, sizeof line,
                 "# Parameters: %s. Cost: ", seo_format_count(count, parameters));
        if (text[0] != '#' || !strstr(text, line)) fail_msg("%s: no '%s'", path, line);
        free(text);
        check_round_trip(&g_config, path);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_round_trip),
                                       cmocka_unit_test(test_origins),
                                       cmocka_unit_test(test_every_field_has_a_change),
                                       cmocka_unit_test(test_what_decides),
                                       cmocka_unit_test(test_hash_of_earlier_versions),
                                       cmocka_unit_test(test_copies_of_earlier_versions),
                                       cmocka_unit_test(test_what_decides_with_another),
                                       cmocka_unit_test(test_diff_text),
                                       cmocka_unit_test(test_precision),
                                       cmocka_unit_test(test_extending),
                                       cmocka_unit_test(test_presets)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
