/* Rows: what one sequence of a batch holds, for every objective. A row is a pure function of (seed,
 * epoch, source, index): no state, no order of calls, the same on every rank, in the loader and in
 * an evaluation.
 *
 * Next token. Row w is ids [w * seq_len, (w + 1) * seq_len), targets one further.
 *
 * Masked (RoBERTa's full sentences, DistilBERT). Row w is bos, the seq_len - 2 tokens of text from
 * w * (seq_len - 2) on, eot; masked anew each epoch. Text runs over the ends of documents, which
 * end with the eot token.
 *
 * Sentence pairs (BERT). Row w is made from one document of the seq_len - 3 tokens of text from
 * w * (seq_len - 3) on: cls A sep B sep, then padding. Token types are 0 up to the first sep, 1
 * for B and its sep, 0 for padding. Half of the time B follows A in the text (label 0), else it
 * comes from another place (label 1).
 *
 * Examples of a task. Prompt and completion, or text (and pair) with a label: data/examples.h.
 *
 * Masking (Devlin et al. 2019): of the tokens that are not special, fraction x count rounded, at
 * least 1 and at most max_predictions, are to be predicted; 80 % become the mask token, 10 % a
 * random ordinary token, 10 % stay. A row without an ordinary token has none to predict.
 *
 * With document_mask a position's span is the part of its document in the row; a document's closing
 * eot belongs to it, a masked row's bos to the first document and its eot to the last one. The
 * first token of a document is still a target, of the eot before it. Padding is a span of its own
 * always.
 *
 * Where sentence pairs differ from the script that BERT was published with, which makes its rows
 * once and writes them to files: which document of its window a row is made from is drawn anew each
 * epoch, in proportion to their parts of it, so that every token takes part now and then; A ends
 * after the sentence end (a token of nothing but . ! ?) nearest to a random point, or at this point
 * where there is none; a random B begins at a random token's nearest sentence start before it, or
 * earlier where less would be left of its document than is needed, instead of at the beginning of a
 * sentence of a random document, so that long documents are taken more often than short ones; ten
 * tries to find another document are made likewise, and then B lies at least a quarter of the
 * document away from A. What a random B displaces comes back in another epoch, not in the next row.
 * Where the drawn part of a document has a single token, B is a random one always. */
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
    double mask_fraction;    /* masked, sentence pairs: in (0, 1] */
    int64_t max_predictions; /* likewise: picks of a row, 1..seq_len */
    double short_sequences; /* sentence pairs: share of rows with a random shorter length, [0, 1] */
} seo_rows_args;

typedef struct seo_rows seo_rows;
/* SEO_ERR_USAGE when the tokenizer lacks a token that the objective needs or is another than the
 * datasets', when datasets do not go together, or a source has no row to give; with the remedy. */
seo_err seo_rows_open(const seo_rows_args *args, seo_rows **out);
void seo_rows_close(seo_rows *rows); /* NULL is fine */

/* What a row has; the same for all rows. Zero: the batch has no such array. */
typedef struct seo_row_shape {
    int64_t ids;     /* seq_len + 1 with the next token (targets are ids + 1), else seq_len */
    int64_t targets; /* seq_len where they are no shifted ids (examples of decoders) */
    int64_t types;   /* seq_len */
    int64_t spans;   /* 2 * seq_len */
    int64_t picks;   /* max_predictions; 1 for classes of decoders, the last real token */
    int64_t label;   /* 1 */
} seo_row_shape;
seo_row_shape seo_rows_shape(const seo_rows *rows);

/* Sources, and rows of each: what the order permutes. */
int64_t seo_rows_sources(const seo_rows *rows);
int64_t seo_rows_count(const seo_rows *rows, int64_t source);
/* How many targets or picks of the row count, without making it: for the mean over a batch of which
 * this rank makes a part. Of masked rows and sentence pairs the tokens are read, to know which are
 * special. */
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

/* For provenance: tokens [first, first + count) of the source that the row is made from; of an
 * example its line in the file, from 1 on, and 1. */
typedef struct seo_row_range {
    int64_t first, count;
} seo_row_range;
seo_row_range seo_rows_range(const seo_rows *rows, seo_order_place place);

#ifdef __cplusplus
}
#endif
