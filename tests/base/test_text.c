#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/text.h"

static void buffers_grow_and_stay_terminated(void **state) {
    (void)state;
    seo_buf b = {0};
    for (int i = 0; i < 1000; i++) seo_buf_format(&b, "%d,", i);
    assert_int_equal(b.bytes, strlen(b.data));
    assert_int_equal(seo_buf_check(&b), SEO_OK);
    assert_non_null(strstr(b.data, "998,999,"));
    seo_buf_clear(&b);
    assert_string_equal(b.data, "");
    seo_buf_add(&b, "a\0b", 3);
    assert_int_equal(b.bytes, 3);
    assert_int_equal(b.data[3], 0);
    seo_buf_free(&b);
    assert_null(b.data);
}

static void a_dropped_addition_is_told(void **state) {
    (void)state;
    seo_buf b = {0};
    seo_buf_text(&b, "kept");
    seo_buf_add(&b, b.data, SIZE_MAX / 2); /* No such memory: nothing is read. */
    assert_true(b.failed);
    assert_string_equal(b.data, "kept");
    assert_int_equal(seo_buf_check(&b), SEO_ERR_MEMORY);
    seo_buf_free(&b);
}

static void json_strings_are_escaped(void **state) {
    (void)state;
    seo_buf b = {0};
    const char text[] = "a\"b\\\n\x01\x7f\xed\x95\x9c\xff!";
    seo_buf_json_string(&b, text, sizeof text - 1);
    assert_string_equal(b.data, "\"a\\\"b\\\\\\n\\u0001\\u007f\xed\x95\x9c\xef\xbf\xbd!\"");
    seo_buf_clear(&b);
    seo_buf_json_string(&b, "\0", 1);
    assert_string_equal(b.data, "\"\\u0000\"");
    seo_buf_free(&b);
}

static void floats_are_short_and_read_back(void **state) {
    (void)state;
    static const float singles[] = {0.0f,          0.1f,        1.0f / 3, 1e-45f,
                                    3.4028235e38f, 16777217.0f, -2.5f};
    static const double doubles[] = {0.1, 1.0 / 3, 5e-324, 1.7976931348623157e308, 0.1 + 0.2};
    seo_buf b = {0};
    for (int i = 0; i < SEO_COUNT_OF(singles); i++) {
        seo_buf_clear(&b);
        seo_buf_json_float(&b, (double)singles[i], 9);
        assert_true(strtof(b.data, NULL) == singles[i]);
        assert_true(b.bytes <= 16);
    }
    for (int i = 0; i < SEO_COUNT_OF(doubles); i++) {
        seo_buf_clear(&b);
        seo_buf_json_float(&b, doubles[i], 17);
        assert_true(strtod(b.data, NULL) == doubles[i]);
    }
    seo_buf_clear(&b);
    seo_buf_json_float(&b, (double)0.1f, 9);
    assert_string_equal(b.data, "0.1");
    seo_buf_clear(&b);
    seo_buf_json_float(&b, 0.1 + 0.2, 17);
    assert_string_equal(b.data, "0.30000000000000004");
    seo_buf_clear(&b);
    seo_buf_json_float(&b, (double)NAN, 9);
    seo_buf_json_float(&b, (double)INFINITY, 17);
    assert_string_equal(b.data, "nullnull");
    seo_buf_free(&b);
}

static void utf8_round_trips_every_code_point(void **state) {
    (void)state;
    for (int32_t cp = 0; cp <= 0x10ffff; cp++) {
        unsigned char bytes[4];
        int32_t back = 0;
        if (cp >= 0xd800 && cp <= 0xdfff) continue;
        int length = seo_utf8_encode(cp, bytes);
        if (seo_utf8_decode(bytes, bytes + length, &back) != length || back != cp)
            fail_msg("U+%04X reads back as %d", (unsigned)cp, back);
        if (length > 1 && (seo_utf8_decode(bytes, bytes + length - 1, &back) != 1 || back != -1))
            fail_msg("U+%04X without its end was taken", (unsigned)cp);
    }
}

static void utf8_refuses_what_is_ill_formed(void **state) {
    (void)state;
    static const char *const bad[] = {
        "\x80",         "\xc0\x80",     "\xc1\xbf",         "\xe0\x80\x80",     "\xe0\x9f\xbf",
        "\xed\xa0\x80", "\xed\xbf\xbf", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80",
        "\xff",         "\xe2\x28\xa1", "\xe2\x82",         "\xf0\x9f\x98",     "\xc3(",
    };
    for (int i = 0; i < SEO_COUNT_OF(bad); i++) {
        const unsigned char *p = (const unsigned char *)bad[i];
        int32_t cp = 0;
        assert_int_equal(seo_utf8_decode(p, p + strlen(bad[i]), &cp), 1);
        assert_int_equal(cp, -1);
        assert_int_equal(seo_utf8_first_bad(bad[i], strlen(bad[i])), 0);
    }
    assert_int_equal(seo_utf8_first_bad("", 0), -1);
    assert_int_equal(seo_utf8_first_bad("0123456789abcdef\xff", 17), 16);
    assert_int_equal(seo_utf8_first_bad("0123456789 \xed\x95\x9c 0123456789", 25), -1);
    assert_int_equal(seo_utf8_first_bad("1234567\xed\x95", 9), 7);
}

static void expect_int(const char *text, int64_t expected) {
    int64_t n = 0;
    if (!seo_parse_int(text, &n) || n != expected)
        fail_msg("'%s' reads as %lld, not %lld", text, (long long)n, (long long)expected);
}

