/* Rules that join several fields of the configuration, and the values that follow from others.
 *
 * One table, in the order in which values are found. A rule is left out when a field that it needs
 * is missing or wrong, so that one mistake is reported once. Messages compute what would be legal.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "train/config_rules.h"
#include "train/schedule.h"

/* ---- one of two ways to say the same ---- */

/* A choice on the command line replaces the other way to say it in the file. */
static void only_one(seo_rules *rules, const char *a, const char *b) {
    if (!seo_key_given(rules, a) || !seo_key_given(rules, b)) return;
    if (seo_key_from_set(rules, a) != seo_key_from_set(rules, b)) {
        seo_key_forget(rules, seo_key_from_set(rules, a) ? b : a);
        return;
    }
    seo_key_complain(rules, b, "%s and %s are both given; give one of them", a, b);
    rules->states[seo_key_index(a)] = SEO_FIELD_BROKEN;
    rules->states[seo_key_index(b)] = SEO_FIELD_BROKEN;
}

static void rule_data_once(seo_rules *rules) {
    only_one(rules, "data.path", "data.mix");
}

static void rule_warmup_once(seo_rules *rules) {
    only_one(rules, "schedule.warmup_steps", "schedule.warmup_tokens");
}

static void rule_decay_once(seo_rules *rules) {
    only_one(rules, "schedule.decay_steps", "schedule.decay_tokens");
}

/* ---- the batch ---- */

static void default_micro_batch(seo_rules *rules) {
    enum { WISH = 8 };
    seo_train_config *train = &rules->config->train;
    const seo_parallel_config *parallel = &rules->config->parallel;
    const int64_t whole = train->batch_tokens / rules->config->model.seq_len;
    const bool slots = parallel->invariant && whole % parallel->slots == 0;
    const int64_t sequences = slots ? whole / parallel->slots : whole;
    train->micro_batch = 1;
    for (int64_t n = 2; n <= WISH; n++) {
        if (sequences > 0 && sequences % n == 0) train->micro_batch = n;
    }
    seo_key_derive(rules, "train.micro_batch");
}

static void rule_batch(seo_rules *rules) {
    if (!seo_key_given(rules, "train.micro_batch")) default_micro_batch(rules);
    const seo_train_config *train = &rules->config->train;
    const int64_t seq_len = rules->config->model.seq_len, micro = train->micro_batch;
    const int64_t unit = micro * seq_len; /* at most 2^40 by their ranges */
    if (train->batch_tokens % unit == 0) return;
    char near[2 * SEO_SHORT_TEXT], other[96] = "";
    seo_key_near_multiples(near, train->batch_tokens, unit);
    if (train->batch_tokens % seq_len == 0) {
        int64_t below = 0, above = 0;
        seo_key_near_divisors(train->batch_tokens / seq_len, micro, &below, &above);
        snprintf(other, sizeof other, "; or keep it with train.micro_batch %" PRId64,
                 below > 0 ? below : above);
    }
    seo_key_complain(
        rules,
        seo_key_from_set(rules, "train.batch_tokens")
            ? "train.batch_tokens"
            : seo_key_blame(rules, seo_key_blame(rules, "train.batch_tokens", "train.micro_batch"),
                            "model.seq_len"),
        "train.batch_tokens %" PRId64 " is not a multiple of train.micro_batch x model.seq_len"
        " = %" PRId64 " x %" PRId64 " = %" PRId64 "; the nearest: %s%s",
        train->batch_tokens, micro, seq_len, unit, near, other);
}

static void rule_total_tokens(seo_rules *rules) {
    const seo_train_config *train = &rules->config->train;
    int64_t total = 0;
    if (seo_mul_ok(train->steps, train->batch_tokens, &total)) return;
    seo_key_complain(rules, seo_key_blame(rules, "train.steps", "train.batch_tokens"),
                     "train.steps x train.batch_tokens = %" PRId64 " x %" PRId64
                     " tokens is more than can be counted; at most %" PRId64 " steps",
                     train->steps, train->batch_tokens, INT64_MAX / train->batch_tokens);
}

/* The first batch: whole sequences, and with invariant whole micro-batches in each slot. */
static int64_t batch_unit(const seo_config *config) {
    const int64_t slots = config->parallel.invariant ? config->parallel.slots : 0;
    const int64_t rows = slots > 0 ? slots * config->train.micro_batch : 1;
    return rows * config->model.seq_len;
}

