/* Private to train/run*.c: the other ranks of a run. With one rank everything here is immediate. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "kernels/kernels.h"
#include "train/world/launch.h"
#include "train/world/world.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_run seo_run;

typedef struct seo_run_world {
    seo_launch launch;
    int32_t rank, size;
    seo_comm *mpi;     /* of an MPI launcher; also the way to rank 0's address */
    char no_mpi[1024]; /* why there is none */
    seo_comm *comm;    /* what carries tensors: mpi itself or NCCL; NULL with one rank */
    seo_world *line;
    int32_t sharers; /* ranks on this one's cores, itself included */
    bool watched;

    /* Where this rank is, for the watch's thread. */
    pthread_mutex_t place_lock;
    seo_watch_place place;
    bool comm_known;
    /* Held while the state is not that of a whole step, or the writer is in use; the rescue takes
     * it and keeps it. */
    pthread_mutex_t whole_lock;
    bool whole_held;
    bool whole_known; /* there is a state that could be saved */
} seo_run_world;

/* Finds the ranks and waits for them, at most join_s. Rank 0 speaks from here on. */
seo_err seo_run_join(seo_run *run, double join_s);
/* Leaves; all is closed. Also after an error. */
void seo_run_leave(seo_run *run);

/* Every rank hands in how a stage went, and all get the same answer. */
seo_err seo_run_agree(seo_run *run, const char *stage, seo_err mine);
/* Rank 0's bytes become everyone's. */
seo_err seo_run_share(seo_run *run, const char *what, void *data, int64_t bytes);

/* SEO_ERR_USAGE, the same on all ranks: a number of ranks that the batch, or the slots of the
 * invariant mode, cannot be divided among. Sets train.micro_batch to what fits a rank's part. */
seo_err seo_run_divide(seo_run *run);
/* The collectives, on the open device. */
seo_err seo_run_connect(seo_run *run);

/* This rank alone cannot go on: does not return when there are others, else returns err. */
seo_err seo_run_fail(seo_run *run, seo_err err);

/* ---- the watch (run_watch.c) ---- */

seo_err seo_run_watch(seo_run *run);
/* "training", "evaluating"; paused: nothing is expected of the collectives meanwhile. */
void seo_run_doing(seo_run *run, const char *what, bool paused);
/* The run is about to be closed: the watch looks at it no more. */
void seo_run_retire(seo_run *run);
/* Around what changes the state, or uses the writer. Taken twice is taken once. */
void seo_run_change_begin(seo_run *run);
void seo_run_change_end(seo_run *run);

#ifdef __cplusplus
}
#endif
