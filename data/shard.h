/* The token shard: one HDF5 file, written once and then read through a map.
 *
 *   /tokens        uint16 LE (uint32 for vocabularies over 65,535), contiguous, aligned to 4096
 *   /doc_offsets   uint64[documents + 1]    /doc_source uint32[documents]    /doc_hash
 * uint64[documents] /block_crc32c  uint32[ceil(tokens / 65536)] /provenance    sources and build:
 * JSON texts root attributes: format, format_version, counts, vocab_size, eot_id, tokenizer_sha256,
 * split, shard_index, shard_count, corpus_id, and complete = 1, written last
 *
 * Written in two steps: the data when a shard is full, its identity when the whole corpus is known.
 * No time stamp is kept and the format version is pinned, so equal content gives equal bytes.
 *
 * Every byte is checked before it is used: all but the tokens against a hash from the manifest
 * before libhdf5 sees the file (1.10 can crash on damaged metadata), the tokens block by block on
 * first touch. Refused: a shard without that hash, and tokens that are chunked or compressed
 * (random windows through H5Dread are twenty times slower than a map). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "data/manifest.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { SEO_SHARD_BLOCK_TOKENS = 65536, SEO_SHARD_FORMAT_VERSION = 1 };

/* Bytes of a stored token: 2 up to a vocabulary of 65,535, else 4. */
static inline int64_t seo_shard_token_bytes(int64_t vocab_size) {
    return vocab_size > 65535 ? 4 : 2;
}

/* A shard's content, complete in memory; borrowed. */
typedef struct seo_shard_data {
    const void *tokens;          /* uint16_t or uint32_t, by seo_shard_token_bytes */
    const uint64_t *doc_offsets; /* document_count + 1: from 0 to token_count, rising */
    const uint32_t *doc_source;
    const uint64_t *doc_hash;
    int64_t token_count, document_count; /* both > 0 */
    int64_t token_bytes;                 /* 2 or 4 */
} seo_shard_data;
/* Writes the datasets to a new file at `path`, replacing what is there. Not yet a shard: seal it.
 * content_xxh128 gets the hash of all four arrays, of which the corpus id is made. */
seo_err seo_shard_write(const char *path, const seo_shard_data *data,
                        char content_xxh128[SEO_XXH128_HEX]);

/* What a shard says about itself and its corpus. */
typedef struct seo_shard_identity {
    seo_split split;
    int64_t shard_index, shard_count; /* within the split */
    int64_t token_count, document_count, text_bytes;
    int64_t vocab_size;
    int32_t eot_id;
    const char *tokenizer_sha256, *corpus_id;
    const char *sources;    /* JSON array of path, sha256, bytes */
    const char *provenance; /* JSON object */
} seo_shard_identity;
/* Adds identity and the mark of completeness to a written file and syncs it. */
seo_err seo_shard_seal(const char *path, const seo_shard_identity *identity);

/* Fills entry->bytes, token_offset and both hashes from a sealed file at `path`, and token_count,
 * document_count, text_bytes, split and index from its attributes. */
seo_err seo_shard_measure(const char *path, seo_manifest_shard *entry);

/* A shard opened for reading. */
typedef struct seo_shard seo_shard;

/* `path` is checked against its manifest entry: size, guard hash, then every attribute, type,
 * layout and range, and the CRCs of the small datasets. */
seo_err seo_shard_open(const char *path, const seo_manifest *manifest,
                       const seo_manifest_shard *entry, seo_shard **out);
void seo_shard_close(seo_shard *shard);

/* Copies tokens [first, first + count) of the shard. Thread safe. Each block is checked when first
 * touched: damage is SEO_ERR_FORMAT naming file, block and byte range. */
seo_err seo_shard_read(seo_shard *shard, int64_t first, int64_t count, int32_t *out);
/* Asks the system to bring tokens [first, first + count) into memory; does not wait. */
void seo_shard_prefetch(const seo_shard *shard, int64_t first, int64_t count);

int64_t seo_shard_blocks(const seo_shard *shard);
/* Checks one block whether or not it was checked before: CRC and that every id is < vocab_size. */
seo_err seo_shard_check_block(const seo_shard *shard, int64_t block);

const uint64_t *seo_shard_doc_offsets(const seo_shard *shard); /* document_count + 1 */
const uint32_t *seo_shard_doc_source(const seo_shard *shard);
const uint64_t *seo_shard_doc_hash(const seo_shard *shard);

#ifdef __cplusplus
}
#endif
