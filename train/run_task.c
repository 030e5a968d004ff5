/* A run that learns a task: its examples in place of datasets, read by the tokenizer of the model
 * that it began from. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "train/run_state.h"

enum { TOKENIZER_BYTES_MAX = 256 << 20 };

/* Whose tokenizer it is: that of the run's own checkpoint, of the data that is named, or of the
 * checkpoint that the run begins from. */
static seo_err find_tokenizer(const seo_run *run, char *path) {
    seo_path_kind kind = SEO_PATH_NONE;
    const char *data =
        run->config.data.mix_count > 0 ? run->config.data.mix[0].path : run->config.data.path;
    const char *folder = run->resumed_from ? run->resumed_path
                         : data[0] != '\0' ? data
                                           : seo_ckpt_path(run->source);
    seo_err err = seo_path_join(path, folder, "tokenizer.json");
    if (err == SEO_OK) err = seo_path_look(path, &kind);
    if (err != SEO_OK || kind == SEO_PATH_FILE) return err;
    return SEO_FAIL(
        SEO_ERR_USAGE,
        "%s has no tokenizer.json to read task.examples with: %sgive data.path, a "
        "dataset that was built with the model's tokenizer",
        folder, run->source ? "set data.path: null to take that of checkpoint.init_from, or " : "");
}

/* Checkpoints take a copy, also when the place it came from is gone by then. */
static seo_err keep_tokenizer(seo_run *run, const char *from) {
    char *text = NULL;
    int64_t bytes = 0;
    seo_err err = seo_path_join(run->tokenizer_path, run->dir.path, "tokenizer.json");
    if (err != SEO_OK || !seo_run_speaks(run)) return err;
    err = seo_file_read(from, TOKENIZER_BYTES_MAX, &text, &bytes);
    if (err == SEO_OK) err = seo_file_write_atomic(run->tokenizer_path, text, bytes);
    free(text);
    return err;
}

static void tell_cut(const char *key, const seo_examples *examples, int64_t seq_len) {
    const seo_examples_info info = seo_examples_info_get(examples);
    if (info.cut == 0) return;
    seo_warn("%s: %lld of %lld examples are longer than model.seq_len %lld and were cut (the first "
             "at line %lld)",
             key, (long long)info.cut, (long long)info.count, (long long)seq_len,
             (long long)info.first_cut_line);
}

seo_err seo_run_open_task(seo_run *run) {
    seo_err err = SEO_OK;
    char tokenizer[SEO_PATH_MAX];
    const seo_config *c = &run->config;
    SEO_TRY(find_tokenizer(run, tokenizer));
    SEO_TRY(seo_task_open(&(seo_task_args){.config = c,
                                           .tokenizer_path = tokenizer,
                                           .examples = c->task.examples,
                                           .held_out = c->eval.every > 0 ? c->task.held_out : "",
                                           .threads = run->args->threads},
                          &run->task));
    SEO_TRY(keep_tokenizer(run, tokenizer));
    if (!seo_run_speaks(run)) goto done;
    tell_cut("task.examples", seo_task_examples(run->task), c->model.seq_len);
    if (seo_task_held_out(run->task)) {
        tell_cut("task.held_out", seo_task_held_out(run->task), c->model.seq_len);
    } else if (c->eval.every > 0) {
        seo_warn("eval.every is %lld, and there is no task.held_out: nothing is evaluated",
                 (long long)c->eval.every);
    }
done:
    return err;
}

seo_err seo_run_same_task(seo_run *run) {
    seo_err err = SEO_OK;
    seo_buf text = {0};
    const seo_examples *held_out = seo_task_held_out(run->task);
    SEO_TRY(seo_world_same(run->world.line, "the tokenizer",
                           seo_tokenizer_sha256(seo_task_tokenizer(run->task))));
    seo_buf_format(&text, "%s\n", seo_examples_info_get(seo_task_examples(run->task)).sha256);
    if (held_out) seo_buf_format(&text, "%s\n", seo_examples_info_get(held_out).sha256);
    SEO_TRY(seo_run_agree(run, "the examples", seo_buf_check(&text)));
    SEO_TRY(seo_world_same(run->world.line, "the examples (their files' SHA-256)", text.data));
done:
    seo_buf_free(&text);
    return err;
}

