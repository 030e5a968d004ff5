/* Collectives by NCCL, opened with dlopen when they are wanted, so that the plug-in serves a
 * machine without it as well. They are queued on a stream of their own: a collective waits for what
 * the device was given before it, and the device's stream for a collective's event.
 *
 * NCCL sums in an order of its own. It does so only where that is allowed: a sum in sequence of f32
 * that is overwritten. All other sums are an exchange, after which each rank adds up everyone's
 * parts of its chunk by `fold`; so they have the bits of any other comm.
 *
 * What the ranks are at is known by events before and behind each collective, which are looked at
 * whenever somebody asks. */
#include <dlfcn.h>
#include <nccl.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "kernels/comm_backend.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/memory.h"
#include "kernels/cuda/nccl.h"

enum {
    PENDING_MAX = 64, /* collectives that are queued and not yet known to be done */
    MESSAGE_BYTES = 512
};

/* A collective that was queued. Ticket t has place t % PENDING_MAX. */
typedef struct pending {
    cudaEvent_t start, end;
    seo_comm_label label;
    int64_t bytes; /* that this rank sends */
    bool entered;
} pending;

typedef struct seo_nccl {
    seo_nccl_library library;
    ncclComm_t nccl;
    cudaStream_t stream;
    cudaEvent_t ready; /* in the device's stream: what a collective has to wait for */
    seo_cuda cuda;     /* the device's, but for the stream: its operators run on ours */
    seo_device dev;
    void *workspace; /* the parts of a slice, and what is sent of it as bf16 */
    int64_t slice;   /* elements */
    pending places[PENDING_MAX];
    pthread_mutex_t lock;         /* of the two below and of the places' `entered` */
    int64_t last_ticket, retired; /* queued, and known to be done */
    seo_err failed;
    char why[MESSAGE_BYTES];
} seo_nccl;

static seo_nccl *nccl_of(const seo_comm *comm) {
    return comm->impl;
}

/* ---- the library ---- */

/* A function's address arrives as an object's, which C does not let one cast. */
static bool find_function(void *handle, const char *name, void *function) {
    void *symbol = dlsym(handle, name);
    memcpy(function, &symbol, sizeof symbol);
    return symbol != NULL;
}

/* Only the major version that the header describes. It stays loaded until the process ends: it has
 * threads and handlers of its own. */
static bool open_library(seo_nccl_library *library, const char *path) {
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!handle) return false;
    bool all = true;
#define X(name) all = find_function(handle, "nccl" #name, &library->name) && all;
    SEO_NCCL_FUNCTIONS(X)
#undef X
    return all && library->GetVersion(&library->version) == ncclSuccess &&
           library->version / 10000 == NCCL_MAJOR;
}

static seo_err find_library(seo_nccl_library *library) {
#define TEXT_OF(x) #x
#define TEXT(x)    TEXT_OF(x)
    static const char name[] = "libnccl.so." TEXT(NCCL_MAJOR);
    if (open_library(library, name) ||
        open_library(library, SEO_NCCL_DIR "/libnccl.so." TEXT(NCCL_MAJOR))) {
        return SEO_OK;
    }
#undef TEXT
#undef TEXT_OF
    return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                    "nccl: %s is not found: install NVIDIA's NCCL (libnccl2) or add its folder to "
                    "LD_LIBRARY_PATH, or use parallel.backend: mpi",
                    name);
}

static seo_err nccl_find(void) {
    seo_nccl_library library;
    return find_library(&library);
}

/* ---- errors ---- */

/* Once something failed, nothing more is asked of the library, and the reason is told again. */
static seo_err note(seo_nccl *n, seo_err err) {
    if (err == SEO_OK || n->failed != SEO_OK) return err;
    n->failed = err;
    snprintf(n->why, sizeof n->why, "%s", seo_err_detail());
    return err;
}

static seo_err check(seo_nccl *n, ncclResult_t result, const char *what) {
    if (result == ncclSuccess) return SEO_OK;
    const bool peer = result == ncclRemoteError || result == ncclSystemError;
    const char *last = n->library.GetLastError(n->nccl);
    return note(n, SEO_FAIL(peer ? SEO_ERR_LOST : SEO_ERR_DEVICE, "nccl: %s: %s%s%s", what,
                            n->library.GetErrorString(result), last && last[0] ? ": " : "",
                            last ? last : ""));
}

