/* The opened checkpoint, for the files of this folder. */
#pragma once

#include "base/error.h"
#include "base/file.h"
#include "train/checkpoint.h"
#include "train/checkpoint/manifest.h"
#include "train/checkpoint/part.h"

#ifdef __cplusplus
extern "C" {
#endif

struct seo_ckpt {
    char path[SEO_PATH_MAX]; /* of the step-... folder, no slash at its end */
    seo_ckpt_manifest manifest;
    seo_ckpt_part *part; /* the one read from last, still open */
    int64_t part_index;
};

/* Opens exactly this folder. SEO_ERR_MISSING: it has no manifest, or a file it lists is absent. */
seo_err seo_ckpt_open_step(const char *path, seo_ckpt **out);

/* The same for one whose every byte another rank or an earlier call has verified. */
seo_err seo_ckpt_open_unverified(const char *path, seo_ckpt **out);

/* The XXH3-128 of a run of a tensor's elements, read by pieces. */
seo_err seo_ckpt_hash_run(seo_ckpt *ckpt, int64_t tensor, int64_t offset, int64_t count,
                          char hash[SEO_XXH128_HEX]);

typedef enum seo_ckpt_place { SEO_CKPT_PLACE_STEP, SEO_CKPT_PLACE_RUN } seo_ckpt_place;

/* Whether `path` is one checkpoint or a run folder; `out` (SEO_PATH_MAX bytes) gets the
 * checkpoint's folder, or RUN/checkpoints. SEO_ERR_MISSING when neither is there. */
seo_err seo_ckpt_locate(const char *path, seo_ckpt_place *place, char *out);

#ifdef __cplusplus
}
#endif
