#include "data/dataset_writer.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "data/shard.h"

enum { TOKENIZER_BYTES_MAX = 1 << 30, FIRST_TOKENS = 1 << 16, FIRST_DOCUMENTS = 1 << 10 };

#define TEMPORARY "tmp."

/* A shard on disk under its temporary name. */
typedef struct written {
    seo_split split;
    int64_t index, token_count, document_count, text_bytes;
    char content_xxh128[SEO_XXH128_HEX];
} written;

/* The shard of a split that is being filled. */
typedef struct filling {
    unsigned char *tokens;
    uint64_t *doc_offsets, *doc_hash;
    uint32_t *doc_source;
    int64_t token_count, token_capacity;
    int64_t document_count, document_capacity;
    int64_t text_bytes;
    int64_t shards;                          /* written of this split */
    int64_t tokens_before, documents_before; /* in them */
} filling;

struct seo_dataset_writer {
    char folder[SEO_PATH_MAX];
    int64_t vocab_size, token_bytes, shard_tokens;
    int32_t eot_id;
    char tokenizer_sha256[SEO_SHA256_HEX];
    filling splits[SEO_SPLIT_COUNT];
    written *done;
    int64_t done_count, done_capacity;
    int64_t source_most; /* the largest source index seen, -1 before */
};

static seo_err shard_path(const seo_dataset_writer *writer, const char *prefix, seo_split split,
                          int64_t index, char out[SEO_PATH_MAX]) {
    char name[SEO_SHARD_NAME_MAX];
    snprintf(name, sizeof name, "%s%s-%05" PRId64 ".h5", prefix, seo_split_name(split), index);
    return seo_path_join(out, writer->folder, name);
}

/* What a build that died has left would be mixed with what this one leaves. */
static seo_err remove_stale(const char *folder) {
    seo_err err = SEO_OK;
    seo_names names = {0};
    char path[SEO_PATH_MAX];
    SEO_TRY(seo_dir_list(folder, &names));
    for (int64_t i = 0; i < names.count; i++) {
        const char *name = names.items[i];
        const size_t length = strlen(name);
        if (strncmp(name, TEMPORARY, strlen(TEMPORARY)) != 0 || length < 3 ||
            strcmp(name + length - 3, ".h5") != 0) {
            continue;
        }
        SEO_TRY(seo_path_join(path, folder, name));
        if (unlink(path) != 0)
            err = SEO_FAIL(SEO_ERR_IO, "%s: cannot be removed: %s", path, strerror(errno));
        SEO_TRY(err);
    }
done:
    seo_names_free(&names);
    return err;
}

static seo_err check_folder(const char *folder) {
    seo_err err = SEO_OK;
    char path[SEO_PATH_MAX];
    seo_path_kind kind = SEO_PATH_NONE;
    SEO_TRY(seo_path_join(path, folder, SEO_MANIFEST_NAME));
    SEO_TRY(seo_path_look(path, &kind));
    if (kind != SEO_PATH_NONE) {
        err = SEO_FAIL(SEO_ERR_USAGE,
                       "%s: holds a dataset already: remove it, or name another folder", folder);
    }
done:
    return err;
}

seo_err seo_dataset_writer_open(const seo_dataset_writer_args *args, seo_dataset_writer **out) {
    seo_err err = SEO_OK;
    *out = NULL;
    if (args->vocab_size < 1 || args->vocab_size > INT32_MAX || args->eot_id < -1 ||
        args->eot_id >= args->vocab_size || args->shard_tokens < 0 ||
        args->shard_tokens > SEO_SHARD_TOKENS_MAX ||
        strlen(args->tokenizer_sha256) != SEO_SHA256_HEX - 1) {
        return SEO_FAIL(SEO_ERR_ARG, "a dataset of vocabulary %" PRId64 " cannot be written",
                        args->vocab_size);
    }
    seo_dataset_writer *writer = calloc(1, sizeof *writer);
    if (writer == NULL) return SEO_FAIL(SEO_ERR_MEMORY, "no memory to write a dataset");
    writer->vocab_size = args->vocab_size;
    writer->token_bytes = seo_shard_token_bytes(args->vocab_size);
    writer->shard_tokens = args->shard_tokens > 0 ? args->shard_tokens : SEO_SHARD_TOKENS;
    writer->eot_id = args->eot_id;
    writer->source_most = -1;
    memcpy(writer->tokenizer_sha256, args->tokenizer_sha256, SEO_SHA256_HEX);
    SEO_TRY(seo_path_join(writer->folder, args->folder, ""));
    SEO_TRY(seo_dir_make(args->folder));
    SEO_TRY(check_folder(args->folder));
    SEO_TRY(remove_stale(args->folder));
    *out = writer;
    writer = NULL;
done:
    seo_dataset_writer_close(writer);
    return err;
}

