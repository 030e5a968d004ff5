#include "train/eval_state.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/progress.h"

enum { SCORE_NUMBERS = sizeof(seo_eval_score) / sizeof(double) };
/* Of masks and pairs; no run's own. */
static const uint64_t k_row_seed = 0x5ee0da46;

/* Which windows: all of them, or tokens_max spread over the datasets by size. */
static void choose_windows(seo_evaluation *e) {
    int64_t all_tokens = 0;
    for (int64_t d = 0; d < e->a->dataset_count; d++) all_tokens += e->parts[d].info.token_count;
    const double share = e->a->tokens_max > 0 && e->a->tokens_max < all_tokens
                             ? (double)e->a->tokens_max / (double)all_tokens
                             : 1.0;
    for (int64_t d = 0; d < e->a->dataset_count; d++) {
        seo_eval_part *p = &e->parts[d];
        p->windows = seo_eval_windows_of(e, p);
        p->chosen = share < 1 ? (int64_t)(share * (double)p->windows) : p->windows;
        p->chosen = seo_min_i64(seo_max_i64(p->chosen, 1), p->windows);
        e->out->windows += p->chosen;
    }
}

/* An encoder's rows. */
static seo_err open_rows(seo_evaluation *e) {
    const seo_model_config *model = seo_model_config_of(e->a->model);
    const seo_data_config *data = e->a->data;
    if (!seo_family_is_encoder(model->family)) return SEO_OK;
    SEO_ASSERT(data && e->a->tokenizer);
    const seo_err err = seo_rows_open(
        &(seo_rows_args){.objective = model->next_sentence ? SEO_OBJECTIVE_SENTENCE_PAIRS
                                                           : SEO_OBJECTIVE_MASKED,
                         .datasets = e->a->datasets,
                         .dataset_count = e->a->dataset_count,
                         .tokenizer = e->a->tokenizer,
                         .seq_len = model->seq_len,
                         .seed = k_row_seed,
                         .document_mask = data->document_mask,
                         .mask_fraction = data->mask_fraction,
                         .max_predictions = model->picks,
                         .short_sequences = data->short_sequences},
        &e->rows);
    if (err != SEO_OK) return err;
    e->row_shape = seo_rows_shape(e->rows);
    e->out->masked = true;
    e->out->labelled = model->next_sentence;
    return SEO_OK;
}

static seo_err open_parts(seo_evaluation *e) {
    const seo_eval_args *a = e->a;
    bool failed = false;
    e->parts = seo_eval_room(a->dataset_count, sizeof *e->parts, &failed);
    if (failed) return SEO_FAIL(SEO_ERR_MEMORY, "an evaluation");
    for (int64_t d = 0; d < a->dataset_count; d++) {
        seo_eval_part *p = &e->parts[d];
        p->dataset = a->datasets[d];
        p->info = seo_dataset_info_get(p->dataset);
        p->number = d;
        p->first_source = e->out->source_count;
        e->out->source_count += p->info.source_count;
    }
    const seo_err err = open_rows(e);
    if (err == SEO_OK) choose_windows(e);
    return err;
}

/* Room for a pass and its results. */
static bool take_arrays(seo_evaluation *e) {
    const int64_t batch = e->a->batch, rows = batch * e->positions;
    const seo_row_shape *shape = &e->row_shape;
    bool failed = false;
    e->ids = seo_eval_room(rows, sizeof *e->ids, &failed);
    if (!e->rows) {
        e->targets = seo_eval_room(rows, sizeof *e->targets, &failed);
        e->window = seo_eval_room(e->positions + 1, sizeof *e->window, &failed);
    }
    const bool spans = e->rows ? shape->spans > 0 : e->a->data && e->a->data->document_mask;
    if (spans) e->spans = seo_eval_room(2 * rows, sizeof *e->spans, &failed);
    if (shape->types > 0) e->types = seo_eval_room(rows, sizeof *e->types, &failed);
    if (shape->picks > 0) {
        e->picks = seo_eval_room(batch * shape->picks, sizeof *e->picks, &failed);
        e->pick_targets = seo_eval_room(batch * shape->picks, sizeof *e->pick_targets, &failed);
    }
    if (e->shape.label) {
        e->labels = seo_eval_room(batch, sizeof *e->labels, &failed);
        e->label_losses = seo_eval_room(batch, sizeof *e->label_losses, &failed);
        e->label_logits = seo_eval_room(2 * batch, sizeof *e->label_logits, &failed);
    }
    e->losses = seo_eval_room(batch * e->shape.rows, sizeof *e->losses, &failed);
    e->done = seo_eval_room(e->out->windows, sizeof *e->done, &failed);
    e->out->sources = seo_eval_room(e->out->source_count, sizeof *e->out->sources, &failed);
    return !failed;
}

static seo_err prepare(seo_evaluation *e) {
    const seo_eval_args *a = e->a;
    const seo_model_config *model = seo_model_config_of(a->model);
    SEO_ASSERT(model->classes == 0);
    e->positions = model->seq_len;
    e->shape = seo_model_loss_shape(model);
    seo_err err = seo_eval_round_open(a->comm, SCORE_NUMBERS * a->batch, &e->round);
    if (err == SEO_OK) err = open_parts(e);
    if (err != SEO_OK) return err;
    if (!take_arrays(e)) {
        return SEO_FAIL(SEO_ERR_MEMORY, "an evaluation of %lld windows",
                        (long long)e->out->windows);
    }
    for (int64_t d = 0; d < a->dataset_count; d++) {
        const seo_eval_part *p = &e->parts[d];
        for (int64_t s = 0; s < p->info.source_count; s++) {
            e->out->sources[p->first_source + s].path = seo_dataset_source(p->dataset, s);
        }
    }
    return SEO_OK;
}

