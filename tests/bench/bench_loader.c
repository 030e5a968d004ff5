/* Windows a second: of the dataset at random places, of the loader, and what writing, opening and
 * verifying cost. usage: bench_loader [TOKENS (default 67108864)] [SEQUENCE (default 1024)] */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/file.h"
#include "base/log.h"
#include "base/progress.h"
#include "data/dataset.h"
#include "data/dataset_writer.h"
#include "data/loader.h"
#include "data/verify.h"

enum { VOCABULARY = 50257, DOCUMENT = 1000, BATCH = 32, ROUNDS = 3 };

static seo_err build(const char *folder, int64_t tokens) {
    seo_err err = SEO_OK;
    seo_dataset_writer *writer = NULL;
    char sha256[SEO_SHA256_HEX], path[] = "generated";
    int32_t ids[DOCUMENT];
    uint32_t state = 1;
    seo_manifest_source source = {.path = path};
    seo_sha256_hex("", 0, sha256);
    memcpy(source.sha256, sha256, sizeof sha256);
    SEO_TRY(seo_dataset_writer_open(
        &(seo_dataset_writer_args){
            .folder = folder, .vocab_size = VOCABULARY, .eot_id = 0, .tokenizer_sha256 = sha256},
        &writer));
    const double start_s = seo_clock_s();
    for (int64_t at = 0; at < tokens; at += DOCUMENT) {
        for (int64_t i = 0; i < DOCUMENT; i++) {
            state = state * 1664525u + 1013904223u;
            ids[i] = (int32_t)((state >> 8) % VOCABULARY);
        }
        const seo_document document = {.ids = ids, .count = DOCUMENT, .text_bytes = 4 * DOCUMENT};
        SEO_TRY(seo_dataset_writer_add(writer, SEO_SPLIT_TRAIN, &document));
    }
    const double added_s = seo_clock_s();
    const seo_dataset_origin origin = {.sources = &source, .source_count = 1, .provenance = "{}"};
    SEO_TRY(seo_dataset_writer_commit(writer, &origin, NULL));
    const double end_s = seo_clock_s();
    printf("write: %.2f s for %" PRId64 " tokens to the writer, %.2f s for the commit (write the "
           "last shard, seal, hash, verify, fsync, rename)\n",
           added_s - start_s, tokens, end_s - added_s);
done:
    seo_dataset_writer_close(writer);
    return err;
}

static seo_err random_windows(seo_dataset *ds, int64_t seq_len) {
    seo_err err = SEO_OK;
    seo_permutation p;
    const int64_t windows = seo_dataset_windows(ds, seq_len);
    int32_t *out = malloc((size_t)(seq_len + 1) * sizeof *out);
    if (out == NULL) return SEO_FAIL(SEO_ERR_MEMORY, "no memory");
    for (uint64_t round = 0; round < ROUNDS; round++) {
        seo_permutation_init(&p, (uint64_t)windows, 1, 0, round);
        const double start_s = seo_clock_s();
        for (int64_t w = 0; w < windows; w++) {
            const int64_t at = (int64_t)seo_permutation_at(&p, (uint64_t)w);
            SEO_TRY(seo_dataset_read(ds, at * seq_len, seq_len + 1, out));
        }
        const double seconds = seo_clock_s() - start_s;
        printf("dataset: %.0f random windows/s of %" PRId64 " tokens, %.2f GB/s%s\n",
               (double)windows / seconds, seq_len, 2e-9 * (double)(windows * seq_len) / seconds,
               round == 0 ? " (checking each block)" : "");
    }
done:
    free(out);
    return err;
}

static seo_err loader_windows(seo_dataset *ds, int64_t seq_len) {
    seo_err err = SEO_OK;
    seo_loader *loader = NULL;
    seo_batch batch;
    const int64_t steps = seo_dataset_windows(ds, seq_len) / BATCH;
    SEO_TRY(seo_loader_open(&(seo_loader_args){.datasets = &ds,
                                               .dataset_count = 1,
                                               .seq_len = seq_len,
                                               .batch_sequences = BATCH,
                                               .local_count = BATCH,
                                               .shuffle = true,
                                               .prefetch = 4},
                            &loader));
    for (int64_t round = 0; round < ROUNDS; round++) {
        const double start_s = seo_clock_s();
        for (int64_t step = 0; step < steps; step++) {
            SEO_TRY(seo_loader_get(loader, round * steps + step, &batch));
        }
        printf("loader: %.0f windows/s in batches of %d\n",
               (double)(steps * BATCH) / (seo_clock_s() - start_s), (int)BATCH);
    }
done:
    seo_loader_close(loader);
    return err;
}

static void ignore(void *context, const char *message) {
    (void)context;
    (void)message;
}

static seo_err measure(const char *folder, int64_t tokens, int64_t seq_len) {
    seo_err err = SEO_OK;
    seo_dataset *ds = NULL;
    seo_verify_result result;
    SEO_TRY(build(folder, tokens));
    double start_s = seo_clock_s();
    SEO_TRY(seo_dataset_open(folder, "train", &ds));
    printf("open: %.4f s\n", seo_clock_s() - start_s);
    SEO_TRY(random_windows(ds, seq_len));
    SEO_TRY(loader_windows(ds, seq_len));
    start_s = seo_clock_s();
    SEO_TRY(seo_dataset_verify(
        &(seo_verify_args){.folder = folder, .on_damage = ignore, .on_notice = ignore}, &result));
    printf("verify: %.2f GB/s, %" PRId64 " damages\n",
           1e-9 * (double)result.bytes / (seo_clock_s() - start_s), result.damages);
done:
    seo_dataset_close(ds);
    return err;
}

int main(int argc, char **argv) {
    const int64_t tokens = argc > 1 ? atoll(argv[1]) : INT64_C(1) << 26;
    const int64_t seq_len = argc > 2 ? atoll(argv[2]) : 1024;
    char folder[] = "seodang-bench-XXXXXX";
    if (tokens < 2 || seq_len < 1 || mkdtemp(folder) == NULL) return 2;
    const seo_err err = measure(folder, tokens, seq_len);
    if (err != SEO_OK) seo_log_failure();
    if (seo_dir_remove(folder) != SEO_OK) seo_log_failure();
    return err == SEO_OK ? 0 : 1;
}
