/* A task's file: what becomes of its lines, as rows of decoders and encoders, and what is said of
 * lines that are wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/text.h"
#include "data/examples.h"
#include "data/loader.h"
#include "rows_fixture.h"

enum { SEQ_LEN = 16, GPT2_EOT = 256 };

static const char *const labels[] = {"austen", "kjv", "7"};

typedef struct world {
    seo_tokenizer *gpt2, *roberta; /* bytes: id = byte, and byte + 4 */
} world;

static seo_examples_args decoder(const world *w, seo_examples_kind kind, const char *path) {
    const bool classify = kind == SEO_EXAMPLES_CLASSIFY;
    return (seo_examples_args){.path = path,
                               .kind = kind,
                               .tokenizer = w->gpt2,
                               .labels = classify ? labels : NULL,
                               .label_count = classify ? SEO_COUNT_OF(labels) : 0,
                               .seq_len = SEQ_LEN,
                               .threads = 1};
}

static seo_examples_args encoder(const world *w, const char *path) {
    seo_examples_args args = decoder(w, SEO_EXAMPLES_CLASSIFY, path);
    args.tokenizer = w->roberta;
    args.encoder = true;
    args.types = 2;
    args.separators = 1;
    return args;
}

static seo_examples *parse(const seo_examples_args *args, const char *text) {
    seo_examples *x = NULL;
    const seo_err err = seo_examples_parse(args, text, (int64_t)strlen(text), &x);
    if (err != SEO_OK) fprintf(stderr, "%s\n", seo_err_detail());
    assert_int_equal(err, SEO_OK);
    return x;
}

static seo_rows *rows_of(const seo_examples *x) {
    return rows_open(
        (seo_rows_args){.objective = SEO_OBJECTIVE_EXAMPLES, .examples = x, .seq_len = SEQ_LEN});
}

/* The ids of `text`, where ^ is cls, $ sep or eot and _ padding. */
static void check_ids(const int32_t *ids, const char *text, bool roberta) {
    for (int64_t t = 0; t < SEQ_LEN; t++) {
        const char c = text[t];
        int32_t want = roberta ? 4 + c : c;
        if (c == '^') want = ID_BOS;
        if (c == '$') want = roberta ? ID_EOT : GPT2_EOT;
        if (c == '_') want = roberta ? ID_PAD : GPT2_EOT;
        assert_int_equal(ids[t], want);
    }
}

static void check_spans(const rows_room *row, int64_t used) {
    for (int64_t t = 0; t < SEQ_LEN; t++) {
        assert_int_equal(row->spans[2 * t], t < used ? 0 : used);
        assert_int_equal(row->spans[2 * t + 1], t < used ? used : SEQ_LEN);
    }
}

