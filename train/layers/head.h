/* The language-model head: logits against the token embedding (tied), and their cross entropy.
 *
 * Logits are the largest activation of all: rows times vocabulary. They are made, scored and turned
 * into gradients a chunk of rows at a time, in one buffer of bounded size, so that memory does not
 * grow with the micro-batch and the gradient of a chunk is used while it is in the cache. */
#pragma once

#include "train/layers/layer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_head {
    int64_t wte;  /* row */
    int64_t bias; /* row, padded as wte's rows are; -1: none */
    int64_t width, vocab_size;
    int64_t padded; /* P: vocab_size with the padding that wte has in memory */
    int64_t chunk_rows;
    seo_tensor logits; /* (chunk_rows, P); what the padding holds is no logit */
} seo_head;

/* A chunk of logits, to be scored. */
typedef struct seo_head_chunk {
    int64_t first;      /* its first row of the pass' */
    seo_tensor losses;  /* =  (count) f32 */
    seo_tensor logits;  /* (count, P) S; becomes the gradient of grad_scale * sum of losses */
    seo_tensor targets; /* (count) i32 */
    int64_t vocab_size;
    int32_t ignore_index;
    float grad_scale;
    bool with_gradient;
} seo_head_chunk;

/* How chunks are scored: cross entropy against the targets, unless another way is given. Called
 * for the chunks in order, once each. */
typedef struct seo_head_score {
    seo_err (*chunk)(void *context, const seo_pass *pass, const seo_head_chunk *chunk);
    void *context;
} seo_head_score;

typedef struct seo_head_targets {
    seo_tensor ids;    /* (R) i32 */
    seo_tensor losses; /* =  (R) f32 */
    int32_t ignore_index;
    float grad_scale;
    const seo_head_score *score; /* opt */
} seo_head_targets;

/* Row wte of the table is the token embedding's; the widths follow from it. No bias. */
void seo_head_tie(const seo_params *params, int64_t wte, seo_head *head);
/* Plans the buffer, for at most `rows` rows at a time. */
seo_err seo_head_plan(const seo_plan *plan, int64_t rows, seo_head *head);
/* head->logits rows [0, count) = logits of rows [first, first + count) of inp; count <= chunk_rows.
 */
seo_err seo_head_logits(const seo_pass *pass, const seo_head *head, const seo_tensor *inp,
                        int64_t first, int64_t count);
/* losses (R) = cross entropy (or what scores) of inp (R, width) against targets (R). With dinp:
 * dinp (R, width) = and the gradients of wte and the bias += those of grad_scale * sum of losses.
 */
seo_err seo_head_loss(const seo_pass *pass, const seo_head *head, const seo_tensor *inp,
                      const seo_head_targets *targets, const seo_tensor *dinp);

#ifdef __cplusplus
}
#endif
