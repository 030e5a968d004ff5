/* The parser's events become our own tree at once: only they carry the place of everything, and
 * aliases, second documents and deep nesting can be refused where they stand. */
#include "base/yaml.h"

#include <libfyaml.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/file.h"

enum { TEXT_MAX = 1 << 20, DEPTH_MAX = 32 };

struct seo_yaml_node {
    seo_yaml_kind kind;
    bool is_null;
    char *text;
    seo_yaml_place place;
    int32_t width;         /* columns the caret underlines */
    seo_yaml_node **items; /* of a map: key, value, key, value ... */
    int64_t count, capacity;
};

struct seo_yaml {
    char *name, *text;
    size_t bytes;
    seo_yaml_node *root;
};

static void node_free(seo_yaml_node *node) {
    if (node == NULL) return;
    for (int64_t i = 0; i < node->count; i++) node_free(node->items[i]);
    free(node->items);
    free(node->text);
    free(node);
}

void seo_yaml_free(seo_yaml *doc) {
    if (doc == NULL) return;
    node_free(doc->root);
    free(doc->text);
    free(doc->name);
    free(doc);
}

/* Reports. */

static const char *find_line(const seo_yaml *doc, int32_t line, size_t *bytes) {
    const char *p = doc->text, *end = doc->text + doc->bytes;
    for (int32_t i = 1; i < line && p < end; i++) {
        const char *next = memchr(p, '\n', (size_t)(end - p));
        p = next != NULL ? next + 1 : end;
    }
    const char *stop = memchr(p, '\n', (size_t)(end - p));
    *bytes = (size_t)((stop != NULL ? stop : end) - p);
    if (*bytes > 0 && p[*bytes - 1] == '\r') --*bytes;
    return p;
}

/* The line's part around the place, and the caret under it. Columns are code points; a tab before
 * the caret is repeated, so that both lines are equally wide. */
static void add_source(const seo_yaml *doc, seo_yaml_place at, int32_t width, seo_buf *out) {
    enum { BEFORE = 60, SHOWN = 100 };
    size_t bytes;
    const char *line = find_line(doc, at.line, &bytes);
    const unsigned char *p = (const unsigned char *)line, *end = p + bytes;
    int32_t first = at.column > SHOWN - 20 ? at.column - BEFORE : 1, column = 1;
    seo_buf caret = {0};
    seo_buf_text(out, "  ");
    for (int32_t cp; p < end && column < first + SHOWN; column++) {
        int length = seo_utf8_decode(p, end, &cp);
        if (column >= first) {
            seo_buf_add(out, p, (size_t)length);
            if (column < at.column) seo_buf_add(&caret, cp == '\t' ? "\t" : " ", 1);
        }
        p += length;
    }
    for (int32_t i = seo_buf_check(&caret) == SEO_OK ? column : 0; i > 0 && i < at.column; i++)
        seo_buf_add(&caret, " ", 1); /* A place past the line's end. */
    seo_buf_text(out, "\n  ");
    if (caret.bytes > 0) seo_buf_add(out, caret.data, caret.bytes);
    seo_buf_text(out, "^");
    for (int32_t i = 1; i < width && i < column - at.column; i++) seo_buf_text(out, "~");
    seo_buf_text(out, "\n");
    seo_buf_free(&caret);
}

static void add_report(const seo_yaml *doc, seo_yaml_place at, int32_t width, const char *text,
                       seo_buf *out) {
    seo_buf_format(out, "%s:%d:%d: error: %s\n", doc->name, at.line, at.column, text);
    add_source(doc, at, width, out);
}

void seo_yaml_report(const seo_yaml *doc, seo_yaml_node *node, seo_buf *out, const char *fmt, ...) {
    char *text = NULL;
    va_list ap;
    va_start(ap, fmt);
    int length = vasprintf(&text, fmt, ap);
    va_end(ap);
    if (length < 0) {
        out->failed = true;
        return;
    }
    add_report(doc, node->place, node->width, text, out);
    free(text);
}

static seo_err fail_report(const seo_yaml *doc, seo_yaml_place at, int32_t width,
                           const char *text) {
    seo_buf report = {0};
    add_report(doc, at, width, text, &report);
    seo_err err = seo_buf_check(&report);
    if (err == SEO_OK) {
        report.data[report.bytes - 1] = '\0'; /* The printer ends the line. */
        err = SEO_FAIL(SEO_ERR_USAGE, "%s", report.data);
    }
    seo_buf_free(&report);
    return err;
}