static void prompts_and_completions(void **state) {
    const world *w = *state;
    const seo_examples_args args = decoder(w, SEO_EXAMPLES_PAIRS, "pairs.jsonl");
    seo_examples *x = parse(&args, "{\"prompt\": \"ab\", \"completion\": \"cde\"}\r\n"
                                   "\n"
                                   "{\"completion\": \"x\", \"prompt\": \"\"}\n"
                                   "{\"prompt\": \"0123456789abcdefgh\", \"completion\": \"xyz\"}\n"
                                   "{\"prompt\": \"p\", \"completion\": \"0123456789abcde\"}");
    /* The third loses the front of its prompt: 13 ids of it fit before xyz and its end. */
    const char *ids[] = {"abcde___________", "$x______________", "56789abcdefghxyz",
                         "p0123456789abcde"};
    const int64_t used[] = {5, 2, 16, 16}, prompts[] = {2, 1, 13, 1}, lines[] = {1, 3, 4, 5};
    const char *targets[] = {"bcde$", "x$", "6789abcdefghxyz$", "0123456789abcde$"};
    seo_rows *rows = rows_of(x);
    assert_int_equal(seo_rows_count(rows, 0), 4);
    assert_int_equal(seo_examples_info_get(x).cut, 1);
    assert_int_equal(seo_examples_info_get(x).first_cut_line, 4);
    for (int64_t i = 0; i < 4; i++) {
        rows_room row;
        int64_t count = 0, counted = 0;
        const seo_order_place place = {.epoch = i, .window = i};
        rows_make(rows, place, &row);
        check_ids(row.ids, ids[i], false);
        check_spans(&row, used[i]);
        for (int64_t t = 0; t < SEQ_LEN; t++) {
            int32_t want = SEO_ROW_IGNORE;
            if (t + 1 >= prompts[i] && t < used[i]) {
                want = targets[i][t] == '$' ? GPT2_EOT : targets[i][t];
            }
            assert_int_equal(row.targets[t], want);
            counted += want != SEO_ROW_IGNORE;
        }
        assert_int_equal(seo_rows_targets(rows, place, &count), SEO_OK);
        assert_int_equal(count, counted);
        assert_int_equal(seo_rows_range(rows, place).first, lines[i]);
        assert_int_equal(seo_examples_line(x, i), lines[i]);
        assert_int_equal(seo_examples_label(x, i), -1);
        assert_int_equal(row.label, -7); /* there is none */
        assert_int_equal(row.picks[0], -7);
    }
    seo_rows_close(rows);
    seo_examples_close(x);
}

static void classes_of_decoders(void **state) {
    const world *w = *state;
    const seo_examples_args args = decoder(w, SEO_EXAMPLES_CLASSIFY, "t.tsv");
    seo_examples *x = parse(&args, "label\ttext\nkjv\tabc\nausten\t0123456789abcdefghij\n7\tz\n");
    const char *ids[] = {"abc$____________", "0123456789abcde$", "z$______________"};
    const int64_t used[] = {4, 16, 2};
    const int32_t classes[] = {1, 0, 2};
    seo_rows *rows = rows_of(x);
    assert_int_equal(seo_rows_count(rows, 0), 3);
    assert_int_equal(seo_examples_info_get(x).cut, 1);
    for (int64_t i = 0; i < 3; i++) {
        rows_room row;
        int64_t count = 0;
        rows_make(rows, (seo_order_place){.window = i}, &row);
        check_ids(row.ids, ids[i], false);
        check_spans(&row, used[i]);
        assert_int_equal(row.label, classes[i]);
        assert_int_equal(seo_examples_label(x, i), classes[i]);
        assert_int_equal(seo_examples_line(x, i), i + 2);
        assert_int_equal(row.picks[0], used[i] - 1);
        assert_int_equal(row.pick_targets[0], SEO_ROW_IGNORE);
        for (int64_t t = 0; t < SEQ_LEN; t++) {
            assert_int_equal(row.targets[t], t + 1 < used[i] ? row.ids[t + 1] : SEO_ROW_IGNORE);
        }
        assert_int_equal(seo_rows_targets(rows, (seo_order_place){.window = i}, &count), SEO_OK);
        assert_int_equal(count, used[i] - 1);
    }
    seo_rows_close(rows);
    seo_examples_close(x);
}

static void check_encoder(const seo_examples_args *args, const char *text, const char *ids,
                          const char *types) {
    seo_examples *x = parse(args, text);
    seo_rows *rows = rows_of(x);
    rows_room row;
    int64_t count = -1;
    rows_make(rows, (seo_order_place){0}, &row);
    check_ids(row.ids, ids, true);
    check_spans(&row, (int64_t)strcspn(ids, "_"));
    assert_int_equal(seo_rows_shape(rows).types, types != NULL ? SEQ_LEN : 0);
    for (int64_t t = 0; types != NULL && t < SEQ_LEN; t++) {
        assert_int_equal(row.types[t], types[t] - '0');
    }
    assert_int_equal(row.label, 0);
    assert_int_equal(seo_rows_targets(rows, (seo_order_place){0}, &count), SEO_OK);
    assert_int_equal(count, 0);
    assert_int_equal(seo_rows_shape(rows).targets + seo_rows_shape(rows).picks, 0);
    seo_rows_close(rows);
    seo_examples_close(x);
}

