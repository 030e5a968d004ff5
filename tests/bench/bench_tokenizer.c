/* How fast texts are encoded, and a tokenizer learned.
 *
 * usage: bench_tokenizer TOKENIZER TEXT [VOCAB_SIZE [THREADS]]
 *
 * Encoding: the text is repeated to 20 MB at least; each try has a new encoder, whose cache is
 * empty. The best of five tries counts. Learning, where a size is given: counting and merging. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/progress.h"
#include "data/bpe_train.h"
#include "data/tokenizer.h"

enum { TRIES = 5, TEXT_BYTES_MIN = 20000000 };

static seo_err bench_encode(const seo_tokenizer *tok, const char *text, int64_t bytes) {
    seo_encoder *enc = NULL;
    seo_ids ids = {0};
    seo_err err = SEO_OK;
    double best = 1e30;
    for (int i = 0; i < TRIES; i++) {
        ids.count = 0;
        double start = seo_clock_s();
        SEO_TRY(seo_encoder_open(tok, &enc));
        SEO_TRY(seo_encode(enc, text, (size_t)bytes, false, &ids));
        double seconds = seo_clock_s() - start;
        if (seconds < best) best = seconds;
        seo_encoder_close(enc);
        enc = NULL;
    }
    printf("encode: %.1f MB/s, %.1f M ids/s, %.2f bytes an id (%lld bytes, one thread)\n",
           (double)bytes / 1e6 / best, (double)ids.count / 1e6 / best,
           (double)bytes / (double)ids.count, (long long)bytes);
done:
    seo_encoder_close(enc);
    seo_ids_free(&ids);
    return err;
}

static seo_err bench_encode_file(const char *tokenizer, const char *path) {
    seo_tokenizer *tok = NULL;
    seo_map map = {0};
    char *text = NULL;
    seo_err err = SEO_OK;
    double start = seo_clock_s();
    SEO_TRY(seo_tokenizer_load(tokenizer, &tok));
    printf("load: %.0f ms\n", (seo_clock_s() - start) * 1e3);
    SEO_TRY(seo_map_open(path, &map));
    if (map.bytes == 0) {
        err = SEO_FAIL(SEO_ERR_USAGE, "%s is empty", path);
        goto done;
    }
    int64_t times = (TEXT_BYTES_MIN + map.bytes - 1) / map.bytes;
    text = malloc((size_t)(times * map.bytes));
    if (text == NULL) {
        err = SEO_FAIL(SEO_ERR_MEMORY, "not enough memory for the text");
        goto done;
    }
    for (int64_t i = 0; i < times; i++) {
        memcpy(text + i * map.bytes, map.data, (size_t)map.bytes);
    }
    SEO_TRY(bench_encode(tok, text, times * map.bytes));
done:
    free(text);
    seo_map_close(&map);
    seo_tokenizer_free(tok);
    return err;
}

static seo_err bench_train(const char *path, int64_t vocab_size, int threads) {
    seo_tokenizer *tok = NULL;
    seo_bpe_train_report report;
    seo_bpe_train_options options = {
        .paths = &path, .path_count = 1, .vocab_size = vocab_size, .threads = threads};
    double start = seo_clock_s();
    seo_err err = seo_bpe_train(&options, &report, &tok);
    if (err != SEO_OK) return err;
    printf("train: %.2f s for %lld bytes, %lld distinct words, %lld merges, %d threads\n",
           seo_clock_s() - start, (long long)report.text_bytes, (long long)report.distinct_words,
           (long long)report.merges, threads);
    seo_tokenizer_free(tok);
    return SEO_OK;
}

int main(int argc, char **argv) {
    if (argc < 3 || argc > 5) {
        fprintf(stderr, "usage: bench_tokenizer TOKENIZER TEXT [VOCAB_SIZE [THREADS]]\n");
        return 2;
    }
    seo_log_setup(&(seo_log_options){.level = SEO_LOG_WARN});
    seo_err err = bench_encode_file(argv[1], argv[2]);
    if (err == SEO_OK && argc > 3) {
        err = bench_train(argv[2], atoll(argv[3]), argc > 4 ? atoi(argv[4]) : 1);
    }
    if (err != SEO_OK) seo_log_failure();
    return err == SEO_OK ? 0 : 1;
}
