/* Amounts for people, and near misses. Reading amounts is amount.c, byte strings buf.c, UTF-8
 * utf8.c. */
#include "base/text.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"

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
