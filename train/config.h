/* The configuration of a run: one struct, and one field table (path, type, range, unit, default,
 * help) that drives parsing, defaults, --set, `config explain`, validation, the resolved copy in
 * the run folder and the comparison on resume.
 *
 * An unknown key, a wrong type, an out-of-range value and an impossible combination are all
 * reported at once, each with file:line:column and a caret, before any memory is taken. A key for
 * which this version has one legal value accepts that value and refuses others, saying why; nothing
 * is ignored in silence. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/text.h"
#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    SEO_CONFIG_TEXT_MAX = 1024,
    SEO_CONFIG_MIX_MAX = 64,
    SEO_CONFIG_SPIKE_WINDOW_MAX = 1024,
    SEO_CONFIG_FIELDS = 79
};

/* gpt1, gpt2, gpt3: decoders. bert, roberta, distilbert: encoders. */
typedef enum seo_family {
    SEO_FAMILY_GPT2,
    SEO_FAMILY_GPT3,
    SEO_FAMILY_GPT1,
    SEO_FAMILY_BERT,
    SEO_FAMILY_ROBERTA,
    SEO_FAMILY_DISTILBERT
} seo_family;
/* What is learned: text itself (the next token, or masked ones), completions of prompts, labels. */
typedef enum seo_task_kind { SEO_TASK_PRETRAIN, SEO_TASK_PAIRS, SEO_TASK_CLASSIFY } seo_task_kind;
typedef enum seo_optimizer_kind { SEO_OPTIMIZER_ADAMW } seo_optimizer_kind;
typedef enum seo_schedule_kind {
    SEO_SCHEDULE_CONSTANT,
    SEO_SCHEDULE_LINEAR,
    SEO_SCHEDULE_COSINE,
    SEO_SCHEDULE_WSD
} seo_schedule_kind;
typedef enum seo_device_choice {
    SEO_DEVICE_AUTO,
    SEO_DEVICE_CPU,
    SEO_DEVICE_CUDA
} seo_device_choice;
typedef enum seo_precision {
    SEO_PRECISION_AUTO,
    SEO_PRECISION_F32,
    SEO_PRECISION_BF16
} seo_precision;
/* What a backward pass computes again instead of keeping it: nothing, what is cheap to compute
 * beside its size, or a whole block from its input. */
typedef enum seo_recompute {
    SEO_RECOMPUTE_NONE,
    SEO_RECOMPUTE_SELECTIVE,
    SEO_RECOMPUTE_FULL
} seo_recompute;
typedef enum seo_comm_choice {
    SEO_COMM_CHOICE_AUTO, /* NCCL between GPUs, MPI between CPUs */
    SEO_COMM_CHOICE_MPI,
    SEO_COMM_CHOICE_NCCL
} seo_comm_choice;
/* What is done about a loss far above those before it. */
typedef enum seo_spike_policy { SEO_SPIKE_WARN, SEO_SPIKE_SKIP } seo_spike_policy;

/* Which products of a block have adapters. */
enum { SEO_LORA_QKV = 1, SEO_LORA_PROJ = 2, SEO_LORA_FC = 4, SEO_LORA_MLP_PROJ = 8 };

typedef struct seo_model_config {
    seo_family family;
    int64_t num_layers, num_heads, hidden_size;
    int64_t ffn_hidden_size; /* resolved: 4 * hidden_size when not given */
    int64_t seq_len, vocab_size;
    int64_t max_positions;    /* that the model has an embedding of; 0: seq_len */
    seo_gelu_kind activation; /* gelu_tanh | gelu_erf */
    double dropout;           /* embedding, attention output and feed-forward output */
    double attention_dropout; /* attention probabilities */
    double norm_eps;
    int64_t band;            /* gpt3: window of the layers 1, 3, 5, ...; 0: dense */
    int64_t type_vocab_size; /* of token types; 0: none */
    bool next_sentence;      /* bert: pooler and next-sentence head */
    /* What follows from other sections. */
    int64_t picks;     /* encoders: most masked positions of a sequence; 0 without a masked task */
    int64_t classes;   /* of the classification head; 0: none */
    double lm_weight;  /* decoders that classify: of the language model's loss beside it */
    bool has_spans;    /* decoders: passes may say which documents their positions are of */
    int64_t lora_rank; /* 0: no adapters */
    double lora_alpha;
    int32_t lora_targets;  /* SEO_LORA_... */
    int64_t distill_width; /* hidden size of a teacher of another width; 0: none */
} seo_model_config;

