/* What the writer and the reader of shards must agree on. Private to the shard. */
#pragma once

#include <hdf5.h>
#include <stdint.h>

#include "base/file.h"
#include "base/hash.h"
#include "data/h5.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SEO_SHARD_FORMAT "seodang-shard"

/* The datasets, without data. */
seo_h5_array seo_shard_tokens_array(int64_t token_bytes, int64_t count);
seo_h5_array seo_shard_offsets_array(int64_t document_count);
seo_h5_array seo_shard_source_array(int64_t document_count);
seo_h5_array seo_shard_hash_array(int64_t document_count);
seo_h5_array seo_shard_crc_array(int64_t block_count);

/* XXH3-128 over the hashes of the bytes before and after the tokens. */
void seo_shard_guard(const seo_map *file, int64_t token_offset, int64_t token_bytes,
                     char out[SEO_XXH128_HEX]);

#ifdef __cplusplus
}
#endif
