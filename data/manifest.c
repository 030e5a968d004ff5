#include "data/manifest.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/file.h"
#include "base/json.h"

enum { MANIFEST_BYTES_MAX = 1 << 28, MANIFEST_VERSION = 1 };

#define MANIFEST_FORMAT "seodang-dataset"
/* The text up to and with SEAL_BEGIN is hashed; the hash and SEAL_END close it. */
#define SEAL_BEGIN "  \"sealed_sha256\": \""
#define SEAL_END   "\"\n}\n"
#define REMEDY     "restore the file, or build the dataset again"

static const char *const split_names[SEO_SPLIT_COUNT] = {
    [SEO_SPLIT_TRAIN] = "train",
    [SEO_SPLIT_HELD_OUT] = "held-out",
};

const char *seo_split_name(seo_split split) {
    SEO_ASSERT((int)split >= 0 && split < SEO_SPLIT_COUNT);
    return split_names[split];
}

seo_err seo_split_parse(const char *name, seo_split *out) {
    for (int s = 0; s < SEO_SPLIT_COUNT; s++) {
        if (strcmp(name, split_names[s]) == 0) {
            *out = (seo_split)s;
            return SEO_OK;
        }
    }
    return SEO_FAIL(SEO_ERR_USAGE, "no split is called '%s': there are train and held-out", name);
}

void seo_manifest_free(seo_manifest *manifest) {
    for (int64_t i = 0; i < manifest->source_count; i++) free(manifest->sources[i].path);
    free(manifest->sources);
    free(manifest->shards);
    free(manifest->provenance);
    *manifest = (seo_manifest){0};
}

/* ---- writing ---- */

static void put_splits(seo_buf *out, const seo_manifest *m) {
    seo_buf_text(out, "  \"splits\": [\n");
    for (int s = 0; s < SEO_SPLIT_COUNT; s++) {
        int64_t shards = 0, tokens = 0, documents = 0, bytes = 0;
        for (int64_t i = 0; i < m->shard_count; i++) {
            if ((int)m->shards[i].split != s) continue;
            shards++;
            tokens += m->shards[i].token_count;
            documents += m->shards[i].document_count;
            bytes += m->shards[i].text_bytes;
        }
        seo_buf_format(out,
                       "    {\"name\": \"%s\", \"n_shards\": %" PRId64 ", \"n_tokens\": %" PRId64
                       ", \"n_documents\": %" PRId64 ", \"n_bytes\": %" PRId64 "}%s\n",
                       split_names[s], shards, tokens, documents, bytes,
                       s + 1 < SEO_SPLIT_COUNT ? "," : "");
    }
    seo_buf_text(out, "  ],\n");
}

static void put_shards(seo_buf *out, const seo_manifest *m) {
    seo_buf_text(out, "  \"shards\": [\n");
    for (int64_t i = 0; i < m->shard_count; i++) {
        const seo_manifest_shard *s = &m->shards[i];
        seo_buf_format(out,
                       "    {\"file\": \"%s\", \"split\": \"%s\", \"index\": %" PRId64
                       ", \"n_tokens\": %" PRId64 ", \"n_documents\": %" PRId64
                       ", \"n_bytes\": %" PRId64,
                       s->file, seo_split_name(s->split), s->index, s->token_count,
                       s->document_count, s->text_bytes);
        seo_buf_format(out,
                       ", \"file_bytes\": %" PRId64 ", \"token_offset\": %" PRId64
                       ", \"sha256\": \"%s\", \"guard_xxh128\": \"%s\"}%s\n",
                       s->bytes, s->token_offset, s->sha256, s->guard_xxh128,
                       i + 1 < m->shard_count ? "," : "");
    }
    seo_buf_text(out, "  ],\n");
}

