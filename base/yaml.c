#include "base/yaml.h"

#include <libfyaml.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/file.h"

enum { YAML_MAX_BYTES = 1 << 20, YAML_MAX_DEPTH = 32 };

/* The parsed tree is copied out of libfyaml into nodes that know their place, because libfyaml
 * gives none for maps and no node at all for an empty value. */
struct seo_yaml_node {
    seo_yaml_kind kind;
    bool plain_null;
    char *text;         /* scalars */
    int64_t start, end; /* byte range in the source that a caret underlines */
    int64_t count;
    seo_yaml_node *keys;  /* maps */
    seo_yaml_node *items; /* values of a map, items of a list */
};

struct seo_yaml {
    char *name;
    char *source;
    int64_t bytes;
    seo_yaml_node *root;
};

static void node_clear(seo_yaml_node *node) {
    for (int64_t i = 0; i < node->count; i++) {
        if (node->keys) node_clear(&node->keys[i]);
        if (node->items) node_clear(&node->items[i]);
    }
    free(node->text);
    free(node->keys);
    free(node->items);
}

void seo_yaml_free(seo_yaml *doc) {
    if (!doc) return;
    if (doc->root) node_clear(doc->root);
    free(doc->root);
    free(doc->source);
    free(doc->name);
    free(doc);
}

static seo_yaml_place place_of(const seo_yaml *doc, int64_t at) {
    seo_yaml_place place = {1, 1};
    for (int64_t i = 0; i < at && i < doc->bytes; i++) {
        const unsigned char c = (unsigned char)doc->source[i];
        if (c == '\n') {
            place.line++;
            place.column = 1;
        } else if ((c & 0xC0) != 0x80) {
            place.column++;
        }
    }
    return place;
}

/* "name:line:column: error: text", the source line and a caret under bytes [start, end). */
static void report_at(const seo_yaml *doc, int64_t start, int64_t end, const char *text,
                      seo_buf *out) {
    const seo_yaml_place place = place_of(doc, start);
    seo_buf_format(out, "%s:%d:%d: error: %s\n", doc->name, place.line, place.column, text);
    int64_t line = seo_min_i64(start, doc->bytes), stop = line;
    while (line > 0 && doc->source[line - 1] != '\n') line--;
    while (stop < doc->bytes && doc->source[stop] != '\n' && doc->source[stop] != '\r') stop++;
    if (stop - line > 160) return;
    seo_buf_format(out, "  %.*s\n  ", (int)(stop - line), doc->source + line);
    for (int64_t i = line; i < seo_min_i64(start, stop); i++) {
        const unsigned char c = (unsigned char)doc->source[i];
        if ((c & 0xC0) != 0x80) seo_buf_text(out, c == '\t' ? "\t" : " ");
    }
    seo_buf_text(out, "^");
    for (int64_t i = start + 1; i < seo_min_i64(end, stop); i++) {
        if (((unsigned char)doc->source[i] & 0xC0) != 0x80) seo_buf_text(out, "~");
    }
    seo_buf_text(out, "\n");
}

/* Raises SEO_ERR_USAGE with the report of one mistake. */
static seo_err fail_at(const seo_yaml *doc, int64_t start, int64_t end, const char *text) {
    seo_buf report = {0};
    report_at(doc, start, end, text, &report);
    if (report.bytes > 0) report.data[report.bytes - 1] = '\0';
    const seo_err err = SEO_FAIL(SEO_ERR_USAGE, "%s", report.data ? report.data : text);
    seo_buf_free(&report);
    return err;
}

static seo_err copy_node(const seo_yaml *doc, struct fy_node *from, int depth, int64_t fallback,
                         seo_yaml_node *to);

static seo_err copy_scalar(const seo_yaml *doc, struct fy_node *from, int64_t fallback,
                           seo_yaml_node *to) {
    to->kind = SEO_YAML_SCALAR;
    to->start = fallback;
    to->end = fallback + 1;
    to->plain_null = true;
    size_t length = 0;
    const char *text = from ? fy_node_get_scalar(from, &length) : NULL;
    struct fy_token *token = from ? fy_node_get_scalar_token(from) : NULL;
    const struct fy_mark *start = token ? fy_token_start_mark(token) : NULL;
    const struct fy_mark *end = token ? fy_token_end_mark(token) : NULL;
    if (start && end && length > 0) {
        to->start = (int64_t)start->input_pos;
        to->end = (int64_t)end->input_pos;
    }
    if (from && fy_node_is_alias(from)) {
        return fail_at(doc, to->start, to->end, "aliases are not supported: write the value out");
    }
    const bool plain = !from || fy_node_get_style(from) == FYNS_PLAIN;
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL"};
    bool null_word = length == 0;
    for (int i = 1; i < SEO_COUNT_OF(nulls); i++) {
        null_word =
            null_word || (strlen(nulls[i]) == length && memcmp(text, nulls[i], length) == 0);
    }
    to->plain_null = plain && null_word;
    if (to->plain_null) length = 0;
    if (length > 0 && memchr(text, '\0', length)) {
        return fail_at(doc, to->start, to->end, "a NUL character inside a value");
    }
    to->text = malloc(length + 1);
    if (!to->text) return SEO_FAIL(SEO_ERR_MEMORY, "%s: a value", doc->name);
    if (length > 0) memcpy(to->text, text, length);
    to->text[length] = '\0';
    return SEO_OK;
}

