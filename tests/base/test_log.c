/* What reaches standard error and the log file, seen by pointing standard error at a file. */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/log.h"
#include "base/progress.h"

static const char *const CAUGHT = "test_log.err", *const LOG = "test_log.log";
static int g_saved = -1;

static void catch_begin(void) {
    fflush(stderr);
    g_saved = dup(STDERR_FILENO);
    int fd = open(CAUGHT, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(g_saved >= 0 && fd >= 0);
    assert_int_equal(dup2(fd, STDERR_FILENO), STDERR_FILENO);
    close(fd);
}

/* Puts standard error back; what was printed, to be freed. */
static char *catch_end(void) {
    char *text = NULL;
    int64_t bytes = 0;
    fflush(stderr);
    assert_int_equal(dup2(g_saved, STDERR_FILENO), STDERR_FILENO);
    close(g_saved);
    assert_int_equal(seo_file_read(CAUGHT, 1 << 20, &text, &bytes), SEO_OK);
    unlink(CAUGHT);
    return text;
}

static void levels_filter_and_name_themselves(void **state) {
    (void)state;
    const seo_log_options options = {.level = SEO_LOG_INFO, .color = true, .live = true};
    catch_begin();
    seo_log_setup(&options);
    seo_debug("hidden %d", 1);
    seo_info("shown %d", 2);
    seo_warn("w");
    seo_error("e");
    seo_log_live("never on a file");
    bool live = seo_log_is_live();
    char *text = catch_end();
    assert_string_equal(text, "shown 2\nwarning: w\nerror: e\n");
    assert_false(live);
    free(text);
}

static void a_failure_is_printed_with_its_message(void **state) {
    (void)state;
    const seo_log_options options = {.level = SEO_LOG_ERROR};
    (void)SEO_FAIL(SEO_ERR_IO, "disk on fire");
    catch_begin();
    seo_log_setup(&options);
    seo_log_failure();
    seo_warn("hidden");
    char *text = catch_end();
    assert_string_equal(text, "error: disk on fire\n");
    free(text);
}

/* One of several processes: no information, its name, and a file only once there is something. */
static void a_second_voice_warns_only(void **state) {
    (void)state;
    const seo_log_options options = {.level = SEO_LOG_INFO};
    char *text = NULL;
    int64_t bytes = 0;
    unlink(LOG);
    catch_begin();
    seo_log_setup(&options);
    seo_log_second("rank 3 on n2", LOG);
    seo_info("hidden");
    const bool early = access(LOG, F_OK) == 0;
    seo_warn("w");
    seo_error("e");
    seo_log_file(NULL);
    seo_log_second(NULL, NULL);
    seo_error("plain");
    char *caught = catch_end();
    seo_log_setup(&options);
    assert_false(early);
    assert_string_equal(caught, "warning: rank 3 on n2: w\nerror: rank 3 on n2: e\n"
                                "error: plain\n");
    assert_int_equal(seo_file_read(LOG, 1 << 16, &text, &bytes), SEO_OK);
    unlink(LOG);
    assert_non_null(strstr(text, "Z warning: rank 3 on n2: w\n"));
    assert_null(strstr(text, "plain"));
    free(text);
    free(caught);
}

static void the_file_gets_every_line_with_a_stamp(void **state) {
    (void)state;
    const seo_log_options options = {.level = SEO_LOG_INFO};
    char *text = NULL;
    int64_t bytes = 0;
    unlink(LOG);
    catch_begin();
    seo_log_setup(&options);
    seo_log_file(LOG);
    seo_info("one");
    seo_log_file(NULL);
    seo_info("two");
    free(catch_end());
    assert_int_equal(seo_file_read(LOG, 4096, &text, &bytes), SEO_OK);
    assert_non_null(strstr(text, "one\n"));
    assert_null(strstr(text, "two"));
    assert_true(text[4] == '-' && text[10] == 'T');
    free(text);
    unlink(LOG);
}

static void a_log_file_that_fails_is_a_warning(void **state) {
    (void)state;
    const seo_log_options options = {.level = SEO_LOG_INFO};
    catch_begin();
    seo_log_setup(&options);
    seo_log_file("no/such/folder/log");
    seo_log_file("/dev/full");
    seo_info("first");
    seo_info("second");
    seo_log_file(NULL);
    char *text = catch_end();
    assert_non_null(strstr(text, "no/such/folder/log"));
    char *first = strstr(text, "first\n"), *warning = strstr(text, "log file");
    assert_true(first != NULL && warning != NULL);
    assert_non_null(strstr(text, "second\n"));
    free(text);
}

static void *print_many(void *name) {
    for (int i = 0; i < 200; i++) seo_info("%s says something of some length", (const char *)name);
    return NULL;
}

static void threads_do_not_mix_lines(void **state) {
    (void)state;
    const seo_log_options options = {.level = SEO_LOG_INFO};
    pthread_t threads[2];
    char names[2][8] = {"alpha", "omega"};
    catch_begin();
    seo_log_setup(&options);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, print_many, names[i]), 0);
    for (int i = 0; i < 2; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
    char *text = catch_end();
    int lines = 0;
    for (char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1, lines++) {
        *end = '\0';
        assert_string_equal(line + 5, " says something of some length");
    }
    assert_int_equal(lines, 400);
    free(text);
}

static void short_work_prints_no_progress(void **state) {
    (void)state;
    const seo_log_options options = {.level = SEO_LOG_INFO, .live = true};
    seo_progress p;
    catch_begin();
    seo_log_setup(&options);
    seo_progress_start(&p, "work", "bytes", 100);
    for (int64_t i = 0; i <= 100; i++) seo_progress_update(&p, i);
    seo_progress_end(&p);
    char *text = catch_end();
    assert_string_equal(text, "");
    free(text);
}

static void long_work_prints_plain_lines_off_a_terminal(void **state) {
    (void)state;
    const seo_log_options options = {.level = SEO_LOG_INFO, .live = true};
    seo_progress p;
    catch_begin();
    seo_log_setup(&options);
    seo_progress_start(&p, "work", "bytes", 4000000);
    p.start_s -= 20; /* As if begun 20 seconds ago. */
    p.shown_s -= 20;
    seo_progress_update(&p, 1000000);
    seo_progress_update(&p, 1000001); /* Too soon after the last one. */
    seo_progress_end(&p);
    char *text = catch_end();
    assert_non_null(strstr(text, "work: 1.00 MB"));
    assert_non_null(strstr(text, "25 %"));
    assert_non_null(strstr(text, "1m00s left"));
    assert_non_null(strstr(text, " in 20s, "));
    assert_null(strchr(text, '\r'));
    int lines = 0;
    for (const char *c = text; *c != '\0'; c++) lines += *c == '\n';
    assert_int_equal(lines, 2);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(levels_filter_and_name_themselves),
        cmocka_unit_test(a_failure_is_printed_with_its_message),
        cmocka_unit_test(a_second_voice_warns_only),
        cmocka_unit_test(the_file_gets_every_line_with_a_stamp),
        cmocka_unit_test(a_log_file_that_fails_is_a_warning),
        cmocka_unit_test(threads_do_not_mix_lines),
        cmocka_unit_test(short_work_prints_no_progress),
        cmocka_unit_test(long_work_prints_plain_lines_off_a_terminal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
