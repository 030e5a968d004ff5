/* The trainer against the definition done naively, on texts full of ties and runs; the same bytes
 * on any number of threads; what comes out of no text and of no merges. */
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
#include "data/bpe_train.h"
#include "data/pretoken.h"
#include "data/vocabulary.h"
#include "text_maker.h"

/* ---- the definition: all words of the text, recounted for every merge ---- */

enum { SYMBOLS_MAX = 512 };

typedef struct naive {
    int32_t *symbols; /* -1 between words */
    int64_t count;
    int64_t pair_counts[SYMBOLS_MAX][SYMBOLS_MAX];
} naive;

static void naive_start(naive *n, const seo_buf *text) {
    n->symbols = malloc((2 * text->bytes + 1) * sizeof *n->symbols);
    const unsigned char *p = (const unsigned char *)text->data, *end = p + text->bytes;
    while (p < end) {
        const unsigned char *stop = seo_pretoken_end(p, end);
        for (; p < stop; p++) n->symbols[n->count++] = *p;
        n->symbols[n->count++] = -1;
    }
}

/* The most frequent pair, of equals the smaller left, then right id; false below a count of 2. */
static bool naive_best(naive *n, int32_t *left, int32_t *right) {
    memset(n->pair_counts, 0, sizeof n->pair_counts);
    for (int64_t i = 0; i + 1 < n->count; i++) {
        if (n->symbols[i] < 0 || n->symbols[i + 1] < 0) continue;
        n->pair_counts[n->symbols[i]][n->symbols[i + 1]]++;
    }
    int64_t best = 1;
    for (int32_t a = 0; a < SYMBOLS_MAX; a++) {
        for (int32_t b = 0; b < SYMBOLS_MAX; b++) {
            if (n->pair_counts[a][b] <= best) continue;
            best = n->pair_counts[a][b];
            *left = a;
            *right = b;
        }
    }
    return best > 1;
}

static void naive_merge(naive *n, int32_t left, int32_t right, int32_t id) {
    int64_t out = 0;
    for (int64_t i = 0; i < n->count; i++) {
        bool both = i + 1 < n->count && n->symbols[i] == left && n->symbols[i + 1] == right;
        n->symbols[out++] = both ? id : n->symbols[i];
        if (both) i++;
    }
    n->count = out;
}

static void check_against_naive(const seo_buf *text, const seo_tokenizer *tok, int64_t merges) {
    naive *n = calloc(1, sizeof *n);
    naive_start(n, text);
    int64_t made = 0;
    for (int32_t left = 0, right = 0; made < merges && naive_best(n, &left, &right); made++) {
        assert_true(made < tok->merge_count);
        assert_int_equal(tok->merges[made].left, left);
        assert_int_equal(tok->merges[made].right, right);
        assert_int_equal(tok->merges[made].result, 256 + made);
        naive_merge(n, left, right, (int32_t)(256 + made));
    }
    assert_int_equal(tok->merge_count, made);
    assert_int_equal(seo_tokenizer_eot(tok), 256 + made);
    free(n->symbols);
    free(n);
}

static void count_words(const seo_buf *text, int threads, seo_word_table *words) {
    seo_word_counter *counter = NULL;
    assert_int_equal(seo_word_counter_open(threads, seo_pretoken_end, &counter), SEO_OK);
    assert_int_equal(seo_word_counter_add(counter, text->data, text->bytes), SEO_OK);
    assert_int_equal(seo_word_counter_finish(counter, words), SEO_OK);
    seo_word_counter_close(counter);
}

static void train_text(const seo_buf *text, int64_t vocab_size, seo_tokenizer **tok) {
    seo_word_table words = {0};
    count_words(text, 1, &words);
    assert_int_equal(seo_bpe_train_words(&words, vocab_size, SEO_SPECIAL_GPT2, tok), SEO_OK);
    seo_word_table_free(&words);
}

/* Few letters make many ties, and runs of one letter many overlaps. */
static void make_tied_text(text_maker *maker, seo_buf *text) {
    const char *letters = maker_draw(maker, 2) == 0 ? "aab " : "abcde \n";
    uint32_t kinds = (uint32_t)strlen(letters), count = maker_draw(maker, 400);
    for (uint32_t i = 0; i < count; i++) seo_buf_add(text, &letters[maker_draw(maker, kinds)], 1);
    if (maker_draw(maker, 3) == 0) maker_text(maker, text, (int)maker_draw(maker, 40));
    if (maker_draw(maker, 4) == 0) maker_bytes(maker, text, (int)maker_draw(maker, 60));
}

