/* Damage of every kind: found, named with its place, and never taken for a checkpoint or for
 * "there is none". With the argument `all`, every bit of every byte. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "tests/support/ckpt_fixture.h"
#include "train/checkpoint/layout.h"
#include "train/checkpoint/manifest.h"

#define PART "part-0000-of-0001.h5"

#define OK(call)                                                                                   \
    do {                                                                                           \
        if ((call) != SEO_OK) fail_msg("%s: %s", #call, seo_err_detail());                         \
    } while (0)

static const char *const files[] = {PART, SEO_CKPT_CONFIG, SEO_CKPT_TOKENIZER, SEO_CKPT_MANIFEST};
enum { FILES = sizeof files / sizeof files[0] };

static bool every_bit = false;

static seo_err open_step(const fixture *f, int64_t step) {
    char path[SEO_PATH_MAX];
    seo_ckpt *ckpt;
    fixture_path(f, step, "", path);
    seo_err err = seo_ckpt_open(path, NULL, &ckpt);
    seo_ckpt_close(ckpt);
    return err;
}

static void flip(int fd, int64_t at, unsigned char bits) {
    unsigned char byte;
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= bits;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
}

static void test_every_byte_counts(void **state) {
    fixture *f = *state;
    char path[SEO_PATH_MAX];
    fixture_save(f, 1);
    for (size_t i = 0; i < FILES; i++) {
        int64_t bytes;
        fixture_path(f, 1, files[i], path);
        OK(seo_file_bytes(path, &bytes));
        int fd = open(path, O_RDWR);
        assert_true(fd >= 0);
        for (int64_t bit = 0; bit < bytes * 8; bit += every_bit ? 1 : 8) {
            unsigned char mask = (unsigned char)(1u << (every_bit ? bit % 8 : bit / 8 % 8));
            flip(fd, bit / 8, mask);
            if (open_step(f, 1) != SEO_ERR_FORMAT) {
                fail_msg("%s: byte %lld changed by 0x%02x and nobody noticed", files[i],
                         (long long)(bit / 8), mask);
            }
            assert_non_null(strstr(seo_err_detail(), files[i]));
            flip(fd, bit / 8, mask);
        }
        close(fd);
    }
    OK(open_step(f, 1));
}

static void test_every_truncation(void **state) {
    fixture *f = *state;
    char path[SEO_PATH_MAX], *data;
    fixture_save(f, 1);
    for (size_t i = 0; i < FILES; i++) {
        int64_t bytes;
        fixture_path(f, 1, files[i], path);
        OK(seo_file_read(path, 1 << 24, &data, &bytes));
        for (int64_t length = bytes - 1; length >= 0; length--) {
            assert_int_equal(truncate(path, length), 0);
            assert_int_equal(open_step(f, 1), SEO_ERR_FORMAT);
        }
        OK(seo_file_write_atomic(path, data, bytes));
        OK(open_step(f, 1));
        int fd = open(path, O_WRONLY | O_APPEND);
        assert_int_equal(write(fd, "\n", 1), 1);
        close(fd);
        assert_int_equal(open_step(f, 1), SEO_ERR_FORMAT);
        OK(seo_file_write_atomic(path, data, bytes));
        free(data);
    }
}

static void test_missing_and_swapped_files(void **state) {
    fixture *f = *state;
    char one[SEO_PATH_MAX], two[SEO_PATH_MAX], aside[SEO_PATH_MAX];
    fixture_save(f, 1);
    fixture_fill(f, 2);
    f->snapshot.config_yaml = "model: {family: gpt3}\n";
    OK(seo_file_write_atomic(f->tokenizer, "{\"model\": []}\n", 14));
    OK(seo_ckpt_save(f->run, 0, NULL, &f->snapshot));
    OK(seo_path_join(aside, f->run, "aside"));
    for (size_t i = 0; i < FILES; i++) {
        fixture_path(f, 1, files[i], one);
        fixture_path(f, 2, files[i], two);
        OK(seo_rename(one, aside));
        assert_int_equal(open_step(f, 1), SEO_ERR_MISSING);
        OK(seo_rename(two, one));
        assert_int_equal(open_step(f, 1), SEO_ERR_FORMAT);
        OK(seo_rename(aside, two));
        assert_int_equal(open_step(f, 2), SEO_ERR_FORMAT);
        OK(seo_rename(two, aside));
        OK(seo_rename(one, two));
        OK(seo_rename(aside, one));
        OK(open_step(f, 1));
        OK(open_step(f, 2));
    }
    /* The whole folder under another step's name. */
    fixture_path(f, 1, "", one);
    fixture_path(f, 9, "", two);
    OK(seo_rename(one, two));
    assert_int_equal(open_step(f, 9), SEO_ERR_FORMAT);
    assert_int_equal(fixture_found(f), 2);
}

