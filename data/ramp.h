/* How many sequences each step's batch has, when the batch grows at the beginning of a run (Brown
 * et al. 2020, appendix B: in a line from 32 thousand tokens to the full batch). A pure function of
 * the step: nothing is counted along the way, so any step can be resumed at.
 *
 * After x tokens the batch has start + unit * floor(x / R * levels) sequences, levels = (full -
 * start) / unit, and is full from x = R on: a step's batch is decided by the tokens before it. The
 * sums are whole numbers; every batch is a multiple of the unit, which ranks and micro-batches
 * divide. */
#pragma once

#include <stdint.h>

#include "base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_ramp_args {
    int64_t full_sequences;  /* of the batch in the end, > 0 */
    int64_t start_sequences; /* of the first batch, 1..full_sequences */
    int64_t unit_sequences;  /* both are multiples of it */
    int64_t ramp_tokens;     /* R; 0: the batch is full from the first step on */
    int64_t seq_len;
} seo_ramp_args;

typedef struct seo_ramp seo_ramp;
/* SEO_ERR_USAGE for sizes that the unit does not divide, or more levels than 2^20. */
seo_err seo_ramp_open(const seo_ramp_args *args, seo_ramp **out);
void seo_ramp_close(seo_ramp *ramp); /* NULL is fine */

seo_ramp_args seo_ramp_args_of(const seo_ramp *ramp); /* as they were given */

/* The batch of a step: samples [first, first + sequences) of the run. Batches follow each other
 * without gaps from sample 0 on. */
typedef struct seo_ramp_batch {
    int64_t first, sequences;
} seo_ramp_batch;
/* step >= 0, and so small that the sum fits (seo_ramp_last_step). O(log levels). Thread safe. */
seo_ramp_batch seo_ramp_at(const seo_ramp *ramp, int64_t step);
/* The largest step that seo_ramp_at takes: about 2^62 samples. */
int64_t seo_ramp_last_step(const seo_ramp *ramp);
/* Steps that it takes until at least `tokens` >= 0 tokens were seen; of more than
 * seo_ramp_last_step that number. Step seo_ramp_steps(t) is the first before which they were. */
int64_t seo_ramp_steps(const seo_ramp *ramp, int64_t tokens);
/* Tokens seen before `step`. */
int64_t seo_ramp_tokens(const seo_ramp *ramp, int64_t step);

#ifdef __cplusplus
}
#endif
