/* Document readers: every packing of every kind, folders, counters, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "base/check.h"
#include "base/file.h"
#include "base/text.h"
#include "data/text.h"

static char g_folder[64];

static int enter(void **state) {
    (void)state;
    strcpy(g_folder, "/tmp/seodang-text-XXXXXX");
    return mkdtemp(g_folder) ? 0 : -1;
}

static int leave(void **state) {
    (void)state;
    return seo_dir_remove(g_folder) == SEO_OK ? 0 : -1;
}

static const char *path_of(const char *name) {
    static char paths[8][256];
    static int next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", g_folder, name);
    return path;
}

static void put(const char *name, const void *data, size_t bytes) {
    assert_int_equal(seo_file_write_atomic(path_of(name), data, (int64_t)bytes), SEO_OK);
}

/* gzip bytes of `text` appended to out. */
static void gzip_add(seo_buf *out, const char *text) {
    unsigned char packed[4096];
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (unsigned char *)(uintptr_t)text;
    z.avail_in = (unsigned)strlen(text);
    z.next_out = packed;
    z.avail_out = sizeof packed;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    seo_buf_add(out, packed, sizeof packed - z.avail_out);
    deflateEnd(&z);
}

static void zstd_add(seo_buf *out, const char *text) {
    unsigned char packed[4096];
    const size_t n = ZSTD_compress(packed, sizeof packed, text, strlen(text), 3);
    assert_false(ZSTD_isError(n));
    seo_buf_add(out, packed, n);
}

/* Reads all documents of one path as "text|text|"; the last error is returned. */
static seo_err read_all(const char *path, const char *field, seo_buf *out,
                        seo_text_counters *counters) {
    seo_text *text = NULL;
    const char *paths[] = {path};
    seo_buf_clear(out);
    seo_err err = seo_text_open(paths, 1, field, &text);
    seo_text_document document = {0};
    while (err == SEO_OK) {
        err = seo_text_next(text, &document);
        if (err != SEO_OK || !document.data) break;
        seo_buf_add(out, document.data, (size_t)document.bytes);
        seo_buf_text(out, "|");
    }
    if (text && counters) *counters = seo_text_counters_get(text);
    seo_text_close(text);
    return err;
}

static void expect(const char *name, const char *field, const char *wanted) {
    seo_buf got = {0};
    const seo_err err = read_all(path_of(name), field, &got, NULL);
    if (err != SEO_OK) print_error("%s\n", seo_err_detail());
    assert_int_equal(err, SEO_OK);
    assert_string_equal(got.data, wanted);
    seo_buf_free(&got);
}

static void expect_error(const char *name, seo_err code, const char *part) {
    seo_buf got = {0};
    assert_int_equal(read_all(path_of(name), NULL, &got, NULL), code);
    if (!strstr(seo_err_detail(), part)) print_error("'%s' lacks '%s'\n", seo_err_detail(), part);
    assert_non_null(strstr(seo_err_detail(), part));
    seo_buf_free(&got);
}

static void plain_and_packed(void **state) {
    (void)state;
    seo_buf gz = {0}, zst = {0};
    gzip_add(&gz, "one\ntwo");
    gzip_add(&gz, " three"); /* two members are one text */
    zstd_add(&zst, "one\ntwo");
    zstd_add(&zst, " three");
    put("a.txt", "one\ntwo three", 13);
    put("b.txt.gz", gz.data, gz.bytes);
    put("c.txt.zst", zst.data, zst.bytes);
    expect("a.txt", NULL, "one\ntwo three|");
    expect("b.txt.gz", NULL, "one\ntwo three|");
    expect("c.txt.zst", NULL, "one\ntwo three|");
    for (size_t cut = 1; cut + 1 < gz.bytes; cut++) {
        put("cut.gz", gz.data, cut);
        seo_buf got = {0};
        const seo_err err = read_all(path_of("cut.gz"), NULL, &got, NULL);
        /* A cut between the two members leaves a whole file behind; any other is an error. */
        if (err == SEO_OK) assert_string_equal(got.data, "one\ntwo|");
        if (err != SEO_OK) assert_int_equal(err, SEO_ERR_FORMAT);
        seo_buf_free(&got);
    }
    put("cut.zst", zst.data, zst.bytes - 3);
    expect_error("cut.zst", SEO_ERR_FORMAT, "cut.zst: damaged");
    put("empty.gz", "", 0);
    expect_error("empty.gz", SEO_ERR_FORMAT, "empty.gz: damaged near byte 0");
    put("empty.zst", "", 0);
    expect_error("empty.zst", SEO_ERR_FORMAT, "empty.zst: damaged near byte 0");
    put("bad.gz", "this is no gzip", 15);
    expect_error("bad.gz", SEO_ERR_FORMAT, "bad.gz: damaged");
    seo_buf_free(&gz);
    seo_buf_free(&zst);
}

