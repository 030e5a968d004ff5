/* Collectives as exchanges of slices between all pairs of ranks. MPI only carries bytes; sums are
 * ours, so that their bits do not depend on its algorithms. */
#include "kernels/comm/mpi_exchange.h"

#include <sched.h>
#include <time.h>

#include "kernels/comm/wire.h"
#include "kernels/fold.h"

enum { TAG = 1 };

seo_err seo_mpi_check(const seo_comm *comm, int code, const char *what) {
    if (code == MPI_SUCCESS) return SEO_OK;
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    (void)MPI_Error_string(code, text, &length);
    return SEO_FAIL(SEO_ERR_LOST, "%s: %s failed on rank %d of %d: %.*s", comm->name, what,
                    (int)comm->rank, (int)comm->size, length, text);
}

/* MPI moves data only inside its calls. While data flows a slice takes well under a millisecond,
 * and asking again at once is worth it; the processor is offered to others in between. After that a
 * peer is late, and asking more and more rarely leaves the core to who computes. */
static seo_err await(const seo_comm *comm, int count, MPI_Request *requests, const char *what) {
    const double eager_s = 2e-3;
    const long longest_ns = 300000;
    const double start = seo_clock_s();
    long pause_ns = 10000;
    for (;;) {
        int done = 0;
        const seo_err err =
            seo_mpi_check(comm, MPI_Testall(count, requests, &done, MPI_STATUSES_IGNORE), what);
        if (err != SEO_OK || done) return err;
        if (seo_clock_s() - start < eager_s) {
            sched_yield();
            continue;
        }
        nanosleep(&(struct timespec){.tv_nsec = pause_ns}, NULL);
        pause_ns = pause_ns * 3 / 2;
        if (pause_ns > longest_ns) pause_ns = longest_ns;
    }
}

/* A collective under way. */
typedef struct exchange {
    seo_comm *comm;
    seo_mpi *mpi;
    const char *what;
    int64_t n, slice, slices;
    const seo_reduce_scatter_args *reduce; /* one of the two */
    const seo_all_gather_args *gather;
} exchange;

static int64_t slice_first(const exchange *x, int64_t k) {
    return k * x->slice;
}
static int64_t slice_count(const exchange *x, int64_t k) {
    return seo_min_i64(x->slice, x->n - k * x->slice);
}
static MPI_Request *requests_of(const exchange *x, int64_t k) {
    return x->mpi->requests + (k % 2) * 2 * x->comm->size;
}
static char *half_of(const exchange *x, int64_t k) {
    return x->mpi->workspace +
           (k % 2) * (seo_comm_workspace_bytes(x->comm->size, x->mpi->slice) / 2);
}

/* Where rank r's part of slice k arrives, and what is sent to it. */
typedef struct ends {
    void *to;
    const void *from;
    int64_t bytes;
} ends;

static ends reduce_ends(const exchange *x, int64_t k, int32_t r) {
    const seo_dtype wire = x->reduce->wire;
    const int64_t count = slice_count(x, k), bytes = count * seo_dtype_bytes(wire);
    const float *inp = (const float *)x->reduce->inp.data + r * x->n + slice_first(x, k);
    char *parts = half_of(x, k);
    ends e = {.to = parts + r * bytes, .from = inp, .bytes = bytes};
    if (r == x->comm->rank) {
        seo_wire_from_f32(e.to, wire, inp, count);
    } else if (wire == SEO_DTYPE_BF16) {
        char *rounded = parts + (x->comm->size + r) * bytes;
        seo_wire_from_f32(rounded, wire, inp, count);
        e.from = rounded;
    }
    return e;
}

