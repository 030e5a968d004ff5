#include "train/cli/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/text.h"

enum { HELP_COLUMN = 30, HELP_WIDTH = 98 };

static const char *const k_global_names[] = {"help", "quiet", "log-level"};

static seo_err list_add(seo_cli_list *list, const char *text) {
    const char **items = realloc(list->items, (size_t)(list->count + 1) * sizeof *items);
    if (!items) return SEO_FAIL(SEO_ERR_MEMORY, "the command line");
    list->items = items;
    list->items[list->count++] = text;
    return SEO_OK;
}

void seo_cli_list_free(seo_cli_list *list) {
    free(list->items);
    *list = (seo_cli_list){0};
}

seo_err seo_cli_print(const char *text, int64_t bytes) {
    if (fwrite(text, 1, (size_t)bytes, stdout) == (size_t)bytes && fflush(stdout) == 0)
        return SEO_OK;
    return SEO_FAIL(SEO_ERR_IO, "cannot write to standard output: %s", strerror(errno));
}

void seo_cli_report(const char *text, int64_t bytes) {
    /* Nobody is left to tell when standard error itself fails; the exit code stands. */
    (void)!fwrite(text, 1, (size_t)bytes, stderr);
}

int seo_cli_exit(seo_err err) {
    if (err == SEO_OK) return SEO_EXIT_OK;
    if (err == SEO_ERR_STOPPED) {
        seo_info("%s", seo_err_detail());
        return SEO_EXIT_REQUEUE;
    }
    seo_log_failure();
    return err == SEO_ERR_USAGE ? SEO_EXIT_USAGE : SEO_EXIT_FAILED;
}

/* ---- help, from the tables ---- */

/* `left`, then `text` from HELP_COLUMN on, broken between words. */
static void add_entry(seo_buf *out, const char *left, const char *text) {
    seo_buf_format(out, "  %-*s", HELP_COLUMN - 2, left);
    size_t column = strlen(left) + 2;
    if (column >= HELP_COLUMN) {
        seo_buf_format(out, "\n%*s", HELP_COLUMN, "");
    }
    column = HELP_COLUMN;
    while (*text != '\0') {
        const size_t word = strcspn(text, " "), gap = column > HELP_COLUMN;
        if (gap && column + 1 + word > HELP_WIDTH) {
            seo_buf_format(out, "\n%*s", HELP_COLUMN, "");
            column = HELP_COLUMN;
        } else if (gap) {
            seo_buf_text(out, " ");
            column++;
        }
        seo_buf_add(out, text, word);
        column += word;
        text += word + (text[word] == ' ');
    }
    seo_buf_text(out, "\n");
}

static bool in_range(const seo_cli_option *option, double value) {
    return (option->min == 0 && option->max == 0) || (value >= option->min && value <= option->max);
}

/* Appends " (required)", " (may be given again)" or the default that stands in the variable. */
static void add_default(seo_buf *out, const seo_cli_option *option) {
    if (option->required) {
        seo_buf_text(out, " (required)");
        return;
    }
    switch (option->type) {
    case SEO_CLI_FLAG: break;
    case SEO_CLI_LIST: seo_buf_text(out, " (may be given again)"); break;
    case SEO_CLI_TEXT: {
        const char *text = *(const char *const *)option->value;
        if (text) seo_buf_format(out, " (default: %s)", text);
        break;
    }
    case SEO_CLI_INT: {
        const int64_t value = *(const int64_t *)option->value;
        if (in_range(option, (double)value)) {
            seo_buf_format(out, " (default: %lld)", (long long)value);
        }
        break;
    }
    case SEO_CLI_FLOAT: {
        const double value = *(const double *)option->value;
        if (in_range(option, value)) seo_buf_format(out, " (default: %g)", value);
        break;
    }
    }
}

static void add_option(seo_buf *out, const seo_cli_option *option) {
    char left[96];
    snprintf(left, sizeof left, "--%s%s%s", option->name, option->operand ? " " : "",
             option->operand ? option->operand : "");
    seo_buf text = {0};
    seo_buf_text(&text, option->help);
    add_default(&text, option);
    add_entry(out, left, text.data ? text.data : "");
    seo_buf_free(&text);
}

