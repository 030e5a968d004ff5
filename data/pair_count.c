#include "data/pair_count.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

enum { FIRST_SLOTS = 1 << 16 };

static seo_err no_memory(void) {
    return SEO_FAIL(SEO_ERR_MEMORY, "not enough memory for the pairs of the words");
}

/* ---- the table ---- */

static inline seo_pair *slot_of(const seo_pair_counts *p, uint64_t key) {
    uint64_t mask = (uint64_t)p->slot_count - 1;
    uint64_t mixed = key * 0x9E3779B97F4A7C15u;
    uint64_t at = (mixed ^ mixed >> 32) & mask;
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

/* ---- the places ---- */

static seo_err new_place(seo_pair_counts *p, uint32_t place, uint32_t *at) {
    if (p->unused != 0) {
        *at = p->unused - 1;
        p->unused = p->places[*at].next;
    } else {
        if (p->place_count == p->place_capacity) {
            int64_t larger = p->place_capacity + p->place_capacity / 2 + (1 << 16);
            if (larger > (int64_t)UINT32_MAX - 1) larger = (int64_t)UINT32_MAX - 1;
            if (p->place_count == larger) {
                return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                                "the text has too many different words: train on a part of it");
            }
            seo_pair_place *moved = realloc(p->places, (size_t)larger * sizeof *moved);
            if (moved == NULL) return no_memory();
            p->places = moved;
            p->place_capacity = larger;
        }
        *at = (uint32_t)p->place_count++;
    }
    p->places[*at] = (seo_pair_place){.place = place, .next = SEO_NO_PLACE};
    return SEO_OK;
}

uint32_t seo_pair_take_place(seo_pair_counts *p, uint32_t *at) {
    if (*at == SEO_NO_PLACE) return SEO_NO_PLACE;
    uint32_t entry = *at, place = p->places[entry].place;
    *at = p->places[entry].next;
    p->places[entry].next = p->unused;
    p->unused = entry + 1;
    return place;
}

seo_err seo_pair_add(seo_pair_counts *p, uint64_t key, int64_t count, uint32_t place,
                     bool *is_new) {
    if (10 * p->pair_count >= 7 * p->slot_count) {
        seo_err err = table_grow(p);
        if (err != SEO_OK) return err;
    }
    uint32_t at = 0;
    seo_err err = new_place(p, place, &at);
    if (err != SEO_OK) return err;
    seo_pair *pair = slot_of(p, key);
    *is_new = pair->key != key;
    if (*is_new) {
        *pair = (seo_pair){.key = key, .first = SEO_NO_PLACE};
        p->pair_count++;
    }
    pair->count += count;
    if (pair->first == SEO_NO_PLACE) {
        pair->first = at;
    } else {
        p->places[pair->last].next = at;
    }
    pair->last = at;
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
    free(p->places);
    free(p->heap);
    *p = (seo_pair_counts){0};
}
