/* Training steps on several ranks over MPI, on the CPU: time, the share of communication that is
 * hidden behind computing, bytes of the device.
 *
 * usage: [mpirun -n W] bench_ranks [zero [slots [passes]]]   slots 0: default mode; passes of the
 * global batch, 2 sequences of 128 tokens each
 *
 * A sum over the bits of what passes read (not with zero 3) ends the line: in invariant mode it is
 * the same for every W. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/text.h"
#include "kernels/kernels.h"
#include "train/optim.h"
#include "train/parallel.h"

enum { STEPS = 8, BATCH = 2, POSITIONS = 128 };

typedef struct bench {
    seo_comm *comm;
    seo_device *dev;
    seo_model *model;
    seo_parallel *parallel;
    seo_optim *optim;
    int32_t *ids; /* of the global batch */
    int64_t zero, slots, passes;
    double norm, step_s, busy_s, waited_s;
    int64_t sent_bytes;
} bench;

static const seo_model_config k_model = {.family = SEO_FAMILY_GPT2,
                                         .num_layers = 8,
                                         .num_heads = 6,
                                         .hidden_size = 384,
                                         .ffn_hidden_size = 1536,
                                         .seq_len = POSITIONS,
                                         .vocab_size = 4096,
                                         .activation = SEO_GELU_TANH,
                                         .dropout = 0.1,
                                         .norm_eps = 1e-5};

static const seo_optimizer_config k_adamw = {.lr = 6e-4,
                                             .bias_correction = true,
                                             .beta1 = 0.9,
                                             .beta2 = 0.95,
                                             .eps = 1e-8,
                                             .weight_decay = 0.1,
                                             .clip = 1.0};

static seo_err bench_open(bench *b) {
    seo_err err = SEO_OK;
    SEO_TRY(seo_comm_open_mpi(&(seo_comm_mpi_options){0}, &b->comm));
    SEO_TRY(seo_device_open_cpu(&(seo_cpu_options){.threads = 1}, &b->dev));
    SEO_TRY(seo_comm_attach(b->comm, b->dev));
    SEO_TRY(seo_model_open(&(seo_model_args){.dev = b->dev,
                                             .config = &k_model,
                                             .mode = SEO_MODEL_TRAIN,
                                             .batch = BATCH,
                                             .seed = 1,
                                             .shard = {.rank = seo_comm_rank(b->comm),
                                                       .ranks = seo_comm_size(b->comm),
                                                       .zero = (int32_t)b->zero,
                                                       .parts = b->slots}},
                           &b->model));
    SEO_TRY(seo_parallel_open(
        &(seo_parallel_args){.model = b->model, .comm = b->comm, .slots = b->slots}, &b->parallel));
    SEO_TRY(seo_parallel_refresh(b->parallel));
    SEO_TRY(seo_optim_open(b->model, &k_adamw, &b->optim));
    seo_optim_join(b->optim, b->parallel);
    const int64_t count = b->passes * BATCH * (POSITIONS + 1);
    b->ids = malloc((size_t)count * sizeof *b->ids);
    if (!b->ids) SEO_TRY(SEO_FAIL(SEO_ERR_MEMORY, "a batch of %lld ids", (long long)count));
    for (int64_t i = 0; i < count; i++) b->ids[i] = (int32_t)(i * 7919 % k_model.vocab_size);
done:
    return err;
}

static seo_err one_pass(bench *b, int64_t step, int64_t index, int64_t number) {
    seo_err err = SEO_OK;
    const seo_pass_hooks *hooks = NULL;
    const int32_t *ids = b->ids + number * BATCH * (POSITIONS + 1);
    SEO_TRY(seo_parallel_pass(b->parallel, index, &hooks));
    SEO_TRY(seo_model_forward_backward(
        b->model, &(seo_pass_args){.ids = ids,
                                   .targets = ids + 1,
                                   .stride = POSITIONS + 1,
                                   .batch = BATCH,
                                   .positions = POSITIONS,
                                   .losses = seo_model_losses(b->model),
                                   .grad_scale = 1.0f / (float)(b->passes * BATCH * POSITIONS),
                                   .dropout = true,
                                   .step = step,
                                   .first_sequence = number * BATCH,
                                   .hooks = hooks}));
    SEO_TRY(seo_parallel_passed(b->parallel, index));
done:
    return err;
}