static bool check_start(seo_rules *rules) {
    const seo_config *config = rules->config;
    const int64_t start = config->train.batch_start_tokens, full = config->train.batch_tokens;
    const int64_t unit = batch_unit(config);
    char near[2 * SEO_SHORT_TEXT];
    if (start > full) {
        seo_key_complain(rules,
                         seo_key_blame(rules, "train.batch_start_tokens", "train.batch_tokens"),
                         "train.batch_start_tokens %" PRId64 " is more than train.batch_tokens "
                         "%" PRId64 ", to which the batch grows",
                         start, full);
        return false;
    }
    if (start % unit == 0) return true;
    seo_key_complain(rules, seo_key_blame(rules, "train.batch_start_tokens", "model.seq_len"),
                     "train.batch_start_tokens %" PRId64 " is not a multiple of %" PRId64
                     " tokens, %s; the nearest: %s",
                     start, unit,
                     config->parallel.invariant
                         ? "parallel.slots x train.micro_batch x model.seq_len"
                         : "one sequence",
                     seo_key_near_multiples(near, start, unit));
    return false;
}

static void rule_ramp(seo_rules *rules) {
    seo_train_config *train = &rules->config->train;
    seo_ramp *ramp = NULL;
    if (train->batch_ramp_tokens == 0) {
        if (train->batch_start_tokens > 0) {
            seo_key_complain(rules, "train.batch_start_tokens",
                             "train.batch_start_tokens is for a batch that grows; give "
                             "train.batch_ramp_tokens with it, or leave it out");
        }
        return;
    }
    if (!seo_key_given(rules, "train.batch_start_tokens")) {
        train->batch_start_tokens = seo_max_i64(batch_unit(rules->config),
                                                train->micro_batch * rules->config->model.seq_len);
    }
    seo_key_derive(rules, "train.batch_start_tokens");
    if (!check_start(rules) || train->batch_tokens % rules->config->model.seq_len != 0) return;
    const seo_ramp_args args = seo_schedule_ramp(rules->config);
    if (seo_ramp_open(&args, &ramp) != SEO_OK) {
        seo_key_complain(rules, "train.batch_ramp_tokens", "%s", seo_err_detail());
    } else if (seo_ramp_steps(ramp, train->batch_ramp_tokens) > train->steps) {
        seo_key_complain(rules, seo_key_blame(rules, "train.batch_ramp_tokens", "train.steps"),
                         "the batch grows for %" PRId64 " steps and the run has %" PRId64
                         "; give a train.batch_ramp_tokens of at most %" PRId64,
                         seo_ramp_steps(ramp, train->batch_ramp_tokens), train->steps,
                         seo_ramp_tokens(ramp, train->steps));
    }
    seo_ramp_close(ramp);
}

/* ---- the schedule ---- */

/* Whole steps until so many tokens were seen. A mistake in the ramp has been told. */
static int64_t steps_of(const seo_config *config, int64_t tokens) {
    const seo_ramp_args args = seo_schedule_ramp(config);
    seo_ramp *ramp = NULL;
    int64_t steps = seo_div_up(tokens, config->train.batch_tokens);
    if (args.ramp_tokens > 0 && seo_ramp_open(&args, &ramp) == SEO_OK) {
        steps = seo_ramp_steps(ramp, tokens);
        seo_ramp_close(ramp);
    }
    return steps;
}

static void rule_schedule_steps(seo_rules *rules) {
    seo_schedule_config *schedule = &rules->config->schedule;
    const seo_train_config *train = &rules->config->train;
    if (schedule->name == SEO_SCHEDULE_CONSTANT) {
        seo_key_forget(rules, "schedule.decay_steps");
        seo_key_forget(rules, "schedule.decay_tokens");
    }
    if (schedule->warmup_tokens > 0) {
        schedule->warmup_steps = steps_of(rules->config, schedule->warmup_tokens);
    }
    seo_key_derive(rules, "schedule.warmup_steps");
    if (schedule->decay_tokens > 0) {
        schedule->decay_steps = steps_of(rules->config, schedule->decay_tokens);
    } else if (!seo_key_given(rules, "schedule.decay_steps")) {
        schedule->decay_steps = schedule->name == SEO_SCHEDULE_CONSTANT ? 0
                                : schedule->name == SEO_SCHEDULE_WSD    ? train->steps / 5
                                                                        : train->steps;
    }
    seo_key_derive(rules, "schedule.decay_steps");
}

