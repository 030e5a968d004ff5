/* Learns which neighbouring symbols of words to merge, for the trainers: again and again the most
 * frequent pair becomes a new symbol. The frequency of a pair is the number of its places in all
 * words times the word's count, in 64 bits; in a run of equal symbols overlapping places count. Of
 * equally frequent pairs the one with the smaller left symbol, then the smaller right symbol, is
 * taken. Within a word a merge goes from left to right. A pair is merged only if it occurs at least
 * twice. The result does not depend on the order of the words.
 *
 * Counts are kept up to date merge by merge (pair -> places, and a heap that is corrected when
 * read), so the time of a merge is that of its places, also in words of any length. */
#pragma once

#include <stdint.h>

#include "base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { SEO_MERGE_GAP = -1 }; /* stands before, between and after words */

/* All distinct words end to end with gaps around them. Zero-initialise; free with
 * seo_merge_words_free. */
typedef struct seo_merge_words {
    int32_t *symbols;
    uint32_t *owners; /* of each place: the index of its word */
    int64_t *counts;  /* of each word */
    int64_t place_count, word_count;
    int64_t symbol_count; /* the words' symbols are smaller; merges make those from here on */
} seo_merge_words;

/* Takes the memory for so many words of so many characters together. */
seo_err seo_merge_words_init(seo_merge_words *words, int64_t word_count, int64_t character_count);
void seo_merge_words_free(seo_merge_words *words);

/* One more symbol of the present word; then the end of the word. */
static inline void seo_merge_words_add(seo_merge_words *words, int32_t symbol) {
    words->owners[words->place_count] = (uint32_t)words->word_count;
    words->symbols[words->place_count++] = symbol;
}
static inline void seo_merge_words_end(seo_merge_words *words, int64_t count) {
    words->counts[words->word_count++] = count;
    words->symbols[words->place_count++] = SEO_MERGE_GAP;
}

typedef struct seo_merge_limits {
    int64_t merges; /* so many at most */
    int32_t length; /* of a new symbol, in first symbols */
} seo_merge_limits;

/* left << 32 | right of each merge, in order. Zero-initialise; free with seo_merge_list_free. */
typedef struct seo_merge_list {
    uint64_t *keys;
    int64_t count;
} seo_merge_list;
void seo_merge_list_free(seo_merge_list *list);

/* Shows progress. The words' symbols are used up. */
seo_err seo_merge_learn(const seo_merge_words *words, const seo_merge_limits *limits,
                        seo_merge_list *out);

#ifdef __cplusplus
}
#endif
