/* Finds how many threads and which instruction level this process may use. The quota of a container
 * is in no affinity mask, so it is read from the cgroup files (Linux: version 2, then version 1);
 * files that are absent or unreadable mean no limit. */
#include "kernels/device_limits.h"

#include <omp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

enum { PATH_MAX_BYTES = 1024, LINE_MAX_BYTES = 768 };

const char *seo_cpu_level_name(seo_cpu_level level) {
    static const char *const names[] = {
        [SEO_CPU_AUTO] = "auto",
        [SEO_CPU_PLAIN] = "plain",
        [SEO_CPU_AVX2] = "avx2",
        [SEO_CPU_AVX512] = "avx512",
    };
    return names[level];
}

bool seo_cpu_level_available(seo_cpu_level level) {
    switch (level) {
    case SEO_CPU_AUTO: return false;
    case SEO_CPU_PLAIN: return true;
    case SEO_CPU_AVX2:
#if defined(SEO_HAVE_CPU_avx2)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
        return false;
#endif
    case SEO_CPU_AVX512:
#if defined(SEO_HAVE_CPU_avx512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
        return false;
#endif
    }
    return false;
}

int64_t seo_cpu_quota_parse(const char *text) {
    char *end = NULL;
    long long quota = strtoll(text, &end, 10);
    if (end == text || quota <= 0) return 0;
    const char *second = end;
    long long period = strtoll(second, &end, 10);
    if (end == second || period <= 0) return 0;
    return seo_div_up(quota, period);
}

/* The first line of `path` without its newline; false when there is none. */
static bool read_line(const char *path, char *line, int bytes) {
    FILE *file = fopen(path, "re");
    if (!file) return false;
    bool got = fgets(line, bytes, file) != NULL;
    fclose(file);
    if (got) line[strcspn(line, "\n")] = '\0';
    return got;
}

/* Version 2: every group from ours up to the root may carry a limit; the least one counts. */
static int64_t quota_v2(void) {
    char group[LINE_MAX_BYTES], path[PATH_MAX_BYTES], line[64];
    int64_t least = 0;
    if (!read_line("/proc/self/cgroup", group, sizeof group)) return 0;
    if (strncmp(group, "0::/", 4) != 0) return 0;
    char *name = group + 3;
    for (;;) {
        snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", name);
        int64_t quota = read_line(path, line, sizeof line) ? seo_cpu_quota_parse(line) : 0;
        if (quota > 0 && (least == 0 || quota < least)) least = quota;
        char *slash = strrchr(name, '/');
        if (!slash) return least;
        *slash = '\0';
    }
}

static int64_t quota_v1(void) {
    char quota[32], period[32], both[72];
    if (!read_line("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", quota, sizeof quota)) return 0;
    if (!read_line("/sys/fs/cgroup/cpu/cpu.cfs_period_us", period, sizeof period)) return 0;
    snprintf(both, sizeof both, "%s %s", quota, period);
    return seo_cpu_quota_parse(both);
}

/* 0 when the mask cannot be had: more processors than the largest mask tried. */
static int64_t affinity_count(void) {
    for (int cpus = 1024; cpus <= 1 << 16; cpus *= 4) {
        cpu_set_t *set = CPU_ALLOC((size_t)cpus);
        if (!set) return 0;
        size_t bytes = CPU_ALLOC_SIZE((size_t)cpus);
        int64_t count = sched_getaffinity(0, bytes, set) == 0 ? CPU_COUNT_S(bytes, set) : 0;
        CPU_FREE(set);
        if (count > 0) return count;
    }
    return 0;
}

int32_t seo_cpu_threads_allowed(void) {
    int64_t threads = seo_max_i64(omp_get_max_threads(), 1);
    int64_t limits[] = {affinity_count(), quota_v2(), quota_v1()};
    for (int i = 0; i < SEO_COUNT_OF(limits); i++) {
        if (limits[i] > 0) threads = seo_min_i64(threads, limits[i]);
    }
    return (int32_t)threads;
}
