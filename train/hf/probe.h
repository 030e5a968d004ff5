/* What a model of given values says about a probe text. */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "data/tokenizer.h"
#include "train/config.h"
#include "train/params.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Puts the values of a row of the configuration's table into out. */
typedef seo_err seo_hf_values(void *context, const seo_param *param, int64_t row, float *out);

typedef struct seo_hf_logits {
    float *items; /* of each position all ids', where tokens are predicted; then those of the label
                   * (next sentence, or class) if there is one */
    int64_t count, positions;
} seo_hf_logits;
void seo_hf_logits_free(seo_hf_logits *logits);

enum { SEO_HF_PROBE_MAX = 32 };
/* The probe text as `tok` cuts it, or ids by number without one; returns how many, at most the
 * context. */
seo_err seo_hf_probe_ids(const seo_model_config *config, const seo_tokenizer *tok,
                         int32_t ids[SEO_HF_PROBE_MAX], int64_t *count);

/* Opens the model on the CPU in f32, fills it and runs it over the ids; where there are token types
 * the second half of them is of type 1. */
typedef struct seo_hf_probe_args {
    const seo_model_config *config;
    const int32_t *ids;
    int64_t count; /* 1 .. seq_len */
    seo_hf_values *values;
    void *context;
} seo_hf_probe_args;
seo_err seo_hf_probe(const seo_hf_probe_args *args, seo_hf_logits *out);

#ifdef __cplusplus
}
#endif