void seo_dataset_writer_close(seo_dataset_writer *writer) {
    if (writer == NULL) return;
    for (int64_t i = 0; i < writer->done_count; i++) {
        char path[SEO_PATH_MAX];
        const written *w = &writer->done[i];
        /* After a commit there is nothing under this name. */
        if (shard_path(writer, TEMPORARY, w->split, w->index, path) == SEO_OK) (void)unlink(path);
    }
    for (int s = 0; s < SEO_SPLIT_COUNT; s++) {
        filling *f = &writer->splits[s];
        free(f->tokens);
        free(f->doc_offsets);
        free(f->doc_hash);
        free(f->doc_source);
    }
    free(writer->done);
    free(writer);
}

/* ---- adding ---- */

static seo_err grow(void *items, int64_t width, int64_t capacity) {
    void *old, *bigger;
    memcpy(&old, items, sizeof old);
    bigger = realloc(old, (size_t)(capacity * width));
    if (bigger == NULL) {
        return SEO_FAIL(SEO_ERR_MEMORY, "no memory for a shard of %" PRId64 " bytes",
                        capacity * width);
    }
    memcpy(items, &bigger, sizeof bigger);
    return SEO_OK;
}

static seo_err reserve(const seo_dataset_writer *writer, filling *f, int64_t tokens) {
    seo_err err = SEO_OK;
    if (f->token_count + tokens > f->token_capacity) {
        int64_t capacity = seo_max_i64(2 * f->token_capacity, FIRST_TOKENS);
        capacity =
            seo_max_i64(seo_min_i64(capacity, writer->shard_tokens), f->token_count + tokens);
        SEO_TRY(grow(&f->tokens, writer->token_bytes, capacity));
        f->token_capacity = capacity;
    }
    if (f->document_count == f->document_capacity) {
        const int64_t capacity = seo_max_i64(2 * f->document_capacity, FIRST_DOCUMENTS);
        SEO_TRY(grow(&f->doc_offsets, sizeof *f->doc_offsets, capacity + 1));
        SEO_TRY(grow(&f->doc_hash, sizeof *f->doc_hash, capacity));
        SEO_TRY(grow(&f->doc_source, sizeof *f->doc_source, capacity));
        f->document_capacity = capacity;
    }
done:
    return err;
}

static seo_err remember(seo_dataset_writer *writer, const written *w) {
    if (writer->done_count == writer->done_capacity) {
        const int64_t capacity = seo_max_i64(2 * writer->done_capacity, 16);
        const seo_err err = grow(&writer->done, sizeof *writer->done, capacity);
        if (err != SEO_OK) return err;
        writer->done_capacity = capacity;
    }
    writer->done[writer->done_count++] = *w;
    return SEO_OK;
}

static seo_err flush(seo_dataset_writer *writer, seo_split split) {
    seo_err err = SEO_OK;
    filling *f = &writer->splits[split];
    char path[SEO_PATH_MAX];
    if (f->token_count == 0) return SEO_OK;
    written w = {.split = split,
                 .index = f->shards,
                 .token_count = f->token_count,
                 .document_count = f->document_count,
                 .text_bytes = f->text_bytes};
    SEO_TRY(shard_path(writer, TEMPORARY, split, w.index, path));
    /* Remembered first, so that close removes what a failed write leaves. */
    SEO_TRY(remember(writer, &w));
    SEO_TRY(seo_shard_write(path,
                            &(seo_shard_data){.tokens = f->tokens,
                                              .doc_offsets = f->doc_offsets,
                                              .doc_source = f->doc_source,
                                              .doc_hash = f->doc_hash,
                                              .token_count = f->token_count,
                                              .document_count = f->document_count,
                                              .token_bytes = writer->token_bytes},
                            writer->done[writer->done_count - 1].content_xxh128));
    f->shards++;
    f->tokens_before += f->token_count;
    f->documents_before += f->document_count;
    f->token_count = f->document_count = f->text_bytes = 0;
done:
    return err;
}

