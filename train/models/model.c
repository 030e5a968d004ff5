#include "train/models/model.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "train/models/model_state.h"
#include "train/values.h"

static seo_err open_family(const seo_model_config *config, const seo_family_ops **family,
                           void **state) {
    *family = seo_family_find(config->family);
    if (!*family) return SEO_FAIL(SEO_ERR_USAGE, "model.family: not a known family");
    return (*family)->open(config, state);
}

seo_err seo_model_params(const seo_model_config *config, seo_params *out) {
    const seo_family_ops *family = NULL;
    void *state = NULL;
    *out = (seo_params){.adapter_rank = config->lora_rank, .adapted = config->lora_targets};
    seo_err err = open_family(config, &family, &state);
    if (err != SEO_OK) return err;
    err = family->params(state, out);
    family->close(state);
    if (err != SEO_OK) seo_params_free(out);
    return err;
}

seo_err seo_model_count(const seo_model_config *config, int64_t *out) {
    seo_params params = {0};
    const seo_err err = seo_model_params(config, &params);
    if (err != SEO_OK) return err;
    *out = seo_params_elements(&params);
    seo_params_free(&params);
    return SEO_OK;
}

seo_loss_shape seo_model_loss_shape(const seo_model_config *config) {
    const bool classify = config->classes > 0;
    if (seo_family_is_encoder(config->family)) {
        return (seo_loss_shape){.rows = config->picks, .label = classify || config->next_sentence};
    }
    const bool predicts = !classify || config->lm_weight > 0;
    return (seo_loss_shape){.rows = predicts ? config->seq_len : 0, .label = classify};
}

seo_err seo_model_refresh_segment(seo_model *model, int64_t segment) {
    if (!model->has_working) return SEO_OK;
    return seo_cast(model->dev,
                    &(seo_cast_args){.out = seo_param_set_chunk(&model->working, segment),
                                     .inp = seo_param_set_chunk(&model->weights, segment)});
}

seo_err seo_model_refresh(seo_model *model) {
    if (!model->has_working) return SEO_OK;
    if (model->weights.layout == SEO_LAYOUT_WHOLE) {
        return seo_cast(model->dev,
                        &(seo_cast_args){.out = model->working.flat, .inp = model->weights.flat});
    }
    for (int64_t s = 0; s < model->shards.segment_count; s++) {
        const bool stays = model->working.layout == SEO_LAYOUT_WHOLE ||
                           model->shards.segments[s].block == SEO_PARAM_NO_BLOCK;
        const seo_err err = stays ? seo_model_refresh_segment(model, s) : SEO_OK;
        if (err != SEO_OK) return err;
    }
    return SEO_OK;
}

/* A model of which only memory is known: what args say, the table, the plan. */
static seo_err plan_model(const seo_model_args *args, const seo_device_facts *facts,
                          seo_model *model) {
    seo_err err = SEO_OK;
    SEO_ASSERT(args->batch >= 1 && (args->mode != SEO_MODEL_GENERATE || args->batch == 1));
    model->config = *args->config;
    model->mode = args->mode;
    model->storage = args->storage;
    model->recompute = args->recompute;
    model->facts = *facts;
    model->batch = args->batch;
    model->seed = args->seed;
    model->params.row_multiple = facts->row_multiple;
    model->params.adapter_rank = args->config->lora_rank;
    model->params.adapted = args->config->lora_targets;
    SEO_TRY(open_family(&model->config, &model->family, &model->state));
    if (model->mode == SEO_MODEL_GENERATE && !model->family->forward_cached) {
        return SEO_FAIL(SEO_ERR_USAGE,
                        "%s is an encoder and continues no text: seodang fill gives the tokens "
                        "that stand behind its masks",
                        model->family->name);
    }
    SEO_TRY(model->family->params(model->state, &model->params));
    SEO_TRY(seo_model_plan(model, args));
done:
    return err;
}

seo_err seo_model_open(const seo_model_args *args, seo_model **out) {
    seo_err err = SEO_OK;
    SEO_ASSERT(args->storage == SEO_DTYPE_F32 || seo_device_has_bf16(args->dev));
    *out = NULL;
    seo_model *model = calloc(1, sizeof *model);
    if (!model) return SEO_FAIL(SEO_ERR_MEMORY, "a model");
    const seo_device_facts facts = seo_device_facts_of(args->dev);
    model->dev = args->dev;
    SEO_TRY(plan_model(args, &facts, model));
    SEO_TRY(seo_model_take(model));
    if (!args->uninitialised) {
        SEO_TRY(seo_params_init(&model->params, &model->weights, args->seed));
        if (model->frozen.bytes > 0) {
            SEO_TRY(seo_params_init(&model->params, &model->frozen, args->seed));
        }
        SEO_TRY(seo_model_refresh(model));
    }
    *out = model;
    model = NULL;
done:
    seo_model_close(model);
    return err;
}

seo_err seo_model_measure(const seo_model_args *args, const seo_device_facts *facts,
                          seo_memory_table *out) {
    seo_model *model = calloc(1, sizeof *model);
    if (!model) return SEO_FAIL(SEO_ERR_MEMORY, "a model");
    const seo_err err = plan_model(args, facts, model);
    if (err == SEO_OK) seo_model_memory(model, out);
    seo_model_close(model);
    return err;
}

