#include "train/layers/embed.h"

enum { SITE_EMBED = 0 };

static seo_tensor ids_view(const seo_pass *pass, const seo_tensor *ids) {
    return seo_tensor_2d(ids->data, SEO_DTYPE_I32, pass->batch, pass->positions);
}

seo_err seo_embed_params(seo_params *params, int64_t vocab_size, int64_t positions, double std,
                         seo_embed *embed) {
    const seo_scope scope = {.block = SEO_PARAM_NO_BLOCK};
    const seo_err err =
        seo_scope_padded(params, scope, "wte", vocab_size, embed->width, std, &embed->wte);
    if (err != SEO_OK) return err;
    return seo_scope_matrix(params, scope, "wpe", positions, embed->width, std, &embed->wpe);
}

seo_err seo_embed_forward(const seo_pass *pass, const seo_embed *embed, const seo_tensor *ids,
                          int64_t first_position, const seo_tensor *out) {
    const seo_tensor x = seo_view_sequences(pass, out, embed->width);
    const seo_err err =
        seo_embedding_fwd(pass->dev, &(seo_embedding_fwd_args){.out = x,
                                                               .ids = ids_view(pass, ids),
                                                               .wte = pass->params[embed->wte],
                                                               .wpe = pass->params[embed->wpe],
                                                               .first_position = first_position});
    if (err != SEO_OK) return err;
    return seo_pass_dropout(pass, SITE_EMBED, x, x);
}

seo_err seo_embed_backward(const seo_pass *pass, const seo_embed *embed, const seo_tensor *ids,
                           const seo_tensor *groups, const seo_tensor *dout) {
    const seo_tensor dx = seo_view_sequences(pass, dout, embed->width);
    if (!seo_pass_trains(pass, embed->wte)) return SEO_OK;
    const seo_err err = seo_pass_dropout(pass, SITE_EMBED, dx, dx);
    if (err != SEO_OK) return err;
    return seo_embedding_bwd(pass->dev, &(seo_embedding_bwd_args){.dwte = pass->grads[embed->wte],
                                                                  .dwpe = pass->grads[embed->wpe],
                                                                  .dout = dx,
                                                                  .ids = ids_view(pass, ids),
                                                                  .groups = *groups});
}
