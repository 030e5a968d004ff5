/* Rows: what one sequence of a batch holds, for every objective. A row is a pure function of (seed,
 * epoch, source, index): no state, no order of calls, the same on every rank, in the loader and in
 * an evaluation.
 *
 *   next token      window w: ids [w * seq_len, (w+1) * seq_len), targets one further
 *   masked          RoBERTa, DistilBERT: bos, seq_len - 2 tokens of text, eos; masked anew each
 * epoch sentence pairs  BERT: cls A sep B sep; half of the time B follows A in the text, else it
 * comes from another place; token types 0 and 1, label 0 and 1 examples        of a task: prompt
 * and completion, or text (and pair) with a label
 *
 * Masking (Devlin et al. 2019): of the tokens that are not special, fraction x count rounded, at
 * least 1 and at most max_predictions, are to be predicted; 80 % become the mask token, 10 % a
 * random ordinary token, 10 % stay. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "data/dataset.h"
#include "data/order.h"
#include "data/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A target that does not count, a pick that is none. */
enum { SEO_ROW_IGNORE = -1 };

typedef enum seo_objective {
    SEO_OBJECTIVE_NEXT_TOKEN,
    SEO_OBJECTIVE_MASKED,
    SEO_OBJECTIVE_SENTENCE_PAIRS,
    SEO_OBJECTIVE_EXAMPLES
} seo_objective;

typedef struct seo_examples seo_examples; /* data/examples.h: a task's file, tokenized */

typedef struct seo_rows_args {
    seo_objective objective;
    seo_dataset *const *datasets; /* borrowed; of examples none */
    int64_t dataset_count;
    const seo_examples *examples;   /* borrowed; of examples only */
    const seo_tokenizer *tokenizer; /* borrowed; what is special, with masks and sentence pairs */
    int64_t seq_len;
    uint64_t seed;
    bool document_mask;      /* next token, masked: spans of documents */
    double mask_fraction;    /* masked, sentence pairs */
    int64_t max_predictions; /* likewise: picks of a row */
    double short_sequences;  /* sentence pairs */
} seo_rows_args;

typedef struct seo_rows seo_rows;
/* SEO_ERR_USAGE when the tokenizer lacks a token that the objective needs, or a source has no row
 * to give, with the remedy. */
seo_err seo_rows_open(const seo_rows_args *args, seo_rows **out);
void seo_rows_close(seo_rows *rows); /* NULL is fine */

/* What a row has; the same for all rows. Zero: the batch has no such array. */
typedef struct seo_row_shape {
    int64_t ids;     /* seq_len + 1 with the next token (targets are ids + 1), else seq_len */
    int64_t targets; /* seq_len where they are no shifted ids (examples of decoders) */
    int64_t types;   /* seq_len */
    int64_t spans;   /* 2 * seq_len */
    int64_t picks;   /* max_predictions */
    int64_t label;   /* 1 */
} seo_row_shape;
seo_row_shape seo_rows_shape(const seo_rows *rows);

/* Rows of a source: what the order permutes. */
int64_t seo_rows_count(const seo_rows *rows, int64_t source);
/* How many targets or picks of the row count, without making it: for the mean over a batch of which
 * this rank makes a part. */
seo_err seo_rows_targets(const seo_rows *rows, seo_order_place place, int64_t *out);

/* Where a row goes; arrays of the shape's sizes, NULL where the shape has 0. */
typedef struct seo_row {
    int32_t *ids, *targets, *types, *spans;
    int32_t *picks, *pick_targets; /* positions in the row, ascending; SEO_ROW_IGNORE fills up */
    int32_t *label;
} seo_row;
/* Thread safe. */
seo_err seo_rows_make(const seo_rows *rows, seo_order_place place, const seo_row *row);
/* Asks the system to bring what the row reads into memory; does not wait. */
void seo_rows_prefetch(const seo_rows *rows, seo_order_place place);

#ifdef __cplusplus
}
#endif
