/* Saving in the background: one thread, one copy of the state that it alone reads, used again for
 * every save. */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hdf5.h>

#include "base/log.h"
#include "base/progress.h"
#include "train/checkpoint.h"
#include "train/checkpoint/manifest.h"

enum { MESSAGE_MAX = 2048 };

struct seo_ckpt_writer {
    char run_dir[SEO_PATH_MAX];
    int64_t attempt, keep_last, keep_every;
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
    int64_t tensor_capacity;
    float *values;
    int64_t value_capacity;
    char *config_yaml;
    char tokenizer_path[SEO_PATH_MAX];
};

static void report(seo_ckpt_writer *w, seo_err err, double seconds) {
    char size[SEO_SHORT_TEXT];
    int64_t bytes = 0, count;
    for (int64_t i = 0; i < w->copy.tensor_count; i++) {
        if (!seo_ckpt_shape_count(w->tensors[i].rank, w->tensors[i].dims, &count)) continue;
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
    seo_err err = seo_ckpt_save(w->run_dir, w->attempt, &w->copy);
    atomic_store(&w->failures, err == SEO_OK ? 0 : atomic_load(&w->failures) + 1);
    report(w, err, seo_clock_s() - start);
    if (err != SEO_OK) return err;
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

static seo_err make_room(seo_ckpt_writer *w, int64_t tensors, int64_t values) {
    if (tensors > w->tensor_capacity) {
        free(w->tensors);
        w->tensor_capacity = 0;
        w->tensors = malloc((size_t)tensors * sizeof *w->tensors);
        if (!w->tensors) return SEO_FAIL(SEO_ERR_MEMORY, "no memory to copy the run's state");
        w->tensor_capacity = tensors;
    }
    if (values > w->value_capacity) {
        free(w->values);
        w->value_capacity = 0;
        w->values = malloc((size_t)values * sizeof *w->values);
        if (!w->values) {
            return SEO_FAIL(SEO_ERR_MEMORY, "no memory to copy the run's state: %lld bytes",
                            (long long)values * (long long)sizeof *w->values);
        }
        w->value_capacity = values;
    }
    return SEO_OK;
}

static seo_err copy_tensors(seo_ckpt_writer *w, const seo_ckpt_snapshot *s) {
    int64_t total = 0, count;
    for (int64_t i = 0; i < s->tensor_count; i++) {
        if (!seo_ckpt_shape_count(s->tensors[i].rank, s->tensors[i].dims, &count)) {
            return SEO_FAIL(SEO_ERR_ARG, "tensor %s of the checkpoint has a bad shape",
                            s->tensors[i].name);
        }
        total += count;
    }
    seo_err err = make_room(w, s->tensor_count, total);
    if (err != SEO_OK) return err;
    float *to = w->values;
    for (int64_t i = 0; i < s->tensor_count; i++) {
        seo_ckpt_shape_count(s->tensors[i].rank, s->tensors[i].dims, &count);
        w->tensors[i] = s->tensors[i];
        w->tensors[i].data = to;
        if (s->fetch) {
            err = s->fetch(s->fetch_context, i, to);
            if (err != SEO_OK) return err;
        } else {
            memcpy(to, s->tensors[i].data, (size_t)count * sizeof *to);
        }
        to += count;
    }
    return SEO_OK;
}

static seo_err copy_snapshot(seo_ckpt_writer *w, const seo_ckpt_snapshot *s) {
    seo_err err = copy_tensors(w, s);
    if (err != SEO_OK) return err;
    free(w->config_yaml);
    w->config_yaml = strdup(s->config_yaml);
    if (!w->config_yaml) return SEO_FAIL(SEO_ERR_MEMORY, "no memory to copy the configuration");
    w->copy = *s;
    w->copy.tensors = w->tensors;
    w->copy.fetch = NULL;
    w->copy.config_yaml = w->config_yaml;
    if (s->tokenizer_path) {
        snprintf(w->tokenizer_path, sizeof w->tokenizer_path, "%s", s->tokenizer_path);
        w->copy.tokenizer_path = w->tokenizer_path;
    }
    return SEO_OK;
}

static void wait_idle(seo_ckpt_writer *w) {
    pthread_mutex_lock(&w->lock);
    while (w->pending) pthread_cond_wait(&w->changed, &w->lock);
    pthread_mutex_unlock(&w->lock);
}

seo_err seo_ckpt_writer_submit(seo_ckpt_writer *w, const seo_ckpt_snapshot *snapshot) {
    wait_idle(w);
    seo_err err = copy_snapshot(w, snapshot);
    if (err != SEO_OK) return err;
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
    free(w->values);
    free(w->config_yaml);
    free(w);
}
