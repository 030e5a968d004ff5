/* A library that stands in for NCCL where there is no GPU. Ranks are processes of one machine,
 * which meet in a piece of shared memory and send through it; a call is queued on its stream of the
 * emulated device and done when the stream comes to it. Sums are made in the order of ranks. */
#include "nccl.h"

#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { RANKS_MAX = 8, CHANNEL_BYTES = 1 << 16, WAIT_S = 120, BATCH_MAX = 4 * RANKS_MAX };

/* From one rank to another: a ring of bytes, with counts that only grow. */
typedef struct channel {
    _Atomic uint64_t put, got;
    char bytes[CHANNEL_BYTES];
} channel;

typedef struct meeting {
    _Atomic int joined, broken;
    channel channels[RANKS_MAX][RANKS_MAX]; /* [from][to] */
} meeting;

struct ncclComm {
    meeting *at;
    int rank, size;
    _Atomic int error; /* an ncclResult_t */
};

typedef struct transfer {
    char *at;
    size_t bytes, done;
    int peer;
    bool is_send;
} transfer;

/* What one call, or one group of calls, does when its stream comes to it. */
typedef struct batch {
    struct ncclComm *comm;
    cudaStream_t stream;
    transfer transfers[BATCH_MAX];
    int count;
    float *sum_to, *parts; /* of a sum: where to, and (size, n) parts that are received */
    size_t n;
} batch;

static nccl_stand_in g_state;
static int g_depth;
static batch *g_group;

nccl_stand_in *nccl_stand_in_get(void) {
    return &g_state;
}

ncclResult_t ncclGetVersion(int *version) {
    *version = NCCL_MAJOR * 10000 + 102;
    return ncclSuccess;
}
const char *ncclGetErrorString(ncclResult_t result) {
    switch (result) {
    case ncclSuccess: return "no error";
    case ncclSystemError: return "unhandled system error";
    case ncclRemoteError: return "remote process exited or there was a network error";
    default: return "the stand-in refuses";
    }
}
const char *ncclGetLastError(ncclComm_t comm) {
    (void)comm;
    return "";
}

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- meeting ---- */

static meeting *map_meeting(const char *name, int flags) {
    const int fd = shm_open(name, flags, 0600);
    if (fd < 0) return NULL;
    const bool sized = !(flags & O_CREAT) || ftruncate(fd, sizeof(meeting)) == 0;
    void *at =
        sized ? mmap(NULL, sizeof(meeting), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
    close(fd);
    return at == MAP_FAILED ? NULL : at;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id) {
    static int made;
    if (g_state.fail_id != ncclSuccess) return g_state.fail_id;
    memset(id, 0, sizeof *id);
    snprintf(id->internal, sizeof id->internal, "/seodang-nccl-%d-%d", (int)getpid(), made++);
    meeting *at = map_meeting(id->internal, O_CREAT | O_EXCL | O_RDWR);
    if (!at) return ncclSystemError;
    munmap(at, sizeof *at);
    return ncclSuccess;
}

ncclResult_t ncclCommInitRank(ncclComm_t *comm, int size, ncclUniqueId id, int rank) {
    *comm = NULL;
    if (g_state.fail_init != ncclSuccess) {
        if (rank == 0) shm_unlink(id.internal);
        return g_state.fail_init;
    }
    if (size > RANKS_MAX || rank < 0 || rank >= size) return ncclInvalidArgument;
    struct ncclComm *c = calloc(1, sizeof *c);
    meeting *at = map_meeting(id.internal, O_RDWR);
    if (!c || !at) {
        free(c);
        return ncclSystemError;
    }
    c->at = at;
    c->rank = rank;
    c->size = size;
    at->joined++;
    const double until = now_s() + WAIT_S;
    while (at->joined < size && now_s() < until) sched_yield();
    if (rank == 0) shm_unlink(id.internal);
    if (at->joined < size) {
        free(c);
        return ncclSystemError;
    }
    *comm = c;
    return ncclSuccess;
}

static ncclResult_t leave(ncclComm_t comm) {
    munmap(comm->at, sizeof *comm->at);
    free(comm);
    return ncclSuccess;
}
ncclResult_t ncclCommDestroy(ncclComm_t comm) {
    g_state.destroyed++;
    return leave(comm);
}
ncclResult_t ncclCommAbort(ncclComm_t comm) {
    g_state.aborted++;
    comm->at->broken = 1;
    return leave(comm);
}
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error) {
    *error = g_state.fail_later != ncclSuccess ? g_state.fail_later : (ncclResult_t)comm->error;
    return ncclSuccess;
}

/* ---- sending ---- */

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

