/* Rows of the next token and masked rows: against the text itself, and by their statistics. */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "data/bpe_train.h"
#include "rows_fixture.h"

enum { SEQ_LEN = 64 };

static seo_rows_args usual(rows_world *w, seo_objective objective) {
    return (seo_rows_args){.objective = objective,
                           .datasets = &w->ds,
                           .dataset_count = 1,
                           .tokenizer = w->tok,
                           .seq_len = SEQ_LEN,
                           .seed = 9,
                           .mask_fraction = 0.15,
                           .max_predictions = SEQ_LEN,
                           .short_sequences = 0.1};
}

/* The document of a position, by the text: positions before and behind it belong to its ends. */
static void check_spans(const rows_world *w, const rows_room *row, int64_t first, int64_t count,
                        int64_t lead) {
    for (int64_t t = 0; t < SEQ_LEN; t++) {
        const int64_t inside = seo_min_i64(seo_max_i64(t - lead, 0), count - 1);
        const int64_t d = rows_world_document(w, first + inside);
        const int64_t begin = w->begins[d] - first + lead, end = w->begins[d + 1] - first + lead;
        assert_int_equal(row->spans[2 * t], begin <= lead ? 0 : begin);
        assert_int_equal(row->spans[2 * t + 1], end >= lead + count ? SEQ_LEN : end);
    }
}

static void next_tokens_follow_the_text(void **state) {
    rows_world *w = *state;
    for (int masked = 0; masked < 2; masked++) {
        seo_rows_args args = usual(w, SEO_OBJECTIVE_NEXT_TOKEN);
        args.document_mask = masked;
        seo_rows *rows = rows_open(args);
        assert_int_equal(seo_rows_count(rows, 0), (w->count - 1) / SEQ_LEN);
        const seo_row_shape shape = seo_rows_shape(rows);
        assert_int_equal(shape.ids, SEQ_LEN + 1);
        assert_int_equal(shape.spans, masked ? 2 * SEQ_LEN : 0);
        assert_int_equal(shape.targets + shape.types + shape.picks + shape.label, 0);
        for (int64_t i = 0; i < seo_rows_count(rows, 0); i++) {
            rows_room row;
            int64_t targets = 0;
            const seo_order_place place = {.epoch = i % 3, .window = i};
            rows_make(rows, place, &row);
            assert_memory_equal(row.ids, w->tokens + i * SEQ_LEN, (SEQ_LEN + 1) * sizeof *row.ids);
            if (masked) check_spans(w, &row, i * SEQ_LEN, SEQ_LEN, 0);
            assert_int_equal(seo_rows_targets(rows, place, &targets), SEO_OK);
            assert_int_equal(targets, SEQ_LEN);
            assert_int_equal(seo_rows_range(rows, place).first, i * SEQ_LEN);
            assert_int_equal(seo_rows_range(rows, place).count, SEQ_LEN + 1);
        }
        seo_rows_close(rows);
    }
}

static bool is_special(int32_t id) {
    return id < 4 || id == ID_MASK;
}

/* Picks are ascending, of ordinary tokens, as many as planned; puts back what they hid. Returns
 * their number. */
static int64_t restore(const seo_rows *rows, seo_order_place place, const seo_rows_args *args,
                       rows_room *row) {
    int64_t picks = 0, ordinary = 0, targets = 0;
    for (int64_t n = 0; n < args->max_predictions; n++) {
        if (row->picks[n] == SEO_ROW_IGNORE) {
            assert_int_equal(row->pick_targets[n], SEO_ROW_IGNORE);
            continue;
        }
        assert_int_equal(n, picks++);
        assert_in_range(row->picks[n], n > 0 ? row->picks[n - 1] + 1 : 1, args->seq_len - 2);
        assert_false(is_special(row->pick_targets[n]));
        const int32_t now = row->ids[row->picks[n]];
        assert_true(now == ID_MASK || !is_special(now));
        row->ids[row->picks[n]] = row->pick_targets[n];
    }
    for (int64_t t = 0; t < args->seq_len; t++) ordinary += !is_special(row->ids[t]);
    const int64_t share = llround(args->mask_fraction * (double)ordinary);
    assert_int_equal(
        picks, seo_min_i64(ordinary, seo_min_i64(args->max_predictions, seo_max_i64(1, share))));
    assert_int_equal(seo_rows_targets(rows, place, &targets), SEO_OK);
    assert_int_equal(targets, picks);
    return picks;
}

static void masked_rows_hide_the_text(void **state) {
    rows_world *w = *state;
    const int64_t most[] = {1, 4, SEQ_LEN};
    const double fractions[] = {0.001, 0.15, 1};
    for (int64_t c = 0; c < 9; c++) {
        seo_rows_args args = usual(w, SEO_OBJECTIVE_MASKED);
        args.document_mask = c % 2;
        args.max_predictions = most[c % 3];
        args.mask_fraction = fractions[c / 3];
        seo_rows *rows = rows_open(args);
        const int64_t step = SEQ_LEN - 2;
        assert_int_equal(seo_rows_count(rows, 0), w->count / step);
        assert_int_equal(seo_rows_shape(rows).picks, args.max_predictions);
        for (int64_t i = 0; i < seo_rows_count(rows, 0); i++) {
            rows_room row;
            const seo_order_place place = {.epoch = c, .window = i};
            rows_make(rows, place, &row);
            restore(rows, place, &args, &row);
            assert_int_equal(row.ids[0], ID_BOS);
            assert_int_equal(row.ids[SEQ_LEN - 1], ID_EOT);
            assert_memory_equal(row.ids + 1, w->tokens + i * step, (size_t)step * sizeof *row.ids);
            if (args.document_mask) check_spans(w, &row, i * step, step, 1);
        }
        seo_rows_close(rows);
    }
}

