#include "data/wordpiece.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

/* A node and a byte make 32 bits. */
enum { NODES_MAX = 1 << 24 };

enum { FIRST_SLOTS = 1 << 10, PREFIX_BYTES = sizeof SEO_WORDPIECE_PREFIX - 1 };

static seo_err no_memory(void) {
    return SEO_FAIL(SEO_ERR_MEMORY, "not enough memory for the tokenizer");
}

/* The slot of an edge, or the empty one where it would stand. */
static inline int64_t slot_of(const uint64_t *edges, int64_t slot_count, int32_t node,
                              unsigned char byte) {
    uint32_t key = (uint32_t)node << 8 | byte;
    uint64_t hash = key * 0x9E3779B97F4A7C15u;
    int64_t at = (int64_t)((hash ^ hash >> 32) & (uint64_t)(slot_count - 1));
    while (edges[at] >> 32 != key && edges[at] != UINT64_MAX) at = (at + 1) & (slot_count - 1);
    return at;
}

static seo_err grow_edges(seo_trie *trie) {
    int64_t larger = trie->slot_count == 0 ? FIRST_SLOTS : 2 * trie->slot_count;
    uint64_t *edges = malloc((size_t)larger * sizeof *edges);
    if (edges == NULL) return no_memory();
    memset(edges, 0xFF, (size_t)larger * sizeof *edges);
    for (int64_t i = 0; i < trie->slot_count; i++) {
        uint64_t edge = trie->edges[i];
        if (edge == UINT64_MAX) continue;
        edges[slot_of(edges, larger, (int32_t)(edge >> 40), (unsigned char)(edge >> 32))] = edge;
    }
    free(trie->edges);
    trie->edges = edges;
    trie->slot_count = larger;
    return SEO_OK;
}

static seo_err add_node(seo_trie *trie, int32_t *node) {
    /* The last number is left out, so that no edge is all ones. */
    if (trie->node_count == NODES_MAX - 1) {
        return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                        "the pieces of the vocabulary are too long together: "
                        "their trie has more than %d nodes",
                        NODES_MAX - 1);
    }
    if (trie->node_count == trie->node_capacity) {
        int64_t larger = 2 * trie->node_capacity + FIRST_SLOTS;
        int32_t *moved = realloc(trie->ids, (size_t)larger * sizeof *moved);
        if (moved == NULL) return no_memory();
        trie->ids = moved;
        trie->node_capacity = larger;
    }
    *node = (int32_t)trie->node_count;
    trie->ids[trie->node_count++] = -1;
    return SEO_OK;
}

/* Goes along an edge, which is made where there is none. */
static seo_err step(seo_trie *trie, int32_t *node, unsigned char byte) {
    seo_err err = SEO_OK;
    if (10 * trie->edge_count >= 6 * trie->slot_count) err = grow_edges(trie);
    if (err != SEO_OK) return err;
    int64_t at = slot_of(trie->edges, trie->slot_count, *node, byte);
    if (trie->edges[at] == UINT64_MAX) {
        int32_t fresh = 0;
        err = add_node(trie, &fresh);
        if (err != SEO_OK) return err;
        uint32_t key = (uint32_t)*node << 8 | byte;
        trie->edges[at] = (uint64_t)key << 32 | (uint32_t)fresh;
        trie->edge_count++;
    }
    *node = (int32_t)(uint32_t)trie->edges[at];
    return SEO_OK;
}

seo_err seo_trie_add(seo_trie *trie, const char *piece, size_t bytes, int32_t id) {
    for (int32_t root = 0; trie->node_count < 2; root++) {
        seo_err err = add_node(trie, &root);
        if (err != SEO_OK) return err;
    }
    bool inside = bytes > PREFIX_BYTES && memcmp(piece, SEO_WORDPIECE_PREFIX, PREFIX_BYTES) == 0;
    int32_t node = inside ? SEO_TRIE_INSIDE : SEO_TRIE_BEGIN;
    for (size_t i = inside ? PREFIX_BYTES : 0; i < bytes; i++) {
        seo_err err = step(trie, &node, (unsigned char)piece[i]);
        if (err != SEO_OK) return err;
    }
    trie->ids[node] = id;
    return SEO_OK;
}

int32_t seo_trie_longest(const seo_trie *trie, int32_t root, const unsigned char *p,
                         const unsigned char *end, int64_t *length) {
    int32_t best = -1, node = root;
    for (const unsigned char *at = p; at < end; at++) {
        uint64_t edge = trie->edges[slot_of(trie->edges, trie->slot_count, node, *at)];
        if (edge == UINT64_MAX) break;
        node = (int32_t)(uint32_t)edge;
        if (trie->ids[node] < 0) continue;
        best = trie->ids[node];
        *length = at + 1 - p;
    }
    return best;
}

void seo_trie_free(seo_trie *trie) {
    free(trie->edges);
    free(trie->ids);
    *trie = (seo_trie){0};
}

void seo_wordpiece_join(const unsigned char **bytes, size_t *count, seo_buf *out) {
    if (*count >= PREFIX_BYTES && memcmp(*bytes, SEO_WORDPIECE_PREFIX, PREFIX_BYTES) == 0) {
        *bytes += PREFIX_BYTES;
        *count -= PREFIX_BYTES;
        return;
    }
    bool close = *count > 0 && strchr(".,?!", **bytes) != NULL;
    if (!close) seo_buf_text(out, " ");
}
