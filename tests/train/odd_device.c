#include "odd_device.h"

#include "base/check.h"
#include "kernels/backend.h"

static seo_backend g_backend;
static int64_t g_limit_bytes;

static seo_err limited_memory(seo_device *dev, int64_t *free_bytes, int64_t *total_bytes) {
    *total_bytes = g_limit_bytes;
    *free_bytes = seo_max_i64(0, g_limit_bytes - dev->bytes);
    return SEO_OK;
}

static seo_err limited_alloc(seo_device *dev, int64_t bytes, void **out) {
    if (dev->bytes + bytes <= g_limit_bytes) {
        return seo_backend_cpu_plain.alloc(dev, bytes, out);
    }
    return SEO_FAIL(SEO_ERR_MEMORY, "%s: %lld bytes wanted, %lld of %lld are free", dev->name,
                    (long long)bytes, (long long)(g_limit_bytes - dev->bytes),
                    (long long)g_limit_bytes);
}

seo_device *odd_device_open(odd_options options) {
    seo_device *dev = NULL;
    g_backend = seo_backend_cpu_plain;
    if (options.row_multiple > 0) g_backend.row_multiple = options.row_multiple;
    g_backend.bf16 = options.bf16;
    if (options.memory_bytes > 0) {
        g_limit_bytes = options.memory_bytes;
        g_backend.alloc = limited_alloc;
        g_backend.memory = limited_memory;
    }
    const seo_cpu_options cpu = {.threads = 1, .level = SEO_CPU_PLAIN};
    const seo_err err = seo_device_open_backend(&g_backend, &cpu, &dev);
    SEO_ASSERT(err == SEO_OK);
    if (options.gpu) dev->level = SEO_CPU_AUTO;
    return dev;
}
