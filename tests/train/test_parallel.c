/* Whole training steps on ranks that are threads of this process: what must be the same bits is
 * compared as bytes: parameters, both moments, losses, norms. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "parallel_fixture.h"

enum { STEPS = 4, SLOTS = 8 };

static const char *g_data;

static ranks_setup usual(int32_t ranks, int64_t zero, ranks_state *state) {
    return (ranks_setup){.ranks = ranks,
                         .zero = zero,
                         .micro_batch = 1,
                         .dropout = 0.1,
                         .first_step = 1,
                         .steps = STEPS,
                         .data = g_data,
                         .state = state};
}

static bool same_course(const ranks_result *a, const ranks_result *b) {
    return memcmp(a->losses, b->losses, sizeof a->losses) == 0 &&
           memcmp(a->norms, b->norms, sizeof a->norms) == 0;
}

static ranks_result train(ranks_setup setup) {
    ranks_result result;
    ranks_train(&setup, &result);
    return result;
}

/* Runs both, and says whether they left the same bits. */
static bool same_bits(ranks_setup a, ranks_setup b) {
    ranks_state left = {0}, right = {0};
    a.state = &left;
    b.state = &right;
    const ranks_result one = train(a), two = train(b);
    const bool same = same_course(&one, &two) && ranks_state_equal(&left, &right);
    assert_true(one.finite[0] && one.norms[0] > 0 && one.losses[STEPS - 1] != one.losses[0]);
    ranks_state_free(&left);
    ranks_state_free(&right);
    return same;
}

/* Invariant mode: 1, 2, 4 and 8 ranks, at both levels, with dropout. */
static void any_number_of_ranks(void **state) {
    (void)state;
    ranks_setup one = usual(1, 0, NULL);
    one.slots = SLOTS;
    for (int32_t ranks = 1; ranks <= RANKS_MAX; ranks *= 2) {
        for (int64_t zero = 0; zero <= 1; zero++) {
            ranks_setup many = one;
            many.ranks = ranks;
            many.zero = zero;
            if (!same_bits(one, many)) fail_msg("%d ranks, zero %d differ", ranks, (int)zero);
        }
    }
}

/* The other families: any number of ranks in invariant mode, every level with one pass a rank. What
 * blocks have in which order differs from family to family, and with it what hooks see. */
static void families(void **state) {
    (void)state;
    const seo_family others[] = {SEO_FAMILY_GPT1, SEO_FAMILY_GPT3, SEO_FAMILY_BERT,
                                 SEO_FAMILY_ROBERTA, SEO_FAMILY_DISTILBERT};
    for (int64_t i = 0; i < SEO_COUNT_OF(others); i++) {
        ranks_setup one = usual(1, 0, NULL), one_pass = usual(4, 1, NULL);
        one.family = one_pass.family = others[i];
        one.slots = SLOTS;
        for (int64_t zero = 0; zero <= 1; zero++) {
            ranks_setup many = one;
            many.ranks = 4;
            many.zero = zero;
            if (!same_bits(one, many)) fail_msg("family %d, zero %d", others[i], (int)zero);
        }
        one_pass.micro_batch = RANKS_SEQUENCES / 4;
        for (int64_t zero = 0; zero <= 3; zero++) {
            ranks_setup other = one_pass;
            other.zero = zero;
            other.recompute = zero == 3 ? SEO_RECOMPUTE_FULL : SEO_RECOMPUTE_SELECTIVE;
            if (!same_bits(one_pass, other)) {
                fail_msg("family %d, zero %d with one pass", others[i], (int)zero);
            }
        }
    }
}

/* Adapters alone are shared out, or not; the rest lies whole on every rank. */
static void adapters(void **state) {
    (void)state;
    ranks_setup one = usual(1, 0, NULL), one_pass = usual(4, 1, NULL);
    one.adapter_rank = one_pass.adapter_rank = 3;
    one.slots = SLOTS;
    for (int64_t zero = 0; zero <= 1; zero++) {
        ranks_setup many = one;
        many.ranks = 4;
        many.zero = zero;
        if (!same_bits(one, many)) fail_msg("zero %d differs", (int)zero);
    }
    one_pass.micro_batch = RANKS_SEQUENCES / 4;
    for (int64_t zero = 0; zero <= 3; zero++) {
        ranks_setup other = one_pass;
        other.zero = zero;
        if (!same_bits(one_pass, other)) fail_msg("zero %d differs with one pass", (int)zero);
    }
}

/* The number of ranks changes between steps: 4, 2, 8, 1. */
static void ranks_that_change(void **state) {
    (void)state;
    ranks_state left = {0}, right = {0};
    ranks_setup setup = usual(1, 1, &left);
    ranks_result whole, part;
    setup.slots = SLOTS;
    ranks_train(&setup, &whole);
    setup.state = &right;
    setup.steps = 1;
    const int32_t ranks[STEPS] = {4, 2, 8, 1};
    for (int64_t i = 0; i < STEPS; i++) {
        setup.ranks = ranks[i];
        setup.first_step = i + 1;
        ranks_train(&setup, &part);
        assert_true(part.losses[0] == whole.losses[i] && part.norms[0] == whole.norms[i]);
    }
    assert_true(ranks_state_equal(&left, &right));
    ranks_state_free(&left);
    ranks_state_free(&right);
}

