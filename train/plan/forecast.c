#include "train/plan/forecast.h"

#include "base/check.h"
#include "train/plan/memory.h"
#include "train/schedule.h"

static const double k_seconds_an_hour = 3600, k_joules_a_kwh = 3.6e6;

/* Part of a link's rate that collectives reach: NCCL's ring has 365 of 450 GB/s on NVLink 4
 * (nccl-tests #272). */
static const double k_link_share = 0.8;

/* Bytes that AdamW reads and writes for a parameter: value, gradient, both moments, and the copy of
 * a working parameter. */
static const double k_update_bytes = 30;

/* Operations of a forward pass, a token: of the blocks' matrices, of attention, of the head. */
typedef struct forward_flops {
    double blocks, attention, head;
} forward_flops;

/* Keys that a position sees, on average over the sequence: all, those up to its own, or of these
 * the last `band`. */
static double keys_of(const seo_model_config *m, int64_t layer) {
    const double length = (double)m->seq_len, band = (double)m->band;
    if (seo_family_is_encoder(m->family)) return length;
    if (m->band == 0 || m->band >= m->seq_len || layer % 2 == 0) return (length + 1) / 2;
    return (band * (band + 1) / 2 + (length - band) * band) / length;
}

/* Of the heads: each of an encoder's picks goes through a matrix of the width and the vocabulary, a
 * label through the pooler or its like and a few rows. */
static double head_flops(const seo_model_config *m) {
    const seo_loss_shape shape = seo_model_loss_shape(m);
    const double width = (double)m->hidden_size, length = (double)m->seq_len;
    const bool encoder = seo_family_is_encoder(m->family);
    double row = 2 * (double)m->vocab_size * width, label = 0;
    if (encoder) row += 2 * width * width;
    if (shape.label) {
        const int64_t outputs = m->classes > 0 ? m->classes : 2;
        label = 2 * (double)outputs * width + (encoder ? 2 * width * width : 0);
    }
    return (row * (double)shape.rows + label) / length;
}

static forward_flops count_flops(const seo_model_config *m, const seo_params *params) {
    forward_flops f = {.head = head_flops(m)};
    for (int64_t i = 0; i < params->count; i++) {
        const seo_param *p = &params->items[i];
        if (p->rank == 2 && p->block != SEO_PARAM_NO_BLOCK)
            f.blocks += 2 * (double)seo_param_elements(p);
    }
    for (int64_t n = 0; n < m->num_layers; n++) {
        f.attention += 2 * 2 * (double)m->hidden_size * keys_of(m, n);
    }
    return f;
}

/* Elements that one rank sends for a collective over `count`. */
static int64_t sent(int64_t count, int32_t ranks) {
    return count / ranks * (ranks - 1);
}

typedef struct traffic {
    int64_t sums, gathers; /* bytes a rank sends in a step: gradients, parameters */
} traffic;

/* How often a segment is gathered in a step of `passes` passes when blocks are on a rank only while
 * they are used: the forward leaves the last two there for the backward, and the backward the first
 * two for the next forward. */
static int64_t gathers_of(const seo_segment *segment, int64_t blocks, int64_t passes) {
    if (segment->block == SEO_PARAM_NO_BLOCK) return 1;
    const int64_t forward = segment->block < SEO_SHARD_WINDOWS ? 1 : passes;
    const int64_t backward = segment->block >= blocks - SEO_SHARD_WINDOWS ? 0 : passes;
    return forward + backward;
}

/* What train/parallel.h does, counted. */
static traffic count_traffic(const seo_config *c, const seo_shards *shards, seo_dtype storage,
                             int64_t passes) {
    const int64_t wire = seo_dtype_bytes(c->parallel.reduce), read = seo_dtype_bytes(storage);
    traffic t = {0};
    for (int64_t s = 0; s < shards->segment_count && shards->ranks > 1; s++) {
        const seo_segment *segment = &shards->segments[s];
        const int64_t elements = sent(segment->count, shards->ranks);
        t.sums += elements * wire * (shards->zero >= 2 ? passes : 1);
        if (shards->zero == 0) {
            t.gathers += elements * (int64_t)sizeof(float);
        } else {
            t.gathers += elements * read *
                         (shards->zero == 3 ? gathers_of(segment, c->model.num_layers, passes) : 1);
        }
    }
    return t;
}