static void rule_warmup_fits(seo_rules *rules) {
    const seo_schedule_config *schedule = &rules->config->schedule;
    const int64_t steps = rules->config->train.steps;
    const char *warmup =
        schedule->warmup_tokens > 0 ? "schedule.warmup_tokens" : "schedule.warmup_steps";
    if (schedule->warmup_steps > steps) {
        seo_key_complain(rules, seo_key_blame(rules, warmup, "train.steps"),
                         "the warm-up of %" PRId64 " steps is longer than the run of %" PRId64
                         "; give %s of at most %" PRId64,
                         schedule->warmup_steps, steps, warmup,
                         schedule->warmup_tokens > 0 ? steps * rules->config->train.batch_tokens
                                                     : steps);
        return;
    }
    const bool ends =
        schedule->name == SEO_SCHEDULE_COSINE || schedule->name == SEO_SCHEDULE_LINEAR;
    if (ends && schedule->warmup_steps > schedule->decay_steps) {
        const char *decay =
            schedule->decay_tokens > 0 ? "schedule.decay_tokens" : "schedule.decay_steps";
        seo_key_complain(rules, seo_key_blame(rules, decay, warmup),
                         "the decay ends at step %" PRId64 ", inside the warm-up of %" PRId64
                         " steps; its end counts from the first step",
                         schedule->decay_steps, schedule->warmup_steps);
    }
}

static void rule_wsd_fits(seo_rules *rules) {
    const seo_schedule_config *schedule = &rules->config->schedule;
    const int64_t steps = rules->config->train.steps, warmup = schedule->warmup_steps;
    if (schedule->name != SEO_SCHEDULE_WSD || warmup > steps) return;
    if (schedule->decay_steps <= steps - warmup) return;
    const char *decay =
        schedule->decay_tokens > 0 ? "schedule.decay_tokens" : "schedule.decay_steps";
    seo_key_complain(rules, seo_key_blame(rules, decay, "train.steps"),
                     "warm-up %" PRId64 " + decay %" PRId64
                     " steps are longer than the run of %" PRId64 "; the decay may have %" PRId64
                     " steps at most",
                     warmup, schedule->decay_steps, steps, steps - warmup);
}

/* ---- many ranks ---- */

static void rule_slots(seo_rules *rules) {
    const seo_config *config = rules->config;
    const int64_t slots = config->parallel.slots;
    const int64_t unit = config->train.micro_batch * config->model.seq_len;
    if ((slots & (slots - 1)) != 0) {
        int64_t below = 1;
        while (2 * below < slots) below *= 2;
        seo_key_complain(rules, "parallel.slots",
                         "parallel.slots %" PRId64
                         " is not a power of two, so there is no balanced tree of "
                         "them; the nearest: %" PRId64 " and %" PRId64,
                         slots, below, 2 * below);
        return;
    }
    if (!config->parallel.invariant || config->train.batch_tokens % unit != 0) return;
    const int64_t micro_batches = config->train.batch_tokens / unit;
    if (micro_batches % slots == 0) return;
    seo_key_complain(rules, seo_key_blame(rules, "parallel.slots", "train.micro_batch"),
                     "parallel.slots %" PRId64 " does not divide the batch of %" PRId64
                     " micro-batches (train.batch_tokens %" PRId64 " / (%" PRId64 " x %" PRId64
                     ")); give at most %" PRId64
                     " slots, a smaller train.micro_batch, or a batch that is "
                     "a multiple of %" PRId64 " tokens",
                     slots, micro_batches, config->train.batch_tokens, config->train.micro_batch,
                     config->model.seq_len, micro_batches & -micro_batches, slots * unit);
}

static void rule_invariant(seo_rules *rules) {
    const seo_parallel_config *parallel = &rules->config->parallel;
    if (!parallel->invariant) return;
    if (parallel->zero > 1) {
        seo_key_complain(
            rules, seo_key_blame(rules, "parallel.zero", "parallel.invariant"),
            "parallel.zero %" PRId64 " with parallel.invariant: the tree adds up whole slots, "
            "and a rank with zero 2 or 3 keeps a part of the gradient only, to which it adds "
            "each micro-batch at once; use zero 0 or 1",
            parallel->zero);
    }
    if (parallel->reduce == SEO_DTYPE_BF16) {
        seo_key_complain(
            rules, seo_key_blame(rules, "parallel.reduce", "parallel.invariant"),
            "parallel.reduce: bf16 with parallel.invariant: what is rounded would depend on "
            "the number of ranks; use f32");
    }
}

/* ---- what a device can do ---- */

static void rule_device(seo_rules *rules) {
    const seo_config *config = rules->config;
    if (config->device != SEO_DEVICE_CPU) return;
    if (config->precision == SEO_PRECISION_BF16) {
        seo_key_complain(
            rules, seo_key_blame(rules, "precision", "device"),
            "precision: bf16 needs a GPU, the CPU computes in f32; use precision: f32 or "
            "auto, or device: cuda");
    }
    if (config->kernels.matmul == SEO_MATMUL_CUBLASLT) {
        seo_key_complain(rules, seo_key_blame(rules, "kernels.matmul", "device"),
                         "kernels.matmul: cublaslt needs a GPU; use auto or own, or device: cuda");
    }
    if (config->parallel.backend == SEO_COMM_CHOICE_NCCL) {
        seo_key_complain(rules, seo_key_blame(rules, "parallel.backend", "device"),
                         "parallel.backend: nccl joins GPUs; use auto or mpi, or device: cuda");
    }
}

