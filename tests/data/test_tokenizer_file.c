/* Reading and writing vocabularies: the canonical file, other spellings of the same, ids that
 * another program made, and files that are damaged, foreign or hostile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/check.h"
#include "base/file.h"
#include "base/log.h"
#include "data/bpe_train.h"
#include "data/tokenizer.h"
#include "text_maker.h"

#define GOLDEN(name) SEO_SOURCE_DIR "/tests/golden/" name

static char *read_golden(int64_t *bytes) {
    char *text = NULL;
    assert_int_equal(seo_file_read(GOLDEN("tokenizer_small.json"), 1 << 20, &text, bytes), SEO_OK);
    return text;
}

static json_t *parse_golden(void) {
    json_t *root = json_load_file(GOLDEN("tokenizer_small.json"), 0, NULL);
    assert_non_null(root);
    return root;
}

/* Reads a changed tree as a file called x.json. */
static seo_err read_tree(const json_t *root, seo_tokenizer **tok) {
    char *text = json_dumps(root, 0);
    assert_non_null(text);
    seo_err err = seo_tokenizer_parse("x.json", text, strlen(text), tok);
    free(text);
    return err;
}

/* ---- the golden file: trained by us, its vectors made by another program ---- */

static void training_gives_the_golden_file(void **state) {
    (void)state;
    const char *paths[1] = {GOLDEN("tokenizer_small.txt")};
    seo_bpe_train_options options = {
        .paths = paths, .path_count = 1, .vocab_size = 400, .threads = 2};
    seo_bpe_train_report report;
    seo_tokenizer *trained = NULL, *loaded = NULL;
    assert_int_equal(seo_bpe_train(&options, &report, &trained), SEO_OK);
    assert_int_equal(seo_tokenizer_load(GOLDEN("tokenizer_small.json"), &loaded), SEO_OK);
    assert_string_equal(seo_tokenizer_sha256(trained), seo_tokenizer_sha256(loaded));
    assert_int_equal(seo_tokenizer_merge_count(loaded), 143);
    seo_tokenizer_free(trained);
    seo_tokenizer_free(loaded);
}

static void check_vector(seo_encoder *enc, const json_t *vector) {
    const json_t *text = json_object_get(vector, "text"), *ids = json_object_get(vector, "ids");
    seo_ids got = {0};
    assert_int_equal(
        seo_encode(enc, json_string_value(text), json_string_length(text), false, &got), SEO_OK);
    assert_int_equal(got.count, json_array_size(ids));
    for (int64_t i = 0; i < got.count; i++) {
        assert_int_equal(got.items[i], json_integer_value(json_array_get(ids, (size_t)i)));
    }
    seo_ids_free(&got);
}

static void ids_are_those_of_another_program(void **state) {
    (void)state;
    seo_tokenizer *tok = NULL;
    seo_encoder *enc = NULL;
    assert_int_equal(seo_tokenizer_load(GOLDEN("tokenizer_small.json"), &tok), SEO_OK);
    assert_int_equal(seo_encoder_open(tok, &enc), SEO_OK);
    FILE *file = fopen(GOLDEN("tokenizer_small_vectors.jsonl"), "rb");
    assert_non_null(file);
    int checked = 0;
    for (json_t *vector;
         (vector = json_loadf(file, JSON_DISABLE_EOF_CHECK | JSON_ALLOW_NUL, NULL)) != NULL;
         checked++) {
        check_vector(enc, vector);
        json_decref(vector);
    }
    assert_int_equal(checked, 210);
    fclose(file);
    seo_encoder_close(enc);
    seo_tokenizer_free(tok);
}

/* ---- spellings ---- */

