/* Writing a shard: data first, identity when the corpus is known, then measured for the manifest.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/file.h"
#include "data/h5.h"
#include "data/shard.h"
#include "data/shard_layout.h"

static uint32_t array_crc(const void *data, int64_t count, int64_t width) {
    return seo_crc32c(0, data, (size_t)(count * width));
}

static seo_err put_small(hid_t file, const char *path, const seo_h5_array *array,
                         const void *data) {
    const int64_t width = (int64_t)H5Tget_size(array->memory_type);
    const uint32_t crc = array_crc(data, array->count, width);
    return seo_h5_put_array(file, path, array, data, &crc);
}

static void block_crcs(const seo_shard_data *data, uint32_t *crcs) {
    const unsigned char *tokens = data->tokens;
    const int64_t blocks = seo_div_up(data->token_count, SEO_SHARD_BLOCK_TOKENS);
    for (int64_t b = 0; b < blocks; b++) {
        const int64_t first = b * SEO_SHARD_BLOCK_TOKENS;
        const int64_t count = seo_min_i64(SEO_SHARD_BLOCK_TOKENS, data->token_count - first);
        crcs[b] = array_crc(tokens + first * data->token_bytes, count, data->token_bytes);
    }
}

/* One hash for the content of all arrays: the hash of their hashes. */
static void hash_content(const seo_shard_data *data, char out[SEO_XXH128_HEX]) {
    char each[4][SEO_XXH128_HEX];
    const int64_t documents = data->document_count;
    seo_xxh128_hex(data->tokens, (size_t)(data->token_count * data->token_bytes), each[0]);
    seo_xxh128_hex(data->doc_offsets, (size_t)(documents + 1) * sizeof(uint64_t), each[1]);
    seo_xxh128_hex(data->doc_source, (size_t)documents * sizeof(uint32_t), each[2]);
    seo_xxh128_hex(data->doc_hash, (size_t)documents * sizeof(uint64_t), each[3]);
    seo_xxh128_hex(each, sizeof each, out);
}

static seo_err put_data(hid_t file, const char *path, const seo_shard_data *data,
                        const uint32_t *crcs) {
    seo_err err = SEO_OK;
    const int64_t documents = data->document_count;
    const seo_h5_array tokens = seo_shard_tokens_array(data->token_bytes, data->token_count);
    const seo_h5_array offsets = seo_shard_offsets_array(documents);
    const seo_h5_array source = seo_shard_source_array(documents);
    const seo_h5_array hash = seo_shard_hash_array(documents);
    const seo_h5_array crc =
        seo_shard_crc_array(seo_div_up(data->token_count, SEO_SHARD_BLOCK_TOKENS));
    SEO_TRY(seo_h5_put_array(file, path, &tokens, data->tokens, NULL));
    SEO_TRY(put_small(file, path, &offsets, data->doc_offsets));
    SEO_TRY(put_small(file, path, &source, data->doc_source));
    SEO_TRY(put_small(file, path, &hash, data->doc_hash));
    SEO_TRY(put_small(file, path, &crc, crcs));
done:
    return err;
}

seo_err seo_shard_write(const char *path, const seo_shard_data *data,
                        char content_xxh128[SEO_XXH128_HEX]) {
    seo_err err = SEO_OK;
    hid_t file = -1;
    const int64_t blocks = seo_div_up(data->token_count, SEO_SHARD_BLOCK_TOKENS);
    SEO_ASSERT(data->token_count > 0 && data->document_count > 0);
    SEO_ASSERT(data->token_bytes == 2 || data->token_bytes == 4);
    uint32_t *crcs = malloc((size_t)blocks * sizeof *crcs);
    if (crcs == NULL) return SEO_FAIL(SEO_ERR_MEMORY, "%s: no memory for checksums", path);
    block_crcs(data, crcs);
    /* Of what is in a shard, the tokens should be aligned; in a small one, so is the rest. */
    const int64_t token_bytes = data->token_count * data->token_bytes;
    SEO_TRY(seo_h5_create(path, seo_min_i64(token_bytes, 65536), &file));
    SEO_TRY(put_data(file, path, data, crcs));
    SEO_TRY(seo_h5_close(path, &file));
    hash_content(data, content_xxh128);
done:
    seo_h5_drop(&file);
    free(crcs);
    return err;
}

