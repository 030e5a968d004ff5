/* Devices: which backend, how many threads, and a list of what was allocated. Memory itself is the
 * backend's business; refused here are wrong options, and allocations after the seal. */
#include "kernels/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "kernels/backend.h"
#include "kernels/device_limits.h"

enum { THREADS_MAX = 4096 };

static const seo_backend *backend_of(seo_cpu_level level) {
    switch (level) {
#if defined(SEO_HAVE_CPU_avx2)
    case SEO_CPU_AVX2: return &seo_backend_cpu_avx2;
#endif
#if defined(SEO_HAVE_CPU_avx512)
    case SEO_CPU_AVX512: return &seo_backend_cpu_avx512;
#endif
    default: return &seo_backend_cpu_plain;
    }
}

static seo_err choose_level(seo_cpu_level asked, seo_cpu_level *out) {
    seo_cpu_level best = SEO_CPU_PLAIN;
    char names[64] = "";
    for (int i = SEO_CPU_PLAIN; i <= SEO_CPU_AVX512; i++) {
        if (!seo_cpu_level_available((seo_cpu_level)i)) continue;
        best = (seo_cpu_level)i;
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "",
                 seo_cpu_level_name(best));
    }
    if (asked < SEO_CPU_AUTO || asked > SEO_CPU_AVX512) {
        return SEO_FAIL(SEO_ERR_ARG, "cpu: there is no instruction level %d", (int)asked);
    }
    *out = asked == SEO_CPU_AUTO ? best : asked;
    if (!seo_cpu_level_available(*out)) {
        return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                        "cpu: the instruction level %s is not available here; available: %s",
                        seo_cpu_level_name(*out), names);
    }
    return SEO_OK;
}

static int32_t automatic_threads(int32_t sharers) {
    const int32_t allowed = seo_cpu_threads_allowed();
    return sharers > 1 ? (int32_t)seo_max_i64(allowed / sharers, 1) : allowed;
}

seo_err seo_device_open_cpu(const seo_cpu_options *options, seo_device **out) {
    seo_err err = SEO_OK;
    *out = NULL;
    seo_cpu_level level = SEO_CPU_PLAIN;
    SEO_TRY(choose_level(options->level, &level));
    if (options->threads < 0 || options->threads > THREADS_MAX) {
        return SEO_FAIL(SEO_ERR_ARG, "cpu: threads must be between 0 (automatic) and %d, is %d",
                        THREADS_MAX, (int)options->threads);
    }
    const seo_cpu_options resolved = {
        .threads = options->threads > 0 ? options->threads : automatic_threads(options->sharers),
        .level = level};
    SEO_TRY(seo_device_open_backend(backend_of(level), &resolved, out));
done:
    return err;
}

seo_err seo_device_open_backend(const seo_backend *backend, const void *options, seo_device **out) {
    *out = NULL;
    seo_device *dev = calloc(1, sizeof *dev);
    if (!dev) return SEO_FAIL(SEO_ERR_MEMORY, "%s: no memory for the device", backend->name);
    dev->backend = backend;
    const seo_err err = backend->open(dev, options);
    if (err == SEO_OK) {
        *out = dev;
    } else {
        seo_device_close(dev);
    }
    return err;
}

void seo_device_close(seo_device *dev) {
    if (!dev) return;
    if (dev->capturing) {
        void *graph = NULL;
        (void)dev->backend->capture_end(dev, &graph);
        dev->backend->graph_free(dev, graph);
    }
    for (int64_t i = dev->allocation_count - 1; i >= 0; i--) {
        dev->backend->free(dev, dev->allocations[i].ptr);
    }
    free(dev->allocations);
    dev->backend->close(dev);
    free(dev);
}

const char *seo_device_name(const seo_device *dev) {
    return dev->name;
}
int32_t seo_device_threads(const seo_device *dev) {
    return dev->threads;
}
seo_cpu_level seo_device_cpu_level(const seo_device *dev) {
    return dev->level;
}
bool seo_device_is_cpu(const seo_device *dev) {
    return dev->level != SEO_CPU_AUTO;
}
bool seo_device_has_bf16(const seo_device *dev) {
    return dev->backend->bf16;
}
int64_t seo_device_row_multiple(const seo_device *dev) {
    return dev->backend->row_multiple;
}
void seo_device_seal(seo_device *dev) {
    dev->sealed = true;
}
int64_t seo_device_bytes(const seo_device *dev) {
    return dev->bytes;
}

seo_err seo_device_enter(seo_device *dev, seo_device_call kind, const char *call) {
    if (dev->lost) {
        return SEO_FAIL(SEO_ERR_DEVICE, "%s: closed to further work after an error: %s", dev->name,
                        dev->lost_why);
    }
    if (dev->capturing && kind == SEO_CALL_OUTSIDE_CAPTURE) {
        return seo_device_leave(dev, SEO_FAIL(SEO_ERR_ARG,
                                              "%s: %s cannot be part of a graph; end the capture "
                                              "first",
                                              dev->name, call));
    }
    return SEO_OK;
}