static void put_sources(seo_buf *out, const seo_manifest *m) {
    seo_buf_text(out, "  \"sources\": [\n");
    for (int64_t i = 0; i < m->source_count; i++) {
        seo_buf_text(out, "    {\"path\": ");
        seo_buf_json_string(out, m->sources[i].path, strlen(m->sources[i].path));
        seo_buf_format(out, ", \"sha256\": \"%s\", \"bytes\": %" PRId64 "}%s\n",
                       m->sources[i].sha256, m->sources[i].bytes,
                       i + 1 < m->source_count ? "," : "");
    }
    seo_buf_text(out, "  ],\n");
}

seo_err seo_manifest_text(const seo_manifest *m, seo_buf *out) {
    char seal[SEO_SHA256_HEX];
    seo_buf_clear(out);
    seo_buf_format(out, "{\n  \"format\": \"" MANIFEST_FORMAT "\",\n  \"format_version\": %d,\n",
                   (int)MANIFEST_VERSION);
    seo_buf_format(out, "  \"vocab_size\": %" PRId64 ",\n  \"eot_id\": %" PRId32 ",\n",
                   m->vocab_size, m->eot_id);
    seo_buf_format(out, "  \"tokenizer_sha256\": \"%s\",\n  \"corpus_id\": \"%s\",\n",
                   m->tokenizer_sha256, m->corpus_id);
    put_splits(out, m);
    put_shards(out, m);
    put_sources(out, m);
    seo_buf_format(out, "  \"provenance\": %s,\n" SEAL_BEGIN, m->provenance);
    if (seo_buf_check(out) != SEO_OK) return SEO_ERR_MEMORY;
    seo_sha256_hex(out->data, out->bytes, seal);
    seo_buf_format(out, "%s" SEAL_END, seal);
    return seo_buf_check(out);
}

seo_err seo_manifest_save(const char *folder, seo_manifest *manifest) {
    seo_err err = SEO_OK;
    char path[SEO_PATH_MAX];
    seo_buf text = {0};
    SEO_TRY(seo_path_join(path, folder, SEO_MANIFEST_NAME));
    SEO_TRY(seo_manifest_text(manifest, &text));
    seo_sha256_hex(text.data, text.bytes, manifest->sha256);
    SEO_TRY(seo_file_write_atomic(path, text.data, (int64_t)text.bytes));
done:
    seo_buf_free(&text);
    return err;
}

/* ---- reading ---- */

static seo_err check_seal(const char *name, const char *text, int64_t bytes) {
    const size_t tail = SEO_SHA256_HEX - 1 + strlen(SEAL_END);
    const size_t begin = strlen(SEAL_BEGIN);
    char seal[SEO_SHA256_HEX];
    const size_t size = (size_t)bytes;
    if (size < tail + begin ||
        memcmp(text + size - strlen(SEAL_END), SEAL_END, strlen(SEAL_END)) != 0 ||
        memcmp(text + size - tail - begin, SEAL_BEGIN, begin) != 0) {
        return SEO_FAIL(
            SEO_ERR_FORMAT,
            "%s: is truncated or no manifest of seodang: its closing hash is not there; " REMEDY,
            name);
    }
    seo_sha256_hex(text, size - tail, seal);
    if (memcmp(seal, text + size - tail, SEO_SHA256_HEX - 1) != 0) {
        return SEO_FAIL(SEO_ERR_FORMAT,
                        "%s: was edited or damaged: it does not match its own hash; " REMEDY, name);
    }
    return SEO_OK;
}

/* Copies a hash of `digits` lower-case hexadecimal digits. */
static seo_err get_hash(const json_t *object, const char *name, const char *key, size_t digits,
                        char *out) {
    const char *text = NULL;
    const seo_err err = seo_json_string(object, name, key, &text);
    if (err != SEO_OK) return err;
    if (strlen(text) != digits || strspn(text, "0123456789abcdef") != digits) {
        return SEO_FAIL(SEO_ERR_FORMAT, "%s: %s is not a hash of %zu hexadecimal digits", name, key,
                        digits);
    }
    memcpy(out, text, digits + 1);
    return SEO_OK;
}

