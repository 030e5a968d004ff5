/* A dataset written and read back: one sequence a split, documents, equal bytes, clear refusals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/check.h"
#include "data/dataset.h"
#include "data/dataset_writer.h"
#include "tests/support/dataset_fixture.h"

static seo_dataset *open_split(const fixture *f, const char *split) {
    seo_dataset *ds = NULL;
    const seo_err err = seo_dataset_open(f->folder, split, &ds);
    if (err != SEO_OK) fprintf(stderr, "%s\n", seo_err_detail());
    assert_int_equal(err, SEO_OK);
    return ds;
}

static void check_sequence(const fixture *f, seo_split split) {
    int64_t count = 0;
    int32_t *expected = fixture_tokens(f, split, &count);
    int32_t *read = malloc((size_t)count * sizeof *read);
    assert_non_null(read);
    seo_dataset *ds = open_split(f, seo_split_name(split));
    assert_int_equal(seo_dataset_info_get(ds).token_count, count);
    assert_int_equal(seo_dataset_info_get(ds).byte_count, 3 * count);
    assert_int_equal(seo_dataset_read(ds, 0, count, read), SEO_OK);
    assert_memory_equal(read, expected, (size_t)count * sizeof *read);
    /* Windows of a prime width, so that they meet every alignment and every border of shards. */
    for (int64_t at = 0; at < count; at += 1009) {
        const int64_t width = seo_min_i64(1013, count - at);
        assert_int_equal(seo_dataset_read(ds, at, width, read), SEO_OK);
        assert_memory_equal(read, expected + at, (size_t)width * sizeof *read);
        seo_dataset_prefetch(ds, at, width);
    }
    seo_dataset_close(ds);
    free(read);
    free(expected);
}

static void splits_read_back(void **state) {
    (void)state;
    fixture f = fixture_usual();
    fixture_make(&f);
    check_sequence(&f, SEO_SPLIT_TRAIN);
    check_sequence(&f, SEO_SPLIT_HELD_OUT);
    seo_dataset *ds = open_split(&f, "train");
    const seo_dataset_info info = seo_dataset_info_get(ds);
    assert_int_equal(info.shard_count, 3);
    assert_int_equal(info.vocab_size, 1000);
    assert_string_equal(info.manifest_sha256, f.manifest_sha256);
    assert_string_equal(seo_dataset_source(ds, 0), "text/a \"quoted\".txt");
    seo_dataset_close(ds);
    fixture_remove(&f);
}

static void wide_vocabulary_reads_back(void **state) {
    (void)state;
    const int64_t vocabularies[] = {65535, 65536, 128256};
    for (int64_t v = 0; v < SEO_COUNT_OF(vocabularies); v++) {
        fixture f = fixture_usual();
        f.vocab_size = vocabularies[v];
        fixture_make(&f);
        check_sequence(&f, SEO_SPLIT_TRAIN);
        fixture_remove(&f);
    }
}

static void documents_are_found(void **state) {
    (void)state;
    fixture f = fixture_usual();
    fixture_make(&f);
    seo_dataset *ds = open_split(&f, "train");
    int64_t at = 0, index = 0;
    for (int64_t d = 0; d < f.documents; d++) {
        if (fixture_held_out(&f, d)) continue;
        const int64_t length = fixture_length(&f, d);
        const int64_t probes[] = {at, at + length / 2, at + length - 1};
        for (int64_t p = 0; p < 3; p++) {
            seo_document_span span;
            assert_int_equal(seo_dataset_document_at(ds, probes[p], &span), SEO_OK);
            assert_int_equal(span.index, index);
            assert_int_equal(span.first_token, at);
            assert_int_equal(span.token_count, length);
            assert_int_equal(span.source, d % 2);
        }
        at += length;
        index++;
    }
    assert_int_equal(index, seo_dataset_info_get(ds).document_count);
    seo_document_span span;
    assert_int_equal(seo_dataset_document_at(ds, at, &span), SEO_ERR_ARG);
    assert_int_equal(seo_dataset_document_at(ds, -1, &span), SEO_ERR_ARG);
    seo_dataset_close(ds);
    fixture_remove(&f);
}

