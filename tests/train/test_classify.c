/* Scores of guessed labels against numbers worked out by hand. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/check.h"
#include "train/classify.h"

static seo_confusion table(int64_t classes, const int64_t *counts) {
    seo_confusion m = {0};
    assert_int_equal(seo_confusion_open(classes, &m), SEO_OK);
    for (int64_t l = 0; l < classes; l++) {
        for (int64_t g = 0; g < classes; g++) {
            for (int64_t i = 0; i < counts[l * classes + g]; i++) {
                assert_int_equal(seo_confusion_add(&m, l, g), SEO_OK);
            }
        }
    }
    return m;
}

/* A few operations of doubles near 1. */
static void near(double got, double want) {
    if (!(fabs(got - want) <= 8 * DBL_EPSILON)) fail_msg("%.17g, not %.17g", got, want);
}

/* tn 50, fp 10, fn 5, tp 35. */
static void two_classes(void **state) {
    (void)state;
    seo_confusion m = table(2, (const int64_t[]){50, 10, 5, 35});
    const seo_scores s = seo_confusion_scores(&m);
    assert_int_equal(s.examples, 100);
    near(s.accuracy, 0.85);
    near(s.majority, 0.60);
    near(s.f1_second, 70.0 / 85.0);                      /* 2 * 35 / (2 * 35 + 10 + 5) */
    near(s.f1_macro, (100.0 / 115.0 + 70.0 / 85.0) / 2); /* 2 * 50 / (2 * 50 + 10 + 5) */
    near(s.matthews, (35.0 * 50 - 10.0 * 5) / sqrt(45.0 * 40.0 * 60.0 * 55.0));
    seo_confusion_free(&m);
}

/* Labels 3, 3, 4; guesses 4, 2, 4; 5 of 10 are right. */
static void three_classes(void **state) {
    (void)state;
    seo_confusion m = table(3, (const int64_t[]){2, 0, 1, 1, 1, 1, 1, 1, 2});
    const seo_scores s = seo_confusion_scores(&m);
    assert_int_equal(s.examples, 10);
    near(s.accuracy, 0.5);
    near(s.majority, 0.4);
    near(seo_confusion_f1(&m, 0), 4.0 / 7);
    near(seo_confusion_f1(&m, 1), 2.0 / 5);
    near(seo_confusion_f1(&m, 2), 4.0 / 8);
    near(s.f1_macro, (4.0 / 7 + 2.0 / 5 + 1.0 / 2) / 3);
    assert_true(isnan(s.f1_second));
    /* right * s = 50; sum l g = 12 + 6 + 16 = 34; s^2 - sum g^2 = 100 - 36; s^2 - sum l^2 = 66. */
    near(s.matthews, 16.0 / sqrt(64.0 * 66.0));
    seo_confusion_free(&m);
}

/* One guess for all: as good as the majority, and no correlation. A class that never occurs is in
 * no mean. */
static void one_guess(void **state) {
    (void)state;
    seo_confusion m = table(3, (const int64_t[]){0, 3, 0, 0, 7, 0, 0, 0, 0});
    const seo_scores s = seo_confusion_scores(&m);
    near(s.accuracy, 0.7);
    near(s.accuracy, s.majority);
    assert_true(s.matthews == 0);
    assert_true(isnan(seo_confusion_f1(&m, 2)));
    near(s.f1_macro, (0 + 14.0 / 17) / 2);
    seo_confusion_free(&m);
}

static void extremes(void **state) {
    (void)state;
    seo_confusion right = table(2, (const int64_t[]){4, 0, 0, 6});
    seo_confusion wrong = table(2, (const int64_t[]){0, 4, 6, 0}), none = {0};
    near(seo_confusion_scores(&right).matthews, 1);
    near(seo_confusion_scores(&right).f1_macro, 1);
    near(seo_confusion_scores(&wrong).matthews, -1);
    near(seo_confusion_scores(&wrong).f1_second, 0);
    assert_int_equal(seo_confusion_open(2, &none), SEO_OK);
    assert_true(isnan(seo_confusion_scores(&none).accuracy));
    assert_int_equal(seo_confusion_add(&none, 2, 0), SEO_ERR_ARG);
    assert_int_equal(seo_confusion_add(&none, 0, -1), SEO_ERR_ARG);
    seo_confusion_free(&right);
    seo_confusion_free(&wrong);
    seo_confusion_free(&none);
}

static void guesses(void **state) {
    (void)state;
    const float logits[] = {1000.0f, 1001.0f, 1001.0f};
    double p[3];
    assert_int_equal(seo_classify_guess(logits, 3), 1);
    seo_classify_probabilities(logits, 3, p);
    near(p[1], 1 / (2 + exp(-1)));
    near(p[0], exp(-1) / (2 + exp(-1)));
    near(p[0] + p[1] + p[2], 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_classes), cmocka_unit_test(three_classes), cmocka_unit_test(one_guess),
        cmocka_unit_test(extremes),    cmocka_unit_test(guesses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
