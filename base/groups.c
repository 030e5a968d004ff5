#include "base/groups.h"

#include <string.h>

#include "base/check.h"

enum { DIGIT_BITS = 8, DIGITS = 1 << DIGIT_BITS };

/* One pass of a radix sort: `from` holds row numbers, ordered by the lower digits of their ids
 * already; `to` gets them ordered by one digit more. A pass in which all have the same digit is
 * left out: returns false. */
static bool sort_digit(const int32_t *ids, int64_t n, int shift, const int32_t *from, int32_t *to) {
    int64_t start[DIGITS + 1] = {0};
    for (int64_t i = 0; i < n; i++) start[((uint32_t)ids[i] >> shift) % DIGITS + 1]++;
    for (int d = 0; d < DIGITS; d++) {
        if (start[d + 1] == n) return false;
    }
    for (int d = 0; d < DIGITS; d++) start[d + 1] += start[d];
    for (int64_t i = 0; i < n; i++) {
        to[start[((uint32_t)ids[from[i]] >> shift) % DIGITS]++] = from[i];
    }
    return true;
}

/* The list of pieces is not written yet when rows are sorted, and serves as the other buffer. */
static void sort_rows(const int32_t *ids, int64_t n, int32_t *out) {
    int32_t *rows = out + seo_groups_rows_at(n), *other = out + seo_groups_pieces_at(n);
    int32_t *from = rows, *to = other;
    for (int64_t i = 0; i < n; i++) from[i] = (int32_t)i;
    for (int shift = 0; shift < 32; shift += DIGIT_BITS) {
        if (!sort_digit(ids, n, shift, from, to)) continue;
        int32_t *swap = from;
        from = to;
        to = swap;
    }
    if (from != rows) memcpy(rows, from, (size_t)n * sizeof *rows);
}

static void put(int32_t *record, int64_t a, int64_t b, int64_t c, int64_t d) {
    record[0] = (int32_t)a;
    record[1] = (int32_t)b;
    record[2] = (int32_t)c;
    record[3] = (int32_t)d;
}

void seo_groups_build(const int32_t *ids, int64_t n, int32_t *out) {
    SEO_ASSERT(n >= 0 && n < INT32_MAX);
    sort_rows(ids, n, out);
    const int32_t *rows = out + seo_groups_rows_at(n);
    int32_t *pieces = out + seo_groups_pieces_at(n), *joins = out + seo_groups_joins_at(n);
    int64_t piece_count = 0, join_count = 0, slots = 0;
    for (int64_t first = 0, end; first < n; first = end) {
        const int32_t id = ids[rows[first]];
        end = first + 1;
        while (end < n && ids[rows[end]] == id) end++;
        const int64_t parts = seo_div_up(end - first, SEO_GROUPS_PIECE);
        if (parts > 1) put(joins + SEO_GROUPS_RECORD * join_count++, id, slots, parts, 0);
        for (int64_t at = first; at < end; at += SEO_GROUPS_PIECE) {
            put(pieces + SEO_GROUPS_RECORD * piece_count++, id, at,
                seo_min_i64(SEO_GROUPS_PIECE, end - at), parts > 1 ? slots++ : -1);
        }
    }
    put(out, piece_count, join_count, 0, 0);
}
