/* What is said of a model's memory without a device, against what a device was asked for: byte for
 * byte, and for a model that no test machine can hold, soon. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/check.h"
#include "odd_device.h"
#include "tiny_model.h"

static void ok(seo_err err) {
    if (err != SEO_OK) fail_msg("%s", seo_err_detail());
}

static void check(seo_model_args args, bool gpu) {
    const odd_options odd = {.gpu = gpu, .bf16 = true, .row_multiple = gpu ? 64 : 1};
    seo_memory_table told = {0}, taken = {0};
    seo_model *model = NULL;
    const seo_device_facts facts = seo_device_facts_for(!gpu);
    ok(seo_model_measure(&args, &facts, &told));
    args.dev = odd_device_open(odd);
    args.uninitialised = true;
    ok(seo_model_open(&args, &model));
    seo_model_memory(model, &taken);
    assert_int_equal(seo_memory_total(&told), seo_device_bytes(args.dev));
    assert_int_equal(told.count, taken.count);
    for (int64_t i = 0; i < told.count; i++) {
        assert_string_equal(told.rows[i].name, taken.rows[i].name);
        assert_int_equal(told.rows[i].bytes, taken.rows[i].bytes);
        assert_true(told.rows[i].bytes > 0);
    }
    seo_model_close(model);
    seo_device_close(args.dev);
}

static void training(void **state) {
    (void)state;
    const seo_model_config config = tiny_config(0.1);
    for (int bits = 0; bits < 4 * 3 * 3 * 2 * 2; bits++) {
        const int32_t zero = bits % 4;
        const int storage = bits / 4 % 3, recompute = bits / 12 % 3;
        const bool gpu = bits / 36 % 2;
        const int32_t ranks = bits / 72 ? 4 : 3;
        check((seo_model_args){.config = &config,
                               .mode = SEO_MODEL_TRAIN,
                               .batch = 2,
                               .storage = storage > 0 ? SEO_DTYPE_BF16 : SEO_DTYPE_F32,
                               .no_master = storage == 2,
                               .recompute = (seo_recompute)recompute,
                               .shard = {.rank = ranks - 1,
                                         .ranks = ranks,
                                         .zero = zero,
                                         .parts = ranks == 4 ? 8 : 0}},
              gpu);
    }
}

static void other_modes(void **state) {
    (void)state;
    const seo_model_config config = tiny_config(0);
    for (int gpu = 0; gpu < 2; gpu++) {
        check((seo_model_args){.config = &config, .mode = SEO_MODEL_EVAL, .batch = 3}, gpu);
        check((seo_model_args){.config = &config, .mode = SEO_MODEL_GENERATE, .batch = 1}, gpu);
        check((seo_model_args){.config = &config, .mode = SEO_MODEL_TRAIN, .batch = 3}, gpu);
    }
}

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* GPT-3 175B over 1,024 ranks: what every level takes falls as it should. */
static void largest(void **state) {
    (void)state;
    const seo_model_config config = {.family = SEO_FAMILY_GPT3,
                                     .num_layers = 96,
                                     .num_heads = 96,
                                     .hidden_size = 12288,
                                     .ffn_hidden_size = 4 * 12288,
                                     .seq_len = 2048,
                                     .vocab_size = 50257,
                                     .norm_eps = 1e-5};
    const int64_t parameters = INT64_C(174604259328), ranks = 1024;
    const seo_device_facts facts = seo_device_facts_for(false);
    int64_t before = INT64_MAX;
    const double start = now_s();
    for (int32_t zero = 0; zero < 4; zero++) {
        seo_memory_table t = {0};
        ok(seo_model_measure(&(seo_model_args){.config = &config,
                                               .mode = SEO_MODEL_TRAIN,
                                               .batch = 1,
                                               .storage = SEO_DTYPE_BF16,
                                               .recompute = SEO_RECOMPUTE_FULL,
                                               .shard = {.ranks = (int32_t)ranks, .zero = zero}},
                             &facts, &t));
        assert_true(seo_memory_total(&t) < before);
        before = seo_memory_total(&t);
        const int64_t masters = seo_memory_of(&t, "parameters");
        const int64_t whole = parameters * 4 / (zero >= 1 ? ranks : 1);
        assert_true(masters >= whole && masters < whole + whole / 64);
        if (zero < 3) assert_true(seo_memory_of(&t, "working parameters") >= 2 * parameters);
        if (zero == 3) {
            /* Two blocks of 12 C^2 and what is outside, against 96 blocks. */
            const int64_t blocks = seo_memory_of(&t, "working parameters, windows of two blocks");
            const int64_t block = 12 * INT64_C(12288) * 12288 * 2;
            assert_true(blocks > 2 * block && blocks < 2 * block + block / 64);
        }
    }
    print_message("%.1f ms for a plan of 175B parameters\n", (now_s() - start) / 4 * 1e3);
    /* A second is long against what it takes, and short against taking the memory. */
    assert_true(now_s() - start < 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(training), cmocka_unit_test(other_modes),
                                       cmocka_unit_test(largest)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
