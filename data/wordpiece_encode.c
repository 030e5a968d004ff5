/* Text to ids by WordPiece: a cache of words in front of the text rules and the trie.
 *
 * The raw text is cut where its words are cut anyway: at white space, around punctuation, around
 * Chinese characters. The ids of such a part depend on nothing else, so that a part that was seen
 * before has its ids in the cache, under its raw bytes. A step through the trie goes at most as far
 * as the longest piece, so the time is linear in the text. */
#include "data/encoder.h"

typedef unsigned char byte;

/* Of a first byte: L may be inside of a word (letters, digits, controls), S is ASCII white space, P
 * ASCII punctuation, M begins a longer sequence or none. */
enum { L, S, P, M };
static const byte first_class[256] = {
    L, L, L, L, L, L, L, L, L, S, S, L, L, S, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L,
    S, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, L, L, L, L, L, L, L, L, L, L, P, P, P, P, P, P,
    P, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, P, P, P, P, P,
    P, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, P, P, P, P, L,
    M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M,
    M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M,
    M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M,
    M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M};

/* The end of the part that begins at p. */
static inline const byte *part_end(const byte *p, const byte *end, bool chinese) {
    const byte *at = p;
    while (at < end && first_class[*at] == L) at++;
    if (at == end || first_class[*at] != M) return at > p ? at : p + 1;
    /* Where the part goes on is decided by what its characters are. */
    return seo_basic_end(p, end, chinese);
}

/* Appends the ids of one word, for which there is room. */
static void encode_word(const seo_tokenizer *tok, const byte *p, const byte *end,
                        int64_t characters, seo_ids *out) {
    int64_t before = out->count, length = 0;
    int32_t root = SEO_TRIE_BEGIN;
    bool spelled = characters <= tok->rules.characters_max;
    while (spelled && p < end) {
        int32_t id = seo_trie_longest(&tok->trie, root, p, end, &length);
        spelled = id >= 0;
        if (!spelled) break;
        out->items[out->count++] = id;
        p += length;
        root = SEO_TRIE_INSIDE;
    }
    if (spelled) return;
    out->count = before;
    out->items[out->count++] = tok->roles[SEO_ROLE_UNK];
}

static seo_err encode_part(seo_encoder *enc, const byte *part, size_t bytes, seo_ids *out) {
    const seo_tokenizer *tok = enc->tok;
    const seo_basic_rules rules = {tok->rules.lower_case, tok->rules.strip_accents,
                                   tok->rules.chinese};
    seo_err err = seo_basic_split(&rules, part, bytes, &enc->words);
    if (err == SEO_OK) err = seo_ids_reserve(out, enc->words.text_bytes);
    if (err != SEO_OK) return err;
    for (int64_t i = 0; i < enc->words.count; i++) {
        const seo_basic_word *word = &enc->words.items[i];
        encode_word(tok, enc->words.text + word->begin, enc->words.text + word->end,
                    word->characters, out);
    }
    return SEO_OK;
}

static inline seo_err encode_cached(seo_encoder *enc, const byte *part, size_t bytes,
                                    size_t readable, seo_ids *out) {
    seo_word_key key = seo_word_pack(part, bytes, readable);
    uint64_t place = seo_word_place(&key);
    seo_err err = seo_ids_reserve(out, SEO_CACHED_BYTES_MAX);
    if (err != SEO_OK) return err;
    int64_t count = seo_word_cache_get(&enc->cache, &key, place, out->items + out->count);
    if (count >= 0) {
        out->count += count;
        return SEO_OK;
    }
    int64_t before = out->count;
    err = encode_part(enc, part, bytes, out);
    if (err != SEO_OK) return err;
    count = out->count - before;
    if (count <= SEO_CACHED_BYTES_MAX)
        seo_word_cache_put(&enc->cache, place, key, out->items + before, count);
    return SEO_OK;
}

seo_err seo_encode_wordpiece(seo_encoder *enc, const byte *p, const byte *end, seo_ids *out) {
    bool chinese = enc->tok->rules.chinese;
    while (p < end) {
        if (first_class[*p] == S) {
            p++;
            continue;
        }
        const byte *part = p;
        p = part_end(part, end, chinese);
        size_t bytes = (size_t)(p - part);
        seo_err err = bytes <= SEO_CACHED_BYTES_MAX
                          ? encode_cached(enc, part, bytes, (size_t)(end - part), out)
                          : encode_part(enc, part, bytes, out);
        if (err != SEO_OK) return err;
    }
    return SEO_OK;
}
