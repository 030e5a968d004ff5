/* Private to kernels/: what stands behind a comm. Each kind of comm fills one table; comm/comm.c
 * checks the arguments for all of them and keeps the record of where a rank is. */
#pragma once

#include <pthread.h>
#include <stdio.h>

#include "base/check.h"
#include "base/progress.h"
#include "kernels/comm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Arguments are checked, dev is set (but for open, attach, gather_host and close). */
typedef struct seo_comm_backend {
    /* Whether a library that is needed is there. NULL: none is needed. */
    seo_err (*find)(void);
    /* Fills rank, size, name and impl; options are the backend's own. */
    seo_err (*open)(seo_comm *comm, const void *options);
    /* comm->dev is set: takes the workspace. NULL: open did it, and set comm->dev. */
    seo_err (*attach)(seo_comm *comm);
    seo_err (*reduce_scatter)(seo_comm *comm, const seo_reduce_scatter_args *args, int64_t *ticket);
    seo_err (*all_gather)(seo_comm *comm, const seo_all_gather_args *args, int64_t *ticket);
    seo_err (*wait)(seo_comm *comm, int64_t ticket);
    seo_err (*gather_host)(seo_comm *comm, seo_comm_label label, const void *mine, int64_t bytes,
                           void *all);
    /* Brings the record up to date, from any thread. NULL: it always is. */
    void (*refresh)(seo_comm *comm);
    void (*close)(seo_comm *comm); /* fine after an open that failed */
} seo_comm_backend;

/* What other threads may read at any time. */
typedef struct seo_comm_record {
    pthread_mutex_t lock;
    seo_comm_place place;
    seo_comm_times times;
} seo_comm_record;

struct seo_comm {
    const seo_comm_backend *backend;
    int32_t rank, size;
    char name[96];
    seo_device *dev;
    seo_comm_record *record;
    void *impl;
};

/* Opens a comm of this backend. */
seo_err seo_comm_open_backend(const seo_comm_backend *backend, const void *options, seo_comm **out);

/* Around each collective, by whichever thread does it. bytes: what this rank sends. */
static inline void seo_comm_enter(seo_comm *comm, seo_comm_label label, int64_t bytes) {
    seo_comm_record *r = comm->record;
    pthread_mutex_lock(&r->lock);
    r->place.number++;
    if (label.index >= 0) {
        snprintf(r->place.name, sizeof r->place.name, "%s %lld", label.name,
                 (long long)label.index);
    } else {
        snprintf(r->place.name, sizeof r->place.name, "%s", label.name);
    }
    r->place.bytes = bytes;
    r->place.entered_s = seo_clock_s();
    r->place.left_s = 0;
    r->times.sent_bytes += bytes;
    pthread_mutex_unlock(&r->lock);
}
static inline void seo_comm_leave(seo_comm *comm) {
    seo_comm_record *r = comm->record;
    pthread_mutex_lock(&r->lock);
    r->place.left_s = seo_clock_s();
    r->times.busy_s += r->place.left_s - r->place.entered_s;
    pthread_mutex_unlock(&r->lock);
}
/* The caller was kept waiting. */
static inline void seo_comm_add_waited(seo_comm *comm, double seconds) {
    pthread_mutex_lock(&comm->record->lock);
    comm->record->times.waited_s += seconds;
    pthread_mutex_unlock(&comm->record->lock);
}

/* A reduce-scatter goes in slices, two of them in hand: of one the parts are on their way while the
 * other is added up. The workspace holds every rank's part of both in f32, and what is sent of both
 * rounded to bf16: so many bytes for each element of a slice. */
enum { SEO_COMM_SLICE_MAX = 1 << 18, SEO_COMM_SLICE_MIN = 1 << 12 };
static inline int64_t seo_comm_workspace_bytes(int32_t size, int64_t slice) {
    return 2 * (int64_t)(sizeof(float) + sizeof(uint16_t)) * size * slice;
}
/* Elements of a slice: 1 MiB of f32, less where many ranks would make the workspace large. */
static inline int64_t seo_comm_slice(int32_t size) {
    int64_t slice = SEO_COMM_SLICE_MAX;
    while (slice > SEO_COMM_SLICE_MIN && seo_comm_workspace_bytes(size, slice) > 64 << 20) {
        slice /= 2;
    }
    return slice;
}

#ifdef __cplusplus
}
#endif
