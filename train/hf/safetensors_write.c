/* The writer of safetensors: as many files as the largest allowed size makes necessary. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bf16.h"
#include "base/check.h"
#include "base/text.h"
#include "train/hf/safetensors.h"

enum { FILE_NAME_MAX = 64, ALIGN = 8 };

static int64_t row_elements(const seo_safetensors_row *row) {
    return row->rank == 2 ? row->dims[0] * row->dims[1] : row->dims[0];
}

/* Rows [first, return) of one file. */
static int64_t file_end(const seo_safetensors_out *out, int64_t first) {
    int64_t end = first, bytes = 0;
    while (end < out->count) {
        bytes += row_elements(&out->rows[end]) * seo_dtype_bytes(out->dtype);
        if (end > first && bytes > out->shard_bytes) break;
        end++;
    }
    return end;
}

static int64_t count_files(const seo_safetensors_out *out) {
    int64_t files = 0;
    for (int64_t first = 0; first < out->count; first = file_end(out, first)) files++;
    return files;
}

static void file_name(char name[FILE_NAME_MAX], int64_t file, int64_t files) {
    if (files == 1) {
        snprintf(name, FILE_NAME_MAX, "model.safetensors");
    } else {
        snprintf(name, FILE_NAME_MAX, "model-%05" PRId64 "-of-%05" PRId64 ".safetensors", file + 1,
                 files);
    }
}

static void add_header(const seo_safetensors_out *out, int64_t first, int64_t end, seo_buf *text) {
    int64_t at = 0;
    seo_buf_text(text, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (int64_t i = first; i < end; i++) {
        const seo_safetensors_row *row = &out->rows[i];
        const int64_t bytes = row_elements(row) * seo_dtype_bytes(out->dtype);
        seo_buf_text(text, ",");
        seo_buf_json_string(text, row->name, strlen(row->name));
        seo_buf_format(text, ":{\"dtype\":\"%s\",\"shape\":[%" PRId64,
                       out->dtype == SEO_DTYPE_BF16 ? "BF16" : "F32", row->dims[0]);
        if (row->rank == 2) seo_buf_format(text, ",%" PRId64, row->dims[1]);
        seo_buf_format(text, "],\"data_offsets\":[%" PRId64 ",%" PRId64 "]}", at, at + bytes);
        at += bytes;
    }
    seo_buf_text(text, "}");
    while (text->bytes % ALIGN != 0 && !text->failed) seo_buf_text(text, " ");
}

static seo_err put(FILE *stream, const char *path, const void *data, size_t bytes) {
    if (fwrite(data, 1, bytes, stream) == bytes) return SEO_OK;
    return SEO_FAIL(SEO_ERR_IO, "%s: %s", path, strerror(errno));
}

static seo_err put_row(const seo_safetensors_out *out, int64_t index, FILE *stream,
                       const char *path) {
    seo_err err = SEO_OK;
    const int64_t elements = row_elements(&out->rows[index]);
    float *values = malloc((size_t)elements * sizeof *values);
    if (!values) return SEO_FAIL(SEO_ERR_MEMORY, "%s of %s", out->rows[index].name, path);
    SEO_TRY(out->fetch(out->context, index, values));
    if (out->dtype == SEO_DTYPE_BF16) {
        /* A half's place is never behind the value it comes from. */
        char *halves = (char *)values;
        for (int64_t i = 0; i < elements; i++) {
            const uint16_t half = seo_bf16_from_f32(values[i]);
            memcpy(halves + 2 * i, &half, sizeof half);
        }
    }
    SEO_TRY(put(stream, path, values, (size_t)(elements * seo_dtype_bytes(out->dtype))));
done:
    free(values);
    return err;
}

static seo_err write_file(const seo_safetensors_out *out, int64_t first, int64_t end,
                          const char *path) {
    seo_err err = SEO_OK;
    seo_buf header = {0};
    unsigned char length[8];
    FILE *stream = fopen(path, "wbx");
    if (!stream) return SEO_FAIL(SEO_ERR_IO, "%s: %s", path, strerror(errno));
    add_header(out, first, end, &header);
    SEO_TRY(seo_buf_check(&header));
    for (int i = 0; i < 8; i++) length[i] = (unsigned char)((uint64_t)header.bytes >> 8 * i & 0xff);
    SEO_TRY(put(stream, path, length, sizeof length));
    SEO_TRY(put(stream, path, header.data, header.bytes));
    for (int64_t i = first; i < end; i++) SEO_TRY(put_row(out, i, stream, path));
done:
    seo_buf_free(&header);
    if (fclose(stream) != 0 && err == SEO_OK) {
        err = SEO_FAIL(SEO_ERR_IO, "%s: %s", path, strerror(errno));
    }
    return err == SEO_OK ? seo_file_sync(path) : err;
}

static seo_err write_index(const seo_safetensors_out *out, int64_t files) {
    seo_err err = SEO_OK;
    seo_buf text = {0};
    char path[SEO_PATH_MAX];
    int64_t total = 0, file = 0;
    for (int64_t i = 0; i < out->count; i++) {
        total += row_elements(&out->rows[i]) * seo_dtype_bytes(out->dtype);
    }
    seo_buf_format(&text, "{\n  \"metadata\": {\"total_size\": %" PRId64 "},\n  \"weight_map\": {",
                   total);
    for (int64_t first = 0, end; first < out->count; first = end, file++) {
        char name[FILE_NAME_MAX];
        end = file_end(out, first);
        file_name(name, file, files);
        for (int64_t i = first; i < end; i++) {
            seo_buf_text(&text, i > 0 ? ",\n    " : "\n    ");
            seo_buf_json_string(&text, out->rows[i].name, strlen(out->rows[i].name));
            seo_buf_format(&text, ": \"%s\"", name);
        }
    }
    seo_buf_text(&text, "\n  }\n}\n");
    SEO_TRY(seo_buf_check(&text));
    SEO_TRY(seo_path_join(path, out->dir, "model.safetensors.index.json"));
    SEO_TRY(seo_file_write_atomic(path, text.data, (int64_t)text.bytes));
done:
    seo_buf_free(&text);
    return err;
}

seo_err seo_safetensors_write(const seo_safetensors_out *out, int64_t *files) {
    seo_err err = SEO_OK;
    int64_t file = 0;
    *files = count_files(out);
    for (int64_t first = 0, end; first < out->count; first = end, file++) {
        char name[FILE_NAME_MAX], path[SEO_PATH_MAX];
        end = file_end(out, first);
        file_name(name, file, *files);
        SEO_TRY(seo_path_join(path, out->dir, name));
        SEO_TRY(write_file(out, first, end, path));
    }
    if (*files > 1) SEO_TRY(write_index(out, *files));
done:
    return err;
}
