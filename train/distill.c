#include "train/distill.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/slab.h"
#include "train/values.h"

struct seo_distill {
    const seo_config *config;
    seo_device *dev;
    seo_model *teacher;
    int64_t rows;       /* losses of a sequence, as the student has them */
    int64_t projection; /* row of the student's table; -1: widths are the same */
    seo_teaching teaching;
    float cosine_scale; /* of a pass' gradient */
    seo_slab slab;
    void *memory;
    /* Of a pass: rows of it that count, and positions; both in one array, so that it is one copy.
     */
    seo_tensor counts;
    int32_t *staging;
    int64_t positions_at;
    seo_tensor hard, cosine;                /* of a pass: (batch * rows), (batch * seq_len) f32 */
    seo_tensor projected, dprojected, back; /* (R, C teacher) twice, (R, C) */
    /* The same of this rank's part of the batch, on the device and on the host. */
    seo_tensor all_hard, all_cosine;
    float *host;
    int64_t first, batch, positions; /* of the last pass */
};

/* ---- what the student's pass asks ---- */

static seo_tensor vector_at(const seo_tensor *t, int64_t first, int64_t count) {
    char *from = (char *)t->data + first * seo_dtype_bytes(t->dtype);
    return seo_tensor_1d(from, t->dtype, count);
}
static seo_tensor rows_at(const seo_tensor *t, int64_t first, int64_t count) {
    const int64_t width = t->dims[1];
    char *from = (char *)t->data + first * width * seo_dtype_bytes(t->dtype);
    return seo_tensor_2d(from, t->dtype, count, width);
}

/* The teacher makes the logits of the same rows, as many at a time as it has room for. */
static seo_err score_chunk(void *context, const seo_pass *pass, const seo_head_chunk *chunk) {
    const seo_distill *d = context;
    const seo_distill_config *config = &d->config->distill;
    const int64_t count = chunk->logits.dims[0];
    for (int64_t done = 0; done < count;) {
        seo_tensor teacher = {0};
        seo_err err = seo_model_logits_at(d->teacher, chunk->first + done, count - done, &teacher);
        if (err != SEO_OK) return err;
        const int64_t rows = teacher.dims[0], first = chunk->first + done;
        err = seo_distill_cross_entropy(
            pass->dev,
            &(seo_distill_cross_entropy_args){.loss = vector_at(&chunk->losses, done, rows),
                                              .hard = vector_at(&d->hard, first, rows),
                                              .student = rows_at(&chunk->logits, done, rows),
                                              .teacher = teacher,
                                              .targets = vector_at(&chunk->targets, done, rows),
                                              .counts = vector_at(&d->counts, first, rows),
                                              .vocab_size = chunk->vocab_size,
                                              .ignore_index = chunk->ignore_index,
                                              .temperature = (float)config->temperature,
                                              .hard_weight = (float)config->hard,
                                              .soft_weight = (float)config->soft,
                                              .grad_scale = chunk->grad_scale,
                                              .with_gradient = chunk->with_gradient});
        if (err != SEO_OK) return err;
        done += rows;
    }
    return SEO_OK;
}

/* hidden W^T against the teacher's; the gradient goes back through W. */
static seo_err compare_projected(const seo_distill *d, const seo_pass *pass,
                                 seo_cosine_loss_args *loss) {
    seo_err err = SEO_OK;
    const seo_tensor weight = pass->params[d->projection], hidden = loss->a, dhidden = loss->da;
    const int64_t rows = hidden.dims[0];
    const seo_tensor back = rows_at(&d->back, 0, rows);
    loss->a = rows_at(&d->projected, 0, rows);
    if (seo_tensor_given(&dhidden)) loss->da = rows_at(&d->dprojected, 0, rows);
    loss->accumulate = false;
    SEO_TRY(seo_matmul(
        pass->dev,
        &(seo_matmul_args){.out = loss->a, .a = hidden, .b = weight, .layout = SEO_MATMUL_NT}));
    SEO_TRY(seo_cosine_loss(pass->dev, loss));
    if (!seo_tensor_given(&dhidden)) goto done;
    SEO_TRY(seo_matmul(pass->dev, &(seo_matmul_args){.out = pass->grads[d->projection],
                                                     .a = loss->da,
                                                     .b = hidden,
                                                     .layout = SEO_MATMUL_TN,
                                                     .accumulate = true}));
    SEO_TRY(seo_matmul(
        pass->dev,
        &(seo_matmul_args){.out = back, .a = loss->da, .b = weight, .layout = SEO_MATMUL_NN}));
    SEO_TRY(seo_add(pass->dev, &(seo_add_args){.out = dhidden, .a = dhidden, .b = back}));
done:
    return err;
}

