/* manifest.json of a built dataset: what the folder holds, in order, and the hashes that tell
 * whether it is still that.
 *
 * The text is canonical (one spelling for one content, nothing from the clock) and closed by its
 * own SHA-256, so that an edit of any byte is refused. The SHA-256 of the whole file is the
 * dataset's identity: a checkpoint stores it. A folder without a manifest is not a dataset. */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/text.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SEO_MANIFEST_NAME  "manifest.json"
#define SEO_TOKENIZER_NAME "tokenizer.json"

enum { SEO_SHARD_NAME_MAX = 64 };

typedef enum seo_split { SEO_SPLIT_TRAIN, SEO_SPLIT_HELD_OUT, SEO_SPLIT_COUNT } seo_split;
const char *seo_split_name(seo_split split); /* "train", "held-out" */
/* SEO_ERR_USAGE for any other name. */
seo_err seo_split_parse(const char *name, seo_split *out);

/* One shard file. Bytes [token_offset, token_offset + token_count * width) are the tokens, guarded
 * by the CRCs of their blocks; guard_xxh128 covers all bytes before and after them and is checked
 * before libhdf5 parses the file. */
typedef struct seo_manifest_shard {
    char file[SEO_SHARD_NAME_MAX];
    seo_split split;
    int64_t index; /* within its split */
    int64_t bytes, token_offset;
    int64_t token_count, document_count;
    int64_t text_bytes; /* of the text the tokens came from */
    char sha256[SEO_SHA256_HEX];
    char guard_xxh128[SEO_XXH128_HEX];
} seo_manifest_shard;

/* A file the corpus was made from. */
typedef struct seo_manifest_source {
    char *path; /* as given to `data build` */
    char sha256[SEO_SHA256_HEX];
    int64_t bytes;
} seo_manifest_source;

typedef struct seo_manifest {
    int64_t vocab_size;
    int32_t eot_id; /* -1: the tokenizer has none */
    char tokenizer_sha256[SEO_SHA256_HEX];
    char corpus_id[SEO_SHA256_HEX]; /* over the content of all shards */
    char *provenance;               /* a JSON object: tool, command, options, counters */
    seo_manifest_shard *shards;     /* by split, then index */
    int64_t shard_count;
    seo_manifest_source *sources;
    int64_t source_count;
    char sha256[SEO_SHA256_HEX]; /* of the file; set by load and save */
} seo_manifest;

/* Reads FOLDER/manifest.json; checks its seal, every field and that shards are complete and in
 * order. Zeroed or loaded, free with seo_manifest_free. */
seo_err seo_manifest_load(const char *folder, seo_manifest *out);
/* Writes it atomically and sets manifest->sha256. */
seo_err seo_manifest_save(const char *folder, seo_manifest *manifest);
/* The canonical text, sealed; the caller frees it with seo_buf_free. */
seo_err seo_manifest_text(const seo_manifest *manifest, seo_buf *out);
/* The same from memory; `name` stands in messages for the path. */
seo_err seo_manifest_parse(const char *name, const char *text, int64_t bytes, seo_manifest *out);
void seo_manifest_free(seo_manifest *manifest);

#ifdef __cplusplus
}
#endif
