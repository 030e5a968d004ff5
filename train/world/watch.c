/* The watch: heartbeats go out, the judge looks at those that come in, and the end of the job is
 * brought about on all ranks.
 *
 * An end has three phases. Somebody finds it: rank 0 (a verdict, a lost connection, a rank's
 * FAIL), or another rank that has lost rank 0. Rank 0 prints the report and sends END. Then every
 * rank's rescue runs on a thread of its own while this one keeps the line alive, and the others
 * tell rank 0 that they are DONE. When all are, or the time is up, rank 0 sends EXIT with the
 * status that all end with: a launcher kills the rest as soon as one rank leaves with an error, so
 * nobody leaves before all are done. Everything here happens on the line's service thread, but for
 * the calls of world.h at the end. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "base/progress.h"
#include "train/world/watch_state.h"
#include "train/world/world_state.h"

enum { STATUS_FAILED = 1, STATUS_USAGE = 2, STATUS_SAVED = 75, STATUS_LOST = 97, SHOWN_MAX = 16 };

/* GRACE_S: for words on their way. WOKE_S: how long a stop of this process explains losses. */
static const double GRACE_S = 3.0, EXIT_S = 1.0, WOKE_S = 5.0, AWAY_SHARE = 0.7;

typedef enum phase { WATCHING, RESCUING, WAITING, LEAVING } phase;

struct seo_watch {
    seo_world *world;
    seo_watch_args args;
    /* Of the service thread alone. */
    seo_watch_track track;
    seo_watch_place place;
    phase phase;
    double begun_s, woke_s, woke_away_s;
    double alone_s; /* since when rank 0 should have ended the run and has not; 0: no such time */
    pthread_t rescuer;
    bool rescuer_runs;
    /* Under the line's lock. */
    bool paused, stopped;
    seo_watch_state state; /* rank 0 */
    bool ending, lost, failed;
    int32_t culprit, status; /* status: of an end without a checkpoint; culprit -1: none */
    char text[SEO_WIRE_TEXT];
    bool rescued, saved; /* by our own rescuer: it is done, and how it went */
    bool *done;          /* [size] on rank 0 */
    bool any_saved;
    bool may_exit;
    int32_t exit_status;
};

/* ---- hooks: what goes out and comes in ---- */

static void sample(void *context) {
    seo_watch *w = context;
    seo_watch_place place = {0};
    w->args.place(w->args.context, &place);
    pthread_mutex_lock(&w->world->line->lock);
    w->place = place;
    seo_watch_track_place(&w->track, &place.comm, w->paused, seo_clock_s());
    if (w->world->rank == 0) {
        seo_wire_beat beat;
        const double now = seo_clock_s();
        seo_watch_make_beat(&w->track, &place, w->paused, now, &beat);
        seo_watch_hear(&w->state, 0, &beat, now);
    }
    pthread_mutex_unlock(&w->world->line->lock);
}

static uint32_t make_beat(void *context, int32_t to, uint8_t *out) {
    seo_watch *w = context;
    seo_wire_beat beat;
    if (to != 0) return 0;
    seo_watch_make_beat(&w->track, &w->place, w->paused, seo_clock_s(), &beat);
    return seo_wire_put_beat(out, &beat);
}

/* The first reason stands. With the lock. */
static void decide(seo_watch *w, bool lost, int32_t culprit, int32_t status, const char *text) {
    if (w->ending || w->stopped) return;
    w->ending = true;
    w->lost = lost;
    w->culprit = culprit;
    w->status = status;
    snprintf(w->text, sizeof w->text, "%s", text);
}

/* A rank has nothing to save: the others would wait for its part until the time is up. With the
 * lock. */
static void give_up_saving(seo_watch *w, int32_t rank) {
    seo_line *line = w->world->line;
    if (line->lost_rank >= 0) return;
    seo_wire_note note = {.number = rank};
    snprintf(note.text, sizeof note.text, "%s could not save its part",
             seo_world_who(w->world, rank));
    line->lost_rank = rank;
    snprintf(line->lost_text, sizeof line->lost_text, "%.700s", note.text);
    pthread_cond_broadcast(&line->changed);
    for (int32_t k = 1; w->world->rank == 0 && k < w->world->size; k++) {
        seo_line_note(line, k, SEO_FRAME_LOSS, &note);
    }
}

