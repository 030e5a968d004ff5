/* Learns a WordPiece vocabulary from text, in the manner of Hugging Face's trainer for BERT: the
 * words that BERT's text rules give are counted, each starts as its characters (those inside of a
 * word written ##c), and the most frequent neighbouring pair becomes a piece, again and again, as
 * in byte-pair encoding (data/merge_learn.h). Google's own trainer, which was never published,
 * weighs pairs by a score; pieces of either are used in the same way.
 *
 * Only the most frequent characters become letters, of equally frequent ones the smaller code
 * points; a word with another character would be [UNK] and is left out.
 *
 * Ids: [PAD] [UNK] [CLS] [SEP] [MASK] are 0 to 4; then the letters by code point, those inside of
 * words (as far as they occur there) by code point, and the merges in their order. The result is
 * the same, byte for byte, for any number of threads and any order of the texts. */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "data/tokenizer.h"
#include "data/word_count.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { SEO_ALPHABET_MAX = 1000 }; /* the default, as there */

typedef struct seo_wordpiece_train_options {
    const char *const *paths; /* files and folders, as data/text.h reads them */
    int64_t path_count;
    const char *field;    /* of JSONL; NULL means "text" */
    int64_t vocab_size;   /* special tokens, letters and merges */
    int64_t alphabet_max; /* different letters */
    int threads;
    bool cased; /* keeps case and accents */
} seo_wordpiece_train_options;

typedef struct seo_wordpiece_train_report {
    int64_t text_bytes, documents;
    int64_t distinct_words;
    int64_t left_out; /* words, each as often as it occurs, with a rare character or too long */
    int64_t letters;  /* ids of single characters */
    int64_t merges;   /* fewer than there is room for when the text gives no more */
} seo_wordpiece_train_report;

/* Reads the texts, shows progress, learns. A vocabulary too small for its letters is
 * SEO_ERR_USAGE, with the size that would do. */
seo_err seo_wordpiece_train(const seo_wordpiece_train_options *options,
                            seo_wordpiece_train_report *report, seo_tokenizer **out);

/* Learns from counted words: of the options vocab_size, alphabet_max and cased are used. The words
 * are such as the text rules give. */
seo_err seo_wordpiece_train_words(const seo_word_table *words,
                                  const seo_wordpiece_train_options *options,
                                  seo_wordpiece_train_report *report, seo_tokenizer **out);

#ifdef __cplusplus
}
#endif
