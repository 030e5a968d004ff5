#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/file.h"
#include "base/progress.h"
#include "base/yaml.h"

static seo_yaml *parse(const char *text) {
    seo_yaml *doc = NULL;
    if (seo_yaml_parse("f.yaml", text, strlen(text), &doc) != SEO_OK)
        fail_msg("%s", seo_err_detail());
    return doc;
}

static void the_tree_is_as_written(void **state) {
    (void)state;
    seo_yaml *doc = parse("model:\n  layers: 12 # twelve\n  name: \"a b\"\n  empty:\n"
                          "list: [1, two, ~]\nquoted: ''\n");
    seo_yaml_node *root = seo_yaml_root(doc);
    assert_int_equal(seo_yaml_kind_of(root), SEO_YAML_MAP);
    assert_int_equal(seo_yaml_count(root), 3);
    assert_string_equal(seo_yaml_text(seo_yaml_key(root, 0)), "model");
    seo_yaml_node *model = seo_yaml_value(root, 0);
    assert_null(seo_yaml_text(model));
    assert_string_equal(seo_yaml_text(seo_yaml_value(model, 0)), "12");
    assert_string_equal(seo_yaml_text(seo_yaml_value(model, 1)), "a b");
    assert_true(seo_yaml_is_null(seo_yaml_value(model, 2)));
    seo_yaml_place empty = seo_yaml_where(doc, seo_yaml_value(model, 2));
    assert_true(empty.line == 4 && empty.column == 3); /* Its key's place. */
    seo_yaml_node *list = seo_yaml_value(root, 1);
    assert_int_equal(seo_yaml_kind_of(list), SEO_YAML_LIST);
    assert_int_equal(seo_yaml_count(list), 3);
    assert_true(seo_yaml_is_null(seo_yaml_item(list, 2)));
    assert_string_equal(seo_yaml_text(seo_yaml_item(list, 2)), "");
    assert_false(seo_yaml_is_null(seo_yaml_value(root, 2)));
    seo_yaml_free(doc);
}

static void empty_documents_have_no_root(void **state) {
    (void)state;
    static const char *const texts[] = {"", "# only\n", "---\n", "\n\n"};
    for (int i = 0; i < SEO_COUNT_OF(texts); i++) {
        seo_yaml *doc = parse(texts[i]);
        assert_null(seo_yaml_root(doc));
        seo_yaml_free(doc);
    }
}

static void expect_node_report(const char *text, int64_t index, const char *report) {
    seo_yaml *doc = parse(text);
    seo_buf out = {0};
    seo_yaml_report(doc, seo_yaml_value(seo_yaml_root(doc), index), &out, "bad %d", 7);
    assert_int_equal(seo_buf_check(&out), SEO_OK);
    assert_string_equal(out.data, report);
    seo_buf_free(&out);
    seo_yaml_free(doc);
}

static void reports_underline_the_node(void **state) {
    (void)state;
    expect_node_report("lr: fast # how?\n", 0,
                       "f.yaml:1:5: error: bad 7\n  lr: fast # how?\n      ^~~~\n");
    expect_node_report("a: 1\nb: {x: 1}\n", 1, "f.yaml:2:4: error: bad 7\n  b: {x: 1}\n     ^\n");
    expect_node_report("\xed\x95\x9c: \xea\xb8\x80\xea\xb8\x80\n", 0,
                       "f.yaml:1:4: error: bad 7\n  \xed\x95\x9c: \xea\xb8\x80\xea\xb8\x80\n"
                       "     ^~\n");
    expect_node_report("a: |\n  text\n  more\n", 0,
                       "f.yaml:2:1: error: bad 7\n    text\n  ^~~~~~\n");
    expect_node_report("a:\n", 0, "f.yaml:1:1: error: bad 7\n  a:\n  ^\n");
}

static void long_lines_show_the_part_that_matters(void **state) {
    (void)state;
    char text[5003];
    memset(text, 'x', 5000);
    memcpy(text + 3000, ": y", 3);
    memcpy(text + 5000, "\n", 2);
    seo_yaml *doc = parse(text);
    seo_buf out = {0};
    seo_yaml_report(doc, seo_yaml_value(seo_yaml_root(doc), 0), &out, "bad");
    assert_true(out.bytes < 300);
    assert_non_null(strstr(out.data, "x: yx"));
    seo_buf_free(&out);
    seo_yaml_free(doc);
}

static void expect_report(const char *text, const char *report) {
    seo_yaml *doc = NULL;
    assert_int_equal(seo_yaml_parse("f.yaml", text, strlen(text), &doc), SEO_ERR_USAGE);
    assert_null(doc);
    assert_string_equal(seo_err_detail(), report);
}

