/* Rounds of an evaluation: in each, every rank makes one pass and hears what came of the others',
 * so that all count the same numbers in the same order, to the last bit those of one rank. A signal
 * to one of them stops all after the same round. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_eval_round {
    seo_comm *comm; /* borrowed; NULL: this process alone */
    int32_t rank, ranks;
    int64_t message_count;      /* numbers of a message: the signal, then those of a pass */
    double *message, *messages; /* this rank's, and all by rank */
} seo_eval_round;

/* `numbers` come of a pass. Close also after an error; zero-initialised it is closed. */
seo_err seo_eval_round_open(seo_comm *comm, int64_t numbers, seo_eval_round *out);
void seo_eval_round_close(seo_eval_round *round);

/* Begins a round: where this rank's numbers go, all 0. */
double *seo_eval_round_begin(seo_eval_round *round);
/* Whether the pass is made: alone, it is not after a signal; with others it is, who wait for it. */
bool seo_eval_round_goes_on(const seo_eval_round *round);
/* All ranks have made their passes. SEO_ERR_STOPPED when one of them was asked to stop. */
seo_err seo_eval_round_end(seo_eval_round *round);
/* What came of a rank's pass, until the next round begins. */
const double *seo_eval_round_numbers(const seo_eval_round *round, int32_t rank);

/* Zeroed memory for `count` elements, one at least; *failed is set where there is none. */
void *seo_eval_room(int64_t count, size_t width, bool *failed);

#ifdef __cplusplus
}
#endif
