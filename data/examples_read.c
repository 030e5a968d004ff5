/* One line of a file of examples: JSONL or TSV, to texts and the number of its label. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/text.h"
#include "data/examples_internal.h"

/* A name that is longer than this is no class. */
enum { LABEL_MAX = 256 };

bool seo_example_is_tsv(const char *path) {
    const size_t length = strlen(path);
    return length >= 4 && strcmp(path + length - 4, ".tsv") == 0;
}

static seo_err wrong_label(const seo_examples_args *a, int64_t line, const char *name) {
    enum { LISTED = 20 };
    seo_buf list = {0};
    for (int64_t i = 0; i < seo_min_i64(a->label_count, LISTED); i++) {
        seo_buf_format(&list, "%s%s", i > 0 ? ", " : "", a->labels[i]);
    }
    if (a->label_count > LISTED) seo_buf_text(&list, ", ...");
    const char *nearest = seo_nearest(name, a->labels, a->label_count);
    const seo_err err = SEO_FAIL(
        SEO_ERR_USAGE,
        "%s:%" PRId64 ": the label '%.80s' is not one of task.labels (%s)%s%s%s: correct the "
        "line, or add the label to task.labels",
        a->path, line, name, list.data != NULL ? list.data : "",
        nearest != NULL ? "; did you mean '" : "", nearest != NULL ? nearest : "",
        nearest != NULL ? "'?" : "");
    seo_buf_free(&list);
    return err;
}

static seo_err find_label(const seo_examples_args *a, int64_t line, const char *text, size_t bytes,
                          int32_t *out) {
    char name[LABEL_MAX] = "";
    snprintf(name, sizeof name, "%.*s", (int)seo_min_i64((int64_t)bytes, LABEL_MAX - 1), text);
    for (int64_t i = 0; i < a->label_count; i++) {
        if (strlen(a->labels[i]) == bytes && memcmp(a->labels[i], text, bytes) == 0) {
            *out = (int32_t)i;
            return SEO_OK;
        }
    }
    return wrong_label(a, line, name);
}

/* ---- JSONL ---- */

static seo_err take_text(const seo_examples_args *a, int64_t line, const json_t *object,
                         const char *key, const char **text, size_t *bytes) {
    const json_t *value = json_object_get(object, key);
    if (!json_is_string(value)) {
        return SEO_FAIL(
            SEO_ERR_FORMAT, "%s:%" PRId64 ": %s \"%s\": wanted is a line like %s", a->path, line,
            value == NULL ? "there is no field" : "no text is the field", key,
            a->kind == SEO_EXAMPLES_PAIRS ? "{\"prompt\": \"...\", \"completion\": \"...\"}"
                                          : "{\"text\": \"...\", \"label\": \"...\"}");
    }
    *text = json_string_value(value);
    *bytes = json_string_length(value);
    return SEO_OK;
}

static seo_err take_label(const seo_examples_args *a, int64_t line, const json_t *object,
                          int32_t *out) {
    const json_t *value = json_object_get(object, "label");
    char number[32] = "";
    if (json_is_integer(value)) {
        snprintf(number, sizeof number, "%lld", (long long)json_integer_value(value));
        return find_label(a, line, number, strlen(number), out);
    }
    if (json_is_string(value)) {
        return find_label(a, line, json_string_value(value), json_string_length(value), out);
    }
    return SEO_FAIL(SEO_ERR_FORMAT,
                    "%s:%" PRId64 ": the label is missing or neither a text nor a whole number: "
                    "wanted is a line like {\"text\": \"...\", \"label\": \"...\"}",
                    a->path, line);
}

static seo_err take_json(const seo_examples_args *a, seo_example_line line,
                         seo_example_texts *out) {
    seo_err err = SEO_OK;
    json_error_t error;
    out->json = json_loadb(line.text, line.bytes, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &error);
    if (out->json == NULL) {
        return SEO_FAIL(SEO_ERR_FORMAT, "%s:%" PRId64 ":%d: not valid JSON: %s", a->path,
                        line.number, error.column, error.text);
    }
    if (a->kind == SEO_EXAMPLES_PAIRS) {
        out->has_second = true;
        SEO_TRY(take_text(a, line.number, out->json, "prompt", &out->first, &out->first_bytes));
        SEO_TRY(
            take_text(a, line.number, out->json, "completion", &out->second, &out->second_bytes));
    } else {
        const json_t *pair = json_object_get(out->json, "pair");
        SEO_TRY(take_text(a, line.number, out->json, "text", &out->first, &out->first_bytes));
        out->has_second = pair != NULL && !json_is_null(pair);
        if (out->has_second) {
            SEO_TRY(take_text(a, line.number, out->json, "pair", &out->second, &out->second_bytes));
        }
        SEO_TRY(take_label(a, line.number, out->json, &out->label));
    }
done:
    return err;
}

/* ---- TSV ---- */

enum { FIELDS_MAX = 3 };

typedef struct fields {
    const char *text[FIELDS_MAX];
    size_t bytes[FIELDS_MAX];
    int64_t count; /* FIELDS_MAX + 1: too many */
} fields;

static fields split(seo_example_line line) {
    fields out = {0};
    const char *at = line.text, *const end = line.text + line.bytes;
    while (out.count < FIELDS_MAX) {
        const char *tab = memchr(at, '\t', (size_t)(end - at));
        out.text[out.count] = at;
        out.bytes[out.count++] = (size_t)((tab != NULL ? tab : end) - at);
        if (tab == NULL) return out;
        at = tab + 1;
    }
    out.count++;
    return out;
}

bool seo_example_is_header(const seo_examples_args *args, seo_example_line line) {
    const fields f = split(line);
    for (int64_t i = 0; i < args->label_count; i++) {
        if (strcmp(args->labels[i], "label") == 0) return false;
    }
    return f.bytes[0] == 5 && memcmp(f.text[0], "label", 5) == 0;
}

static seo_err take_fields(const seo_examples_args *a, seo_example_line line,
                           seo_example_texts *out) {
    const fields f = split(line);
    if (f.count < 2 || f.count > FIELDS_MAX) {
        return SEO_FAIL(SEO_ERR_FORMAT,
                        "%s:%" PRId64 ": %s: wanted are a label, a tab and a text, or a label and "
                        "two texts",
                        a->path, line.number, f.count < 2 ? "there is no tab" : "too many tabs");
    }
    out->first = f.text[1];
    out->first_bytes = f.bytes[1];
    out->has_second = f.count == 3;
    out->second = f.text[2];
    out->second_bytes = f.bytes[2];
    return find_label(a, line.number, f.text[0], f.bytes[0], &out->label);
}

seo_err seo_example_take(const seo_examples_args *args, seo_example_line line,
                         seo_example_texts *out) {
    *out = (seo_example_texts){.label = -1};
    const seo_err err =
        seo_example_is_tsv(args->path) ? take_fields(args, line, out) : take_json(args, line, out);
    if (err != SEO_OK) return err;
    const bool pairs = args->kind == SEO_EXAMPLES_PAIRS;
    const bool empty_first = !pairs && out->first_bytes == 0;
    const bool empty_second = out->has_second && out->second_bytes == 0;
    if (!empty_first && !empty_second) return SEO_OK;
    return SEO_FAIL(SEO_ERR_FORMAT,
                    "%s:%" PRId64 ": the %s is empty: fill it in or leave out the "
                    "line",
                    args->path, line.number,
                    pairs         ? "completion"
                    : empty_first ? "text"
                                  : "second text");
}