/* Moves what can be moved without waiting; returns how much that was. */
static size_t advance(const struct ncclComm *comm, transfer *t) {
    channel *c = t->is_send ? &comm->at->channels[comm->rank][t->peer]
                            : &comm->at->channels[t->peer][comm->rank];
    const uint64_t put = c->put, got = c->got;
    const uint64_t place = (t->is_send ? put : got) % CHANNEL_BYTES;
    const size_t room = t->is_send ? CHANNEL_BYTES - (size_t)(put - got) : (size_t)(put - got);
    const size_t bytes =
        least(least(room, t->bytes - t->done), (size_t)CHANNEL_BYTES - (size_t)place);
    if (t->is_send) {
        memcpy(c->bytes + place, t->at + t->done, bytes);
        c->put += bytes;
    } else {
        memcpy(t->at + t->done, c->bytes + place, bytes);
        c->got += bytes;
    }
    t->done += bytes;
    return bytes;
}

/* False when a peer is gone. */
static bool move_all(batch *b) {
    double until = now_s() + WAIT_S;
    for (;;) {
        size_t moved = 0;
        bool done = true;
        for (int i = 0; i < b->count; i++) {
            moved += advance(b->comm, &b->transfers[i]);
            done = done && b->transfers[i].done == b->transfers[i].bytes;
        }
        if (done) return true;
        if (b->comm->at->broken || now_s() > until) return false;
        if (moved > 0) until = now_s() + WAIT_S;
        sched_yield();
    }
}

static void run(void *data) {
    batch *b = data;
    if (b->comm->error != ncclSuccess || !move_all(b)) {
        b->comm->error = ncclRemoteError;
    } else if (b->sum_to) {
        for (size_t i = 0; i < b->n; i++) {
            float sum = b->parts[i];
            for (int r = 1; r < b->comm->size; r++) sum += b->parts[(size_t)r * b->n + i];
            b->sum_to[i] = sum;
        }
    }
    free(b->parts);
    free(b);
}

static void add(batch *b, void *at, size_t bytes, int peer, bool is_send) {
    b->transfers[b->count++] =
        (transfer){.at = at, .bytes = bytes, .peer = peer, .is_send = is_send};
}
static batch *new_batch(ncclComm_t comm, cudaStream_t stream) {
    batch *b = calloc(1, sizeof *b);
    if (!b) abort();
    b->comm = comm;
    b->stream = stream;
    return b;
}
static ncclResult_t queue(batch *b) {
    return g_state.launch(b->stream, run, b) == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
}
static size_t size_of(ncclDataType_t type) {
    return type == ncclFloat32 ? 4 : type == ncclBfloat16 ? 2 : 1;
}

/* ---- the calls ---- */

ncclResult_t ncclGroupStart(void) {
    g_depth++;
    return ncclSuccess;
}
ncclResult_t ncclGroupEnd(void) {
    batch *b = g_group;
    if (--g_depth > 0 || !b) return ncclSuccess;
    g_group = NULL;
    g_state.groups++;
    return queue(b);
}

/* Outside a group two ranks that send to each other would wait for ever: not allowed here. */
static ncclResult_t put_in_group(void *at, size_t bytes, int peer, bool is_send, ncclComm_t comm,
                                 cudaStream_t stream) {
    if (g_state.fail_call != ncclSuccess) return g_state.fail_call;
    if (g_depth == 0 || peer < 0 || peer >= comm->size || peer == comm->rank) {
        return ncclInvalidUsage;
    }
    if (!g_group) g_group = new_batch(comm, stream);
    if (g_group->count == BATCH_MAX) return ncclInvalidUsage;
    add(g_group, at, bytes, peer, is_send);
    return ncclSuccess;
}
ncclResult_t ncclSend(const void *from, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream) {
    void *at = NULL;
    memcpy(&at, &from, sizeof at);
    return put_in_group(at, count * size_of(type), peer, true, comm, stream);
}
ncclResult_t ncclRecv(void *to, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
    return put_in_group(to, count * size_of(type), peer, false, comm, stream);
}

/* A rank's own part goes through its own channel, as the others do through theirs. */
ncclResult_t ncclAllGather(const void *part, void *whole, size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream) {
    if (g_state.fail_call != ncclSuccess) return g_state.fail_call;
    batch *b = new_batch(comm, stream);
    void *own = NULL;
    memcpy(&own, &part, sizeof own);
    const size_t bytes = count * size_of(type);
    for (int r = 0; r < comm->size; r++) {
        add(b, own, bytes, r, true);
        add(b, (char *)whole + (size_t)r * bytes, bytes, r, false);
    }
    g_state.all_gathers++;
    return queue(b);
}

ncclResult_t ncclReduceScatter(const void *whole, void *part, size_t count, ncclDataType_t type,
                               ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
    if (g_state.fail_call != ncclSuccess) return g_state.fail_call;
    if (type != ncclFloat32 || op != ncclSum) return ncclInvalidArgument;
    batch *b = new_batch(comm, stream);
    float *from = NULL;
    memcpy(&from, &whole, sizeof from);
    b->parts = calloc((size_t)comm->size * count, sizeof *b->parts);
    if (!b->parts) abort();
    b->sum_to = part;
    b->n = count;
    for (int r = 0; r < comm->size; r++) {
        add(b, from + (size_t)r * count, count * sizeof(float), r, true);
        add(b, b->parts + (size_t)r * count, count * sizeof(float), r, false);
    }
    g_state.reduce_scatters++;
    return queue(b);
}
