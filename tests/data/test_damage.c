/* Damage of every kind is found, by the reader where it reads and by the full check everywhere. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/text.h"
#include "data/dataset.h"
#include "data/shard.h"
#include "data/verify.h"
#include "tests/support/dataset_fixture.h"

/* One small shard, of some 1,500 tokens. */
static fixture small(void) {
    fixture f = fixture_usual();
    f.documents = 30;
    f.document_most = 100;
    f.held_out_every = 0;
    fixture_make(&f);
    return f;
}

static void collect(void *context, const char *message) {
    seo_buf_format(context, "%s\n", message);
}

/* The damages that the full check finds, one a line; the caller frees. */
static int64_t verify(const fixture *f, seo_buf *report) {
    seo_verify_result result;
    seo_buf_text(report, "");
    const seo_verify_args args = {
        .folder = f->folder, .on_damage = collect, .on_notice = collect, .context = report};
    assert_int_equal(seo_dataset_verify(&args, &result), SEO_OK);
    return result.damages;
}

static void expect_words(const char *text, const char *word) {
    if (strstr(text, word) == NULL) fail_msg("'%s' does not say '%s'", text, word);
}

/* Opens and reads everything: SEO_OK, or the error of the first step that failed. */
static seo_err read_all(const fixture *f, const int32_t *expected, int64_t count) {
    seo_err err = SEO_OK;
    seo_dataset *ds = NULL;
    int32_t *read = malloc((size_t)count * sizeof *read);
    assert_non_null(read);
    SEO_TRY(seo_dataset_open(f->folder, "train", &ds));
    SEO_TRY(seo_dataset_read(ds, 0, count, read));
    assert_memory_equal(read, expected, (size_t)count * sizeof *read);
done:
    seo_dataset_close(ds);
    free(read);
    return err;
}

static void whole_dataset_verifies(void **state) {
    (void)state;
    fixture f = fixture_usual();
    seo_buf report = {0};
    fixture_make(&f);
    assert_int_equal(verify(&f, &report), 0);
    assert_int_equal(report.bytes, 0);
    seo_buf_free(&report);
    fixture_remove(&f);
}

/* Every byte of the shard, one bit after the other in turn. */
static void every_flipped_byte_is_found(void **state) {
    (void)state;
    const fixture f = small();
    char path[SEO_PATH_MAX];
    char *whole = NULL;
    int64_t bytes = 0, count = 0;
    int32_t *expected = fixture_tokens(&f, SEO_SPLIT_TRAIN, &count);
    fixture_path(&f, "train-00000.h5", path);
    assert_int_equal(seo_file_read(path, 1 << 20, &whole, &bytes), SEO_OK);
    assert_int_equal(read_all(&f, expected, count), SEO_OK);
    for (int64_t at = 0; at < bytes; at++) {
        fixture_flip(path, at, (unsigned char)(1 << at % 8));
        assert_int_equal(read_all(&f, expected, count), SEO_ERR_FORMAT);
        expect_words(seo_err_detail(), "train-00000.h5");
        fixture_flip(path, at, (unsigned char)(1 << at % 8));
    }
    assert_int_equal(read_all(&f, expected, count), SEO_OK);
    free(whole);
    free(expected);
    fixture_remove(&f);
}

static void every_flipped_byte_of_the_manifest_is_found(void **state) {
    (void)state;
    const fixture f = small();
    char path[SEO_PATH_MAX];
    char *whole = NULL;
    int64_t bytes = 0;
    seo_manifest manifest;
    fixture_path(&f, SEO_MANIFEST_NAME, path);
    assert_int_equal(seo_file_read(path, 1 << 20, &whole, &bytes), SEO_OK);
    for (int64_t at = 0; at < bytes; at++) {
        whole[at] ^= (char)(1 << at % 7);
        assert_int_equal(seo_manifest_parse("m", whole, bytes, &manifest), SEO_ERR_FORMAT);
        whole[at] ^= (char)(1 << at % 7);
        assert_int_equal(seo_manifest_parse("m", whole, at, &manifest), SEO_ERR_FORMAT);
    }
    assert_int_equal(seo_manifest_parse("m", whole, bytes, &manifest), SEO_OK);
    seo_manifest_free(&manifest);
    free(whole);
    fixture_remove(&f);
}

static void every_truncation_is_found(void **state) {
    (void)state;
    const fixture f = small();
    char path[SEO_PATH_MAX];
    char *whole = NULL;
    int64_t bytes = 0, count = 0;
    int32_t *expected = fixture_tokens(&f, SEO_SPLIT_TRAIN, &count);
    fixture_path(&f, "train-00000.h5", path);
    assert_int_equal(seo_file_read(path, 1 << 20, &whole, &bytes), SEO_OK);
    for (int64_t length = bytes - 1; length >= 0; length--) {
        assert_int_equal(truncate(path, length), 0);
        assert_int_equal(read_all(&f, expected, count), SEO_ERR_FORMAT);
    }
    expect_words(seo_err_detail(), "truncated");
    fixture_overwrite(path, whole, bytes);
    assert_int_equal(read_all(&f, expected, count), SEO_OK);
    assert_int_equal(truncate(path, bytes + 1), 0);
    assert_int_equal(read_all(&f, expected, count), SEO_ERR_FORMAT);
    free(whole);
    free(expected);
    fixture_remove(&f);
}