static seo_err check_cuda(seo_nccl *n, cudaError_t result, const char *what) {
    return note(n, seo_cuda_check(result, what));
}

/* Before each call: what went wrong meanwhile, here or with a peer. */
static seo_err check_alive(seo_comm *comm, const char *what) {
    seo_nccl *n = nccl_of(comm);
    ncclResult_t since = ncclSuccess;
    if (n->failed != SEO_OK) return SEO_FAIL(n->failed, "%s", n->why);
    if (comm->dev->capturing) {
        return SEO_FAIL(SEO_ERR_ARG, "nccl: %s: a collective cannot be part of a graph", what);
    }
    const ncclResult_t asked = n->library.CommGetAsyncError(n->nccl, &since);
    return check(n, asked != ncclSuccess ? asked : since, what);
}

/* ---- what the device is at ---- */

static void mark_left(seo_comm *comm, const pending *p) {
    float ms = 0;
    if (cudaEventElapsedTime(&ms, p->start, p->end) != cudaSuccess) (void)cudaGetLastError();
    pthread_mutex_lock(&comm->record->lock);
    comm->record->place.left_s = seo_clock_s();
    comm->record->times.busy_s += (double)ms / 1e3;
    pthread_mutex_unlock(&comm->record->lock);
}

/* Whether the device has come to it; what it is not asked about stays unknown. */
static bool is_reached(cudaEvent_t event) {
    if (cudaEventQuery(event) == cudaSuccess) return true;
    (void)cudaGetLastError();
    return false;
}

/* Under the lock: brings the record up to date. */
static void retire(seo_comm *comm) {
    seo_nccl *n = nccl_of(comm);
    while (n->retired < n->last_ticket) {
        pending *p = &n->places[(n->retired + 1) % PENDING_MAX];
        if (!p->entered && !is_reached(p->start)) return;
        if (!p->entered) seo_comm_enter(comm, p->label, p->bytes);
        p->entered = true;
        if (!is_reached(p->end)) return;
        mark_left(comm, p);
        n->retired++;
    }
}

/* How many tickets are known to be done, as it is now. From any thread; a new one has to be told
 * which device is ours. */
static int64_t look(seo_comm *comm) {
    seo_nccl *n = nccl_of(comm);
    pthread_mutex_lock(&n->lock);
    if (cudaSetDevice(n->cuda.ordinal) == cudaSuccess) retire(comm);
    const int64_t retired = n->retired;
    pthread_mutex_unlock(&n->lock);
    return retired;
}

static void nccl_refresh(seo_comm *comm) {
    (void)look(comm);
}

/* ---- around each collective ---- */

/* Takes the place of the next ticket, behind what the device has been given. */
static seo_err begin(seo_comm *comm, seo_comm_label label, int64_t bytes, pending **out) {
    seo_err err = SEO_OK;
    seo_nccl *n = nccl_of(comm);
    pending *p = &n->places[(n->last_ticket + 1) % PENDING_MAX];
    SEO_TRY(check_alive(comm, label.name));
    if (n->last_ticket - look(comm) == PENDING_MAX) {
        SEO_TRY(check_cuda(n, cudaEventSynchronize(p->end), label.name));
        nccl_refresh(comm);
    }
    SEO_TRY(check_cuda(n, cudaEventRecord(n->ready, seo_cuda_of(comm->dev)->stream), label.name));
    SEO_TRY(check_cuda(n, cudaStreamWaitEvent(n->stream, n->ready, 0), label.name));
    SEO_TRY(check_cuda(n, cudaEventRecord(p->start, n->stream), label.name));
    p->label = label;
    p->bytes = bytes;
    p->entered = false;
    *out = p;
done:
    return err;
}

static seo_err end(seo_comm *comm, pending *p, int64_t *ticket) {
    seo_nccl *n = nccl_of(comm);
    const seo_err err = check_cuda(n, cudaEventRecord(p->end, n->stream), p->label.name);
    if (err != SEO_OK) return err;
    pthread_mutex_lock(&n->lock);
    *ticket = ++n->last_ticket;
    pthread_mutex_unlock(&n->lock);
    return SEO_OK;
}

static seo_err nccl_wait(seo_comm *comm, int64_t ticket) {
    seo_nccl *n = nccl_of(comm);
    SEO_ASSERT(ticket <= n->last_ticket);
    const seo_err err = check_alive(comm, "a wait");
    if (err != SEO_OK || ticket <= look(comm)) return err;
    return check_cuda(
        n,
        cudaStreamWaitEvent(seo_cuda_of(comm->dev)->stream, n->places[ticket % PENDING_MAX].end, 0),
        "a wait for a collective");
}

