/* seodang train */
#include "base/check.h"
#include "base/log.h"
#include "train/cli/cli.h"
#include "train/run.h"

static const seo_cli_command k_command = {
    .name = "train",
    .operands = "CONFIG",
    .summary = "Trains a model, or goes on where the run in the folder stopped.",
    .example = "seodang train configs/quickstart.yaml --set data.path=shards --out runs/first",
    .operands_min = 1,
    .operands_max = 1};

/* A stop that was asked for is no failure: the exit code says "start me again". */
static int exit_code(seo_err err) {
    return err == SEO_ERR_STOPPED ? SEO_EXIT_REQUEUE : seo_cli_exit(err);
}

int seo_cli_train(int argc, char **argv) {
    seo_cli_list sets = {0}, allow = {0}, operands = {0};
    const char *out = NULL;
    int64_t threads = 0;
    bool from_scratch = false, helped = false;
    const seo_cli_option options[] = {
        {.name = "out",
         .type = SEO_CLI_TEXT,
         .value = &out,
         .operand = "RUN",
         .help = "folder of the run; made if needed",
         .required = true},
        {.name = "set",
         .type = SEO_CLI_LIST,
         .value = &sets,
         .operand = "KEY=VALUE",
         .help = "overrides a key of the configuration"},
        {.name = "threads",
         .type = SEO_CLI_INT,
         .value = &threads,
         .operand = "N",
         .help = "CPU threads; 0: as many as this process may use",
         .min = 0,
         .max = 4096},
        {.name = "allow",
         .type = SEO_CLI_LIST,
         .value = &allow,
         .operand = "KEY",
         .help = "go on although this key has changed since the checkpoint"},
        {.name = "from-scratch",
         .type = SEO_CLI_FLAG,
         .value = &from_scratch,
         .help = "set the folder's checkpoints aside and start anew"},
    };
    seo_err err = SEO_OK;
    SEO_TRY(
        seo_cli_parse(&k_command, options, SEO_COUNT_OF(options), argc, argv, &operands, &helped));
    if (helped) goto done;
    const seo_train_args args = {.config_path = operands.items[0],
                                 .sets = sets.items,
                                 .set_count = sets.count,
                                 .run_dir = out,
                                 .threads = (int32_t)threads,
                                 .allow = allow.items,
                                 .allow_count = allow.count,
                                 .from_scratch = from_scratch};
    err = seo_train(&args);
done:
    seo_cli_list_free(&operands);
    seo_cli_list_free(&allow);
    seo_cli_list_free(&sets);
    return exit_code(err);
}
