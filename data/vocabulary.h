/* The inside of a tokenizer, for data/ only: pieces, merges, and the builder through which every
 * reader and the trainers make one. The builder is where a vocabulary is checked; nothing that
 * comes out of it needs checking again. WordPiece has no merges but a trie (data/wordpiece.h).
 *
 * Byte-pair encoding (Sennrich et al. 2016, on bytes as in Radford et al. 2019): a word starts as
 * its bytes; the neighbouring pair of the lowest rank, the leftmost of equals, is merged until no
 * pair is left that has a rank. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/text.h"
#include "data/tokenizer.h"
#include "data/wordpiece.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SEO_EOT_TEXT "<|endoftext|>"

typedef struct seo_piece {
    int64_t offset; /* of its bytes in the tokenizer's */
    int32_t bytes;  /* 0: no such id */
    bool special;
    bool strips_left; /* a special token that takes the white space before it */
} seo_piece;

/* left + right become `result`; a merge's rank is its index. Ids of the vocabulary. */
typedef struct seo_merge {
    int32_t left, right, result;
} seo_merge;

/* An open hash table from a pair of ids to the rank of its merge. Most questions are about pairs
 * without one, so keys stand apart from ranks. */
typedef struct seo_pair_table {
    uint64_t *keys; /* left << 32 | right; all ones: empty */
    int32_t *ranks;
    int shift; /* 64 - log2 of the number of slots */
    uint64_t mask;
} seo_pair_table;

struct seo_tokenizer {
    seo_tokenizer_kind kind;
    seo_wordpiece_rules rules; /* WordPiece */
    seo_trie trie;             /* WordPiece */
    seo_buf bytes;             /* of all pieces, end to end */
    seo_piece *pieces;
    int64_t id_count; /* largest id + 1; ids in between may be missing */
    seo_merge *merges;
    int64_t merge_count;
    seo_pair_table pairs;
    int32_t byte_ids[256];
    int32_t *specials; /* by first byte, the longest first */
    int64_t special_count;
    bool special_first[256]; /* some special token begins with this byte */
    int32_t roles[SEO_ROLE_COUNT];
    char sha256[SEO_SHA256_HEX];
};

/* The rank of the merge of (left, right), or -1. */
static inline int32_t seo_pair_rank(const seo_pair_table *t, int32_t left, int32_t right) {
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    uint64_t at = key * 0x9E3779B97F4A7C15u >> t->shift;
    while (t->keys[at] != key) {
        if (t->keys[at] == UINT64_MAX) return -1;
        at = (at + 1) & t->mask;
    }
    return t->ranks[at];
}

/* Collects a vocabulary. Zero-initialise; seo_vocab_builder_free after success and failure alike.
 */
typedef struct seo_vocab_builder {
    seo_tokenizer_kind kind;
    seo_wordpiece_rules rules; /* WordPiece */
    seo_tokenizer *tok;
    struct seo_vocab_entry *entries;
    int64_t entry_count, entry_capacity, merge_capacity;
    int32_t *index; /* open hash table of ordinary pieces: id + 1, 0 is empty */
    uint64_t index_mask;
} seo_vocab_builder;

/* First all pieces, in any order. */
seo_err seo_vocab_builder_piece(seo_vocab_builder *b, int64_t id, const void *bytes, size_t count);
seo_err seo_vocab_builder_special(seo_vocab_builder *b, int64_t id, const char *text, size_t count);
/* The special token just given takes the white space before it with it, as RoBERTa's <mask>. */
void seo_vocab_builder_strip_left(seo_vocab_builder *b);
/* Then once: every id given once, every ordinary piece once, for BPE all 256 bytes there, and ids
 * so dense that a table of them is no larger than the file deserves. */
seo_err seo_vocab_builder_index(seo_vocab_builder *b);
/* Then, for BPE, the merges in the order of their ranks. Both parts and the whole must be ordinary
 * pieces. */
seo_err seo_vocab_builder_merge(seo_vocab_builder *b, const void *left, size_t left_bytes,
                                const void *right, size_t right_bytes);
/* Then the tokenizer, with its hash. WordPiece needs an unknown token. */
seo_err seo_vocab_builder_finish(seo_vocab_builder *b, seo_tokenizer **out);
void seo_vocab_builder_free(seo_vocab_builder *b);

/* Fills specials, special_first and roles from the pieces; two ids of one text are refused. */
seo_err seo_tokenizer_index_specials(seo_tokenizer *tok);
/* The id of the special token spelled text[0..bytes), or -1. */
int32_t seo_tokenizer_special_find(const seo_tokenizer *tok, const char *text, size_t bytes);

/* Appends the canonical tokenizer.json: one spelling of every tokenizer, byte for byte. */
seo_err seo_tokenizer_write(const seo_tokenizer *tok, seo_buf *out);

#ifdef __cplusplus
}
#endif