/* Sums hide behind the backward pass that makes them, gathers behind the forward pass that waits
 * for them: of one micro-batch with zero 0 and 1, of each with 2 and 3. */
static void add_exchange(const seo_forecast_args *args, const traffic *t, int32_t zero,
                         seo_forecast *out) {
    const seo_machines *m = args->machines;
    const double rate = k_link_share * (m->count <= m->device.per_node ? m->device.link_rate
                                                                       : m->device.network_rate);
    const double sums = (double)t->sums / rate, gathers = (double)t->gathers / rate;
    const double cover = zero >= 2 ? out->compute_s : out->compute_s / (double)out->micro_batches;
    out->sent_bytes = t->sums + t->gathers;
    out->exchange_s = sums + gathers;
    out->exposed_s = 0;
    if (sums > cover * 2 / 3) out->exposed_s += sums - cover * 2 / 3;
    if (gathers > cover / 3) out->exposed_s += gathers - cover / 3;
}

static void add_times(const seo_forecast_args *args, const seo_shards *shards,
                      const forward_flops *f, seo_forecast *out) {
    const seo_config *c = args->config;
    const seo_machine *d = &args->machines->device;
    const double count = args->machines->count, tokens = (double)c->train.batch_tokens;
    const double peak = args->storage == SEO_DTYPE_BF16 ? d->bf16_flops : d->f32_flops;
    /* Frozen matrices need the gradient of their input alone; adapters are too narrow to count. */
    const double products = c->model.lora_rank > 0 ? 2 : 3;
    out->model_flops = products * (f->blocks + f->head) + 3 * f->attention;
    out->machine_flops = out->model_flops;
    if (c->parallel.recompute == SEO_RECOMPUTE_FULL) out->machine_flops += f->blocks + f->attention;
    out->compute_s = out->machine_flops * tokens / (count * peak * d->utilisation);
    const int64_t updated = shards->zero == 0 ? shards->whole_count : shards->shard_count;
    out->update_s = k_update_bytes * (double)updated / d->memory_rate;
    const traffic t = count_traffic(c, shards, args->storage, out->micro_batches);
    add_exchange(args, &t, shards->zero, out);
    out->step_s = out->compute_s + out->update_s + out->exposed_s;
    out->run_s = out->step_s * (double)seo_schedule_tokens(c) / (double)c->train.batch_tokens;
    out->tokens_per_s = tokens / out->step_s;
    out->utilisation = out->model_flops * tokens / (out->step_s * count * peak);
}

static void add_costs(const seo_forecast_args *args, seo_forecast *out) {
    const double devices = args->machines->count;
    const double watts = devices * (args->machines->device.watts + args->host_watts) * args->pue;
    out->kwh = watts * out->run_s / k_joules_a_kwh;
    out->kg_co2 = out->kwh * args->grams_per_kwh / 1000;
    out->dollars = devices * args->price * out->run_s / k_seconds_an_hour;
}

seo_err seo_forecast_make(const seo_forecast_args *args, seo_forecast *out) {
    seo_err err = SEO_OK;
    const seo_config *c = args->config;
    const int32_t ranks = args->machines->count;
    seo_params params = {0};
    seo_shards shards = {0};
    *out = (seo_forecast){0};
    const seo_plan_rank rank = {.config = c,
                                .ranks = ranks,
                                .cpu = args->machines->device.cpu,
                                .storage = args->storage,
                                .micro_batch = c->train.micro_batch};
    const seo_model_args model = seo_plan_model_args(&rank);
    const seo_device_facts facts = seo_device_facts_for(rank.cpu);
    SEO_TRY(seo_model_layout(&model, &facts, &params, &shards));
    const int64_t sequences = c->train.batch_tokens / c->model.seq_len / ranks;
    out->micro_batches = seo_div_up(sequences, c->train.micro_batch);
    out->parameters = seo_params_elements(&params);
    out->checkpoint_bytes = 3 * (int64_t)sizeof(float) * seo_params_trained(&params);
    const forward_flops flops = count_flops(&c->model, &params);
    add_times(args, &shards, &flops, out);
    add_costs(args, out);
done:
    seo_shards_free(&shards);
    seo_params_free(&params);
    return err;
}
