/* Text to ids: a cache of words in front of byte-pair merges.
 *
 * Most words of a text were seen before, so the ids of words up to 15 bytes are kept in a
 * direct-mapped table with two places a word, as tokenizers tuned for speed do. A word that is not
 * there is merged by scanning its pairs while it is short, and with a heap of (rank, place) when it
 * is long, so that no word costs more than n log n. Both give the merge order of data/bpe.h. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "data/bpe.h"
#include "data/pretoken.h"
#include "data/unicode.h"

typedef unsigned char byte;

enum {
    CACHE_BITS = 17,
    CACHED_BYTES_MAX = 15,
    INLINE_IDS = 4,                /* more ids of a cached word lie in the spill list */
    SPILL_IDS_MAX = 1 << 18,       /* when it is full the cache starts anew */
    SCANNED_BYTES_MAX = 96,        /* longer words take the heap */
    WORD_BYTES_MAX = INT32_MAX - 1 /* places in a word are 32-bit */
};

/* A word packed into 16 bytes: 15 of text, zero-filled; the last byte has its length in the low
 * half and the number of its ids in the high half (0: an empty place). */
typedef struct word_key {
    uint64_t low, high;
} word_key;

typedef struct cached_word {
    word_key key;
    int32_t
        ids[INLINE_IDS]; /* the first of them is a place in the spill list when there are more */
} cached_word;

/* A long word while it is merged, as a linked list over its bytes. */
typedef struct long_word {
    int32_t *ids, *ranks; /* of the symbol at a byte; of the pair that begins there, or -1 */
    int32_t *next, *previous;
    uint64_t *heap; /* rank << 32 | place; entries whose pair has changed stay and are skipped */
    int64_t heap_count, capacity;
} long_word;

struct seo_encoder {
    const seo_tokenizer *tok;
    cached_word *cache;
    int32_t *spill;
    int64_t spill_count;
    long_word longest;
};

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "words are packed low byte first");

static const uint64_t count_mask = (uint64_t)0xF0 << 56;

seo_err seo_encoder_open(const seo_tokenizer *tok, seo_encoder **out) {
    seo_encoder *enc = calloc(1, sizeof *enc);
    if (enc != NULL) {
        enc->tok = tok;
        enc->cache = calloc((size_t)1 << CACHE_BITS, sizeof *enc->cache);
        enc->spill = malloc(SPILL_IDS_MAX * sizeof *enc->spill);
    }
    if (enc == NULL || enc->cache == NULL || enc->spill == NULL) {
        seo_encoder_close(enc);
        return SEO_FAIL(SEO_ERR_MEMORY, "not enough memory for an encoder");
    }
    *out = enc;
    return SEO_OK;
}

static void long_word_free(long_word *w) {
    free(w->ids);
    free(w->ranks);
    free(w->next);
    free(w->previous);
    free(w->heap);
    *w = (long_word){0};
}

void seo_encoder_close(seo_encoder *enc) {
    if (enc == NULL) return;
    long_word_free(&enc->longest);
    free(enc->cache);
    free(enc->spill);
    free(enc);
}

void seo_ids_free(seo_ids *ids) {
    free(ids->items);
    *ids = (seo_ids){0};
}

/* Makes room for `more` ids behind the present ones. */
static seo_err reserve(seo_ids *ids, int64_t more) {
    if (ids->capacity - ids->count >= more) return SEO_OK;
    int64_t capacity = seo_max_i64(ids->capacity + ids->capacity / 2, ids->count + more) + 64;
    int32_t *items = realloc(ids->items, (size_t)capacity * sizeof *items);
    if (items == NULL) return SEO_FAIL(SEO_ERR_MEMORY, "not enough memory for the ids of a text");
    ids->items = items;
    ids->capacity = capacity;
    return SEO_OK;
}

/* The leftmost pair of the lowest rank, looked for again after each merge: n^2 with a small
 * constant. Writes at most `bytes` ids and returns their number. */
static int32_t merge_scanning(const seo_tokenizer *tok, const byte *word, int32_t bytes,
                              int32_t *ids) {
    int32_t ranks[SCANNED_BYTES_MAX];
    int32_t count = bytes;
    for (int32_t i = 0; i < count; i++) ids[i] = tok->byte_ids[word[i]];
    for (int32_t i = 0; i + 1 < count; i++) {
        ranks[i] = seo_pair_rank(&tok->pairs, ids[i], ids[i + 1]);
    }
    while (count > 1) {
        /* A missing rank, -1, is the largest number without its sign. */
        uint32_t best = UINT32_MAX;
        int32_t at = 0;
        for (int32_t i = 0; i + 1 < count; i++) {
            if ((uint32_t)ranks[i] < best) {
                best = (uint32_t)ranks[i];
                at = i;
            }
        }
        if (best == UINT32_MAX) break;
        ids[at] = tok->merges[best].result;
        count--;
        for (int32_t i = at + 1; i < count; i++) {
            ids[i] = ids[i + 1];
            ranks[i - 1] = ranks[i];
        }
        if (at > 0) ranks[at - 1] = seo_pair_rank(&tok->pairs, ids[at - 1], ids[at]);
        if (at + 1 < count) ranks[at] = seo_pair_rank(&tok->pairs, ids[at], ids[at + 1]);
    }
    return count;
}

