/* Ranks as threads of one process, so that what stands above the collectives is tested without MPI,
 * and under the thread sanitizer. Like MPI's, each rank's comm has a thread of its own that does
 * the collectives; the sums and their orders are those of kernels/comm.h. */
#pragma once

#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Where the ranks of one run meet. */
typedef struct threads_hub threads_hub;

/* slice: elements that are added up at a time; 0: as MPI's comm has it. */
threads_hub *threads_hub_new(int32_t size, int64_t slice);
void threads_hub_free(threads_hub *hub); /* after its comms are closed */
/* A rank is gone: whoever waits in a collective, and whoever enters one, gets SEO_ERR_LOST. */
void threads_hub_break(threads_hub *hub);

/* By each rank once, with size ranks in all. */
seo_err threads_comm_open(threads_hub *hub, int32_t rank, seo_comm **out);

/* What a rank does; dev is its own CPU device, of one thread, and attached to comm. */
typedef seo_err threads_body(void *context, seo_comm *comm, seo_device *dev);

/* Runs body on `size` threads at once and returns when all have ended: the error of the lowest
 * rank that failed by itself, its message with the rank before it. A rank that fails lets the
 * others go on no further than their next collective. A body does not assert through cmocka: it
 * returns SEO_FAIL. */
seo_err threads_run(int32_t size, threads_body *body, void *context);
/* The same with this many elements a slice. */
seo_err threads_run_sliced(int32_t size, int64_t slice, threads_body *body, void *context);

#ifdef __cplusplus
}
#endif
