/* What a run with task.kind pairs or classify learns from, and is tested on: examples, read by the
 * tokenizer of the model that is fine-tuned. */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "base/text.h"
#include "data/examples.h"
#include "data/rows.h"
#include "data/tokenizer.h"
#include "train/classify.h"
#include "train/config.h"
#include "train/models/model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_task seo_task;

typedef struct seo_task_args {
    const seo_config *config;   /* task.kind is not pretrain; borrowed */
    const char *tokenizer_path; /* tokenizer.json of the model */
    const char *examples;       /* NULL: task.examples are not opened */
    const char *held_out;       /* likewise; "" or NULL: none */
    int64_t threads;            /* that tokenize; 0: one */
} seo_task_args;

/* SEO_ERR_USAGE or SEO_ERR_FORMAT naming file and line, or what does not fit the model. */
seo_err seo_task_open(const seo_task_args *args, seo_task **out);
void seo_task_close(seo_task *task); /* NULL is fine */

const seo_tokenizer *seo_task_tokenizer(const seo_task *task);
const seo_examples *seo_task_examples(const seo_task *task); /* NULL: not opened */
const seo_examples *seo_task_held_out(const seo_task *task); /* NULL: none */
int64_t seo_task_label_count(const seo_task *task);          /* 0 of pairs */
const char *seo_task_label(const seo_task *task, int64_t c);

/* ---- how well it does ---- */

typedef struct seo_task_eval_args {
    const seo_task *task;        /* with held-out examples */
    seo_model *model;            /* not SEO_MODEL_GENERATE */
    int64_t batch;               /* sequences of one pass: the model's */
    const char *label;           /* of the progress line; NULL: none */
    seo_comm *comm;              /* ranks that share the work; NULL: this process alone */
    const seo_pass_hooks *hooks; /* of the passes, where parameters are not whole on a rank; opt */
} seo_task_eval_args;

/* loss: nats; of pairs per token of the completions, of classes per example. */
typedef struct seo_task_result {
    int64_t examples;
    int64_t tokens; /* pairs: of the completions */
    double loss, perplexity;
    seo_confusion confusion; /* classes */
    seo_scores scores;
} seo_task_result;

/* As seo_eval: all ranks call it, share the passes and get the same result to the last bit, that of
 * one rank. SEO_ERR_STOPPED when a signal asks to stop. Free with seo_task_result_free. */
seo_err seo_task_eval(const seo_task_eval_args *args, seo_task_result *out);
void seo_task_result_free(seo_task_result *result);

/* For people, and as one JSON object with a closing newline. */
void seo_task_table(const seo_task *task, const seo_task_result *result, seo_buf *out);
void seo_task_json(const seo_task *task, const seo_task_result *result, int64_t step, seo_buf *out);

/* The classes of texts, one at a time, that need no label: out (label_count) logits. `pair`: the
 * second text, or NULL. */
seo_err seo_task_logits(const seo_task *task, seo_model *model, const char *text, const char *pair,
                        float *out);

#ifdef __cplusplus
}
#endif
