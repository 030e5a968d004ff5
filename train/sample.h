/* Choosing the next token from logits. */
#pragma once

#include <stdint.h>

#include "base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_sample_args {
    double temperature; /* 0: the most likely token, the lowest id among equals */
    int64_t top_k;      /* keep the k most likely; 0: all */
    double top_p; /* of those keep the smallest set, most likely first, whose probability is at
                     least p (Holtzman et al. 2020); 1: all */
    uint64_t seed;
} seo_sample_args;

typedef struct seo_sampler seo_sampler;

seo_err seo_sampler_open(const seo_sample_args *args, int64_t vocab_size, seo_sampler **out);
void seo_sampler_close(seo_sampler *sampler); /* NULL is fine */

/* The token at `position` of the text: a pure function of the arguments, the logits (vocab_size of
 * them) and the position (Philox, SEO_PURPOSE_SAMPLE). SEO_ERR_NUMERIC when no logit is finite. */
seo_err seo_sampler_next(seo_sampler *sampler, const float *logits, int64_t position, int32_t *out);

#ifdef __cplusplus
}
#endif
