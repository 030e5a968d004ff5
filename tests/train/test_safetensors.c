/* safetensors: what is written reads back, one file or many; every damage and every malicious
 * header is refused, and says why. */
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
#include "train/hf/safetensors.h"

#define OK(call)                                                                                   \
    do {                                                                                           \
        if ((call) != SEO_OK) fail_msg("%s: %s", #call, seo_err_detail());                         \
    } while (0)

static const seo_safetensors_row k_rows[] = {
    {.name = "a.weight", .rank = 2, .dims = {3, 5}},
    {.name = "b \"quoted\".bias", .rank = 1, .dims = {7}},
    {.name = "c", .rank = 2, .dims = {1, 1}},
};

static float value_of(int64_t row, int64_t i) {
    return (float)(row + 1) * 0.37f - (float)i * 1.0009765f;
}

static int64_t elements_of(const seo_safetensors_row *row) {
    return row->rank == 2 ? row->dims[0] * row->dims[1] : row->dims[0];
}

static seo_err fetch(void *context, int64_t index, float *out) {
    (void)context;
    for (int64_t i = 0; i < elements_of(&k_rows[index]); i++) out[i] = value_of(index, i);
    return SEO_OK;
}

static int make_dir(void **state) {
    char name[] = "/tmp/seodang-safetensors-XXXXXX";
    if (!mkdtemp(name)) return -1;
    *state = strdup(name);
    return *state ? 0 : -1;
}

static int remove_dir(void **state) {
    const seo_err err = seo_dir_remove(*state);
    free(*state);
    return err == SEO_OK ? 0 : -1;
}

static void in(char path[SEO_PATH_MAX], const char *dir, const char *name) {
    OK(seo_path_join(path, dir, name));
}

static int64_t write_rows(const char *dir, seo_dtype dtype, int64_t shard_bytes) {
    int64_t files = 0;
    const seo_safetensors_out out = {.dir = dir,
                                     .rows = k_rows,
                                     .count = SEO_COUNT_OF(k_rows),
                                     .dtype = dtype,
                                     .shard_bytes = shard_bytes,
                                     .fetch = fetch};
    OK(seo_safetensors_write(&out, &files));
    return files;
}

/* bf16 keeps 8 bits: rounding to nearest is off by half of the last. */
static void check_rows(const seo_safetensors *set, double relative) {
    assert_int_equal(seo_safetensors_count(set), SEO_COUNT_OF(k_rows));
    assert_string_equal(seo_safetensors_format(set), "pt");
    for (int64_t r = 0; r < SEO_COUNT_OF(k_rows); r++) {
        const seo_safetensor *t = seo_safetensors_find(set, k_rows[r].name);
        float values[16];
        assert_non_null(t);
        assert_int_equal(t->rank, k_rows[r].rank);
        assert_int_equal(t->elements, elements_of(&k_rows[r]));
        OK(seo_safetensors_read(set, t, values));
        for (int64_t i = 0; i < t->elements; i++) {
            const double want = (double)value_of(r, i), off = (double)values[i] - want;
            const double allowed = relative * (want < 0 ? -want : want);
            if (!(off <= allowed && -off <= allowed)) {
                fail_msg("%s[%d]: %.9g, not %.9g", t->name, (int)i, (double)values[i], want);
            }
        }
    }
    assert_null(seo_safetensors_find(set, "d"));
}

static void one_file_comes_back(void **state) {
    seo_safetensors *set = NULL;
    char path[SEO_PATH_MAX], *data = NULL;
    int64_t bytes = 0;
    assert_int_equal(write_rows(*state, SEO_DTYPE_F32, 1 << 20), 1);
    OK(seo_safetensors_open(*state, &set));
    check_rows(set, 0);
    in(path, *state, "model.safetensors");
    assert_string_equal(seo_safetensors_path(set, seo_safetensors_at(set, 0)), path);
    seo_safetensors_close(set);
    OK(seo_file_read(path, 1 << 20, &data, &bytes));
    const int64_t header = (unsigned char)data[0] | (unsigned char)data[1] << 8;
    assert_int_equal(header % 8, 0);
    assert_int_equal(8 + header + (15 + 7 + 1) * 4, bytes);
    free(data);
}

static void bf16_comes_back_rounded(void **state) {
    seo_safetensors *set = NULL;
    write_rows(*state, SEO_DTYPE_BF16, 1 << 20);
    OK(seo_safetensors_open(*state, &set));
    assert_string_equal(seo_safetensors_at(set, 0)->dtype, "BF16");
    check_rows(set, 1.0 / 256);
    seo_safetensors_close(set);
}

static void shards_come_back(void **state) {
    seo_safetensors *set = NULL;
    /* 60 bytes, then 28 and 4 together; with 1 byte each has a file to itself. */
    assert_int_equal(write_rows(*state, SEO_DTYPE_F32, 60), 2);
    OK(seo_safetensors_open(*state, &set));
    check_rows(set, 0);
    seo_safetensors_close(set);
    OK(seo_dir_remove(*state));
    OK(seo_dir_make(*state));
    assert_int_equal(write_rows(*state, SEO_DTYPE_F32, 1), 3);
    OK(seo_safetensors_open(*state, &set));
    check_rows(set, 0);
    seo_safetensors_close(set);
}

/* ---- files made by hand ---- */

/* The bytes of a file with this header and `data_bytes` bytes of data. */
static unsigned char *image(const char *header, int64_t data_bytes, int64_t *bytes) {
    const size_t length = strlen(header);
    *bytes = 8 + (int64_t)length + data_bytes;
    unsigned char *file = calloc(1, (size_t)*bytes);
    assert_non_null(file);
    for (int i = 0; i < 8; i++) file[i] = (unsigned char)((uint64_t)length >> 8 * i & 0xff);
    memcpy(file + 8, header, length);
    return file;
}

static void expect_words(const char *word) {
    if (!strstr(seo_err_detail(), word)) fail_msg("'%s' does not say '%s'", seo_err_detail(), word);
}

static void refused(const char *header, int64_t data_bytes, const char *word) {
    seo_safetensors *set = NULL;
    int64_t bytes = 0;
    unsigned char *file = image(header, data_bytes, &bytes);
    const seo_err err = seo_safetensors_parse("bad.safetensors", file, bytes, &set);
    if (err == SEO_OK) fail_msg("accepted: %s", header);
    assert_true(err == SEO_ERR_FORMAT || err == SEO_ERR_UNSUPPORTED);
    assert_null(set);
    expect_words("bad.safetensors");
    expect_words(word);
    free(file);
}

#define T(shape, offsets) "{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static void malicious_headers(void **state) {
    (void)state;
    refused("[]", 0, "not a safetensors file");
    refused(" {}", 0, "not a safetensors file");
    refused("{", 0, "not valid JSON");
    refused("{} x", 0, "not valid JSON");
    refused("{\"a\":" T("[1]", "[0,4]") ",\"a\":" T("[1]", "[4,8]") "}", 8, "duplicate");
    refused("{\"a\":3}", 0, "\"a\"");
    refused("{\"a\":{\"shape\":[1],\"data_offsets\":[0,4],\"x\":1}}", 4, "dtype");
    refused("{\"a\":{\"dtype\":\"F33\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "F33");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"more\":0}}", 4,
            "\"a\"");
    refused("{\"a\":" T("{}", "[0,4]") "}", 4, "shape");
    refused("{\"a\":" T("[-1]", "[0,4]") "}", 4, "shape[0]");
    refused("{\"a\":" T("[1.0]", "[0,4]") "}", 4, "shape[0]");
    refused("{\"a\":" T("[1,1,1,1,1,1,1,1,1]", "[0,4]") "}", 4, "9 dimensions");
    refused("{\"a\":" T("[4294967296,4294967296]", "[0,0]") "}", 0, "more elements");
    refused("{\"a\":" T("[4611686018427387904]", "[0,0]") "}", 0, "do not fill");
    refused("{\"a\":" T("[99999999999999999999]", "[0,4]") "}", 4, "not valid JSON");
    refused("{\"a\":" T("[2]", "[0,4]") "}", 4, "do not fill");
    refused("{\"a\":" T("[1]", "[4,0]") "}", 4, "do not lie");
    refused("{\"a\":" T("[1]", "[-4,0]") "}", 4, "do not lie");
    refused("{\"a\":" T("[2]", "[0,8]") "}", 4, "do not lie");
    refused("{\"a\":" T("[1]", "[0]") "}", 4, "data_offsets");
    refused("{\"a\":" T("[1]", "[0,4]") ",\"b\":" T("[1]", "[0,4]") "}", 4, "inside another");
    refused("{\"a\":" T("[2]", "[0,8]") ",\"b\":" T("[2]", "[4,12]") "}", 12, "inside another");
    refused("{\"a\":" T("[1]", "[0,4]") ",\"b\":" T("[1]", "[8,12]") "}", 12, "after a hole");
    refused("{\"a\":" T("[1]", "[4,8]") "}", 8, "after a hole");
    refused("{\"a\":" T("[1]", "[0,4]") "}", 8, "was put behind it");
    refused("{\"__metadata__\":[]}", 0, "__metadata__");
    refused("{\"__metadata__\":{\"format\":1}}", 0, "format");
    refused("{\"a\\u0000b\":" T("[1]", "[0,4]") "}", 4, "not valid JSON");
}

