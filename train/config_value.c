/* One value of the configuration: from text, and back to text that reads to the same value. */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "train/config_fields.h"

static void format_float(double value, seo_buf *out) {
    if (value > -1e15 && value < 1e15 && value == (double)(int64_t)value) {
        seo_buf_format(out, "%.1f", value);
    } else {
        seo_buf_json_float(out, value, 17);
    }
}

static void format_mix(const seo_data_config *data, seo_buf *out) {
    for (int64_t i = 0; i < data->mix_count; i++) {
        seo_buf_text(out, i == 0 ? "{" : ", ");
        seo_buf_json_string(out, data->mix[i].path, strlen(data->mix[i].path));
        seo_buf_text(out, ": ");
        format_float(data->mix[i].weight, out);
    }
    seo_buf_text(out, data->mix_count > 0 ? "}" : "null");
}

static const char *choice_name(const seo_field *field, const void *at) {
    int value = 0;
    memcpy(&value, at, sizeof value);
    for (const seo_field_choice *c = field->choices; c->name; c++) {
        if (c->value == value && !c->refusal) return c->name;
    }
    return "?";
}

void seo_field_format(const seo_field *field, const seo_config *config, seo_buf *out) {
    const void *at = (const char *)config + field->offset;
    switch (field->type) {
    case SEO_FIELD_INT: seo_buf_format(out, "%lld", (long long)*(const int64_t *)at); break;
    case SEO_FIELD_FLOAT: format_float(*(const double *)at, out); break;
    case SEO_FIELD_SECONDS: seo_buf_format(out, "%.17gs", *(const double *)at); break;
    case SEO_FIELD_BOOL: seo_buf_text(out, *(const bool *)at ? "true" : "false"); break;
    case SEO_FIELD_CHOICE: seo_buf_text(out, choice_name(field, at)); break;
    case SEO_FIELD_TEXT:
        if (*(const char *)at == '\0') {
            seo_buf_text(out, "null");
        } else {
            seo_buf_json_string(out, at, strlen(at));
        }
        break;
    case SEO_FIELD_MIX: format_mix(&config->data, out); break;
    }
}

void seo_field_quote(seo_buf *out, const char *word) {
    enum { SHOWN_BYTES = 80 };
    const size_t bytes = strlen(word);
    seo_buf_json_string(out, word, bytes < SHOWN_BYTES ? bytes : SHOWN_BYTES);
    if (bytes > SHOWN_BYTES) seo_buf_text(out, "...");
}

static bool wrong_type(const seo_field *field, const char *text, const char *wanted,
                       seo_buf *mistake) {
    seo_buf_format(mistake, "%s must be %s, found ", field->path, wanted);
    seo_field_quote(mistake, text);
    return false;
}

static bool check_range(const seo_field *field, double value, const char *text, seo_buf *mistake) {
    const bool over = field->below_max ? value >= field->max : value > field->max;
    if (value >= field->min && !over) return true;
    /* `text` is a number here: digits and a unit, at most a few dozen bytes. */
    seo_buf_format(mistake, "%s is %.64s, outside %.15g to %.15g%s%s%s", field->path, text,
                   field->min, field->max, field->below_max ? " (not itself)" : "",
                   field->range_hint ? ": " : "", field->range_hint ? field->range_hint : "");
    return false;
}

static bool parse_choice(const seo_field *field, const char *text, void *at, seo_buf *mistake) {
    const char *names[16];
    int64_t count = 0;
    for (const seo_field_choice *c = field->choices; c->name; c++) {
        if (strcmp(c->name, text) == 0) {
            if (c->refusal) seo_buf_format(mistake, "%s: %s: %s", field->path, text, c->refusal);
            if (c->refusal) return false;
            memcpy(at, &c->value, sizeof c->value);
            return true;
        }
        SEO_ASSERT(count < SEO_COUNT_OF(names));
        if (!c->refusal) names[count++] = c->name;
    }
    seo_buf_format(mistake, "%s must be %s", field->path, count > 1 ? "one of " : "");
    for (int64_t i = 0; i < count; i++) {
        seo_buf_format(mistake, "%s%s", i > 0 ? ", " : "", names[i]);
    }
    seo_buf_text(mistake, "; found ");
    seo_field_quote(mistake, text);
    const char *nearest = seo_nearest(text, names, count);
    if (nearest && count > 1) seo_buf_format(mistake, "; did you mean %s?", nearest);
    return false;
}

static bool parse_bool(const seo_field *field, const char *text, bool *at, seo_buf *mistake) {
    static const char *const trues[] = {"true", "True", "TRUE"};
    static const char *const falses[] = {"false", "False", "FALSE"};
    for (int i = 0; i < 3; i++) {
        if (strcmp(text, trues[i]) != 0 && strcmp(text, falses[i]) != 0) continue;
        *at = strcmp(text, trues[i]) == 0;
        return true;
    }
    return wrong_type(field, text, "true or false", mistake);
}

bool seo_field_parse(const seo_field *field, const char *text, seo_config *config,
                     seo_buf *mistake) {
    void *at = (char *)config + field->offset;
    int64_t whole = 0;
    double value = 0;
    switch (field->type) {
    case SEO_FIELD_INT:
        if (!seo_parse_int(text, &whole)) return wrong_type(field, text, "a whole number", mistake);
        if (!check_range(field, (double)whole, text, mistake)) return false;
        *(int64_t *)at = whole;
        return true;
    case SEO_FIELD_FLOAT:
        if (!seo_parse_float(text, &value)) return wrong_type(field, text, "a number", mistake);
        if (!check_range(field, value, text, mistake)) return false;
        *(double *)at = value;
        return true;
    case SEO_FIELD_SECONDS:
        if (!seo_parse_seconds(text, &value))
            return wrong_type(field, text, "a duration (90s, 30min, 2h)", mistake);
        if (!check_range(field, value, text, mistake)) return false;
        *(double *)at = value;
        return true;
    case SEO_FIELD_BOOL: return parse_bool(field, text, at, mistake);
    case SEO_FIELD_CHOICE: return parse_choice(field, text, at, mistake);
    case SEO_FIELD_TEXT:
        if (strlen(text) >= SEO_CONFIG_TEXT_MAX) {
            seo_buf_format(mistake, "%s is %zu bytes long, %d are the limit", field->path,
                           strlen(text), SEO_CONFIG_TEXT_MAX - 1);
            return false;
        }
        memset(at, 0, SEO_CONFIG_TEXT_MAX);
        memcpy(at, text, strlen(text));
        return true;
    case SEO_FIELD_MIX: break;
    }
    SEO_ASSERT(field->type != SEO_FIELD_MIX);
    return false;
}
