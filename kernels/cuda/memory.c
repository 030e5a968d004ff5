/* Memory of the GPU, and its copies from and to the host. Those go through pinned memory: a copy
 * from the caller's pages would have the driver wait for it, and pin them anew each time.
 *
 * Towards the device there is a ring: the caller's bytes are in it when copy_in returns, and the
 * GPU fetches them when the queue comes to it. A place in the ring is free again when the event
 * recorded behind its copy has passed, which is waited for only when the ring has gone round.
 * Towards the host two buffers take turns, so that the GPU fills one while the other is emptied. */
#include "kernels/cuda/memory.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "kernels/cuda/stream.h"

enum {
    RING_BYTES = 16 << 20,
    PIECE_BYTES = 4 << 20, /* the most that one copy moves */
    RING_ALIGN_BYTES = 256,
    PENDING_MAX = 64,
    OUT_BUFFERS = 2
};

/* A copy that the GPU may not have done yet. `from` counts all bytes that went through the ring. */
typedef struct pending_copy {
    int64_t from;
    cudaEvent_t done;
} pending_copy;

struct seo_cuda_staging {
    unsigned char *ring;
    int64_t head;                      /* all bytes that went through the ring */
    pending_copy pending[PENDING_MAX]; /* a ring as well: oldest first */
    int64_t first, count;
    unsigned char *out[OUT_BUFFERS];
    cudaEvent_t filled[OUT_BUFFERS];
};

static seo_err take_pinned(unsigned char **out, int64_t bytes) {
    void *ptr = NULL;
    const cudaError_t result = cudaHostAlloc(&ptr, (size_t)bytes, cudaHostAllocPortable);
    *out = ptr;
    return seo_cuda_check(result, "pinned host memory for copies");
}

static seo_err open_event(cudaEvent_t *event) {
    return seo_cuda_check(cudaEventCreateWithFlags(event, cudaEventDisableTiming),
                          "an event for copies");
}

seo_err seo_cuda_staging_open(seo_device *dev) {
    seo_err err = SEO_OK;
    struct seo_cuda_staging *s = calloc(1, sizeof *s);
    if (!s) return SEO_FAIL(SEO_ERR_MEMORY, "%s: no memory for copies", dev->name);
    seo_cuda_of(dev)->staging = s;
    SEO_TRY(take_pinned(&s->ring, RING_BYTES));
    for (int64_t i = 0; i < PENDING_MAX; i++) SEO_TRY(open_event(&s->pending[i].done));
    for (int64_t i = 0; i < OUT_BUFFERS; i++) {
        SEO_TRY(take_pinned(&s->out[i], PIECE_BYTES));
        SEO_TRY(open_event(&s->filled[i]));
    }
done:
    return err;
}

void seo_cuda_staging_close(seo_cuda *cuda) {
    struct seo_cuda_staging *s = cuda->staging;
    if (!s) return;
    for (int64_t i = 0; i < OUT_BUFFERS; i++) {
        if (s->filled[i]) (void)cudaEventDestroy(s->filled[i]);
        if (s->out[i]) (void)cudaFreeHost(s->out[i]);
    }
    for (int64_t i = 0; i < PENDING_MAX; i++) {
        if (s->pending[i].done) (void)cudaEventDestroy(s->pending[i].done);
    }
    if (s->ring) (void)cudaFreeHost(s->ring);
    free(s);
    cuda->staging = NULL;
}

seo_err seo_cuda_take(seo_device *dev, int64_t bytes, void **out) {
    *out = NULL;
    const cudaError_t result = cudaMalloc(out, (size_t)bytes);
    if (result != cudaErrorMemoryAllocation) return seo_cuda_check(result, "an allocation");
    *out = NULL;
    (void)cudaGetLastError();
    size_t free_bytes = 0, total_bytes = 0;
    (void)cudaMemGetInfo(&free_bytes, &total_bytes);
    const double gib = 1 << 30;
    return SEO_FAIL(SEO_ERR_MEMORY,
                    "%s: %.3g GiB cannot be had: %.3g of %.3g GiB are free; a smaller batch or "
                    "model needs less",
                    dev->name, (double)bytes / gib, (double)free_bytes / gib,
                    (double)total_bytes / gib);
}

seo_err seo_cuda_alloc(seo_device *dev, int64_t bytes, void **out) {
    seo_err err = SEO_OK;
    SEO_TRY(seo_cuda_take(dev, bytes, out));
    SEO_TRY(seo_cuda_zero(dev, *out, bytes));
done:
    if (err != SEO_OK) {
        if (*out) (void)cudaFree(*out);
        *out = NULL;
    }
    return err;
}

void seo_cuda_free(seo_device *dev, void *ptr) {
    (void)dev;
    (void)cudaFree(ptr);
}