static void what_is_saved_is_canonical(void **state) {
    (void)state;
    char folder[] = "/tmp/seodang-file-XXXXXX", path[SEO_PATH_MAX], sha256[SEO_SHA256_HEX];
    assert_non_null(mkdtemp(folder));
    assert_int_equal(seo_path_join(path, folder, "tokenizer.json"), SEO_OK);
    int64_t golden_bytes = 0, bytes = 0;
    char *golden = read_golden(&golden_bytes), *text = NULL;
    seo_tokenizer *tok = NULL;
    assert_int_equal(seo_tokenizer_parse("x", golden, (size_t)golden_bytes, &tok), SEO_OK);
    assert_int_equal(seo_tokenizer_save(tok, path), SEO_OK);
    assert_int_equal(seo_file_read(path, 1 << 20, &text, &bytes), SEO_OK);
    assert_int_equal(bytes, golden_bytes);
    assert_memory_equal(text, golden, (size_t)bytes);
    seo_sha256_hex(text, (size_t)bytes, sha256);
    assert_string_equal(seo_tokenizer_sha256(tok), sha256);
    seo_tokenizer_free(tok);
    free(text);
    free(golden);
    assert_int_equal(seo_dir_remove(folder), SEO_OK);
}

/* Vocabulary backwards, merges as pairs, truncation on, unknown members: the same tokenizer. */
static void other_spellings_are_the_same_tokenizer(void **state) {
    (void)state;
    json_t *root = parse_golden(), *model = json_object_get(root, "model");
    json_t *backwards = json_object(), *pairs = json_array(), *value;
    const json_t *merges = json_object_get(model, "merges");
    size_t index;
    for (json_int_t id = 399; id >= 0; id--) {
        const char *key;
        json_object_foreach(json_object_get(model, "vocab"), key, value) {
            if (json_integer_value(value) == id) json_object_set(backwards, key, value);
        }
    }
    json_array_foreach(merges, index, value) {
        const char *text = json_string_value(value), *space = strchr(text, ' ');
        json_array_append_new(pairs, json_pack("[s%s]", text, (size_t)(space - text), space + 1));
    }
    json_object_set_new(model, "vocab", backwards);
    json_object_set_new(model, "merges", pairs);
    json_object_set_new(root, "truncation", json_pack("{si}", "max_length", 50));
    json_object_set_new(root, "whatever", json_integer(1));
    json_object_set_new(root, "post_processor", json_null());
    seo_tokenizer *golden = NULL, *other = NULL;
    assert_int_equal(seo_tokenizer_load(GOLDEN("tokenizer_small.json"), &golden), SEO_OK);
    assert_int_equal(read_tree(root, &other), SEO_OK);
    assert_string_equal(seo_tokenizer_sha256(golden), seo_tokenizer_sha256(other));
    seo_tokenizer_free(golden);
    seo_tokenizer_free(other);
    json_decref(root);
}

static void both_gpt2_files_are_the_same_tokenizer(void **state) {
    (void)state;
    char encoder[SEO_PATH_MAX], merges[SEO_PATH_MAX], whole[SEO_PATH_MAX];
    if (!test_data_path(encoder, "gpt2-encoder.json") ||
        !test_data_path(merges, "gpt2-vocab.bpe") || !test_data_path(whole, "gpt2-tokenizer.json"))
        skip();
    seo_tokenizer *one = NULL, *other = NULL;
    assert_int_equal(seo_tokenizer_load_gpt2(encoder, merges, &one), SEO_OK);
    assert_int_equal(seo_tokenizer_load(whole, &other), SEO_OK);
    assert_int_equal(seo_tokenizer_vocab_size(one), 50257);
    assert_int_equal(seo_tokenizer_eot(one), 50256);
    assert_string_equal(seo_tokenizer_sha256(one), seo_tokenizer_sha256(other));
    seo_tokenizer_free(one);
    seo_tokenizer_free(other);
}

/* ---- refusals ---- */

/* Puts `json` in the place of a member: "model.type", "added_tokens.0.special". */
static void put(json_t *root, const char *place, const char *json) {
    json_t *at = root, *value = json_loads(json, JSON_DECODE_ANY, NULL);
    assert_non_null(value);
    for (;;) {
        size_t length = strcspn(place, ".");
        char key[64];
        assert_true(length < sizeof key);
        snprintf(key, sizeof key, "%.*s", (int)length, place);
        if (place[length] == '\0') {
            if (json_is_array(at)) {
                assert_int_equal(json_array_set_new(at, strtoul(key, NULL, 10), value), 0);
            } else {
                assert_int_equal(json_object_set_new(at, key, value), 0);
            }
            return;
        }
        at = json_is_array(at) ? json_array_get(at, strtoul(key, NULL, 10))
                               : json_object_get(at, key);
        assert_non_null(at);
        place += length + 1;
    }
}