/* Documents longer than a shard are cut; nothing is lost, added or moved. */
static void long_documents_are_cut(void **state) {
    (void)state;
    fixture f = fixture_usual();
    f.shard_tokens = 300;
    f.documents = 40;
    f.document_most = 2000;
    fixture_make(&f);
    check_sequence(&f, SEO_SPLIT_TRAIN);
    check_sequence(&f, SEO_SPLIT_HELD_OUT);
    fixture_remove(&f);
}

static void reads_outside_are_refused(void **state) {
    (void)state;
    fixture f = fixture_usual();
    f.documents = 20;
    fixture_make(&f);
    seo_dataset *ds = open_split(&f, "train");
    const int64_t count = seo_dataset_info_get(ds).token_count;
    int32_t one[2];
    assert_int_equal(seo_dataset_read(ds, count, 0, one), SEO_OK);
    assert_int_equal(seo_dataset_read(ds, count - 1, 1, one), SEO_OK);
    assert_int_equal(seo_dataset_read(ds, count - 1, 2, one), SEO_ERR_ARG);
    assert_int_equal(seo_dataset_read(ds, -1, 1, one), SEO_ERR_ARG);
    assert_int_equal(seo_dataset_read(ds, 0, -1, one), SEO_ERR_ARG);
    assert_int_equal(seo_dataset_read(ds, INT64_MAX, INT64_MAX, one), SEO_ERR_ARG);
    assert_int_equal(seo_dataset_windows(ds, count - 1), 1);
    assert_int_equal(seo_dataset_windows(ds, count), 0);
    seo_dataset_close(ds);
    fixture_remove(&f);
}

/* Two builds of the same content: the same bytes in every file. */
static void equal_content_gives_equal_bytes(void **state) {
    (void)state;
    fixture f[2] = {fixture_usual(), fixture_usual()};
    seo_names names = {0};
    for (int i = 0; i < 2; i++) fixture_make(&f[i]);
    assert_int_equal(seo_dir_list(f[0].folder, &names), SEO_OK);
    assert_int_equal(names.count, 6); /* 3 + 1 shards, manifest, tokenizer */
    for (int64_t n = 0; n < names.count; n++) {
        char path[SEO_PATH_MAX], sha256[2][SEO_SHA256_HEX];
        for (int i = 0; i < 2; i++) {
            fixture_path(&f[i], names.items[n], path);
            assert_int_equal(seo_file_sha256_hex(path, sha256[i]), SEO_OK);
        }
        assert_string_equal(sha256[0], sha256[1]);
    }
    seo_names_free(&names);
    for (int i = 0; i < 2; i++) fixture_remove(&f[i]);
}

static void expect_failure(const char *folder, const char *split, seo_err code, const char *word) {
    seo_dataset *ds = NULL;
    assert_int_equal(seo_dataset_open(folder, split, &ds), code);
    assert_null(ds);
    if (strstr(seo_err_detail(), word) == NULL) {
        fail_msg("'%s' does not say '%s'", seo_err_detail(), word);
    }
}

static void what_is_not_there_is_named(void **state) {
    (void)state;
    fixture f = fixture_usual();
    char path[SEO_PATH_MAX];
    fixture_folder(&f);
    expect_failure(f.folder, "train", SEO_ERR_MISSING, "data build");
    expect_failure("/tmp/seodang-no-such-folder", "train", SEO_ERR_MISSING, "no-such-folder");
    f.held_out_every = 0;
    assert_int_equal(fixture_write(&f), SEO_OK);
    expect_failure(f.folder, "held-out", SEO_ERR_MISSING, "--held-out");
    expect_failure(f.folder, "test", SEO_ERR_USAGE, "held-out");
    fixture_path(&f, "train-00001.h5", path);
    assert_int_equal(unlink(path), 0);
    expect_failure(f.folder, "train", SEO_ERR_MISSING, "train-00001.h5");
    fixture_remove(&f);
}

static void swapped_and_foreign_shards_are_named(void **state) {
    (void)state;
    fixture f = fixture_usual(), other = fixture_usual();
    char a[SEO_PATH_MAX], b[SEO_PATH_MAX], c[SEO_PATH_MAX], away[SEO_PATH_MAX];
    other.seed = 2;
    fixture_make(&f);
    fixture_make(&other);
    fixture_path(&f, "train-00000.h5", a);
    fixture_path(&f, "train-00001.h5", b);
    fixture_path(&f, "away", away);
    fixture_path(&other, "train-00000.h5", c);
    assert_int_equal(seo_rename(a, away), SEO_OK);
    assert_int_equal(seo_rename(b, a), SEO_OK);
    assert_int_equal(seo_rename(away, b), SEO_OK);
    expect_failure(f.folder, "train", SEO_ERR_FORMAT, "train-00001.h5: the files were swapped");
    assert_int_equal(seo_rename(c, a), SEO_OK);
    expect_failure(f.folder, "train", SEO_ERR_FORMAT, "train-00000.h5");
    expect_failure(f.folder, "train", SEO_ERR_FORMAT, "another dataset");
    fixture_remove(&f);
    fixture_remove(&other);
}

