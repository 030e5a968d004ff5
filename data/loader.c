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
    int32_t *tokens;
    int32_t *groups; /* NULL: none asked for */
    seo_order_place *places;
    seo_err code;
    char detail[DETAIL_BYTES];
} slot;

struct seo_loader {
    seo_dataset **datasets;
    seo_order *order;
    int64_t seq_len, batch_sequences, first_sequence, local_count;
    int64_t micro_batch, groups_stride;
    int64_t prefetch, slot_count; /* slot_count = prefetch + 1: one is the caller's */
    int32_t *inputs;              /* of one micro-batch, without gaps; the thread's own */
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

static void make_groups(const seo_loader *loader, slot *s) {
    const int64_t seq_len = loader->seq_len;
    int32_t *out = s->groups;
    for (int64_t first = 0; first < loader->local_count; first += loader->micro_batch) {
        const int64_t rows = seo_min_i64(loader->micro_batch, loader->local_count - first);
        for (int64_t r = 0; r < rows; r++) {
            memcpy(loader->inputs + r * seq_len, s->tokens + (first + r) * (seq_len + 1),
                   (size_t)seq_len * sizeof *out);
        }
        seo_groups_build(loader->inputs, rows * seq_len, out);
        out += loader->groups_stride;
    }
}

seo_order_place seo_loader_place(const seo_loader *loader, int64_t step, int64_t j) {
    SEO_ASSERT(j >= 0 && j < loader->batch_sequences);
    return seo_order_at(loader->order, step * loader->batch_sequences + j);
}

static seo_err fetch(const seo_loader *loader, slot *s) {
    const int64_t width = loader->seq_len + 1;
    for (int64_t r = 0; r < loader->local_count; r++) {
        const seo_order_place place = seo_loader_place(loader, s->step, loader->first_sequence + r);
        const seo_err err =
            seo_dataset_read(loader->datasets[place.source], place.window * loader->seq_len, width,
                             s->tokens + r * width);
        if (err != SEO_OK) return err;
        s->places[r] = place;
    }
    if (s->groups) make_groups(loader, s);
    return SEO_OK;
}

/* The order is known, so a slow disk can be told early what will be read. */
static void hint_ahead(seo_loader *loader, int64_t step) {
    const int64_t ahead = seo_div_up(HINT_WINDOWS, loader->local_count);
    if (loader->hinted <= step || loader->hinted > step + ahead + 1) loader->hinted = step + 1;
    for (; loader->hinted <= step + ahead; loader->hinted++) {
        for (int64_t r = 0; r < loader->local_count; r++) {
            const int64_t g = loader->hinted * loader->batch_sequences + loader->first_sequence + r;
            const seo_order_place place = seo_order_at(loader->order, g);
            seo_dataset_prefetch(loader->datasets[place.source], place.window * loader->seq_len,
                                 loader->seq_len + 1);
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
    if (args->dataset_count < 1 || args->dataset_count > SEO_ORDER_SOURCES_MAX ||
        args->seq_len < 1 || args->batch_sequences < 1 || args->prefetch < 1 ||
        args->prefetch > PREFETCH_MAX || args->micro_batch < 0) {
        return SEO_FAIL(
            SEO_ERR_ARG,
            "a loader takes 1 to %d datasets, sequences of at least 1 token, batches of "
            "at least 1 sequence and a prefetch of 1 to %d",
            (int)SEO_ORDER_SOURCES_MAX, (int)PREFETCH_MAX);
    }
    if (args->first_sequence < 0 || args->local_count < 1 ||
        args->local_count > args->batch_sequences - args->first_sequence) {
        return SEO_FAIL(
            SEO_ERR_ARG, "sequences %" PRId64 " to %" PRId64 " are not inside a batch of %" PRId64,
            args->first_sequence, args->first_sequence + args->local_count, args->batch_sequences);
    }
    return SEO_OK;
}

/* Sources of one mix share a tokenizer, and each has a window to give. */
static seo_err check_datasets(const seo_loader_args *args) {
    const seo_dataset_info first = seo_dataset_info_get(args->datasets[0]);
    for (int64_t i = 0; i < args->dataset_count; i++) {
        const seo_dataset_info info = seo_dataset_info_get(args->datasets[i]);
        const char *name = seo_dataset_name(args->datasets[i]);
        if (strcmp(info.tokenizer_sha256, first.tokenizer_sha256) != 0) {
            return SEO_FAIL(SEO_ERR_USAGE,
                            "%s and %s were made with different tokenizers and cannot be mixed: "
                            "build one of them again",
                            seo_dataset_name(args->datasets[0]), name);
        }
        if (info.vocab_size != first.vocab_size) {
            return SEO_FAIL(SEO_ERR_USAGE,
                            "%s and %s have vocabularies of different sizes and cannot be mixed: "
                            "build one of them again",
                            seo_dataset_name(args->datasets[0]), name);
        }
        if (seo_dataset_windows(args->datasets[i], args->seq_len) < 1) {
            return SEO_FAIL(SEO_ERR_USAGE,
                            "%s has %" PRId64 " tokens, too few for one sequence of %" PRId64
                            " and its target: take shorter sequences or more text",
                            name, info.token_count, args->seq_len);
        }
    }
    return SEO_OK;
}

static seo_err open_order(seo_loader *loader, const seo_loader_args *args) {
    int64_t windows[SEO_ORDER_SOURCES_MAX];
    for (int64_t i = 0; i < args->dataset_count; i++) {
        windows[i] = seo_dataset_windows(args->datasets[i], args->seq_len);
    }
    return seo_order_open(&(seo_order_args){.source_count = args->dataset_count,
                                            .windows = windows,
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

static seo_err make_slots(seo_loader *loader, const seo_loader_args *args) {
    int64_t tokens = 0, bytes = 0;
    const bool fits = seo_mul_ok(args->local_count, args->seq_len + 1, &tokens) &&
                      seo_mul_ok(tokens, (int64_t)sizeof(int32_t), &bytes);
    loader->datasets = calloc((size_t)args->dataset_count, sizeof(seo_dataset *));
    loader->slots = calloc((size_t)loader->slot_count, sizeof *loader->slots);
    bool enough = fits && loader->datasets != NULL && loader->slots != NULL;
    for (int64_t i = 0; enough && i < loader->slot_count; i++) {
        slot *s = &loader->slots[i];
        s->tokens = malloc((size_t)bytes);
        s->places = calloc((size_t)args->local_count, sizeof *s->places);
        enough = s->tokens != NULL && s->places != NULL;
    }
    if (!enough || !make_group_room(loader)) {
        return SEO_FAIL(SEO_ERR_MEMORY,
                        "no memory for %" PRId64 " batches of %" PRId64 " x %" PRId64 " tokens",
                        loader->slot_count, args->local_count, args->seq_len);
    }
    for (int64_t i = 0; i < args->dataset_count; i++) loader->datasets[i] = args->datasets[i];
    return SEO_OK;
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
    SEO_TRY(check_datasets(args));
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
    SEO_TRY(make_slots(loader, args));
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
        free(loader->slots[i].tokens);
        free(loader->slots[i].groups);
        free(loader->slots[i].places);
    }
    free(loader->slots);
    free(loader->inputs);
    free(loader->datasets);
    seo_order_close(loader->order);
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

seo_err seo_loader_get(seo_loader *loader, int64_t step, seo_batch *out) {
    seo_err err = SEO_OK;
    if (step < 0 || step > INT64_MAX / loader->batch_sequences - PREFETCH_MAX - HINT_WINDOWS - 2) {
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
        *out = (seo_batch){.ids = s->tokens,
                           .targets = s->tokens + 1,
                           .stride = loader->seq_len + 1,
                           .total_sequences = loader->batch_sequences,
                           .total_targets = loader->batch_sequences * loader->seq_len,
                           .sequences = loader->local_count,
                           .seq_len = loader->seq_len,
                           .groups = s->groups,
                           .groups_stride = loader->groups_stride,
                           .step = step,
                           .wait_s = wait_s,
                           .places = s->places};
    }
    pthread_cond_broadcast(&loader->changed);
    pthread_mutex_unlock(&loader->lock);
    return err;
}
