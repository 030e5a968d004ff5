/* The order of samples: a bijection an epoch, exact proportions, any position on its own. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "data/order.h"

static void permutation_is_bijection(void **state) {
    (void)state;
    const uint64_t counts[] = {1, 2, 3, 10, 1000, 65535, 65536, 65537, 1000003};
    for (int64_t c = 0; c < SEO_COUNT_OF(counts); c++) {
        seo_permutation p;
        seo_permutation_init(&p, counts[c], 42, 3, 1);
        unsigned char *seen = calloc(counts[c], 1);
        assert_non_null(seen);
        for (uint64_t i = 0; i < counts[c]; i++) {
            const uint64_t at = seo_permutation_at(&p, i);
            assert_true(at < counts[c]);
            assert_int_equal(seen[at], 0);
            seen[at] = 1;
            assert_true(seo_permutation_index_of(&p, at) == i);
        }
        free(seen);
    }
}

static void permutation_of_huge_counts_inverts(void **state) {
    (void)state;
    const uint64_t counts[] = {UINT64_C(5000000000), (UINT64_C(1) << 62) - 57};
    for (int64_t c = 0; c < SEO_COUNT_OF(counts); c++) {
        seo_permutation p;
        seo_permutation_init(&p, counts[c], 1, 0, 0);
        for (uint64_t i = 0; i < 1000; i++) {
            const uint64_t index = counts[c] / 1000 * i;
            assert_true(seo_permutation_index_of(&p, seo_permutation_at(&p, index)) == index);
        }
    }
}

/* Position against value in 64 x 64 cells: 63 * 63 degrees of freedom, standard deviation 89. */
static void permutation_is_even(void **state) {
    (void)state;
    enum { COUNT = 1000003, CELLS = 64 };
    for (uint64_t seed = 0; seed < 3; seed++) {
        static int32_t cells[CELLS][CELLS];
        seo_permutation p;
        memset(cells, 0, sizeof cells);
        seo_permutation_init(&p, COUNT, seed, 0, seed);
        for (uint64_t i = 0; i < COUNT; i++) {
            cells[i * CELLS / COUNT][seo_permutation_at(&p, i) * CELLS / COUNT]++;
        }
        const double expected = (double)COUNT / (CELLS * CELLS);
        double chi2 = 0;
        for (int a = 0; a < CELLS; a++) {
            for (int b = 0; b < CELLS; b++) {
                chi2 += (cells[a][b] - expected) * (cells[a][b] - expected) / expected;
            }
        }
        assert_true(fabs(chi2 - 63.0 * 63.0) < 6 * 89);
    }
}

static void keys_give_different_orders(void **state) {
    (void)state;
    enum { COUNT = 4096 };
    const uint64_t keys[][3] = {{1, 0, 0}, {2, 0, 0}, {1, 1, 0}, {1, 0, 1}, {0, 1, 0}, {0, 0, 1}};
    for (int64_t a = 0; a < SEO_COUNT_OF(keys); a++) {
        for (int64_t b = a + 1; b < SEO_COUNT_OF(keys); b++) {
            seo_permutation p, q;
            int64_t same = 0;
            seo_permutation_init(&p, COUNT, keys[a][0], keys[a][1], keys[a][2]);
            seo_permutation_init(&q, COUNT, keys[b][0], keys[b][1], keys[b][2]);
            for (uint64_t i = 0; i < COUNT; i++) {
                same += seo_permutation_at(&p, i) == seo_permutation_at(&q, i);
            }
            assert_true(same < 12); /* one is expected */
        }
    }
}

static seo_order *open_order(int64_t count, const int64_t *windows, const double *weights) {
    seo_order *order = NULL;
    assert_int_equal(seo_order_open(&(seo_order_args){.source_count = count,
                                                      .windows = windows,
                                                      .weights = weights,
                                                      .seed = 7,
                                                      .shuffle = true},
                                    &order),
                     SEO_OK);
    return order;
}

/* Each source's draws run through its epochs without a gap, and every epoch holds each window once,
 * also where one source ends its epoch early. */
static void every_window_once_an_epoch(void **state) {
    (void)state;
    const int64_t windows[] = {101, 37, 1, 500};
    const double weights[] = {0.5, 0.3, 0.05, 0.15};
    seo_order *order = open_order(4, windows, weights);
    int64_t drawn[4] = {0};
    unsigned char seen[4][500] = {{0}};
    for (int64_t g = 0; g < 20000; g++) {
        const seo_order_place place = seo_order_at(order, g);
        const int64_t s = place.source;
        assert_true(s >= 0 && s < 4);
        assert_int_equal(place.epoch, drawn[s] / windows[s]);
        assert_true(place.window >= 0 && place.window < windows[s]);
        assert_int_equal(seen[s][place.window]++, place.epoch & 0xff);
        drawn[s]++;
    }
    seo_order_close(order);
}

static void epochs_differ(void **state) {
    (void)state;
    const int64_t windows = 1000;
    seo_order *order = open_order(1, &windows, NULL);
    int64_t same = 0;
    for (int64_t i = 0; i < windows; i++) {
        same += seo_order_at(order, i).window == seo_order_at(order, windows + i).window;
    }
    assert_true(same < 10);
    assert_int_equal(seo_order_at(order, windows - 1).epoch, 0);
    assert_int_equal(seo_order_at(order, windows).epoch, 1);
    seo_order_close(order);
}