static void classes_of_encoders(void **state) {
    const world *w = *state;
    seo_examples_args args = encoder(w, "t.tsv");
    check_encoder(&args, "austen\tabc\n", "^abc$___________", "0000000000000000");
    check_encoder(&args, "austen\tabc\tde\n", "^abc$de$________", "0000011100000000");
    /* 13 places for two texts: the longer one loses its end, then both. */
    check_encoder(&args, "austen\tabc\t0123456789xyz\n", "^abc$0123456789$", "0000011111111111");
    check_encoder(&args, "austen\t0123456789xyz\tabc\n", "^0123456789$abc$", "0000000000001111");
    check_encoder(&args, "austen\tabcdefghijk\t0123456789\n", "^abcdefg$012345$",
                  "0000000001111111");
    args.types = 1;
    args.separators = 2;
    check_encoder(&args, "austen\tabc\tde\n", "^abc$$de$_______", NULL);
    args.path = "t.jsonl";
    check_encoder(&args, "{\"label\": \"austen\", \"text\": \"a\\tb\", \"pair\": \"c\"}",
                  "^a\tb$$c$________", NULL);
    check_encoder(&args, "{\"label\": \"austen\", \"text\": \"ab\", \"pair\": null}",
                  "^ab$____________", NULL);
}

static void whole_numbers_are_labels(void **state) {
    const world *w = *state;
    seo_examples_args args = encoder(w, "t.jsonl");
    seo_examples *x = parse(&args, "{\"label\": 7, \"text\": \"a\"}");
    assert_int_equal(seo_examples_label(x, 0), 2);
    seo_examples_close(x);
}

/* ---- what is wrong is named ---- */

static void check_refused(const seo_examples_args *args, const char *text, seo_err code,
                          const char *said, const char *also) {
    seo_examples *x = NULL;
    assert_int_equal(seo_examples_parse(args, text, (int64_t)strlen(text), &x), code);
    assert_null(x);
    if (strstr(seo_err_detail(), said) == NULL) fprintf(stderr, "%s\n", seo_err_detail());
    assert_non_null(strstr(seo_err_detail(), said));
    assert_non_null(strstr(seo_err_detail(), also));
}

static void wrong_lines_are_named(void **state) {
    const world *w = *state;
    const seo_examples_args tsv = encoder(w, "t.tsv"), jsonl = encoder(w, "t.jsonl");
    const seo_examples_args pairs = decoder(w, SEO_EXAMPLES_PAIRS, "p.jsonl");
    const seo_err format = SEO_ERR_FORMAT, usage = SEO_ERR_USAGE;
    check_refused(&tsv, "kjv\ta\nausten\n", format, "t.tsv:2:", "there is no tab");
    check_refused(&tsv, "kjv\ta\tb\tc\n", format, "t.tsv:1:", "too many tabs");
    check_refused(&tsv, "kjv\ta\n\nausen\tb\n", usage, "t.tsv:3:", "did you mean 'austen'?");
    check_refused(&tsv, "milton\ta\n", usage, "'milton'", "(austen, kjv, 7)");
    check_refused(&tsv, "kjv\t\n", format, "t.tsv:1:", "text is empty");
    check_refused(&tsv, "kjv\ta\t\n", format, "t.tsv:1:", "second text is empty");
    check_refused(&tsv, "kjv\ta\tb\nkjv\tc\n", format, "t.tsv:2:", "line 1 has one");
    check_refused(&tsv, "kjv\ta\nkjv\tb\tc\n", format, "t.tsv:1:", "line 2 has one");
    check_refused(&tsv, "label\ttext\n", format, "t.tsv", "no example");
    check_refused(&tsv, "", format, "t.tsv", "no example");
    check_refused(&jsonl, "\n{\"label\": \"kjv\"}\n", format, "t.jsonl:2:", "\"text\"");
    check_refused(&jsonl, "{\"text\": \"kjv\"}\n", format, "t.jsonl:1:", "label is missing");
    check_refused(&jsonl, "{\"text\": \"a\", \"label\": 1.5}\n", format, "t.jsonl:1:", "label");
    check_refused(&jsonl, "{\"text\": \"a\", \"label\": 8}\n", usage, "t.jsonl:1:", "'8'");
    check_refused(&jsonl, "{\"text\": 5, \"label\": \"kjv\"}\n", format, "t.jsonl:1:", "\"text\"");
    check_refused(&jsonl, "{\"text\": \"a\"\n", format, "t.jsonl:1:", "not valid JSON");
    check_refused(&jsonl, "{\"text\": \"a\", \"text\": \"b\", \"label\": \"kjv\"}\n", format,
                  "t.jsonl:1:", "not valid JSON");
    check_refused(&jsonl, "[1]\n", format, "t.jsonl:1:", "\"text\"");
    check_refused(&pairs, "{\"prompt\": \"a\"}\n", format, "p.jsonl:1:", "\"completion\"");
    check_refused(&pairs, "{\"prompt\": \"a\", \"completion\": \"\"}\n", format,
                  "p.jsonl:1:", "completion is empty");
    check_refused(&pairs, "{\"prompt\": \"a\", \"completion\": \"0123456789abcdef\"}\n", usage,
                  "p.jsonl:1:", "model.seq_len");
}

