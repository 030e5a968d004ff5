/* Text files to documents. Read are plain text (one file, one document), JSONL (one line, one
 * document: the string in a field, "text" by default), folders of these, and .gz and .zst of all;
 * which reader a file gets is told by its name, from one table of readers.
 *
 * In a folder, files are taken in byte order of their paths, hidden ones and unknown endings are
 * left out (and counted), and links to folders are not followed. A file named by the user is always
 * read: an unknown ending means plain text.
 *
 * Plain text is bytes: invalid UTF-8 is kept and counted. JSON must be valid UTF-8; a bad line is
 * SEO_ERR_FORMAT naming file:line. Documents without a byte are left out and counted. */
#pragma once

#include <stdint.h>

#include "base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_text seo_text;

/* Finds the files (so that a missing one is told before any work) and starts at the first document.
 * field: NULL means "text". Strings are copied. No file at all is SEO_ERR_USAGE. */
seo_err seo_text_open(const char *const *paths, int64_t path_count, const char *field,
                      seo_text **out);
void seo_text_close(seo_text *text);

/* The files, in reading order. */
int64_t seo_text_source_count(const seo_text *text);
const char *seo_text_source(const seo_text *text, int64_t source);
/* Bytes of all files as they lie on disk: the total for progress. */
int64_t seo_text_file_bytes(const seo_text *text);

typedef struct seo_text_document {
    const char *data; /* the reader's, valid until the next call */
    int64_t bytes;    /* > 0 */
    int64_t source;
    int64_t line; /* in its file, from 1; 0 for plain text */
} seo_text_document;
/* The next document; document->data = NULL after the last. */
seo_err seo_text_next(seo_text *text, seo_text_document *document);

typedef struct seo_text_counters {
    int64_t file_bytes_read; /* of the files on disk, so far */
    int64_t documents, text_bytes;
    int64_t empty_documents, invalid_utf8_bytes, files_left_out;
} seo_text_counters;
seo_text_counters seo_text_counters_get(const seo_text *text);

#ifdef __cplusplus
}
#endif