static void check_prefixes(int64_t count, const double *weights, int64_t samples) {
    int64_t windows[SEO_ORDER_SOURCES_MAX], drawn[SEO_ORDER_SOURCES_MAX] = {0};
    double sum = 0;
    for (int64_t s = 0; s < count; s++) {
        windows[s] = 1000 + s;
        sum += weights[s];
    }
    seo_order *order = open_order(count, windows, weights);
    for (int64_t g = 0; g < samples; g++) {
        drawn[seo_order_at(order, g).source]++;
        for (int64_t s = 0; s < count; s++) {
            assert_true(fabs((double)drawn[s] - weights[s] / sum * (double)(g + 1)) < 1.0 + 1e-6);
        }
    }
    seo_order_close(order);
}

static void weights_hold_at_every_prefix(void **state) {
    (void)state;
    check_prefixes(4, (const double[]){0.5, 0.3, 0.15, 0.05}, 100000);
    check_prefixes(3, (const double[]){1, 1, 1}, 10000);
    check_prefixes(2, (const double[]){0.999, 0.001}, 100000);
    double many[SEO_ORDER_SOURCES_MAX];
    for (int64_t s = 0; s < SEO_ORDER_SOURCES_MAX; s++) many[s] = (double)(1 + s * s % 17);
    check_prefixes(SEO_ORDER_SOURCES_MAX, many, 5000);
}

/* Weights that no short cycle meets are met within the resolution of the longest. */
static void odd_weights_come_near(void **state) {
    (void)state;
    const double weights[] = {M_PI, M_E, M_SQRT2};
    const double sum = M_PI + M_E + M_SQRT2;
    const int64_t windows[] = {100000, 100000, 100000}, samples = 1000000;
    int64_t drawn[3] = {0};
    seo_order *order = open_order(3, windows, weights);
    for (int64_t g = 0; g < samples; g++) drawn[seo_order_at(order, g).source]++;
    for (int64_t s = 0; s < 3; s++) {
        assert_true(fabs((double)drawn[s] / (double)samples - weights[s] / sum) < 1e-5);
    }
    seo_order_close(order);
}

static void without_weights_by_windows(void **state) {
    (void)state;
    const int64_t windows[] = {300, 100};
    int64_t drawn[2] = {0};
    seo_order *order = open_order(2, windows, NULL);
    for (int64_t g = 0; g < 400; g++) {
        const seo_order_place place = seo_order_at(order, g);
        assert_int_equal(place.epoch, 0); /* both end their epoch together */
        drawn[place.source]++;
    }
    assert_int_equal(drawn[0], 300);
    assert_int_equal(drawn[1], 100);
    seo_order_close(order);
}

static void unshuffled_is_file_order(void **state) {
    (void)state;
    const int64_t windows = 5;
    seo_order *order = NULL;
    assert_int_equal(
        seo_order_open(&(seo_order_args){.source_count = 1, .windows = &windows}, &order), SEO_OK);
    for (int64_t g = 0; g < 12; g++) assert_int_equal(seo_order_at(order, g).window, g % 5);
    seo_order_close(order);
}

static void impossible_mixes_are_refused(void **state) {
    (void)state;
    seo_order *order = NULL;
    const int64_t windows[] = {10, 10}, none[] = {10, 0};
    const double zero[] = {1, 0}, tiny[] = {1, 1e-9}, nan[] = {1, NAN};
    const seo_order_args bad[] = {
        {.source_count = 0, .windows = windows},
        {.source_count = SEO_ORDER_SOURCES_MAX + 1, .windows = windows},
        {.source_count = 2, .windows = none},
        {.source_count = 2, .windows = windows, .weights = zero},
        {.source_count = 2, .windows = windows, .weights = nan},
        {.source_count = 2, .windows = windows, .weights = tiny},
    };
    for (int64_t i = 0; i < SEO_COUNT_OF(bad); i++) {
        assert_int_not_equal(seo_order_open(&bad[i], &order), SEO_OK);
        assert_null(order);
    }
    assert_non_null(strstr(seo_err_detail(), "source 1"));
}

/* The order is part of what a checkpoint means: these numbers must never change. */
static void order_is_pinned(void **state) {
    (void)state;
    const int64_t windows[] = {1000003, 77};
    const double weights[] = {3, 1};
    seo_order *order = open_order(2, windows, weights);
    uint64_t sum = 0;
    for (int64_t g = 0; g < 1000; g++) {
        const seo_order_place p = seo_order_at(order, g);
        sum = sum * 1000003 + (uint64_t)(p.source * 7 + p.epoch * 131 + p.window);
    }
    assert_int_equal(sum, UINT64_C(0x54e03bff95e5e9b7));
    seo_order_close(order);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(permutation_is_bijection),
        cmocka_unit_test(permutation_of_huge_counts_inverts),
        cmocka_unit_test(permutation_is_even),
        cmocka_unit_test(keys_give_different_orders),
        cmocka_unit_test(every_window_once_an_epoch),
        cmocka_unit_test(epochs_differ),
        cmocka_unit_test(weights_hold_at_every_prefix),
        cmocka_unit_test(odd_weights_come_near),
        cmocka_unit_test(without_weights_by_windows),
        cmocka_unit_test(unshuffled_is_file_order),
        cmocka_unit_test(impossible_mixes_are_refused),
        cmocka_unit_test(order_is_pinned),
    };
    return cmocka_run_group_tests_name("data.order", tests, NULL, NULL);
}
