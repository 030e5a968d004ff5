/* Whatever bytes a file of examples holds, it becomes rows whose parts are in bounds or is refused
 * by name. The first byte of the input picks kind, model and ending, the rest is the file. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/bpe_train.h"
#include "data/examples.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SEQ_LEN = 12 };

static seo_tokenizer *g_tokenizers[2];

static void leave(void) {
    for (int i = 0; i < 2; i++) seo_tokenizer_free(g_tokenizers[i]);
}

/* Bytes and special tokens: no merge is needed. */
static void enter(void) {
    static const seo_special_set sets[2] = {SEO_SPECIAL_GPT2, SEO_SPECIAL_ROBERTA};
    const char *paths[] = {FUZZ_TEXT};
    if (g_tokenizers[0] != NULL) return;
    for (int i = 0; i < 2; i++) {
        const seo_bpe_train_options options = {.paths = paths,
                                               .path_count = 1,
                                               .special = sets[i],
                                               .vocab_size = seo_special_vocab_min(sets[i]),
                                               .threads = 1};
        seo_bpe_train_report report;
        if (seo_bpe_train(&options, &report, &g_tokenizers[i]) != SEO_OK) abort();
    }
    atexit(leave);
}

/* Made with room of exactly the shape's size, so that a sanitizer sees a write beyond it. */
static void check_rows(const seo_examples *x, int64_t vocab_size) {
    seo_rows *rows = NULL;
    const seo_row_shape shape = seo_examples_shape(x);
    const seo_rows_args args = {
        .objective = SEO_OBJECTIVE_EXAMPLES, .examples = x, .seq_len = SEQ_LEN};
    if (seo_rows_open(&args, &rows) != SEO_OK) abort();
    const int64_t widths[] = {shape.ids,   shape.targets, shape.types, shape.spans,
                              shape.picks, shape.picks,   shape.label};
    int32_t *room[7] = {0};
    for (int i = 0; i < 7; i++) {
        if (widths[i] > 0) room[i] = malloc((size_t)widths[i] * sizeof(int32_t));
    }
    const seo_row row = {.ids = room[0],
                         .targets = room[1],
                         .types = room[2],
                         .spans = room[3],
                         .picks = room[4],
                         .pick_targets = room[5],
                         .label = room[6]};
    for (int64_t i = 0; i < seo_rows_count(rows, 0); i++) {
        const seo_order_place place = {.window = i};
        int64_t targets = 0, counted = 0;
        if (seo_rows_make(rows, place, &row) != SEO_OK) abort();
        if (seo_rows_targets(rows, place, &targets) != SEO_OK) abort();
        for (int64_t t = 0; t < SEQ_LEN; t++) {
            if (row.ids[t] < 0 || row.ids[t] >= vocab_size) abort();
            if (row.spans[2 * t] > t || row.spans[2 * t + 1] <= t) abort();
            if (row.targets != NULL) counted += row.targets[t] != SEO_ROW_IGNORE;
        }
        if (counted != targets) abort();
        if (row.picks != NULL && (row.picks[0] < 0 || row.picks[0] >= SEQ_LEN)) abort();
    }
    for (int i = 0; i < 7; i++) free(room[i]);
    seo_rows_close(rows);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const labels[] = {"a", "b", "1"};
    if (size == 0) return 0;
    enter();
    const bool encoder = data[0] & 1, tsv = data[0] & 2, pairs = !encoder && !tsv && data[0] & 4;
    const seo_tokenizer *tok = g_tokenizers[encoder];
    seo_examples *x = NULL;
    const seo_examples_args args = {.path = tsv ? "input.tsv" : "input.jsonl",
                                    .kind = pairs ? SEO_EXAMPLES_PAIRS : SEO_EXAMPLES_CLASSIFY,
                                    .tokenizer = tok,
                                    .labels = labels,
                                    .label_count = 3,
                                    .seq_len = SEQ_LEN,
                                    .encoder = encoder,
                                    .types = data[0] & 8 ? 2 : 0,
                                    .separators = data[0] & 16 ? 2 : 1,
                                    .threads = data[0] & 32 ? 3 : 1};
    const seo_err err = seo_examples_parse(&args, (const char *)data + 1, (int64_t)size - 1, &x);
    if (err == SEO_OK) {
        check_rows(x, seo_tokenizer_vocab_size(tok));
    } else if (x != NULL || strstr(seo_err_detail(), args.path) == NULL) {
        abort();
    }
    seo_examples_close(x);
    return 0;
}
