/* The ids of words that an encoder saw before: a table with two places a word, for words of at
 * most 15 bytes, as tokenizers tuned for speed keep it. Inline, because it is asked for each
 * word. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    SEO_WORD_CACHE_BITS = 17,
    SEO_CACHED_BYTES_MAX = 15,
    SEO_INLINE_IDS = 4,         /* more ids of a cached word lie in the spill list */
    SEO_SPILL_IDS_MAX = 1 << 18 /* when it is full the cache starts anew */
};

/* A word packed into 16 bytes: 15 of text, zero-filled; the last byte has its length in the low
 * half and the number of its ids in the high half. All zeros: an empty place. */
typedef struct seo_word_key {
    uint64_t low, high;
} seo_word_key;

typedef struct seo_cached_word {
    seo_word_key key;
    int32_t ids[SEO_INLINE_IDS]; /* the first is a place in the spill list when there are more */
} seo_cached_word;

typedef struct seo_word_cache {
    seo_cached_word *words;
    int32_t *spill;
    int64_t spill_count;
} seo_word_cache;

#define SEO_ID_COUNT_MASK ((uint64_t)0xF0 << 56)

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "words are packed low byte first"
#endif

/* false without memory. */
static inline bool seo_word_cache_init(seo_word_cache *cache) {
    cache->words =
        (seo_cached_word *)calloc((size_t)1 << SEO_WORD_CACHE_BITS, sizeof *cache->words);
    cache->spill = (int32_t *)malloc(SEO_SPILL_IDS_MAX * sizeof *cache->spill);
    cache->spill_count = 0;
    return cache->words != NULL && cache->spill != NULL;
}

static inline void seo_word_cache_free(seo_word_cache *cache) {
    free(cache->words);
    free(cache->spill);
}

/* The key of a word of 1 to SEO_CACHED_BYTES_MAX bytes, of which `readable` may be read. */
static inline seo_word_key seo_word_pack(const unsigned char *word, size_t bytes, size_t readable) {
    seo_word_key key = {0, 0};
    if (readable >= sizeof key) {
        memcpy(&key, word, sizeof key);
        /* Shifts by 64 are not defined; each of these is at most 56 where its half is in use. */
        if (bytes < 8) {
            key.low &= ((uint64_t)1 << 8 * bytes) - 1;
            key.high = 0;
        } else {
            key.high &= ((uint64_t)1 << 8 * (bytes - 8)) - 1;
        }
    } else {
        memcpy(&key, word, bytes);
    }
    key.high |= (uint64_t)bytes << 56;
    return key;
}

static inline bool seo_word_same(const seo_word_key *cached, const seo_word_key *key) {
    return cached->low == key->low && ((cached->high ^ key->high) & ~SEO_ID_COUNT_MASK) == 0;
}

static inline uint64_t seo_word_place(const seo_word_key *key) {
    uint64_t hash = (key->low ^ key->high * 0x9FB21C651E98DF25u) * 0x9E3779B97F4A7C15u;
    return (hash ^ hash >> 32) >> 7 & (((uint64_t)1 << SEO_WORD_CACHE_BITS) - 1);
}

/* Writes the ids of the word and returns their number, or -1 when it is not there. There must be
 * room for SEO_CACHED_BYTES_MAX ids. */
static inline int64_t seo_word_cache_get(const seo_word_cache *cache, const seo_word_key *key,
                                         uint64_t place, int32_t *ids) {
    const seo_cached_word *slot = &cache->words[place];
    if (!seo_word_same(&slot->key, key)) slot = &cache->words[place ^ 1];
    if (!seo_word_same(&slot->key, key)) return -1;
    int64_t count = (int64_t)(slot->key.high >> 60);
    if (count <= SEO_INLINE_IDS) {
        memcpy(ids, slot->ids, sizeof slot->ids);
    } else {
        memcpy(ids, cache->spill + slot->ids[0], (size_t)count * sizeof *ids);
    }
    return count;
}

/* Keeps a word that is not in the cache at `place` or, where that is taken, beside it. At most 15
 * ids. */
static inline void seo_word_cache_put(seo_word_cache *cache, uint64_t place, seo_word_key key,
                                      const int32_t *ids, int64_t count) {
    if (count > SEO_INLINE_IDS && cache->spill_count + count > SEO_SPILL_IDS_MAX) {
        memset(cache->words, 0, ((size_t)1 << SEO_WORD_CACHE_BITS) * sizeof *cache->words);
        cache->spill_count = 0;
    }
    seo_cached_word *slot = &cache->words[place];
    if (slot->key.high != 0) cache->words[place ^ 1] = *slot;
    slot->key = key;
    slot->key.high |= (uint64_t)count << 60;
    if (count > SEO_INLINE_IDS) {
        slot->ids[0] = (int32_t)cache->spill_count;
        memcpy(cache->spill + cache->spill_count, ids, (size_t)count * sizeof *ids);
        cache->spill_count += count;
    } else {
        memcpy(slot->ids, ids, (size_t)count * sizeof *ids);
    }
}

#ifdef __cplusplus
}
#endif
