/* Ranks of one run as forked processes on this host. What each finds goes into memory that all
 * share, and is looked at by the test when they have ended. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "train/world/world.h"

enum { RANKS_MAX = 8, RANKS_TEXT = 1024 };

typedef struct ranks_report {
    seo_err err;
    char text[RANKS_TEXT];
    double seconds;
} ranks_report;

typedef struct ranks_shared {
    ranks_report report[RANKS_MAX];
    int64_t flag[RANKS_MAX], rescues; /* ranks_load, ranks_store, ranks_add */
    double failed_s;                  /* when a rank was made to fail */
} ranks_shared;

typedef struct ranks_plan {
    int32_t size;
    double join_s;
    const char *folder;
    bool absent[RANKS_MAX]; /* never started */
    /* What a rank does; its exit status. `shared` is the same memory for all. */
    int (*act)(const struct ranks_plan *plan, int32_t rank, ranks_shared *shared);
    void *context;
} ranks_plan;

typedef struct ranks {
    pid_t pid[RANKS_MAX];
    int status[RANKS_MAX];     /* exit status, or 1000 + the signal */
    double ended_s[RANKS_MAX]; /* ranks_clock() */
    ranks_shared *shared;
    char *output; /* what all wrote to standard error, after ranks_wait */
    char output_path[64];
} ranks;

void ranks_start(const ranks_plan *plan, ranks *r);
/* Waits for all, at most so many seconds; those that are left are killed and the test fails. */
void ranks_wait(const ranks_plan *plan, ranks *r, double limit_s);
/* The same for all but one, which is left as it is. */
void ranks_wait_but(const ranks_plan *plan, ranks *r, double limit_s, int32_t but);
void ranks_end(ranks *r);

/* The launch of a rank of this plan: without MPI or MASTER_ADDR, so the folder's file is used. */
seo_launch ranks_launch(const ranks_plan *plan, int32_t rank);
/* Opens the world as the plan says and keeps an error in the report. */
seo_err ranks_open(const ranks_plan *plan, int32_t rank, ranks_shared *shared, seo_world **out);
void ranks_keep(ranks_shared *shared, int32_t rank, seo_err err);
int64_t ranks_load(const int64_t *from);
void ranks_store(int64_t *to, int64_t value);
void ranks_add(int64_t *to, int64_t value);
double ranks_clock(void);