seo_err seo_run_check_task(seo_run *run) {
    const seo_examples_info info = seo_examples_info_get(seo_task_examples(run->task));
    const char *tokenizer = seo_tokenizer_sha256(seo_task_tokenizer(run->task));
    if (run->resumed_from && strcmp(info.sha256, run->state.data_sha256) != 0) {
        return SEO_FAIL(SEO_ERR_USAGE,
                        "%s was made from other examples than %s has (SHA-256 %.12s there, %.12s "
                        "here); give the earlier task.examples, or another --out for a new run",
                        run->resumed_path, run->config.task.examples, run->state.data_sha256,
                        info.sha256);
    }
    memcpy(run->state.data_sha256, info.sha256, sizeof info.sha256);
    snprintf(run->state.tokenizer_sha256, sizeof run->state.tokenizer_sha256, "%s", tokenizer);
    return SEO_OK;
}

seo_err seo_run_evaluate_task(seo_run *run) {
    seo_task_result result;
    const seo_err err =
        seo_task_eval(&(seo_task_eval_args){.task = run->task,
                                            .model = run->model,
                                            .batch = run->config.train.micro_batch,
                                            .label = "evaluating",
                                            .comm = run->world.comm,
                                            .hooks = seo_parallel_reading(run->parallel)},
                      &result);
    if (err != SEO_OK) return err;
    const bool classes = seo_task_label_count(run->task) > 0;
    run->eval = (seo_metrics_eval){.loss = result.loss,
                                   .perplexity = result.perplexity,
                                   .classes = classes ? seo_task_label_count(run->task) : 0,
                                   .of_task = true,
                                   .scores = result.scores};
    if (classes) {
        seo_info("step %lld  held-out loss %.4f  accuracy %.4f  F1 %.4f  Matthews %.4f  (%lld "
                 "examples; the most frequent label %.4f)",
                 (long long)run->state.step, result.loss, result.scores.accuracy,
                 result.scores.f1_macro, result.scores.matthews, (long long)result.examples,
                 result.scores.majority);
    } else {
        seo_info(
            "step %lld  held-out loss %.4f  perplexity %.2f  (%lld tokens of %lld completions)",
            (long long)run->state.step, result.loss, result.perplexity, (long long)result.tokens,
            (long long)result.examples);
    }
    seo_task_result_free(&result);
    return SEO_OK;
}

void seo_run_task_banner(const seo_run *run) {
    const seo_examples_info info = seo_examples_info_get(seo_task_examples(run->task));
    const seo_train_config *t = &run->config.train;
    const double read = (double)t->steps * (double)(t->batch_tokens / run->config.model.seq_len);
    char count[SEO_SHORT_TEXT], tokens[SEO_SHORT_TEXT];
    seo_info("data        %s, %s examples of %s tokens, read %.2f times by the last step",
             run->config.task.examples, seo_format_count(count, info.count),
             seo_format_count(tokens, info.tokens), read / (double)info.count);
}

void seo_run_task_summary(const seo_run *run) {
    const seo_metrics_eval *e = &run->eval;
    if (run->eval_step > 0 && e->classes > 0) {
        seo_info("held-out    accuracy %.4f, F1 %.4f, Matthews %.4f at step %lld; the most "
                 "frequent label %.4f",
                 e->scores.accuracy, e->scores.f1_macro, e->scores.matthews,
                 (long long)run->eval_step, e->scores.majority);
    } else if (run->eval_step > 0) {
        seo_info("held-out    loss %.4f, perplexity %.2f at step %lld", e->loss, e->perplexity,
                 (long long)run->eval_step);
    }
}