static void store(filling *f, int64_t width, const int32_t *ids, int64_t count) {
    unsigned char *out = f->tokens + f->token_count * width;
    if (width == 4) {
        memcpy(out, ids, (size_t)count * sizeof *ids);
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        const uint16_t id = (uint16_t)ids[i];
        memcpy(out + 2 * i, &id, sizeof id);
    }
}

/* A document, or the piece [first, first + count) of a long one. */
static seo_err append(seo_dataset_writer *writer, seo_split split, const seo_document *document,
                      int64_t first, int64_t count) {
    seo_err err = SEO_OK;
    filling *f = &writer->splits[split];
    if (f->token_count + count > writer->shard_tokens) SEO_TRY(flush(writer, split));
    SEO_TRY(reserve(writer, f, count));
    store(f, writer->token_bytes, document->ids + first, count);
    /* Text bytes of a piece: by its share of the tokens, so that the pieces sum to the whole. */
    const double rate = (double)document->text_bytes / (double)document->count;
    const int64_t begin = (int64_t)(rate * (double)first);
    const int64_t end = first + count == document->count
                            ? document->text_bytes
                            : (int64_t)(rate * (double)(first + count));
    f->doc_offsets[f->document_count] = (uint64_t)f->token_count;
    f->doc_offsets[f->document_count + 1] = (uint64_t)(f->token_count + count);
    f->doc_source[f->document_count] = (uint32_t)document->source;
    f->doc_hash[f->document_count] = document->hash;
    f->document_count++;
    f->token_count += count;
    f->text_bytes += end - begin;
done:
    return err;
}

static seo_err check_document(const seo_dataset_writer *writer, const seo_document *document) {
    if (document->count < 1 || document->source < 0 || document->source > UINT32_MAX ||
        document->text_bytes < 0) {
        return SEO_FAIL(SEO_ERR_ARG, "a document of %" PRId64 " tokens cannot be added",
                        document->count);
    }
    bool inside = true;
    for (int64_t i = 0; i < document->count; i++) {
        inside &= (uint32_t)document->ids[i] < (uint64_t)writer->vocab_size;
    }
    if (inside) return SEO_OK;
    return SEO_FAIL(SEO_ERR_ARG, "a document holds an id outside the vocabulary of %" PRId64,
                    writer->vocab_size);
}

seo_err seo_dataset_writer_add(seo_dataset_writer *writer, seo_split split,
                               const seo_document *document) {
    seo_err err = SEO_OK;
    SEO_TRY(check_document(writer, document));
    writer->source_most = seo_max_i64(writer->source_most, document->source);
    for (int64_t first = 0; first < document->count; first += writer->shard_tokens) {
        const int64_t count = seo_min_i64(writer->shard_tokens, document->count - first);
        SEO_TRY(append(writer, split, document, first, count));
    }
done:
    return err;
}

int64_t seo_dataset_writer_tokens(const seo_dataset_writer *writer, seo_split split) {
    return writer->splits[split].tokens_before + writer->splits[split].token_count;
}
int64_t seo_dataset_writer_documents(const seo_dataset_writer *writer, seo_split split) {
    return writer->splits[split].documents_before + writer->splits[split].document_count;
}

/* ---- committing ---- */