static void rule_master_weights(seo_rules *rules) {
    const seo_config *config = rules->config;
    if (config->optimizer.master_weights || config->precision == SEO_PRECISION_BF16) return;
    seo_key_complain(
        rules, seo_key_blame(rules, "optimizer.master_weights", "precision"),
        "optimizer.master_weights: false is for parameters in bf16; give precision: bf16 with "
        "it, or use true");
}

/* What the learning rate's course depends on. */
#define SCHEDULE_FIELDS                                                                            \
    "train.steps", "train.batch_tokens", "schedule.name", "schedule.warmup_steps",                 \
        "schedule.warmup_tokens", "schedule.decay_steps", "schedule.decay_tokens",                 \
        "train.batch_ramp_tokens", "train.batch_start_tokens", "model.seq_len"
enum { NEEDS_MAX = 10 };
#define FAMILY_FIELDS "model.family", "task.kind"
#define MASK_FIELDS   "data.mask_fraction", "data.max_predictions", "model.next_sentence"
/* What the batch is cut into. */
#define BATCH_FIELDS                                                                               \
    "train.batch_tokens", "train.micro_batch", "model.seq_len", "parallel.invariant",              \
        "parallel.slots"

void seo_rules_apply(seo_rules *rules) {
    static const struct {
        const char *needs[NEEDS_MAX];
        void (*apply)(seo_rules *rules);
    } table[] = {
        {{"data.path", "data.mix"}, rule_data_once},
        {{"data.path", "data.mix", "task.kind", "checkpoint.init_from"},
         seo_config_rule_data_source},
        {{"schedule.warmup_steps", "schedule.warmup_tokens"}, rule_warmup_once},
        {{"schedule.decay_steps", "schedule.decay_tokens"}, rule_decay_once},
        {{"model.hidden_size", "model.ffn_hidden_size"}, seo_config_rule_ffn},
        {{"model.hidden_size", "model.num_heads"}, seo_config_rule_heads},
        {{FAMILY_FIELDS, "model.seq_len"}, seo_config_rule_family},
        {{"model.seq_len", "model.max_positions"}, seo_config_rule_positions},
        {{"model.family", "model.band", "model.seq_len"}, seo_config_rule_band},
        {{FAMILY_FIELDS, "model.type_vocab_size", "model.next_sentence"},
         seo_config_rule_sentences},
        {{FAMILY_FIELDS, MASK_FIELDS, "model.seq_len"}, seo_config_rule_masks},
        {{FAMILY_FIELDS, MASK_FIELDS, "data.short_sequences"}, seo_config_rule_unmasked},
        {{"data.document_mask", "model.next_sentence", "task.kind"}, seo_config_rule_documents},
        {{FAMILY_FIELDS, "task.examples", "task.lm_weight"}, seo_config_rule_task},
        {{"task.kind", "task.labels"}, seo_config_rule_labels},
        {{BATCH_FIELDS}, rule_batch},
        {{BATCH_FIELDS}, rule_slots},
        {{"train.steps", "train.batch_tokens"}, rule_total_tokens},
        {{BATCH_FIELDS, "train.steps", "train.batch_ramp_tokens", "train.batch_start_tokens"},
         rule_ramp},
        {{SCHEDULE_FIELDS}, rule_schedule_steps},
        {{SCHEDULE_FIELDS}, rule_warmup_fits},
        {{SCHEDULE_FIELDS}, rule_wsd_fits},
        {{"parallel.invariant", "parallel.zero", "parallel.reduce"}, rule_invariant},
        {{"lora.rank", "lora.alpha", "lora.targets", "model.hidden_size", "model.ffn_hidden_size",
          "checkpoint.init_from", "parallel.zero"},
         seo_config_rule_lora},
        {{"distill.teacher", "distill.layers", "distill.soft", "distill.hard", "distill.cosine",
          "model.num_layers", "lora.rank"},
         seo_config_rule_distill},
        {{"device", "precision", "kernels.matmul", "parallel.backend"}, rule_device},
        {{"optimizer.master_weights", "precision"}, rule_master_weights},
    };
    for (int64_t i = 0; i < SEO_COUNT_OF(table); i++) {
        bool whole = true;
        for (int n = 0; n < NEEDS_MAX && table[i].needs[n]; n++) {
            whole = whole && rules->states[seo_key_index(table[i].needs[n])] != SEO_FIELD_BROKEN;
        }
        if (whole) table[i].apply(rules);
    }
}
