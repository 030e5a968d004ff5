/* The watch for loss spikes against its formula, and what its window keeps. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "train/spike.h"

enum { WINDOW = 16 };
static const seo_train_config k_watch = {.spike_sigma = 6, .spike_window = WINDOW};

/* 1, 2, ... 16: the median is 8.5, the distances from it are .5 .5 1.5 1.5 ... 7.5 7.5, their
 * median is 4. */
static void formula(void **state) {
    (void)state;
    double losses[WINDOW];
    for (int i = 0; i < WINDOW; i++) losses[(5 * i) % WINDOW] = i + 1; /* in any order */
    const double edge = 8.5 + 6 * 1.4826 * 4;
    const seo_spike under = seo_spike_judge(&k_watch, losses, WINDOW, edge - 1e-9);
    const seo_spike over = seo_spike_judge(&k_watch, losses, WINDOW, edge + 1e-9);
    assert_false(under.found);
    assert_true(over.found && over.expected == 8.5);
    assert_true(fabs(over.sigmas - 6) < 1e-9);
    assert_false(seo_spike_judge(&k_watch, losses, WINDOW, -1e9).found); /* a fall is none */
}

/* The middle one of an odd number. */
static void odd_window(void **state) {
    (void)state;
    const seo_train_config watch = {.spike_sigma = 1, .spike_window = 17};
    double losses[17];
    for (int i = 0; i < 17; i++) losses[i] = i;
    assert_true(seo_spike_judge(&watch, losses, 17, 100).expected == 8);
}

static void not_before_it_is_full(void **state) {
    (void)state;
    double losses[WINDOW] = {0};
    for (int64_t count = 0; count < WINDOW; count++) {
        assert_false(seo_spike_judge(&k_watch, losses, count, 1e9).found);
    }
    assert_true(seo_spike_judge(&k_watch, losses, WINDOW, 1e-9).found); /* all were zero */
    assert_false(seo_spike_judge(&k_watch, losses, WINDOW, 0).found);
    const seo_train_config off = {.spike_sigma = 0, .spike_window = WINDOW};
    assert_false(seo_spike_judge(&off, losses, WINDOW, 1e9).found);
}

/* Losses that do not move: a thousandth of them is the least deviation. */
static void constant_losses(void **state) {
    (void)state;
    double losses[WINDOW];
    for (int i = 0; i < WINDOW; i++) losses[i] = 4;
    assert_false(seo_spike_judge(&k_watch, losses, WINDOW, 4 + 5.9 * 0.004).found);
    assert_true(seo_spike_judge(&k_watch, losses, WINDOW, 4 + 6.1 * 0.004).found);
}

/* One spike in the window does not hide the next; a new level is one for half a window. */
static void robust(void **state) {
    (void)state;
    double losses[SEO_CONFIG_SPIKE_WINDOW_MAX];
    int64_t count = 0, found = 0;
    for (int i = 0; i < 100; i++) seo_spike_add(&k_watch, losses, &count, 3 + 0.01 * (i % 7));
    for (int i = 0; i < 3; i++) {
        assert_true(seo_spike_judge(&k_watch, losses, count, 5).found);
        seo_spike_add(&k_watch, losses, &count, 5);
    }
    assert_false(seo_spike_judge(&k_watch, losses, count, 3.06).found);
    for (int i = 0; i < WINDOW; i++) {
        found += seo_spike_judge(&k_watch, losses, count, 5).found;
        seo_spike_add(&k_watch, losses, &count, 5);
    }
    assert_int_equal(found, WINDOW / 2 - 3);
}

/* The window keeps the newest, whatever its size was before. */
static void window(void **state) {
    (void)state;
    double losses[SEO_CONFIG_SPIKE_WINDOW_MAX];
    int64_t count = 0;
    for (int i = 0; i < 40; i++) {
        seo_spike_add(&k_watch, losses, &count, i);
        assert_int_equal(count, seo_min_i64(i + 1, WINDOW));
        for (int64_t j = 0; j < count; j++) {
            assert_true(losses[j] == (double)(i + 1 - count + j));
        }
    }
    const seo_train_config most = {.spike_sigma = 6, .spike_window = SEO_CONFIG_SPIKE_WINDOW_MAX};
    for (int i = 0; i < SEO_CONFIG_SPIKE_WINDOW_MAX + 5; i++) {
        seo_spike_add(&most, losses, &count, i);
    }
    assert_int_equal(count, SEO_CONFIG_SPIKE_WINDOW_MAX);
    assert_true(losses[0] == 5);
    /* A shorter window than the saved one: the newest of them count. */
    assert_true(seo_spike_judge(&k_watch, losses, count, 2000).expected ==
                SEO_CONFIG_SPIKE_WINDOW_MAX + 5 - 8.5);
    seo_spike_add(&k_watch, losses, &count, 7);
    assert_int_equal(count, WINDOW);
    assert_true(losses[WINDOW - 1] == 7 && losses[0] == SEO_CONFIG_SPIKE_WINDOW_MAX + 5 - 15);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(formula),
                                       cmocka_unit_test(odd_window),
                                       cmocka_unit_test(not_before_it_is_full),
                                       cmocka_unit_test(constant_losses),
                                       cmocka_unit_test(robust),
                                       cmocka_unit_test(window)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
