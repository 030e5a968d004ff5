/* Writes a dataset: documents come in, shards and the manifest come out. This is the door for
 * `data build`; the files themselves are data/shard.h's and data/manifest.h's business.
 *
 * The bytes written are a pure function of the sequence of calls. Shards are written under
 * temporary names as they fill up; commit seals, verifies, syncs and renames them, and writes the
 * manifest last. Without commit nothing is left behind under a final name. */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "data/manifest.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The tokens of a shard: unless asked otherwise, and at most. */
enum { SEO_SHARD_TOKENS = 1 << 26, SEO_SHARD_TOKENS_MAX = 1 << 28 };

typedef struct seo_dataset_writer seo_dataset_writer;

typedef struct seo_dataset_writer_args {
    const char *folder; /* made when missing; one that holds a dataset already is refused */
    int64_t vocab_size; /* 1..2^31 - 1; decides between uint16 and uint32 tokens */
    int32_t eot_id;     /* -1: none */
    const char *tokenizer_sha256;
    int64_t shard_tokens; /* 0: SEO_SHARD_TOKENS */
} seo_dataset_writer_args;
seo_err seo_dataset_writer_open(const seo_dataset_writer_args *args, seo_dataset_writer **out);

/* One document, copied. `ids` hold its closing <|endoftext|> where one is wanted. A document longer
 * than a shard is cut at shard_tokens; its pieces keep source and hash. */
typedef struct seo_document {
    const int32_t *ids;
    int64_t count;
    int64_t source;     /* index into the sources given at commit, < 2^32 */
    int64_t text_bytes; /* bytes of its text */
    uint64_t hash;      /* seo_hash64 of its text */
} seo_document;
/* SEO_ERR_ARG for an empty document or an id outside [0, vocab_size). */
seo_err seo_dataset_writer_add(seo_dataset_writer *writer, seo_split split,
                               const seo_document *document);

/* Tokens and documents added to a split so far. */
int64_t seo_dataset_writer_tokens(const seo_dataset_writer *writer, seo_split split);
int64_t seo_dataset_writer_documents(const seo_dataset_writer *writer, seo_split split);

/* What is known at the end. Nothing in it may come from the clock or the machine, or equal builds
 * would differ. */
typedef struct seo_dataset_origin {
    const seo_manifest_source *sources;
    int64_t source_count;
    const char *provenance;     /* JSON object: tool, version, command, options, counters */
    const char *tokenizer_path; /* a canonical tokenizer.json to be copied into the folder; NULL:
                                   the caller has put it there */
} seo_dataset_origin;
/* manifest_sha256 (may be NULL) gets the dataset's identity. A dataset without a training token is
 * SEO_ERR_USAGE. After success or failure only close may follow. */
seo_err seo_dataset_writer_commit(seo_dataset_writer *writer, const seo_dataset_origin *origin,
                                  char manifest_sha256[SEO_SHA256_HEX]);

/* Releases; without a commit it removes the temporary files. NULL is fine. */
void seo_dataset_writer_close(seo_dataset_writer *writer);

#ifdef __cplusplus
}
#endif