seo_err seo_cuda_zero(seo_device *dev, void *dst, int64_t bytes) {
    if (bytes == 0) return SEO_OK;
    return seo_cuda_check(cudaMemsetAsync(dst, 0, (size_t)bytes, seo_cuda_of(dev)->stream),
                          "zeroing");
}

seo_err seo_cuda_copy(seo_device *dev, void *dst, const void *src, int64_t bytes) {
    if (bytes == 0) return SEO_OK;
    return seo_cuda_check(cudaMemcpyAsync(dst, src, (size_t)bytes, cudaMemcpyDeviceToDevice,
                                          seo_cuda_of(dev)->stream),
                          "a copy");
}

seo_err seo_cuda_memory(seo_device *dev, int64_t *free_bytes, int64_t *total_bytes) {
    (void)dev;
    size_t free_size = 0, total_size = 0;
    const seo_err err = seo_cuda_check(cudaMemGetInfo(&free_size, &total_size), "free memory");
    *free_bytes = (int64_t)free_size;
    *total_bytes = (int64_t)total_size;
    return err;
}

static seo_err wait_for(cudaEvent_t event) {
    return seo_cuda_check(cudaEventSynchronize(event), "a copy");
}

/* The next `bytes` of the ring, in one stretch, and the event to record behind their copy. Places
 * are given back in the order in which they were taken. */
static seo_err take_place(struct seo_cuda_staging *s, int64_t bytes, unsigned char **place,
                          cudaEvent_t *done) {
    int64_t from = s->head;
    if (from % RING_BYTES + bytes > RING_BYTES) from = seo_round_up(from, RING_BYTES);
    const int64_t end = seo_round_up(from + bytes, RING_ALIGN_BYTES);
    while (s->count > 0 &&
           (s->count == PENDING_MAX || end - s->pending[s->first].from > RING_BYTES)) {
        const seo_err err = wait_for(s->pending[s->first].done);
        if (err != SEO_OK) return err;
        s->first = (s->first + 1) % PENDING_MAX;
        s->count--;
    }
    pending_copy *copy = &s->pending[(s->first + s->count++) % PENDING_MAX];
    copy->from = from;
    s->head = end;
    *place = s->ring + from % RING_BYTES;
    *done = copy->done;
    return SEO_OK;
}

seo_err seo_cuda_copy_in(seo_device *dev, void *dst, const void *src, int64_t bytes) {
    seo_err err = SEO_OK;
    const seo_cuda *cuda = seo_cuda_of(dev);
    for (int64_t at = 0; at < bytes; at += PIECE_BYTES) {
        const size_t piece = (size_t)seo_min_i64(PIECE_BYTES, bytes - at);
        unsigned char *place = NULL;
        cudaEvent_t done = NULL;
        SEO_TRY(take_place(cuda->staging, (int64_t)piece, &place, &done));
        memcpy(place, (const char *)src + at, piece);
        SEO_TRY(seo_cuda_check(
            cudaMemcpyAsync((char *)dst + at, place, piece, cudaMemcpyHostToDevice, cuda->stream),
            "a copy to the device"));
        SEO_TRY(seo_cuda_check(cudaEventRecord(done, cuda->stream), "a copy to the device"));
    }
done:
    return err;
}

/* Queues the copy of piece `index` into the buffer whose turn it is. */
static seo_err fetch(const seo_cuda *cuda, const void *src, int64_t index, int64_t bytes) {
    struct seo_cuda_staging *s = cuda->staging;
    const int64_t at = index * PIECE_BYTES;
    const int64_t turn = index % OUT_BUFFERS;
    const seo_err err = seo_cuda_check(cudaMemcpyAsync(s->out[turn], (const char *)src + at,
                                                       (size_t)seo_min_i64(PIECE_BYTES, bytes - at),
                                                       cudaMemcpyDeviceToHost, cuda->stream),
                                       "a copy to the host");
    if (err != SEO_OK) return err;
    return seo_cuda_check(cudaEventRecord(s->filled[turn], cuda->stream), "a copy to the host");
}

seo_err seo_cuda_copy_out(seo_device *dev, void *dst, const void *src, int64_t bytes) {
    seo_err err = SEO_OK;
    const seo_cuda *cuda = seo_cuda_of(dev);
    const int64_t pieces = seo_div_up(bytes, PIECE_BYTES);
    for (int64_t i = 0; i <= pieces; i++) {
        if (i < pieces) SEO_TRY(fetch(cuda, src, i, bytes));
        if (i == 0) continue;
        const int64_t at = (i - 1) * PIECE_BYTES;
        const int64_t turn = (i - 1) % OUT_BUFFERS;
        SEO_TRY(wait_for(cuda->staging->filled[turn]));
        memcpy((char *)dst + at, cuda->staging->out[turn],
               (size_t)seo_min_i64(PIECE_BYTES, bytes - at));
    }
    SEO_TRY(bytes > 0 ? seo_cuda_report_fault(dev) : seo_cuda_sync(dev));
done:
    return err;
}
