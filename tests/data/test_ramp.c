/* The growing batch: each sample once, in order, at the size that the line gives, from any step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/rng.h"
#include "data/ramp.h"

static seo_ramp *open_ramp(seo_ramp_args args) {
    seo_ramp *ramp = NULL;
    const seo_err err = seo_ramp_open(&args, &ramp);
    if (err != SEO_OK) fprintf(stderr, "%s\n", seo_err_detail());
    assert_int_equal(err, SEO_OK);
    return ramp;
}

/* The definition, with the samples counted along the way. */
static int64_t batch_after(const seo_ramp_args *a, int64_t samples) {
    const int64_t levels = (a->full_sequences - a->start_sequences) / a->unit_sequences;
    const int64_t tokens = samples * a->seq_len;
    if (a->ramp_tokens == 0 || tokens >= a->ramp_tokens) return a->full_sequences;
    return a->start_sequences + a->unit_sequences * (tokens * levels / a->ramp_tokens);
}

/* Until well beyond the ramp; asked for forwards and then backwards. */
static void check(seo_ramp_args a) {
    seo_ramp *ramp = open_ramp(a);
    const int64_t far = 2 * a.ramp_tokens / a.seq_len + 10 * a.full_sequences;
    int64_t samples = 0, step = 0;
    for (; samples < far; step++) {
        const seo_ramp_batch batch = seo_ramp_at(ramp, step);
        assert_int_equal(batch.first, samples);
        assert_int_equal(batch.sequences, batch_after(&a, samples));
        assert_true(a.ramp_tokens == 0 || batch.sequences % a.unit_sequences == 0);
        assert_int_equal(seo_ramp_tokens(ramp, step), samples * a.seq_len);
        assert_int_equal(seo_ramp_steps(ramp, samples * a.seq_len), step);
        assert_int_equal(seo_ramp_steps(ramp, samples * a.seq_len + 1), step + 1);
        samples += batch.sequences;
        assert_int_equal(seo_ramp_steps(ramp, samples * a.seq_len), step + 1);
        assert_int_equal(seo_ramp_steps(ramp, samples * a.seq_len - 1), step + 1);
    }
    for (int64_t s = step - 1; s >= 0; s--) {
        const seo_ramp_batch batch = seo_ramp_at(ramp, s), next = seo_ramp_at(ramp, s + 1);
        assert_int_equal(next.first, batch.first + batch.sequences);
    }
    seo_ramp_close(ramp);
}

static void follows_the_line(void **state) {
    (void)state;
    check((seo_ramp_args){64, 8, 8, 100000, 16});
    check((seo_ramp_args){64, 64, 8, 100000, 16});         /* nothing to grow */
    check((seo_ramp_args){8, 1, 1, 1, 16});                /* over before the first step ends */
    check((seo_ramp_args){512, 16, 16, 512 * 16 * 3, 16}); /* levels without a step */
    check((seo_ramp_args){7, 3, 2, 0, 5});                 /* no ramp: the unit does not matter */
    /* GPT-3 Small: 32 thousand to half a million tokens over 4 billion. */
    check((seo_ramp_args){256, 16, 16, INT64_C(4000000000), 2048});
}

static void follows_the_line_for_any_sizes(void **state) {
    (void)state;
    const seo_rng_key key = {.seed = 7, .purpose = SEO_PURPOSE_TEST};
    for (uint64_t i = 0; i < 300; i++) {
        const seo_u32x4 n = seo_philox(key, i);
        const int64_t unit = 1 + n.v[0] % 9, start = 1 + n.v[1] % 9, more = n.v[2] % 40;
        check((seo_ramp_args){.full_sequences = (start + more) * unit,
                              .start_sequences = start * unit,
                              .unit_sequences = unit,
                              .ramp_tokens = n.v[3] % 200000,
                              .seq_len = 1 + n.v[0] / 16 % 33});
    }
}

/* The largest run there can be does not overflow. */
static void far_steps(void **state) {
    (void)state;
    const seo_ramp_args sizes[] = {{1, 1, 1, 0, 1},
                                   {1 << 20, 1, 1, INT64_MAX / 4, 1},
                                   {1600, 16, 16, INT64_C(12000000000), 2048}};
    for (int64_t i = 0; i < SEO_COUNT_OF(sizes); i++) {
        seo_ramp *ramp = open_ramp(sizes[i]);
        const int64_t last = seo_ramp_last_step(ramp);
        const seo_ramp_batch batch = seo_ramp_at(ramp, last), before = seo_ramp_at(ramp, last - 1);
        assert_int_equal(before.first + before.sequences, batch.first);
        assert_true(batch.first > INT64_MAX / 4 / sizes[i].seq_len);
        assert_int_equal(seo_ramp_steps(ramp, seo_ramp_tokens(ramp, last)), last);
        assert_int_equal(seo_ramp_steps(ramp, INT64_MAX), last);
        seo_ramp_close(ramp);
    }
}

static void wrong_sizes_are_refused(void **state) {
    (void)state;
    seo_ramp *ramp = NULL;
    const seo_ramp_args bad[] = {{0, 1, 1, 10, 16},  {8, 0, 1, 10, 16},  {8, 9, 1, 10, 16},
                                 {8, 4, 0, 10, 16},  {8, 4, 4, -1, 16},  {8, 4, 4, 10, 0},
                                 {10, 4, 4, 10, 16}, {12, 3, 4, 10, 16}, {2 << 20, 1, 1, 10, 16}};
    for (int64_t i = 0; i < SEO_COUNT_OF(bad); i++) {
        assert_int_not_equal(seo_ramp_open(&bad[i], &ramp), SEO_OK);
        assert_null(ramp);
    }
    assert_int_equal(seo_ramp_open(&bad[7], &ramp), SEO_ERR_USAGE);
    assert_non_null(strstr(seo_err_detail(), "train.batch_start_tokens"));
    seo_ramp_close(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(follows_the_line),
        cmocka_unit_test(follows_the_line_for_any_sizes),
        cmocka_unit_test(far_steps),
        cmocka_unit_test(wrong_sizes_are_refused),
    };
    return cmocka_run_group_tests_name("data.ramp", tests, NULL, NULL);
}
