#include "parallel_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../support/dataset_fixture.h"
#include "../support/threads_comm.h"
#include "base/check.h"
#include "base/progress.h"
#include "tiny_model.h"

static fixture g_data;
static seo_tokenizer *g_tokenizer; /* of encoders: what is special among the ids */

/* As many entries as the vocabulary has, the special ones first. */
static void make_tokenizer(void) {
    char text[TINY_VOCAB * 8] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";
    for (int i = 5; i < TINY_VOCAB; i++) {
        const size_t at = strlen(text);
        snprintf(text + at, sizeof text - at, "w%d\n", i);
    }
    if (seo_tokenizer_parse_bert("tiny", text, strlen(text), false, &g_tokenizer) != SEO_OK) {
        fail_msg("%s", seo_err_detail());
    }
}

const char *ranks_data_make(void) {
    g_data = fixture_usual();
    g_data.vocab_size = TINY_VOCAB;
    g_data.documents = 60;
    make_tokenizer();
    g_data.tokenizer = g_tokenizer;
    fixture_make(&g_data);
    return g_data.folder;
}

void ranks_data_remove(void) {
    fixture_remove(&g_data);
    seo_tokenizer_free(g_tokenizer);
    g_tokenizer = NULL;
}

void ranks_state_free(ranks_state *state) {
    for (int i = 0; i < RANKS_STATES; i++) free(state->values[i]);
    *state = (ranks_state){0};
}

bool ranks_state_equal(const ranks_state *a, const ranks_state *b) {
    bool equal = a->count == b->count;
    for (int i = 0; equal && i < RANKS_STATES; i++) {
        equal = memcmp(a->values[i], b->values[i], (size_t)a->count * sizeof(float)) == 0;
    }
    return equal;
}

/* What a rank has open. */
typedef struct rank {
    const ranks_setup *setup;
    seo_config config;
    seo_device *dev;
    seo_dataset *dataset;
    seo_loader *loader;
    seo_model *model;
    seo_parallel *parallel;
    seo_optim *optim;
    seo_step *step;
} rank;

typedef struct team {
    const ranks_setup *setup;
    ranks_result *out;
    uint64_t whole_sums[RANKS_MAX]; /* of what passes read, where it is whole */
} team;

seo_model_config ranks_model(seo_family family, double dropout, int64_t adapter_rank) {
    const tiny_case of = {.family = family};
    seo_model_config config = tiny_case_config(&of, dropout);
    config.lora_rank = adapter_rank;
    config.lora_alpha = 8;
    config.lora_targets = SEO_LORA_QKV | SEO_LORA_FC;
    return config;
}

static void configure(rank *r) {
    const ranks_setup *s = r->setup;
    r->config.model = ranks_model(s->family, s->dropout, s->adapter_rank);
    r->config.train = (seo_train_config){.steps = RANKS_STEPS_MAX,
                                         .batch_tokens = RANKS_SEQUENCES * TINY_POSITIONS,
                                         .micro_batch = s->micro_batch,
                                         .seed = 5};
    r->config.optimizer = (seo_optimizer_config){.lr = 1e-2,
                                                 .bias_correction = true,
                                                 .beta1 = 0.9,
                                                 .beta2 = 0.95,
                                                 .eps = 1e-8,
                                                 .weight_decay = 0.1,
                                                 .clip = 0.5};
    r->config.schedule = (seo_schedule_config){
        .name = SEO_SCHEDULE_LINEAR, .warmup_steps = 2, .decay_steps = RANKS_STEPS_MAX};
}

static seo_objective objective_of(seo_family family) {
    if (!seo_family_is_encoder(family)) return SEO_OBJECTIVE_NEXT_TOKEN;
    return family == SEO_FAMILY_BERT ? SEO_OBJECTIVE_SENTENCE_PAIRS : SEO_OBJECTIVE_MASKED;
}

