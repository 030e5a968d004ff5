#include "train/checkpoint/manifest.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/json.h"

void seo_ckpt_part_name(char out[SEO_CKPT_FILE_NAME_MAX], int64_t part, int64_t part_count) {
    snprintf(out, SEO_CKPT_FILE_NAME_MAX, "part-%04lld-of-%04lld.h5", (long long)part,
             (long long)part_count);
}

/* What names are made of. */
#define PLAIN "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

bool seo_ckpt_name_ok(const char *name) {
    const char *slash = strchr(name, '/');
    if (!slash || slash == name || slash[1] == '\0' || strchr(slash + 1, '/')) return false;
    if (strnlen(name, SEO_CKPT_NAME_MAX) == SEO_CKPT_NAME_MAX) return false;
    if (name[0] == '.' || slash[1] == '.') return false;
    return name[strspn(name, PLAIN "/")] == '\0';
}

bool seo_ckpt_shape_count(int32_t rank, const int64_t *dims, int64_t *count) {
    if (rank < 1 || rank > 4) return false;
    int64_t n = 1, bytes;
    for (int32_t i = 0; i < rank; i++) {
        if (dims[i] < 1 || !seo_mul_ok(n, dims[i], &n)) return false;
    }
    *count = n;
    return seo_mul_ok(n, (int64_t)sizeof(float), &bytes);
}

static void add_text_member(seo_buf *out, const char *indent, const char *key, const char *value) {
    seo_buf_format(out, "%s\"%s\": ", indent, key);
    seo_buf_json_string(out, value, strlen(value));
    seo_buf_text(out, ",\n");
}

static void add_float_member(seo_buf *out, const char *key, double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    seo_buf_format(out, "    \"%s\": {\"value\": ", key);
    seo_buf_json_float(out, value, 17);
    seo_buf_format(out, ", \"bits\": \"%016" PRIx64 "\"},\n", bits);
}

static void write_spike_window(seo_buf *out, const seo_ckpt_state *s) {
    seo_buf_text(out, "    \"spike_window\": [");
    for (int64_t i = 0; i < s->spike_count; i++) {
        uint64_t bits;
        memcpy(&bits, &s->spike_window[i], sizeof bits);
        seo_buf_format(out, "%s\"%016" PRIx64 "\"", i ? ", " : "", bits);
    }
    seo_buf_text(out, "],\n");
}

static void write_state(seo_buf *out, const seo_ckpt_state *s) {
    seo_buf_text(out, "  \"state\": {\n");
    seo_buf_format(out, "    \"step\": %" PRId64 ",\n    \"tokens\": %" PRId64 ",\n", s->step,
                   s->tokens);
    seo_buf_format(out, "    \"seed\": \"%" PRIu64 "\",\n", s->seed);
    add_float_member(out, "loss_mean", s->loss_mean);
    add_float_member(out, "train_seconds", s->train_seconds);
    seo_buf_format(out, "    \"skipped_steps\": %" PRId64 ",\n    \"bad_in_row\": %" PRId64 ",\n",
                   s->skipped_steps, s->bad_in_row);
    write_spike_window(out, s);
    add_text_member(out, "    ", "precision", s->precision);
    add_text_member(out, "    ", "config_hash", s->config_hash);
    add_text_member(out, "    ", "data_sha256", s->data_sha256);
    if (s->base_path[0] != '\0') {
        add_text_member(out, "    ", "base_path", s->base_path);
        add_text_member(out, "    ", "base_xxh3_128", s->base_hash);
    }
    if (s->teacher_path[0] != '\0') {
        add_text_member(out, "    ", "teacher_path", s->teacher_path);
        add_text_member(out, "    ", "teacher_xxh3_128", s->teacher_hash);
    }
    seo_buf_format(out, "    \"tokenizer_sha256\": \"%s\"\n  },\n", s->tokenizer_sha256);
}

static void write_files(seo_buf *out, const seo_ckpt_manifest *m) {
    seo_buf_text(out, "  \"files\": [\n");
    for (int64_t i = 0; i < m->file_count; i++) {
        const seo_ckpt_file *f = &m->files[i];
        seo_buf_format(out,
                       "    {\"name\": \"%s\", \"bytes\": %" PRId64 ", \"xxh3_128\": \"%s\", "
                       "\"block_bytes\": %d, \"block_xxh3_64\": \"",
                       f->name, f->digest.bytes, f->digest.hash, SEO_CKPT_BLOCK_BYTES);
        seo_buf_text(out, f->digest.blocks);
        seo_buf_text(out, i + 1 < m->file_count ? "\"},\n" : "\"}\n");
    }
    seo_buf_text(out, "  ],\n");
}

