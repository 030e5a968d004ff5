/* Passes of a model: what feeds them is brought to the device in one copy, and forward with
 * backward is recorded where the device can replay it. */
#include <string.h>

#include "base/check.h"
#include "base/groups.h"
#include "train/models/model_state.h"
#include "train/values.h"

/* Elements to which the parts of the inputs are aligned: 256 bytes. */
enum { INPUT_UNIT = SEO_SLAB_ALIGN_BYTES / 4 };

enum { SEQUENCE_PLACE_AT = 4 }; /* behind the pass' own place */

/* How many numbers of each input a pass of the model's size has. */
static void input_sizes(const seo_model *model, int64_t sizes[SEO_INPUT_COUNT]) {
    const seo_model_config *m = &model->config;
    const int64_t batch = model->batch, rows = batch * m->seq_len;
    const bool generate = model->mode == SEO_MODEL_GENERATE;
    const seo_loss_shape shape = seo_model_loss_shape(m);
    const int64_t labels = shape.label && !generate ? batch : 0;
    const bool groups = model->mode == SEO_MODEL_TRAIN && !model->facts.is_cpu;
    const int64_t all[SEO_INPUT_COUNT] = {
        [SEO_INPUT_PLACE] = SEQUENCE_PLACE_AT + SEO_PLACE_COUNT,
        [SEO_INPUT_IDS] = rows,
        [SEO_INPUT_TARGETS] = seo_family_is_encoder(m->family) || shape.rows == 0 ? 0 : rows,
        [SEO_INPUT_TYPES] = m->type_vocab_size > 0 ? rows : 0,
        [SEO_INPUT_SPANS] = m->has_spans || seo_family_is_encoder(m->family) ? 2 * rows : 0,
        [SEO_INPUT_PICK_ROWS] = batch * m->picks,
        [SEO_INPUT_PICK_TARGETS] = batch * m->picks,
        [SEO_INPUT_LABEL_ROWS] = labels,
        [SEO_INPUT_LABELS] = labels,
        [SEO_INPUT_GROUPS] = groups ? seo_groups_size(rows) : 0};
    memcpy(sizes, all, sizeof all);
}

seo_err seo_model_plan_inputs(seo_model *model) {
    seo_err err = SEO_OK;
    int64_t sizes[SEO_INPUT_COUNT], end = 0;
    const seo_loss_shape shape = seo_model_loss_shape(&model->config);
    const int64_t losses = model->batch * shape.rows;
    input_sizes(model, sizes);
    for (int i = 0; i < SEO_INPUT_COUNT; i++) {
        const int64_t at = seo_round_up(end, INPUT_UNIT);
        model->input_at[i] = sizes[i] > 0 ? at : -1;
        if (sizes[i] > 0) end = at + sizes[i];
    }
    if (model->input_at[SEO_INPUT_GROUPS] < 0) end = seo_round_up(end, INPUT_UNIT);
    SEO_TRY(seo_slab_add(&model->activations, "inputs", SEO_DTYPE_I32, 1, &end, &model->inputs));
    if (losses > 0) {
        SEO_TRY(
            seo_slab_add(&model->activations, "losses", SEO_DTYPE_F32, 1, &losses, &model->losses));
    }
    if (model->input_at[SEO_INPUT_LABELS] >= 0) {
        SEO_TRY(seo_slab_add(&model->activations, "label losses", SEO_DTYPE_F32, 1, &model->batch,
                             &model->label_losses));
    }
done:
    return err;
}

/* The first `count` numbers of an input, on the device. */
static seo_tensor input(const seo_model *model, seo_model_input which, int64_t count) {
    SEO_ASSERT(model->input_at[which] >= 0);
    return seo_tensor_1d((int32_t *)model->inputs.data + model->input_at[which], SEO_DTYPE_I32,
                         count);
}

static int32_t *staged(const seo_model *model, seo_model_input which) {
    return model->staging + model->input_at[which];
}

/* Elements [first, end) of the staged inputs. */
static seo_err send(seo_model *model, int64_t first, int64_t end) {
    return seo_device_copy_in(model->dev, (int32_t *)model->inputs.data + first,
                              model->staging + first, (end - first) * (int64_t)sizeof(int32_t));
}

/* Rows of a batch array, made contiguous. */
static void stage_rows(seo_model *model, const seo_pass_args *args, const int32_t *from,
                       seo_model_input which) {
    for (int64_t b = 0; b < args->batch; b++) {
        memcpy(staged(model, which) + b * args->positions, from + b * args->stride,
               (size_t)args->positions * sizeof *from);
    }
}

