/* Building a dataset: the same bytes for any number of threads, duplicates, the four ways to hold
 * text out, and refusals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/check.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "data/bpe_train.h"
#include "data/build.h"
#include "data/dataset.h"
#include "data/manifest.h"

static char g_folder[64];

static const char *path_of(const char *name) {
    static char paths[16][256];
    static int next;
    char *path = paths[next++ % 16];
    snprintf(path, sizeof paths[0], "%s/%s", g_folder, name);
    return path;
}

static void put(const char *name, const seo_buf *text) {
    assert_int_equal(
        seo_file_write_atomic(path_of(name), text->data ? text->data : "", (int64_t)text->bytes),
        SEO_OK);
}

/* Lines of words with accents, so that a cut inside a character would show. */
static void make_book(seo_buf *out, int lines, unsigned seed) {
    static const char *const words[] = {
        "the", "caf\xc3\xa9", "river", "\xec\x84\x9c\xeb\x8b\xb9", "king", "stone", "na\xc3\xafve"};
    for (int i = 0; i < lines; i++) {
        for (int k = 0; k < 8; k++) {
            seed = seed * 1664525u + 1013904223u;
            seo_buf_format(out, "%s%s", k ? " " : "", words[(seed >> 16) % 7]);
        }
        seo_buf_format(out, " %d.\n", i);
    }
}

static int enter(void **state) {
    (void)state;
    strcpy(g_folder, "/tmp/seodang-build-XXXXXX");
    if (!mkdtemp(g_folder)) return -1;
    seo_buf book = {0};
    make_book(&book, 4000, 1);
    put("book.txt", &book);
    seo_buf_free(&book);
    const char *paths[] = {path_of("book.txt")};
    const seo_bpe_train_options options = {
        .paths = paths, .path_count = 1, .vocab_size = 300, .threads = 1};
    seo_bpe_train_report report;
    seo_tokenizer *tok = NULL;
    seo_err err = seo_bpe_train(&options, &report, &tok);
    if (err == SEO_OK) err = seo_tokenizer_save(tok, path_of("tok.json"));
    seo_tokenizer_free(tok);
    return err == SEO_OK ? 0 : -1;
}

static int leave(void **state) {
    (void)state;
    return seo_dir_remove(g_folder) == SEO_OK ? 0 : -1;
}

static seo_build_args args_of(const char *out, const char *const *path, double held_out,
                              seo_held_out_mode mode) {
    return (seo_build_args){.folder = path_of(out),
                            .tokenizer_path = path_of("tok.json"),
                            .paths = path,
                            .path_count = 1,
                            .held_out = held_out,
                            .mode = mode,
                            .seed = 1,
                            .threads = 2};
}

static seo_build_result build(const seo_build_args *args) {
    seo_build_result result;
    const seo_err err = seo_build(args, &result);
    if (err != SEO_OK) print_error("%s\n", seo_err_detail());
    assert_int_equal(err, SEO_OK);
    return result;
}

/* The text of a split; a tab stands for each end of document. */
static void text_of(const char *folder, const char *split, seo_buf *out) {
    seo_dataset *ds = NULL;
    seo_tokenizer *tok = NULL;
    char path[SEO_PATH_MAX];
    seo_buf_clear(out);
    assert_int_equal(seo_path_join(path, path_of(folder), "tokenizer.json"), SEO_OK);
    assert_int_equal(seo_tokenizer_load(path, &tok), SEO_OK);
    assert_int_equal(seo_dataset_open(path_of(folder), split, &ds), SEO_OK);
    const int64_t count = seo_dataset_info_get(ds).token_count;
    int32_t *tokens = malloc((size_t)count * sizeof *tokens);
    assert_non_null(tokens);
    assert_int_equal(seo_dataset_read(ds, 0, count, tokens), SEO_OK);
    for (int64_t i = 0; i < count; i++) {
        const unsigned char *bytes = NULL;
        size_t length = 0;
        assert_true(seo_tokenizer_piece(tok, tokens[i], &bytes, &length));
        if (tokens[i] == seo_tokenizer_eot(tok)) {
            seo_buf_text(out, "\t");
        } else {
            seo_buf_add(out, bytes, length);
        }
    }
    free(tokens);
    seo_dataset_close(ds);
    seo_tokenizer_free(tok);
}

