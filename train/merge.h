/* Adapters and what they belong to, as one whole checkpoint. */
#pragma once

#include "base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Writes DIR/checkpoints/step-...: of the newest checkpoint in a run with adapters (or of one
 * step-... folder) every parameter of the model without them, W + (alpha / r) B A where there was
 * one, summed in f64 and rounded once. Moments are left out: it is for evaluation, generation,
 * export and for other runs to begin from. SEO_ERR_USAGE: it has no adapters, or something stands
 * in DIR. No device is needed, and memory stays bounded but for one adapter. */
seo_err seo_merge(const char *path, const char *dir);

#ifdef __cplusplus
}
#endif
