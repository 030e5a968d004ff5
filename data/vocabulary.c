#include "data/vocabulary.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "data/byte_level.h"

/* Limits of what a file may ask for. */
enum { PIECE_BYTES_MAX = 1 << 20, SPARE_IDS = 1 << 16 };

typedef struct seo_vocab_entry {
    int64_t offset;
    int32_t id, bytes;
    bool special, strips_left;
} entry;

static seo_err no_memory(void) {
    return SEO_FAIL(SEO_ERR_MEMORY, "not enough memory for the tokenizer");
}

/* Makes room for one more item of `size` bytes. */
static seo_err grow(void **items, int64_t count, int64_t *capacity, size_t size) {
    if (count < *capacity) return SEO_OK;
    int64_t larger = *capacity * 2 + 1024;
    void *moved = realloc(*items, (size_t)larger * size);
    if (moved == NULL) return no_memory();
    *items = moved;
    *capacity = larger;
    return SEO_OK;
}

/* A piece as a message shows it: as its file spells it, shortened. */
static const char *show(const seo_vocab_builder *b, const void *bytes, size_t count,
                        seo_buf *text) {
    size_t shown = count < 60 ? count : 60;
    seo_buf_clear(text);
    if (b->kind == SEO_TOKENIZER_BPE) {
        seo_byte_level_spell(text, bytes, shown);
    } else {
        seo_buf_add(text, bytes, shown);
    }
    if (count > 60) seo_buf_text(text, "...");
    return text->data != NULL ? text->data : "";
}

static seo_err add_entry(seo_vocab_builder *b, int64_t id, const void *bytes, size_t count) {
    if (b->tok == NULL) b->tok = calloc(1, sizeof *b->tok);
    if (b->tok == NULL) return no_memory();
    if (id < 0 || id > INT32_MAX - 1) {
        return SEO_FAIL(SEO_ERR_FORMAT, "id %lld is outside 0..%d", (long long)id, INT32_MAX - 1);
    }
    if (count == 0) return SEO_FAIL(SEO_ERR_FORMAT, "id %lld is an empty piece", (long long)id);
    if (count > PIECE_BYTES_MAX) {
        return SEO_FAIL(SEO_ERR_FORMAT, "id %lld is a piece of %zu bytes, the limit is %d",
                        (long long)id, count, PIECE_BYTES_MAX);
    }
    seo_err err =
        grow((void **)&b->entries, b->entry_count, &b->entry_capacity, sizeof *b->entries);
    if (err != SEO_OK) return err;
    b->entries[b->entry_count++] =
        (entry){.offset = (int64_t)b->tok->bytes.bytes, .id = (int32_t)id, .bytes = (int32_t)count};
    seo_buf_add(&b->tok->bytes, bytes, count);
    return seo_buf_check(&b->tok->bytes);
}

seo_err seo_vocab_builder_piece(seo_vocab_builder *b, int64_t id, const void *bytes, size_t count) {
    return add_entry(b, id, bytes, count);
}

seo_err seo_vocab_builder_special(seo_vocab_builder *b, int64_t id, const char *text,
                                  size_t count) {
    seo_err err = add_entry(b, id, text, count);
    if (err == SEO_OK) b->entries[b->entry_count - 1].special = true;
    return err;
}

void seo_vocab_builder_strip_left(seo_vocab_builder *b) {
    SEO_ASSERT(b->entry_count > 0 && b->entries[b->entry_count - 1].special);
    b->entries[b->entry_count - 1].strips_left = true;
}

static const void *piece_bytes(const seo_tokenizer *tok, int32_t id) {
    return tok->bytes.data + tok->pieces[id].offset;
}

static uint64_t hash_bytes(const void *left, size_t left_bytes, const void *right,
                           size_t right_bytes) {
    const unsigned char *parts[2] = {left, right};
    size_t counts[2] = {left_bytes, right_bytes};
    uint64_t h = 0xCBF29CE484222325u;
    for (int part = 0; part < 2; part++) {
        for (size_t i = 0; i < counts[part]; i++) h = (h ^ parts[part][i]) * 0x100000001B3u;
    }
    return h ^ h >> 29;
}

/* The slot of the ordinary piece left + right, or the empty slot where it would stand. */
static int32_t *index_slot(const seo_vocab_builder *b, const void *left, size_t left_bytes,
                           const void *right, size_t right_bytes) {
    uint64_t at = hash_bytes(left, left_bytes, right, right_bytes);
    for (;; at++) {
        int32_t *slot = &b->index[at & b->index_mask];
        if (*slot == 0) return slot;
        const seo_piece *piece = &b->tok->pieces[*slot - 1];
        const char *bytes = b->tok->bytes.data + piece->offset;
        if ((size_t)piece->bytes == left_bytes + right_bytes &&
            memcmp(bytes, left, left_bytes) == 0 &&
            (right_bytes == 0 || memcmp(bytes + left_bytes, right, right_bytes) == 0))
            return slot;
    }
}

