/* Sentence pairs: taken apart again and found in the text that they were made of. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "rows_fixture.h"

enum { SEQ_LEN = 96, WINDOW = SEQ_LEN - 3, PICKS = 12 };

static seo_rows_args usual(rows_world *w) {
    return (seo_rows_args){.objective = SEO_OBJECTIVE_SENTENCE_PAIRS,
                           .datasets = &w->ds,
                           .dataset_count = 1,
                           .tokenizer = w->tok,
                           .seq_len = SEQ_LEN,
                           .seed = 4,
                           .mask_fraction = 0.15,
                           .max_predictions = PICKS};
}

/* A row without its masks. */
typedef struct parts {
    rows_room row;
    int64_t a_count, b_count; /* a at 1, b at a_count + 2 */
} parts;

/* Form, types, spans, picks and their number. */
static void take_apart(const seo_rows *rows, seo_order_place place, parts *out) {
    rows_room *row = &out->row;
    int64_t picks = 0, ordinary = 0, targets = 0, at = 1;
    rows_make(rows, place, row);
    for (int64_t n = 0; n < PICKS; n++) {
        assert_int_equal(row->picks[n] == SEO_ROW_IGNORE, row->pick_targets[n] == SEO_ROW_IGNORE);
        if (row->picks[n] == SEO_ROW_IGNORE) continue;
        assert_int_equal(n, picks++);
        assert_true(row->pick_targets[n] >= 4 && row->pick_targets[n] < ID_MASK);
        row->ids[row->picks[n]] = row->pick_targets[n];
    }
    assert_int_equal(row->ids[0], ID_BOS);
    while (row->ids[at] != ID_EOT) at++;
    out->a_count = at - 1;
    const int64_t second = ++at;
    while (row->ids[at] != ID_EOT) at++;
    out->b_count = at - second;
    const int64_t used = ++at;
    assert_in_range(used, 3, SEQ_LEN);
    for (int64_t t = 0; t < SEQ_LEN; t++) {
        if (t >= used) assert_int_equal(row->ids[t], ID_PAD);
        assert_int_equal(row->types[t], t >= second && t < used);
        assert_int_equal(row->spans[2 * t], t < used ? 0 : used);
        assert_int_equal(row->spans[2 * t + 1], t < used ? used : SEQ_LEN);
        ordinary += row->ids[t] >= 4 && row->ids[t] < ID_MASK;
    }
    const int64_t share = seo_max_i64(1, llround(0.15 * (double)ordinary));
    assert_int_equal(picks, seo_min_i64(ordinary, seo_min_i64(share, PICKS)));
    assert_int_equal(seo_rows_targets(rows, place, &targets), SEO_OK);
    assert_int_equal(targets, picks);
    assert_true(row->label == 0 || row->label == 1);
}

/* Where ids stand in tokens [from, to) of the text; -1: nowhere. */
static int64_t find(const rows_world *w, const int32_t *ids, int64_t count, int64_t from,
                    int64_t to) {
    for (int64_t at = from; at + count <= to; at++) {
        if (memcmp(w->tokens + at, ids, (size_t)count * sizeof *ids) == 0) return at;
    }
    return -1;
}

static bool starts_sentence(const rows_world *w, int64_t at) {
    const int64_t begin = w->begins[rows_world_document(w, at)];
    return at == begin || w->tokens[at - 1] == ID_STOP;
}

typedef struct tally {
    int64_t rows, random, told, others, cut_at_end, random_at_start, full;
} tally;

/* What follows in the text is looked for together with A. A short A alone may stand in its window
 * more than once: then it is only looked at where that does not matter. */
static void check_pair(const rows_world *w, const parts *p, int64_t window, tally *n) {
    int32_t a[SEQ_LEN];
    const int32_t *b = p->row.ids + p->a_count + 2;
    const int64_t first = window * WINDOW, follows = p->row.label == 0 ? p->b_count : 0;
    memcpy(a, p->row.ids + 1, (size_t)p->a_count * sizeof *a);
    memcpy(a + p->a_count, b, (size_t)follows * sizeof *a);
    const int64_t a_at = find(w, a, p->a_count + follows, first, first + WINDOW);
    assert_true(a_at >= 0);
    n->rows++;
    n->full += p->a_count + p->b_count == WINDOW;
    n->random += p->row.label;
    n->cut_at_end += a[p->a_count - 1] == ID_STOP;
    const int64_t document = rows_world_document(w, a_at);
    assert_true(a_at + p->a_count + follows <= w->begins[document + 1] - 1);
    if (p->row.label == 0 || p->a_count < 6) return;
    if (p->b_count < 6) return;
    n->told++;
    const int64_t b_at = find(w, b, p->b_count, 0, w->count);
    assert_true(b_at >= 0);
    assert_int_not_equal(b_at, a_at + p->a_count);
    n->others += rows_world_document(w, b_at) != document;
    n->random_at_start += starts_sentence(w, b_at);
}

