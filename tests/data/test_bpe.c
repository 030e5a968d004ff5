/* Encoding and decoding: GPT-2's ids on every published and generated vector, round trips of any
 * bytes, long words against a naive merge, special tokens. */
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
#include "base/progress.h"
#include "data/pretoken.h"
#include "data/vocabulary.h"
#include "text_maker.h"

/* A small vocabulary whose merges tie, overlap and chain. */
static const char *const small_merges[][2] = {
    {"a", "a"},       {"aa", "aa"},      {"t", "h"}, {"th", "e"},   {" ", "the"},
    {"b", "a"},       {"ba", "aa"},      {"a", "b"}, {"aaaa", "b"}, {" ", "a"},
    {"\xC3", "\xA9"}, {"e", "\xC3\xA9"}, {"=", "="}, {"==", "=="},  {"====", "===="}};

static seo_tokenizer *small_tokenizer(void) {
    seo_vocab_builder builder = {0};
    for (int byte = 0; byte < 256; byte++) {
        unsigned char one = (unsigned char)byte;
        assert_int_equal(seo_vocab_builder_piece(&builder, byte, &one, 1), SEO_OK);
    }
    int64_t count = SEO_COUNT_OF(small_merges);
    for (int64_t i = 0; i < count; i++) {
        char whole[16];
        snprintf(whole, sizeof whole, "%s%s", small_merges[i][0], small_merges[i][1]);
        assert_int_equal(seo_vocab_builder_piece(&builder, 256 + i, whole, strlen(whole)), SEO_OK);
    }
    const char *specials[] = {SEO_EOT_TEXT, "<|end", "<|end|>"};
    for (int64_t i = 0; i < SEO_COUNT_OF(specials); i++) {
        int64_t id = 256 + count + i;
        assert_int_equal(seo_vocab_builder_special(&builder, id, specials[i], strlen(specials[i])),
                         SEO_OK);
    }
    assert_int_equal(seo_vocab_builder_index(&builder), SEO_OK);
    for (int64_t i = 0; i < count; i++) {
        const char *left = small_merges[i][0], *right = small_merges[i][1];
        assert_int_equal(
            seo_vocab_builder_merge(&builder, left, strlen(left), right, strlen(right)), SEO_OK);
    }
    seo_tokenizer *tok = NULL;
    assert_int_equal(seo_vocab_builder_finish(&builder, &tok), SEO_OK);
    seo_vocab_builder_free(&builder);
    return tok;
}

/* The definition, word by word: the lowest rank, the leftmost of equals, until none is left. */
static void naive_encode(const seo_tokenizer *tok, const unsigned char *p, const unsigned char *end,
                         seo_ids *out) {
    out->items = malloc((size_t)(end - p + 1) * sizeof *out->items);
    while (p < end) {
        const unsigned char *stop = seo_pretoken_end(p, end);
        int32_t *ids = out->items + out->count;
        int64_t count = 0;
        for (; p < stop; p++) ids[count++] = tok->byte_ids[*p];
        for (;;) {
            int64_t best_at = -1;
            int32_t best = INT32_MAX;
            for (int64_t i = 0; i + 1 < count; i++) {
                int32_t rank = seo_pair_rank(&tok->pairs, ids[i], ids[i + 1]);
                if (rank >= 0 && rank < best) {
                    best = rank;
                    best_at = i;
                }
            }
            if (best_at < 0) break;
            ids[best_at] = tok->merges[best].result;
            count--;
            memmove(ids + best_at + 1, ids + best_at + 2,
                    (size_t)(count - best_at - 1) * sizeof *ids);
        }
        out->count += count;
    }
}

static void check_ids(const seo_ids *got, const int32_t *expected, int64_t count) {
    assert_int_equal(got->count, count);
    if (count > 0) {
        assert_memory_equal(got->items, expected, (size_t)count * sizeof *expected);
    }
}

