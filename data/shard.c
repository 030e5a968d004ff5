#include "data/shard.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/check.h"
#include "base/file.h"
#include "data/h5.h"
#include "data/shard_layout.h"

/* The map and the tables never change after open; only `checked` does, bit by bit. */
struct seo_shard {
    char *path;
    seo_map map;
    const unsigned char *tokens; /* inside the map */
    int64_t token_count, token_bytes, token_offset;
    int64_t document_count, block_count;
    int64_t vocab_size;
    uint64_t *doc_offsets, *doc_hash;
    uint32_t *doc_source, *block_crc;
    atomic_uint_least64_t *checked; /* a bit per block */
};

void seo_shard_close(seo_shard *shard) {
    if (shard == NULL) return;
    seo_map_close(&shard->map);
    free(shard->path);
    free(shard->doc_offsets);
    free(shard->doc_hash);
    free(shard->doc_source);
    free(shard->block_crc);
    free(shard->checked);
    free(shard);
}

/* ---- opening ---- */

/* The file under this name may be a whole shard of the same dataset: say so. */
static seo_err fail_guard(const char *path, const seo_map *map, const seo_manifest *manifest,
                          const seo_manifest_shard *entry) {
    const int64_t width = seo_shard_token_bytes(manifest->vocab_size);
    for (int64_t i = 0; i < manifest->shard_count; i++) {
        const seo_manifest_shard *other = &manifest->shards[i];
        char guard[SEO_XXH128_HEX];
        if (other == entry || other->bytes != map->bytes) continue;
        seo_shard_guard(map, other->token_offset, other->token_count * width, guard);
        if (strcmp(guard, other->guard_xxh128) == 0) {
            return SEO_FAIL(SEO_ERR_FORMAT,
                            "%s: holds the content of %s: the files were swapped; rename them back",
                            path, other->file);
        }
    }
    return SEO_FAIL(SEO_ERR_FORMAT,
                    "%s: damaged, or a shard of another dataset: bytes 0 to %" PRId64
                    " and from %" PRId64 " (all but its tokens) do not match the manifest; restore "
                    "the file, or build the dataset again",
                    path, entry->token_offset, entry->token_offset + entry->token_count * width);
}

static seo_err check_file(const char *path, const seo_map *map, const seo_manifest *manifest,
                          const seo_manifest_shard *entry) {
    char guard[SEO_XXH128_HEX];
    if (map->bytes != entry->bytes) {
        for (int64_t i = 0; i < manifest->shard_count; i++) {
            if (manifest->shards[i].bytes == map->bytes) {
                return fail_guard(path, map, manifest, entry);
            }
        }
        return SEO_FAIL(SEO_ERR_FORMAT,
                        "%s: has %" PRId64 " bytes, the manifest says %" PRId64
                        ": %s; restore the file, or build the dataset again",
                        path, map->bytes, entry->bytes,
                        map->bytes < entry->bytes ? "truncated, or a shard of another dataset"
                                                  : "a shard of another dataset, or appended to");
    }
    const int64_t width = seo_shard_token_bytes(manifest->vocab_size);
    seo_shard_guard(map, entry->token_offset, entry->token_count * width, guard);
    if (strcmp(guard, entry->guard_xxh128) == 0) return SEO_OK;
    return fail_guard(path, map, manifest, entry);
}

static seo_err check_int(hid_t file, const char *path, const char *key, int64_t expected) {
    int64_t value = 0;
    const seo_err err = seo_h5_get_int(file, path, key, &value);
    if (err != SEO_OK) return err;
    if (value == expected) return SEO_OK;
    return SEO_FAIL(SEO_ERR_FORMAT, "%s: its %s is %" PRId64 ", %" PRId64 " was expected", path,
                    key, value, expected);
}

static seo_err check_string(hid_t file, const char *path, const char *key, const char *expected) {
    char value[128];
    const seo_err err = seo_h5_get_string(file, path, key, value, sizeof value);
    if (err != SEO_OK) return err;
    if (strcmp(value, expected) == 0) return SEO_OK;
    return SEO_FAIL(SEO_ERR_FORMAT, "%s: its %s is '%s', '%s' was expected", path, key, value,
                    expected);
}

