/* WordPiece: ids that another program made, for vocabularies of ours and for BERT's; decoding;
 * files in either form, damaged, foreign and hostile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/check.h"
#include "base/file.h"
#include "base/log.h"
#include "data/vocabulary.h"
#include "text_maker.h"

#define GOLDEN(name) SEO_SOURCE_DIR "/tests/golden/" name

/* ---- ids of another program ---- */

static void check_vector(seo_encoder *enc, const json_t *vector) {
    const json_t *text = json_object_get(vector, "text"), *ids = json_object_get(vector, "ids");
    seo_ids got = {0};
    assert_int_equal(
        seo_encode(enc, json_string_value(text), json_string_length(text), false, &got), SEO_OK);
    bool same = got.count == (int64_t)json_array_size(ids);
    for (int64_t i = 0; same && i < got.count; i++) {
        same = got.items[i] == json_integer_value(json_array_get(ids, (size_t)i));
    }
    if (!same) print_error("'%s'\n", json_string_value(text));
    assert_true(same);
    seo_ids_free(&got);
}

static void check_vectors(const seo_tokenizer *tok, const char *path, int expected) {
    seo_encoder *enc = NULL;
    int checked = 0;
    assert_int_equal(seo_encoder_open(tok, &enc), SEO_OK);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    for (json_t *vector;
         (vector = json_loadf(file, JSON_DISABLE_EOF_CHECK | JSON_ALLOW_NUL, NULL)) != NULL;
         checked++) {
        check_vector(enc, vector);
        json_decref(vector);
    }
    assert_int_equal(checked, expected);
    fclose(file);
    seo_encoder_close(enc);
}

static void ids_of_small_vocabularies(void **state) {
    (void)state;
    seo_tokenizer *tok = NULL;
    assert_int_equal(seo_tokenizer_load(GOLDEN("wordpiece_small.json"), &tok), SEO_OK);
    assert_int_equal(seo_tokenizer_kind_of(tok), SEO_TOKENIZER_WORDPIECE);
    assert_int_equal(seo_tokenizer_vocab_size(tok), 585);
    check_vectors(tok, GOLDEN("wordpiece_small_vectors.jsonl"), 881);
    seo_tokenizer_free(tok);
    assert_int_equal(seo_tokenizer_load(GOLDEN("wordpiece_small_cased.json"), &tok), SEO_OK);
    check_vectors(tok, GOLDEN("wordpiece_small_cased_vectors.jsonl"), 881);
    seo_tokenizer_free(tok);
}

static void ids_of_bert_base_uncased(void **state) {
    (void)state;
    char path[SEO_PATH_MAX];
    if (!test_data_path(path, "bert-base-uncased-vocab.txt")) skip();
    seo_tokenizer *tok = NULL;
    assert_int_equal(seo_tokenizer_load_bert(path, false, &tok), SEO_OK);
    assert_int_equal(seo_tokenizer_vocab_size(tok), 30522);
    static const int32_t roles[SEO_ROLE_COUNT] = {
        [SEO_ROLE_EOT] = 102, [SEO_ROLE_BOS] = 101, [SEO_ROLE_PAD] = 0,  [SEO_ROLE_MASK] = 103,
        [SEO_ROLE_CLS] = 101, [SEO_ROLE_SEP] = 102, [SEO_ROLE_UNK] = 100};
    for (int role = 0; role < SEO_ROLE_COUNT; role++) {
        assert_int_equal(seo_tokenizer_role(tok, (seo_role)role), roles[role]);
    }
    check_vectors(tok, GOLDEN("wordpiece_bert_vectors.jsonl"), 928);
    seo_tokenizer_free(tok);
}

/* ---- a vocabulary to look through ---- */

static const char small[] =
    "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nun\n##aff\n##able\na\n##b\n##bc\n,\n.\n"
    "é\ne\n中\n##c\nunaffordable\n";
enum { PAD, UNK, CLS, SEP, MASK, UN, AFF, ABLE, A, B, BC, COMMA, DOT, E_ACUTE, E, ZHONG };

static seo_tokenizer *parse_small(bool cased) {
    seo_tokenizer *tok = NULL;
    assert_int_equal(seo_tokenizer_parse_bert("small.txt", small, strlen(small), cased, &tok),
                     SEO_OK);
    return tok;
}

static void check_ids(const seo_tokenizer *tok, const char *text, bool with_special,
                      const int32_t *expected, int64_t count) {
    seo_encoder *enc = NULL;
    seo_ids ids = {0};
    assert_int_equal(seo_encoder_open(tok, &enc), SEO_OK);
    /* Twice: the second time out of the cache. */
    for (int round = 0; round < 2; round++) {
        ids.count = 0;
        assert_int_equal(seo_encode(enc, text, strlen(text), with_special, &ids), SEO_OK);
        assert_int_equal(ids.count, count);
        assert_memory_equal(ids.items, expected, (size_t)count * sizeof *expected);
    }
    seo_ids_free(&ids);
    seo_encoder_close(enc);
}

