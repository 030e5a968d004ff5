/* Counts the distinct words (pre-tokens) of texts, on several threads. The sums do not depend on
 * the number of threads nor on how texts were dealt out; the order of the words in the table does,
 * so nothing may be derived from it. Memory grows with the distinct words, not with the text. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_word {
    uint64_t hash;
    int64_t offset; /* in the table's bytes */
    int64_t count;  /* 0: an empty slot */
    int64_t bytes;
} seo_word;

/* An open hash table. Zero-initialise; free with seo_word_table_free. */
typedef struct seo_word_table {
    seo_word *slots;
    int64_t slot_count, word_count;
    unsigned char *bytes; /* of all words, end to end */
    int64_t byte_count, byte_capacity;
} seo_word_table;

/* Adds `count` to the word [word, word + bytes). */
seo_err seo_word_table_add(seo_word_table *table, const unsigned char *word, size_t bytes,
                           int64_t count);
void seo_word_table_free(seo_word_table *table);

typedef struct seo_word_counter seo_word_counter;

/* The end of the first word of [p, end), p < end. Texts are dealt out in parts that end where
 * seo_pretoken_cut says: no word may depend on what is on the other side. */
typedef const unsigned char *seo_word_end(const unsigned char *p, const unsigned char *end);

/* threads >= 1. With one, the counting is done by the caller's thread. */
seo_err seo_word_counter_open(int threads, seo_word_end *word_end, seo_word_counter **out);
/* Counts the words of one document, which is copied where it is not counted at once. Called by one
 * thread; waits while all counting threads have enough to do. */
seo_err seo_word_counter_add(seo_word_counter *counter, const void *text, size_t bytes);
/* Waits for the threads and gives the sums; the table is the caller's. */
seo_err seo_word_counter_finish(seo_word_counter *counter, seo_word_table *out);
void seo_word_counter_close(seo_word_counter *counter);

#ifdef __cplusplus
}
#endif
