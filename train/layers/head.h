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
    int64_t wte; /* row */
    int64_t width, vocab_size;
    int64_t padded; /* P: vocab_size with the padding that wte has in memory */
    int64_t chunk_rows;
    seo_tensor logits; /* (chunk_rows, P); what the padding holds is no logit */
} seo_head;

typedef struct seo_head_targets {
    seo_tensor ids;    /* (R) i32 */
    seo_tensor losses; /* =  (R) f32 */
    int32_t ignore_index;
    float grad_scale;
} seo_head_targets;

/* Row wte of the table is the token embedding's; the widths follow from it. */
void seo_head_tie(const seo_params *params, int64_t wte, seo_head *head);
/* Plans the buffer, for at most `rows` rows at a time. */
seo_err seo_head_plan(const seo_plan *plan, int64_t rows, seo_head *head);
/* head->logits rows [0, count) = logits of rows [first, first + count) of inp; count <= chunk_rows.
 */
seo_err seo_head_logits(const seo_pass *pass, const seo_head *head, const seo_tensor *inp,
                        int64_t first, int64_t count);
/* losses (R) = cross entropy of inp (R, width) against targets (R). With dinp: dinp (R, width) =
 * and wte's gradient += those of grad_scale * sum of losses. */
seo_err seo_head_loss(const seo_pass *pass, const seo_head *head, const seo_tensor *inp,
                      const seo_head_targets *targets, const seo_tensor *dinp);

#ifdef __cplusplus
}
#endif