static void write_tensor(seo_buf *out, const seo_ckpt_manifest *m, const seo_ckpt_entry *e) {
    seo_buf_format(out, "    {\"name\": \"%s\", \"dtype\": \"f32\", \"shape\": [", e->name);
    for (int32_t d = 0; d < e->rank; d++) {
        seo_buf_format(out, "%s%" PRId64, d ? ", " : "", e->dims[d]);
    }
    seo_buf_text(out, "], \"pieces\": [");
    for (int64_t i = 0; i < e->piece_count; i++) {
        const seo_ckpt_piece *p = &m->pieces[e->piece_first + i];
        seo_buf_format(out,
                       "%s{\"part\": %" PRId64 ", \"offset\": %" PRId64 ", \"count\": %" PRId64
                       ", \"xxh3_128\": \"%s\"}",
                       i ? ", " : "", p->part, p->offset, p->count, p->hash);
    }
    seo_buf_text(out, "]}");
}

static const char seal_head[] = "  \"manifest_xxh3_128\": \"";
static const char seal_tail[] = "\"\n}\n";
enum {
    SEAL_HEAD = sizeof seal_head - 1,
    SEAL_TAIL = sizeof seal_tail - 1,
    SEAL_HASH = SEO_XXH128_HEX - 1,
    SEAL_BYTES = SEAL_HEAD + SEAL_HASH + SEAL_TAIL
};

void seo_ckpt_manifest_seal(seo_buf *out) {
    char hash[SEO_XXH128_HEX];
    seo_xxh128_hex(out->data, out->bytes, hash);
    seo_buf_format(out, "%s%s%s", seal_head, hash, seal_tail);
}

seo_err seo_ckpt_manifest_write(const seo_ckpt_manifest *m, seo_buf *out) {
    seo_buf_format(out, "{\n  \"format\": \"%s\",\n  \"format_version\": %d,\n", SEO_CKPT_FORMAT,
                   SEO_CKPT_FORMAT_VERSION);
    add_text_member(out, "  ", "program", m->program);
    write_state(out, &m->state);
    seo_buf_format(out, "  \"parts\": %" PRId64 ",\n", m->part_count);
    write_files(out, m);
    seo_buf_text(out, "  \"tensors\": [\n");
    for (int64_t i = 0; i < m->entry_count; i++) {
        write_tensor(out, m, &m->entries[i]);
        seo_buf_text(out, i + 1 < m->entry_count ? ",\n" : "\n");
    }
    seo_buf_text(out, "  ],\n");
    seo_err err = seo_buf_check(out);
    if (err != SEO_OK) return err;
    seo_ckpt_manifest_seal(out);
    return seo_buf_check(out);
}

/* True when the text ends in the seal and the seal is right. Hashes are compared as text: another
 * spelling of the same number is damage as well. */
static bool seal_ok(const char *text, size_t bytes) {
    if (bytes < SEAL_BYTES) return false;
    const char *seal = text + bytes - SEAL_BYTES;
    char hash[SEO_XXH128_HEX];
    seo_xxh128_hex(text, bytes - SEAL_BYTES, hash);
    return memcmp(seal, seal_head, SEAL_HEAD) == 0 &&
           memcmp(seal + SEAL_HEAD, hash, SEAL_HASH) == 0 &&
           memcmp(seal + SEAL_HEAD + SEAL_HASH, seal_tail, SEAL_TAIL) == 0;
}

static bool is_hash(const char *text, size_t digits) {
    return strlen(text) == digits && strspn(text, "0123456789abcdef") == digits;
}

static seo_err parse_hash(const json_t *object, const char *path, const char *key, size_t digits,
                          const char **out) {
    seo_err err = seo_json_string(object, path, key, out);
    if (err != SEO_OK) return err;
    if (!is_hash(*out, digits)) {
        return SEO_FAIL(SEO_ERR_FORMAT, "%s: \"%s\" is not %zu hexadecimal digits", path, key,
                        digits);
    }
    return SEO_OK;
}

