#include "base/json.h"

#include <stdlib.h>

#include "base/file.h"

seo_err seo_json_parse(const char *name, const char *text, size_t bytes, json_t **out) {
    json_error_t error;
    *out = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    if (*out) return SEO_OK;
    return SEO_FAIL(SEO_ERR_FORMAT, "%s:%d:%d: not valid JSON: %s", name, error.line, error.column,
                    error.text);
}

seo_err seo_json_load(const char *path, int64_t max_bytes, json_t **out) {
    char *text = NULL;
    int64_t bytes = 0;
    seo_err err = seo_file_read(path, max_bytes, &text, &bytes);
    if (err == SEO_OK) err = seo_json_parse(path, text, (size_t)bytes, out);
    free(text);
    return err;
}

/* The member `key`; `kind` says in the message what it should be. */
static seo_err member(const json_t *object, const char *file, const char *key, const char *kind,
                      json_t **out) {
    *out = json_is_object(object) ? json_object_get(object, key) : NULL;
    if (*out) return SEO_OK;
    return SEO_FAIL(SEO_ERR_FORMAT, "%s: \"%s\" is missing (%s)", file, key, kind);
}

static seo_err mistyped(const char *file, const char *key, const char *kind) {
    return SEO_FAIL(SEO_ERR_FORMAT, "%s: \"%s\" is not %s", file, key, kind);
}

seo_err seo_json_string(const json_t *object, const char *file, const char *key, const char **out) {
    json_t *value = NULL;
    const seo_err err = member(object, file, key, "a string", &value);
    if (err != SEO_OK) return err;
    if (!json_is_string(value)) return mistyped(file, key, "a string");
    *out = json_string_value(value);
    return SEO_OK;
}

seo_err seo_json_int(const json_t *object, const char *file, const char *key, int64_t min,
                     int64_t max, int64_t *out) {
    json_t *value = NULL;
    const seo_err err = member(object, file, key, "an integer", &value);
    if (err != SEO_OK) return err;
    if (!json_is_integer(value)) return mistyped(file, key, "an integer");
    *out = (int64_t)json_integer_value(value);
    if (*out >= min && *out <= max) return SEO_OK;
    return SEO_FAIL(SEO_ERR_FORMAT, "%s: \"%s\" is %lld, outside %lld..%lld", file, key,
                    (long long)*out, (long long)min, (long long)max);
}

seo_err seo_json_float(const json_t *object, const char *file, const char *key, double *out) {
    json_t *value = NULL;
    const seo_err err = member(object, file, key, "a number", &value);
    if (err != SEO_OK) return err;
    if (!json_is_number(value)) return mistyped(file, key, "a number");
    *out = json_number_value(value);
    return SEO_OK;
}

seo_err seo_json_array(const json_t *object, const char *file, const char *key,
                       const json_t **out) {
    json_t *value = NULL;
    const seo_err err = member(object, file, key, "a list", &value);
    if (err != SEO_OK) return err;
    if (!json_is_array(value)) return mistyped(file, key, "a list");
    *out = value;
    return SEO_OK;
}

seo_err seo_json_object(const json_t *object, const char *file, const char *key,
                        const json_t **out) {
    json_t *value = NULL;
    const seo_err err = member(object, file, key, "an object", &value);
    if (err != SEO_OK) return err;
    if (!json_is_object(value)) return mistyped(file, key, "an object");
    *out = value;
    return SEO_OK;
}
