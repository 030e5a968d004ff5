#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/error.h"

enum { LINE_MAX_BYTES = 8192, LIVE_MAX_BYTES = 512, WHO_MAX_BYTES = 256, PATH_MAX_BYTES = 4096 };

/* The log sink: one of the few mutable globals, because every room prints through it. */
static struct {
    pthread_mutex_t lock;
    seo_log_options options;
    FILE *file;
    bool terminal;
    char live[LIVE_MAX_BYTES];
    char who[WHO_MAX_BYTES];         /* "" or "rank 3 on n2: " */
    char later_path[PATH_MAX_BYTES]; /* of the file that the next message opens; "": none */
} g_log = {.lock = PTHREAD_MUTEX_INITIALIZER, .options = {.level = SEO_LOG_INFO}};

void seo_log_setup(const seo_log_options *options) {
    g_log.options = *options;
    g_log.terminal = isatty(STDERR_FILENO) == 1;
}

void seo_log_set_level(seo_log_level level) {
    g_log.options.level = level;
}

bool seo_log_is_live(void) {
    return g_log.terminal && g_log.options.live && g_log.options.level <= SEO_LOG_INFO;
}

static void erase_live(void) {
    if (g_log.live[0] != '\0') fputs("\r\033[K", stderr);
}

/* A line that wraps could not be rewritten in place, so it is cut at the terminal's width. */
static int terminal_columns(void) {
    struct winsize size = {0};
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col < 2) return 79;
    return size.ws_col - 1;
}

static void redraw_live(void) {
    if (g_log.live[0] != '\0') fprintf(stderr, "%.*s", terminal_columns(), g_log.live);
    fflush(stderr);
}

static void write_file(const char *prefix, const char *text) {
    if (g_log.later_path[0] != '\0') {
        /* Where it cannot be opened standard error has the message. */
        g_log.file = fopen(g_log.later_path, "ae");
        g_log.later_path[0] = '\0';
    }
    if (!g_log.file) return;
    char stamp[32];
    const time_t now = time(NULL);
    struct tm utc;
    gmtime_r(&now, &utc);
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%SZ", &utc);
    if (fprintf(g_log.file, "%s %s%s%s\n", stamp, prefix, g_log.who, text) < 0 ||
        fflush(g_log.file) != 0) {
        fprintf(stderr, "warning: the log file cannot be written (%s); going on without\n",
                strerror(errno));
        fclose(g_log.file);
        g_log.file = NULL;
    }
}

void seo_log(seo_log_level level, const char *fmt, ...) {
    static const char *const prefixes[] = {"debug: ", "", "warning: ", "error: ", ""};
    static const char *const colors[] = {"\033[2m", "", "\033[33m", "\033[31m", ""};
    if (level < g_log.options.level) return;
    char text[LINE_MAX_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    const bool color = g_log.options.color && g_log.terminal && colors[level][0] != '\0';
    pthread_mutex_lock(&g_log.lock);
    erase_live();
    fprintf(stderr, "%s%s%s%s%s\n", color ? colors[level] : "", prefixes[level],
            color ? "\033[0m" : "", g_log.who, text);
    write_file(prefixes[level], text);
    redraw_live();
    pthread_mutex_unlock(&g_log.lock);
}

void seo_log_file(const char *path) {
    pthread_mutex_lock(&g_log.lock);
    if (g_log.file) fclose(g_log.file);
    g_log.file = path ? fopen(path, "ae") : NULL;
    g_log.later_path[0] = '\0';
    const int reason = errno;
    pthread_mutex_unlock(&g_log.lock);
    if (path && !g_log.file)
        seo_warn("%s: cannot be opened (%s); going on without a log file", path, strerror(reason));
}

void seo_log_second(const char *who, const char *path) {
    pthread_mutex_lock(&g_log.lock);
    snprintf(g_log.who, sizeof g_log.who, "%s%s", who ? who : "", who ? ": " : "");
    snprintf(g_log.later_path, sizeof g_log.later_path, "%s", who && path ? path : "");
    if (who && g_log.options.level < SEO_LOG_WARN) g_log.options.level = SEO_LOG_WARN;
    pthread_mutex_unlock(&g_log.lock);
}

void seo_log_failure(void) {
    seo_error("%s", seo_err_detail());
    seo_debug("raised at %s", seo_err_where());
}

void seo_log_live(const char *fmt, ...) {
    if (!seo_log_is_live()) return;
    pthread_mutex_lock(&g_log.lock);
    erase_live();
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(g_log.live, sizeof g_log.live, fmt, ap);
    va_end(ap);
    redraw_live();
    pthread_mutex_unlock(&g_log.lock);
}

void seo_assert_failed(const char *fact, const char *file, int line) {
    fprintf(stderr, "%s:%d: this must hold and does not: %s\n", file, line, fact);
    abort();
}
