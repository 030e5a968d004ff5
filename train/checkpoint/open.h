/* The opened checkpoint, for the files of this folder. */
#pragma once

#include "base/error.h"
#include "base/file.h"
#include "train/checkpoint.h"
#include "train/checkpoint/manifest.h"

#ifdef __cplusplus
extern "C" {
#endif

struct seo_ckpt {
    char path[SEO_PATH_MAX]; /* of the step-... folder, no slash at its end */
    seo_ckpt_manifest manifest;
};

/* Opens exactly this folder. SEO_ERR_MISSING: it has no manifest, or a file it lists is absent. */
seo_err seo_ckpt_open_step(const char *path, seo_ckpt **out);

typedef enum seo_ckpt_place { SEO_CKPT_PLACE_STEP, SEO_CKPT_PLACE_RUN } seo_ckpt_place;

/* Whether `path` is one checkpoint or a run folder; `out` (SEO_PATH_MAX bytes) gets the
 * checkpoint's folder, or RUN/checkpoints. SEO_ERR_MISSING when neither is there. */
seo_err seo_ckpt_locate(const char *path, seo_ckpt_place *place, char *out);

#ifdef __cplusplus
}
#endif
