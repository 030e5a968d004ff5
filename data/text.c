#include "data/text.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/json.h"
#include "base/text.h"
#include "data/stream.h"
#include "data/text_files.h"

/* One document is held in memory; a plain file or a line of JSONL larger than this is refused. */
static const int64_t k_document_max_bytes = (int64_t)16 << 30;
static const int64_t k_line_max_bytes = (int64_t)1 << 30;
enum { READ_BYTES = 1 << 18 };

struct seo_text {
    seo_text_files files;
    char *field;
    int64_t file; /* being read */
    seo_stream *stream;
    int64_t finished_bytes; /* of the files before it, on disk */
    seo_buf block;          /* a document, or bytes of a JSONL file not yet split into lines */
    size_t block_at;
    bool stream_ended;
    int64_t line;
    json_t *json; /* holds the current document's text */
    seo_text_counters counters;
};

seo_err seo_text_open(const char *const *paths, int64_t path_count, const char *field,
                      seo_text **out) {
    seo_err err = SEO_OK;
    seo_text *text = calloc(1, sizeof *text);
    if (!text) return SEO_FAIL(SEO_ERR_MEMORY, "a text reader");
    text->field = strdup(field ? field : "text");
    if (!text->field) SEO_TRY(SEO_FAIL(SEO_ERR_MEMORY, "a text reader"));
    for (int64_t i = 0; i < path_count; i++) SEO_TRY(seo_text_files_add(&text->files, paths[i]));
    if (text->files.count == 0) SEO_TRY(SEO_FAIL(SEO_ERR_USAGE, "no text file was named"));
    text->counters.files_left_out = text->files.left_out;
    *out = text;
    text = NULL;
done:
    seo_text_close(text);
    return err;
}

void seo_text_close(seo_text *text) {
    if (!text) return;
    json_decref(text->json);
    seo_stream_close(text->stream);
    seo_text_files_free(&text->files);
    seo_buf_free(&text->block);
    free(text->field);
    free(text);
}

int64_t seo_text_source_count(const seo_text *text) {
    return text->files.count;
}

const char *seo_text_source(const seo_text *text, int64_t source) {
    SEO_ASSERT(source >= 0 && source < text->files.count);
    return text->files.items[source].path;
}

int64_t seo_text_file_bytes(const seo_text *text) {
    int64_t bytes = 0;
    for (int64_t i = 0; i < text->files.count; i++) bytes += text->files.items[i].bytes;
    return bytes;
}

seo_text_counters seo_text_counters_get(const seo_text *text) {
    seo_text_counters counters = text->counters;
    counters.file_bytes_read =
        text->finished_bytes + (text->stream ? seo_stream_file_bytes(text->stream) : 0);
    return counters;
}

static const char *path_of(const seo_text *text) {
    return text->files.items[text->file].path;
}

/* Appends what the stream gives next; sets stream_ended at its end. */
static seo_err fill(seo_text *text, int64_t max_bytes, const char *what) {
    int64_t got = 0;
    char piece[READ_BYTES];
    const seo_err err = seo_stream_read(text->stream, piece, READ_BYTES, &got);
    if (err != SEO_OK) return err;
    text->stream_ended = got == 0;
    if ((int64_t)(text->block.bytes - text->block_at) + got > max_bytes) {
        return SEO_FAIL(SEO_ERR_FORMAT, "%s: %s of more than %lld bytes", path_of(text), what,
                        (long long)max_bytes);
    }
    seo_buf_add(&text->block, piece, (size_t)got);
    return seo_buf_check(&text->block);
}

static int64_t count_invalid_utf8(const char *data, int64_t bytes) {
    int64_t bad = 0;
    for (int64_t at = 0; at < bytes; at++, bad++) {
        const int64_t next = seo_utf8_first_bad(data + at, (size_t)(bytes - at));
        if (next < 0) break;
        at += next;
    }
    return bad;
}

/* A reader takes the open file's next document; document->data stays NULL at the file's end. */
static seo_err next_plain(seo_text *text, seo_text_document *document) {
    if (text->stream_ended) return SEO_OK;
    while (!text->stream_ended) {
        const seo_err err = fill(text, k_document_max_bytes, "a document");
        if (err != SEO_OK) return err;
    }
    document->data = text->block.bytes > 0 ? text->block.data : "";
    document->bytes = (int64_t)text->block.bytes;
    text->counters.invalid_utf8_bytes += count_invalid_utf8(document->data, document->bytes);
    return SEO_OK;
}

