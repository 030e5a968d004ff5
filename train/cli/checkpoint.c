/* seodang checkpoint inspect|verify|diff|reshard|average|merge */
#include "train/checkpoint.h"
#include "base/check.h"
#include "base/log.h"
#include "base/text.h"
#include "train/cli/cli.h"
#include "train/merge.h"

static seo_err inspect(const char *path, seo_ckpt_style style, seo_buf *out) {
    seo_ckpt *ckpt = NULL;
    seo_err err = seo_ckpt_open(path, NULL, &ckpt);
    if (err == SEO_OK) err = seo_ckpt_describe(ckpt, style, out);
    seo_ckpt_close(ckpt);
    return err;
}

static int inspect_verb(int argc, char **argv) {
    static const seo_cli_command command = {
        .name = "checkpoint inspect",
        .operands = "RUN|CHECKPOINT...",
        .summary = "Shows the step, state, files and tensors of a checkpoint.",
        .example = "seodang checkpoint inspect runs/first\n"
                   "seodang checkpoint inspect --json runs/first/checkpoints/step-00001000",
        .operands_min = 1,
        .operands_max = -1};
    bool json = false, helped = false;
    const seo_cli_option options[] = {{.name = "json",
                                       .type = SEO_CLI_FLAG,
                                       .value = &json,
                                       .help = "one line of JSON for each checkpoint"}};
    seo_err err = SEO_OK;
    seo_cli_list paths = {0};
    seo_buf out = {0};
    SEO_TRY(seo_cli_parse(&command, options, 1, argc, argv, &paths, &helped));
    if (helped) goto done;
    for (int64_t i = 0; i < paths.count; i++) {
        SEO_TRY(inspect(paths.items[i], json ? SEO_CKPT_STYLE_JSON : SEO_CKPT_STYLE_TABLE, &out));
    }
    SEO_TRY(seo_cli_print(out.data, (int64_t)out.bytes));
done:
    seo_buf_free(&out);
    seo_cli_list_free(&paths);
    return seo_cli_exit(err);
}

static int verify_verb(int argc, char **argv) {
    static const seo_cli_command command = {
        .name = "checkpoint verify",
        .operands = "RUN|CHECKPOINT...",
        .summary = "Reads every byte of the checkpoints and checks it against their manifests.",
        .example = "seodang checkpoint verify runs/first",
        .operands_min = 1,
        .operands_max = -1};
    bool helped = false;
    seo_err err = SEO_OK, worst = SEO_OK;
    seo_cli_list paths = {0};
    seo_buf out = {0};
    SEO_TRY(seo_cli_parse(&command, NULL, 0, argc, argv, &paths, &helped));
    if (helped) goto done;
    for (int64_t i = 0; i < paths.count; i++) {
        seo_err found = seo_ckpt_verify(paths.items[i], &out);
        if (found != SEO_OK && worst != SEO_OK) seo_log_failure();
        if (found != SEO_OK) worst = found;
    }
    SEO_TRY(seo_buf_check(&out));
    if (out.bytes > 0) SEO_TRY(seo_cli_print(out.data, (int64_t)out.bytes));
    err = worst;
done:
    seo_buf_free(&out);
    seo_cli_list_free(&paths);
    return seo_cli_exit(err);
}

static int diff_verb(int argc, char **argv) {
    static const seo_cli_command command = {
        .name = "checkpoint diff",
        .operands = "RUN1|CHECKPOINT1 RUN2|CHECKPOINT2",
        .summary = "Compares step, parameters and optimizer state bit for bit; exit 0 when they "
                   "are identical, 1 when not.",
        .example = "seodang checkpoint diff runs/first runs/second",
        .operands_min = 2,
        .operands_max = 2};
    bool helped = false, same = true;
    seo_err err = SEO_OK;
    seo_cli_list paths = {0};
    seo_buf out = {0};
    SEO_TRY(seo_cli_parse(&command, NULL, 0, argc, argv, &paths, &helped));
    if (helped) goto done;
    SEO_TRY(seo_ckpt_diff(paths.items[0], paths.items[1], &same, &out));
    SEO_TRY(seo_cli_print(out.data, (int64_t)out.bytes));
done:
    seo_buf_free(&out);
    seo_cli_list_free(&paths);
    if (err == SEO_OK && !same) return SEO_EXIT_FAILED;
    return seo_cli_exit(err);
}