seo_err seo_model_layout(const seo_model_args *args, const seo_device_facts *facts,
                         seo_params *params, seo_shards *shards) {
    *params = (seo_params){0};
    *shards = (seo_shards){0};
    seo_model *model = calloc(1, sizeof *model);
    if (!model) return SEO_FAIL(SEO_ERR_MEMORY, "a model");
    const seo_err err = plan_model(args, facts, model);
    if (err == SEO_OK) {
        *params = model->params;
        *shards = model->shards;
        model->params = (seo_params){0};
        model->shards = (seo_shards){0};
    }
    seo_model_close(model);
    return err;
}

void seo_model_close(seo_model *model) {
    if (!model) return;
    for (int64_t i = 0; i < SEO_MODEL_SHAPES; i++) seo_replay_free(&model->shapes[i].replay);
    free(model->staging);
    if (model->dev) seo_device_free(model->dev, model->activation_memory);
    seo_slab_free(&model->activations);
    seo_param_set_free(&model->grad_shard);
    seo_param_set_free(&model->grads);
    seo_param_set_free(&model->working);
    seo_param_set_free(&model->weights);
    seo_param_set_free(&model->frozen);
    seo_shards_free(&model->frozen_shards);
    seo_shards_free(&model->shards);
    seo_params_free(&model->params);
    if (model->family) model->family->close(model->state);
    free(model);
}

const seo_params *seo_model_table(const seo_model *model) {
    return &model->params;
}
const seo_model_config *seo_model_config_of(const seo_model *model) {
    return &model->config;
}
seo_device *seo_model_device(const seo_model *model) {
    return model->dev;
}
seo_param_set *seo_model_weights(seo_model *model) {
    return &model->weights;
}
seo_param_set *seo_model_grads(seo_model *model) {
    return model->mode == SEO_MODEL_TRAIN ? &model->grads : NULL;
}
seo_param_set *seo_model_frozen(seo_model *model) {
    return model->frozen.bytes > 0 ? &model->frozen : NULL;
}
const seo_param_set *seo_model_working(const seo_model *model) {
    return model->has_working ? &model->working : NULL;
}
seo_dtype seo_model_storage(const seo_model *model) {
    return model->storage;
}
const seo_shards *seo_model_shards(const seo_model *model) {
    return &model->shards;
}
seo_tensor seo_model_trained(const seo_model *model) {
    return model->weights.flat;
}
seo_layout seo_model_trained_layout(const seo_model *model) {
    return model->weights.layout;
}
seo_tensor seo_model_read_segment(const seo_model *model, int64_t segment) {
    return seo_param_set_segment(seo_model_read_set(model), segment);
}
seo_layout seo_model_read_layout(const seo_model *model) {
    return seo_model_read_set(model)->layout;
}
seo_tensor seo_model_grad_segment(const seo_model *model, int64_t segment) {
    SEO_ASSERT(model->mode == SEO_MODEL_TRAIN);
    return seo_param_set_segment(&model->grads, segment);
}
seo_layout seo_model_grad_layout(const seo_model *model) {
    SEO_ASSERT(model->mode == SEO_MODEL_TRAIN);
    return model->grads.layout;
}
seo_tensor seo_model_grad_shard(const seo_model *model) {
    return model->grad_shard.flat;
}
uint64_t seo_model_seed(const seo_model *model) {
    return model->seed;
}
int64_t seo_model_activation_bytes(const seo_model *model) {
    return model->activations.bytes;
}
seo_tensor seo_model_losses(const seo_model *model) {
    return model->losses;
}
seo_tensor seo_model_label_losses(const seo_model *model) {
    return model->label_losses;
}

static seo_err find_tensor(const seo_model *model, const seo_param_set *set, const char *name,
                           int64_t count, seo_tensor *out) {
    const int64_t row = seo_params_find(&model->params, name);
    if (row < 0) return SEO_FAIL(SEO_ERR_MISSING, "the model has no parameter %s", name);
    const bool frozen = model->params.items[row].frozen;
    if (frozen && set == &model->grads) {
        return SEO_FAIL(SEO_ERR_MISSING, "%s is frozen and has no gradient", name);
    }
    if (frozen) set = &model->frozen;
    if (set->layout != SEO_LAYOUT_WHOLE) {
        return SEO_FAIL(SEO_ERR_UNSUPPORTED, "%s: the %s are spread over %d ranks", name, set->name,
                        model->shards.ranks);
    }
    *out = set->tensors[row];
    if (seo_tensor_count(out) == count) return SEO_OK;
    return SEO_FAIL(SEO_ERR_SHAPE, "%s has %lld elements, not %lld", name,
                    (long long)seo_tensor_count(out), (long long)count);
}

seo_err seo_model_set_param(seo_model *model, const char *name, const float *values,
                            int64_t count) {
    seo_tensor t = {0};
    seo_err err = find_tensor(model, &model->weights, name, count, &t);
    if (err == SEO_OK) err = seo_values_write(model->dev, &t, values);
    return err == SEO_OK ? seo_model_refresh(model) : err;
}

seo_err seo_model_get_param(seo_model *model, const char *name, float *values, int64_t count) {
    seo_tensor t = {0};
    const seo_err err = find_tensor(model, &model->weights, name, count, &t);
    return err != SEO_OK ? err : seo_values_read(model->dev, &t, values);
}

seo_err seo_model_get_grad(seo_model *model, const char *name, float *values, int64_t count) {
    seo_tensor t = {0};
    SEO_ASSERT(model->mode == SEO_MODEL_TRAIN);
    const seo_err err = find_tensor(model, &model->grads, name, count, &t);
    return err != SEO_OK ? err : seo_values_read(model->dev, &t, values);
}
