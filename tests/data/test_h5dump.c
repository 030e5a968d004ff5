/* A shard is readable by others: h5dump gives the tokens, the tables and the attributes back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/text.h"
#include "tests/support/dataset_fixture.h"

/* What `h5dump OPTIONS SHARD` prints, from its DATA block on. */
static void dump(const fixture *f, const char *options, seo_buf *out) {
    char path[SEO_PATH_MAX], command[SEO_PATH_MAX + 128], piece[4096];
    size_t bytes = 0;
    fixture_path(f, "train-00000.h5", path);
    snprintf(command, sizeof command, "h5dump %s %s 2>&1", options, path);
    seo_buf_clear(out);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    while ((bytes = fread(piece, 1, sizeof piece, pipe)) > 0) seo_buf_add(out, piece, bytes);
    assert_int_equal(pclose(pipe), 0);
    assert_int_equal(seo_buf_check(out), SEO_OK);
    const char *data = strstr(out->data, "DATA {");
    assert_non_null(data);
    memmove(out->data, data + 6, strlen(data + 6) + 1);
}

static int64_t next_number(char **at) {
    *at += strcspn(*at, "-0123456789}");
    return strtoll(*at, at, 10);
}

static void expect_attribute(const fixture *f, const char *key, int64_t expected) {
    char options[96];
    seo_buf out = {0};
    snprintf(options, sizeof options, "-y -a /%s", key);
    dump(f, options, &out);
    char *at = out.data;
    assert_int_equal(next_number(&at), expected);
    seo_buf_free(&out);
}

static void expect_text(const fixture *f, const char *options, const char *expected) {
    seo_buf out = {0};
    dump(f, options, &out);
    if (strstr(out.data, expected) == NULL) fail_msg("%s: %s", options, out.data);
    seo_buf_free(&out);
}

static void tokens_are_those_written(void **state) {
    const fixture *f = *state;
    seo_buf out = {0};
    int64_t count = 0;
    int32_t *expected = fixture_tokens(f, SEO_SPLIT_TRAIN, &count);
    dump(f, "-y -d /tokens", &out);
    char *at = out.data;
    for (int64_t i = 0; i < count; i++) assert_int_equal(next_number(&at), expected[i]);
    at += strspn(at, " \n\r");
    assert_int_equal(*at, '}');
    free(expected);
    seo_buf_free(&out);
}

static void documents_are_those_written(void **state) {
    const fixture *f = *state;
    seo_buf offsets = {0}, source = {0};
    dump(f, "-y -d /doc_offsets", &offsets);
    dump(f, "-y -d /doc_source", &source);
    char *at = offsets.data, *from = source.data;
    int64_t first = 0;
    for (int64_t d = 0; d < f->documents; d++) {
        assert_int_equal(next_number(&at), first);
        assert_int_equal(next_number(&from), d % 2);
        first += fixture_length(f, d);
    }
    assert_int_equal(next_number(&at), first);
    seo_buf_free(&offsets);
    seo_buf_free(&source);
}

static void attributes_are_those_promised(void **state) {
    const fixture *f = *state;
    int64_t count = 0;
    free(fixture_tokens(f, SEO_SPLIT_TRAIN, &count));
    expect_attribute(f, "format_version", 1);
    expect_attribute(f, "n_tokens", count);
    expect_attribute(f, "n_documents", f->documents);
    expect_attribute(f, "n_bytes", 3 * count);
    expect_attribute(f, "vocab_size", f->vocab_size);
    expect_attribute(f, "eot_id", 0);
    expect_attribute(f, "shard_index", 0);
    expect_attribute(f, "shard_count", 1);
    expect_attribute(f, "complete", 1);
    expect_text(f, "-y -a /format", "\"seodang-shard\"");
    expect_text(f, "-y -a /split", "\"train\"");
    expect_text(f, "-y -d /provenance/build", "fixture");
    expect_text(f, "-y -d /provenance/sources", "text/b.txt");
}

static int setup(void **state) {
    static fixture f;
    f = fixture_usual();
    f.documents = 60;
    f.held_out_every = 0;
    fixture_make(&f);
    *state = &f;
    return 0;
}

static int teardown(void **state) {
    fixture_remove(*state);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_are_those_written),
        cmocka_unit_test(documents_are_those_written),
        cmocka_unit_test(attributes_are_those_promised),
    };
    if (system("command -v h5dump > /dev/null") != 0) {
        puts("skipped: h5dump is not installed (apt-get install hdf5-tools)");
        return 77;
    }
    return cmocka_run_group_tests_name("data.h5dump", tests, setup, teardown);
}