static void wrong_arguments_are_refused(void **state) {
    const world *w = *state;
    seo_examples_args args = encoder(w, "t.csv");
    check_refused(&args, "a\tb", SEO_ERR_USAGE, "t.csv", ".jsonl or .tsv");
    args = decoder(w, SEO_EXAMPLES_PAIRS, "t.tsv");
    check_refused(&args, "a\tb", SEO_ERR_USAGE, "t.tsv", ".jsonl");
    args = encoder(w, "t.tsv");
    args.tokenizer = w->gpt2;
    check_refused(&args, "kjv\ta", SEO_ERR_USAGE, "tokenizer", "[CLS]");
    args = encoder(w, "t.tsv");
    args.seq_len = 2;
    check_refused(&args, "kjv\ta", SEO_ERR_USAGE, "t.tsv:1:", "model.seq_len");
    args.label_count = 1;
    check_refused(&args, "kjv\ta", SEO_ERR_ARG, "classes", "two");
    seo_examples *x = NULL;
    args = encoder(w, "/nonexistent/t.tsv");
    assert_int_equal(seo_examples_open(&args, &x), SEO_ERR_MISSING);
    seo_examples_close(NULL);
}

/* ---- many lines ---- */

/* Line i has a text of i letters; the last is the wrong one, where one is wanted. */
static char *many_lines(int64_t count, bool wrong) {
    seo_buf text = {0};
    for (int64_t i = 1; i <= count; i++) {
        seo_buf_format(&text, "%s\t%lld\n", i % 3 == 0 ? "kjv" : "austen", (long long)i);
    }
    if (wrong) seo_buf_text(&text, "milton\ta\nmilton\tb\n");
    assert_false(text.failed);
    return text.data;
}

static void threads_make_the_same(void **state) {
    const world *w = *state;
    seo_examples_args args = encoder(w, "t.tsv");
    char *text = many_lines(1000, false);
    seo_examples *one = parse(&args, text);
    seo_rows *rows = rows_of(one);
    for (int64_t threads = 2; threads <= SEO_EXAMPLES_THREADS_MAX; threads *= 2) {
        args.threads = threads;
        seo_examples *other = parse(&args, text);
        seo_rows *others = rows_of(other);
        const seo_examples_info a = seo_examples_info_get(one), b = seo_examples_info_get(other);
        assert_int_equal(a.count, 1000);
        assert_int_equal(b.count, a.count);
        assert_int_equal(b.tokens, a.tokens);
        assert_string_equal(b.sha256, a.sha256);
        for (int64_t i = 0; i < a.count; i++) {
            rows_room x, y;
            rows_make(rows, (seo_order_place){.window = i}, &x);
            rows_make(others, (seo_order_place){.window = i}, &y);
            assert_memory_equal(&x, &y, sizeof x);
            assert_int_equal(seo_examples_line(other, i), i + 1);
        }
        seo_rows_close(others);
        seo_examples_close(other);
    }
    free(text);
    seo_rows_close(rows);
    seo_examples_close(one);
    text = many_lines(1000, true);
    args.threads = 8;
    check_refused(&args, text, SEO_ERR_USAGE, "t.tsv:1001:", "milton");
    free(text);
}