static void the_longest_pieces_from_the_left(void **state) {
    (void)state;
    seo_tokenizer *tok = parse_small(false);
    check_ids(tok, "Unaffable, a.", false, (const int32_t[]){UN, AFF, ABLE, COMMA, A, DOT}, 6);
    check_ids(tok, "abc ab ac", false, (const int32_t[]){A, BC, A, B, A, 16}, 6);
    /* What cannot go on makes the whole word unknown. */
    check_ids(tok, "unaffabl unx x", false, (const int32_t[]){UNK, UNK, UNK}, 3);
    check_ids(tok, "é É 中a", false, (const int32_t[]){E, E, ZHONG, A}, 4);
    check_ids(tok, "[MASK] a", false, (const int32_t[]){UNK, UNK, UNK, A}, 4);
    check_ids(tok, "[MASK]a[SEP]", true, (const int32_t[]){MASK, A, SEP}, 3);
    seo_tokenizer_free(tok);
    tok = parse_small(true);
    check_ids(tok, "é É a A", false, (const int32_t[]){E_ACUTE, UNK, A, UNK}, 4);
    seo_tokenizer_free(tok);
}

/* 100 characters are cut into pieces, 101 are unknown; what counts are characters, not bytes. */
static void long_words_are_unknown(void **state) {
    (void)state;
    seo_tokenizer *tok = parse_small(false);
    char text[256] = "a";
    int32_t ids[100] = {A};
    for (int i = 1; i < 100; i++) {
        text[i] = 'b';
        ids[i] = B;
    }
    check_ids(tok, text, false, ids, 100);
    text[100] = 'b';
    check_ids(tok, text, false, (const int32_t[]){UNK}, 1);
    seo_tokenizer_free(tok);
}

static void check_text(const seo_tokenizer *tok, const int32_t *ids, int64_t count,
                       const char *expected) {
    seo_buf text = {0};
    assert_int_equal(seo_decode(tok, ids, count, &text), SEO_OK);
    assert_string_equal(text.data, expected);
    seo_buf_free(&text);
}

static void decoding_joins_pieces(void **state) {
    (void)state;
    seo_tokenizer *tok = parse_small(false);
    check_text(tok, (const int32_t[]){CLS, UN, AFF, ABLE, COMMA, A, BC, DOT, SEP}, 9,
               "[CLS] unaffable, abc. [SEP]");
    check_text(tok, (const int32_t[]){AFF, A}, 2, "##aff a");
    seo_buf text = {0};
    assert_int_equal(seo_decode(tok, (const int32_t[]){18}, 1, &text), SEO_ERR_FORMAT);
    seo_buf_free(&text);
    seo_tokenizer_free(tok);
}

/* Four million bytes of what could cost the square of its length: with n^2 steps this test would
 * not end. */
static void long_runs_take_linear_time(void **state) {
    (void)state;
    static const char *const units[] = {"a",         "\xE3\x80\xAF\xE1\xAD\x84",
                                        "e\xCC\x81", "\xEA\xB0\x81",
                                        "\xFF",      "##",
                                        " ",         "\xE3\x80\x80",
                                        "unaffable", "\xC2\xAD"};
    seo_tokenizer *tok = parse_small(false);
    for (int64_t i = 0; i < SEO_COUNT_OF(units); i++) {
        seo_encoder *enc = NULL;
        seo_ids ids = {0};
        seo_buf text = {0};
        while (text.bytes < 4 << 20) seo_buf_text(&text, units[i]);
        assert_int_equal(seo_buf_check(&text), SEO_OK);
        assert_int_equal(seo_encoder_open(tok, &enc), SEO_OK);
        assert_int_equal(seo_encode(enc, text.data, text.bytes, false, &ids), SEO_OK);
        assert_true(ids.count <= (int64_t)text.bytes);
        seo_ids_free(&ids);
        seo_buf_free(&text);
        seo_encoder_close(enc);
    }
    seo_tokenizer_free(tok);
}

/* ---- files ---- */

static void what_is_saved_is_the_same_tokenizer(void **state) {
    (void)state;
    for (int cased = 0; cased < 2; cased++) {
        seo_tokenizer *tok = parse_small(cased != 0), *again = NULL;
        seo_buf text = {0};
        assert_int_equal(seo_tokenizer_write(tok, &text), SEO_OK);
        assert_int_equal(seo_tokenizer_parse("again", text.data, text.bytes, &again), SEO_OK);
        assert_string_equal(seo_tokenizer_sha256(tok), seo_tokenizer_sha256(again));
        assert_int_equal(seo_tokenizer_rules(again).lower_case, !cased);
        assert_int_equal(seo_tokenizer_rules(again).strip_accents, !cased);
        assert_int_equal(seo_tokenizer_rules(again).characters_max, 100);
        seo_buf_free(&text);
        seo_tokenizer_free(tok);
        seo_tokenizer_free(again);
    }
}

