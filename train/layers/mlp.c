#include "train/layers/mlp.h"

seo_err seo_mlp_params(seo_params *params, seo_scope scope, double std, double proj_std,
                       seo_mlp *mlp) {
    mlp->fc = (seo_linear){.in = mlp->width, .out = mlp->inner};
    mlp->proj = (seo_linear){.in = mlp->inner, .out = mlp->width};
    const seo_err err = seo_linear_params(params, scope, "mlp.fc", std, &mlp->fc);
    if (err != SEO_OK) return err;
    return seo_linear_params(params, scope, "mlp.proj", proj_std, &mlp->proj);
}

seo_err seo_mlp_plan(seo_slab *slab, int64_t rows, seo_mlp *mlp) {
    const seo_err err = seo_plan_rows(slab, "mlp.fc", rows, mlp->inner, &mlp->fc_out);
    if (err != SEO_OK) return err;
    return seo_plan_rows(slab, "mlp.gelu", rows, mlp->inner, &mlp->gelu_out);
}

seo_err seo_mlp_forward(const seo_pass *pass, const seo_mlp *mlp, const seo_tensor *inp,
                        const seo_tensor *out) {
    seo_err err = SEO_OK;
    const seo_tensor y = seo_view_rows(pass, out, mlp->width);
    SEO_TRY(seo_linear_forward(pass, &mlp->fc, inp, &mlp->fc_out));
    SEO_TRY(seo_gelu_fwd(
        pass->dev, &(seo_gelu_fwd_args){.out = seo_view_rows(pass, &mlp->gelu_out, mlp->inner),
                                        .inp = seo_view_rows(pass, &mlp->fc_out, mlp->inner),
                                        .kind = mlp->gelu}));
    SEO_TRY(seo_linear_forward(pass, &mlp->proj, &mlp->gelu_out, out));
    SEO_TRY(seo_pass_dropout(pass, mlp->site, y, y));
done:
    return err;
}

seo_err seo_mlp_backward(const seo_pass *pass, const seo_mlp *mlp, const seo_tensor *dinner,
                         const seo_tensor *inp, const seo_tensor *dout, const seo_tensor *dinp) {
    seo_err err = SEO_OK;
    const seo_tensor dh = seo_view_rows(pass, dinner, mlp->inner);
    SEO_TRY(seo_linear_backward(pass, &mlp->proj, &mlp->gelu_out, dout, dinner));
    SEO_TRY(seo_gelu_bwd(pass->dev,
                         &(seo_gelu_bwd_args){.dinp = dh,
                                              .dout = dh,
                                              .inp = seo_view_rows(pass, &mlp->fc_out, mlp->inner),
                                              .kind = mlp->gelu}));
    SEO_TRY(seo_linear_backward(pass, &mlp->fc, inp, dinner, dinp));
done:
    return err;
}
