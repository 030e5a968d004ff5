/* A byte stream out of a file that may be compressed: plain, .gz (many members) or .zst (many
 * frames), told by the name's ending. Truncated or damaged compressed data is SEO_ERR_FORMAT naming
 * file and place. */
#pragma once

#include <stdint.h>

#include "base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_stream seo_stream;

seo_err seo_stream_open(const char *path, seo_stream **out);
/* Fills up to `capacity` bytes of plain text; *bytes = 0 at the end and only there. */
seo_err seo_stream_read(seo_stream *s, void *out, int64_t capacity, int64_t *bytes);
/* Bytes of the file itself consumed so far, for progress. */
int64_t seo_stream_file_bytes(const seo_stream *s);
void seo_stream_close(seo_stream *s);

#ifdef __cplusplus
}
#endif