static void lengths_that_lie(void **state) {
    (void)state;
    seo_safetensors *set = NULL;
    unsigned char file[16] = {0};
    for (int64_t bytes = 0; bytes < 8; bytes++) {
        assert_int_equal(seo_safetensors_parse("x", file, bytes, &set), SEO_ERR_FORMAT);
    }
    assert_int_equal(seo_safetensors_parse("x", file, 16, &set), SEO_ERR_FORMAT);
    memset(file, 0xff, 8);
    assert_int_equal(seo_safetensors_parse("x", file, 16, &set), SEO_ERR_FORMAT);
    expect_words("100000000");
    memset(file, 0, 8);
    file[0] = 9;
    assert_int_equal(seo_safetensors_parse("x", file, 16, &set), SEO_ERR_FORMAT);
    expect_words("was cut");
}

/* What other programs write: values of rank 0, empty tensors, integers beside the weights. */
static void odd_but_legal(void **state) {
    (void)state;
    seo_safetensors *set = NULL;
    int64_t bytes = 0;
    unsigned char *file =
        image("{\"one\":" T("[]", "[8,12]") ",\"none\":" T(
                  "[0,5]",
                  "[8,8]") ",\"n\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[0,8]},"
                           "\"h\":{\"dtype\":\"F16\",\"shape\":[6],\"data_offsets\":[12,24]}}   ",
              24, &bytes);
    /* 1, -2, largest, smallest normal, smallest of all, infinity */
    static const uint16_t halves[] = {0x3c00, 0xc000, 0x7bff, 0x0400, 0x0001, 0x7c00};
    static const float want[] = {1, -2, 65504, 0x1p-14f, 0x1p-24f, __builtin_inff()};
    float values[8];
    memcpy(file + bytes - (int64_t)sizeof halves, halves, sizeof halves);
    OK(seo_safetensors_parse("odd", file, bytes, &set));
    assert_int_equal(seo_safetensors_count(set), 4);
    assert_int_equal(seo_safetensors_find(set, "none")->elements, 0);
    OK(seo_safetensors_read(set, seo_safetensors_find(set, "none"), values));
    OK(seo_safetensors_read(set, seo_safetensors_find(set, "one"), values));
    OK(seo_safetensors_read(set, seo_safetensors_find(set, "h"), values));
    assert_memory_equal(values, want, sizeof want);
    assert_int_equal(seo_safetensors_read(set, seo_safetensors_find(set, "n"), values),
                     SEO_ERR_UNSUPPORTED);
    expect_words("I64");
    seo_safetensors_close(set);
    free(file);
}

