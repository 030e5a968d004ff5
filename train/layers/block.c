#include "train/layers/block.h"

seo_err seo_block_params(seo_params *params, seo_scope scope, double std, double proj_std,
                         seo_block *block) {
    seo_err err = SEO_OK;
    SEO_TRY(seo_norm_params(params, scope, "norm1", &block->norm1));
    SEO_TRY(seo_attn_params(params, scope, std, proj_std, &block->attn));
    SEO_TRY(seo_norm_params(params, scope, "norm2", &block->norm2));
    SEO_TRY(seo_mlp_params(params, scope, std, proj_std, &block->mlp));
    block->segment = seo_params_segment(params, block->norm1.weight);
done:
    return err;
}

seo_err seo_block_plan(const seo_plan *plan, seo_block_kind kind, seo_keep keep, seo_block *block) {
    seo_err err = SEO_OK;
    const int64_t width = block->attn.width;
    const bool post = kind == SEO_BLOCK_POST_NORM;
    if (keep >= SEO_KEEP_INPUT) SEO_TRY(seo_plan_rows(plan, "x", width, &block->x));
    if (keep >= SEO_KEEP_COSTLY) {
        SEO_TRY(seo_norm_plan_statistics(plan, &block->norm1));
        SEO_TRY(seo_attn_plan(plan, &block->attn));
        SEO_TRY(seo_plan_rows(plan, "mid", width, &block->mid));
        SEO_TRY(seo_norm_plan_statistics(plan, &block->norm2));
        SEO_TRY(seo_mlp_plan_fc(plan, &block->mlp));
        if (post) SEO_TRY(seo_plan_rows(plan, "sum", width, &block->sum));
    }
    if (keep >= SEO_KEEP_ALL) {
        SEO_TRY(seo_norm_plan_out(plan, &block->norm1));
        if (!post) SEO_TRY(seo_norm_plan_out(plan, &block->norm2));
        SEO_TRY(seo_mlp_plan_gelu(plan, &block->mlp));
    }
done:
    return err;
}

static void share_statistics(seo_norm *norm, const seo_norm *from) {
    norm->mean = from->mean;
    norm->rstd = from->rstd;
}

void seo_block_share(seo_block *block, const seo_block *first, seo_keep keep) {
    if (keep < SEO_KEEP_ALL) {
        block->norm1.out = first->norm1.out;
        block->norm2.out = first->norm2.out;
        block->mlp.gelu_out = first->mlp.gelu_out;
    }
    if (keep < SEO_KEEP_COSTLY) {
        share_statistics(&block->norm1, &first->norm1);
        share_statistics(&block->norm2, &first->norm2);
        block->attn.qkv_out = first->attn.qkv_out;
        block->attn.mix = first->attn.mix;
        block->attn.lse = first->attn.lse;
        block->mid = first->mid;
        block->sum = first->sum;
        block->mlp.fc_out = first->mlp.fc_out;
    }
    if (keep < SEO_KEEP_INPUT) block->x = first->x;
}

seo_err seo_block_mask(const seo_pass *pass, uint32_t site, int64_t width, const seo_tensor *dsum,
                       const seo_block_scratch *scratch, const seo_tensor **dout) {
    *dout = dsum;
    if (pass->dropout <= 0) return SEO_OK;
    *dout = &scratch->dmasked;
    return seo_pass_dropout(pass, site, seo_view_rows(pass, &scratch->dmasked, width),
                            seo_view_rows(pass, dsum, width));
}
