/* Groups of rows by id, against a plain reference: each list is made again from the ids alone. The
 * array has exactly the promised size, so that the address sanitizer sees a write beyond it. */
#include "base/groups.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "tests/support/fill.h"

typedef struct row {
    int32_t id, number;
} row;

static int by_id_then_number(const void *left, const void *right) {
    const row *a = left, *b = right;
    if (a->id != b->id) return a->id < b->id ? -1 : 1;
    return a->number < b->number ? -1 : 1;
}

/* The sorted rows of the groups that `out` lists must be those of a comparison sort that keeps the
 * order of equal ids; the groups themselves may come in any order of their ids. */
static void rows_hold(const int32_t *ids, int64_t n, const int32_t *out) {
    row *want = calloc((size_t)n + 1, sizeof *want), *got = calloc((size_t)n + 1, sizeof *got);
    assert_true(want && got);
    const int32_t *rows = out + seo_groups_rows_at(n);
    for (int64_t i = 0; i < n; i++) {
        assert_true(rows[i] >= 0 && rows[i] < n);
        want[i] = (row){ids[i], (int32_t)i};
        got[i] = (row){ids[rows[i]], rows[i]};
        if (i > 0 && got[i].id == got[i - 1].id) {
            assert_true(got[i].number > got[i - 1].number);
        }
    }
    qsort(want, (size_t)n, sizeof *want, by_id_then_number);
    qsort(got, (size_t)n, sizeof *got, by_id_then_number);
    assert_memory_equal(want, got, (size_t)n * sizeof *want);
    free(want);
    free(got);
}

/* Walks the pieces: they cover the rows once, end where an id ends or at 64, and every id has but
 * one run of them. Returns how many rows the run of pieces from `p` on has, and moves p past it. */
static int64_t walk_id(const int32_t *ids, const int32_t *out, int64_t n, int64_t *p) {
    const int32_t *rows = out + seo_groups_rows_at(n);
    const int32_t *piece = out + seo_groups_pieces_at(n) + SEO_GROUPS_RECORD * *p;
    const int32_t id = piece[0];
    int64_t length = 0, place = piece[1];
    for (; *p < out[0] && piece[0] == id; ++*p, piece += SEO_GROUPS_RECORD) {
        assert_int_equal(piece[1], place + length);
        assert_true(piece[2] >= 1 && piece[2] <= SEO_GROUPS_PIECE);
        assert_int_equal(length % SEO_GROUPS_PIECE, 0); /* all but the last are full */
        for (int64_t i = 0; i < piece[2]; i++) assert_int_equal(ids[rows[piece[1] + i]], id);
        length += piece[2];
    }
    return length;
}

static int64_t times_met(const int32_t *ids, int64_t n, int32_t id) {
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) count += ids[i] == id;
    return count;
}

static void pieces_and_joins_hold(const int32_t *ids, int64_t n, const int32_t *out) {
    const int32_t *pieces = out + seo_groups_pieces_at(n), *join = out + seo_groups_joins_at(n);
    int64_t covered = 0, slots = 0, joins = 0;
    for (int64_t p = 0; p < out[0];) {
        const int32_t *first = pieces + SEO_GROUPS_RECORD * p;
        const int64_t from = p;
        assert_int_equal(first[1], covered);
        const int64_t length = walk_id(ids, out, n, &p);
        assert_int_equal(length, times_met(ids, n, first[0]));
        covered += length;
        for (int64_t i = from; i < p; i++) {
            const int64_t slot = pieces[SEO_GROUPS_RECORD * i + 3];
            assert_int_equal(slot, p - from > 1 ? slots + i - from : -1);
        }
        if (p - from == 1) continue;
        const int32_t want[SEO_GROUPS_RECORD] = {first[0], (int32_t)slots, (int32_t)(p - from), 0};
        assert_memory_equal(join, want, sizeof want);
        join += SEO_GROUPS_RECORD;
        slots += p - from;
        joins++;
    }
    assert_int_equal(covered, n);
    assert_int_equal(joins, out[1]);
    assert_true(slots <= seo_groups_slots_max(n));
    assert_true(out[2] == 0 && out[3] == 0);
}

static void check(const int32_t *ids, int64_t n) {
    const size_t bytes = (size_t)seo_groups_size(n) * sizeof(int32_t);
    int32_t *out = malloc(bytes), *again = malloc(bytes);
    assert_true(out && again);
    memset(out, 0xff, bytes);
    memset(again, 0xff, bytes);
    seo_groups_build(ids, n, out);
    seo_groups_build(ids, n, again);
    assert_memory_equal(out, again, bytes);
    rows_hold(ids, n, out);
    pieces_and_joins_hold(ids, n, out);
    free(out);
    free(again);
}

static const int64_t g_counts[] = {0, 1, 2, 3, 5, 63, 64, 65, 127, 128, 129, 191, 193, 1000, 4097};

/* ids[i] for every pattern that a digit, a sign or a length might get wrong. */
static int32_t pattern(int which, int64_t i, uint32_t bits) {
    switch (which) {
    case 0: return 7;
    case 1: return (int32_t)i;
    case 2: return (int32_t)(INT32_MAX - i);
    case 3: return (int32_t)(INT32_MIN + i);
    case 4: return i % 2 ? -1 : 1;
    case 5: return (int32_t)(bits % 3) - 1;
    case 6: return (int32_t)(bits % 50257);
    case 7: return (int32_t)bits;
    case 8: return (int32_t)(bits % 4) << 24;
    case 9: return (int32_t)(i / SEO_GROUPS_PIECE);
    case 10: return (int32_t)(i / (SEO_GROUPS_PIECE + 1)) * 256;
    default: return bits % 8 ? 0 : (int32_t)(bits % 1000);
    }
}
enum { PATTERNS = 12 };

static void any_ids_of_any_count(void **state) {
    (void)state;
    for (int c = 0; c < SEO_COUNT_OF(g_counts); c++) {
        const int64_t n = g_counts[c];
        int32_t *ids = malloc((size_t)(n > 0 ? n : 1) * sizeof *ids);
        assert_non_null(ids);
        for (int which = 0; which < PATTERNS; which++) {
            for (int64_t i = 0; i < n; i++) {
                ids[i] = pattern(which, i, seo_rng_u32(fill_key(101), (uint64_t)i));
            }
            check(ids, n);
        }
        free(ids);
    }
}

/* The most slots come from ids that are met just once more than a piece holds. */
static void slots_stay_below_their_bound(void **state) {
    (void)state;
    enum { GROUPS = 40, EACH = SEO_GROUPS_PIECE + 1 };
    int32_t ids[GROUPS * EACH];
    for (int i = 0; i < GROUPS * EACH; i++) ids[i] = i % GROUPS;
    check(ids, GROUPS * EACH);
}

static void lists_do_not_overlap(void **state) {
    (void)state;
    for (int64_t n = 0; n < 1000; n++) {
        assert_true(seo_groups_pieces_at(n) >= seo_groups_rows_at(n) + n);
        assert_int_equal(seo_groups_pieces_at(n) % 4, 0);
        assert_int_equal(seo_groups_joins_at(n) % 4, 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_ids_of_any_count),
        cmocka_unit_test(slots_stay_below_their_bound),
        cmocka_unit_test(lists_do_not_overlap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
