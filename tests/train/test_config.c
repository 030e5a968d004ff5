/* What a configuration may say, and where each mistake in it is shown. */
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
#include "config_fixture.h"
#include "train/config_fields.h"

static seo_config g_config; /* large: not for the stack */

static void test_defaults(void **state) {
    (void)state;
    read_small(NULL, &g_config);
    const seo_config *c = &g_config;
    assert_int_equal(c->model.family, SEO_FAMILY_GPT2);
    assert_int_equal(c->model.ffn_hidden_size, 128);
    assert_int_equal(c->model.activation, SEO_GELU_TANH);
    assert_true(c->model.dropout == 0 && c->model.norm_eps == 1e-5);
    assert_string_equal(c->data.path, "shards");
    assert_true(c->data.shuffle);
    assert_int_equal(c->data.mix_count, 0);
    assert_int_equal(c->train.micro_batch, 8);
    assert_int_equal(c->train.seed, 1337);
    assert_true(c->optimizer.beta1 == 0.9 && c->optimizer.beta2 == 0.95);
    assert_true(c->optimizer.eps == 1e-8 && c->optimizer.weight_decay == 0.1);
    assert_true(c->optimizer.clip == 1 && c->optimizer.lr == 1e-3);
    assert_int_equal(c->schedule.name, SEO_SCHEDULE_COSINE);
    assert_int_equal(c->schedule.warmup_steps, 0);
    assert_int_equal(c->schedule.decay_steps, 100);
    assert_true(c->schedule.final_lr_fraction == 0.1);
    assert_true(c->checkpoint.every_seconds == 1800);
    assert_int_equal(c->checkpoint.keep_last, 3);
    assert_int_equal(c->train.max_bad_steps, 10);
    assert_true(c->train.spike_sigma == 6);
    assert_int_equal(c->train.spike_window, 128);
    assert_int_equal(c->train.on_spike, SEO_SPIKE_WARN);
    assert_int_equal(c->parallel.zero, 1);
    assert_false(c->parallel.invariant);
    assert_int_equal(c->parallel.slots, 8);
    assert_int_equal(c->parallel.reduce, SEO_DTYPE_F32);
    assert_int_equal(c->parallel.recompute, SEO_RECOMPUTE_NONE);
    assert_int_equal(c->parallel.backend, SEO_COMM_CHOICE_AUTO);
    assert_true(c->parallel.timeout_s == 60 && c->parallel.join_s == 60);
    assert_int_equal(c->device, SEO_DEVICE_AUTO);
    assert_int_equal(c->precision, SEO_PRECISION_AUTO);
    assert_true(c->optimizer.master_weights);
}

