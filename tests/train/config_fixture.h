/* A small whole configuration, and the one-line ways to read a variant of it. */
#pragma once

#include "base/text.h"
#include "train/config.h"

/* Every required key and nothing else. */
extern const char *const k_small_config;

/* Reads `text` under the name t.yaml with the sets in `sets` (separated by newlines; NULL: none).
 * The whole report goes to `report` when it is not NULL. */
seo_err read_text(const char *text, const char *sets, seo_config *out, seo_buf *report);

/* The small configuration with one set; must succeed. */
void read_small(const char *sets, seo_config *out);