static void merges_are_those_of_the_definition(void **state) {
    (void)state;
    text_maker maker = {.seed = 31};
    for (int round = 0; round < 60; round++) {
        seo_buf text = {0};
        seo_tokenizer *tok = NULL;
        make_tied_text(&maker, &text);
        if (text.bytes == 0) seo_buf_text(&text, "a");
        int64_t merges = maker_draw(&maker, 60);
        train_text(&text, SEO_VOCAB_SIZE_MIN + merges, &tok);
        check_against_naive(&text, tok, merges);
        seo_tokenizer_free(tok);
        seo_buf_free(&text);
    }
}

/* Every word of the text is encoded by the merges learned from it, and comes back. */
static void what_was_learned_encodes(void **state) {
    (void)state;
    text_maker maker = {.seed = 32};
    seo_buf text = {0}, back = {0};
    seo_tokenizer *tok = NULL;
    seo_encoder *enc = NULL;
    seo_ids ids = {0};
    maker_text(&maker, &text, 4000);
    train_text(&text, 600, &tok);
    assert_int_equal(seo_tokenizer_vocab_size(tok), 600);
    assert_int_equal(seo_encoder_open(tok, &enc), SEO_OK);
    assert_int_equal(seo_encode(enc, text.data, text.bytes, false, &ids), SEO_OK);
    assert_true(ids.count * 2 < (int64_t)text.bytes);
    assert_int_equal(seo_decode(tok, ids.items, ids.count, &back), SEO_OK);
    assert_int_equal(back.bytes, text.bytes);
    assert_memory_equal(back.data, text.data, text.bytes);
    seo_ids_free(&ids);
    seo_encoder_close(enc);
    seo_tokenizer_free(tok);
    seo_buf_free(&text);
    seo_buf_free(&back);
}

/* Megabytes of many kinds of text, so that threads have blocks to fight for, from two files. */
static void same_bytes_on_any_number_of_threads(void **state) {
    (void)state;
    char folder[] = "/tmp/seodang-train-XXXXXX";
    char one[SEO_PATH_MAX], other[SEO_PATH_MAX];
    char sha256[SEO_SHA256_HEX] = "";
    assert_non_null(mkdtemp(folder));
    assert_int_equal(seo_path_join(one, folder, "one.txt"), SEO_OK);
    assert_int_equal(seo_path_join(other, folder, "other.txt"), SEO_OK);
    text_maker maker = {.seed = 33};
    seo_buf text = {0};
    while (text.bytes < 5000000) maker_text(&maker, &text, 1000);
    int64_t half = (int64_t)text.bytes / 2;
    assert_int_equal(seo_file_write_atomic(one, text.data, half), SEO_OK);
    assert_int_equal(seo_file_write_atomic(other, text.data + half, (int64_t)text.bytes - half),
                     SEO_OK);
    for (int threads = 1; threads <= 3; threads++) {
        const char *paths[2] = {folder, NULL};
        seo_bpe_train_options options = {
            .paths = paths, .path_count = 1, .vocab_size = 1000, .threads = threads};
        seo_bpe_train_report report;
        seo_tokenizer *tok = NULL;
        assert_int_equal(seo_bpe_train(&options, &report, &tok), SEO_OK);
        assert_int_equal(report.text_bytes, text.bytes);
        assert_int_equal(report.documents, 2);
        assert_int_equal(report.merges, 1000 - SEO_VOCAB_SIZE_MIN);
        if (threads == 1) memcpy(sha256, seo_tokenizer_sha256(tok), sizeof sha256);
        assert_string_equal(seo_tokenizer_sha256(tok), sha256);
        seo_tokenizer_free(tok);
    }
    seo_buf_free(&text);
    assert_int_equal(seo_dir_remove(folder), SEO_OK);
}

