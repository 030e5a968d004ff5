/* The verbs under `seodang config`: check a file, show what it comes to, explain keys. */
#include <inttypes.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "train/cli/cli.h"
#include "train/config.h"

enum { CONFIG_MAX_BYTES = 1 << 20 };

/* Reads a configuration; the whole list of mistakes goes to `report`, however long it is. */
static seo_err read_config(const char *path, const seo_cli_list *sets, seo_config *config,
                           seo_buf *report) {
    char *text = NULL;
    int64_t bytes = 0;
    seo_err err = SEO_OK;
    SEO_TRY(seo_file_read(path, CONFIG_MAX_BYTES, &text, &bytes));
    const seo_config_input input = {.name = path,
                                    .text = text,
                                    .bytes = (size_t)bytes,
                                    .sets = sets->items,
                                    .set_count = sets->count,
                                    .report = report};
    SEO_TRY(seo_config_parse(&input, config));
done:
    free(text);
    return err;
}

typedef seo_err (*config_action)(const char *path, const seo_config *config, seo_buf *out);

/* Parses FILE and --set, reads the configuration, lets `action` write what is printed. */
static int with_config(const seo_cli_command *command, config_action action, int argc,
                       char **argv) {
    seo_err err = SEO_OK;
    seo_cli_list files = {0}, sets = {0};
    seo_buf report = {0}, out = {0};
    bool helped = false;
    seo_config *config = NULL;
    const seo_cli_option options[] = {{.name = "set",
                                       .type = SEO_CLI_LIST,
                                       .value = &sets,
                                       .operand = "KEY=VALUE",
                                       .help = "a value that stands over the file's"}};
    SEO_TRY(seo_cli_parse(command, options, SEO_COUNT_OF(options), argc, argv, &files, &helped));
    if (helped) goto done;
    config = calloc(1, sizeof *config);
    if (!config) SEO_TRY(SEO_FAIL(SEO_ERR_MEMORY, "a configuration"));
    SEO_TRY(read_config(files.items[0], &sets, config, &report));
    SEO_TRY(action(files.items[0], config, &out));
    SEO_TRY(seo_buf_check(&out));
    SEO_TRY(seo_cli_print(out.data, (int64_t)out.bytes));
done:
    free(config);
    seo_buf_free(&out);
    seo_cli_list_free(&sets);
    seo_cli_list_free(&files);
    if (report.bytes > 0) seo_cli_report(report.data, (int64_t)report.bytes);
    const int code = report.bytes > 0 ? SEO_EXIT_USAGE : seo_cli_exit(err);
    seo_buf_free(&report);
    return code;
}

static seo_err write_summary(const char *path, const seo_config *config, seo_buf *out) {
    seo_buf_format(out, "%s: ok\n  ", path);
    seo_config_summary(config, out);
    seo_buf_text(out, "\n");
    return SEO_OK;
}

static int check_verb(int argc, char **argv) {
    static const seo_cli_command command = {
        .name = "config check",
        .operands = "FILE",
        .summary = "Finds every mistake in a configuration. Needs no data and no device.",
        .example = "seodang config check configs/quickstart.yaml --set train.steps=1000",
        .operands_min = 1,
        .operands_max = 1};
    return with_config(&command, write_summary, argc, argv);
}

static seo_err write_resolved(const char *path, const seo_config *config, seo_buf *out) {
    (void)path;
    return seo_config_write(config, out);
}

static int show_verb(int argc, char **argv) {
    static const seo_cli_command command = {
        .name = "config show",
        .operands = "FILE",
        .summary = "Prints the resolved configuration: every key, its value, where it came from.",
        .example = "seodang config show configs/quickstart.yaml",
        .operands_min = 1,
        .operands_max = 1};
    return with_config(&command, write_resolved, argc, argv);
}

static int explain_verb(int argc, char **argv) {
    static const seo_cli_command command = {
        .name = "config explain",
        .operands = "[KEY|SECTION]",
        .summary = "Explains one key, one section, or all of the configuration.",
        .example = "seodang config explain optimizer.lr\nseodang config explain schedule",
        .operands_min = 0,
        .operands_max = 1};
    seo_err err = SEO_OK;
    seo_cli_list keys = {0};
    seo_buf out = {0};
    bool helped = false;
    SEO_TRY(seo_cli_parse(&command, NULL, 0, argc, argv, &keys, &helped));
    if (helped) goto done;
    SEO_TRY(seo_config_explain(keys.count > 0 ? keys.items[0] : NULL, &out));
    SEO_TRY(seo_cli_print(out.data, (int64_t)out.bytes));
done:
    seo_buf_free(&out);
    seo_cli_list_free(&keys);
    return seo_cli_exit(err);
}

int seo_cli_config(int argc, char **argv) {
    static const seo_cli_verb verbs[] = {
        {"check", check_verb, "find every mistake in a file"},
        {"show", show_verb, "print every key with its value and where it came from"},
        {"explain", explain_verb, "explain keys"},
    };
    return seo_cli_dispatch("seodang config", verbs, SEO_COUNT_OF(verbs), argc, argv);
}
