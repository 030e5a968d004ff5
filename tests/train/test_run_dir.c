/* One writer a run folder: the lock, the attempt counter, the fence. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/progress.h"
#include "tests/support/ckpt_fixture.h"
#include "train/run_dir.h"

#define OK(call)                                                                                   \
    do {                                                                                           \
        if ((call) != SEO_OK) fail_msg("%s: %s", #call, seo_err_detail());                         \
    } while (0)

/* A second process: exit code 0 when it gets the folder, 10 when refused in time and by name. */
static int second_process(const char *path, const char *holder) {
    pid_t child = fork();
    if (child == 0) {
        seo_run_dir run;
        double start = seo_clock_s();
        seo_err err = seo_run_dir_open(path, &run);
        if (err == SEO_OK) _exit(0);
        if (err != SEO_ERR_LOCKED || seo_clock_s() - start > 1.0) _exit(2);
        _exit(strstr(seo_err_detail(), holder) && strstr(seo_err_detail(), "host ") ? 10 : 3);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void test_second_is_refused(void **state) {
    fixture *f = *state;
    seo_run_dir run;
    char holder[64];
    snprintf(holder, sizeof holder, "process %ld, started 2", (long)getpid());
    OK(seo_run_dir_open(f->run, &run));
    assert_int_equal(second_process(f->run, holder), 10);
    seo_run_dir_close(&run);
    assert_int_equal(second_process(f->run, holder), 0);
}

/* A killed holder leaves no lock behind. */
static void test_killed_holder(void **state) {
    fixture *f = *state;
    int ready[2];
    char byte;
    seo_run_dir run;
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        bool good = seo_run_dir_open(f->run, &run) == SEO_OK && write(ready[1], "x", 1) == 1;
        if (good) pause();
        _exit(1);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(seo_run_dir_open(f->run, &run), SEO_ERR_LOCKED);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    OK(seo_run_dir_open(f->run, &run));
    assert_int_equal(run.attempt, 2);
    seo_run_dir_close(&run);
    close(ready[0]);
    close(ready[1]);
}

static void test_attempts(void **state) {
    fixture *f = *state;
    char path[SEO_PATH_MAX], deep[SEO_PATH_MAX];
    seo_run_dir run;
    OK(seo_path_join(deep, f->run, "a/b"));
    for (int64_t attempt = 1; attempt <= 3; attempt++) {
        OK(seo_run_dir_open(deep, &run));
        assert_int_equal(run.attempt, attempt);
        assert_string_equal(run.path, deep);
        seo_run_dir_close(&run);
    }
    OK(seo_path_join(path, deep, "attempt"));
    OK(seo_file_write_atomic(path, "rubbish\n", 8));
    assert_int_equal(seo_run_dir_open(deep, &run), SEO_ERR_FORMAT);
    assert_non_null(strstr(seo_err_detail(), path));
    /* The refused one holds no lock. */
    assert_int_equal(unlink(path), 0);
    OK(seo_run_dir_open(deep, &run));
    seo_run_dir_close(&run);
    assert_int_equal(seo_run_dir_open(f->tokenizer, &run), SEO_ERR_IO);
}

/* A ghost: its attempt was overtaken while it wrote. It must not commit. */
static void test_fence(void **state) {
    fixture *f = *state;
    char path[SEO_PATH_MAX], text[128];
    seo_run_dir run;
    OK(seo_run_dir_open(f->run, &run));
    OK(seo_run_dir_fence(f->run, run.attempt));
    fixture_fill(f, 1);
    OK(seo_ckpt_save(f->run, run.attempt, NULL, &f->snapshot));
    assert_int_equal(seo_run_dir_fence(f->run, run.attempt + 1), SEO_ERR_LOCKED);
    OK(seo_path_join(path, f->run, "attempt"));
    const char *takers[] = {"attempt 2 host other process 1\n", "attempt 1 host other process 1\n"};
    for (size_t i = 0; i < 2; i++) {
        OK(seo_file_write_atomic(path, takers[i], (int64_t)strlen(takers[i])));
        fixture_fill(f, 2);
        assert_int_equal(seo_ckpt_save(f->run, run.attempt, NULL, &f->snapshot), SEO_ERR_LOCKED);
        snprintf(text, sizeof text, "%.*s", (int)strlen(takers[i]) - 1, takers[i]);
        assert_non_null(strstr(seo_err_detail(), text));
        assert_int_equal(fixture_found(f), 1);
    }
    assert_int_equal(unlink(path), 0);
    assert_int_equal(seo_run_dir_fence(f->run, run.attempt), SEO_ERR_LOCKED);
    seo_run_dir_close(&run);
}

int main(void) {
#define CASE(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {CASE(test_second_is_refused), CASE(test_killed_holder),
                                       CASE(test_attempts), CASE(test_fence)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