/* Of the verbs that write a checkpoint. */
#define OUT_OPTION(variable)                                                                       \
    {                                                                                              \
        .name = "out", .type = SEO_CLI_TEXT, .value = (variable), .operand = "DIR",                \
        .help = "the run folder to write it into", .required = true                                \
    }

static int reshard_verb(int argc, char **argv) {
    static const seo_cli_command command = {
        .name = "checkpoint reshard",
        .operands = "RUN|CHECKPOINT",
        .summary = "Writes a checkpoint anew in another number of parts, and verifies it. Resuming "
                   "needs no such thing: any number of ranks reads any number of parts.",
        .example = "seodang checkpoint reshard --parts 1 --out runs/single runs/first",
        .operands_min = 1,
        .operands_max = 1};
    bool helped = false;
    int64_t parts = 0;
    const char *dir = NULL;
    const seo_cli_option options[] = {{.name = "parts",
                                       .type = SEO_CLI_INT,
                                       .value = &parts,
                                       .operand = "N",
                                       .help = "how many part files",
                                       .required = true,
                                       .min = 1,
                                       .max = 4096},
                                      OUT_OPTION(&dir)};
    seo_err err = SEO_OK;
    seo_cli_list paths = {0};
    SEO_TRY(seo_cli_parse(&command, options, SEO_COUNT_OF(options), argc, argv, &paths, &helped));
    if (helped) goto done;
    SEO_TRY(seo_ckpt_reshard(paths.items[0], dir, parts));
done:
    seo_cli_list_free(&paths);
    return seo_cli_exit(err);
}

static int average_verb(int argc, char **argv) {
    static const seo_cli_command command = {
        .name = "checkpoint average",
        .operands = "RUN|CHECKPOINT...",
        .summary = "Writes the mean of the parameters of checkpoints of one model, for evaluation "
                   "and generation. Moments are left out: nothing can be trained on from it.",
        .example = "seodang checkpoint average --out runs/mean runs/first/checkpoints/step-*",
        .operands_min = 1,
        .operands_max = -1};
    bool helped = false;
    const char *dir = NULL;
    const seo_cli_option options[] = {OUT_OPTION(&dir)};
    seo_err err = SEO_OK;
    seo_cli_list paths = {0};
    SEO_TRY(seo_cli_parse(&command, options, SEO_COUNT_OF(options), argc, argv, &paths, &helped));
    if (helped) goto done;
    SEO_TRY(seo_ckpt_average(paths.items, paths.count, dir));
done:
    seo_cli_list_free(&paths);
    return seo_cli_exit(err);
}

static int merge_verb(int argc, char **argv) {
    static const seo_cli_command command = {
        .name = "checkpoint merge",
        .operands = "RUN|CHECKPOINT",
        .summary = "Writes adapters (lora.rank) and the parameters they belong to into one whole "
                   "checkpoint: W + (alpha / rank) B A.",
        .example = "seodang checkpoint merge --out runs/merged runs/adapted",
        .operands_min = 1,
        .operands_max = 1};
    bool helped = false;
    const char *dir = NULL;
    const seo_cli_option options[] = {OUT_OPTION(&dir)};
    seo_err err = SEO_OK;
    seo_cli_list paths = {0};
    SEO_TRY(seo_cli_parse(&command, options, SEO_COUNT_OF(options), argc, argv, &paths, &helped));
    if (helped) goto done;
    SEO_TRY(seo_merge(paths.items[0], dir));
    seo_info("%s: a whole model, with the adapters of %s added", dir, paths.items[0]);
done:
    seo_cli_list_free(&paths);
    return seo_cli_exit(err);
}

int seo_cli_checkpoint(int argc, char **argv) {
    static const seo_cli_verb verbs[] = {
        {"inspect", inspect_verb, "show the step, state, files and tensors of a checkpoint"},
        {"verify", verify_verb, "read every byte and check it"},
        {"diff", diff_verb, "compare two checkpoints bit for bit"},
        {"reshard", reshard_verb, "write a checkpoint anew in another number of parts"},
        {"average", average_verb, "write the mean of the parameters of checkpoints"},
        {"merge", merge_verb, "write adapters and what they belong to into one checkpoint"},
    };
    return seo_cli_dispatch("seodang checkpoint", verbs, SEO_COUNT_OF(verbs), argc, argv);
}
