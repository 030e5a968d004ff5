/* seodang fill */
#include <string.h>

#include "base/check.h"
#include "base/text.h"
#include "data/tokenizer.h"
#include "train/cli/cli.h"
#include "train/fill.h"
#include "train/restore.h"
#include "train/signal.h"

static const seo_cli_command k_command = {
    .name = "fill",
    .operands = "RUN|CHECKPOINT",
    .summary = "Shows what an encoder puts in place of the mask tokens of a text.",
    .example = "seodang fill runs/bert --text \"In the [MASK] was the word.\" --top 3",
    .operands_min = 1,
    .operands_max = 1};

typedef struct fill_options {
    const char *text, *device;
    int64_t top, threads;
    bool json;
} fill_options;

/* The text of one id as it would stand in the middle of a sentence, without the space before it. */
static seo_err piece_of(const seo_tokenizer *tokenizer, int32_t id, seo_buf *out) {
    const unsigned char *bytes = NULL;
    size_t count = 0;
    seo_buf_clear(out);
    if (!seo_tokenizer_piece(tokenizer, id, &bytes, &count)) {
        seo_buf_format(out, "(id %d)", (int)id);
    } else {
        seo_buf_add(out, bytes, count);
    }
    return seo_buf_check(out);
}

static seo_err add_guess(const seo_tokenizer *tokenizer, const seo_fill_guess *guess, bool json,
                         seo_buf *out) {
    seo_buf piece = {0};
    const seo_err err = piece_of(tokenizer, guess->id, &piece);
    if (err == SEO_OK && json) {
        seo_buf_format(out, "{\"id\": %d, \"token\": ", (int)guess->id);
        seo_buf_json_string(out, piece.data, piece.bytes);
        seo_buf_text(out, ", \"probability\": ");
        seo_buf_json_float(out, guess->probability, 17);
        seo_buf_text(out, "}");
    } else if (err == SEO_OK) {
        seo_buf quoted = {0};
        seo_buf_json_string(&quoted, piece.data, piece.bytes);
        seo_buf_format(out, "  %6.2f %%  %s\n", 100 * guess->probability,
                       quoted.data ? quoted.data : "");
        out->failed = out->failed || quoted.failed;
        seo_buf_free(&quoted);
    }
    seo_buf_free(&piece);
    return err;
}

static seo_err add_blank(const seo_tokenizer *tokenizer, const seo_fill_blank *blank, bool json,
                         seo_buf *out) {
    seo_err err = SEO_OK;
    if (json) {
        seo_buf_format(out, "{\"position\": %lld, \"guesses\": [", (long long)blank->position);
    } else {
        seo_buf_format(out, "token %lld\n", (long long)blank->position);
    }
    for (int64_t i = 0; i < blank->count && err == SEO_OK; i++) {
        if (json && i > 0) seo_buf_text(out, ", ");
        err = add_guess(tokenizer, &blank->guesses[i], json, out);
    }
    if (json) seo_buf_text(out, "]}");
    return err;
}

static seo_err print_result(const fill_options *o, const seo_tokenizer *tokenizer,
                            const seo_restored *restored, const seo_fill_result *result) {
    seo_err err = SEO_OK;
    seo_buf out = {0};
    if (o->json) {
        seo_buf_text(&out, "{\"text\": ");
        seo_buf_json_string(&out, o->text, strlen(o->text));
        seo_buf_format(&out, ", \"step\": %lld, \"masks\": [", (long long)restored->state.step);
    }
    for (int64_t i = 0; i < result->count; i++) {
        if (o->json && i > 0) seo_buf_text(&out, ", ");
        SEO_TRY(add_blank(tokenizer, &result->blanks[i], o->json, &out));
    }
    if (o->json) seo_buf_text(&out, "]}\n");
    SEO_TRY(seo_buf_check(&out));
    SEO_TRY(seo_cli_print(out.data, (int64_t)out.bytes));
done:
    seo_buf_free(&out);
    return err;
}

static seo_err fill(const char *path, const fill_options *o) {
    seo_err err = SEO_OK;
    seo_restored restored = {0};
    seo_tokenizer *tokenizer = NULL;
    seo_fill_result result = {0};
    seo_device_choice device = SEO_DEVICE_AUTO;
    SEO_TRY(seo_device_choice_parse(o->device, &device));
    const seo_restore_args restore = {
        .path = path, .mode = SEO_MODEL_EVAL, .device = device, .threads = (int32_t)o->threads};
    SEO_TRY(seo_restore(&restore, &restored));
    SEO_TRY(seo_tokenizer_load(restored.tokenizer_path, &tokenizer));
    SEO_TRY(seo_fill(restored.model, tokenizer, o->text, o->top, &result));
    SEO_TRY(print_result(o, tokenizer, &restored, &result));
done:
    seo_fill_free(&result);
    seo_tokenizer_free(tokenizer);
    seo_restored_close(&restored);
    return err;
}

int seo_cli_fill(int argc, char **argv) {
    fill_options o = {.device = "auto", .top = 5};
    seo_err err = SEO_OK;
    seo_cli_list operands = {0};
    bool helped = false;
    const seo_cli_option options[] = {
        {.name = "text",
         .type = SEO_CLI_TEXT,
         .value = &o.text,
         .operand = "TEXT",
         .help = "a text with the tokenizer's mask token: [MASK] (BERT), <mask> (RoBERTa)",
         .required = true},
        {.name = "top",
         .type = SEO_CLI_INT,
         .value = &o.top,
         .operand = "K",
         .help = "show the K likeliest tokens",
         .min = 1,
         .max = 1 << 24},
        {.name = "json", .type = SEO_CLI_FLAG, .value = &o.json, .help = "one JSON object"},
        SEO_CLI_DEVICE(&o.device),
        SEO_CLI_THREADS(&o.threads),
    };
    SEO_TRY(
        seo_cli_parse(&k_command, options, SEO_COUNT_OF(options), argc, argv, &operands, &helped));
    if (helped) goto done;
    seo_signal_catch();
    err = fill(operands.items[0], &o);
    seo_signal_release();
done:
    seo_cli_list_free(&operands);
    return seo_cli_exit(err);
}