static seo_err check_attributes(hid_t file, const char *path, const seo_manifest *manifest,
                                const seo_manifest_shard *entry) {
    seo_err err = SEO_OK;
    int64_t shard_count = 0;
    for (int64_t i = 0; i < manifest->shard_count; i++) {
        shard_count += manifest->shards[i].split == entry->split;
    }
    SEO_TRY(check_string(file, path, "format", SEO_SHARD_FORMAT));
    SEO_TRY(check_int(file, path, "format_version", SEO_SHARD_FORMAT_VERSION));
    SEO_TRY(check_int(file, path, "complete", 1));
    SEO_TRY(check_int(file, path, "n_tokens", entry->token_count));
    SEO_TRY(check_int(file, path, "n_documents", entry->document_count));
    SEO_TRY(check_int(file, path, "n_bytes", entry->text_bytes));
    SEO_TRY(check_int(file, path, "vocab_size", manifest->vocab_size));
    SEO_TRY(check_int(file, path, "eot_id", manifest->eot_id));
    SEO_TRY(check_int(file, path, "block_tokens", SEO_SHARD_BLOCK_TOKENS));
    SEO_TRY(check_int(file, path, "shard_index", entry->index));
    SEO_TRY(check_int(file, path, "shard_count", shard_count));
    SEO_TRY(check_string(file, path, "tokenizer_sha256", manifest->tokenizer_sha256));
    SEO_TRY(check_string(file, path, "corpus_id", manifest->corpus_id));
    SEO_TRY(check_string(file, path, "split", seo_split_name(entry->split)));
done:
    return err;
}

/* Offsets rise from 0 to the token count, and every source is one the manifest names. */
static seo_err check_documents(const seo_shard *shard, int64_t source_count) {
    const uint64_t *offsets = shard->doc_offsets;
    bool rises = offsets[0] == 0 && offsets[shard->document_count] == (uint64_t)shard->token_count;
    for (int64_t d = 0; d < shard->document_count; d++) {
        rises = rises && offsets[d] < offsets[d + 1];
        if (shard->doc_source[d] >= (uint64_t)source_count) {
            return SEO_FAIL(SEO_ERR_FORMAT,
                            "%s: document %" PRId64 " comes from source %" PRIu32
                            ", the manifest names %" PRId64,
                            shard->path, d, shard->doc_source[d], source_count);
        }
    }
    if (rises) return SEO_OK;
    return SEO_FAIL(SEO_ERR_FORMAT, "%s: /doc_offsets do not rise from 0 to %" PRId64, shard->path,
                    shard->token_count);
}

static seo_err take_tables(seo_shard *shard) {
    const size_t documents = (size_t)shard->document_count, blocks = (size_t)shard->block_count;
    shard->doc_offsets = malloc((documents + 1) * sizeof *shard->doc_offsets);
    shard->doc_hash = malloc(documents * sizeof *shard->doc_hash);
    shard->doc_source = malloc(documents * sizeof *shard->doc_source);
    shard->block_crc = malloc(blocks * sizeof *shard->block_crc);
    shard->checked = calloc(blocks / 64 + 1, sizeof *shard->checked);
    if (shard->doc_offsets == NULL || shard->doc_hash == NULL || shard->doc_source == NULL ||
        shard->block_crc == NULL || shard->checked == NULL) {
        return SEO_FAIL(SEO_ERR_MEMORY, "%s: no memory for its tables", shard->path);
    }
    return SEO_OK;
}

static seo_err read_tables(hid_t file, seo_shard *shard) {
    seo_err err = SEO_OK;
    const char *path = shard->path;
    const int64_t bytes = shard->map.bytes;
    const seo_h5_array offsets = seo_shard_offsets_array(shard->document_count);
    const seo_h5_array source = seo_shard_source_array(shard->document_count);
    const seo_h5_array hash = seo_shard_hash_array(shard->document_count);
    const seo_h5_array crc = seo_shard_crc_array(shard->block_count);
    SEO_TRY(take_tables(shard));
    SEO_TRY(seo_h5_get_array(file, path, &offsets, bytes, shard->doc_offsets));
    SEO_TRY(seo_h5_get_array(file, path, &source, bytes, shard->doc_source));
    SEO_TRY(seo_h5_get_array(file, path, &hash, bytes, shard->doc_hash));
    SEO_TRY(seo_h5_get_array(file, path, &crc, bytes, shard->block_crc));
done:
    return err;
}

