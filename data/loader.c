#include "data/loader.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/groups.h"
#include "base/progress.h"

enum { PREFETCH_MAX = 64, HINT_WINDOWS = 256, DETAIL_BYTES = 2048 };

typedef enum slot_state { SLOT_EMPTY, SLOT_BUSY, SLOT_READY, SLOT_FAILED } slot_state;

/* One batch of the ring. A slot that is BUSY belongs to the thread, one that is held to the caller;
 * any other is changed only under the lock. */
typedef struct slot {
    slot_state state;
    int64_t step;
    int32_t *memory; /* the arrays of all rows, one after the other */
    int32_t *groups; /* NULL: none asked for */
    seo_order_place *places;
    int64_t total_targets;
    seo_err code;
    char detail[DETAIL_BYTES];
} slot;

/* Where the arrays of a slot begin, each with a place for every row. */
typedef struct layout {
    int64_t targets, types, spans, picks, pick_targets, labels, end; /* ids begin at 0 */
} layout;

/* What this rank has of a batch. */
typedef struct share {
    int64_t first_sample; /* of the global batch */
    int64_t sequences;    /* likewise */
    int64_t first, count; /* this rank's part of [0, sequences) */
} share;

struct seo_loader {
    seo_rows *rows;
    seo_row_shape shape;
    seo_order *order;
    seo_ramp *own_ramp; /* where none was given: constant */
    const seo_ramp *ramp;
    int64_t seq_len, batch_sequences, first_sequence, local_count;
    int64_t micro_batch, groups_stride;
    int64_t prefetch, slot_count; /* slot_count = prefetch + 1: one is the caller's */
    layout at;
    bool reads_others; /* to know the targets of the global batch */
    int32_t *inputs;   /* of one micro-batch, without gaps; the thread's own */
    slot *slots;
    int64_t hinted; /* steps below it were announced to the system; the thread's own */

    pthread_t thread;
    bool thread_runs, lock_made, changed_made;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* any change of the fields below or of a slot */
    int64_t wanted;         /* the thread keeps [wanted, wanted + prefetch) ready; -1: idle */
    int64_t held;           /* slot the caller reads, -1: none */
    bool closing;
};

/* ---- the batch of a step, a pure function ---- */

static share share_of(const seo_loader *loader, int64_t step) {
    const seo_ramp_batch batch = seo_ramp_at(loader->ramp, step);
    if (batch.sequences == loader->batch_sequences) {
        return (share){.first_sample = batch.first,
                       .sequences = batch.sequences,
                       .first = loader->first_sequence,
                       .count = loader->local_count};
    }
    const int64_t full = loader->batch_sequences;
    return (share){.first_sample = batch.first,
                   .sequences = batch.sequences,
                   .first = loader->first_sequence * batch.sequences / full,
                   .count = loader->local_count * batch.sequences / full};
}

static void make_groups(const seo_loader *loader, slot *s, int64_t count) {
    const int64_t seq_len = loader->seq_len, stride = loader->shape.ids;
    int32_t *out = s->groups;
    for (int64_t first = 0; first < count; first += loader->micro_batch) {
        const int64_t rows = seo_min_i64(loader->micro_batch, count - first);
        for (int64_t r = 0; r < rows; r++) {
            memcpy(loader->inputs + r * seq_len, s->memory + (first + r) * stride,
                   (size_t)seq_len * sizeof *out);
        }
        seo_groups_build(loader->inputs, rows * seq_len, out);
        out += loader->groups_stride;
    }
}

seo_order_place seo_loader_place(const seo_loader *loader, int64_t step, int64_t j) {
    const seo_ramp_batch batch = seo_ramp_at(loader->ramp, step);
    SEO_ASSERT(j >= 0 && j < batch.sequences);
    return seo_order_at(loader->order, batch.first + j);
}

const seo_rows *seo_loader_rows(const seo_loader *loader) {
    return loader->rows;
}

/* The array that begins at `at`, from row r on; NULL when rows have `width` 0 of it. */
static int32_t *array(const slot *s, int64_t at, int64_t width, int64_t r) {
    return width > 0 ? s->memory + at + r * width : NULL;
}

