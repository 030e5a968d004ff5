/* Small text helpers: growing byte strings, UTF-8, amounts as people write them, near misses. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A growing byte string; always NUL-terminated once something was added. Zero-initialise; free with
 * seo_buf_free. Growth that fails for want of memory sets `failed` and drops the addition: check
 * once at the end. */
typedef struct seo_buf {
    char *data;
    size_t bytes, capacity;
    bool failed;
} seo_buf;
void seo_buf_add(seo_buf *b, const void *data, size_t bytes);
void seo_buf_text(seo_buf *b, const char *text);
void seo_buf_format(seo_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A JSON string literal with its quotes: control characters escaped, invalid UTF-8 as U+FFFD. */
void seo_buf_json_string(seo_buf *b, const char *text, size_t bytes);
/* The shortest decimal that reads back to the same float; "null" for NaN and infinities. */
void seo_buf_json_float(seo_buf *b, double value, int digits);
seo_err seo_buf_check(const seo_buf *b); /* SEO_ERR_MEMORY when an addition was dropped */
void seo_buf_clear(seo_buf *b);
void seo_buf_free(seo_buf *b);

/* Reads one code point at p < end. Returns its length in bytes and sets *cp; an invalid or
 * truncated sequence (overlong, surrogate, above U+10FFFF) gives length 1 and *cp = -1. */
int seo_utf8_decode(const unsigned char *p, const unsigned char *end, int32_t *cp);
/* Writes cp's UTF-8 into out[4]; returns its length. */
int seo_utf8_encode(int32_t cp, unsigned char out[4]);
/* Byte offset of the first invalid sequence, or -1 when all of it is valid. */
int64_t seo_utf8_first_bad(const void *data, size_t bytes);

/* Amounts: "6e-4", "524_288", "0.5M", "10B" (k M B T = 10^3, 6, 9, 12); sizes "80GiB", "64MB";
 * durations "30min", "2h". false when `text` is no such amount, or does not fit. */
bool seo_parse_float(const char *text, double *out);
bool seo_parse_int(const char *text, int64_t *out); /* also M, B ...: the result must be whole */
bool seo_parse_bytes(const char *text, int64_t *out);
bool seo_parse_seconds(const char *text, double *out);

/* For people: "1.2 GB", "3m12s", "1,234,567". Return `out`. */
enum { SEO_SHORT_TEXT = 32 };
char *seo_format_bytes(char out[SEO_SHORT_TEXT], double bytes);
char *seo_format_seconds(char out[SEO_SHORT_TEXT], double seconds);
char *seo_format_count(char out[SEO_SHORT_TEXT], int64_t n);

/* The candidate nearest to `word` by edit distance (with swaps), or NULL when none is near enough
 * to suggest. */
const char *seo_nearest(const char *word, const char *const *candidates, int64_t count);

#ifdef __cplusplus
}
#endif
