#include "data/word_count.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "data/pretoken.h"

typedef unsigned char byte;

enum { BLOCK_BYTES = 1 << 20, FIRST_SLOTS = 1 << 12 };

static seo_err no_memory(void) {
    return SEO_FAIL(SEO_ERR_MEMORY, "not enough memory to count the words of the text");
}

/* ---- the table ---- */

static inline uint64_t hash_word(const byte *word, size_t bytes) {
    uint64_t h = bytes * 0x9E3779B97F4A7C15u, part;
    for (; bytes >= sizeof part; word += sizeof part, bytes -= sizeof part) {
        memcpy(&part, word, sizeof part);
        h = (h ^ part) * 0xFF51AFD7ED558CCDu;
        h ^= h >> 32;
    }
    part = 0;
    memcpy(&part, word, bytes);
    h = (h ^ part) * 0xC4CEB9FE1A85EC53u;
    return h ^ h >> 32;
}

static seo_err table_grow(seo_word_table *t) {
    int64_t larger = t->slot_count == 0 ? FIRST_SLOTS : 2 * t->slot_count;
    seo_word *slots = calloc((size_t)larger, sizeof *slots);
    if (slots == NULL) return no_memory();
    for (int64_t i = 0; i < t->slot_count; i++) {
        if (t->slots[i].count == 0) continue;
        int64_t at = (int64_t)(t->slots[i].hash & (uint64_t)(larger - 1));
        while (slots[at].count != 0) at = (at + 1) & (larger - 1);
        slots[at] = t->slots[i];
    }
    free(t->slots);
    t->slots = slots;
    t->slot_count = larger;
    return SEO_OK;
}

static seo_err keep_bytes(seo_word_table *t, const byte *word, size_t bytes, int64_t *offset) {
    if (t->byte_capacity - t->byte_count < (int64_t)bytes) {
        int64_t larger = 2 * t->byte_capacity + (int64_t)bytes + (1 << 16);
        byte *moved = realloc(t->bytes, (size_t)larger);
        if (moved == NULL) return no_memory();
        t->bytes = moved;
        t->byte_capacity = larger;
    }
    *offset = t->byte_count;
    memcpy(t->bytes + t->byte_count, word, bytes);
    t->byte_count += (int64_t)bytes;
    return SEO_OK;
}

static seo_err add_hashed(seo_word_table *t, const byte *word, size_t bytes, uint64_t hash,
                          int64_t count) {
    if (10 * t->word_count >= 6 * t->slot_count) {
        seo_err err = table_grow(t);
        if (err != SEO_OK) return err;
    }
    int64_t at = (int64_t)(hash & (uint64_t)(t->slot_count - 1));
    for (;; at = (at + 1) & (t->slot_count - 1)) {
        seo_word *slot = &t->slots[at];
        if (slot->count == 0) {
            seo_word added = {.hash = hash, .count = count, .bytes = (int64_t)bytes};
            seo_err err = keep_bytes(t, word, bytes, &added.offset);
            if (err != SEO_OK) return err;
            *slot = added;
            t->word_count++;
            return SEO_OK;
        }
        if (slot->hash == hash && slot->bytes == (int64_t)bytes &&
            memcmp(t->bytes + slot->offset, word, bytes) == 0) {
            slot->count += count;
            return SEO_OK;
        }
    }
}

seo_err seo_word_table_add(seo_word_table *t, const byte *word, size_t bytes, int64_t count) {
    SEO_ASSERT(bytes > 0 && count > 0);
    return add_hashed(t, word, bytes, hash_word(word, bytes), count);
}

void seo_word_table_free(seo_word_table *t) {
    free(t->slots);
    free(t->bytes);
    *t = (seo_word_table){0};
}

static seo_err count_text(seo_word_table *t, seo_word_end *word_end, const byte *p,
                          const byte *end) {
    while (p < end) {
        const byte *word = p;
        p = word_end(word, end);
        seo_err err = seo_word_table_add(t, word, (size_t)(p - word), 1);
        if (err != SEO_OK) return err;
    }
    return SEO_OK;
}

/* ---- the threads ---- */

/* Texts end to end; a word never reaches over the end of one. */
typedef struct block {
    byte *bytes;
    size_t byte_count, byte_capacity;
    size_t *ends;
    int64_t text_count, text_capacity;
    struct block *next;
} block;

typedef struct worker {
    seo_word_counter *counter;
    seo_word_table table;
    pthread_t thread;
} worker;

struct seo_word_counter {
    worker *workers;
    int worker_count, started;
    seo_word_end *word_end;
    block *filling;       /* only the adding thread looks at it */
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    block *full, *empty;
    int blocks_left; /* that may still be made */
    bool no_more, failed;
};

static void block_free(block *b) {
    while (b != NULL) {
        block *next = b->next;
        free(b->bytes);
        free(b->ends);
        free(b);
        b = next;
    }
}

static bool count_block(seo_word_table *table, seo_word_end *word_end, const block *b) {
    size_t start = 0;
    for (int64_t i = 0; i < b->text_count; i++) {
        if (count_text(table, word_end, b->bytes + start, b->bytes + b->ends[i]) != SEO_OK)
            return false;
        start = b->ends[i];
    }
    return true;
}

/* Takes full blocks until there will be no more. After a failure blocks are only given back, so
 * that the adding thread never waits in vain. */