static void add_global_options(seo_buf *out) {
    add_entry(out, "--help", "show this text");
    add_entry(out, "--quiet", "show warnings and errors only");
    add_entry(out, "--log-level LEVEL", "debug, info, warn or error (default: info)");
}

static seo_err print_and_free(seo_buf *out) {
    seo_err err = seo_buf_check(out);
    if (err == SEO_OK) err = seo_cli_print(out->data, (int64_t)out->bytes);
    seo_buf_free(out);
    return err;
}

static void add_example(seo_buf *out, const char *example) {
    seo_buf_text(out, "\nexample:\n");
    while (*example != '\0') {
        const size_t line = strcspn(example, "\n");
        seo_buf_format(out, "  %.*s\n", (int)line, example);
        example += line + (example[line] == '\n');
    }
}

static seo_err print_help(const seo_cli_command *command, const seo_cli_option *options,
                          int64_t option_count) {
    seo_buf out = {0};
    seo_buf_format(&out, "usage: seodang %s [options]%s%s\n\n%s\n\noptions:\n", command->name,
                   command->operands[0] != '\0' ? " " : "", command->operands, command->summary);
    for (int64_t i = 0; i < option_count; i++) add_option(&out, &options[i]);
    add_global_options(&out);
    add_example(&out, command->example);
    return print_and_free(&out);
}

/* ---- parsing ---- */

typedef struct parser {
    const char *name; /* "seodang tokenizer train" */
    const seo_cli_option *options;
    int64_t option_count;
    int argc;
    char **argv;
    int at; /* the next word of argv */
    bool given[SEO_CLI_OPTIONS_MAX];
    bool lost;        /* an unknown option: what follows it may have been its value */
    seo_buf mistakes; /* one a line */
} parser;

