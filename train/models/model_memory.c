/* A model's memory: taken once, and what is told when there is too little: which slab, how much it
 * wants, what is free, and which setting would make it fit. */
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/text.h"
#include "train/layers/adapter.h"
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
                               model->facts.is_cpu ? LOGITS_BYTES_CPU : LOGITS_BYTES_GPU};
    seo_slab_free(&model->activations);
    seo_slab_init(&model->activations, "activations");
    model->batch = batch;
    seo_err err = SEO_OK;
    SEO_TRY(seo_model_plan_inputs(model));
    SEO_TRY(seo_adapter_plan(&plan, &model->params, &model->adapters));
    SEO_TRY(model->family->plan(model->state, model->mode, model->recompute, &plan));
done:
    return err;
}

/* Which sets there are, and in which layouts: the table in train/shard.h. */
typedef struct set_layouts {
    seo_layout trained, read, added, moments;
    bool has_working, has_grad_shard;
} set_layouts;

static set_layouts layouts_of(int32_t zero, bool master) {
    const seo_layout shard = zero >= 1 ? SEO_LAYOUT_SHARD : SEO_LAYOUT_WHOLE;
    set_layouts l = {.trained = master || zero == 3 ? shard : SEO_LAYOUT_WHOLE,
                     .read = zero == 3 ? SEO_LAYOUT_WINDOWS : SEO_LAYOUT_WHOLE,
                     .added = zero >= 2 ? SEO_LAYOUT_WINDOWS : SEO_LAYOUT_WHOLE,
                     .moments = shard,
                     .has_grad_shard = zero >= 2};
    l.has_working = master || l.trained != l.read;
    return l;
}

static seo_err plan_sets(seo_model *model, bool master) {
    seo_err err = SEO_OK;
    const seo_params *params = &model->params;
    const seo_shards *shards = &model->shards;
    const set_layouts l = layouts_of(shards->zero, master);
    const seo_dtype dtype = master ? SEO_DTYPE_F32 : model->storage;
    SEO_TRY(seo_param_set_plan(&model->weights, params, shards, l.trained, dtype, "parameters"));
    model->has_working = l.has_working;
    if (l.has_working) {
        SEO_TRY(seo_param_set_plan(&model->working, params, shards, l.read, model->storage,
                                   "working parameters"));
    }
    if (model->mode != SEO_MODEL_TRAIN) return SEO_OK;
    SEO_TRY(seo_param_set_plan(&model->grads, params, shards, l.added, SEO_DTYPE_F32, "gradients"));
    if (l.has_grad_shard) {
        SEO_TRY(seo_param_set_plan(&model->grad_shard, params, shards, SEO_LAYOUT_SHARD,
                                   SEO_DTYPE_F32, "gradients of the own shard"));
    }
done:
    return err;
}

static seo_err plan_frozen(seo_model *model) {
    if (seo_params_trained(&model->params) == seo_params_elements(&model->params)) return SEO_OK;
    const seo_shard_wish wish = {.frozen = true};
    const seo_err err = seo_shards_open(&model->params, &wish, &model->frozen_shards);
    if (err != SEO_OK) return err;
    return seo_param_set_plan(&model->frozen, &model->params, &model->frozen_shards,
                              SEO_LAYOUT_WHOLE, model->storage, "frozen parameters");
}

seo_err seo_model_plan(seo_model *model, const seo_model_args *args) {
    seo_err err = SEO_OK;
    const bool train = model->mode == SEO_MODEL_TRAIN;
    SEO_ASSERT(train || args->shard.ranks <= 1);
    SEO_TRY(seo_shards_open(&model->params, &args->shard, &model->shards));
    SEO_TRY(plan_sets(model, train && model->storage != SEO_DTYPE_F32 && !args->no_master));
    SEO_TRY(plan_frozen(model));
    SEO_TRY(plan_activations(model, model->batch));
done:
    return err;
}

/* Windows are one allocation, told as what stays and what blocks take in turn. */
static void add_set(const seo_param_set *set, seo_memory_table *out) {
    char name[SEO_MEMORY_NAME_MAX];
    if (set->layout != SEO_LAYOUT_WINDOWS) {
        seo_memory_add(out, set->name, set->bytes);
        return;
    }
    const int64_t resident = set->shards->resident_count * seo_dtype_bytes(set->flat.dtype);
    snprintf(name, sizeof name, "%s outside the blocks", set->name);
    seo_memory_add(out, name, resident);
    snprintf(name, sizeof name, "%s, windows of two blocks", set->name);
    seo_memory_add(out, name, set->bytes - resident);
}

