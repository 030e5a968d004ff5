/* The field table of the configuration. Each key stands here once; parsing, defaults, --set, help,
 * the resolved copy and the comparison on resume follow from it. */
#include "train/config_fields.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"

#define AT(member)    offsetof(seo_config, member)
#define INT(lo, hi)   .type = SEO_FIELD_INT, .min = (lo), .max = (hi)
#define FLOAT(lo, hi) .type = SEO_FIELD_FLOAT, .min = (lo), .max = (hi)

#define TOKENS_MAX    1e15
#define STEPS_MAX     1e12

static const seo_field_choice k_families[] = {
    {"gpt2", SEO_FAMILY_GPT2, NULL},
    {"gpt3", SEO_FAMILY_GPT3, NULL},
    {"gpt1", 0, "this version trains gpt2 and gpt3 only"},
    {"bert", 0, "this version trains gpt2 and gpt3 only"},
    {"roberta", 0, "this version trains gpt2 and gpt3 only"},
    {"distilbert", 0, "this version trains gpt2 and gpt3 only"},
    {NULL, 0, NULL}};
static const seo_field_choice k_activations[] = {
    {"gelu_tanh", SEO_GELU_TANH, NULL}, {"gelu_erf", SEO_GELU_ERF, NULL}, {NULL, 0, NULL}};
static const seo_field_choice k_optimizers[] = {{"adamw", SEO_OPTIMIZER_ADAMW, NULL},
                                                {NULL, 0, NULL}};
static const seo_field_choice k_schedules[] = {{"constant", SEO_SCHEDULE_CONSTANT, NULL},
                                               {"linear", SEO_SCHEDULE_LINEAR, NULL},
                                               {"cosine", SEO_SCHEDULE_COSINE, NULL},
                                               {"wsd", SEO_SCHEDULE_WSD, NULL},
                                               {NULL, 0, NULL}};
static const seo_field_choice k_recomputes[] = {{"none", SEO_RECOMPUTE_NONE, NULL},
                                                {"selective", SEO_RECOMPUTE_SELECTIVE, NULL},
                                                {"full", SEO_RECOMPUTE_FULL, NULL},
                                                {NULL, 0, NULL}};
static const seo_field_choice k_reduces[] = {
    {"f32", SEO_DTYPE_F32, NULL}, {"bf16", SEO_DTYPE_BF16, NULL}, {NULL, 0, NULL}};
static const seo_field_choice k_backends[] = {{"auto", SEO_COMM_CHOICE_AUTO, NULL},
                                              {"mpi", SEO_COMM_CHOICE_MPI, NULL},
                                              {"nccl", SEO_COMM_CHOICE_NCCL, NULL},
                                              {NULL, 0, NULL}};
static const seo_field_choice k_spikes[] = {
    {"warn", SEO_SPIKE_WARN, NULL}, {"skip", SEO_SPIKE_SKIP, NULL}, {NULL, 0, NULL}};
static const seo_field_choice k_matmuls[] = {{"auto", SEO_MATMUL_AUTO, NULL},
                                             {"own", SEO_MATMUL_OWN, NULL},
                                             {"cublaslt", SEO_MATMUL_CUBLASLT, NULL},
                                             {NULL, 0, NULL}};
static const seo_field_choice k_devices[] = {{"auto", SEO_DEVICE_AUTO, NULL},
                                             {"cpu", SEO_DEVICE_CPU, NULL},
                                             {"cuda", SEO_DEVICE_CUDA, NULL},
                                             {NULL, 0, NULL}};
static const seo_field_choice k_precisions[] = {{"auto", SEO_PRECISION_AUTO, NULL},
                                                {"f32", SEO_PRECISION_F32, NULL},
                                                {"bf16", SEO_PRECISION_BF16, NULL},
                                                {NULL, 0, NULL}};