static int compare_written(const void *a, const void *b) {
    const written *x = a, *y = b;
    if (x->split != y->split) return x->split < y->split ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

/* The identity of the content, whatever files it came from. */
static seo_err corpus_id(const seo_dataset_writer *writer, char out[SEO_SHA256_HEX]) {
    seo_buf text = {0};
    seo_buf_format(&text, "seodang-corpus 1\nvocab_size %" PRId64 "\neot_id %" PRId32 "\n",
                   writer->vocab_size, writer->eot_id);
    seo_buf_format(&text, "tokenizer %s\n", writer->tokenizer_sha256);
    for (int64_t i = 0; i < writer->done_count; i++) {
        const written *w = &writer->done[i];
        seo_buf_format(&text, "%s %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %s\n",
                       seo_split_name(w->split), w->index, w->token_count, w->document_count,
                       w->text_bytes, w->content_xxh128);
    }
    const seo_err err = seo_buf_check(&text);
    if (err == SEO_OK) seo_sha256_hex(text.data, text.bytes, out);
    seo_buf_free(&text);
    return err;
}

static seo_err sources_text(const seo_manifest *manifest, seo_buf *out) {
    seo_buf_text(out, "[");
    for (int64_t i = 0; i < manifest->source_count; i++) {
        const seo_manifest_source *s = &manifest->sources[i];
        seo_buf_text(out, i > 0 ? ",\n {\"path\":" : "{\"path\":");
        seo_buf_json_string(out, s->path, strlen(s->path));
        seo_buf_format(out, ",\"sha256\":\"%s\",\"bytes\":%" PRId64 "}", s->sha256, s->bytes);
    }
    seo_buf_text(out, "]");
    return seo_buf_check(out);
}

/* The manifest but for its shards: copies what the caller knows. */
static seo_err begin_manifest(const seo_dataset_writer *writer, const seo_dataset_origin *origin,
                              seo_manifest *out) {
    seo_err err = SEO_OK;
    json_t *provenance = NULL;
    out->vocab_size = writer->vocab_size;
    out->eot_id = writer->eot_id;
    memcpy(out->tokenizer_sha256, writer->tokenizer_sha256, SEO_SHA256_HEX);
    SEO_TRY(corpus_id(writer, out->corpus_id));
    SEO_TRY(
        seo_json_parse("provenance", origin->provenance, strlen(origin->provenance), &provenance));
    out->provenance =
        json_dumps(provenance, JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(15));
    out->shards = calloc((size_t)writer->done_count, sizeof *out->shards);
    out->sources = calloc((size_t)origin->source_count + 1, sizeof *out->sources);
    bool enough = out->provenance != NULL && out->shards != NULL && out->sources != NULL;
    for (int64_t i = 0; enough && i < origin->source_count; i++) {
        out->sources[i] = origin->sources[i];
        out->sources[i].path = strdup(origin->sources[i].path);
        enough = out->sources[i].path != NULL;
        out->source_count = i + 1;
    }
    if (!enough) err = SEO_FAIL(SEO_ERR_MEMORY, "no memory for the manifest");
done:
    json_decref(provenance);
    return err;
}

static seo_err seal_shards(const seo_dataset_writer *writer, seo_manifest *manifest,
                           const char *sources) {
    seo_err err = SEO_OK;
    char path[SEO_PATH_MAX];
    for (int64_t i = 0; i < writer->done_count; i++) {
        const written *w = &writer->done[i];
        seo_manifest_shard *entry = &manifest->shards[i];
        SEO_TRY(shard_path(writer, TEMPORARY, w->split, w->index, path));
        SEO_TRY(seo_shard_seal(path,
                               &(seo_shard_identity){.split = w->split,
                                                     .shard_index = w->index,
                                                     .shard_count = writer->splits[w->split].shards,
                                                     .token_count = w->token_count,
                                                     .document_count = w->document_count,
                                                     .text_bytes = w->text_bytes,
                                                     .vocab_size = writer->vocab_size,
                                                     .eot_id = writer->eot_id,
                                                     .tokenizer_sha256 = writer->tokenizer_sha256,
                                                     .corpus_id = manifest->corpus_id,
                                                     .sources = sources,
                                                     .provenance = manifest->provenance}));
        SEO_TRY(seo_shard_measure(path, entry));
        snprintf(entry->file, sizeof entry->file, "%s-%05" PRId64 ".h5", seo_split_name(w->split),
                 w->index);
        manifest->shard_count = i + 1;
    }
done:
    return err;
}

/* Opened as a training run will open it, and every block checked. */
static seo_err verify_shards(const seo_dataset_writer *writer, const seo_manifest *manifest) {
    seo_err err = SEO_OK;
    seo_shard *shard = NULL;
    char path[SEO_PATH_MAX];
    for (int64_t i = 0; i < manifest->shard_count; i++) {
        const seo_manifest_shard *entry = &manifest->shards[i];
        SEO_TRY(shard_path(writer, TEMPORARY, entry->split, entry->index, path));
        SEO_TRY(seo_shard_open(path, manifest, entry, &shard));
        for (int64_t b = 0; b < seo_shard_blocks(shard); b++) {
            SEO_TRY(seo_shard_check_block(shard, b));
        }
        seo_shard_close(shard);
        shard = NULL;
    }
done:
    seo_shard_close(shard);
    return err;
}

/* Takes back renames when the commit fails after them. */
static void remove_renamed(const seo_dataset_writer *writer, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        char path[SEO_PATH_MAX];
        const written *w = &writer->done[i];
        if (shard_path(writer, "", w->split, w->index, path) == SEO_OK) (void)unlink(path);
    }
}

