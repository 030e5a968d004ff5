/* A device: memory, copies, and a stream on which operators run in order.
 *
 * On the CPU everything is done when a call returns; on a device with a stream calls are queued,
 * and results may be read after seo_device_sync or a copy_out. Callers write for the second case.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_device seo_device;

/* Which build of the CPU kernels runs. AUTO takes the best the processor has; a level it has not is
 * SEO_ERR_UNSUPPORTED. Bits may differ between levels, never between thread counts. */
typedef enum seo_cpu_level {
    SEO_CPU_AUTO,
    SEO_CPU_PLAIN,
    SEO_CPU_AVX2, /* AVX2 + FMA */
    SEO_CPU_AVX512
} seo_cpu_level;

typedef struct seo_cpu_options {
    int32_t threads; /* 0: what the affinity mask, the cgroup quota and OMP_NUM_THREADS allow */
    seo_cpu_level level;
} seo_cpu_options;

/* Opens the host's processor as a device; the caller closes it. */
seo_err seo_device_open_cpu(const seo_cpu_options *options, seo_device **out);
/* Frees what is still allocated on it. NULL is fine. */
void seo_device_close(seo_device *dev);

/* "cpu avx512, 2 threads"; owned by the device. */
const char *seo_device_name(const seo_device *dev);
int32_t seo_device_threads(const seo_device *dev);
seo_cpu_level seo_device_cpu_level(const seo_device *dev);

/* Zeroed memory aligned to 256 bytes. After seo_device_seal a further allocation is refused with
 * SEO_ERR_MEMORY: a training step must not allocate. */
seo_err seo_device_alloc(seo_device *dev, int64_t bytes, void **out);
void seo_device_free(seo_device *dev, void *ptr);
void seo_device_seal(seo_device *dev);
int64_t seo_device_bytes(const seo_device *dev); /* allocated now */

seo_err seo_device_copy_in(seo_device *dev, void *dst, const void *host_src, int64_t bytes);
/* Waits for queued work that precedes it. */
seo_err seo_device_copy_out(seo_device *dev, void *host_dst, const void *src, int64_t bytes);
seo_err seo_device_copy(seo_device *dev, void *dst, const void *src, int64_t bytes);
seo_err seo_device_zero(seo_device *dev, void *dst, int64_t bytes);
seo_err seo_device_sync(seo_device *dev);

#ifdef __cplusplus
}
#endif
