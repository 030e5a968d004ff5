/* Pre-norm blocks (Radford et al. 2019). */
#include "train/layers/block.h"

static seo_err pre_forward(const seo_pass *pass, const seo_block *b, const seo_block *before,
                           const seo_tensor *branch, int64_t cached) {
    seo_err err = SEO_OK;
    SEO_TRY(seo_pass_enter(pass, b->segment, false));
    if (before) {
        SEO_TRY(seo_norm_forward(pass, &b->norm1, &before->mid, branch, &b->x));
    } else {
        SEO_TRY(seo_norm_forward(pass, &b->norm1, &b->x, NULL, NULL));
    }
    if (cached < 0) {
        SEO_TRY(seo_attn_forward(pass, &b->attn, &b->norm1.out, branch));
    } else {
        SEO_TRY(seo_attn_forward_cached(pass, &b->attn, &b->norm1.out, cached, branch));
    }
    SEO_TRY(seo_norm_forward(pass, &b->norm2, &b->x, branch, &b->mid));
    SEO_TRY(seo_mlp_forward(pass, &b->mlp, &b->norm2.out, branch));
    SEO_TRY(seo_pass_leave(pass, b->segment, false));
done:
    return err;
}

static seo_err pre_again(const seo_pass *pass, const seo_block *b, seo_keep keep,
                         const seo_tensor *branch) {
    seo_err err = SEO_OK;
    if (keep == SEO_KEEP_ALL) return SEO_OK;
    SEO_TRY(seo_norm_forward(pass, &b->norm1, &b->x, NULL, NULL));
    if (keep == SEO_KEEP_COSTLY) {
        SEO_TRY(seo_norm_forward(pass, &b->norm2, &b->mid, NULL, NULL));
        SEO_TRY(seo_mlp_gelu_again(pass, &b->mlp));
    } else {
        SEO_TRY(seo_attn_forward(pass, &b->attn, &b->norm1.out, branch));
        SEO_TRY(seo_norm_forward(pass, &b->norm2, &b->x, branch, &b->mid));
        SEO_TRY(seo_mlp_again(pass, &b->mlp, &b->norm2.out));
    }
done:
    return err;
}

static seo_err pre_backward(const seo_pass *pass, const seo_block *b, const seo_block *before,
                            const seo_block_scratch *s) {
    seo_err err = SEO_OK;
    const int64_t width = b->attn.width;
    seo_linear_bwd branch = {.dinp = &s->dbranch, .bias_done = pass->dropout <= 0};
    seo_norm_bwd norm = {.dout = &s->dbranch, .dx = &s->dx, .accumulate = true};
    SEO_TRY(seo_block_mask(pass, b->mlp.site, width, &s->dx, s, &branch.dout));
    branch.inp = &b->norm2.out;
    SEO_TRY(seo_mlp_backward(pass, &b->mlp, &s->dinner, &branch));
    norm.x = &b->mid;
    norm.dx_sum = seo_block_bias_sum(pass, &b->attn.proj);
    SEO_TRY(seo_norm_backward(pass, &b->norm2, &norm));
    SEO_TRY(seo_block_mask(pass, b->attn.site, width, &s->dx, s, &branch.dout));
    branch.inp = &b->norm1.out;
    SEO_TRY(seo_attn_backward(pass, &b->attn, &s->attn, &branch));
    if (before) SEO_TRY(seo_pass_enter(pass, before->segment, true));
    norm.x = &b->x;
    norm.dx_sum = before ? seo_block_bias_sum(pass, &before->mlp.proj) : NULL;
    SEO_TRY(seo_norm_backward(pass, &b->norm1, &norm));
    SEO_TRY(seo_pass_leave(pass, b->segment, true));
done:
    return err;
}

const seo_block_ops seo_block_pre_norm = {
    .forward = pre_forward, .again = pre_again, .backward = pre_backward};
