/* Post-norm blocks (Vaswani et al. 2017). */
#include "train/layers/block.h"

static seo_err post_forward(const seo_pass *pass, const seo_block *b, const seo_block *before,
                            const seo_tensor *branch, int64_t cached) {
    seo_err err = SEO_OK;
    (void)before;
    SEO_TRY(seo_pass_enter(pass, b->segment, false));
    if (cached < 0) {
        SEO_TRY(seo_attn_forward(pass, &b->attn, &b->x, branch));
    } else {
        SEO_TRY(seo_attn_forward_cached(pass, &b->attn, &b->x, cached, branch));
    }
    SEO_TRY(seo_norm_forward(pass, &b->norm1, &b->x, branch, &b->mid));
    SEO_TRY(seo_mlp_forward(pass, &b->mlp, &b->norm1.out, branch));
    SEO_TRY(seo_norm_forward(pass, &b->norm2, &b->norm1.out, branch, &b->sum));
    SEO_TRY(seo_pass_leave(pass, b->segment, false));
done:
    return err;
}

/* The output, which the next block keeps as its x, is left as it is where sum is there; else it is
 * written once more, with the same bits. */
static seo_err post_again(const seo_pass *pass, const seo_block *b, seo_keep keep,
                          const seo_tensor *branch) {
    seo_err err = SEO_OK;
    if (keep == SEO_KEEP_ALL) return SEO_OK;
    if (keep == SEO_KEEP_COSTLY) {
        SEO_TRY(seo_norm_forward(pass, &b->norm1, &b->mid, NULL, NULL));
        SEO_TRY(seo_mlp_gelu_again(pass, &b->mlp));
    } else {
        SEO_TRY(seo_attn_forward(pass, &b->attn, &b->x, branch));
        SEO_TRY(seo_norm_forward(pass, &b->norm1, &b->x, branch, &b->mid));
        SEO_TRY(seo_mlp_forward(pass, &b->mlp, &b->norm1.out, branch));
        SEO_TRY(seo_norm_forward(pass, &b->norm2, &b->norm1.out, branch, &b->sum));
    }
done:
    return err;
}

/* dx += dbranch: what goes around a branch and what goes through it. */
static seo_err join(const seo_pass *pass, int64_t width, const seo_block_scratch *s) {
    const seo_tensor dx = seo_view_rows(pass, &s->dx, width);
    return seo_add(
        pass->dev,
        &(seo_add_args){.out = dx, .a = dx, .b = seo_view_rows(pass, &s->dbranch, width)});
}

static seo_err post_backward(const seo_pass *pass, const seo_block *b, const seo_block *before,
                             const seo_block_scratch *s) {
    seo_err err = SEO_OK;
    const int64_t width = b->attn.width;
    seo_linear_bwd branch = {.dinp = &s->dx, .bias_done = pass->dropout <= 0};
    seo_norm_bwd norm = {.dout = &s->dx, .dx = &s->dbranch};
    norm.x = &b->sum;
    norm.dx_sum = seo_block_bias_sum(pass, &b->mlp.proj);
    SEO_TRY(seo_norm_backward(pass, &b->norm2, &norm));
    SEO_TRY(seo_block_mask(pass, b->mlp.site, width, &s->dbranch, s, &branch.dout));
    branch.inp = &b->norm1.out;
    SEO_TRY(seo_mlp_backward(pass, &b->mlp, &s->dinner, &branch));
    SEO_TRY(join(pass, width, s));
    norm.x = &b->mid;
    norm.dx_sum = seo_block_bias_sum(pass, &b->attn.proj);
    SEO_TRY(seo_norm_backward(pass, &b->norm1, &norm));
    SEO_TRY(seo_block_mask(pass, b->attn.site, width, &s->dbranch, s, &branch.dout));
    branch.inp = &b->x;
    SEO_TRY(seo_attn_backward(pass, &b->attn, &s->attn, &branch));
    SEO_TRY(join(pass, width, s));
    SEO_TRY(seo_pass_leave(pass, b->segment, true));
    if (before) SEO_TRY(seo_pass_enter(pass, before->segment, true));
done:
    return err;
}

const seo_block_ops seo_block_post_norm = {
    .forward = post_forward, .again = post_again, .backward = post_backward};
