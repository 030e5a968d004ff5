#include "tests/support/op_check.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "tests/support/compare.h"
#include "tests/support/fill.h"

void must(seo_err err) {
    if (err != SEO_OK) fail_msg("%s: %s", seo_err_text(err), seo_err_detail());
}

void must_fail(seo_err err, seo_err code, const char *text) {
    if (err == code && strstr(seo_err_detail(), text)) return;
    fail_msg("wanted \"%s\" with \"%s\", got \"%s\" with \"%s\"", seo_err_text(code), text,
             seo_err_text(err), err == SEO_OK ? "" : seo_err_detail());
}

seo_device *open_device(seo_cpu_level level, int32_t threads) {
    seo_device *dev = NULL;
    const seo_cpu_options options = {.threads = threads, .level = level};
    seo_err err = seo_device_open_cpu(&options, &dev);
    if (err == SEO_ERR_UNSUPPORTED) return NULL;
    must(err);
    return dev;
}

seo_tensor to_device(seo_device *dev, seo_tensor host) {
    if (!seo_tensor_given(&host)) return host;
    seo_tensor t = host;
    must(seo_device_alloc(dev, seo_tensor_bytes(&host), &t.data));
    must(seo_device_copy_in(dev, t.data, host.data, seo_tensor_bytes(&host)));
    return t;
}

float *to_host(seo_device *dev, const seo_tensor *t, float *out) {
    if (!seo_tensor_given(t)) return out;
    must(seo_device_copy_out(dev, out, t->data, seo_tensor_bytes(t)));
    return out + seo_tensor_count(t);
}

static void check_level(const op_case *c, seo_cpu_level level, float *first, float *again) {
    static const int32_t threads[] = {1, 2, 2, 3};
    for (int i = 0; i < SEO_COUNT_OF(threads); i++) {
        seo_device *dev = open_device(level, threads[i]);
        if (!dev) return;
        float *out = i == 0 ? first : again;
        c->run(dev, c->input, out);
        char what[256];
        snprintf(what, sizeof what, "%s on %s", c->what, seo_device_name(dev));
        seo_device_close(dev);
        if (i == 0) {
            assert_true(all_close(what, first, c->want, c->bound, c->count));
        } else {
            assert_true(same_bits(what, first, again, c->count));
        }
    }
}

void check_everywhere(const op_case *c) {
    float *first = new_f32(c->count), *again = new_f32(c->count);
    for (int level = SEO_CPU_PLAIN; level <= SEO_CPU_AVX512; level++) {
        check_level(c, (seo_cpu_level)level, first, again);
    }
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
        /* The cut-off term h^2 f''' / 6, and the cancellation of two values of f. */
        const double bound =
            100 * h * h + 4 * 2.3e-16 * (fabs(above) + 100) / h + 1e-8 * fabs(slope);
        if (fabs(slope - gradient[i]) <= bound) continue;
        fail_msg("%s: gradient[%lld] is %.12g, finite differences give %.12g (+- %.2g)", what,
                 (long long)i, gradient[i], slope, bound);
    }
}