static seo_row row_of(const seo_loader *loader, const slot *s, int64_t r) {
    const layout *at = &loader->at;
    const seo_row_shape *shape = &loader->shape;
    return (seo_row){.ids = array(s, 0, shape->ids, r),
                     .targets = array(s, at->targets, shape->targets, r),
                     .types = array(s, at->types, shape->types, r),
                     .spans = array(s, at->spans, shape->spans, r),
                     .picks = array(s, at->picks, shape->picks, r),
                     .pick_targets = array(s, at->pick_targets, shape->picks, r),
                     .label = array(s, at->labels, shape->label, r)};
}

/* Of the global batch. Rows of other ranks are counted, not made. */
static seo_err count_targets(const seo_loader *loader, const share *part, int64_t *out) {
    *out = part->sequences * loader->seq_len;
    if (loader->shape.ids > loader->seq_len) return SEO_OK;
    *out = 0;
    for (int64_t j = 0; j < part->sequences; j++) {
        int64_t targets = 0;
        const seo_err err = seo_rows_targets(
            loader->rows, seo_order_at(loader->order, part->first_sample + j), &targets);
        if (err != SEO_OK) return err;
        *out += targets;
    }
    return SEO_OK;
}

static seo_err fetch(const seo_loader *loader, slot *s) {
    seo_err err = SEO_OK;
    const share part = share_of(loader, s->step);
    for (int64_t r = 0; r < part.count; r++) {
        const seo_row row = row_of(loader, s, r);
        s->places[r] = seo_order_at(loader->order, part.first_sample + part.first + r);
        SEO_TRY(seo_rows_make(loader->rows, s->places[r], &row));
    }
    SEO_TRY(count_targets(loader, &part, &s->total_targets));
    if (s->groups) make_groups(loader, s, part.count);
done:
    return err;
}

/* The order is known, so a slow disk can be told early what will be read. */
static void hint_ahead(seo_loader *loader, int64_t step) {
    const int64_t rows = loader->reads_others ? loader->batch_sequences : loader->local_count;
    const int64_t ahead = seo_div_up(HINT_WINDOWS, rows);
    if (loader->hinted <= step || loader->hinted > step + ahead + 1) loader->hinted = step + 1;
    for (; loader->hinted <= step + ahead; loader->hinted++) {
        const share part = share_of(loader, loader->hinted);
        const int64_t first = loader->reads_others ? 0 : part.first;
        const int64_t count = loader->reads_others ? part.sequences : part.count;
        for (int64_t r = first; r < first + count; r++) {
            seo_rows_prefetch(loader->rows, seo_order_at(loader->order, part.first_sample + r));
        }
    }
}

/* ---- the thread ---- */

static slot *find_step(seo_loader *loader, int64_t step) {
    for (int64_t i = 0; i < loader->slot_count; i++) {
        slot *s = &loader->slots[i];
        if (s->state != SLOT_EMPTY && s->step == step) return s;
    }
    return NULL;
}

static bool is_wanted(const seo_loader *loader, int64_t step) {
    return loader->wanted >= 0 && step >= loader->wanted &&
           step - loader->wanted < loader->prefetch;
}

/* The next step to fetch gets a slot that nobody needs; NULL when all wanted ones are there. */
static slot *take_work(seo_loader *loader) {
    int64_t step = loader->wanted;
    while (is_wanted(loader, step) && find_step(loader, step) != NULL) step++;
    if (!is_wanted(loader, step)) return NULL;
    for (int64_t i = 0; i < loader->slot_count; i++) {
        slot *s = &loader->slots[i];
        const bool useful = s->state != SLOT_EMPTY && is_wanted(loader, s->step);
        if (i == loader->held || useful) continue;
        s->step = step;
        s->state = SLOT_BUSY;
        return s;
    }
    return NULL;
}

static void *run(void *argument) {
    seo_loader *loader = argument;
    pthread_mutex_lock(&loader->lock);
    while (!loader->closing) {
        slot *s = take_work(loader);
        if (s == NULL) {
            pthread_cond_wait(&loader->changed, &loader->lock);
            continue;
        }
        pthread_mutex_unlock(&loader->lock);
        s->code = fetch(loader, s);
        if (s->code == SEO_OK) {
            hint_ahead(loader, s->step);
        } else {
            snprintf(s->detail, sizeof s->detail, "%s", seo_err_detail());
        }
        pthread_mutex_lock(&loader->lock);
        s->state = s->code == SEO_OK ? SLOT_READY : SLOT_FAILED;
        pthread_cond_broadcast(&loader->changed);
    }
    pthread_mutex_unlock(&loader->lock);
    return NULL;
}

