/* The watch over real processes: each rank in turn is killed, stopped, hangs or fails in a run of
 * simulated collectives, and the others must notice, say who it was, and end in time. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <pthread.h>

#include "base/file.h"
#include "base/progress.h"
#include "ranks_fixture.h"

typedef enum fault { NOTHING, KILLED, STOPPED, HANGS, FAILS, LATE, SAVES_NOT } fault;

enum { SIZE = 3, FAULT_AT = 20, STEPS = 30, FOR_EVER = 1 << 30 };
/* SLACK_S: what an end may take beyond its detection, on a machine with other work: saying it,
 * saving nothing, leaving. */
static const double TIMEOUT_S = 2.0, RESCUE_S = 4.0, SLACK_S = 6.0;

static char g_folder[64];

typedef struct scene {
    fault what;
    int32_t who;
    bool can_save;
} scene;

/* One rank's place, which the world's thread reads. */
typedef struct self {
    const scene *scene;
    ranks_shared *shared;
    seo_world *world;
    pthread_mutex_t lock;
    seo_watch_place place;
} self;

static void tell_place(void *context, seo_watch_place *out) {
    self *me = context;
    pthread_mutex_lock(&me->lock);
    *out = me->place;
    pthread_mutex_unlock(&me->lock);
}

/* With all heard the ranks can still agree on the channel for saving. */
static seo_err save(void *context, seo_watch_loss loss) {
    self *me = context;
    ranks_add(&me->shared->rescues, loss == SEO_WATCH_ALL_HEARD ? 1 : 100);
    if (me->scene->what == SAVES_NOT && seo_world_rank(me->world) == me->scene->who) {
        return SEO_FAIL(SEO_ERR_LOST, "in the middle of an update");
    }
    if (!me->scene->can_save) return SEO_FAIL(SEO_ERR_IO, "no space");
    if (loss != SEO_WATCH_ALL_HEARD) return SEO_OK;
    return seo_world_agree(me->world, SEO_CHANNEL_SAVE, "the rescue", SEO_OK);
}

static void sleep_ms(int ms) {
    const struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
    nanosleep(&pause, NULL);
}

static void enter(self *me, int64_t number) {
    pthread_mutex_lock(&me->lock);
    me->place.step = number;
    me->place.comm.number = number;
    me->place.comm.bytes = 1000;
    me->place.comm.entered_s = seo_clock_s();
    me->place.comm.left_s = 0;
    snprintf(me->place.comm.name, sizeof me->place.comm.name, "reduce of block %d",
             (int)number % 4);
    pthread_mutex_unlock(&me->lock);
}

/* A collective: nobody leaves before all have entered. */
static void meet_all(self *me, int32_t rank, int64_t number) {
    enter(me, number);
    ranks_store(&me->shared->flag[rank], number);
    for (int32_t k = 0; k < SIZE; k++) {
        while (ranks_load(&me->shared->flag[k]) < number) sleep_ms(1);
    }
    pthread_mutex_lock(&me->lock);
    me->place.comm.left_s = seo_clock_s();
    pthread_mutex_unlock(&me->lock);
}

static void be_faulty(self *me, ranks_shared *shared, fault what) {
    shared->failed_s = ranks_clock();
    switch (what) {
    case NOTHING: break;
    case KILLED: raise(SIGKILL); break;
    case STOPPED: raise(SIGSTOP); break;
    case SAVES_NOT:
    case HANGS: sleep_ms(FOR_EVER); break;
    case FAILS:
        (void)seo_world_fail(me->world, SEO_FAIL(SEO_ERR_IO, "the disk is on fire"));
        _exit(98); /* It came back. */
    case LATE: {
        /* A pause makes this longer than what is granted. */
        seo_world_watch_pause(me->world, true);
        sleep_ms((int)(1e3 * TIMEOUT_S * 1.8));
        seo_world_watch_pause(me->world, false);
        break;
    }
    }
}

static int train(const ranks_plan *plan, int32_t rank, ranks_shared *shared) {
    const scene *s = plan->context;
    self me = {.scene = s, .shared = shared, .lock = PTHREAD_MUTEX_INITIALIZER};
    snprintf(me.place.doing, sizeof me.place.doing, "training");
    if (ranks_open(plan, rank, shared, &me.world) != SEO_OK) return 90;
    const seo_watch_args watch = {.timeout_s = TIMEOUT_S,
                                  .place = tell_place,
                                  .rescue = save,
                                  .rescue_s = RESCUE_S,
                                  .context = &me};
    if (seo_world_agree(me.world, SEO_CHANNEL_RUN, "opening", SEO_OK) != SEO_OK) return 91;
    if (seo_world_watch(me.world, &watch) != SEO_OK) return 92;
    for (int64_t step = 1; step <= STEPS; step++) {
        sleep_ms(10);
        if (step == FAULT_AT && rank == s->who) be_faulty(&me, shared, s->what);
        meet_all(&me, rank, step);
    }
    if (seo_world_agree(me.world, SEO_CHANNEL_RUN, "the end", SEO_OK) != SEO_OK) return 93;
    seo_world_close(me.world);
    return 0;
}