/* A hash of the state: `digits` of them, or none when it was not known. */
static seo_err parse_known(const json_t *state, const char *path, const char *key, size_t digits,
                           char *out) {
    const char *text;
    seo_err err = seo_json_string(state, path, key, &text);
    if (err != SEO_OK) return err;
    if (text[0] != '\0') err = parse_hash(state, path, key, digits, &text);
    if (err == SEO_OK) memcpy(out, text, strlen(text) + 1);
    return err;
}

static seo_err parse_float(const json_t *state, const char *path, const char *key, double *out) {
    const json_t *pair;
    const char *text;
    seo_err err = seo_json_object(state, path, key, &pair);
    if (err == SEO_OK) err = parse_hash(pair, path, "bits", 16, &text);
    if (err != SEO_OK) return err;
    uint64_t bits = strtoull(text, NULL, 16);
    memcpy(out, &bits, sizeof bits);
    return SEO_OK;
}

static seo_err parse_seed(const json_t *state, const char *path, uint64_t *out) {
    const char *text;
    char again[24];
    seo_err err = seo_json_string(state, path, "seed", &text);
    if (err != SEO_OK) return err;
    *out = strtoull(text, NULL, 10);
    snprintf(again, sizeof again, "%" PRIu64, *out);
    if (strcmp(again, text) != 0) {
        return SEO_FAIL(SEO_ERR_FORMAT, "%s: \"seed\" is not a number of 64 bits", path);
    }
    return SEO_OK;
}

/* Checkpoints of earlier versions say nothing: they computed in f32. */
static seo_err parse_precision(const json_t *state, const char *path, char *out) {
    static const char *const words[] = {"f32", "bf16", ""};
    const char *text = words[0];
    if (json_object_get(state, "precision")) {
        const seo_err err = seo_json_string(state, path, "precision", &text);
        if (err != SEO_OK) return err;
    }
    for (int64_t i = 0; i < SEO_COUNT_OF(words); i++) {
        if (strcmp(text, words[i]) != 0) continue;
        memcpy(out, text, strlen(text) + 1);
        return SEO_OK;
    }
    return SEO_FAIL(SEO_ERR_FORMAT, "%s: \"precision\" is neither f32 nor bf16", path);
}

/* Since version 2. */
static seo_err parse_spikes(const json_t *state, const char *path, seo_ckpt_state *s) {
    const json_t *window;
    seo_err err = seo_json_int(state, path, "bad_in_row", 0, INT64_MAX, &s->bad_in_row);
    if (err == SEO_OK) err = seo_json_array(state, path, "spike_window", &window);
    if (err != SEO_OK) return err;
    const size_t count = json_array_size(window);
    for (size_t i = 0; i < count; i++) {
        const char *text = json_string_value(json_array_get(window, i));
        if (count > SEO_CKPT_SPIKE_MAX || !text || !is_hash(text, 16)) {
            return SEO_FAIL(SEO_ERR_FORMAT,
                            "%s: \"spike_window\" is not at most %d numbers of 16 hexadecimal "
                            "digits",
                            path, SEO_CKPT_SPIKE_MAX);
        }
        const uint64_t bits = strtoull(text, NULL, 16);
        memcpy(&s->spike_window[i], &bits, sizeof bits);
    }
    s->spike_count = (int64_t)count;
    return SEO_OK;
}

/* Another checkpoint that the run depends on, where it has one: where it lies, and the hash of its
 * manifest. */
static seo_err parse_other(const json_t *state, const char *path, const char *path_key,
                           const char *hash_key, char out_path[SEO_PATH_MAX],
                           char out_hash[SEO_XXH128_HEX]) {
    const char *text;
    if (!json_object_get(state, path_key)) return SEO_OK;
    seo_err err = seo_json_string(state, path, path_key, &text);
    if (err == SEO_OK && (text[0] == '\0' || strlen(text) >= SEO_PATH_MAX)) {
        err = SEO_FAIL(SEO_ERR_FORMAT, "%s: \"%s\" is no path", path, path_key);
    }
    if (err == SEO_OK) memcpy(out_path, text, strlen(text) + 1);
    if (err == SEO_OK) err = parse_hash(state, path, hash_key, SEO_XXH128_HEX - 1, &text);
    if (err == SEO_OK) memcpy(out_hash, text, SEO_XXH128_HEX);
    return err;
}

