/* A model: configuration in, losses, logits and gradients out. Families stand behind one table
 * (registry.c); each is its configuration rules, its parameter table and its call list over the
 * layers.
 *
 * A model holds its parameters and the activations of one micro-batch, planned at open and taken
 * once; passes allocate nothing. Training keeps every block's activations, gradients and scratch;
 * the other modes reuse one block's. Gradients accumulate until they are zeroed.
 *
 * Activations and what passes read of the parameters are of one storage type, f32 or bf16. In bf16
 * training keeps an f32 master of each parameter besides (or, when asked, none: the optimizer then
 * rounds stochastically); gradients are f32 always.
 *
 * With several ranks parts of this lie on other ranks, as train/shard.h says for the zero level of
 * the wish. The model keeps to memory: it never talks to other ranks. Who does is called by the
 * hooks of a pass.
 *
 * Work is queued on the device; what a function leaves on the device is there after seo_device_sync
 * or a copy_out. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/tensor.h"
#include "train/config.h"
#include "train/layers/head.h"
#include "train/layers/layer.h"
#include "train/memory.h"
#include "train/param_set.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_model seo_model;

typedef enum seo_model_mode {
    SEO_MODEL_TRAIN,   /* forward, backward */
    SEO_MODEL_EVAL,    /* forward and loss */
    SEO_MODEL_GENERATE /* forward of one sequence over a key-value cache */
} seo_model_mode;

/* Targets that do not count. */
enum { SEO_TARGET_IGNORE = -1 };

typedef struct seo_model_args {
    seo_device *dev; /* borrowed, must outlive the model */
    const seo_model_config *config;
    seo_model_mode mode;
    int64_t batch;           /* most sequences in one pass; 1 for SEO_MODEL_GENERATE */
    uint64_t seed;           /* of the dropout masks */
    seo_dtype storage;       /* bf16: only on a device that has it */
    bool no_master;          /* training in bf16: the parameters are bf16 as well */
    bool uninitialised;      /* parameters will be read from a checkpoint: leave them 0 */
    seo_shard_wish shard;    /* of a model that trains; all 0: one rank */
    seo_recompute recompute; /* the same bits, whatever it is */
} seo_model_args;

/* Checks the family's rules (SEO_ERR_USAGE), plans, takes memory, sets initial values from the
 * seed. SEO_ERR_MEMORY tells what wants how much, what is free, and which setting would make it
 * fit, with room for the moments that an optimizer takes. */
seo_err seo_model_open(const seo_model_args *args, seo_model **out);
void seo_model_close(seo_model *model); /* NULL is fine */
/* Adds what seo_model_open would take of the device, without one: args->dev is not looked at. */
seo_err seo_model_measure(const seo_model_args *args, const seo_device_facts *facts,
                          seo_memory_table *out);
/* The table and how it would lie, padded as this kind of device wants it; without one. Free both.
 */
seo_err seo_model_layout(const seo_model_args *args, const seo_device_facts *facts,
                         seo_params *params, seo_shards *shards);
/* Adds what an open model has taken: the same rows. */
void seo_model_memory(const seo_model *model, seo_memory_table *out);

/* The parameter table of a configuration; takes no device. Free with seo_params_free. */
seo_err seo_model_params(const seo_model_config *config, seo_params *out);
/* Its number of parameters, for any size. */
seo_err seo_model_count(const seo_model_config *config, int64_t *out);

const seo_params *seo_model_table(const seo_model *model);
const seo_model_config *seo_model_config_of(const seo_model *model);
seo_device *seo_model_device(const seo_model *model);
seo_dtype seo_model_storage(const seo_model *model);
uint64_t seo_model_seed(const seo_model *model);

/* Where everything lies. */
const seo_shards *seo_model_shards(const seo_model *model);
/* What is trained and saved, as one vector in its layout, whole or shard: f32, or the storage type
 * where there is no master. Who changes it calls seo_model_refresh. */
