/* Private to train/parallel*.c: where the exchange of a step stands. */
#pragma once

#include "train/parallel.h"
#include "train/slots.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { SEO_NO_TICKET = -1 };

/* Of one segment. */
typedef struct seo_exchange {
    int64_t params_ticket; /* of the gather of what passes read, SEO_NO_TICKET when it is there */
    int64_t grads_ticket;  /* of the sum of its gradients, likewise */
    bool fresh;            /* in windows: what passes read is there or under way. Else always */
} seo_exchange;

struct seo_parallel {
    seo_model *model;
    seo_comm *comm;
    seo_device *dev;
    const seo_shards *shards;
    seo_dtype wire;
    int64_t slots;  /* of the global batch; 0: default mode */
    seo_slots tree; /* of this rank's slots */
    seo_exchange *segments;
    seo_pass_hooks training, reading;
    /* Sums of squares on the host: in the whole layout, of this rank's chunks, and a message from
     * everyone. */
    float *units, *units_own, *units_all;
    int64_t passes, pass; /* of the step, and the one that is under way */
};

static inline bool seo_parallel_alone(const seo_parallel *p) {
    return p->shards->ranks == 1;
}

/* This rank's chunk of a segment that lies whole in `t`. */
seo_tensor seo_parallel_own(const seo_parallel *p, const seo_tensor *t, int64_t segment);
seo_err seo_parallel_wait(seo_parallel *p, int64_t *ticket);

/* parallel_params.c: a segment's parameters are asked for; they are there. */
seo_err seo_params_fetch(seo_parallel *p, int64_t segment);
seo_err seo_params_enter(seo_parallel *p, int64_t segment, bool backward);
seo_err seo_params_leave(seo_parallel *p, int64_t segment, bool backward);

/* parallel_grads.c */
seo_err seo_grads_enter(seo_parallel *p, int64_t segment, bool backward);
seo_err seo_grads_leave(seo_parallel *p, int64_t segment, bool backward);

#ifdef __cplusplus
}
#endif