/* Five standard deviations of a sum of n draws of chance p: a fault of this test in two million
 * runs, and its seed does not change. */
static void check_share(int64_t hits, int64_t n, double p) {
    const double expected = (double)n * p, bound = 5 * sqrt((double)n * p * (1 - p));
    assert_true(fabs((double)hits - expected) <= bound);
}

/* 80 % masks, 10 % ordinary tokens of equal chance, 10 % as they were; anywhere in the row. */
static void masks_are_spread_as_promised(void **state) {
    rows_world *w = *state;
    const seo_rows_args args = usual(w, SEO_OBJECTIVE_MASKED);
    seo_rows *rows = rows_open(args);
    int64_t picks = 0, masks = 0, kept = 0, early = 0, low = 0, drawn = 0;
    double early_expected = 0;
    for (int64_t epoch = 0; epoch < 20; epoch++) {
        for (int64_t i = 0; i < seo_rows_count(rows, 0); i++) {
            rows_room row;
            int64_t ordinary = 0, early_ordinary = 0, count = 0;
            rows_make(rows, (seo_order_place){.epoch = epoch, .window = i}, &row);
            for (; row.picks[count] != SEO_ROW_IGNORE; count++) {
                const int32_t id = row.ids[row.picks[count]], was = row.pick_targets[count];
                masks += id == ID_MASK;
                kept += id == was;
                drawn += id != ID_MASK && id != was;
                low += id != ID_MASK && id != was && id < 4 + 64;
                early += row.picks[count] < SEQ_LEN / 2;
            }
            for (int64_t t = 1; t < SEQ_LEN - 1; t++) {
                const int32_t id = w->tokens[i * (SEQ_LEN - 2) + t - 1];
                ordinary += !is_special(id);
                early_ordinary += !is_special(id) && t < SEQ_LEN / 2;
            }
            picks += count;
            early_expected += (double)(count * early_ordinary) / (double)ordinary;
        }
    }
    assert_true(picks > 10000);
    check_share(masks, picks, 0.8);
    check_share(kept, picks, 0.1 + 0.1 / 256); /* a drawn token may be the same one */
    /* One of the 255 others, of which 64 are low, or 63 where a full stop (each 12th) was. */
    check_share(low, drawn, (64 - 1.0 / 12) / 255);
    /* Without replacement the variance is below that of independent picks. */
    assert_true(fabs((double)early - early_expected) <= 5 * sqrt((double)picks / 4));
    seo_rows_close(rows);
}

/* ---- a pure function ---- */

typedef struct job {
    const seo_rows *rows;
    rows_room *out;
    int64_t first, step;
    pthread_t thread;
} job;

enum { EPOCHS = 3, THREADS = 4 };

static void *make_backwards(void *argument) {
    const job *j = argument;
    const int64_t count = seo_rows_count(j->rows, 0);
    for (int64_t i = EPOCHS * count - 1 - j->first; i >= 0; i -= j->step) {
        rows_make(j->rows, (seo_order_place){.epoch = i / count, .window = i % count}, &j->out[i]);
    }
    return NULL;
}

static void any_order_and_threads_give_the_same(void **state) {
    rows_world *w = *state;
    const seo_objective objectives[] = {SEO_OBJECTIVE_NEXT_TOKEN, SEO_OBJECTIVE_MASKED,
                                        SEO_OBJECTIVE_SENTENCE_PAIRS};
    for (int64_t o = 0; o < SEO_COUNT_OF(objectives); o++) {
        seo_rows *rows = rows_open(usual(w, objectives[o]));
        const int64_t count = seo_rows_count(rows, 0), all = EPOCHS * count;
        rows_room *one = calloc((size_t)all, sizeof *one),
                  *other = calloc((size_t)all, sizeof *one);
        assert_non_null(one);
        assert_non_null(other);
        job jobs[THREADS];
        for (int64_t i = 0; i < all; i++) {
            rows_make(rows, (seo_order_place){.epoch = i / count, .window = i % count}, &one[i]);
        }
        for (int64_t i = 0; i < THREADS; i++) {
            jobs[i] = (job){.rows = rows, .out = other, .first = i, .step = THREADS};
            assert_int_equal(pthread_create(&jobs[i].thread, NULL, make_backwards, &jobs[i]), 0);
        }
        for (int64_t i = 0; i < THREADS; i++)
            assert_int_equal(pthread_join(jobs[i].thread, NULL), 0);
        assert_memory_equal(one, other, (size_t)all * sizeof *one);
        /* Epochs of one window differ where something is drawn. */
        int64_t same = 0;
        for (int64_t i = 0; i < count; i++) same += !memcmp(&one[i], &one[i + count], sizeof *one);
        if (o == 0) assert_int_equal(same, count);
        if (o > 0) assert_true(same * 20 < count);
        free(one);
        free(other);
        seo_rows_close(rows);
    }
}