static void every_cut_is_refused(void **state) {
    char path[SEO_PATH_MAX], *data = NULL;
    int64_t bytes = 0;
    seo_safetensors *set = NULL;
    write_rows(*state, SEO_DTYPE_F32, 1 << 20);
    in(path, *state, "model.safetensors");
    OK(seo_file_read(path, 1 << 20, &data, &bytes));
    for (int64_t kept = 0; kept < bytes; kept++) {
        char *cut = malloc((size_t)kept + 1); /* its own memory: a read past the end is seen */
        assert_non_null(cut);
        memcpy(cut, data, (size_t)kept);
        if (seo_safetensors_parse("cut", cut, kept, &set) != SEO_ERR_FORMAT) {
            fail_msg("cut to %d bytes: accepted", (int)kept);
        }
        free(cut);
    }
    free(data);
}

/* A flipped bit may change a name or the metadata, which nothing in the format guards; where and
 * what the tensors are, it may not. */
static void every_flip_is_refused_or_harmless(void **state) {
    char path[SEO_PATH_MAX], *data = NULL;
    int64_t bytes = 0, refusals = 0;
    seo_safetensors *set = NULL;
    write_rows(*state, SEO_DTYPE_F32, 1 << 20);
    in(path, *state, "model.safetensors");
    OK(seo_file_read(path, 1 << 20, &data, &bytes));
    const int64_t header = bytes - (15 + 7 + 1) * 4;
    for (int64_t bit = 0; bit < 8 * header; bit++) {
        data[bit / 8] = (char)(data[bit / 8] ^ 1 << bit % 8);
        if (seo_safetensors_parse("flip", data, bytes, &set) == SEO_OK) {
            int64_t elements = 0;
            assert_int_equal(seo_safetensors_count(set), SEO_COUNT_OF(k_rows));
            for (int64_t i = 0; i < seo_safetensors_count(set); i++) {
                const seo_safetensor *t = seo_safetensors_at(set, i);
                assert_string_equal(t->dtype, "F32");
                elements += t->elements;
            }
            assert_int_equal(elements, 15 + 7 + 1);
            seo_safetensors_close(set);
        } else {
            refusals++;
        }
        data[bit / 8] = (char)(data[bit / 8] ^ 1 << bit % 8);
    }
    assert_true(refusals > 4 * header);
    free(data);
}