static void check_round_trip(const seo_tokenizer *tok, const seo_ids *ids, const seo_buf *text) {
    seo_buf back = {0};
    assert_int_equal(seo_decode(tok, ids->items, ids->count, &back), SEO_OK);
    assert_int_equal(back.bytes, text->bytes);
    if (text->bytes > 0) assert_memory_equal(back.data, text->data, text->bytes);
    seo_buf_free(&back);
}

/* `rounds` texts through one encoder, whose cache fills on the way, against the definition. */
static void check_texts(const seo_tokenizer *tok, int rounds) {
    seo_encoder *enc = NULL;
    assert_int_equal(seo_encoder_open(tok, &enc), SEO_OK);
    text_maker maker = {.seed = 21};
    for (int round = 0; round < rounds; round++) {
        seo_buf text = {0};
        if (round % 3 == 1) maker_bytes(&maker, &text, (int)maker_draw(&maker, 200));
        if (round % 3 == 2) maker_text(&maker, &text, (int)maker_draw(&maker, 60));
        uint32_t letters = maker_draw(&maker, 150);
        for (uint32_t i = 0; i < letters; i++)
            seo_buf_add(&text, &"aabthe"[maker_draw(&maker, 6)], 1);
        seo_ids got = {0}, expected = {0};
        unsigned char *exact = malloc(text.bytes + 1);
        if (text.bytes > 0) memcpy(exact, text.data, text.bytes);
        assert_int_equal(seo_encode(enc, exact, text.bytes, false, &got), SEO_OK);
        naive_encode(tok, exact, exact + text.bytes, &expected);
        check_ids(&got, expected.items, expected.count);
        check_round_trip(tok, &got, &text);
        free(exact);
        seo_ids_free(&got);
        seo_ids_free(&expected);
        seo_buf_free(&text);
    }
    seo_encoder_close(enc);
}

static void ids_are_those_of_the_definition(void **state) {
    (void)state;
    seo_tokenizer *tok = small_tokenizer();
    check_texts(tok, 5000);
    seo_tokenizer_free(tok);
}

static void long_runs_are_not_quadratic(void **state) {
    (void)state;
    enum { BYTES = 1000000 };
    seo_tokenizer *tok = small_tokenizer();
    seo_encoder *enc = NULL;
    assert_int_equal(seo_encoder_open(tok, &enc), SEO_OK);
    static const char run_of[] = "a^ \n=";
    char *text = malloc(BYTES);
    for (const char *c = run_of; *c != '\0'; c++) {
        memset(text, *c, BYTES);
        seo_ids ids = {0};
        double start = seo_clock_s();
        assert_int_equal(seo_encode(enc, text, BYTES, false, &ids), SEO_OK);
        assert_true(seo_clock_s() - start < 10.0);
        seo_buf view = {.data = text, .bytes = BYTES};
        check_round_trip(tok, &ids, &view);
        if (*c == 'a') assert_int_equal(ids.count, BYTES / 4);
        if (*c == '=') assert_int_equal(ids.count, BYTES / 8);
        seo_ids_free(&ids);
    }
    free(text);
    seo_encoder_close(enc);
    seo_tokenizer_free(tok);
}

static void check_small(const char *text, bool with_special, const int32_t *ids, int64_t count) {
    seo_tokenizer *tok = small_tokenizer();
    seo_encoder *enc = NULL;
    seo_ids got = {0};
    assert_int_equal(seo_encoder_open(tok, &enc), SEO_OK);
    assert_int_equal(seo_encode(enc, text, strlen(text), with_special, &got), SEO_OK);
    check_ids(&got, ids, count);
    seo_ids_free(&got);
    seo_encoder_close(enc);
    seo_tokenizer_free(tok);
}

