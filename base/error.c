#include "base/error.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum { DETAIL_MAX = 4096 };

static _Thread_local char g_detail[DETAIL_MAX];
static _Thread_local char g_where[256];

const char *seo_err_text(seo_err code) {
    static const char *const texts[] = {
#define X(name, text) [name] = text,
        SEO_ERR_MAP(X)
#undef X
    };
    return (size_t)code < sizeof texts / sizeof texts[0] ? texts[code] : "unknown error";
}

const char *seo_err_detail(void) {
    return g_detail;
}

const char *seo_err_where(void) {
    return g_where;
}

seo_err seo_fail_at(seo_err code, const char *file, int line, const char *fmt, ...) {
    /* Formatted aside first: an argument may be the old message itself. */
    char message[DETAIL_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    memcpy(g_detail, message, sizeof g_detail);
    snprintf(g_where, sizeof g_where, "%s:%d", file, line);
    return code;
}

seo_err seo_err_context(seo_err code, const char *fmt, ...) {
    char prefix[DETAIL_MAX / 2];
    char message[DETAIL_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(prefix, sizeof prefix, fmt, ap);
    va_end(ap);
    snprintf(message, sizeof message, "%s: %.*s", prefix, DETAIL_MAX / 2 - 8, g_detail);
    memcpy(g_detail, message, sizeof g_detail);
    return code;
}