static seo_err rename_shards(const seo_dataset_writer *writer, int64_t *renamed) {
    seo_err err = SEO_OK;
    char from[SEO_PATH_MAX], to[SEO_PATH_MAX];
    for (int64_t i = 0; i < writer->done_count; i++) {
        const written *w = &writer->done[i];
        SEO_TRY(shard_path(writer, TEMPORARY, w->split, w->index, from));
        SEO_TRY(shard_path(writer, "", w->split, w->index, to));
        SEO_TRY(seo_rename(from, to));
        *renamed = i + 1;
    }
    SEO_TRY(seo_dir_sync(writer->folder));
done:
    return err;
}

static seo_err copy_tokenizer(const seo_dataset_writer *writer, const char *from) {
    seo_err err = SEO_OK;
    char to[SEO_PATH_MAX];
    char sha256[SEO_SHA256_HEX];
    char *text = NULL;
    int64_t bytes = 0;
    SEO_TRY(seo_path_join(to, writer->folder, SEO_TOKENIZER_NAME));
    SEO_TRY(seo_file_read(from, TOKENIZER_BYTES_MAX, &text, &bytes));
    seo_sha256_hex(text, (size_t)bytes, sha256);
    if (strcmp(sha256, writer->tokenizer_sha256) != 0) {
        err = SEO_FAIL(SEO_ERR_ARG, "%s: is not the canonical file of the tokenizer in use", from);
        goto done;
    }
    SEO_TRY(seo_file_write_atomic(to, text, bytes));
done:
    free(text);
    return err;
}

static seo_err check_origin(const seo_dataset_writer *writer, const seo_dataset_origin *origin) {
    if (seo_dataset_writer_tokens(writer, SEO_SPLIT_TRAIN) == 0) {
        return SEO_FAIL(SEO_ERR_USAGE, "no training text: the input is empty, or all of it was "
                                       "held out or removed");
    }
    if (writer->source_most < origin->source_count) return SEO_OK;
    return SEO_FAIL(SEO_ERR_ARG, "documents come from source %" PRId64 " of %" PRId64,
                    writer->source_most, origin->source_count);
}

seo_err seo_dataset_writer_commit(seo_dataset_writer *writer, const seo_dataset_origin *origin,
                                  char manifest_sha256[SEO_SHA256_HEX]) {
    seo_err err = SEO_OK;
    seo_manifest manifest = {0};
    seo_buf sources = {0};
    int64_t renamed = 0;
    SEO_TRY(check_origin(writer, origin));
    for (int s = 0; s < SEO_SPLIT_COUNT; s++) SEO_TRY(flush(writer, (seo_split)s));
    qsort(writer->done, (size_t)writer->done_count, sizeof *writer->done, compare_written);
    SEO_TRY(begin_manifest(writer, origin, &manifest));
    SEO_TRY(sources_text(&manifest, &sources));
    SEO_TRY(seal_shards(writer, &manifest, sources.data));
    SEO_TRY(verify_shards(writer, &manifest));
    if (origin->tokenizer_path != NULL) SEO_TRY(copy_tokenizer(writer, origin->tokenizer_path));
    SEO_TRY(rename_shards(writer, &renamed));
    SEO_TRY(seo_manifest_save(writer->folder, &manifest));
    if (manifest_sha256 != NULL) memcpy(manifest_sha256, manifest.sha256, SEO_SHA256_HEX);
done:
    if (err != SEO_OK) remove_renamed(writer, renamed);
    seo_buf_free(&sources);
    seo_manifest_free(&manifest);
    return err;
}