/* With libhdf5, after the guard has passed. */
static seo_err parse(seo_shard *shard, const seo_manifest *manifest,
                     const seo_manifest_shard *entry) {
    seo_err err = SEO_OK;
    hid_t file = -1;
    int64_t offset = 0;
    const seo_h5_array tokens = seo_shard_tokens_array(shard->token_bytes, shard->token_count);
    SEO_TRY(seo_h5_open(shard->path, H5F_ACC_RDONLY, &file));
    SEO_TRY(check_attributes(file, shard->path, manifest, entry));
    SEO_TRY(seo_h5_locate(file, shard->path, &tokens, shard->map.bytes, &offset));
    if (offset != entry->token_offset) {
        err = SEO_FAIL(SEO_ERR_FORMAT, "%s: its tokens begin at byte %" PRId64 ", not %" PRId64,
                       shard->path, offset, entry->token_offset);
        goto done;
    }
    SEO_TRY(read_tables(file, shard));
    SEO_TRY(check_documents(shard, manifest->source_count));
done:
    seo_h5_drop(&file);
    return err;
}

seo_err seo_shard_open(const char *path, const seo_manifest *manifest,
                       const seo_manifest_shard *entry, seo_shard **out) {
    seo_err err = SEO_OK;
    *out = NULL;
    seo_shard *shard = calloc(1, sizeof *shard);
    if (shard == NULL) return SEO_FAIL(SEO_ERR_MEMORY, "%s: no memory", path);
    shard->path = strdup(path);
    if (shard->path == NULL) {
        err = SEO_FAIL(SEO_ERR_MEMORY, "%s: no memory", path);
        goto done;
    }
    err = seo_map_open(path, &shard->map);
    if (err == SEO_ERR_MISSING) {
        err = SEO_FAIL(SEO_ERR_MISSING,
                       "%s: the manifest names this shard, but it is not there; restore the file, "
                       "or build the dataset again",
                       path);
    }
    SEO_TRY(err);
    SEO_TRY(check_file(path, &shard->map, manifest, entry));
    shard->vocab_size = manifest->vocab_size;
    shard->token_bytes = seo_shard_token_bytes(manifest->vocab_size);
    shard->token_count = entry->token_count;
    shard->token_offset = entry->token_offset;
    shard->tokens = shard->map.data + entry->token_offset;
    shard->document_count = entry->document_count;
    shard->block_count = seo_div_up(entry->token_count, SEO_SHARD_BLOCK_TOKENS);
    SEO_TRY(parse(shard, manifest, entry));
    *out = shard;
    shard = NULL;
done:
    seo_shard_close(shard);
    return err;
}

/* ---- reading ---- */

static int64_t block_tokens(const seo_shard *shard, int64_t block) {
    return seo_min_i64(SEO_SHARD_BLOCK_TOKENS, shard->token_count - block * SEO_SHARD_BLOCK_TOKENS);
}

/* Tokens are little-endian and so is every machine this builds for; memcpy because the map's
 * alignment is the file's word. */
static void widen(const unsigned char *tokens, int64_t width, int64_t count, int32_t *out) {
    if (width == 2) {
        for (int64_t i = 0; i < count; i++) {
            uint16_t id;
            memcpy(&id, tokens + 2 * i, sizeof id);
            out[i] = id;
        }
    } else {
        memcpy(out, tokens, (size_t)count * sizeof *out);
    }
}

/* The largest id of a block, ids of four bytes taken as unsigned. */
static uint32_t largest_id(const unsigned char *tokens, int64_t width, int64_t count) {
    uint32_t most = 0;
    if (width == 2) {
        uint16_t most16 = 0;
        for (int64_t i = 0; i < count; i++) {
            uint16_t id;
            memcpy(&id, tokens + 2 * i, sizeof id);
            most16 = id > most16 ? id : most16;
        }
        most = most16;
    } else {
        for (int64_t i = 0; i < count; i++) {
            uint32_t id;
            memcpy(&id, tokens + 4 * i, sizeof id);
            most = id > most ? id : most;
        }
    }
    return most;
}

