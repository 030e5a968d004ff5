/* Saving in the background: one thread, one copy of the state that it alone reads, used again for
 * every save. */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hdf5.h>

#include <hdf5.h>

#include "base/log.h"
#include "base/progress.h"
#include "train/checkpoint.h"
#include "train/checkpoint/manifest.h"
#include "train/checkpoint/peers.h"
#include "train/checkpoint/save.h"

enum { MESSAGE_MAX = 2048 };

struct seo_ckpt_writer {
    char run_dir[SEO_PATH_MAX];
    int64_t attempt, keep_last, keep_every;
    seo_world *world;
    pthread_t thread;
    bool threaded;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Under the lock. */
    bool pending; /* a copy waits for the thread or is being saved */
    bool closing;
    seo_err last;
    char message[MESSAGE_MAX];
    _Atomic int64_t failures;
    /* The copy: the submitter's while nothing is pending, else the thread's. */
    seo_ckpt_snapshot copy;
    seo_ckpt_tensor *tensors;
    seo_ckpt_range *ranges;
    int64_t tensor_capacity, range_capacity;
    float *values;
    int64_t value_capacity;
    char *config_yaml;
    char tokenizer_path[SEO_PATH_MAX];
    seo_err failed; /* with several ranks: why there is no copy */
    char failure[MESSAGE_MAX];
};

/* Rank 0 speaks for all: its message names the rank that failed. */
static void report(seo_ckpt_writer *w, seo_err err, double seconds) {
    char size[SEO_SHORT_TEXT];
    int64_t bytes = 0, count;
    if (seo_ckpt_rank(w->world) > 0) return;
    for (int64_t i = 0; i < w->copy.tensor_count; i++) {
        const seo_ckpt_tensor *t = &w->copy.tensors[i];
        if (!seo_ckpt_shape_count(t->rank, t->dims, &count)) continue;
        bytes += count * (int64_t)sizeof(float);
    }
    seo_format_bytes(size, (double)bytes);
    if (err == SEO_OK) {
        seo_info("checkpoint of step %lld saved: %s in %.2f s", (long long)w->copy.state.step, size,
                 seconds);
        return;
    }
    seo_error("checkpoint of step %lld (%s) was NOT saved, failure %lld in a row: %s. %s",
              (long long)w->copy.state.step, size, (long long)atomic_load(&w->failures),
              seo_err_detail(),
              err == SEO_ERR_LOCKED ? "This run can save no more"
                                    : "Earlier checkpoints are untouched and training goes on");
}

/* Saves the copy, and removes old checkpoints only when it is whole. */
static seo_err save_copy(seo_ckpt_writer *w) {
    double start = seo_clock_s();
    seo_err err = seo_ckpt_save_with(&(seo_ckpt_save_args){.run_dir = w->run_dir,
                                                           .attempt = w->attempt,
                                                           .world = w->world,
                                                           .snapshot = &w->copy,
                                                           .failed = w->failed,
                                                           .failure = w->failure});
    atomic_store(&w->failures, err == SEO_OK ? 0 : atomic_load(&w->failures) + 1);
    report(w, err, seo_clock_s() - start);
    if (err != SEO_OK || seo_ckpt_rank(w->world) > 0) return err;
    if (seo_ckpt_prune(w->run_dir, w->keep_last, w->keep_every) != SEO_OK) {
        seo_warn("old checkpoints stay: %s", seo_err_detail());
    }
    return SEO_OK;
}

static void finish(seo_ckpt_writer *w, seo_err err) {
    w->last = err;
    snprintf(w->message, sizeof w->message, "%s", err == SEO_OK ? "" : seo_err_detail());
    w->pending = false;
}

static void *work(void *argument) {
    seo_ckpt_writer *w = argument;
    pthread_mutex_lock(&w->lock);
    for (;;) {
        while (!w->pending && !w->closing) pthread_cond_wait(&w->changed, &w->lock);
        if (!w->pending) break;
        pthread_mutex_unlock(&w->lock);
        seo_err err = save_copy(w);
        pthread_mutex_lock(&w->lock);
        finish(w, err);
        pthread_cond_broadcast(&w->changed);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

/* Signals are for the thread that trains. */
static int start_thread(seo_ckpt_writer *w) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&w->thread, NULL, work, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed;
}

seo_err seo_ckpt_writer_open(const seo_ckpt_writer_args *args, seo_ckpt_writer **out) {
    *out = NULL;
    if (args->keep_last < 1 || args->keep_every < 0 || strlen(args->run_dir) >= SEO_PATH_MAX) {
        return SEO_FAIL(SEO_ERR_ARG, "checkpoint writer: keep_last must be at least 1");
    }
    seo_ckpt_writer *w = calloc(1, sizeof *w);
    if (!w) return SEO_FAIL(SEO_ERR_MEMORY, "no memory for the checkpoint writer");
    snprintf(w->run_dir, sizeof w->run_dir, "%s", args->run_dir);
    w->attempt = args->attempt;
    w->world = args->world;
    w->keep_last = args->keep_last;
    w->keep_every = args->keep_every;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->changed, NULL);
    hbool_t safe = false;
    w->threaded = H5is_library_threadsafe(&safe) >= 0 && safe;
    if (!w->threaded) {
        seo_warn("this HDF5 library is not thread-safe: training waits for each checkpoint");
    } else if (start_thread(w) != 0) {
        w->threaded = false;
        seo_ckpt_writer_close(w);
        return SEO_FAIL(SEO_ERR_MEMORY, "cannot start the checkpoint writer's thread");
    }
    *out = w;
    return SEO_OK;
}