/* A shard's name is a plain one: a manifest cannot reach outside its folder. */
static seo_err get_file_name(const json_t *object, const char *name, char *out) {
    const char *text = NULL;
    const seo_err err = seo_json_string(object, name, "file", &text);
    if (err != SEO_OK) return err;
    const size_t length = strlen(text);
    const size_t plain = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-_.");
    if (length == 0 || length >= SEO_SHARD_NAME_MAX || plain != length || text[0] == '.') {
        return SEO_FAIL(SEO_ERR_FORMAT, "%s: a shard's file name is not a plain one", name);
    }
    memcpy(out, text, length + 1);
    return SEO_OK;
}

static seo_err get_shard(const json_t *item, const char *name, int64_t vocab_size,
                         seo_manifest_shard *out) {
    seo_err err = SEO_OK;
    const char *split = NULL;
    const int64_t most = INT64_C(1) << 48;
    SEO_TRY(get_file_name(item, name, out->file));
    SEO_TRY(seo_json_string(item, name, "split", &split));
    SEO_TRY(seo_split_parse(split, &out->split));
    SEO_TRY(seo_json_int(item, name, "index", 0, most, &out->index));
    SEO_TRY(seo_json_int(item, name, "n_tokens", 1, most, &out->token_count));
    SEO_TRY(seo_json_int(item, name, "n_documents", 1, out->token_count, &out->document_count));
    SEO_TRY(seo_json_int(item, name, "n_bytes", 0, most, &out->text_bytes));
    SEO_TRY(seo_json_int(item, name, "file_bytes", 1, most, &out->bytes));
    SEO_TRY(seo_json_int(item, name, "token_offset", 1, out->bytes, &out->token_offset));
    SEO_TRY(get_hash(item, name, "sha256", SEO_SHA256_HEX - 1, out->sha256));
    SEO_TRY(get_hash(item, name, "guard_xxh128", SEO_XXH128_HEX - 1, out->guard_xxh128));
    const int64_t width = vocab_size > 65535 ? 4 : 2;
    if (out->token_count > (out->bytes - out->token_offset) / width) {
        err = SEO_FAIL(SEO_ERR_FORMAT, "%s: the tokens of %s reach past its end", name, out->file);
    }
done:
    return err;
}

static seo_err get_shards(const json_t *root, const char *name, seo_manifest *out) {
    seo_err err = SEO_OK;
    const json_t *array = NULL;
    SEO_TRY(seo_json_array(root, name, "shards", &array));
    const int64_t count = (int64_t)json_array_size(array);
    if (count == 0) return SEO_FAIL(SEO_ERR_FORMAT, "%s: names no shard", name);
    out->shards = calloc((size_t)count, sizeof *out->shards);
    if (out->shards == NULL) return SEO_FAIL(SEO_ERR_MEMORY, "%s: no memory for shards", name);
    out->shard_count = count;
    for (int64_t i = 0; i < count; i++) {
        seo_manifest_shard *shard = &out->shards[i];
        SEO_TRY(get_shard(json_array_get(array, (size_t)i), name, out->vocab_size, shard));
        const seo_manifest_shard *before = i > 0 ? shard - 1 : NULL;
        const bool same = before != NULL && before->split == shard->split;
        if (shard->index != (same ? before->index + 1 : 0) ||
            (before != NULL && before->split > shard->split)) {
            err = SEO_FAIL(SEO_ERR_FORMAT, "%s: shard %s is out of order", name, shard->file);
            goto done;
        }
    }
done:
    return err;
}