static seo_err copy_map(const seo_yaml *doc, struct fy_node *from, int depth, int64_t fallback,
                        seo_yaml_node *to) {
    const int count = fy_node_mapping_item_count(from);
    to->kind = SEO_YAML_MAP;
    to->start = fallback;
    to->end = fallback + 1;
    if (count <= 0) return SEO_OK;
    to->keys = calloc((size_t)count, sizeof *to->keys);
    to->items = calloc((size_t)count, sizeof *to->items);
    to->count = to->keys && to->items ? count : 0;
    if (to->count == 0) return SEO_FAIL(SEO_ERR_MEMORY, "%s: a map of %d keys", doc->name, count);
    for (int i = 0; i < count; i++) {
        struct fy_node_pair *pair = fy_node_mapping_get_by_index(from, i);
        struct fy_node *key = fy_node_pair_key(pair);
        seo_err err = copy_node(doc, key, depth + 1, fallback, &to->keys[i]);
        if (err == SEO_OK && to->keys[i].kind != SEO_YAML_SCALAR) {
            err = fail_at(doc, to->keys[i].start, to->keys[i].end, "a key must be a plain word");
        }
        if (err == SEO_OK)
            err = copy_node(doc, fy_node_pair_value(pair), depth + 1, to->keys[i].start,
                            &to->items[i]);
        if (err != SEO_OK) return err;
    }
    to->start = to->keys[0].start;
    to->end = to->keys[0].end;
    return SEO_OK;
}

static seo_err copy_list(const seo_yaml *doc, struct fy_node *from, int depth, int64_t fallback,
                         seo_yaml_node *to) {
    const int count = fy_node_sequence_item_count(from);
    to->kind = SEO_YAML_LIST;
    to->start = fallback;
    to->end = fallback + 1;
    if (count <= 0) return SEO_OK;
    to->items = calloc((size_t)count, sizeof *to->items);
    if (!to->items) return SEO_FAIL(SEO_ERR_MEMORY, "%s: a list of %d items", doc->name, count);
    to->count = count;
    for (int i = 0; i < count; i++) {
        const seo_err err = copy_node(doc, fy_node_sequence_get_by_index(from, i), depth + 1,
                                      fallback, &to->items[i]);
        if (err != SEO_OK) return err;
    }
    to->start = to->items[0].start;
    to->end = to->items[0].end;
    return SEO_OK;
}

static seo_err copy_node(const seo_yaml *doc, struct fy_node *from, int depth, int64_t fallback,
                         seo_yaml_node *to) {
    if (depth > YAML_MAX_DEPTH)
        return fail_at(doc, fallback, fallback + 1, "nested more than 32 deep");
    if (!from || fy_node_is_scalar(from)) return copy_scalar(doc, from, fallback, to);
    if (fy_node_is_mapping(from)) return copy_map(doc, from, depth, fallback, to);
    return copy_list(doc, from, depth, fallback, to);
}

static int64_t offset_of(const seo_yaml *doc, int line, int column) {
    int64_t at = 0;
    for (int n = 1; n < line && at < doc->bytes; at++) n += doc->source[at] == '\n';
    return seo_min_i64(at + (column > 0 ? column - 1 : 0), doc->bytes);
}

/* Every message libfyaml collected, as one report. */
static seo_err syntax_error(const seo_yaml *doc, struct fy_diag *diag) {
    seo_buf report = {0};
    void *position = NULL;
    const struct fy_diag_error *error = NULL;
    while ((error = fy_diag_errors_iterate(diag, &position))) {
        const int64_t at = offset_of(doc, error->line, error->column);
        report_at(doc, at, at + 1, error->msg ? error->msg : "not valid YAML", &report);
    }
    if (report.bytes == 0) report_at(doc, 0, 1, "not valid YAML", &report);
    if (report.bytes > 0) report.data[report.bytes - 1] = '\0';
    const seo_err err = SEO_FAIL(SEO_ERR_USAGE, "%s", report.data ? report.data : "not valid YAML");
    seo_buf_free(&report);
    return err;
}

