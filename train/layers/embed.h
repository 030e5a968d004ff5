/* Token and learned position embedding. */
#pragma once

#include "train/layers/layer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_embed {
    int64_t wte, wpe; /* rows */
    int64_t width;
} seo_embed;

/* Rows "wte" (vocab_size, width; padded) and "wpe" (positions, width). */
seo_err seo_embed_params(seo_params *params, int64_t vocab_size, int64_t positions, double std,
                         seo_embed *embed);
/* out (B, T, width) =; the first position of every sequence is `first_position`. */
seo_err seo_embed_forward(const seo_pass *pass, const seo_embed *embed, const seo_tensor *ids,
                          int64_t first_position, const seo_tensor *out);
/* Gradients of both tables +=. dout is overwritten (the dropout mask is applied to it). groups:
 * seo_groups_build of the pass's ids, where the device needs it. */
seo_err seo_embed_backward(const seo_pass *pass, const seo_embed *embed, const seo_tensor *ids,
                           const seo_tensor *groups, const seo_tensor *dout);

#ifdef __cplusplus
}
#endif
