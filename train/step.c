#include "train/step.h"

#include <math.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/progress.h"
#include "train/schedule.h"
#include "train/signal.h"

struct seo_step {
    seo_step_args a;
    seo_device *dev;
    void *memory;
    seo_tensor losses;  /* (batch_tokens) on the device */
    float *host_losses; /* the same, copied out once a step */
    double *sequence_nats;
    seo_step_word word;
};

seo_err seo_step_open(const seo_step_args *args, seo_step **out) {
    seo_err err = SEO_OK;
    *out = NULL;
    const int64_t tokens = args->config->train.batch_tokens;
    seo_step *step = calloc(1, sizeof *step);
    if (!step) return SEO_FAIL(SEO_ERR_MEMORY, "a training step");
    step->a = *args;
    step->dev = seo_model_device(args->model);
    SEO_TRY(seo_device_alloc(step->dev, tokens * 4, &step->memory));
    step->losses = seo_tensor_1d(step->memory, SEO_DTYPE_F32, tokens);
    step->host_losses = malloc((size_t)tokens * sizeof *step->host_losses);
    step->sequence_nats = malloc((size_t)(tokens / args->config->model.seq_len) * sizeof(double));
    if (!step->host_losses || !step->sequence_nats) {
        err = SEO_FAIL(SEO_ERR_MEMORY, "the losses of %lld tokens", (long long)tokens);
    }
done:
    if (err == SEO_OK) {
        *out = step;
    } else {
        seo_step_close(step);
    }
    return err;
}

void seo_step_close(seo_step *step) {
    if (!step) return;
    seo_device_free(step->dev, step->memory);
    free(step->host_losses);
    free(step->sequence_nats);
    free(step);
}

/* Forward and backward of the batch, micro-batch by micro-batch in order. */
static seo_err accumulate(seo_step *step, int64_t number, const seo_batch *batch) {
    seo_err err = SEO_OK;
    const int64_t positions = batch->seq_len, stride = positions + 1;
    const int64_t micro = step->a.config->train.micro_batch;
    SEO_TRY(seo_model_zero_grads(step->a.model));
    for (int64_t first = 0; first < batch->sequences; first += micro) {
        if (seo_signal_asked() != 0) {
            return SEO_FAIL(SEO_ERR_STOPPED, "step %lld was left off", (long long)number);
        }
        const int64_t count = seo_min_i64(micro, batch->sequences - first);
        float *losses = (float *)step->losses.data + first * positions;
        const int32_t *tokens = batch->tokens + first * stride, *groups = batch->groups;
        if (groups) groups += first / micro * batch->groups_stride;
        SEO_TRY(seo_model_forward_backward(
            step->a.model,
            &(seo_pass_args){.ids = tokens,
                             .targets = tokens + 1,
                             .stride = stride,
                             .groups = groups,
                             .batch = count,
                             .positions = positions,
                             .losses = seo_tensor_1d(losses, SEO_DTYPE_F32, count * positions),
                             .grad_scale = 1.0f / (float)(batch->sequences * positions),
                             .dropout = true,
                             .step = number,
                             .first_sequence = first}));
    }
done:
    return err;
}

/* Sums in the order of the batch, so that the micro-batch size does not show in the last digit. */
static seo_err read_loss(seo_step *step, seo_step_result *out) {
    const int64_t positions = out->batch.seq_len, sequences = out->batch.sequences;
    const seo_err err = seo_device_copy_out(step->dev, step->host_losses, step->losses.data,
                                            out->tokens * (int64_t)sizeof *step->host_losses);
    if (err != SEO_OK) return err;
    double total = 0;
    for (int64_t s = sequences - 1; s >= 0; s--) {
        double sum = 0;
        for (int64_t t = 0; t < positions; t++) sum += (double)step->host_losses[s * positions + t];
        step->sequence_nats[s] = sum;
        total += sum;
    }
    out->loss = total / (double)out->tokens;
    out->sequence_nats = step->sequence_nats;
    out->sequence_count = sequences;
    return SEO_OK;
}

/* What this rank tells. */
static void say_word(seo_step *step, double start_s, seo_step_result *out) {
    step->word = (seo_step_word){.stop = seo_signal_asked(),
                                 .save = step->a.save_due && step->a.save_due(step->a.context),
                                 .own_s = seo_clock_s() - start_s};
    out->words = &step->word;
    out->word_count = 1;
}

/* The norm and the losses are read back before the update is queued: whether it is made is decided
 * here, from the very numbers that are reported, and a loss that is not finite leaves parameters
 * and moments as they are on every device. It costs one wait a step; the device is idle for no
 * longer than the host needs to queue one operator. */
seo_err seo_step_run(seo_step *step, int64_t number, int64_t updates, seo_step_result *out) {
    seo_err err = SEO_OK;
    const seo_config *c = step->a.config;
    const double start_s = seo_clock_s();
    *out = (seo_step_result){
        .lr = seo_schedule_lr(&c->schedule, c->optimizer.lr, c->train.steps, number)};
    SEO_TRY(seo_loader_get(step->a.loader, number - 1, &out->batch));
    out->tokens = out->batch.sequences * out->batch.seq_len;
    out->data_wait_s = out->batch.wait_s;
    SEO_TRY(accumulate(step, number, &out->batch));
    SEO_TRY(seo_optim_norm(step->a.optim, &out->grad_norm));
    SEO_TRY(read_loss(step, out));
    say_word(step, start_s, out);
    out->finite = isfinite(out->loss) && isfinite(out->grad_norm);
    out->vetoed = out->finite && step->a.veto && step->a.veto(step->a.context, out->loss);
    if (out->finite && !out->vetoed) {
        SEO_TRY(seo_optim_update(step->a.optim, out->lr, updates + 1));
    }
done:
    return err;
}