/* All sections and keys of the reference, at once, and the ways to write numbers. */
static void test_every_key(void **state) {
    (void)state;
    static const char text[] =
        "model: {family: gpt3, num_layers: 1_2, num_heads: 12, hidden_size: 768,\n"
        "        ffn_hidden_size: 3072, seq_len: 1024, vocab_size: 50257, dropout: 0.1,\n"
        "        activation: gelu_erf, norm_eps: 1e-6}\n"
        "data: {path: shards, shuffle: false, mix: null}\n"
        "train: {steps: 19.56k, batch_tokens: 524_288, micro_batch: \"64\", seed: 0,\n"
        "        max_bad_steps: 3, spike_sigma: 4.5, spike_window: 64, on_spike: skip}\n"
        "optimizer: {name: adamw, lr: 6e-4, beta1: 0.8, beta2: 0.9, eps: 1e-6, weight_decay: 0,\n"
        "            clip: 0, master_weights: true}\n"
        "schedule: {name: wsd, warmup_tokens: 375M, decay_tokens: 1B, final_lr_fraction: 0.0}\n"
        "eval: {every: 0, tokens: 10485760}\n"
        "checkpoint: {every: 0, every_seconds: 2h, keep_last: 1, keep_every: 10000,\n"
        "             init_from: null}\n"
        "parallel: {zero: 3, invariant: false, slots: 16, reduce: bf16, recompute: selective,\n"
        "           backend: mpi, timeout: 2min, join_timeout: 10s}\n"
        "kernels: {matmul: own}\n"
        "device: cpu\n"
        "precision: f32\n";
    assert_int_equal(read_text(text, NULL, &g_config, NULL), SEO_OK);
    const seo_config *c = &g_config;
    assert_int_equal(c->model.family, SEO_FAMILY_GPT3);
    assert_int_equal(c->model.num_layers, 12);
    assert_int_equal(c->model.activation, SEO_GELU_ERF);
    assert_false(c->data.shuffle);
    assert_int_equal(c->train.steps, 19560);
    assert_int_equal(c->train.micro_batch, 64);
    assert_true(c->optimizer.lr == 6e-4);
    /* 375e6 / 524288 = 715.3 and 1e9 / 524288 = 1907.3, rounded up. */
    assert_int_equal(c->schedule.warmup_steps, 716);
    assert_int_equal(c->schedule.decay_steps, 1908);
    assert_true(c->checkpoint.every_seconds == 7200);
    assert_int_equal(c->train.max_bad_steps, 3);
    assert_true(c->train.spike_sigma == 4.5);
    assert_int_equal(c->train.spike_window, 64);
    assert_int_equal(c->train.on_spike, SEO_SPIKE_SKIP);
    assert_int_equal(c->parallel.zero, 3);
    assert_int_equal(c->parallel.slots, 16);
    assert_int_equal(c->parallel.reduce, SEO_DTYPE_BF16);
    assert_int_equal(c->parallel.recompute, SEO_RECOMPUTE_SELECTIVE);
    assert_int_equal(c->parallel.backend, SEO_COMM_CHOICE_MPI);
    assert_true(c->parallel.timeout_s == 120 && c->parallel.join_s == 10);
    assert_int_equal(c->kernels.matmul, SEO_MATMUL_OWN);
    assert_int_equal(c->device, SEO_DEVICE_CPU);
}

typedef struct mistake_case {
    const char *text; /* a whole file */
    const char *sets;
    const char *place; /* "t.yaml:3:9: error: ", or the --set text */
    const char *says;
} mistake_case;

#define M "model: {num_layers: 2, num_heads: 2, hidden_size: 32, seq_len: 32, vocab_size: 257"
#define D "data: {path: a}\n"
#define T "train: {steps: 100, batch_tokens: 512}\n"
#define O "optimizer: {lr: 1e-3}\n"