/* ---- sums ---- */

/* One slice of a sum: elements [from, from + count) of each rank's chunk. */
typedef struct exchange {
    const seo_reduce_scatter_args *args;
    int64_t n; /* elements of a chunk */
    int64_t from, count;
    char *parts; /* (size, count) as they are sent */
    char *sent;  /* likewise, of bf16 alone */
} exchange;

static ncclDataType_t type_of(seo_dtype wire) {
    return wire == SEO_DTYPE_BF16 ? ncclBfloat16 : ncclFloat32;
}

static float *addend(const exchange *x, int32_t rank) {
    return (float *)x->args->inp.data + rank * x->n + x->from;
}

/* This rank's addends: its own to its place among the parts, those of others to be sent. */
static seo_err prepare(seo_comm *comm, const exchange *x) {
    seo_err err = SEO_OK;
    seo_nccl *n = nccl_of(comm);
    const seo_dtype wire = x->args->wire;
    const int64_t bytes = x->count * seo_dtype_bytes(wire);
    for (int32_t r = 0; r < comm->size; r++) {
        if (r != comm->rank && wire == SEO_DTYPE_F32) continue;
        char *to = (r == comm->rank ? x->parts : x->sent) + r * bytes;
        SEO_TRY(note(n, seo_cuda_cast(&n->dev, &(seo_cast_args){
                                                   .out = seo_tensor_1d(to, wire, x->count),
                                                   .inp = seo_tensor_1d(addend(x, r), SEO_DTYPE_F32,
                                                                        x->count)})));
    }
done:
    return err;
}

/* Everyone's part of everyone's chunk at once. A group that was begun is ended in any case. */
static seo_err swap_parts(seo_comm *comm, const exchange *x) {
    seo_nccl *n = nccl_of(comm);
    const seo_dtype wire = x->args->wire;
    const int64_t bytes = x->count * seo_dtype_bytes(wire);
    ncclResult_t result = n->library.GroupStart();
    if (result != ncclSuccess) return check(n, result, x->args->label.name);
    for (int32_t r = 0; r < comm->size && result == ncclSuccess; r++) {
        if (r == comm->rank) continue;
        const void *from = wire == SEO_DTYPE_F32 ? (void *)addend(x, r) : x->sent + r * bytes;
        result = n->library.Send(from, (size_t)x->count, type_of(wire), r, n->nccl, n->stream);
        if (result != ncclSuccess) break;
        result = n->library.Recv(x->parts + r * bytes, (size_t)x->count, type_of(wire), r, n->nccl,
                                 n->stream);
    }
    const ncclResult_t ended = n->library.GroupEnd();
    return check(n, result != ncclSuccess ? result : ended, x->args->label.name);
}

static seo_err exchange_slice(seo_comm *comm, const exchange *x) {
    seo_err err = SEO_OK;
    seo_nccl *n = nccl_of(comm);
    const seo_reduce_scatter_args *a = x->args;
    SEO_TRY(prepare(comm, x));
    if (comm->size > 1) SEO_TRY(swap_parts(comm, x));
    SEO_TRY(note(
        n, seo_cuda_fold(&n->dev, &(seo_fold_args){
                                      .out = seo_tensor_1d((float *)a->out.data + x->from,
                                                           SEO_DTYPE_F32, x->count),
                                      .inp = seo_tensor_2d(x->parts, a->wire, comm->size, x->count),
                                      .order = a->order,
                                      .accumulate = a->accumulate})));
done:
    return err;
}

/* Own chunk's part of inp is read before out, which may be it, is written: slice by slice. */
static seo_err exchange_all(seo_comm *comm, const seo_reduce_scatter_args *a) {
    seo_err err = SEO_OK;
    const seo_nccl *n = nccl_of(comm);
    exchange x = {.args = a, .n = seo_tensor_count(&a->out), .parts = n->workspace};
    x.sent = x.parts + comm->size * n->slice * (int64_t)sizeof(float);
    for (x.from = 0; x.from < x.n; x.from += n->slice) {
        x.count = seo_min_i64(n->slice, x.n - x.from);
        SEO_TRY(exchange_slice(comm, &x));
    }
done:
    return err;
}

