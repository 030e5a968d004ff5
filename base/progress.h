/* Progress of long work: how far, how fast, how long still. On a terminal one live line, at most
 * ten times a second; elsewhere a plain line at most every ten seconds. Updates cost a clock read.
 */
#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_progress {
    const char *label; /* "training tokenizer", not owned */
    const char *unit;  /* "bytes" is printed in MB; anything else is counted: "merges" */
    int64_t total;     /* 0 when unknown: then no time left is shown */
    int64_t done;
    double start_s, shown_s; /* monotonic seconds */
} seo_progress;

void seo_progress_start(seo_progress *p, const char *label, const char *unit, int64_t total);
/* `done` is absolute and may be called as often as one likes. */
void seo_progress_update(seo_progress *p, int64_t done);
/* Removes the live line and prints one summary line (amount, seconds, rate) when the work took over
 * a second. */
void seo_progress_end(seo_progress *p);

/* Monotonic seconds since an arbitrary point. */
double seo_clock_s(void);

#ifdef __cplusplus
}
#endif