/* An array that is contiguous already; NULL: all of one value. */
static void stage_array(seo_model *model, const int32_t *from, int64_t count, int32_t value,
                        seo_model_input which) {
    int32_t *to = staged(model, which);
    if (from) {
        memcpy(to, from, (size_t)count * sizeof *to);
        return;
    }
    for (int64_t i = 0; i < count; i++) to[i] = value;
}

/* Positions in their sequences, `each` of one, as rows of the pass. NULL: the first one. */
static void stage_positions(seo_model *model, const seo_pass_args *args, const int32_t *from,
                            int64_t each, seo_model_input which) {
    int32_t *to = staged(model, which);
    for (int64_t i = 0; i < args->batch * each; i++) {
        const int32_t position = from ? from[i] : 0;
        SEO_ASSERT(position >= -1 && position < args->positions);
        to[i] = position < 0 ? -1 : (int32_t)(i / each * args->positions) + position;
    }
}

static void stage_place(seo_model *model, const seo_pass_args *args) {
    const int64_t rows[2] = {args->first_sequence * args->positions, args->first_sequence};
    for (int i = 0; i < 2; i++) {
        int32_t *place = staged(model, SEO_INPUT_PLACE) + i * SEQUENCE_PLACE_AT;
        place[SEO_PLACE_STEP] = (int32_t)(uint32_t)args->step;
        place[SEO_PLACE_ROW_LOW] = (int32_t)(uint32_t)rows[i];
        place[SEO_PLACE_ROW_HIGH] = (int32_t)(rows[i] >> 32);
    }
}

static void stage_groups(seo_model *model, const seo_pass_args *args, int64_t rows) {
    int32_t *to = staged(model, SEO_INPUT_GROUPS);
    if (args->groups) {
        memcpy(to, args->groups, (size_t)seo_groups_size(rows) * sizeof *to);
    } else {
        seo_groups_build(staged(model, SEO_INPUT_IDS), rows, to);
    }
}

static bool has(const seo_model *model, seo_model_input which) {
    return model->input_at[which] >= 0;
}

/* Everything that the pass reads, into the host's copy; returns where it ends. */
static int64_t stage(seo_model *model, const seo_pass_args *args, bool backward) {
    const int64_t rows = args->batch * args->positions, picks = args->batch * model->config.picks;
    const bool encoder = seo_family_is_encoder(model->config.family);
    stage_place(model, args);
    stage_rows(model, args, args->ids, SEO_INPUT_IDS);
    if (has(model, SEO_INPUT_TARGETS) && args->targets) {
        stage_rows(model, args, args->targets, SEO_INPUT_TARGETS);
    }
    if (has(model, SEO_INPUT_TYPES)) stage_array(model, args->types, rows, 0, SEO_INPUT_TYPES);
    if (args->spans) stage_array(model, args->spans, 2 * rows, 0, SEO_INPUT_SPANS);
    if (has(model, SEO_INPUT_PICK_ROWS)) {
        stage_positions(model, args, args->picks, model->config.picks, SEO_INPUT_PICK_ROWS);
        stage_array(model, args->pick_targets, picks, SEO_TARGET_IGNORE, SEO_INPUT_PICK_TARGETS);
    }
    if (has(model, SEO_INPUT_LABELS)) {
        stage_positions(model, args, encoder ? NULL : args->picks, 1, SEO_INPUT_LABEL_ROWS);
        stage_array(model, args->labels, args->batch, SEO_TARGET_IGNORE, SEO_INPUT_LABELS);
    }
    if (backward && has(model, SEO_INPUT_GROUPS)) {
        stage_groups(model, args, rows);
        return model->input_at[SEO_INPUT_GROUPS] + seo_groups_size(rows);
    }
    return has(model, SEO_INPUT_GROUPS) ? model->input_at[SEO_INPUT_GROUPS]
                                        : seo_tensor_count(&model->inputs);
}

/* What is in windows is there only when it is fetched. */
static bool needs_hooks(const seo_model *model, bool backward) {
    return seo_model_read_set(model)->layout == SEO_LAYOUT_WINDOWS ||
           (backward && model->grads.layout == SEO_LAYOUT_WINDOWS);
}

static void check_pass(const seo_model *model, const seo_pass_args *args, bool backward) {
    const bool encoder = seo_family_is_encoder(model->config.family);
    SEO_ASSERT(args->batch >= 1 && args->batch <= model->batch);
    SEO_ASSERT(args->positions >= 1 && args->positions <= model->config.seq_len);
    SEO_ASSERT(args->stride >= args->positions || args->batch == 1);
    SEO_ASSERT(args->hooks || !needs_hooks(model, backward));
    SEO_ASSERT(!args->spans || has(model, SEO_INPUT_SPANS));
    SEO_ASSERT(args->picks ||
               !(encoder ? has(model, SEO_INPUT_PICK_ROWS) : has(model, SEO_INPUT_LABELS)));
    if (!backward) return;
    SEO_ASSERT(args->targets || !has(model, SEO_INPUT_TARGETS));
    SEO_ASSERT(args->pick_targets || !has(model, SEO_INPUT_PICK_TARGETS));
    SEO_ASSERT(args->labels || !has(model, SEO_INPUT_LABELS));
}

