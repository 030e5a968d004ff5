/* Learns byte-pair merges from text (Sennrich et al. 2016, on bytes and GPT-2's words).
 *
 * The text's distinct words are counted, each starts as its bytes, and the most frequent
 * neighbouring pair becomes a new symbol, again and again (data/merge_learn.h says what is counted
 * and which of equal pairs is taken).
 *
 * Ids, for GPT-2's special tokens: byte b is id b, the merges follow from 256 in their order,
 * <|endoftext|> is the last id. For RoBERTa's: <s>, <pad>, </s> and <unk> are 0 to 3, byte b is id
 * 4 + b, the merges follow from 260, <mask> is the last id.
 * The result is the same, byte for byte, for any number of threads and any order of the texts. */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "data/tokenizer.h"
#include "data/word_count.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The special tokens that a vocabulary gets. */
typedef enum seo_special_set {
    SEO_SPECIAL_GPT2,    /* <|endoftext|> */
    SEO_SPECIAL_ROBERTA, /* <s> <pad> </s> <unk> <mask> */
} seo_special_set;

enum { SEO_VOCAB_SIZE_MIN = 257 }; /* 256 bytes and <|endoftext|> */
/* The same for either set: ids that are no merges. */
int64_t seo_special_vocab_min(seo_special_set set);

typedef struct seo_bpe_train_options {
    const char *const *paths; /* files and folders, as data/text.h reads them */
    int64_t path_count;
    const char *field; /* of JSONL; NULL means "text" */
    seo_special_set special;
    int64_t vocab_size; /* 256 bytes, merges and special tokens; seo_special_vocab_min at least */
    int threads;
} seo_bpe_train_options;

typedef struct seo_bpe_train_report {
    int64_t text_bytes, documents;
    int64_t distinct_words;
    int64_t merges; /* fewer than asked for when the text gives no more */
} seo_bpe_train_report;

/* Reads the texts, shows progress, learns. With no merges asked for no text is read, only looked
 * for. */
seo_err seo_bpe_train(const seo_bpe_train_options *options, seo_bpe_train_report *report,
                      seo_tokenizer **out);

/* Learns from counted words. */
seo_err seo_bpe_train_words(const seo_word_table *words, int64_t vocab_size,
                            seo_special_set special, seo_tokenizer **out);

#ifdef __cplusplus
}
#endif