static void the_seed_decides(void **state) {
    rows_world *w = *state;
    seo_rows_args args = usual(w, SEO_OBJECTIVE_MASKED);
    seo_rows *one = rows_open(args);
    args.seed++;
    seo_rows *other = rows_open(args);
    int64_t same = 0;
    const int64_t count = seo_rows_count(one, 0);
    for (int64_t i = 0; i < count; i++) {
        rows_room a, b;
        rows_make(one, (seo_order_place){.window = i}, &a);
        rows_make(other, (seo_order_place){.window = i}, &b);
        same += !memcmp(&a, &b, sizeof a);
    }
    assert_true(same * 20 < count);
    seo_rows_close(one);
    seo_rows_close(other);
}

/* Nothing but unknown tokens: nothing to predict, and no error. */
static void a_row_without_ordinary_tokens(void **state) {
    (void)state;
    rows_world w;
    rows_world_open(&w, (rows_text){.documents = 3, .least = 200, .most = 200, .unknown = 1});
    const seo_rows_args args = usual(&w, SEO_OBJECTIVE_MASKED);
    seo_rows *rows = rows_open(args);
    rows_room row;
    rows_make(rows, (seo_order_place){.window = 1}, &row);
    assert_int_equal(restore(rows, (seo_order_place){.window = 1}, &args, &row), 0);
    seo_rows_close(rows);
    rows_world_close(&w);
}

static void check_refused(seo_rows_args args, seo_err code, const char *said) {
    seo_rows *rows = NULL;
    assert_int_equal(seo_rows_open(&args, &rows), code);
    assert_null(rows);
    assert_non_null(strstr(seo_err_detail(), said));
}

static void what_does_not_go_is_refused(void **state) {
    rows_world *w = *state;
    seo_tokenizer *gpt2 = rows_tokenizer(0);
    const seo_rows_args good = usual(w, SEO_OBJECTIVE_MASKED);
    seo_rows_args args = good;
    args.tokenizer = gpt2;
    check_refused(args, SEO_ERR_USAGE, "mask");
    args = good;
    args.seq_len = w->count + 3;
    check_refused(args, SEO_ERR_USAGE, "too few for one sequence");
    args.objective = SEO_OBJECTIVE_NEXT_TOKEN;
    args.seq_len = w->count;
    check_refused(args, SEO_ERR_USAGE, "and its target");
    args = good;
    args.mask_fraction = 0;
    check_refused(args, SEO_ERR_ARG, "mask_fraction");
    args = good;
    args.max_predictions = 0;
    check_refused(args, SEO_ERR_ARG, "max_predictions");
    args = good;
    args.seq_len = 2;
    args.max_predictions = 1;
    check_refused(args, SEO_ERR_ARG, "at least 3");
    args = good;
    args.dataset_count = 0;
    check_refused(args, SEO_ERR_ARG, "datasets");
    seo_tokenizer_free(gpt2);
    seo_rows_close(NULL);
}

/* Another vocabulary than the one that the tokens are of would hide the wrong ones. */
static void another_tokenizer_is_refused(void **state) {
    rows_world *w = *state;
    const char *paths[] = {SEO_SOURCE_DIR "/tests/golden/tokenizer_small.txt"};
    const seo_bpe_train_options options = {.paths = paths,
                                           .path_count = 1,
                                           .special = SEO_SPECIAL_ROBERTA,
                                           .vocab_size = VOCAB + 3,
                                           .threads = 1};
    seo_bpe_train_report report;
    seo_tokenizer *tok = NULL;
    assert_int_equal(seo_bpe_train(&options, &report, &tok), SEO_OK);
    seo_rows_args args = usual(w, SEO_OBJECTIVE_MASKED);
    args.tokenizer = tok;
    check_refused(args, SEO_ERR_USAGE, "another tokenizer");
    seo_tokenizer_free(tok);
}

static int setup(void **state) {
    static rows_world w;
    rows_world_open(
        &w, (rows_text){.documents = 150, .least = 1, .most = 200, .unknown = 30, .stop = 12});
    *state = &w;
    return 0;
}

static int teardown(void **state) {
    rows_world_close(*state);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(next_tokens_follow_the_text),
        cmocka_unit_test(masked_rows_hide_the_text),
        cmocka_unit_test(masks_are_spread_as_promised),
        cmocka_unit_test(any_order_and_threads_give_the_same),
        cmocka_unit_test(the_seed_decides),
        cmocka_unit_test(a_row_without_ordinary_tokens),
        cmocka_unit_test(what_does_not_go_is_refused),
        cmocka_unit_test(another_tokenizer_is_refused),
    };
    return cmocka_run_group_tests_name("data.rows", tests, setup, teardown);
}
