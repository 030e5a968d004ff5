/* What this process writes of a checkpoint: its part, or, where one process writes all, every part.
 */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "train/checkpoint.h"
#include "train/checkpoint/manifest.h"
#include "train/checkpoint/part.h"
#include "train/checkpoint/save.h"
#include "train/checkpoint/table.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_ckpt_own {
    seo_ckpt_write *writes; /* by part, then tensor, then offset */
    seo_ckpt_told *told;    /* the same as places and hashes */
    int64_t count;
    int64_t part_first, part_end; /* this process's */
    int64_t part_count;           /* of all processes */
    seo_ckpt_file *files;         /* by part of this process, once they are written */
} seo_ckpt_own;

/* Lists and hashes. Free with seo_ckpt_own_free, also after an error. */
seo_err seo_ckpt_own_plan(const seo_ckpt_save_args *args, seo_ckpt_own *out);
void seo_ckpt_own_free(seo_ckpt_own *own);

/* Writes the parts into `folder`, syncs them, reads them back and compares. */
seo_err seo_ckpt_own_write(seo_ckpt_own *own, const char *folder, int64_t step,
                           const seo_ckpt_source *source);

/* Whether an opened checkpoint with the same tensors has the same values where this process has
 * some. */
seo_err seo_ckpt_own_compare(const seo_ckpt_own *own, seo_ckpt *there, bool *same);

#ifdef __cplusplus
}
#endif
