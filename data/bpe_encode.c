/* Text to ids by byte pairs: a cache of words in front of the merges.
 *
 * Most words of a text were seen before. A word that was not is merged by scanning its pairs while
 * it is short, and with a heap of (rank, place) when it is long, so that no word costs more than
 * n log n. Both give the merge order of data/vocabulary.h. */
#include <stdlib.h>
#include <string.h>

#include "data/encoder.h"
#include "data/pretoken.h"

typedef unsigned char byte;

enum {
    SCANNED_BYTES_MAX = 96,        /* longer words take the heap */
    WORD_BYTES_MAX = INT32_MAX - 1 /* places in a word are 32-bit */
};

void seo_long_word_free(seo_long_word *w) {
    free(w->ids);
    free(w->ranks);
    free(w->next);
    free(w->previous);
    free(w->heap);
    *w = (seo_long_word){0};
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

static seo_err long_word_reserve(seo_long_word *w, int64_t bytes) {
    if (bytes <= w->capacity) return SEO_OK;
    seo_long_word_free(w);
    size_t n = (size_t)bytes;
    w->ids = malloc(n * sizeof *w->ids);
    w->ranks = malloc(n * sizeof *w->ranks);
    w->next = malloc(n * sizeof *w->next);
    w->previous = malloc(n * sizeof *w->previous);
    /* There are at most n pairs to begin with, and each merge takes one entry and adds two. */
    w->heap = malloc(2 * n * sizeof *w->heap);
    if (!w->ids || !w->ranks || !w->next || !w->previous || !w->heap) {
        seo_long_word_free(w);
        return SEO_FAIL(SEO_ERR_MEMORY, "not enough memory to encode a word of %lld bytes",
                        (long long)bytes);
    }
    w->capacity = bytes;
    return SEO_OK;
}

static void heap_push(seo_long_word *w, int32_t rank, int32_t place) {
    uint64_t entry = (uint64_t)(uint32_t)rank << 32 | (uint32_t)place;
    int64_t at = w->heap_count++;
    for (; at > 0 && entry < w->heap[(at - 1) / 2]; at = (at - 1) / 2) {
        w->heap[at] = w->heap[(at - 1) / 2];
    }
    w->heap[at] = entry;
}

static uint64_t heap_pop(seo_long_word *w) {
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

static void pair_changed(const seo_tokenizer *tok, seo_long_word *w, int32_t at) {
    int32_t next = w->next[at];
    w->ranks[at] = next < 0 ? -1 : seo_pair_rank(&tok->pairs, w->ids[at], w->ids[next]);
    if (w->ranks[at] >= 0) heap_push(w, w->ranks[at], at);
}

/* Appends the ids of a word; `out` has room for them. */
static void merge_with_heap(const seo_tokenizer *tok, seo_long_word *w, const byte *word,
                            int32_t bytes, seo_ids *out) {
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

/* Appends the ids of a word of at most SEO_CACHED_BYTES_MAX bytes, of which `readable` may be read;
 * `out` has room for SEO_CACHED_BYTES_MAX. */
static inline void encode_cached(seo_encoder *enc, const byte *word, size_t bytes, size_t readable,
                                 seo_ids *out) {
    seo_word_key key = seo_word_pack(word, bytes, readable);
    uint64_t place = seo_word_place(&key);
    int32_t *ids = out->items + out->count;
    int64_t count = seo_word_cache_get(&enc->cache, &key, place, ids);
    if (count < 0) {
        count = merge_scanning(enc->tok, word, (int32_t)bytes, ids);
        seo_word_cache_put(&enc->cache, place, key, ids, count);
    }
    out->count += count;
}

static seo_err encode_bytes(const seo_tokenizer *tok, const byte *p, const byte *end,
                            seo_ids *out) {
    seo_err err = seo_ids_reserve(out, end - p);
    if (err != SEO_OK) return err;
    for (; p < end; p++) out->items[out->count++] = tok->byte_ids[*p];
    return SEO_OK;
}

seo_err seo_encode_bpe(seo_encoder *enc, const byte *p, const byte *end, seo_ids *out) {
    if (enc->tok->merge_count == 0) return encode_bytes(enc->tok, p, end, out);
    while (p < end) {
        const byte *word = p;
        p = seo_pretoken_end(word, end);
        size_t bytes = (size_t)(p - word);
        seo_err err = seo_ids_reserve(out, (int64_t)bytes + SEO_CACHED_BYTES_MAX);
        if (err != SEO_OK) return err;
        if (bytes <= SEO_CACHED_BYTES_MAX) {
            encode_cached(enc, word, bytes, (size_t)(end - word), out);
        } else {
            err = encode_uncached(enc, word, bytes, out);
            if (err != SEO_OK) return err;
        }
    }
    return SEO_OK;
}
