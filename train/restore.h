/* A trained model from a checkpoint, for evaluation and generation. */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "base/file.h"
#include "train/checkpoint.h"
#include "train/config.h"
#include "train/models/model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_restored {
    seo_config config; /* of the run that made it */
    seo_ckpt_state state;
    char path[SEO_PATH_MAX];           /* of the step-... folder */
    char tokenizer_path[SEO_PATH_MAX]; /* in it */
    seo_device *dev;
    seo_model *model;
} seo_restored;

typedef struct seo_restore_args {
    const char *path; /* a run folder (its newest good checkpoint) or one step-... folder */
    seo_model_mode mode;
    int32_t threads; /* 0: automatic */
} seo_restore_args;

/* Opens the checkpoint (every byte verified), a device and the model, for passes of the run's
 * micro-batch, and reads the parameters. Free with seo_restored_close, also after an error. */
seo_err seo_restore(const seo_restore_args *args, seo_restored *out);
void seo_restored_close(seo_restored *restored);

/* The sets of a run's state as tensors of a checkpoint, "<prefix>/<name>" by row of the table.
 * `list` has room for one for each row. */
void seo_restore_names(const char *prefix, const seo_params *params, const seo_param_set *set,
                       seo_ckpt_tensor *list);

#ifdef __cplusplus
}
#endif
