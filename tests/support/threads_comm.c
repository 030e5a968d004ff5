#include "tests/support/threads_comm.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "kernels/comm/queue.h"
#include "kernels/comm/wire.h"
#include "kernels/fold.h"

enum { RANKS_MAX = 64, MESSAGE_BYTES = 1024 };

struct threads_hub {
    int32_t size;
    int64_t slice;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Under the lock. */
    int32_t waiting;
    int64_t round;
    bool broken;
    /* Of the collective under way: written before a meeting, read between two. */
    const void *shown[RANKS_MAX];
    int64_t bytes[RANKS_MAX];
};

/* A rank's comm. */
typedef struct rank_state {
    threads_hub *hub;
    seo_comm_queue *queue;
    void *parts; /* every rank's part of a slice */
} rank_state;

typedef struct open_options {
    threads_hub *hub;
    int32_t rank;
} open_options;

threads_hub *threads_hub_new(int32_t size, int64_t slice) {
    SEO_ASSERT(size >= 1 && size <= RANKS_MAX);
    threads_hub *hub = calloc(1, sizeof *hub);
    SEO_ASSERT(hub != NULL);
    hub->size = size;
    hub->slice = slice > 0 ? slice : seo_comm_slice(size);
    pthread_mutex_init(&hub->lock, NULL);
    pthread_cond_init(&hub->changed, NULL);
    return hub;
}

void threads_hub_free(threads_hub *hub) {
    pthread_cond_destroy(&hub->changed);
    pthread_mutex_destroy(&hub->lock);
    free(hub);
}

void threads_hub_break(threads_hub *hub) {
    pthread_mutex_lock(&hub->lock);
    hub->broken = true;
    pthread_cond_broadcast(&hub->changed);
    pthread_mutex_unlock(&hub->lock);
}

/* Returns when all ranks are here, or one will not come. */
static seo_err meet(threads_hub *hub) {
    pthread_mutex_lock(&hub->lock);
    const int64_t round = hub->round;
    if (!hub->broken && ++hub->waiting == hub->size) {
        hub->waiting = 0;
        hub->round++;
        pthread_cond_broadcast(&hub->changed);
    }
    while (hub->round == round && !hub->broken) pthread_cond_wait(&hub->changed, &hub->lock);
    const bool met = hub->round != round;
    pthread_mutex_unlock(&hub->lock);
    return met ? SEO_OK : SEO_FAIL(SEO_ERR_LOST, "threads: a rank is gone");
}

static seo_err show(seo_comm *comm, const void *data, int64_t bytes) {
    threads_hub *hub = ((rank_state *)comm->impl)->hub;
    hub->shown[comm->rank] = data;
    hub->bytes[comm->rank] = bytes;
    const seo_err err = meet(hub);
    if (err != SEO_OK) return err;
    for (int32_t r = 0; r < hub->size; r++) {
        if (hub->bytes[r] != bytes) {
            return SEO_FAIL(SEO_ERR_ARG, "threads: rank %d brings %lld bytes, rank %d %lld", (int)r,
                            (long long)hub->bytes[r], (int)comm->rank, (long long)bytes);
        }
    }
    return SEO_OK;
}

static void add_up(const seo_comm *comm, const seo_reduce_scatter_args *a) {
    const rank_state *state = comm->impl;
    const threads_hub *hub = state->hub;
    const int64_t n = seo_tensor_count(&a->out);
    float *out = a->out.data;
    for (int64_t at = 0; at < n; at += hub->slice) {
        const int64_t count = seo_min_i64(hub->slice, n - at);
        for (int32_t r = 0; r < hub->size; r++) {
            const float *inp = (const float *)hub->shown[r] + comm->rank * n + at;
            seo_wire_from_f32((char *)state->parts + r * count * seo_dtype_bytes(a->wire), a->wire,
                              inp, count);
        }
        const seo_parts parts = {.first = state->parts,
                                 .count = hub->size,
                                 .stride = count,
                                 .dtype = a->wire,
                                 .order = a->order};
        seo_parts_fold(&parts, out + at, a->accumulate, 0, count);
    }
}

static void collect(const seo_comm *comm, void *all, int64_t bytes) {
    const threads_hub *hub = ((const rank_state *)comm->impl)->hub;
    for (int32_t r = 0; r < hub->size; r++) {
        char *to = (char *)all + r * bytes;
        if (bytes > 0 && to != hub->shown[r]) memcpy(to, hub->shown[r], (size_t)bytes);
    }
}

static seo_err worker_run(seo_comm *comm, const seo_comm_request *r) {
    seo_err err = SEO_OK;
    switch (r->call) {
    case SEO_COMM_REDUCE_SCATTER:
        SEO_TRY(show(comm, r->reduce.inp.data, seo_tensor_bytes(&r->reduce.out)));
        add_up(comm, &r->reduce);
        break;
    case SEO_COMM_ALL_GATHER:
        SEO_TRY(show(comm, r->gather.inp.data, seo_tensor_bytes(&r->gather.inp)));
        collect(comm, r->gather.whole.data, seo_tensor_bytes(&r->gather.inp));
        break;
    case SEO_COMM_GATHER_HOST:
        SEO_TRY(show(comm, r->host.mine, r->host.bytes));
        collect(comm, r->host.all, r->host.bytes);
        break;
    }
    SEO_TRY(meet(((rank_state *)comm->impl)->hub));
done:
    return err;
}