static seo_err parse_source(seo_yaml *doc) {
    seo_err err = SEO_OK;
    struct fy_document *tree = NULL;
    struct fy_diag *diag = fy_diag_create(NULL);
    if (!diag) return SEO_FAIL(SEO_ERR_MEMORY, "%s: a YAML parser", doc->name);
    fy_diag_set_collect_errors(diag, true);
    const struct fy_parse_cfg cfg = {.flags = FYPCF_QUIET | FYPCF_DEFAULT_PARSE, .diag = diag};
    tree = fy_document_build_from_string(&cfg, doc->source, (size_t)doc->bytes);
    if (!tree || fy_diag_got_error(diag)) SEO_TRY(syntax_error(doc, diag));
    struct fy_node *root = fy_document_root(tree);
    if (!root || (fy_node_is_scalar(root) && fy_node_get_scalar_length(root) == 0)) goto done;
    doc->root = calloc(1, sizeof *doc->root);
    if (!doc->root) SEO_TRY(SEO_FAIL(SEO_ERR_MEMORY, "%s: the document", doc->name));
    SEO_TRY(copy_node(doc, root, 0, 0, doc->root));
done:
    if (tree) fy_document_destroy(tree);
    fy_diag_destroy(diag);
    return err;
}

seo_err seo_yaml_parse(const char *name, const char *text, size_t bytes, seo_yaml **out) {
    seo_err err = SEO_OK;
    *out = NULL;
    if (bytes > YAML_MAX_BYTES) {
        return SEO_FAIL(SEO_ERR_USAGE, "%s: error: %zu bytes, more than a configuration's 1 MiB",
                        name, bytes);
    }
    seo_yaml *doc = calloc(1, sizeof *doc);
    if (!doc) return SEO_FAIL(SEO_ERR_MEMORY, "%s: a document", name);
    doc->name = strdup(name);
    doc->source = malloc(bytes + 1);
    if (!doc->name || !doc->source) SEO_TRY(SEO_FAIL(SEO_ERR_MEMORY, "%s: a document", name));
    if (bytes > 0) memcpy(doc->source, text, bytes);
    doc->source[bytes] = '\0';
    doc->bytes = (int64_t)bytes;
    const int64_t bad = seo_utf8_first_bad(text, bytes);
    if (bad >= 0) SEO_TRY(fail_at(doc, bad, bad + 1, "not valid UTF-8"));
    const char *nul = memchr(doc->source, '\0', bytes);
    if (nul) SEO_TRY(fail_at(doc, nul - doc->source, nul - doc->source + 1, "a NUL character"));
    SEO_TRY(parse_source(doc));
    *out = doc;
    doc = NULL;
done:
    seo_yaml_free(doc);
    return err;
}

seo_err seo_yaml_load(const char *path, seo_yaml **out) {
    char *text = NULL;
    int64_t bytes = 0;
    seo_err err = seo_file_read(path, YAML_MAX_BYTES, &text, &bytes);
    if (err == SEO_OK) err = seo_yaml_parse(path, text, (size_t)bytes, out);
    free(text);
    return err;
}

seo_yaml_node *seo_yaml_root(seo_yaml *doc) {
    return doc->root;
}

seo_yaml_kind seo_yaml_kind_of(seo_yaml_node *node) {
    return node->kind;
}

const char *seo_yaml_text(seo_yaml_node *node) {
    return node->kind == SEO_YAML_SCALAR ? node->text : NULL;
}

bool seo_yaml_is_null(seo_yaml_node *node) {
    return node->kind == SEO_YAML_SCALAR && node->plain_null;
}

int64_t seo_yaml_count(seo_yaml_node *node) {
    return node->count;
}

seo_yaml_node *seo_yaml_item(seo_yaml_node *list, int64_t index) {
    SEO_ASSERT(list->kind == SEO_YAML_LIST && index >= 0 && index < list->count);
    return &list->items[index];
}

seo_yaml_node *seo_yaml_key(seo_yaml_node *map, int64_t index) {
    SEO_ASSERT(map->kind == SEO_YAML_MAP && index >= 0 && index < map->count);
    return &map->keys[index];
}

seo_yaml_node *seo_yaml_value(seo_yaml_node *map, int64_t index) {
    SEO_ASSERT(map->kind == SEO_YAML_MAP && index >= 0 && index < map->count);
    return &map->items[index];
}

seo_yaml_place seo_yaml_where(const seo_yaml *doc, seo_yaml_node *node) {
    return place_of(doc, node->start);
}

void seo_yaml_report(const seo_yaml *doc, seo_yaml_node *node, seo_buf *out, const char *fmt, ...) {
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    report_at(doc, node->start, node->end, text, out);
}
