/* The file that keeps whose matrix product was chosen. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernels/cuda/matmul_choices.h"
#include "tests/support/op_check.h"

static char g_path[64];

static int make_path(void **state) {
    (void)state;
    snprintf(g_path, sizeof g_path, "matmul_choices.%d.txt", (int)getpid());
    unlink(g_path);
    return 0;
}

static int remove_path(void **state) {
    (void)state;
    unlink(g_path);
    return 0;
}

static void write_text(const char *text) {
    FILE *file = fopen(g_path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void test_a_choice_outlives_its_process(void **state) {
    (void)state;
    seo_matmul_choices *c = NULL;
    bool by_library = false;
    must(seo_matmul_choices_open(g_path, &c));
    assert_false(seo_matmul_choices_find(c, "gpu NT 1x2x3", &by_library));
    must(seo_matmul_choices_add(c, "gpu NT 1x2x3", true));
    must(seo_matmul_choices_add(c, "gpu TN 1x2x3", false));
    seo_matmul_choices_close(c);
    for (int i = 0; i < 2; i++) { /* read, then read with a line added by the first */
        must(seo_matmul_choices_open(g_path, &c));
        assert_true(seo_matmul_choices_find(c, "gpu NT 1x2x3", &by_library) && by_library);
        assert_true(seo_matmul_choices_find(c, "gpu TN 1x2x3", &by_library) && !by_library);
        assert_int_equal(seo_matmul_choices_find(c, "gpu NN 1x2x3", &by_library), i);
        if (i == 0) must(seo_matmul_choices_add(c, "gpu NN 1x2x3", true));
        seo_matmul_choices_close(c);
    }
    assert_false(seo_matmul_choices_find(NULL, "gpu NT 1x2x3", &by_library));
}

static void test_damage_is_named(void **state) {
    (void)state;
    static const char *const texts[] = {"kind\town\nno tab\n", "kind\town\nkind\tboth\n",
                                        "kind\town\n\tcublaslt\n", "kind\town\nkind\tcublaslt"};
    for (int i = 0; i < 4; i++) {
        seo_matmul_choices *c = NULL;
        write_text(texts[i]);
        must_fail(seo_matmul_choices_open(g_path, &c), SEO_ERR_FORMAT, ".txt:2: not a choice");
        assert_null(c);
    }
}

static void test_a_folder_is_no_file(void **state) {
    (void)state;
    seo_matmul_choices *c = NULL;
    must_fail(seo_matmul_choices_open(".", &c), SEO_ERR_IO, ".: ");
    must(seo_matmul_choices_open("no-such-folder/choices.txt", &c));
    must_fail(seo_matmul_choices_add(c, "kind", true), SEO_ERR_IO, "no-such-folder/choices.txt");
    seo_matmul_choices_close(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_choice_outlives_its_process, make_path, remove_path),
        cmocka_unit_test_setup_teardown(test_damage_is_named, make_path, remove_path),
        cmocka_unit_test(test_a_folder_is_no_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
