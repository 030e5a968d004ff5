#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/error.h"

static void a_failure_keeps_message_and_place(void **state) {
    (void)state;
    assert_int_equal(SEO_FAIL(SEO_ERR_IO, "disk %d", 7), SEO_ERR_IO);
    assert_string_equal(seo_err_detail(), "disk 7");
    assert_non_null(strstr(seo_err_where(), "test_error.c:"));
    assert_int_equal(seo_err_context(SEO_ERR_IO, "step %d", 3), SEO_ERR_IO);
    assert_string_equal(seo_err_detail(), "step 3: disk 7");
    /* The old message may be an argument of the new one. */
    (void)SEO_FAIL(SEO_ERR_FORMAT, "again: %s", seo_err_detail());
    assert_string_equal(seo_err_detail(), "again: step 3: disk 7");
}

static void *fail_elsewhere(void *argument) {
    (void)SEO_FAIL(SEO_ERR_MEMORY, "other thread");
    return argument;
}

static void the_record_belongs_to_its_thread(void **state) {
    (void)state;
    pthread_t thread;
    (void)SEO_FAIL(SEO_ERR_IO, "mine");
    assert_int_equal(pthread_create(&thread, NULL, fail_elsewhere, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_string_equal(seo_err_detail(), "mine");
}

static void every_code_has_a_text(void **state) {
    (void)state;
    for (int code = SEO_OK; code <= SEO_ERR_STOPPED; code++)
        assert_string_not_equal(seo_err_text((seo_err)code), "unknown error");
    assert_string_equal(seo_err_text((seo_err)999), "unknown error");
}

static void long_messages_are_cut_not_overrun(void **state) {
    (void)state;
    char text[10000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    (void)SEO_FAIL(SEO_ERR_IO, "%s", text);
    assert_int_equal(strlen(seo_err_detail()), 4095);
    seo_err_context(SEO_ERR_IO, "%s", text);
    assert_true(strlen(seo_err_detail()) <= 4095);
}

static void checked_arithmetic_tells_overflow(void **state) {
    (void)state;
    int64_t out = 0;
    assert_true(seo_mul_ok(3, 4, &out) && out == 12);
    assert_false(seo_mul_ok(INT64_MAX / 2, 3, &out));
    assert_false(seo_mul_ok(-1, 3, &out));
    assert_true(seo_add_ok(3, 4, &out) && out == 7);
    assert_false(seo_add_ok(INT64_MAX, 1, &out));
    assert_int_equal(seo_div_up(9, 4), 3);
    assert_int_equal(seo_div_up(8, 4), 2);
    assert_int_equal(seo_round_up(257, 256), 512);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failure_keeps_message_and_place),
        cmocka_unit_test(the_record_belongs_to_its_thread),
        cmocka_unit_test(every_code_has_a_text),
        cmocka_unit_test(long_messages_are_cut_not_overrun),
        cmocka_unit_test(checked_arithmetic_tells_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
