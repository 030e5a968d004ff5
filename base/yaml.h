/* YAML through libfyaml: a narrow view of a parsed document whose nodes know where they stand, so
 * that a check made anywhere can point at file:line:column with the source line and a caret.
 *
 * The text is checked first: at most 1 MiB, valid UTF-8 (libfyaml 0.7.12 hangs on some invalid
 * bytes), nesting <= 32; duplicate keys are errors. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/text.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_yaml seo_yaml;
typedef struct seo_yaml_node seo_yaml_node; /* borrowed from its document */

typedef enum seo_yaml_kind { SEO_YAML_SCALAR, SEO_YAML_MAP, SEO_YAML_LIST } seo_yaml_kind;

/* Syntax errors: SEO_ERR_USAGE with the full report (file:line:column, source line, caret) as the
 * message. */
seo_err seo_yaml_load(const char *path, seo_yaml **out);
/* `name` stands in messages for the path; the text is copied. */
seo_err seo_yaml_parse(const char *name, const char *text, size_t bytes, seo_yaml **out);
void seo_yaml_free(seo_yaml *doc);

seo_yaml_node *seo_yaml_root(seo_yaml *doc); /* NULL for an empty document */
seo_yaml_kind seo_yaml_kind_of(seo_yaml_node *node);
/* The scalar's text, NUL-terminated, owned by the document; NULL for maps and lists. A plain null
 * (~, null, empty) gives "". */
const char *seo_yaml_text(seo_yaml_node *node);
bool seo_yaml_is_null(seo_yaml_node *node);

int64_t seo_yaml_count(seo_yaml_node *node); /* pairs of a map, items of a list, 0 for a scalar */
seo_yaml_node *seo_yaml_item(seo_yaml_node *list, int64_t index);
seo_yaml_node *seo_yaml_key(seo_yaml_node *map, int64_t index); /* a scalar node, in file order */
seo_yaml_node *seo_yaml_value(seo_yaml_node *map,
                              int64_t index); /* NULL never: an empty value is a null scalar */

typedef struct seo_yaml_place {
    int32_t line, column; /* from 1 */
} seo_yaml_place;
seo_yaml_place seo_yaml_where(const seo_yaml *doc, seo_yaml_node *node);

/* Appends "name:line:column: error: <text>\n  <source line>\n  ^~~~\n" for the node to `out`. */
void seo_yaml_report(const seo_yaml *doc, seo_yaml_node *node, seo_buf *out, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

#ifdef __cplusplus
}
#endif
