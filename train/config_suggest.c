#include "train/config_suggest.h"

#include <string.h>

#include "base/check.h"
#include "train/config_fields.h"

/* Names that other programs of the field use. */
static const struct {
    const char *name, *path;
} k_foreign[] = {
    {"n_layer", "model.num_layers"},
    {"n_layers", "model.num_layers"},
    {"num_hidden_layers", "model.num_layers"},
    {"n_head", "model.num_heads"},
    {"n_heads", "model.num_heads"},
    {"num_attention_heads", "model.num_heads"},
    {"n_embd", "model.hidden_size"},
    {"d_model", "model.hidden_size"},
    {"block_size", "model.seq_len"},
    {"seq_length", "model.seq_len"},
    {"n_ctx", "model.seq_len"},
    {"n_positions", "model.seq_len"},
    {"intermediate_size", "model.ffn_hidden_size"},
    {"max_iters", "train.steps"},
    {"max_steps", "train.steps"},
    {"train_iters", "train.steps"},
    {"batch_size", "train.micro_batch"},
    {"micro_batch_size", "train.micro_batch"},
    {"learning_rate", "optimizer.lr"},
    {"grad_clip", "optimizer.clip"},
    {"max_norm", "optimizer.clip"},
    {"warmup_iters", "schedule.warmup_steps"},
    {"lr_decay_iters", "schedule.decay_steps"},
    {"eval_interval", "eval.every"},
    {"save_interval", "checkpoint.every"},
    {"dtype", "precision"},
};

/* The distinct sections of the table, in its order. */
static int64_t list_sections(const char *out[SEO_CONFIG_FIELDS],
                             char names[SEO_CONFIG_FIELDS][SEO_SHORT_TEXT]) {
    int64_t count = 0;
    for (int64_t i = 0; i < SEO_CONFIG_FIELDS; i++) {
        seo_field_split(seo_config_fields[i].path, names[count]);
        if (names[count][0] == '\0') continue;
        if (count > 0 && strcmp(names[count - 1], names[count]) == 0) continue;
        out[count] = names[count];
        count++;
    }
    return count;
}

bool seo_config_is_section(const char *word) {
    for (int64_t i = 0; i < SEO_CONFIG_FIELDS; i++) {
        char section[SEO_SHORT_TEXT];
        seo_field_split(seo_config_fields[i].path, section);
        if (section[0] != '\0' && strcmp(section, word) == 0) return true;
    }
    return false;
}

/* Appends " and b, c" of every other place where a key of this name exists; returns the only one,
 * or -1. */
static int64_t say_elsewhere(const char *key, seo_buf *out) {
    int64_t found = 0, where = -1;
    for (int64_t i = 0; i < SEO_CONFIG_FIELDS; i++) {
        char section[SEO_SHORT_TEXT];
        if (strcmp(seo_field_split(seo_config_fields[i].path, section), key) != 0) continue;
        if (section[0] == '\0') {
            seo_buf_format(out, "; %s stands at the top level, in no section", key);
        } else {
            seo_buf_format(out, "%s%s", found == 0 ? "; it is a key of " : " and of ", section);
        }
        found++;
        where = i;
    }
    return found == 1 ? where : -1;
}

static int64_t nearest_in_section(const char *section, const char *key) {
    const char *names[SEO_CONFIG_FIELDS];
    int64_t fields[SEO_CONFIG_FIELDS], count = 0;
    for (int64_t i = 0; i < SEO_CONFIG_FIELDS; i++) {
        char own[SEO_SHORT_TEXT];
        const char *name = seo_field_split(seo_config_fields[i].path, own);
        if (strcmp(own, section) != 0) continue;
        names[count] = name;
        fields[count++] = i;
    }
    const char *nearest = seo_nearest(key, names, count);
    for (int64_t i = 0; nearest && i < count; i++) {
        if (names[i] == nearest) return fields[i];
    }
    return -1;
}

static int64_t foreign_name(const char *key) {
    for (int64_t i = 0; i < SEO_COUNT_OF(k_foreign); i++) {
        if (strcmp(k_foreign[i].name, key) == 0) return seo_field_find(k_foreign[i].path);
    }
    return -1;
}

const char *seo_config_nearest_section(const char *word, char out[SEO_SHORT_TEXT]) {
    char names[SEO_CONFIG_FIELDS][SEO_SHORT_TEXT];
    const char *sections[SEO_CONFIG_FIELDS];
    const char *nearest = seo_nearest(word, sections, list_sections(sections, names));
    if (!nearest) return NULL;
    memcpy(out, nearest, SEO_SHORT_TEXT);
    return out;
}

static void list_keys(const char *section, seo_buf *out) {
    const char *lead = "; it has ";
    for (int64_t i = 0; i < SEO_CONFIG_FIELDS; i++) {
        char own[SEO_SHORT_TEXT];
        const char *name = seo_field_split(seo_config_fields[i].path, own);
        if (strcmp(own, section) != 0) continue;
        seo_buf_format(out, "%s%s", lead, name);
        lead = ", ";
    }
}

int64_t seo_config_suggest(const char *section, const char *key, seo_buf *out) {
    char near[SEO_SHORT_TEXT];
    const bool top = section[0] == '\0';
    if (!top && !seo_config_is_section(section)) {
        const char *nearest = seo_config_nearest_section(section, near);
        seo_buf_text(out, "unknown section ");
        seo_field_quote(out, section);
        if (nearest) seo_buf_format(out, "; did you mean %s?", nearest);
        return -1;
    }
    seo_buf_text(out, "unknown key ");
    seo_field_quote(out, key);
    seo_buf_format(out, " %s%s", top ? "at the top level" : "in ", section);
    const size_t before = out->bytes;
    if (top && strchr(key, '.') && seo_field_find(key) >= 0) {
        char own[SEO_SHORT_TEXT];
        const char *name = seo_field_split(key, own);
        seo_buf_format(out, "; write %s: under %s:", name, own);
        return seo_field_find(key);
    }
    const int64_t elsewhere = say_elsewhere(key, out);
    if (out->bytes > before) return elsewhere;
    int64_t meant = foreign_name(key);
    if (meant < 0) meant = nearest_in_section(section, key);
    const char *nearest = top && meant < 0 ? seo_config_nearest_section(key, near) : NULL;
    if (meant >= 0) {
        char own[SEO_SHORT_TEXT];
        const char *name = seo_field_split(seo_config_fields[meant].path, own);
        const bool same = strcmp(own, section) == 0;
        seo_buf_format(out, "; did you mean %s?", same ? name : seo_config_fields[meant].path);
    } else if (nearest) {
        seo_buf_format(out, "; did you mean the section %s?", nearest);
    } else if (!top) {
        list_keys(section, out);
    }
    return meant;
}
