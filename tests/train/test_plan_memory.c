/* What the planner says a rank takes is, to the byte, what a rank takes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/check.h"
#include "tests/train/parallel_fixture.h"
#include "tests/train/tiny_model.h"
#include "train/plan/memory.h"

typedef struct plan_case {
    int32_t ranks;
    int64_t zero, slots, micro_batch;
    seo_recompute recompute;
    int64_t adapter_rank; /* 0: all is trained */
    seo_family family;
} plan_case;

static int64_t planned(const plan_case *k) {
    seo_plan_memory memory;
    seo_config c = {0};
    c.model = ranks_model(k->family, 0.1, k->adapter_rank);
    c.train.batch_tokens = RANKS_SEQUENCES * TINY_POSITIONS;
    c.train.micro_batch = k->micro_batch;
    c.optimizer.master_weights = true;
    c.parallel = (seo_parallel_config){
        .zero = k->zero, .invariant = k->slots > 0, .slots = k->slots, .recompute = k->recompute};
    const seo_plan_rank rank = {.config = &c,
                                .ranks = k->ranks,
                                .cpu = true,
                                .storage = SEO_DTYPE_F32,
                                .micro_batch = k->micro_batch};
    assert_int_equal(seo_plan_memory_of(&rank, &memory), SEO_OK);
    return seo_memory_total(&memory.device);
}

static int64_t taken(const plan_case *k, const char *data) {
    ranks_state state = {0};
    ranks_result result = {0};
    ranks_train(&(ranks_setup){.ranks = k->ranks,
                               .zero = k->zero,
                               .slots = k->slots,
                               .micro_batch = k->micro_batch,
                               .wire = SEO_DTYPE_F32,
                               .recompute = k->recompute,
                               .dropout = 0.1,
                               .adapter_rank = k->adapter_rank,
                               .family = k->family,
                               .first_step = 1,
                               .steps = 1,
                               .data = data,
                               .state = &state},
                &result);
    ranks_state_free(&state);
    return result.device_bytes;
}

static void test_to_the_byte(void **unused) {
    (void)unused;
    static const plan_case cases[] = {
        {1, 1, 0, 2, SEO_RECOMPUTE_NONE, 0, SEO_FAMILY_GPT2},
        {1, 1, 8, 1, SEO_RECOMPUTE_NONE, 0, SEO_FAMILY_GPT2},
        {2, 0, 0, 2, SEO_RECOMPUTE_NONE, 0, SEO_FAMILY_GPT2},
        {2, 1, 0, 2, SEO_RECOMPUTE_FULL, 0, SEO_FAMILY_GPT2},
        {2, 2, 0, 2, SEO_RECOMPUTE_NONE, 0, SEO_FAMILY_GPT2},
        {2, 3, 0, 2, SEO_RECOMPUTE_NONE, 0, SEO_FAMILY_GPT2},
        {4, 3, 0, 1, SEO_RECOMPUTE_SELECTIVE, 0, SEO_FAMILY_GPT2},
        {2, 1, 8, 1, SEO_RECOMPUTE_NONE, 0, SEO_FAMILY_GPT2},
        {4, 0, 8, 2, SEO_RECOMPUTE_NONE, 0, SEO_FAMILY_GPT2},
        {8, 3, 0, 2, SEO_RECOMPUTE_FULL, 0, SEO_FAMILY_GPT2},
        {1, 0, 0, 2, SEO_RECOMPUTE_NONE, 4, SEO_FAMILY_GPT2},
        {4, 1, 0, 2, SEO_RECOMPUTE_SELECTIVE, 4, SEO_FAMILY_GPT2},
        {4, 3, 0, 2, SEO_RECOMPUTE_NONE, 4, SEO_FAMILY_GPT2},
        {1, 0, 0, 2, SEO_RECOMPUTE_NONE, 0, SEO_FAMILY_GPT1},
        {4, 3, 0, 2, SEO_RECOMPUTE_SELECTIVE, 0, SEO_FAMILY_GPT1},
        {2, 2, 0, 1, SEO_RECOMPUTE_FULL, 0, SEO_FAMILY_GPT3},
        {1, 0, 0, 2, SEO_RECOMPUTE_NONE, 0, SEO_FAMILY_BERT},
        {4, 3, 0, 2, SEO_RECOMPUTE_FULL, 0, SEO_FAMILY_BERT},
        {2, 1, 8, 1, SEO_RECOMPUTE_NONE, 0, SEO_FAMILY_ROBERTA},
        {2, 2, 0, 1, SEO_RECOMPUTE_SELECTIVE, 0, SEO_FAMILY_DISTILBERT},
    };
    const char *data = ranks_data_make();
    for (int64_t i = 0; i < SEO_COUNT_OF(cases); i++) {
        const plan_case *k = &cases[i];
        const int64_t told = planned(k), seen = taken(k, data);
        print_message("%d ranks, zero %lld, slots %lld, adapters %lld: planned %lld bytes, taken "
                      "%lld\n",
                      k->ranks, (long long)k->zero, (long long)k->slots, (long long)k->adapter_rank,
                      (long long)told, (long long)seen);
        assert_int_equal(told, seen);
    }
    ranks_data_remove();
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_to_the_byte)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
