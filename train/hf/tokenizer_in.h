/* The tokenizer of a Hugging Face folder, in whichever of its files it lies. */
#pragma once

#include "base/error.h"
#include "data/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* DIR/tokenizer.json; where it is missing vocab.json with merges.txt (GPT-2, RoBERTa), or vocab.txt
 * (BERT; tokenizer_config.json says whether it is a cased model's). SEO_ERR_MISSING: none of them.
 */
seo_err seo_hf_tokenizer_load(const char *dir, seo_tokenizer **out);

#ifdef __cplusplus
}
#endif
