/* seodang data inspect|verify */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/text.h"
#include "data/dataset.h"
#include "data/manifest.h"
#include "data/verify.h"
#include "train/cli/cli.h"
#include "train/cli/data.h"

enum { SOURCES_SHOWN = 20 };

/* What one source gave to each split. */
typedef struct share {
    int64_t documents[SEO_SPLIT_COUNT], tokens[SEO_SPLIT_COUNT];
} share;

/* What the shards of one split hold. */
typedef struct totals {
    int64_t shards, documents, tokens, bytes;
} totals;

static totals totals_of(const seo_manifest *manifest, seo_split split) {
    totals sum = {0};
    for (int64_t i = 0; i < manifest->shard_count; i++) {
        const seo_manifest_shard *s = &manifest->shards[i];
        if (s->split != split) continue;
        sum.shards++;
        sum.documents += s->document_count;
        sum.tokens += s->token_count;
        sum.bytes += s->text_bytes;
    }
    return sum;
}

static double bytes_per_token(totals sum) {
    return sum.tokens > 0 ? (double)sum.bytes / (double)sum.tokens : 0;
}

static seo_err add_shares(const char *folder, seo_split split, share *shares) {
    seo_err err = SEO_OK;
    seo_dataset *ds = NULL;
    seo_document_span span = {0};
    SEO_TRY(seo_dataset_open(folder, seo_split_name(split), &ds));
    const int64_t tokens = seo_dataset_info_get(ds).token_count;
    for (int64_t at = 0; at < tokens; at += span.token_count) {
        SEO_TRY(seo_dataset_document_at(ds, at, &span));
        shares[span.source].documents[split]++;
        shares[span.source].tokens[split] += span.token_count;
    }
done:
    seo_dataset_close(ds);
    return err;
}

static void put_split_table(const seo_manifest *manifest, seo_buf *out) {
    seo_buf_format(out, "%-10s %7s %14s %18s %18s %12s\n", "split", "shards", "documents", "tokens",
                   "text bytes", "bytes/token");
    for (int s = 0; s < SEO_SPLIT_COUNT; s++) {
        const totals sum = totals_of(manifest, (seo_split)s);
        char documents[SEO_SHORT_TEXT], tokens[SEO_SHORT_TEXT], bytes[SEO_SHORT_TEXT];
        seo_buf_format(out, "%-10s %7" PRId64 " %14s %18s %18s %12.3f\n",
                       seo_split_name((seo_split)s), sum.shards,
                       seo_format_count(documents, sum.documents),
                       seo_format_count(tokens, sum.tokens), seo_format_count(bytes, sum.bytes),
                       bytes_per_token(sum));
    }
}

static void put_source_table(const seo_manifest *manifest, const share *shares, seo_buf *out) {
    seo_buf_format(out, "\n%14s %14s %16s %16s  %s\n", "file bytes", "documents", "train tokens",
                   "held-out tokens", "source");
    for (int64_t i = 0; i < manifest->source_count && i < SOURCES_SHOWN; i++) {
        const share *s = &shares[i];
        char bytes[SEO_SHORT_TEXT], documents[SEO_SHORT_TEXT];
        char train[SEO_SHORT_TEXT], held_out[SEO_SHORT_TEXT];
        const int64_t both = s->documents[SEO_SPLIT_TRAIN] + s->documents[SEO_SPLIT_HELD_OUT];
        seo_buf_format(
            out, "%14s %14s %16s %16s  %s\n", seo_format_count(bytes, manifest->sources[i].bytes),
            seo_format_count(documents, both), seo_format_count(train, s->tokens[SEO_SPLIT_TRAIN]),
            seo_format_count(held_out, s->tokens[SEO_SPLIT_HELD_OUT]), manifest->sources[i].path);
    }
    if (manifest->source_count > SOURCES_SHOWN) {
        seo_buf_format(out, "... and %" PRId64 " more; --json lists all\n",
                       manifest->source_count - SOURCES_SHOWN);
    }
}

static void put_text(const seo_manifest *manifest, const share *shares, const char *folder,
                     seo_buf *out) {
    seo_buf_format(out, "dataset    %s\nidentity   %s\ncorpus     %s\ntokenizer  %s\n", folder,
                   manifest->sha256, manifest->corpus_id, manifest->tokenizer_sha256);
    seo_buf_format(out, "vocabulary %" PRId64 ", end of text %" PRId32 "\n\n", manifest->vocab_size,
                   manifest->eot_id);
    put_split_table(manifest, out);
    put_source_table(manifest, shares, out);
}

static void put_json_sources(const seo_manifest *manifest, const share *shares, seo_buf *out) {
    seo_buf_text(out, "],\"sources\":[");
    for (int64_t i = 0; i < manifest->source_count; i++) {
        const seo_manifest_source *source = &manifest->sources[i];
        seo_buf_text(out, i > 0 ? ",{\"path\":" : "{\"path\":");
        seo_buf_json_string(out, source->path, strlen(source->path));
        seo_buf_format(out, ",\"sha256\":\"%s\",\"bytes\":%" PRId64, source->sha256, source->bytes);
        seo_buf_format(out,
                       ",\"train_documents\":%" PRId64 ",\"train_tokens\":%" PRId64
                       ",\"held_out_documents\":%" PRId64 ",\"held_out_tokens\":%" PRId64 "}",
                       shares[i].documents[SEO_SPLIT_TRAIN], shares[i].tokens[SEO_SPLIT_TRAIN],
                       shares[i].documents[SEO_SPLIT_HELD_OUT],
                       shares[i].tokens[SEO_SPLIT_HELD_OUT]);
    }
}