/* Where the next pass begins. */
typedef struct cursor {
    int64_t part, first;
} cursor;

/* False at the end. */
static bool next_pass(const seo_evaluation *e, cursor *c, seo_eval_pass *out) {
    while (c->part < e->a->dataset_count && c->first >= e->parts[c->part].chosen) {
        *c = (cursor){.part = c->part + 1};
    }
    if (c->part >= e->a->dataset_count) return false;
    const seo_eval_part *p = &e->parts[c->part];
    *out = (seo_eval_pass){p, c->first, seo_min_i64(e->a->batch, p->chosen - c->first)};
    c->first += out->count;
    return true;
}

/* A round: each rank makes one pass, in the order of ranks, and hears of the others'. */
static seo_err score_round(seo_evaluation *e, cursor *c) {
    seo_err err = SEO_OK;
    cursor ahead = *c;
    seo_eval_pass own = {0};
    bool any = false;
    for (int32_t r = 0; r <= e->round.rank; r++) any = next_pass(e, &ahead, &own);
    seo_eval_score *scores = (seo_eval_score *)(void *)seo_eval_round_begin(&e->round);
    if (seo_eval_round_goes_on(&e->round)) {
        /* A rank without a pass in this round takes part in fetching parameters all the same. */
        if (!any && e->a->hooks) SEO_TRY(seo_eval_blank_pass(e));
        if (any) SEO_TRY(seo_eval_score_pass(e, &own, scores));
    }
    SEO_TRY(seo_eval_round_end(&e->round));
    for (int32_t r = 0; r < e->round.ranks && next_pass(e, c, &own); r++) {
        const double *numbers = seo_eval_round_numbers(&e->round, r);
        const seo_eval_score *told = (const seo_eval_score *)(const void *)numbers;
        for (int64_t b = 0; b < own.count; b++) e->done[e->done_count++] = told[b];
    }
done:
    return err;
}

static seo_err score_all(seo_evaluation *e) {
    seo_err err = SEO_OK;
    seo_progress progress;
    cursor c = {0};
    const char *label = e->round.rank == 0 ? e->a->label : NULL;
    if (label) seo_progress_start(&progress, label, "windows", e->out->windows);
    while (e->done_count < e->out->windows && err == SEO_OK) {
        err = score_round(e, &c);
        if (label) seo_progress_update(&progress, e->done_count);
    }
    if (label) seo_progress_end(&progress);
    return err;
}

/* Text that the scored tokens stand for: all of a split scored whole, else in proportion. */
static int64_t bytes_of(const seo_evaluation *e) {
    int64_t bytes = 0;
    for (int64_t d = 0; d < e->a->dataset_count; d++) {
        const seo_eval_part *p = &e->parts[d];
        int64_t tokens = 0;
        for (int64_t i = 0; i < p->chosen; i++) {
            tokens += seo_eval_window_length(e, p, seo_eval_window_at(p, i));
        }
        bytes += tokens == p->info.token_count
                     ? p->info.byte_count
                     : llround((double)p->info.byte_count * (double)tokens /
                               (double)p->info.token_count);
    }
    return bytes;
}

static void summarise(const seo_evaluation *e, seo_eval_result *out) {
    double nats = 0, squares = 0, label_nats = 0, right = 0;
    for (int64_t w = 0; w < out->windows; w++) {
        nats += e->done[w].nats;
        out->tokens += (int64_t)e->done[w].tokens;
        label_nats += e->done[w].label_nats;
        right += e->done[w].right;
    }
    const double n = (double)out->windows;
    out->bytes = out->masked ? 0 : bytes_of(e);
    out->loss = nats / (double)out->tokens;
    out->perplexity = exp(out->loss);
    out->bits_per_byte = out->bytes > 0 ? nats / log(2) / (double)out->bytes : NAN;
    out->label_loss = label_nats / n;
    out->label_accuracy = right / n;
    for (int64_t w = 0; w < out->windows; w++) {
        const double off = e->done[w].nats - out->loss * e->done[w].tokens;
        squares += off * off;
    }
    out->loss_stderr = n > 1 ? sqrt(n / (n - 1) * squares) / (double)out->tokens : NAN;
    out->ci_low = out->loss - 1.96 * out->loss_stderr;
    out->ci_high = out->loss + 1.96 * out->loss_stderr;
}

/* Sources without a scored token leave the list. */
static void drop_empty_sources(seo_eval_result *out) {
    int64_t kept = 0;
    for (int64_t s = 0; s < out->source_count; s++) {
        if (out->sources[s].tokens > 0) out->sources[kept++] = out->sources[s];
    }
    out->source_count = kept;
}

seo_err seo_eval(const seo_eval_args *args, seo_eval_result *out) {
    seo_err err = SEO_OK;
    *out = (seo_eval_result){0};
    seo_evaluation e = {.a = args, .out = out};
    SEO_ASSERT(args->dataset_count >= 1);
    SEO_TRY(prepare(&e));
    SEO_TRY(score_all(&e));
    summarise(&e, out);
    drop_empty_sources(out);
done:
    free(e.parts);
    free(e.ids);
    free(e.targets);
    free(e.types);
    free(e.spans);
    free(e.picks);
    free(e.pick_targets);
    free(e.labels);
    free(e.window);
    free(e.losses);
    seo_eval_round_close(&e.round);
    free(e.label_losses);
    free(e.label_logits);
    free(e.done);
    seo_rows_close(e.rows);
    if (err != SEO_OK) seo_eval_free(out);
    return err;
}

void seo_eval_free(seo_eval_result *result) {
    free(result->sources);
    *result = (seo_eval_result){0};
}
