/* The texts a tokenizer is trained on: from paths to counted words. */
#pragma once

#include "base/error.h"
#include "data/text.h"
#include "data/word_count.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_training_source {
    const char *const *paths; /* files and folders, as data/text.h reads them */
    int64_t path_count;
    const char *field; /* of JSONL; NULL means "text" */
    int threads;
    seo_word_end *word_end;
} seo_training_source;

/* Reads every text and counts its words. Shows progress. */
seo_err seo_training_text_count(const seo_training_source *source, seo_text_counters *counters,
                                seo_word_table *out);

/* Only sees that every path is there. */
seo_err seo_training_text_look(const seo_training_source *source);

#ifdef __cplusplus
}
#endif
