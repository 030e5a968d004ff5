#include "train/eval.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/progress.h"
#include "train/signal.h"

/* One dataset's part in the work. */
typedef struct part {
    seo_dataset *dataset;
    seo_dataset_info info;
    int64_t windows, chosen; /* of the split, and how many of them are scored */
    int64_t first_source;    /* of this dataset in the result's list */
} part;

typedef struct evaluation {
    const seo_eval_args *a;
    int64_t positions;
    part *parts;
    int32_t *ids, *targets, *row; /* (batch * positions), and one row of tokens */
    float *losses;                /* (batch * positions) */
    double *window_nats;          /* by scored window, in order */
    int64_t *window_tokens;
    int64_t done_windows;
    int32_t rank, ranks;
    double *message, *messages; /* of a round: message_count numbers, by rank */
    int64_t message_count;      /* the signal, and the batch's nats by window */
    seo_document_span document; /* the last one looked up, of part `document_part` */
    const part *document_part;
    seo_eval_result *out;
} evaluation;

static void *room(int64_t count, int64_t width, bool *failed) {
    void *memory = calloc((size_t)seo_max_i64(count, 1), (size_t)width);
    if (!memory) *failed = true;
    return memory;
}

/* Which windows: all of them, or tokens_max spread over the datasets by size. */
static void choose_windows(evaluation *e) {
    int64_t all_tokens = 0;
    for (int64_t d = 0; d < e->a->dataset_count; d++) all_tokens += e->parts[d].info.token_count;
    const double share = e->a->tokens_max > 0 && e->a->tokens_max < all_tokens
                             ? (double)e->a->tokens_max / (double)all_tokens
                             : 1.0;
    for (int64_t d = 0; d < e->a->dataset_count; d++) {
        part *p = &e->parts[d];
        p->windows = seo_div_up(p->info.token_count, e->positions);
        p->chosen = share < 1 ? (int64_t)(share * (double)p->windows) : p->windows;
        p->chosen = seo_min_i64(seo_max_i64(p->chosen, 1), p->windows);
        e->out->windows += p->chosen;
    }
}

static seo_err prepare(evaluation *e) {
    const seo_eval_args *a = e->a;
    bool failed = false;
    e->positions = seo_model_config_of(a->model)->seq_len;
    const int64_t rows = a->batch * e->positions;
    e->rank = a->comm ? seo_comm_rank(a->comm) : 0;
    e->ranks = a->comm ? seo_comm_size(a->comm) : 1;
    e->message_count = 1 + a->batch;
    e->parts = room(a->dataset_count, sizeof *e->parts, &failed);
    for (int64_t d = 0; !failed && d < a->dataset_count; d++) {
        part *p = &e->parts[d];
        p->dataset = a->datasets[d];
        p->info = seo_dataset_info_get(p->dataset);
        p->first_source = e->out->source_count;
        e->out->source_count += p->info.source_count;
    }
    if (!failed) choose_windows(e);
    e->ids = room(rows, sizeof *e->ids, &failed);
    e->targets = room(rows, sizeof *e->targets, &failed);
    e->row = room(e->positions + 1, sizeof *e->row, &failed);
    e->losses = room(rows, sizeof *e->losses, &failed);
    e->message = room(e->message_count, sizeof *e->message, &failed);
    e->messages = room(e->ranks * e->message_count, sizeof *e->messages, &failed);
    e->window_nats = room(e->out->windows, sizeof *e->window_nats, &failed);
    e->window_tokens = room(e->out->windows, sizeof *e->window_tokens, &failed);
    e->out->sources = room(e->out->source_count, sizeof *e->out->sources, &failed);
    if (failed)
        return SEO_FAIL(SEO_ERR_MEMORY, "an evaluation of %lld windows",
                        (long long)e->out->windows);
    for (int64_t d = 0; d < a->dataset_count; d++) {
        const part *p = &e->parts[d];
        for (int64_t s = 0; s < p->info.source_count; s++) {
            e->out->sources[p->first_source + s].path = seo_dataset_source(p->dataset, s);
        }
    }
    return SEO_OK;
}