static void check_share(int64_t hits, int64_t n, double p) {
    assert_true(fabs((double)hits - (double)n * p) <= 5 * sqrt((double)n * p * (1 - p)));
}

/* Documents of 40 to 400 tokens, so that rows of one or of several documents are met. */
static void halves_follow_and_halves_do_not(void **state) {
    (void)state;
    rows_world w;
    tally n = {0};
    rows_world_open(
        &w, (rows_text){.documents = 80, .least = 40, .most = 400, .unknown = 40, .stop = 9});
    seo_rows *rows = rows_open(usual(&w));
    assert_int_equal(seo_rows_count(rows, 0), w.count / WINDOW);
    for (int64_t epoch = 0; epoch < 8; epoch++) {
        for (int64_t i = 0; i < seo_rows_count(rows, 0); i++) {
            parts p;
            take_apart(rows, (seo_order_place){.epoch = epoch, .window = i}, &p);
            check_pair(&w, &p, i, &n);
        }
    }
    assert_true(n.rows > 1000);
    check_share(n.random, n.rows, 0.5);
    /* Ten tokens drawn of the text are all in one of 80 documents never. */
    assert_true(n.told * 10 > n.random * 7);
    assert_int_equal(n.others, n.told);
    /* A has no sentence end inside only where its part of the text has none, of 9 tokens each. */
    assert_true(n.cut_at_end * 10 > n.rows * 9);
    assert_true(n.random_at_start * 10 > n.told * 9);
    seo_rows_close(rows);
    rows_world_close(&w);
}

/* With one document B comes from far away in it, never from where A ends. */
static void one_document_is_enough(void **state) {
    (void)state;
    rows_world w;
    tally n = {0};
    rows_world_open(&w, (rows_text){.documents = 1, .least = 9000, .most = 9000, .stop = 9});
    seo_rows *rows = rows_open(usual(&w));
    for (int64_t i = 0; i < seo_rows_count(rows, 0); i++) {
        parts p;
        take_apart(rows, (seo_order_place){.window = i}, &p);
        check_pair(&w, &p, i, &n);
    }
    assert_true(n.random > 0 && n.random < n.rows);
    assert_int_equal(n.others, 0);
    assert_int_equal(n.full, n.rows); /* all windows lie inside, none is cut short */
    seo_rows_close(rows);
    rows_world_close(&w);
}

/* Of a text without borders every row is full, but for the share of shorter ones, whose length is
 * drawn from 2 to all; of those one of WINDOW - 1 is full by chance. */
static void short_sequences_are_a_share(void **state) {
    (void)state;
    rows_world w;
    rows_world_open(&w, (rows_text){.documents = 1, .least = 9000, .most = 9000, .stop = 9});
    for (int c = 0; c <= 2; c++) {
        seo_rows_args args = usual(&w);
        args.short_sequences = 0.5 * c;
        seo_rows *rows = rows_open(args);
        int64_t full = 0, all = 0, length = 0;
        for (int64_t epoch = 0; epoch < 20; epoch++) {
            for (int64_t i = 0; i < seo_rows_count(rows, 0); i++, all++) {
                parts p;
                take_apart(rows, (seo_order_place){.epoch = epoch, .window = i}, &p);
                assert_true(p.a_count >= 1 && p.b_count >= 1);
                full += p.a_count + p.b_count == WINDOW;
                length += p.a_count + p.b_count;
            }
        }
        const double share = 1 - args.short_sequences * (1 - 1.0 / (WINDOW - 1));
        check_share(full, all, share);
        if (c == 2) {
            const double mean = (2 + WINDOW) / 2.0, spread = (WINDOW - 1) / sqrt(12);
            assert_true(fabs((double)length / (double)all - mean) <=
                        5 * spread / sqrt((double)all));
        }
        seo_rows_close(rows);
    }
    rows_world_close(&w);
}