#define FRAME(token) "{\"type\": \"RobertaProcessing\", \"sep\": [" token "], \"cls\": [" token "]}"
#define TEMPLATE(ids, tokens)                                                                      \
    "{\"type\": \"TemplateProcessing\", \"special_tokens\": {\"x\": {\"id\": \"x\", \"ids\": " ids \
    ", \"tokens\": " tokens "}}}"

static void each_foreign_thing_is_named(void **state) {
    (void)state;
    static const struct {
        const char *place, *json, *expected;
    } cases[] = {
        {"model.type", "\"WordPiece\"", "'##'"},
        {"model.type", "\"WordLevel\"", "WordLevel"},
        {"model.type", "\"Unigram\"", "Unigram"},
        {"model.type", "7", "model.type"},
        {"model", "[]", "model"},
        {"model.dropout", "0.1", "dropout"},
        {"model.unk_token", "\"[UNK]\"", "unk_token"},
        {"model.continuing_subword_prefix", "\"##\"", "continuing_subword_prefix"},
        {"model.end_of_word_suffix", "\"</w>\"", "end_of_word_suffix"},
        {"model.byte_fallback", "true", "byte_fallback"},
        {"model.ignore_merges", "true", "ignore_merges"},
        {"model.vocab", "[]", "vocab"},
        {"model.vocab", "{}", "0x00"},
        {"model.vocab.a", "\"97\"", "model.vocab[\"a\"]"},
        {"model.vocab.a", "98", "id 98"},
        {"model.vocab.a", "-1", "id -1"},
        {"model.vocab.a", "2147483647", "2147483647"},
        {"model.vocab.a", "2000000000", "2000000000"},
        {"model.vocab.a", "1e3", "model.vocab[\"a\"]"},
        {"model.vocab.two words", "900", "two words"},
        {"model.merges", "{}", "merges"},
        {"model.merges.3", "\"a\"", "model.merges[3]"},
        {"model.merges.3", "\"a b c\"", "model.merges[3]"},
        {"model.merges.3", "\" b\"", "model.merges[3]"},
        {"model.merges.3", "[\"a\"]", "model.merges[3]"},
        {"model.merges.3", "[\"a\", 5]", "model.merges[3]"},
        {"model.merges.3", "\"q q\"", "model.merges[3]"},
        {"model.merges.3", "\"zzzz q\"", "zzzz"},
        {"model.merges.142", "\"r e\"", "again"},
        {"normalizer", "{\"type\": \"NFC\"}", "normalizer"},
        {"pre_tokenizer", "null", "pre_tokenizer"},
        {"pre_tokenizer.type", "\"Metaspace\"", "Metaspace"},
        {"pre_tokenizer.add_prefix_space", "true", "add_prefix_space"},
        {"pre_tokenizer.use_regex", "false", "use_regex"},
        {"post_processor.type", "\"Strip\"", "Strip"},
        {"post_processor", "{\"type\": \"BertProcessing\"}", "post_processor"},
        {"post_processor", FRAME("\"<|endoftext|>\", 398"), "<|endoftext|>"},
        {"post_processor", FRAME("\"e\", 101"), "'e'"},
        {"post_processor", TEMPLATE("[398]", "[\"<|endoftext|>\"]"), "<|endoftext|>"},
        {"post_processor", TEMPLATE("[399, 399]", "[\"<|endoftext|>\"]"), "'ids'"},
        {"decoder.type", "\"WordPiece\"", "decoder"},
        {"added_tokens", "{}", "added_tokens"},
        {"added_tokens.0", "5", "added_tokens[0]"},
        {"added_tokens.0.id", "7", "<|endoftext|>"},
        {"added_tokens.0.content", "\"e\"", "'e'"},
        {"added_tokens.0.content", "\"\"", "added_tokens[0]"},
        {"added_tokens.0.special", "false", "not special"},
        {"added_tokens.0.rstrip", "true", "rstrip"},
    };
    for (int64_t i = 0; i < SEO_COUNT_OF(cases); i++) {
        json_t *root = parse_golden();
        seo_tokenizer *tok = NULL;
        put(root, cases[i].place, cases[i].json);
        seo_err err = read_tree(root, &tok);
        if (err == SEO_OK || strstr(seo_err_detail(), cases[i].expected) == NULL) {
            print_error("%s = %s: '%s'\n", cases[i].place, cases[i].json, seo_err_detail());
        }
        assert_int_not_equal(err, SEO_OK);
        assert_non_null(strstr(seo_err_detail(), cases[i].expected));
        assert_memory_equal(seo_err_detail(), "x.json", 6);
        assert_null(tok);
        json_decref(root);
    }
}

