/* Who is late, decided over simulated times. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "train/world/watch_state.h"

enum { SIZE = 4 };

typedef struct sim {
    seo_watch_rank ranks[SIZE];
    seo_watch_state state;
    seo_watch_track track[SIZE];
    seo_watch_place place[SIZE];
    bool paused[SIZE];
    double now;
} sim;

static void begin(sim *s, double timeout_s) {
    *s = (sim){.now = 1000};
    s->state = (seo_watch_state){
        .size = SIZE, .timeout_s = timeout_s, .quiet_s = s->now, .ranks = s->ranks};
}

static void enter(sim *s, int k) {
    seo_comm_place *p = &s->place[k].comm;
    p->number++;
    p->entered_s = s->now;
    p->left_s = 0;
    p->bytes = 4096;
    snprintf(p->name, sizeof p->name, "sum %d", (int)p->number);
}

static void leave(sim *s, int k) {
    s->place[k].comm.left_s = s->now;
}

/* Every rank's beat; the verdict. */
static seo_watch_verdict beat(sim *s) {
    seo_watch_verdict verdict;
    for (int k = 0; k < SIZE; k++) {
        seo_wire_beat b;
        seo_watch_track_place(&s->track[k], &s->place[k].comm, s->paused[k], s->now);
        seo_watch_make_beat(&s->track[k], &s->place[k], s->paused[k], s->now, &b);
        seo_watch_hear(&s->state, k, &b, s->now);
    }
    seo_watch_judge(&s->state, s->now, &verdict);
    return verdict;
}

/* The time passes in beats, up to `seconds`; the first verdict, or the last. */
static seo_watch_verdict pass(sim *s, double seconds) {
    const double until = s->now + seconds;
    seo_watch_verdict verdict = beat(s);
    while (verdict.kind == SEO_WATCH_FINE && s->now < until) {
        s->now += 0.25;
        verdict = beat(s);
    }
    return verdict;
}

/* Steps with `gap` seconds between two collectives, each of which takes `in`. */
static void steps(sim *s, int count, double gap, double in) {
    for (int i = 0; i < count; i++) {
        assert_int_equal(pass(s, gap).kind, SEO_WATCH_FINE);
        for (int k = 0; k < SIZE; k++) enter(s, k);
        assert_int_equal(pass(s, in).kind, SEO_WATCH_FINE);
        for (int k = 0; k < SIZE; k++) leave(s, k);
    }
}

static void one_that_never_enters(void **state) {
    (void)state;
    sim s;
    begin(&s, 10);
    steps(&s, 5, 3, 0.5);
    for (int k = 0; k < SIZE; k++) {
        if (k != 2) enter(&s, k);
    }
    const double start = s.now;
    const seo_watch_verdict v = pass(&s, 100);
    assert_int_equal(v.kind, SEO_WATCH_ABSENT);
    assert_int_equal(v.rank, 2);
    assert_int_equal(v.number, 6);
    /* The longest gap so far was 3 s, the timeout comes on top; beats are 0.25 s apart. */
    assert_true(v.expected_s >= 3 && v.expected_s <= 3.5);
    assert_true(s.now - start > 13 && s.now - start <= 14);
    seo_buf text = {0};
    seo_watch_tell(&text, &s.state, &v, "rank 2 on n2");
    assert_non_null(strstr(text.data, "rank 2 on n2 has not entered collective 6 (sum 6, "));
    seo_watch_tell_place(&text, &s.ranks[2], s.now);
    assert_non_null(strstr(text.data, "left collective 5 (sum 5, "));
    seo_buf_free(&text);
}

static void the_one_furthest_behind_is_named(void **state) {
    (void)state;
    sim s;
    begin(&s, 10);
    steps(&s, 3, 1, 0.5);
    /* Rank 1 hangs before 4; rank 3 is in 4, where it cannot leave; the others see 5. */
    for (int k = 0; k < SIZE; k++) {
        if (k != 1) enter(&s, k);
    }
    leave(&s, 0);
    leave(&s, 2);
    enter(&s, 0);
    enter(&s, 2);
    const seo_watch_verdict v = pass(&s, 100);
    assert_int_equal(v.kind, SEO_WATCH_ABSENT);
    assert_int_equal(v.rank, 1);
    assert_int_equal(v.number, 5);
}

static void the_last_to_come_is_not_late(void **state) {
    (void)state;
    sim s;
    begin(&s, 10);
    steps(&s, 3, 2, 0.5);
    for (int round = 0; round < 5; round++) {
        for (int k = 0; k < SIZE - 1; k++) enter(&s, k);
        /* As long as before, and nearly the timeout more. */
        assert_int_equal(pass(&s, 11.5).kind, SEO_WATCH_FINE);
        enter(&s, SIZE - 1);
        assert_int_equal(pass(&s, 0.5).kind, SEO_WATCH_FINE);
        for (int k = 0; k < SIZE; k++) leave(&s, k);
    }
}

static void a_hang_does_not_raise_its_own_limit(void **state) {
    (void)state;
    sim s;
    begin(&s, 5);
    steps(&s, 4, 1, 0);
    for (int k = 1; k < SIZE; k++) enter(&s, k);
    const seo_watch_verdict v = pass(&s, 1000);
    assert_int_equal(v.kind, SEO_WATCH_ABSENT);
    assert_int_equal(v.rank, 0);
    assert_true(v.expected_s < 2);
}