static const mistake_case k_cases[] = {
    /* unknown keys and sections */
    {M ", drop: 0}\n" D T O, NULL, "t.yaml:1:85: ", "unknown key \"drop\" in model"},
    {M ", n_embd: 4}\n" D T O, NULL, "t.yaml:1:85: ", "did you mean hidden_size?"},
    {M "}\n" D T "optimizer:\n  lr: 1e-3\n  beta_1: 0.9\n", NULL, "t.yaml:6:3: ", "mean beta1?"},
    {M "}\n" D T O "optimiser: {lr: 1}\n", NULL,
     "t.yaml:5:1: ", "did you mean the section optimiz"},
    {M ", lr: 4}\n" D T O, NULL, "t.yaml:1:85: ", "it is a key of optimizer"},
    {M ", every: 4}\n" D T O, NULL, "t.yaml:1:85: ", "it is a key of eval and of checkpoint"},
    {M ", device: cpu}\n" D T O, NULL, "t.yaml:1:85: ", "device stands at the top level"},
    {M "}\n" D T O "lr: 3\n", NULL, "t.yaml:5:1: ", "it is a key of optimizer"},
    {M "}\n" D T O "data.path: b\n", NULL, "t.yaml:5:1: ", "write path: under data:"},
    {M "}\n" D "trian: {steps: 3, batch_tokens: 32}\n" O, NULL,
     "t.yaml:3:1: ", "did you mean the section train?"},
    {M "}\nDATA: {path: a}\n" T O, NULL, "t.yaml:2:1: ", "did you mean the section data?"},
    {M "}\n" D T O "zzzz: {a: 1}\n", NULL, "t.yaml:5:1: ", "unknown key \"zzzz\" at the top level"},
    /* wrong types */
    {M "}\n" D "train: {steps: fast, batch_tokens: 512}\n" O, NULL,
     "t.yaml:3:16: ", "train.steps must be a whole number, found \"fast\""},
    {M "}\n" D "train: {steps: 1.5, batch_tokens: 512}\n" O, NULL,
     "t.yaml:3:16: ", "train.steps must be a whole number, found \"1.5\""},
    {M "}\n" D "train: {steps: [1], batch_tokens: 512}\n" O, NULL,
     "t.yaml:3:16: ", "train.steps must be a whole number, found a list"},
    {M "}\n" D "train: {steps: {a: 1}, batch_tokens: 512}\n" O, NULL,
     "t.yaml:3:16: ", "train.steps must be a whole number, found a map"},
    {M "}\n" D T "optimizer: {lr: }\n", NULL, "t.yaml:4:13: ", "must be a number, found nothing"},
    {M "}\n" D T "optimizer: {lr: 0x1p-3}\n", NULL, "t.yaml:4:17: ", "must be a number"},
    {M "}\n" D T "optimizer: {lr: nan}\n", NULL, "t.yaml:4:17: ", "must be a number"},
    {M "}\n" D T "optimizer: 3\n", NULL, "t.yaml:4:12: ", "optimizer is a section"},
    {M "}\ndata: {path: a, shuffle: yes}\n" T O, NULL, "t.yaml:2:26: ", "must be true or false"},
    {M "}\ndata: {path: [a]}\n" T O, NULL, "t.yaml:2:14: ", "must be a text, found a list"},
    {M "}\n" D T O "checkpoint: {every_seconds: soon}\n", NULL,
     "t.yaml:5:29: ", "must be a duration"},
    {"- 1\n", NULL, "t.yaml:1:1: ", "sections are wanted here"},
    /* ranges */
    {M ", dropout: 1.0}\n" D T O, NULL, "t.yaml:1:94: ", "is 1.0, outside 0 to 1 (not itself)"},
    {M ", norm_eps: 0}\n" D T O, NULL, "t.yaml:1:95: ", "is 0, outside 1e-12 to 0.1"},
    {M "}\n" D "train: {steps: 0, batch_tokens: 512}\n" O, NULL, "t.yaml:3:16: ", "outside 1 to"},
    {M "}\n" D T "optimizer: {lr: -1}\n", NULL, "t.yaml:4:17: ", "is -1, outside 0 to 100"},
    {M "}\n" D T O "schedule: {final_lr_fraction: 1.1}\n", NULL, "t.yaml:5:31: ", "outside 0 to 1"},
    {M "}\n" D T O "parallel: {zero: 4}\n", NULL, "t.yaml:5:18: ", "is 4, outside 0 to 3"},
    {M "}\n" D T O "parallel: {timeout: 100ms}\n", NULL, "t.yaml:5:21: ", "outside 1 to 86400"},
    /* choices */
    {M ", family: gtp2}\n" D T O, NULL, "t.yaml:1:93: ", "one of gpt1, gpt2, gpt3, bert, rob"},
    {M "}\n" D T O "schedule: {name: cosin}\n", NULL, "t.yaml:5:18: ", "did you mean cosine?"},
    {M "}\n" D T O "device: gpu\n", NULL, "t.yaml:5:9: ", "one of auto, cpu, cuda; found \"gpu\""},
    {M "}\n" D T O "precision: f16\n", NULL, "t.yaml:5:12: ", "one of auto, f32, bf16; found"},
    {M "}\n" D T O "device: cpu\nprecision: bf16\n", NULL,
     "t.yaml:6:12: ", "bf16 needs a GPU, the CPU computes in f32; use precision: f32 or auto"},
    {M "}\n" D T O "precision: bf16\n", "device=cpu", "--set device=cpu: ", "bf16 needs a GPU"},
    {M "}\n" D T O "device: cpu\nkernels: {matmul: cublaslt}\n", NULL,
     "t.yaml:6:19: ", "cublaslt needs a GPU; use auto or own"},
    {M "}\n" D T "optimizer: {lr: 1e-3, master_weights: false}\n", NULL,
     "t.yaml:4:39: ", "give precision: bf16 with it, or use true"},
    {M "}\n" D T "optimizer: {lr: 1e-3, master_weights: false}\nprecision: f32\n", NULL,
     "t.yaml:4:39: ", "give precision: bf16 with it, or use true"},
    {M "}\n" D T O "parallel: {recompute: ful}\n", NULL, "t.yaml:5:23: ", "did you mean full?"},
    {M "}\n" D T O "parallel: {reduce: f16}\n", NULL, "t.yaml:5:20: ", "one of f32, bf16; found"},
    {M "}\n" D T O "parallel: {backend: gloo}\n", NULL, "t.yaml:5:21: ", "of auto, mpi, nccl; fo"},
    {M "}\n" D T O "parallel: {backend: nccl}\ndevice: cpu\n", NULL,
     "t.yaml:5:21: ", "nccl joins GPUs; use auto or mpi"},
    {M "}\n" D T O "parallel: {slots: 6}\n", NULL, "t.yaml:5:19: ",
     "6 is not a power of two, so there is no balanced tree of them; the nearest: 4"},
    {M "}\n" D T O "parallel: {invariant: true, slots: 32}\n", NULL,
     "t.yaml:5:36: ", "does not divide the batch of 2 micro-batches"},
    {M "}\n" D "train: {steps: 100, batch_tokens: 512, micro_batch: 4}\n" O
       "parallel: {invariant: true}\n",
     NULL, "t.yaml:3:53: ",
     "at most 4 slots, a smaller train.micro_batch, or a batch that is a multiple "},
    {M "}\n" D T O "parallel: {invariant: true, zero: 2}\n", NULL,
     "t.yaml:5:35: ", "use zero 0 or 1"},
    {M "}\n" D T O "parallel: {zero: 3}\n", "parallel.invariant=true",
     "--set parallel.invariant=true: ", "parallel.zero 3 with parallel.invariant"},
    {M "}\n" D T O "parallel: {invariant: true, reduce: bf16}\n", NULL,
     "t.yaml:5:37: ", "would depend on the number of ranks; use f32"},
    {M "}\n" D "train: {steps: 9, batch_tokens: 32, on_spike: stop}\n" O, NULL,
     "t.yaml:3:47: ", "one of warn, skip; found"},
    /* missing */
    {M "}\n" D "train: {steps: 3}\n" O, NULL, "t.yaml:3:1: ", "train.batch_tokens is missing"},
    {M "}\n" D T, NULL, "t.yaml: ", "optimizer.lr is missing"},
    {M "}\n" T O, NULL, "t.yaml: ", "data.path is missing"},
    {M "}\ndata: {path: null}\n" T O, NULL, "t.yaml:2:", "data.path is missing"},
    /* combinations */
    {"model: {num_layers: 2, num_heads: 5, hidden_size: 768, seq_len: 32, vocab_size: 257}\n" D T O,
     NULL, "t.yaml:1:35: ", "nearest that do: 4 and 6 heads; the nearest widths: 765 and 770"},
    {M "}\n" D "train: {steps: 9, batch_tokens: 500, micro_batch: 8}\n" O, NULL,
     "t.yaml:3:33: ", "8 x 32 = 256; the nearest: 256 and 512"},
    {M "}\n" D "train: {steps: 9, batch_tokens: 320, micro_batch: 4}\n" O, NULL,
     "t.yaml:3:33: ", "or keep it with train.micro_batch 2"},
    {M "}\n" D "train: {steps: 9, batch_tokens: 500}\n" O, NULL,
     "t.yaml:3:33: ", "is not a multiple of"},
    {M "}\n" D "train: {steps: 1T, batch_tokens: 512G}\n" O, NULL, "t.yaml:3:34: ", "whole number"},
    {M "}\n" D "train: {steps: 1T, batch_tokens: 32M}\n" O, NULL,
     "t.yaml:3:16: ", "can be counted"},
    {M "}\n" D T O "schedule: {warmup_steps: 101}\n", NULL, "t.yaml:5:26: ", "of at most 100"},
    {M "}\n" D T O "schedule: {warmup_tokens: 52k}\n", NULL,
     "t.yaml:5:27: ", "102 steps is longer"},
    {M "}\n" D T O "schedule: {warmup_steps: 60, decay_steps: 50}\n", NULL,
     "t.yaml:5:43: ", "the decay ends at step 50, inside the warm-up of 60 steps"},
    {M "}\n" D T O "schedule: {name: wsd, warmup_steps: 60, decay_steps: 50}\n", NULL,
     "t.yaml:5:54: ", "the decay may have 40 steps at most"},
    {M "}\n" D T O "schedule: {warmup_steps: 3, warmup_tokens: 1M}\n", NULL,
     "t.yaml:5:44: ", "are both given"},
    {M "}\ndata: {path: a, mix: {b: 1}}\n" T O, NULL, "t.yaml:2:22: ", "are both given"},
    {M "}\ndata: {mix: {b: -1}}\n" T O, NULL, "t.yaml:2:17: ", "a weight is a number above 0"},
    {M "}\ndata: {mix: [b]}\n" T O, NULL, "t.yaml:2:13: ", "must be a map of folders"},
    /* --set */
    {M "}\n" D T O, "train.stesp=3", "--set train.stesp=3: ", "did you mean steps?"},
    {M "}\n" D T O, "trian.steps=3",
     "--set trian.steps=3: ", "unknown section \"trian\"; did you me"},
    {M "}\n" D T O, "train=3", "--set train=3: ", "train is a section"},
    {M "}\n" D T O, "steps", "--set steps: ", "write it as section.key=value"},
    {M "}\n" D T O, "train.steps=x", "--set train.steps=x: ", "must be a whole number"},
    {M "}\n" D T O, "train.steps=", "--set train.steps=: ", "found nothing"},
    {M "}\n" D T O, "data.mix=[a]", "--set data.mix=[a]: ", "must be a map of folders"},
    {M "}\n" D T O, "data.mix={a: 0}", "--set data.mix={a: 0}: ", "a number above 0"},
    {M "}\n" D T O, "model.num_heads=3", "--set model.num_heads=3: ", "2 and 4 heads"},
    {M "}\n" D T O "schedule: {warmup_steps: 60}\n", "train.steps=50",
     "--set train.steps=50: ", "the warm-up of 60 steps is longer than the run of 50"},
    {M "}\n" D T O, "data.path=\xff", "--set ", "not valid UTF-8"},
    /* not YAML */
    {"model: [\n", NULL, "t.yaml:", "error: "},
    {"model: {a: 1}\nmodel: {b: 1}\n", NULL, "t.yaml:2:1: ", "duplicate key"},
};