static seo_err nccl_reduce_scatter(seo_comm *comm, const seo_reduce_scatter_args *a,
                                   int64_t *ticket) {
    seo_err err = SEO_OK;
    seo_nccl *n = nccl_of(comm);
    pending *p = NULL;
    const int64_t count = seo_tensor_count(&a->out);
    const bool free_order =
        a->order == SEO_SUM_SEQUENCE && a->wire == SEO_DTYPE_F32 && !a->accumulate;
    const int64_t bytes = (comm->size - 1) * count * seo_dtype_bytes(a->wire);
    SEO_TRY(begin(comm, a->label, bytes, &p));
    if (free_order) {
        SEO_TRY(check(n,
                      n->library.ReduceScatter(a->inp.data, a->out.data, (size_t)count, ncclFloat32,
                                               ncclSum, n->nccl, n->stream),
                      a->label.name));
    } else {
        SEO_TRY(exchange_all(comm, a));
    }
    SEO_TRY(end(comm, p, ticket));
done:
    return err;
}

/* ---- gathers ---- */

static seo_err gather_bytes(seo_comm *comm, const void *part, void *whole, int64_t bytes,
                            const char *what) {
    seo_nccl *n = nccl_of(comm);
    return check(n, n->library.AllGather(part, whole, (size_t)bytes, ncclUint8, n->nccl, n->stream),
                 what);
}

static seo_err nccl_all_gather(seo_comm *comm, const seo_all_gather_args *a, int64_t *ticket) {
    seo_err err = SEO_OK;
    pending *p = NULL;
    const int64_t bytes = seo_tensor_bytes(&a->inp);
    SEO_TRY(begin(comm, a->label, (comm->size - 1) * bytes, &p));
    SEO_TRY(gather_bytes(comm, a->inp.data, a->whole.data, bytes, a->label.name));
    SEO_TRY(end(comm, p, ticket));
done:
    return err;
}

/* Pieces of host memory through the workspace, which is ours on this stream. */
static seo_err gather_pieces(seo_comm *comm, const char *mine, int64_t bytes, char *all,
                             const char *what) {
    seo_err err = SEO_OK;
    seo_nccl *n = nccl_of(comm);
    const int64_t most = n->slice * (int64_t)sizeof(float);
    char *whole = n->workspace;
    for (int64_t at = 0; at < bytes; at += most) {
        const int64_t piece = seo_min_i64(most, bytes - at);
        SEO_TRY(check_cuda(n,
                           cudaMemcpyAsync(whole + comm->rank * piece, mine + at, (size_t)piece,
                                           cudaMemcpyHostToDevice, n->stream),
                           what));
        SEO_TRY(gather_bytes(comm, whole + comm->rank * piece, whole, piece, what));
        for (int32_t r = 0; r < comm->size; r++) {
            SEO_TRY(check_cuda(n,
                               cudaMemcpyAsync(all + r * bytes + at, whole + r * piece,
                                               (size_t)piece, cudaMemcpyDeviceToHost, n->stream),
                               what));
        }
    }
done:
    return err;
}

static seo_err nccl_gather_host(seo_comm *comm, seo_comm_label label, const void *mine,
                                int64_t bytes, void *all) {
    seo_err err = SEO_OK;
    seo_nccl *n = nccl_of(comm);
    pending *p = NULL;
    int64_t ticket = 0;
    const double start_s = seo_clock_s();
    SEO_TRY(begin(comm, label, (comm->size - 1) * bytes, &p));
    SEO_TRY(gather_pieces(comm, mine, bytes, all, label.name));
    SEO_TRY(end(comm, p, &ticket));
    SEO_TRY(check_cuda(n, cudaStreamSynchronize(n->stream), label.name));
    SEO_TRY(check_alive(comm, label.name));
    nccl_refresh(comm);
    seo_comm_add_waited(comm, seo_clock_s() - start_s);
done:
    return err;
}

/* ---- opening and closing ---- */

static seo_err open_events(seo_nccl *n) {
    seo_err err = SEO_OK;
    SEO_TRY(seo_cuda_check(cudaEventCreateWithFlags(&n->ready, cudaEventDisableTiming),
                           "an event for collectives"));
    for (int64_t i = 0; i < PENDING_MAX; i++) {
        SEO_TRY(seo_cuda_check(cudaEventCreate(&n->places[i].start), "an event for collectives"));
        SEO_TRY(seo_cuda_check(cudaEventCreate(&n->places[i].end), "an event for collectives"));
    }
done:
    return err;
}