/* Room for `count` items of `bytes`; what was there before is not kept. */
static seo_err make_room(void **memory, int64_t *capacity, int64_t count, size_t bytes) {
    if (count <= *capacity) return SEO_OK;
    free(*memory);
    *capacity = 0;
    *memory = malloc((size_t)count * bytes);
    if (!*memory) {
        return SEO_FAIL(SEO_ERR_MEMORY, "no memory to copy the run's state: %lld bytes",
                        (long long)count * (long long)bytes);
    }
    *capacity = count;
    return SEO_OK;
}

/* The snapshot's ranges, or all of every tensor. */
static seo_err copy_ranges(seo_ckpt_writer *w, const seo_ckpt_snapshot *s, int64_t *count) {
    void *memory = w->ranges;
    *count = s->ranges ? s->range_count : s->tensor_count;
    const seo_err err = make_room(&memory, &w->range_capacity, *count + 1, sizeof *w->ranges);
    w->ranges = memory;
    if (err != SEO_OK) return err;
    for (int64_t i = 0; i < *count; i++) {
        seo_ckpt_range *r = &w->ranges[i];
        if (s->ranges) {
            *r = s->ranges[i];
            continue;
        }
        const seo_ckpt_tensor *t = &s->tensors[i];
        *r = (seo_ckpt_range){.tensor = i, .data = t->data};
        if (!seo_ckpt_shape_count(t->rank, t->dims, &r->count)) {
            return SEO_FAIL(SEO_ERR_ARG, "tensor %s of the checkpoint has a bad shape", t->name);
        }
    }
    return SEO_OK;
}

static seo_err copy_values(seo_ckpt_writer *w, const seo_ckpt_snapshot *s, int64_t count) {
    int64_t total = 0;
    for (int64_t i = 0; i < count; i++) total += w->ranges[i].count;
    void *memory = w->values;
    seo_err err = make_room(&memory, &w->value_capacity, total + 1, sizeof *w->values);
    w->values = memory;
    float *to = w->values;
    for (int64_t i = 0; i < count && err == SEO_OK; i++) {
        seo_ckpt_range *r = &w->ranges[i];
        if (s->fetch) {
            err = s->fetch(s->fetch_context, i, to);
        } else {
            memcpy(to, r->data, (size_t)r->count * sizeof *to);
        }
        r->data = to;
        to += r->count;
    }
    return err;
}

static seo_err copy_tensors(seo_ckpt_writer *w, const seo_ckpt_snapshot *s) {
    void *memory = w->tensors;
    const seo_err err =
        make_room(&memory, &w->tensor_capacity, s->tensor_count, sizeof *w->tensors);
    w->tensors = memory;
    if (err == SEO_OK) {
        memcpy(w->tensors, s->tensors, (size_t)s->tensor_count * sizeof *w->tensors);
    }
    return err;
}

static seo_err copy_snapshot(seo_ckpt_writer *w, const seo_ckpt_snapshot *s) {
    seo_err err = SEO_OK;
    int64_t count = 0;
    /* Until the copy is whole, no more than the step is known of it. */
    w->copy = (seo_ckpt_snapshot){.state = s->state};
    SEO_TRY(copy_tensors(w, s));
    SEO_TRY(copy_ranges(w, s, &count));
    SEO_TRY(copy_values(w, s, count));
    free(w->config_yaml);
    w->config_yaml = strdup(s->config_yaml);
    if (!w->config_yaml) {
        err = SEO_FAIL(SEO_ERR_MEMORY, "no memory to copy the configuration");
        goto done;
    }
    w->copy = *s;
    w->copy.tensors = w->tensors;
    w->copy.ranges = w->ranges;
    w->copy.range_count = count;
    w->copy.fetch = NULL;
    w->copy.config_yaml = w->config_yaml;
    if (s->tokenizer_path) {
        snprintf(w->tokenizer_path, sizeof w->tokenizer_path, "%s", s->tokenizer_path);
        w->copy.tokenizer_path = w->tokenizer_path;
    }
done:
    return err;
}

static void wait_idle(seo_ckpt_writer *w) {
    pthread_mutex_lock(&w->lock);
    while (w->pending) pthread_cond_wait(&w->changed, &w->lock);
    pthread_mutex_unlock(&w->lock);
}

seo_err seo_ckpt_writer_submit(seo_ckpt_writer *w, const seo_ckpt_snapshot *snapshot) {
    wait_idle(w);
    w->failed = copy_snapshot(w, snapshot);
    if (w->failed != SEO_OK) {
        /* The other ranks' writers wait for this one: it has to say that it has nothing. */
        if (seo_ckpt_ranks(w->world) == 1) return w->failed;
        snprintf(w->failure, sizeof w->failure, "%s", seo_err_detail());
    }
    if (!w->threaded) {
        finish(w, save_copy(w));
        return SEO_OK;
    }
    pthread_mutex_lock(&w->lock);
    w->pending = true;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
    return SEO_OK;
}

seo_err seo_ckpt_writer_wait(seo_ckpt_writer *w) {
    wait_idle(w);
    /* Nothing is pending and only this thread submits: the result is ours to read. */
    return w->last == SEO_OK ? SEO_OK : SEO_FAIL(w->last, "%s", w->message);
}

int64_t seo_ckpt_writer_failures(const seo_ckpt_writer *w) {
    return atomic_load(&w->failures);
}

void seo_ckpt_writer_close(seo_ckpt_writer *w) {
    if (!w) return;
    if (w->threaded) {
        pthread_mutex_lock(&w->lock);
        w->closing = true;
        pthread_cond_broadcast(&w->changed);
        pthread_mutex_unlock(&w->lock);
        pthread_join(w->thread, NULL);
    }
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    free(w->tensors);
    free(w->ranges);
    free(w->values);
    free(w->config_yaml);
    free(w);
}
