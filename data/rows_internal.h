/* Private to data/rows*.c: what an open set of rows knows, and the makers by objective. */
#pragma once

#include "base/rng.h"
#include "data/rows.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { SEO_TOKEN_SPECIAL = 1, SEO_TOKEN_ENDS_SENTENCE = 2 };

/* What one objective does. */
typedef struct seo_row_maker {
    seo_err (*make)(const seo_rows *rows, seo_order_place place, const seo_row *row);
    seo_err (*targets)(const seo_rows *rows, seo_order_place place, int64_t *out);
} seo_row_maker;

struct seo_rows {
    seo_rows_args args;     /* datasets: an own list */
    seo_dataset **datasets; /* the same */
    seo_row_maker maker;
    seo_row_shape shape;
    int64_t step_tokens; /* from one row of a source to the next */
    int64_t read_tokens; /* that a row reads from there on */
    int64_t source_count;
    int64_t counts[SEO_ORDER_SOURCES_MAX];
    int32_t bos, eot, cls, sep, pad, mask;
    int64_t vocab_size;
    unsigned char *traits; /* (vocab_size) */
    int32_t *ordinary;     /* ids that are not special, ascending */
    int64_t ordinary_count;
};

extern const seo_row_maker seo_rows_next_token, seo_rows_masked, seo_rows_pairs, seo_rows_examples;

/* Ids that the vocabulary lacks are special: nobody can predict them. */
unsigned char seo_rows_traits(const seo_rows *rows, int32_t id);

/* Numbers of one row and purpose, drawn one after the other. */
typedef struct seo_row_random {
    seo_rng_key key;
    uint64_t next; /* number */
    seo_u32x4 block;
} seo_row_random;
seo_row_random seo_row_random_of(const seo_rows *rows, seo_purpose purpose, seo_order_place place);
/* Uniform in [0, n), n > 0; without bias. */
int64_t seo_row_below(seo_row_random *random, int64_t n);
/* True with probability p. */
bool seo_row_chance(seo_row_random *random, double p);

/* How many of `ordinary` tokens are to be predicted. */
int64_t seo_rows_planned(const seo_rows *rows, int64_t ordinary);
/* Counts the tokens of [first, first + count) that are not special. */
seo_err seo_rows_count_ordinary(const seo_rows *rows, int64_t source, int64_t first, int64_t count,
                                int64_t *out);
/* Picks among the row's `length` ids, hides them and writes picks and pick_targets. */
void seo_rows_hide(const seo_rows *rows, seo_order_place place, int64_t length, const seo_row *row);
/* Text of a row: tokens [first, first + count) of a source, with `lead` positions of the row before
 * it and `tail` behind it that belong to its first and last document. */
typedef struct seo_row_text {
    int64_t source, first, count, lead, tail;
} seo_row_text;
/* Spans by document of the whole row. */
seo_err seo_rows_document_spans(const seo_rows *rows, seo_row_text text, int32_t *spans);
/* The span of positions [begin, end). */
void seo_rows_span(int32_t *spans, int64_t begin, int64_t end);

#ifdef __cplusplus
}
#endif