void seo_model_memory(const seo_model *model, seo_memory_table *out) {
    const seo_param_set *sets[] = {&model->frozen, &model->weights, &model->working, &model->grads,
                                   &model->grad_shard};
    for (int64_t i = 0; i < SEO_COUNT_OF(sets); i++) {
        if (sets[i]->bytes > 0) add_set(sets[i], out);
    }
    seo_memory_add(out, "activations", model->activations.bytes);
}

/* What is left on the device. The system's figure for the host leaves out what it could give back,
 * so there it is the machine's memory without what was taken here. */
static int64_t free_bytes(const seo_model *model) {
    int64_t left = 0, total = 0;
    if (seo_device_memory(model->dev, &left, &total) != SEO_OK) return 0;
    return model->facts.is_cpu ? seo_max_i64(0, total - seo_device_bytes(model->dev)) : left;
}

/* Weights are f32 masters of what passes read. */
static bool has_master(const seo_model *model) {
    return model->weights.flat.dtype != model->storage;
}

static int64_t layout_bytes(const seo_model *model, seo_layout layout, seo_dtype dtype) {
    return seo_shards_count(&model->shards, layout) * seo_dtype_bytes(dtype);
}

/* Both moments, which an optimizer will want beside the activations. */
static int64_t moment_bytes(const seo_model *model) {
    if (model->mode != SEO_MODEL_TRAIN) return 0;
    const set_layouts l = layouts_of(model->shards.zero, has_master(model));
    return 2 * layout_bytes(model, l.moments, SEO_DTYPE_F32);
}

