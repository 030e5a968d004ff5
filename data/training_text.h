/* The texts a tokenizer is trained on: from paths to counted words. */
#pragma once

#include "base/error.h"
#include "data/bpe_train.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Reads every text under options->paths and counts its words with options->threads threads. Fills
 * text_bytes and documents of the report. Shows progress. */
seo_err seo_training_text_count(const seo_bpe_train_options *options, seo_bpe_train_report *report,
                                seo_word_table *out);

/* Only sees that every path is there. */
seo_err seo_training_text_look(const seo_bpe_train_options *options);

#ifdef __cplusplus
}
#endif