static seo_err worker_begin(seo_comm *comm, const void *options) {
    (void)comm;
    (void)options;
    return SEO_OK;
}

static void worker_end(seo_comm *comm) {
    (void)comm;
}

static seo_err comm_open(seo_comm *comm, const void *options) {
    static const seo_comm_worker worker = {worker_begin, worker_run, worker_end};
    const open_options *o = options;
    rank_state *state = calloc(1, sizeof *state);
    SEO_ASSERT(state != NULL);
    comm->impl = state;
    comm->rank = o->rank;
    comm->size = o->hub->size;
    snprintf(comm->name, sizeof comm->name, "threads");
    state->hub = o->hub;
    state->parts = malloc((size_t)(o->hub->size * o->hub->slice) * sizeof(float));
    SEO_ASSERT(state->parts != NULL);
    return seo_comm_queue_open(comm, &worker, NULL, &state->queue);
}

static seo_err comm_attach(seo_comm *comm) {
    SEO_ASSERT(seo_device_is_cpu(comm->dev));
    return SEO_OK;
}

static seo_err comm_reduce_scatter(seo_comm *comm, const seo_reduce_scatter_args *args,
                                   int64_t *ticket) {
    const seo_comm_request request = {.call = SEO_COMM_REDUCE_SCATTER, .reduce = *args};
    return seo_comm_queue_put(((rank_state *)comm->impl)->queue, &request, ticket);
}

static seo_err comm_all_gather(seo_comm *comm, const seo_all_gather_args *args, int64_t *ticket) {
    const seo_comm_request request = {.call = SEO_COMM_ALL_GATHER, .gather = *args};
    return seo_comm_queue_put(((rank_state *)comm->impl)->queue, &request, ticket);
}

static seo_err comm_wait(seo_comm *comm, int64_t ticket) {
    return seo_comm_queue_wait(((rank_state *)comm->impl)->queue, ticket);
}

static seo_err comm_gather_host(seo_comm *comm, seo_comm_label label, const void *mine,
                                int64_t bytes, void *all) {
    const seo_comm_request request = {.call = SEO_COMM_GATHER_HOST,
                                      .host = {label, mine, all, bytes}};
    int64_t ticket = 0;
    const seo_err err = seo_comm_queue_put(((rank_state *)comm->impl)->queue, &request, &ticket);
    return err != SEO_OK ? err : comm_wait(comm, ticket);
}

static void comm_close(seo_comm *comm) {
    rank_state *state = comm->impl;
    seo_comm_queue_close(state->queue);
    free(state->parts);
    free(state);
}

seo_err threads_comm_open(threads_hub *hub, int32_t rank, seo_comm **out) {
    static const seo_comm_backend threads = {
        .open = comm_open,
        .attach = comm_attach,
        .reduce_scatter = comm_reduce_scatter,
        .all_gather = comm_all_gather,
        .wait = comm_wait,
        .gather_host = comm_gather_host,
        .close = comm_close,
    };
    const open_options options = {hub, rank};
    return seo_comm_open_backend(&threads, &options, out);
}

typedef struct rank_thread {
    pthread_t thread;
    threads_hub *hub;
    int32_t rank;
    threads_body *body;
    void *context;
    seo_err err;
    char message[MESSAGE_BYTES];
} rank_thread;

static seo_err run_rank(const rank_thread *t) {
    seo_err err = SEO_OK;
    seo_comm *comm = NULL;
    seo_device *dev = NULL;
    SEO_TRY(seo_device_open_cpu(&(seo_cpu_options){.threads = 1}, &dev));
    SEO_TRY(threads_comm_open(t->hub, t->rank, &comm));
    SEO_TRY(seo_comm_attach(comm, dev));
    SEO_TRY(t->body(t->context, comm, dev));
done:
    if (err != SEO_OK) threads_hub_break(t->hub);
    seo_comm_close(comm);
    seo_device_close(dev);
    return err;
}

static void *rank_main(void *argument) {
    rank_thread *t = argument;
    t->err = run_rank(t);
    if (t->err != SEO_OK) snprintf(t->message, sizeof t->message, "%s", seo_err_detail());
    return NULL;
}

seo_err threads_run_sliced(int32_t size, int64_t slice, threads_body *body, void *context) {
    threads_hub *hub = threads_hub_new(size, slice);
    rank_thread *ranks = calloc((size_t)size, sizeof *ranks);
    SEO_ASSERT(ranks != NULL);
    for (int32_t r = 0; r < size; r++) {
        ranks[r] = (rank_thread){.hub = hub, .rank = r, .body = body, .context = context};
        SEO_ASSERT(pthread_create(&ranks[r].thread, NULL, rank_main, &ranks[r]) == 0);
    }
    for (int32_t r = 0; r < size; r++) pthread_join(ranks[r].thread, NULL);
    threads_hub_free(hub);
    const rank_thread *failed = NULL;
    for (int32_t r = size - 1; r >= 0; r--) {
        const rank_thread *t = &ranks[r];
        if (t->err == SEO_OK) continue;
        if (!failed || t->err != SEO_ERR_LOST || failed->err == SEO_ERR_LOST) failed = t;
    }
    const seo_err err =
        failed ? SEO_FAIL(failed->err, "rank %d: %s", (int)failed->rank, failed->message) : SEO_OK;
    free(ranks);
    return err;
}

seo_err threads_run(int32_t size, threads_body *body, void *context) {
    return threads_run_sliced(size, 0, body, context);
}
