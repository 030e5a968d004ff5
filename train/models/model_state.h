/* Private to train/models/model*.c: what a model holds. */
#pragma once

#include "train/models/family.h"
#include "train/models/model.h"
#include "train/replay.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A run has one shape of micro-batch at a time, and a second one where it does not divide the
 * batch. */
enum { SEO_MODEL_SHAPES = 2 };

/* What of a pass decides which operators are queued, and with which arguments. */
typedef struct seo_model_key {
    int64_t batch, positions; /* 0: not in use */
    float grad_scale, label_scale, dropout, attention_dropout;
    bool spans;
} seo_model_key;

/* Forward and backward of one shape; what is recorded depends on all of its key. */
typedef struct seo_model_shape {
    seo_model_key key;
    int64_t used; /* the pass that was the last one like it; 0: none */
    seo_replay replay;
} seo_model_shape;

/* What a pass is fed with, in the order in which it lies. */
typedef enum seo_model_input {
    SEO_INPUT_PLACE, /* the pass' place, and that of its sequences */
    SEO_INPUT_IDS,
    SEO_INPUT_TARGETS,
    SEO_INPUT_TYPES,
    SEO_INPUT_SPANS,
    SEO_INPUT_PICK_ROWS,
    SEO_INPUT_PICK_TARGETS,
    SEO_INPUT_LABEL_ROWS,
    SEO_INPUT_LABELS,
    SEO_INPUT_GROUPS,
    SEO_INPUT_COUNT
} seo_model_input;

struct seo_model {
    seo_model_config config;
    const seo_family_ops *family;
    void *state;
    seo_device *dev;
    seo_model_mode mode;
    seo_dtype storage;
    seo_recompute recompute;
    seo_device_facts facts;
    int64_t batch;
    uint64_t seed;
    seo_params params;
    seo_shards shards;
    seo_shards frozen_shards;
    seo_param_set frozen;  /* rows that are not trained, in the storage type; none: no bytes */
    seo_param_set weights; /* what is trained and saved */
    seo_param_set working; /* in the storage type: what passes read, where that is not the weights:
                            * with masters, and in windows */
    bool has_working;
    seo_param_set grads;
    seo_param_set grad_shard; /* with gradients in windows */
    seo_adapter_room adapters;
    seo_slab activations;
    void *activation_memory;
    seo_tensor losses;       /* (B * rows) f32; rank 0 where there are none, as below */
    seo_tensor label_losses; /* (B) f32 */
    /* On the device and on the host: one array of i32, so that it is one copy. Each input begins at
     * its element; -1: this model has none. */
    seo_tensor inputs;
    int32_t *staging;
    int64_t input_at[SEO_INPUT_COUNT];
    seo_model_shape shapes[SEO_MODEL_SHAPES];
    int64_t passes; /* with a backward, that could be recorded */
    seo_pass last;  /* the pass whose activations are there */
};

/* model_memory.c: declares all tensors (the device is not needed); takes their memory. */
seo_err seo_model_plan(seo_model *model, const seo_model_args *args);
seo_err seo_model_take(seo_model *model);
/* model_pass.c: declares losses and inputs. */
seo_err seo_model_plan_inputs(seo_model *model);

/* What passes read. */
static inline const seo_param_set *seo_model_read_set(const seo_model *model) {
    return model->has_working ? &model->working : &model->weights;
}

#ifdef __cplusplus
}
#endif
