/* What follows from the field table for a configuration that is whole: the resolved copy, the hash
 * of what decides the result, the differences on resume, one line for people. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "train/config_rules.h"
#include "train/schedule.h"

static bool is_path(const seo_field *field, const char *path) {
    return strcmp(field->path, path) == 0;
}

/* ---- the resolved copy ---- */

static void add_origin(const seo_config_source *source, seo_buf *out) {
    switch (source->origin) {
    case SEO_ORIGIN_DEFAULT: seo_buf_text(out, "default"); break;
    case SEO_ORIGIN_DERIVED: seo_buf_text(out, "derived"); break;
    case SEO_ORIGIN_FILE: seo_buf_format(out, "file, line %d", source->line); break;
    case SEO_ORIGIN_SET: seo_buf_text(out, "--set"); break;
    }
}

/* The key's value and comment. A number of steps that was given in tokens stays in tokens, so that
 * the copy reads back to the same values. */
static void add_value(const seo_config *config, int64_t index, int column, seo_buf *out) {
    enum { COMMENT_COLUMN = 40 };
    const seo_field *field = &seo_config_fields[index];
    const seo_schedule_config *schedule = &config->schedule;
    const bool by_tokens =
        (is_path(field, "schedule.warmup_steps") && schedule->warmup_tokens > 0) ||
        (is_path(field, "schedule.decay_steps") && schedule->decay_tokens > 0);
    const bool no_tokens =
        (is_path(field, "schedule.warmup_tokens") && schedule->warmup_tokens == 0) ||
        (is_path(field, "schedule.decay_tokens") && schedule->decay_tokens == 0);
    seo_buf value = {0};
    seo_field_format(field, config, &value);
    const char *text = value.data ? value.data : "";
    const int width = column < COMMENT_COLUMN ? COMMENT_COLUMN - column : 0;
    seo_buf_format(out, "%-*s # ", width, by_tokens || no_tokens ? "null" : text);
    add_origin(&config->sources[index], out);
    if (by_tokens) seo_buf_format(out, ": the tokens below come to %s steps", text);
    seo_buf_text(out, "\n");
    if (value.failed) out->failed = true;
    seo_buf_free(&value);
}

seo_err seo_config_write(const seo_config *config, seo_buf *out) {
    char current[SEO_SHORT_TEXT] = "";
    seo_buf_text(out, "# The resolved configuration: every key, its value, where it came from.\n");
    for (int64_t i = 0; i < SEO_CONFIG_FIELDS; i++) {
        char section[SEO_SHORT_TEXT];
        const char *key = seo_field_split(seo_config_fields[i].path, section);
        if (strcmp(section, current) != 0 && section[0] != '\0') {
            seo_buf_format(out, "%s:\n", section);
        }
        memcpy(current, section, sizeof current);
        const char *indent = section[0] != '\0' ? "  " : "";
        seo_buf_format(out, "%s%s: ", indent, key);
        add_value(config, i, (int)(strlen(indent) + strlen(key) + 2), out);
    }
    return seo_buf_check(out);
}

/* ---- what decides the result ---- */

static bool skips_spikes(const seo_train_config *train) {
    return train->on_spike == SEO_SPIKE_SKIP && train->spike_sigma > 0;
}

static bool distills(const seo_config *config) {
    return config->distill.teacher[0] != '\0';
}

/* A key of a section that one key of it turns on. */
static bool is_unused(const seo_field *field, const seo_config *config) {
    char section[SEO_SHORT_TEXT];
    seo_field_split(field->path, section);
    if (strcmp(section, "lora") == 0) {
        return config->lora.rank == 0 && !is_path(field, "lora.rank");
    }
    return strcmp(section, "distill") == 0 && !distills(config) &&
           !is_path(field, "distill.teacher");
}

