/* Private to train/models/model*.c: what a model holds. */
#pragma once

#include "train/models/family.h"
#include "train/models/model.h"
#include "train/replay.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A run has one shape of micro-batch, and a second one where it does not divide the batch. */
enum { SEO_MODEL_SHAPES = 2 };

/* Forward and backward of one shape; what is recorded depends on all of it. */
typedef struct seo_model_shape {
    int64_t batch, positions; /* 0: not in use */
    float grad_scale, dropout;
    seo_replay replay;
} seo_model_shape;

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
    seo_tensor losses; /* (B * T) f32 */
    /* What a pass is fed with, on the device and on the host: one array of i32, so that it is one
     * copy. Place, ids, targets, groups begin at these elements; 0 groups: the device needs none.
     */
    seo_tensor inputs;
    int32_t *staging;
    int64_t ids_at, targets_at, groups_at;
    seo_model_shape shapes[SEO_MODEL_SHAPES];
    seo_pass last; /* the pass whose activations are there */
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