static bool take_note(seo_watch *w, int32_t from, seo_frame_kind kind, const seo_wire_note *note) {
    const bool first = w->world->rank == 0;
    switch (kind) {
    case SEO_FRAME_FAIL:
        if (first) decide(w, false, from, note->number, note->text);
        return first;
    case SEO_FRAME_END:
        if (!first) decide(w, note->flag, -1, note->number, note->text);
        return !first;
    case SEO_FRAME_DONE:
        if (!first) return false;
        w->done[from] = true;
        w->any_saved |= note->flag;
        if (!note->flag) give_up_saving(w, from);
        return true;
    case SEO_FRAME_EXIT:
        w->may_exit = true;
        w->exit_status = note->number;
        return !first;
    default: return false;
    }
}

static bool take_frame(void *context, int32_t from, const seo_frame *frame,
                       const uint8_t *payload) {
    seo_watch *w = context;
    seo_wire_note note;
    if (frame->kind != SEO_FRAME_BEAT) {
        return seo_wire_get_note(payload, frame->bytes, &note) &&
               take_note(w, from, frame->kind, &note);
    }
    seo_wire_beat beat;
    if (w->world->rank != 0 || !seo_wire_get_beat(payload, frame->bytes, &beat)) return false;
    seo_watch_hear(&w->state, from, &beat, seo_clock_s());
    return true;
}

static void take_loss(void *context, int32_t rank, bool silent) {
    seo_watch *w = context;
    char text[1024];
    const seo_link *link = &w->world->line->links[rank];
    snprintf(text, sizeof text, "%s %s%s", link->who, link->why,
             silent ? "" : " (noticed at once)");
    if (w->done) w->done[rank] = true;
    decide(w, true, rank, STATUS_LOST, text);
}

/* ---- the report ---- */

static void tell_others(const seo_watch *w, seo_buf *out, double now) {
    int32_t shown = 0, more = 0;
    for (int32_t k = 0; k < w->world->size; k++) {
        if (k == w->culprit) continue;
        if (shown == SHOWN_MAX) {
            more++;
            continue;
        }
        shown++;
        seo_buf_format(out, "\n    %s: ", seo_world_who(w->world, k));
        seo_watch_tell_place(out, &w->state.ranks[k], now);
    }
    if (more > 0) seo_buf_format(out, "\n    and %d more", (int)more);
}

/* Rank 0 has everybody's place, another rank its own. With the lock. */
static void make_report(const seo_watch *w, seo_buf *out) {
    const double now = seo_clock_s();
    seo_buf_format(out, "the run ends: %s", w->text);
    if (w->world->rank == 0) {
        if (w->culprit >= 0) {
            seo_buf_text(out, "\n  there: ");
            seo_watch_tell_place(out, &w->state.ranks[w->culprit], now);
        }
        seo_buf_text(out, w->culprit >= 0 ? "\n  the others:" : "\n  the ranks:");
        tell_others(w, out, now);
    } else {
        seo_wire_beat beat;
        seo_watch_rank here = {.known = true, .told_s = now};
        seo_watch_make_beat(&w->track, &w->place, w->paused, now, &beat);
        here.beat = beat;
        here.entered_s = now - beat.entered_ago_s;
        here.left_s = beat.left_ago_s >= 0 ? now - beat.left_ago_s : 0;
        seo_buf_format(out, "\n  %s: ", w->world->self);
        seo_watch_tell_place(out, &here, now);
    }
    seo_buf_format(out, "\n  what can be saved is saved, within %.0f s; then all ranks end",
                   w->args.rescue_s);
}

/* Whoever is there to print: rank 0; for the loss of rank 0, rank 1, and in a line one rank of each
 * host, since rank 1 may be lost as well. */