/* Appends the value as far as it decides the result; nothing where it does not. */
static void add_decisive(const seo_field *field, const seo_config *config, seo_buf *out) {
    const seo_schedule_kind schedule = config->schedule.name;
    if (!field->decides) return;
    /* The end of cosine and linear is in schedule.decay_steps already. */
    if (is_path(field, "train.steps") && schedule != SEO_SCHEDULE_WSD) return;
    /* auto is what suits the device: a run may go on on another. */
    if (is_path(field, "precision") && config->precision == SEO_PRECISION_AUTO) return;
    if (is_path(field, "schedule.final_lr_fraction") && schedule == SEO_SCHEDULE_CONSTANT) return;
    if (is_path(field, "parallel.slots") && !config->parallel.invariant) return;
    if (is_unused(field, config)) return;
    if (is_path(field, "distill.teacher")) {
        seo_buf_text(out, distills(config) ? "given" : "null");
        return;
    }
    if (!skips_spikes(&config->train)) {
        if (is_path(field, "train.spike_sigma") || is_path(field, "train.spike_window")) return;
        if (is_path(field, "train.on_spike")) {
            seo_buf_text(out, "warn");
            return;
        }
    }
    if (field->type != SEO_FIELD_MIX) {
        seo_field_format(field, config, out);
        return;
    }
    seo_buf_format(out, "%" PRId64 " datasets", config->data.mix_count);
    for (int64_t i = 0; i < config->data.mix_count; i++) {
        seo_buf_format(out, "%s%.17g", i == 0 ? " " : " : ", config->data.mix[i].weight);
    }
}

void seo_config_hash(const seo_config *config, char out[33]) {
    seo_buf text = {0};
    for (int64_t i = 0; i < SEO_CONFIG_FIELDS; i++) {
        const seo_field *field = &seo_config_fields[i];
        const size_t start = text.bytes;
        seo_buf_format(&text, "%s=", field->path);
        const size_t value = text.bytes;
        add_decisive(field, config, &text);
        /* A few kilobytes: a machine without them cannot say anything true about this run. */
        SEO_ASSERT(!text.failed);
        const bool as_before =
            field->before && (text.bytes == value || strcmp(text.data + value, field->before) == 0);
        if (as_before) {
            text.bytes = start;
            text.data[start] = '\0';
        } else {
            seo_buf_text(&text, "\n");
        }
    }
    SEO_ASSERT(!text.failed);
    seo_xxh128_hex(text.data, text.bytes, out);
    seo_buf_free(&text);
}

static bool is_allowed(const char *path, const char *const *allow, int64_t allow_count) {
    for (int64_t i = 0; i < allow_count; i++) {
        if (strcmp(path, allow[i]) == 0) return true;
    }
    return false;
}

/* The decay ends with the run: that was most likely not written but follows from train.steps. */
static bool ends_with_run(const seo_config *config) {
    return config->schedule.decay_steps == config->train.steps;
}

int64_t seo_config_diff(const seo_config *saved, const seo_config *now, const char *const *allow,
                        int64_t allow_count, seo_buf *out) {
    int64_t count = 0;
    for (int64_t i = 0; i < SEO_CONFIG_FIELDS; i++) {
        const seo_field *field = &seo_config_fields[i];
        seo_buf a = {0}, b = {0};
        add_decisive(field, saved, &a);
        add_decisive(field, now, &b);
        const bool same =
            a.bytes == b.bytes && (a.bytes == 0 || memcmp(a.data, b.data, a.bytes) == 0);
        /* Decides on one side only: precision is left open there, or the field that decides
         * whether this one counts differs and is told. */
        const bool one_sided = (a.bytes == 0) != (b.bytes == 0);
        const bool by_steps =
            is_path(field, "schedule.decay_steps") && ends_with_run(saved) && ends_with_run(now);
        const bool allowed = is_allowed(field->path, allow, allow_count) ||
                             (by_steps && is_allowed("train.steps", allow, allow_count));
        if (!same && !one_sided && !allowed) {
            seo_buf_format(out, "  %s: %s in the checkpoint, %s now%s\n",
                           by_steps ? "train.steps" : field->path, a.data, b.data,
                           by_steps
                               ? " (the learning rate's decay ends there; schedule.decay_steps "
                                 "keeps its end where it was)"
                               : "");
            count++;
        }
        seo_buf_free(&a);
        seo_buf_free(&b);
    }
    return count;
}

void seo_config_summary(const seo_config *config, seo_buf *out) {
    const seo_model_config *model = &config->model;
    const seo_train_config *train = &config->train;
    char batch[SEO_SHORT_TEXT], steps[SEO_SHORT_TEXT], total[SEO_SHORT_TEXT], seq[SEO_SHORT_TEXT];
    seo_buf_format(out, "%s, %" PRId64 " layers x %" PRId64 " wide x %" PRId64 " heads, ",
                   seo_config_family_name(model->family), model->num_layers, model->hidden_size,
                   model->num_heads);
    seo_buf_format(out, "%s tokens of context; %s tokens a step, %s steps, %s tokens in all",
                   seo_format_count(seq, model->seq_len),
                   seo_format_count(batch, train->batch_tokens),
                   seo_format_count(steps, train->steps),
                   seo_format_count(total, seo_schedule_tokens(config)));
}