/* From events to nodes. */

typedef struct builder {
    seo_yaml *doc;
    seo_yaml_node *open[DEPTH_MAX];
    int depth;
} builder;

static seo_err out_of_memory(const seo_yaml *doc) {
    return SEO_FAIL(SEO_ERR_MEMORY, "%s: no memory to read it", doc->name);
}

/* Gives `node` to the innermost open map or list, or makes it the root. */
static seo_err attach(builder *b, seo_yaml_node *node) {
    if (b->depth == 0) {
        SEO_ASSERT(b->doc->root == NULL);
        b->doc->root = node;
        return SEO_OK;
    }
    seo_yaml_node *parent = b->open[b->depth - 1];
    if (parent->count == parent->capacity) {
        int64_t capacity = parent->capacity > 0 ? parent->capacity * 2 : 8;
        seo_yaml_node **items = realloc(parent->items, (size_t)capacity * sizeof *items);
        if (items == NULL) {
            node_free(node);
            return out_of_memory(b->doc);
        }
        parent->items = items;
        parent->capacity = capacity;
    }
    bool is_key = parent->kind == SEO_YAML_MAP && parent->count % 2 == 0;
    parent->items[parent->count++] = node;
    if (is_key && node->kind != SEO_YAML_SCALAR)
        return fail_report(b->doc, node->place, node->width, "a key must be a single word or text");
    return SEO_OK;
}

static seo_err new_node(builder *b, struct fy_event *event, seo_yaml_kind kind,
                        seo_yaml_node **out) {
    const struct fy_mark *mark = fy_event_start_mark(event);
    seo_yaml_node *node = calloc(1, sizeof *node);
    if (node == NULL) return out_of_memory(b->doc);
    node->kind = kind;
    node->width = 1;
    node->place = (seo_yaml_place){.line = 1, .column = 1};
    if (mark != NULL) node->place = (seo_yaml_place){mark->line + 1, mark->column + 1};
    *out = node;
    return SEO_OK;
}

static bool spells_null(const char *text) {
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL"};
    for (int64_t i = 0; i < SEO_COUNT_OF(nulls); i++)
        if (strcmp(text, nulls[i]) == 0) return true;
    return false;
}

/* An empty value stands nowhere: its place is its key's. */
static void place_scalar(const builder *b, struct fy_event *event, seo_yaml_node *node) {
    const struct fy_mark *end = fy_event_end_mark(event);
    const seo_yaml_node *parent = b->depth > 0 ? b->open[b->depth - 1] : NULL;
    bool is_value = parent != NULL && parent->kind == SEO_YAML_MAP && parent->count % 2 == 1;
    if (node->is_null && node->text[0] == '\0' && is_value) {
        node->place = parent->items[parent->count - 1]->place;
        node->width = parent->items[parent->count - 1]->width;
    } else if (end != NULL && end->line + 1 == node->place.line) {
        node->width = end->column + 1 - node->place.column;
    } else {
        node->width = INT32_MAX; /* To the end of its first line. */
    }
}

static seo_err add_scalar(builder *b, struct fy_event *event) {
    seo_yaml_node *node = NULL;
    seo_err err = new_node(b, event, SEO_YAML_SCALAR, &node);
    if (err != SEO_OK) return err;
    size_t bytes = 0;
    const char *text = fy_token_get_text(event->scalar.value, &bytes);
    if (text != NULL || bytes == 0) node->text = strndup(text != NULL ? text : "", bytes);
    if (node->text == NULL) {
        node_free(node);
        return out_of_memory(b->doc);
    }
    bool plain = fy_token_scalar_style(event->scalar.value) == FYSS_PLAIN;
    node->is_null = plain && spells_null(node->text);
    place_scalar(b, event, node);
    SEO_TRY(attach(b, node));
    if (strlen(node->text) != bytes)
        err =
            fail_report(b->doc, node->place, node->width, "a text may not hold the character NUL");
    if (node->is_null) node->text[0] = '\0';
done:
    return err;
}

static seo_err open_container(builder *b, struct fy_event *event, seo_yaml_kind kind) {
    seo_yaml_node *node = NULL;
    seo_err err = new_node(b, event, kind, &node);
    if (err != SEO_OK) return err;
    seo_yaml_place at = node->place;
    SEO_TRY(attach(b, node));
    if (b->depth == DEPTH_MAX)
        err = fail_report(b->doc, at, 1, "maps and lists are nested more than 32 deep");
    else
        b->open[b->depth++] = node;
done:
    return err;
}