static seo_err put_provenance(hid_t file, const char *path, const seo_shard_identity *identity) {
    seo_err err = SEO_OK;
    hid_t group = -1;
    SEO_TRY(seo_h5_make_group(file, path, "provenance", &group));
    SEO_TRY(seo_h5_put_text(group, path, "sources", identity->sources));
    SEO_TRY(seo_h5_put_text(group, path, "build", identity->provenance));
done:
    if (group >= 0 && H5Gclose(group) < 0 && err == SEO_OK) {
        err = seo_h5_fail(SEO_ERR_IO, path, "provenance");
    }
    return err;
}

static seo_err put_identity(hid_t file, const char *path, const seo_shard_identity *identity) {
    seo_err err = SEO_OK;
    const struct {
        const char *key;
        int64_t value;
    } ints[] = {
        {"format_version", SEO_SHARD_FORMAT_VERSION}, {"n_tokens", identity->token_count},
        {"n_documents", identity->document_count},    {"n_bytes", identity->text_bytes},
        {"vocab_size", identity->vocab_size},         {"eot_id", identity->eot_id},
        {"block_tokens", SEO_SHARD_BLOCK_TOKENS},     {"shard_index", identity->shard_index},
        {"shard_count", identity->shard_count},
    };
    SEO_TRY(seo_h5_put_string(file, path, "format", SEO_SHARD_FORMAT));
    for (int64_t i = 0; i < SEO_COUNT_OF(ints); i++) {
        SEO_TRY(seo_h5_put_int(file, path, ints[i].key, ints[i].value));
    }
    SEO_TRY(seo_h5_put_string(file, path, "tokenizer_sha256", identity->tokenizer_sha256));
    SEO_TRY(seo_h5_put_string(file, path, "corpus_id", identity->corpus_id));
    SEO_TRY(seo_h5_put_string(file, path, "split", seo_split_name(identity->split)));
done:
    return err;
}

/* The mark of completeness goes in only after all else was flushed. */
seo_err seo_shard_seal(const char *path, const seo_shard_identity *identity) {
    seo_err err = SEO_OK;
    hid_t file = -1;
    SEO_TRY(seo_h5_open(path, H5F_ACC_RDWR, &file));
    SEO_TRY(put_provenance(file, path, identity));
    SEO_TRY(put_identity(file, path, identity));
    if (H5Fflush(file, H5F_SCOPE_GLOBAL) < 0) {
        err = seo_h5_fail(SEO_ERR_IO, path, "cannot be written");
        goto done;
    }
    SEO_TRY(seo_h5_put_int(file, path, "complete", 1));
    SEO_TRY(seo_h5_close(path, &file));
    SEO_TRY(seo_file_sync(path));
done:
    seo_h5_drop(&file);
    return err;
}

static seo_err measure_attributes(hid_t file, const char *path, seo_manifest_shard *entry,
                                  int64_t *vocab_size) {
    seo_err err = SEO_OK;
    char split[32];
    SEO_TRY(seo_h5_get_string(file, path, "split", split, sizeof split));
    SEO_TRY(seo_split_parse(split, &entry->split));
    SEO_TRY(seo_h5_get_int(file, path, "shard_index", &entry->index));
    SEO_TRY(seo_h5_get_int(file, path, "n_tokens", &entry->token_count));
    SEO_TRY(seo_h5_get_int(file, path, "n_documents", &entry->document_count));
    SEO_TRY(seo_h5_get_int(file, path, "n_bytes", &entry->text_bytes));
    SEO_TRY(seo_h5_get_int(file, path, "vocab_size", vocab_size));
done:
    return err;
}

seo_err seo_shard_measure(const char *path, seo_manifest_shard *entry) {
    seo_err err = SEO_OK;
    hid_t file = -1;
    seo_map map = {0};
    int64_t vocab_size = 0;
    SEO_TRY(seo_map_open(path, &map));
    SEO_TRY(seo_h5_open(path, H5F_ACC_RDONLY, &file));
    SEO_TRY(measure_attributes(file, path, entry, &vocab_size));
    const int64_t width = seo_shard_token_bytes(vocab_size);
    const seo_h5_array tokens = seo_shard_tokens_array(width, entry->token_count);
    SEO_TRY(seo_h5_locate(file, path, &tokens, map.bytes, &entry->token_offset));
    entry->bytes = map.bytes;
    seo_sha256_hex(map.data, (size_t)map.bytes, entry->sha256);
    seo_shard_guard(&map, entry->token_offset, entry->token_count * width, entry->guard_xxh128);
done:
    seo_h5_drop(&file);
    seo_map_close(&map);
    return err;
}