/* ---- opening and closing ---- */

static seo_err check_args(const seo_loader_args *args) {
    if (args->batch_sequences < 1 || args->batch_sequences > INT64_MAX / 4 || args->prefetch < 1 ||
        args->prefetch > PREFETCH_MAX || args->micro_batch < 0) {
        return SEO_FAIL(SEO_ERR_ARG,
                        "a loader takes batches of at least 1 sequence and a prefetch of 1 to %d",
                        (int)PREFETCH_MAX);
    }
    if (args->first_sequence < 0 || args->local_count < 1 ||
        args->local_count > args->batch_sequences - args->first_sequence) {
        return SEO_FAIL(
            SEO_ERR_ARG, "sequences %" PRId64 " to %" PRId64 " are not inside a batch of %" PRId64,
            args->first_sequence, args->first_sequence + args->local_count, args->batch_sequences);
    }
    return SEO_OK;
}

/* A rank's part of every batch is the same share of it, and whole. */
static seo_err check_ramp(const seo_loader_args *args) {
    if (args->ramp == NULL) return SEO_OK;
    const seo_ramp_args ramp = seo_ramp_args_of(args->ramp);
    const bool grows = ramp.ramp_tokens > 0 && ramp.start_sequences < ramp.full_sequences;
    int64_t first = 0, local = 0;
    if (ramp.full_sequences != args->batch_sequences || ramp.seq_len != args->seq_len ||
        !seo_mul_ok(args->first_sequence, args->batch_sequences, &first) ||
        !seo_mul_ok(args->local_count, args->batch_sequences, &local)) {
        return SEO_FAIL(SEO_ERR_ARG,
                        "the batch grows to %" PRId64 " sequences of %" PRId64
                        ", the loader's has %" PRId64 " of %" PRId64,
                        ramp.full_sequences, ramp.seq_len, args->batch_sequences, args->seq_len);
    }
    if (!grows || (args->first_sequence * ramp.unit_sequences % args->batch_sequences == 0 &&
                   args->local_count * ramp.unit_sequences % args->batch_sequences == 0)) {
        return SEO_OK;
    }
    return SEO_FAIL(SEO_ERR_USAGE,
                    "the batch grows in units of %" PRId64 " sequences, of which a rank with "
                    "%" PRId64 " of %" PRId64 " has no whole number: take units that the number "
                    "of ranks divides",
                    ramp.unit_sequences, args->local_count, args->batch_sequences);
}

static seo_err open_ramp(seo_loader *loader, const seo_loader_args *args) {
    loader->ramp = args->ramp;
    if (args->ramp != NULL) return SEO_OK;
    const seo_err err = seo_ramp_open(&(seo_ramp_args){.full_sequences = args->batch_sequences,
                                                       .start_sequences = args->batch_sequences,
                                                       .unit_sequences = 1,
                                                       .seq_len = args->seq_len},
                                      &loader->own_ramp);
    loader->ramp = loader->own_ramp;
    return err;
}

static seo_err open_rows(seo_loader *loader, const seo_loader_args *args) {
    seo_err err = SEO_OK;
    SEO_TRY(seo_rows_open(&(seo_rows_args){.objective = args->objective,
                                           .datasets = args->datasets,
                                           .dataset_count = args->dataset_count,
                                           .examples = args->examples,
                                           .tokenizer = args->tokenizer,
                                           .seq_len = args->seq_len,
                                           .seed = args->seed,
                                           .document_mask = args->document_mask,
                                           .mask_fraction = args->mask_fraction,
                                           .max_predictions = args->max_predictions,
                                           .short_sequences = args->short_sequences},
                          &loader->rows));
    loader->shape = seo_rows_shape(loader->rows);
    loader->reads_others =
        args->objective == SEO_OBJECTIVE_MASKED || args->objective == SEO_OBJECTIVE_SENTENCE_PAIRS;
done:
    return err;
}