/* 256 + rank of the merge, then the special tokens from 271. */
static void special_tokens_are_text_unless_asked_for(void **state) {
    (void)state;
    check_small("a" SEO_EOT_TEXT "b", true, (const int32_t[]){'a', 271, 'b'}, 3);
    check_small(SEO_EOT_TEXT, true, (const int32_t[]){271}, 1);
    check_small("<|end|><|end<|en", true, (const int32_t[]){273, 272, '<', '|', 'e', 'n'}, 6);
    check_small("<|end", false, (const int32_t[]){'<', '|', 'e', 'n', 'd'}, 5);
    check_small(" the the", false, (const int32_t[]){260, 260}, 2);
    check_small(" the" SEO_EOT_TEXT " the", true, (const int32_t[]){260, 271, 260}, 3);
    check_small("", true, NULL, 0);
}

static void pieces_and_their_kinds(void **state) {
    (void)state;
    seo_tokenizer *tok = small_tokenizer();
    const unsigned char *bytes;
    size_t count;
    assert_int_equal(seo_tokenizer_vocab_size(tok), 274);
    assert_int_equal(seo_tokenizer_eot(tok), 271);
    assert_true(seo_tokenizer_piece(tok, 259, &bytes, &count));
    assert_int_equal(count, 3);
    assert_memory_equal(bytes, "the", 3);
    assert_true(seo_tokenizer_is_special(tok, 272));
    assert_false(seo_tokenizer_is_special(tok, 0));
    assert_false(seo_tokenizer_is_special(tok, -1));
    assert_false(seo_tokenizer_piece(tok, 274, &bytes, &count));
    assert_false(seo_tokenizer_piece(tok, -1, &bytes, &count));
    seo_buf out = {0};
    assert_int_equal(seo_decode(tok, (const int32_t[]){259, 274}, 2, &out), SEO_ERR_FORMAT);
    assert_non_null(strstr(seo_err_detail(), "274"));
    seo_buf_free(&out);
    seo_tokenizer_free(tok);
}

static seo_tokenizer *gpt2_from_pair(void) {
    char encoder[SEO_PATH_MAX], merges[SEO_PATH_MAX];
    seo_tokenizer *tok = NULL;
    if (!test_data_path(encoder, "gpt2-encoder.json") || !test_data_path(merges, "gpt2-vocab.bpe"))
        return NULL;
    assert_int_equal(seo_tokenizer_load_gpt2(encoder, merges, &tok), SEO_OK);
    return tok;
}

static seo_tokenizer *gpt2_from_hugging_face(void) {
    char path[SEO_PATH_MAX];
    seo_tokenizer *tok = NULL;
    if (!test_data_path(path, "gpt2-tokenizer.json")) return NULL;
    assert_int_equal(seo_tokenizer_load(path, &tok), SEO_OK);
    return tok;
}

/* One line {"text", "ids"}; the vectors were made by other programs. */
static void check_vector(const seo_tokenizer *tok, seo_encoder *enc, const char *line,
                         size_t bytes) {
    json_t *vector = json_loadb(line, bytes, JSON_ALLOW_NUL, NULL);
    assert_non_null(vector);
    const json_t *text = json_object_get(vector, "text"), *ids = json_object_get(vector, "ids");
    seo_ids got = {0};
    assert_int_equal(
        seo_encode(enc, json_string_value(text), json_string_length(text), false, &got), SEO_OK);
    assert_int_equal(got.count, json_array_size(ids));
    for (int64_t i = 0; i < got.count; i++) {
        assert_int_equal(got.items[i], json_integer_value(json_array_get(ids, (size_t)i)));
    }
    seo_buf view = {.data = (char *)(uintptr_t)json_string_value(text),
                    .bytes = json_string_length(text)};
    check_round_trip(tok, &got, &view);
    seo_ids_free(&got);
    json_decref(vector);
}

