/* seodang import */
#include "base/check.h"
#include "base/text.h"
#include "train/cli/cli.h"
#include "train/hf/hf.h"

static const seo_cli_command k_command = {
    .name = "import",
    .operands = "",
    .summary = "Makes a run of a Hugging Face model: GPT-1, GPT-2, BERT, RoBERTa or DistilBERT.",
    .example = "seodang import --hf bert-base-uncased --out runs/bert\n"
               "seodang train finetune.yaml --set checkpoint.init_from=runs/bert",
    .operands_min = 0,
    .operands_max = 0};

int seo_cli_import(int argc, char **argv) {
    const char *dir = NULL, *out = NULL;
    const seo_cli_option options[] = {
        {.name = "hf",
         .type = SEO_CLI_TEXT,
         .value = &dir,
         .operand = "DIR",
         .help = "folder with config.json, model.safetensors and tokenizer.json",
         .required = true},
        {.name = "out",
         .type = SEO_CLI_TEXT,
         .value = &out,
         .operand = "RUN",
         .help = "folder to make: config.yaml and a checkpoint of step 0",
         .required = true},
    };
    seo_err err = SEO_OK;
    seo_cli_list operands = {0};
    seo_buf report = {0};
    bool helped = false;
    SEO_TRY(
        seo_cli_parse(&k_command, options, SEO_COUNT_OF(options), argc, argv, &operands, &helped));
    if (helped) goto done;
    SEO_TRY(seo_hf_import(dir, out, &report));
    SEO_TRY(seo_cli_print(report.data, (int64_t)report.bytes));
done:
    seo_buf_free(&report);
    seo_cli_list_free(&operands);
    return seo_cli_exit(err);
}
