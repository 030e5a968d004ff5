#include "train/layers/attn.h"

#include <math.h>

seo_err seo_attn_params(seo_params *params, seo_scope scope, double std, double proj_std,
                        seo_attn *attn) {
    const int64_t c = attn->width;
    attn->qkv = (seo_linear){.in = c, .out = 3 * c};
    attn->proj = (seo_linear){.in = c, .out = c};
    const seo_err err = seo_linear_params(params, scope, "attn.qkv", std, &attn->qkv);
    if (err != SEO_OK) return err;
    return seo_linear_params(params, scope, "attn.proj", proj_std, &attn->proj);
}

/* A statistic of each query and head. */
static seo_err plan_per_head(const seo_plan *plan, const char *name, const seo_attn *attn,
                             seo_tensor *out) {
    const int64_t dims[3] = {plan->batch, attn->head_count, plan->positions};
    return seo_slab_add(plan->slab, name, SEO_DTYPE_F32, 3, dims, out);
}

seo_err seo_attn_plan(const seo_plan *plan, seo_attn *attn) {
    seo_err err = SEO_OK;
    SEO_TRY(seo_plan_rows(plan, "attn.qkv", 3 * attn->width, &attn->qkv_out));
    SEO_TRY(seo_plan_rows(plan, "attn.mix", attn->width, &attn->mix));
    SEO_TRY(plan_per_head(plan, "attn.lse", attn, &attn->lse));
done:
    return err;
}

seo_err seo_attn_plan_cache(const seo_plan *plan, seo_attn *attn) {
    seo_err err = SEO_OK;
    const int64_t dims[3] = {plan->batch, plan->positions, attn->width};
    SEO_TRY(seo_slab_add(plan->slab, "attn.cache_k", plan->storage, 3, dims, &attn->cache_k));
    SEO_TRY(seo_slab_add(plan->slab, "attn.cache_v", plan->storage, 3, dims, &attn->cache_v));
done:
    return err;
}

seo_err seo_attn_plan_scratch(const seo_plan *plan, const seo_attn *attn,
                              seo_attn_scratch *scratch) {
    seo_err err = SEO_OK;
    SEO_TRY(seo_plan_rows(plan, "attn.dqkv", 3 * attn->width, &scratch->dqkv));
    SEO_TRY(seo_plan_rows(plan, "attn.dmix", attn->width, &scratch->dmix));
    SEO_TRY(plan_per_head(plan, "attn.delta", attn, &scratch->delta));
done:
    return err;
}

/* 1 / sqrt(head size): Vaswani et al. 2017, section 3.2.1. */
static float scale_of(const seo_attn *attn) {
    return (float)(1.0 / sqrt((double)(attn->width / attn->head_count)));
}

static seo_tensor per_head(const seo_pass *pass, const seo_attn *attn, const seo_tensor *t) {
    return seo_tensor_3d(t->data, t->dtype, pass->batch, attn->head_count, pass->positions);
}

static seo_attention_mask mask_of(const seo_pass *pass, const seo_attn *attn) {
    return (seo_attention_mask){
        .spans = pass->spans, .window = attn->window, .causal = attn->causal};
}

static seo_attention_dropout dropout_of(const seo_pass *pass, const seo_attn *attn) {
    if (pass->attention_dropout <= 0) return (seo_attention_dropout){0};
    return (seo_attention_dropout){
        .place = pass->place,
        .key = {.seed = pass->seed, .purpose = SEO_PURPOSE_DROPOUT | attn->site_probabilities << 8},
        .rate = pass->attention_dropout};
}

seo_err seo_attn_forward(const seo_pass *pass, const seo_attn *attn, const seo_tensor *inp,
                         const seo_tensor *out) {
    seo_err err = SEO_OK;
    const int64_t c = attn->width;
    const seo_tensor y = seo_view_rows(pass, out, c);
    SEO_TRY(seo_linear_forward(pass, &attn->qkv, inp, &attn->qkv_out));
    SEO_TRY(seo_attention_fwd(
        pass->dev, &(seo_attention_fwd_args){.out = seo_view_sequences(pass, &attn->mix, c),
                                             .lse = per_head(pass, attn, &attn->lse),
                                             .qkv = seo_view_sequences(pass, &attn->qkv_out, 3 * c),
                                             .head_count = attn->head_count,
                                             .scale = scale_of(attn),
                                             .mask = mask_of(pass, attn),
                                             .dropout = dropout_of(pass, attn)}));
    SEO_TRY(seo_linear_forward(pass, &attn->proj, &attn->mix, out));
    SEO_TRY(seo_pass_dropout(pass, attn->site, y, y));
done:
    return err;
}

seo_err seo_attn_forward_cached(const seo_pass *pass, const seo_attn *attn, const seo_tensor *inp,
                                int64_t cached, const seo_tensor *out) {
    seo_err err = SEO_OK;
    const int64_t c = attn->width;
    SEO_TRY(seo_linear_forward(pass, &attn->qkv, inp, &attn->qkv_out));
    SEO_TRY(seo_attention_cached(
        pass->dev,
        &(seo_attention_cached_args){.out = seo_view_sequences(pass, &attn->mix, c),
                                     .cache_k = attn->cache_k,
                                     .cache_v = attn->cache_v,
                                     .qkv = seo_view_sequences(pass, &attn->qkv_out, 3 * c),
                                     .cached = cached,
                                     .head_count = attn->head_count,
                                     .window = attn->window,
                                     .scale = scale_of(attn)}));
    SEO_TRY(seo_linear_forward(pass, &attn->proj, &attn->mix, out));
done:
    return err;
}

seo_err seo_attn_backward(const seo_pass *pass, const seo_attn *attn,
                          const seo_attn_scratch *scratch, const seo_linear_bwd *bwd) {
    seo_err err = SEO_OK;
    const int64_t c = attn->width;
    SEO_TRY(seo_linear_backward(pass, &attn->proj,
                                &(seo_linear_bwd){.inp = &attn->mix,
                                                  .dout = bwd->dout,
                                                  .dinp = &scratch->dmix,
                                                  .bias_done = bwd->bias_done}));
    SEO_TRY(seo_attention_bwd(
        pass->dev,
        &(seo_attention_bwd_args){.dqkv = seo_view_sequences(pass, &scratch->dqkv, 3 * c),
                                  .delta = per_head(pass, attn, &scratch->delta),
                                  .dout = seo_view_sequences(pass, &scratch->dmix, c),
                                  .out = seo_view_sequences(pass, &attn->mix, c),
                                  .qkv = seo_view_sequences(pass, &attn->qkv_out, 3 * c),
                                  .lse = per_head(pass, attn, &attn->lse),
                                  .head_count = attn->head_count,
                                  .scale = scale_of(attn),
                                  .mask = mask_of(pass, attn),
                                  .dropout = dropout_of(pass, attn)}));
    SEO_TRY(seo_linear_backward(
        pass, &attn->qkv,
        &(seo_linear_bwd){.inp = bwd->inp, .dout = &scratch->dqkv, .dinp = bwd->dinp}));
done:
    return err;
}
