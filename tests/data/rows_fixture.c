#include "rows_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/rng.h"
#include "data/bpe_train.h"
#include "data/dataset_writer.h"
#include "data/wordpiece_train.h"

static int64_t number(int64_t document, int64_t index, int64_t bound) {
    const seo_rng_key key = {.seed = 3, .purpose = SEO_PURPOSE_TEST, .step = (uint32_t)document};
    return bound > 0 ? seo_rng_u32(key, (uint64_t)index) % bound : -1;
}

seo_tokenizer *rows_tokenizer(int roberta) {
    const seo_special_set set = roberta ? SEO_SPECIAL_ROBERTA : SEO_SPECIAL_GPT2;
    const char *paths[] = {SEO_SOURCE_DIR "/tests/golden/tokenizer_small.txt"};
    const seo_bpe_train_options options = {.paths = paths,
                                           .path_count = 1,
                                           .special = set,
                                           .vocab_size = seo_special_vocab_min(set),
                                           .threads = 1};
    seo_bpe_train_report report;
    seo_tokenizer *tok = NULL;
    SEO_ASSERT(seo_bpe_train(&options, &report, &tok) == SEO_OK);
    return tok;
}

static void draw_tokens(rows_world *w, const rows_text *text) {
    const int64_t room = text->documents * (text->most + 1);
    w->documents = text->documents;
    w->tokens = calloc((size_t)room, sizeof *w->tokens);
    w->begins = calloc((size_t)text->documents + 1, sizeof *w->begins);
    SEO_ASSERT(w->tokens != NULL && w->begins != NULL);
    for (int64_t d = 0; d < text->documents; d++) {
        const int64_t length = text->least + number(d, 0, text->most - text->least + 1);
        w->begins[d] = w->count;
        for (int64_t i = 1; i <= length; i++) {
            int32_t id = 4 + 64 + (int32_t)number(d, 3 * i, 192);
            if (number(d, 3 * i + 1, text->unknown) == 0) id = ID_UNK;
            if (number(d, 3 * i + 2, text->stop) == 0) id = ID_STOP;
            w->tokens[w->count++] = id;
        }
        w->tokens[w->count++] = ID_EOT;
    }
    w->begins[text->documents] = w->count;
}

static seo_err write_dataset(const rows_world *w) {
    seo_err err = SEO_OK;
    seo_dataset_writer *writer = NULL;
    char path[SEO_PATH_MAX], source[] = "drawn.txt";
    seo_manifest_source sources[1] = {{.path = source, .bytes = w->count}};
    seo_sha256_hex("a", 1, sources[0].sha256);
    SEO_TRY(seo_path_join(path, w->folder, SEO_TOKENIZER_NAME));
    SEO_TRY(seo_tokenizer_save(w->tok, path));
    SEO_TRY(seo_dataset_writer_open(
        &(seo_dataset_writer_args){.folder = w->folder,
                                   .vocab_size = seo_tokenizer_vocab_size(w->tok),
                                   .eot_id = seo_tokenizer_eot(w->tok),
                                   .tokenizer_sha256 = seo_tokenizer_sha256(w->tok),
                                   .shard_tokens = 100000},
        &writer));
    for (int64_t d = 0; d < w->documents; d++) {
        const seo_document document = {.ids = w->tokens + w->begins[d],
                                       .count = w->begins[d + 1] - w->begins[d],
                                       .text_bytes = 1,
                                       .hash = (uint64_t)d};
        SEO_TRY(seo_dataset_writer_add(writer, SEO_SPLIT_TRAIN, &document));
    }
    SEO_TRY(seo_dataset_writer_commit(
        writer, &(seo_dataset_origin){.sources = sources, .source_count = 1, .provenance = "{}"},
        NULL));
done:
    seo_dataset_writer_close(writer);
    return err;
}

