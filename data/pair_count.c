#include "data/pair_count.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

enum { FIRST_SLOTS = 1 << 16 };

static seo_err no_memory(void) {
    return SEO_FAIL(SEO_ERR_MEMORY, "not enough memory for the pairs of the words");
}

/* ---- the table ---- */

static inline uint64_t first_slot(const seo_pair_counts *p, uint64_t key) {
    uint64_t mixed = key * 0x9E3779B97F4A7C15u;
    return (mixed ^ mixed >> 32) & ((uint64_t)p->slot_count - 1);
}

static inline seo_pair *slot_of(const seo_pair_counts *p, uint64_t key) {
    uint64_t mask = (uint64_t)p->slot_count - 1;
    uint64_t at = first_slot(p, key);
    while (p->slots[at].key != key && p->slots[at].key != UINT64_MAX) at = (at + 1) & mask;
    return &p->slots[at];
}

static seo_err table_grow(seo_pair_counts *p) {
    int64_t larger = p->slot_count == 0 ? FIRST_SLOTS : 2 * p->slot_count;
    seo_pair *old = p->slots;
    int64_t old_count = p->slot_count;
    seo_pair *slots = malloc((size_t)larger * sizeof *slots);
    if (slots == NULL) return no_memory();
    memset(slots, 0xFF, (size_t)larger * sizeof *slots);
    p->slots = slots;
    p->slot_count = larger;
    for (int64_t i = 0; i < old_count; i++) {
        if (old[i].key != UINT64_MAX) *slot_of(p, old[i].key) = old[i];
    }
    free(old);
    return SEO_OK;
}

seo_pair *seo_pair_find(const seo_pair_counts *p, uint64_t key) {
    if (p->slot_count == 0) return NULL;
    seo_pair *pair = slot_of(p, key);
    return pair->key == key ? pair : NULL;
}

void seo_pair_prefetch(const seo_pair_counts *p, uint64_t key) {
    __builtin_prefetch(&p->slots[first_slot(p, key)]);
}

/* ---- the places ---- */

static seo_err more_chunks(seo_pair_counts *p) {
    int64_t larger = p->chunk_capacity + p->chunk_capacity / 2 + (1 << 14);
    larger = seo_min_i64(larger, (int64_t)SEO_NO_CHUNK - 1);
    if (p->chunk_count == larger) {
        return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                        "the text has too many different words: train on a part of it");
    }
    seo_place_chunk *moved = realloc(p->chunks, (size_t)larger * sizeof *moved);
    if (moved == NULL) return no_memory();
    p->chunks = moved;
    p->chunk_capacity = larger;
    return SEO_OK;
}

/* An empty chunk, which comes after the pair's last one. */
static seo_err append_chunk(seo_pair_counts *p, seo_pair *pair) {
    uint32_t chunk = 0;
    if (p->unused != 0) {
        chunk = p->unused - 1;
        p->unused = p->chunks[chunk].next;
    } else {
        seo_err err = p->chunk_count < p->chunk_capacity ? SEO_OK : more_chunks(p);
        if (err != SEO_OK) return err;
        chunk = (uint32_t)p->chunk_count++;
    }
    p->chunks[chunk].count = 0;
    p->chunks[chunk].next = SEO_NO_CHUNK;
    if (pair->first == SEO_NO_CHUNK) {
        pair->first = chunk;
    } else {
        p->chunks[pair->last].next = chunk;
    }
    pair->last = chunk;
    return SEO_OK;
}

int64_t seo_pair_take_places(seo_pair_counts *p, uint32_t *chunk, uint32_t *places,
                             int64_t capacity) {
    int64_t taken = 0;
    while (*chunk != SEO_NO_CHUNK && capacity - taken >= SEO_CHUNK_PLACES) {
        uint32_t at = *chunk;
        seo_place_chunk *c = &p->chunks[at];
        *chunk = c->next;
        memcpy(places + taken, c->places, sizeof c->places);
        taken += c->count;
        c->next = p->unused;
        p->unused = at + 1;
    }
    return taken;
}

seo_err seo_pair_add(seo_pair_counts *p, uint64_t key, int64_t count, uint32_t place,
                     bool *is_new) {
    if (10 * p->pair_count >= 7 * p->slot_count) {
        seo_err err = table_grow(p);
        if (err != SEO_OK) return err;
    }
    seo_pair *pair = slot_of(p, key);
    *is_new = pair->key != key;
    if (*is_new) {
        *pair = (seo_pair){.key = key, .first = SEO_NO_CHUNK};
        p->pair_count++;
    }
    if (pair->first == SEO_NO_CHUNK || p->chunks[pair->last].count == SEO_CHUNK_PLACES) {
        seo_err err = append_chunk(p, pair);
        if (err != SEO_OK) return err;
    }
    seo_place_chunk *last = &p->chunks[pair->last];
    last->places[last->count++] = place;
    pair->count += count;
    return SEO_OK;
}

/* ---- the candidates ---- */

static inline bool comes_before(const seo_candidate *a, const seo_candidate *b) {
    return a->count > b->count || (a->count == b->count && a->key < b->key);
}

/* Lets `entry` sink from the root until nothing below it comes before it. */
static void heap_settle(seo_pair_counts *p, seo_candidate entry) {
    int64_t at = 0;
    for (int64_t child = 1; child < p->heap_count; child = 2 * at + 1) {
        if (child + 1 < p->heap_count && comes_before(&p->heap[child + 1], &p->heap[child]))
            child++;
        if (!comes_before(&p->heap[child], &entry)) break;
        p->heap[at] = p->heap[child];
        at = child;
    }
    p->heap[at] = entry;
}

seo_err seo_pair_push(seo_pair_counts *p, uint64_t key) {
    if (p->heap_count == p->heap_capacity) {
        int64_t larger = 2 * p->heap_capacity + 1024;
        seo_candidate *moved = realloc(p->heap, (size_t)larger * sizeof *moved);
        if (moved == NULL) return no_memory();
        p->heap = moved;
        p->heap_capacity = larger;
    }
    seo_candidate entry = {.count = seo_pair_find(p, key)->count, .key = key};
    int64_t at = p->heap_count++;
    for (; at > 0 && comes_before(&entry, &p->heap[(at - 1) / 2]); at = (at - 1) / 2) {
        p->heap[at] = p->heap[(at - 1) / 2];
    }
    p->heap[at] = entry;
    return SEO_OK;
}

bool seo_pair_pop(seo_pair_counts *p, int64_t least, uint64_t *key) {
    while (p->heap_count > 0) {
        seo_candidate top = p->heap[0];
        int64_t count = seo_pair_find(p, top.key)->count;
        if (count == top.count && count >= least) *key = top.key;
        if (count != top.count && count >= least) {
            heap_settle(p, (seo_candidate){.count = count, .key = top.key});
            continue;
        }
        seo_candidate last = p->heap[--p->heap_count];
        if (p->heap_count > 0) heap_settle(p, last);
        if (count == top.count && count >= least) return true;
    }
    return false;
}

void seo_pair_counts_free(seo_pair_counts *p) {
    free(p->slots);
    free(p->chunks);
    free(p->heap);
    *p = (seo_pair_counts){0};
}
