#include "train/layers/stack.h"

#include <stdlib.h>

static const seo_scope k_outside = {.block = SEO_PARAM_NO_BLOCK};

static bool is_pre(const seo_stack *stack) {
    return stack->shape.kind == SEO_BLOCK_PRE_NORM;
}

static void shape_block(const seo_stack_shape *shape, int64_t l, seo_block *block) {
    const int64_t c = shape->width;
    const uint32_t site = SEO_SITE_BRANCH + 2 * (uint32_t)l;
    *block = (seo_block){
        .norm1 = {.width = c, .eps = shape->eps},
        .norm2 = {.width = c, .eps = shape->eps},
        .attn = {.width = c,
                 .head_count = shape->head_count,
                 .causal = shape->causal,
                 .site = site,
                 .site_probabilities = SEO_SITE_PROBABILITIES + (uint32_t)l},
        .mlp = {.width = c, .inner = shape->inner, .gelu = shape->gelu, .site = site + 1}};
}

seo_err seo_stack_open(const seo_stack_shape *shape, seo_stack *stack) {
    *stack = (seo_stack){.shape = *shape, .tail_segment = -1};
    stack->ops = is_pre(stack) ? &seo_block_pre_norm : &seo_block_post_norm;
    if (shape->blocks > SEO_SITE_BLOCKS_MAX) {
        return SEO_FAIL(SEO_ERR_USAGE, "model.num_layers: %lld is more than %d",
                        (long long)shape->blocks, SEO_SITE_BLOCKS_MAX);
    }
    stack->blocks = calloc((size_t)shape->blocks, sizeof *stack->blocks);
    if (!stack->blocks) {
        return SEO_FAIL(SEO_ERR_MEMORY, "a model of %lld layers", (long long)shape->blocks);
    }
    for (int64_t l = 0; l < shape->blocks; l++) shape_block(shape, l, &stack->blocks[l]);
    stack->norm_final = (seo_norm){.width = shape->width, .eps = shape->eps};
    return SEO_OK;
}

void seo_stack_close(seo_stack *stack) {
    free(stack->blocks);
    *stack = (seo_stack){0};
}

seo_err seo_stack_params(seo_params *params, double std, double proj_std, seo_stack *stack) {
    for (int64_t l = 0; l < stack->shape.blocks; l++) {
        const seo_err err =
            seo_block_params(params, (seo_scope){.block = l}, std, proj_std, &stack->blocks[l]);
        if (err != SEO_OK) return err;
    }
    return is_pre(stack) ? seo_norm_params(params, k_outside, "norm_final", &stack->norm_final)
                         : SEO_OK;
}

void seo_stack_find_tail(const seo_params *params, seo_stack *stack) {
    const int64_t last = seo_params_segment(params, params->count - 1);
    stack->tail_segment = last > stack->blocks[stack->shape.blocks - 1].segment ? last : -1;
}

/* The first block's memory is what the others share. */
seo_err seo_stack_plan(const seo_plan *plan, seo_keep keep, seo_stack *stack) {
    seo_err err = SEO_OK;
    const seo_stack_shape *shape = &stack->shape;
    stack->keep = keep;
    for (int64_t l = 0; l < shape->blocks; l++) {
        SEO_TRY(seo_block_plan(plan, shape->kind, l == 0 ? SEO_KEEP_ALL : keep, &stack->blocks[l]));
    }
    SEO_TRY(seo_plan_rows(plan, "branch", shape->width, &stack->branch));
    SEO_TRY(seo_plan_rows(plan, "x_final", shape->width, &stack->x_final));
    if (!is_pre(stack)) return SEO_OK;
    SEO_TRY(seo_norm_plan_out(plan, &stack->norm_final));
    SEO_TRY(seo_norm_plan_statistics(plan, &stack->norm_final));
done:
    return err;
}

seo_err seo_stack_plan_cache(const seo_plan *plan, seo_stack *stack) {
    for (int64_t l = 0; l < stack->shape.blocks; l++) {
        const seo_err err = seo_attn_plan_cache(plan, &stack->blocks[l].attn);
        if (err != SEO_OK) return err;
    }
    return SEO_OK;
}

