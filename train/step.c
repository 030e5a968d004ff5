#include "train/step.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/progress.h"
#include "train/schedule.h"
#include "train/signal.h"

struct seo_step {
    seo_step_args a;
    seo_device *dev;
    seo_comm *comm; /* NULL: one rank */
    int32_t rank, ranks;
    seo_loss_shape shape;
    int64_t sequences; /* of this rank's part of a full batch */
    int64_t local;     /* of its part of this step's batch */
    void *memory;
    /* (sequences * rows) on the device, and behind them (sequences) of the labels */
    seo_tensor losses, label_losses;
    float *host_losses; /* both, copied out once a step */
    /* Once a step each rank tells all: its word, then of its sequences the sums of the tokens'
     * losses, then the labels' losses. */
    char *mine, *all; /* one message, and those of all ranks */
    int64_t message_bytes;
    double *token_nats, *label_nats; /* of the global batch, by sequence */
    double *sequence_nats;           /* their sums */
    seo_distill_sums *taught;        /* of a student, behind the labels' in a message; else NULL */
    seo_step_word *words;
    seo_comm_times seen; /* when the last step ended */
};

static int64_t batch_sequences(const seo_config *config) {
    return config->train.batch_tokens / config->model.seq_len;
}

/* A slot is made of whole micro-batches, so that they are the same for every number of ranks. */
static seo_err check_batch(const seo_step *step) {
    const seo_train_config *train = &step->a.config->train;
    const int64_t all = batch_sequences(step->a.config);
    const int64_t slots = step->a.parallel ? seo_parallel_slots(step->a.parallel) : 0;
    if (all % step->ranks != 0) {
        return SEO_FAIL(SEO_ERR_USAGE,
                        "the batch of %lld sequences cannot be shared equally by %d ranks: change "
                        "train.batch_tokens or the number of ranks",
                        (long long)all, step->ranks);
    }
    if (slots > 0 && (all % slots != 0 || all / slots % train->micro_batch != 0)) {
        return SEO_FAIL(SEO_ERR_USAGE,
                        "parallel.invariant: the batch of %lld sequences is no %lld parallel.slots "
                        "of whole micro-batches of %lld: change train.batch_tokens, "
                        "train.micro_batch or parallel.slots",
                        (long long)all, (long long)slots, (long long)train->micro_batch);
    }
    if (step->ranks > 1 && step->message_bytes > SEO_COMM_HOST_BYTES_MAX) {
        return SEO_FAIL(SEO_ERR_USAGE,
                        "%lld sequences a step are too many for one rank: take more ranks, or a "
                        "smaller train.batch_tokens",
                        (long long)step->sequences);
    }
    return SEO_OK;
}

/* Losses of a sequence: of its tokens and of its label. */
static int64_t sequence_losses(const seo_config *config) {
    const seo_loss_shape shape = seo_model_loss_shape(&config->model);
    return shape.rows + shape.label;
}

static int64_t losses_bytes(const seo_config *config, int64_t sequences) {
    return sequences * sequence_losses(config) * (int64_t)sizeof(float);
}

static seo_err take_memory(seo_step *step) {
    const int64_t bytes = losses_bytes(step->a.config, step->sequences);
    const int64_t all = batch_sequences(step->a.config),
                  tokens = step->sequences * step->shape.rows;
    const seo_err err = seo_device_alloc(step->dev, bytes, &step->memory);
    if (err != SEO_OK) return err;
    step->losses = seo_tensor_1d(step->memory, SEO_DTYPE_F32, tokens);
    step->label_losses = seo_tensor_1d((float *)step->memory + tokens, SEO_DTYPE_F32,
                                       step->shape.label ? step->sequences : 0);
    step->host_losses = malloc((size_t)bytes);
    step->mine = calloc(1, (size_t)step->message_bytes);
    step->all = calloc((size_t)step->ranks, (size_t)step->message_bytes);
    step->token_nats = calloc((size_t)(3 * all), sizeof *step->token_nats);
    step->words = calloc((size_t)step->ranks, sizeof *step->words);
    if (!step->host_losses || !step->mine || !step->all || !step->token_nats || !step->words) {
        return SEO_FAIL(SEO_ERR_MEMORY, "the losses of %lld sequences", (long long)all);
    }
    if (step->a.distill) {
        step->taught = calloc((size_t)all, sizeof *step->taught);
        if (!step->taught) return SEO_FAIL(SEO_ERR_MEMORY, "the losses of a student");
    }
    step->label_nats = step->token_nats + all;
    step->sequence_nats = step->label_nats + all;
    return SEO_OK;
}