static seo_err one_step(bench *b, int64_t step) {
    seo_err err = SEO_OK;
    const int64_t own = b->passes / seo_comm_size(b->comm);
    SEO_TRY(seo_parallel_begin(b->parallel, own));
    for (int64_t i = 0; i < own; i++) {
        SEO_TRY(one_pass(b, step, i, seo_comm_rank(b->comm) * own + i));
    }
    SEO_TRY(seo_parallel_reduced(b->parallel));
    SEO_TRY(seo_optim_norm(b->optim, &b->norm));
    SEO_TRY(seo_optim_update(b->optim, 6e-4, step));
done:
    return err;
}

/* The best step, and what was spent on communication in all but the first. */
static seo_err run(bench *b) {
    seo_err err = SEO_OK;
    seo_comm_times first = {0}, last = {0};
    SEO_TRY(bench_open(b));
    SEO_TRY(one_step(b, 1));
    seo_comm_times_of(b->comm, &first);
    for (int64_t step = 2; step <= STEPS; step++) {
        const double start = seo_clock_s();
        SEO_TRY(one_step(b, step));
        b->step_s = fmin(b->step_s, seo_clock_s() - start);
    }
    SEO_TRY(seo_parallel_settle(b->parallel));
    seo_comm_times_of(b->comm, &last);
    b->busy_s = (last.busy_s - first.busy_s) / (STEPS - 1);
    b->waited_s = (last.waited_s - first.waited_s) / (STEPS - 1);
    b->sent_bytes = (last.sent_bytes - first.sent_bytes) / (STEPS - 1);
done:
    return err;
}

static uint64_t sum_of_bits(const bench *b) {
    uint64_t sum = UINT64_C(1469598103934665603);
    if (seo_model_read_layout(b->model) == SEO_LAYOUT_WINDOWS) return 0;
    const seo_shards *shards = seo_model_shards(b->model);
    for (int64_t s = 0; s < shards->segment_count; s++) {
        const seo_tensor t = seo_model_read_segment(b->model, s);
        const uint32_t *bits = t.data;
        for (int64_t i = 0; i < shards->segments[s].count; i++) {
            if (bits[i] != 0) sum = (sum ^ bits[i]) * UINT64_C(1099511628211);
        }
    }
    return sum;
}

static void report(const bench *b) {
    char bytes[SEO_SHORT_TEXT], sent[SEO_SHORT_TEXT];
    if (seo_comm_rank(b->comm) != 0) return;
    printf(
        "%d ranks, zero %lld, slots %lld: best step %7.1f ms, in collectives %6.1f ms, waited "
        "%6.1f ms (%3.0f %% hidden), %s sent a step, %s on the device, norm %.9g, bits %016llx\n",
        seo_comm_size(b->comm), (long long)b->zero, (long long)b->slots, b->step_s * 1e3,
        b->busy_s * 1e3, b->waited_s * 1e3,
        b->busy_s > 0 ? 100 * fmax(0, 1 - b->waited_s / b->busy_s) : 0.0,
        seo_format_bytes(sent, (double)b->sent_bytes),
        seo_format_bytes(bytes, (double)seo_device_bytes(b->dev)), b->norm,
        (unsigned long long)sum_of_bits(b));
}

int main(int argc, char **argv) {
    int64_t numbers[3] = {1, 0, 8};
    for (int i = 1; i < argc && i <= 3; i++) {
        if (!seo_parse_int(argv[i], &numbers[i - 1])) {
            fprintf(stderr, "usage: [mpirun -n W] bench_ranks [zero [slots [passes]]]\n");
            return 2;
        }
    }
    bench b = {.zero = numbers[0], .slots = numbers[1], .passes = numbers[2], .step_s = INFINITY};
    const seo_err err = run(&b);
    if (err != SEO_OK) seo_log_failure();
    if (err == SEO_OK) report(&b);
    seo_optim_close(b.optim);
    seo_parallel_close(b.parallel);
    seo_model_close(b.model);
    seo_comm_close(b.comm);
    seo_device_close(b.dev);
    free(b.ids);
    return err == SEO_OK ? 0 : 1;
}