/* Default mode: twice the same; and not what other orders of sums give, which shows that these
 * tests can tell orders apart. */
static void default_mode(void **state) {
    (void)state;
    for (int64_t zero = 0; zero <= 3; zero++) {
        assert_true(same_bits(usual(4, zero, NULL), usual(4, zero, NULL)));
    }
    assert_false(same_bits(usual(4, 1, NULL), usual(1, 0, NULL)));
    ranks_setup tree = usual(4, 1, NULL);
    tree.slots = SLOTS;
    assert_false(same_bits(tree, usual(4, 1, NULL)));
    ranks_setup fewer = tree;
    fewer.slots = 4;
    assert_false(same_bits(tree, fewer));
}

/* Levels add up in the same order when a rank has one pass; with more, 0 and 1 add passes first and
 * 2 and 3 ranks first. What is computed again, or not, does not show. */
static void levels(void **state) {
    (void)state;
    ranks_setup one_pass = usual(4, 1, NULL);
    one_pass.micro_batch = RANKS_SEQUENCES / 4;
    for (int64_t zero = 0; zero <= 3; zero++) {
        ranks_setup other = one_pass;
        other.zero = zero;
        other.recompute = zero == 3 ? SEO_RECOMPUTE_FULL : SEO_RECOMPUTE_SELECTIVE;
        if (!same_bits(one_pass, other)) fail_msg("zero %d differs with one pass", (int)zero);
    }
    assert_true(same_bits(usual(2, 0, NULL), usual(2, 1, NULL)));
    assert_true(same_bits(usual(2, 2, NULL), usual(2, 3, NULL)));
    assert_false(same_bits(usual(2, 1, NULL), usual(2, 2, NULL)));
}

/* All orders come to nearly the same: AdamW moves a weight by little more than lr a step, whatever
 * the gradient, so that 2 lr STEPS is sure; and the first norm differs by rounding alone. */
static void near_each_other(void **state) {
    (void)state;
    ranks_state alone = {0};
    ranks_setup setup = usual(1, 0, &alone);
    const ranks_result one = train(setup);
    for (int64_t zero = 0; zero <= 3; zero++) {
        for (int wire = 0; wire < 2; wire++) {
            ranks_state other = {0};
            setup = usual(4, zero, &other);
            setup.wire = wire ? SEO_DTYPE_BF16 : SEO_DTYPE_F32;
            const ranks_result many = train(setup);
            /* The first losses are of the same weights. The gradient is a sum of 16 passes, each
             * rounded to the wire's 2^-9, or at each addition of 16 positions to f32's 2^-24. What
             * a sum loses is of the size of its addends: 16 times its own, were they all as large.
             */
            const double rounding = RANKS_SEQUENCES * (wire ? ldexp(1, -9) : 16 * ldexp(1, -24));
            assert_true(many.losses[0] == one.losses[0]);
            assert_true(fabs(many.norms[0] - one.norms[0]) <= rounding * one.norms[0]);
            if (wire) assert_true(many.norms[0] != one.norms[0]);
            for (int64_t i = 0; i < alone.count; i++) {
                const double apart = fabs((double)other.values[0][i] - (double)alone.values[0][i]);
                assert_true(apart <= 2 * 1e-2 * 1.5 * STEPS);
            }
            ranks_state_free(&other);
        }
    }
    ranks_state_free(&alone);
}

/* A number that is not finite on one rank alone: nobody updates, and the steps after it are finite.
 */
static void not_finite(void **state) {
    (void)state;
    for (int64_t zero = 0; zero <= 2; zero++) {
        ranks_state left = {0};
        ranks_setup setup = usual(4, zero, &left);
        setup.poison_step = 2;
        const ranks_result r = train(setup);
        assert_true(r.finite[0] && !r.finite[1] && r.finite[2] && r.finite[3]);
        assert_false(isfinite(r.losses[1]));
        for (int i = 0; i < RANKS_STATES; i++) {
            for (int64_t at = 0; at < left.count; at++) assert_true(isfinite(left.values[i][at]));
        }
        ranks_state_free(&left);
    }
}

static int setup_data(void **state) {
    (void)state;
    g_data = ranks_data_make();
    return 0;
}

static int remove_data(void **state) {
    (void)state;
    ranks_data_remove();
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(any_number_of_ranks),
                                       cmocka_unit_test(ranks_that_change),
                                       cmocka_unit_test(adapters),
                                       cmocka_unit_test(families),
                                       cmocka_unit_test(default_mode),
                                       cmocka_unit_test(levels),
                                       cmocka_unit_test(near_each_other),
                                       cmocka_unit_test(not_finite)};
    return cmocka_run_group_tests(tests, setup_data, remove_data);
}