static seo_err parse_state(const json_t *root, const char *path, int64_t version,
                           seo_ckpt_state *s) {
    seo_err err = SEO_OK;
    const json_t *state;
    SEO_TRY(seo_json_object(root, path, "state", &state));
    SEO_TRY(seo_json_int(state, path, "step", 0, INT64_MAX, &s->step));
    SEO_TRY(seo_json_int(state, path, "tokens", 0, INT64_MAX, &s->tokens));
    SEO_TRY(parse_seed(state, path, &s->seed));
    SEO_TRY(parse_float(state, path, "loss_mean", &s->loss_mean));
    SEO_TRY(parse_float(state, path, "train_seconds", &s->train_seconds));
    SEO_TRY(seo_json_int(state, path, "skipped_steps", 0, INT64_MAX, &s->skipped_steps));
    if (version >= 2) SEO_TRY(parse_spikes(state, path, s));
    SEO_TRY(parse_precision(state, path, s->precision));
    SEO_TRY(parse_known(state, path, "config_hash", sizeof s->config_hash - 1, s->config_hash));
    SEO_TRY(parse_known(state, path, "data_sha256", sizeof s->data_sha256 - 1, s->data_sha256));
    SEO_TRY(parse_known(state, path, "tokenizer_sha256", sizeof s->tokenizer_sha256 - 1,
                        s->tokenizer_sha256));
    SEO_TRY(parse_other(state, path, "base_path", "base_xxh3_128", s->base_path, s->base_hash));
    SEO_TRY(parse_other(state, path, "teacher_path", "teacher_xxh3_128", s->teacher_path,
                        s->teacher_hash));
done:
    return err;
}

/* A plain name in the checkpoint's own folder: nothing that leads elsewhere. */
static seo_err parse_file(const json_t *object, const char *path, seo_ckpt_file *out) {
    seo_err err = SEO_OK;
    const char *text;
    int64_t block_bytes;
    SEO_TRY(seo_json_string(object, path, "name", &text));
    if (text[0] == '\0' || text[0] == '.' || text[strspn(text, PLAIN)] != '\0' ||
        strlen(text) >= sizeof out->name) {
        err = SEO_FAIL(SEO_ERR_FORMAT, "%s: the name of a file is not a plain one", path);
        goto done;
    }
    memcpy(out->name, text, strlen(text) + 1);
    SEO_TRY(seo_json_int(object, path, "bytes", 0, INT64_MAX, &out->digest.bytes));
    SEO_TRY(parse_hash(object, path, "xxh3_128", sizeof out->digest.hash - 1, &text));
    memcpy(out->digest.hash, text, sizeof out->digest.hash);
    SEO_TRY(seo_json_int(object, path, "block_bytes", SEO_CKPT_BLOCK_BYTES, SEO_CKPT_BLOCK_BYTES,
                         &block_bytes));
    int64_t blocks = seo_div_up(out->digest.bytes, block_bytes);
    SEO_TRY(parse_hash(object, path, "block_xxh3_64", (size_t)blocks * SEO_CKPT_BLOCK_HEX, &text));
    out->digest.blocks = strdup(text);
    if (!out->digest.blocks) {
        err = SEO_FAIL(SEO_ERR_MEMORY, "%s: no memory for its file list", path);
    }
done:
    return err;
}

static seo_err parse_files(const json_t *root, const char *path, seo_ckpt_manifest *out) {
    seo_err err = SEO_OK;
    const json_t *files;
    char name[SEO_CKPT_FILE_NAME_MAX];
    SEO_TRY(seo_json_array(root, path, "files", &files));
    int64_t count = (int64_t)json_array_size(files);
    out->files = calloc((size_t)count + 1, sizeof *out->files);
    if (!out->files) {
        err = SEO_FAIL(SEO_ERR_MEMORY, "%s: no memory for its file list", path);
        goto done;
    }
    for (int64_t i = 0; i < count; i++) {
        out->file_count = i + 1;
        SEO_TRY(parse_file(json_array_get(files, (size_t)i), path, &out->files[i]));
    }
    for (int64_t i = 0; i < out->part_count; i++) {
        seo_ckpt_part_name(name, i, out->part_count);
        if (seo_ckpt_manifest_file(out, name)) continue;
        err = SEO_FAIL(SEO_ERR_FORMAT, "%s: %s is not in its file list", path, name);
        goto done;
    }
done:
    return err;
}

