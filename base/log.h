/* The only printer of library code. Messages go to standard error, and to the run's log file when
 * one is open; results that a user asked for go to standard output and are the verbs' business.
 *
 * On a terminal one live line may stand at the bottom and is rewritten in place; elsewhere no
 * carriage return is ever printed. NO_COLOR and TERM=dumb are honoured (main.c reads the
 * environment). Thread safe. */
#pragma once

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum seo_log_level {
    SEO_LOG_DEBUG,
    SEO_LOG_INFO,
    SEO_LOG_WARN,
    SEO_LOG_ERROR,
    SEO_LOG_QUIET /* as a threshold: print nothing */
} seo_log_level;

typedef struct seo_log_options {
    seo_log_level level; /* messages below it are dropped */
    bool color;          /* colour warnings and errors; only when standard error is a terminal */
    bool live;           /* allow the live line; only when standard error is a terminal */
} seo_log_options;

/* Called once by main, before threads exist. Without it: level info, no colour, no live line. */
void seo_log_setup(const seo_log_options *options);

/* Changes the threshold alone, for --quiet and --log-level; before threads exist. */
void seo_log_set_level(seo_log_level level);

/* Also append every message, with a UTC time stamp, to `path`; NULL closes the file. A failure to
 * open or write it is a warning, never an error: a full disk must not stop training. */
void seo_log_file(const char *path);

/* This process is one of several, and another one speaks for all: from here on it prints warnings
 * and errors only, with `who` ("rank 3 on n2") after the word, and puts them into `path`, which is
 * made with the first of them (NULL: nowhere). NULL for `who` ends it. */
void seo_log_second(const char *who, const char *path);

/* One line; a newline is added. `warning: ` and `error: ` are put before the text. */
void seo_log(seo_log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
#define seo_debug(...) seo_log(SEO_LOG_DEBUG, __VA_ARGS__)
#define seo_info(...)  seo_log(SEO_LOG_INFO, __VA_ARGS__)
#define seo_warn(...)  seo_log(SEO_LOG_WARN, __VA_ARGS__)
#define seo_error(...) seo_log(SEO_LOG_ERROR, __VA_ARGS__)

/* Prints this thread's error record as an error line (at debug level with where it was raised). */
void seo_log_failure(void);

/* True when a live line would be shown. */
bool seo_log_is_live(void);

/* Replaces the live line; "" removes it. Nothing happens where no live line is shown. */
void seo_log_live(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#ifdef __cplusplus
}
#endif
