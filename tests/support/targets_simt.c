/* The CUDA kernels on the emulated GPU. One device serves all runs; what differs from run to run is
 * set in it: the schedule, how many multiprocessors kernels are told of, whether queued work waits.
 */
#include <stdio.h>

#include <simt_options.h>

#include "base/check.h"
#include "kernels/cuda/cuda.h"
#include "tests/simt/device.h"
#include "tests/support/op_check.h"

/* The arithmetic of tensor cores as published is slow; exact sums are enough for the schedules. */
typedef struct group {
    int32_t capability; /* that kernels are chosen by */
    bool shifted;
    enum simt_mma_model model;
} group;

static const group g_groups[] = {
    {80, false, SIMT_MMA_EXACT},
    {80, true, SIMT_MMA_SM80},
    {90, false, SIMT_MMA_EXACT},
    {90, true, SIMT_MMA_SM90},
};
static const int32_t g_multiprocessors[] = {132, 1, 3};

static seo_device *g_dev;

/* The plain layer multiplies at 650 million a second; the sanitizers and the checker take their
 * time but need only one look. */
enum { WORK_MAX = 50000000, WORK_MAX_WATCHED = 30000000, WORK_FEW_RUNS = 1000000, FEW_RUNS = 3 };

static bool is_watched(void) {
    return simt_is_checking() || simt_has_asan();
}
static double work_max(void) {
    return is_watched() ? WORK_MAX_WATCHED : WORK_MAX;
}
static bool fresh_seeds(void) {
    return !is_watched() && simt_schedule_count() > 1;
}

static int runs(int which, const op_case *c) {
    const group *g = &g_groups[which];
    if (g->capability > 80 && !c->by_capability) return 0;
    if (g->shifted) return 1;
    const int all = simt_schedule_count();
    return all > FEW_RUNS && (c->work > WORK_FEW_RUNS || seed_is_fresh()) ? FEW_RUNS : all;
}

/* The first ones differ in the moment of asynchronous work, and in the order too where not all of
 * them run. */
static int schedule_of(int run) {
    const int all = simt_schedule_count();
    return all > FEW_RUNS ? run * 5 % all : run;
}

static bool open_target(int which, int run, op_run *on) {
    const group *g = &g_groups[which];
    if (g_dev && g_dev->lost) { /* in a test that failed */
        seo_device_close(g_dev);
        simt_clear_error();
        g_dev = NULL;
    }
    if (!g_dev) must(seo_device_open_simt(NULL, &g_dev));
    simt_set_schedule(schedule_of(run));
    simt_options_get()->mma_model = g->model;
    seo_cuda_of(g_dev)->capability = g->capability;
    seo_cuda_of(g_dev)->multiprocessors =
        g_multiprocessors[(run + run / 3) % SEO_COUNT_OF(g_multiprocessors)];
    on->dev = g_dev;
    on->shifted = g->shifted;
    snprintf(on->note, sizeof on->note, "as sm_%d, %d multiprocessors, %s%s", (int)g->capability,
             (int)seo_cuda_of(g_dev)->multiprocessors, simt_schedule_name(),
             g->shifted ? ", views" : "");
    return true;
}

static void close_target(op_run *on) {
    (void)on;
}

const target_list g_targets = {.is_cpu = false,
                               .last_storage = SEO_DTYPE_BF16,
                               .groups = SEO_COUNT_OF(g_groups),
                               .runs = runs,
                               .open = open_target,
                               .close = close_target,
                               .work_max = work_max,
                               .fresh_seeds = fresh_seeds};
