/* Reading a configuration: defaults, then the file, then --set, then what is missing, then the
 * rules over several fields. Mistakes are collected, never thrown at the first. */
#include "train/config.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/file.h"
#include "base/yaml.h"
#include "train/config_fields.h"
#include "train/config_suggest.h"

enum { CONFIG_MAX_BYTES = 1 << 20, MESSAGE_BYTES = 3600 };

/* Where something was written: a node of the file, a text of --set, or nowhere (both NULL). */
typedef struct place {
    seo_yaml_node *node;
    const char *set;
} place;

typedef struct reader {
    const seo_config_input *input;
    seo_yaml *doc;
    seo_config *config;
    place places[SEO_CONFIG_FIELDS];
    place sections[SEO_CONFIG_FIELDS]; /* the key of the field's section */
    bool excused[SEO_CONFIG_FIELDS]; /* not missing: another mistake was most likely meant for it */
    seo_rules rules;
    seo_buf report;
    int64_t mistakes;
    int64_t shown; /* mistakes that lie within the first MESSAGE_BYTES of the report */
    size_t shown_bytes;
} reader;

static void complain(reader *r, place at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void complain(reader *r, place at, const char *fmt, ...) {
    char text[1200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (at.set) {
        seo_buf quoted = {0};
        seo_field_quote(&quoted, at.set);
        const int inside = quoted.bytes > 2 ? (int)quoted.bytes - 2 : 0;
        const bool plain = (size_t)inside == strlen(at.set);
        seo_buf_format(&r->report, "--set %.*s: error: %s\n", plain ? inside : (int)quoted.bytes,
                       quoted.data + plain, text);
        seo_buf_free(&quoted);
    } else if (at.node) {
        seo_yaml_report(r->doc, at.node, &r->report, "%s", text);
    } else {
        seo_buf_format(&r->report, "%s: error: %s\n", r->input->name, text);
    }
    r->mistakes++;
    if (r->report.bytes <= MESSAGE_BYTES) {
        r->shown = r->mistakes;
        r->shown_bytes = r->report.bytes;
    }
}

static void complain_of_rule(void *context, int64_t field, const char *text) {
    reader *r = context;
    const place at = r->places[field];
    complain(r, at.node || at.set ? at : r->sections[field], "%s", text);
}

/* ---- one value ---- */

static const char *kind_name(seo_yaml_node *node) {
    return seo_yaml_kind_of(node) == SEO_YAML_MAP ? "a map" : "a list";
}

static const char *wanted(const seo_field *field) {
    switch (field->type) {
    case SEO_FIELD_INT: return "a whole number";
    case SEO_FIELD_FLOAT: return "a number";
    case SEO_FIELD_SECONDS: return "a duration (90s, 30min, 2h)";
    case SEO_FIELD_BOOL: return "true or false";
    case SEO_FIELD_CHOICE: return "a word";
    case SEO_FIELD_TEXT: return "a text";
    case SEO_FIELD_MIX: break;
    }
    return "a map of folders and weights, {DIR: weight}";
}

/* One "DIR: weight" of data.mix. */
static bool read_mix_entry(reader *r, const seo_yaml *doc, seo_yaml_node *map, int64_t i,
                           const char *set) {
    seo_mix_entry *entry = &r->config->data.mix[i];
    seo_yaml_node *value = seo_yaml_value(map, i);
    const char *folder = seo_yaml_text(seo_yaml_key(map, i)), *text = seo_yaml_text(value);
    const bool own_doc = doc == r->doc;
    const place key_at = {own_doc ? seo_yaml_key(map, i) : NULL, set};
    const place at = {own_doc ? value : NULL, set};
    if (folder[0] == '\0' || strlen(folder) >= SEO_CONFIG_TEXT_MAX) {
        complain(r, key_at, "data.mix: a folder's path has 1 to %d bytes", SEO_CONFIG_TEXT_MAX - 1);
        return false;
    }
    double weight = 0;
    if (!text || !seo_parse_float(text, &weight) || !(weight > 0) || weight > 1e9) {
        complain(r, at, "data.mix: a weight is a number above 0");
        return false;
    }
    memcpy(entry->path, folder, strlen(folder) + 1);
    entry->weight = weight;
    return true;
}

static bool read_mix(reader *r, const seo_yaml *doc, seo_yaml_node *node, place at) {
    if (seo_yaml_kind_of(node) != SEO_YAML_MAP || seo_yaml_count(node) == 0) {
        complain(r, at, "data.mix must be a map of folders and weights, {DIR: weight}");
        return false;
    }
    const int64_t count = seo_yaml_count(node);
    if (count > SEO_CONFIG_MIX_MAX) {
        complain(r, at, "data.mix has %" PRId64 " folders, %d are the limit", count,
                 SEO_CONFIG_MIX_MAX);
        return false;
    }
    bool good = true;
    memset(r->config->data.mix, 0, sizeof r->config->data.mix);
    for (int64_t i = 0; i < count; i++) good = read_mix_entry(r, doc, node, i, at.set) && good;
    r->config->data.mix_count = good ? count : 0;
    return good;
}

/* Records what became of field `index` and where it came from. */
static void settle(reader *r, int64_t index, bool good, place at) {
    r->rules.states[index] = good ? SEO_FIELD_GIVEN : SEO_FIELD_BROKEN;
    r->places[index] = at;
    r->config->sources[index] = (seo_config_source){
        .origin = at.set ? SEO_ORIGIN_SET : SEO_ORIGIN_FILE,
        .line = at.node ? seo_yaml_where(r->doc, at.node).line : 0,
    };
}

/* null: not given, for a field that is found in another way when it is not. */
static void settle_null(reader *r, int64_t index, place at) {
    const seo_field *field = &seo_config_fields[index];
    if (!field->otherwise) {
        complain(r, at, "%s must be %s, found nothing", field->path, wanted(field));
        settle(r, index, false, at);
        return;
    }
    char *value = (char *)r->config + field->offset;
    if (field->type == SEO_FIELD_TEXT) value[0] = '\0';
    if (field->type == SEO_FIELD_INT) memset(value, 0, sizeof(int64_t));
    if (field->type == SEO_FIELD_MIX) r->config->data.mix_count = 0;
    r->rules.states[index] = SEO_FIELD_ABSENT;
    r->config->sources[index] = (seo_config_source){0};
    r->places[index] = at;
}

static void read_text(reader *r, int64_t index, const char *text, place at) {
    seo_buf mistake = {0};
    const bool good = seo_field_parse(&seo_config_fields[index], text, r->config, &mistake);
    if (!good) complain(r, at, "%s", mistake.data ? mistake.data : "a wrong value");
    settle(r, index, good, at);
    seo_buf_free(&mistake);
}

static void read_node(reader *r, int64_t index, seo_yaml_node *node) {
    const seo_field *field = &seo_config_fields[index];
    const place at = {.node = node};
    if (seo_yaml_is_null(node)) {
        settle_null(r, index, at);
    } else if (field->type == SEO_FIELD_MIX) {
        settle(r, index, read_mix(r, r->doc, node, at), at);
    } else if (seo_yaml_kind_of(node) != SEO_YAML_SCALAR) {
        complain(r, at, "%s must be %s, found %s", field->path, wanted(field), kind_name(node));
        settle(r, index, false, at);
    } else {
        read_text(r, index, seo_yaml_text(node), at);
    }
}

/* ---- the file ---- */

static void excuse_section(reader *r, const char *section) {
    for (int64_t i = 0; i < SEO_CONFIG_FIELDS; i++) {
        char name[SEO_SHORT_TEXT];
        seo_field_split(seo_config_fields[i].path, name);
        if (strcmp(name, section) == 0) r->excused[i] = true;
    }
}

static void unknown_key(reader *r, const char *section, const char *key, place at) {
    seo_buf text = {0};
    const int64_t meant = seo_config_suggest(section, key, &text);
    char near[SEO_SHORT_TEXT];
    if (meant >= 0) {
        r->excused[meant] = true;
    } else if (section[0] == '\0' && seo_config_nearest_section(key, near)) {
        excuse_section(r, near);
    }
    complain(r, at, "%s", text.data ? text.data : "unknown key");
    seo_buf_free(&text);
}

static void read_section(reader *r, const char *section, seo_yaml_node *key, seo_yaml_node *map) {
    for (int64_t i = 0; i < SEO_CONFIG_FIELDS; i++) {
        char name[SEO_SHORT_TEXT];
        seo_field_split(seo_config_fields[i].path, name);
        if (strcmp(name, section) == 0) r->sections[i].node = key;
    }
    if (seo_yaml_is_null(map)) return;
    if (seo_yaml_kind_of(map) != SEO_YAML_MAP) {
        complain(r, (place){.node = map}, "%s is a section: its keys are wanted here, found %s",
                 section, seo_yaml_text(map) ? "a value" : kind_name(map));
        excuse_section(r, section);
        return;
    }
    for (int64_t i = 0; i < seo_yaml_count(map); i++) {
        const char *word = seo_yaml_text(seo_yaml_key(map, i));
        char path[2 * SEO_SHORT_TEXT];
        const int length = snprintf(path, sizeof path, "%s.%s", section, word);
        const int64_t index =
            length < (int)sizeof path && !strchr(word, '.') ? seo_field_find(path) : -1;
        if (index >= 0) {
            read_node(r, index, seo_yaml_value(map, i));
        } else {
            unknown_key(r, section, word, (place){.node = seo_yaml_key(map, i)});
        }
    }
}

static void read_file(reader *r) {
    seo_yaml_node *root = seo_yaml_root(r->doc);
    if (!root) return;
    if (seo_yaml_kind_of(root) != SEO_YAML_MAP) {
        complain(r, (place){.node = root}, "sections are wanted here (model:, data:, train: ...)");
        memset(r->excused, true, sizeof r->excused);
        return;
    }
    for (int64_t i = 0; i < seo_yaml_count(root); i++) {
        seo_yaml_node *key = seo_yaml_key(root, i);
        const char *word = seo_yaml_text(key);
        const int64_t index = strchr(word, '.') ? -1 : seo_field_find(word);
        if (index >= 0) {
            read_node(r, index, seo_yaml_value(root, i));
        } else if (seo_config_is_section(word)) {
            read_section(r, word, key, seo_yaml_value(root, i));
        } else {
            unknown_key(r, "", word, (place){.node = key});
        }
    }
}

/* ---- --set ---- */

static void set_mix(reader *r, int64_t index, const char *value, place at) {
    seo_yaml *doc = NULL;
    const bool parsed = seo_yaml_parse("data.mix", value, strlen(value), &doc) == SEO_OK;
    seo_yaml_node *root = parsed ? seo_yaml_root(doc) : NULL;
    bool good = false;
    if (root) {
        good = read_mix(r, doc, root, at);
    } else {
        complain(r, at, "data.mix must be a map of folders and weights, {DIR: weight}");
    }
    settle(r, index, good, at);
    seo_yaml_free(doc);
}

static void apply_set(reader *r, const char *set) {
    const place at = {.set = set};
    const char *equals = strchr(set, '=');
    char path[2 * SEO_SHORT_TEXT], section[SEO_SHORT_TEXT];
    if (seo_utf8_first_bad(set, strlen(set)) >= 0) {
        complain(r, at, "not valid UTF-8");
        return;
    }
    if (!equals) {
        complain(r, at, "write it as section.key=value, for example train.steps=1000");
        return;
    }
    snprintf(path, sizeof path, "%.*s", (int)(equals - set), set);
    const int64_t index = seo_field_find(path);
    if (index < 0 && seo_config_is_section(path)) {
        complain(r, at, "%s is a section: set one of its keys, %s.KEY=VALUE", path, path);
    } else if (index < 0) {
        const char *key = seo_field_split(path, section);
        unknown_key(r, section, key, at);
    } else if (equals[1] == '\0' || strcmp(equals + 1, "null") == 0) {
        settle_null(r, index, at);
    } else if (seo_config_fields[index].type == SEO_FIELD_MIX) {
        set_mix(r, index, equals + 1, at);
    } else {
        read_text(r, index, equals + 1, at);
    }
}

/* ---- all of it ---- */

static void fill_defaults(reader *r) {
    for (int64_t i = 0; i < SEO_CONFIG_FIELDS; i++) {
        if (!seo_config_fields[i].preset) continue;
        seo_buf mistake = {0};
        const bool good = seo_field_parse(&seo_config_fields[i], seo_config_fields[i].preset,
                                          r->config, &mistake);
        SEO_ASSERT(good);
        seo_buf_free(&mistake);
    }
}

static void find_missing(reader *r) {
    for (int64_t i = 0; i < SEO_CONFIG_FIELDS; i++) {
        const seo_field *field = &seo_config_fields[i];
        if (field->preset || r->rules.states[i] != SEO_FIELD_ABSENT) continue;
        if (field->otherwise && !r->excused[i]) continue;
        r->rules.states[i] = SEO_FIELD_BROKEN;
        if (r->excused[i]) continue;
        complain(r, r->sections[i], "%s is missing: %s", field->path, field->help);
    }
}

/* The report as this thread's error record, shortened where it does not fit. */
static seo_err fail_with_report(const reader *r) {
    const char *plural = r->mistakes == 1 ? "" : "s";
    if (r->shown == r->mistakes) {
        return SEO_FAIL(SEO_ERR_USAGE, "%s: %" PRId64 " mistake%s\n%.*s", r->input->name,
                        r->mistakes, plural, (int)r->report.bytes - 1, r->report.data);
    }
    return SEO_FAIL(SEO_ERR_USAGE,
                    "%s: %" PRId64 " mistake%s\n%.*s... and %" PRId64
                    " more; seodang config check %s shows all",
                    r->input->name, r->mistakes, plural, (int)r->shown_bytes, r->report.data,
                    r->mistakes - r->shown, r->input->name);
}

seo_err seo_config_parse(const seo_config_input *input, seo_config *out) {
    seo_err err = SEO_OK;
    memset(out, 0, sizeof *out);
    reader r = {.input = input, .config = out};
    r.rules = (seo_rules){.config = out, .complain = complain_of_rule, .context = &r};
    r.rules.resolved = input->resolved;
    fill_defaults(&r);
    err = seo_yaml_parse(input->name, input->text, input->bytes, &r.doc);
    if (err == SEO_ERR_USAGE) {
        seo_buf_format(&r.report, "%s\n", seo_err_detail());
        r.mistakes = r.shown = 1;
        r.shown_bytes = r.report.bytes < MESSAGE_BYTES ? r.report.bytes : MESSAGE_BYTES;
    } else if (err == SEO_OK) {
        read_file(&r);
        for (int64_t i = 0; i < input->set_count; i++) apply_set(&r, input->sets[i]);
        find_missing(&r);
        seo_rules_apply(&r.rules);
    }
    if (input->report && r.report.bytes > 0) {
        seo_buf_add(input->report, r.report.data, r.report.bytes);
    }
    if ((err == SEO_OK || err == SEO_ERR_USAGE) && r.report.failed) {
        err = seo_buf_check(&r.report);
    } else if (r.mistakes > 0) {
        err = fail_with_report(&r);
    }
    seo_yaml_free(r.doc);
    seo_buf_free(&r.report);
    return err;
}

static seo_err load(const char *path, seo_config_input input, seo_config *out) {
    char *text = NULL;
    int64_t bytes = 0;
    seo_err err = seo_file_read(path, CONFIG_MAX_BYTES, &text, &bytes);
    if (err == SEO_OK) {
        input.name = path;
        input.text = text;
        input.bytes = (size_t)bytes;
        err = seo_config_parse(&input, out);
    }
    free(text);
    return err;
}

seo_err seo_config_load(const char *path, const char *const *sets, int64_t set_count,
                        seo_config *out) {
    return load(path, (seo_config_input){.sets = sets, .set_count = set_count}, out);
}

seo_err seo_config_load_resolved(const char *path, seo_config *out) {
    return load(path, (seo_config_input){.resolved = true}, out);
}