seo_err seo_step_open(const seo_step_args *args, seo_step **out) {
    seo_err err = SEO_OK;
    *out = NULL;
    seo_step *step = calloc(1, sizeof *step);
    if (!step) return SEO_FAIL(SEO_ERR_MEMORY, "a training step");
    step->a = *args;
    step->dev = seo_model_device(args->model);
    const seo_shards *shards = seo_model_shards(args->model);
    step->rank = shards->rank;
    step->ranks = shards->ranks;
    step->comm = args->parallel ? seo_parallel_comm(args->parallel) : NULL;
    SEO_ASSERT(step->ranks == 1 || step->comm);
    step->sequences = batch_sequences(args->config) / step->ranks;
    step->shape = seo_model_loss_shape(&args->config->model);
    step->message_bytes = (int64_t)sizeof(seo_step_word) +
                          step->sequences * (1 + step->shape.label) * (int64_t)sizeof(double);
    if (args->distill) {
        step->message_bytes += step->sequences * (int64_t)sizeof(seo_distill_sums);
    }
    SEO_TRY(check_batch(step));
    SEO_TRY(take_memory(step));
    *out = step;
    step = NULL;
done:
    seo_step_close(step);
    return err;
}

void seo_step_measure(const seo_config *config, int32_t ranks, seo_memory_table *out) {
    seo_memory_add(out, "losses of a step", losses_bytes(config, batch_sequences(config) / ranks));
}

void seo_step_close(seo_step *step) {
    if (!step) return;
    seo_device_free(step->dev, step->memory);
    free(step->host_losses);
    free(step->mine);
    free(step->all);
    free(step->token_nats);
    free(step->words);
    free(step->taught);
    free(step);
}

/* Row `first` of an array of a batch, `width` elements a row; NULL where the batch has none. */
static const int32_t *rows_of(const int32_t *array, int64_t first, int64_t width) {
    return array ? array + first * width : NULL;
}

/* A part of one of the two lists of losses: rows [first, first + count). */
static seo_tensor part_of(const seo_tensor *losses, int64_t first, int64_t count, int64_t width) {
    if (seo_tensor_count(losses) == 0) return (seo_tensor){0};
    return seo_tensor_1d((float *)losses->data + first * width, SEO_DTYPE_F32, count * width);
}

/* What sums of losses are divided by. */
static float mean_scale(int64_t count) {
    return count > 0 ? 1.0f / (float)count : 0.0f;
}

static seo_pass_args pass_of(const seo_step *step, const seo_batch *batch, int64_t first,
                             int64_t count) {
    const int64_t positions = batch->seq_len, rows = step->shape.rows;
    return (seo_pass_args){.ids = rows_of(batch->ids, first, batch->stride),
                           .targets = rows_of(batch->targets, first, batch->stride),
                           .stride = batch->stride,
                           .types = rows_of(batch->types, first, positions),
                           .spans = rows_of(batch->spans, first, 2 * positions),
                           .picks = rows_of(batch->picks, first, batch->pick_count),
                           .pick_targets = rows_of(batch->pick_targets, first, batch->pick_count),
                           .labels = rows_of(batch->labels, first, 1),
                           .batch = count,
                           .positions = positions,
                           .losses = part_of(&step->losses, first, count, rows),
                           .label_losses = part_of(&step->label_losses, first, count, 1),
                           .grad_scale = mean_scale(batch->total_targets),
                           .label_scale = mean_scale(batch->total_sequences),
                           .dropout = true,
                           .first_sequence = step->rank * batch->sequences + first};
}

static seo_err one_pass(seo_step *step, int64_t number, const seo_batch *batch, int64_t index) {
    const int64_t micro = step->a.config->train.micro_batch, first = index * micro;
    const int64_t count = seo_min_i64(micro, batch->sequences - first);
    seo_pass_args pass = pass_of(step, batch, first, count);
    seo_err err = SEO_OK;
    pass.step = number;
    pass.groups = rows_of(batch->groups, index, batch->groups_stride);
    if (step->a.distill) {
        SEO_TRY(seo_distill_pass(step->a.distill, first, batch->total_sequences, &pass));
    }
    if (step->a.parallel) SEO_TRY(seo_parallel_pass(step->a.parallel, index, &pass.hooks));
    SEO_TRY(seo_model_forward_backward(step->a.model, &pass));
    if (step->a.distill) SEO_TRY(seo_distill_passed(step->a.distill));
    if (step->a.parallel) SEO_TRY(seo_parallel_passed(step->a.parallel, index));
done:
    return err;
}

/* Forward and backward of this rank's part, micro-batch by micro-batch in order. A rank that others
 * wait for does not leave on the way. */
