/* Options, operands, help and mistakes of the command line, without the program around them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/log.h"
#include "train/cli/cli.h"

enum { WORDS_MAX = 16 };

/* The variables of a verb that has every type of option. */
typedef struct fixture {
    int64_t size;
    double rate;
    const char *out;
    bool json;
    seo_cli_list sets;
    seo_cli_list operands;
    bool helped;
} fixture;

static seo_err parse(fixture *f, const char *line) {
    static const seo_cli_command command = {.name = "bake",
                                            .operands = "FILE...",
                                            .summary = "Bakes files.",
                                            .example = "seodang bake --out x a\nseodang bake -",
                                            .operands_min = 1,
                                            .operands_max = 2};
    *f = (fixture){.size = 7, .rate = 0.5};
    const seo_cli_option options[] = {
        {"size", SEO_CLI_INT, &f->size, "N", "how many", false, 1, 1e6},
        {"rate", SEO_CLI_FLOAT, &f->rate, "X", "how fast", false, 0, 1},
        {"out", SEO_CLI_TEXT, &f->out, "DIR", "where to", true, 0, 0},
        {"json", SEO_CLI_FLAG, &f->json, NULL, "for programs", false, 0, 0},
        {"set", SEO_CLI_LIST, &f->sets, "K=V", "change a value", false, 0, 0},
    };
    static char text[512];
    snprintf(text, sizeof text, "%s", line);
    char *words[WORDS_MAX] = {NULL};
    int count = 0;
    for (char *w = strtok(text, " "); w && count < WORDS_MAX; w = strtok(NULL, " "))
        words[count++] = w;
    return seo_cli_parse(&command, options, SEO_COUNT_OF(options), count, words, &f->operands,
                         &f->helped);
}

static void release(fixture *f) {
    seo_cli_list_free(&f->sets);
    seo_cli_list_free(&f->operands);
}

static void test_values(void **state) {
    (void)state;
    fixture f;
    const seo_err err =
        parse(&f, "a --size 0.5M --rate=2.5e-1 --set x=1 --json --out=o --set=y=2 -- --b");
    assert_int_equal(err, SEO_OK);
    assert_int_equal(f.size, 500000);
    assert_true(f.rate == 0.25);
    assert_string_equal(f.out, "o");
    assert_true(f.json);
    assert_int_equal(f.sets.count, 2);
    assert_string_equal(f.sets.items[0], "x=1");
    assert_string_equal(f.sets.items[1], "y=2");
    assert_int_equal(f.operands.count, 2);
    assert_string_equal(f.operands.items[0], "a");
    assert_string_equal(f.operands.items[1], "--b");
    assert_false(f.helped);
    release(&f);
}

static void test_defaults_stay(void **state) {
    (void)state;
    fixture f;
    assert_int_equal(parse(&f, "--out x --out y -"), SEO_OK);
    assert_int_equal(f.size, 7);
    assert_true(f.rate == 0.5);
    assert_false(f.json);
    assert_string_equal(f.out, "y");
    assert_string_equal(f.operands.items[0], "-");
    release(&f);
}

/* Each line is wrong, and the message has both pieces of text. */
static void test_mistakes(void **state) {
    (void)state;
    static const struct {
        const char *line, *has, *and;
    } cases[] = {
        {"a --outt x", "unknown option --outt", "did you mean --out?"},
        {"a --jsno --out x", "unknown option --jsno", "--json"},
        {"a -o x", "unknown option -o", "seodang bake --help"},
        {"a --quite --out x", "unknown option --quite", "--quiet"},
        {"a --zzzzzz=3 --out x", "unknown option --zzzzzz\n", "seodang bake: "},
        {"a --out", "--out needs a value (DIR)", "bake"},
        {"a --out --json", "--out needs a value (DIR) before --json", "--out=--json"},
        {"a --out x --json=1", "--json takes no value", "bake"},
        {"a --out x --size ten", "--size wants a whole number", "not 'ten'"},
        {"a --out x --size 1.5", "--size wants a whole number", "not '1.5'"},
        {"a --out x --size 0", "--size 0 is outside 1 to 1000000", "bake"},
        {"a --out x --rate=fast", "--rate wants a number", "not 'fast'"},
        {"a --out x --rate 1.5", "--rate 1.5 is outside 0 to 1", "bake"},
        {"a --out x --log-level loud", "--log-level loud", "debug, info, warn or error"},
        {"a", "--out DIR is missing", "bake"},
        {"--out x", "FILE... is missing", "bake"},
        {"--out x a b c", "what is 'c'?", "FILE..."},
        {"--size ten --rate fast", "--size wants", "--rate wants"},
        {"--size ten --rate fast", "--out DIR is missing", "FILE... is missing"},
    };
    for (int64_t i = 0; i < SEO_COUNT_OF(cases); i++) {
        fixture f;
        assert_int_equal(parse(&f, cases[i].line), SEO_ERR_USAGE);
        if (!strstr(seo_err_detail(), cases[i].has) || !strstr(seo_err_detail(), cases[i].and)) {
            fail_msg("'%s' says: %s", cases[i].line, seo_err_detail());
        }
        assert_int_equal(f.operands.count, 0);
        release(&f);
    }
}