static void print_report(const seo_watch *w, bool told_by_rank_0, const seo_buf *report) {
    if (w->world->rank <= 1 && !told_by_rank_0) {
        seo_error("%s", report->data ? report->data : w->text);
    } else if (!told_by_rank_0 && w->world->local_rank == 0) {
        seo_warn("%s ends: %s", w->world->self, w->text);
    }
}

/* ---- the end ---- */

static void *rescue(void *argument) {
    seo_watch *w = argument;
    const seo_watch_loss loss = w->lost ? SEO_WATCH_SOME_LOST : SEO_WATCH_ALL_HEARD;
    seo_err err = w->args.rescue ? w->args.rescue(w->args.context, loss) : SEO_ERR_UNSUPPORTED;
    pthread_mutex_lock(&w->world->line->lock);
    w->rescued = true;
    w->saved = err == SEO_OK;
    pthread_mutex_unlock(&w->world->line->lock);
    seo_line_wake(w->world->line);
    return NULL;
}

static void start_rescue(seo_watch *w) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    w->rescuer_runs = pthread_create(&w->rescuer, NULL, rescue, w) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (w->rescuer_runs) return;
    seo_error("no thread for saving could be started");
    w->rescued = true;
}

/* With the lock: to all that can still hear. */
static void tell_all(seo_watch *w, seo_frame_kind kind, const seo_wire_note *note) {
    for (int32_t k = 0; k < w->world->size; k++) {
        if (w->world->line->links[k].fd < 0) continue;
        seo_line_note(w->world->line, k, kind, note);
        seo_link_write(w->world->line, k);
    }
}

/* A rank that the others have given up must not act for the run any more. */
static void leave_excluded(const seo_watch *w) {
    char why[64] = "was not heard";
    if (w->woke_away_s > 0) {
        snprintf(why, sizeof why, "was stopped for %.1f s", w->woke_away_s);
    }
    seo_error("%s %s: the others have ended the run without it, so it ends too and saves nothing",
              w->world->self, why);
    _exit(STATUS_LOST);
}

static void begin_end(seo_watch *w, double now) {
    seo_line *line = w->world->line;
    seo_buf report = {0};
    const bool woke = w->woke_away_s > 0 && now - w->woke_s < WOKE_S;
    pthread_mutex_lock(&line->lock);
    const bool told = w->world->rank != 0 && w->culprit < 0;
    const bool named = line->lost_rank == w->world->rank;
    if (named || (woke && w->lost && !told)) {
        pthread_mutex_unlock(&line->lock);
        leave_excluded(w);
    }
    make_report(w, &report);
    if (w->world->rank == 0) {
        seo_wire_note note = {.number = w->status, .flag = w->lost};
        memcpy(note.text, w->text, sizeof note.text);
        tell_all(w, SEO_FRAME_END, &note);
    }
    pthread_mutex_unlock(&line->lock);
    print_report(w, told, &report);
    seo_buf_free(&report);
    w->begun_s = now;
    w->phase = RESCUING;
    start_rescue(w);
}

static void judge(seo_watch *w, double now) {
    seo_watch_verdict verdict;
    seo_buf text = {0};
    for (int32_t k = 1; k < w->world->size; k++) {
        w->state.ranks[k].left = w->world->line->links[k].state == SEO_LINK_LEFT;
    }
    seo_watch_judge(&w->state, now, &verdict);
    if (verdict.kind == SEO_WATCH_FINE) return;
    seo_watch_tell(&text, &w->state, &verdict,
                   verdict.rank >= 0 ? seo_world_who(w->world, verdict.rank) : "");
    decide(w, false, verdict.rank, STATUS_LOST, text.data ? text.data : "a rank hangs");
    seo_buf_free(&text);
}

/* Whether the time for saving is over; tells why it ends then. */
static bool rescue_is_over(seo_watch *w, double now, bool *saved) {
    pthread_mutex_lock(&w->world->line->lock);
    const bool rescued = w->rescued;
    *saved = w->saved;
    pthread_mutex_unlock(&w->world->line->lock);
    if (rescued) return true;
    if (now - w->begun_s < w->args.rescue_s) return false;
    seo_error("%s: saving took more than %.0f s and is given up", w->world->self, w->args.rescue_s);
    return true;
}