static seo_err accumulate(seo_step *step, int64_t number, const seo_batch *batch) {
    seo_err err = SEO_OK;
    seo_parallel *parallel = step->a.parallel;
    SEO_ASSERT(batch->sequences <= step->sequences &&
               batch->sequences * step->ranks == batch->total_sequences);
    const int64_t passes = seo_div_up(batch->sequences, step->a.config->train.micro_batch);
    SEO_TRY(parallel ? seo_parallel_begin(parallel, passes) : seo_model_zero_grads(step->a.model));
    for (int64_t index = 0; index < passes; index++) {
        if (step->ranks == 1 && seo_signal_asked() != 0) {
            return SEO_FAIL(SEO_ERR_STOPPED, "step %lld was left off", (long long)number);
        }
        SEO_TRY(one_pass(step, number, batch, index));
    }
    if (parallel) SEO_TRY(seo_parallel_reduced(parallel));
done:
    return err;
}

/* Where a message has what a student's losses are made of. */
static seo_distill_sums *taught_in(const seo_step *step, char *message) {
    const int64_t lists = 1 + step->shape.label;
    char *at = message + sizeof(seo_step_word) + lists * step->sequences * (int64_t)sizeof(double);
    return (seo_distill_sums *)(void *)at;
}

static seo_err sum_sequences(seo_step *step) {
    double *sums = (double *)(void *)(step->mine + sizeof(seo_step_word));
    const int64_t rows = step->shape.rows;
    const float *tokens = step->host_losses, *labels = tokens + step->sequences * rows;
    const seo_err err = seo_device_copy_out(step->dev, step->host_losses, step->memory,
                                            losses_bytes(step->a.config, step->sequences));
    if (err != SEO_OK) return err;
    for (int64_t s = 0; s < step->local; s++) {
        sums[s] = 0;
        for (int64_t t = 0; t < rows; t++) sums[s] += (double)tokens[s * rows + t];
        if (step->shape.label) sums[step->sequences + s] = (double)labels[s];
    }
    if (!step->a.distill) return SEO_OK;
    return seo_distill_read(step->a.distill, step->local, taught_in(step, step->mine));
}

static double waited_s(const seo_step *step) {
    seo_comm_times times = {0};
    if (step->comm) seo_comm_times_of(step->comm, &times);
    return times.waited_s;
}

/* What this rank tells, and what all have told. */
static seo_err exchange(seo_step *step, const seo_step_word *word) {
    seo_err err = SEO_OK;
    const size_t bytes = (size_t)step->local * sizeof(double);
    memcpy(step->mine, word, sizeof *word);
    if (step->comm) {
        SEO_TRY(seo_comm_gather_host(step->comm, (seo_comm_label){"gather losses", word->number},
                                     step->mine, step->message_bytes, step->all));
    } else {
        memcpy(step->all, step->mine, (size_t)step->message_bytes);
    }
    for (int32_t r = 0; r < step->ranks; r++) {
        char *from = step->all + r * step->message_bytes;
        if (step->taught) {
            memcpy(step->taught + r * step->local, taught_in(step, from),
                   (size_t)step->local * sizeof *step->taught);
        }
        memcpy(&step->words[r], from, sizeof *word);
        from += sizeof *word;
        memcpy(step->token_nats + r * step->local, from, bytes);
        if (step->shape.label) {
            from += step->sequences * (int64_t)sizeof(double);
            memcpy(step->label_nats + r * step->local, from, bytes);
        }
    }
done:
    return err;
}

/* Ranks that see other numbers would part from here on, each into a model of its own. Bits are
 * compared, as not-a-number is equal to nothing. */
static seo_err compare_words(const seo_step *step) {
    const seo_step_word *first = &step->words[0];
    for (int32_t r = 1; r < step->ranks; r++) {
        const seo_step_word *word = &step->words[r];
        if (word->number != first->number) {
            return SEO_FAIL(SEO_ERR_NUMERIC, "rank %d is at step %lld, rank 0 at step %lld", r,
                            (long long)word->number, (long long)first->number);
        }
        if (memcmp(&word->grad_norm, &first->grad_norm, sizeof first->grad_norm) != 0) {
            return SEO_FAIL(SEO_ERR_NUMERIC,
                            "step %lld: rank %d has a gradient norm of %.9g, rank 0 of %.9g: they "
                            "must have the same processor (or GPU) and build",
                            (long long)word->number, r, word->grad_norm, first->grad_norm);
        }
    }
    return SEO_OK;
}

/* What a student learns besides: a mean over positions is one over sequences of what was divided by
 * seq_len. Each sequence's part is added to its own sum, in nats of a token that counts. */