static seo_err parse_piece(const json_t *object, const char *path, const seo_ckpt_manifest *m,
                           int64_t room, seo_ckpt_piece *out) {
    seo_err err = SEO_OK;
    const char *hash;
    SEO_TRY(seo_json_int(object, path, "part", 0, m->part_count - 1, &out->part));
    SEO_TRY(seo_json_int(object, path, "offset", 0, INT64_MAX, &out->offset));
    SEO_TRY(seo_json_int(object, path, "count", 1, room, &out->count));
    SEO_TRY(parse_hash(object, path, "xxh3_128", sizeof out->hash - 1, &hash));
    memcpy(out->hash, hash, sizeof out->hash);
done:
    return err;
}

/* Pieces must follow one another from the tensor's first element to its last. */
static seo_err parse_pieces(const json_t *object, const char *path, seo_ckpt_manifest *m,
                            seo_ckpt_entry *e) {
    const json_t *pieces;
    seo_err err = seo_json_array(object, path, "pieces", &pieces);
    if (err != SEO_OK) return err;
    size_t count = json_array_size(pieces);
    int64_t covered = 0;
    seo_ckpt_piece *grown =
        realloc(m->pieces, ((size_t)m->piece_count + count + 1) * sizeof *m->pieces);
    if (!grown) return SEO_FAIL(SEO_ERR_MEMORY, "%s: no memory for its tensor table", path);
    m->pieces = grown;
    e->piece_first = m->piece_count;
    e->piece_count = (int64_t)count;
    for (size_t i = 0; i < count; i++) {
        seo_ckpt_piece *piece = &m->pieces[m->piece_count++];
        err = parse_piece(json_array_get(pieces, i), path, m, e->count - covered, piece);
        if (err != SEO_OK) return err;
        if (piece->offset != covered) break;
        covered += piece->count;
    }
    if (covered != e->count) {
        return SEO_FAIL(SEO_ERR_FORMAT, "%s: the pieces of %s do not cover it", path, e->name);
    }
    return SEO_OK;
}

static seo_err parse_shape(const json_t *object, const char *path, seo_ckpt_entry *e) {
    const json_t *shape;
    seo_err err = seo_json_array(object, path, "shape", &shape);
    if (err != SEO_OK) return err;
    size_t rank = json_array_size(shape);
    for (size_t d = 0; d < rank && d < 4; d++) {
        e->dims[d] = json_integer_value(json_array_get(shape, d));
    }
    e->rank = rank <= 4 ? (int32_t)rank : 0;
    if (!seo_ckpt_shape_count(e->rank, e->dims, &e->count)) {
        return SEO_FAIL(SEO_ERR_FORMAT, "%s: %s has an impossible shape", path, e->name);
    }
    return SEO_OK;
}

