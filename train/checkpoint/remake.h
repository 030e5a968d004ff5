/* A checkpoint that is made from others, for whoever makes one. */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "train/checkpoint.h"
#include "train/checkpoint/part.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Writes DIR/checkpoints/step-... in `parts` parts as a run would, the values from the source, and
 * reads it as resuming would. SEO_ERR_USAGE: something stands there. */
seo_err seo_ckpt_write_anew(const char *dir, const seo_ckpt_snapshot *snapshot, int64_t parts,
                            const seo_ckpt_source *source);

#ifdef __cplusplus
}
#endif