static seo_err get_sources(const json_t *root, const char *name, seo_manifest *out) {
    seo_err err = SEO_OK;
    const json_t *array = NULL;
    SEO_TRY(seo_json_array(root, name, "sources", &array));
    const int64_t count = (int64_t)json_array_size(array);
    out->sources = calloc((size_t)count + 1, sizeof *out->sources);
    if (out->sources == NULL) return SEO_FAIL(SEO_ERR_MEMORY, "%s: no memory for sources", name);
    for (int64_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(array, (size_t)i);
        seo_manifest_source *source = &out->sources[i];
        const char *path = NULL;
        SEO_TRY(seo_json_string(item, name, "path", &path));
        SEO_TRY(get_hash(item, name, "sha256", SEO_SHA256_HEX - 1, source->sha256));
        SEO_TRY(seo_json_int(item, name, "bytes", 0, INT64_MAX, &source->bytes));
        source->path = strdup(path);
        if (source->path == NULL) return SEO_FAIL(SEO_ERR_MEMORY, "%s: no memory", name);
        out->source_count = i + 1;
    }
done:
    return err;
}

static seo_err get_head(const json_t *root, const char *name, seo_manifest *out) {
    seo_err err = SEO_OK;
    const char *format = NULL;
    const json_t *provenance = NULL;
    int64_t version = 0, eot = 0;
    SEO_TRY(seo_json_string(root, name, "format", &format));
    if (strcmp(format, MANIFEST_FORMAT) != 0) {
        return SEO_FAIL(SEO_ERR_FORMAT, "%s: its format is '%s', not " MANIFEST_FORMAT, name,
                        format);
    }
    SEO_TRY(seo_json_int(root, name, "format_version", 0, INT64_MAX, &version));
    if (version != MANIFEST_VERSION) {
        return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                        "%s: its format version is %" PRId64 ", this program reads %d: use the "
                        "seodang that wrote it, or build the dataset again",
                        name, version, (int)MANIFEST_VERSION);
    }
    SEO_TRY(seo_json_int(root, name, "vocab_size", 1, INT32_MAX, &out->vocab_size));
    SEO_TRY(seo_json_int(root, name, "eot_id", -1, out->vocab_size - 1, &eot));
    out->eot_id = (int32_t)eot;
    SEO_TRY(get_hash(root, name, "tokenizer_sha256", SEO_SHA256_HEX - 1, out->tokenizer_sha256));
    SEO_TRY(get_hash(root, name, "corpus_id", SEO_SHA256_HEX - 1, out->corpus_id));
    SEO_TRY(seo_json_object(root, name, "provenance", &provenance));
    out->provenance =
        json_dumps(provenance, JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(15));
    if (out->provenance == NULL) err = SEO_FAIL(SEO_ERR_MEMORY, "%s: no memory", name);
done:
    return err;
}

seo_err seo_manifest_parse(const char *name, const char *text, int64_t bytes, seo_manifest *out) {
    seo_err err = SEO_OK;
    json_t *root = NULL;
    *out = (seo_manifest){0};
    SEO_TRY(check_seal(name, text, bytes));
    SEO_TRY(seo_json_parse(name, text, (size_t)bytes, &root));
    SEO_TRY(get_head(root, name, out));
    SEO_TRY(get_shards(root, name, out));
    SEO_TRY(get_sources(root, name, out));
    seo_sha256_hex(text, (size_t)bytes, out->sha256);
done:
    if (err != SEO_OK) seo_manifest_free(out);
    json_decref(root);
    return err;
}

seo_err seo_manifest_load(const char *folder, seo_manifest *out) {
    seo_err err = SEO_OK;
    char path[SEO_PATH_MAX];
    char *text = NULL;
    int64_t bytes = 0;
    *out = (seo_manifest){0};
    SEO_TRY(seo_path_join(path, folder, SEO_MANIFEST_NAME));
    err = seo_file_read(path, MANIFEST_BYTES_MAX, &text, &bytes);
    if (err == SEO_ERR_MISSING) {
        err = SEO_FAIL(SEO_ERR_MISSING,
                       "%s: no dataset is there (%s is missing): make one with `seodang data build "
                       "--out %s`, or correct the path",
                       folder, SEO_MANIFEST_NAME, folder);
    }
    SEO_TRY(err);
    SEO_TRY(seo_manifest_parse(path, text, bytes, out));
done:
    free(text);
    return err;
}
