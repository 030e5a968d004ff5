#include "base/progress.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/text.h"

double seo_clock_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void amount_text(const seo_progress *p, double n, char out[SEO_SHORT_TEXT]) {
    if (strcmp(p->unit, "bytes") == 0) {
        seo_format_bytes(out, n);
    } else {
        seo_format_count(out, (int64_t)n);
    }
}

void seo_progress_start(seo_progress *p, const char *label, const char *unit, int64_t total) {
    const double now = seo_clock_s();
    *p = (seo_progress){
        .label = label, .unit = unit, .total = total, .start_s = now, .shown_s = now};
}

void seo_progress_update(seo_progress *p, int64_t done) {
    p->done = done;
    const double now = seo_clock_s();
    const bool live = seo_log_is_live();
    if (now - p->shown_s < (live ? 0.1 : 10.0)) return;
    p->shown_s = now;
    const double rate = (double)done / (now - p->start_s);
    char amount[SEO_SHORT_TEXT], speed[SEO_SHORT_TEXT], left[SEO_SHORT_TEXT] = "";
    char line[256];
    amount_text(p, (double)done, amount);
    amount_text(p, rate, speed);
    const bool bytes = strcmp(p->unit, "bytes") == 0;
    int n = snprintf(line, sizeof line, "%s: %s%s%s, %s%s%s/s", p->label, amount, bytes ? "" : " ",
                     bytes ? "" : p->unit, speed, bytes ? "" : " ", bytes ? "" : p->unit);
    if (p->total > 0 && rate > 0 && n > 0 && (size_t)n < sizeof line) {
        seo_format_seconds(left, (double)(p->total - done) / rate);
        snprintf(line + n, sizeof line - (size_t)n, ", %.0f %%, %s left",
                 100.0 * (double)done / (double)p->total, left);
    }
    if (live) {
        seo_log_live("%s", line);
    } else {
        seo_info("%s", line);
    }
}

void seo_progress_end(seo_progress *p) {
    seo_log_live("%s", "");
    const double seconds = seo_clock_s() - p->start_s;
    if (seconds < 1.0) return;
    char amount[SEO_SHORT_TEXT], speed[SEO_SHORT_TEXT], time_text[SEO_SHORT_TEXT];
    const bool bytes = strcmp(p->unit, "bytes") == 0;
    amount_text(p, (double)p->done, amount);
    amount_text(p, (double)p->done / seconds, speed);
    seo_info("%s: %s%s%s in %s, %s%s%s/s", p->label, amount, bytes ? "" : " ", bytes ? "" : p->unit,
             seo_format_seconds(time_text, seconds), speed, bytes ? "" : " ", bytes ? "" : p->unit);
}
