/* Multi-head self-attention with packed projections. */
#pragma once

#include "train/layers/layer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_attn {
    seo_linear qkv, proj;
    int64_t width, head_count;
    int64_t window; /* of a causal one: positions that are seen; 0: all */
    bool causal;
    uint32_t site;                /* of the output's dropout */
    uint32_t site_probabilities;  /* of the probabilities' */
    seo_tensor qkv_out, mix, lse; /* activations: (B, T, 3C), (B, T, C), (B, H, T) */
    seo_tensor cache_k, cache_v;  /* (1, S, C) when generating */
} seo_attn;

/* Memory of a backward, shared by all blocks. */
typedef struct seo_attn_scratch {
    seo_tensor dqkv;  /* (R, 3C) */
    seo_tensor dmix;  /* (R, C) */
    seo_tensor delta; /* (B, H, T) */
} seo_attn_scratch;

/* Rows "attn.qkv.*" and "attn.proj.*"; proj_std is that of a residual projection. */
seo_err seo_attn_params(seo_params *params, seo_scope scope, double std, double proj_std,
                        seo_attn *attn);
seo_err seo_attn_plan(const seo_plan *plan, seo_attn *attn);
seo_err seo_attn_plan_cache(const seo_plan *plan, seo_attn *attn);
seo_err seo_attn_plan_scratch(const seo_plan *plan, const seo_attn *attn,
                              seo_attn_scratch *scratch);

/* out (R, C) = projection of the heads' mix of inp, after dropout. */
seo_err seo_attn_forward(const seo_pass *pass, const seo_attn *attn, const seo_tensor *inp,
                         const seo_tensor *out);
/* The same of a causal one for positions that follow `cached` earlier ones, without dropout. */
seo_err seo_attn_forward_cached(const seo_pass *pass, const seo_attn *attn, const seo_tensor *inp,
                                int64_t cached, const seo_tensor *out);
/* bwd's dinp (R, C) =, parameter gradients +=. */
seo_err seo_attn_backward(const seo_pass *pass, const seo_attn *attn,
                          const seo_attn_scratch *scratch, const seo_linear_bwd *bwd);

#ifdef __cplusplus
}
#endif