static inline int64_t seo_model_positions(const seo_model_config *model) {
    return model->max_positions > 0 ? model->max_positions : model->seq_len;
}

static inline bool seo_family_is_encoder(seo_family family) {
    return family >= SEO_FAMILY_BERT;
}

typedef struct seo_mix_entry {
    char path[SEO_CONFIG_TEXT_MAX];
    double weight;
} seo_mix_entry;

typedef struct seo_data_config {
    char path[SEO_CONFIG_TEXT_MAX]; /* folder of a built dataset; "" when mix is given */
    bool shuffle;
    int64_t mix_count; /* 0: path alone */
    seo_mix_entry mix[SEO_CONFIG_MIX_MAX];
    bool document_mask;      /* no token sees another document */
    double mask_fraction;    /* encoders: of the tokens */
    int64_t max_predictions; /* resolved: ceil(mask_fraction * seq_len) when not given */
    double short_sequences;  /* sentence pairs: share of shorter ones */
} seo_data_config;

/* Texts are lists: "austen, kjv". */
typedef struct seo_task_config {
    seo_task_kind kind;
    char examples[SEO_CONFIG_TEXT_MAX]; /* JSONL or TSV; "" when pretraining */
    char held_out[SEO_CONFIG_TEXT_MAX]; /* "": none */
    char labels[SEO_CONFIG_TEXT_MAX];   /* names of the classes, in order */
    double lm_weight;
} seo_task_config;

typedef struct seo_lora_config {
    int64_t rank; /* 0: none */
    double alpha; /* an adapter's product counts alpha / rank */
    char targets[SEO_CONFIG_TEXT_MAX];
} seo_lora_config;

typedef struct seo_distill_config {
    char teacher[SEO_CONFIG_TEXT_MAX]; /* run or checkpoint; "": none */
    char layers[SEO_CONFIG_TEXT_MAX];  /* of the teacher, for the student's initial values */
    double temperature, soft, hard, cosine;
} seo_distill_config;

typedef struct seo_train_config {
    int64_t steps;
    int64_t batch_tokens; /* a multiple of micro_batch * seq_len */
    int64_t micro_batch;  /* sequences per forward-backward */
    int64_t seed;
    int64_t batch_ramp_tokens;  /* the batch has grown to batch_tokens after these; 0: no ramp */
    int64_t batch_start_tokens; /* of the first steps, with a ramp */
    int64_t max_bad_steps;      /* in a row that are not finite, before the run gives up */
    double spike_sigma;         /* 0: losses are not watched */
    int64_t spike_window;       /* losses that a new one is compared with */
    seo_spike_policy on_spike;
} seo_train_config;

typedef struct seo_optimizer_config {
    seo_optimizer_kind name;
    double lr, beta1, beta2, eps, weight_decay;
    double clip; /* 0: none */
    bool bias_correction;
    bool master_weights; /* false: parameters in bf16 alone, rounded stochastically */
} seo_optimizer_config;

/* Amounts in tokens become whole steps: those after which as many were seen. */
typedef struct seo_schedule_config {
    seo_schedule_kind name;
    int64_t warmup_steps;  /* resolved from warmup_tokens when that is given */
    int64_t warmup_tokens; /* 0: not given */
    /* Resolved. cosine and linear: the step, warm-up included, at which the decay ends; train.steps
     * when not given. wsd: the length of the decay that ends at train.steps; a fifth of them when
     * not given. constant: 0. */
    int64_t decay_steps;
    int64_t decay_tokens; /* 0: not given */
    double final_lr_fraction;
} seo_schedule_config;

typedef struct seo_eval_config {
    int64_t every;  /* steps; 0: never */
    int64_t tokens; /* at most; 0: the whole held-out split */
} seo_eval_config;

typedef struct seo_checkpoint_config {
    int64_t every;        /* steps; 0: only at the end and on a signal */
    double every_seconds; /* 0: not by time */
    int64_t keep_last;
    int64_t keep_every;                  /* steps; 0: none is kept for ever */
    char init_from[SEO_CONFIG_TEXT_MAX]; /* run or checkpoint; "": random parameters */
} seo_checkpoint_config;