static void same_bytes_for_any_thread_count(void **state) {
    (void)state;
    const char *path[] = {path_of("book.txt")};
    char first[SEO_SHA256_HEX] = "";
    for (int threads = 1; threads <= 3; threads++) {
        char name[16];
        snprintf(name, sizeof name, "threads%d", threads);
        seo_build_args args = args_of(name, path, 0.1, SEO_HELD_OUT_BLOCK);
        args.threads = threads;
        args.shard_tokens = 20000; /* several shards */
        const seo_build_result result = build(&args);
        /* The manifest holds the SHA-256 of every shard. */
        if (threads == 1) strcpy(first, result.manifest_sha256);
        assert_string_equal(result.manifest_sha256, first);
    }
}

static void blocks_cover_the_book(void **state) {
    (void)state;
    const char *path[] = {path_of("book.txt")};
    const seo_build_args args = args_of("blocks", path, 0.1, SEO_HELD_OUT_AUTO);
    const seo_build_result result = build(&args);
    assert_int_equal(result.mode, SEO_HELD_OUT_BLOCK);
    const double fraction = (double)result.bytes[1] / (double)(result.bytes[0] + result.bytes[1]);
    assert_true(fraction > 0.09 && fraction < 0.11);
    assert_true(result.pieces[1] > 4);
    seo_buf parts[2] = {{0}, {0}}, book = {0};
    text_of("blocks", "train", &parts[0]);
    text_of("blocks", "held-out", &parts[1]);
    make_book(&book, 4000, 1);
    /* Every line is in exactly one split: blocks end at line ends. */
    int lines = 0;
    for (char *line = strtok(book.data, "\n"); line; line = strtok(NULL, "\n"), lines++) {
        const char *number = strrchr(line, ' ');
        char wanted[64];
        snprintf(wanted, sizeof wanted, "%s\n", number);
        assert_int_equal(
            (strstr(parts[0].data, wanted) != NULL) + (strstr(parts[1].data, wanted) != NULL), 1);
    }
    assert_int_equal(lines, 4000);
    for (int i = 0; i < 2; i++) seo_buf_free(&parts[i]);
    seo_buf_free(&book);
}

static void tail_is_the_end(void **state) {
    (void)state;
    const char *path[] = {path_of("book.txt")};
    const seo_build_args args = args_of("tail", path, 0.1, SEO_HELD_OUT_TAIL);
    const seo_build_result result = build(&args);
    seo_buf book = {0}, train = {0}, rest = {0};
    make_book(&book, 4000, 1);
    text_of("tail", "train", &train);
    text_of("tail", "held-out", &rest);
    assert_int_equal(result.pieces[0], 1);
    assert_int_equal(result.pieces[1], 1);
    assert_int_equal(train.bytes + rest.bytes, book.bytes + 2);
    assert_memory_equal(train.data, book.data, train.bytes - 1);
    assert_memory_equal(rest.data, book.data + train.bytes - 1, rest.bytes - 1);
    const int64_t boundary = (int64_t)((double)book.bytes * 0.9);
    assert_in_range(result.bytes[0], boundary, boundary + 3);
    assert_int_equal(seo_utf8_first_bad(rest.data, rest.bytes), -1);
    seo_buf_free(&book);
    seo_buf_free(&train);
    seo_buf_free(&rest);
}