static void check_refused(const char *text, size_t bytes, const char *expected) {
    seo_tokenizer *tok = NULL;
    seo_err err = seo_tokenizer_parse_bert("v.txt", text, bytes, false, &tok);
    if (err == SEO_OK || strstr(seo_err_detail(), expected) == NULL)
        print_error("'%s': '%s'\n", text, seo_err_detail());
    assert_int_equal(err, SEO_ERR_FORMAT);
    assert_non_null(strstr(seo_err_detail(), expected));
    assert_memory_equal(seo_err_detail(), "v.txt", 5);
    assert_null(tok);
}

static void bad_lines_are_named(void **state) {
    (void)state;
    seo_tokenizer *tok = NULL;
    check_refused("", 0, "empty");
    check_refused("a\nb\n", 4, "[UNK]");
    check_refused("[UNK]\na\n\nb\n", 11, "v.txt:3: an empty line");
    check_refused("[UNK]\na\n\xC3\n", 10, "v.txt:3: the piece is not UTF-8");
    check_refused("[UNK]\nab\nb\nab\n", 14, "'ab' has two ids, 1 and 3");
    check_refused("[UNK]\n[UNK]\n", 12, "'[UNK]' has two ids, 0 and 1");
    assert_int_equal(seo_tokenizer_parse_bert("v.txt", "[UNK]\r\na\r\nb", 11, false, &tok), SEO_OK);
    assert_int_equal(seo_tokenizer_vocab_size(tok), 3);
    check_ids(tok, "a b c", false, (const int32_t[]){1, 2, 0}, 3);
    seo_tokenizer_free(tok);
    assert_int_equal(seo_tokenizer_load_bert("/no/such/vocab.txt", false, &tok), SEO_ERR_MISSING);
}

static json_t *parse_golden(void) {
    json_t *root = json_load_file(GOLDEN("wordpiece_small.json"), 0, NULL);
    assert_non_null(root);
    return root;
}

/* Puts `json` in the place of a member, "model.type". */
static void put(json_t *root, const char *place, const char *json) {
    char key[64];
    const char *dot = strchr(place, '.');
    json_t *value = json_loads(json, JSON_DECODE_ANY, NULL);
    assert_non_null(value);
    snprintf(key, sizeof key, "%.*s", dot != NULL ? (int)(dot - place) : 0, place);
    json_t *at = dot != NULL ? json_object_get(root, key) : root;
    assert_int_equal(json_object_set_new(at, dot != NULL ? dot + 1 : place, value), 0);
}

static seo_err read_changed(const char *place, const char *json, seo_tokenizer **tok) {
    json_t *root = parse_golden();
    put(root, place, json);
    char *text = json_dumps(root, 0);
    seo_err err = seo_tokenizer_parse("x.json", text, strlen(text), tok);
    free(text);
    json_decref(root);
    return err;
}

static void each_foreign_thing_is_named(void **state) {
    (void)state;
    static const struct {
        const char *place, *json, *expected;
    } cases[] = {
        {"model.continuing_subword_prefix", "\"_\"", "'##'"},
        {"model.max_input_chars_per_word", "0", "max_input_chars_per_word"},
        {"model.max_input_chars_per_word", "\"100\"", "max_input_chars_per_word"},
        {"model.unk_token", "\"[PAD]\"", "[PAD]"},
        {"model.unk_token", "null", "unk_token"},
        {"model.unk_token", "\"<unk>\"", "not in model.vocab"},
        {"model.vocab", "[]", "vocab"},
        {"model.vocab", "{\"a\": -1}", "id -1"},
        {"normalizer", "null", "BertNormalizer"},
        {"normalizer.type", "\"Lowercase\"", "Lowercase"},
        {"normalizer.clean_text", "false", "clean_text"},
        {"normalizer.lowercase", "1", "lowercase"},
        {"pre_tokenizer", "null", "BertPreTokenizer"},
        {"pre_tokenizer.type", "\"Whitespace\"", "Whitespace"},
        {"decoder.type", "\"ByteLevel\"", "ByteLevel"},
        {"decoder.prefix", "\"@@\"", "decoder.prefix"},
        {"post_processor",
         "{\"type\": \"BertProcessing\", \"sep\": [\"[SEP]\", 3], \"cls\": "
         "[\"[CLS]\", 5]}",
         "[CLS]"},
        {"added_tokens",
         "[{\"id\": 1, \"content\": \"[UNK]\", \"special\": true, \"normalized\": true}]",
         "normalized"},
    };
    for (int64_t i = 0; i < SEO_COUNT_OF(cases); i++) {
        seo_tokenizer *tok = NULL;
        seo_err err = read_changed(cases[i].place, cases[i].json, &tok);
        if (err == SEO_OK || strstr(seo_err_detail(), cases[i].expected) == NULL)
            print_error("%s = %s: '%s'\n", cases[i].place, cases[i].json, seo_err_detail());
        assert_int_not_equal(err, SEO_OK);
        assert_non_null(strstr(seo_err_detail(), cases[i].expected));
        assert_memory_equal(seo_err_detail(), "x.json", 6);
        assert_null(tok);
    }
}

