/* A model's memory: taken once, and what is told when there is too little: which slab, how much it
 * wants, what is free, and which setting would make it fit. */
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/text.h"
#include "train/models/model_state.h"

/* A chunk of logits is large enough that a product with the vocabulary runs at full speed, and
 * small enough to be a minor part of a run's memory. A GPU wants more rows at a time: each chunk
 * reads and writes all of the embedding's gradient, 8 bytes an element, against 6 operations an
 * element and row. At 600 TFLOP/s and 4 TB/s that is 200 / rows of the head's time; a GiB of
 * GPT-2's logits in bf16 has 10,000 rows. */
enum { LOGITS_BYTES_CPU = 256 << 20, LOGITS_BYTES_GPU = 1 << 30 };

/* The part of what is free that a suggestion leaves so: allocations are rounded up, and recorded
 * passes take some as well. */
enum { SPARE_PART = 32 };

static seo_err plan_activations(seo_model *model, int64_t batch) {
    const seo_plan plan = {.slab = &model->activations,
                           .storage = model->storage,
                           .batch = batch,
                           .positions = model->config.seq_len,
                           .logits_bytes =
                               seo_device_is_cpu(model->dev) ? LOGITS_BYTES_CPU : LOGITS_BYTES_GPU};
    seo_slab_free(&model->activations);
    seo_slab_init(&model->activations, "activations");
    model->batch = batch;
    const seo_err err = seo_model_plan_inputs(model);
    return err != SEO_OK ? err : model->family->plan(model->state, model->mode, &plan);
}

seo_err seo_model_plan(seo_model *model) {
    seo_err err = SEO_OK;
    const seo_params *params = &model->params;
    const seo_dtype dtype = model->master ? SEO_DTYPE_F32 : model->storage;
    SEO_TRY(seo_param_set_plan(&model->weights, params, dtype, "parameters"));
    if (model->master) {
        SEO_TRY(seo_param_set_plan(&model->working, params, model->storage, "working parameters"));
    }
    if (model->mode == SEO_MODEL_TRAIN) {
        SEO_TRY(seo_param_set_plan(&model->grads, params, SEO_DTYPE_F32, "gradients"));
    }
    SEO_TRY(plan_activations(model, model->batch));
done:
    return err;
}

/* What is left on the device. The system's figure for the host leaves out what it could give back,
 * so there it is the machine's memory without what was taken here. */
static int64_t free_bytes(const seo_model *model) {
    int64_t left = 0, total = 0;
    if (seo_device_memory(model->dev, &left, &total) != SEO_OK) return 0;
    return seo_device_is_cpu(model->dev) ? seo_max_i64(0, total - seo_device_bytes(model->dev))
                                         : left;
}

/* Both moments, which an optimizer will want beside the activations. */
static int64_t moment_bytes(const seo_model *model) {
    return model->mode == SEO_MODEL_TRAIN ? 2 * model->grads.slab.bytes : 0;
}

/* Whether a pass of `batch` sequences fits into `room` bytes. Replans: on the way to an error. */
static bool fits(seo_model *model, int64_t batch, int64_t room) {
    return plan_activations(model, batch) == SEO_OK && model->activations.bytes <= room;
}

static int64_t largest_batch(seo_model *model, int64_t room) {
    int64_t good = 0, bad = model->batch;
    while (bad - good > 1) {
        const int64_t middle = good + (bad - good) / 2;
        if (fits(model, middle, room)) {
            good = middle;
        } else {
            bad = middle;
        }
    }
    return good;
}

/* Settings that need less for parameters. */
static const char *smaller_state(const seo_model *model) {
    if (model->mode != SEO_MODEL_TRAIN) {
        return seo_device_is_cpu(model->dev) ? "a smaller model needs less"
                                             : "a smaller model needs less, or --device cpu";
    }
    if (model->master) {
        return "a smaller model needs less (model.num_layers, model.hidden_size); "
               "optimizer.master_weights: false takes 14 bytes a parameter in place of 18";
    }
    return "a smaller model needs less (model.num_layers, model.hidden_size)";
}

