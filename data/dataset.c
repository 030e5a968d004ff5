#include "data/dataset.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/file.h"
#include "data/manifest.h"
#include "data/shard.h"

struct seo_dataset {
    char *name;
    seo_manifest manifest;
    seo_shard **shards;      /* of this split */
    int64_t *first_token;    /* of each shard in the split, shard_count + 1 */
    int64_t *first_document; /* likewise */
    int64_t shard_count;
    int64_t first_entry; /* of this split in the manifest */
    seo_dataset_info info;
};

void seo_dataset_close(seo_dataset *ds) {
    if (ds == NULL) return;
    for (int64_t i = 0; ds->shards != NULL && i < ds->shard_count; i++) {
        seo_shard_close(ds->shards[i]);
    }
    free(ds->shards);
    free(ds->first_token);
    free(ds->first_document);
    free(ds->name);
    seo_manifest_free(&ds->manifest);
    free(ds);
}

/* The split's shards lie side by side in the manifest. */
static seo_err find_split(seo_dataset *ds, const char *folder, seo_split split) {
    const seo_manifest *m = &ds->manifest;
    for (int64_t i = m->shard_count - 1; i >= 0; i--) {
        if (m->shards[i].split != split) continue;
        ds->first_entry = i;
        ds->shard_count++;
    }
    if (ds->shard_count > 0) return SEO_OK;
    return SEO_FAIL(SEO_ERR_MISSING,
                    "%s: the dataset has no %s split: build it with --held-out above 0 and enough "
                    "text for both splits",
                    folder, seo_split_name(split));
}

static seo_err open_shards(seo_dataset *ds, const char *folder) {
    seo_err err = SEO_OK;
    char path[SEO_PATH_MAX];
    ds->shards = calloc((size_t)ds->shard_count, sizeof(seo_shard *));
    ds->first_token = calloc((size_t)ds->shard_count + 1, sizeof *ds->first_token);
    ds->first_document = calloc((size_t)ds->shard_count + 1, sizeof *ds->first_document);
    if (ds->shards == NULL || ds->first_token == NULL || ds->first_document == NULL) {
        return SEO_FAIL(SEO_ERR_MEMORY, "%s: no memory", folder);
    }
    for (int64_t i = 0; i < ds->shard_count; i++) {
        const seo_manifest_shard *entry = &ds->manifest.shards[ds->first_entry + i];
        SEO_TRY(seo_path_join(path, folder, entry->file));
        SEO_TRY(seo_shard_open(path, &ds->manifest, entry, &ds->shards[i]));
        ds->first_token[i + 1] = ds->first_token[i] + entry->token_count;
        ds->first_document[i + 1] = ds->first_document[i] + entry->document_count;
        ds->info.byte_count += entry->text_bytes;
    }
done:
    return err;
}

static void fill_info(seo_dataset *ds) {
    const seo_manifest *m = &ds->manifest;
    ds->info.token_count = ds->first_token[ds->shard_count];
    ds->info.document_count = ds->first_document[ds->shard_count];
    ds->info.vocab_size = m->vocab_size;
    ds->info.eot_id = m->eot_id;
    ds->info.shard_count = ds->shard_count;
    ds->info.source_count = m->source_count;
    memcpy(ds->info.tokenizer_sha256, m->tokenizer_sha256, SEO_SHA256_HEX);
    memcpy(ds->info.manifest_sha256, m->sha256, SEO_SHA256_HEX);
}

