#include "train/world/watch_state.h"

#include <stdio.h>
#include <string.h>

/* Until a time between collectives is known, a first step may take that many times the timeout. */
static const double FIRST_STEP_TIMEOUTS = 9;

static double larger(double a, double b) {
    return a > b ? a : b;
}

/* ---- a rank's own place ---- */

void seo_watch_track_place(seo_watch_track *track, const seo_comm_place *place, bool paused,
                           double now_s) {
    if (place->number != track->number) {
        /* The gap and the collective that are over by now. */
        double gap = track->out_s;
        const bool next = place->number == track->number + 1;
        if (next && track->left_s > 0) gap = larger(gap, place->entered_s - track->left_s);
        if (track->number > 0 && !track->paused && !paused) {
            track->longest_gap_s = larger(track->longest_gap_s, gap);
            track->any_gap = true;
        }
        track->longest_in_s = larger(track->longest_in_s, track->in_s);
        track->number = place->number;
        track->out_s = track->in_s = track->left_s = 0;
        track->paused = false;
    }
    if (place->number == 0) return;
    track->paused |= paused;
    if (place->left_s > 0) {
        track->left_s = place->left_s;
        track->in_s = larger(track->in_s, place->left_s - place->entered_s);
        track->out_s = larger(track->out_s, now_s - place->left_s);
    } else if (!paused) {
        track->in_s = larger(track->in_s, now_s - place->entered_s);
    }
}

void seo_watch_make_beat(const seo_watch_track *track, const seo_watch_place *place, bool paused,
                         double now_s, seo_wire_beat *beat) {
    const seo_comm_place *comm = &place->comm;
    *beat = (seo_wire_beat){.step = place->step,
                            .number = comm->number,
                            .bytes = comm->bytes,
                            .entered_ago_s = comm->number > 0 ? now_s - comm->entered_s : -1,
                            .left_ago_s = comm->left_s > 0 ? now_s - comm->left_s : -1,
                            .longest_gap_s = track->any_gap ? track->longest_gap_s : -1,
                            .longest_in_s = track->longest_in_s,
                            .paused = paused};
    memcpy(beat->doing, place->doing, sizeof beat->doing);
    memcpy(beat->name, comm->name, sizeof beat->name);
    beat->doing[sizeof beat->doing - 1] = beat->name[sizeof beat->name - 1] = '\0';
}

/* ---- the judge ---- */

void seo_watch_hear(seo_watch_state *state, int32_t rank, const seo_wire_beat *beat, double now_s) {
    seo_watch_rank *r = &state->ranks[rank];
    if (r->known && r->beat.paused && !beat->paused) state->quiet_s = now_s;
    r->known = true;
    r->beat = *beat;
    r->told_s = now_s;
    r->entered_s = beat->number > 0 ? now_s - beat->entered_ago_s : 0;
    r->left_s = beat->left_ago_s >= 0 ? now_s - beat->left_ago_s : 0;
}

void seo_watch_away(seo_watch_state *state, double away_s, double now_s) {
    if (away_s > state->timeout_s / 2) state->quiet_s = now_s;
}

static bool is_inside(const seo_watch_rank *r, int64_t number) {
    return number > 0 && r->known && !r->left && r->beat.number == number && r->left_s <= 0;
}

/* What the ranks are at, together. */
typedef struct summary {
    int64_t top; /* the newest collective anybody entered */
    int32_t inside, behind, furthest;
    double first_in_s, last_event_s, gap_s, in_s; /* gap -1: none is known */
    bool paused;
} summary;

static summary summarize(const seo_watch_state *state) {
    summary s = {.furthest = -1, .gap_s = -1};
    for (int32_t k = 0; k < state->size; k++) {
        const seo_watch_rank *r = &state->ranks[k];
        if (r->known && r->beat.number > s.top) s.top = r->beat.number;
        if (!r->known || r->left) continue;
        s.paused |= r->beat.paused;
        s.gap_s = larger(s.gap_s, r->beat.longest_gap_s);
        s.in_s = larger(s.in_s, r->beat.longest_in_s);
        s.last_event_s = larger(s.last_event_s, larger(r->entered_s, r->left_s));
    }
    for (int32_t k = 0; k < state->size; k++) {
        const seo_watch_rank *r = &state->ranks[k];
        if (is_inside(r, s.top)) {
            if (s.inside++ == 0 || r->entered_s < s.first_in_s) s.first_in_s = r->entered_s;
        } else if (r->beat.number < s.top || r->left) {
            const bool first = s.behind++ == 0;
            if (first || r->beat.number < state->ranks[s.furthest].beat.number) s.furthest = k;
        }
    }
    return s;
}