static void add_taught(const seo_step *step, seo_step_result *out) {
    const seo_distill_config *distill = &step->a.config->distill;
    double hard = 0, cosine = 0;
    for (int64_t s = out->sequence_count - 1; s >= 0; s--) {
        hard += step->taught[s].hard;
        cosine += step->taught[s].cosine;
        step->sequence_nats[s] += step->taught[s].cosine;
    }
    if (out->batch.total_targets > 0) out->hard_loss = hard / (double)out->batch.total_targets;
    out->cosine_loss = cosine / (double)out->batch.total_sequences;
    if (distill->soft > 0) {
        out->soft_loss = (out->token_loss - distill->hard * out->hard_loss) / distill->soft;
    }
    out->loss += out->cosine_loss;
}

/* Sums in the order of the batch, so that neither micro-batches nor ranks show in the last digit.
 */
static void add_losses(const seo_step *step, seo_step_result *out) {
    const seo_model_config *model = &step->a.config->model;
    const double weight =
        model->classes > 0 && !seo_family_is_encoder(model->family) ? model->lm_weight : 1;
    double tokens = 0, labels = 0;
    out->sequence_count = step->local * step->ranks;
    for (int64_t s = out->sequence_count - 1; s >= 0; s--) {
        tokens += step->token_nats[s];
        labels += step->label_nats[s];
        step->sequence_nats[s] = step->token_nats[s] + step->label_nats[s];
    }
    if (out->batch.total_targets > 0) {
        out->token_loss = tokens / (double)out->batch.total_targets;
    }
    out->label_loss = labels / (double)out->batch.total_sequences;
    out->loss = weight * out->token_loss + out->label_loss;
    if (step->taught) add_taught(step, out);
    out->two_losses = step->shape.rows > 0 && step->shape.label;
    out->sequence_nats = step->sequence_nats;
    out->sequence_losses = sequence_losses(step->a.config);
    out->words = step->words;
    out->word_count = step->ranks;
}

/* The norm and the losses to all, and the same answer on all. */
static seo_err tell(seo_step *step, int64_t number, double own_from_s, seo_step_result *out) {
    seo_err err = SEO_OK;
    SEO_TRY(sum_sequences(step));
    const seo_step_word word = {.stop = seo_signal_asked(),
                                .save = step->a.save_due && step->a.save_due(step->a.context),
                                .own_s = seo_clock_s() - waited_s(step) - own_from_s,
                                .data_wait_s = out->data_wait_s,
                                .grad_norm = out->grad_norm,
                                .number = number};
    SEO_TRY(exchange(step, &word));
    SEO_TRY(compare_words(step));
    add_losses(step, out);
done:
    return err;
}

static void measure_comm(seo_step *step, seo_step_result *out) {
    seo_comm_times now = {0};
    if (!step->comm) return;
    seo_comm_times_of(step->comm, &now);
    out->comm_busy_s = now.busy_s - step->seen.busy_s;
    out->comm_waited_s = now.waited_s - step->seen.waited_s;
    out->comm_sent_bytes = now.sent_bytes - step->seen.sent_bytes;
    step->seen = now;
}

/* The norm and the losses are read back before the update is queued: whether it is made is decided
 * here, from the very numbers that are reported, and a loss that is not finite leaves parameters
 * and moments as they are on every device. It costs one wait a step; the device is idle for no
 * longer than the host needs to queue one operator. */
seo_err seo_step_run(seo_step *step, int64_t number, int64_t updates, seo_step_result *out) {
    seo_err err = SEO_OK;
    const seo_config *c = step->a.config;
    const double own_from_s = seo_clock_s() - waited_s(step);
    *out = (seo_step_result){
        .lr = seo_schedule_lr(&c->schedule, c->optimizer.lr, c->train.steps, number)};
    SEO_TRY(seo_loader_get(step->a.loader, number - 1, &out->batch));
    step->local = out->batch.sequences;
    out->tokens = out->batch.total_sequences * out->batch.seq_len;
    out->first_sequence = step->rank * step->local;
    out->data_wait_s = out->batch.wait_s;
    SEO_TRY(accumulate(step, number, &out->batch));
    SEO_TRY(seo_optim_norm(step->a.optim, &out->grad_norm));
    SEO_TRY(tell(step, number, own_from_s, out));
    out->finite = isfinite(out->loss) && isfinite(out->grad_norm);
    out->vetoed = out->finite && step->a.veto && step->a.veto(step->a.context, out->loss);
    if (out->finite && !out->vetoed) {
        SEO_TRY(seo_optim_update(step->a.optim, out->lr, updates + 1));
    }
    measure_comm(step, out);
done:
    return err;
}