seo_err seo_shard_check_block(const seo_shard *shard, int64_t block) {
    SEO_ASSERT(block >= 0 && block < shard->block_count);
    const int64_t width = shard->token_bytes, count = block_tokens(shard, block);
    const int64_t first = block * SEO_SHARD_BLOCK_TOKENS * width;
    const int64_t begin = shard->token_offset + first, end = begin + count * width;
    const unsigned char *tokens = shard->tokens + first;
    if (seo_crc32c(0, tokens, (size_t)(count * width)) != shard->block_crc[block]) {
        return SEO_FAIL(SEO_ERR_FORMAT,
                        "%s: block %" PRId64 " is damaged (bytes %" PRId64 " to %" PRId64
                        "): restore the file, or build the dataset again",
                        shard->path, block, begin, end);
    }
    const uint32_t most = largest_id(tokens, width, count);
    if (most < (uint64_t)shard->vocab_size) return SEO_OK;
    return SEO_FAIL(SEO_ERR_FORMAT,
                    "%s: block %" PRId64 " (bytes %" PRId64 " to %" PRId64 ") holds id %" PRIu32
                    ", outside the vocabulary of %" PRId64,
                    shard->path, block, begin, end, most, shard->vocab_size);
}

static bool is_checked(const seo_shard *shard, int64_t block) {
    const uint64_t bit = UINT64_C(1) << (block & 63);
    return (atomic_load_explicit(&shard->checked[block >> 6], memory_order_relaxed) & bit) != 0;
}

/* Two threads may both check a block; both find the same. */
static seo_err check_range(seo_shard *shard, int64_t first, int64_t count) {
    const int64_t last = (first + count - 1) / SEO_SHARD_BLOCK_TOKENS;
    for (int64_t b = first / SEO_SHARD_BLOCK_TOKENS; b <= last; b++) {
        if (is_checked(shard, b)) continue;
        const seo_err err = seo_shard_check_block(shard, b);
        if (err != SEO_OK) return err;
        atomic_fetch_or_explicit(&shard->checked[b >> 6], UINT64_C(1) << (b & 63),
                                 memory_order_relaxed);
    }
    return SEO_OK;
}

seo_err seo_shard_read(seo_shard *shard, int64_t first, int64_t count, int32_t *out) {
    if (first < 0 || count < 0 || count > shard->token_count - first) {
        return SEO_FAIL(SEO_ERR_ARG,
                        "%s: tokens %" PRId64 " to %" PRId64 " were asked for, it has %" PRId64,
                        shard->path, first, first + count, shard->token_count);
    }
    if (count == 0) return SEO_OK;
    const seo_err err = check_range(shard, first, count);
    if (err != SEO_OK) return err;
    widen(shard->tokens + first * shard->token_bytes, shard->token_bytes, count, out);
    return SEO_OK;
}

/* A block not yet checked will be read whole. Advice only: what it returns changes nothing. */
void seo_shard_prefetch(const seo_shard *shard, int64_t first, int64_t count) {
    SEO_ASSERT(first >= 0 && count > 0 && count <= shard->token_count - first);
    int64_t end = first + count;
    const int64_t first_block = first / SEO_SHARD_BLOCK_TOKENS;
    const int64_t last_block = (end - 1) / SEO_SHARD_BLOCK_TOKENS;
    if (!is_checked(shard, first_block)) first = first_block * SEO_SHARD_BLOCK_TOKENS;
    if (!is_checked(shard, last_block)) {
        end = last_block * SEO_SHARD_BLOCK_TOKENS + block_tokens(shard, last_block);
    }
    const int64_t page = sysconf(_SC_PAGESIZE);
    const int64_t begin = shard->token_offset + first * shard->token_bytes;
    const int64_t aligned = begin / page * page;
    const int64_t bytes = shard->token_offset + end * shard->token_bytes - aligned;
    const unsigned char *start = shard->map.data + aligned;
    void *address;
    memcpy(&address, &start, sizeof address);
    (void)madvise(address, (size_t)bytes, MADV_WILLNEED);
}

int64_t seo_shard_blocks(const seo_shard *shard) {
    return shard->block_count;
}
const uint64_t *seo_shard_doc_offsets(const seo_shard *shard) {
    return shard->doc_offsets;
}
const uint32_t *seo_shard_doc_source(const seo_shard *shard) {
    return shard->doc_source;
}
const uint64_t *seo_shard_doc_hash(const seo_shard *shard) {
    return shard->doc_hash;
}
