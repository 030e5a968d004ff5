#include "train/layers/label.h"

seo_err seo_label_params(seo_params *params, const char *dense, const char *out, double std,
                         seo_label *label) {
    seo_err err = SEO_OK;
    const seo_scope scope = {.block = SEO_PARAM_NO_BLOCK};
    label->has_dense = dense != NULL;
    label->dense = (seo_linear){.in = label->width, .out = label->width};
    label->out = (seo_linear){.in = label->width, .out = label->classes};
    if (dense) SEO_TRY(seo_linear_params(params, scope, dense, std, &label->dense));
    SEO_TRY(seo_linear_params(params, scope, out, std, &label->out));
done:
    return err;
}

seo_err seo_label_plan(const seo_plan *plan, bool backward, seo_label *label) {
    seo_err err = SEO_OK;
    const seo_plan rows = seo_plan_of_rows(plan, plan->batch);
    const int64_t c = label->width;
    SEO_TRY(seo_plan_rows(&rows, "label.picked", c, &label->picked));
    if (label->has_dense) SEO_TRY(seo_plan_rows(&rows, "label.pooled", c, &label->pooled));
    if (label->has_dense && label->drops) {
        SEO_TRY(seo_plan_rows(&rows, "label.dropped", c, &label->dropped));
    }
    SEO_TRY(seo_plan_rows(&rows, "label.logits", label->classes, &label->logits));
    if (!backward) return SEO_OK;
    SEO_TRY(seo_plan_rows(&rows, "label.dpicked", c, &label->dpicked));
    if (label->has_dense) SEO_TRY(seo_plan_rows(&rows, "label.dpooled", c, &label->dpooled));
done:
    return err;
}

/* What the last product reads. */
static const seo_tensor *last_input(const seo_label *label) {
    if (!label->has_dense) return &label->picked;
    return label->drops ? &label->dropped : &label->pooled;
}

/* Under a mask, from one to the other. */
static seo_err drop(const seo_pass *sequences, uint32_t site, const seo_tensor *from,
                    const seo_tensor *to, int64_t width) {
    return seo_pass_dropout(sequences, site, seo_view_rows(sequences, to, width),
                            seo_view_rows(sequences, from, width));
}

static seo_err pool(const seo_pass *sequences, const seo_label *label) {
    seo_err err = SEO_OK;
    const seo_tensor pooled = seo_view_rows(sequences, &label->pooled, label->width);
    if (label->drops_input) {
        SEO_TRY(
            drop(sequences, SEO_SITE_LABEL_INPUT, &label->picked, &label->picked, label->width));
    }
    SEO_TRY(seo_linear_forward(sequences, &label->dense, &label->picked, &label->pooled));
    SEO_TRY(seo_tanh_fwd(sequences->dev, &(seo_tanh_fwd_args){.out = pooled, .inp = pooled}));
done:
    return err;
}

seo_err seo_label_forward(const seo_pass *pass, const seo_label *label, const seo_tensor *hidden,
                          const seo_tensor *rows) {
    seo_err err = SEO_OK;
    const seo_pass sequences = seo_pass_of_sequences(pass);
    SEO_TRY(seo_gather_rows(
        pass->dev,
        &(seo_gather_rows_args){.out = seo_view_rows(&sequences, &label->picked, label->width),
                                .inp = seo_view_rows(pass, hidden, label->width),
                                .index = *rows}));
    if (label->has_dense) SEO_TRY(pool(&sequences, label));
    if (label->drops) {
        const seo_tensor *from = label->has_dense ? &label->pooled : &label->picked;
        SEO_TRY(drop(&sequences, SEO_SITE_LABEL, from, last_input(label), label->width));
    }
    SEO_TRY(seo_linear_forward(&sequences, &label->out, last_input(label), &label->logits));
done:
    return err;
}

/* From dpooled to dpicked. */
static seo_err pool_backward(const seo_pass *sequences, const seo_label *label) {
    seo_err err = SEO_OK;
    const seo_tensor dpooled = seo_view_rows(sequences, &label->dpooled, label->width);
    SEO_TRY(seo_tanh_bwd(
        sequences->dev,
        &(seo_tanh_bwd_args){.dinp = dpooled,
                             .dout = dpooled,
                             .out = seo_view_rows(sequences, &label->pooled, label->width)}));
    SEO_TRY(seo_linear_backward(sequences, &label->dense,
                                &(seo_linear_bwd){.inp = &label->picked,
                                                  .dout = &label->dpooled,
                                                  .dinp = &label->dpicked}));
    if (label->drops_input) {
        SEO_TRY(
            drop(sequences, SEO_SITE_LABEL_INPUT, &label->dpicked, &label->dpicked, label->width));
    }
done:
    return err;
}

static seo_err label_backward(const seo_pass *pass, const seo_label *label,
                              const seo_label_targets *targets, const seo_tensor *dhidden) {
    seo_err err = SEO_OK;
    const seo_pass sequences = seo_pass_of_sequences(pass);
    const seo_tensor *dlast = label->has_dense ? &label->dpooled : &label->dpicked;
    SEO_TRY(seo_linear_backward(
        &sequences, &label->out,
        &(seo_linear_bwd){.inp = last_input(label), .dout = &label->logits, .dinp = dlast}));
    if (label->drops) SEO_TRY(drop(&sequences, SEO_SITE_LABEL, dlast, dlast, label->width));
    if (label->has_dense) SEO_TRY(pool_backward(&sequences, label));
    SEO_TRY(seo_scatter_rows(
        pass->dev,
        &(seo_scatter_rows_args){.out = seo_view_rows(pass, dhidden, label->width),
                                 .inp = seo_view_rows(&sequences, &label->dpicked, label->width),
                                 .index = targets->rows,
                                 .accumulate = targets->accumulate}));
done:
    return err;
}

seo_err seo_label_loss(const seo_pass *pass, const seo_label *label,
                       const seo_label_targets *targets, const seo_tensor *dhidden) {
    const seo_pass sequences = seo_pass_of_sequences(pass);
    const seo_err err = seo_cross_entropy(
        pass->dev, &(seo_cross_entropy_args){
                       .loss = targets->losses,
                       .logits = seo_view_rows(&sequences, &label->logits, label->classes),
                       .targets = targets->labels,
                       .vocab_size = label->classes,
                       .ignore_index = targets->ignore_index,
                       .grad_scale = targets->grad_scale,
                       .with_gradient = dhidden != NULL});
    if (err != SEO_OK || !dhidden) return err;
    return label_backward(pass, label, targets, dhidden);
}