static void test_mistakes(void **state) {
    (void)state;
    for (int64_t i = 0; i < SEO_COUNT_OF(k_cases); i++) {
        const mistake_case *c = &k_cases[i];
        seo_buf report = {0};
        assert_int_equal(read_text(c->text, c->sets, &g_config, &report), SEO_ERR_USAGE);
        assert_non_null(report.data);
        const bool placed = strncmp(report.data, c->place, strlen(c->place)) == 0;
        const char *newline = strchr(report.data, '\n');
        const char *says = strstr(report.data, c->says);
        if (!placed || !says || says > newline || !strstr(report.data, "error: ")) {
            fail_msg("case %lld, wanted %s... %s, got:\n%s", (long long)i, c->place, c->says,
                     report.data);
        }
        /* One mistake is reported once. */
        const char *error = strstr(report.data, "error: ");
        if (strstr(error + 1, "error: ")) fail_msg("case %lld:\n%s", (long long)i, report.data);
        seo_buf_free(&report);
    }
}

static void test_caret(void **state) {
    (void)state;
    seo_buf report = {0};
    read_text("model:\n  num_layer: 2\n", NULL, &g_config, &report);
    static const char wanted[] = "t.yaml:2:3: error: unknown key \"num_layer\" in model; did you "
                                 "mean num_layers?\n    num_layer: 2\n    ^~~~~~~~~\n";
    assert_memory_equal(report.data, wanted, sizeof wanted - 1);
    assert_null(strstr(report.data, "model.num_layers is missing"));
    seo_buf_free(&report);
}