static seo_err place_entry(seo_vocab_builder *b, const entry *e) {
    seo_tokenizer *tok = b->tok;
    const char *bytes = tok->bytes.data + e->offset;
    seo_buf one = {0}, other = {0};
    seo_err err = SEO_OK;
    seo_piece *piece = &tok->pieces[e->id];
    if (piece->bytes > 0) {
        err = SEO_FAIL(SEO_ERR_FORMAT, "id %d is given to '%s' and to '%s'", e->id,
                       show(b, piece_bytes(tok, e->id), (size_t)piece->bytes, &one),
                       show(b, bytes, (size_t)e->bytes, &other));
        goto done;
    }
    *piece = (seo_piece){.offset = e->offset,
                         .bytes = e->bytes,
                         .special = e->special,
                         .strips_left = e->strips_left};
    if (e->special) {
        tok->special_count++;
        goto done;
    }
    int32_t *slot = index_slot(b, bytes, (size_t)e->bytes, "", 0);
    if (*slot != 0) {
        err = SEO_FAIL(SEO_ERR_FORMAT, "'%s' has two ids, %d and %d",
                       show(b, bytes, (size_t)e->bytes, &one), *slot - 1, e->id);
        goto done;
    }
    *slot = e->id + 1;
done:
    seo_buf_free(&one);
    seo_buf_free(&other);
    return err;
}

static seo_err find_bytes(seo_vocab_builder *b) {
    for (int byte = 0; byte < 256; byte++) {
        unsigned char one = (unsigned char)byte;
        int32_t id = *index_slot(b, &one, 1, "", 0) - 1;
        if (id < 0) {
            return SEO_FAIL(SEO_ERR_FORMAT,
                            "byte 0x%02X has no id: a byte-level vocabulary needs all 256", byte);
        }
        b->tok->byte_ids[byte] = id;
    }
    return SEO_OK;
}

seo_err seo_vocab_builder_index(seo_vocab_builder *b) {
    if (b->tok == NULL) return SEO_FAIL(SEO_ERR_FORMAT, "the vocabulary is empty");
    seo_tokenizer *tok = b->tok;
    for (int64_t i = 0; i < b->entry_count; i++) {
        tok->id_count = seo_max_i64(tok->id_count, (int64_t)b->entries[i].id + 1);
    }
    if (tok->id_count > 2 * b->entry_count + SPARE_IDS) {
        return SEO_FAIL(SEO_ERR_FORMAT, "the largest id is %lld, but there are only %lld entries",
                        (long long)tok->id_count - 1, (long long)b->entry_count);
    }
    uint64_t slots = 1024;
    while (slots < 2 * (uint64_t)b->entry_count) slots *= 2;
    b->index_mask = slots - 1;
    b->index = calloc(slots, sizeof *b->index);
    tok->pieces = calloc((size_t)tok->id_count, sizeof *tok->pieces);
    if (b->index == NULL || tok->pieces == NULL) return no_memory();
    for (int64_t i = 0; i < b->entry_count; i++) {
        seo_err err = place_entry(b, &b->entries[i]);
        if (err != SEO_OK) return err;
    }
    tok->kind = b->kind;
    tok->rules = b->rules;
    return b->kind == SEO_TOKENIZER_BPE ? find_bytes(b) : SEO_OK;
}

seo_err seo_vocab_builder_merge(seo_vocab_builder *b, const void *left, size_t left_bytes,
                                const void *right, size_t right_bytes) {
    seo_tokenizer *tok = b->tok;
    seo_err err = SEO_OK;
    seo_buf one = {0}, other = {0};
    if (tok->merge_count == INT32_MAX) return SEO_FAIL(SEO_ERR_FORMAT, "too many merges");
    SEO_TRY(grow((void **)&tok->merges, tok->merge_count, &b->merge_capacity, sizeof *tok->merges));
    seo_merge merge = {.left = *index_slot(b, left, left_bytes, "", 0) - 1,
                       .right = *index_slot(b, right, right_bytes, "", 0) - 1,
                       .result = *index_slot(b, left, left_bytes, right, right_bytes) - 1};
    if (merge.left < 0 || merge.right < 0) {
        err = SEO_FAIL(SEO_ERR_FORMAT, "'%s' is not in the vocabulary",
                       merge.left < 0 ? show(b, left, left_bytes, &one)
                                      : show(b, right, right_bytes, &one));
    } else if (merge.result < 0) {
        err = SEO_FAIL(SEO_ERR_FORMAT, "'%s' and '%s' together are not in the vocabulary",
                       show(b, left, left_bytes, &one), show(b, right, right_bytes, &other));
    } else {
        tok->merges[tok->merge_count++] = merge;
    }
done:
    seo_buf_free(&one);
    seo_buf_free(&other);
    return err;
}