static seo_err parse_entry(const json_t *object, const char *path, seo_ckpt_manifest *m,
                           seo_ckpt_entry *e) {
    seo_err err = SEO_OK;
    const char *text;
    SEO_TRY(seo_json_string(object, path, "name", &text));
    if (!seo_ckpt_name_ok(text)) {
        err = SEO_FAIL(SEO_ERR_FORMAT, "%s: a tensor has an impossible name", path);
        goto done;
    }
    memcpy(e->name, text, strlen(text) + 1);
    SEO_TRY(seo_json_string(object, path, "dtype", &text));
    if (strcmp(text, "f32") != 0) {
        err = SEO_FAIL(SEO_ERR_FORMAT, "%s: %s has dtype \"%s\", only f32 is known", path, e->name,
                       text);
        goto done;
    }
    SEO_TRY(parse_shape(object, path, e));
    SEO_TRY(parse_pieces(object, path, m, e));
done:
    return err;
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static seo_err refuse_duplicates(const char *path, const seo_ckpt_manifest *m) {
    seo_err err = SEO_OK;
    const char **names = malloc(((size_t)m->entry_count + 1) * sizeof *names);
    if (!names) return SEO_FAIL(SEO_ERR_MEMORY, "%s: no memory for its tensor table", path);
    for (int64_t i = 0; i < m->entry_count; i++) names[i] = m->entries[i].name;
    qsort(names, (size_t)m->entry_count, sizeof *names, compare_names);
    for (int64_t i = 1; i < m->entry_count; i++) {
        if (strcmp(names[i - 1], names[i]) != 0) continue;
        err = SEO_FAIL(SEO_ERR_FORMAT, "%s: %s is listed twice", path, names[i]);
        break;
    }
    free(names);
    return err;
}

static seo_err parse_entries(const json_t *root, const char *path, seo_ckpt_manifest *out) {
    seo_err err = SEO_OK;
    const json_t *tensors;
    SEO_TRY(seo_json_array(root, path, "tensors", &tensors));
    int64_t count = (int64_t)json_array_size(tensors);
    out->entries = calloc((size_t)count + 1, sizeof *out->entries);
    if (!out->entries) {
        err = SEO_FAIL(SEO_ERR_MEMORY, "%s: no memory for its tensor table", path);
        goto done;
    }
    out->entry_count = count;
    for (int64_t i = 0; i < count; i++) {
        SEO_TRY(parse_entry(json_array_get(tensors, (size_t)i), path, out, &out->entries[i]));
    }
    SEO_TRY(refuse_duplicates(path, out));
done:
    return err;
}

static seo_err parse_format(const json_t *root, const char *path, int64_t *out) {
    seo_err err = SEO_OK;
    const char *format;
    int64_t version;
    SEO_TRY(seo_json_string(root, path, "format", &format));
    if (strcmp(format, SEO_CKPT_FORMAT) != 0) {
        err = SEO_FAIL(SEO_ERR_FORMAT, "%s: its format is \"%s\", not \"%s\"", path, format,
                       SEO_CKPT_FORMAT);
        goto done;
    }
    SEO_TRY(seo_json_int(root, path, "format_version", 1, INT64_MAX, &version));
    *out = version;
    if (version > SEO_CKPT_FORMAT_VERSION) {
        err = SEO_FAIL(SEO_ERR_UNSUPPORTED,
                       "%s: written in format_version %lld, this program (%s) reads up to %d: use "
                       "a newer seodang",
                       path, (long long)version, SEODANG_VERSION, SEO_CKPT_FORMAT_VERSION);
    }
done:
    return err;
}

seo_err seo_ckpt_manifest_parse(const char *path, const char *text, size_t bytes,
                                seo_ckpt_manifest *out) {
    seo_err err = SEO_OK;
    json_t *root = NULL;
    const char *program;
    int64_t version = 0;
    memset(out, 0, sizeof *out);
    if (!seal_ok(text, bytes)) {
        return SEO_FAIL(SEO_ERR_FORMAT,
                        "%s: damaged: the hash in its last line is not that of its text", path);
    }
    SEO_TRY(seo_json_parse(path, text, bytes, &root));
    SEO_TRY(parse_format(root, path, &version));
    SEO_TRY(seo_json_string(root, path, "program", &program));
    snprintf(out->program, sizeof out->program, "%s", program);
    memcpy(out->hash, text + bytes - SEAL_TAIL - SEAL_HASH, SEAL_HASH);
    SEO_TRY(parse_state(root, path, version, &out->state));
    SEO_TRY(seo_json_int(root, path, "parts", 1, SEO_CKPT_PARTS_MAX, &out->part_count));
    SEO_TRY(parse_files(root, path, out));
    SEO_TRY(parse_entries(root, path, out));
done:
    if (root) json_decref(root);
    if (err != SEO_OK) seo_ckpt_manifest_free(out);
    return err;
}

seo_err seo_ckpt_manifest_load(const char *path, seo_ckpt_manifest *out) {
    char *text;
    int64_t bytes;
    memset(out, 0, sizeof *out);
    seo_err err = seo_file_read(path, SEO_CKPT_MANIFEST_BYTES_MAX, &text, &bytes);
    if (err != SEO_OK) return err;
    err = seo_ckpt_manifest_parse(path, text, (size_t)bytes, out);
    free(text);
    return err;
}

void seo_ckpt_manifest_free(seo_ckpt_manifest *m) {
    for (int64_t i = 0; i < m->file_count; i++) seo_ckpt_digest_free(&m->files[i].digest);
    free(m->files);
    free(m->entries);
    free(m->pieces);
    memset(m, 0, sizeof *m);
}

const seo_ckpt_file *seo_ckpt_manifest_file(const seo_ckpt_manifest *m, const char *name) {
    for (int64_t i = 0; i < m->file_count; i++) {
        if (strcmp(m->files[i].name, name) == 0) return &m->files[i];
    }
    return NULL;
}

const seo_ckpt_entry *seo_ckpt_manifest_entry(const seo_ckpt_manifest *m, const char *name) {
    for (int64_t i = 0; i < m->entry_count; i++) {
        if (strcmp(m->entries[i].name, name) == 0) return &m->entries[i];
    }
    return NULL;
}
