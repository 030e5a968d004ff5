/* Text to ids: special tokens are looked for where they are asked for, and what is between them is
 * encoded as the vocabulary's kind does. */
#include <stdlib.h>
#include <string.h>

#include "data/encoder.h"
#include "data/unicode.h"

typedef unsigned char byte;

seo_err seo_encoder_open(const seo_tokenizer *tok, seo_encoder **out) {
    seo_encoder *enc = calloc(1, sizeof *enc);
    if (enc != NULL) enc->tok = tok;
    if (enc == NULL || !seo_word_cache_init(&enc->cache)) {
        seo_encoder_close(enc);
        return SEO_FAIL(SEO_ERR_MEMORY, "not enough memory for an encoder");
    }
    *out = enc;
    return SEO_OK;
}

void seo_encoder_close(seo_encoder *enc) {
    if (enc == NULL) return;
    seo_word_cache_free(&enc->cache);
    seo_long_word_free(&enc->longest);
    seo_basic_words_free(&enc->words);
    free(enc);
}

void seo_ids_free(seo_ids *ids) {
    free(ids->items);
    *ids = (seo_ids){0};
}

seo_err seo_ids_reserve(seo_ids *ids, int64_t more) {
    if (ids->capacity - ids->count >= more) return SEO_OK;
    int64_t capacity = seo_max_i64(ids->capacity + ids->capacity / 2, ids->count + more) + 64;
    int32_t *items = realloc(ids->items, (size_t)capacity * sizeof *items);
    if (items == NULL) return SEO_FAIL(SEO_ERR_MEMORY, "not enough memory for the ids of a text");
    ids->items = items;
    ids->capacity = capacity;
    return SEO_OK;
}

static seo_err encode_ordinary(seo_encoder *enc, const byte *p, const byte *end, seo_ids *out) {
    return enc->tok->kind == SEO_TOKENIZER_WORDPIECE ? seo_encode_wordpiece(enc, p, end, out)
                                                     : seo_encode_bpe(enc, p, end, out);
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
        if (err == SEO_OK) err = seo_ids_reserve(out, 1);
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