static int compare_keys(const void *a, const void *b) {
    const seo_yaml_node *x = *(seo_yaml_node *const *)a, *y = *(seo_yaml_node *const *)b;
    int order = strcmp(x->text, y->text);
    if (order != 0) return order;
    if (x->place.line != y->place.line) return x->place.line < y->place.line ? -1 : 1;
    return (x->place.column > y->place.column) - (x->place.column < y->place.column);
}

/* Sorted aside, so that a map of very many keys costs n log n. */
static seo_err check_keys(const builder *b, const seo_yaml_node *map) {
    seo_err err = SEO_OK;
    int64_t pairs = map->count / 2;
    if (pairs < 2) return SEO_OK;
    const seo_yaml_node **keys = malloc((size_t)pairs * sizeof *keys);
    if (keys == NULL) return out_of_memory(b->doc);
    for (int64_t i = 0; i < pairs; i++) keys[i] = map->items[2 * i];
    qsort(keys, (size_t)pairs, sizeof *keys, compare_keys);
    for (int64_t i = 1; i < pairs; i++) {
        if (strcmp(keys[i - 1]->text, keys[i]->text) != 0) continue;
        char text[160];
        snprintf(text, sizeof text, "duplicate key '%.80s'; the first is in line %d", keys[i]->text,
                 keys[i - 1]->place.line);
        err = fail_report(b->doc, keys[i]->place, keys[i]->width, text);
        break;
    }
    free(keys);
    return err;
}

static seo_err refuse(builder *b, struct fy_event *event, const char *text) {
    const struct fy_mark *mark = fy_event_start_mark(event);
    seo_yaml_place at = {1, 1};
    if (mark != NULL) at = (seo_yaml_place){mark->line + 1, mark->column + 1};
    return fail_report(b->doc, at, 1, text);
}

static seo_err take_event(builder *b, struct fy_event *event) {
    /* A document that starts without a mark of its own is told by its first node. */
    bool starts_here = event->type == FYET_SCALAR || event->type == FYET_MAPPING_START ||
                       event->type == FYET_SEQUENCE_START ||
                       (event->type == FYET_DOCUMENT_START && fy_event_start_mark(event) != NULL);
    if (b->doc->root != NULL && b->depth == 0 && starts_here)
        return refuse(b, event, "a second document begins here, one is read");
    switch (event->type) {
    case FYET_SCALAR: return add_scalar(b, event);
    case FYET_MAPPING_START: return open_container(b, event, SEO_YAML_MAP);
    case FYET_SEQUENCE_START: return open_container(b, event, SEO_YAML_LIST);
    case FYET_MAPPING_END: b->depth--; return check_keys(b, b->open[b->depth]);
    case FYET_SEQUENCE_END: b->depth--; return SEO_OK;
    case FYET_ALIAS: return refuse(b, event, "aliases are not read: write the value out");
    default: return SEO_OK;
    }
}

/* The parser's own complaint. */
static seo_err fail_syntax(const seo_yaml *doc, struct fy_diag *diag) {
    void *position = NULL;
    const struct fy_diag_error *why = fy_diag_errors_iterate(diag, &position);
    if (why == NULL) return SEO_FAIL(SEO_ERR_USAGE, "%s: is not readable as YAML", doc->name);
    seo_yaml_place at = {why->line > 0 ? why->line : 1, why->column > 0 ? why->column : 1};
    return fail_report(doc, at, 1, why->msg);
}

static seo_err build(seo_yaml *doc) {
    seo_err err = SEO_OK;
    builder b = {.doc = doc};
    struct fy_parser *parser = NULL;
    struct fy_diag_cfg diag_options;
    fy_diag_cfg_default(&diag_options);
    diag_options.fp = NULL;
    diag_options.colorize = false;
    struct fy_diag *diag = fy_diag_create(&diag_options);
    if (diag == NULL) return out_of_memory(doc);
    fy_diag_set_collect_errors(diag, true);
    struct fy_parse_cfg options = {.search_path = "", .flags = FYPCF_QUIET, .diag = diag};
    parser = fy_parser_create(&options);
    if (parser == NULL || fy_parser_set_string(parser, doc->text, doc->bytes) != 0) {
        err = out_of_memory(doc);
        goto done;
    }
    for (struct fy_event *event; err == SEO_OK && (event = fy_parser_parse(parser)) != NULL;) {
        err = take_event(&b, event);
        fy_parser_event_free(parser, event);
    }
    if (err == SEO_OK && doc->root != NULL && doc->root->is_null) {
        node_free(doc->root);
        doc->root = NULL;
    }
    if (err == SEO_OK && (fy_parser_get_stream_error(parser) || fy_diag_got_error(diag)))
        err = fail_syntax(doc, diag);
done:
    fy_parser_destroy(parser);
    fy_diag_destroy(diag);
    return err;
}

