/* Filling in: what an encoder puts where a text has its mask token. */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "base/text.h"
#include "data/tokenizer.h"
#include "train/models/model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_fill_guess {
    int32_t id;
    double probability; /* softmax over the whole vocabulary */
} seo_fill_guess;

/* One mask token of the text. */
typedef struct seo_fill_blank {
    int64_t position; /* in the ids */
    int64_t count;
    seo_fill_guess *guesses; /* the likeliest first, of equals the smaller id */
} seo_fill_blank;

typedef struct seo_fill_result {
    seo_ids ids; /* beginning, text, end: as in training */
    int64_t count;
    seo_fill_blank *blanks;
} seo_fill_result;

/* Fills every mask token of the text with the `top` likeliest ids. The model is an encoder in
 * SEO_MODEL_EVAL with a head for masked tokens, the tokenizer its own; both are borrowed.
 * SEO_ERR_USAGE, with the remedy: a model without that head, a text without a mask token or with
 * more tokens than the model sees. Free the result, also after an error. */
seo_err seo_fill(seo_model *model, const seo_tokenizer *tokenizer, const char *text, int64_t top,
                 seo_fill_result *out);
void seo_fill_free(seo_fill_result *result);

#ifdef __cplusplus
}
#endif