static seo_err fill_pairs(seo_tokenizer *tok) {
    int bits = 4;
    while ((int64_t)1 << bits < 2 * tok->merge_count) bits++;
    size_t slots = (size_t)1 << bits;
    seo_pair_table *t = &tok->pairs;
    t->shift = 64 - bits;
    t->mask = slots - 1;
    t->keys = malloc(slots * sizeof *t->keys);
    t->ranks = calloc(slots, sizeof *t->ranks);
    if (t->keys == NULL || t->ranks == NULL) return no_memory();
    memset(t->keys, 0xFF, slots * sizeof *t->keys);
    for (int64_t rank = 0; rank < tok->merge_count; rank++) {
        const seo_merge *m = &tok->merges[rank];
        int32_t earlier = seo_pair_rank(t, m->left, m->right);
        if (earlier >= 0) {
            return SEO_FAIL(SEO_ERR_FORMAT, "merge %lld is merge %d again", (long long)rank,
                            earlier);
        }
        uint64_t key = (uint64_t)(uint32_t)m->left << 32 | (uint32_t)m->right;
        uint64_t at = key * 0x9E3779B97F4A7C15u >> t->shift;
        while (t->keys[at] != UINT64_MAX) at = (at + 1) & t->mask;
        t->keys[at] = key;
        t->ranks[at] = (int32_t)rank;
    }
    return SEO_OK;
}

static seo_err fill_trie(seo_tokenizer *tok) {
    if (tok->roles[SEO_ROLE_UNK] < 0) {
        return SEO_FAIL(SEO_ERR_FORMAT, "a WordPiece vocabulary needs [UNK], for words that it "
                                        "cannot spell");
    }
    for (int32_t id = 0; id < tok->id_count; id++) {
        const seo_piece *piece = &tok->pieces[id];
        if (piece->bytes == 0) continue;
        seo_err err = seo_trie_add(&tok->trie, piece_bytes(tok, id), (size_t)piece->bytes, id);
        if (err != SEO_OK) return err;
    }
    return SEO_OK;
}

seo_err seo_vocab_builder_finish(seo_vocab_builder *b, seo_tokenizer **out) {
    seo_tokenizer *tok = b->tok;
    seo_buf text = {0};
    seo_err err = SEO_OK;
    SEO_TRY(seo_tokenizer_index_specials(tok));
    SEO_TRY(tok->kind == SEO_TOKENIZER_BPE ? fill_pairs(tok) : fill_trie(tok));
    SEO_TRY(seo_tokenizer_write(tok, &text));
    seo_sha256_hex(text.data, text.bytes, tok->sha256);
    b->tok = NULL;
    *out = tok;
done:
    seo_buf_free(&text);
    return err;
}

void seo_vocab_builder_free(seo_vocab_builder *b) {
    free(b->index);
    free(b->entries);
    seo_tokenizer_free(b->tok);
    *b = (seo_vocab_builder){0};
}

void seo_tokenizer_free(seo_tokenizer *tok) {
    if (tok == NULL) return;
    seo_buf_free(&tok->bytes);
    free(tok->pieces);
    free(tok->merges);
    free(tok->pairs.keys);
    free(tok->pairs.ranks);
    free(tok->specials);
    seo_trie_free(&tok->trie);
    free(tok);
}

int64_t seo_tokenizer_vocab_size(const seo_tokenizer *tok) {
    return tok->id_count;
}

int64_t seo_tokenizer_merge_count(const seo_tokenizer *tok) {
    return tok->merge_count;
}

const char *seo_tokenizer_sha256(const seo_tokenizer *tok) {
    return tok->sha256;
}

bool seo_tokenizer_piece(const seo_tokenizer *tok, int32_t id, const unsigned char **bytes,
                         size_t *count) {
    if (id < 0 || id >= tok->id_count || tok->pieces[id].bytes == 0) return false;
    *bytes = piece_bytes(tok, id);
    *count = (size_t)tok->pieces[id].bytes;
    return true;
}

bool seo_tokenizer_is_special(const seo_tokenizer *tok, int32_t id) {
    return id >= 0 && id < tok->id_count && tok->pieces[id].special;
}

seo_tokenizer_kind seo_tokenizer_kind_of(const seo_tokenizer *tok) {
    return tok->kind;
}

seo_wordpiece_rules seo_tokenizer_rules(const seo_tokenizer *tok) {
    return tok->rules;
}

seo_err seo_decode_one(const seo_tokenizer *tok, int32_t id, bool first, seo_buf *out) {
    const unsigned char *bytes;
    size_t length;
    if (!seo_tokenizer_piece(tok, id, &bytes, &length)) {
        return SEO_FAIL(SEO_ERR_FORMAT, "there is no id %d in a vocabulary of %lld", id,
                        (long long)tok->id_count);
    }
    if (tok->kind == SEO_TOKENIZER_WORDPIECE && !first) {
        seo_wordpiece_join(&bytes, &length, out);
    }
    seo_buf_add(out, bytes, length);
    return seo_buf_check(out);
}

seo_err seo_decode(const seo_tokenizer *tok, const int32_t *ids, int64_t count, seo_buf *out) {
    for (int64_t i = 0; i < count; i++) {
        seo_err err = seo_decode_one(tok, ids[i], i == 0, out);
        if (err != SEO_OK) return err;
    }
    return SEO_OK;
}
