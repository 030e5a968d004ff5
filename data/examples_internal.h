/* Private to data/examples*.c and data/rows_examples.c: examples as they lie in memory, and the
 * reading of a line. */
#pragma once

#include <jansson.h>

#include "data/examples.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Ids [first, first + count) of the list; [second, count) of them are the completion or what
 * follows the separator of the first text. */
typedef struct seo_example {
    int64_t first, line;
    int32_t count, second, label;
} seo_example;

struct seo_examples {
    seo_examples_kind kind;
    int64_t seq_len, types;
    bool encoder;
    int32_t pad;
    seo_ids ids;
    seo_example *items;
    seo_examples_info info;
};

/* A line taken apart. Texts belong to the line or to `json`. */
typedef struct seo_example_texts {
    json_t *json;
    const char *first, *second; /* prompt and completion, or text and pair */
    size_t first_bytes, second_bytes;
    bool has_second;
    int32_t label; /* -1: none */
} seo_example_texts;

/* Where a line stands, for messages. */
typedef struct seo_example_line {
    const char *text;
    size_t bytes;
    int64_t number; /* from 1 on */
} seo_example_line;

bool seo_example_is_tsv(const char *path);
/* The caller drops out->json. */
seo_err seo_example_take(const seo_examples_args *args, seo_example_line line,
                         seo_example_texts *out);
/* A first line of TSV that names its columns. */
bool seo_example_is_header(const seo_examples_args *args, seo_example_line line);

#ifdef __cplusplus
}
#endif
