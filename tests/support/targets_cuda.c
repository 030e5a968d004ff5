/* A GPU, through the plug-in beside the program; twice, and once more with views. */
#include <stdio.h>

#include "base/check.h"
#include "tests/support/op_check.h"

enum { PLACED, VIEWS, GROUPS };

static seo_device *g_dev;

static seo_err present(void) {
    const seo_cuda_options options = {.matmul = SEO_MATMUL_OWN};
    return g_dev ? SEO_OK : seo_device_open_cuda(&options, &g_dev);
}

static int runs(int group, const op_case *c) {
    (void)c;
    return group == PLACED ? 2 : 1;
}
/* One device serves all runs; one that was lost in a test that failed fails the others too. */
static bool open_target(int group, int run, op_run *on) {
    (void)run;
    SEO_ASSERT(g_dev != NULL);
    on->dev = g_dev;
    on->shifted = group == VIEWS;
    snprintf(on->note, sizeof on->note, "%s", on->shifted ? "views" : "");
    return true;
}
static void close_target(op_run *on) {
    (void)on;
}
static bool fresh_seeds(void) {
    return true;
}

const target_list g_targets = {.is_cpu = false,
                               .last_storage = SEO_DTYPE_BF16,
                               .groups = GROUPS,
                               .present = present,
                               .runs = runs,
                               .open = open_target,
                               .close = close_target,
                               .fresh_seeds = fresh_seeds};