typedef struct seo_parallel_config {
    int64_t zero;     /* 0..3; the same run with one rank */
    bool invariant;   /* the same bits for any number of ranks that divides slots */
    int64_t slots;    /* of invariant: equal parts of the batch, a power of two; else not used */
    seo_dtype reduce; /* what gradients are sent as: f32 or bf16 */
    seo_recompute recompute;
    seo_comm_choice backend;
    double timeout_s; /* past what is expected, until a rank counts as lost */
    double join_s;    /* until the ranks that never came are named */
} seo_parallel_config;

typedef struct seo_kernels_config {
    seo_matmul_choice matmul;
} seo_kernels_config;

/* Where a value came from, for the resolved copy. */
typedef enum seo_config_origin {
    SEO_ORIGIN_DEFAULT,
    SEO_ORIGIN_DERIVED, /* computed from other values */
    SEO_ORIGIN_FILE,
    SEO_ORIGIN_SET
} seo_config_origin;

typedef struct seo_config_source {
    seo_config_origin origin;
    int32_t line; /* of the file; 0 for the others */
} seo_config_source;

typedef struct seo_config {
    seo_model_config model;
    seo_data_config data;
    seo_task_config task;
    seo_train_config train;
    seo_optimizer_config optimizer;
    seo_schedule_config schedule;
    seo_eval_config eval;
    seo_checkpoint_config checkpoint;
    seo_lora_config lora;
    seo_distill_config distill;
    seo_parallel_config parallel;
    seo_kernels_config kernels;
    seo_device_choice device;
    seo_precision precision; /* auto: bf16 on a GPU, f32 on the CPU */

    seo_config_source sources[SEO_CONFIG_FIELDS]; /* in the order of the field table */
} seo_config;

/* Reads `path`, applies `sets` ("section.key=value", later ones win), fills defaults, checks
 * everything. Mistakes: SEO_ERR_USAGE, and the message is the report of all of them (of very many,
 * those that fit, and how many more there are). */
seo_err seo_config_load(const char *path, const char *const *sets, int64_t set_count,
                        seo_config *out);

/* Reads a resolved copy (seo_config_write) of this or an earlier version. */
seo_err seo_config_load_resolved(const char *path, seo_config *out);

/* The same from memory. */
typedef struct seo_config_input {
    const char *name; /* stands in messages for the path */
    const char *text;
    size_t bytes;
    const char *const *sets;
    int64_t set_count;
    bool resolved;   /* a resolved copy: keys that it lacks came later, and have the value that runs
                      * without them had */
    seo_buf *report; /* when not NULL, every mistake is appended to it, however many */
} seo_config_input;
seo_err seo_config_parse(const seo_config_input *input, seo_config *out);

/* Item `index` of a list like "austen, kjv", without the blanks around it; false beyond the last.
 */
bool seo_config_item(const char *list, int64_t index, char out[SEO_CONFIG_TEXT_MAX]);

/* The resolved configuration as YAML, every key with its origin in a comment. It reads back to the
 * same values. Of an amount given in tokens, the steps it comes to stand in a comment. */
seo_err seo_config_write(const seo_config *config, seo_buf *out);

/* XXH3-128 of every value that decides the result of a run. Not deciding: eval.*, checkpoint.* but
 * init_from, where the data lies (its content has its own hash), device, kernels, of parallel.* all
 * but invariant with its slots, and reduce; nor precision auto, which goes with any other.
 * train.steps decides only as far as the learning rate depends on it, so that a run can be
 * extended; what is watched for spikes only where a spike's update is left out; adapters' and the
 * distillation's keys only where there are any. A key that came later counts where it is not what
 * runs without it had. */
void seo_config_hash(const seo_config *config, char out[33]);

/* Appends "  model.num_layers: 12 in the checkpoint, 24 now\n" for each result-deciding field that
 * differs, fields in `allow` (paths) left out; returns how many it appended. Zero with an empty
 * `allow` means equal hashes, or that one of the two leaves the precision open. */
int64_t seo_config_diff(const seo_config *saved, const seo_config *now, const char *const *allow,
                        int64_t allow_count, seo_buf *out);

/* Appends help for one key ("optimizer.lr"), one section, or, with NULL, all; SEO_ERR_USAGE with
 * "did you mean". */
seo_err seo_config_explain(const char *key, seo_buf *out);

/* Appends one line: "gpt2, 12 layers x 768 x 12 heads, 524,288 tokens a step, 19,560 steps, ...".
 */
void seo_config_summary(const seo_config *config, seo_buf *out);

#ifdef __cplusplus
}
#endif