static void open_dataset(rows_world *w) {
    snprintf(w->folder, sizeof w->folder, "/tmp/seodang-test-XXXXXX");
    SEO_ASSERT(mkdtemp(w->folder) != NULL);
    seo_err err = write_dataset(w);
    if (err == SEO_OK) err = seo_dataset_open(w->folder, "train", &w->ds);
    if (err != SEO_OK) fprintf(stderr, "%s\n", seo_err_detail());
    SEO_ASSERT(err == SEO_OK);
}

void rows_world_open(rows_world *w, rows_text text) {
    *w = (rows_world){.tok = rows_tokenizer(1)};
    draw_tokens(w, &text);
    open_dataset(w);
}

static void encode_lines(rows_world *w, const char *text, int64_t times) {
    seo_encoder *enc = NULL;
    seo_ids ids = {0};
    SEO_ASSERT(seo_encoder_open(w->tok, &enc) == SEO_OK);
    for (const char *line = text; *line != '\0'; line += strcspn(line, "\n") + 1) {
        const size_t bytes = strcspn(line, "\n");
        for (int64_t i = 0; i < times; i++) {
            SEO_ASSERT(seo_encode(enc, line, bytes, false, &ids) == SEO_OK);
        }
        SEO_ASSERT(seo_encode(enc, "[SEP]", 5, true, &ids) == SEO_OK);
        w->begins = realloc(w->begins, (size_t)(w->documents + 2) * sizeof *w->begins);
        SEO_ASSERT(w->begins != NULL);
        w->begins[0] = 0;
        w->begins[++w->documents] = ids.count;
        if (line[bytes] == '\0') break;
    }
    seo_encoder_close(enc);
    w->tokens = ids.items;
    w->count = ids.count;
}

void rows_world_open_wordpiece(rows_world *w, const char *path, int64_t times) {
    char *text = NULL;
    int64_t bytes = 0;
    const seo_wordpiece_train_options options = {
        .paths = &path, .path_count = 1, .vocab_size = 400, .alphabet_max = 300, .threads = 1};
    seo_wordpiece_train_report report;
    *w = (rows_world){0};
    SEO_ASSERT(seo_wordpiece_train(&options, &report, &w->tok) == SEO_OK);
    SEO_ASSERT(seo_file_read(path, 1 << 20, &text, &bytes) == SEO_OK);
    encode_lines(w, text, times);
    free(text);
    open_dataset(w);
}

void rows_world_close(rows_world *w) {
    seo_dataset_close(w->ds);
    seo_tokenizer_free(w->tok);
    free(w->tokens);
    free(w->begins);
    SEO_ASSERT(seo_dir_remove(w->folder) == SEO_OK);
}

int64_t rows_world_document(const rows_world *w, int64_t at) {
    int64_t d = 0;
    while (w->begins[d + 1] <= at) d++;
    return d;
}

seo_rows *rows_open(seo_rows_args args) {
    seo_rows *rows = NULL;
    const seo_err err = seo_rows_open(&args, &rows);
    if (err != SEO_OK) fprintf(stderr, "%s\n", seo_err_detail());
    SEO_ASSERT(err == SEO_OK);
    return rows;
}

void rows_make(const seo_rows *rows, seo_order_place place, rows_room *out) {
    const seo_row_shape shape = seo_rows_shape(rows);
    SEO_ASSERT(shape.ids <= ROW_MAX + 1 && shape.picks <= ROW_MAX);
    int32_t *all = (int32_t *)out;
    for (size_t i = 0; i < sizeof *out / sizeof *all; i++) all[i] = -7;
    const seo_row row = {.ids = out->ids,
                         .targets = shape.targets > 0 ? out->targets : NULL,
                         .types = shape.types > 0 ? out->types : NULL,
                         .spans = shape.spans > 0 ? out->spans : NULL,
                         .picks = shape.picks > 0 ? out->picks : NULL,
                         .pick_targets = shape.picks > 0 ? out->pick_targets : NULL,
                         .label = shape.label > 0 ? &out->label : NULL};
    const seo_err err = seo_rows_make(rows, place, &row);
    if (err != SEO_OK) fprintf(stderr, "%s\n", seo_err_detail());
    SEO_ASSERT(err == SEO_OK);
}