/* The window that is scored as number i of the part: floor(i * windows / chosen). */
static int64_t window_at(const part *p, int64_t i) {
    const int64_t whole = p->windows / p->chosen, rest = p->windows % p->chosen;
    return i * whole + i * rest / p->chosen;
}

static int64_t window_length(const evaluation *e, const part *p, int64_t window) {
    return seo_min_i64(e->positions, p->info.token_count - window * e->positions);
}

/* Row b of the pass: the window's targets, and as inputs the tokens one place earlier. */
static seo_err fill_row(evaluation *e, const part *p, int64_t window, int64_t b) {
    const int64_t first = window * e->positions, length = window_length(e, p, window);
    int32_t *ids = e->ids + b * e->positions, *targets = e->targets + b * e->positions;
    const int64_t before = first > 0; /* the first window has no token before it */
    const seo_err err =
        seo_dataset_read(p->dataset, first - before, length + before, e->row + 1 - before);
    if (err != SEO_OK) return err;
    if (!before) e->row[0] = p->info.eot_id >= 0 ? p->info.eot_id : 0;
    for (int64_t t = 0; t < e->positions; t++) {
        ids[t] = t < length ? e->row[t] : 0;
        targets[t] = t < length ? e->row[t + 1] : SEO_TARGET_IGNORE;
    }
    return SEO_OK;
}

static seo_err add_to_source(evaluation *e, const part *p, int64_t token, double nats) {
    seo_document_span *d = &e->document;
    if (e->document_part != p || token < d->first_token ||
        token >= d->first_token + d->token_count) {
        const seo_err err = seo_dataset_document_at(p->dataset, token, d);
        if (err != SEO_OK) return err;
        e->document_part = p;
    }
    seo_eval_source *source = &e->out->sources[p->first_source + d->source];
    source->nats += nats;
    source->tokens++;
    return SEO_OK;
}

/* One pass: windows [first, first + count) of the part's chosen ones. */
typedef struct pass {
    const part *p;
    int64_t first, count;
} pass;

/* Where the next pass begins. */
typedef struct cursor {
    int64_t part, first;
} cursor;

/* False at the end. */
static bool next_pass(const evaluation *e, cursor *c, pass *out) {
    while (c->part < e->a->dataset_count && c->first >= e->parts[c->part].chosen) {
        *c = (cursor){.part = c->part + 1};
    }
    if (c->part >= e->a->dataset_count) return false;
    const part *p = &e->parts[c->part];
    *out = (pass){p, c->first, seo_min_i64(e->a->batch, p->chosen - c->first)};
    c->first += out->count;
    return true;
}

/* The losses of a pass go to e->losses. */
static seo_err forward(evaluation *e, int64_t count) {
    seo_err err = SEO_OK;
    seo_model *model = e->a->model;
    const int64_t tokens = count * e->positions;
    const seo_tensor losses = seo_tensor_1d(seo_model_losses(model).data, SEO_DTYPE_F32, tokens);
    SEO_TRY(seo_model_forward(model, &(seo_pass_args){.ids = e->ids,
                                                      .targets = e->targets,
                                                      .stride = e->positions,
                                                      .batch = count,
                                                      .positions = e->positions,
                                                      .losses = losses,
                                                      .hooks = e->a->hooks}));
    SEO_TRY(seo_device_copy_out(seo_model_device(model), e->losses, losses.data,
                                tokens * (int64_t)sizeof *e->losses));
done:
    return err;
}

/* Makes the pass; nats by window go to the message, those of documents to their sources. */
static seo_err score(evaluation *e, const pass *own) {
    seo_err err = SEO_OK;
    for (int64_t b = 0; b < own->count; b++) {
        SEO_TRY(fill_row(e, own->p, window_at(own->p, own->first + b), b));
    }
    SEO_TRY(forward(e, own->count));
    for (int64_t b = 0; b < own->count; b++) {
        const int64_t window = window_at(own->p, own->first + b);
        const int64_t length = window_length(e, own->p, window);
        for (int64_t t = 0; t < length; t++) {
            const double nats = (double)e->losses[b * e->positions + t];
            e->message[1 + b] += nats;
            if (e->ranks > 1) continue;
            SEO_TRY(add_to_source(e, own->p, window * e->positions + t, nats));
        }
    }
done:
    return err;
}

