/* The inside of a WordPiece vocabulary, for data/ only: a trie over the bytes of its pieces with
 * one root for the beginnings of words and one for what goes on ("##ing" without its ##). */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/text.h"
#include "data/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SEO_WORDPIECE_PREFIX "##"

/* Edges in an open hash table. Zero-initialise; free with seo_trie_free. */
typedef struct seo_trie {
    uint64_t *edges; /* (node << 8 | byte) << 32 | next node; all ones: empty */
    int64_t edge_count, slot_count;
    int32_t *ids; /* of each node, -1 where no piece ends */
    int64_t node_count, node_capacity;
} seo_trie;

enum { SEO_TRIE_BEGIN, SEO_TRIE_INSIDE }; /* the two roots */

/* Adds a piece as the vocabulary spells it. */
seo_err seo_trie_add(seo_trie *trie, const char *piece, size_t bytes, int32_t id);
/* The id of the longest piece that [p, end) begins with, or -1; *length is set to its bytes. */
int32_t seo_trie_longest(const seo_trie *trie, int32_t root, const unsigned char *p,
                         const unsigned char *end, int64_t *length);
void seo_trie_free(seo_trie *trie);

/* Decoding: makes of a piece that is not the first of a text what has to be written, and appends
 * the space before it where there is one. */
void seo_wordpiece_join(const unsigned char **bytes, size_t *count, seo_buf *out);

#ifdef __cplusplus
}
#endif