static seo_err compare_hidden(void *context, const seo_pass *pass, const seo_tensor *hidden,
                              const seo_tensor *dhidden) {
    const seo_distill *d = context;
    const int64_t rows = seo_pass_rows(pass), width = d->config->model.hidden_size;
    const seo_tensor none = {0};
    if (d->config->distill.cosine <= 0) return SEO_OK;
    seo_cosine_loss_args loss = {.loss = vector_at(&d->cosine, 0, rows),
                                 .da = dhidden ? seo_view_rows(pass, dhidden, width) : none,
                                 .a = seo_view_rows(pass, hidden, width),
                                 .b = seo_model_hidden(d->teacher),
                                 .counts = vector_at(&d->counts, d->positions_at, rows),
                                 .weight = (float)d->config->distill.cosine,
                                 .grad_scale = d->cosine_scale,
                                 .accumulate = true};
    if (d->projection >= 0) return compare_projected(d, pass, &loss);
    return seo_cosine_loss(pass->dev, &loss);
}

/* ---- memory ---- */

static seo_err plan_vector(seo_distill *d, const char *name, seo_dtype dtype, int64_t count,
                           seo_tensor *out) {
    return seo_slab_add(&d->slab, name, dtype, 1, &count, out);
}
static seo_err plan_rows(seo_distill *d, const char *name, seo_dtype dtype, int64_t rows,
                         int64_t width, seo_tensor *out) {
    const int64_t dims[2] = {rows, width};
    return seo_slab_add(&d->slab, name, dtype, 2, dims, out);
}

static seo_err plan(seo_distill *d, seo_dtype storage, int64_t batch, int64_t sequences) {
    seo_err err = SEO_OK;
    const seo_model_config *model = &d->config->model;
    const int64_t positions = batch * model->seq_len, rows = batch * d->rows;
    const int64_t width = model->distill_width;
    d->positions_at = seo_round_up(rows, SEO_SLAB_ALIGN_BYTES / 4);
    SEO_TRY(
        plan_vector(d, "distill.counts", SEO_DTYPE_I32, d->positions_at + positions, &d->counts));
    SEO_TRY(plan_vector(d, "distill.hard", SEO_DTYPE_F32, rows, &d->hard));
    SEO_TRY(plan_vector(d, "distill.cosine", SEO_DTYPE_F32, positions, &d->cosine));
    SEO_TRY(plan_vector(d, "distill.all_hard", SEO_DTYPE_F32, sequences * d->rows, &d->all_hard));
    SEO_TRY(plan_vector(d, "distill.all_cosine", SEO_DTYPE_F32, sequences * model->seq_len,
                        &d->all_cosine));
    if (width == 0) goto done;
    SEO_TRY(plan_rows(d, "distill.projected", storage, positions, width, &d->projected));
    SEO_TRY(plan_rows(d, "distill.dprojected", storage, positions, width, &d->dprojected));
    SEO_TRY(plan_rows(d, "distill.back", storage, positions, model->hidden_size, &d->back));
done:
    return err;
}

seo_err seo_distill_measure(const seo_config *config, seo_dtype storage, int64_t micro_batch,
                            int64_t sequences, seo_memory_table *out) {
    seo_distill *d = calloc(1, sizeof *d);
    if (!d) return SEO_FAIL(SEO_ERR_MEMORY, "a distillation");
    seo_slab_init(&d->slab, "distillation");
    d->config = config;
    d->rows = seo_model_loss_shape(&config->model).rows;
    const seo_err err = plan(d, storage, micro_batch, sequences);
    if (err == SEO_OK) seo_memory_add(out, "distillation", d->slab.bytes);
    seo_distill_close(d);
    return err;
}

static seo_err take(seo_distill *d) {
    seo_err err = SEO_OK;
    const int64_t most =
        seo_max_i64(seo_tensor_count(&d->all_hard), seo_tensor_count(&d->all_cosine));
    SEO_TRY(seo_device_alloc(d->dev, d->slab.bytes, &d->memory));
    seo_slab_bind(&d->slab, d->memory);
    /* What no pass writes, the cosine without its weight, is 0. */
    SEO_TRY(seo_device_zero(d->dev, d->memory, d->slab.bytes));
    d->staging = calloc((size_t)seo_tensor_count(&d->counts), sizeof *d->staging);
    d->host = malloc((size_t)most * sizeof *d->host);
    if (!d->staging || !d->host) err = SEO_FAIL(SEO_ERR_MEMORY, "the losses of a distillation");
done:
    return err;
}

