/* What is expected of ranks, and who does not do it: no sockets, no threads, no clock of its own.
 * watch.c feeds it; tests feed it with simulated times. */
#pragma once

#include "base/text.h"
#include "train/world/wire.h"
#include "train/world/world.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A rank's own look at its collectives: how long it stays out of them and in them. Gaps with a
 * pause in them do not count. */
typedef struct seo_watch_track {
    int64_t number;
    double left_s;      /* of `number`, 0: not seen leaving it */
    double out_s, in_s; /* longest seen of the present gap and collective */
    bool paused;        /* in this gap */
    double longest_gap_s, longest_in_s;
    bool any_gap;
} seo_watch_track;
void seo_watch_track_place(seo_watch_track *track, const seo_comm_place *place, bool paused,
                           double now_s);
/* The beat that a rank in this place sends. */
void seo_watch_make_beat(const seo_watch_track *track, const seo_watch_place *place, bool paused,
                         double now_s, seo_wire_beat *beat);

typedef struct seo_watch_rank {
    bool known; /* has told its place */
    bool left;  /* said goodbye */
    seo_wire_beat beat;
    double told_s, entered_s, left_s; /* the judge's clock; left_s 0: still in it */
} seo_watch_rank;

typedef struct seo_watch_state {
    int32_t size;
    double timeout_s;
    double quiet_s; /* nothing is expected from before this: the start, or the end of a pause */
    seo_watch_rank *ranks; /* [size], borrowed */
} seo_watch_state;

void seo_watch_hear(seo_watch_state *state, int32_t rank, const seo_wire_beat *beat, double now_s);
/* The judge itself did not run for away_s, and perhaps nobody did: what the others have waited for
 * until now says nothing. A short delay is no reason to wait longer. */
void seo_watch_away(seo_watch_state *state, double away_s, double now_s);

typedef enum seo_watch_kind {
    SEO_WATCH_FINE,
    SEO_WATCH_ABSENT, /* `rank` and perhaps others have not entered the collective others are in */
    SEO_WATCH_STUCK,  /* all are in it and nobody leaves */
    SEO_WATCH_IDLE    /* nobody is in a collective or enters one */
} seo_watch_kind;

typedef struct seo_watch_verdict {
    seo_watch_kind kind;
    int32_t rank;    /* the one furthest behind, ABSENT only */
    int64_t number;  /* the collective in question */
    double waited_s; /* for it */
    double expected_s;
} seo_watch_verdict;

void seo_watch_judge(seo_watch_state *state, double now_s, seo_watch_verdict *out);

/* "step 12, training; in collective 14 (gather of block 3, 1.2 MB) for 5.3 s" */
void seo_watch_tell_place(seo_buf *out, const seo_watch_rank *rank, double now_s);
/* The verdict in a sentence that begins with who. */
void seo_watch_tell(seo_buf *out, const seo_watch_state *state, const seo_watch_verdict *verdict,
                    const char *who);

#ifdef __cplusplus
}
#endif
