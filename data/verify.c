#include "data/verify.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/progress.h"
#include "data/manifest.h"
#include "data/shard.h"

enum { HASH_STEP_BYTES = 1 << 22 };

typedef struct verify {
    const seo_verify_args *args;
    seo_verify_result *result;
    seo_manifest manifest;
    seo_progress progress;
    int64_t bytes_before; /* of the files done */
} verify;

static void damage(verify *v, const char *message) {
    v->result->damages++;
    v->args->on_damage(v->args->context, message);
}

__attribute__((format(printf, 2, 3))) static void notice(verify *v, const char *fmt, ...) {
    char message[SEO_PATH_MAX + 256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    v->args->on_notice(v->args->context, message);
}

static seo_err check_sha256(verify *v, const char *path, const seo_manifest_shard *entry) {
    seo_map map = {0};
    seo_sha256 state;
    char hex[SEO_SHA256_HEX];
    const seo_err err = seo_map_open(path, &map);
    if (err != SEO_OK) return err;
    seo_sha256_init(&state);
    for (int64_t at = 0; at < map.bytes; at += HASH_STEP_BYTES) {
        const int64_t step = seo_min_i64(HASH_STEP_BYTES, map.bytes - at);
        seo_sha256_add(&state, map.data + at, (size_t)step);
        seo_progress_update(&v->progress, v->bytes_before + at + step);
    }
    v->result->bytes += map.bytes;
    seo_map_close(&map);
    seo_sha256_end_hex(&state, hex);
    if (strcmp(hex, entry->sha256) == 0) return SEO_OK;
    return SEO_FAIL(SEO_ERR_FORMAT, "%s: its SHA-256 is %s, the manifest says %s", path, hex,
                    entry->sha256);
}

/* The blocks of an open shard; the number of damaged ones. */
static int64_t check_blocks(verify *v, const seo_shard *shard) {
    int64_t bad = 0;
    for (int64_t b = 0; b < seo_shard_blocks(shard); b++) {
        v->result->blocks++;
        if (seo_shard_check_block(shard, b) == SEO_OK) continue;
        bad++;
        damage(v, seo_err_detail());
    }
    return bad;
}

/* Blocks first: they tell where the damage is. The file's hash speaks only when they found none. */
static void check_shard(verify *v, const char *path, const seo_manifest_shard *entry) {
    seo_shard *shard = NULL;
    v->result->shards++;
    if (seo_shard_open(path, &v->manifest, entry, &shard) != SEO_OK) {
        damage(v, seo_err_detail());
    } else {
        const int64_t bad = check_blocks(v, shard);
        seo_shard_close(shard);
        const seo_err err = check_sha256(v, path, entry);
        if (err != SEO_OK && bad == 0) damage(v, seo_err_detail());
    }
    v->bytes_before += entry->bytes;
    seo_progress_update(&v->progress, v->bytes_before);
}

static seo_err check_tokenizer(verify *v) {
    seo_err err = SEO_OK;
    char path[SEO_PATH_MAX];
    char hex[SEO_SHA256_HEX];
    seo_path_kind kind = SEO_PATH_NONE;
    SEO_TRY(seo_path_join(path, v->args->folder, SEO_TOKENIZER_NAME));
    SEO_TRY(seo_path_look(path, &kind));
    if (kind == SEO_PATH_NONE) {
        notice(v, "%s: is not there; text cannot be made from this dataset's ids without it", path);
        goto done;
    }
    err = seo_file_sha256_hex(path, hex);
    if (err != SEO_OK) {
        damage(v, seo_err_detail());
        err = SEO_OK;
    } else if (strcmp(hex, v->manifest.tokenizer_sha256) != 0) {
        SEO_FAIL(SEO_ERR_FORMAT,
                 "%s: is not the tokenizer this dataset was made with: its SHA-256 is %s, the "
                 "manifest says %s",
                 path, hex, v->manifest.tokenizer_sha256);
        damage(v, seo_err_detail());
    }
done:
    return err;
}

static bool is_named(const seo_manifest *manifest, const char *name) {
    if (strcmp(name, SEO_MANIFEST_NAME) == 0 || strcmp(name, SEO_TOKENIZER_NAME) == 0) return true;
    for (int64_t i = 0; i < manifest->shard_count; i++) {
        if (strcmp(name, manifest->shards[i].file) == 0) return true;
    }
    return false;
}

static seo_err find_strangers(verify *v) {
    seo_names names = {0};
    const seo_err err = seo_dir_list(v->args->folder, &names);
    if (err != SEO_OK) return err;
    for (int64_t i = 0; i < names.count; i++) {
        if (is_named(&v->manifest, names.items[i])) continue;
        notice(v, "%s/%s: is not part of the dataset", v->args->folder, names.items[i]);
    }
    seo_names_free(&names);
    return SEO_OK;
}

seo_err seo_dataset_verify(const seo_verify_args *args, seo_verify_result *result) {
    seo_err err = SEO_OK;
    verify v = {.args = args, .result = result};
    char path[SEO_PATH_MAX];
    int64_t bytes = 0;
    *result = (seo_verify_result){0};
    err = seo_manifest_load(args->folder, &v.manifest);
    if (err == SEO_ERR_FORMAT) {
        damage(&v, seo_err_detail());
        return SEO_OK;
    }
    SEO_TRY(err);
    for (int64_t i = 0; i < v.manifest.shard_count; i++) bytes += v.manifest.shards[i].bytes;
    seo_progress_start(&v.progress, "verifying", "bytes", bytes);
    for (int64_t i = 0; i < v.manifest.shard_count; i++) {
        SEO_TRY(seo_path_join(path, args->folder, v.manifest.shards[i].file));
        check_shard(&v, path, &v.manifest.shards[i]);
    }
    seo_progress_end(&v.progress);
    SEO_TRY(check_tokenizer(&v));
    SEO_TRY(find_strangers(&v));
done:
    seo_manifest_free(&v.manifest);
    return err;
}
