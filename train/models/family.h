/* Private to train/models/: what a family provides, and the list of families. */
#pragma once

#include "train/layers/layer.h"
#include "train/models/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a pass reads and leaves, in device memory. */
typedef struct seo_family_io {
    seo_tensor ids, targets; /* (B, T) i32 */
    seo_tensor groups;       /* seo_groups_build of ids, with a backward; rank 0 where the device
                              * does without */
    seo_tensor losses;       /* =  (B * T) f32 */
    float grad_scale;
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
    /* The pass's positions follow `cached` earlier ones. */
    seo_err (*forward_cached)(void *state, const seo_pass *pass, const seo_tensor *ids,
                              int64_t cached);
    /* Logits of rows [first, first + count) of the last forward: *logits (rows, vocab_size or more:
     * padding) in the state's memory. May give fewer rows than asked for, at least one. */
    seo_err (*logits)(void *state, const seo_pass *pass, int64_t first, int64_t count,
                      seo_tensor *logits);
} seo_family_ops;

/* NULL for a family that is not in the list. */
const seo_family_ops *seo_family_find(seo_family family);

extern const seo_family_ops seo_family_gpt2;
extern const seo_family_ops seo_family_gpt3;

#ifdef __cplusplus
}
#endif
