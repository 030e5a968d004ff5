/* Known answers of Philox 4x32-10 as its authors published them with Random123 (kat_vectors). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rng.h"

static void expect_block(seo_rng_key key, uint64_t index, const uint32_t expected[4]) {
    seo_u32x4 got = seo_philox(key, index);
    for (int i = 0; i < 4; i++) assert_int_equal(got.v[i], expected[i]);
}

static void philox_matches_known_answers(void **state) {
    (void)state;
    const uint32_t zeros[4] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
    const uint32_t ones[4] = {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd};
    const uint32_t pi[4] = {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1};
    expect_block((seo_rng_key){0, 0, 0}, 0, zeros);
    expect_block((seo_rng_key){UINT64_MAX, UINT32_MAX, UINT32_MAX}, UINT64_MAX, ones);
    /* Counter words 243f6a88 85a308d3 13198a2e 03707344, key words a4093822 299f31d0. */
    expect_block((seo_rng_key){0x299f31d0a4093822u, 0x13198a2e, 0x03707344}, 0x85a308d3243f6a88u,
                 pi);
}

static void an_element_is_a_lane_of_its_block(void **state) {
    (void)state;
    seo_rng_key key = {17, SEO_PURPOSE_TEST, 3};
    for (uint64_t i = 0; i < 64; i++)
        assert_int_equal(seo_rng_u32(key, i), seo_philox(key, i / 4).v[i % 4]);
}

static void purposes_and_steps_do_not_share_numbers(void **state) {
    (void)state;
    seo_rng_key a = {1, SEO_PURPOSE_INIT, 0}, b = {1, SEO_PURPOSE_DROPOUT, 0};
    seo_rng_key c = {1, SEO_PURPOSE_INIT, 1};
    assert_int_not_equal(seo_rng_u32(a, 0), seo_rng_u32(b, 0));
    assert_int_not_equal(seo_rng_u32(a, 0), seo_rng_u32(c, 0));
}

static void uniform_stays_inside_the_open_interval(void **state) {
    (void)state;
    assert_true(seo_uniform_from(0) > 0.0f);
    assert_true(seo_uniform_from(UINT32_MAX) < 1.0f);
    seo_rng_key key = {5, SEO_PURPOSE_TEST, 0};
    double sum = 0;
    enum { COUNT = 100000 };
    for (uint64_t i = 0; i < COUNT; i++) sum += (double)seo_uniform_from(seo_rng_u32(key, i));
    /* Five standard deviations of the mean, 1 / sqrt(12 COUNT) each. */
    assert_true(sum / COUNT > 0.4954 && sum / COUNT < 0.5046);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_matches_known_answers),
        cmocka_unit_test(an_element_is_a_lane_of_its_block),
        cmocka_unit_test(purposes_and_steps_do_not_share_numbers),
        cmocka_unit_test(uniform_stays_inside_the_open_interval),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
