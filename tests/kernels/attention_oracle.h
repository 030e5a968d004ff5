/* Attention by its formula, in double, for one head; with bounds of what f32, or bf16 operands with
 * f32 sums, may lose. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* q (queries, width), k and v (keys, width), contiguous. Query i sees keys [0, i + ahead] when
 * causal. */
typedef struct oracle_head {
    const double *q, *k, *v;
    int64_t queries, keys, width, ahead;
    double scale;
    bool causal;
    seo_dtype storage; /* that bounds are for */
} oracle_head;

/* out (queries, width), lse (queries), p (queries, keys). */
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

/* dv = p^T dout; ds = scale * p * (dout v^T - delta); dq = ds k; dk = ds^T q. `grad` and `bound`
 * are overwritten. */
void oracle_differentiate(const oracle_head *h, const oracle_fwd *fwd, const double *dout,
                          const oracle_bwd *grad, const oracle_bwd *bound);

#ifdef __cplusplus
}
#endif
