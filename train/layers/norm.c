#include "train/layers/norm.h"

#include <stdio.h>

seo_err seo_norm_params(seo_params *params, seo_scope scope, const char *name, seo_norm *norm) {
    char full[SEO_PARAM_NAME_MAX];
    snprintf(full, sizeof full, "%s.weight", name);
    const seo_err err =
        seo_scope_vector(params, scope, full, norm->width, SEO_INIT_ONES, &norm->weight);
    if (err != SEO_OK) return err;
    snprintf(full, sizeof full, "%s.bias", name);
    return seo_scope_vector(params, scope, full, norm->width, SEO_INIT_ZEROS, &norm->bias);
}

seo_err seo_norm_plan_out(const seo_plan *plan, seo_norm *norm) {
    return seo_plan_rows(plan, "norm.out", norm->width, &norm->out);
}

seo_err seo_norm_plan_statistics(const seo_plan *plan, seo_norm *norm) {
    seo_err err = SEO_OK;
    const int64_t rows = seo_plan_row_count(plan);
    SEO_TRY(seo_slab_add(plan->slab, "norm.mean", SEO_DTYPE_F32, 1, &rows, &norm->mean));
    SEO_TRY(seo_slab_add(plan->slab, "norm.rstd", SEO_DTYPE_F32, 1, &rows, &norm->rstd));
done:
    return err;
}

static seo_tensor per_row(const seo_pass *pass, const seo_tensor *t) {
    return seo_tensor_1d(t->data, t->dtype, seo_pass_rows(pass));
}

seo_err seo_norm_forward(const seo_pass *pass, const seo_norm *norm, const seo_tensor *inp,
                         const seo_tensor *add, const seo_tensor *sum) {
    seo_layernorm_fwd_args args = {.out = seo_view_rows(pass, &norm->out, norm->width),
                                   .mean = per_row(pass, &norm->mean),
                                   .rstd = per_row(pass, &norm->rstd),
                                   .inp = seo_view_rows(pass, inp, norm->width),
                                   .weight = pass->params[norm->weight],
                                   .bias = pass->params[norm->bias],
                                   .eps = norm->eps};
    if (add) args.add = seo_view_rows(pass, add, norm->width);
    if (sum) args.sum = seo_view_rows(pass, sum, norm->width);
    return seo_layernorm_fwd(pass->dev, &args);
}

seo_err seo_norm_backward(const seo_pass *pass, const seo_norm *norm, const seo_norm_bwd *bwd) {
    seo_layernorm_bwd_args args = {.dinp = seo_view_rows(pass, bwd->dx, norm->width),
                                   .dweight = pass->grads[norm->weight],
                                   .dbias = pass->grads[norm->bias],
                                   .dout = seo_view_rows(pass, bwd->dout, norm->width),
                                   .inp = seo_view_rows(pass, bwd->x, norm->width),
                                   .weight = pass->params[norm->weight],
                                   .mean = per_row(pass, &norm->mean),
                                   .rstd = per_row(pass, &norm->rstd),
                                   .accumulate = bwd->accumulate};
    if (!seo_pass_trains(pass, norm->weight)) {
        args.dweight = seo_tensor_1d(pass->adapters.unread.data, SEO_DTYPE_F32, norm->width);
        args.dbias = (seo_tensor){0};
    }
    if (bwd->dx_sum) args.dinp_sum = *bwd->dx_sum;
    return seo_layernorm_bwd(pass->dev, &args);
}