static seo_pass pass_of(const seo_model *model, const seo_pass_args *args) {
    const seo_model_config *m = &model->config;
    seo_pass pass = {.dev = model->dev,
                     .table = &model->params,
                     .params = seo_model_read_set(model)->tensors,
                     .grads = model->grads.tensors,
                     .batch = args->batch,
                     .positions = args->positions,
                     .dropout = args->dropout ? (float)m->dropout : 0.0f,
                     .attention_dropout = args->dropout ? (float)m->attention_dropout : 0.0f,
                     .seed = model->seed,
                     .place = input(model, SEO_INPUT_PLACE, SEO_PLACE_COUNT),
                     .adapters = model->adapters,
                     .hooks = args->hooks};
    pass.sequence_place = pass.place;
    pass.sequence_place.data = (int32_t *)pass.place.data + SEQUENCE_PLACE_AT;
    if (args->spans) {
        pass.spans = input(model, SEO_INPUT_SPANS, 2 * args->batch * args->positions);
        pass.spans = seo_tensor_3d(pass.spans.data, SEO_DTYPE_I32, args->batch, args->positions, 2);
    }
    return pass;
}

/* Losses of the pass: of a decoder one a position, of an encoder one a pick. */
static int64_t loss_count(const seo_model *model, const seo_pass_args *args) {
    const bool encoder = seo_family_is_encoder(model->config.family);
    return args->batch * (encoder ? model->config.picks : args->positions);
}

static seo_family_io io_of(const seo_model *model, const seo_pass_args *args, bool backward) {
    const int64_t rows = args->batch * args->positions, losses = loss_count(model, args);
    seo_family_io io = {.inputs.ids = input(model, SEO_INPUT_IDS, rows),
                        .grad_scale = args->grad_scale,
                        .label_scale = args->label_scale,
                        .teaching = args->teaching};
    if (has(model, SEO_INPUT_TYPES)) io.inputs.types = input(model, SEO_INPUT_TYPES, rows);
    if (backward && has(model, SEO_INPUT_GROUPS)) {
        io.inputs.groups = input(model, SEO_INPUT_GROUPS, seo_groups_size(rows));
    }
    if (model->losses.rank > 0) {
        io.losses = seo_tensor_1d(model->losses.data, SEO_DTYPE_F32, losses);
    }
    if (has(model, SEO_INPUT_TARGETS) && args->targets) {
        io.targets = input(model, SEO_INPUT_TARGETS, rows);
    }
    if (has(model, SEO_INPUT_PICK_ROWS)) {
        io.pick_rows = input(model, SEO_INPUT_PICK_ROWS, losses);
        if (args->pick_targets) io.pick_targets = input(model, SEO_INPUT_PICK_TARGETS, losses);
    }
    if (has(model, SEO_INPUT_LABELS)) {
        io.label_rows = input(model, SEO_INPUT_LABEL_ROWS, args->batch);
        if (args->labels) io.labels = input(model, SEO_INPUT_LABELS, args->batch);
        io.label_losses = seo_tensor_1d(model->label_losses.data, SEO_DTYPE_F32, args->batch);
    }
    return io;
}

static seo_err start_pass(seo_model *model, const seo_pass_args *args, bool backward,
                          seo_family_io *io) {
    check_pass(model, args, backward);
    model->last = pass_of(model, args);
    *io = io_of(model, args, backward);
    return send(model, 0, stage(model, args, backward));
}

/* Losses lie where every pass leaves them; the caller may want them elsewhere. */
static seo_err hand_over(const seo_model *model, const seo_tensor *from, const seo_tensor *to,
                         int64_t count) {
    if (from->rank == 0 || to->rank == 0 || to->data == from->data) return SEO_OK;
    SEO_ASSERT(seo_tensor_count(to) == count);
    return seo_device_copy(model->dev, to->data, from->data, seo_tensor_bytes(to));
}

