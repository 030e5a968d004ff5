/* The blocks of a model, one after the other, and the last norm where they are pre-norm. Shares
 * their memory, makes again what they did not keep, and enters and leaves their segments. */
#pragma once

#include "train/layers/block.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_stack_shape {
    seo_block_kind kind;
    int64_t blocks, width, inner, head_count;
    seo_gelu_kind gelu;
    float eps;
    bool causal;
} seo_stack_shape;

typedef struct seo_stack {
    seo_stack_shape shape;
    const seo_block_ops *ops;
    seo_block *blocks;
    seo_norm norm_final; /* pre-norm */
    seo_tensor branch;   /* (R, C) a branch's output on its way to the next norm */
    seo_tensor x_final;  /* (R, C) pre-norm: what norm_final normalises; else the output */
    seo_block_scratch scratch;
    seo_keep keep;
    int64_t tail_segment; /* the segment behind the blocks; -1: there is none */
} seo_stack;

/* Takes memory for its list of blocks. */
seo_err seo_stack_open(const seo_stack_shape *shape, seo_stack *stack);
void seo_stack_close(seo_stack *stack);
/* Rows of the blocks, and "norm_final". */
seo_err seo_stack_params(seo_params *params, double std, double proj_std, seo_stack *stack);
/* Looks up the segment behind the blocks: when all rows are there. */
void seo_stack_find_tail(const seo_params *params, seo_stack *stack);
/* Activations of the blocks and of the output; then, with a backward, the gradients, dropout: under
 * masks. */
seo_err seo_stack_plan(const seo_plan *plan, seo_keep keep, seo_stack *stack);
seo_err seo_stack_plan_cache(const seo_plan *plan, seo_stack *stack);
seo_err seo_stack_plan_scratch(const seo_plan *plan, bool dropout, seo_stack *stack);
/* The slab has its addresses. */
void seo_stack_bound(seo_stack *stack);

/* (R, C): where the first block finds its x, and what comes out. */
const seo_tensor *seo_stack_input(const seo_stack *stack);
const seo_tensor *seo_stack_output(const seo_stack *stack);
/* (R, C): where the gradient of the output is left for the backward, and where it leaves that of
 * the input; and one that is free behind it. */
const seo_tensor *seo_stack_doutput(const seo_stack *stack);
const seo_tensor *seo_stack_dinput(const seo_stack *stack);
const seo_tensor *seo_stack_spare(const seo_stack *stack);

/* From input to output; cached as in block.h. The segment behind the blocks is entered, and not
 * left. */
seo_err seo_stack_forward(const seo_pass *pass, const seo_stack *stack, int64_t cached);
/* From the output's gradient to the input's, parameter gradients +=. The segment behind the blocks
 * is left. */
seo_err seo_stack_backward(const seo_pass *pass, const seo_stack *stack);

#ifdef __cplusplus
}
#endif
