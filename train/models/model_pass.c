/* Passes of a model: what feeds them is brought to the device in one copy, and forward with
 * backward is recorded where the device can replay it. */
#include <string.h>

#include "base/check.h"
#include "base/groups.h"
#include "train/models/model_state.h"
#include "train/values.h"

/* Elements to which the parts of the inputs are aligned: 256 bytes. */
enum { INPUT_UNIT = SEO_SLAB_ALIGN_BYTES / 4 };

seo_err seo_model_plan_inputs(seo_model *model) {
    const int64_t rows = model->batch * model->config.seq_len;
    const bool groups = model->mode == SEO_MODEL_TRAIN && !model->facts.is_cpu;
    model->ids_at = seo_round_up(SEO_PLACE_COUNT, INPUT_UNIT);
    model->targets_at = model->ids_at + seo_round_up(rows, INPUT_UNIT);
    int64_t end = model->targets_at + seo_round_up(rows, INPUT_UNIT);
    model->groups_at = groups ? end : 0;
    if (groups) end += seo_groups_size(rows);
    const seo_err err =
        seo_slab_add(&model->activations, "inputs", SEO_DTYPE_I32, 1, &end, &model->inputs);
    if (err != SEO_OK) return err;
    return seo_slab_add(&model->activations, "losses", SEO_DTYPE_F32, 1, &rows, &model->losses);
}

static seo_tensor input(const seo_model *model, int64_t at, int64_t count) {
    return seo_tensor_1d((int32_t *)model->inputs.data + at, SEO_DTYPE_I32, count);
}

/* Elements [first, end) of the staged inputs. */
static seo_err send(seo_model *model, int64_t first, int64_t end) {
    return seo_device_copy_in(model->dev, (int32_t *)model->inputs.data + first,
                              model->staging + first, (end - first) * (int64_t)sizeof(int32_t));
}

/* Rows of a batch array, made contiguous. */
static void stage(seo_model *model, const seo_pass_args *args, const int32_t *from, int64_t at) {
    for (int64_t b = 0; b < args->batch; b++) {
        memcpy(model->staging + at + b * args->positions, from + b * args->stride,
               (size_t)args->positions * sizeof *from);
    }
}

static void stage_place(seo_model *model, const seo_pass_args *args) {
    const int64_t row = args->first_sequence * args->positions;
    model->staging[SEO_PLACE_STEP] = (int32_t)(uint32_t)args->step;
    model->staging[SEO_PLACE_ROW_LOW] = (int32_t)(uint32_t)row;
    model->staging[SEO_PLACE_ROW_HIGH] = (int32_t)(row >> 32);
}

static void stage_groups(seo_model *model, const seo_pass_args *args, int64_t rows) {
    int32_t *to = model->staging + model->groups_at;
    if (args->groups) {
        memcpy(to, args->groups, (size_t)seo_groups_size(rows) * sizeof *to);
    } else {
        seo_groups_build(model->staging + model->ids_at, rows, to);
    }
}

/* What is in windows is there only when it is fetched. */
static bool needs_hooks(const seo_model *model, bool backward) {
    return seo_model_read_set(model)->layout == SEO_LAYOUT_WINDOWS ||
           (backward && model->grads.layout == SEO_LAYOUT_WINDOWS);
}

static seo_err start_pass(seo_model *model, const seo_pass_args *args, bool backward,
                          seo_family_io *io) {
    SEO_ASSERT(args->batch >= 1 && args->batch <= model->batch);
    SEO_ASSERT(args->positions >= 1 && args->positions <= model->config.seq_len);
    SEO_ASSERT(args->stride >= args->positions || args->batch == 1);
    SEO_ASSERT(args->hooks || !needs_hooks(model, backward));
    const int64_t rows = args->batch * args->positions;
    const bool groups = backward && model->groups_at > 0;
    model->last = (seo_pass){.dev = model->dev,
                             .table = &model->params,
                             .params = seo_model_read_set(model)->tensors,
                             .grads = model->grads.tensors,
                             .batch = args->batch,
                             .positions = args->positions,
                             .dropout = args->dropout ? (float)model->config.dropout : 0.0f,
                             .seed = model->seed,
                             .place = input(model, 0, SEO_PLACE_COUNT),
                             .adapters = model->adapters,
                             .hooks = args->hooks};
    *io = (seo_family_io){.ids = input(model, model->ids_at, rows),
                          .targets = input(model, model->targets_at, rows),
                          .losses = seo_tensor_1d(model->losses.data, SEO_DTYPE_F32, rows),
                          .grad_scale = args->grad_scale};
    if (groups) io->groups = input(model, model->groups_at, seo_groups_size(rows));
    stage_place(model, args);
    stage(model, args, args->ids, model->ids_at);
    stage(model, args, args->targets, model->targets_at);
    if (groups) stage_groups(model, args, rows);
    return send(model, 0,
                groups ? model->groups_at + seo_groups_size(rows) : model->targets_at + rows);
}

