/* Token and learned position embedding; with token types and a norm of its own where the family has
 * them. */
#pragma once

#include "train/layers/norm.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_embed {
    int64_t wte, wpe, wtt; /* rows */
    int64_t width;
    int64_t first_position; /* the row of wpe that a sequence begins with */
    int64_t type_count;     /* token types; 0: none */
    bool normed;
    seo_norm norm;  /* when normed; its out is where the embedding goes */
    seo_tensor sum; /* (R, width) when normed: what is normalised */
} seo_embed;

typedef struct seo_embed_inputs {
    seo_tensor ids;    /* (R) i32 */
    seo_tensor types;  /* (R) i32, with token types */
    seo_tensor groups; /* seo_groups_build of ids, for a backward where the device needs it */
} seo_embed_inputs;

/* Rows "wte" (vocab_size, width; padded), "wpe" (positions, width), "wtt" (type_count, width) and
 * "norm_embed". */
seo_err seo_embed_params(seo_params *params, int64_t vocab_size, int64_t positions, double std,
                         seo_embed *embed);
/* What the norm needs; nothing without one. */
seo_err seo_embed_plan(const seo_plan *plan, seo_embed *embed);
/* Where the embedding goes, once the slab has its addresses. */
void seo_embed_bound(seo_embed *embed, const seo_tensor *out);
/* out (B, T, width) =, after dropout; `cached` positions came before those of the pass. */
seo_err seo_embed_forward(const seo_pass *pass, const seo_embed *embed,
                          const seo_embed_inputs *inputs, int64_t cached, const seo_tensor *out);
/* Gradients of the tables +=. dout is overwritten (the dropout mask is applied to it), and so is
 * scratch (R, width). */
seo_err seo_embed_backward(const seo_pass *pass, const seo_embed *embed,
                           const seo_embed_inputs *inputs, const seo_tensor *dout,
                           const seo_tensor *scratch);

#ifdef __cplusplus
}
#endif
