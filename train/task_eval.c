/* How a model does on a task's held-out examples: the passes of several ranks in rounds, as in
 * eval.c, so that the result is that of one rank. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/progress.h"
#include "train/eval_round.h"
#include "train/task_state.h"

typedef struct evaluation {
    const seo_task_eval_args *a;
    const seo_examples *examples;
    seo_rows *rows;
    seo_row_shape shape;
    seo_loss_shape losses_of;
    int64_t batch, seq_len, classes, count, done;
    int32_t *ids, *targets, *types, *spans, *picks, *labels, *pick_targets;
    float *losses, *label_losses, *logits; /* of a pass, on the host */
    seo_eval_round round;                  /* its numbers are nats and guess of each example */
    seo_task_result *out;
} evaluation;

static seo_err prepare(evaluation *e) {
    const seo_task_eval_args *a = e->a;
    const seo_model_config *m = seo_model_config_of(a->model);
    bool failed = false;
    SEO_ASSERT(a->task->held_out != NULL);
    e->examples = a->task->held_out;
    e->batch = a->batch;
    e->seq_len = m->seq_len;
    e->classes = m->classes;
    e->losses_of = seo_model_loss_shape(m);
    e->count = seo_examples_info_get(e->examples).count;
    seo_err err = seo_eval_round_open(a->comm, 2 * e->batch, &e->round);
    if (err == SEO_OK) err = seo_task_rows(a->task, e->examples, &e->rows);
    if (err != SEO_OK) return err;
    e->shape = seo_rows_shape(e->rows);
    const int64_t b = e->batch;
    e->ids = seo_eval_room(b * e->shape.ids, sizeof *e->ids, &failed);
    e->targets = seo_eval_room(b * e->shape.targets, sizeof *e->targets, &failed);
    e->types = seo_eval_room(b * e->shape.types, sizeof *e->types, &failed);
    e->spans = seo_eval_room(b * e->shape.spans, sizeof *e->spans, &failed);
    e->picks = seo_eval_room(b * e->shape.picks, sizeof *e->picks, &failed);
    e->pick_targets = seo_eval_room(b * e->shape.picks, sizeof *e->pick_targets, &failed);
    e->labels = seo_eval_room(b, sizeof *e->labels, &failed);
    e->losses = seo_eval_room(b * e->losses_of.rows, sizeof *e->losses, &failed);
    e->label_losses = seo_eval_room(b, sizeof *e->label_losses, &failed);
    e->logits = seo_eval_room(b * e->classes, sizeof *e->logits, &failed);
    if (failed)
        return SEO_FAIL(SEO_ERR_MEMORY, "an evaluation of %lld examples", (long long)e->count);
    return e->classes > 0 ? seo_confusion_open(e->classes, &e->out->confusion) : SEO_OK;
}

static void release(evaluation *e) {
    void *const memory[] = {e->ids,    e->targets,      e->types,  e->spans,        e->picks,
                            e->labels, e->pick_targets, e->losses, e->label_losses, e->logits};
    for (int64_t i = 0; i < SEO_COUNT_OF(memory); i++) free(memory[i]);
    seo_eval_round_close(&e->round);
    seo_rows_close(e->rows);
}

static int32_t *at(int32_t *array, int64_t b, int64_t width) {
    return width > 0 ? array + b * width : NULL;
}

static seo_err fill(evaluation *e, int64_t first, int64_t count) {
    const seo_row_shape *s = &e->shape;
    for (int64_t b = 0; b < count; b++) {
        const seo_row row = {.ids = at(e->ids, b, s->ids),
                             .targets = at(e->targets, b, s->targets),
                             .types = at(e->types, b, s->types),
                             .spans = at(e->spans, b, s->spans),
                             .picks = at(e->picks, b, s->picks),
                             .pick_targets = at(e->pick_targets, b, s->picks),
                             .label = at(e->labels, b, s->label)};
        const seo_err err = seo_rows_make(e->rows, (seo_order_place){.window = first + b}, &row);
        if (err != SEO_OK) return err;
    }
    return SEO_OK;
}

/* Losses of `count` rows of the model, as one vector; none where there are none of the kind. */
static seo_tensor losses_of(seo_tensor all, int64_t count) {
    return count > 0 ? seo_tensor_1d(all.data, SEO_DTYPE_F32, count) : (seo_tensor){0};
}

/* Losses and logits of examples [first, first + count) come to the host. */
static seo_err forward(evaluation *e, int64_t first, int64_t count) {
    seo_err err = SEO_OK;
    seo_model *model = e->a->model;
    const seo_row_shape *s = &e->shape;
    const seo_tensor tokens = losses_of(seo_model_losses(model), count * e->losses_of.rows);
    const seo_tensor labels = losses_of(seo_model_label_losses(model), s->label ? count : 0);
    SEO_TRY(fill(e, first, count));
    SEO_TRY(seo_model_forward(model, &(seo_pass_args){.ids = e->ids,
                                                      .targets = at(e->targets, 0, s->targets),
                                                      .stride = e->seq_len,
                                                      .types = at(e->types, 0, s->types),
                                                      .spans = at(e->spans, 0, s->spans),
                                                      .picks = at(e->picks, 0, s->picks),
                                                      .labels = at(e->labels, 0, s->label),
                                                      .batch = count,
                                                      .positions = e->seq_len,
                                                      .losses = tokens,
                                                      .label_losses = labels,
                                                      .hooks = e->a->hooks}));
    seo_device *dev = seo_model_device(model);
    if (!s->label) {
        SEO_TRY(seo_device_copy_out(dev, e->losses, tokens.data, seo_tensor_bytes(&tokens)));
        goto done;
    }
    SEO_TRY(seo_device_copy_out(dev, e->label_losses, labels.data, seo_tensor_bytes(&labels)));
    SEO_TRY(seo_model_label_logits(model, e->logits));
done:
    return err;
}