static ranks_plan plan_of(const scene *s) {
    return (ranks_plan){.size = SIZE,
                        .join_s = 20,
                        .folder = g_folder,
                        .act = train,
                        .context = (void *)(uintptr_t)s};
}

static void must_say(const ranks *r, const char *text) {
    if (!strstr(r->output, text)) fail_msg("\"%s\" is not in:\n%s", text, r->output);
}

/* All but `who` (-1: all) must have ended so, `least` to `most` seconds after the fault. */
static void check_ends(const ranks *r, int32_t who, int status, double least, double most) {
    for (int32_t k = 0; k < SIZE; k++) {
        if (k == who) continue;
        const double took = r->ended_s[k] - r->shared->failed_s;
        if (r->status[k] != status) {
            fail_msg("rank %d ended with %d, not %d:\n%s", (int)k, r->status[k], status, r->output);
        }
        if (took < least || took > most) {
            fail_msg("rank %d ended after %.2f s, not %.2f to %.2f:\n%s", (int)k, took, least, most,
                     r->output);
        }
    }
}

static void print_detection(const ranks *r, const char *what, int32_t who) {
    double last = 0;
    for (int32_t k = 0; k < SIZE; k++) {
        if (k != who && r->ended_s[k] > last) last = r->ended_s[k];
    }
    print_message("rank %d %s: all others ended %.2f s later\n", (int)who, what,
                  last - r->shared->failed_s);
}

static void a_run_without_faults_ends_well(void **state) {
    (void)state;
    const scene s = {NOTHING, 0, true};
    const ranks_plan plan = plan_of(&s);
    ranks r;
    ranks_start(&plan, &r);
    ranks_wait(&plan, &r, 60);
    for (int32_t k = 0; k < SIZE; k++) assert_int_equal(r.status[k], 0);
    assert_string_equal(r.output, "");
    ranks_end(&r);
}

static void a_pause_is_granted(void **state) {
    (void)state;
    const scene s = {LATE, 1, true};
    const ranks_plan plan = plan_of(&s);
    ranks r;
    ranks_start(&plan, &r);
    ranks_wait(&plan, &r, 60);
    for (int32_t k = 0; k < SIZE; k++) assert_int_equal(r.status[k], 0);
    assert_string_equal(r.output, "");
    ranks_end(&r);
}

static void a_killed_rank_ends_the_run_at_once(void **state) {
    (void)state;
    for (int32_t who = 0; who < SIZE; who++) {
        const scene s = {KILLED, who, false};
        const ranks_plan plan = plan_of(&s);
        char name[64];
        ranks r;
        snprintf(name, sizeof name, "the run ends: rank %d on ", (int)who);
        ranks_start(&plan, &r);
        ranks_wait(&plan, &r, 60);
        assert_int_equal(r.status[who], 1000 + SIGKILL);
        check_ends(&r, who, 97, 0, SLACK_S);
        must_say(&r, name);
        must_say(&r, "is gone: its connection");
        assert_int_equal(ranks_load(&r.shared->rescues), 200);
        print_detection(&r, "killed", who);
        ranks_end(&r);
    }
}

static void a_stopped_rank_ends_the_run_and_finds_itself_excluded(void **state) {
    (void)state;
    for (int32_t who = 0; who < SIZE; who++) {
        const scene s = {STOPPED, who, true};
        const ranks_plan plan = plan_of(&s);
        char name[64], woken[64];
        ranks r;
        snprintf(name, sizeof name, "the run ends: rank %d on ", (int)who);
        snprintf(woken, sizeof woken, "error: rank %d on ", (int)who);
        ranks_start(&plan, &r);
        ranks_wait_but(&plan, &r, 60, who);
        check_ends(&r, who, 75, TIMEOUT_S - 0.5, TIMEOUT_S + SLACK_S);
        must_say(&r, name);
        must_say(&r, "has not been heard for");
        print_detection(&r, "stopped", who);
        assert_int_equal(kill(r.pid[who], SIGCONT), 0);
        ranks_wait(&plan, &r, 20);
        assert_int_equal(r.status[who], 97);
        must_say(&r, woken);
        must_say(&r, "was stopped for ");
        /* It saved nothing. */
        assert_int_equal(ranks_load(&r.shared->rescues), 200);
        ranks_end(&r);
    }
}

