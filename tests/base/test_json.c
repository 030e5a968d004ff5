#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/file.h"
#include "base/json.h"

static void typed_members_are_checked(void **state) {
    (void)state;
    static const char text[] =
        "{\"s\": \"x\", \"n\": 7, \"f\": 1.5, \"a\": [1], \"o\": {}, \"z\": null}";
    json_t *root = NULL;
    const json_t *inner = NULL;
    const char *string = NULL;
    int64_t n = 0;
    double f = 0;
    assert_int_equal(seo_json_parse("f.json", text, strlen(text), &root), SEO_OK);
    assert_int_equal(seo_json_string(root, "f.json", "s", &string), SEO_OK);
    assert_string_equal(string, "x");
    assert_int_equal(seo_json_int(root, "f.json", "n", 0, 7, &n), SEO_OK);
    assert_int_equal(n, 7);
    assert_int_equal(seo_json_float(root, "f.json", "f", &f), SEO_OK);
    assert_true(f == 1.5);
    assert_int_equal(seo_json_float(root, "f.json", "n", &f), SEO_OK);
    assert_true(f == 7.0);
    assert_int_equal(seo_json_array(root, "f.json", "a", &inner), SEO_OK);
    assert_int_equal(json_array_size(inner), 1);
    assert_int_equal(seo_json_object(root, "f.json", "o", &inner), SEO_OK);

    assert_int_equal(seo_json_int(root, "f.json", "n", 0, 6, &n), SEO_ERR_FORMAT);
    assert_int_equal(seo_json_int(root, "f.json", "f", 0, 9, &n), SEO_ERR_FORMAT);
    assert_int_equal(seo_json_string(root, "f.json", "n", &string), SEO_ERR_FORMAT);
    assert_int_equal(seo_json_float(root, "f.json", "s", &f), SEO_ERR_FORMAT);
    assert_int_equal(seo_json_array(root, "f.json", "o", &inner), SEO_ERR_FORMAT);
    assert_int_equal(seo_json_object(root, "f.json", "a", &inner), SEO_ERR_FORMAT);
    assert_int_equal(seo_json_string(root, "f.json", "z", &string), SEO_ERR_FORMAT);
    assert_int_equal(seo_json_string(root, "f.json", "gone", &string), SEO_ERR_FORMAT);
    assert_non_null(strstr(seo_err_detail(), "f.json"));
    assert_non_null(strstr(seo_err_detail(), "gone"));
    json_decref(root);
}

static void mistakes_name_line_and_column(void **state) {
    (void)state;
    static const struct {
        const char *text, *place;
    } cases[] = {
        {"{\"a\": 1,\n \"a\": 2}", "f.json:2:"},
        {"{\"a\": 1,\n\n  b}", "f.json:3:3"},
        {"{\"a\": \"\xff\"}", "f.json:1:"},
        {"{\"a\": 1} trailing", "f.json:1:"},
        {"{\"a\": 1", "f.json:1:"},
        {"", "f.json:1:"},
    };
    for (int i = 0; i < SEO_COUNT_OF(cases); i++) {
        json_t *root = NULL;
        assert_int_equal(seo_json_parse("f.json", cases[i].text, strlen(cases[i].text), &root),
                         SEO_ERR_FORMAT);
        assert_null(root);
        if (strstr(seo_err_detail(), cases[i].place) == NULL)
            fail_msg("'%s' is not in '%s'", cases[i].place, seo_err_detail());
    }
}

static void files_are_bounded(void **state) {
    (void)state;
    const char *path = "test_json.tmp";
    json_t *root = NULL;
    assert_int_equal(seo_file_write_atomic(path, "{\"a\": 1}", 8), SEO_OK);
    assert_int_equal(seo_json_load(path, 8, &root), SEO_OK);
    json_decref(root);
    assert_int_equal(seo_json_load(path, 7, &root), SEO_ERR_FORMAT);
    assert_int_equal(remove(path), 0);
    assert_int_equal(seo_json_load(path, 8, &root), SEO_ERR_MISSING);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(typed_members_are_checked),
        cmocka_unit_test(mistakes_name_line_and_column),
        cmocka_unit_test(files_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
