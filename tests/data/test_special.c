/* Special tokens: their roles in the vocabularies of GPT-2 and RoBERTa, wherever their ids lie, and
 * what is said of those that are not there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/check.h"
#include "base/log.h"
#include "data/bpe_train.h"
#include "data/vocabulary.h"

#define GOLDEN(name) SEO_SOURCE_DIR "/tests/golden/" name

static seo_tokenizer *train(seo_special_set special, int64_t vocab_size) {
    const char *paths[1] = {GOLDEN("tokenizer_small.txt")};
    seo_bpe_train_options options = {.paths = paths,
                                     .path_count = 1,
                                     .special = special,
                                     .vocab_size = vocab_size,
                                     .threads = 1};
    seo_bpe_train_report report;
    seo_tokenizer *tok = NULL;
    assert_int_equal(seo_bpe_train(&options, &report, &tok), SEO_OK);
    assert_int_equal(seo_tokenizer_vocab_size(tok), vocab_size);
    assert_int_equal(report.merges, vocab_size - seo_special_vocab_min(special));
    return tok;
}

static void check_roles(const seo_tokenizer *tok, const int32_t expected[SEO_ROLE_COUNT]) {
    for (int role = 0; role < SEO_ROLE_COUNT; role++) {
        assert_int_equal(seo_tokenizer_role(tok, (seo_role)role), expected[role]);
    }
    assert_int_equal(seo_tokenizer_eot(tok), expected[SEO_ROLE_EOT]);
}

static void check_piece(const seo_tokenizer *tok, int32_t id, const char *expected) {
    const unsigned char *bytes;
    size_t count;
    assert_true(seo_tokenizer_piece(tok, id, &bytes, &count));
    assert_int_equal(count, strlen(expected));
    assert_memory_equal(bytes, expected, count);
}

static void gpt2_has_one_role(void **state) {
    (void)state;
    seo_tokenizer *tok = train(SEO_SPECIAL_GPT2, 300);
    check_roles(tok, (const int32_t[SEO_ROLE_COUNT]){299, -1, -1, -1, -1, -1, -1});
    seo_tokenizer_free(tok);
}

static void roberta_has_all_roles(void **state) {
    (void)state;
    static const int32_t expected[SEO_ROLE_COUNT] = {
        [SEO_ROLE_EOT] = 2, [SEO_ROLE_BOS] = 0, [SEO_ROLE_PAD] = 1, [SEO_ROLE_MASK] = 299,
        [SEO_ROLE_CLS] = 0, [SEO_ROLE_SEP] = 2, [SEO_ROLE_UNK] = 3};
    seo_tokenizer *tok = train(SEO_SPECIAL_ROBERTA, 300), *again = NULL;
    check_roles(tok, expected);
    check_piece(tok, 4 + '!', "!");
    check_piece(tok, 4 + 'a', "a");
    seo_buf text = {0};
    assert_int_equal(seo_tokenizer_write(tok, &text), SEO_OK);
    assert_non_null(strstr(text.data, "\"RobertaProcessing\", \"sep\": [\"</s>\", 2], "
                                      "\"cls\": [\"<s>\", 0]"));
    assert_int_equal(seo_tokenizer_parse("again", text.data, text.bytes, &again), SEO_OK);
    assert_string_equal(seo_tokenizer_sha256(tok), seo_tokenizer_sha256(again));
    check_roles(again, expected);
    seo_buf_free(&text);
    seo_tokenizer_free(again);
    seo_tokenizer_free(tok);
}

/* The merges are those of GPT-2's set: only ids differ. */
static void the_set_moves_ids_only(void **state) {
    (void)state;
    seo_tokenizer *one = train(SEO_SPECIAL_GPT2, 300), *other = train(SEO_SPECIAL_ROBERTA, 304);
    for (int32_t id = 0; id < 299; id++) {
        const unsigned char *bytes, *moved;
        size_t count, moved_count;
        assert_true(seo_tokenizer_piece(one, id, &bytes, &count));
        assert_true(seo_tokenizer_piece(other, id + 4, &moved, &moved_count));
        assert_int_equal(count, moved_count);
        assert_memory_equal(bytes, moved, count);
    }
    seo_tokenizer_free(one);
    seo_tokenizer_free(other);
}

static void check_ids(const seo_tokenizer *tok, const char *text, bool with_special,
                      const int32_t *expected, int64_t count) {
    seo_encoder *enc = NULL;
    seo_ids ids = {0};
    assert_int_equal(seo_encoder_open(tok, &enc), SEO_OK);
    assert_int_equal(seo_encode(enc, text, strlen(text), with_special, &ids), SEO_OK);
    assert_int_equal(ids.count, count);
    assert_memory_equal(ids.items, expected, (size_t)count * sizeof *expected);
    seo_ids_free(&ids);
    seo_encoder_close(enc);
}

