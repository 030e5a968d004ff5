#include "train/layers/mlp.h"

seo_err seo_mlp_params(seo_params *params, seo_scope scope, double std, double proj_std,
                       seo_mlp *mlp) {
    mlp->fc = (seo_linear){.in = mlp->width, .out = mlp->inner};
    mlp->proj = (seo_linear){.in = mlp->inner, .out = mlp->width};
    const seo_err err = seo_linear_params(params, scope, "mlp.fc", std, &mlp->fc);
    if (err != SEO_OK) return err;
    return seo_linear_params(params, scope, "mlp.proj", proj_std, &mlp->proj);
}

seo_err seo_mlp_plan_fc(const seo_plan *plan, seo_mlp *mlp) {
    return seo_plan_rows(plan, "mlp.fc", mlp->inner, &mlp->fc_out);
}

seo_err seo_mlp_plan_gelu(const seo_plan *plan, seo_mlp *mlp) {
    return seo_plan_rows(plan, "mlp.gelu", mlp->inner, &mlp->gelu_out);
}

static seo_gelu gelu_of(const seo_mlp *mlp) {
    return (seo_gelu){.pre = &mlp->fc_out, .out = &mlp->gelu_out, .kind = mlp->gelu};
}

seo_err seo_mlp_again(const seo_pass *pass, const seo_mlp *mlp, const seo_tensor *inp) {
    const seo_gelu gelu = gelu_of(mlp);
    return seo_linear_forward_gelu(pass, &mlp->fc, inp, &gelu);
}

seo_err seo_mlp_gelu_again(const seo_pass *pass, const seo_mlp *mlp) {
    return seo_gelu_fwd(pass->dev,
                        &(seo_gelu_fwd_args){.out = seo_view_rows(pass, &mlp->gelu_out, mlp->inner),
                                             .inp = seo_view_rows(pass, &mlp->fc_out, mlp->inner),
                                             .kind = mlp->gelu});
}

seo_err seo_mlp_forward(const seo_pass *pass, const seo_mlp *mlp, const seo_tensor *inp,
                        const seo_tensor *out) {
    seo_err err = SEO_OK;
    const seo_tensor y = seo_view_rows(pass, out, mlp->width);
    SEO_TRY(seo_mlp_again(pass, mlp, inp));
    SEO_TRY(seo_linear_forward(pass, &mlp->proj, &mlp->gelu_out, out));
    SEO_TRY(seo_pass_dropout(pass, mlp->site, y, y));
done:
    return err;
}

seo_err seo_mlp_backward(const seo_pass *pass, const seo_mlp *mlp, const seo_tensor *dinner,
                         const seo_linear_bwd *bwd) {
    seo_err err = SEO_OK;
    const seo_gelu gelu = gelu_of(mlp);
    SEO_TRY(seo_linear_backward(pass, &mlp->proj,
                                &(seo_linear_bwd){.inp = &mlp->gelu_out,
                                                  .dout = bwd->dout,
                                                  .dinp = dinner,
                                                  .gelu = &gelu,
                                                  .bias_done = bwd->bias_done}));
    SEO_TRY(seo_linear_backward(
        pass, &mlp->fc, &(seo_linear_bwd){.inp = bwd->inp, .dout = dinner, .dinp = bwd->dinp}));
done:
    return err;
}