static seo_err long_word_reserve(long_word *w, int64_t bytes) {
    if (bytes <= w->capacity) return SEO_OK;
    long_word_free(w);
    size_t n = (size_t)bytes;
    w->ids = malloc(n * sizeof *w->ids);
    w->ranks = malloc(n * sizeof *w->ranks);
    w->next = malloc(n * sizeof *w->next);
    w->previous = malloc(n * sizeof *w->previous);
    /* There are at most n pairs to begin with, and each merge takes one entry and adds two. */
    w->heap = malloc(2 * n * sizeof *w->heap);
    if (!w->ids || !w->ranks || !w->next || !w->previous || !w->heap) {
        long_word_free(w);
        return SEO_FAIL(SEO_ERR_MEMORY, "not enough memory to encode a word of %lld bytes",
                        (long long)bytes);
    }
    w->capacity = bytes;
    return SEO_OK;
}

static void heap_push(long_word *w, int32_t rank, int32_t place) {
    uint64_t entry = (uint64_t)(uint32_t)rank << 32 | (uint32_t)place;
    int64_t at = w->heap_count++;
    for (; at > 0 && entry < w->heap[(at - 1) / 2]; at = (at - 1) / 2) {
        w->heap[at] = w->heap[(at - 1) / 2];
    }
    w->heap[at] = entry;
}

static uint64_t heap_pop(long_word *w) {
    uint64_t top = w->heap[0], last = w->heap[--w->heap_count];
    int64_t at = 0;
    for (int64_t child = 1; child < w->heap_count; child = 2 * at + 1) {
        if (child + 1 < w->heap_count && w->heap[child + 1] < w->heap[child]) child++;
        if (last <= w->heap[child]) break;
        w->heap[at] = w->heap[child];
        at = child;
    }
    w->heap[at] = last;
    return top;
}

static void pair_changed(const seo_tokenizer *tok, long_word *w, int32_t at) {
    int32_t next = w->next[at];
    w->ranks[at] = next < 0 ? -1 : seo_pair_rank(&tok->pairs, w->ids[at], w->ids[next]);
    if (w->ranks[at] >= 0) heap_push(w, w->ranks[at], at);
}

/* Appends the ids of a word; `out` has room for them. */
static void merge_with_heap(const seo_tokenizer *tok, long_word *w, const byte *word, int32_t bytes,
                            seo_ids *out) {
    w->heap_count = 0;
    for (int32_t i = 0; i < bytes; i++) {
        w->ids[i] = tok->byte_ids[word[i]];
        w->next[i] = i + 1 < bytes ? i + 1 : -1;
        w->previous[i] = i - 1;
    }
    for (int32_t i = 0; i < bytes; i++) pair_changed(tok, w, i);
    while (w->heap_count > 0) {
        uint64_t top = heap_pop(w);
        int32_t rank = (int32_t)(top >> 32), at = (int32_t)(uint32_t)top;
        if (w->ranks[at] != rank) continue;
        int32_t gone = w->next[at], after = w->next[gone];
        w->ids[at] = tok->merges[rank].result;
        w->ranks[gone] = -1;
        w->next[at] = after;
        if (after >= 0) w->previous[after] = at;
        pair_changed(tok, w, at);
        if (w->previous[at] >= 0) pair_changed(tok, w, w->previous[at]);
    }
    for (int32_t i = 0; i >= 0; i = w->next[i]) out->items[out->count++] = w->ids[i];
}

static seo_err encode_uncached(seo_encoder *enc, const byte *word, size_t bytes, seo_ids *out) {
    if (bytes <= SCANNED_BYTES_MAX) {
        out->count += merge_scanning(enc->tok, word, (int32_t)bytes, out->items + out->count);
        return SEO_OK;
    }
    if (bytes > WORD_BYTES_MAX) {
        return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                        "a run of %zu bytes without a word boundary; the limit is %d", bytes,
                        WORD_BYTES_MAX);
    }
    seo_err err = long_word_reserve(&enc->longest, (int64_t)bytes);
    if (err == SEO_OK) merge_with_heap(enc->tok, &enc->longest, word, (int32_t)bytes, out);
    return err;
}