static int64_t occurrences(const char *text, const char *word) {
    int64_t count = 0;
    for (const char *p = strstr(text, word); p; p = strstr(p + 1, word)) count++;
    return count;
}

static void test_all_at_once(void **state) {
    (void)state;
    seo_buf report = {0};
    const char *text = "model: {family: bort, num_layers: 0, num_heads: x, hidden_size: [],\n"
                       "        seq_len: 1.5, vocab_size: 1, dropout: 2}\n"
                       "data: {mix: {a: b}}\n"
                       "train: {steps: -1, batch_token: 3}\n"
                       "device: tpu\n";
    assert_int_equal(read_text(text, "eval.evry=3\nprecision=f64", &g_config, &report),
                     SEO_ERR_USAGE);
    /* 7 in model, the weight, steps, batch_token, device, lr missing, 2 of --set. */
    assert_int_equal(occurrences(report.data, ": error: "), 14);
    assert_non_null(strstr(seo_err_detail(), "t.yaml: 14 mistakes\n"));
    assert_int_equal(occurrences(seo_err_detail(), ": error: "), 14);
    seo_buf_free(&report);
}

/* More than a message holds: the report has all, the message says how many are left. */
static void test_very_many(void **state) {
    (void)state;
    seo_buf text = {0}, report = {0};
    seo_buf_text(&text, k_small_config);
    seo_buf_text(&text, "eval:\n");
    for (int i = 0; i < 200; i++) seo_buf_format(&text, "  unheard_of_%d: 1\n", i);
    assert_int_equal(read_text(text.data, NULL, &g_config, &report), SEO_ERR_USAGE);
    assert_int_equal(occurrences(report.data, ": error: "), 200);
    const int64_t shown = occurrences(seo_err_detail(), ": error: ");
    char rest[96];
    snprintf(rest, sizeof rest, "\n... and %lld more; seodang config check t.yaml shows all",
             (long long)(200 - shown));
    assert_true(shown > 5 && shown < 200);
    assert_non_null(strstr(seo_err_detail(), rest));
    seo_buf_free(&text);
    seo_buf_free(&report);
}

