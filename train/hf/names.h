/* Our parameters and the tensors of transformers' classes: one table for each kind of model, used
 * in both directions. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "train/config.h"
#include "train/params.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { SEO_HF_NAME_MAX = 128, SEO_HF_PARTS_MAX = 3 };

/* How transformers keep one row of a parameter table. */
typedef struct seo_hf_link {
    int32_t parts;   /* tensors that our rows are cut into, in order: 1, or q, k and v */
    bool transposed; /* theirs is (in, out) */
    char names[SEO_HF_PARTS_MAX][SEO_HF_NAME_MAX];
} seo_hf_link;

/* What the tensors' names begin with ("transformer", "bert" ...): files of bare models lack it. */
const char *seo_hf_root(seo_family family);

/* The link of a row; SEO_ERR_UNSUPPORTED for one that the class has no tensor for. */
seo_err seo_hf_link_of(const seo_model_config *config, const seo_param *param, seo_hf_link *out);

/* What else such files hold. */
typedef enum seo_hf_extra {
    SEO_HF_EXTRA_UNKNOWN,
    SEO_HF_EXTRA_BUFFER, /* follows from the configuration */
    SEO_HF_EXTRA_COPY    /* the same values as the parameter *ours, by tying */
} seo_hf_extra;
seo_hf_extra seo_hf_extra_of(seo_family family, const char *theirs, const char **ours);

#ifdef __cplusplus
}
#endif
