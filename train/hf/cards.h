/* The small files of a Hugging Face folder beside its tensors. */
#pragma once

#include "base/error.h"
#include "base/tensor.h"
#include "data/tokenizer.h"
#include "train/checkpoint.h"
#include "train/config.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_hf_cards {
    const char *dir; /* exists */
    const seo_model_config *model;
    const char *labels; /* of classes: as task.labels has them */
    const seo_ckpt_state *state;
    const seo_tokenizer *tokenizer; /* opt */
    seo_dtype dtype;
    int64_t parameters;
} seo_hf_cards;

/* config.json, generation_config.json for a decoder, README.md; with a tokenizer tokenizer.json and
 * tokenizer_config.json. */
seo_err seo_hf_cards_write(const seo_hf_cards *cards);

#ifdef __cplusplus
}
#endif
