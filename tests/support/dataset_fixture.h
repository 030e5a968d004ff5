/* Small datasets with known content, in a scratch folder of their own. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "data/manifest.h"
#include "data/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fixture {
    char folder[SEO_PATH_MAX];
    int64_t vocab_size, shard_tokens;
    int64_t documents;      /* of both splits */
    int64_t document_most;  /* documents have 1..document_most tokens */
    int64_t held_out_every; /* every n-th document is held out; 0: none */
    uint64_t seed;
    bool other_tokenizer;           /* than that of fixtures without it */
    const seo_tokenizer *tokenizer; /* opt: a real one, borrowed; its vocabulary is vocab_size */
    char manifest_sha256[SEO_SHA256_HEX];
} fixture;

/* A usual one: vocabulary 1000, shards of 100,000 tokens, 700 documents of up to 900 tokens, every
 * tenth held out. Its folder does not exist yet. */
fixture fixture_usual(void);
/* A new scratch folder, removed by fixture_remove. */
void fixture_folder(fixture *f);
/* Builds the dataset into f->folder. */
seo_err fixture_write(fixture *f);
/* fixture_folder, then a fixture_write that must succeed. */
void fixture_make(fixture *f);
void fixture_remove(const fixture *f);

/* What the dataset must hold: length of document d and its tokens. */
int64_t fixture_length(const fixture *f, int64_t document);
int32_t fixture_token(const fixture *f, int64_t document, int64_t index);
bool fixture_held_out(const fixture *f, int64_t document);
/* The whole token sequence of a split, malloc'ed. */
int32_t *fixture_tokens(const fixture *f, seo_split split, int64_t *count);

/* Files. */
void fixture_path(const fixture *f, const char *name, char out[SEO_PATH_MAX]);
void fixture_flip(const char *path, int64_t at, unsigned char bits);
void fixture_overwrite(const char *path, const void *data, int64_t bytes);

#ifdef __cplusplus
}
#endif
