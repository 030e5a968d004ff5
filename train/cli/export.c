/* seodang export */
#include <string.h>

#include "base/check.h"
#include "base/text.h"
#include "train/cli/cli.h"
#include "train/hf/hf.h"

static const seo_cli_command k_command = {
    .name = "export",
    .operands = "RUN|CHECKPOINT",
    .summary = "Writes a model as a Hugging Face folder that transformers loads, and checks it.",
    .example = "seodang export --hf exported/first runs/first\n"
               "seodang export --hf exported/large --dtype bf16 --shard-size 5GB "
               "runs/large/checkpoints/step-00100000",
    .operands_min = 1,
    .operands_max = 1};

typedef struct export_options {
    const char *dir, *dtype, *shard_size;
} export_options;

static seo_err settle(const export_options *o, const char *checkpoint, seo_hf_export_args *args) {
    *args = (seo_hf_export_args){.checkpoint = checkpoint, .dir = o->dir, .dtype = SEO_DTYPE_F32};
    if (strcmp(o->dtype, "bf16") == 0) {
        args->dtype = SEO_DTYPE_BF16;
    } else if (strcmp(o->dtype, "f32") != 0) {
        return SEO_FAIL(SEO_ERR_USAGE, "--dtype %s: there is f32 and bf16", o->dtype);
    }
    if (seo_parse_bytes(o->shard_size, &args->shard_bytes) && args->shard_bytes > 0) return SEO_OK;
    return SEO_FAIL(SEO_ERR_USAGE, "--shard-size %s: not a size like 5GB or 500MiB", o->shard_size);
}

int seo_cli_export(int argc, char **argv) {
    export_options o = {.dtype = "f32", .shard_size = "5GB"};
    const seo_cli_option options[] = {
        {.name = "hf",
         .type = SEO_CLI_TEXT,
         .value = &o.dir,
         .operand = "DIR",
         .help = "folder to make: config.json, model.safetensors, tokenizer.json ...",
         .required = true},
        {.name = "dtype",
         .type = SEO_CLI_TEXT,
         .value = &o.dtype,
         .operand = "NAME",
         .help = "f32, or bf16: half the size, rounded"},
        {.name = "shard-size",
         .type = SEO_CLI_TEXT,
         .value = &o.shard_size,
         .operand = "SIZE",
         .help = "most data in one file; a larger model is written as several with an index"},
    };
    seo_err err = SEO_OK;
    seo_cli_list operands = {0};
    seo_hf_export_args args;
    seo_buf report = {0};
    bool helped = false;
    SEO_TRY(
        seo_cli_parse(&k_command, options, SEO_COUNT_OF(options), argc, argv, &operands, &helped));
    if (helped) goto done;
    SEO_TRY(settle(&o, operands.items[0], &args));
    SEO_TRY(seo_hf_export(&args, &report));
    SEO_TRY(seo_cli_print(report.data, (int64_t)report.bytes));
done:
    seo_buf_free(&report);
    seo_cli_list_free(&operands);
    return seo_cli_exit(err);
}
