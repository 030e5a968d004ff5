/* Compiled into every plug-in: the door to the program that opened it. The plug-in has no error
 * record and no clock of its own: the functions of base/ that it uses go through to the program's,
 * so that a message reads the same wherever it comes from. Not part of the program or of the test
 * layer, which link base/ itself. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/error.h"
#include "base/progress.h"
#include "kernels/plugin.h"

enum { MESSAGE_BYTES = 4096 };

/* Written once, by the entry, before anything of the plug-in can run. */
static seo_plugin_host g_host;

bool seo_plugin_accept(const seo_plugin_host *host) {
    if (host->abi != SEO_PLUGIN_ABI || host->layout != seo_plugin_layout()) return false;
    g_host = *host;
    return true;
}

seo_err seo_fail_at(seo_err code, const char *file, int line, const char *fmt, ...) {
    char message[MESSAGE_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    return g_host.fail(code, file, line, message);
}

seo_err seo_err_context(seo_err code, const char *fmt, ...) {
    char prefix[MESSAGE_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(prefix, sizeof prefix, fmt, ap);
    va_end(ap);
    return g_host.context(code, prefix);
}

const char *seo_err_detail(void) {
    return g_host.detail();
}

double seo_clock_s(void) {
    return g_host.clock_s();
}

bool seo_device_is_cpu(const seo_device *dev) {
    return g_host.device_is_cpu(dev);
}

seo_err seo_device_copy_in(seo_device *dev, void *dst, const void *host_src, int64_t bytes) {
    return g_host.copy_in(dev, dst, host_src, bytes);
}

seo_err seo_device_copy_out(seo_device *dev, void *host_dst, const void *src, int64_t bytes) {
    return g_host.copy_out(dev, host_dst, src, bytes);
}

void seo_assert_failed(const char *fact, const char *file, int line) {
    g_host.assert_failed(fact, file, line);
    abort();
}