/* What the parameters take on a rank that trains them at a level, moments included. */
static int64_t state_bytes(const seo_model *model, int32_t zero) {
    const set_layouts l = layouts_of(zero, has_master(model));
    int64_t bytes = model->frozen.bytes +
                    layout_bytes(model, l.trained, model->weights.flat.dtype) +
                    layout_bytes(model, l.added, SEO_DTYPE_F32) +
                    2 * layout_bytes(model, l.moments, SEO_DTYPE_F32);
    if (l.has_working) bytes += layout_bytes(model, l.read, model->storage);
    if (l.has_grad_shard) bytes += layout_bytes(model, SEO_LAYOUT_SHARD, SEO_DTYPE_F32);
    return bytes;
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
static const char *smaller_state(const seo_model *model, char *out, size_t capacity) {
    char less[SEO_SHORT_TEXT], levels[128] = "";
    if (model->mode != SEO_MODEL_TRAIN) {
        return model->facts.is_cpu ? "a smaller model needs less"
                                   : "a smaller model needs less, or --device cpu";
    }
    if (model->shards.ranks == 1) {
        snprintf(levels, sizeof levels, ", and so do more ranks, which share it (parallel.zero)");
    } else if (model->shards.zero < 3) {
        snprintf(levels, sizeof levels, "; parallel.zero: 3 takes %s on each of %d ranks",
                 seo_format_bytes(less, (double)state_bytes(model, 3)), model->shards.ranks);
    }
    snprintf(out, capacity, "a smaller model needs less (model.num_layers, model.hidden_size)%s%s",
             levels,
             !has_master(model) ? ""
             : model->shards.ranks > 1
                 ? "; optimizer.master_weights: false takes less"
                 : "; optimizer.master_weights: false takes 14 bytes a parameter in place of 18");
    return out;
}

/* The set could not be had. */
static seo_err refuse_set(const seo_model *model, const seo_param_set *set) {
    char wanted[SEO_SHORT_TEXT], left[SEO_SHORT_TEXT], all[SEO_SHORT_TEXT], remedy[384];
    const int64_t state = model->mode == SEO_MODEL_TRAIN
                              ? state_bytes(model, model->shards.zero)
                              : model->weights.bytes + model->frozen.bytes;
    return SEO_FAIL(
        SEO_ERR_MEMORY,
        "%s: out of memory: the %s want %s of the %s that the state of %lld parameters takes, "
        "%s are free; %s",
        seo_device_name(model->dev), set->name, seo_format_bytes(wanted, (double)set->bytes),
        seo_format_bytes(all, (double)state), (long long)seo_params_elements(&model->params),
        seo_format_bytes(left, (double)free_bytes(model)),
        smaller_state(model, remedy, sizeof remedy));
}

/* The level of recomputation, above the model's own, with which a pass of `batch` fits: the one
 * that computes least, or its own when none does. Leaves the model planned for it. */
static seo_recompute fitting_level(seo_model *model, int64_t batch, int64_t room) {
    const seo_recompute own = model->recompute;
    for (int level = (int)own + 1; level <= SEO_RECOMPUTE_FULL; level++) {
        model->recompute = (seo_recompute)level;
        if (fits(model, batch, room)) return model->recompute;
    }
    model->recompute = own;
    return own;
}

static const char *recompute_name(seo_recompute level) {
    return level == SEO_RECOMPUTE_FULL ? "full" : "selective";
}

/* What of a training's settings would make its activations fit. */
static void suggest_training(seo_model *model, int64_t room, char *out, size_t capacity) {
    const int64_t asked = model->batch, batch = largest_batch(model, room);
    const seo_recompute own = model->recompute;
    char state[384];
    const seo_recompute level = fitting_level(model, asked, room);
    if (level != own) {
        char smaller[96] = "";
        if (batch > 0) {
            snprintf(smaller, sizeof smaller, "a train.micro_batch of %lld or less fits, or ",
                     (long long)batch);
        }
        snprintf(out, capacity, "%sparallel.recompute: %s", smaller, recompute_name(level));
        return;
    }
    if (batch > 0) {
        snprintf(out, capacity, "a train.micro_batch of %lld or less fits", (long long)batch);
        return;
    }
    model->batch = asked;
    model->recompute = SEO_RECOMPUTE_FULL;
    const int64_t least = own == SEO_RECOMPUTE_FULL ? 0 : largest_batch(model, room);
    if (least > 0) {
        snprintf(out, capacity,
                 "a train.micro_batch of %lld or less fits with parallel.recompute: full",
                 (long long)least);
    } else {
        snprintf(out, capacity, "not even one sequence fits: a shorter model.seq_len or %s",
                 smaller_state(model, state, sizeof state));
    }
}

static void suggest_batch(seo_model *model, int64_t room, char *out, size_t capacity) {
    const int64_t asked = model->batch;
    char state[384];
    if (model->mode == SEO_MODEL_TRAIN) {
        suggest_training(model, room, out, capacity);
        return;
    }
    const int64_t batch = model->mode == SEO_MODEL_GENERATE ? 0 : largest_batch(model, room);
    if (batch == 0) {
        snprintf(out, capacity, "not even one sequence fits: a shorter model.seq_len or %s",
                 smaller_state(model, state, sizeof state));
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
    if (!model->facts.is_cpu && bytes + moment_bytes(model) > free_bytes(model)) {
        return refuse_activations(model);
    }
    const seo_err err = seo_device_alloc(model->dev, bytes, &model->activation_memory);
    return err == SEO_ERR_MEMORY ? refuse_activations(model) : err;
}

/* Passes find frozen rows among those that they read. */
static void place_frozen(const seo_model *model) {
    seo_tensor *tensors = seo_model_read_set(model)->tensors;
    for (int64_t row = 0; row < model->frozen.count; row++) {
        if (model->params.items[row].frozen) tensors[row].data = model->frozen.tensors[row].data;
    }
}

seo_err seo_model_take(seo_model *model) {
    seo_err err = SEO_OK;
    if (model->frozen.bytes > 0) SEO_TRY(take_set(model, &model->frozen));
    SEO_TRY(take_set(model, &model->weights));
    if (model->has_working) SEO_TRY(take_set(model, &model->working));
    if (model->mode == SEO_MODEL_TRAIN) SEO_TRY(take_set(model, &model->grads));
    if (model->grad_shard.bytes > 0) SEO_TRY(take_set(model, &model->grad_shard));
    place_frozen(model);
    SEO_TRY(take_activations(model));
    seo_slab_bind(&model->activations, model->activation_memory);
    model->family->bound(model->state);
    SEO_TRY(seo_adapter_fill(model->dev, &model->adapters, model->config.lora_alpha));
    model->staging = calloc(1, (size_t)seo_tensor_bytes(&model->inputs));
    if (!model->staging) err = SEO_FAIL(SEO_ERR_MEMORY, "a batch of ids");
done:
    return err;
}