static void finish_rescue(seo_watch *w, double now) {
    bool saved;
    if (!rescue_is_over(w, now, &saved)) return;
    pthread_mutex_lock(&w->world->line->lock);
    w->any_saved |= saved;
    if (w->world->rank == 0) {
        w->done[0] = true;
        if (!saved) give_up_saving(w, 0);
    } else {
        const seo_wire_note note = {.flag = saved};
        tell_all(w, SEO_FRAME_DONE, &note);
    }
    pthread_mutex_unlock(&w->world->line->lock);
    w->phase = WAITING;
}

/* With the lock. */
static bool all_done(const seo_watch *w) {
    for (int32_t k = 1; k < w->world->size; k++) {
        if (w->world->line->links[k].state == SEO_LINK_OPEN && !w->done[k]) return false;
    }
    return true;
}

static void wait_for_others(seo_watch *w, double now) {
    seo_line *line = w->world->line;
    const bool late = now - w->begun_s > w->args.rescue_s + GRACE_S;
    pthread_mutex_lock(&line->lock);
    bool ready = late;
    if (w->world->rank == 0) {
        ready |= all_done(w);
        w->exit_status = w->any_saved ? STATUS_SAVED : w->status;
        const seo_wire_note note = {.number = w->exit_status};
        if (ready) tell_all(w, SEO_FRAME_EXIT, &note);
    } else {
        ready |= w->may_exit || line->links[0].state != SEO_LINK_OPEN;
        if (!w->may_exit) w->exit_status = w->any_saved ? STATUS_SAVED : w->status;
    }
    pthread_mutex_unlock(&line->lock);
    if (!ready) return;
    w->begun_s = now;
    w->phase = LEAVING;
}

/* Rank 0 stays until the others have read its last word: its end would tear the line. */
static void leave(seo_watch *w, double now) {
    seo_line *line = w->world->line;
    bool alone = true;
    pthread_mutex_lock(&line->lock);
    for (int32_t k = 1; w->world->rank == 0 && k < w->world->size; k++) {
        alone &= line->links[k].state != SEO_LINK_OPEN;
    }
    pthread_mutex_unlock(&line->lock);
    if (!alone && now - w->begun_s < EXIT_S) return;
    if (w->world->rank == 0) {
        seo_info("the run ended %s; exit status %d",
                 w->any_saved ? "with a checkpoint of its last whole step"
                              : "without a new checkpoint",
                 (int)w->exit_status);
    }
    _exit(w->exit_status);
}

/* Rank 0 may have left, or may not watch: then nobody says END. With the lock. */
static void judge_rank_0(seo_watch *w, double now) {
    const seo_line *line = w->world->line;
    const bool left = line->links[0].state == SEO_LINK_LEFT;
    if (w->ending || w->stopped || (!left && line->lost_rank < 0)) return;
    if (w->alone_s <= 0) w->alone_s = now;
    if (line->lost_rank >= 0 && now - w->alone_s > GRACE_S) {
        decide(w, true, line->lost_rank, STATUS_LOST, line->lost_text);
    } else if (left && now - w->alone_s > w->args.timeout_s) {
        char text[256];
        snprintf(text, sizeof text, "%s has left the run, which is not over here",
                 line->links[0].who);
        decide(w, true, 0, STATUS_LOST, text);
    }
}

static void act(void *context, double away_s) {
    seo_watch *w = context;
    seo_line *line = w->world->line;
    const double now = seo_clock_s();
    if (away_s > AWAY_SHARE * w->args.timeout_s) {
        w->woke_s = now;
        w->woke_away_s = away_s;
    }
    switch (w->phase) {
    case WATCHING: {
        pthread_mutex_lock(&line->lock);
        seo_watch_away(&w->state, away_s, now);
        if (w->world->rank == 0 && !w->ending && !w->stopped) judge(w, now);
        if (line->lost_rank == w->world->rank) {
            decide(w, true, -1, STATUS_LOST, "the others have given this rank up");
        }
        if (w->world->rank != 0) judge_rank_0(w, now);
        const bool ending = w->ending;
        pthread_mutex_unlock(&line->lock);
        if (ending) begin_end(w, now);
        break;
    }
    case RESCUING: finish_rescue(w, now); break;
    case WAITING: wait_for_others(w, now); break;
    case LEAVING: leave(w, now); break;
    }
}