/* Of each example the nats of its targets, or of its label, and which label was guessed. */
static seo_err score_pass(evaluation *e, int64_t first, int64_t count, double *numbers) {
    const seo_err err = forward(e, first, count);
    if (err != SEO_OK) return err;
    for (int64_t b = 0; b < count; b++) {
        double *nats = &numbers[2 * b], *guess = &numbers[2 * b + 1];
        if (e->shape.label) {
            *nats = (double)e->label_losses[b];
            *guess = (double)seo_classify_guess(e->logits + b * e->classes, e->classes);
        } else {
            const float *losses = e->losses + b * e->losses_of.rows;
            for (int64_t t = 0; t < e->losses_of.rows; t++) *nats += (double)losses[t];
        }
    }
    return SEO_OK;
}

/* The numbers of one example, in the order of the file. */
static seo_err count_example(evaluation *e, const double *numbers) {
    seo_err err = SEO_OK;
    int64_t targets = 0;
    e->out->loss += numbers[0];
    if (e->shape.label) {
        SEO_TRY(seo_confusion_add(&e->out->confusion, seo_examples_label(e->examples, e->done),
                                  (int64_t)numbers[1]));
    } else {
        SEO_TRY(seo_rows_targets(e->rows, (seo_order_place){.window = e->done}, &targets));
        e->out->tokens += targets;
    }
    e->done++;
done:
    return err;
}

/* A round: each rank makes one pass, in the order of ranks, and hears of the others'. One that has
 * none takes part in fetching parameters all the same. */
static seo_err score_round(evaluation *e) {
    seo_err err = SEO_OK;
    const int64_t first = e->done + e->round.rank * e->batch;
    const int64_t own = seo_min_i64(e->batch, e->count - first);
    double *mine = seo_eval_round_begin(&e->round);
    if (own > 0) {
        if (seo_eval_round_goes_on(&e->round)) SEO_TRY(score_pass(e, first, own, mine));
    } else if (e->a->hooks) {
        SEO_TRY(forward(e, 0, 1));
    }
    SEO_TRY(seo_eval_round_end(&e->round));
    for (int32_t r = 0; r < e->round.ranks; r++) {
        const double *numbers = seo_eval_round_numbers(&e->round, r);
        for (int64_t b = 0; b < e->batch && e->done < e->count; b++) {
            SEO_TRY(count_example(e, numbers + 2 * b));
        }
    }
done:
    return err;
}

static seo_err score_all(evaluation *e) {
    seo_err err = SEO_OK;
    seo_progress progress;
    const char *label = e->round.rank == 0 ? e->a->label : NULL;
    if (label) seo_progress_start(&progress, label, "examples", e->count);
    while (e->done < e->count && err == SEO_OK) {
        err = score_round(e);
        if (label) seo_progress_update(&progress, e->done);
    }
    if (label) seo_progress_end(&progress);
    return err;
}

seo_err seo_task_eval(const seo_task_eval_args *args, seo_task_result *out) {
    seo_err err = SEO_OK;
    *out = (seo_task_result){0};
    evaluation e = {.a = args, .out = out};
    SEO_TRY(prepare(&e));
    SEO_TRY(score_all(&e));
    out->examples = e.count;
    out->loss /= (double)(e.shape.label ? out->examples : out->tokens);
    out->perplexity = exp(out->loss);
    if (e.shape.label) out->scores = seo_confusion_scores(&out->confusion);
done:
    release(&e);
    if (err != SEO_OK) seo_task_result_free(out);
    return err;
}

void seo_task_result_free(seo_task_result *result) {
    seo_confusion_free(&result->confusion);
    *result = (seo_task_result){0};
}

/* ---- one text ---- */

static void add_member(seo_buf *line, const char *key, const char *text) {
    seo_buf_format(line, "%s\"%s\": ", line->bytes > 1 ? ", " : "", key);
    seo_buf_json_string(line, text, strlen(text));
}

seo_err seo_task_logits(const seo_task *task, seo_model *model, const char *text, const char *pair,
                        float *out) {
    seo_err err = SEO_OK;
    seo_buf line = {0};
    seo_examples *examples = NULL;
    evaluation e = {0};
    seo_task one = *task;
    seo_task_result unused = {0};
    SEO_ASSERT(task->label_count > 0);
    seo_buf_text(&line, "{");
    add_member(&line, "text", text);
    if (pair) add_member(&line, "pair", pair);
    add_member(&line, "label", task->labels[0]); /* any: its loss is not looked at */
    seo_buf_text(&line, "}\n");
    SEO_TRY(seo_buf_check(&line));
    const seo_examples_args args = seo_task_examples_args(task, "the text.jsonl");
    SEO_TRY(seo_examples_parse(&args, line.data, (int64_t)line.bytes, &examples));
    one.held_out = examples;
    const seo_task_eval_args eval = {.task = &one, .model = model, .batch = 1};
    e = (evaluation){.a = &eval, .out = &unused};
    SEO_TRY(prepare(&e));
    SEO_TRY(forward(&e, 0, 1));
    memcpy(out, e.logits, (size_t)e.classes * sizeof *out);
done:
    seo_task_result_free(&unused);
    release(&e);
    seo_examples_close(examples);
    seo_buf_free(&line);
    return err;
}
