/* One training step: the global batch in micro-batches, the clipped gradient, the update. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "data/loader.h"
#include "train/config.h"
#include "train/models/model.h"
#include "train/optim.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_step seo_step;

/* What a rank tells all others once a step, with its losses. */
typedef struct seo_step_word {
    int32_t stop; /* the signal that asked it to stop, or 0 */
    int32_t save; /* its clock says that a checkpoint is due */
    double own_s; /* since the step's beginning, without the time it waited for other ranks */
} seo_step_word;

/* All borrowed; they must outlive the step. The loader gives the whole global batch. */
typedef struct seo_step_args {
    const seo_config *config;
    seo_model *model; /* SEO_MODEL_TRAIN, for train.micro_batch sequences */
    seo_optim *optim;
    seo_loader *loader; /* with the groups of train.micro_batch, or with none */
    /* Asked before the update of a finite step; true leaves it out. It decides from `loss` and from
     * what all ranks know alike. NULL: never. */
    bool (*veto)(void *context, double loss);
    bool (*save_due)(void *context); /* for the word; NULL: never */
    void *context;                   /* of both */
} seo_step_args;

/* Takes memory for the losses of a global batch. */
seo_err seo_step_open(const seo_step_args *args, seo_step **out);
void seo_step_close(seo_step *step); /* NULL is fine */

typedef struct seo_step_result {
    double loss;      /* mean over the global batch, before the update, nats */
    double grad_norm; /* before clipping */
    double lr;
    double data_wait_s;
    int64_t tokens;
    bool finite; /* else the update was left out */
    bool vetoed; /* finite, and the update was left out all the same */
    /* Of each sequence of the global batch the sum of its tokens' losses, nats; the step's, valid
     * until the next one. */
    const double *sequence_nats;
    int64_t sequence_count;
    const seo_step_word *words; /* by rank; the step's, valid until the next one */
    int32_t word_count;
    seo_batch batch; /* what fed the step; valid until the next one */
} seo_step_result;

/* Step `number` (1 is the first); `updates` is how many were made before it. When a loss or the
 * gradient norm is not finite, or the veto falls, nothing is updated. SEO_ERR_STOPPED, and nothing
 * is changed, when a signal asks to stop (train/signal.h). */
seo_err seo_step_run(seo_step *step, int64_t number, int64_t updates, seo_step_result *out);

#ifdef __cplusplus
}
#endif
