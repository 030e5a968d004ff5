/* The CPU: each level with 1, 2, 2 and 3 threads. */
#include "base/check.h"
#include "tests/support/op_check.h"

static const int32_t g_threads[] = {1, 2, 2, 3};

static int runs(int group, const op_case *c) {
    (void)group, (void)c;
    return SEO_COUNT_OF(g_threads);
}
static bool open_target(int group, int run, op_run *on) {
    on->dev = open_device((seo_cpu_level)(SEO_CPU_PLAIN + group), g_threads[run]);
    return on->dev != NULL;
}
static void close_target(op_run *on) {
    seo_device_close(on->dev);
}
static bool fresh_seeds(void) {
    return true;
}

const target_list g_targets = {.is_cpu = true,
                               .last_storage = SEO_DTYPE_F32,
                               .groups = SEO_CPU_AVX512 - SEO_CPU_PLAIN + 1,
                               .runs = runs,
                               .open = open_target,
                               .close = close_target,
                               .fresh_seeds = fresh_seeds};