static void whole_amounts_are_exact(void **state) {
    (void)state;
    expect_int("0", 0);
    expect_int("-7", -7);
    expect_int("524_288", 524288);
    expect_int("0.5M", 500000);
    expect_int("2.3M", 2300000);
    expect_int("4.1M", 4100000); /* 4.1 x 10^6 in doubles is not whole. */
    expect_int("1.005k", 1005);
    expect_int("10B", 10000000000);
    expect_int("1T", 1000000000000);
    expect_int("1e3", 1000);
    expect_int("9007199254740993", 9007199254740993);
    expect_int("9223372036854775807", INT64_MAX);
    static const char *const bad[] = {
        "",     "-",         "1.5",    "0x10", "1__0", "_1",   "1_",  "k",
        "12q",  "nan",       "inf",    "1 2",  "1e",   "1e-3", "- 1", "9223372036854775808",
        "1e40", "10000000T", "0.0001k"};
    for (int i = 0; i < SEO_COUNT_OF(bad); i++) {
        int64_t n = 0;
        if (seo_parse_int(bad[i], &n)) fail_msg("'%s' was taken as %lld", bad[i], (long long)n);
    }
}

static void real_amounts_are_the_nearest_double(void **state) {
    (void)state;
    double x = 0;
    assert_true(seo_parse_float("6e-4", &x) && x == 6e-4);
    assert_true(seo_parse_float("-0.25", &x) && x == -0.25);
    assert_true(seo_parse_float("4.1M", &x) && x == 4.1e6);
    assert_true(seo_parse_float("1_000.5", &x) && x == 1000.5);
    assert_true(seo_parse_float(".5", &x) && x == 0.5);
    assert_true(seo_parse_float("1e-400", &x) && x == 0.0);
    assert_false(seo_parse_float("1e400", &x));
    assert_false(seo_parse_float("nan", &x));
    assert_false(seo_parse_float("1.2.3", &x));
    assert_false(seo_parse_float("fast", &x));
}

static void sizes_and_durations_have_units(void **state) {
    (void)state;
    int64_t n = 0;
    double s = 0;
    assert_true(seo_parse_bytes("80GiB", &n) && n == 80LL << 30);
    assert_true(seo_parse_bytes("64 MB", &n) && n == 64000000);
    assert_true(seo_parse_bytes("1.5KiB", &n) && n == 1536);
    assert_true(seo_parse_bytes("17", &n) && n == 17);
    assert_false(seo_parse_bytes("-1", &n));
    assert_false(seo_parse_bytes("3 bananas", &n));
    assert_false(seo_parse_bytes("9000000000TiB", &n));
    assert_true(seo_parse_seconds("30min", &s) && s == 1800);
    assert_true(seo_parse_seconds("2h", &s) && s == 7200);
    assert_true(seo_parse_seconds("1.5", &s) && s == 1.5);
    assert_true(seo_parse_seconds("250ms", &s) && s == 0.25);
    assert_true(seo_parse_seconds("1d", &s) && s == 86400);
    assert_false(seo_parse_seconds("-1s", &s));
    assert_false(seo_parse_seconds("1 fortnight", &s));
}

static void amounts_print_for_people(void **state) {
    (void)state;
    char out[SEO_SHORT_TEXT];
    assert_string_equal(seo_format_bytes(out, 0), "0 B");
    assert_string_equal(seo_format_bytes(out, 999), "999 B");
    assert_string_equal(seo_format_bytes(out, 1.25e9), "1.25 GB");
    assert_string_equal(seo_format_bytes(out, 34.1e6), "34.1 MB");
    assert_string_equal(seo_format_seconds(out, 1.25), "1.2s");
    assert_string_equal(seo_format_seconds(out, 59.6), "1m00s");
    assert_string_equal(seo_format_seconds(out, 192), "3m12s");
    assert_string_equal(seo_format_seconds(out, 7260), "2h01m");
    assert_string_equal(seo_format_seconds(out, 90000), "1d01h");
    assert_string_equal(seo_format_count(out, 0), "0");
    assert_string_equal(seo_format_count(out, 999), "999");
    assert_string_equal(seo_format_count(out, 1234567), "1,234,567");
    assert_string_equal(seo_format_count(out, -1000), "-1,000");
    assert_string_equal(seo_format_count(out, INT64_MIN), "-9,223,372,036,854,775,808");
}

static void near_misses_are_suggested(void **state) {
    (void)state;
    static const char *const keys[] = {"n_layer", "n_head", "width", "dropout", "vocab-size"};
    enum { COUNT = 5 };
    assert_string_equal(seo_nearest("n_layers", keys, COUNT), "n_layer");
    assert_string_equal(seo_nearest("widht", keys, COUNT), "width");
    assert_string_equal(seo_nearest("dropuot", keys, COUNT), "dropout");
    assert_string_equal(seo_nearest("n_head", keys, COUNT), "n_head");
    assert_null(seo_nearest("temperature", keys, COUNT));
    assert_null(seo_nearest("", keys, COUNT));
    assert_null(seo_nearest("n_layer", keys, 0));
    char longest[200];
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    assert_null(seo_nearest(longest, keys, COUNT));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buffers_grow_and_stay_terminated),
        cmocka_unit_test(a_dropped_addition_is_told),
        cmocka_unit_test(json_strings_are_escaped),
        cmocka_unit_test(floats_are_short_and_read_back),
        cmocka_unit_test(utf8_round_trips_every_code_point),
        cmocka_unit_test(utf8_refuses_what_is_ill_formed),
        cmocka_unit_test(whole_amounts_are_exact),
        cmocka_unit_test(real_amounts_are_the_nearest_double),
        cmocka_unit_test(sizes_and_durations_have_units),
        cmocka_unit_test(amounts_print_for_people),
        cmocka_unit_test(near_misses_are_suggested),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