/* The losses lie where every pass leaves them; the caller may want them elsewhere. */
static seo_err hand_over_losses(seo_model *model, const seo_pass_args *args) {
    if (args->losses.data == model->losses.data) return SEO_OK;
    SEO_ASSERT(seo_tensor_count(&args->losses) == args->batch * args->positions);
    return seo_device_copy(model->dev, args->losses.data, model->losses.data,
                           seo_tensor_bytes(&args->losses));
}

seo_err seo_model_forward(seo_model *model, const seo_pass_args *args) {
    seo_err err = SEO_OK;
    seo_family_io io = {0};
    SEO_ASSERT(model->mode != SEO_MODEL_GENERATE);
    SEO_TRY(start_pass(model, args, false, &io));
    SEO_TRY(model->family->forward(model->state, &model->last, &io));
    SEO_TRY(hand_over_losses(model, args));
done:
    return err;
}

/* What is queued for a pass with its backward. */
typedef struct queued_pass {
    seo_model *model;
    const seo_family_io *io;
} queued_pass;

static seo_err queue_pass(void *context) {
    const queued_pass *q = context;
    return q->model->family->forward_backward(q->model->state, &q->model->last, q->io);
}

/* The record of passes like this one; NULL when there are other shapes already. */
static seo_model_shape *shape_of(seo_model *model, const seo_pass_args *args) {
    for (int64_t i = 0; i < SEO_MODEL_SHAPES; i++) {
        seo_model_shape *s = &model->shapes[i];
        if (s->batch == 0) {
            *s = (seo_model_shape){.batch = args->batch,
                                   .positions = args->positions,
                                   .grad_scale = args->grad_scale,
                                   .dropout = model->last.dropout};
        }
        if (s->batch == args->batch && s->positions == args->positions &&
            s->grad_scale == args->grad_scale && s->dropout == model->last.dropout) {
            return s;
        }
    }
    return NULL;
}

seo_err seo_model_forward_backward(seo_model *model, const seo_pass_args *args) {
    seo_err err = SEO_OK;
    seo_family_io io = {0};
    queued_pass queued = {.model = model, .io = &io};
    SEO_ASSERT(model->mode == SEO_MODEL_TRAIN);
    SEO_TRY(start_pass(model, args, true, &io));
    seo_model_shape *shape = args->hooks ? NULL : shape_of(model, args);
    if (shape) {
        SEO_TRY(seo_replay_run(&shape->replay, model->dev, queue_pass, &queued));
    } else {
        SEO_TRY(queue_pass(&queued));
    }
    SEO_TRY(hand_over_losses(model, args));
done:
    return err;
}

seo_err seo_model_zero_grads(seo_model *model) {
    SEO_ASSERT(model->mode == SEO_MODEL_TRAIN);
    if (model->grads.layout == SEO_LAYOUT_WHOLE) {
        return seo_device_zero(model->dev, model->grads.flat.data, model->grads.bytes);
    }
    const int64_t resident = model->shards.resident_count * seo_dtype_bytes(SEO_DTYPE_F32);
    const seo_err err = seo_device_zero(model->dev, model->grads.flat.data, resident);
    if (err != SEO_OK) return err;
    return seo_device_zero(model->dev, model->grad_shard.flat.data, model->grad_shard.bytes);
}

/* Rows of logits without their padding. */
static seo_err read_logits(seo_model *model, const seo_tensor *logits, float *out) {
    const int64_t rows = logits->dims[0], padded = logits->dims[1];
    const int64_t width = model->config.vocab_size;
    if (padded == width) return seo_values_read(model->dev, logits, out);
    for (int64_t r = 0; r < rows; r++) {
        char *from = (char *)logits->data + r * padded * seo_dtype_bytes(logits->dtype);
        const seo_tensor row = seo_tensor_1d(from, logits->dtype, width);
        const seo_err err = seo_values_read(model->dev, &row, out + r * width);
        if (err != SEO_OK) return err;
    }
    return SEO_OK;
}

seo_err seo_model_logits(seo_model *model, int64_t first, int64_t count, float *out) {
    SEO_ASSERT(first >= 0 && first + count <= seo_pass_rows(&model->last));
    for (int64_t done = 0; done < count;) {
        seo_tensor logits = {0};
        seo_err err =
            model->family->logits(model->state, &model->last, first + done, count - done, &logits);
        if (err != SEO_OK) return err;
        err = read_logits(model, &logits, out + done * model->config.vocab_size);
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
    const seo_tensor ids = input(model, model->ids_at, args->count);
    model->last = (seo_pass){.dev = model->dev,
                             .table = &model->params,
                             .params = seo_model_read_set(model)->tensors,
                             .adapters = model->adapters,
                             .batch = 1,
                             .positions = args->count};
    SEO_TRY(seo_device_copy_in(model->dev, ids.data, args->ids, seo_tensor_bytes(&ids)));
    SEO_TRY(model->family->forward_cached(model->state, &model->last, &ids, args->cached));
    SEO_TRY(seo_model_logits(model, args->count - args->rows, args->rows, args->out));
done:
    return err;
}
