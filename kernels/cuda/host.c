/* The door between the plug-in and the program that opened it. The plug-in has no error record of
 * its own: the functions of base/ that write it go through to the program's, so that a message
 * reads the same wherever it comes from. Not part of the test layer, which links base/ itself. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/error.h"
#include "kernels/cuda/cuda.h"

enum { MESSAGE_BYTES = 4096 };

/* Written once, by the entry, before anything of the plug-in can run. */
static seo_plugin_host g_host;

__attribute__((visibility("default"))) const seo_backend *
seo_cuda_plugin(const seo_plugin_host *host);

const seo_backend *seo_cuda_plugin(const seo_plugin_host *host) {
    if (host->abi != SEO_PLUGIN_ABI || host->layout != seo_plugin_layout()) return NULL;
    g_host = *host;
    return &seo_backend_cuda;
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

void seo_assert_failed(const char *fact, const char *file, int line) {
    g_host.assert_failed(fact, file, line);
    abort();
}