/* Takes the stream and the workspace, and makes of the device one whose operators run there; fold
 * and cast use nothing else of it. */
static seo_err take_stream(seo_comm *comm, seo_nccl *n) {
    seo_err err = SEO_OK;
    const int64_t bytes = seo_comm_workspace_bytes(comm->size, seo_comm_slice(comm->size));
    n->slice = 2 * seo_comm_slice(comm->size); /* one in hand, of twice the size */
    SEO_TRY(seo_cuda_check(cudaStreamCreateWithFlags(&n->stream, cudaStreamNonBlocking),
                           "a stream for collectives"));
    n->cuda = *seo_cuda_of(comm->dev);
    n->cuda.stream = n->stream;
    n->dev = *comm->dev;
    n->dev.impl = &n->cuda;
    SEO_TRY(open_events(n));
    SEO_TRY(seo_cuda_take(comm->dev, bytes, &n->workspace));
done:
    return err;
}

/* The id is made by rank 0 and reaches all, also when it could not be made: then all fail. */
static seo_err share_id(seo_nccl *n, const seo_comm_nccl_options *o, ncclUniqueId *id) {
    struct {
        int32_t made;
        ncclUniqueId id;
    } shared = {0};
    ncclResult_t result = ncclSuccess;
    if (o->rank == 0) {
        result = n->library.GetUniqueId(&shared.id);
        shared.made = result == ncclSuccess;
    }
    const seo_err err = o->share(o->share_context, &shared, sizeof shared);
    if (err != SEO_OK) return err;
    if (result != ncclSuccess) return check(n, result, "the ranks' meeting place");
    if (!shared.made) return SEO_FAIL(SEO_ERR_LOST, "nccl: rank 0 could not make a meeting place");
    *id = shared.id;
    return SEO_OK;
}

static seo_err nccl_open(seo_comm *comm, const void *options) {
    seo_err err = SEO_OK;
    const seo_comm_nccl_options *o = options;
    ncclUniqueId id;
    seo_nccl *n = calloc(1, sizeof *n);
    if (!n) return SEO_FAIL(SEO_ERR_MEMORY, "nccl: no memory for the collectives");
    pthread_mutex_init(&n->lock, NULL);
    comm->impl = n;
    comm->rank = o->rank;
    comm->size = o->size;
    comm->dev = o->dev;
    SEO_TRY(find_library(&n->library));
    snprintf(comm->name, sizeof comm->name, "nccl %d.%d.%d", n->library.version / 10000,
             n->library.version / 100 % 100, n->library.version % 100);
    SEO_TRY(take_stream(comm, n));
    SEO_TRY(share_id(n, o, &id));
    SEO_TRY(check(n, n->library.CommInitRank(&n->nccl, o->size, id, o->rank),
                  "the meeting of the ranks"));
done:
    return err;
}

/* A comm that failed is aborted: its peers may never come, and its stream never be done. */
static void close_library(seo_nccl *n) {
    if (!n->nccl) return;
    if (n->failed != SEO_OK) {
        (void)n->library.CommAbort(n->nccl);
    } else {
        (void)cudaStreamSynchronize(n->stream);
        (void)n->library.CommDestroy(n->nccl);
    }
}

static void nccl_close(seo_comm *comm) {
    seo_nccl *n = nccl_of(comm);
    if (!n) return;
    close_library(n);
    for (int64_t i = 0; i < PENDING_MAX; i++) {
        if (n->places[i].start) (void)cudaEventDestroy(n->places[i].start);
        if (n->places[i].end) (void)cudaEventDestroy(n->places[i].end);
    }
    if (n->ready) (void)cudaEventDestroy(n->ready);
    if (n->workspace) (void)cudaFree(n->workspace);
    if (n->stream) (void)cudaStreamDestroy(n->stream);
    pthread_mutex_destroy(&n->lock);
    free(n);
    comm->impl = NULL;
}

const seo_comm_backend seo_nccl_backend = {
    .find = nccl_find,
    .open = nccl_open,
    .reduce_scatter = nccl_reduce_scatter,
    .all_gather = nccl_all_gather,
    .wait = nccl_wait,
    .gather_host = nccl_gather_host,
    .refresh = nccl_refresh,
    .close = nccl_close,
};
