/* seodang data build|inspect|verify|text */
#include "train/cli/data.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/file.h"
#include "base/progress.h"
#include "base/text.h"
#include "data/build.h"
#include "data/dataset.h"
#include "data/manifest.h"
#include "data/tokenizer.h"
#include "train/cli/cli.h"

enum { TEXT_TOKENS = 1 << 16 };

static void add_row(seo_buf *out, const char *name, int64_t value) {
    char number[SEO_SHORT_TEXT];
    seo_buf_format(out, "  %-22s %16s\n", name, seo_format_count(number, value));
}

static void add_split(seo_buf *out, const seo_build_result *r, seo_split split) {
    char tokens[SEO_SHORT_TEXT], bytes[SEO_SHORT_TEXT], pieces[SEO_SHORT_TEXT];
    const double per_token =
        r->tokens[split] > 0 ? (double)r->bytes[split] / (double)r->tokens[split] : 0;
    seo_buf_format(out, "  %-10s %14s %18s %18s %12.3f\n", seo_split_name(split),
                   seo_format_count(pieces, r->pieces[split]),
                   seo_format_count(tokens, r->tokens[split]),
                   seo_format_count(bytes, r->bytes[split]), per_token);
}

static seo_err print_result(const seo_build_args *args, const seo_build_result *r, double seconds) {
    seo_buf out = {0};
    char time_text[SEO_SHORT_TEXT];
    add_row(&out, "files", r->files);
    if (r->files_left_out > 0) add_row(&out, "files left out", r->files_left_out);
    add_row(&out, "documents", r->documents);
    if (r->empty_documents > 0) add_row(&out, "empty, left out", r->empty_documents);
    add_row(&out, "duplicates, left out", r->duplicate_documents);
    if (r->invalid_utf8_bytes > 0) add_row(&out, "invalid UTF-8 bytes", r->invalid_utf8_bytes);
    seo_buf_format(&out, "  %-10s %14s %18s %18s %12s\n", "split", "documents", "tokens", "bytes",
                   "bytes/token");
    add_split(&out, r, SEO_SPLIT_TRAIN);
    add_split(&out, r, SEO_SPLIT_HELD_OUT);
    if (args->held_out > 0) {
        seo_buf_format(&out, "  held out by %s\n", seo_held_out_mode_name(r->mode));
    }
    const double bytes = (double)(r->bytes[0] + r->bytes[1]);
    seo_buf_format(&out, "wrote %s in %s (%.1f MB/s)\n", args->folder,
                   seo_format_seconds(time_text, seconds),
                   bytes / 1e6 / (seconds > 1e-3 ? seconds : 1e-3));
    seo_err err = seo_buf_check(&out);
    if (err == SEO_OK) err = seo_cli_print(out.data, (int64_t)out.bytes);
    seo_buf_free(&out);
    return err;
}

static const seo_cli_command k_build = {
    .name = "data build",
    .operands = "FILE|DIR...",
    .summary =
        "Builds a dataset: token shards in HDF5 and a manifest, from plain text, JSONL, folders, "
        ".gz and .zst.",
    .example = "seodang data build --tokenizer bytes.json --out shards --held-out 0.1 book.txt",
    .operands_min = 1,
    .operands_max = -1};

/* Fills args from the command line; args->paths are borrowed from operands. */
static seo_err parse_build(int argc, char **argv, seo_build_args *args, seo_cli_list *operands,
                           bool *helped) {
    const char *mode = "auto";
    int64_t threads = 0;
    const seo_cli_option options[] = {
        {"tokenizer", SEO_CLI_TEXT, &args->tokenizer_path, "FILE", "tokenizer.json", true, 0, 0},
        {"out", SEO_CLI_TEXT, &args->folder, "DIR", "new folder", true, 0, 0},
        {"held-out", SEO_CLI_FLOAT, &args->held_out, "FRACTION",
         "part of the text kept for testing; 0: none", false, 0, 0.9},
        {"held-out-mode", SEO_CLI_TEXT, &mode, "MODE", "auto, document, block or tail", false, 0,
         0},
        {"field", SEO_CLI_TEXT, &args->field, "NAME", "JSONL field with the text (default: text)",
         false, 0, 0},
        {"seed", SEO_CLI_INT, &args->seed, "N", "of the choice of what is held out", false, 0, 0},
        {"shard-tokens", SEO_CLI_INT, &args->shard_tokens, "N", "tokens in a shard; 0: 2^26", false,
         0, 1 << 30},
        {"threads", SEO_CLI_INT, &threads, "N", "0: all cores", false, 0, 1024},
    };
    seo_err err =
        seo_cli_parse(&k_build, options, SEO_COUNT_OF(options), argc, argv, operands, helped);
    if (err == SEO_OK && !*helped) err = seo_held_out_mode_parse(mode, &args->mode);
    args->paths = operands->items;
    args->path_count = operands->count;
    args->threads = (int32_t)threads;
    return err;
}

