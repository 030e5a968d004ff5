/* Work that is queued again and again with the same shapes and addresses. On a device with graphs
 * it is recorded and then replayed by one call; what changes from time to time is read from device
 * memory. On others it is queued each time. */
#pragma once

#include <stdbool.h>

#include "base/error.h"
#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Zero-initialise; free with seo_replay_free, before the device is closed. */
typedef struct seo_replay {
    bool met; /* it was queued before */
    seo_graph *graph;
} seo_replay;

/* Queues operators and copies on the device, nothing else. */
typedef seo_err seo_queue_fn(void *context);

/* The first time the work is queued as it is, since operators may choose among their variants by
 * measuring when they first meet a shape; the second time it is recorded. */
seo_err seo_replay_run(seo_replay *replay, seo_device *dev, seo_queue_fn *queue, void *context);
void seo_replay_free(seo_replay *replay);

#ifdef __cplusplus
}
#endif