/* A rank that has no pass in a round takes part in fetching parameters all the same. */
static seo_err idle(evaluation *e) {
    if (!e->a->hooks) return SEO_OK;
    for (int64_t t = 0; t < e->positions; t++) {
        e->ids[t] = 0;
        e->targets[t] = SEO_TARGET_IGNORE;
    }
    return forward(e, 1);
}

static seo_err exchange(evaluation *e) {
    const int64_t bytes = e->message_count * (int64_t)sizeof *e->message;
    SEO_ASSERT(bytes <= SEO_COMM_HOST_BYTES_MAX);
    if (e->ranks == 1) {
        memcpy(e->messages, e->message, (size_t)bytes);
        return SEO_OK;
    }
    return seo_comm_gather_host(e->a->comm, (seo_comm_label){"scores of an evaluation", -1},
                                e->message, bytes, e->messages);
}

/* A round: each rank makes one pass, in the order of ranks, and hears of the others'. */
static seo_err score_round(evaluation *e, cursor *c) {
    seo_err err = SEO_OK;
    cursor ahead = *c;
    pass own = {0};
    bool any = false;
    for (int32_t r = 0; r <= e->rank; r++) any = next_pass(e, &ahead, &own);
    memset(e->message, 0, (size_t)e->message_count * sizeof *e->message);
    e->message[0] = seo_signal_asked();
    if (e->message[0] == 0 || e->ranks > 1) SEO_TRY(any ? score(e, &own) : idle(e));
    SEO_TRY(exchange(e));
    for (int32_t r = 0; r < e->ranks; r++) {
        if (e->messages[r * e->message_count] == 0) continue;
        err = SEO_FAIL(SEO_ERR_STOPPED, "the evaluation was left off");
        goto done;
    }
    for (int32_t r = 0; r < e->ranks && next_pass(e, c, &own); r++) {
        for (int64_t b = 0; b < own.count; b++, e->done_windows++) {
            e->window_nats[e->done_windows] = e->messages[r * e->message_count + 1 + b];
            e->window_tokens[e->done_windows] =
                window_length(e, own.p, window_at(own.p, own.first + b));
        }
    }
done:
    return err;
}

static seo_err score_all(evaluation *e) {
    seo_err err = SEO_OK;
    seo_progress progress;
    cursor c = {0};
    const char *label = e->rank == 0 ? e->a->label : NULL;
    if (label) seo_progress_start(&progress, label, "windows", e->out->windows);
    while (e->done_windows < e->out->windows && err == SEO_OK) {
        err = score_round(e, &c);
        if (label) seo_progress_update(&progress, e->done_windows);
    }
    if (label) seo_progress_end(&progress);
    return err;
}

/* Text that the scored tokens stand for: all of a split scored whole, else in proportion. */
static int64_t bytes_of(const evaluation *e) {
    int64_t bytes = 0;
    for (int64_t d = 0; d < e->a->dataset_count; d++) {
        const part *p = &e->parts[d];
        int64_t tokens = 0;
        for (int64_t i = 0; i < p->chosen; i++) tokens += window_length(e, p, window_at(p, i));
        bytes += tokens == p->info.token_count
                     ? p->info.byte_count
                     : llround((double)p->info.byte_count * (double)tokens /
                               (double)p->info.token_count);
    }
    return bytes;
}

static void summarise(const evaluation *e, seo_eval_result *out) {
    double nats = 0, squares = 0;
    for (int64_t w = 0; w < out->windows; w++) {
        nats += e->window_nats[w];
        out->tokens += e->window_tokens[w];
    }
    out->bytes = bytes_of(e);
    out->loss = nats / (double)out->tokens;
    out->perplexity = exp(out->loss);
    out->bits_per_byte = out->bytes > 0 ? nats / log(2) / (double)out->bytes : NAN;
    for (int64_t w = 0; w < out->windows; w++) {
        const double off = e->window_nats[w] - out->loss * (double)e->window_tokens[w];
        squares += off * off;
    }
    const double n = (double)out->windows;
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
    evaluation e = {.a = args, .out = out};
    SEO_ASSERT(args->dataset_count >= 1);
    SEO_TRY(prepare(&e));
    SEO_TRY(score_all(&e));
    summarise(&e, out);
    drop_empty_sources(out);
done:
    free(e.parts);
    free(e.ids);
    free(e.targets);
    free(e.row);
    free(e.losses);
    free(e.message);
    free(e.messages);
    free(e.window_nats);
    free(e.window_tokens);
    if (err != SEO_OK) seo_eval_free(out);
    return err;
}