static void a_rank_that_never_enters_is_named(void **state) {
    (void)state;
    for (int32_t who = 0; who < SIZE; who++) {
        const scene s = {HANGS, who, who != 1};
        const ranks_plan plan = plan_of(&s);
        char name[64];
        ranks r;
        snprintf(name, sizeof name, "the run ends: rank %d on ", (int)who);
        ranks_start(&plan, &r);
        ranks_wait(&plan, &r, 60);
        check_ends(&r, -1, s.can_save ? 75 : 97, TIMEOUT_S - 0.5, TIMEOUT_S + SLACK_S);
        must_say(&r, name);
        must_say(&r, "has not entered collective 20 (reduce of block 0, ");
        must_say(&r, "left collective 19 (reduce of block 3, ");
        must_say(&r, "training; in collective 20");
        assert_int_equal(ranks_load(&r.shared->rescues), 3);
        print_detection(&r, "hung", who);
        ranks_end(&r);
    }
}

static void a_rank_that_fails_ends_the_run(void **state) {
    (void)state;
    for (int32_t who = 0; who < SIZE; who++) {
        const scene s = {FAILS, who, who == 2};
        const ranks_plan plan = plan_of(&s);
        char name[64];
        ranks r;
        snprintf(name, sizeof name, "the run ends: rank %d on ", (int)who);
        ranks_start(&plan, &r);
        ranks_wait(&plan, &r, 60);
        check_ends(&r, -1, s.can_save ? 75 : 1, 0, SLACK_S);
        must_say(&r, name);
        must_say(&r, "cannot go on: the disk is on fire");
        assert_int_equal(ranks_load(&r.shared->rescues), 3);
        print_detection(&r, "failed", who);
        ranks_end(&r);
    }
}

/* As a debugger or `scontrol suspend` does: nobody was missed by anybody. */
static void a_job_stopped_as_a_whole_goes_on(void **state) {
    (void)state;
    const scene s = {NOTHING, 0, true};
    const ranks_plan plan = plan_of(&s);
    ranks r;
    ranks_start(&plan, &r);
    while (ranks_load(&r.shared->flag[0]) < 3) sleep_ms(1);
    for (int32_t k = 0; k < SIZE; k++) assert_int_equal(kill(r.pid[k], SIGSTOP), 0);
    sleep_ms((int)(1e3 * TIMEOUT_S * 1.5));
    assert_true(ranks_load(&r.shared->flag[0]) < STEPS);
    for (int32_t k = 0; k < SIZE; k++) assert_int_equal(kill(r.pid[k], SIGCONT), 0);
    ranks_wait(&plan, &r, 60);
    for (int32_t k = 0; k < SIZE; k++) assert_int_equal(r.status[k], 0);
    assert_string_equal(r.output, "");
    ranks_end(&r);
}

/* The others do not wait for its part until their time for saving is up. */
static void one_that_cannot_save_keeps_nobody(void **state) {
    (void)state;
    for (int32_t who = 0; who < 2; who++) {
        const scene s = {SAVES_NOT, who, true};
        const ranks_plan plan = plan_of(&s);
        ranks r;
        ranks_start(&plan, &r);
        ranks_wait(&plan, &r, 60);
        check_ends(&r, -1, 97, TIMEOUT_S - 0.5, TIMEOUT_S + RESCUE_S);
        assert_null(strstr(r.output, "is given up"));
        ranks_end(&r);
    }
}

static void one_rank_is_not_watched(void **state) {
    (void)state;
    const seo_launch launch = {.size = 1, .local_size = 1};
    const seo_world_args args = {.launch = &launch, .join_s = 1};
    self me = {.lock = PTHREAD_MUTEX_INITIALIZER};
    const seo_watch_args watch = {
        .timeout_s = 1, .place = tell_place, .rescue = save, .context = &me};
    seo_world *world;
    assert_int_equal(seo_world_open(&args, &world), SEO_OK);
    assert_int_equal(seo_world_watch(world, &watch), SEO_OK);
    seo_world_watch_pause(world, true);
    assert_int_equal(seo_world_fail(world, SEO_ERR_IO), SEO_ERR_IO);
    seo_world_close(world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_rank_is_not_watched),
        cmocka_unit_test(a_run_without_faults_ends_well),
        cmocka_unit_test(a_pause_is_granted),
        cmocka_unit_test(a_job_stopped_as_a_whole_goes_on),
        cmocka_unit_test(a_killed_rank_ends_the_run_at_once),
        cmocka_unit_test(a_stopped_rank_ends_the_run_and_finds_itself_excluded),
        cmocka_unit_test(a_rank_that_never_enters_is_named),
        cmocka_unit_test(one_that_cannot_save_keeps_nobody),
        cmocka_unit_test(a_rank_that_fails_ends_the_run),
    };
    snprintf(g_folder, sizeof g_folder, "watch-%ld", (long)getpid());
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    (void)seo_dir_remove(g_folder);
    return failed;
}