static void counts_do_not_depend_on_threads(void **state) {
    (void)state;
    text_maker maker = {.seed = 34};
    seo_buf text = {0};
    while (text.bytes < 4000000) maker_text(&maker, &text, 1000);
    seo_word_table words[3] = {{0}};
    for (int i = 0; i < 3; i++) count_words(&text, i + 1, &words[i]);
    for (int i = 1; i < 3; i++) {
        assert_int_equal(words[i].word_count, words[0].word_count);
        for (int64_t at = 0; at < words[0].slot_count; at++) {
            const seo_word *word = &words[0].slots[at];
            if (word->count == 0) continue;
            /* Adding once more shows the count: a word that is not there would be a new one. */
            int64_t before = words[i].word_count, found = -1;
            assert_int_equal(seo_word_table_add(&words[i], words[0].bytes + word->offset,
                                                (size_t)word->bytes, 1),
                             SEO_OK);
            assert_int_equal(words[i].word_count, before);
            for (int64_t j = (int64_t)(word->hash & (uint64_t)(words[i].slot_count - 1)); found < 0;
                 j = (j + 1) & (words[i].slot_count - 1)) {
                const seo_word *same = &words[i].slots[j];
                if (same->hash == word->hash && same->bytes == word->bytes) found = same->count;
            }
            assert_int_equal(found, word->count + 1);
        }
    }
    for (int i = 0; i < 3; i++) seo_word_table_free(&words[i]);
    seo_buf_free(&text);
}

static void no_merges_is_plain_bytes(void **state) {
    (void)state;
    seo_word_table none = {0};
    seo_tokenizer *tok = NULL;
    seo_encoder *enc = NULL;
    seo_ids ids = {0};
    assert_int_equal(seo_bpe_train_words(&none, SEO_VOCAB_SIZE_MIN, SEO_SPECIAL_GPT2, &tok),
                     SEO_OK);
    assert_int_equal(seo_tokenizer_vocab_size(tok), 257);
    assert_int_equal(seo_tokenizer_eot(tok), 256);
    unsigned char all[256];
    for (int i = 0; i < 256; i++) all[i] = (unsigned char)i;
    assert_int_equal(seo_encoder_open(tok, &enc), SEO_OK);
    assert_int_equal(seo_encode(enc, all, sizeof all, false, &ids), SEO_OK);
    assert_int_equal(ids.count, 256);
    for (int i = 0; i < 256; i++) assert_int_equal(ids.items[i], i);
    seo_ids_free(&ids);
    seo_encoder_close(enc);
    seo_tokenizer_free(tok);
}

/* A run of one letter and a random one, each a single word: the time must not be quadratic. */
static void endless_words_are_learned_from(void **state) {
    (void)state;
    text_maker maker = {.seed = 35};
    seo_buf text = {0};
    seo_tokenizer *tok = NULL;
    for (int i = 0; i < 400000; i++) seo_buf_add(&text, &"ACGT"[maker_draw(&maker, 4)], 1);
    seo_buf_text(&text, " ");
    for (int i = 0; i < 400000; i++) seo_buf_text(&text, "a");
    train_text(&text, 3000, &tok);
    assert_int_equal(seo_tokenizer_vocab_size(tok), 3000);
    seo_tokenizer_free(tok);
    seo_buf_free(&text);
}

static void impossible_wishes(void **state) {
    (void)state;
    seo_word_table none = {0};
    seo_tokenizer *tok = NULL;
    assert_int_equal(seo_bpe_train_words(&none, 256, SEO_SPECIAL_GPT2, &tok), SEO_ERR_USAGE);
    assert_non_null(strstr(seo_err_detail(), "257"));
    const char *paths[1] = {"/no/such/file"};
    seo_bpe_train_options options = {
        .paths = paths, .path_count = 1, .vocab_size = 300, .threads = 1};
    seo_bpe_train_report report;
    assert_int_equal(seo_bpe_train(&options, &report, &tok), SEO_ERR_MISSING);
    assert_non_null(strstr(seo_err_detail(), "/no/such/file"));
    options.vocab_size = 257;
    assert_int_equal(seo_bpe_train(&options, &report, &tok), SEO_ERR_MISSING);
    seo_buf text = {0};
    seo_buf_text(&text, "abab abab");
    train_text(&text, 1000000, &tok);
    assert_int_equal(seo_tokenizer_vocab_size(tok), 257 + 2);
    seo_tokenizer_free(tok);
    seo_buf_free(&text);
}

int main(void) {
    seo_log_setup(&(seo_log_options){.level = SEO_LOG_ERROR});
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges_are_those_of_the_definition),
        cmocka_unit_test(what_was_learned_encodes),
        cmocka_unit_test(same_bytes_on_any_number_of_threads),
        cmocka_unit_test(counts_do_not_depend_on_threads),
        cmocka_unit_test(no_merges_is_plain_bytes),
        cmocka_unit_test(endless_words_are_learned_from),
        cmocka_unit_test(impossible_wishes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
