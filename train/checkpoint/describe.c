/* What a checkpoint holds, as a table or as JSON. */
#include <inttypes.h>
#include <string.h>

#include "train/checkpoint.h"
#include "train/checkpoint/open.h"

static void add_shape(seo_buf *out, const seo_ckpt_entry *e, const char *separator) {
    for (int32_t d = 0; d < e->rank; d++) {
        seo_buf_format(out, "%s%" PRId64, d ? separator : "", e->dims[d]);
    }
}

static const char *known(const char *hash) {
    return hash[0] != '\0' ? hash : "unknown";
}

static void describe_text(const seo_ckpt *ckpt, seo_buf *out) {
    const seo_ckpt_manifest *m = &ckpt->manifest;
    const seo_ckpt_state *s = &m->state;
    char size[SEO_SHORT_TEXT], count[SEO_SHORT_TEXT], shape_text[96];
    seo_buf_format(out, "%s\n  written by      %s\n", ckpt->path, m->program);
    seo_buf_format(out, "  step            %s\n", seo_format_count(count, s->step));
    seo_buf_format(out, "  tokens          %s\n", seo_format_count(count, s->tokens));
    seo_buf_format(out, "  seed            %" PRIu64 "\n", s->seed);
    seo_buf_format(out, "  loss (mean)     %.6g\n", s->loss_mean);
    seo_buf_format(out, "  training time   %s\n", seo_format_seconds(size, s->train_seconds));
    seo_buf_format(out, "  skipped steps   %s\n", seo_format_count(count, s->skipped_steps));
    seo_buf_format(out, "  precision       %s\n", known(s->precision));
    seo_buf_format(out, "  configuration   %s\n  data            %s\n  tokenizer       %s\n",
                   known(s->config_hash), known(s->data_sha256), known(s->tokenizer_sha256));
    if (s->base_path[0] != '\0') {
        seo_buf_format(out, "  began from      %s (manifest %s)\n", s->base_path, s->base_hash);
    }
    if (s->teacher_path[0] != '\0') {
        seo_buf_format(out, "  teacher         %s (manifest %s)\n", s->teacher_path,
                       s->teacher_hash);
    }
    int64_t bytes = 0;
    for (int64_t i = 0; i < m->file_count; i++) bytes += m->files[i].digest.bytes;
    seo_buf_format(out, "  parts           %" PRId64 ", one for each rank that wrote; %s in all\n",
                   m->part_count, seo_format_bytes(size, (double)bytes));
    for (int64_t i = 0; i < m->file_count; i++) {
        const seo_ckpt_digest *d = &m->files[i].digest;
        seo_buf_format(out, "  %-22s %10s  xxh3_128 %s\n", m->files[i].name,
                       seo_format_bytes(size, (double)d->bytes), d->hash);
    }
    for (int64_t i = 0; i < m->entry_count; i++) {
        const seo_ckpt_entry *e = &m->entries[i];
        seo_buf shape = {0};
        add_shape(&shape, e, " x ");
        size_t n = shape.data ? shape.bytes : 0;
        if (n >= sizeof shape_text) n = sizeof shape_text - 1;
        if (n > 0) memcpy(shape_text, shape.data, n);
        shape_text[n] = '\0';
        seo_buf_free(&shape);
        seo_buf_format(out, "  %-48s f32 %-20s %14s\n", e->name, shape_text,
                       seo_format_count(count, e->count));
    }
}

static void add_json_text(seo_buf *out, const char *key, const char *value) {
    seo_buf_format(out, "\"%s\": ", key);
    seo_buf_json_string(out, value, strlen(value));
    seo_buf_text(out, ", ");
}

static void describe_json(const seo_ckpt *ckpt, seo_buf *out) {
    const seo_ckpt_manifest *m = &ckpt->manifest;
    const seo_ckpt_state *s = &m->state;
    seo_buf_text(out, "{");
    add_json_text(out, "path", ckpt->path);
    add_json_text(out, "program", m->program);
    seo_buf_format(out, "\"step\": %" PRId64 ", \"tokens\": %" PRId64 ", \"seed\": \"%" PRIu64 "\"",
                   s->step, s->tokens, s->seed);
    seo_buf_text(out, ", \"loss_mean\": ");
    seo_buf_json_float(out, s->loss_mean, 17);
    seo_buf_text(out, ", \"train_seconds\": ");
    seo_buf_json_float(out, s->train_seconds, 17);
    seo_buf_format(out,
                   ", \"skipped_steps\": %" PRId64 ", \"bad_in_row\": %" PRId64
                   ", \"spike_count\": %" PRId64 ", \"parts\": %" PRId64 ", ",
                   s->skipped_steps, s->bad_in_row, s->spike_count, m->part_count);
    add_json_text(out, "precision", s->precision);
    add_json_text(out, "config_hash", s->config_hash);
    add_json_text(out, "data_sha256", s->data_sha256);
    add_json_text(out, "tokenizer_sha256", s->tokenizer_sha256);
    add_json_text(out, "base_path", s->base_path);
    add_json_text(out, "base_xxh3_128", s->base_hash);
    add_json_text(out, "teacher_path", s->teacher_path);
    add_json_text(out, "teacher_xxh3_128", s->teacher_hash);
    seo_buf_text(out, "\"files\": [");
    for (int64_t i = 0; i < m->file_count; i++) {
        const seo_ckpt_file *f = &m->files[i];
        seo_buf_format(out, "%s{\"name\": \"%s\", \"bytes\": %" PRId64 ", \"xxh3_128\": \"%s\"}",
                       i ? ", " : "", f->name, f->digest.bytes, f->digest.hash);
    }
    seo_buf_text(out, "], \"tensors\": [");
    for (int64_t i = 0; i < m->entry_count; i++) {
        const seo_ckpt_entry *e = &m->entries[i];
        seo_buf_format(out, "%s{\"name\": \"%s\", \"dtype\": \"f32\", \"shape\": [", i ? ", " : "",
                       e->name);
        add_shape(out, e, ", ");
        seo_buf_format(out, "], \"pieces\": %" PRId64 "}", e->piece_count);
    }
    seo_buf_text(out, "]}\n");
}

seo_err seo_ckpt_describe(const seo_ckpt *ckpt, seo_ckpt_style style, seo_buf *out) {
    if (style == SEO_CKPT_STYLE_JSON) {
        describe_json(ckpt, out);
    } else {
        describe_text(ckpt, out);
    }
    return seo_buf_check(out);
}