static inline word_key pack(const byte *word, size_t bytes, size_t readable) {
    word_key key = {0};
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

static inline bool same_word(const word_key *cached, const word_key *key) {
    return cached->low == key->low && ((cached->high ^ key->high) & ~count_mask) == 0;
}

/* Keeps a word that is not in the cache at `place` or, where that is taken, beside it. */
static void remember(seo_encoder *enc, uint64_t place, word_key key, const int32_t *ids,
                     int32_t count) {
    if (count > INLINE_IDS && enc->spill_count + count > SPILL_IDS_MAX) {
        memset(enc->cache, 0, ((size_t)1 << CACHE_BITS) * sizeof *enc->cache);
        enc->spill_count = 0;
    }
    cached_word *slot = &enc->cache[place];
    if (slot->key.high != 0) {
        enc->cache[place ^ 1] = *slot;
    }
    slot->key = key;
    slot->key.high |= (uint64_t)count << 60;
    if (count > INLINE_IDS) {
        slot->ids[0] = (int32_t)enc->spill_count;
        memcpy(enc->spill + enc->spill_count, ids, (size_t)count * sizeof *ids);
        enc->spill_count += count;
    } else {
        memcpy(slot->ids, ids, (size_t)count * sizeof *ids);
    }
}

/* Appends the ids of a word of at most CACHED_BYTES_MAX bytes, of which `readable` may be read;
 * `out` has room for at least INLINE_IDS. */
static inline void encode_cached(seo_encoder *enc, const byte *word, size_t bytes, size_t readable,
                                 seo_ids *out) {
    word_key key = pack(word, bytes, readable);
    uint64_t hash = (key.low ^ key.high * 0x9FB21C651E98DF25u) * 0x9E3779B97F4A7C15u;
    uint64_t place = (hash ^ hash >> 32) >> 7 & (((uint64_t)1 << CACHE_BITS) - 1);
    const cached_word *slot = &enc->cache[place];
    if (!same_word(&slot->key, &key)) slot = &enc->cache[place ^ 1];
    int32_t *ids = out->items + out->count;
    if (!same_word(&slot->key, &key)) {
        int32_t count = merge_scanning(enc->tok, word, (int32_t)bytes, ids);
        remember(enc, place, key, ids, count);
        out->count += count;
        return;
    }
    int64_t count = (int64_t)(slot->key.high >> 60);
    if (count <= INLINE_IDS) {
        memcpy(ids, slot->ids, sizeof slot->ids);
    } else {
        memcpy(ids, enc->spill + slot->ids[0], (size_t)count * sizeof *ids);
    }
    out->count += count;
}

static seo_err encode_bytes(const seo_tokenizer *tok, const byte *p, const byte *end,
                            seo_ids *out) {
    seo_err err = reserve(out, end - p);
    if (err != SEO_OK) return err;
    for (; p < end; p++) out->items[out->count++] = tok->byte_ids[*p];
    return SEO_OK;
}

static seo_err encode_ordinary(seo_encoder *enc, const byte *p, const byte *end, seo_ids *out) {
    if (enc->tok->merge_count == 0) return encode_bytes(enc->tok, p, end, out);
    while (p < end) {
        const byte *word = p;
        p = seo_pretoken_end(word, end);
        size_t bytes = (size_t)(p - word);
        seo_err err = reserve(out, (int64_t)bytes + INLINE_IDS);
        if (err != SEO_OK) return err;
        if (bytes <= CACHED_BYTES_MAX) {
            encode_cached(enc, word, bytes, (size_t)(end - word), out);
        } else {
            err = encode_uncached(enc, word, bytes, out);
            if (err != SEO_OK) return err;
        }
    }
    return SEO_OK;
}

/* The longest special token that [p, end) begins with, or -1. */
static int32_t special_at(const seo_tokenizer *tok, const byte *p, const byte *end) {
    if (!tok->special_first[*p]) return -1;
    for (int64_t i = 0; i < tok->special_count; i++) {
        const seo_piece *piece = &tok->pieces[tok->specials[i]];
        if (piece->bytes <= end - p &&
            memcmp(tok->bytes.data + piece->offset, p, (size_t)piece->bytes) == 0)
            return tok->specials[i];
    }
    return -1;
}

/* The beginning of the white space that ends at p, not before `text`. */
static const byte *before_space(const byte *text, const byte *p) {
    while (p > text) {
        const byte *first = p - 1;
        while (first > text && p - first < 4 && (*first & 0xC0) == 0x80) first--;
        int32_t cp;
        if (first + seo_utf8_decode(first, p, &cp) != p) break;
        if (seo_char_class_of(cp) != SEO_CHAR_SPACE) break;
        p = first;
    }
    return p;
}

static seo_err encode_with_special(seo_encoder *enc, const byte *p, const byte *end, seo_ids *out) {
    const byte *text = p;
    while (p < end) {
        int32_t id = special_at(enc->tok, p, end);
        if (id < 0) {
            p++;
            continue;
        }
        const seo_piece *piece = &enc->tok->pieces[id];
        const byte *end_of_text = piece->strips_left ? before_space(text, p) : p;
        seo_err err = encode_ordinary(enc, text, end_of_text, out);
        if (err == SEO_OK) err = reserve(out, 1);
        if (err != SEO_OK) return err;
        out->items[out->count++] = id;
        p += piece->bytes;
        text = p;
    }
    return encode_ordinary(enc, text, end, out);
}

seo_err seo_encode(seo_encoder *enc, const void *text, size_t bytes, bool with_special,
                   seo_ids *out) {
    if (bytes == 0) return SEO_OK;
    const byte *p = text;
    return with_special ? encode_with_special(enc, p, p + bytes, out)
                        : encode_ordinary(enc, p, p + bytes, out);
}