static void all_in_one_and_nobody_leaves(void **state) {
    (void)state;
    sim s;
    begin(&s, 10);
    steps(&s, 3, 1, 2);
    for (int k = 0; k < SIZE; k++) enter(&s, k);
    const double start = s.now;
    const seo_watch_verdict v = pass(&s, 100);
    assert_int_equal(v.kind, SEO_WATCH_STUCK);
    assert_int_equal(v.rank, -1);
    assert_true(s.now - start > 12 && s.now - start < 13);
}

static void nobody_enters_any_more(void **state) {
    (void)state;
    sim s;
    begin(&s, 10);
    steps(&s, 3, 4, 0);
    const double start = s.now;
    const seo_watch_verdict v = pass(&s, 100);
    assert_int_equal(v.kind, SEO_WATCH_IDLE);
    assert_true(s.now - start > 14 && s.now - start < 15);
}

static void a_first_step_may_be_long_when_it_is_for_all(void **state) {
    (void)state;
    sim s;
    begin(&s, 10);
    assert_int_equal(pass(&s, 99).kind, SEO_WATCH_FINE);
    assert_int_equal(pass(&s, 2).kind, SEO_WATCH_IDLE);
    /* One alone gets no more than the timeout. */
    begin(&s, 10);
    assert_int_equal(pass(&s, 50).kind, SEO_WATCH_FINE);
    for (int k = 0; k < SIZE - 1; k++) enter(&s, k);
    assert_int_equal(pass(&s, 9.5).kind, SEO_WATCH_FINE);
    assert_int_equal(pass(&s, 1).kind, SEO_WATCH_ABSENT);
}

static void pauses_are_not_judged_and_not_learned(void **state) {
    (void)state;
    sim s;
    begin(&s, 10);
    steps(&s, 3, 1, 0.5);
    s.paused[3] = true;
    for (int k = 0; k < SIZE - 1; k++) enter(&s, k);
    assert_int_equal(pass(&s, 500).kind, SEO_WATCH_FINE);
    s.paused[3] = false;
    /* What the others waited before counts no more. */
    assert_int_equal(pass(&s, 5).kind, SEO_WATCH_FINE);
    enter(&s, 3);
    assert_int_equal(pass(&s, 0.5).kind, SEO_WATCH_FINE);
    for (int k = 0; k < SIZE; k++) leave(&s, k);
    steps(&s, 2, 1, 0.5);
    for (int k = 0; k < SIZE - 1; k++) enter(&s, k);
    const double start = s.now;
    assert_int_equal(pass(&s, 500).kind, SEO_WATCH_ABSENT);
    assert_true(s.now - start < 13);
}

static void one_that_left_is_named_as_such(void **state) {
    (void)state;
    sim s;
    begin(&s, 10);
    steps(&s, 3, 1, 0.5);
    s.ranks[1].left = true;
    for (int k = 0; k < SIZE; k++) {
        if (k != 1) enter(&s, k);
    }
    const seo_watch_verdict v = pass(&s, 100);
    assert_int_equal(v.kind, SEO_WATCH_ABSENT);
    assert_int_equal(v.rank, 1);
    seo_buf text = {0};
    seo_watch_tell_place(&text, &s.ranks[1], s.now);
    assert_non_null(strstr(text.data, "has left the run"));
    seo_buf_free(&text);
}

/* A job that was stopped as a whole and goes on has lost nobody; a judge that is often a little
 * late still finds who hangs. */
static void a_judge_that_slept_blames_nobody(void **state) {
    (void)state;
    sim s;
    begin(&s, 10);
    steps(&s, 30, 1, 0.5);
    for (int k = 0; k < SIZE - 1; k++) enter(&s, k);
    assert_int_equal(pass(&s, 1).kind, SEO_WATCH_FINE);
    s.now += 600;
    seo_watch_away(&s.state, 600, s.now);
    assert_int_equal(beat(&s).kind, SEO_WATCH_FINE);
    seo_watch_verdict v = {SEO_WATCH_FINE, 0, 0, 0, 0};
    const double woken = s.now;
    while (v.kind == SEO_WATCH_FINE && s.now < woken + 100) {
        s.now += 2;
        seo_watch_away(&s.state, 1.75, s.now);
        v = beat(&s);
    }
    assert_int_equal(v.kind, SEO_WATCH_ABSENT);
    assert_int_equal(v.rank, SIZE - 1);
    assert_true(s.now - woken < 15);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_that_never_enters),
        cmocka_unit_test(the_one_furthest_behind_is_named),
        cmocka_unit_test(the_last_to_come_is_not_late),
        cmocka_unit_test(a_hang_does_not_raise_its_own_limit),
        cmocka_unit_test(all_in_one_and_nobody_leaves),
        cmocka_unit_test(nobody_enters_any_more),
        cmocka_unit_test(a_first_step_may_be_long_when_it_is_for_all),
        cmocka_unit_test(pauses_are_not_judged_and_not_learned),
        cmocka_unit_test(one_that_left_is_named_as_such),
        cmocka_unit_test(a_judge_that_slept_blames_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
