/* The windows of an evaluation: what goes into the model and what comes out, of text for a decoder
 * and of masked rows for an encoder. */
#include <math.h>
#include <string.h>

#include "base/check.h"
#include "train/eval_state.h"

int64_t seo_eval_windows_of(const seo_evaluation *e, const seo_eval_part *part) {
    if (e->rows) return seo_rows_count(e->rows, part->number);
    return seo_div_up(part->info.token_count, e->positions);
}

int64_t seo_eval_window_at(const seo_eval_part *p, int64_t i) {
    const int64_t whole = p->windows / p->chosen, rest = p->windows % p->chosen;
    return i * whole + i * rest / p->chosen;
}

int64_t seo_eval_window_length(const seo_evaluation *e, const seo_eval_part *p, int64_t window) {
    return seo_min_i64(e->positions, p->info.token_count - window * e->positions);
}

/* The document of a token; most are in the one that was asked for last. */
static seo_err find_document(seo_evaluation *e, const seo_eval_part *p, int64_t token) {
    const seo_document_span *d = &e->document;
    if (e->document_part == p && token >= d->first_token &&
        token < d->first_token + d->token_count) {
        return SEO_OK;
    }
    const seo_err err = seo_dataset_document_at(p->dataset, token, &e->document);
    if (err == SEO_OK) e->document_part = p;
    return err;
}

/* Spans of row b, whose position t holds token first + t: documents, and the padding. A position
 * before the split's first token is a part of its own. */
static seo_err document_spans(seo_evaluation *e, const seo_eval_part *p, int64_t first,
                              int64_t length, int64_t b) {
    int32_t *spans = e->spans + b * e->positions * 2;
    for (int64_t t = 0; t < e->positions;) {
        int64_t end = e->positions;
        if (t < length && first + t < 0) {
            end = 1;
        } else if (t < length) {
            const seo_err err = find_document(e, p, first + t);
            if (err != SEO_OK) return err;
            end = seo_min_i64(length, e->document.first_token + e->document.token_count - first);
        }
        const int64_t begin = t;
        for (; t < end; t++) {
            spans[2 * t] = (int32_t)begin;
            spans[2 * t + 1] = (int32_t)end;
        }
    }
    return SEO_OK;
}

/* Row b of the pass: the window's targets, and as inputs the tokens one place earlier. */
static seo_err fill_text(seo_evaluation *e, const seo_eval_part *p, int64_t window, int64_t b) {
    const int64_t first = window * e->positions, length = seo_eval_window_length(e, p, window);
    int32_t *ids = e->ids + b * e->positions, *targets = e->targets + b * e->positions;
    const int64_t before = first > 0; /* the first window has no token before it */
    const seo_err err =
        seo_dataset_read(p->dataset, first - before, length + before, e->window + 1 - before);
    if (err != SEO_OK) return err;
    if (!before) e->window[0] = p->info.eot_id >= 0 ? p->info.eot_id : 0;
    for (int64_t t = 0; t < e->positions; t++) {
        ids[t] = t < length ? e->window[t] : 0;
        targets[t] = t < length ? e->window[t + 1] : SEO_TARGET_IGNORE;
    }
    return e->spans ? document_spans(e, p, first - 1, length, b) : SEO_OK;
}

static int32_t *row_at(int32_t *array, int64_t b, int64_t width) {
    return array ? array + b * width : NULL;
}

static seo_err fill_row(seo_evaluation *e, const seo_eval_part *p, int64_t window, int64_t b) {
    const seo_row_shape *shape = &e->row_shape;
    const seo_row row = {.ids = row_at(e->ids, b, shape->ids),
                         .types = row_at(e->types, b, shape->types),
                         .spans = row_at(e->spans, b, shape->spans),
                         .picks = row_at(e->picks, b, shape->picks),
                         .pick_targets = row_at(e->pick_targets, b, shape->picks),
                         .label = row_at(e->labels, b, shape->label)};
    return seo_rows_make(e->rows, (seo_order_place){.source = p->number, .window = window}, &row);
}