seo_tensor seo_model_trained(const seo_model *model);
seo_layout seo_model_trained_layout(const seo_model *model);
/* Puts what was trained to where passes read it, when that is another place: all of it where it is
 * whole; of a shard, this rank's chunk of every segment that stays on the rank (the other chunks
 * have to be gathered). Of one segment, into its window where it has one: what a hook does before
 * it gathers. */
seo_err seo_model_refresh(seo_model *model);
seo_err seo_model_refresh_segment(seo_model *model, int64_t segment);
/* A segment as passes read it, (count) in the storage type; in windows two blocks on end share it.
 * Layout: whole or windows. */
seo_tensor seo_model_read_segment(const seo_model *model, int64_t segment);
seo_layout seo_model_read_layout(const seo_model *model);
/* What passes add a segment's gradients to, (count) f32. Layout: whole or windows. SEO_MODEL_TRAIN
 * only, like all that is about gradients. */
seo_tensor seo_model_grad_segment(const seo_model *model, int64_t segment);
seo_layout seo_model_grad_layout(const seo_model *model);
/* With windows: this rank's gradients, summed over ranks and micro-batches by the hooks, as one
 * vector in the shard layout, f32. Rank 0 else. */
seo_tensor seo_model_grad_shard(const seo_model *model);

/* The same as sets: what is trained (its tensors are NULL in a shard), what passes read when that
 * is another set (else NULL), gradients (NULL but in SEO_MODEL_TRAIN). */
seo_param_set *seo_model_weights(seo_model *model);
/* What is not trained, beside adapters; NULL: everything is. */
seo_param_set *seo_model_frozen(seo_model *model);
const seo_param_set *seo_model_working(const seo_model *model);
seo_param_set *seo_model_grads(seo_model *model);
int64_t seo_model_activation_bytes(const seo_model *model);
/* Room for the losses of one pass, for callers that need no more: (batch * rows) and (batch) f32 of
 * the loss shape. */
seo_tensor seo_model_losses(const seo_model *model);
seo_tensor seo_model_label_losses(const seo_model *model);

/* What a pass of a configuration has losses of. */
typedef struct seo_loss_shape {
    int64_t rows; /* of each sequence: seq_len for a decoder's next tokens, picks for an encoder's
                   * masked ones, 0 where only a label counts */
    bool label;   /* and one of each sequence's label (next sentence, or class) */
} seo_loss_shape;
seo_loss_shape seo_model_loss_shape(const seo_model_config *config);

/* What a pass learns from besides its targets, between its forward and its backward: distillation.
 * Such a pass is not recorded. */
typedef struct seo_teaching {
    seo_head_score score; /* of chunks of logits; chunk NULL: cross entropy */
    /* opt: further losses, of the last hidden states (R, hidden_size): dhidden += their gradient;
     * NULL in a forward alone. */
    seo_err (*hidden)(void *context, const seo_pass *pass, const seo_tensor *hidden,
                      const seo_tensor *dhidden);
    void *context; /* of hidden */
} seo_teaching;

/* One pass over a micro-batch, with all its losses. Inputs are host memory; the call copies them.
 * Ids and targets lie row by row with a stride, so that both can point into one batch array. */