static seo_err open_order(seo_loader *loader, const seo_loader_args *args) {
    int64_t counts[SEO_ORDER_SOURCES_MAX];
    const int64_t sources = seo_rows_sources(loader->rows);
    for (int64_t i = 0; i < sources; i++) counts[i] = seo_rows_count(loader->rows, i);
    return seo_order_open(&(seo_order_args){.source_count = sources,
                                            .windows = counts,
                                            .weights = args->weights,
                                            .seed = args->seed,
                                            .shuffle = args->shuffle},
                          &loader->order);
}

/* Room for the groups of a batch in each slot. False: it is not there. */
static bool make_group_room(seo_loader *loader) {
    int64_t rows = 0, total = 0;
    const int64_t micro = seo_min_i64(loader->micro_batch, loader->local_count);
    if (micro == 0) return true;
    if (!seo_mul_ok(micro, loader->seq_len, &rows) || rows >= INT32_MAX / 8) return false;
    loader->micro_batch = micro;
    loader->groups_stride = seo_groups_size(rows);
    if (!seo_mul_ok(loader->groups_stride, seo_div_up(loader->local_count, micro), &total)) {
        return false;
    }
    loader->inputs = malloc((size_t)rows * sizeof *loader->inputs);
    bool enough = loader->inputs != NULL;
    for (int64_t i = 0; enough && i < loader->slot_count; i++) {
        slot *s = &loader->slots[i];
        s->groups = calloc((size_t)total, sizeof *s->groups);
        enough = s->groups != NULL;
    }
    return enough;
}

/* Places the arrays of a batch in a slot. False: they do not fit. */
static bool lay_out(seo_loader *loader) {
    const seo_row_shape *shape = &loader->shape;
    const int64_t widths[] = {shape->ids,   shape->targets, shape->types, shape->spans,
                              shape->picks, shape->picks,   shape->label};
    int64_t ends[SEO_COUNT_OF(widths)], at = 0;
    for (int64_t i = 0; i < SEO_COUNT_OF(widths); i++) {
        int64_t part = 0;
        if (!seo_mul_ok(loader->local_count, widths[i], &part)) return false;
        if (!seo_add_ok(at, part, &at)) return false;
        ends[i] = at;
    }
    loader->at = (layout){.targets = ends[0],
                          .types = ends[1],
                          .spans = ends[2],
                          .picks = ends[3],
                          .pick_targets = ends[4],
                          .labels = ends[5],
                          .end = ends[6]};
    return true;
}

static seo_err make_slots(seo_loader *loader) {
    int64_t bytes = 0;
    loader->slots = calloc((size_t)loader->slot_count, sizeof *loader->slots);
    bool enough = loader->slots != NULL && lay_out(loader) &&
                  seo_mul_ok(loader->at.end, (int64_t)sizeof(int32_t), &bytes);
    for (int64_t i = 0; enough && i < loader->slot_count; i++) {
        slot *s = &loader->slots[i];
        s->memory = malloc((size_t)bytes);
        s->places = calloc((size_t)loader->local_count, sizeof *s->places);
        enough = s->memory != NULL && s->places != NULL;
    }
    if (enough && make_group_room(loader)) return SEO_OK;
    return SEO_FAIL(SEO_ERR_MEMORY,
                    "no memory for %" PRId64 " prefetched batches of %" PRId64
                    " sequences of %" PRId64 " tokens",
                    loader->slot_count, loader->local_count, loader->seq_len);
}

static seo_err start_thread(seo_loader *loader) {
    loader->lock_made = pthread_mutex_init(&loader->lock, NULL) == 0;
    loader->changed_made = pthread_cond_init(&loader->changed, NULL) == 0;
    loader->thread_runs = loader->lock_made && loader->changed_made &&
                          pthread_create(&loader->thread, NULL, run, loader) == 0;
    if (loader->thread_runs) return SEO_OK;
    return SEO_FAIL(SEO_ERR_MEMORY, "the loader's thread cannot be started: raise the limit on "
                                    "processes or memory");
}

