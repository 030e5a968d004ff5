/* Amounts as people write them, and near misses of words. Declared in base/text.h. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/check.h"
#include "base/text.h"

typedef struct unit {
    const char *name;
    double factor;
} unit;

static const unit k_count_units[] = {{"", 1},    {"k", 1e3}, {"K", 1e3},
                                     {"M", 1e6}, {"B", 1e9}, {"T", 1e12}};
static const unit k_byte_units[] = {
    {"", 1},      {"B", 1},        {"kB", 1e3},     {"KB", 1e3},     {"MB", 1e6},    {"GB", 1e9},
    {"TB", 1e12}, {"KiB", 1024.0}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40}};
static const unit k_second_units[] = {{"", 1},   {"s", 1},    {"sec", 1},  {"ms", 1e-3},
                                      {"m", 60}, {"min", 60}, {"h", 3600}, {"d", 86400}};

/* A decimal number with an optional exponent and _ between digits, then exactly one of `units`.
 * strtod alone would also take hexadecimal, "nan" and "inf". */
static bool parse(const char *text, const unit *units, int64_t unit_count, double *out) {
    char digits[64];
    size_t n = 0;
    const char *p = text;
    while (*p != '\0' && n + 1 < sizeof digits) {
        const bool sign =
            (*p == '+' || *p == '-') && (n == 0 || digits[n - 1] == 'e' || digits[n - 1] == 'E');
        const bool exponent = (*p == 'e' || *p == 'E') && n > 0 &&
                              (isdigit((unsigned char)p[1]) ||
                               ((p[1] == '-' || p[1] == '+') && isdigit((unsigned char)p[2])));
        const bool gap =
            *p == '_' && n > 0 && isdigit((unsigned char)p[-1]) && isdigit((unsigned char)p[1]);
        if (!gap && !sign && !exponent && *p != '.' && !isdigit((unsigned char)*p)) break;
        if (!gap) digits[n++] = *p;
        p++;
    }
    digits[n] = '\0';
    char *end = NULL;
    const double value = strtod(digits, &end);
    if (n == 0 || *end != '\0' || !strpbrk(digits, "0123456789") || !isfinite(value)) return false;
    for (int64_t i = 0; i < unit_count; i++) {
        if (strcmp(p, units[i].name) != 0) continue;
        *out = value * units[i].factor;
        return isfinite(*out);
    }
    return false;
}

/* value must be whole and exactly representable. */
static bool to_int(double value, int64_t *out) {
    if (value != floor(value) || fabs(value) > 0x1p53) return false;
    *out = (int64_t)value;
    return true;
}

/* Integers above 2^53 without a unit keep all their digits. */
static bool parse_plain_int(const char *text, int64_t *out) {
    char digits[32];
    size_t n = 0;
    for (const char *p = text; *p != '\0'; p++) {
        if (*p == '_' && p > text && isdigit((unsigned char)p[-1]) && isdigit((unsigned char)p[1]))
            continue;
        const bool sign = p == text && (*p == '-' || *p == '+');
        if ((!sign && !isdigit((unsigned char)*p)) || n + 1 >= sizeof digits) return false;
        digits[n++] = *p;
    }
    digits[n] = '\0';
    if (n == 0 || !isdigit((unsigned char)digits[n - 1])) return false;
    errno = 0;
    const long long value = strtoll(digits, NULL, 10);
    if (errno != 0) return false;
    *out = value;
    return true;
}

bool seo_parse_float(const char *text, double *out) {
    return parse(text, k_count_units, SEO_COUNT_OF(k_count_units), out);
}

bool seo_parse_int(const char *text, int64_t *out) {
    double value = 0;
    return parse_plain_int(text, out) ||
           (parse(text, k_count_units, SEO_COUNT_OF(k_count_units), &value) && to_int(value, out));
}

bool seo_parse_bytes(const char *text, int64_t *out) {
    double value = 0;
    return parse(text, k_byte_units, SEO_COUNT_OF(k_byte_units), &value) && value >= 0 &&
           to_int(floor(value), out);
}