static void mistake(parser *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void mistake(parser *p, const char *fmt, ...) {
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    seo_buf_format(&p->mistakes, "%s%s: %s", p->mistakes.bytes > 0 ? "\n" : "", p->name, text);
}

/* True when `word` is "--name" or "--name=..."; *value is what follows the =, or NULL. */
static bool is_option(const char *word, const char *name, const char **value) {
    const size_t length = strlen(name);
    if (strncmp(word, "--", 2) != 0 || strncmp(word + 2, name, length) != 0) return false;
    const char *rest = word + 2 + length;
    if (*rest != '\0' && *rest != '=') return false;
    *value = *rest == '=' ? rest + 1 : NULL;
    return true;
}

static bool is_known_option(const parser *p, const char *word) {
    const char *value = NULL;
    for (int64_t i = 0; i < p->option_count; i++) {
        if (is_option(word, p->options[i].name, &value)) return true;
    }
    for (int64_t i = 0; i < SEO_COUNT_OF(k_global_names); i++) {
        if (is_option(word, k_global_names[i], &value)) return true;
    }
    return false;
}

/* The threshold called `name` becomes the log's; false when there is no such level. */
static bool set_level(const char *name) {
    static const char *const names[] = {"debug", "info", "warn", "error"};
    for (int64_t i = 0; i < SEO_COUNT_OF(names); i++) {
        if (strcmp(name, names[i]) != 0) continue;
        seo_log_set_level((seo_log_level)i);
        return true;
    }
    return false;
}

/* The value of the option at argv[p->at]: after its =, or the next word. NULL after a mistake was
 * noted. Moves past both. */
static const char *take_value(parser *p, const char *name, const char *operand, const char *value) {
    p->at++;
    if (value) return value;
    if (p->at >= p->argc) {
        mistake(p, "--%s needs a value (%s)", name, operand);
        return NULL;
    }
    if (is_known_option(p, p->argv[p->at])) {
        mistake(p, "--%s needs a value (%s) before %s; write --%s=%s if that is the value", name,
                operand, p->argv[p->at], name, p->argv[p->at]);
        return NULL;
    }
    return p->argv[p->at++];
}

static void store_number(parser *p, const seo_cli_option *option, const char *text) {
    int64_t whole = 0;
    double value = 0;
    const bool is_int = option->type == SEO_CLI_INT;
    if (is_int ? !seo_parse_int(text, &whole) : !seo_parse_float(text, &value)) {
        mistake(p, "--%s wants %s, not '%s'", option->name,
                is_int ? "a whole number (5000, 50_000, 0.5M)" : "a number (0.1, 6e-4)", text);
        return;
    }
    if (!in_range(option, is_int ? (double)whole : value)) {
        mistake(p, "--%s %s is outside %.15g to %.15g", option->name, text, option->min,
                option->max);
        return;
    }
    if (is_int) {
        *(int64_t *)option->value = whole;
    } else {
        *(double *)option->value = value;
    }
}

/* argv[p->at] is this option; `value` follows its =, or is NULL. */
static seo_err take_option(parser *p, const seo_cli_option *option, const char *value) {
    p->given[option - p->options] = true;
    if (option->type == SEO_CLI_FLAG) {
        p->at++;
        if (value) mistake(p, "--%s takes no value", option->name);
        *(bool *)option->value = true;
        return SEO_OK;
    }
    value = take_value(p, option->name, option->operand, value);
    if (!value) return SEO_OK;
    if (option->type == SEO_CLI_LIST) return list_add(option->value, value);
    if (option->type == SEO_CLI_TEXT) {
        *(const char **)option->value = value;
    } else {
        store_number(p, option, value);
    }
    return SEO_OK;
}

/* Takes --quiet or --log-level at argv[p->at]; false when it is neither. */
static bool take_global(parser *p) {
    const char *value = NULL;
    if (is_option(p->argv[p->at], "quiet", &value)) {
        p->at++;
        if (value) mistake(p, "--quiet takes no value");
        seo_log_set_level(SEO_LOG_WARN);
        return true;
    }
    if (!is_option(p->argv[p->at], "log-level", &value)) return false;
    value = take_value(p, "log-level", "LEVEL", value);
    if (value && !set_level(value)) {
        mistake(p, "--log-level %s: debug, info, warn or error is wanted", value);
    }
    return true;
}

static void unknown_option(parser *p) {
    const char *names[SEO_CLI_OPTIONS_MAX + SEO_COUNT_OF(k_global_names)];
    int64_t count = 0;
    for (int64_t i = 0; i < p->option_count; i++) names[count++] = p->options[i].name;
    for (int64_t i = 0; i < SEO_COUNT_OF(k_global_names); i++) names[count++] = k_global_names[i];
    char word[64];
    const char *start = p->argv[p->at] + strspn(p->argv[p->at], "-");
    const int length = (int)strcspn(start, "=");
    snprintf(word, sizeof word, "%.*s", length, start);
    const char *nearest = seo_nearest(word, names, count);
    mistake(p, "unknown option %.*s%s%s%s", (int)(start - p->argv[p->at]) + length, p->argv[p->at],
            nearest ? "; did you mean --" : "", nearest ? nearest : "", nearest ? "?" : "");
    p->at++;
    p->lost = true;
}

static seo_err take_word(parser *p, bool plain, seo_cli_list *operands) {
    const char *word = p->argv[p->at];
    if (plain || word[0] != '-' || word[1] == '\0') {
        p->at++;
        return list_add(operands, word);
    }
    const char *value = NULL;
    for (int64_t i = 0; i < p->option_count; i++) {
        if (is_option(word, p->options[i].name, &value)) {
            return take_option(p, &p->options[i], value);
        }
    }
    if (!take_global(p)) unknown_option(p);
    return SEO_OK;
}

static void check_complete(parser *p, const seo_cli_command *command,
                           const seo_cli_list *operands) {
    for (int64_t i = 0; i < p->option_count; i++) {
        const seo_cli_option *option = &p->options[i];
        if (option->required && !p->given[i]) {
            mistake(p, "--%s %s is missing", option->name, option->operand ? option->operand : "");
        }
    }
    if (operands->count < command->operands_min) mistake(p, "%s is missing", command->operands);
    if (command->operands_max >= 0 && operands->count > command->operands_max) {
        mistake(p, "what is '%s'? %s%s", operands->items[command->operands_max],
                command->operands_max > 0 ? "besides options it takes just "
                                          : "it takes options only",
                command->operands);
    }
}

seo_err seo_cli_parse(const seo_cli_command *command, const seo_cli_option *options,
                      int64_t option_count, int argc, char **argv, seo_cli_list *operands,
                      bool *helped) {
    SEO_ASSERT(option_count <= SEO_CLI_OPTIONS_MAX);
    char name[96];
    snprintf(name, sizeof name, "seodang %s", command->name);
    parser p = {
        .name = name, .options = options, .option_count = option_count, .argc = argc, .argv = argv};
    *helped = false;
    *operands = (seo_cli_list){0};
    seo_err err = SEO_OK;
    bool plain = false;
    while (p.at < argc) {
        const char *word = argv[p.at];
        if (!plain && (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)) {
            *helped = true;
            SEO_TRY(print_help(command, options, option_count));
            goto done;
        }
        if (!plain && strcmp(word, "--") == 0) {
            plain = true;
            p.at++;
        } else {
            SEO_TRY(take_word(&p, plain, operands));
        }
    }
    if (!p.lost) check_complete(&p, command, operands);
    if (p.mistakes.bytes > 0 || p.mistakes.failed) {
        err = SEO_FAIL(SEO_ERR_USAGE, "%s\n%s --help shows what it takes",
                       p.mistakes.data ? p.mistakes.data : "the command line", name);
    }
done:
    seo_buf_free(&p.mistakes);
    if (err != SEO_OK) seo_cli_list_free(operands);
    return err;
}

/* ---- groups of verbs ---- */

static void add_verbs(seo_buf *out, const char *group, const seo_cli_verb *verbs, int64_t count) {
    seo_buf_format(out, "usage: %s VERB [options] ...\n\nverbs:\n", group);
    for (int64_t i = 0; i < count; i++) {
        seo_buf_format(out, "  %-12s %s\n", verbs[i].name, verbs[i].summary);
    }
    seo_buf_format(out, "\n%s VERB --help shows a verb's options, with an example.\n", group);
}

static seo_err unknown_verb(const char *group, const seo_cli_verb *verbs, int64_t count,
                            const char *word) {
    const char *names[SEO_CLI_OPTIONS_MAX];
    for (int64_t i = 0; i < count; i++) names[i] = verbs[i].name;
    const char *nearest = seo_nearest(word, names, count);
    if (nearest) {
        return SEO_FAIL(SEO_ERR_USAGE, "%s: unknown verb '%s'; did you mean '%s'?", group, word,
                        nearest);
    }
    return SEO_FAIL(SEO_ERR_USAGE, "%s: unknown verb '%s'; %s --help lists them", group, word,
                    group);
}

/* The verb that `word` names; NULL after --help or an error, then in *err. */
static const seo_cli_verb *find_verb(const char *group, const seo_cli_verb *verbs, int64_t count,
                                     const char *word, seo_err *err) {
    for (int64_t i = 0; word && i < count; i++) {
        if (strcmp(word, verbs[i].name) == 0) return &verbs[i];
    }
    const bool help = word && (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 ||
                               strcmp(word, "help") == 0);
    if (word && !help) {
        *err = unknown_verb(group, verbs, count, word);
        return NULL;
    }
    seo_buf list = {0};
    add_verbs(&list, group, verbs, count);
    if (help) {
        *err = print_and_free(&list);
        return NULL;
    }
    *err = SEO_FAIL(SEO_ERR_USAGE, "%s: a verb is missing\n%s", group, list.data ? list.data : "");
    seo_buf_free(&list);
    return NULL;
}

int seo_cli_dispatch(const char *group, const seo_cli_verb *verbs, int64_t verb_count, int argc,
                     char **argv) {
    SEO_ASSERT(verb_count <= SEO_CLI_OPTIONS_MAX);
    parser p = {.name = group, .argc = argc, .argv = argv};
    while (p.at < argc && take_global(&p)) continue;
    seo_err err = SEO_OK;
    if (p.mistakes.bytes > 0) err = SEO_FAIL(SEO_ERR_USAGE, "%s", p.mistakes.data);
    seo_buf_free(&p.mistakes);
    if (err != SEO_OK) return seo_cli_exit(err);
    const char *word = p.at < argc ? argv[p.at] : NULL;
    const seo_cli_verb *verb = find_verb(group, verbs, verb_count, word, &err);
    if (!verb) return seo_cli_exit(err);
    return verb->run(argc - p.at - 1, argv + p.at + 1);
}
