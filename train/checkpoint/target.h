/* What stands already where a checkpoint is to be written, and whether all ranks see one folder. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "train/checkpoint.h"
#include "train/checkpoint/manifest.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum seo_ckpt_verdict {
    SEO_CKPT_WRITE,   /* nothing stands there */
    SEO_CKPT_REPLACE, /* what stands there is damaged */
    SEO_CKPT_SAVED,   /* the same state */
    SEO_CKPT_COMPARE  /* the same tensors in other pieces: only reading tells */
} seo_ckpt_verdict;

/* By manifests. SEO_ERR_USAGE: a good checkpoint of other values. */
seo_err seo_ckpt_look_at_target(const char *target, const seo_ckpt_manifest *wanted,
                                seo_ckpt_verdict *out);
/* The error of a good checkpoint with other values. */
seo_err seo_ckpt_other_values(const char *target);

/* On a rank other than 0: that rank 0's new folder is here, too. Network file systems may show it a
 * little later. SEO_ERR_IO: it is not, the folder is not shared. */
seo_err seo_ckpt_folder_is_shared(const char *folder);
/* On rank 0: that the file of rank `who` is here as long as it says. */
seo_err seo_ckpt_file_is_shared(const char *path, int64_t bytes, const char *who);

#ifdef __cplusplus
}
#endif
