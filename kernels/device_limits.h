/* Private to kernels/: what this machine and this process's limits leave to us. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "kernels/device.h"

#ifdef __cplusplus
extern "C" {
#endif

/* True when this build has the level, and both the processor and the operating system support it.
 * AUTO is no level: false. */
bool seo_cpu_level_available(seo_cpu_level level);
/* "plain", "avx2", "avx512". */
const char *seo_cpu_level_name(seo_cpu_level level);

/* The least of what OpenMP was told (OMP_NUM_THREADS), the affinity mask and the cgroup's quota
 * rounded up; at least 1. */
int32_t seo_cpu_threads_allowed(void);

/* Processors that a quota file's text allows: "max 100000" and "-1 100000" give 0, no limit;
 * "150000 100000" gives 2. Text that is neither gives 0. */
int64_t seo_cpu_quota_parse(const char *text);

#ifdef __cplusplus
}
#endif