static void a_mask_takes_the_space_before_it(void **state) {
    (void)state;
    enum { A = 4 + 'a', SPACE = 4 + ' ', MASK = 260 };
    seo_tokenizer *tok = train(SEO_SPECIAL_ROBERTA, 261);
    check_ids(tok, "a <mask> a", true, (const int32_t[]){A, MASK, SPACE, A}, 4);
    check_ids(tok, "a \t\n\xC2\x85\xE3\x80\x80<mask>", true, (const int32_t[]){A, MASK}, 2);
    check_ids(tok, "  <mask> <mask>", true, (const int32_t[]){MASK, MASK}, 2);
    check_ids(tok, "a\x85<mask>", true, (const int32_t[]){A, 4 + 0x85, MASK}, 3);
    check_ids(tok, "a <s> </s>", true, (const int32_t[]){A, SPACE, 0, SPACE, 2}, 5);
    check_ids(tok, "<s>", false, (const int32_t[]){4 + '<', 4 + 's', 4 + '>'}, 3);
    seo_tokenizer_free(tok);
}

/* Special tokens in texts, as Hugging Face's program finds them. */
static void ids_are_those_of_another_program(void **state) {
    (void)state;
    seo_tokenizer *tok = train(SEO_SPECIAL_ROBERTA, 400);
    FILE *file = fopen(GOLDEN("tokenizer_small_roberta_vectors.jsonl"), "rb");
    assert_non_null(file);
    int checked = 0;
    for (json_t *vector;
         (vector = json_loadf(file, JSON_DISABLE_EOF_CHECK | JSON_ALLOW_NUL, NULL)) != NULL;
         checked++) {
        const json_t *text = json_object_get(vector, "text"), *ids = json_object_get(vector, "ids");
        seo_encoder *enc = NULL;
        seo_ids got = {0};
        assert_int_equal(seo_encoder_open(tok, &enc), SEO_OK);
        assert_int_equal(
            seo_encode(enc, json_string_value(text), json_string_length(text), true, &got), SEO_OK);
        assert_int_equal(got.count, json_array_size(ids));
        for (int64_t i = 0; i < got.count; i++) {
            assert_int_equal(got.items[i], json_integer_value(json_array_get(ids, (size_t)i)));
        }
        seo_ids_free(&got);
        seo_encoder_close(enc);
        json_decref(vector);
    }
    assert_int_equal(checked, 238);
    fclose(file);
    seo_tokenizer_free(tok);
}

static void what_is_missing_is_named(void **state) {
    (void)state;
    seo_tokenizer *gpt2 = train(SEO_SPECIAL_GPT2, 257), *roberta = train(SEO_SPECIAL_ROBERTA, 261);
    int32_t id = 0;
    assert_int_equal(seo_tokenizer_require(gpt2, SEO_ROLE_MASK, &id), SEO_ERR_USAGE);
    assert_non_null(strstr(seo_err_detail(), "no mask token, <mask> or [MASK]"));
    assert_non_null(strstr(seo_err_detail(), "'<|endoftext|>'"));
    assert_non_null(strstr(seo_err_detail(), "--special roberta"));
    assert_int_equal(seo_tokenizer_require(roberta, SEO_ROLE_MASK, &id), SEO_OK);
    assert_int_equal(id, 260);
    assert_int_equal(seo_tokenizer_special_id(roberta, "<pad>", &id), SEO_OK);
    assert_int_equal(id, 1);
    assert_int_equal(seo_tokenizer_special_id(roberta, "<msak>", &id), SEO_ERR_USAGE);
    assert_non_null(strstr(seo_err_detail(), "'<msak>'"));
    assert_non_null(strstr(seo_err_detail(), "did you mean '<mask>'?"));
    assert_int_equal(seo_tokenizer_special_id(gpt2, "quite different", &id), SEO_ERR_USAGE);
    assert_non_null(strstr(seo_err_detail(), "it has '<|endoftext|>'"));
    seo_tokenizer_free(gpt2);
    seo_tokenizer_free(roberta);
}

static void too_small_a_vocabulary_is_refused(void **state) {
    (void)state;
    seo_word_table none = {0};
    seo_tokenizer *tok = NULL;
    assert_int_equal(seo_bpe_train_words(&none, 260, SEO_SPECIAL_ROBERTA, &tok), SEO_ERR_USAGE);
    assert_non_null(strstr(seo_err_detail(), "261"));
    assert_null(tok);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gpt2_has_one_role),
        cmocka_unit_test(roberta_has_all_roles),
        cmocka_unit_test(the_set_moves_ids_only),
        cmocka_unit_test(a_mask_takes_the_space_before_it),
        cmocka_unit_test(ids_are_those_of_another_program),
        cmocka_unit_test(what_is_missing_is_named),
        cmocka_unit_test(too_small_a_vocabulary_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