seo_err seo_dataset_open(const char *folder, const char *split, seo_dataset **out) {
    seo_err err = SEO_OK;
    seo_split wanted = SEO_SPLIT_TRAIN;
    *out = NULL;
    seo_dataset *ds = calloc(1, sizeof *ds);
    if (ds == NULL) return SEO_FAIL(SEO_ERR_MEMORY, "%s: no memory", folder);
    SEO_TRY(seo_split_parse(split, &wanted));
    if (asprintf(&ds->name, "%s (%s)", folder, split) < 0) {
        ds->name = NULL;
        err = SEO_FAIL(SEO_ERR_MEMORY, "%s: no memory", folder);
        goto done;
    }
    SEO_TRY(seo_manifest_load(folder, &ds->manifest));
    SEO_TRY(find_split(ds, folder, wanted));
    SEO_TRY(open_shards(ds, folder));
    fill_info(ds);
    *out = ds;
    ds = NULL;
done:
    seo_dataset_close(ds);
    return err;
}

seo_dataset_info seo_dataset_info_get(const seo_dataset *ds) {
    return ds->info;
}
const char *seo_dataset_name(const seo_dataset *ds) {
    return ds->name;
}

const char *seo_dataset_source(const seo_dataset *ds, int64_t source) {
    SEO_ASSERT(source >= 0 && source < ds->manifest.source_count);
    return ds->manifest.sources[source].path;
}

/* The shard that holds token `at`. */
static int64_t shard_of(const seo_dataset *ds, int64_t at) {
    int64_t low = 0, high = ds->shard_count; /* first_token[low] <= at < first_token[high] */
    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        if (ds->first_token[middle] <= at) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

static bool is_inside(const seo_dataset *ds, int64_t first, int64_t count) {
    return first >= 0 && count >= 0 && first <= ds->info.token_count &&
           count <= ds->info.token_count - first;
}

seo_err seo_dataset_read(seo_dataset *ds, int64_t first, int64_t count, int32_t *out) {
    if (!is_inside(ds, first, count)) {
        return SEO_FAIL(SEO_ERR_ARG,
                        "%s: tokens from %" PRId64 " on, %" PRId64
                        " of them, were asked for; it has "
                        "%" PRId64,
                        ds->name, first, count, ds->info.token_count);
    }
    for (int64_t s = shard_of(ds, first); count > 0; s++) {
        const int64_t part = seo_min_i64(count, ds->first_token[s + 1] - first);
        const seo_err err = seo_shard_read(ds->shards[s], first - ds->first_token[s], part, out);
        if (err != SEO_OK) return err;
        first += part;
        count -= part;
        out += part;
    }
    return SEO_OK;
}

void seo_dataset_prefetch(const seo_dataset *ds, int64_t first, int64_t count) {
    SEO_ASSERT(is_inside(ds, first, count));
    for (int64_t s = shard_of(ds, first); count > 0; s++) {
        const int64_t part = seo_min_i64(count, ds->first_token[s + 1] - first);
        seo_shard_prefetch(ds->shards[s], first - ds->first_token[s], part);
        first += part;
        count -= part;
    }
}

seo_err seo_dataset_document_at(seo_dataset *ds, int64_t at, seo_document_span *out) {
    if (at < 0 || at >= ds->info.token_count) {
        return SEO_FAIL(SEO_ERR_ARG, "%s: has no token %" PRId64 ", only %" PRId64, ds->name, at,
                        ds->info.token_count);
    }
    const int64_t s = shard_of(ds, at);
    const uint64_t *offsets = seo_shard_doc_offsets(ds->shards[s]);
    const uint64_t inside = (uint64_t)(at - ds->first_token[s]);
    int64_t low = 0, high = ds->manifest.shards[ds->first_entry + s].document_count;
    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        if (offsets[middle] <= inside) {
            low = middle;
        } else {
            high = middle;
        }
    }
    *out = (seo_document_span){.index = ds->first_document[s] + low,
                               .first_token = ds->first_token[s] + (int64_t)offsets[low],
                               .token_count = (int64_t)(offsets[low + 1] - offsets[low]),
                               .source = seo_shard_doc_source(ds->shards[s])[low]};
    return SEO_OK;
}

int64_t seo_dataset_windows(const seo_dataset *ds, int64_t seq_len) {
    SEO_ASSERT(seq_len > 0);
    return (ds->info.token_count - 1) / seq_len;
}
