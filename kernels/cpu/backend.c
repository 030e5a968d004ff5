/* Memory of the CPU device, and the table that joins the operators of this level. Copies and zeroes
 * are split over the device's threads, which also places pages near the threads that use them. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
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

static seo_err device_open(seo_device *dev) {
    dev->scratch_bytes =
        seo_max_i64(SEO_CPU_SHARED_BYTES, (int64_t)dev->threads * SEO_CPU_SCRATCH_BYTES);
    return memory_take(dev, dev->scratch_bytes, &dev->scratch);
}

static void device_close(seo_device *dev) {
    free(dev->scratch);
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
    .open = device_open,
    .alloc = memory_alloc,
    .free = memory_free,
    .copy_in = memory_copy,
    .copy_out = memory_copy,
    .copy = memory_copy,
    .zero = memory_zero,
    .sync = device_sync,
    .close = device_close,
};