int seo_cli_data_build(int argc, char **argv) {
    seo_err err = SEO_OK;
    seo_build_args args = {.held_out = 0.01, .seed = 1337};
    seo_build_result result;
    seo_cli_list operands = {0};
    bool helped = false;
    SEO_TRY(parse_build(argc, argv, &args, &operands, &helped));
    if (helped) goto done;
    const double start = seo_clock_s();
    SEO_TRY(seo_build(&args, &result));
    SEO_TRY(print_result(&args, &result, seo_clock_s() - start));
done:
    seo_cli_list_free(&operands);
    return seo_cli_exit(err);
}

/* Writes the text of tokens[0..count) without its special tokens; *first when a document begins.
 * WordPiece keeps no line feeds, so that there a document ends with one. */
static seo_err print_tokens(const seo_tokenizer *tok, const int32_t *tokens, int64_t count,
                            bool *first, seo_buf *out) {
    const bool lines = seo_tokenizer_kind_of(tok) == SEO_TOKENIZER_WORDPIECE;
    seo_buf_clear(out);
    for (int64_t i = 0; i < count; i++) {
        const bool special = seo_tokenizer_is_special(tok, tokens[i]);
        if (special && lines && tokens[i] == seo_tokenizer_role(tok, SEO_ROLE_UNK)) {
            seo_buf_text(out, *first ? "[UNK]" : " [UNK]");
        } else if (special) {
            if (lines && tokens[i] == seo_tokenizer_eot(tok)) seo_buf_text(out, "\n");
        } else {
            const seo_err err = seo_decode_one(tok, tokens[i], *first, out);
            if (err != SEO_OK) return seo_err_context(err, "the dataset's tokenizer");
        }
        *first = special && tokens[i] == seo_tokenizer_eot(tok);
    }
    seo_err err = seo_buf_check(out);
    if (err == SEO_OK && out->bytes > 0) err = seo_cli_print(out->data, (int64_t)out->bytes);
    return err;
}

static seo_err print_split(const char *folder, const char *split) {
    seo_err err = SEO_OK;
    char path[SEO_PATH_MAX];
    seo_tokenizer *tok = NULL;
    seo_dataset *ds = NULL;
    seo_buf out = {0};
    bool first = true;
    int32_t *tokens = malloc(TEXT_TOKENS * sizeof *tokens);
    if (!tokens) return SEO_FAIL(SEO_ERR_MEMORY, "a token buffer");
    SEO_TRY(seo_path_join(path, folder, SEO_TOKENIZER_NAME));
    SEO_TRY(seo_dataset_open(folder, split, &ds));
    SEO_TRY(seo_tokenizer_load(path, &tok));
    const seo_dataset_info info = seo_dataset_info_get(ds);
    if (strcmp(info.tokenizer_sha256, seo_tokenizer_sha256(tok)) != 0) {
        SEO_TRY(SEO_FAIL(
            SEO_ERR_FORMAT,
            "%s is not the tokenizer the shards were made with; build the dataset again", path));
    }
    for (int64_t at = 0; at < info.token_count; at += TEXT_TOKENS) {
        const int64_t count = seo_min_i64(TEXT_TOKENS, info.token_count - at);
        SEO_TRY(seo_dataset_read(ds, at, count, tokens));
        SEO_TRY(print_tokens(tok, tokens, count, &first, &out));
    }
done:
    free(tokens);
    seo_buf_free(&out);
    seo_dataset_close(ds);
    seo_tokenizer_free(tok);
    return err;
}

int seo_cli_data_text(int argc, char **argv) {
    static const seo_cli_command command = {
        .name = "data text",
        .operands = "DIR",
        .summary =
            "Prints the text of a split: its tokens decoded, end-of-document tokens left out.",
        .example = "seodang data text shards --split held-out > unseen.txt",
        .operands_min = 1,
        .operands_max = 1};
    const char *split = "train";
    const seo_cli_option options[] = {
        {.name = "split",
         .type = SEO_CLI_TEXT,
         .value = &split,
         .operand = "NAME",
         .help = "train or held-out"},
    };
    seo_err err = SEO_OK;
    seo_cli_list operands = {0};
    bool helped = false;
    SEO_TRY(
        seo_cli_parse(&command, options, SEO_COUNT_OF(options), argc, argv, &operands, &helped));
    if (!helped) SEO_TRY(print_split(operands.items[0], split));
done:
    seo_cli_list_free(&operands);
    return seo_cli_exit(err);
}

int seo_cli_data(int argc, char **argv) {
    static const seo_cli_verb verbs[] = {
        {"build", seo_cli_data_build, "make token shards from text"},
        {"inspect", seo_cli_data_inspect, "show what a dataset holds"},
        {"verify", seo_cli_data_verify, "check every byte of a dataset"},
        {"text", seo_cli_data_text, "print the text of a split"},
    };
    return seo_cli_dispatch("seodang data", verbs, SEO_COUNT_OF(verbs), argc, argv);
}
