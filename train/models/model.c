#include "train/models/model.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "train/models/family.h"

struct seo_model {
    seo_model_config config;
    const seo_family_ops *family;
    void *state;
    seo_device *dev;
    seo_model_mode mode;
    int64_t batch;
    uint64_t seed;
    seo_params params;
    seo_param_set weights, grads;
    seo_slab activations;
    void *activation_memory;
    seo_tensor ids, targets; /* (B * T) i32 on the device */
    seo_tensor losses;       /* (B * T) f32 */
    int32_t *staging;        /* (B * T) on the host */
    seo_pass last;           /* the pass whose activations are there */
};

static seo_err open_family(const seo_model_config *config, const seo_family_ops **family,
                           void **state) {
    *family = seo_family_find(config->family);
    if (!*family) return SEO_FAIL(SEO_ERR_USAGE, "model.family: not a known family");
    return (*family)->open(config, state);
}

seo_err seo_model_params(const seo_model_config *config, seo_params *out) {
    const seo_family_ops *family = NULL;
    void *state = NULL;
    *out = (seo_params){0};
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

static seo_err plan(seo_model *model) {
    seo_err err = SEO_OK;
    const int64_t rows = model->batch * model->config.seq_len;
    const seo_family_plan sizes = {
        .mode = model->mode, .batch = model->batch, .positions = model->config.seq_len};
    SEO_TRY(seo_param_set_plan(&model->weights, &model->params, "parameters"));
    if (model->mode == SEO_MODEL_TRAIN) {
        SEO_TRY(seo_param_set_plan(&model->grads, &model->params, "gradients"));
    }
    seo_slab_init(&model->activations, "activations");
    SEO_TRY(seo_slab_add(&model->activations, "ids", SEO_DTYPE_I32, 1, &rows, &model->ids));
    SEO_TRY(seo_slab_add(&model->activations, "targets", SEO_DTYPE_I32, 1, &rows, &model->targets));
    SEO_TRY(seo_slab_add(&model->activations, "losses", SEO_DTYPE_F32, 1, &rows, &model->losses));
    SEO_TRY(model->family->plan(model->state, &sizes, &model->activations));
done:
    return err;
}

static seo_err bind(seo_model *model) {
    seo_err err = SEO_OK;
    SEO_TRY(seo_param_set_bind(&model->weights, model->dev));
    if (model->mode == SEO_MODEL_TRAIN) SEO_TRY(seo_param_set_bind(&model->grads, model->dev));
    err = seo_device_alloc(model->dev, model->activations.bytes, &model->activation_memory);
    if (err != SEO_OK) {
        return seo_err_context(
            err, "activations of %lld sequences (a smaller train.micro_batch needs less)",
            (long long)model->batch);
    }
    seo_slab_bind(&model->activations, model->activation_memory);
    model->family->bound(model->state);
    model->staging = malloc((size_t)seo_tensor_bytes(&model->ids));
    if (!model->staging) err = SEO_FAIL(SEO_ERR_MEMORY, "a batch of ids");
done:
    return err;
}

seo_err seo_model_open(const seo_model_args *args, seo_model **out) {
    seo_err err = SEO_OK;
    SEO_ASSERT(args->batch >= 1 && (args->mode != SEO_MODEL_GENERATE || args->batch == 1));
    *out = NULL;
    seo_model *model = calloc(1, sizeof *model);
    if (!model) return SEO_FAIL(SEO_ERR_MEMORY, "a model");
    model->config = *args->config;
    model->dev = args->dev;
    model->mode = args->mode;
    model->batch = args->batch;
    model->seed = args->seed;
    SEO_TRY(open_family(&model->config, &model->family, &model->state));
    SEO_TRY(model->family->params(model->state, &model->params));
    SEO_TRY(plan(model));
    SEO_TRY(bind(model));
    if (!args->uninitialised) {
        SEO_TRY(seo_params_init(&model->params, &model->weights, args->seed));
    }
    *out = model;
    model = NULL;
done:
    seo_model_close(model);
    return err;
}

void seo_model_close(seo_model *model) {
    if (!model) return;
    free(model->staging);
    seo_device_free(model->dev, model->activation_memory);
    seo_slab_free(&model->activations);
    seo_param_set_free(&model->grads);
    seo_param_set_free(&model->weights);
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
int64_t seo_model_activation_bytes(const seo_model *model) {
    return model->activations.bytes;
}
seo_tensor seo_model_losses(const seo_model *model) {
    return model->losses;
}

/* Rows of a batch array, made contiguous, to the device. */
static seo_err stage(seo_model *model, const seo_pass_args *args, const int32_t *from,
                     seo_tensor *to) {
    for (int64_t b = 0; b < args->batch; b++) {
        memcpy(model->staging + b * args->positions, from + b * args->stride,
               (size_t)args->positions * sizeof *from);
    }
    *to = seo_tensor_1d(to->data, SEO_DTYPE_I32, args->batch * args->positions);
    return seo_device_copy_in(model->dev, to->data, model->staging, seo_tensor_bytes(to));
}

static seo_err start_pass(seo_model *model, const seo_pass_args *args, seo_family_io *io) {
    seo_err err = SEO_OK;
    SEO_ASSERT(args->batch >= 1 && args->batch <= model->batch);
    SEO_ASSERT(args->positions >= 1 && args->positions <= model->config.seq_len);
    SEO_ASSERT(args->stride >= args->positions || args->batch == 1);
    model->last = (seo_pass){.dev = model->dev,
                             .params = model->weights.tensors,
                             .grads = model->grads.tensors,
                             .batch = args->batch,
                             .positions = args->positions,
                             .dropout = args->dropout ? (float)model->config.dropout : 0.0f,
                             .seed = model->seed,
                             .step = (uint32_t)args->step,
                             .first_row = args->first_sequence * args->positions};
    *io = (seo_family_io){.ids = model->ids,
                          .targets = model->targets,
                          .losses = args->losses,
                          .grad_scale = args->grad_scale};
    SEO_TRY(stage(model, args, args->ids, &io->ids));
    SEO_TRY(stage(model, args, args->targets, &io->targets));
done:
    return err;
}

seo_err seo_model_forward(seo_model *model, const seo_pass_args *args) {
    seo_family_io io = {0};
    SEO_ASSERT(model->mode != SEO_MODEL_GENERATE);
    const seo_err err = start_pass(model, args, &io);
    return err != SEO_OK ? err : model->family->forward(model->state, &model->last, &io);
}

seo_err seo_model_forward_backward(seo_model *model, const seo_pass_args *args) {
    seo_family_io io = {0};
    SEO_ASSERT(model->mode == SEO_MODEL_TRAIN);
    const seo_err err = start_pass(model, args, &io);
    return err != SEO_OK ? err : model->family->forward_backward(model->state, &model->last, &io);
}

seo_err seo_model_zero_grads(seo_model *model) {
    SEO_ASSERT(model->mode == SEO_MODEL_TRAIN);
    return seo_device_zero(model->dev, model->grads.whole.data, model->grads.slab.bytes);
}

seo_err seo_model_logits(seo_model *model, int64_t first, int64_t count, float *out) {
    SEO_ASSERT(first >= 0 && first + count <= seo_pass_rows(&model->last));
    const int64_t width = model->config.vocab_size;
    for (int64_t done = 0; done < count;) {
        seo_tensor logits = {0};
        seo_err err =
            model->family->logits(model->state, &model->last, first + done, count - done, &logits);
        if (err != SEO_OK) return err;
        err = seo_device_copy_out(model->dev, out + done * width, logits.data,
                                  seo_tensor_bytes(&logits));
        if (err != SEO_OK) return err;
        done += logits.dims[0];
    }
    return SEO_OK;
}

seo_err seo_model_forward_cached(seo_model *model, const seo_cached_args *args) {
    seo_err err = SEO_OK;
    SEO_ASSERT(model->mode == SEO_MODEL_GENERATE);
    SEO_ASSERT(args->count >= 1 && args->cached >= 0 && args->rows <= args->count);
    SEO_ASSERT(args->cached + args->count <= model->config.seq_len);
    model->last = (seo_pass){
        .dev = model->dev, .params = model->weights.tensors, .batch = 1, .positions = args->count};
    SEO_TRY(seo_device_copy_in(model->dev, model->ids.data, args->ids,
                               args->count * (int64_t)sizeof *args->ids));
    SEO_TRY(model->family->forward_cached(model->state, &model->last, &model->ids, args->cached));
    SEO_TRY(seo_model_logits(model, args->count - args->rows, args->rows, args->out));
done:
    return err;
}

static seo_err find_tensor(const seo_model *model, const seo_param_set *set, const char *name,
                           int64_t count, seo_tensor *out) {
    const int64_t row = seo_params_find(&model->params, name);
    if (row < 0) return SEO_FAIL(SEO_ERR_MISSING, "the model has no parameter %s", name);
    *out = set->tensors[row];
    if (seo_tensor_count(out) == count) return SEO_OK;
    return SEO_FAIL(SEO_ERR_SHAPE, "%s has %lld elements, not %lld", name,
                    (long long)seo_tensor_count(out), (long long)count);
}

seo_err seo_model_set_param(seo_model *model, const char *name, const float *values,
                            int64_t count) {
    seo_tensor t = {0};
    const seo_err err = find_tensor(model, &model->weights, name, count, &t);
    return err != SEO_OK ? err
                         : seo_device_copy_in(model->dev, t.data, values, seo_tensor_bytes(&t));
}

seo_err seo_model_get_param(seo_model *model, const char *name, float *values, int64_t count) {
    seo_tensor t = {0};
    const seo_err err = find_tensor(model, &model->weights, name, count, &t);
    return err != SEO_OK ? err
                         : seo_device_copy_out(model->dev, values, t.data, seo_tensor_bytes(&t));
}

seo_err seo_model_get_grad(seo_model *model, const char *name, float *values, int64_t count) {
    seo_tensor t = {0};
    SEO_ASSERT(model->mode == SEO_MODEL_TRAIN);
    const seo_err err = find_tensor(model, &model->grads, name, count, &t);
    return err != SEO_OK ? err
                         : seo_device_copy_out(model->dev, values, t.data, seo_tensor_bytes(&t));
}
