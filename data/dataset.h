/* A built dataset opened for reading: the manifest of a folder and the token shards of one split.
 *
 * Tokens of a split are one sequence of token_count ids, over all its shards in manifest order.
 * Every block of 65,536 tokens is checked against its CRC-32C when it is first touched; damage is
 * SEO_ERR_FORMAT naming shard and block. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/hash.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_dataset seo_dataset;

/* split: "train" or "held-out". Opening checks the manifest, every shard's attributes and sizes;
 * not yet the tokens. */
seo_err seo_dataset_open(const char *folder, const char *split, seo_dataset **out);
void seo_dataset_close(seo_dataset *ds);

typedef struct seo_dataset_info {
    int64_t token_count, document_count,
        byte_count; /* byte_count: of the text the tokens came from */
    int64_t vocab_size, shard_count, source_count;
    int32_t eot_id;
    char tokenizer_sha256[SEO_SHA256_HEX];
    char manifest_sha256[SEO_SHA256_HEX]; /* a checkpoint stores it: another dataset is another run
                                           */
} seo_dataset_info;
seo_dataset_info seo_dataset_info_get(const seo_dataset *ds);

/* Path of source s of [0, source_count), as given to `data build`. */
const char *seo_dataset_source(const seo_dataset *ds, int64_t source);

/* "FOLDER (train)": names the dataset in messages. */
const char *seo_dataset_name(const seo_dataset *ds);

/* Copies tokens [first, first + count) of the split to out. Thread safe. */
seo_err seo_dataset_read(seo_dataset *ds, int64_t first, int64_t count, int32_t *out);

/* Asks the system to bring tokens [first, first + count) into memory; does not wait. */
void seo_dataset_prefetch(const seo_dataset *ds, int64_t first, int64_t count);

/* The document that holds token `at`: its place in the split, its token range and its source. */
typedef struct seo_document_span {
    int64_t index; /* of [0, document_count) */
    int64_t first_token, token_count, source;
} seo_document_span;
seo_err seo_dataset_document_at(seo_dataset *ds, int64_t at, seo_document_span *out);

/* Windows of seq_len + 1 tokens that share their borders: (token_count - 1) / seq_len. Window w is
 * tokens [w * seq_len, (w + 1) * seq_len]. */
int64_t seo_dataset_windows(const seo_dataset *ds, int64_t seq_len);

#ifdef __cplusplus
}
#endif