static void documents_and_duplicates(void **state) {
    (void)state;
    seo_buf lines = {0}, train = {0}, rest = {0};
    for (int i = 0; i < 400; i++) seo_buf_format(&lines, "{\"text\":\"document %d.\"}\n", i % 250);
    seo_buf_text(&lines, "{\"text\":\"\"}\n");
    put("many.jsonl", &lines);
    const char *path[] = {path_of("many.jsonl")};
    const seo_build_args args = args_of("documents", path, 0.2, SEO_HELD_OUT_AUTO);
    const seo_build_result result = build(&args);
    assert_int_equal(result.mode, SEO_HELD_OUT_DOCUMENT);
    assert_int_equal(result.documents, 400);
    assert_int_equal(result.duplicate_documents, 150);
    assert_int_equal(result.empty_documents, 1);
    assert_int_equal(result.pieces[0] + result.pieces[1], 250);
    assert_in_range(result.pieces[1], 48, 52);
    text_of("documents", "train", &train);
    text_of("documents", "held-out", &rest);
    for (int i = 0; i < 250; i++) {
        char wanted[32];
        snprintf(wanted, sizeof wanted, "document %d.\t", i);
        assert_int_equal((strstr(train.data, wanted) != NULL) + (strstr(rest.data, wanted) != NULL),
                         1);
    }
    /* Another seed holds out other documents. */
    seo_build_args other = args_of("documents2", path, 0.2, SEO_HELD_OUT_AUTO);
    other.seed = 2;
    build(&other);
    seo_buf rest2 = {0};
    text_of("documents2", "held-out", &rest2);
    assert_string_not_equal(rest.data, rest2.data);
    seo_buf_free(&rest2);
    seo_buf_free(&lines);
    seo_buf_free(&train);
    seo_buf_free(&rest);
}

static void refusals(void **state) {
    (void)state;
    seo_build_result result;
    const char *path[] = {path_of("book.txt")};
    seo_build_args args = args_of("blocks", path, 0.1, SEO_HELD_OUT_AUTO);
    assert_int_equal(seo_build(&args, &result), SEO_ERR_IO);
    assert_non_null(strstr(seo_err_detail(), "not empty"));
    args = args_of("one", path, 0.1, SEO_HELD_OUT_DOCUMENT);
    assert_int_equal(seo_build(&args, &result), SEO_ERR_USAGE);
    assert_non_null(strstr(seo_err_detail(), "--held-out-mode block"));
    seo_path_kind kind;
    assert_int_equal(seo_path_look(path_of("one"), &kind), SEO_OK);
    assert_int_equal(kind, SEO_PATH_NONE);
    args = args_of("none", path, 0, SEO_HELD_OUT_AUTO);
    const seo_build_result whole = build(&args);
    assert_int_equal(whole.tokens[1], 0);
    assert_true(whole.tokens[0] > 0);
}

/* A file size limit stands for the full disk: writing fails in the middle of a shard. */
static void a_full_disk_leaves_nothing(void **state) {
    (void)state;
    const char *path[] = {path_of("book.txt")};
    const seo_build_args args = args_of("full", path, 0.1, SEO_HELD_OUT_AUTO);
    seo_build_result result;
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 50000; /* the tokenizer fits, a shard does not */
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    const seo_err err = seo_build(&args, &result);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, handler);
    assert_int_equal(err, SEO_ERR_IO);
    seo_path_kind kind;
    assert_int_equal(seo_path_look(path_of("full"), &kind), SEO_OK);
    assert_int_equal(kind, SEO_PATH_NONE);
    build(&args); /* The same folder is free for the next try. */
}

/* One line of 300 kB in letters of three bytes: blocks and tail may only cut between letters. */
static void long_lines_are_cut_between_characters(void **state) {
    (void)state;
    static const seo_held_out_mode modes[] = {SEO_HELD_OUT_BLOCK, SEO_HELD_OUT_TAIL};
    seo_buf line = {0}, got = {0};
    for (int i = 0; i < 100000; i++) seo_buf_format(&line, "\xea\xb0%c", 0x80 + i % 64);
    put("line.txt", &line);
    const char *path[] = {path_of("line.txt")};
    for (int i = 0; i < SEO_COUNT_OF(modes); i++) {
        const seo_build_args args = args_of(i ? "line2" : "line1", path, 0.1, modes[i]);
        const seo_build_result result = build(&args);
        assert_int_equal(result.bytes[0] + result.bytes[1], (int64_t)line.bytes);
        assert_in_range(result.bytes[1], (int64_t)(line.bytes / 100 * 9),
                        (int64_t)(line.bytes / 100 * 11));
        text_of(i ? "line2" : "line1", "train", &got);
        assert_int_equal(seo_utf8_first_bad(got.data, got.bytes), -1);
        text_of(i ? "line2" : "line1", "held-out", &got);
        assert_int_equal(seo_utf8_first_bad(got.data, got.bytes), -1);
    }
    seo_buf_free(&line);
    seo_buf_free(&got);
}