/* Documents of a token or none: no row fails, and what cannot be divided is no continuation. */
static void tiny_documents(void **state) {
    (void)state;
    for (int64_t most = 0; most <= 3; most++) {
        rows_world w;
        rows_world_open(&w, (rows_text){.documents = 600, .most = most});
        seo_rows *rows = rows_open(usual(&w));
        for (int64_t epoch = 0; epoch < 20; epoch++) {
            for (int64_t i = 0; i < seo_rows_count(rows, 0); i++) {
                parts p;
                take_apart(rows, (seo_order_place){.epoch = epoch, .window = i}, &p);
                assert_true(p.a_count <= most && p.b_count <= most);
                if (p.a_count == 0 || p.b_count == 0) assert_int_equal(p.row.label, 1);
            }
        }
        seo_rows_close(rows);
        rows_world_close(&w);
    }
}

/* Every token of the text is in a row of some epoch, also of a short document beside a long one. */
static void nothing_is_left_out_for_ever(void **state) {
    (void)state;
    rows_world w;
    rows_world_open(&w, (rows_text){.documents = 30, .least = 10, .most = 60, .stop = 7});
    seo_rows *rows = rows_open(usual(&w));
    unsigned char *seen = calloc((size_t)w.count, 1);
    assert_non_null(seen);
    for (int64_t epoch = 0; epoch < 400; epoch++) {
        for (int64_t i = 0; i < seo_rows_count(rows, 0); i++) {
            parts p;
            take_apart(rows, (seo_order_place){.epoch = epoch, .window = i}, &p);
            const int64_t first = i * WINDOW;
            const int64_t at = find(&w, p.row.ids + 1, p.a_count, first, first + WINDOW);
            assert_true(at >= 0);
            memset(seen + at, 1, (size_t)(p.a_count + (p.row.label == 0 ? p.b_count : 0)));
        }
    }
    const int64_t covered = seo_rows_count(rows, 0) * WINDOW;
    int64_t missed = 0;
    for (int64_t t = 0; t < covered; t++) missed += !seen[t] && w.tokens[t] != ID_EOT;
    /* Parts of one token, at the edge of a window, cannot be divided. */
    assert_true(missed <= 2 * seo_rows_count(rows, 0));
    free(seen);
    seo_rows_close(rows);
    rows_world_close(&w);
}

/* With BERT's own kind of vocabulary: its special tokens, and its full stop, which is a piece. */
static void pieces_of_words(void **state) {
    (void)state;
    enum { PAD, UNK, CLS, SEP, MASK };
    rows_world w;
    rows_world_open_wordpiece(&w, SEO_SOURCE_DIR "/tests/golden/tokenizer_small.txt", 40);
    const seo_rows_args args = usual(&w);
    seo_rows *rows = rows_open(args);
    int64_t stops = 0, all = 0, masks = 0;
    for (int64_t i = 0; i < seo_rows_count(rows, 0); i++, all++) {
        rows_room row;
        rows_make(rows, (seo_order_place){.window = i}, &row);
        assert_int_equal(row.ids[0], CLS);
        int64_t first = 1, second = 0;
        while (row.ids[first] != SEP) first++;
        for (second = first + 1; row.ids[second] != SEP;) second++;
        for (int64_t t = second + 1; t < SEQ_LEN; t++) assert_int_equal(row.ids[t], PAD);
        for (int64_t n = 0; n < PICKS && row.picks[n] != SEO_ROW_IGNORE; n++) {
            masks += row.ids[row.picks[n]] == MASK;
            assert_true(row.pick_targets[n] > MASK);
            row.ids[row.picks[n]] = row.pick_targets[n];
        }
        const unsigned char *bytes = NULL;
        size_t count = 0;
        assert_true(seo_tokenizer_piece(w.tok, row.ids[first - 1], &bytes, &count));
        stops += count == 1 && (*bytes == '.' || *bytes == '!' || *bytes == '?');
    }
    assert_true(all > 50 && masks > all);
    assert_true(stops * 2 > all); /* most lines of the text have one */
    seo_rows_close(rows);
    rows_world_close(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(halves_follow_and_halves_do_not), cmocka_unit_test(one_document_is_enough),
        cmocka_unit_test(short_sequences_are_a_share),     cmocka_unit_test(tiny_documents),
        cmocka_unit_test(nothing_is_left_out_for_ever),    cmocka_unit_test(pieces_of_words),
    };
    return cmocka_run_group_tests_name("data.rows_pairs", tests, NULL, NULL);
}