seo_err seo_loader_open(const seo_loader_args *args, seo_loader **out) {
    seo_err err = SEO_OK;
    seo_loader *loader = NULL;
    *out = NULL;
    SEO_TRY(check_args(args));
    SEO_TRY(check_ramp(args));
    loader = calloc(1, sizeof *loader);
    if (loader == NULL) return SEO_FAIL(SEO_ERR_MEMORY, "no memory for a loader");
    loader->seq_len = args->seq_len;
    loader->batch_sequences = args->batch_sequences;
    loader->first_sequence = args->first_sequence;
    loader->local_count = args->local_count;
    loader->micro_batch = args->micro_batch;
    loader->prefetch = args->prefetch;
    loader->slot_count = args->prefetch + 1;
    loader->held = -1;
    loader->wanted = -1; /* the first step asked for may be that of a resumed run */
    SEO_TRY(open_ramp(loader, args));
    SEO_TRY(open_rows(loader, args));
    SEO_TRY(make_slots(loader));
    SEO_TRY(open_order(loader, args));
    SEO_TRY(start_thread(loader));
    *out = loader;
    loader = NULL;
done:
    seo_loader_close(loader);
    return err;
}

void seo_loader_close(seo_loader *loader) {
    if (loader == NULL) return;
    if (loader->thread_runs) {
        pthread_mutex_lock(&loader->lock);
        loader->closing = true;
        pthread_cond_broadcast(&loader->changed);
        pthread_mutex_unlock(&loader->lock);
        pthread_join(loader->thread, NULL);
    }
    if (loader->changed_made) pthread_cond_destroy(&loader->changed);
    if (loader->lock_made) pthread_mutex_destroy(&loader->lock);
    for (int64_t i = 0; loader->slots != NULL && i < loader->slot_count; i++) {
        free(loader->slots[i].memory);
        free(loader->slots[i].groups);
        free(loader->slots[i].places);
    }
    free(loader->slots);
    free(loader->inputs);
    seo_order_close(loader->order);
    seo_rows_close(loader->rows);
    seo_ramp_close(loader->own_ramp);
    free(loader);
}

/* ---- asking ---- */

static bool is_done(const slot *s) {
    return s != NULL && (s->state == SLOT_READY || s->state == SLOT_FAILED);
}

/* Under the lock: waits until the step is there. */
static slot *wait_for(seo_loader *loader, int64_t step, double *wait_s) {
    slot *s = find_step(loader, step);
    *wait_s = 0;
    if (is_done(s)) return s;
    const double start_s = seo_clock_s();
    while (!is_done(s)) {
        pthread_cond_wait(&loader->changed, &loader->lock);
        s = find_step(loader, step);
    }
    *wait_s = seo_clock_s() - start_s;
    return s;
}

static seo_batch batch_of(const seo_loader *loader, const slot *s) {
    const share part = share_of(loader, s->step);
    const seo_row first = row_of(loader, s, 0);
    const bool shifted = loader->shape.ids > loader->seq_len;
    return (seo_batch){.ids = first.ids,
                       .targets = shifted ? first.ids + 1 : first.targets,
                       .stride = loader->shape.ids,
                       .sequences = part.count,
                       .seq_len = loader->seq_len,
                       .types = first.types,
                       .spans = first.spans,
                       .picks = first.picks,
                       .pick_targets = first.pick_targets,
                       .pick_count = loader->shape.picks,
                       .labels = first.label,
                       .total_sequences = part.sequences,
                       .total_targets = s->total_targets,
                       .groups = s->groups,
                       .groups_stride = loader->groups_stride,
                       .step = s->step,
                       .places = s->places};
}

seo_err seo_loader_get(seo_loader *loader, int64_t step, seo_batch *out) {
    seo_err err = SEO_OK;
    if (step < 0 || step > seo_ramp_last_step(loader->ramp) - PREFETCH_MAX - HINT_WINDOWS - 2) {
        return SEO_FAIL(SEO_ERR_ARG, "step %" PRId64 " is outside what a run can count", step);
    }
    pthread_mutex_lock(&loader->lock);
    loader->held = -1;
    loader->wanted = step;
    pthread_cond_broadcast(&loader->changed);
    double wait_s = 0;
    slot *s = wait_for(loader, step, &wait_s);
    if (s->state == SLOT_FAILED) {
        /* Emptied, so that asking again tries again. */
        s->state = SLOT_EMPTY;
        err = SEO_FAIL(s->code, "step %" PRId64 ": %s", step, s->detail);
    } else {
        loader->held = s - loader->slots;
        loader->wanted = step + 1;
        *out = batch_of(loader, s);
        out->wait_s = wait_s;
    }
    pthread_cond_broadcast(&loader->changed);
    pthread_mutex_unlock(&loader->lock);
    return err;
}