static void *work(void *argument) {
    worker *w = argument;
    seo_word_counter *c = w->counter;
    pthread_mutex_lock(&c->lock);
    for (;;) {
        while (c->full == NULL && !c->no_more) pthread_cond_wait(&c->changed, &c->lock);
        block *b = c->full;
        if (b == NULL) break;
        c->full = b->next;
        bool failed = c->failed;
        pthread_mutex_unlock(&c->lock);
        if (!failed) failed = !count_block(&w->table, c->word_end, b);
        pthread_mutex_lock(&c->lock);
        c->failed = c->failed || failed;
        b->next = c->empty;
        c->empty = b;
        pthread_cond_broadcast(&c->changed);
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

static seo_err start_workers(seo_word_counter *c, int threads) {
    c->worker_count = threads;
    c->blocks_left = 2 * threads + 1;
    c->workers = calloc((size_t)threads, sizeof *c->workers);
    if (c->workers == NULL) return no_memory();
    for (int i = 0; i < threads && threads > 1; i++) {
        c->workers[i].counter = c;
        if (pthread_create(&c->workers[i].thread, NULL, work, &c->workers[i]) != 0) {
            return SEO_FAIL(SEO_ERR_MEMORY, "cannot start thread %d of %d: ask for fewer", i + 1,
                            threads);
        }
        c->started++;
    }
    return SEO_OK;
}

seo_err seo_word_counter_open(int threads, seo_word_end *word_end, seo_word_counter **out) {
    SEO_ASSERT(threads >= 1);
    seo_word_counter *c = calloc(1, sizeof *c);
    if (c == NULL) return no_memory();
    c->word_end = word_end;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->changed, NULL);
    seo_err err = start_workers(c, threads);
    if (err != SEO_OK) {
        seo_word_counter_close(c);
        return err;
    }
    *out = c;
    return SEO_OK;
}

static void stop_workers(seo_word_counter *c) {
    pthread_mutex_lock(&c->lock);
    c->no_more = true;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
    for (int i = 0; i < c->started; i++) pthread_join(c->workers[i].thread, NULL);
    c->started = 0;
}

void seo_word_counter_close(seo_word_counter *c) {
    if (c == NULL) return;
    stop_workers(c);
    for (int i = 0; i < c->worker_count && c->workers != NULL; i++) {
        seo_word_table_free(&c->workers[i].table);
    }
    free(c->workers);
    block_free(c->filling);
    block_free(c->full);
    block_free(c->empty);
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

/* Hands the filling block over to the threads. */
static void pass_on(seo_word_counter *c) {
    if (c->filling == NULL) return;
    pthread_mutex_lock(&c->lock);
    c->filling->next = c->full;
    c->full = c->filling;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
    c->filling = NULL;
}

/* An empty block to fill: a used one, a new one, or after waiting for a used one. */
static seo_err take_empty(seo_word_counter *c) {
    pthread_mutex_lock(&c->lock);
    while (c->empty == NULL && c->blocks_left == 0) pthread_cond_wait(&c->changed, &c->lock);
    block *b = c->empty;
    if (b != NULL) {
        c->empty = b->next;
    } else {
        c->blocks_left--;
    }
    bool failed = c->failed;
    pthread_mutex_unlock(&c->lock);
    if (b == NULL) b = calloc(1, sizeof *b);
    if (b == NULL || failed) {
        block_free(b);
        return no_memory();
    }
    b->next = NULL;
    b->byte_count = 0;
    b->text_count = 0;
    c->filling = b;
    return SEO_OK;
}

static seo_err block_add(block *b, const byte *text, size_t bytes) {
    if (b->byte_capacity - b->byte_count < bytes) {
        size_t larger = b->byte_count + bytes + BLOCK_BYTES;
        byte *moved = realloc(b->bytes, larger);
        if (moved == NULL) return no_memory();
        b->bytes = moved;
        b->byte_capacity = larger;
    }
    if (b->text_count == b->text_capacity) {
        int64_t larger = 2 * b->text_capacity + 64;
        size_t *moved = realloc(b->ends, (size_t)larger * sizeof *moved);
        if (moved == NULL) return no_memory();
        b->ends = moved;
        b->text_capacity = larger;
    }
    memcpy(b->bytes + b->byte_count, text, bytes);
    b->byte_count += bytes;
    b->ends[b->text_count++] = b->byte_count;
    return SEO_OK;
}

seo_err seo_word_counter_add(seo_word_counter *c, const void *text, size_t bytes) {
    const byte *p = text, *end = p + bytes;
    if (c->worker_count == 1) return count_text(&c->workers[0].table, c->word_end, p, end);
    while (p < end) {
        size_t part = seo_pretoken_cut(p, (size_t)(end - p), BLOCK_BYTES);
        seo_err err = c->filling == NULL ? take_empty(c) : SEO_OK;
        if (err == SEO_OK) err = block_add(c->filling, p, part);
        if (err != SEO_OK) return err;
        if (c->filling->byte_count >= BLOCK_BYTES) pass_on(c);
        p += part;
    }
    return SEO_OK;
}

seo_err seo_word_counter_finish(seo_word_counter *c, seo_word_table *out) {
    pass_on(c);
    stop_workers(c);
    if (c->failed) return no_memory();
    seo_word_table *sum = &c->workers[0].table;
    for (int i = 1; i < c->worker_count; i++) {
        seo_word_table *part = &c->workers[i].table;
        for (int64_t at = 0; at < part->slot_count; at++) {
            const seo_word *word = &part->slots[at];
            if (word->count == 0) continue;
            seo_err err = add_hashed(sum, part->bytes + word->offset, (size_t)word->bytes,
                                     word->hash, word->count);
            if (err != SEO_OK) return err;
        }
        seo_word_table_free(part);
    }
    *out = *sum;
    *sum = (seo_word_table){0};
    return SEO_OK;
}
