/* config.json of a transformers model, both ways. */
#pragma once

#include "base/error.h"
#include "base/text.h"
#include "data/tokenizer.h"
#include "train/config.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { SEO_HF_ARCHITECTURE_MAX = 64 };

typedef struct seo_hf_model {
    seo_model_config config;
    char architecture[SEO_HF_ARCHITECTURE_MAX]; /* the first of "architectures", "" without */
    char labels[SEO_CONFIG_TEXT_MAX]; /* of classes: "name, name", as task.labels has it */
} seo_hf_model;

/* Reads DIR/config.json. next_sentence is left false: only the tensors tell it. What would make the
 * class compute something else than ours is SEO_ERR_UNSUPPORTED, by its key. */
seo_err seo_hf_model_read(const char *dir, seo_hf_model *out);
/* The same from memory; `name` stands in messages for the path. */
seo_err seo_hf_model_parse(const char *name, const char *text, size_t bytes, seo_hf_model *out);

/* Whether a transformers class computes what this configuration says, and which;
 * SEO_ERR_UNSUPPORTED with the reason. The tokenizer (opt) may forbid it too. */
seo_err seo_hf_model_check(const seo_model_config *config, const seo_tokenizer *tok);
const char *seo_hf_architecture(const seo_model_config *config);

/* Appends the text of config.json. `labels`: the classes' names as task.labels has them. `tok` is
 * optional. */
seo_err seo_hf_model_write(const seo_model_config *config, const char *labels,
                           const seo_tokenizer *tok, seo_dtype dtype, seo_buf *out);

#ifdef __cplusplus
}
#endif
