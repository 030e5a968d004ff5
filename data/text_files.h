/* Private to data/text: the list of files behind the paths a user gives. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum seo_text_kind { SEO_TEXT_PLAIN, SEO_TEXT_JSONL, SEO_TEXT_KINDS } seo_text_kind;

typedef struct seo_text_file {
    char *path;
    seo_text_kind kind;
    int64_t bytes; /* on disk */
} seo_text_file;

typedef struct seo_text_files {
    seo_text_file *items;
    int64_t count, capacity;
    int64_t left_out; /* files in folders whose ending is not known */
} seo_text_files;

seo_err seo_text_files_add(seo_text_files *files, const char *path);
void seo_text_files_free(seo_text_files *files);

#ifdef __cplusplus
}
#endif