static void jsonl(void **state) {
    (void)state;
    const char lines[] = "{\"text\": \"a\\u0000\\n\\u00e9\"}\n\n  \r\n{\"id\": 1, \"text\": "
                         "\"\"}\r\n{\"text\":\"last\"}";
    put("a.jsonl", lines, strlen(lines));
    seo_buf got = {0};
    seo_text_counters counters = {0};
    assert_int_equal(read_all(path_of("a.jsonl"), NULL, &got, &counters), SEO_OK);
    assert_memory_equal(got.data, "a\0\n\xc3\xa9|last|", 11);
    assert_int_equal(counters.documents, 2);
    assert_int_equal(counters.empty_documents, 1);
    assert_int_equal(counters.text_bytes, 9);
    assert_int_equal(counters.file_bytes_read, (int64_t)strlen(lines));
    seo_buf_free(&got);
    put("f.jsonl", "{\"body\":\"x\"}\n", 13);
    expect("f.jsonl", "body", "x|");
    expect_error("f.jsonl", SEO_ERR_FORMAT, "f.jsonl:1: there is no field \"text\"");
    put("g.jsonl", "{\"text\":\"x\"}\n{\"text\":", 21);
    expect_error("g.jsonl", SEO_ERR_FORMAT, "g.jsonl:2:");
    put("h.jsonl", "[1]\n", 4);
    expect_error("h.jsonl", SEO_ERR_FORMAT, "h.jsonl:1: a JSON object is wanted");
    put("i.jsonl", "{\"text\":3}\n", 11);
    expect_error("i.jsonl", SEO_ERR_FORMAT, "i.jsonl:1: the field \"text\" is not a string");
    put("j.jsonl", "{\"text\":\"\xff\"}\n", 13);
    expect_error("j.jsonl", SEO_ERR_FORMAT, "j.jsonl:1:");
}

/* Lines around and beyond the size of one read. */
static void long_lines(void **state) {
    (void)state;
    const int64_t sizes[] = {1, 262130, 262144, 262145, 600000};
    seo_buf file = {0}, got = {0};
    for (int64_t i = 0; i < SEO_COUNT_OF(sizes); i++) {
        seo_buf_text(&file, "{\"text\":\"");
        for (int64_t k = 0; k < sizes[i]; k++) seo_buf_text(&file, "z");
        seo_buf_text(&file, "\"}\n");
    }
    put("long.jsonl", file.data, file.bytes);
    assert_int_equal(read_all(path_of("long.jsonl"), NULL, &got, NULL), SEO_OK);
    size_t at = 0;
    for (int64_t i = 0; i < SEO_COUNT_OF(sizes); i++) {
        assert_int_equal(strcspn(got.data + at, "|"), sizes[i]);
        at += (size_t)sizes[i] + 1;
    }
    assert_int_equal(at, got.bytes);
    seo_buf_free(&file);
    seo_buf_free(&got);
}

static void folders(void **state) {
    (void)state;
    assert_int_equal(seo_dir_make(path_of("tree/b")), SEO_OK);
    put("tree/c.txt", "3", 1);
    put("tree/a.txt", "1", 1);
    put("tree/b/x.jsonl", "{\"text\":\"2\"}", 12);
    put("tree/b/empty.txt", "", 0);
    put("tree/picture.png", "no", 2);
    put("tree/.hidden.txt", "no", 2);
    assert_int_equal(symlink(path_of("tree"), path_of("tree/loop")), 0);
    seo_buf got = {0};
    seo_text_counters counters = {0};
    assert_int_equal(read_all(path_of("tree"), NULL, &got, &counters), SEO_OK);
    assert_string_equal(got.data, "1|2|3|");
    assert_int_equal(counters.files_left_out, 2);
    assert_int_equal(counters.empty_documents, 1);
    seo_buf_free(&got);
    put("odd.ending", "read all the same", 17);
    expect("odd.ending", NULL, "read all the same|");
    assert_int_equal(seo_dir_make(path_of("nothing")), SEO_OK);
    expect_error("nothing", SEO_ERR_USAGE, "no text in this folder");
    expect_error("missing.txt", SEO_ERR_MISSING, "missing.txt: no such file or folder");
}

static void invalid_utf8_is_kept_and_counted(void **state) {
    (void)state;
    put("raw.txt", "a\xff\xc3(\xe2\x82", 6);
    seo_buf got = {0};
    seo_text_counters counters = {0};
    assert_int_equal(read_all(path_of("raw.txt"), NULL, &got, &counters), SEO_OK);
    assert_memory_equal(got.data, "a\xff\xc3(\xe2\x82|", 7);
    assert_int_equal(counters.invalid_utf8_bytes, 4);
    seo_buf_free(&got);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_and_packed),
        cmocka_unit_test(jsonl),
        cmocka_unit_test(long_lines),
        cmocka_unit_test(folders),
        cmocka_unit_test(invalid_utf8_is_kept_and_counted),
    };
    return cmocka_run_group_tests(tests, enter, leave);
}
