/* One training step: the global batch in micro-batches, the clipped gradient, the update. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "data/loader.h"
#include "train/config.h"
#include "train/distill.h"
#include "train/models/model.h"
#include "train/optim.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_step seo_step;

/* What a rank tells all others once a step, with its losses. */
typedef struct seo_step_word {
    int32_t stop;       /* the signal that asked it to stop, or 0 */
    int32_t save;       /* its clock says that a checkpoint is due */
    double own_s;       /* since the step's beginning, without the time it waited for other ranks */
    double data_wait_s; /* of it, for the loader */
    double grad_norm;   /* as this rank computed it: must be the same on all */
    int64_t number;     /* of the step: likewise */
} seo_step_word;

/* All borrowed; they must outlive the step. The loader gives this rank's part of the global batch:
 * of equal size on all, in the order of ranks; a batch that grows is at most train.batch_tokens. */
typedef struct seo_step_args {
    const seo_config *config;
    seo_model *model; /* SEO_MODEL_TRAIN, for train.micro_batch sequences */
    seo_optim *optim;
    seo_parallel *parallel; /* NULL: one rank, default mode. Joined by the optimizer */
    seo_loader *loader;     /* with the groups of train.micro_batch, or with none */
    seo_distill *distill;   /* opt: the model is its student */
    /* Asked before the update of a finite step; true leaves it out. It decides from `loss` and from
     * what all ranks know alike. NULL: never. */
    bool (*veto)(void *context, double loss);
    bool (*save_due)(void *context); /* for the word; NULL: never */
    void *context;                   /* of both */
} seo_step_args;

/* Takes memory for the losses of this rank's part of the batch. SEO_ERR_USAGE when the batch cannot
 * be cut into equal parts for the ranks, or slots of whole micro-batches. */
seo_err seo_step_open(const seo_step_args *args, seo_step **out);
void seo_step_close(seo_step *step); /* NULL is fine */
/* Adds what open takes of the device, without one. */
void seo_step_measure(const seo_config *config, int32_t ranks, seo_memory_table *out);

typedef struct seo_step_result {
    /* Means over the global batch, before the update, nats. Of tokens: the next ones, or those that
     * were masked; 0 where the objective has none. Of labels: whether a sentence follows, or the
     * class; likewise. The loss is what is trained: the sum of both (of a decoder that classifies
     * the tokens' counts model.lm_weight). */
    double loss, token_loss, label_loss;
    /* Of a student what its loss is made of, without the weights but for the cosine's: against the
     * text, against the teacher's probabilities, and of the hidden states (train/distill.h). Its
     * token_loss is the weighted sum of the first two, its loss has all three. */
    double hard_loss, soft_loss, cosine_loss;
    bool two_losses;  /* there are both */
    double grad_norm; /* before clipping */
    double lr;
    double data_wait_s;
    int64_t tokens;
    bool finite; /* else the update was left out */
    bool vetoed; /* finite, and the update was left out all the same */
    /* Of each sequence of the global batch the sum of all its losses, nats; the step's, valid until
     * the next one. */
    const double *sequence_nats;
    int64_t sequence_count;
    int64_t sequence_losses;    /* how many a sequence has */
    const seo_step_word *words; /* by rank; the step's, valid until the next one */
    int32_t word_count;
    /* Since the step before: seconds in collectives, seconds that this rank was kept waiting for
     * them, bytes it sent (0 where they are not measured). */
    double comm_busy_s, comm_waited_s;
    int64_t comm_sent_bytes;
    seo_batch batch;        /* what fed this rank's part of the step; valid until the next one */
    int64_t first_sequence; /* of that part in the global batch */
} seo_step_result;

/* Step `number` (1 is the first); `updates` is how many were made before it. When a loss or the
 * gradient norm is not finite, or the veto falls, nothing is updated, on no rank. SEO_ERR_STOPPED,
 * and nothing is changed, when a signal asks to stop (train/signal.h) and there is one rank: with
 * several a signal is a word, and all stop after the same step. SEO_ERR_NUMERIC when ranks that
 * should have computed the same did not. */
seo_err seo_step_run(seo_step *step, int64_t number, int64_t updates, seo_step_result *out);

#ifdef __cplusplus
}
#endif
