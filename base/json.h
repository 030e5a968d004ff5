/* JSON files through jansson, with the limits and the messages of this house. */
#pragma once

#include <jansson.h>
#include <stdint.h>

#include "base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Reads and parses a file; duplicate keys and files over max_bytes are refused, errors name
 * file:line:column. The caller releases *out with json_decref. */
seo_err seo_json_load(const char *path, int64_t max_bytes, json_t **out);
/* The same from memory; `name` stands in messages for the path. */
seo_err seo_json_parse(const char *name, const char *text, size_t bytes, json_t **out);

/* Typed members of an object; a missing or mistyped one is SEO_ERR_FORMAT naming `file` and the
 * key. Strings are borrowed from the object. Integers outside [min, max] are refused. */
seo_err seo_json_string(const json_t *object, const char *file, const char *key, const char **out);
seo_err seo_json_int(const json_t *object, const char *file, const char *key, int64_t min,
                     int64_t max, int64_t *out);
seo_err seo_json_float(const json_t *object, const char *file, const char *key, double *out);
seo_err seo_json_array(const json_t *object, const char *file, const char *key, const json_t **out);
seo_err seo_json_object(const json_t *object, const char *file, const char *key,
                        const json_t **out);

#ifdef __cplusplus
}
#endif