const seo_field seo_config_fields[SEO_CONFIG_FIELDS] = {
    {.path = "model.family",
     .type = SEO_FIELD_CHOICE,
     .offset = AT(model.family),
     .decides = true,
     .preset = "gpt2",
     .choices = k_families,
     .help = "Which kind of model. gpt3 has the blocks of gpt2; its banded attention layers are "
             "dense in this version."},
    {.path = "model.num_layers",
     INT(1, 1024),
     .offset = AT(model.num_layers),
     .decides = true,
     .help = "Transformer blocks."},
    {.path = "model.num_heads",
     INT(1, 1024),
     .offset = AT(model.num_heads),
     .decides = true,
     .help = "Attention heads in each block; must divide hidden_size."},
    {.path = "model.hidden_size",
     INT(1, 1 << 20),
     .offset = AT(model.hidden_size),
     .decides = true,
     .help = "Width of the residual stream and of the embeddings."},
    {.path = "model.ffn_hidden_size",
     INT(1, 1 << 22),
     .offset = AT(model.ffn_hidden_size),
     .decides = true,
     .otherwise = "4 x model.hidden_size",
     .help = "Width inside the feed-forward part of a block."},
    {.path = "model.seq_len",
     INT(1, 1 << 20),
     .offset = AT(model.seq_len),
     .decides = true,
     .unit = "tokens",
     .help = "Context: tokens that one sequence has, and positions that the model knows."},
    {.path = "model.vocab_size",
     INT(2, 1 << 24),
     .offset = AT(model.vocab_size),
     .decides = true,
     .help = "Entries of the vocabulary; must be that of the dataset's tokenizer."},
    {.path = "model.activation",
     .type = SEO_FIELD_CHOICE,
     .offset = AT(model.activation),
     .decides = true,
     .preset = "gelu_tanh",
     .choices = k_activations,
     .help = "GPT-2 used the tanh approximation of GELU; gelu_erf is the exact one."},
    {.path = "model.dropout",
     FLOAT(0, 1),
     .below_max = true,
     .offset = AT(model.dropout),
     .decides = true,
     .preset = "0.0",
     .help = "Probability of dropping an element of the embedding, of the attention's output and "
             "of the feed-forward output."},
    {.path = "model.norm_eps",
     FLOAT(1e-12, 0.1),
     .offset = AT(model.norm_eps),
     .decides = true,
     .preset = "1e-5",
     .help = "Added to the variance in layer norm."},

    {.path = "data.path",
     .type = SEO_FIELD_TEXT,
     .offset = AT(data.path),
     .otherwise = "give it or data.mix",
     .help = "Folder of a dataset made by seodang data build."},
    {.path = "data.shuffle",
     .type = SEO_FIELD_BOOL,
     .offset = AT(data.shuffle),
     .decides = true,
     .preset = "true",
     .help = "Draw windows in a random order, each once an epoch; false reads them in file order."},
    {.path = "data.mix",
     .type = SEO_FIELD_MIX,
     .offset = AT(data.mix_count),
     .decides = true,
     .otherwise = "give it or data.path",
     .help =
         "Several datasets with their weights, {DIR: weight, DIR: weight}; the weights need not "
         "add up to 1. The weights decide the result, the folders' names do not."},

    {.path = "train.steps",
     INT(1, STEPS_MAX),
     .offset = AT(train.steps),
     .decides = true,
     .unit = "steps",
     .help = "Optimizer steps of the whole run. A resumed run may have more of them where the "
             "learning rate does not depend on their number: under a constant schedule, or with "
             "decay_steps given under cosine or linear."},
    {.path = "train.batch_tokens",
     INT(1, 1e12),
     .offset = AT(train.batch_tokens),
     .decides = true,
     .unit = "tokens",
     .help = "Tokens of one optimizer step; a multiple of micro_batch x model.seq_len."},
    {.path = "train.micro_batch",
     INT(1, 1 << 20),
     .offset = AT(train.micro_batch),
     .decides = true,
     .unit = "sequences",
     .otherwise = "the largest number up to 8 that divides batch_tokens / seq_len",
     .help = "Sequences of one forward and backward pass; gradients accumulate over "
             "batch_tokens / (micro_batch x seq_len) of them. Smaller takes less memory."},
    {.path = "train.seed",
     INT(0, 9.3e18),
     .offset = AT(train.seed),
     .decides = true,
     .preset = "1337",
     .help = "Decides initial weights, sample order and dropout."},
    {.path = "train.max_bad_steps",
     INT(1, 1e6),
     .offset = AT(train.max_bad_steps),
     .unit = "steps",
     .preset = "10",
     .help =
         "A step whose loss or gradient is not finite is left out; after this many in a row the "
         "run stops and names the documents that fed them."},
    {.path = "train.spike_sigma",
     FLOAT(0, 1e6),
     .offset = AT(train.spike_sigma),
     .decides = true,
     .preset = "6.0",
     .help =
         "A loss this many standard deviations above the median of the spike_window before it "
         "is a spike. 0: losses are not watched. Decides the result under on_spike: skip only."},
    {.path = "train.spike_window",
     INT(16, SEO_CONFIG_SPIKE_WINDOW_MAX),
     .offset = AT(train.spike_window),
     .decides = true,
     .unit = "steps",
     .preset = "128",
     .help = "Finite losses before a step that its own is compared with; no spike is seen until "
             "there are as many. Decides the result under on_spike: skip only."},
    {.path = "train.on_spike",
     .type = SEO_FIELD_CHOICE,
     .offset = AT(train.on_spike),
     .decides = true,
     .preset = "warn",
     .choices = k_spikes,
     .help = "warn names the step, its loss and its documents; skip also leaves its update out."},

    {.path = "optimizer.name",
     .type = SEO_FIELD_CHOICE,
     .offset = AT(optimizer.name),
     .decides = true,
     .preset = "adamw",
     .choices = k_optimizers,
     .help = "AdamW: Adam with decoupled weight decay."},
    {.path = "optimizer.lr",
     FLOAT(0, 100),
     .offset = AT(optimizer.lr),
     .decides = true,
     .help = "Peak learning rate, reached at the end of the warm-up."},
    {.path = "optimizer.beta1",
     FLOAT(0, 1),
     .below_max = true,
     .offset = AT(optimizer.beta1),
     .decides = true,
     .preset = "0.9",
     .help = "Decay of the running mean of the gradient."},
    {.path = "optimizer.beta2",
     FLOAT(0, 1),
     .below_max = true,
     .offset = AT(optimizer.beta2),
     .decides = true,
     .preset = "0.95",
     .help = "Decay of the running mean of its square."},
    {.path = "optimizer.eps",
     FLOAT(1e-30, 1),
     .offset = AT(optimizer.eps),
     .decides = true,
     .preset = "1e-8",
     .help = "Added to the root of the second moment."},
    {.path = "optimizer.weight_decay",
     FLOAT(0, 10),
     .offset = AT(optimizer.weight_decay),
     .decides = true,
     .preset = "0.1",
     .help = "Decay of matrices and embeddings a step, times the learning rate; biases and norms "
             "have none."},
    {.path = "optimizer.clip",
     FLOAT(0, 1e6),
     .offset = AT(optimizer.clip),
     .decides = true,
     .preset = "1.0",
     .help = "Largest norm of the whole gradient; a longer one is scaled down to it. 0: none."},
    {.path = "optimizer.master_weights",
     .type = SEO_FIELD_BOOL,
     .offset = AT(optimizer.master_weights),
     .decides = true,
     .preset = "true",
     .help = "Under precision bf16: keep an f32 copy of each parameter and train that. false saves "
             "4 bytes a parameter: the bf16 parameters themselves are trained, rounded up or down "
             "by chance so that small updates count on average."},

    {.path = "schedule.name",
     .type = SEO_FIELD_CHOICE,
     .offset = AT(schedule.name),
     .decides = true,
     .preset = "cosine",
     .choices = k_schedules,
     .help = "Course of the learning rate after the warm-up. wsd: constant, then a decay over the "
             "last decay_steps."},
    {.path = "schedule.warmup_steps",
     INT(0, STEPS_MAX),
     .offset = AT(schedule.warmup_steps),
     .decides = true,
     .unit = "steps",
     .otherwise = "from warmup_tokens, or 0",
     .help = "The learning rate rises in a line over these first steps."},
    {.path = "schedule.warmup_tokens",
     INT(1, TOKENS_MAX),
     .offset = AT(schedule.warmup_tokens),
     .unit = "tokens",
     .otherwise = "not used",
     .help = "warmup_steps given in tokens, rounded up to whole steps."},
    {.path = "schedule.decay_steps",
     INT(0, STEPS_MAX),
     .offset = AT(schedule.decay_steps),
     .decides = true,
     .unit = "steps",
     .otherwise = "from decay_tokens, or train.steps (wsd: a fifth of them)",
     .help = "cosine and linear: the step, warm-up included, at which the decay ends; the final "
             "learning rate holds after it. wsd: length of the decay that ends with the run. "
             "constant: not used."},
    {.path = "schedule.decay_tokens",
     INT(1, TOKENS_MAX),
     .offset = AT(schedule.decay_tokens),
     .unit = "tokens",
     .otherwise = "not used",
     .help = "decay_steps given in tokens, rounded up to whole steps."},
    {.path = "schedule.final_lr_fraction",
     FLOAT(0, 1),
     .offset = AT(schedule.final_lr_fraction),
     .decides = true,
     .preset = "0.1",
     .help = "Learning rate after the decay, as a part of the peak. constant: not used."},

    {.path = "eval.every",
     INT(0, STEPS_MAX),
     .offset = AT(eval.every),
     .unit = "steps",
     .preset = "250",
     .help = "Measure the loss on held-out text this often, and at the end. 0: never."},
    {.path = "eval.tokens",
     INT(0, TOKENS_MAX),
     .offset = AT(eval.tokens),
     .unit = "tokens",
     .preset = "1_048_576",
     .help = "At most this much of the held-out split each time. 0: all of it."},

    {.path = "checkpoint.every",
     INT(0, STEPS_MAX),
     .offset = AT(checkpoint.every),
     .unit = "steps",
     .preset = "1000",
     .help = "Save this often. 0: by time, at the end and on a signal only."},
    {.path = "checkpoint.every_seconds",
     .type = SEO_FIELD_SECONDS,
     .min = 0,
     .max = 1e9,
     .offset = AT(checkpoint.every_seconds),
     .preset = "30min",
     .help = "Save also when this much time has passed since the last save. 0: not by time."},
    {.path = "checkpoint.keep_last",
     INT(1, 1e6),
     .offset = AT(checkpoint.keep_last),
     .unit = "checkpoints",
     .preset = "3",
     .help = "Newest checkpoints that stay."},
    {.path = "checkpoint.keep_every",
     INT(0, STEPS_MAX),
     .offset = AT(checkpoint.keep_every),
     .unit = "steps",
     .preset = "0",
     .help = "Checkpoints at multiples of this stay for ever. 0: none does."},
    {.path = "checkpoint.init_from",
     .type = SEO_FIELD_TEXT,
     .offset = AT(checkpoint.init_from),
     .decides = true,
     .otherwise = "null",
     .help = "Parameters to begin from. This version begins from random ones: null."},

    {.path = "parallel.zero",
     INT(0, 3),
     .offset = AT(parallel.zero),
     .preset = "1",
     .help = "What the ranks share out among them, so that each holds a part. 0: nothing. 1: the "
             "optimizer's state. 2: gradients as well. 3: parameters as well, fetched block by "
             "block. The results are the same; with one rank so is the run."},
    {.path = "parallel.invariant",
     .type = SEO_FIELD_BOOL,
     .offset = AT(parallel.invariant),
     .decides = true,
     .preset = "false",
     .help =
         "The same bits for any number of ranks that divides slots, and when a run goes on with "
         "another number. Gradients are added up in one fixed tree of slots. false: the same "
         "bits for the same number of ranks. Goes with zero 0 and 1, and reduce f32."},
    {.path = "parallel.slots",
     INT(1, 1 << 16),
     .offset = AT(parallel.slots),
     .decides = true,
     .preset = "8",
     .help = "With invariant: equal parts of the batch, a power of two, which the ranks take in "
             "equal numbers: the most ranks that the run can ever have. Without it not used."},
    {.path = "parallel.reduce",
     .type = SEO_FIELD_CHOICE,
     .offset = AT(parallel.reduce),
     .decides = true,
     .preset = "f32",
     .choices = k_reduces,
     .help =
         "What gradients are sent as between ranks; they are added up in f32 always. bf16: half "
         "the bytes, each rank's addend rounded once."},
    {.path = "parallel.recompute",
     .type = SEO_FIELD_CHOICE,
     .offset = AT(parallel.recompute),
     .preset = "none",
     .choices = k_recomputes,
     .help = "Activations that the backward pass computes again instead of keeping them: none, "
             "selective (those that are large and cheap), full (all within a block). The results "
             "are the same, in less memory and more time."},
    {.path = "parallel.backend",
     .type = SEO_FIELD_CHOICE,
     .offset = AT(parallel.backend),
     .preset = "auto",
     .choices = k_backends,
     .help = "What carries data between ranks. auto: NCCL between GPUs, MPI between CPUs. mpi on a "
             "GPU goes through host memory: a path for tests."},
    {.path = "parallel.timeout",
     .type = SEO_FIELD_SECONDS,
     .min = 1,
     .max = 86400,
     .offset = AT(parallel.timeout_s),
     .preset = "60s",
     .help = "A rank that is this much later than ever before counts as lost: the job names it, "
             "saves what can be saved and ends."},
    {.path = "parallel.join_timeout",
     .type = SEO_FIELD_SECONDS,
     .min = 1,
     .max = 86400,
     .offset = AT(parallel.join_s),
     .preset = "60s",
     .help = "How long the ranks wait for each other at the start, until those that never came are "
             "named."},

    {.path = "kernels.matmul",
     .type = SEO_FIELD_CHOICE,
     .offset = AT(kernels.matmul),
     .preset = "auto",
     .choices = k_matmuls,
     .help = "Whose matrix product on a GPU: our own, NVIDIA's cuBLASLt, or for each shape the one "
             "that is faster when it is first met. On the CPU there is our own only."},

    {.path = "device",
     .type = SEO_FIELD_CHOICE,
     .offset = AT(device),
     .preset = "auto",
     .choices = k_devices,
     .help = "Where to compute. auto: on an NVIDIA GPU when there is one, else on the CPU."},
    {.path = "precision",
     .type = SEO_FIELD_CHOICE,
     .offset = AT(precision),
     .decides = true,
     .preset = "auto",
     .choices = k_precisions,
     .help = "Type of parameters and activations; sums are f32 always. auto: bf16 on a GPU, f32 on "
             "the CPU, and a checkpoint of one goes on with the other."},
};

int64_t seo_field_find(const char *path) {
    for (int64_t i = 0; i < SEO_CONFIG_FIELDS; i++) {
        if (strcmp(seo_config_fields[i].path, path) == 0) return i;
    }
    return -1;
}

const char *seo_field_split(const char *path, char section[SEO_SHORT_TEXT]) {
    const char *dot = strchr(path, '.');
    snprintf(section, SEO_SHORT_TEXT, "%.*s", dot ? (int)(dot - path) : 0, path);
    return dot ? dot + 1 : path;
}