static void damage(const fixture *f, int64_t step, const char *name) {
    char path[SEO_PATH_MAX];
    fixture_path(f, step, name, path);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    flip(fd, 10, 1);
    close(fd);
}

/* Opens the run and gives what was printed meanwhile. */
static int64_t found_and_said(const fixture *f, char *said, size_t capacity) {
    FILE *kept = tmpfile();
    int before = dup(STDERR_FILENO);
    assert_true(kept && before >= 0 && dup2(fileno(kept), STDERR_FILENO) >= 0);
    const seo_log_options loud = {.level = SEO_LOG_WARN}, quiet = {.level = SEO_LOG_QUIET};
    seo_log_setup(&loud);
    int64_t found = fixture_found(f);
    seo_log_setup(&quiet);
    fflush(stderr);
    assert_true(dup2(before, STDERR_FILENO) >= 0);
    close(before);
    rewind(kept);
    said[fread(said, 1, capacity - 1, kept)] = '\0';
    fclose(kept);
    return found;
}

static void test_newest_good_is_taken(void **state) {
    fixture *f = *state;
    char said[4096], path[SEO_PATH_MAX];
    for (int64_t step = 1; step <= 4; step++) fixture_save(f, step);
    damage(f, 4, PART);
    fixture_path(f, 3, SEO_CKPT_MANIFEST, path);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(found_and_said(f, said, sizeof said), 2);
    assert_non_null(strstr(said, "step-00000004/" PART ": damaged between byte 0 and byte "));
    assert_non_null(strstr(said, "step-00000003: not a checkpoint: it has no manifest.json"));
    damage(f, 2, SEO_CKPT_TOKENIZER);
    assert_int_equal(found_and_said(f, said, sizeof said), 1);
    assert_non_null(strstr(said, "step-00000002/tokenizer.json: damaged"));
}

static void test_none_good_is_refused(void **state) {
    fixture *f = *state;
    char said[4096], path[SEO_PATH_MAX];
    seo_ckpt *ckpt;
    fixture_save(f, 1);
    fixture_save(f, 2);
    damage(f, 1, SEO_CKPT_MANIFEST);
    damage(f, 2, SEO_CKPT_CONFIG);
    assert_int_equal(found_and_said(f, said, sizeof said), -1 - SEO_ERR_FORMAT);
    assert_int_equal(seo_ckpt_open(f->run, NULL, &ckpt), SEO_ERR_FORMAT);
    assert_null(ckpt);
    assert_non_null(strstr(seo_err_detail(), "none of its 2 checkpoints is good"));
    assert_non_null(strstr(seo_err_detail(), "--from-scratch"));
    /* One without a manifest is no checkpoint, but it is not nothing either. */
    for (int64_t step = 1; step <= 2; step++) {
        fixture_path(f, step, SEO_CKPT_MANIFEST, path);
        assert_int_equal(unlink(path), 0);
    }
    assert_int_equal(fixture_found(f), -1 - SEO_ERR_FORMAT);
}

/* Replaces one text in the manifest of step 1 and seals it anew. */
static void edit(const fixture *f, const char *from, const char *to) {
    char path[SEO_PATH_MAX], *text;
    int64_t bytes;
    seo_buf out = {0};
    fixture_path(f, 1, SEO_CKPT_MANIFEST, path);
    OK(seo_file_read(path, 1 << 24, &text, &bytes));
    char *at = strstr(text, from), *seal = strstr(text, "  \"manifest_xxh3_128\"");
    assert_true(at && seal && at < seal);
    seo_buf_add(&out, text, (size_t)(at - text));
    seo_buf_text(&out, to);
    seo_buf_add(&out, at + strlen(from), (size_t)(seal - at) - strlen(from));
    seo_ckpt_manifest_seal(&out);
    OK(seo_buf_check(&out));
    OK(seo_file_write_atomic(path, out.data, (int64_t)out.bytes));
    seo_buf_free(&out);
    free(text);
}

