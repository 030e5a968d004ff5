/* The learning rate and the batch as pure functions of the step. */
#pragma once

#include <stdint.h>

#include "data/ramp.h"
#include "train/config.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The rate of step `step`, 1 .. steps, for a run of `steps`:
 *   warm-up (step <= warmup_steps):  lr * step / warmup_steps          never 0
 *   after it, with f = final_lr_fraction, x = (step - warmup) / (decay_steps - warmup) in [0, 1]:
 *     constant  lr
 *     linear    lr * (1 - (1 - f) x)
 *     cosine    lr * (f + (1 - f) (1 + cos pi x) / 2)
 *     wsd       lr until the last decay_steps steps, then linear down to lr * f at the last one
 * Linear and cosine reach lr * f at step decay_steps and stay there. */
double seo_schedule_lr(const seo_schedule_config *schedule, double lr, int64_t steps, int64_t step);

/* How the batch grows to train.batch_tokens, in sequences: in units that divide the first batch and
 * the full one, and that ranks have to divide. It does not ask for the number of ranks, so that the
 * samples of a step are the same for any. */
seo_ramp_args seo_schedule_ramp(const seo_config *config);

/* Tokens of the whole run, train.steps of such batches. */
int64_t seo_schedule_tokens(const seo_config *config);

#ifdef __cplusplus
}
#endif
