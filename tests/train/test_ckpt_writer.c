/* Saving in the background: what was submitted is what is saved, whatever training does next. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/ckpt_fixture.h"
#include "train/checkpoint/layout.h"

#define OK(call)                                                                                   \
    do {                                                                                           \
        if ((call) != SEO_OK) fail_msg("%s: %s", #call, seo_err_detail());                         \
    } while (0)

static seo_ckpt_writer *open_writer(const fixture *f, int64_t keep_last) {
    seo_ckpt_writer *writer;
    const seo_ckpt_writer_args args = {.run_dir = f->run, .keep_last = keep_last, .keep_every = 4};
    OK(seo_ckpt_writer_open(&args, &writer));
    return writer;
}

/* The values of the newest checkpoint are those of `step`. */
static void assert_saved(fixture *f, int64_t step) {
    assert_int_equal(fixture_assert_newest(f), step);
}

static void test_snapshot_is_a_copy(void **state) {
    fixture *f = *state;
    seo_ckpt_writer *writer = open_writer(f, 1);
    for (int64_t step = 1; step <= 6; step++) {
        char yaml[] = "model: {family: gpt2}\n";
        fixture_fill(f, step);
        f->snapshot.config_yaml = yaml;
        OK(seo_ckpt_writer_submit(writer, &f->snapshot));
        /* Training goes on in the same memory at once. */
        memset(f->values, 0x5a, sizeof f->values);
        memset(yaml, 'x', sizeof yaml - 1);
    }
    OK(seo_ckpt_writer_wait(writer));
    assert_int_equal(seo_ckpt_writer_failures(writer), 0);
    assert_saved(f, 6);
    /* keep_last 1, keep_every 4 */
    int64_t *steps, count;
    char folder[SEO_PATH_MAX];
    OK(seo_path_join(folder, f->run, SEO_CKPT_FOLDER));
    OK(seo_ckpt_list_steps(folder, &steps, &count));
    assert_int_equal(count, 2);
    assert_int_equal(steps[0], 6);
    assert_int_equal(steps[1], 4);
    free(steps);
    seo_ckpt_writer_close(writer);
}

static void test_close_waits(void **state) {
    fixture *f = *state;
    seo_ckpt_writer *writer = open_writer(f, 2);
    fixture_fill(f, 3);
    OK(seo_ckpt_writer_submit(writer, &f->snapshot));
    seo_ckpt_writer_close(writer);
    assert_saved(f, 3);
    seo_ckpt_writer_close(open_writer(f, 1)); /* nothing submitted */
    seo_ckpt_writer_close(NULL);
}

static void test_failures_are_counted(void **state) {
    fixture *f = *state;
    char folder[SEO_PATH_MAX];
    seo_ckpt_writer *writer = open_writer(f, 2);
    OK(seo_path_join(folder, f->run, SEO_CKPT_FOLDER));
    OK(seo_file_write_atomic(folder, "in the way", 10));
    for (int64_t step = 1; step <= 3; step++) {
        fixture_fill(f, step);
        OK(seo_ckpt_writer_submit(writer, &f->snapshot));
        assert_int_equal(seo_ckpt_writer_wait(writer), SEO_ERR_IO);
        assert_non_null(strstr(seo_err_detail(), folder));
        assert_int_equal(seo_ckpt_writer_failures(writer), step);
    }
    assert_int_equal(unlink(folder), 0);
    fixture_fill(f, 4);
    OK(seo_ckpt_writer_submit(writer, &f->snapshot));
    OK(seo_ckpt_writer_wait(writer));
    assert_int_equal(seo_ckpt_writer_failures(writer), 0);
    seo_ckpt_writer_close(writer);
    assert_saved(f, 4);
}

static void test_contract(void **state) {
    fixture *f = *state;
    seo_ckpt_writer *writer;
    const seo_ckpt_writer_args args = {.run_dir = f->run, .keep_last = 0};
    assert_int_equal(seo_ckpt_writer_open(&args, &writer), SEO_ERR_ARG);
    assert_null(writer);
}

int main(void) {
#define CASE(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {CASE(test_snapshot_is_a_copy), CASE(test_close_waits),
                                       CASE(test_failures_are_counted), CASE(test_contract)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