/* From a file, through the loader: every example once an epoch, and the targets of the whole batch
 * on every rank. */
static void the_loader_shuffles_examples(void **state) {
    const world *w = *state;
    char path[] = "/tmp/seodang-test-XXXXXX.tsv";
    enum { COUNT = 96, BATCH = 8, RANKS = 2 };
    const int fd = mkstemps(path, 4);
    char *text = many_lines(COUNT, false);
    FILE *file = fdopen(fd, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0 && fclose(file) == 0);
    seo_examples *x = NULL;
    const seo_examples_args args = decoder(w, SEO_EXAMPLES_CLASSIFY, path);
    assert_int_equal(seo_examples_open(&args, &x), SEO_OK);
    int64_t seen[COUNT] = {0}, totals[COUNT / BATCH] = {0}, told[COUNT / BATCH] = {0};
    for (int64_t rank = 0; rank < RANKS; rank++) {
        seo_loader *loader = NULL;
        assert_int_equal(seo_loader_open(&(seo_loader_args){.objective = SEO_OBJECTIVE_EXAMPLES,
                                                            .examples = x,
                                                            .seq_len = SEQ_LEN,
                                                            .batch_sequences = BATCH,
                                                            .first_sequence = rank * BATCH / RANKS,
                                                            .local_count = BATCH / RANKS,
                                                            .seed = 3,
                                                            .shuffle = true,
                                                            .prefetch = 2},
                                         &loader),
                         SEO_OK);
        for (int64_t step = 0; step < COUNT / BATCH; step++) {
            seo_batch batch;
            assert_int_equal(seo_loader_get(loader, step, &batch), SEO_OK);
            assert_int_equal(batch.stride, SEQ_LEN);
            assert_int_equal(batch.pick_count, 1);
            for (int64_t r = 0; r < batch.sequences; r++) {
                const int64_t index = batch.places[r].window;
                seen[index]++;
                assert_int_equal(batch.labels[r], (index + 1) % 3 == 0);
                totals[step] += batch.picks[r]; /* as many targets as the last place's number */
            }
            if (rank > 0) assert_int_equal(batch.total_targets, told[step]);
            told[step] = batch.total_targets;
        }
        seo_loader_close(loader);
    }
    for (int64_t i = 0; i < COUNT; i++) assert_int_equal(seen[i], 1);
    assert_memory_equal(totals, told, sizeof told);
    free(text);
    seo_examples_close(x);
    assert_int_equal(remove(path), 0);
}

static int setup(void **state) {
    static world w;
    w = (world){.gpt2 = rows_tokenizer(0), .roberta = rows_tokenizer(1)};
    *state = &w;
    return 0;
}

static int teardown(void **state) {
    world *w = *state;
    seo_tokenizer_free(w->gpt2);
    seo_tokenizer_free(w->roberta);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prompts_and_completions), cmocka_unit_test(classes_of_decoders),
        cmocka_unit_test(classes_of_encoders),     cmocka_unit_test(whole_numbers_are_labels),
        cmocka_unit_test(wrong_lines_are_named),   cmocka_unit_test(wrong_arguments_are_refused),
        cmocka_unit_test(threads_make_the_same),   cmocka_unit_test(the_loader_shuffles_examples),
    };
    return cmocka_run_group_tests_name("data.examples", tests, setup, teardown);
}
