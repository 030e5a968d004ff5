/* Memory of the CPU device, and the table that joins the operators of this level. Copies and zeroes
 * are split over the device's threads, which also places pages near the threads that use them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "kernels/cpu/cpu.h"

enum { ALIGN_BYTES = 256, HUGE_PAGE_BYTES = 2 << 20, PIECE_BYTES = 1 << 20 };

static int threads_for(const seo_device *dev, int64_t bytes) {
    return seo_cpu_threads(dev, bytes / 4);
}

static seo_err memory_zero(seo_device *dev, void *dst, int64_t bytes) {
    int64_t pieces = seo_div_up(bytes, PIECE_BYTES);
#pragma omp parallel for num_threads(threads_for(dev, bytes)) schedule(static)
    for (int64_t i = 0; i < pieces; i++) {
        int64_t from = i * PIECE_BYTES;
        memset((char *)dst + from, 0, (size_t)seo_min_i64(PIECE_BYTES, bytes - from));
    }
    return SEO_OK;
}

static seo_err memory_copy(seo_device *dev, void *dst, const void *src, int64_t bytes) {
    int64_t pieces = seo_div_up(bytes, PIECE_BYTES);
#pragma omp parallel for num_threads(threads_for(dev, bytes)) schedule(static)
    for (int64_t i = 0; i < pieces; i++) {
        int64_t from = i * PIECE_BYTES;
        memcpy((char *)dst + from, (const char *)src + from,
               (size_t)seo_min_i64(PIECE_BYTES, bytes - from));
    }
    return SEO_OK;
}

/* Memory with whatever is in it. What the machine does not have is refused here: the system would
 * promise it and kill the process later. */
static seo_err memory_take(seo_device *dev, int64_t bytes, void **out) {
    const int64_t page_bytes = sysconf(_SC_PAGESIZE), pages = sysconf(_SC_PHYS_PAGES);
    const int64_t align = bytes >= HUGE_PAGE_BYTES ? HUGE_PAGE_BYTES : ALIGN_BYTES;
    int64_t machine_bytes = 0;
    if (!seo_mul_ok(page_bytes, pages, &machine_bytes)) machine_bytes = INT64_MAX / 2;
    *out = bytes <= machine_bytes ? aligned_alloc((size_t)align, (size_t)seo_round_up(bytes, align))
                                  : NULL;
    if (!*out) {
        return SEO_FAIL(SEO_ERR_MEMORY,
                        "%s: %.3g GiB cannot be had (the machine has %.3g GiB); a smaller batch or "
                        "model needs less",
                        dev->name, (double)bytes / (1 << 30), (double)machine_bytes / (1 << 30));
    }
    /* Huge pages save misses in the address cache; a kernel that declines costs nothing. */
    if (align == HUGE_PAGE_BYTES) {
        (void)madvise(*out, (size_t)seo_round_up(bytes, align), MADV_HUGEPAGE);
    }
    return SEO_OK;
}

static seo_err memory_alloc(seo_device *dev, int64_t bytes, void **out) {
    seo_err err = memory_take(dev, bytes, out);
    return err != SEO_OK ? err : memory_zero(dev, *out, bytes);
}

static void memory_free(seo_device *dev, void *ptr) {
    (void)dev;
    free(ptr);
}

static seo_err device_open(seo_device *dev, const void *options) {
    const seo_cpu_options *o = options;
    dev->level = o->level;
    dev->threads = o->threads;
    snprintf(dev->name, sizeof dev->name, "%s, %d thread%s", dev->backend->name, (int)dev->threads,
             dev->threads == 1 ? "" : "s");
    dev->scratch_bytes =
        seo_max_i64(SEO_CPU_SHARED_BYTES, (int64_t)dev->threads * SEO_CPU_SCRATCH_BYTES);
    return memory_take(dev, dev->scratch_bytes, &dev->scratch);
}

static void device_close(seo_device *dev) {
    free(dev->scratch);
}

static seo_err device_memory(seo_device *dev, int64_t *free_bytes, int64_t *total_bytes) {
    (void)dev;
    const int64_t page_bytes = sysconf(_SC_PAGESIZE);
    *free_bytes = page_bytes * sysconf(_SC_AVPHYS_PAGES);
    *total_bytes = page_bytes * sysconf(_SC_PHYS_PAGES);
    return SEO_OK;
}

/* An event is a point in time: everything that was queued has been done. */
static seo_err event_open(seo_device *dev, void **event) {
    *event = calloc(1, sizeof(struct timespec));
    return *event ? SEO_OK : SEO_FAIL(SEO_ERR_MEMORY, "%s: no memory for an event", dev->name);
}

static seo_err event_record(seo_device *dev, void *event) {
    (void)dev;
    clock_gettime(CLOCK_MONOTONIC, event);
    return SEO_OK;
}

static seo_err event_elapsed(seo_device *dev, void *from, void *to, double *ms) {
    (void)dev;
    const struct timespec *a = from, *b = to;
    *ms = (double)(b->tv_sec - a->tv_sec) * 1e3 + (double)(b->tv_nsec - a->tv_nsec) * 1e-6;
    return SEO_OK;
}

static void event_close(seo_device *dev, void *event) {
    (void)dev;
    free(event);
}

static seo_err device_sync(seo_device *dev) {
    (void)dev;
    return SEO_OK;
}

#define LEVEL_TEXT2(level)       #level
#define LEVEL_TEXT(level)        LEVEL_TEXT2(level)
#define BACKEND_OF_LEVEL2(level) seo_backend_cpu_##level
#define BACKEND_OF_LEVEL(level)  BACKEND_OF_LEVEL2(level)

const seo_backend BACKEND_OF_LEVEL(SEO_CPU_LEVEL) = {
    .name = "cpu " LEVEL_TEXT(SEO_CPU_LEVEL),
#define SEO_OP(op) .op = SEO_CPU_FN(op),
#include "kernels/ops.def"
#undef SEO_OP
    .row_multiple = 1,
    .open = device_open,
    .alloc = memory_alloc,
    .free = memory_free,
    .copy_in = memory_copy,
    .copy_out = memory_copy,
    .copy = memory_copy,
    .zero = memory_zero,
    .sync = device_sync,
    .memory = device_memory,
    .close = device_close,
    .event_open = event_open,
    .event_record = event_record,
    .event_elapsed = event_elapsed,
    .event_close = event_close,
};