/* The set could not be had. */
static seo_err refuse_set(const seo_model *model, const seo_param_set *set) {
    char wanted[SEO_SHORT_TEXT], left[SEO_SHORT_TEXT], all[SEO_SHORT_TEXT];
    const double state = (double)(model->weights.slab.bytes + model->working.slab.bytes +
                                  model->grads.slab.bytes + moment_bytes(model));
    return SEO_FAIL(
        SEO_ERR_MEMORY,
        "%s: out of memory: the %s want %s of the %s that the state of %lld parameters takes, "
        "%s are free; %s",
        seo_device_name(model->dev), set->slab.name,
        seo_format_bytes(wanted, (double)set->slab.bytes), seo_format_bytes(all, state),
        (long long)seo_params_elements(&model->params),
        seo_format_bytes(left, (double)free_bytes(model)), smaller_state(model));
}

static void suggest_batch(seo_model *model, int64_t room, char *out, size_t capacity) {
    const int64_t asked = model->batch;
    const int64_t batch = model->mode == SEO_MODEL_GENERATE ? 0 : largest_batch(model, room);
    if (batch == 0) {
        snprintf(out, capacity, "not even one sequence fits: a shorter model.seq_len or %s",
                 smaller_state(model));
    } else if (model->mode == SEO_MODEL_TRAIN) {
        snprintf(out, capacity, "a train.micro_batch of %lld or less fits", (long long)batch);
    } else {
        snprintf(out, capacity, "the run's train.micro_batch is %lld, %lld would fit; --device cpu",
                 (long long)asked, (long long)batch);
    }
}

static seo_err refuse_activations(seo_model *model) {
    char wanted[SEO_SHORT_TEXT], left[SEO_SHORT_TEXT], moments[SEO_SHORT_TEXT], remedy[512];
    char after[96] = "";
    const int64_t batch = model->batch, free_now = free_bytes(model);
    const int64_t room = free_now - free_now / SPARE_PART - moment_bytes(model);
    seo_format_bytes(wanted, (double)model->activations.bytes);
    if (moment_bytes(model) > 0) {
        snprintf(after, sizeof after, " and the optimizer's moments %s after them",
                 seo_format_bytes(moments, (double)moment_bytes(model)));
    }
    suggest_batch(model, room, remedy, sizeof remedy);
    return SEO_FAIL(SEO_ERR_MEMORY,
                    "%s: out of memory: the activations of %lld sequences want %s%s, %s are free; "
                    "%s",
                    seo_device_name(model->dev), (long long)batch, wanted, after,
                    seo_format_bytes(left, (double)free_now), remedy);
}

static seo_err take_set(const seo_model *model, seo_param_set *set) {
    const seo_err err = seo_param_set_bind(set, model->dev);
    return err == SEO_ERR_MEMORY ? refuse_set(model, set) : err;
}

/* A GPU tells what is free, so that a run that will fail does so before it has taken anything that
 * others on the same GPU could use. */
static seo_err take_activations(seo_model *model) {
    const int64_t bytes = model->activations.bytes;
    if (!seo_device_is_cpu(model->dev) && bytes + moment_bytes(model) > free_bytes(model)) {
        return refuse_activations(model);
    }
    const seo_err err = seo_device_alloc(model->dev, bytes, &model->activation_memory);
    return err == SEO_ERR_MEMORY ? refuse_activations(model) : err;
}

seo_err seo_model_take(seo_model *model) {
    seo_err err = SEO_OK;
    SEO_TRY(take_set(model, &model->weights));
    if (model->master) SEO_TRY(take_set(model, &model->working));
    if (model->mode == SEO_MODEL_TRAIN) SEO_TRY(take_set(model, &model->grads));
    SEO_TRY(take_activations(model));
    seo_slab_bind(&model->activations, model->activation_memory);
    model->family->bound(model->state);
    model->staging = calloc(1, (size_t)seo_tensor_bytes(&model->inputs));
    if (!model->staging) err = SEO_FAIL(SEO_ERR_MEMORY, "a batch of ids");
done:
    return err;
}
