/* The planner: machines, and what it reckons against sums done by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "train/plan/forecast.h"
#include "train/plan/machine.h"

static void test_machines(void **state) {
    (void)state;
    static const struct {
        const char *text, *name;
        int32_t count;
    } good[] = {{"8xH100", "H100", 8},
                {"h200", "H200", 1},
                {"4XCPU", "cpu", 4},
                {"1024xA100-40G", "A100-40G", 1024}};
    seo_machines m;
    for (int64_t i = 0; i < SEO_COUNT_OF(good); i++) {
        assert_int_equal(seo_machines_parse(good[i].text, &m), SEO_OK);
        assert_string_equal(m.device.name, good[i].name);
        assert_int_equal(m.count, good[i].count);
    }
    static const char *const bad[] = {"",        "x",      "8x",      "0xH100",
                                      "-1xH100", "8 H100", "8xH1000", "99999999999xH100"};
    for (int64_t i = 0; i < SEO_COUNT_OF(bad); i++) {
        assert_int_equal(seo_machines_parse(bad[i], &m), SEO_ERR_USAGE);
        assert_non_null(strstr(seo_err_detail(), "A100-40G"));
    }
}

static seo_config small_config(void) {
    seo_config c = {0};
    c.model = (seo_model_config){.family = SEO_FAMILY_GPT2,
                                 .num_layers = 2,
                                 .num_heads = 2,
                                 .hidden_size = 64,
                                 .ffn_hidden_size = 256,
                                 .seq_len = 32,
                                 .vocab_size = 1000,
                                 .norm_eps = 1e-5};
    c.train.steps = 100;
    c.train.batch_tokens = 16 * 32;
    c.train.micro_batch = 2;
    c.parallel.zero = 1;
    c.parallel.slots = 8;
    c.parallel.reduce = SEO_DTYPE_F32;
    return c;
}

static seo_machines machines(int32_t count) {
    return (seo_machines){.count = count,
                          .device = {.name = "test",
                                     .cpu = true,
                                     .per_node = 8,
                                     .bf16_flops = 2e12,
                                     .f32_flops = 1e12,
                                     .memory_rate = 1e12,
                                     .link_rate = 1e9,
                                     .network_rate = 1e8,
                                     .watts = 300,
                                     .utilisation = 0.5}};
}

static seo_forecast forecast(const seo_config *c, int32_t count) {
    const seo_machines m = machines(count);
    seo_forecast f;
    const seo_forecast_args args = {.config = c,
                                    .machines = &m,
                                    .storage = SEO_DTYPE_F32,
                                    .pue = 1.5,
                                    .host_watts = 100,
                                    .price = 2,
                                    .grams_per_kwh = 500};
    assert_int_equal(seo_forecast_make(&args, &f), SEO_OK);
    return f;
}

static void near(double a, double b) {
    assert_true(a > b * (1 - 1e-12) && a < b * (1 + 1e-12));
}

static void test_one_rank(void **state) {
    (void)state;
    const seo_config c = small_config();
    const seo_forecast f = forecast(&c, 1);
    /* wte 64000, wpe 2048; a block: two norms 256, qkv 12480, proj 4160, fc 16640, proj 16448;
     * the final norm 128. */
    assert_int_equal(f.parameters, 64000 + 2048 + 2 * (256 + 12480 + 4160 + 16640 + 16448) + 128);
    assert_int_equal(f.micro_batches, 8);
    const double blocks = 2.0 * 2 * (3 * 64 * 64 + 64 * 64 + 2 * 64 * 256);
    const double attention = 2.0 * 2 * 2 * 64 * 33 / 2, head = 2.0 * 1000 * 64;
    near(f.model_flops, 3 * (blocks + attention + head));
    near(f.compute_s, f.model_flops * 512 / 0.5e12);
    assert_int_equal(f.sent_bytes, 0);
    assert_true(f.exposed_s == 0);
    near(f.run_s, 100 * (f.compute_s + f.update_s));
    near(f.kwh, (300 + 100) * 1.5 * f.run_s / 3.6e6);
    near(f.kg_co2, f.kwh / 2);
    near(f.dollars, 2 * f.run_s / 3600);
    assert_int_equal(f.checkpoint_bytes, 12 * f.parameters);
}

/* What other families compute: a band of the second layer, all keys, a head on a few tokens. */
static void test_families(void **state) {
    (void)state;
    seo_config c = small_config();
    const double blocks = 2.0 * 2 * (3 * 64 * 64 + 64 * 64 + 2 * 64 * 256);
    const double head = 2.0 * 1000 * 64;
    c.model.family = SEO_FAMILY_GPT3;
    c.model.band = 8; /* 1 + 2 + ... + 8 keys, then 24 times 8 */
    near(forecast(&c, 1).model_flops,
         3 * (blocks + 2 * 2 * 64 * (33.0 / 2 + (36.0 + 24 * 8) / 32) + head));
    c.model.family = SEO_FAMILY_BERT;
    c.model.band = 0;
    c.model.type_vocab_size = 2;
    c.model.next_sentence = true;
    c.model.picks = 5;
    const double picked = 5 * (head + 2.0 * 64 * 64) / 32,
                 pooler = (2.0 * 64 * 64 + 2 * 2 * 64) / 32;
    near(forecast(&c, 1).model_flops, 3 * (blocks + 2 * 2 * 2 * 64 * 32 + picked + pooler));
}

/* Bytes between ranks: segments are padded to 2 x 2048 elements. */
static void test_wire(void **state) {
    (void)state;
    enum { EMBED = 69632, BLOCK = 53248, TAIL = 4096 };
    seo_config c = small_config();
    c.parallel.zero = 0;
    const int64_t all = EMBED + 2 * BLOCK + TAIL;
    assert_int_equal(forecast(&c, 2).sent_bytes, all / 2 * 4 * 2);
    c.parallel.zero = 1;
    assert_int_equal(forecast(&c, 2).sent_bytes, all / 2 * 4 * 2);
    c.parallel.reduce = SEO_DTYPE_BF16;
    assert_int_equal(forecast(&c, 2).sent_bytes, all / 2 * (2 + 4));
    c.parallel.reduce = SEO_DTYPE_F32;
    c.parallel.zero = 2; /* 8 sequences a rank: 4 micro-batches */
    assert_int_equal(forecast(&c, 2).sent_bytes, all / 2 * 4 * (4 + 1));
    c.parallel.zero = 3; /* both blocks stay in the windows from the first pass on */
    assert_int_equal(forecast(&c, 2).sent_bytes, all / 2 * 4 * (4 + 1));
    c.model.num_layers = 3; /* block 0: 1 forward and 4 backward; 1: 1; 2: 4 */
    assert_int_equal(forecast(&c, 2).sent_bytes,
                     (all + BLOCK) / 2 * 4 * 4 + (EMBED + TAIL + (5 + 1 + 4) * BLOCK) / 2 * 4);
}

/* A slower network between nodes, and full recomputation, cost time. */
static void test_time(void **state) {
    (void)state;
    seo_config c = small_config();
    const seo_forecast near_by = forecast(&c, 8), far = forecast(&c, 16);
    assert_true(far.exchange_s > 9 * near_by.exchange_s);
    assert_true(far.exposed_s <= far.exchange_s);
    const double before = forecast(&c, 1).compute_s;
    c.parallel.recompute = SEO_RECOMPUTE_FULL;
    assert_true(forecast(&c, 1).compute_s > before);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_machines), cmocka_unit_test(test_one_rank),
        cmocka_unit_test(test_families), cmocka_unit_test(test_wire),
        cmocka_unit_test(test_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
