/* Private to the configuration: what a user most likely meant by a key that does not exist. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/text.h"

#ifdef __cplusplus
extern "C" {
#endif

bool seo_config_is_section(const char *word);

/* The section that a word was most likely meant for, copied into out; NULL when none is near. */
const char *seo_config_nearest_section(const char *word, char out[SEO_SHORT_TEXT]);

/* Appends `unknown key "key" in section; did you mean ...?`; section "": a key of the top level.
 * Returns the field that was most likely meant, or -1. */
int64_t seo_config_suggest(const char *section, const char *key, seo_buf *out);

#ifdef __cplusplus
}
#endif