void seo_watch_judge(seo_watch_state *state, double now_s, seo_watch_verdict *out) {
    const summary s = summarize(state);
    *out = (seo_watch_verdict){.kind = SEO_WATCH_FINE, .rank = -1, .number = s.top};
    if (s.paused) return;
    if (s.inside > 0 && s.behind > 0) {
        out->expected_s = larger(s.gap_s, 0);
        out->waited_s = now_s - larger(s.first_in_s, state->quiet_s);
        out->rank = s.furthest;
        if (out->waited_s > state->timeout_s + out->expected_s) out->kind = SEO_WATCH_ABSENT;
        return;
    }
    out->expected_s =
        s.gap_s >= 0 ? larger(s.gap_s, s.in_s) : FIRST_STEP_TIMEOUTS * state->timeout_s;
    out->waited_s = now_s - larger(s.last_event_s, state->quiet_s);
    if (out->waited_s <= state->timeout_s + out->expected_s) return;
    out->kind = s.inside > 0 ? SEO_WATCH_STUCK : SEO_WATCH_IDLE;
}

/* ---- in words ---- */

static void tell_collective(seo_buf *out, const seo_wire_beat *beat) {
    char bytes[SEO_SHORT_TEXT];
    seo_format_bytes(bytes, (double)beat->bytes);
    seo_buf_format(out, "collective %lld (%s, %s)", (long long)beat->number,
                   beat->name[0] != '\0' ? beat->name : "without a name", bytes);
}

void seo_watch_tell_place(seo_buf *out, const seo_watch_rank *rank, double now_s) {
    if (!rank->known) {
        seo_buf_text(out, "has not told where it is");
        return;
    }
    seo_buf_format(out, "step %lld, %s; ", (long long)rank->beat.step,
                   rank->beat.doing[0] != '\0' ? rank->beat.doing : "busy");
    if (rank->beat.number == 0) {
        seo_buf_text(out, "in no collective so far");
    } else if (rank->left_s > 0) {
        seo_buf_text(out, "left ");
        tell_collective(out, &rank->beat);
        seo_buf_format(out, " %.1f s ago", now_s - rank->left_s);
    } else {
        seo_buf_text(out, "in ");
        tell_collective(out, &rank->beat);
        seo_buf_format(out, " for %.1f s", now_s - rank->entered_s);
    }
    if (rank->left) seo_buf_text(out, "; has left the run");
    if (now_s - rank->told_s > 3) {
        seo_buf_format(out, " (as it told %.1f s ago)", now_s - rank->told_s);
    }
}

/* The collective of that number as one of those in it tells it. */
static void tell_number(seo_buf *out, const seo_watch_state *state, int64_t number) {
    for (int32_t k = 0; k < state->size; k++) {
        const seo_watch_rank *r = &state->ranks[k];
        if (!r->known || r->beat.number != number) continue;
        tell_collective(out, &r->beat);
        return;
    }
    seo_buf_format(out, "collective %lld", (long long)number);
}

void seo_watch_tell(seo_buf *out, const seo_watch_state *state, const seo_watch_verdict *verdict,
                    const char *who) {
    switch (verdict->kind) {
    case SEO_WATCH_FINE: break;
    case SEO_WATCH_ABSENT:
        seo_buf_format(out, "%s has not entered ", who);
        tell_number(out, state, verdict->number);
        seo_buf_format(out, ", where others have waited for %.1f s", verdict->waited_s);
        break;
    case SEO_WATCH_STUCK:
        seo_buf_text(out, "all ranks are in ");
        tell_number(out, state, verdict->number);
        seo_buf_format(out, " and none has left it for %.1f s", verdict->waited_s);
        break;
    case SEO_WATCH_IDLE:
        seo_buf_format(out, "no rank has entered a collective for %.1f s", verdict->waited_s);
        if (verdict->number == 0) break;
        seo_buf_text(out, ", after ");
        tell_number(out, state, verdict->number);
        break;
    }
    seo_buf_format(out, " (expected are at most %.1f s, and %.1f s more are granted)",
                   verdict->expected_s, state->timeout_s);
}
