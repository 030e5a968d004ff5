/* Attention by its formula, in double, for one head; with bounds of what f32, or bf16 operands with
 * f32 sums, may lose. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/tensor.h"
#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a case's queries see, and what dropout leaves of it. */
typedef struct oracle_mask {
    bool causal;
    int64_t window; /* 0: none */
    /* Lengths of the parts, 0 behind the last; they are repeated until the sequence is full, which
     * cuts the last one off. Sequence b begins with the b-th. None: one part. */
    int64_t lengths[8];
    float rate; /* of dropout */
} oracle_mask;

/* The span of position t of sequence b, of `positions`. */
void oracle_span(const oracle_mask *mask, int64_t b, int64_t t, int64_t positions, int32_t span[2]);
/* Those of all positions of all sequences, (b, t, 2); to be freed. NULL where there are no parts.
 */
int32_t *oracle_spans(const oracle_mask *mask, int64_t sequences, int64_t positions);

/* Where the pass of a case stands: `place` for the operator, and the first row that it tells. */
enum { ORACLE_STEP = 77 };
seo_rng_key oracle_key(void); /* its step is another one: place's counts */
int64_t oracle_first_row(int64_t positions);
void oracle_place(int64_t positions, int32_t place[SEO_PLACE_COUNT]);
/* What dropout multiplies p[i, j] of head `pair` (of all B * heads) with: 0 or 1 / (1 - rate). */
double oracle_factor(const oracle_mask *mask, int64_t heads, int64_t positions, int64_t pair,
                     int64_t i, int64_t j);

/* q (queries, width), k and v (keys, width), contiguous. Query i sees keys up to i + ahead when
 * causal. `pair` and `heads` number the probabilities. */
typedef struct oracle_head {
    const double *q, *k, *v;
    int64_t queries, keys, width, ahead;
    double scale;
    const oracle_mask *mask;
    int64_t pair, heads;
    seo_dtype storage; /* that bounds are for */
} oracle_head;

/* out (queries, width), lse (queries), p (queries, keys) before dropout. */
typedef struct oracle_fwd {
    double *out, *lse, *p;
} oracle_fwd;
void oracle_attend(const oracle_head *h, const oracle_fwd *fwd);

/* How far the sums of an operator may be from it, for out (before it is stored) and lse. */
void oracle_fwd_bound(const oracle_head *h, const oracle_fwd *fwd, double *out, double *lse);

/* Gradients, or the bounds of their rounding; delta (queries). */
typedef struct oracle_bwd {
    double *dq, *dk, *dv, *delta;
} oracle_bwd;

/* With f what dropout multiplies p with:
 * dv = (f p)^T dout; ds = scale * p * (f dout v^T - delta); dq = ds k; dk = ds^T q. `grad` and
 * `bound` are overwritten. */
void oracle_differentiate(const oracle_head *h, const oracle_fwd *fwd, const double *dout,
                          const oracle_bwd *grad, const oracle_bwd *bound);

#ifdef __cplusplus
}
#endif
