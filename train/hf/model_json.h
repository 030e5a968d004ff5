/* config.json of a transformers model, both ways. */
#pragma once

#include "base/error.h"
#include "base/text.h"
#include "data/tokenizer.h"
#include "train/config.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Reads DIR/config.json. next_sentence is left false: only the tensors tell it. What would make the
 * class compute something else than ours is SEO_ERR_UNSUPPORTED, by its key. *architecture: the
 * first of "architectures", "" without; of size bytes. */
seo_err seo_hf_model_read(const char *dir, seo_model_config *out, char *architecture, size_t size);

/* Whether a transformers class computes what this configuration says, and which;
 * SEO_ERR_UNSUPPORTED with the reason. The tokenizer (opt) may forbid it too. */
seo_err seo_hf_model_check(const seo_model_config *config, const seo_tokenizer *tok);
const char *seo_hf_architecture(const seo_model_config *config);

/* Appends the text of config.json. `tok` is optional. */
seo_err seo_hf_model_write(const seo_model_config *config, const seo_tokenizer *tok,
                           seo_dtype dtype, seo_buf *out);

#ifdef __cplusplus
}
#endif
