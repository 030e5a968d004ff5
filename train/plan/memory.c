#include "train/plan/memory.h"

#include "base/check.h"
#include "train/distill.h"
#include "train/optim.h"
#include "train/parallel.h"
#include "train/step.h"

static int64_t slots_of(const seo_config *c) {
    return c->parallel.invariant ? c->parallel.slots : 0;
}

seo_model_args seo_plan_model_args(const seo_plan_rank *rank) {
    const seo_config *c = rank->config;
    return (seo_model_args){
        .config = &c->model,
        .mode = SEO_MODEL_TRAIN,
        .batch = rank->micro_batch,
        .storage = rank->storage,
        .no_master = !c->optimizer.master_weights,
        .shard = {.ranks = rank->ranks, .zero = (int32_t)c->parallel.zero, .parts = slots_of(c)},
        .recompute = c->parallel.recompute};
}

static seo_comm_kind comm_kind(const seo_plan_rank *rank) {
    if (rank->ranks == 1) return SEO_COMM_SELF;
    const bool mpi = rank->cpu || rank->config->parallel.backend == SEO_COMM_CHOICE_MPI;
    return mpi ? SEO_COMM_MPI : SEO_COMM_NCCL;
}

static seo_err measure_teacher(const seo_plan_rank *rank, const seo_device_facts *facts,
                               seo_memory_table *out) {
    const seo_config *c = rank->config;
    if (!rank->teacher) return SEO_OK;
    const seo_err err =
        seo_teacher_measure(rank->teacher, c, facts, rank->storage, rank->micro_batch, out);
    if (err != SEO_OK) return err;
    return seo_distill_measure(c, rank->storage, rank->micro_batch,
                               c->train.batch_tokens / c->model.seq_len / rank->ranks, out);
}

/* In the order in which a run takes it. */
seo_err seo_plan_memory_of(const seo_plan_rank *rank, seo_plan_memory *out) {
    seo_err err = SEO_OK;
    seo_params params = {0};
    seo_shards shards = {0};
    const seo_device_facts facts = seo_device_facts_for(rank->cpu);
    const seo_model_args model = seo_plan_model_args(rank);
    *out = (seo_plan_memory){0};
    SEO_TRY(seo_model_measure(&model, &facts, &out->device));
    SEO_TRY(seo_model_layout(&model, &facts, &params, &shards));
    SEO_TRY(seo_optim_measure(&params, &shards, &out->device));
    seo_parallel_measure(&shards, slots_of(rank->config), &out->device);
    SEO_TRY(measure_teacher(rank, &facts, &out->device));
    seo_step_measure(rank->config, rank->ranks, &out->device);
    const seo_comm_memory comm = seo_comm_memory_of(comm_kind(rank), rank->ranks, rank->cpu);
    seo_memory_add(&out->device, "exchange between ranks", comm.device_bytes);
    /* A checkpoint on its way: this rank's chunks of parameters and moments in f32. */
    out->host_bytes = comm.host_bytes + 3 * shards.shard_count * (int64_t)sizeof(float);
done:
    seo_shards_free(&shards);
    seo_params_free(&params);
    return err;
}

seo_err seo_plan_largest_micro_batch(const seo_plan_rank *rank, int64_t device_bytes,
                                     int64_t *out) {
    enum { MOST = 1 << 20 };
    seo_plan_rank tried = *rank;
    seo_plan_memory memory;
    int64_t good = 0, bad = MOST;
    while (bad - good > 1) {
        tried.micro_batch = good + (bad - good) / 2;
        const seo_err err = seo_plan_memory_of(&tried, &memory);
        if (err != SEO_OK && err != SEO_ERR_SHAPE) return err;
        if (err == SEO_OK && seo_memory_total(&memory.device) <= device_bytes) {
            good = tried.micro_batch;
        } else {
            bad = tried.micro_batch;
        }
    }
    *out = good;
    return SEO_OK;
}
