/* The inside of an encoder, for data/ only: what the two ways to encode share. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"
#include "data/basic_text.h"
#include "data/vocabulary.h"
#include "data/word_cache.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A long word while byte pairs are merged, as a linked list over its bytes. */
typedef struct seo_long_word {
    int32_t *ids, *ranks; /* of the symbol at a byte; of the pair that begins there, or -1 */
    int32_t *next, *previous;
    uint64_t *heap; /* rank << 32 | place; entries whose pair has changed stay and are skipped */
    int64_t heap_count, capacity;
} seo_long_word;
void seo_long_word_free(seo_long_word *w);

struct seo_encoder {
    const seo_tokenizer *tok;
    seo_word_cache cache;
    seo_long_word longest; /* byte-level BPE */
    seo_basic_words words; /* WordPiece */
};

/* Makes room for `more` ids behind the present ones. */
seo_err seo_ids_reserve(seo_ids *ids, int64_t more);

/* Appends the ids of a text without special tokens. */
seo_err seo_encode_bpe(seo_encoder *enc, const unsigned char *p, const unsigned char *end,
                       seo_ids *out);
seo_err seo_encode_wordpiece(seo_encoder *enc, const unsigned char *p, const unsigned char *end,
                             seo_ids *out);

#ifdef __cplusplus
}
#endif