/* What must hold before libfyaml may see the text. */
static seo_err check_text(const seo_yaml *doc) {
    if (doc->bytes > TEXT_MAX)
        return SEO_FAIL(SEO_ERR_USAGE, "%s: has %zu bytes, at most %d are read", doc->name,
                        doc->bytes, (int)TEXT_MAX);
    int64_t bad = seo_utf8_first_bad(doc->text, doc->bytes);
    const char *nul = bad < 0 ? memchr(doc->text, '\0', doc->bytes) : NULL;
    if (nul != NULL) bad = nul - doc->text;
    if (bad < 0) return SEO_OK;
    seo_yaml_place at = {1, 1};
    for (int64_t i = 0; i < bad; i++) {
        bool starts_character = ((unsigned char)doc->text[i] & 0xc0) != 0x80;
        at.column = doc->text[i] == '\n' ? 1 : at.column + (starts_character ? 1 : 0);
        if (doc->text[i] == '\n') at.line++;
    }
    return SEO_FAIL(SEO_ERR_USAGE, "%s:%d:%d: error: the byte 0x%02x is no UTF-8 text", doc->name,
                    at.line, at.column, (unsigned char)doc->text[bad]);
}

seo_err seo_yaml_parse(const char *name, const char *text, size_t bytes, seo_yaml **out) {
    seo_err err = SEO_OK;
    *out = NULL;
    seo_yaml *doc = calloc(1, sizeof *doc);
    if (doc == NULL) return SEO_FAIL(SEO_ERR_MEMORY, "%s: no memory to read it", name);
    doc->name = strdup(name);
    doc->text = malloc(bytes + 1);
    if (doc->name == NULL || doc->text == NULL) {
        err = SEO_FAIL(SEO_ERR_MEMORY, "%s: no memory to read it", name);
        goto done;
    }
    if (bytes > 0) memcpy(doc->text, text, bytes);
    doc->text[bytes] = '\0';
    doc->bytes = bytes;
    SEO_TRY(check_text(doc));
    SEO_TRY(build(doc));
    *out = doc;
    doc = NULL;
done:
    seo_yaml_free(doc);
    return err;
}

seo_err seo_yaml_load(const char *path, seo_yaml **out) {
    char *text = NULL;
    int64_t bytes = 0;
    *out = NULL;
    seo_err err = seo_file_read(path, TEXT_MAX, &text, &bytes);
    if (err == SEO_OK) err = seo_yaml_parse(path, text, (size_t)bytes, out);
    free(text);
    return err;
}

/* The view. */

seo_yaml_node *seo_yaml_root(seo_yaml *doc) {
    return doc->root;
}

seo_yaml_kind seo_yaml_kind_of(seo_yaml_node *node) {
    return node->kind;
}

const char *seo_yaml_text(seo_yaml_node *node) {
    return node->text;
}

bool seo_yaml_is_null(seo_yaml_node *node) {
    return node->is_null;
}

int64_t seo_yaml_count(seo_yaml_node *node) {
    return node->kind == SEO_YAML_MAP ? node->count / 2 : node->count;
}

seo_yaml_node *seo_yaml_item(seo_yaml_node *list, int64_t index) {
    SEO_ASSERT(list->kind == SEO_YAML_LIST && index >= 0 && index < list->count);
    return list->items[index];
}

seo_yaml_node *seo_yaml_key(seo_yaml_node *map, int64_t index) {
    SEO_ASSERT(map->kind == SEO_YAML_MAP && index >= 0 && index < map->count / 2);
    return map->items[2 * index];
}

seo_yaml_node *seo_yaml_value(seo_yaml_node *map, int64_t index) {
    SEO_ASSERT(map->kind == SEO_YAML_MAP && index >= 0 && index < map->count / 2);
    return map->items[2 * index + 1];
}

seo_yaml_place seo_yaml_where(const seo_yaml *doc, seo_yaml_node *node) {
    (void)doc;
    return node->place;
}