typedef struct seo_pass_args {
    const int32_t *ids;     /* sequence b, position t: ids[b * stride + t] */
    const int32_t *targets; /* decoders, likewise; SEO_TARGET_IGNORE: does not count. NULL, in a
                             * forward alone: no losses, as with pick_targets and labels */
    int64_t stride;         /* >= positions */
    const int32_t *groups;  /* opt: seo_groups_build of the ids in their order; for a backward on a
                             * GPU, where it is built if it is not given */
    const int32_t *types;   /* (batch, positions) opt: token types; all 0 without it */
    const int32_t *spans;   /* (batch, positions, 2) opt: parts of the sequences, see ops.h */
    const int32_t *picks;   /* (batch, picks) positions in the sequence, -1: none. Encoders: which
                             * outputs go to the head. With a label of decoders: (batch, 1), the
                             * position that the class is read off */
    const int32_t *pick_targets; /* (batch, picks); SEO_TARGET_IGNORE: does not count */
    const int32_t *labels;   /* (batch), where the loss has a label; SEO_TARGET_IGNORE likewise */
    int64_t batch;           /* 1 .. the model's */
    int64_t positions;       /* 1 .. seq_len */
    seo_tensor losses;       /* =  (batch * rows of the loss shape; of a decoder batch * positions)
                              * f32, device memory: nats, 0 where ignored */
    seo_tensor label_losses; /* =  (batch) f32, where the loss has a label */
    float grad_scale;  /* with gradients: usually 1 / (targets that count in the global batch). A
                        * decoder that classifies multiplies it by its lm_weight */
    float label_scale; /* likewise of the label's loss: usually 1 / (sequences of the global batch)
                        */
    const seo_teaching *teaching; /* opt */
    bool dropout;           /* masks of (seed, step, global element) at the configuration's rates */
    int64_t step;           /* of the masks */
    int64_t first_sequence; /* of the masks: the global batch's number of this pass's first one */
    const seo_pass_hooks *hooks; /* opt, but with windows; such a pass is not recorded */
} seo_pass_args;

/* Losses alone. */
seo_err seo_model_forward(seo_model *model, const seo_pass_args *pass);
/* Losses, and += the gradients of grad_scale * sum of losses. SEO_MODEL_TRAIN only. */
seo_err seo_model_forward_backward(seo_model *model, const seo_pass_args *pass);
/* Sets to 0 what stays on the rank of the gradients: all, or with windows the shard and the windows
 * outside the blocks. (A block's window is zeroed by the hook that enters its backward.) */
seo_err seo_model_zero_grads(seo_model *model);

/* Copies the logits of rows [first, first + count) of the last seo_model_forward (row = b *
 * positions + t; of an encoder b * picks + n) to the host: out[count][vocab_size]. */
seo_err seo_model_logits(seo_model *model, int64_t first, int64_t count, float *out);

/* Logits of the labels of the last seo_model_forward, to the host: out[batch][2 or classes]. */
seo_err seo_model_label_logits(seo_model *model, float *out);

/* What the last seo_model_forward left, in the model's memory until its next pass. Rows as of
 * seo_model_logits: logits (rows, vocab_size or more: padding) of [first, first + count), maybe
 * fewer, at least one, until the next call; the last hidden states (batch * positions,
 * hidden_size). */
seo_err seo_model_logits_at(seo_model *model, int64_t first, int64_t count, seo_tensor *out);
seo_tensor seo_model_hidden(const seo_model *model);

/* SEO_MODEL_GENERATE: runs `count` ids that follow the `cached` ones seen before through the
 * cache (cached + count <= seq_len); the logits of the last `rows` of them go to the host:
 * out[rows][vocab_size]. A smaller `cached` than before forgets what lay beyond. */
typedef struct seo_cached_args {
    const int32_t *ids; /* host */
    int64_t count, cached;
    int64_t rows; /* 0 .. count */
    float *out;   /* host */
} seo_cached_args;
seo_err seo_model_forward_cached(seo_model *model, const seo_cached_args *pass);

/* Copies one parameter or gradient between host and device by name, as f32; SEO_ERR_MISSING for a
 * name the table lacks. `count` must be its number of elements (SEO_ERR_SHAPE). SEO_ERR_UNSUPPORTED
 * where it does not lie whole on this rank. */
seo_err seo_model_set_param(seo_model *model, const char *name, const float *values, int64_t count);
seo_err seo_model_get_param(seo_model *model, const char *name, float *values, int64_t count);
seo_err seo_model_get_grad(seo_model *model, const char *name, float *values, int64_t count);

#ifdef __cplusplus
}
#endif