static void put_json(const seo_manifest *manifest, const share *shares, const char *folder,
                     seo_buf *out) {
    seo_buf_text(out, "{\"folder\":");
    seo_buf_json_string(out, folder, strlen(folder));
    seo_buf_format(out,
                   ",\"manifest_sha256\":\"%s\",\"corpus_id\":\"%s\",\"tokenizer_sha256\":\"%s\"",
                   manifest->sha256, manifest->corpus_id, manifest->tokenizer_sha256);
    seo_buf_format(out, ",\"vocab_size\":%" PRId64 ",\"eot_id\":%" PRId32 ",\"splits\":[",
                   manifest->vocab_size, manifest->eot_id);
    for (int s = 0; s < SEO_SPLIT_COUNT; s++) {
        const totals sum = totals_of(manifest, (seo_split)s);
        seo_buf_format(out,
                       "%s{\"name\":\"%s\",\"shards\":%" PRId64 ",\"documents\":%" PRId64
                       ",\"tokens\":%" PRId64 ",\"bytes\":%" PRId64 ",\"bytes_per_token\":",
                       s > 0 ? "," : "", seo_split_name((seo_split)s), sum.shards, sum.documents,
                       sum.tokens, sum.bytes);
        seo_buf_json_float(out, bytes_per_token(sum), 9);
        seo_buf_text(out, "}");
    }
    put_json_sources(manifest, shares, out);
    seo_buf_format(out, "],\"provenance\":%s}\n", manifest->provenance);
}

static seo_err inspect(const char *folder, bool json, seo_buf *out) {
    seo_err err = SEO_OK;
    seo_manifest manifest = {0};
    share *shares = NULL;
    SEO_TRY(seo_manifest_load(folder, &manifest));
    shares = calloc((size_t)manifest.source_count + 1, sizeof *shares);
    if (shares == NULL) {
        err = SEO_FAIL(SEO_ERR_MEMORY, "%s: no memory for its sources", folder);
        goto done;
    }
    for (int s = 0; s < SEO_SPLIT_COUNT; s++) {
        if (totals_of(&manifest, (seo_split)s).shards == 0) continue;
        SEO_TRY(add_shares(folder, (seo_split)s, shares));
    }
    if (json) {
        put_json(&manifest, shares, folder, out);
    } else {
        put_text(&manifest, shares, folder, out);
    }
    SEO_TRY(seo_buf_check(out));
done:
    free(shares);
    seo_manifest_free(&manifest);
    return err;
}

int seo_cli_data_inspect(int argc, char **argv) {
    static const seo_cli_command command = {
        .name = "data inspect",
        .operands = "DIR",
        .summary = "Shows what a dataset holds: documents, tokens and bytes of each split and "
                   "source.",
        .example = "seodang data inspect shards\n"
                   "seodang data inspect --json shards",
        .operands_min = 1,
        .operands_max = 1};
    bool json = false, helped = false;
    const seo_cli_option options[] = {{.name = "json",
                                       .type = SEO_CLI_FLAG,
                                       .value = &json,
                                       .help = "one line of JSON, with all sources"}};
    seo_err err = SEO_OK;
    seo_cli_list folders = {0};
    seo_buf out = {0};
    SEO_TRY(seo_cli_parse(&command, options, 1, argc, argv, &folders, &helped));
    if (helped) goto done;
    SEO_TRY(inspect(folders.items[0], json, &out));
    SEO_TRY(seo_cli_print(out.data, (int64_t)out.bytes));
done:
    seo_buf_free(&out);
    seo_cli_list_free(&folders);
    return seo_cli_exit(err);
}

static void print_damage(void *context, const char *message) {
    (void)context;
    seo_error("%s", message);
}

static void print_notice(void *context, const char *message) {
    (void)context;
    seo_warn("%s", message);
}

static seo_err verify(const char *folder, seo_buf *out) {
    seo_err err = SEO_OK;
    seo_verify_result found;
    char bytes[SEO_SHORT_TEXT], blocks[SEO_SHORT_TEXT];
    SEO_TRY(seo_dataset_verify(
        &(seo_verify_args){.folder = folder, .on_damage = print_damage, .on_notice = print_notice},
        &found));
    if (found.damages > 0) {
        return SEO_FAIL(SEO_ERR_FORMAT, "%s: is damaged in %" PRId64 " place%s, named above",
                        folder, found.damages, found.damages == 1 ? "" : "s");
    }
    seo_buf_format(out, "%s: no damage (%" PRId64 " shards, %s blocks, %s)\n", folder, found.shards,
                   seo_format_count(blocks, found.blocks),
                   seo_format_bytes(bytes, (double)found.bytes));
    SEO_TRY(seo_buf_check(out));
done:
    return err;
}

int seo_cli_data_verify(int argc, char **argv) {
    static const seo_cli_command command = {
        .name = "data verify",
        .operands = "DIR",
        .summary = "Reads every byte of a dataset and checks it; names the file, block and bytes "
                   "of each damage and exits 1 where there is any.",
        .example = "seodang data verify shards",
        .operands_min = 1,
        .operands_max = 1};
    bool helped = false;
    seo_err err = SEO_OK;
    seo_cli_list folders = {0};
    seo_buf out = {0};
    SEO_TRY(seo_cli_parse(&command, NULL, 0, argc, argv, &folders, &helped));
    if (helped) goto done;
    SEO_TRY(verify(folders.items[0], &out));
    SEO_TRY(seo_cli_print(out.data, (int64_t)out.bytes));
done:
    seo_buf_free(&out);
    seo_cli_list_free(&folders);
    return seo_cli_exit(err);
}
