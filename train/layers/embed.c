#include "train/layers/embed.h"

static seo_tensor ids_view(const seo_pass *pass, const seo_tensor *ids) {
    return seo_tensor_2d(ids->data, SEO_DTYPE_I32, pass->batch, pass->positions);
}

seo_err seo_embed_params(seo_params *params, int64_t vocab_size, int64_t positions, double std,
                         seo_embed *embed) {
    seo_err err = SEO_OK;
    const seo_scope scope = {.block = SEO_PARAM_NO_BLOCK};
    const int64_t width = embed->width;
    SEO_TRY(seo_scope_padded(params, scope, "wte", vocab_size, width, std, &embed->wte));
    SEO_TRY(seo_scope_matrix(params, scope, "wpe", positions, width, std, &embed->wpe));
    if (embed->type_count > 0) {
        SEO_TRY(seo_scope_matrix(params, scope, "wtt", embed->type_count, width, std, &embed->wtt));
    }
    if (embed->normed) SEO_TRY(seo_norm_params(params, scope, "norm_embed", &embed->norm));
done:
    return err;
}

seo_err seo_embed_plan(const seo_plan *plan, seo_embed *embed) {
    if (!embed->normed) return SEO_OK;
    const seo_err err = seo_plan_rows(plan, "embed.sum", embed->width, &embed->sum);
    return err != SEO_OK ? err : seo_norm_plan_statistics(plan, &embed->norm);
}

void seo_embed_bound(seo_embed *embed, const seo_tensor *out) {
    embed->norm.out = *out;
}

seo_err seo_embed_forward(const seo_pass *pass, const seo_embed *embed,
                          const seo_embed_inputs *inputs, int64_t cached, const seo_tensor *out) {
    seo_err err = SEO_OK;
    const int64_t width = embed->width;
    const seo_tensor x = seo_view_sequences(pass, out, width);
    seo_embedding_fwd_args args = {
        .out = embed->normed ? seo_view_sequences(pass, &embed->sum, width) : x,
        .ids = ids_view(pass, &inputs->ids),
        .wte = pass->params[embed->wte],
        .wpe = pass->params[embed->wpe],
        .first_position = embed->first_position + cached};
    if (embed->type_count > 0) {
        args.types = ids_view(pass, &inputs->types);
        args.wtt = pass->params[embed->wtt];
    }
    SEO_TRY(seo_embedding_fwd(pass->dev, &args));
    if (embed->normed) SEO_TRY(seo_norm_forward(pass, &embed->norm, &embed->sum, NULL, NULL));
    SEO_TRY(seo_pass_dropout(pass, SEO_SITE_EMBED, x, x));
done:
    return err;
}

seo_err seo_embed_backward(const seo_pass *pass, const seo_embed *embed,
                           const seo_embed_inputs *inputs, const seo_tensor *dout,
                           const seo_tensor *scratch) {
    seo_err err = SEO_OK;
    const int64_t width = embed->width;
    const seo_tensor dx = seo_view_sequences(pass, dout, width);
    seo_embedding_bwd_args args = {.dwte = pass->grads[embed->wte],
                                   .dwpe = pass->grads[embed->wpe],
                                   .dout = dx,
                                   .ids = ids_view(pass, &inputs->ids),
                                   .groups = inputs->groups,
                                   .first_position = embed->first_position};
    if (!seo_pass_trains(pass, embed->wte)) return SEO_OK;
    SEO_TRY(seo_pass_dropout(pass, SEO_SITE_EMBED, dx, dx));
    if (embed->normed) {
        const seo_norm_bwd norm = {.x = &embed->sum, .dout = dout, .dx = scratch};
        SEO_TRY(seo_norm_backward(pass, &embed->norm, &norm));
        args.dout = seo_view_sequences(pass, scratch, width);
    }
    if (embed->type_count > 0) {
        args.types = ids_view(pass, &inputs->types);
        args.dwtt = pass->grads[embed->wtt];
    }
    SEO_TRY(seo_embedding_bwd(pass->dev, &args));
done:
    return err;
}
