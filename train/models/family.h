/* Private to train/models/: what a family provides, and the list of families. */
#pragma once

#include "train/layers/block.h"
#include "train/layers/embed.h"
#include "train/layers/head.h"
#include "train/models/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a pass reads and leaves, in device memory; of rank 0 what this pass has not. Without targets
 * there are no losses: such a pass is for its logits. */
typedef struct seo_family_io {
    seo_embed_inputs inputs;
    seo_tensor targets;      /* (B * T) i32: decoders */
    seo_tensor pick_rows;    /* (B * picks) i32: rows of the picked positions, -1: none. Encoders */
    seo_tensor pick_targets; /* (B * picks) i32 */
    seo_tensor label_rows;   /* (B) i32: rows that labels are read off */
    seo_tensor labels;       /* (B) i32 */
    seo_tensor losses;       /* =  (B * T) or (B * picks) f32 */
    seo_tensor label_losses; /* =  (B) f32 */
    float grad_scale, label_scale;
    const seo_teaching *teaching; /* opt */
} seo_family_io;

/* `state` is the family's own struct, made by open. */
typedef struct seo_family_ops {
    const char *name;
    seo_family family;
    seo_err (*check)(const seo_model_config *config); /* its rules: SEO_ERR_USAGE */
    seo_err (*open)(const seo_model_config *config, void **state);
    void (*close)(void *state);
    seo_err (*params)(void *state, seo_params *params);
    seo_err (*plan)(void *state, seo_model_mode mode, seo_recompute recompute,
                    const seo_plan *plan);
    void (*bound)(void *state); /* the slab has its addresses */
    seo_err (*forward)(void *state, const seo_pass *pass, const seo_family_io *io);
    seo_err (*forward_backward)(void *state, const seo_pass *pass, const seo_family_io *io);
    /* The pass's positions follow `cached` earlier ones. NULL: the family does not generate. */
    seo_err (*forward_cached)(void *state, const seo_pass *pass, const seo_tensor *ids,
                              int64_t cached);
    /* Logits of rows [first, first + count) of the last forward: *logits (rows, vocab_size or more:
     * padding) in the state's memory. May give fewer rows than asked for, at least one. */
    seo_err (*logits)(void *state, const seo_pass *pass, int64_t first, int64_t count,
                      seo_tensor *logits);
    /* What the last forward left in the state's memory: label logits (batch, classes), and the last
     * hidden states (R, hidden_size). */
    seo_tensor (*label_logits)(const void *state);
    seo_tensor (*hidden)(const void *state);
} seo_family_ops;

/* What blocks keep from the forward to the backward. */
static inline seo_keep seo_family_keep(seo_model_mode mode, seo_recompute recompute) {
    if (mode != SEO_MODEL_TRAIN) return SEO_KEEP_NOTHING;
    if (recompute == SEO_RECOMPUTE_FULL) return SEO_KEEP_INPUT;
    return recompute == SEO_RECOMPUTE_SELECTIVE ? SEO_KEEP_COSTLY : SEO_KEEP_ALL;
}

/* Targets of the head: of next tokens, or of masked ones. */
static inline seo_head_targets seo_family_targets(const seo_family_io *io, seo_tensor ids,
                                                  float grad_scale) {
    return (seo_head_targets){
        .ids = ids,
        .losses = io->losses,
        .ignore_index = SEO_TARGET_IGNORE,
        .grad_scale = grad_scale,
        .score = io->teaching && io->teaching->score.chunk ? &io->teaching->score : NULL};
}

/* The row through which a student's hidden states are compared with a wider or narrower teacher's
 * (train/distill.h), where there is one; before the segment behind the blocks is looked up. */
static inline seo_err seo_family_projection(seo_params *params, const seo_model_config *config,
                                            double std) {
    int64_t row;
    if (config->distill_width == 0) return SEO_OK;
    return seo_scope_matrix(params, (seo_scope){.block = SEO_PARAM_NO_BLOCK}, "distill.proj.weight",
                            config->distill_width, config->hidden_size, std, &row);
}

/* Losses of the hidden states, where the pass has them. */
static inline seo_err seo_family_teach_hidden(const seo_family_io *io, const seo_pass *pass,
                                              const seo_tensor *hidden, const seo_tensor *dhidden) {
    const seo_teaching *teaching = io->teaching;
    if (!teaching || !teaching->hidden) return SEO_OK;
    return teaching->hidden(teaching->context, pass, hidden, dhidden);
}

/* Rules that all families share: SEO_ERR_USAGE. */
seo_err seo_family_check(const seo_model_config *config);

/* NULL for a family that is not in the list. */
const seo_family_ops *seo_family_find(seo_family family);

extern const seo_family_ops seo_family_gpt1, seo_family_gpt2, seo_family_gpt3;
extern const seo_family_ops seo_family_bert, seo_family_roberta, seo_family_distilbert;

#ifdef __cplusplus
}
#endif