/* What follows an unknown option may be its value, so nothing is said about operands then. */
static void test_unknown_option_alone(void **state) {
    (void)state;
    fixture f;
    assert_int_equal(parse(&f, "--outt x a b"), SEO_ERR_USAGE);
    assert_null(strstr(seo_err_detail(), "missing"));
    assert_null(strstr(seo_err_detail(), "what is"));
    release(&f);
}

/* Runs `call` with standard output going to a file; returns what it printed. */
static const char *printed(seo_err (*call)(void), seo_err *err) {
    static char text[4096];
    FILE *file = tmpfile();
    assert_non_null(file);
    fflush(stdout);
    const int kept = dup(STDOUT_FILENO);
    dup2(fileno(file), STDOUT_FILENO);
    *err = call();
    fflush(stdout);
    dup2(kept, STDOUT_FILENO);
    close(kept);
    rewind(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    return text;
}

static seo_err help_call(void) {
    fixture f;
    const seo_err err = parse(&f, "--size 9 --help --nonsense");
    assert_true(f.helped);
    release(&f);
    return err;
}

static void test_help(void **state) {
    (void)state;
    seo_err err = SEO_OK;
    const char *text = printed(help_call, &err);
    assert_int_equal(err, SEO_OK);
    static const char *const wanted[] = {"usage: seodang bake [options] FILE...\n",
                                         "Bakes files.",
                                         "--size N ",
                                         "(default: 9)",
                                         "(required)",
                                         "(may be given again)",
                                         "--help",
                                         "--quiet",
                                         "--log-level LEVEL",
                                         "example:\n  seodang bake --out x a\n  seodang bake -\n"};
    for (int64_t i = 0; i < SEO_COUNT_OF(wanted); i++) {
        if (!strstr(text, wanted[i])) fail_msg("no '%s' in:\n%s", wanted[i], text);
    }
}

static void test_exit_codes(void **state) {
    (void)state;
    seo_log_set_level(SEO_LOG_QUIET);
    assert_int_equal(seo_cli_exit(SEO_OK), SEO_EXIT_OK);
    assert_int_equal(seo_cli_exit(SEO_FAIL(SEO_ERR_USAGE, "x")), SEO_EXIT_USAGE);
    assert_int_equal(seo_cli_exit(SEO_FAIL(SEO_ERR_IO, "x")), SEO_EXIT_FAILED);
    assert_int_equal(seo_cli_exit(SEO_FAIL(SEO_ERR_STOPPED, "x")), SEO_EXIT_REQUEUE);
}

static int yes(int argc, char **argv) {
    return argc == 1 && strcmp(argv[0], "word") == 0 ? 42 : 43;
}

static void test_dispatch(void **state) {
    (void)state;
    static const seo_cli_verb verbs[] = {{"affirm", yes, "says yes"}, {"deny", yes, "too"}};
    char *good[] = {"--log-level=error", "affirm", "word"};
    char *bad[] = {"afirm", "word"};
    char *level[] = {"--log-level", "loud", "affirm", "word"};
    assert_int_equal(seo_cli_dispatch("seodang", verbs, 2, 3, good), 42);
    seo_log_set_level(SEO_LOG_QUIET);
    assert_int_equal(seo_cli_dispatch("seodang", verbs, 2, 2, bad), SEO_EXIT_USAGE);
    assert_non_null(strstr(seo_err_detail(), "did you mean 'affirm'?"));
    assert_int_equal(seo_cli_dispatch("seodang", verbs, 2, 4, level), SEO_EXIT_USAGE);
    assert_int_equal(seo_cli_dispatch("seodang", verbs, 2, 0, bad), SEO_EXIT_USAGE);
    assert_non_null(strstr(seo_err_detail(), "says yes"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),   cmocka_unit_test(test_defaults_stay),
        cmocka_unit_test(test_mistakes), cmocka_unit_test(test_unknown_option_alone),
        cmocka_unit_test(test_help),     cmocka_unit_test(test_exit_codes),
        cmocka_unit_test(test_dispatch)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
