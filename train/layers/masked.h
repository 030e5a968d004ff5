/* The head of a masked language model (Devlin et al. 2019, appendix A; the released code): of the
 * picked positions alone
 *   logits = norm(gelu(dense(x))) wte^T + bias */
#pragma once

#include "train/layers/head.h"
#include "train/layers/norm.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_masked {
    seo_linear dense;
    seo_norm norm;
    seo_head head;
    seo_gelu_kind gelu;
    int64_t width, picks;        /* of each sequence */
    seo_tensor picked, pre, act; /* (B * picks, width) activations */
    seo_tensor dpicked, dact;    /* likewise, of a backward */
} seo_masked;

/* Rows "head.dense", "head.norm" and "head.bias", tied to the token embedding's row wte. */
seo_err seo_masked_params(seo_params *params, int64_t wte, double std, seo_masked *masked);
seo_err seo_masked_plan(const seo_plan *plan, bool backward, seo_masked *masked);

/* rows (B * picks) i32: which rows of hidden (R, width) go to the head, -1: none. */
seo_err seo_masked_forward(const seo_pass *pass, const seo_masked *masked, const seo_tensor *hidden,
                           const seo_tensor *rows);
/* Logits of picks [first, first + count) into masked->head.logits, after forward. */
seo_err seo_masked_logits(const seo_pass *pass, const seo_masked *masked, int64_t first,
                          int64_t count);
/* After forward: losses and targets (B * picks). With dhidden: dhidden (R, width) =, parameter
 * gradients +=. */
seo_err seo_masked_loss(const seo_pass *pass, const seo_masked *masked, const seo_tensor *rows,
                        const seo_head_targets *targets, const seo_tensor *dhidden);

#ifdef __cplusplus
}
#endif