/* The block that is damaged is named with its bytes, others still read. */
static void damaged_block_is_named(void **state) {
    (void)state;
    fixture f = fixture_usual();
    f.shard_tokens = 400000;
    fixture_make(&f);
    char path[SEO_PATH_MAX], range[96];
    seo_manifest manifest;
    seo_dataset *ds = NULL;
    int32_t window[100];
    seo_buf report = {0};
    assert_int_equal(seo_manifest_load(f.folder, &manifest), SEO_OK);
    const int64_t begin = manifest.shards[0].token_offset, block = 2 * SEO_SHARD_BLOCK_TOKENS;
    fixture_path(&f, "train-00000.h5", path);
    fixture_flip(path, begin + block + 777, 4);
    fixture_flip(path, begin + 3 * block, 1);
    assert_int_equal(seo_dataset_open(f.folder, "train", &ds), SEO_OK);
    assert_int_equal(seo_dataset_read(ds, 0, 100, window), SEO_OK);
    for (int again = 0; again < 2; again++) {
        assert_int_equal(seo_dataset_read(ds, SEO_SHARD_BLOCK_TOKENS - 1, 2, window),
                         SEO_ERR_FORMAT);
    }
    snprintf(range, sizeof range, "train-00000.h5: block 1 is damaged (bytes %lld to %lld)",
             (long long)(begin + block), (long long)(begin + 2 * block));
    expect_words(seo_err_detail(), range);
    assert_int_equal(seo_dataset_read(ds, 2 * SEO_SHARD_BLOCK_TOKENS, 100, window), SEO_OK);
    seo_dataset_close(ds);
    assert_int_equal(verify(&f, &report), 2);
    expect_words(report.data, range);
    expect_words(report.data, "block 3 is damaged");
    seo_buf_free(&report);
    seo_manifest_free(&manifest);
    fixture_remove(&f);
}

/* One damage does not hide another. */
static void verify_finds_all(void **state) {
    (void)state;
    fixture f = fixture_usual();
    fixture_make(&f);
    char path[SEO_PATH_MAX];
    seo_buf report = {0};
    fixture_path(&f, "train-00000.h5", path);
    fixture_flip(path, 100, 1);
    fixture_path(&f, "train-00001.h5", path);
    assert_int_equal(truncate(path, 5000), 0);
    fixture_path(&f, "train-00002.h5", path);
    fixture_flip(path, 5000, 1);
    fixture_path(&f, "held-out-00000.h5", path);
    assert_int_equal(unlink(path), 0);
    fixture_path(&f, SEO_TOKENIZER_NAME, path);
    fixture_flip(path, 3, 1);
    fixture_path(&f, "notes.txt", path);
    fixture_overwrite(path, "n", 1);
    assert_int_equal(verify(&f, &report), 5);
    expect_words(report.data, "train-00000.h5: damaged");
    expect_words(report.data, "train-00001.h5: has 5000 bytes");
    expect_words(report.data, "train-00002.h5: block 0");
    expect_words(report.data, "held-out-00000.h5");
    expect_words(report.data, "tokenizer.json: is not the tokenizer");
    expect_words(report.data, "notes.txt: is not part");
    fixture_path(&f, SEO_MANIFEST_NAME, path);
    fixture_flip(path, 30, 1);
    assert_int_equal(verify(&f, &report), 1);
    expect_words(report.data, "was edited or damaged");
    seo_buf_free(&report);
    fixture_remove(&f);
}

/* The number of files with a final name. */
static int64_t final_names(const char *folder) {
    seo_names names = {0};
    int64_t count = 0;
    assert_int_equal(seo_dir_list(folder, &names), SEO_OK);
    for (int64_t i = 0; i < names.count; i++) {
        count += strcmp(names.items[i], SEO_TOKENIZER_NAME) != 0;
    }
    seo_names_free(&names);
    return count;
}

/* A build that may write files of at most `room` bytes; in a process of its own, because HDF5 loses
 * memory when its close fails. True when the build said that this folder could not be written. */
static bool fails_with_room(fixture *f, int64_t room) {
    int status = -1;
    const pid_t child = fork();
    if (child == 0) {
        const struct rlimit limit = {.rlim_cur = (rlim_t)room, .rlim_max = (rlim_t)room};
        signal(SIGXFSZ, SIG_IGN);
        const bool limited = setrlimit(RLIMIT_FSIZE, &limit) == 0;
        const seo_err err = fixture_write(f);
        _exit(limited && err == SEO_ERR_IO && strstr(seo_err_detail(), f->folder) != NULL ? 0 : 1);
    }
    return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
           WEXITSTATUS(status) == 0;
}

/* A disk that is full after any number of bytes: the build fails, says where, leaves nothing, and
 * the same call succeeds when there is room again. */
static void full_disk_leaves_nothing(void **state) {
    (void)state;
    fixture f = fixture_usual();
    seo_buf report = {0};
    f.documents = 60;
    f.document_most = 100;
    fixture_folder(&f);
    for (int64_t room = 64; room < 12000; room += 611) {
        assert_true(fails_with_room(&f, room));
        assert_int_equal(final_names(f.folder), 0);
    }
    assert_int_equal(fixture_write(&f), SEO_OK);
    assert_int_equal(verify(&f, &report), 0);
    seo_buf_free(&report);
    fixture_remove(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_dataset_verifies),
        cmocka_unit_test(every_flipped_byte_is_found),
        cmocka_unit_test(every_flipped_byte_of_the_manifest_is_found),
        cmocka_unit_test(every_truncation_is_found),
        cmocka_unit_test(damaged_block_is_named),
        cmocka_unit_test(verify_finds_all),
        cmocka_unit_test(full_disk_leaves_nothing),
    };
    return cmocka_run_group_tests_name("data.damage", tests, NULL, NULL);
}
