#include "tests/support/dataset_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "data/dataset_writer.h"

static uint64_t number(const fixture *f, uint64_t a, uint64_t b) {
    const uint64_t words[3] = {f->seed, a, b};
    return seo_hash64(words, sizeof words);
}

fixture fixture_usual(void) {
    return (fixture){.vocab_size = 1000,
                     .shard_tokens = 100000,
                     .documents = 700,
                     .document_most = 900,
                     .held_out_every = 10,
                     .seed = 1};
}

void fixture_folder(fixture *f) {
    snprintf(f->folder, sizeof f->folder, "/tmp/seodang-test-XXXXXX");
    SEO_ASSERT(mkdtemp(f->folder) != NULL);
}

void fixture_remove(const fixture *f) {
    SEO_ASSERT(seo_dir_remove(f->folder) == SEO_OK);
}

int64_t fixture_length(const fixture *f, int64_t document) {
    return 1 + (int64_t)(number(f, (uint64_t)document, UINT64_MAX) % (uint64_t)f->document_most);
}
int32_t fixture_token(const fixture *f, int64_t document, int64_t index) {
    return (int32_t)(number(f, (uint64_t)document, (uint64_t)index) % (uint64_t)f->vocab_size);
}
bool fixture_held_out(const fixture *f, int64_t document) {
    return f->held_out_every > 0 && document % f->held_out_every == 0;
}

static void fill(const fixture *f, int64_t document, int32_t *out) {
    const int64_t length = fixture_length(f, document);
    for (int64_t i = 0; i < length; i++) out[i] = fixture_token(f, document, i);
}

int32_t *fixture_tokens(const fixture *f, seo_split split, int64_t *count) {
    int32_t *out = malloc((size_t)(f->documents * f->document_most) * sizeof *out);
    SEO_ASSERT(out != NULL);
    *count = 0;
    for (int64_t d = 0; d < f->documents; d++) {
        if (fixture_held_out(f, d) != (split == SEO_SPLIT_HELD_OUT)) continue;
        fill(f, d, out + *count);
        *count += fixture_length(f, d);
    }
    return out;
}

static seo_err add_documents(const fixture *f, seo_dataset_writer *writer) {
    seo_err err = SEO_OK;
    int32_t *ids = malloc((size_t)f->document_most * sizeof *ids);
    SEO_ASSERT(ids != NULL);
    for (int64_t d = 0; d < f->documents; d++) {
        fill(f, d, ids);
        const seo_document document = {.ids = ids,
                                       .count = fixture_length(f, d),
                                       .source = d % 2,
                                       .text_bytes = 3 * fixture_length(f, d),
                                       .hash = number(f, (uint64_t)d, 0)};
        const seo_split split = fixture_held_out(f, d) ? SEO_SPLIT_HELD_OUT : SEO_SPLIT_TRAIN;
        SEO_TRY(seo_dataset_writer_add(writer, split, &document));
    }
done:
    free(ids);
    return err;
}

seo_err fixture_write(fixture *f) {
    seo_err err = SEO_OK;
    seo_dataset_writer *writer = NULL;
    char tokenizer[SEO_PATH_MAX], sha256[SEO_SHA256_HEX];
    char path_a[] = "text/a \"quoted\".txt", path_b[] = "text/b.txt";
    seo_manifest_source sources[2] = {{.path = path_a, .bytes = 10}, {.path = path_b, .bytes = 20}};
    const char *text = f->other_tokenizer ? "{\"stand-in\": \"for another tokenizer\"}\n"
                                          : "{\"stand-in\": \"for a tokenizer\"}\n";
    seo_sha256_hex(text, strlen(text), sha256);
    seo_sha256_hex("a", 1, sources[0].sha256);
    seo_sha256_hex("b", 1, sources[1].sha256);
    SEO_TRY(seo_dir_make(f->folder));
    SEO_TRY(seo_path_join(tokenizer, f->folder, SEO_TOKENIZER_NAME));
    if (f->tokenizer) {
        snprintf(sha256, sizeof sha256, "%s", seo_tokenizer_sha256(f->tokenizer));
        SEO_TRY(seo_tokenizer_save(f->tokenizer, tokenizer));
    } else {
        SEO_TRY(seo_file_write_atomic(tokenizer, text, (int64_t)strlen(text)));
    }
    SEO_TRY(seo_dataset_writer_open(&(seo_dataset_writer_args){.folder = f->folder,
                                                               .vocab_size = f->vocab_size,
                                                               .eot_id = 0,
                                                               .tokenizer_sha256 = sha256,
                                                               .shard_tokens = f->shard_tokens},
                                    &writer));
    SEO_TRY(add_documents(f, writer));
    SEO_TRY(seo_dataset_writer_commit(
        writer,
        &(seo_dataset_origin){.sources = sources,
                              .source_count = 2,
                              .provenance = "{\"tool\": \"fixture\", \"options\": {\"a\": 1}}"},
        f->manifest_sha256));
done:
    seo_dataset_writer_close(writer);
    return err;
}

void fixture_make(fixture *f) {
    fixture_folder(f);
    if (fixture_write(f) != SEO_OK) fprintf(stderr, "fixture: %s\n", seo_err_detail());
    SEO_ASSERT(f->manifest_sha256[0] != '\0');
}

void fixture_path(const fixture *f, const char *name, char out[SEO_PATH_MAX]) {
    SEO_ASSERT(seo_path_join(out, f->folder, name) == SEO_OK);
}

void fixture_overwrite(const char *path, const void *data, int64_t bytes) {
    FILE *file = fopen(path, "wb");
    SEO_ASSERT(file != NULL);
    SEO_ASSERT((int64_t)fwrite(data, 1, (size_t)bytes, file) == bytes);
    SEO_ASSERT(fclose(file) == 0);
}

void fixture_flip(const char *path, int64_t at, unsigned char bits) {
    FILE *file = fopen(path, "r+b");
    SEO_ASSERT(file != NULL);
    SEO_ASSERT(fseek(file, (long)at, SEEK_SET) == 0);
    const int byte = fgetc(file);
    SEO_ASSERT(byte != EOF && fseek(file, (long)at, SEEK_SET) == 0);
    SEO_ASSERT(fputc(byte ^ bits, file) != EOF && fclose(file) == 0);
}