/* Manifests of versions that had one precision do not name it. */
static void test_no_precision(void **state) {
    fixture *f = *state;
    char path[SEO_PATH_MAX];
    seo_ckpt *ckpt = NULL;
    fixture_save(f, 1);
    edit(f, "    \"precision\": \"bf16\",\n", "");
    fixture_path(f, 1, "", path);
    OK(seo_ckpt_open(path, NULL, &ckpt));
    assert_string_equal(seo_ckpt_state_of(ckpt)->precision, "f32");
    seo_ckpt_close(ckpt);
}

/* A manifest that is sound to its last hash and still says what cannot be. */
static void test_impossible_manifests(void **state) {
    fixture *f = *state;
    static const struct {
        const char *from, *to;
        seo_err err;
    } edits[] = {
        {"\"format_version\": 2", "\"format_version\": 3", SEO_ERR_UNSUPPORTED},
        {"seodang-checkpoint", "seodang-shard", SEO_ERR_FORMAT},
        {"\"step\": 1,", "\"step\": 2,", SEO_ERR_FORMAT},
        {"\"step\": 1,", "\"step\": -1,", SEO_ERR_FORMAT},
        {"\"step\": 1,", "\"step\": 1.0,", SEO_ERR_FORMAT},
        {"\"step\": 1,", "", SEO_ERR_FORMAT},
        {"\"seed\": \"", "\"seed\": \"9", SEO_ERR_FORMAT},
        {"\"bits\": \"", "\"bits\": \"0", SEO_ERR_FORMAT},
        {"\"precision\": \"bf16\"", "\"precision\": \"f16\"", SEO_ERR_FORMAT},
        {"\"precision\": \"bf16\"", "\"precision\": 16", SEO_ERR_FORMAT},
        {"\"bad_in_row\": 0", "\"bad_in_row\": -1", SEO_ERR_FORMAT},
        {"\"spike_window\": [", "\"spike_window\": [7, ", SEO_ERR_FORMAT},
        {"\"spike_window\": [\"", "\"spike_window\": [\"0", SEO_ERR_FORMAT},
        {"\"spike_window\": [", "\"spike_windows\": [", SEO_ERR_FORMAT},
        {"\"config_hash\": \"", "\"config_hash\": \"0", SEO_ERR_FORMAT},
        {"\"parts\": 1", "\"parts\": 0", SEO_ERR_FORMAT},
        {"\"parts\": 1", "\"parts\": 2", SEO_ERR_FORMAT},
        {"\"name\": \"" PART, "\"name\": \"../" PART, SEO_ERR_FORMAT},
        {"\"name\": \"config.yaml", "\"name\": \"", SEO_ERR_FORMAT},
        {"\"bytes\": ", "\"bytes\": 9", SEO_ERR_FORMAT},
        {"\"block_xxh3_64\": \"", "\"block_xxh3_64\": \"00", SEO_ERR_FORMAT},
        {"\"dtype\": \"f32\"", "\"dtype\": \"f64\"", SEO_ERR_FORMAT},
        {"\"shape\": [17, 12]", "\"shape\": [17, 0]", SEO_ERR_FORMAT},
        {"\"shape\": [17, 12]", "\"shape\": []", SEO_ERR_FORMAT},
        {"\"shape\": [17, 12]", "\"shape\": [17, 12, 1, 1, 1]", SEO_ERR_FORMAT},
        {"\"shape\": [17, 12]", "\"shape\": [17, 13]", SEO_ERR_FORMAT},
        {"\"shape\": [17, 12]", "\"shape\": [4611686018427387904, 12]", SEO_ERR_FORMAT},
        {"\"shape\": [17, 12]", "\"shape\": [\"17\", 12]", SEO_ERR_FORMAT},
        {"\"part\": 0", "\"part\": 1", SEO_ERR_FORMAT},
        {"\"offset\": 0", "\"offset\": 1", SEO_ERR_FORMAT},
        {"\"count\": 204", "\"count\": 203", SEO_ERR_FORMAT},
        {"\"count\": 204", "\"count\": 205", SEO_ERR_FORMAT},
        {"moment2/four", "moment2", SEO_ERR_FORMAT},
        {"moment2/four", "moment2/../four", SEO_ERR_FORMAT},
        {"moment2/four", "parameters/one", SEO_ERR_FORMAT},
        {"\"tensors\": [", "\"tensors\": [7,", SEO_ERR_FORMAT},
        {"\"state\": {", "\"state\": {\"step\": 1,", SEO_ERR_FORMAT},
    };
    char path[SEO_PATH_MAX], *text;
    int64_t bytes;
    fixture_save(f, 1);
    fixture_path(f, 1, SEO_CKPT_MANIFEST, path);
    OK(seo_file_read(path, 1 << 24, &text, &bytes));
    edit(f, "\"parts\": 1", "\"parts\": 1");
    OK(open_step(f, 1));
    for (size_t i = 0; i < sizeof edits / sizeof edits[0]; i++) {
        edit(f, edits[i].from, edits[i].to);
        seo_err err = open_step(f, 1);
        if (err != edits[i].err) {
            fail_msg("%s -> %s: %s", edits[i].from, edits[i].to, seo_err_text(err));
        }
        OK(seo_file_write_atomic(path, text, bytes));
    }
    free(text);
}