static void test_set_wins(void **state) {
    (void)state;
    read_small("train.steps=1k\ntrain.steps=2k\ndevice=cpu\ndata.path=/a b: c", &g_config);
    assert_int_equal(g_config.train.steps, 2000);
    assert_int_equal(g_config.device, SEO_DEVICE_CPU);
    assert_string_equal(g_config.data.path, "/a b: c");
}

/* The other way to say the same in the file gives way to --set. */
static void test_set_replaces_the_other_way(void **state) {
    (void)state;
    char text[1024];
    snprintf(text, sizeof text, "%sschedule: {warmup_steps: 7, decay_tokens: 10240}\n",
             k_small_config);
    const char *sets = "schedule.warmup_tokens=1000\nschedule.decay_steps=50\n"
                       "data.mix={\"a b\": 3, c: 0.5}";
    assert_int_equal(read_text(text, sets, &g_config, NULL), SEO_OK);
    assert_int_equal(g_config.schedule.warmup_steps, 2);
    assert_int_equal(g_config.schedule.decay_steps, 50);
    assert_int_equal(g_config.schedule.decay_tokens, 0);
    assert_string_equal(g_config.data.path, "");
    assert_int_equal(g_config.data.mix_count, 2);
    assert_string_equal(g_config.data.mix[0].path, "a b");
    assert_true(g_config.data.mix[1].weight == 0.5);
}

