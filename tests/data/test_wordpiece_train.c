/* The WordPiece trainer against its definition done naively; the golden file; the same bytes for
 * any number of threads; letters that are left out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/file.h"
#include "base/log.h"
#include "data/vocabulary.h"
#include "data/wordpiece_train.h"
#include "text_maker.h"

#define GOLDEN(name) SEO_SOURCE_DIR "/tests/golden/" name

static seo_err train(const char *path, const seo_wordpiece_train_options *wanted,
                     seo_wordpiece_train_report *report, seo_tokenizer **tok) {
    const char *paths[1] = {path};
    seo_wordpiece_train_options options = *wanted;
    options.paths = paths;
    options.path_count = 1;
    if (options.alphabet_max == 0) options.alphabet_max = SEO_ALPHABET_MAX;
    if (options.threads == 0) options.threads = 1;
    return seo_wordpiece_train(&options, report, tok);
}

static void training_gives_the_golden_files(void **state) {
    (void)state;
    static const char *const golden[2] = {GOLDEN("wordpiece_small.json"),
                                          GOLDEN("wordpiece_small_cased.json")};
    static const int64_t vocab_size[2] = {585, 709};
    for (int cased = 0; cased < 2; cased++) {
        const seo_wordpiece_train_options options = {.vocab_size = 1000, .cased = cased != 0};
        seo_wordpiece_train_report report;
        seo_tokenizer *trained = NULL, *loaded = NULL;
        assert_int_equal(train(GOLDEN("wordpiece_small.txt"), &options, &report, &trained), SEO_OK);
        assert_int_equal(seo_tokenizer_load(golden[cased], &loaded), SEO_OK);
        assert_string_equal(seo_tokenizer_sha256(trained), seo_tokenizer_sha256(loaded));
        assert_int_equal(seo_tokenizer_vocab_size(trained), vocab_size[cased]);
        assert_int_equal(5 + report.letters + report.merges, vocab_size[cased]);
        seo_tokenizer_free(trained);
        seo_tokenizer_free(loaded);
    }
}

/* ---- the definition, naively: words as lists of symbols, all pairs counted for each merge ---- */

enum { NAIVE_WORDS = 400, NAIVE_LENGTH = 12, NAIVE_SYMBOLS = 400 };

typedef struct naive {
    int32_t words[NAIVE_WORDS][NAIVE_LENGTH];
    int lengths[NAIVE_WORDS];
    int64_t counts[NAIVE_WORDS];
    char pieces[NAIVE_SYMBOLS][2 + NAIVE_LENGTH + 1];
    int word_count, symbol_count;
} naive;

/* Words of a and b to d; symbols 0 to 3 begin words, 4 to 7 are inside. */
static void naive_start(naive *n, text_maker *maker, seo_word_table *table) {
    n->word_count = NAIVE_WORDS;
    n->symbol_count = 8;
    for (int i = 0; i < 8; i++) snprintf(n->pieces[i], 4, i < 4 ? "%c" : "##%c", 'a' + i % 4);
    for (int w = 0; w < NAIVE_WORDS; w++) {
        unsigned char text[NAIVE_LENGTH];
        n->lengths[w] = 1 + (int)maker_draw(maker, NAIVE_LENGTH);
        n->counts[w] = 1 + maker_draw(maker, 5);
        for (int i = 0; i < n->lengths[w]; i++) {
            int letter = (int)maker_draw(maker, 4);
            text[i] = (unsigned char)('a' + letter);
            n->words[w][i] = letter + (i > 0 ? 4 : 0);
        }
        assert_int_equal(seo_word_table_add(table, text, (size_t)n->lengths[w], n->counts[w]),
                         SEO_OK);
    }
}

static bool naive_best(const naive *n, int32_t *left, int32_t *right) {
    static int64_t counts[NAIVE_SYMBOLS][NAIVE_SYMBOLS];
    memset(counts, 0, sizeof counts);
    for (int w = 0; w < n->word_count; w++) {
        for (int i = 0; i + 1 < n->lengths[w]; i++) {
            counts[n->words[w][i]][n->words[w][i + 1]] += n->counts[w];
        }
    }
    int64_t best = 1;
    for (int32_t a = 0; a < n->symbol_count; a++) {
        for (int32_t b = 0; b < n->symbol_count; b++) {
            if (counts[a][b] <= best) continue;
            best = counts[a][b];
            *left = a;
            *right = b;
        }
    }
    return best > 1;
}

static void naive_merge(naive *n, int32_t left, int32_t right) {
    int32_t id = n->symbol_count++;
    char piece[sizeof n->pieces[0]] = "";
    size_t bytes = strlen(n->pieces[left]), more = strlen(n->pieces[right]) - 2;
    assert_true(bytes + more < sizeof piece);
    memcpy(piece, n->pieces[left], bytes);
    memcpy(piece + bytes, n->pieces[right] + 2, more);
    memcpy(n->pieces[id], piece, sizeof piece);
    for (int w = 0; w < n->word_count; w++) {
        int kept = 0;
        for (int i = 0; i < n->lengths[w]; i++) {
            bool pair =
                i + 1 < n->lengths[w] && n->words[w][i] == left && n->words[w][i + 1] == right;
            n->words[w][kept++] = pair ? id : n->words[w][i];
            i += pair;
        }
        n->lengths[w] = kept;
    }
}

