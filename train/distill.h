/* Distillation (Hinton et al. 2015; Sanh et al. 2019): before each pass of a student its teacher
 * reads the same micro-batch, and the student's loss is the weighted sum of
 *   hard     cross entropy against the text
 *   soft     T^2 KL(teacher || student) of the probabilities at temperature T
 * at each target or picked token that counts, a mean over those of the global batch, and
 *   cosine   1 - cos of both models' last hidden states
 * at each position that is no padding, a mean over all positions of the global batch (where the
 * padding counts 0). Where the widths differ, the student's hidden states are compared through a
 * learned projection, the row "distill.proj.weight" (C of the teacher, C of the student).
 *
 * What goes into a pass is seo_pass_args.teaching; the model knows no more of it. */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "train/config.h"
#include "train/memory.h"
#include "train/models/model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_distill seo_distill;

typedef struct seo_distill_args {
    const seo_config *config; /* the student's; borrowed, as both models */
    seo_model *student;       /* SEO_MODEL_TRAIN */
    seo_model *teacher; /* SEO_MODEL_EVAL, on the student's device and in its storage type, for
                         * its micro-batches and picks: seo_teacher_model */
    int64_t sequences;  /* the most of this rank's part of a batch */
} seo_distill_args;

/* Takes room for both losses, and what a projection needs, on the student's device. */
seo_err seo_distill_open(const seo_distill_args *args, seo_distill **out);
void seo_distill_close(seo_distill *distill); /* NULL is fine */
/* Adds what open takes of the device, without one; micro_batch: in place of the configuration's. */
seo_err seo_distill_measure(const seo_config *config, seo_dtype storage, int64_t micro_batch,
                            int64_t sequences, seo_memory_table *out);

/* The teacher's pass over the micro-batch of `pass`, a pass of the student that is about to be
 * queued, and pass->teaching for it. `first`: its first sequence of this rank's part of the batch,
 * where its losses are kept; `total_sequences`: of the global batch. */
seo_err seo_distill_pass(seo_distill *distill, int64_t first, int64_t total_sequences,
                         seo_pass_args *pass);
/* Once the student's pass is queued: keeps its losses. */
seo_err seo_distill_passed(seo_distill *distill);

/* Of the first `sequences` of this rank's part, once all passes are queued (this waits for the
 * device): sums of each sequence's losses, nats. hard: without its weight; cosine: with its weight
 * and divided by seq_len, so that a mean over sequences is the mean over positions. */
typedef struct seo_distill_sums {
    double hard, cosine;
} seo_distill_sums;
seo_err seo_distill_read(seo_distill *distill, int64_t sequences, seo_distill_sums *out);

#ifdef __cplusplus
}
#endif