static void test_micro_batch_default(void **state) {
    (void)state;
    read_small("train.batch_tokens=480", &g_config); /* 15 sequences */
    assert_int_equal(g_config.train.micro_batch, 5);
    read_small("train.batch_tokens=352", &g_config); /* 11 */
    assert_int_equal(g_config.train.micro_batch, 1);
}

static void test_decay_default(void **state) {
    (void)state;
    read_small("schedule.name=wsd", &g_config);
    assert_int_equal(g_config.schedule.decay_steps, 20);
    read_small("schedule.name=constant\nschedule.decay_steps=40", &g_config);
    assert_int_equal(g_config.schedule.decay_steps, 0);
    read_small("schedule.name=linear\nschedule.decay_steps=4000", &g_config);
    assert_int_equal(g_config.schedule.decay_steps, 4000);
}

static void test_load(void **state) {
    (void)state;
    char path[] = "/tmp/seodang_config_XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    const size_t bytes = strlen(k_small_config);
    assert_int_equal(write(fd, k_small_config, bytes), (ssize_t)bytes);
    close(fd);
    const char *sets[] = {"train.steps=5"};
    assert_int_equal(seo_config_load(path, sets, 1, &g_config), SEO_OK);
    assert_int_equal(g_config.train.steps, 5);
    unlink(path);
    assert_int_equal(seo_config_load(path, NULL, 0, &g_config), SEO_ERR_MISSING);
    assert_non_null(strstr(seo_err_detail(), path));
}

static void test_explain(void **state) {
    (void)state;
    seo_buf all = {0};
    assert_int_equal(seo_config_explain(NULL, &all), SEO_OK);
    for (int64_t i = 0; i < SEO_CONFIG_FIELDS; i++) {
        const seo_field *field = &seo_config_fields[i];
        seo_buf one = {0};
        assert_int_equal(seo_config_explain(field->path, &one), SEO_OK);
        assert_non_null(strstr(all.data, one.data));
        assert_int_equal(strncmp(one.data, field->path, strlen(field->path)), 0);
        assert_true(strlen(field->help) > 10);
        assert_int_equal(seo_field_find(field->path), i);
        seo_buf_free(&one);
    }
    seo_buf section = {0};
    assert_int_equal(seo_config_explain("schedule", &section), SEO_OK);
    assert_int_equal(occurrences(section.data, "\n\n"), 5);
    assert_int_equal(seo_config_explain("schedule.warmup", &section), SEO_ERR_USAGE);
    assert_non_null(strstr(seo_err_detail(), "did you mean warmup_"));
    assert_int_equal(seo_config_explain("", &section), SEO_ERR_USAGE);
    seo_buf_free(&section);
    seo_buf_free(&all);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_defaults),
                                       cmocka_unit_test(test_every_key),
                                       cmocka_unit_test(test_mistakes),
                                       cmocka_unit_test(test_caret),
                                       cmocka_unit_test(test_all_at_once),
                                       cmocka_unit_test(test_very_many),
                                       cmocka_unit_test(test_set_wins),
                                       cmocka_unit_test(test_set_replaces_the_other_way),
                                       cmocka_unit_test(test_micro_batch_default),
                                       cmocka_unit_test(test_decay_default),
                                       cmocka_unit_test(test_load),
                                       cmocka_unit_test(test_explain)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
