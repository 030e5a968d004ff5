/* The commit, for the files of this folder. */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "train/checkpoint.h"
#include "train/checkpoint/part.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_ckpt_save_args {
    const char *run_dir;
    int64_t attempt; /* rank 0's counts */
    seo_world *world;
    const seo_ckpt_snapshot *snapshot;
    /* Why this rank has nothing to write, after all: the save fails, on every rank. SEO_OK: it
     * has. */
    seo_err failed;
    const char *failure;
    /* One process that writes all of `parts` parts, the values from a source instead of the
     * snapshot's data and ranges; each tensor is cut evenly. 0 parts: one for each rank. */
    int64_t parts;
    const seo_ckpt_source *source;
} seo_ckpt_save_args;

/* As seo_ckpt_save. */
seo_err seo_ckpt_save_with(const seo_ckpt_save_args *args);

#ifdef __cplusplus
}
#endif
