#include "train/layers/masked.h"

seo_err seo_masked_params(seo_params *params, int64_t wte, double std, seo_masked *masked) {
    seo_err err = SEO_OK;
    const seo_scope scope = {.block = SEO_PARAM_NO_BLOCK};
    masked->dense = (seo_linear){.in = masked->width, .out = masked->width};
    masked->norm.width = masked->width;
    seo_head_tie(params, wte, &masked->head);
    SEO_TRY(seo_linear_params(params, scope, "head.dense", std, &masked->dense));
    SEO_TRY(seo_norm_params(params, scope, "head.norm", &masked->norm));
    SEO_TRY(seo_scope_padded_vector(params, scope, "head.bias", masked->head.vocab_size,
                                    SEO_INIT_ZEROS, &masked->head.bias));
done:
    return err;
}

seo_err seo_masked_plan(const seo_plan *plan, bool backward, seo_masked *masked) {
    seo_err err = SEO_OK;
    const seo_plan rows = seo_plan_of_rows(plan, plan->batch * masked->picks);
    SEO_TRY(seo_plan_rows(&rows, "head.picked", masked->width, &masked->picked));
    SEO_TRY(seo_plan_rows(&rows, "head.pre", masked->width, &masked->pre));
    SEO_TRY(seo_plan_rows(&rows, "head.act", masked->width, &masked->act));
    SEO_TRY(seo_norm_plan_out(&rows, &masked->norm));
    SEO_TRY(seo_norm_plan_statistics(&rows, &masked->norm));
    SEO_TRY(seo_head_plan(&rows, rows.batch, &masked->head));
    if (!backward) return SEO_OK;
    SEO_TRY(seo_plan_rows(&rows, "head.dpicked", masked->width, &masked->dpicked));
    SEO_TRY(seo_plan_rows(&rows, "head.dact", masked->width, &masked->dact));
done:
    return err;
}

static seo_pass pass_of_picks(const seo_pass *pass, const seo_masked *masked) {
    return seo_pass_of_rows(pass, pass->batch * masked->picks);
}

seo_err seo_masked_forward(const seo_pass *pass, const seo_masked *masked, const seo_tensor *hidden,
                           const seo_tensor *rows) {
    seo_err err = SEO_OK;
    const seo_pass picks = pass_of_picks(pass, masked);
    const seo_gelu gelu = {.pre = &masked->pre, .out = &masked->act, .kind = masked->gelu};
    SEO_TRY(seo_gather_rows(
        pass->dev,
        &(seo_gather_rows_args){.out = seo_view_rows(&picks, &masked->picked, masked->width),
                                .inp = seo_view_rows(pass, hidden, masked->width),
                                .index = *rows}));
    SEO_TRY(seo_linear_forward_gelu(&picks, &masked->dense, &masked->picked, &gelu));
    SEO_TRY(seo_norm_forward(&picks, &masked->norm, &masked->act, NULL, NULL));
done:
    return err;
}

seo_err seo_masked_logits(const seo_pass *pass, const seo_masked *masked, int64_t first,
                          int64_t count) {
    const seo_pass picks = pass_of_picks(pass, masked);
    return seo_head_logits(&picks, &masked->head, &masked->norm.out, first, count);
}

/* dpicked is the gradient of the norm's output. */
static seo_err masked_backward(const seo_pass *pass, const seo_masked *masked,
                               const seo_tensor *rows, const seo_tensor *dhidden) {
    seo_err err = SEO_OK;
    const seo_pass picks = pass_of_picks(pass, masked);
    const seo_tensor dact = seo_view_rows(&picks, &masked->dact, masked->width);
    SEO_TRY(seo_norm_backward(
        &picks, &masked->norm,
        &(seo_norm_bwd){.x = &masked->act, .dout = &masked->dpicked, .dx = &masked->dact}));
    SEO_TRY(seo_gelu_bwd(
        pass->dev, &(seo_gelu_bwd_args){.dinp = dact,
                                        .dout = dact,
                                        .inp = seo_view_rows(&picks, &masked->pre, masked->width),
                                        .kind = masked->gelu}));
    SEO_TRY(seo_linear_backward(&picks, &masked->dense,
                                &(seo_linear_bwd){.inp = &masked->picked,
                                                  .dout = &masked->dact,
                                                  .dinp = &masked->dpicked}));
    SEO_TRY(seo_scatter_rows(
        pass->dev,
        &(seo_scatter_rows_args){.out = seo_view_rows(pass, dhidden, masked->width),
                                 .inp = seo_view_rows(&picks, &masked->dpicked, masked->width),
                                 .index = *rows}));
done:
    return err;
}

seo_err seo_masked_loss(const seo_pass *pass, const seo_masked *masked, const seo_tensor *rows,
                        const seo_head_targets *targets, const seo_tensor *dhidden) {
    const seo_pass picks = pass_of_picks(pass, masked);
    const seo_err err = seo_head_loss(&picks, &masked->head, &masked->norm.out, targets,
                                      dhidden ? &masked->dpicked : NULL);
    if (err != SEO_OK || !dhidden) return err;
    return masked_backward(pass, masked, rows, dhidden);
}