static void pieces_are_those_of_the_definition(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        naive *n = calloc(1, sizeof *n);
        text_maker maker = {.seed = seed};
        seo_word_table table = {0};
        seo_wordpiece_train_report report = {0};
        seo_tokenizer *tok = NULL;
        const seo_wordpiece_train_options options = {.vocab_size = 5 + 8 + 200,
                                                     .alphabet_max = SEO_ALPHABET_MAX};
        assert_non_null(n);
        naive_start(n, &maker, &table);
        assert_int_equal(seo_wordpiece_train_words(&table, &options, &report, &tok), SEO_OK);
        for (int32_t left = 0, right = 0; n->symbol_count < 208 && naive_best(n, &left, &right);) {
            naive_merge(n, left, right);
        }
        assert_int_equal(seo_tokenizer_vocab_size(tok), 5 + n->symbol_count);
        for (int32_t i = 0; i < n->symbol_count; i++) {
            const unsigned char *bytes;
            size_t count;
            assert_true(seo_tokenizer_piece(tok, 5 + i, &bytes, &count));
            assert_int_equal(count, strlen(n->pieces[i]));
            assert_memory_equal(bytes, n->pieces[i], count);
        }
        seo_tokenizer_free(tok);
        seo_word_table_free(&table);
        free(n);
    }
}

/* ---- whole texts ---- */

static void write_text(char path[], const seo_buf *text) {
    strcpy(path, "/tmp/seodang-wordpiece-XXXXXX");
    int file = mkstemp(path);
    assert_true(file >= 0);
    assert_int_equal(write(file, text->data, text->bytes), (ssize_t)text->bytes);
    close(file);
}

static void threads_do_not_matter(void **state) {
    (void)state;
    char path[64], sha256[SEO_SHA256_HEX] = "";
    seo_buf text = {0};
    text_maker maker = {.seed = 5};
    while (text.bytes < 5 << 20) {
        maker_text(&maker, &text, 200);
        seo_buf_text(&text, "\n");
    }
    write_text(path, &text);
    for (int threads = 1; threads <= 5; threads += 2) {
        const seo_wordpiece_train_options options = {.vocab_size = 1500, .threads = threads};
        seo_wordpiece_train_report report;
        seo_tokenizer *tok = NULL;
        assert_int_equal(train(path, &options, &report, &tok), SEO_OK);
        if (threads == 1) strcpy(sha256, seo_tokenizer_sha256(tok));
        assert_string_equal(seo_tokenizer_sha256(tok), sha256);
        seo_tokenizer_free(tok);
    }
    unlink(path);
    seo_buf_free(&text);
}

/* Of equally frequent characters the smaller code points are letters. */
static void rare_letters_are_left_out(void **state) {
    (void)state;
    char path[64];
    seo_buf text = {0};
    seo_wordpiece_train_report report;
    seo_tokenizer *tok = NULL;
    seo_buf_text(&text, "ab ab ab q ac ac ad ad abz");
    write_text(path, &text);
    const seo_wordpiece_train_options options = {.vocab_size = 100, .alphabet_max = 3};
    assert_int_equal(train(path, &options, &report, &tok), SEO_OK);
    assert_int_equal(report.left_out, 4);
    assert_int_equal(report.letters, 5); /* a b c ##b ##c */
    assert_int_equal(report.merges, 2);  /* ab ac */
    static const char *const pieces[] = {"a", "b", "c", "##b", "##c", "ab", "ac"};
    for (int32_t i = 0; i < SEO_COUNT_OF(pieces); i++) {
        const unsigned char *bytes;
        size_t count;
        assert_true(seo_tokenizer_piece(tok, 5 + i, &bytes, &count));
        assert_int_equal(count, strlen(pieces[i]));
        assert_memory_equal(bytes, pieces[i], count);
    }
    seo_tokenizer_free(tok);
    const seo_wordpiece_train_options small = {.vocab_size = 9, .alphabet_max = 3};
    assert_int_equal(train(path, &small, &report, &tok), SEO_ERR_USAGE);
    assert_non_null(strstr(seo_err_detail(), "need 10 ids"));
    unlink(path);
    seo_buf_free(&text);
}

/* A text without words gives the special tokens. */
static void an_empty_text_gives_special_tokens(void **state) {
    (void)state;
    seo_word_table none = {0};
    seo_wordpiece_train_report report = {0};
    seo_tokenizer *tok = NULL;
    const seo_wordpiece_train_options options = {.vocab_size = 100, .alphabet_max = 10};
    assert_int_equal(seo_wordpiece_train_words(&none, &options, &report, &tok), SEO_OK);
    assert_int_equal(seo_tokenizer_vocab_size(tok), 5);
    assert_int_equal(seo_tokenizer_role(tok, SEO_ROLE_MASK), 4);
    seo_tokenizer_free(tok);
}

int main(void) {
    seo_log_setup(&(seo_log_options){.level = SEO_LOG_ERROR});
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(training_gives_the_golden_files),
        cmocka_unit_test(pieces_are_those_of_the_definition),
        cmocka_unit_test(threads_do_not_matter),
        cmocka_unit_test(rare_letters_are_left_out),
        cmocka_unit_test(an_empty_text_gives_special_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