static void check_vectors(const seo_tokenizer *tok, const char *name, int64_t at_least) {
    char path[SEO_PATH_MAX];
    char *data = NULL;
    int64_t bytes = 0, lines = 0;
    if (!test_data_path(path, name)) return;
    assert_int_equal(seo_file_read(path, 1 << 24, &data, &bytes), SEO_OK);
    seo_encoder *enc = NULL;
    assert_int_equal(seo_encoder_open(tok, &enc), SEO_OK);
    for (const char *p = data, *stop; p < data + bytes; p = stop + 1, lines++) {
        stop = memchr(p, '\n', (size_t)(data + bytes - p));
        if (stop == NULL) stop = data + bytes;
        check_vector(tok, enc, p, (size_t)(stop - p));
    }
    assert_true(lines >= at_least);
    seo_encoder_close(enc);
    free(data);
}

static void check_all_vectors(seo_tokenizer *tok) {
    if (tok == NULL) skip();
    check_vectors(tok, "gpt2_vectors_published.jsonl", 134);
    check_vectors(tok, "gpt2_vectors_generated.jsonl", 2168);
    seo_tokenizer_free(tok);
}

static void vectors_from_encoder_json_and_vocab_bpe(void **state) {
    (void)state;
    check_all_vectors(gpt2_from_pair());
}

static void vectors_from_tokenizer_json(void **state) {
    (void)state;
    check_all_vectors(gpt2_from_hugging_face());
}

/* Texts separated by a marker line in one file, their ids a line each in the other. */
static void vectors_of_llama_cpp(void **state) {
    (void)state;
    static const char marker[] = "\n__ggml_vocab_test__\n";
    char path[SEO_PATH_MAX];
    char *texts = NULL, *ids = NULL;
    int64_t text_bytes = 0, id_bytes = 0, checked = 0;
    seo_tokenizer *tok = gpt2_from_pair();
    if (tok == NULL || !test_data_path(path, "llamacpp-gpt2.inp")) {
        seo_tokenizer_free(tok);
        skip();
    }
    assert_int_equal(seo_file_read(path, 1 << 20, &texts, &text_bytes), SEO_OK);
    assert_true(test_data_path(path, "llamacpp-gpt2.out"));
    assert_int_equal(seo_file_read(path, 1 << 20, &ids, &id_bytes), SEO_OK);
    seo_encoder *enc = NULL;
    assert_int_equal(seo_encoder_open(tok, &enc), SEO_OK);
    char *numbers = ids;
    for (const char *text = texts, *stop; (stop = strstr(text, marker)) != NULL;
         text = stop + strlen(marker)) {
        seo_ids got = {0};
        assert_int_equal(seo_encode(enc, text, (size_t)(stop - text), false, &got), SEO_OK);
        char *line_end = strchr(numbers, '\n');
        assert_non_null(line_end);
        for (int64_t i = 0; i < got.count; i++) {
            assert_int_equal(got.items[i], strtol(numbers, &numbers, 10));
        }
        assert_int_equal(strspn(numbers, " "), line_end - numbers);
        numbers = line_end + 1;
        checked++;
        seo_ids_free(&got);
    }
    assert_true(checked >= 45);
    seo_encoder_close(enc);
    seo_tokenizer_free(tok);
    free(texts);
    free(ids);
}

static void gpt2_ids_are_those_of_the_definition(void **state) {
    (void)state;
    seo_tokenizer *tok = gpt2_from_hugging_face();
    if (tok == NULL) skip();
    check_texts(tok, 1500);
    seo_tokenizer_free(tok);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_those_of_the_definition),
        cmocka_unit_test(long_runs_are_not_quadratic),
        cmocka_unit_test(special_tokens_are_text_unless_asked_for),
        cmocka_unit_test(pieces_and_their_kinds),
        cmocka_unit_test(vectors_from_encoder_json_and_vocab_bpe),
        cmocka_unit_test(vectors_from_tokenizer_json),
        cmocka_unit_test(vectors_of_llama_cpp),
        cmocka_unit_test(gpt2_ids_are_those_of_the_definition),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
