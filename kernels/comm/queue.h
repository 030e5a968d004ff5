/* Private to kernels/comm: the thread of a comm that does its collectives one after the other, and
 * the queue in front of it. */
#pragma once

#include "kernels/comm_backend.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_comm_queue seo_comm_queue;

typedef enum seo_comm_call {
    SEO_COMM_REDUCE_SCATTER,
    SEO_COMM_ALL_GATHER,
    SEO_COMM_GATHER_HOST
} seo_comm_call;

typedef struct seo_comm_request {
    seo_comm_call call;
    bool inner; /* a piece of a collective that the caller has entered: it is not recorded */
    seo_reduce_scatter_args reduce;
    seo_all_gather_args gather;
    struct {
        seo_comm_label label;
        const void *mine;
        void *all;
        int64_t bytes;
    } host;
} seo_comm_request;

/* What the thread does. After a request that failed it runs no other: all later ones, and all
 * waits for them, fail with its message. */
typedef struct seo_comm_worker {
    seo_err (*begin)(seo_comm *comm, const void *options); /* first */
    seo_err (*run)(seo_comm *comm, const seo_comm_request *request);
    void (*end)(seo_comm *comm); /* last, also after a begin that failed */
} seo_comm_worker;

/* Starts the thread, with all signals blocked, and waits for begin. */
seo_err seo_comm_queue_open(seo_comm *comm, const seo_comm_worker *worker, const void *options,
                            seo_comm_queue **out);
/* Waits while the queue is full. */
seo_err seo_comm_queue_put(seo_comm_queue *queue, const seo_comm_request *request, int64_t *ticket);
/* Until the request of this ticket and all before it are done; 0 is done. */
seo_err seo_comm_queue_wait(seo_comm_queue *queue, int64_t ticket);
/* Does what is queued first. NULL is fine. */
void seo_comm_queue_close(seo_comm_queue *queue);

#ifdef __cplusplus
}
#endif