void seo_eval_free(seo_eval_result *result) {
    free(result->sources);
    *result = (seo_eval_result){0};
}

enum { TABLE_SOURCES_MAX = 20, DIGITS = 9, ALL_DIGITS = 17 };

void seo_eval_table(const seo_eval_result *r, seo_buf *out) {
    char tokens[SEO_SHORT_TEXT], bytes[SEO_SHORT_TEXT], windows[SEO_SHORT_TEXT];
    seo_buf_format(out, "loss            %.4f nats a token", r->loss);
    if (r->windows > 1) {
        seo_buf_format(out, "   (95 %%: %.4f to %.4f, from %s windows)", r->ci_low, r->ci_high,
                       seo_format_count(windows, r->windows));
    }
    seo_buf_format(out, "\nperplexity      %.2f\nbits per byte   %.4f\n", r->perplexity,
                   r->bits_per_byte);
    seo_buf_format(out, "scored          %s tokens, %s bytes of text\n",
                   seo_format_count(tokens, r->tokens), seo_format_count(bytes, r->bytes));
    if (r->source_count < 2) return;
    seo_buf_text(out, "\n    loss  perplexity        tokens  source\n");
    for (int64_t s = 0; s < seo_min_i64(r->source_count, TABLE_SOURCES_MAX); s++) {
        const seo_eval_source *source = &r->sources[s];
        const double loss = source->nats / (double)source->tokens;
        seo_buf_format(out, "%8.4f  %10.2f  %12s  %s\n", loss, exp(loss),
                       seo_format_count(tokens, source->tokens), source->path);
    }
    if (r->source_count > TABLE_SOURCES_MAX) {
        seo_buf_format(out, "and %lld more sources; --json has them all\n",
                       (long long)(r->source_count - TABLE_SOURCES_MAX));
    }
}

static void member(seo_buf *out, const char *key, double value, int digits) {
    seo_buf_format(out, "%s\"%s\": ", out->data[out->bytes - 1] == '{' ? "" : ", ", key);
    seo_buf_json_float(out, value, digits);
}

void seo_eval_json(const seo_eval_result *r, int64_t step, seo_buf *out) {
    seo_buf_text(out, "{");
    member(out, "loss", r->loss, ALL_DIGITS);
    member(out, "perplexity", r->perplexity, ALL_DIGITS);
    member(out, "bits_per_byte", r->bits_per_byte, ALL_DIGITS);
    seo_buf_format(out, ", \"tokens\": %lld, \"bytes\": %lld", (long long)r->tokens,
                   (long long)r->bytes);
    member(out, "loss_stderr", r->loss_stderr, DIGITS);
    seo_buf_text(out, ", \"loss_ci95\": [");
    seo_buf_json_float(out, r->ci_low, DIGITS);
    seo_buf_text(out, ", ");
    seo_buf_json_float(out, r->ci_high, DIGITS);
    seo_buf_format(out, "], \"windows\": %lld, \"step\": %lld, \"sources\": [",
                   (long long)r->windows, (long long)step);
    for (int64_t s = 0; s < r->source_count; s++) {
        const seo_eval_source *source = &r->sources[s];
        const double loss = source->nats / (double)source->tokens;
        seo_buf_text(out, s > 0 ? ", {\"path\": " : "{\"path\": ");
        seo_buf_json_string(out, source->path, strlen(source->path));
        member(out, "loss", loss, DIGITS);
        member(out, "perplexity", exp(loss), DIGITS);
        seo_buf_format(out, ", \"tokens\": %lld}", (long long)source->tokens);
    }
    seo_buf_text(out, "]}\n");
}