static void a_missing_byte_is_named(void **state) {
    (void)state;
    json_t *root = parse_golden();
    seo_tokenizer *tok = NULL;
    json_object_del(json_object_get(json_object_get(root, "model"), "vocab"), "~");
    assert_int_equal(read_tree(root, &tok), SEO_ERR_FORMAT);
    assert_non_null(strstr(seo_err_detail(), "0x7E"));
    json_decref(root);
}

/* A special token may have an id beyond the vocabulary, and there may be holes. */
static void special_tokens_beyond_the_vocabulary(void **state) {
    (void)state;
    json_t *root = parse_golden();
    seo_tokenizer *tok = NULL;
    put(root, "added_tokens.0.content", "\"<pad>\"");
    put(root, "added_tokens.0.id", "1000");
    json_object_del(json_object_get(json_object_get(root, "model"), "vocab"), "<|endoftext|>");
    assert_int_equal(read_tree(root, &tok), SEO_OK);
    assert_int_equal(seo_tokenizer_vocab_size(tok), 1001);
    assert_int_equal(seo_tokenizer_eot(tok), -1);
    assert_true(seo_tokenizer_is_special(tok, 1000));
    const unsigned char *bytes;
    size_t count;
    assert_false(seo_tokenizer_piece(tok, 600, &bytes, &count));
    seo_tokenizer_free(tok);
    json_decref(root);
}

/* ---- damage ---- */

/* Whatever comes in, an error names the file, and a tokenizer that comes out works. */
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
    static const char sample[] = "We read the reader\xFF\xC3\xA9 1984";
    assert_int_equal(seo_encoder_open(tok, &enc), SEO_OK);
    assert_int_equal(seo_encode(enc, sample, sizeof sample, true, &ids), SEO_OK);
    assert_int_equal(seo_decode(tok, ids.items, ids.count, &back), SEO_OK);
    assert_int_equal(back.bytes, sizeof sample);
    assert_memory_equal(back.data, sample, sizeof sample);
    seo_buf_free(&back);
    seo_ids_free(&ids);
    seo_encoder_close(enc);
    seo_tokenizer_free(tok);
}

static void truncated_files_are_refused(void **state) {
    (void)state;
    int64_t bytes = 0;
    char *text = read_golden(&bytes);
    for (int64_t cut = 0; cut + 2 < bytes; cut += 37) {
        seo_tokenizer *tok = NULL;
        assert_int_equal(seo_tokenizer_parse("cut.json", text, (size_t)cut, &tok), SEO_ERR_FORMAT);
        assert_non_null(strstr(seo_err_detail(), "cut.json"));
    }
    free(text);
}

static void flipped_bits_do_no_harm(void **state) {
    (void)state;
    int64_t bytes = 0;
    char *text = read_golden(&bytes);
    text_maker maker = {.seed = 41};
    for (int round = 0; round < 3000; round++) {
        uint32_t at = maker_draw(&maker, (uint32_t)bytes);
        char before = text[at];
        text[at] = (char)(before ^ (1 << maker_draw(&maker, 8)));
        check_survives(text, (size_t)bytes);
        text[at] = before;
    }
    free(text);
}