/* ---- folders that are not whole ---- */

static void write_text(const char *dir, const char *name, const char *text) {
    char path[SEO_PATH_MAX];
    in(path, dir, name);
    OK(seo_file_write_atomic(path, text, (int64_t)strlen(text)));
}

static void not_opened(const char *dir, seo_err want, const char *word) {
    seo_safetensors *set = NULL;
    assert_int_equal(seo_safetensors_open(dir, &set), want);
    expect_words(word);
}

static void half_written_folders(void **state) {
    static const char index[] = "model.safetensors.index.json";
    char first[SEO_PATH_MAX], second[SEO_PATH_MAX];
    not_opened(*state, SEO_ERR_MISSING, "neither model.safetensors nor");
    write_rows(*state, SEO_DTYPE_F32, 60);
    in(first, *state, "model-00001-of-00002.safetensors");
    in(second, *state, "model-00002-of-00002.safetensors");
    write_text(*state, index, "{\"weight_map\":{\"c\":\"../model-00002-of-00002.safetensors\"}}");
    not_opened(*state, SEO_ERR_FORMAT, "beside it");
    write_text(*state, index, "{\"weight_map\":{\"c\":\"..\"}}");
    not_opened(*state, SEO_ERR_FORMAT, "beside it");
    write_text(*state, index, "{\"weight_map\":{\"c\":\"model-00002-of-00002.safetensors\"}}");
    not_opened(*state, SEO_ERR_FORMAT, "that it does not name");
    write_text(*state, index, "{\"weight_map\":{\"x\":\"model-00001-of-00002.safetensors\"}}");
    not_opened(*state, SEO_ERR_FORMAT, "no such tensor");
    write_text(*state, index, "{\"weight_map\":{\"c\":\"model-00003-of-00002.safetensors\"}}");
    not_opened(*state, SEO_ERR_FORMAT, "model-00003-of-00002.safetensors, which is not there");
    write_text(*state, index, "{\"metadata\":{}}");
    not_opened(*state, SEO_ERR_FORMAT, "weight_map");
    write_text(*state, index, "{\"weight_map\"");
    not_opened(*state, SEO_ERR_FORMAT, index);
    write_text(*state, index,
               "{\"weight_map\":{\"a.weight\":\"model-00001-of-00002.safetensors\","
               "\"c\":\"model-00002-of-00002.safetensors\"}}");
    OK(seo_rename(first, second));
    not_opened(*state, SEO_ERR_FORMAT, "model-00001-of-00002.safetensors, which is not there");
    write_text(*state, "model.safetensors", "");
    not_opened(*state, SEO_ERR_FORMAT, "has both");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_file_comes_back, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(bf16_comes_back_rounded, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(shards_come_back, make_dir, remove_dir),
        cmocka_unit_test(malicious_headers),
        cmocka_unit_test(lengths_that_lie),
        cmocka_unit_test(odd_but_legal),
        cmocka_unit_test_setup_teardown(every_cut_is_refused, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(every_flip_is_refused_or_harmless, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(half_written_folders, make_dir, remove_dir),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
