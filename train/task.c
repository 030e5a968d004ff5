#include "train/task.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "train/task_state.h"

/* The names of the classes: a text for each, and a list of them. */
static seo_err read_labels(seo_task *task) {
    const seo_config *c = task->config;
    char word[SEO_CONFIG_TEXT_MAX];
    const int64_t count = c->model.classes;
    if (c->task.kind != SEO_TASK_CLASSIFY) return SEO_OK;
    task->labels = calloc((size_t)count + 1, sizeof *task->labels);
    if (!task->labels) return SEO_FAIL(SEO_ERR_MEMORY, "a list of %lld labels", (long long)count);
    for (int64_t i = 0; i < count; i++) {
        SEO_ASSERT(seo_config_item(c->task.labels, i, word));
        task->labels[i] = strdup(word);
        if (!task->labels[i]) return SEO_FAIL(SEO_ERR_MEMORY, "the name of a label");
        task->label_count = i + 1;
    }
    return SEO_OK;
}

seo_examples_args seo_task_examples_args(const seo_task *task, const char *path) {
    const seo_model_config *m = &task->config->model;
    return (seo_examples_args){
        .path = path,
        .kind = task->config->task.kind == SEO_TASK_CLASSIFY ? SEO_EXAMPLES_CLASSIFY
                                                             : SEO_EXAMPLES_PAIRS,
        .tokenizer = task->tokenizer,
        .labels = (const char *const *)task->labels,
        .label_count = task->label_count,
        .seq_len = m->seq_len,
        .encoder = seo_family_is_encoder(m->family),
        .types = m->type_vocab_size,
        .separators = m->family == SEO_FAMILY_ROBERTA ? 2 : 1,
        .threads = seo_min_i64(seo_max_i64(task->threads, 1), SEO_EXAMPLES_THREADS_MAX)};
}

seo_err seo_task_rows(const seo_task *task, const seo_examples *examples, seo_rows **out) {
    return seo_rows_open(&(seo_rows_args){.objective = SEO_OBJECTIVE_EXAMPLES,
                                          .examples = examples,
                                          .tokenizer = task->tokenizer,
                                          .seq_len = task->config->model.seq_len},
                         out);
}

static seo_err open_file(const seo_task *task, const char *key, const char *path,
                         seo_examples **out) {
    const seo_examples_args args = seo_task_examples_args(task, path);
    const seo_err err = seo_examples_open(&args, out);
    return err == SEO_OK ? SEO_OK : seo_err_context(err, "%s", key);
}

static seo_err check_vocabulary(const seo_task *task, const char *path) {
    const int64_t tokens = seo_tokenizer_vocab_size(task->tokenizer);
    const int64_t rows = task->config->model.vocab_size;
    if (tokens <= rows) return SEO_OK;
    return SEO_FAIL(SEO_ERR_USAGE,
                    "%s has a vocabulary of %lld, model.vocab_size is %lld: make it %lld or more",
                    path, (long long)tokens, (long long)rows, (long long)tokens);
}

seo_err seo_task_open(const seo_task_args *args, seo_task **out) {
    seo_err err = SEO_OK;
    *out = NULL;
    SEO_ASSERT(args->config->task.kind != SEO_TASK_PRETRAIN);
    seo_task *task = calloc(1, sizeof *task);
    if (!task) return SEO_FAIL(SEO_ERR_MEMORY, "a task");
    task->config = args->config;
    task->threads = args->threads;
    SEO_TRY(seo_tokenizer_load(args->tokenizer_path, &task->tokenizer));
    SEO_TRY(check_vocabulary(task, args->tokenizer_path));
    SEO_TRY(read_labels(task));
    if (args->examples) {
        SEO_TRY(open_file(task, "task.examples", args->examples, &task->examples));
    }
    if (args->held_out && args->held_out[0] != '\0') {
        SEO_TRY(open_file(task, "task.held_out", args->held_out, &task->held_out));
    }
    *out = task;
    task = NULL;
done:
    seo_task_close(task);
    return err;
}

void seo_task_close(seo_task *task) {
    if (!task) return;
    seo_examples_close(task->examples);
    seo_examples_close(task->held_out);
    for (int64_t i = 0; i < task->label_count; i++) free(task->labels[i]);
    free(task->labels);
    seo_tokenizer_free(task->tokenizer);
    free(task);
}

const seo_tokenizer *seo_task_tokenizer(const seo_task *task) {
    return task->tokenizer;
}
const seo_examples *seo_task_examples(const seo_task *task) {
    return task->examples;
}
const seo_examples *seo_task_held_out(const seo_task *task) {
    return task->held_out;
}
int64_t seo_task_label_count(const seo_task *task) {
    return task->label_count;
}
const char *seo_task_label(const seo_task *task, int64_t c) {
    SEO_ASSERT(c >= 0 && c < task->label_count);
    return task->labels[c];
}
