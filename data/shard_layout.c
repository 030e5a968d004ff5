#include "data/shard_layout.h"

seo_h5_array seo_shard_tokens_array(int64_t token_bytes, int64_t count) {
    const bool narrow = token_bytes == 2;
    return (seo_h5_array){.name = "tokens",
                          .file_type = narrow ? H5T_STD_U16LE : H5T_STD_U32LE,
                          .memory_type = narrow ? H5T_NATIVE_UINT16 : H5T_NATIVE_UINT32,
                          .count = count};
}

seo_h5_array seo_shard_offsets_array(int64_t document_count) {
    return (seo_h5_array){.name = "doc_offsets",
                          .file_type = H5T_STD_U64LE,
                          .memory_type = H5T_NATIVE_UINT64,
                          .count = document_count + 1};
}

seo_h5_array seo_shard_source_array(int64_t document_count) {
    return (seo_h5_array){.name = "doc_source",
                          .file_type = H5T_STD_U32LE,
                          .memory_type = H5T_NATIVE_UINT32,
                          .count = document_count};
}

seo_h5_array seo_shard_hash_array(int64_t document_count) {
    return (seo_h5_array){.name = "doc_hash",
                          .file_type = H5T_STD_U64LE,
                          .memory_type = H5T_NATIVE_UINT64,
                          .count = document_count};
}

seo_h5_array seo_shard_crc_array(int64_t block_count) {
    return (seo_h5_array){.name = "block_crc32c",
                          .file_type = H5T_STD_U32LE,
                          .memory_type = H5T_NATIVE_UINT32,
                          .count = block_count};
}

void seo_shard_guard(const seo_map *file, int64_t token_offset, int64_t token_bytes,
                     char out[SEO_XXH128_HEX]) {
    char parts[2][SEO_XXH128_HEX];
    const int64_t end = token_offset + token_bytes;
    seo_xxh128_hex(file->data, (size_t)token_offset, parts[0]);
    seo_xxh128_hex(file->data + end, (size_t)(file->bytes - end), parts[1]);
    seo_xxh128_hex(parts, sizeof parts, out);
}