static void check_merges_file(const char *folder, const char *merges, const char *expected) {
    char encoder[SEO_PATH_MAX], path[SEO_PATH_MAX];
    assert_int_equal(seo_path_join(encoder, folder, "encoder.json"), SEO_OK);
    assert_int_equal(seo_path_join(path, folder, "vocab.bpe"), SEO_OK);
    assert_int_equal(seo_file_write_atomic(path, merges, (int64_t)strlen(merges)), SEO_OK);
    seo_tokenizer *tok = NULL;
    seo_err err = seo_tokenizer_load_gpt2(encoder, path, &tok);
    if (expected == NULL) {
        assert_int_equal(err, SEO_OK);
        assert_int_equal(seo_tokenizer_merge_count(tok), 2);
        assert_int_equal(seo_tokenizer_eot(tok), 399);
    } else {
        assert_int_equal(err, SEO_ERR_FORMAT);
        assert_non_null(strstr(seo_err_detail(), expected));
    }
    seo_tokenizer_free(tok);
}

/* encoder.json is the golden vocabulary. */
static void the_two_files_of_gpt2(void **state) {
    (void)state;
    char folder[] = "/tmp/seodang-gpt2-XXXXXX", encoder[SEO_PATH_MAX], merges[256];
    assert_non_null(mkdtemp(folder));
    assert_int_equal(seo_path_join(encoder, folder, "encoder.json"), SEO_OK);
    json_t *root = parse_golden(), *model = json_object_get(root, "model");
    assert_int_equal(json_dump_file(json_object_get(model, "vocab"), encoder, 0), 0);
    const json_t *list = json_object_get(model, "merges");
    const char *first = json_string_value(json_array_get(list, 0));
    const char *second = json_string_value(json_array_get(list, 1));
    snprintf(merges, sizeof merges, "#version: 0.2\n%s\n%s\n", first, second);
    check_merges_file(folder, merges, NULL);
    snprintf(merges, sizeof merges, "%s\r\n%s", first, second);
    check_merges_file(folder, merges, NULL);
    snprintf(merges, sizeof merges, "#version: 0.2\n%s\nq q\n", first);
    check_merges_file(folder, merges, "vocab.bpe:3: ");
    snprintf(merges, sizeof merges, "%s\nonly\n", first);
    check_merges_file(folder, merges, "vocab.bpe:2: ");
    snprintf(merges, sizeof merges, "%s\n%s\n", first, first);
    check_merges_file(folder, merges, "again");
    json_decref(root);
    assert_int_equal(seo_dir_remove(folder), SEO_OK);
}

static void missing_files_are_missing(void **state) {
    (void)state;
    seo_tokenizer *tok = NULL;
    assert_int_equal(seo_tokenizer_load("/no/such/tokenizer.json", &tok), SEO_ERR_MISSING);
    assert_non_null(strstr(seo_err_detail(), "/no/such/tokenizer.json"));
    assert_int_equal(seo_tokenizer_load_gpt2("/no/such/encoder.json", "/no/vocab.bpe", &tok),
                     SEO_ERR_MISSING);
    assert_null(tok);
}

int main(void) {
    seo_log_setup(&(seo_log_options){.level = SEO_LOG_ERROR});
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(training_gives_the_golden_file),
        cmocka_unit_test(ids_are_those_of_another_program),
        cmocka_unit_test(what_is_saved_is_canonical),
        cmocka_unit_test(other_spellings_are_the_same_tokenizer),
        cmocka_unit_test(both_gpt2_files_are_the_same_tokenizer),
        cmocka_unit_test(each_foreign_thing_is_named),
        cmocka_unit_test(a_missing_byte_is_named),
        cmocka_unit_test(special_tokens_beyond_the_vocabulary),
        cmocka_unit_test(truncated_files_are_refused),
        cmocka_unit_test(flipped_bits_do_no_harm),
        cmocka_unit_test(the_two_files_of_gpt2),
        cmocka_unit_test(missing_files_are_missing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