/* Finds the next line in the block, reading on as needed; *line = NULL at the end. The newline is
 * not part of it. */
static seo_err next_line(seo_text *text, char **line, size_t *bytes) {
    size_t searched = 0;
    *line = NULL;
    for (;;) {
        const size_t held = text->block.bytes - text->block_at;
        char *start = held > 0 ? text->block.data + text->block_at : NULL;
        char *newline = start ? memchr(start + searched, '\n', held - searched) : NULL;
        if (newline || (text->stream_ended && held > 0)) {
            *line = start;
            *bytes = newline ? (size_t)(newline - start) : held;
            text->block_at += *bytes + (newline != NULL);
            text->line++;
            return SEO_OK;
        }
        if (text->stream_ended) return SEO_OK;
        searched = held;
        if (text->block_at > 0) {
            memmove(text->block.data, text->block.data + text->block_at, held);
            text->block.bytes = held;
            text->block_at = 0;
        }
        const seo_err err = fill(text, k_line_max_bytes, "a line");
        if (err != SEO_OK) return err;
    }
}

static bool is_blank(const char *line, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        if (line[i] != ' ' && line[i] != '\t' && line[i] != '\r') return false;
    }
    return true;
}

/* Parses one line and points the document at the field's text, which the parsed value owns. */
static seo_err take_field(seo_text *text, const char *line, size_t bytes,
                          seo_text_document *document) {
    json_error_t error;
    const long long number = text->line;
    json_decref(text->json);
    text->json = json_loadb(line, bytes, JSON_ALLOW_NUL, &error);
    if (!text->json) {
        return SEO_FAIL(SEO_ERR_FORMAT, "%s:%lld:%d: not valid JSON: %s", path_of(text), number,
                        error.column, error.text);
    }
    if (!json_is_object(text->json)) {
        return SEO_FAIL(SEO_ERR_FORMAT, "%s:%lld: a JSON object is wanted, like {\"%s\": \"...\"}",
                        path_of(text), number, text->field);
    }
    const json_t *value = json_object_get(text->json, text->field);
    if (!value) {
        return SEO_FAIL(SEO_ERR_FORMAT,
                        "%s:%lld: there is no field \"%s\"; --field NAME picks another",
                        path_of(text), number, text->field);
    }
    if (!json_is_string(value)) {
        return SEO_FAIL(SEO_ERR_FORMAT, "%s:%lld: the field \"%s\" is not a string", path_of(text),
                        number, text->field);
    }
    document->data = json_string_value(value);
    document->bytes = (int64_t)json_string_length(value);
    return SEO_OK;
}

static seo_err next_jsonl(seo_text *text, seo_text_document *document) {
    for (;;) {
        char *line = NULL;
        size_t bytes = 0;
        const seo_err err = next_line(text, &line, &bytes);
        if (err != SEO_OK || !line) return err;
        if (is_blank(line, bytes)) continue;
        document->line = text->line;
        return take_field(text, line, bytes, document);
    }
}

static seo_err (*const k_readers[SEO_TEXT_KINDS])(seo_text *, seo_text_document *) = {
    [SEO_TEXT_PLAIN] = next_plain,
    [SEO_TEXT_JSONL] = next_jsonl,
};

static void leave_file(seo_text *text) {
    text->finished_bytes += seo_stream_file_bytes(text->stream);
    seo_stream_close(text->stream);
    text->stream = NULL;
    text->file++;
}

static seo_err enter_file(seo_text *text) {
    seo_buf_clear(&text->block);
    text->block_at = 0;
    text->stream_ended = false;
    text->line = 0;
    return seo_stream_open(path_of(text), &text->stream);
}

seo_err seo_text_next(seo_text *text, seo_text_document *document) {
    while (text->file < text->files.count) {
        *document = (seo_text_document){.source = text->file};
        seo_err err = text->stream ? SEO_OK : enter_file(text);
        if (err == SEO_OK) err = k_readers[text->files.items[text->file].kind](text, document);
        if (err != SEO_OK) return err;
        if (!document->data) {
            leave_file(text);
        } else if (document->bytes == 0) {
            text->counters.empty_documents++;
        } else {
            text->counters.documents++;
            text->counters.text_bytes += document->bytes;
            return SEO_OK;
        }
    }
    *document = (seo_text_document){0};
    return SEO_OK;
}
