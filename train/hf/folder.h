/* A folder that appears whole: made beside its place, synced, renamed. */
#pragma once

#include "base/error.h"
#include "base/file.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Makes "<path>.incomplete", empty, whose name goes to `made` (SEO_PATH_MAX bytes); what an earlier
 * attempt left there is removed. SEO_ERR_USAGE: something stands at `path`. */
seo_err seo_hf_folder_begin(const char *path, char *made);
/* Renames it to `path`. */
seo_err seo_hf_folder_commit(const char *made, const char *path);
/* After a failure: removes it as far as that works. "" is fine. */
void seo_hf_folder_drop(const char *made);

#ifdef __cplusplus
}
#endif