static void mistakes_show_line_and_caret(void **state) {
    (void)state;
    expect_report("a: 1\nb: 2\na: 3\n",
                  "f.yaml:3:1: error: duplicate key 'a'; the first is in line 1\n  a: 3\n  ^");
    expect_report("a: &x 1\nb: *x\n",
                  "f.yaml:2:5: error: aliases are not read: write the value out\n  b: *x\n      ^");
    expect_report("a: 1\n---\nb: 2\n",
                  "f.yaml:2:1: error: a second document begins here, one is read\n  ---\n  ^");
    expect_report("a: 1\n...\nb: 2\n",
                  "f.yaml:3:1: error: a second document begins here, one is read\n  b: 2\n  ^");
    expect_report("? [a]: b\n",
                  "f.yaml:1:3: error: a key must be a single word or text\n  ? [a]: b\n    ^");
    expect_report("a: \"\\0\"\n", "f.yaml:1:5: error: a text may not hold the character NUL\n"
                                  "  a: \"\\0\"\n      ^~");
}

static void syntax_errors_name_their_place(void **state) {
    (void)state;
    static const struct {
        const char *text, *place;
    } cases[] = {
        {"a: 1\nb:\n  c: 2\n\td: 2\n", "f.yaml:4:"},
        {"a: b: c\n", "f.yaml:1:5: error: "},
        {"- [1, 2\n", "f.yaml:2:1: error: "},
        {"a: \"x", "f.yaml:1:5: error: "},
        {"%\x96", "f.yaml:1:2: error: "}, /* libfyaml 0.7.12 would not come back from it. */
        {"ab: \xff", "f.yaml:1:5: error: "},
    };
    for (int i = 0; i < SEO_COUNT_OF(cases); i++) {
        seo_yaml *doc = NULL;
        assert_int_equal(seo_yaml_parse("f.yaml", cases[i].text, strlen(cases[i].text), &doc),
                         SEO_ERR_USAGE);
        if (strncmp(seo_err_detail(), cases[i].place, strlen(cases[i].place)) != 0)
            fail_msg("'%s' does not begin with '%s'", seo_err_detail(), cases[i].place);
    }
    seo_yaml *doc = NULL;
    assert_int_equal(seo_yaml_parse("f.yaml", "a: \0", 4, &doc), SEO_ERR_USAGE);
}

static void deep_nesting_is_refused(void **state) {
    (void)state;
    char text[4001];
    memset(text, '[', 4000);
    text[4000] = '\0';
    seo_yaml *doc = NULL;
    assert_int_equal(seo_yaml_parse("f.yaml", text, 4000, &doc), SEO_ERR_USAGE);
    assert_non_null(strstr(seo_err_detail(), "f.yaml:1:33: error: "));
    memset(text + 32, ']', 32);
    assert_int_equal(seo_yaml_parse("f.yaml", text, 64, &doc), SEO_OK);
    seo_yaml_free(doc);
}

static void files_over_a_mebibyte_are_refused(void **state) {
    (void)state;
    enum { BYTES = (1 << 20) + 1 };
    const char *path = "test_yaml.tmp";
    char *text = malloc(BYTES);
    seo_yaml *doc = NULL;
    assert_non_null(text);
    memset(text, '\n', BYTES);
    assert_int_equal(seo_yaml_parse("f.yaml", text, BYTES, &doc), SEO_ERR_USAGE);
    assert_int_equal(seo_yaml_parse("f.yaml", text, BYTES - 1, &doc), SEO_OK);
    seo_yaml_free(doc);
    assert_int_equal(seo_file_write_atomic(path, text, BYTES), SEO_OK);
    assert_int_not_equal(seo_yaml_load(path, &doc), SEO_OK);
    free(text);
    assert_int_equal(remove(path), 0);
    assert_int_equal(seo_yaml_load(path, &doc), SEO_ERR_MISSING);
}

static void many_keys_stay_quick(void **state) {
    (void)state;
    enum { KEYS = 60000 };
    seo_buf text = {0};
    for (int i = 0; i < KEYS; i++) seo_buf_format(&text, "k%d: 1\n", i);
    assert_int_equal(seo_buf_check(&text), SEO_OK);
    double start = seo_clock_s();
    seo_yaml *doc = parse(text.data);
    assert_int_equal(seo_yaml_count(seo_yaml_root(doc)), KEYS);
    /* A quadratic check takes minutes; this leaves room for sanitizers on a busy machine. */
    assert_true(seo_clock_s() - start < 20);
    seo_yaml_free(doc);
    seo_buf_free(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_tree_is_as_written),
        cmocka_unit_test(empty_documents_have_no_root),
        cmocka_unit_test(reports_underline_the_node),
        cmocka_unit_test(long_lines_show_the_part_that_matters),
        cmocka_unit_test(mistakes_show_line_and_caret),
        cmocka_unit_test(syntax_errors_name_their_place),
        cmocka_unit_test(deep_nesting_is_refused),
        cmocka_unit_test(files_over_a_mebibyte_are_refused),
        cmocka_unit_test(many_keys_stay_quick),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