static seo_err open_data(rank *r, int32_t number) {
    const int64_t local = RANKS_SEQUENCES / r->setup->ranks;
    const seo_err err = seo_dataset_open(r->setup->data, "train", &r->dataset);
    if (err != SEO_OK) return err;
    return seo_loader_open(&(seo_loader_args){.datasets = &r->dataset,
                                              .dataset_count = 1,
                                              .seq_len = TINY_POSITIONS,
                                              .batch_sequences = RANKS_SEQUENCES,
                                              .first_sequence = number * local,
                                              .local_count = local,
                                              .seed = 5,
                                              .shuffle = true,
                                              .prefetch = 2,
                                              .objective = objective_of(r->setup->family),
                                              .tokenizer = g_tokenizer,
                                              .mask_fraction = 0.15,
                                              .max_predictions = r->config.model.picks,
                                              .short_sequences = 0.1},
                           &r->loader);
}

/* What was told before is what was taken, to the byte. */
static seo_err check_memory(const rank *r, int64_t taken_bytes) {
    seo_memory_table table = {0};
    const seo_shards *shards = seo_model_shards(r->model);
    seo_model_memory(r->model, &table);
    const seo_err err = seo_optim_measure(seo_model_table(r->model), shards, &table);
    if (err != SEO_OK) return err;
    seo_parallel_measure(shards, r->setup->slots, &table);
    seo_step_measure(&r->config, r->setup->ranks, &table);
    if (seo_memory_total(&table) == taken_bytes) return SEO_OK;
    return SEO_FAIL(SEO_ERR_MEMORY, "%lld bytes were told and %lld taken",
                    (long long)seo_memory_total(&table), (long long)taken_bytes);
}

static seo_err open_rank(rank *r, seo_comm *comm) {
    seo_err err = SEO_OK;
    const ranks_setup *s = r->setup;
    const int32_t number = seo_comm_rank(comm);
    const int64_t before_bytes = seo_device_bytes(r->dev);
    configure(r);
    SEO_TRY(open_data(r, number));
    SEO_TRY(seo_model_open(&(seo_model_args){.dev = r->dev,
                                             .config = &r->config.model,
                                             .mode = SEO_MODEL_TRAIN,
                                             .batch = s->micro_batch,
                                             .seed = 5,
                                             .recompute = s->recompute,
                                             .shard = {.rank = number,
                                                       .ranks = s->ranks,
                                                       .zero = (int32_t)s->zero,
                                                       .parts = s->slots}},
                           &r->model));
    SEO_TRY(seo_parallel_open(
        &(seo_parallel_args){.model = r->model, .comm = comm, .slots = s->slots, .wire = s->wire},
        &r->parallel));
    SEO_TRY(seo_optim_open(r->model, &r->config.optimizer, &r->optim));
    seo_optim_join(r->optim, r->parallel);
    SEO_TRY(seo_step_open(&(seo_step_args){.config = &r->config,
                                           .model = r->model,
                                           .optim = r->optim,
                                           .parallel = r->parallel,
                                           .loader = r->loader},
                          &r->step));
    SEO_TRY(check_memory(r, seo_device_bytes(r->dev) - before_bytes));
    seo_device_seal(r->dev); /* a step may not allocate */
done:
    return err;
}

static void close_rank(rank *r) {
    seo_step_close(r->step);
    seo_optim_close(r->optim);
    seo_parallel_close(r->parallel);
    seo_model_close(r->model);
    seo_loader_close(r->loader);
    seo_dataset_close(r->dataset);
}

static seo_param_set *state_set(const rank *r, int i) {
    seo_param_set *sets[] = {seo_model_weights(r->model), seo_optim_moment1(r->optim),
                             seo_optim_moment2(r->optim)};
    return sets[i];
}

/* A whole set is told by every rank, each its chunk; so a chunk that differs shows. */
static void keep_set(const rank *r, const seo_param_set *set, float *to) {
    const seo_params *params = seo_model_table(r->model);
    int64_t before = 0;
    for (int64_t row = 0; row < params->count; row++) {
        seo_shard_piece piece;
        if (seo_shards_piece(set->shards, set->layout, row, &piece)) {
            memcpy(to + before + piece.offset, (const float *)set->flat.data + piece.at,
                   (size_t)piece.count * sizeof *to);
        }
        before += seo_param_elements(&params->items[row]);
    }
}

