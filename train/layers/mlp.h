/* The feed-forward part of a block: linear, GELU, linear. */
#pragma once

#include "train/layers/layer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_mlp {
    seo_linear fc, proj;
    int64_t width, inner;
    seo_gelu_kind gelu;
    uint32_t site;               /* of the output's dropout */
    seo_tensor fc_out, gelu_out; /* activations, (R, inner) */
} seo_mlp;

/* Rows "mlp.fc.*" and "mlp.proj.*"; proj_std is that of a residual projection. */
seo_err seo_mlp_params(seo_params *params, seo_scope scope, double std, double proj_std,
                       seo_mlp *mlp);
/* The activations before and after the GELU. */
seo_err seo_mlp_plan_fc(const seo_plan *plan, seo_mlp *mlp);
seo_err seo_mlp_plan_gelu(const seo_plan *plan, seo_mlp *mlp);
/* out (R, width) =, after dropout. */
seo_err seo_mlp_forward(const seo_pass *pass, const seo_mlp *mlp, const seo_tensor *inp,
                        const seo_tensor *out);
/* Makes what a backward needs again: both activations from inp, or the second from the first. */
seo_err seo_mlp_again(const seo_pass *pass, const seo_mlp *mlp, const seo_tensor *inp);
seo_err seo_mlp_gelu_again(const seo_pass *pass, const seo_mlp *mlp);
/* bwd's dinp (R, width) =, parameter gradients +=; dinner is scratch of (R, inner). */
seo_err seo_mlp_backward(const seo_pass *pass, const seo_mlp *mlp, const seo_tensor *dinner,
                         const seo_linear_bwd *bwd);

#ifdef __cplusplus
}
#endif
