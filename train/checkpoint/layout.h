/* What lies where under RUN/checkpoints, and which names are whose. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/file.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SEO_CKPT_FOLDER    "checkpoints"
#define SEO_CKPT_MANIFEST  "manifest.json"
#define SEO_CKPT_CONFIG    "config.yaml"
#define SEO_CKPT_TOKENIZER "tokenizer.json"

enum { SEO_CKPT_STEP_NAME_MAX = 32 };

/* "step-00001000" */
void seo_ckpt_step_name(char out[SEO_CKPT_STEP_NAME_MAX], int64_t step);
/* True for exactly such a name. */
bool seo_ckpt_step_parse(const char *name, int64_t *step);

/* The steps that have a folder in RUN/checkpoints, newest first, whether or not they are whole.
 * SEO_ERR_MISSING when RUN/checkpoints does not exist. Freed with free(*steps). */
seo_err seo_ckpt_list_steps(const char *folder, int64_t **steps, int64_t *count);

/* Removes what unfinished saves left in RUN/checkpoints: tmp.<step>.<attempt>, nothing else. A
 * failure is a warning: it must not keep a run from saving. */
void seo_ckpt_clean_leftovers(const char *folder);

/* Removes a checkpoint, its manifest first: what remains after a crash halfway is no checkpoint. */
seo_err seo_ckpt_remove(const char *step_folder);

#ifdef __cplusplus
}
#endif