/* A newer format is not damage: the older checkpoint must not be taken in its place unasked. */
static void test_newer_format(void **state) {
    fixture *f = *state;
    char one[SEO_PATH_MAX], two[SEO_PATH_MAX];
    seo_ckpt *ckpt;
    fixture_save(f, 1);
    edit(f, "\"format_version\": 2", "\"format_version\": 3");
    edit(f, "\"step\": 1,", "\"step\": 2,");
    fixture_path(f, 1, "", one);
    fixture_path(f, 2, "", two);
    OK(seo_rename(one, two));
    fixture_save(f, 1);
    assert_int_equal(seo_ckpt_open(f->run, NULL, &ckpt), SEO_ERR_UNSUPPORTED);
    assert_non_null(strstr(seo_err_detail(), "step-00000002"));
    assert_non_null(strstr(seo_err_detail(), "format_version 3"));
}

/* The manifest and the file agree, but the dataset is not what the manifest says of it. */
static void test_dataset_hash(void **state) {
    fixture *f = *state;
    char path[SEO_PATH_MAX], *text, hash[64] = "", other[64];
    int64_t bytes;
    float value[432];
    seo_ckpt *ckpt;
    fixture_save(f, 1);
    fixture_path(f, 1, SEO_CKPT_MANIFEST, path);
    OK(seo_file_read(path, 1 << 24, &text, &bytes));
    const char *at = strstr(strstr(text, "attn.qkv"), "\"xxh3_128\": \"");
    assert_non_null(at);
    memcpy(hash, at, 30);
    memcpy(other, hash, sizeof other);
    other[20] = other[20] == '0' ? '1' : '0';
    free(text);
    edit(f, hash, other);
    OK(seo_ckpt_open(f->run, NULL, &ckpt));
    seo_ckpt_tensor t = f->tensors[1];
    t.data = value;
    assert_int_equal(seo_ckpt_read(ckpt, &t, 1), SEO_ERR_FORMAT);
    assert_non_null(strstr(seo_err_detail(), "attn.qkv"));
    seo_ckpt_close(ckpt);
}

int main(int argc, char **argv) {
#define CASE(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_every_byte_counts),
        CASE(test_every_truncation),
        CASE(test_missing_and_swapped_files),
        CASE(test_newest_good_is_taken),
        CASE(test_none_good_is_refused),
        CASE(test_no_precision),
        CASE(test_impossible_manifests),
        CASE(test_newer_format),
        CASE(test_dataset_hash),
    };
    every_bit = argc > 1 && strcmp(argv[1], "all") == 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
