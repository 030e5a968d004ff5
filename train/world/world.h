/* The ranks of a run and the line between them: one TCP connection from every rank to rank 0,
 * served by one thread a rank. It carries what is not arithmetic: the roll call at the start,
 * agreements ("did it work for you too?"), the pieces of a checkpoint, heartbeats, and the end of
 * a job that one rank can no longer take part in. It works where a collective of MPI or NCCL hangs.
 *
 * With one rank there is no connection and every call is immediate. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "kernels/kernels.h"
#include "train/world/launch.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_world seo_world;

typedef struct seo_world_args {
    const seo_launch *launch;
    seo_comm *mpi; /* brings rank 0's address to the others; NULL: MASTER_ADDR and MASTER_PORT, or,
                    * where they are not given, a file in `folder` */
    const char *folder; /* that all hosts share: the run folder */
    double join_s;      /* how long to wait for the others */
} seo_world_args;

/* Returns when all ranks are there. SEO_ERR_MISSING after join_s: which ranks never came, and what
 * usually is the reason. SEO_ERR_USAGE on all when ranks disagree about their number. A process of
 * another start (launch id) and whoever else connects is turned away with a warning; a clock that
 * is off by more than 5 s is a warning that names the host. A rank not heard for join_s (at least
 * 10 s; from seo_world_watch on for its timeout) counts as lost. */
seo_err seo_world_open(const seo_world_args *args, seo_world **out);
/* Says goodbye, so that nobody takes it for a death, and waits up to 2 s for the others to have
 * read what was sent. Does not return when the watch is ending the job. NULL is fine. */
void seo_world_close(seo_world *world);

int32_t seo_world_rank(const seo_world *world);
int32_t seo_world_size(const seo_world *world);
/* "rank 3 on n2, process 1234"; known on rank 0 for all, elsewhere for itself and rank 0. */
const char *seo_world_who(const seo_world *world, int32_t rank);

/* Calls of one channel are made by one thread at a time, on all ranks in the same order; the two
 * channels do not wait for each other. Ranks that call different things (`what`) get SEO_ERR_USAGE
 * naming both. Once any rank is lost, calls return SEO_ERR_LOST on all; but with the watch on,
 * those of SEO_CHANNEL_RUN do not return, since the watch is ending the job. */
typedef enum seo_channel {
    SEO_CHANNEL_RUN,  /* the thread that trains */
    SEO_CHANNEL_SAVE, /* the checkpoint writer's */
    SEO_CHANNEL_COUNT
} seo_channel;

typedef struct seo_blob {
    void *data;
    int64_t bytes;
} seo_blob;

/* Every rank's bytes, of any length, to rank 0: all[size], freed with seo_blobs_free; on the others
 * all is left alone and may be NULL, and the call returns when the bytes are on their way (at most
 * four messages ahead of rank 0). `what` stands in messages. Errors: SEO_ERR_LOST naming a rank
 * that is gone. */
seo_err seo_world_gather(seo_world *world, seo_channel channel, const char *what, const void *mine,
                         int64_t bytes, seo_blob *all);
void seo_blobs_free(seo_blob *blobs, int64_t count);
/* Rank 0's bytes to every rank; *out is malloc'd, on rank 0 as well. */
seo_err seo_world_share(seo_world *world, seo_channel channel, const char *what, const void *data,
                        int64_t bytes, seo_blob *out);

/* Every rank hands in how it went (`mine`, with the message of seo_err_detail) and all get the same
 * answer: SEO_OK when all are, else the error of the lowest rank that has one, its message
 * beginning with who it is and ending with how many more failed. With one rank: `mine`. */
seo_err seo_world_agree(seo_world *world, seo_channel channel, const char *what, seo_err mine);

/* All ranks must hold the same text ("the configuration", "the tokenizer", "the dataset"): else
 * SEO_ERR_USAGE on all of them, naming who differs from rank 0. */
seo_err seo_world_same(seo_world *world, const char *what, const char *text);

/* ---- the watch (watch.c) ---- */

/* Where a rank is, for heartbeats and reports. */
typedef struct seo_watch_place {
    int64_t step;
    char doing[48]; /* "training", "evaluating", "saving", "opening the data" */
    seo_comm_place comm;
} seo_watch_place;

typedef enum seo_watch_loss {
    SEO_WATCH_ALL_HEARD, /* every process answers, one of them does not come forward or has failed
                          */
    SEO_WATCH_SOME_LOST  /* a process is gone or silent */
} seo_watch_loss;

typedef struct seo_watch_args {
    double timeout_s;                                   /* past what is expected */
    void (*place)(void *context, seo_watch_place *out); /* called by the world's thread */
    /* The job ends: saves what can be saved, on a thread of its own; SEO_OK: a checkpoint of the
     * run's last whole step is on disk. It may use SEO_CHANNEL_SAVE when all are heard; as soon as
     * one rank's rescue ends without SEO_OK, that gives SEO_ERR_LOST to the others. */
    seo_err (*rescue)(void *context, seo_watch_loss loss);
    double rescue_s; /* the most time it gets */
    void *context;
} seo_watch_args;

/* From here on each rank sends its place once a second (oftener with a short timeout), and the job
 * ends when
 *   a connection breaks without goodbye   at once: the rank died
 *   a rank is not heard for timeout_s     stopped, or its network is gone
 *   a rank has not entered the collective that others are in for timeout_s more than the longest
 *   time between two collectives so far   it hangs, or is that slow
 *   nobody enters or leaves one for as long; before the first two collectives have shown how long
 *   that is, for ten times timeout_s
 *   a rank called seo_world_fail
 * Then rank 0 prints who (rank, host, process) never entered which collective, where it was last
 * and since when, and where the others are; all run rescue, and when all have, the process ends
 * with 75 when a checkpoint was saved, with 97 else (with `fail`: the failed rank's own exit status
 * when nothing could be saved). A rank that does not hear rank 0 for timeout_s ends itself, so that
 * what is cut off does not stay; rank 1 then prints. One that was stopped for so long and wakes up
 * ends with 97, saves nothing and says why. Called by all ranks at the same point. */
seo_err seo_world_watch(seo_world *world, const seo_watch_args *args);
/* Leaves of absence for what takes longer than any step: a long evaluation, a slow load, the wait
 * for the last checkpoint. While any rank is paused nobody is late for a collective; deaths and
 * silence still count. */
void seo_world_watch_pause(seo_world *world, bool paused);

/* This rank cannot go on (`err` with its message): all are told, the job ends as above. Does not
 * return when there is more than one rank and the watch is on; else returns err. */
seo_err seo_world_fail(seo_world *world, seo_err err);

#ifdef __cplusplus
}
#endif
