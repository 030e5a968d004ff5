/* A transformer block: attention and a feed-forward part, each with a residual add and a norm. Two
 * kinds, of the same parameters:
 *
 *   pre-norm   mid = x + attn(norm1(x))    x' = mid + mlp(norm2(mid))      the add is done by the
 *              norm that follows it: of x' by the next block's norm1
 *   post-norm  n = norm1(x + attn(x))      x' = norm2(n + mlp(n))
 *
 * A block does not own its neighbours; stack.h puts blocks in a row and shares their memory. */
#pragma once

#include "train/layers/attn.h"
#include "train/layers/mlp.h"
#include "train/layers/norm.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum seo_block_kind { SEO_BLOCK_PRE_NORM, SEO_BLOCK_POST_NORM } seo_block_kind;

/* What a block keeps of its activations from forward to backward; the rest is in memory that all
 * blocks use in turn, and made again where it is missed. Of each position, in numbers of the
 * storage type for a feed-forward part of 4 C, and two f32 for each norm but with INPUT:
 *                pre-norm                                    post-norm
 *   ALL     16 C  x, norm1, qkv (3 C), mix, mid, norm2,       16 C  x, qkv (3 C), mix, mid, norm1,
 *                 fc (4 C), gelu (4 C)                              fc (4 C), gelu (4 C), sum
 *   COSTLY  10 C  without norm1, norm2 and gelu, which        11 C  without norm1 and gelu
 *                 cost no product to make
 *   INPUT      C  x alone                                        C  x alone
 *   NOTHING    0  where there is no backward                     0 */
typedef enum seo_keep { SEO_KEEP_NOTHING, SEO_KEEP_INPUT, SEO_KEEP_COSTLY, SEO_KEEP_ALL } seo_keep;

typedef struct seo_block {
    seo_norm norm1, norm2; /* norm2.out of a post-norm block is the next one's x */
    seo_attn attn;
    seo_mlp mlp;
    seo_tensor x;    /* (R, C) what the block begins with */
    seo_tensor mid;  /* (R, C) x and attention's output */
    seo_tensor sum;  /* (R, C) post-norm: norm1's and the feed-forward part's output */
    int64_t segment; /* of the parameter table */
} seo_block;

/* Gradients of activations, shared by all blocks. */
typedef struct seo_block_scratch {
    seo_tensor dx;      /* of the residual stream */
    seo_tensor dbranch; /* pre-norm: of a norm's output; post-norm: of a norm's input */
    seo_tensor dmasked; /* of a branch's output: under a dropout mask */
    seo_tensor dinner;
    seo_attn_scratch attn;
} seo_block_scratch;

/* Rows "norm1", "attn", "norm2", "mlp"; std of initial values as in attn.h. */
seo_err seo_block_params(seo_params *params, seo_scope scope, double std, double proj_std,
                         seo_block *block);
seo_err seo_block_plan(const seo_plan *plan, seo_block_kind kind, seo_keep keep, seo_block *block);
/* What the block did not keep lies where the first one's lies. */
void seo_block_share(seo_block *block, const seo_block *first, seo_keep keep);

/* The kinds. branch: scratch (R, C) that an output goes through to the next norm. */
typedef struct seo_block_ops {
    /* From x: in pre-norm blocks of what `before` left in its mid and in branch, which becomes x
     * (NULL: x is there). cached < 0: whole sequences; else positions that follow `cached` earlier
     * ones. Enters and leaves the segment, as the backward does. */
    seo_err (*forward)(const seo_pass *pass, const seo_block *block, const seo_block *before,
                       const seo_tensor *branch, int64_t cached);
    /* Makes what the block did not keep: the same operators on the same numbers give the same bits.
     */
    seo_err (*again)(const seo_pass *pass, const seo_block *block, seo_keep keep,
                     const seo_tensor *branch);
    /* scratch->dx: the gradient of the block's output becomes that of its x. The segment has been
     * entered, and is left; `before`, the block whose output x is (NULL for the first), is entered:
     * in pre-norm blocks before this one is left, since the gradient of its last bias begins here.
     */
    seo_err (*backward)(const seo_pass *pass, const seo_block *block, const seo_block *before,
                        const seo_block_scratch *scratch);
} seo_block_ops;

extern const seo_block_ops seo_block_pre_norm, seo_block_post_norm;

/* The gradient of a branch's output, `dsum` being that of the sum it went into: dsum under the
 * branch's dropout mask. */
seo_err seo_block_mask(const seo_pass *pass, uint32_t site, int64_t width, const seo_tensor *dsum,
                       const seo_block_scratch *scratch, const seo_tensor **dout);

/* The gradient of a branch's last bias is the sum over rows of the gradient of the branch's output.
 * Without a mask that is what the norm of the sum leaves, and adds up in passing: the place for it,
 * or NULL where the branch has to add up its masked gradient itself, or nobody reads it. */
static inline const seo_tensor *seo_block_bias_sum(const seo_pass *pass, const seo_linear *last) {
    const bool summed = pass->dropout <= 0 && seo_pass_trains(pass, last->bias);
    return summed ? &pass->grads[last->bias] : NULL;
}

#ifdef __cplusplus
}
#endif
