/* metrics.jsonl: one JSON object a step, in order, flushed every step.
 *
 *   {"step": 1, "loss": 10.9, "loss_mean": 10.9, "grad_norm": 2.1, "lr": 6e-06, "tokens": 524288,
 *    "token_loss": ..., "label_loss": ...,   where the loss is the sum of two: see train/step.h
 *    "hard_loss": ..., "soft_loss": ..., "cosine_loss": ...,   of a student (train/distill.h)
 *    "skipped": true,      where the update was left out
 *    "spike": true,        where the loss was found to be one (train.spike_sigma)
 *    "eval_loss": ..., "eval_perplexity": ..., "eval_bits_per_byte": ...,   where it was evaluated
 *    (of an encoder no bits per byte, and "eval_next_sentence_accuracy" where it has that head)
 *    "eval_loss": ..., "eval_accuracy": ..., "eval_f1_macro": ..., "eval_f1": ...,
 *    "eval_matthews": ...,   in their place, of classes (train/classify.h; f1 with two)
 *    "time": {"tokens_per_s": ..., "ms": ..., "data_wait_ms": ..., "memory_bytes": ...,
 *             "eta_s": ..., "ranks": {...}}}
 *
 * "ranks" is there when they are several: their "count"; the "min_ms", "mean_ms" and "max_ms" that
 * they took for the step without waiting for each other, and which was the "slowest"; of the rank
 * that writes, "comm_ms" in collectives, "waited_ms" for them and "sent_bytes".
 *
 * Apart from "time", which comes last, the same run gives the same bytes. A number that is not
 * finite is null. On a resume the file is cut to the steps that the checkpoint has.
 *
 * A line that cannot be written (full disk) is kept and tried again with the next one; the file is
 * cut back to whole lines meanwhile, and training goes on. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "train/classify.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_metrics seo_metrics;

typedef struct seo_metrics_eval {
    double loss, perplexity;
    double bits_per_byte; /* NaN: of an encoder, which has none */
    bool labelled;        /* pairs of sentences: */
    double label_accuracy;
    bool of_task; /* without bits_per_byte; with classes the scores in place of perplexity */
    int64_t classes;
    seo_scores scores;
} seo_metrics_eval;

/* What a student's loss is made of; see seo_step_result. */
typedef struct seo_metrics_taught {
    double hard, soft, cosine;
} seo_metrics_taught;

/* How the ranks did, where they are several. */
typedef struct seo_metrics_ranks {
    int32_t count, slowest;
    double min_s, mean_s, max_s; /* of a step, without waiting for each other */
    double comm_s, waited_s;     /* of this rank */
    int64_t sent_bytes;
} seo_metrics_ranks;

typedef struct seo_metrics_record {
    int64_t step; /* 1 is the first */
    double loss, loss_mean, grad_norm, lr;
    int64_t tokens;                   /* since the run's beginning */
    const seo_metrics_taught *taught; /* NULL without a teacher */
    bool skipped, spike;
    bool two_losses; /* tokens' and labels' */
    double token_loss, label_loss;
    const seo_metrics_eval *eval; /* NULL where there was none */
    double tokens_per_s, ms, data_wait_ms, eta_s;
    int64_t memory_bytes;
    const seo_metrics_ranks *ranks; /* NULL with one rank */
} seo_metrics_record;

/* Opens `path` to append after step `step`: what lies beyond it, and a torn last line, is cut off.
 * Lines that are missing before it are a warning. */
seo_err seo_metrics_open(const char *path, int64_t step, seo_metrics **out);
/* Whether the last line is of step `step` and has an evaluation. */
bool seo_metrics_has_eval(const seo_metrics *metrics, int64_t step);
/* Adds an evaluation to the last line, when it is of step `step` and has none: a run was stopped
 * between the step and its evaluation. */
seo_err seo_metrics_add_eval(seo_metrics *metrics, int64_t step, const seo_metrics_eval *eval);

/* Failures to write are warnings, and the lines are kept. */
void seo_metrics_write(seo_metrics *metrics, const seo_metrics_record *record);
/* Everything written is on the disk; an error when lines are still kept back. */
seo_err seo_metrics_sync(seo_metrics *metrics);
void seo_metrics_close(seo_metrics *metrics); /* NULL is fine */

#ifdef __cplusplus
}
#endif
