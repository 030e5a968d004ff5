/* Counts of neighbouring pairs of symbols and the places where they stand, for the trainer only.
 *
 * A pair's count only falls after the merge that brought it into being, so the heap of candidates
 * is corrected lazily: an entry whose count is out of date goes back with the true one. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SEO_NO_CHUNK UINT32_MAX

typedef struct seo_pair {
    uint64_t key; /* left << 32 | right; all ones: an empty slot */
    int64_t count;
    uint32_t first, last; /* its list of chunks; places in the order they were added */
} seo_pair;

/* Half a cache line, so that following a list does not miss at every place. */
enum { SEO_CHUNK_PLACES = 6 };
typedef struct seo_place_chunk {
    uint32_t places[SEO_CHUNK_PLACES];
    uint32_t count, next;
} seo_place_chunk;

typedef struct seo_candidate {
    int64_t count;
    uint64_t key;
} seo_candidate;

/* Zero-initialise; free with seo_pair_counts_free. */
typedef struct seo_pair_counts {
    seo_pair *slots;
    int64_t slot_count, pair_count;
    seo_place_chunk *chunks;
    int64_t chunk_count, chunk_capacity;
    uint32_t unused; /* list of chunks given back, plus one: 0 is the empty list */
    seo_candidate *heap;
    int64_t heap_count, heap_capacity;
} seo_pair_counts;

static inline uint64_t seo_pair_key(int32_t left, int32_t right) {
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

/* The pair, or NULL when it was never added. Valid until the next addition. */
seo_pair *seo_pair_find(const seo_pair_counts *pairs, uint64_t key);

/* Asks for the memory in which the pair is looked for. */
void seo_pair_prefetch(const seo_pair_counts *pairs, uint64_t key);

/* Adds a place and its count; *is_new tells that the pair had not been there. */
seo_err seo_pair_add(seo_pair_counts *pairs, uint64_t key, int64_t count, uint32_t place,
                     bool *is_new);

/* Takes the places of the chunks from *chunk on, as many as whole chunks fit in `places`, and gives
 * the chunks back. Returns the number of places; *chunk moves on, to SEO_NO_CHUNK at the end. */
int64_t seo_pair_take_places(seo_pair_counts *pairs, uint32_t *chunk, uint32_t *places,
                             int64_t capacity);

/* Makes the pair a candidate with its present count. */
seo_err seo_pair_push(seo_pair_counts *pairs, uint64_t key);

/* Takes the candidate with the largest count, of equals the smallest key; false when none has a
 * count of at least `least`. */
bool seo_pair_pop(seo_pair_counts *pairs, int64_t least, uint64_t *key);

void seo_pair_counts_free(seo_pair_counts *pairs);

#ifdef __cplusplus
}
#endif
