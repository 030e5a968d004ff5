/* Help for the keys of the configuration, from the field table. */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "train/config_fields.h"
#include "train/config_suggest.h"

static void add_number(double value, seo_buf *out) {
    char count[SEO_SHORT_TEXT];
    if (value >= 0 && value < 1e18 && value == (double)(int64_t)value && value < 1e7) {
        seo_buf_text(out, seo_format_count(count, (int64_t)value));
    } else {
        seo_buf_format(out, "%g", value);
    }
}

static void add_range(const seo_field *field, const char *kind, seo_buf *out) {
    seo_buf_format(out, "%s, ", kind);
    add_number(field->min, out);
    seo_buf_text(out, field->below_max ? " to less than " : " to ");
    add_number(field->max, out);
    if (field->unit) seo_buf_format(out, " %s", field->unit);
}

static void add_type(const seo_field *field, seo_buf *out) {
    switch (field->type) {
    case SEO_FIELD_INT: add_range(field, "whole number (5000, 524_288, 0.5M)", out); break;
    case SEO_FIELD_FLOAT: add_range(field, "number (0.1, 6e-4)", out); break;
    case SEO_FIELD_SECONDS: seo_buf_text(out, "duration (90s, 30min, 2h)"); break;
    case SEO_FIELD_BOOL: seo_buf_text(out, "true or false"); break;
    case SEO_FIELD_TEXT: seo_buf_text(out, "text or null"); break;
    case SEO_FIELD_MIX: seo_buf_text(out, "map {DIR: weight, ...} or null"); break;
    case SEO_FIELD_CHOICE: {
        const char *lead = "";
        for (const seo_field_choice *c = field->choices; c->name; c++) {
            if (c->refusal) continue;
            seo_buf_format(out, "%s%s", lead, c->name);
            lead = " | ";
        }
        break;
    }
    }
}

/* Words of `text` in lines of at most 96 columns, indented. */
static void add_paragraph(const char *text, seo_buf *out) {
    enum { INDENT = 4, WIDTH = 96 };
    size_t column = 0;
    while (*text != '\0') {
        const size_t word = strcspn(text, " ");
        if (column == 0 || column + 1 + word > WIDTH) {
            seo_buf_format(out, "%s%*s", column > 0 ? "\n" : "", INDENT, "");
            column = INDENT;
        } else {
            seo_buf_text(out, " ");
            column++;
        }
        seo_buf_add(out, text, word);
        column += word;
        text += word + (text[word] == ' ');
    }
    seo_buf_text(out, "\n");
}

static void add_field(const seo_field *field, seo_buf *out) {
    seo_buf line = {0};
    add_type(field, &line);
    if (field->preset) {
        seo_buf_format(&line, "; default %s", field->preset);
    } else if (field->otherwise) {
        seo_buf_format(&line, "; when not given: %s", field->otherwise);
    } else {
        seo_buf_text(&line, "; must be given");
    }
    seo_buf_format(out, "%s\n", field->path);
    add_paragraph(line.data ? line.data : "", out);
    add_paragraph(field->help, out);
    if (!field->decides) seo_buf_text(out, "    May differ when a run is resumed.\n");
    if (line.failed) out->failed = true;
    seo_buf_free(&line);
}

seo_err seo_config_explain(const char *key, seo_buf *out) {
    bool found = false;
    for (int64_t i = 0; i < SEO_CONFIG_FIELDS; i++) {
        char section[SEO_SHORT_TEXT];
        const seo_field *field = &seo_config_fields[i];
        seo_field_split(field->path, section);
        if (key && strcmp(key, field->path) != 0 && (key[0] == '\0' || strcmp(key, section) != 0)) {
            continue;
        }
        if (found) seo_buf_text(out, "\n");
        add_field(field, out);
        found = true;
    }
    if (found) return seo_buf_check(out);
    char section[SEO_SHORT_TEXT];
    const char *name = seo_field_split(key, section);
    seo_buf message = {0};
    seo_config_suggest(section, name, &message);
    const seo_err err = SEO_FAIL(SEO_ERR_USAGE, "%s", message.data ? message.data : "unknown key");
    seo_buf_free(&message);
    return err;
}