static seo_err hand_over_losses(seo_model *model, const seo_pass_args *args) {
    const seo_err err = hand_over(model, &model->losses, &args->losses, loss_count(model, args));
    if (err != SEO_OK) return err;
    return hand_over(model, &model->label_losses, &args->label_losses, args->batch);
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

static seo_model_key key_of(const seo_model *model, const seo_pass_args *args) {
    return (seo_model_key){.batch = args->batch,
                           .positions = args->positions,
                           .grad_scale = args->grad_scale,
                           .label_scale = args->label_scale,
                           .dropout = model->last.dropout,
                           .attention_dropout = model->last.attention_dropout,
                           .spans = args->spans != NULL};
}

static bool same_key(const seo_model_key *a, const seo_model_key *b) {
    return a->batch == b->batch && a->positions == b->positions && a->grad_scale == b->grad_scale &&
           a->label_scale == b->label_scale && a->dropout == b->dropout &&
           a->attention_dropout == b->attention_dropout && a->spans == b->spans;
}

/* The record of passes like this one: in place of the one that was least recently used, when it is
 * new. A run whose scales change, since its batch grows or its targets are counted anew in each,
 * has new ones all the time; when they stay they are recorded. */
static seo_err shape_of(seo_model *model, const seo_pass_args *args, seo_model_shape **out) {
    const seo_model_key key = key_of(model, args);
    seo_model_shape *oldest = &model->shapes[0];
    *out = NULL;
    for (int64_t i = 0; i < SEO_MODEL_SHAPES; i++) {
        seo_model_shape *s = &model->shapes[i];
        if (same_key(&s->key, &key)) *out = s;
        if (s->used < oldest->used) oldest = s;
    }
    if (!*out) {
        /* It may be running. */
        const seo_err err = oldest->replay.graph ? seo_device_sync(model->dev) : SEO_OK;
        if (err != SEO_OK) return err;
        seo_replay_free(&oldest->replay);
        oldest->key = key;
        *out = oldest;
    }
    (*out)->used = ++model->passes;
    return SEO_OK;
}

seo_err seo_model_forward_backward(seo_model *model, const seo_pass_args *args) {
    seo_err err = SEO_OK;
    seo_family_io io = {0};
    queued_pass queued = {.model = model, .io = &io};
    SEO_ASSERT(model->mode == SEO_MODEL_TRAIN);
    SEO_TRY(start_pass(model, args, true, &io));
    /* Where others have a hand in the pass it is another one each time. */
    if (args->hooks || args->teaching) {
        SEO_TRY(queue_pass(&queued));
    } else {
        seo_model_shape *shape = NULL;
        SEO_TRY(shape_of(model, args, &shape));
        SEO_TRY(seo_replay_run(&shape->replay, model->dev, queue_pass, &queued));
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
static seo_err read_logits(seo_model *model, const seo_tensor *logits, int64_t width, float *out) {
    const int64_t rows = logits->dims[0], padded = logits->dims[1];
    if (padded == width) return seo_values_read(model->dev, logits, out);
    for (int64_t r = 0; r < rows; r++) {
        char *from = (char *)logits->data + r * padded * seo_dtype_bytes(logits->dtype);
        const seo_tensor row = seo_tensor_1d(from, logits->dtype, width);
        const seo_err err = seo_values_read(model->dev, &row, out + r * width);
        if (err != SEO_OK) return err;
    }
    return SEO_OK;
}

seo_err seo_model_logits_at(seo_model *model, int64_t first, int64_t count, seo_tensor *out) {
    const bool encoder = seo_family_is_encoder(model->config.family);
    const int64_t rows =
        encoder ? model->last.batch * model->config.picks : seo_pass_rows(&model->last);
    SEO_ASSERT(first >= 0 && count >= 1 && first + count <= rows);
    return model->family->logits(model->state, &model->last, first, count, out);
}

seo_err seo_model_logits(seo_model *model, int64_t first, int64_t count, float *out) {
    const int64_t width = model->config.vocab_size;
    for (int64_t done = 0; done < count;) {
        seo_tensor logits = {0};
        seo_err err = seo_model_logits_at(model, first + done, count - done, &logits);
        if (err != SEO_OK) return err;
        err = read_logits(model, &logits, width, out + done * width);
        if (err != SEO_OK) return err;
        done += logits.dims[0];
    }
    return SEO_OK;
}

seo_err seo_model_label_logits(seo_model *model, float *out) {
    seo_tensor logits = model->family->label_logits(model->state);
    SEO_ASSERT(has(model, SEO_INPUT_LABELS));
    logits.dims[0] = model->last.batch;
    return seo_values_read(model->dev, &logits, out);
}

seo_tensor seo_model_hidden(const seo_model *model) {
    const seo_tensor hidden = model->family->hidden(model->state);
    return seo_view_rows(&model->last, &hidden, model->config.hidden_size);
}

seo_err seo_model_forward_cached(seo_model *model, const seo_cached_args *args) {
    seo_err err = SEO_OK;
    SEO_ASSERT(model->mode == SEO_MODEL_GENERATE);
    SEO_ASSERT(args->count >= 1 && args->cached >= 0 && args->rows <= args->count);
    SEO_ASSERT(args->cached + args->count <= model->config.seq_len);
    const seo_tensor ids = input(model, SEO_INPUT_IDS, args->count);
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