seo_err seo_distill_open(const seo_distill_args *args, seo_distill **out) {
    seo_err err = SEO_OK;
    *out = NULL;
    seo_distill *d = calloc(1, sizeof *d);
    if (!d) return SEO_FAIL(SEO_ERR_MEMORY, "a distillation");
    seo_slab_init(&d->slab, "distillation");
    d->config = args->config;
    d->dev = seo_model_device(args->student);
    d->teacher = args->teacher;
    d->rows = seo_model_loss_shape(&args->config->model).rows;
    d->projection = args->config->model.distill_width > 0
                        ? seo_params_find(seo_model_table(args->student), "distill.proj.weight")
                        : -1;
    d->teaching = (seo_teaching){
        .score = {.chunk = score_chunk, .context = d}, .hidden = compare_hidden, .context = d};
    SEO_ASSERT(args->config->model.distill_width == 0 || d->projection >= 0);
    SEO_TRY(plan(d, seo_model_storage(args->student), args->config->train.micro_batch,
                 args->sequences));
    SEO_TRY(take(d));
    *out = d;
    d = NULL;
done:
    seo_distill_close(d);
    return err;
}

void seo_distill_close(seo_distill *distill) {
    if (!distill) return;
    if (distill->memory) seo_device_free(distill->dev, distill->memory);
    seo_slab_free(&distill->slab);
    free(distill->staging);
    free(distill->host);
    free(distill);
}

/* ---- passes ---- */

/* Padding is a part of its own behind the text, where rows have any: of sentence pairs. */
static bool is_text(const seo_distill *d, const seo_pass_args *pass, int64_t row) {
    return !d->config->model.next_sentence || !pass->spans || pass->spans[2 * row] == 0;
}

static void stage_counts(seo_distill *d, const seo_pass_args *pass) {
    const int64_t positions = pass->positions;
    const bool picks = seo_family_is_encoder(d->config->model.family);
    const int64_t rows = picks ? d->rows : positions;
    for (int64_t b = 0; b < pass->batch; b++) {
        for (int64_t i = 0; i < rows; i++) {
            const int32_t target =
                picks ? pass->pick_targets[b * rows + i] : pass->targets[b * pass->stride + i];
            d->staging[b * rows + i] = target != SEO_TARGET_IGNORE;
        }
        for (int64_t t = 0; t < positions; t++) {
            const int64_t row = b * positions + t;
            d->staging[d->positions_at + row] = is_text(d, pass, row);
        }
    }
}

seo_err seo_distill_pass(seo_distill *distill, int64_t first, int64_t total_sequences,
                         seo_pass_args *pass) {
    seo_err err = SEO_OK;
    seo_distill *d = distill;
    const seo_pass_args reading = {.ids = pass->ids,
                                   .stride = pass->stride,
                                   .types = pass->types,
                                   .spans = pass->spans,
                                   .picks = pass->picks,
                                   .batch = pass->batch,
                                   .positions = pass->positions};
    SEO_ASSERT(pass->positions == d->config->model.seq_len);
    stage_counts(d, pass);
    SEO_TRY(seo_device_copy_in(d->dev, d->counts.data, d->staging, seo_tensor_bytes(&d->counts)));
    SEO_TRY(seo_model_forward(d->teacher, &reading));
    d->first = first;
    d->batch = pass->batch;
    d->positions = pass->positions;
    d->cosine_scale = 1.0f / (float)(total_sequences * d->config->model.seq_len);
    pass->teaching = &d->teaching;
done:
    return err;
}

static seo_err keep(const seo_distill *d, const seo_tensor *all, const seo_tensor *of_pass,
                    int64_t width) {
    const seo_tensor to = vector_at(all, d->first * width, d->batch * width);
    return seo_device_copy(d->dev, to.data, of_pass->data, seo_tensor_bytes(&to));
}

seo_err seo_distill_passed(seo_distill *distill) {
    const seo_err err = keep(distill, &distill->all_hard, &distill->hard, distill->rows);
    if (err != SEO_OK) return err;
    return keep(distill, &distill->all_cosine, &distill->cosine, distill->positions);
}

/* Sums of `width` numbers each. */
static seo_err read_sums(seo_distill *d, const seo_tensor *all, int64_t sequences, int64_t width,
                         double *out, int64_t stride) {
    const seo_tensor part = vector_at(all, 0, sequences * width);
    const seo_err err = seo_values_read(d->dev, &part, d->host);
    if (err != SEO_OK) return err;
    for (int64_t s = 0; s < sequences; s++) {
        double sum = 0;
        for (int64_t i = 0; i < width; i++) sum += (double)d->host[s * width + i];
        out[s * stride] = sum;
    }
    return SEO_OK;
}

seo_err seo_distill_read(seo_distill *distill, int64_t sequences, seo_distill_sums *out) {
    seo_err err = SEO_OK;
    seo_distill *d = distill;
    const int64_t stride = (int64_t)(sizeof *out / sizeof(double)), positions = d->positions;
    SEO_TRY(read_sums(d, &d->all_hard, sequences, d->rows, &out->hard, stride));
    SEO_TRY(read_sums(d, &d->all_cosine, sequences, positions, &out->cosine, stride));
    for (int64_t s = 0; s < sequences; s++) out[s].cosine /= (double)d->config->model.seq_len;
done:
    return err;
}