static void rules_are_read(void **state) {
    (void)state;
    seo_tokenizer *tok = NULL;
    assert_int_equal(read_changed("normalizer",
                                  "{\"type\": \"BertNormalizer\", \"lowercase\": false, "
                                  "\"strip_accents\": true, \"handle_chinese_chars\": false}",
                                  &tok),
                     SEO_OK);
    seo_wordpiece_rules rules = seo_tokenizer_rules(tok);
    assert_false(rules.lower_case);
    assert_true(rules.strip_accents);
    assert_false(rules.chinese);
    seo_tokenizer_free(tok);
    assert_int_equal(read_changed("model.max_input_chars_per_word", "3", &tok), SEO_OK);
    assert_int_equal(seo_tokenizer_rules(tok).characters_max, 3);
    check_ids(tok, "reads", false, (const int32_t[]){1}, 1);
    seo_tokenizer_free(tok);
    /* A file without added tokens: [UNK] is special all the same. */
    assert_int_equal(read_changed("added_tokens", "[]", &tok), SEO_ERR_FORMAT);
    assert_non_null(strstr(seo_err_detail(), "post_processor"));
}

/* ---- damage ---- */

static void check_survives(const char *text, size_t bytes) {
    seo_tokenizer *tok = NULL;
    if (seo_tokenizer_parse("damaged.json", text, bytes, &tok) != SEO_OK) {
        assert_non_null(strstr(seo_err_detail(), "damaged.json"));
        assert_null(tok);
        return;
    }
    seo_encoder *enc = NULL;
    seo_ids ids = {0};
    seo_buf back = {0};
    static const char sample[] = "We read the reader\xFF\xC3\xA9 1984 [MASK]";
    assert_int_equal(seo_encoder_open(tok, &enc), SEO_OK);
    assert_int_equal(seo_encode(enc, sample, sizeof sample, true, &ids), SEO_OK);
    assert_int_equal(seo_decode(tok, ids.items, ids.count, &back), SEO_OK);
    seo_buf_free(&back);
    seo_ids_free(&ids);
    seo_encoder_close(enc);
    seo_tokenizer_free(tok);
}

static void damaged_files_do_no_harm(void **state) {
    (void)state;
    int64_t bytes = 0;
    char *text = NULL;
    assert_int_equal(seo_file_read(GOLDEN("wordpiece_small.json"), 1 << 20, &text, &bytes), SEO_OK);
    for (int64_t cut = 0; cut + 2 < bytes; cut += 37) {
        seo_tokenizer *tok = NULL;
        assert_int_equal(seo_tokenizer_parse("cut.json", text, (size_t)cut, &tok), SEO_ERR_FORMAT);
        assert_non_null(strstr(seo_err_detail(), "cut.json"));
    }
    text_maker maker = {.seed = 43};
    for (int round = 0; round < 3000; round++) {
        uint32_t at = maker_draw(&maker, (uint32_t)bytes);
        char before = text[at];
        text[at] = (char)(before ^ (1 << maker_draw(&maker, 8)));
        check_survives(text, (size_t)bytes);
        text[at] = before;
    }
    free(text);
}

int main(void) {
    seo_log_setup(&(seo_log_options){.level = SEO_LOG_ERROR});
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_of_small_vocabularies),
        cmocka_unit_test(ids_of_bert_base_uncased),
        cmocka_unit_test(the_longest_pieces_from_the_left),
        cmocka_unit_test(long_words_are_unknown),
        cmocka_unit_test(long_runs_take_linear_time),
        cmocka_unit_test(decoding_joins_pieces),
        cmocka_unit_test(what_is_saved_is_the_same_tokenizer),
        cmocka_unit_test(bad_lines_are_named),
        cmocka_unit_test(each_foreign_thing_is_named),
        cmocka_unit_test(rules_are_read),
        cmocka_unit_test(damaged_files_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