/* A whole set is given to every rank in full. */
static void give_set(const rank *r, const seo_param_set *set, const float *from) {
    const seo_params *params = seo_model_table(r->model);
    int64_t before = 0;
    for (int64_t row = 0; row < params->count; row++) {
        const int64_t elements = seo_param_elements(&params->items[row]);
        seo_shard_piece piece = {.count = elements};
        bool any = set->shards->rows[row].count > 0;
        if (set->layout == SEO_LAYOUT_WHOLE) {
            piece.at = seo_shards_row_at(set->shards, SEO_LAYOUT_WHOLE, row);
        } else {
            any = seo_shards_piece(set->shards, set->layout, row, &piece);
        }
        if (any) {
            memcpy((float *)set->flat.data + piece.at, from + before + piece.offset,
                   (size_t)piece.count * sizeof *from);
        }
        before += elements;
    }
}

static uint64_t sum_of(const seo_tensor *t) {
    const unsigned char *bytes = t->data;
    uint64_t sum = UINT64_C(1469598103934665603);
    for (int64_t i = 0; i < seo_tensor_bytes(t); i++)
        sum = (sum ^ bytes[i]) * UINT64_C(1099511628211);
    return sum;
}

static seo_err run_steps(rank *r, team *t, int32_t number) {
    seo_err err = SEO_OK;
    const ranks_setup *s = r->setup;
    double start = seo_clock_s();
    for (int64_t i = 0; i < s->steps; i++) {
        seo_step_result result;
        const int64_t step = s->first_step + i;
        float *weight = state_set(r, 0)->flat.data, good = 0;
        const bool poisoned = step == s->poison_step && number == s->ranks - 1;
        if (poisoned) {
            SEO_TRY(seo_parallel_settle(r->parallel));
            good = weight[3];
            weight[3] = NAN;
        }
        SEO_TRY(seo_step_run(r->step, step, step - 1, &result));
        if (poisoned) weight[3] = good;
        if (number != 0) continue;
        t->out->losses[i] = result.loss;
        t->out->norms[i] = result.grad_norm;
        t->out->finite[i] = result.finite;
        if (i == 0) start = seo_clock_s();
        if (i > 0) t->out->busy_s += result.comm_busy_s;
        if (i > 0) t->out->waited_s += result.comm_waited_s;
    }
    if (number == 0) t->out->step_s = seo_clock_s() - start;
    SEO_TRY(seo_parallel_settle(r->parallel));
done:
    return err;
}

static seo_err body(void *context, seo_comm *comm, seo_device *dev) {
    seo_err err = SEO_OK;
    team *t = context;
    const int32_t number = seo_comm_rank(comm);
    ranks_state *state = t->setup->state;
    rank r = {.setup = t->setup, .dev = dev};
    SEO_TRY(open_rank(&r, comm));
    if (number == 0) t->out->device_bytes = seo_device_bytes(dev);
    for (int i = 0; t->setup->first_step > 1 && i < RANKS_STATES; i++) {
        if (!state->values[i]) break;
        give_set(&r, state_set(&r, i), state->values[i]);
    }
    /* Nobody writes what is left before all have read where to start: steps exchange in between. */
    SEO_TRY(seo_parallel_refresh(r.parallel));
    SEO_TRY(run_steps(&r, t, number));
    for (int i = 0; i < RANKS_STATES; i++) keep_set(&r, state_set(&r, i), state->values[i]);
    const seo_param_set *weights = state_set(&r, 0);
    if (weights->layout == SEO_LAYOUT_WHOLE) t->whole_sums[number] = sum_of(&weights->flat);
done:
    close_rank(&r);
    return err;
}

void ranks_train(const ranks_setup *setup, ranks_result *out) {
    const seo_model_config config = ranks_model(setup->family, setup->dropout, setup->adapter_rank);
    ranks_state *state = setup->state;
    team t = {.setup = setup, .out = out};
    *out = (ranks_result){0};
    if (!state->values[0]) {
        assert_int_equal(seo_model_count(&config, &state->count), SEO_OK);
        for (int i = 0; i < RANKS_STATES; i++) {
            state->values[i] = calloc((size_t)state->count, sizeof(float));
        }
    }
    if (threads_run(setup->ranks, body, &t) != SEO_OK) fail_msg("%s", seo_err_detail());
    for (int32_t r = 1; r < setup->ranks; r++) {
        assert_true(t.whole_sums[r] == t.whole_sums[0]);
    }
}