static ends gather_ends(const exchange *x, int64_t k, int32_t r) {
    const int64_t element = seo_dtype_bytes(x->gather->inp.dtype);
    const int64_t first = slice_first(x, k) * element;
    ends e = {.to = (char *)x->gather->whole.data + r * x->n * element + first,
              .from = (const char *)x->gather->inp.data + first,
              .bytes = slice_count(x, k) * element};
    if (r == x->comm->rank && e.to != e.from) memcpy(e.to, e.from, (size_t)e.bytes);
    return e;
}

/* Partners in another order on every rank, so that not all send to the same one first. */
static seo_err post(const exchange *x, int64_t k) {
    const int32_t size = x->comm->size, rank = x->comm->rank;
    MPI_Request *requests = requests_of(x, k);
    seo_err err = SEO_OK;
    for (int32_t i = 0; i < size && err == SEO_OK; i++) {
        const int32_t r = (rank + i) % size;
        const ends e = x->reduce ? reduce_ends(x, k, r) : gather_ends(x, k, r);
        requests[i] = requests[size + i] = MPI_REQUEST_NULL;
        if (i == 0) continue;
        err = seo_mpi_check(
            x->comm, MPI_Irecv(e.to, (int)e.bytes, MPI_BYTE, r, TAG, x->mpi->world, &requests[i]),
            x->what);
        if (err != SEO_OK) break;
        err = seo_mpi_check(
            x->comm,
            MPI_Isend(e.from, (int)e.bytes, MPI_BYTE, r, TAG, x->mpi->world, &requests[size + i]),
            x->what);
    }
    return err;
}

static void add_up(const exchange *x, int64_t k) {
    const int64_t count = slice_count(x, k);
    const seo_parts parts = {.first = half_of(x, k),
                             .count = x->comm->size,
                             .stride = count,
                             .dtype = x->reduce->wire,
                             .order = x->reduce->order};
    seo_parts_fold(&parts, (float *)x->reduce->out.data + slice_first(x, k), x->reduce->accumulate,
                   0, count);
}

/* Slice k + 1 is on its way while slice k is added up. */
static seo_err run_exchange(exchange *x) {
    seo_err err = SEO_OK;
    x->slice = x->mpi->slice;
    x->slices = seo_div_up(x->n, x->slice);
    SEO_TRY(post(x, 0));
    for (int64_t k = 0; k < x->slices; k++) {
        if (k + 1 < x->slices) SEO_TRY(post(x, k + 1));
        SEO_TRY(await(x->comm, 2 * x->comm->size, requests_of(x, k), x->what));
        if (x->reduce) add_up(x, k);
    }
done:
    return err;
}

static seo_err gather_host(seo_comm *comm, seo_mpi *mpi, const seo_comm_request *r) {
    seo_err err = SEO_OK;
    MPI_Request request = MPI_REQUEST_NULL;
    const int bytes = (int)r->host.bytes;
    SEO_TRY(seo_mpi_check(comm,
                          MPI_Iallgather(r->host.mine, bytes, MPI_BYTE, r->host.all, bytes,
                                         MPI_BYTE, mpi->world, &request),
                          r->host.label.name));
    SEO_TRY(await(comm, 1, &request, r->host.label.name));
done:
    return err;
}

seo_err seo_mpi_run(seo_comm *comm, const seo_comm_request *r) {
    seo_err err = SEO_OK;
    seo_mpi *mpi = comm->impl;
    exchange x = {.comm = comm, .mpi = mpi};
    switch (r->call) {
    case SEO_COMM_REDUCE_SCATTER:
        x.reduce = &r->reduce;
        x.what = r->reduce.label.name;
        x.n = seo_tensor_count(&r->reduce.out);
        err = run_exchange(&x);
        break;
    case SEO_COMM_ALL_GATHER:
        x.gather = &r->gather;
        x.what = r->gather.label.name;
        x.n = seo_tensor_count(&r->gather.inp);
        err = run_exchange(&x);
        break;
    case SEO_COMM_GATHER_HOST: err = gather_host(comm, mpi, r); break;
    }
    if (err != SEO_OK) mpi->ready = false;
    return err;
}