/* ---- calls of world.h ---- */

void seo_watch_free(seo_watch *w) {
    if (!w) return;
    free(w->state.ranks);
    free(w->done);
    free(w);
}

seo_err seo_world_watch(seo_world *world, const seo_watch_args *args) {
    SEO_ASSERT(args->timeout_s > 0 && args->rescue_s >= 0 && args->place != NULL);
    if (world->size == 1) return SEO_OK;
    seo_line *line = world->line;
    seo_watch *w = calloc(1, sizeof *w);
    if (!w) return SEO_FAIL(SEO_ERR_MEMORY, "no memory to watch over the ranks");
    w->state.ranks = calloc((size_t)world->size, sizeof *w->state.ranks);
    w->done = calloc((size_t)world->size, sizeof *w->done);
    if (!w->state.ranks || !w->done) {
        seo_watch_free(w);
        return SEO_FAIL(SEO_ERR_MEMORY, "no memory to watch over the ranks");
    }
    w->world = world;
    w->args = *args;
    w->culprit = -1;
    w->state.size = world->size;
    w->state.timeout_s = args->timeout_s;
    w->state.quiet_s = seo_clock_s();
    args->place(args->context, &w->place);
    pthread_mutex_lock(&line->lock);
    SEO_ASSERT(world->watch == NULL);
    world->watch = w;
    for (int32_t k = 0; k < world->size; k++) {
        line->links[k].heard_s = w->state.quiet_s;
        line->links[k].beat_s = 0;
    }
    line->silent_s = args->timeout_s;
    line->watched = true;
    line->hooks = (seo_line_hooks){.context = w,
                                   .sample = sample,
                                   .beat = make_beat,
                                   .frame = take_frame,
                                   .lost = take_loss,
                                   .act = act};
    /* One that was lost before is lost to the watch too. */
    if (line->lost_rank >= 0) decide(w, true, line->lost_rank, STATUS_LOST, line->lost_text);
    pthread_mutex_unlock(&line->lock);
    seo_line_wake(line);
    return SEO_OK;
}

void seo_world_watch_pause(seo_world *world, bool paused) {
    if (!world->watch) return;
    pthread_mutex_lock(&world->line->lock);
    world->watch->paused = paused;
    for (int32_t k = 0; k < world->size; k++) world->line->links[k].beat_s = 0;
    pthread_mutex_unlock(&world->line->lock);
    seo_line_wake(world->line);
}

/* With the lock: the process ends on the service thread. */
static void wait_for_the_end(seo_line *line) {
    for (;;) pthread_cond_wait(&line->changed, &line->lock);
}

void seo_watch_stop(seo_world *world) {
    seo_watch *w = world->watch;
    if (!w) return;
    pthread_mutex_lock(&world->line->lock);
    if (w->ending) wait_for_the_end(world->line);
    w->stopped = true;
    world->line->watched = false;
    pthread_mutex_unlock(&world->line->lock);
}

seo_err seo_world_fail(seo_world *world, seo_err err) {
    seo_watch *w = world->watch;
    if (!w) return err;
    int32_t status = err == SEO_ERR_USAGE ? STATUS_USAGE : STATUS_FAILED;
    if (err == SEO_ERR_LOST) status = STATUS_LOST;
    seo_wire_note note = {.number = status};
    snprintf(note.text, sizeof note.text, "%.160s cannot go on: %.2000s", world->self,
             seo_err_detail());
    pthread_mutex_lock(&world->line->lock);
    if (world->rank == 0)
        decide(w, false, 0, status, note.text);
    else
        seo_line_note(world->line, 0, SEO_FRAME_FAIL, &note);
    seo_line_wake(world->line);
    wait_for_the_end(world->line);
    return err;
}
