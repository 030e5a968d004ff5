/* The full check of a dataset on disk: every byte of every file, and what the bytes mean. */
#pragma once

#include <stdint.h>

#include "base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_verify_args {
    const char *folder;
    /* Called for each damage found, with file, block and byte range in the message. */
    void (*on_damage)(void *context, const char *message);
    /* Called for what is odd but does no harm: a file that the manifest does not name. */
    void (*on_notice)(void *context, const char *message);
    void *context;
} seo_verify_args;

typedef struct seo_verify_result {
    int64_t shards, blocks, bytes, damages;
} seo_verify_result;

/* Checks the manifest's seal, each shard's size, metadata, tables, blocks, ids and SHA-256, and the
 * tokenizer's SHA-256. Goes on after damage to find all of it. SEO_OK tells that the check was
 * made: look at result->damages. A folder without a dataset is SEO_ERR_MISSING. Shows its progress.
 */
seo_err seo_dataset_verify(const seo_verify_args *args, seo_verify_result *result);

#ifdef __cplusplus
}
#endif
