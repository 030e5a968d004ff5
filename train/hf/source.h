/* A transformers model in a folder, opened and checked: which of our models it is, and the values
 * of each of our parameters. */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "train/config.h"
#include "train/hf/names.h"
#include "train/hf/safetensors.h"
#include "train/params.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_hf_source {
    char dir[SEO_PATH_MAX];
    seo_model_config config;
    char labels[SEO_CONFIG_TEXT_MAX]; /* of classes: as task.labels has them */
    seo_params params;                /* the rows of the configuration */
    seo_hf_link *links;               /* one for each row */
    seo_safetensors *set;
    bool bare; /* names lack the root */
} seo_hf_source;

/* Reads config.json and the tensors' headers; every parameter has its tensor of the right shape,
 * and no tensor is left over that means something. SEO_ERR_MISSING, SEO_ERR_FORMAT,
 * SEO_ERR_UNSUPPORTED with the file, the tensor and the remedy. Free with seo_hf_source_close, also
 * after an error. */
seo_err seo_hf_source_open(const char *dir, seo_hf_source *out);
void seo_hf_source_close(seo_hf_source *source);
/* The values of row `row` as our table has it, to out[seo_param_elements]. */
seo_err seo_hf_source_read(const seo_hf_source *source, int64_t row, float *out);
/* Tied copies must hold what they are tied to, or the model is not tied: SEO_ERR_UNSUPPORTED. */
seo_err seo_hf_source_check_copies(const seo_hf_source *source);

/* A (rows, cols) matrix turned over into (cols, rows). */
void seo_hf_transpose(const float *from, int64_t rows, int64_t cols, float *to);

#ifdef __cplusplus
}
#endif
