#include "kernels/comm/queue.h"

#include <signal.h>
#include <stdlib.h>

enum { CAPACITY = 256, MESSAGE_BYTES = 1024 };

struct seo_comm_queue {
    seo_comm *comm;
    const seo_comm_worker *worker;
    const void *options; /* of begin; the opener's, who waits for it */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Under the lock. Request number i lies at i % CAPACITY. */
    seo_comm_request requests[CAPACITY];
    int64_t put, done;
    bool begun, closing;
    seo_err failed;
    char message[MESSAGE_BYTES];
};

static int64_t bytes_sent(const seo_comm *comm, const seo_comm_request *r) {
    const int64_t peers = comm->size - 1;
    switch (r->call) {
    case SEO_COMM_REDUCE_SCATTER:
        return peers * seo_tensor_count(&r->reduce.out) * seo_dtype_bytes(r->reduce.wire);
    case SEO_COMM_ALL_GATHER: return peers * seo_tensor_bytes(&r->gather.inp);
    case SEO_COMM_GATHER_HOST: return peers * r->host.bytes;
    }
    return 0;
}

static seo_comm_label label_of(const seo_comm_request *r) {
    switch (r->call) {
    case SEO_COMM_REDUCE_SCATTER: return r->reduce.label;
    case SEO_COMM_ALL_GATHER: return r->gather.label;
    case SEO_COMM_GATHER_HOST: break;
    }
    return r->host.label;
}

/* The place of a request that fails stays entered: there this rank ended. */
static seo_err run(const seo_comm_queue *q, const seo_comm_request *r) {
    if (r->inner) return q->worker->run(q->comm, r);
    seo_comm_enter(q->comm, label_of(r), bytes_sent(q->comm, r));
    const seo_err err = q->worker->run(q->comm, r);
    if (err == SEO_OK) seo_comm_leave(q->comm);
    return err;
}

static void note(seo_comm_queue *q, seo_err err) {
    if (err == SEO_OK || q->failed != SEO_OK) return;
    q->failed = err;
    snprintf(q->message, sizeof q->message, "%s", seo_err_detail());
}

static void *work(void *argument) {
    seo_comm_queue *q = argument;
    const seo_err begun = q->worker->begin(q->comm, q->options);
    pthread_mutex_lock(&q->lock);
    note(q, begun);
    q->begun = true;
    pthread_cond_broadcast(&q->changed);
    for (;;) {
        while (q->put == q->done && !q->closing) pthread_cond_wait(&q->changed, &q->lock);
        if (q->put == q->done) break;
        if (q->failed == SEO_OK) {
            /* Its place is not used again before it is done. */
            const seo_comm_request *request = &q->requests[q->done % CAPACITY];
            pthread_mutex_unlock(&q->lock);
            const seo_err err = run(q, request);
            pthread_mutex_lock(&q->lock);
            note(q, err);
        }
        q->done++;
        pthread_cond_broadcast(&q->changed);
    }
    pthread_mutex_unlock(&q->lock);
    q->worker->end(q->comm);
    return NULL;
}

/* Signals are for the thread that trains. */
static int start_thread(seo_comm_queue *q) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int failed = pthread_create(&q->thread, NULL, work, q);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed;
}

static void free_queue(seo_comm_queue *q) {
    pthread_cond_destroy(&q->changed);
    pthread_mutex_destroy(&q->lock);
    free(q);
}

seo_err seo_comm_queue_open(seo_comm *comm, const seo_comm_worker *worker, const void *options,
                            seo_comm_queue **out) {
    *out = NULL;
    seo_comm_queue *q = calloc(1, sizeof *q);
    if (!q) return SEO_FAIL(SEO_ERR_MEMORY, "no memory for the queue of collectives");
    q->comm = comm;
    q->worker = worker;
    q->options = options;
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->changed, NULL);
    if (start_thread(q) != 0) {
        free_queue(q);
        return SEO_FAIL(SEO_ERR_MEMORY, "the thread of the collectives cannot be started");
    }
    pthread_mutex_lock(&q->lock);
    while (!q->begun) pthread_cond_wait(&q->changed, &q->lock);
    seo_err err = q->failed;
    if (err != SEO_OK) err = SEO_FAIL(err, "%s", q->message);
    pthread_mutex_unlock(&q->lock);
    if (err != SEO_OK) {
        seo_comm_queue_close(q);
    } else {
        *out = q;
    }
    return err;
}

seo_err seo_comm_queue_put(seo_comm_queue *q, const seo_comm_request *request, int64_t *ticket) {
    seo_err err = SEO_OK;
    pthread_mutex_lock(&q->lock);
    while (q->put - q->done == CAPACITY) pthread_cond_wait(&q->changed, &q->lock);
    if (q->failed != SEO_OK) {
        err = SEO_FAIL(q->failed, "%s", q->message);
    } else {
        q->requests[q->put % CAPACITY] = *request;
        *ticket = ++q->put;
        pthread_cond_broadcast(&q->changed);
    }
    pthread_mutex_unlock(&q->lock);
    return err;
}

seo_err seo_comm_queue_wait(seo_comm_queue *q, int64_t ticket) {
    seo_err err = SEO_OK;
    pthread_mutex_lock(&q->lock);
    SEO_ASSERT(ticket <= q->put);
    if (q->done < ticket) {
        const double start = seo_clock_s();
        while (q->done < ticket) pthread_cond_wait(&q->changed, &q->lock);
        seo_comm_add_waited(q->comm, seo_clock_s() - start);
    }
    if (q->failed != SEO_OK) err = SEO_FAIL(q->failed, "%s", q->message);
    pthread_mutex_unlock(&q->lock);
    return err;
}

void seo_comm_queue_close(seo_comm_queue *q) {
    if (!q) return;
    pthread_mutex_lock(&q->lock);
    q->closing = true;
    pthread_cond_broadcast(&q->changed);
    pthread_mutex_unlock(&q->lock);
    pthread_join(q->thread, NULL);
    free_queue(q);
}