bool seo_parse_seconds(const char *text, double *out) {
    return parse(text, k_second_units, SEO_COUNT_OF(k_second_units), out) && *out >= 0;
}

char *seo_format_bytes(char out[SEO_SHORT_TEXT], double bytes) {
    static const char *const names[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    int i = 0;
    while (bytes >= 999.5 && i + 1 < SEO_COUNT_OF(names)) {
        bytes /= 1000;
        i++;
    }
    snprintf(out, SEO_SHORT_TEXT,
             i == 0        ? "%.0f %s"
             : bytes < 10  ? "%.2f %s"
             : bytes < 100 ? "%.1f %s"
                           : "%.0f %s",
             bytes, names[i]);
    return out;
}

char *seo_format_seconds(char out[SEO_SHORT_TEXT], double seconds) {
    if (!(seconds >= 0)) seconds = 0;
    if (seconds > 1e9) seconds = 1e9;
    const int64_t whole = (int64_t)(seconds + 0.5);
    if (seconds < 9.95) {
        snprintf(out, SEO_SHORT_TEXT, "%.1fs", seconds);
    } else if (whole < 60) {
        snprintf(out, SEO_SHORT_TEXT, "%llds", (long long)whole);
    } else if (whole < 3600) {
        snprintf(out, SEO_SHORT_TEXT, "%lldm%02llds", (long long)(whole / 60),
                 (long long)(whole % 60));
    } else if (whole < 86400) {
        snprintf(out, SEO_SHORT_TEXT, "%lldh%02lldm", (long long)(whole / 3600),
                 (long long)(whole / 60 % 60));
    } else {
        snprintf(out, SEO_SHORT_TEXT, "%lldd%02lldh", (long long)(whole / 86400),
                 (long long)(whole / 3600 % 24));
    }
    return out;
}

char *seo_format_count(char out[SEO_SHORT_TEXT], int64_t n) {
    char digits[SEO_SHORT_TEXT];
    const int length = snprintf(digits, sizeof digits, "%llu",
                                (unsigned long long)(n < 0 ? 0 - (uint64_t)n : (uint64_t)n));
    int put = 0;
    if (n < 0) out[put++] = '-';
    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0) out[put++] = ',';
        out[put++] = digits[i];
    }
    out[put] = '\0';
    return out;
}

enum { WORD_MAX = 48 };

/* Edit distance where a swap of neighbours costs one (optimal string alignment), case ignored. */
static int distance(const char *a, const char *b) {
    int d[WORD_MAX + 1][WORD_MAX + 1];
    const int n = (int)strlen(a), m = (int)strlen(b);
    for (int i = 0; i <= n; i++) d[i][0] = i;
    for (int j = 0; j <= m; j++) d[0][j] = j;
    for (int i = 1; i <= n; i++) {
        for (int j = 1; j <= m; j++) {
            const int same = tolower((unsigned char)a[i - 1]) == tolower((unsigned char)b[j - 1]);
            int best = d[i - 1][j - 1] + !same;
            if (d[i - 1][j] + 1 < best) best = d[i - 1][j] + 1;
            if (d[i][j - 1] + 1 < best) best = d[i][j - 1] + 1;
            const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if (swapped && d[i - 2][j - 2] + 1 < best) best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    }
    return d[n][m];
}

const char *seo_nearest(const char *word, const char *const *candidates, int64_t count) {
    const char *nearest = NULL;
    int best = 0;
    const size_t length = strlen(word);
    if (length == 0 || length > WORD_MAX) return NULL;
    for (int64_t i = 0; i < count; i++) {
        const size_t other = strlen(candidates[i]);
        if (other > WORD_MAX) continue;
        const size_t longer = length > other ? length : other;
        int d = distance(word, candidates[i]);
        /* A candidate that continues the word, or that the word continues, is a likely meaning too.
         */
        const size_t shorter = length < other ? length : other;
        if (shorter >= 3 && strncasecmp(word, candidates[i], shorter) == 0 && d > 2) d = 2;
        if (d > (int)(longer + 2) / 3 && d > 1) continue;
        if (!nearest || d < best) {
            nearest = candidates[i];
            best = d;
        }
    }
    return nearest;
}