/* The pass; losses go to the host. */
static seo_err forward(seo_evaluation *e, int64_t count) {
    seo_err err = SEO_OK;
    seo_model *model = e->a->model;
    seo_device *dev = seo_model_device(model);
    const int64_t losses = count * e->shape.rows;
    seo_pass_args pass = {.ids = e->ids,
                          .targets = e->targets,
                          .stride = e->positions,
                          .types = e->types,
                          .spans = e->spans,
                          .picks = e->picks,
                          .pick_targets = e->pick_targets,
                          .labels = e->labels,
                          .batch = count,
                          .positions = e->positions,
                          .hooks = e->a->hooks};
    pass.losses = seo_tensor_1d(seo_model_losses(model).data, SEO_DTYPE_F32, losses);
    if (e->shape.label) {
        pass.label_losses = seo_tensor_1d(seo_model_label_losses(model).data, SEO_DTYPE_F32, count);
    }
    SEO_TRY(seo_model_forward(model, &pass));
    SEO_TRY(
        seo_device_copy_out(dev, e->losses, pass.losses.data, losses * (int64_t)sizeof *e->losses));
    if (!e->shape.label) goto done;
    SEO_TRY(seo_device_copy_out(dev, e->label_losses, pass.label_losses.data,
                                count * (int64_t)sizeof *e->label_losses));
    SEO_TRY(seo_model_label_logits(model, e->label_logits));
done:
    return err;
}

static void add_to_source(seo_evaluation *e, const seo_eval_part *p, double nats, int64_t tokens) {
    seo_eval_source *source = &e->out->sources[p->first_source + e->document.source];
    source->nats += nats;
    source->tokens += tokens;
}

/* With several ranks nobody sees all windows: there are no sources then. */
static seo_err score_text(seo_evaluation *e, const seo_eval_part *p, int64_t window, int64_t b,
                          seo_eval_score *score) {
    const int64_t length = seo_eval_window_length(e, p, window);
    for (int64_t t = 0; t < length; t++) {
        const double nats = (double)e->losses[b * e->positions + t];
        score->nats += nats;
        score->tokens++;
        if (e->round.ranks > 1) continue;
        const seo_err err = find_document(e, p, window * e->positions + t);
        if (err != SEO_OK) return err;
        add_to_source(e, p, nats, 1);
    }
    return SEO_OK;
}

static seo_err score_row(seo_evaluation *e, const seo_eval_part *p, int64_t window, int64_t b,
                         seo_eval_score *score) {
    const seo_order_place place = {.source = p->number, .window = window};
    for (int64_t n = 0; n < e->shape.rows; n++) {
        if (e->pick_targets[b * e->shape.rows + n] == SEO_ROW_IGNORE) continue;
        score->nats += (double)e->losses[b * e->shape.rows + n];
        score->tokens++;
    }
    if (e->labels) {
        const float *logits = e->label_logits + 2 * b;
        score->label_nats = (double)e->label_losses[b];
        score->right = (logits[1] > logits[0]) == (e->labels[b] != 0);
    }
    if (e->round.ranks > 1) return SEO_OK;
    const seo_err err = find_document(e, p, seo_rows_range(e->rows, place).first);
    if (err == SEO_OK) add_to_source(e, p, score->nats, (int64_t)score->tokens);
    return err;
}

seo_err seo_eval_score_pass(seo_evaluation *e, const seo_eval_pass *own, seo_eval_score *scores) {
    seo_err err = SEO_OK;
    for (int64_t b = 0; b < own->count; b++) {
        const int64_t window = seo_eval_window_at(own->part, own->first + b);
        SEO_TRY(e->rows ? fill_row(e, own->part, window, b) : fill_text(e, own->part, window, b));
    }
    SEO_TRY(forward(e, own->count));
    for (int64_t b = 0; b < own->count; b++) {
        const int64_t window = seo_eval_window_at(own->part, own->first + b);
        SEO_TRY(e->rows ? score_row(e, own->part, window, b, &scores[b])
                        : score_text(e, own->part, window, b, &scores[b]));
    }
done:
    return err;
}

static void fill(int32_t *array, int64_t count, int32_t value) {
    for (int64_t i = 0; array && i < count; i++) array[i] = value;
}

seo_err seo_eval_blank_pass(seo_evaluation *e) {
    fill(e->ids, e->positions, 0);
    fill(e->types, e->positions, 0);
    fill(e->targets, e->positions, SEO_TARGET_IGNORE);
    fill(e->picks, e->shape.rows, SEO_ROW_IGNORE);
    fill(e->pick_targets, e->shape.rows, SEO_TARGET_IGNORE);
    fill(e->labels, 1, SEO_TARGET_IGNORE);
    for (int64_t t = 0; e->spans && t < e->positions; t++) {
        e->spans[2 * t] = 0;
        e->spans[2 * t + 1] = (int32_t)e->positions;
    }
    return forward(e, 1);
}