static void a_tokenizer_without_end_of_text_is_refused(void **state) {
    (void)state;
    json_t *root = NULL;
    seo_build_result result;
    assert_int_equal(seo_json_load(path_of("tok.json"), 1 << 24, &root), SEO_OK);
    json_object_set_new(root, "added_tokens", json_array());
    json_object_del(json_object_get(json_object_get(root, "model"), "vocab"), "<|endoftext|>");
    assert_int_equal(json_dump_file(root, path_of("bare.json"), JSON_COMPACT), 0);
    json_decref(root);
    const char *path[] = {path_of("book.txt")};
    seo_build_args args = args_of("bare", path, 0.1, SEO_HELD_OUT_AUTO);
    args.tokenizer_path = path_of("bare.json");
    assert_int_equal(seo_build(&args, &result), SEO_ERR_USAGE);
    assert_non_null(strstr(seo_err_detail(), "<|endoftext|>"));
}

static void a_damaged_source_is_named(void **state) {
    (void)state;
    seo_build_result result;
    const unsigned char gz[] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0x4b};
    assert_int_equal(seo_file_write_atomic(path_of("cut.txt.gz"), gz, sizeof gz), SEO_OK);
    const char *path[] = {path_of("cut.txt.gz")};
    const seo_build_args args = args_of("damaged", path, 0.1, SEO_HELD_OUT_AUTO);
    assert_int_equal(seo_build(&args, &result), SEO_ERR_FORMAT);
    assert_non_null(strstr(seo_err_detail(), "cut.txt.gz: damaged near byte"));
    seo_path_kind kind;
    assert_int_equal(seo_path_look(path_of("damaged"), &kind), SEO_OK);
    assert_int_equal(kind, SEO_PATH_NONE);
}

/* What a dataset says of its origin may hold nothing that changes from run to run. */
static void provenance_has_counters_and_no_clock(void **state) {
    (void)state;
    const char *path[] = {path_of("book.txt")};
    seo_build_args args = args_of("origin1", path, 0.1, SEO_HELD_OUT_TAIL);
    const seo_build_result first = build(&args);
    args.folder = path_of("origin2");
    args.threads = 3;
    assert_string_equal(build(&args).manifest_sha256, first.manifest_sha256);
    seo_manifest manifest = {0};
    assert_int_equal(seo_manifest_load(path_of("origin1"), &manifest), SEO_OK);
    assert_int_equal(manifest.source_count, 1);
    char sha256[SEO_SHA256_HEX];
    assert_int_equal(seo_file_sha256_hex(path[0], sha256), SEO_OK);
    assert_string_equal(manifest.sources[0].sha256, sha256);
    assert_non_null(strstr(manifest.provenance, "\"documents\":1"));
    assert_non_null(strstr(manifest.provenance, "\"held_out_mode\":\"tail\""));
    assert_null(strstr(manifest.provenance, "thread"));
    assert_null(strstr(manifest.provenance, "origin1"));
    int64_t text_bytes[2] = {0, 0};
    for (int64_t i = 0; i < manifest.shard_count; i++)
        text_bytes[manifest.shards[i].split] += manifest.shards[i].text_bytes;
    for (int split = 0; split < 2; split++) assert_int_equal(text_bytes[split], first.bytes[split]);
    seo_manifest_free(&manifest);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_bytes_for_any_thread_count),
        cmocka_unit_test(blocks_cover_the_book),
        cmocka_unit_test(tail_is_the_end),
        cmocka_unit_test(documents_and_duplicates),
        cmocka_unit_test(refusals),
        cmocka_unit_test(a_full_disk_leaves_nothing),
        cmocka_unit_test(long_lines_are_cut_between_characters),
        cmocka_unit_test(a_tokenizer_without_end_of_text_is_refused),
        cmocka_unit_test(a_damaged_source_is_named),
        cmocka_unit_test(provenance_has_counters_and_no_clock),
    };
    return cmocka_run_group_tests(tests, enter, leave);
}
