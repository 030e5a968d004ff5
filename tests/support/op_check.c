#include "tests/support/op_check.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/check.h"
#include "tests/support/compare.h"
#include "tests/support/fill.h"

/* The case that is run, and where; empty between cases. */
static char g_what[384];

void must(seo_err err) {
    if (err == SEO_OK) return;
    fail_msg("%s%s%s: %s", g_what, g_what[0] ? ": " : "", seo_err_text(err), seo_err_detail());
}

void must_fail(seo_err err, seo_err code, const char *text) {
    if (err == code && strstr(seo_err_detail(), text)) return;
    fail_msg("%s%swanted \"%s\" with \"%s\", got \"%s\" with \"%s\"", g_what, g_what[0] ? ": " : "",
             seo_err_text(code), text, seo_err_text(err), err == SEO_OK ? "" : seo_err_detail());
}

enum { SKIPPED = 77 }; /* what CTest takes for it */

static bool g_fresh;

bool seed_is_fresh(void) {
    return g_fresh;
}

int run_everywhere(const struct CMUnitTest *tests, int64_t count) {
    const bool given = getenv(FILL_SEED_VARIABLE) != NULL;
    const seo_err present = g_targets.present ? g_targets.present() : SEO_OK;
    if (present != SEO_OK) {
        fprintf(stderr, "%s: %s\n", present == SEO_ERR_UNSUPPORTED ? "skipped" : "failed",
                seo_err_detail());
        return present == SEO_ERR_UNSUPPORTED ? SKIPPED : 1;
    }
    int failed = _cmocka_run_group_tests("fixed seed", tests, (size_t)count, NULL, NULL);
    if (given || !g_targets.fresh_seeds()) return failed;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    char seed[32];
    snprintf(seed, sizeof seed, "%lld", (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000);
    setenv(FILL_SEED_VARIABLE, seed, 1);
    g_fresh = true;
    failed += _cmocka_run_group_tests("fresh seed", tests, (size_t)count, NULL, NULL);
    return failed > 0;
}

bool fits(double work) {
    return !g_targets.work_max || work <= g_targets.work_max();
}

seo_device *open_device(seo_cpu_level level, int32_t threads) {
    seo_device *dev = NULL;
    const seo_cpu_options options = {.threads = threads, .level = level};
    seo_err err = seo_device_open_cpu(&options, &dev);
    if (err == SEO_ERR_UNSUPPORTED) return NULL;
    must(err);
    return dev;
}

/* Memory for a tensor like `host` but of `dtype`, filled with `bytes` of its own. */
static seo_tensor put(op_run *on, seo_tensor host, seo_dtype dtype, const void *bytes) {
    seo_tensor t = host;
    t.dtype = dtype;
    const bool rows = on->shifted && dtype != SEO_DTYPE_I32;
    const int64_t row = rows ? t.dims[t.rank - 1] * seo_dtype_bytes(dtype) : 0;
    void *memory = NULL;
    SEO_ASSERT(on->taken_count < OP_RUN_TENSORS_MAX);
    must(seo_device_alloc(on->dev, row + seo_tensor_bytes(&t), &memory));
    on->taken[on->taken_count++] = memory;
    t.data = (char *)memory + row;
    must(seo_device_copy_in(on->dev, t.data, bytes, seo_tensor_bytes(&t)));
    return t;
}

seo_tensor to_device(op_run *on, seo_tensor host) {
    if (!seo_tensor_given(&host)) return host;
    return put(on, host, host.dtype, host.data);
}

seo_tensor to_device_s(op_run *on, seo_tensor host) {
    if (!seo_tensor_given(&host) || on->storage == SEO_DTYPE_F32) return to_device(on, host);
    const float *x = host.data;
    const int64_t count = seo_tensor_count(&host);
    uint16_t *half = malloc((size_t)count * sizeof *half);
    SEO_ASSERT(half != NULL);
    for (int64_t i = 0; i < count; i++) {
        half[i] = bf16_from(x[i]);
        bool is_a_number_of_the_storage_type = isnan(x[i]) || f32_from(half[i]) == x[i];
        SEO_ASSERT(is_a_number_of_the_storage_type);
    }
    seo_tensor t = put(on, host, SEO_DTYPE_BF16, half);
    free(half);
    return t;
}

static seo_tensor put_poison(op_run *on, seo_tensor host, seo_dtype dtype) {
    if (!seo_tensor_given(&host)) return host;
    seo_tensor t = host;
    t.dtype = dtype;
    const size_t bytes = (size_t)seo_tensor_bytes(&t);
    void *nan = malloc(bytes);
    SEO_ASSERT(nan != NULL);
    memset(nan, 0xff, bytes);
    t = put(on, host, dtype, nan);
    free(nan);
    return t;
}
seo_tensor poisoned(op_run *on, seo_tensor host) {
    return put_poison(on, host, host.dtype);
}
seo_tensor poisoned_s(op_run *on, seo_tensor host) {
    return put_poison(on, host, on->storage);
}

float *to_host(op_run *on, const seo_tensor *t, float *out) {
    if (!seo_tensor_given(t)) return out;
    const int64_t count = seo_tensor_count(t);
    if (t->dtype != SEO_DTYPE_BF16) {
        must(seo_device_copy_out(on->dev, out, t->data, seo_tensor_bytes(t)));
        return out + count;
    }
    uint16_t *half = malloc((size_t)count * sizeof *half);
    SEO_ASSERT(half != NULL);
    must(seo_device_copy_out(on->dev, half, t->data, seo_tensor_bytes(t)));
    for (int64_t i = 0; i < count; i++) out[i] = f32_from(half[i]);
    free(half);
    return out + count;
}

/* One run; false when this machine has not got the target. */
static bool run_once(const op_case *c, int group, int run, float *out) {
    op_run on = {.storage = c->storage};
    g_what[0] = '\0';
    if (!g_targets.open(group, run, &on)) return false;
    snprintf(g_what, sizeof g_what, "%s%s on %s%s%s", c->what,
             c->storage == SEO_DTYPE_BF16 ? " bf16" : "", seo_device_name(on.dev),
             on.note[0] ? ", " : "", on.note);
    memset(out, 0xff, (size_t)c->count * sizeof *out);
    c->run(&on, c->input, out);
    for (int i = on.taken_count - 1; i >= 0; i--) seo_device_free(on.dev, on.taken[i]);
    g_targets.close(&on);
    return true;
}

static void fail_if_not(bool holds) {
    if (holds) return;
    fail_msg("%s: the inputs are those of %s=%llu", g_what, FILL_SEED_VARIABLE,
             (unsigned long long)fill_seed());
}

static bool check_values(const op_case *c, const float *got) {
    if (!c->settle) return all_close(g_what, got, c->want, c->bound, c->count);
    const size_t bytes = (size_t)c->count * sizeof(double);
    double *want = new_f64(c->count), *bound = new_f64(c->count);
    memcpy(want, c->want, bytes);
    memcpy(bound, c->bound, bytes);
    c->settle(c->input, got, want, bound);
    const bool close = all_close(g_what, got, want, bound, c->count);
    free(want);
    free(bound);
    return close;
}

void check_everywhere(const op_case *c) {
    float *first = new_f32(c->count), *again = new_f32(c->count);
    for (int group = 0; group < g_targets.groups; group++) {
        const int runs = g_targets.runs(group, c);
        if (runs == 0 || !run_once(c, group, 0, first)) continue;
        fail_if_not(check_values(c, first));
        for (int run = 1; run < runs; run++) {
            run_once(c, group, run, again);
            fail_if_not(same_bits(g_what, first, again, c->count));
        }
    }
    g_what[0] = '\0';
    free(first);
    free(again);
}

void check_gradient(const char *what, double (*f)(const double *x, const void *context),
                    const void *context, double *x, const double *gradient, int64_t count) {
    const int64_t stride = seo_max_i64(1, count / 48);
    for (int64_t i = 0; i < count; i += stride) {
        const double at = x[i], h = 1e-5 * fmax(1.0, fabs(at));
        x[i] = at + h;
        const double above = f(x, context);
        x[i] = at - h;
        const double below = f(x, context);
        x[i] = at;
        const double slope = (above - below) / (2 * h);
        /* The cut-off term h^2 f''' / 6, and the cancellation of two values of f, a sum of terms of
         * about 1, of which there are some for each variable. */
        const double size = fabs(above) + 100 + (double)count;
        const double bound = 100 * h * h + 4 * 2.3e-16 * size / h + 1e-8 * fabs(slope);
        if (fabs(slope - gradient[i]) <= bound) continue;
        fail_msg("%s: gradient[%lld] is %.12g, finite differences give %.12g (+- %.2g), %s=%llu",
                 what, (long long)i, gradient[i], slope, bound, FILL_SEED_VARIABLE,
                 (unsigned long long)fill_seed());
    }
}