/* What fails during a capture has not run and leaves the device as it was. */
seo_err seo_device_leave(seo_device *dev, seo_err err) {
    if (err != SEO_OK && dev->capturing) {
        if (dev->capture_err == SEO_OK) dev->capture_err = err;
    } else if (err == SEO_ERR_DEVICE && !dev->lost) {
        dev->lost = true;
        snprintf(dev->lost_why, sizeof dev->lost_why, "%s", seo_err_detail());
    }
    return err;
}

static seo_err reserve_allocation(seo_device *dev) {
    if (dev->allocation_count < dev->allocation_capacity) return SEO_OK;
    int64_t capacity = seo_max_i64(16, dev->allocation_capacity * 2);
    void *grown = realloc(dev->allocations, (size_t)capacity * sizeof *dev->allocations);
    if (!grown) return SEO_FAIL(SEO_ERR_MEMORY, "%s: no memory for the allocation list", dev->name);
    dev->allocations = grown;
    dev->allocation_capacity = capacity;
    return SEO_OK;
}

seo_err seo_device_alloc(seo_device *dev, int64_t bytes, void **out) {
    seo_err err = SEO_OK;
    *out = NULL;
    SEO_ASSERT(bytes >= 0);
    if (dev->sealed) {
        return SEO_FAIL(SEO_ERR_MEMORY,
                        "%s: %lld bytes asked for after the device was sealed; all memory is taken "
                        "before the first step",
                        dev->name, (long long)bytes);
    }
    SEO_TRY(seo_device_enter(dev, SEO_CALL_OUTSIDE_CAPTURE, "an allocation"));
    SEO_TRY(reserve_allocation(dev));
    SEO_TRY(seo_device_leave(dev, dev->backend->alloc(dev, seo_max_i64(bytes, 1), out)));
    dev->allocations[dev->allocation_count++] = (seo_allocation){.ptr = *out, .bytes = bytes};
    dev->bytes += bytes;
done:
    return err;
}

void seo_device_free(seo_device *dev, void *ptr) {
    if (!ptr) return;
    SEO_ASSERT(!dev->capturing);
    int64_t i = 0;
    while (i < dev->allocation_count && dev->allocations[i].ptr != ptr) i++;
    SEO_ASSERT(i < dev->allocation_count);
    dev->bytes -= dev->allocations[i].bytes;
    dev->allocations[i] = dev->allocations[--dev->allocation_count];
    dev->backend->free(dev, ptr);
}

seo_err seo_device_copy_in(seo_device *dev, void *dst, const void *host_src, int64_t bytes) {
    SEO_ASSERT(bytes >= 0);
    const seo_err err = seo_device_enter(dev, SEO_CALL_OUTSIDE_CAPTURE, "a copy from the host");
    if (err != SEO_OK) return err;
    return seo_device_leave(dev, dev->backend->copy_in(dev, dst, host_src, bytes));
}

seo_err seo_device_copy_out(seo_device *dev, void *host_dst, const void *src, int64_t bytes) {
    SEO_ASSERT(bytes >= 0);
    const seo_err err = seo_device_enter(dev, SEO_CALL_OUTSIDE_CAPTURE, "a copy to the host");
    if (err != SEO_OK) return err;
    return seo_device_leave(dev, dev->backend->copy_out(dev, host_dst, src, bytes));
}

seo_err seo_device_copy(seo_device *dev, void *dst, const void *src, int64_t bytes) {
    SEO_ASSERT(bytes >= 0);
    const seo_err err = seo_device_enter(dev, SEO_CALL_CAPTURABLE, "a copy");
    if (err != SEO_OK) return err;
    return seo_device_leave(dev, dev->backend->copy(dev, dst, src, bytes));
}

seo_err seo_device_zero(seo_device *dev, void *dst, int64_t bytes) {
    SEO_ASSERT(bytes >= 0);
    const seo_err err = seo_device_enter(dev, SEO_CALL_CAPTURABLE, "zeroing");
    if (err != SEO_OK) return err;
    return seo_device_leave(dev, dev->backend->zero(dev, dst, bytes));
}

seo_err seo_device_sync(seo_device *dev) {
    const seo_err err = seo_device_enter(dev, SEO_CALL_OUTSIDE_CAPTURE, "sync");
    return err != SEO_OK ? err : seo_device_leave(dev, dev->backend->sync(dev));
}

seo_err seo_device_memory(seo_device *dev, int64_t *free_bytes, int64_t *total_bytes) {
    const seo_err err = seo_device_enter(dev, SEO_CALL_CAPTURABLE, "memory");
    if (err != SEO_OK) return err;
    return seo_device_leave(dev, dev->backend->memory(dev, free_bytes, total_bytes));
}