seo_err seo_stack_plan_scratch(const seo_plan *plan, bool dropout, seo_stack *stack) {
    seo_err err = SEO_OK;
    const int64_t c = stack->shape.width;
    seo_block_scratch *s = &stack->scratch;
    SEO_TRY(seo_plan_rows(plan, "dx", c, &s->dx));
    SEO_TRY(seo_plan_rows(plan, "dbranch", c, &s->dbranch));
    if (dropout) SEO_TRY(seo_plan_rows(plan, "dmasked", c, &s->dmasked));
    SEO_TRY(seo_plan_rows(plan, "dinner", stack->shape.inner, &s->dinner));
    SEO_TRY(seo_attn_plan_scratch(plan, &stack->blocks[0].attn, &s->attn));
done:
    return err;
}

/* An output goes to where the next block finds its x. Where all share one x, the block has read it
 * by then. */
void seo_stack_bound(seo_stack *stack) {
    const int64_t count = stack->shape.blocks;
    for (int64_t l = 1; l < count; l++) {
        seo_block_share(&stack->blocks[l], &stack->blocks[0], stack->keep);
    }
    if (is_pre(stack)) return;
    for (int64_t l = 0; l < count; l++) {
        stack->blocks[l].norm2.out = l + 1 < count ? stack->blocks[l + 1].x : stack->x_final;
    }
}

const seo_tensor *seo_stack_input(const seo_stack *stack) {
    return &stack->blocks[0].x;
}
const seo_tensor *seo_stack_output(const seo_stack *stack) {
    return is_pre(stack) ? &stack->norm_final.out : &stack->x_final;
}
const seo_tensor *seo_stack_doutput(const seo_stack *stack) {
    return is_pre(stack) ? &stack->scratch.dbranch : &stack->scratch.dx;
}
const seo_tensor *seo_stack_dinput(const seo_stack *stack) {
    return &stack->scratch.dx;
}
const seo_tensor *seo_stack_spare(const seo_stack *stack) {
    return &stack->scratch.dbranch;
}

seo_err seo_stack_forward(const seo_pass *pass, const seo_stack *stack, int64_t cached) {
    seo_err err = SEO_OK;
    const int64_t count = stack->shape.blocks;
    for (int64_t l = 0; l < count; l++) {
        const seo_block *before = l > 0 ? &stack->blocks[l - 1] : NULL;
        SEO_TRY(stack->ops->forward(pass, &stack->blocks[l], before, &stack->branch, cached));
    }
    if (stack->tail_segment >= 0) SEO_TRY(seo_pass_enter(pass, stack->tail_segment, false));
    if (!is_pre(stack)) return SEO_OK;
    SEO_TRY(seo_norm_forward(pass, &stack->norm_final, &stack->blocks[count - 1].mid,
                             &stack->branch, &stack->x_final));
done:
    return err;
}

/* The last block's activations are still there from the forward pass. */
static seo_err block_backward(const seo_pass *pass, const seo_stack *stack, int64_t l) {
    seo_err err = SEO_OK;
    const seo_block *block = &stack->blocks[l], *before = l > 0 ? block - 1 : NULL;
    if (l < stack->shape.blocks - 1) {
        SEO_TRY(stack->ops->again(pass, block, stack->keep, &stack->branch));
    }
    SEO_TRY(stack->ops->backward(pass, block, before, &stack->scratch));
done:
    return err;
}

seo_err seo_stack_backward(const seo_pass *pass, const seo_stack *stack) {
    seo_err err = SEO_OK;
    const int64_t count = stack->shape.blocks;
    const seo_block *last = &stack->blocks[count - 1];
    const seo_block_scratch *s = &stack->scratch;
    SEO_TRY(seo_pass_enter(pass, last->segment, true));
    if (is_pre(stack)) {
        SEO_TRY(seo_norm_backward(
            pass, &stack->norm_final,
            &(seo_norm_bwd){.x = &stack->x_final,
                            .dout = &s->dbranch,
                            .dx = &s->dx,
                            .dx_sum = seo_block_bias_sum(pass, &last->mlp.proj)}));
    }
    if (stack->tail_segment >= 0) SEO_TRY(seo_pass_leave(pass, stack->tail_segment, true));
    for (int64_t l = count - 1; l >= 0; l--) SEO_TRY(block_backward(pass, stack, l));
done:
    return err;
}