static void a_folder_with_a_dataset_is_not_overwritten(void **state) {
    (void)state;
    fixture f = fixture_usual();
    f.documents = 20;
    fixture_make(&f);
    assert_int_equal(fixture_write(&f), SEO_ERR_USAGE);
    check_sequence(&f, SEO_SPLIT_TRAIN);
    fixture_remove(&f);
}

/* A build that died leaves temporary files and perhaps shards without a manifest: the next build
 * goes on as if they were not there. */
static void leftovers_do_not_matter(void **state) {
    (void)state;
    fixture f = fixture_usual();
    char path[SEO_PATH_MAX];
    seo_path_kind kind = SEO_PATH_OTHER;
    f.documents = 20;
    fixture_folder(&f);
    fixture_path(&f, "train-00000.h5", path);
    fixture_overwrite(path, "junk", 4);
    fixture_path(&f, "tmp.train-00007.h5", path);
    fixture_overwrite(path, "junk", 4);
    assert_int_equal(fixture_write(&f), SEO_OK);
    check_sequence(&f, SEO_SPLIT_TRAIN);
    assert_int_equal(seo_path_look(path, &kind), SEO_OK);
    assert_int_equal(kind, SEO_PATH_NONE);
    fixture_remove(&f);
}

static void bad_documents_are_refused(void **state) {
    (void)state;
    fixture f = fixture_usual();
    seo_dataset_writer *writer = NULL;
    char sha256[SEO_SHA256_HEX];
    const int32_t low[] = {1, -1}, high[] = {99, 100}, good[] = {99};
    seo_sha256_hex("", 0, sha256);
    fixture_folder(&f);
    assert_int_equal(seo_dataset_writer_open(&(seo_dataset_writer_args){.folder = f.folder,
                                                                        .vocab_size = 100,
                                                                        .eot_id = -1,
                                                                        .tokenizer_sha256 = sha256},
                                             &writer),
                     SEO_OK);
    const seo_document bad[] = {{.ids = low, .count = 2}, {.ids = high, .count = 2}, {.ids = good}};
    for (int64_t i = 0; i < SEO_COUNT_OF(bad); i++) {
        assert_int_equal(seo_dataset_writer_add(writer, SEO_SPLIT_TRAIN, &bad[i]), SEO_ERR_ARG);
    }
    const seo_dataset_origin origin = {.provenance = "{}"};
    const seo_document held = {.ids = good, .count = 1, .text_bytes = 1};
    assert_int_equal(seo_dataset_writer_add(writer, SEO_SPLIT_HELD_OUT, &held), SEO_OK);
    assert_int_equal(seo_dataset_writer_tokens(writer, SEO_SPLIT_HELD_OUT), 1);
    assert_int_equal(seo_dataset_writer_documents(writer, SEO_SPLIT_HELD_OUT), 1);
    assert_int_equal(seo_dataset_writer_commit(writer, &origin, NULL), SEO_ERR_USAGE);
    seo_dataset_writer_close(writer);
    expect_failure(f.folder, "held-out", SEO_ERR_MISSING, "data build");
    fixture_remove(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(splits_read_back),
        cmocka_unit_test(wide_vocabulary_reads_back),
        cmocka_unit_test(documents_are_found),
        cmocka_unit_test(long_documents_are_cut),
        cmocka_unit_test(reads_outside_are_refused),
        cmocka_unit_test(equal_content_gives_equal_bytes),
        cmocka_unit_test(what_is_not_there_is_named),
        cmocka_unit_test(swapped_and_foreign_shards_are_named),
        cmocka_unit_test(a_folder_with_a_dataset_is_not_overwritten),
        cmocka_unit_test(leftovers_do_not_matter),
        cmocka_unit_test(bad_documents_are_refused),
    };
    return cmocka_run_group_tests_name("data.dataset", tests, NULL, NULL);
}
