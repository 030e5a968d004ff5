/* A head for one label a sequence: next sentence, or class. Reads one position of each:
 *   logits = drop(tanh(dense(drop(x)))) out^T + bias, or drop(x) out^T + bias without `dense` */
#pragma once

#include "train/layers/layer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_label {
    seo_linear dense, out;
    int64_t width, classes;
    bool has_dense;
    bool drops_input, drops;            /* where dropout is applied, at the pass' rate */
    seo_tensor picked, pooled, dropped; /* (B, width) activations; dropped: pooled under a mask */
    seo_tensor logits;                  /* (B, classes) */
    seo_tensor dpicked, dpooled;        /* (B, width), of a backward */
} seo_label;

/* Rows "<dense>" (NULL: none) and "<out>". */
seo_err seo_label_params(seo_params *params, const char *dense, const char *out, double std,
                         seo_label *label);
seo_err seo_label_plan(const seo_plan *plan, bool backward, seo_label *label);

/* rows (B) i32: the row of hidden (R, width) that each sequence's label is read off. */
seo_err seo_label_forward(const seo_pass *pass, const seo_label *label, const seo_tensor *hidden,
                          const seo_tensor *rows);

typedef struct seo_label_targets {
    seo_tensor rows;   /* (B) i32, of the forward */
    seo_tensor labels; /* (B) i32 */
    seo_tensor losses; /* =  (B) f32 */
    int32_t ignore_index;
    float grad_scale;
    bool accumulate; /* dhidden += */
} seo_label_targets;
/* After forward: losses. With dhidden: dhidden (R, width) = or +=, parameter gradients +=; the
 * logits are overwritten. */
seo_err seo_label_loss(const seo_pass *pass, const seo_label *label,
                       const seo_label_targets *targets, const seo_tensor *dhidden);

#ifdef __cplusplus
}
#endif
