/* Reading tokenizer files, for data/ only: what the kinds of vocabulary share. */
#pragma once

#include <stdbool.h>

#include "base/json.h"
#include "data/vocabulary.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { SEO_TOKENIZER_BYTES_MAX = 64 << 20 };

/* One file being read. */
typedef struct seo_tokenizer_reader {
    const char *path;
    seo_vocab_builder builder;
    json_t *specials;    /* content -> id */
    seo_buf left, right; /* pieces being decoded */
} seo_tokenizer_reader;
void seo_tokenizer_reader_free(seo_tokenizer_reader *r);

/* "PATH: WHAT: REMEDY", SEO_ERR_UNSUPPORTED. */
seo_err seo_tokenizer_refuse(const seo_tokenizer_reader *r, const char *what, const char *remedy);

/* There and not null. */
static inline bool seo_json_is_set(const json_t *value) {
    return value != NULL && !json_is_null(value);
}

/* Notes a special token and gives it to the builder. */
seo_err seo_read_special(seo_tokenizer_reader *r, const char *text, int64_t id);

/* All entries of `vocabulary` that are not among the special tokens, each decoded by the builder's
 * kind, then the index over all. `place` stands for it in messages. */
seo_err seo_read_vocabulary(seo_tokenizer_reader *r, const char *place, json_t *vocabulary);

/* Decodes one piece from the byte-level alphabet into `out`. */
seo_err seo_read_byte_level(seo_buf *out, const char *text, size_t count);

/* The two kinds of tokenizer.json, once the special tokens are read: checks every member that
 * could change ids, and gives the builder pieces and merges. */
seo_err seo_read_bpe(seo_tokenizer_reader *r, const json_t *root, const json_t *model);
seo_err seo_read_wordpiece(seo_tokenizer_reader *r, const json_t *root, const json_t *model);

#ifdef __cplusplus
}
#endif
