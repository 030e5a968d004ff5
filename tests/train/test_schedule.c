/* Learning-rate schedules in closed form, their first and last step included. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "train/schedule.h"

static const double k_lr = 4e-3;

/* Rounding of a handful of double operations. */
static void near(double got, double want) {
    if (!(fabs(got - want) <= 1e-15)) fail_msg("got %.17g, want %.17g", got, want);
}

static double rate(seo_schedule_config s, int64_t step) {
    return seo_schedule_lr(&s, k_lr, 100, step);
}

static void warmup(void **state) {
    (void)state;
    const seo_schedule_kind kinds[] = {SEO_SCHEDULE_CONSTANT, SEO_SCHEDULE_LINEAR,
                                       SEO_SCHEDULE_COSINE, SEO_SCHEDULE_WSD};
    for (int i = 0; i < 4; i++) {
        const seo_schedule_config s = {
            .name = kinds[i], .warmup_steps = 8, .decay_steps = i == 3 ? 20 : 100};
        near(rate(s, 1), k_lr / 8);
        near(rate(s, 6), k_lr * 6 / 8);
        near(rate(s, 8), k_lr);
        assert_true(rate(s, 9) <= k_lr && rate(s, 9) > k_lr * 0.98);
    }
}

static void no_warmup(void **state) {
    (void)state;
    const seo_schedule_config s = {.name = SEO_SCHEDULE_LINEAR, .decay_steps = 100};
    near(rate(s, 1), k_lr * 0.99);
    near(rate(s, 100), 0);
}

static void constant(void **state) {
    (void)state;
    const seo_schedule_config s = {.name = SEO_SCHEDULE_CONSTANT, .final_lr_fraction = 0.1};
    near(rate(s, 1), k_lr);
    near(rate(s, 100), k_lr);
}

static void linear(void **state) {
    (void)state;
    const seo_schedule_config s = {.name = SEO_SCHEDULE_LINEAR,
                                   .warmup_steps = 20,
                                   .decay_steps = 80,
                                   .final_lr_fraction = 0.25};
    near(rate(s, 50), k_lr * (1 - 0.75 * 0.5));
    near(rate(s, 80), k_lr * 0.25);
    near(rate(s, 100), k_lr * 0.25);
}

static void cosine(void **state) {
    (void)state;
    const seo_schedule_config s = {.name = SEO_SCHEDULE_COSINE,
                                   .warmup_steps = 20,
                                   .decay_steps = 100,
                                   .final_lr_fraction = 0.1};
    near(rate(s, 40), k_lr * (0.1 + 0.9 * 0.5 * (1 + sqrt(0.5))));
    near(rate(s, 60), k_lr * (0.1 + 0.9 * 0.5));
    near(rate(s, 100), k_lr * 0.1);
}

static void wsd(void **state) {
    (void)state;
    const seo_schedule_config s = {
        .name = SEO_SCHEDULE_WSD, .warmup_steps = 10, .decay_steps = 20, .final_lr_fraction = 0.5};
    near(rate(s, 11), k_lr);
    near(rate(s, 80), k_lr);
    near(rate(s, 90), k_lr * 0.75);
    near(rate(s, 100), k_lr * 0.5);
    near(rate(s, 101), k_lr * 0.5);
}

/* Batches of 2, 4, 6 and 8 sequences of 10 tokens over the first 400 tokens, then of 8: against
 * counting them one by one by the rule of data/ramp.h. */
static void tokens(void **state) {
    (void)state;
    seo_config config = {
        .model.seq_len = 10,
        .train = {
            .steps = 37, .batch_tokens = 80, .batch_ramp_tokens = 400, .batch_start_tokens = 20}};
    int64_t sum = 0;
    for (int64_t step = 0; step < config.train.steps; step++) {
        const int64_t levels = 3, level = sum < 400 ? sum * levels / 400 : levels;
        sum += (2 + 2 * level) * 10;
    }
    assert_int_equal(seo_schedule_tokens(&config), sum);
    assert_true(sum < 37 * 80);
    config.train.batch_ramp_tokens = 0;
    assert_int_equal(seo_schedule_tokens(&config), 37 * 80);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(warmup),   cmocka_unit_test(no_warmup),
                                       cmocka_unit_test(constant), cmocka_unit_test(linear),
                                       cmocka_unit_test(cosine),   cmocka_unit_test(wsd),
                                       cmocka_unit_test(tokens)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
