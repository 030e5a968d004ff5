/* Letting a model write: one token after the other over a key-value cache.
 *
 * When the context is full, the older half of it is forgotten: the newest seq_len / 2 tokens take
 * the positions from 0 on and are run through the model again (learned positions know no other
 * way). So a text may be longer than the context; what was forgotten no longer bears on it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/text.h"
#include "train/models/model.h"
#include "train/sample.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_generator seo_generator;

/* The model is borrowed; SEO_MODEL_GENERATE. */
seo_err seo_generator_open(seo_model *model, const seo_sample_args *sample, seo_generator **out);
void seo_generator_close(seo_generator *generator); /* NULL is fine */

/* Begins with these tokens (count >= 1): of more than the context holds, the newest. */
seo_err seo_generator_prompt(seo_generator *generator, const int32_t *ids, int64_t count);
/* The next token, which becomes part of the text. */
seo_err seo_generator_next(seo_generator *generator, int32_t *id);

/* Bytes of a text as they come, given out as whole UTF-8 characters. */
typedef struct seo_utf8_stream {
    unsigned char held[4];
    int count;
} seo_utf8_stream;
/* Appends to `out` the whole characters of what was held back and `bytes`; a sequence that can no
 * longer become a character is given out as U+FFFD, one for each of its bytes. What may still be
 * completed is held back. */
void seo_utf8_stream_add(seo_utf8_stream *stream, const void *bytes, int64_t count, seo_buf *out);
/* What is still held back, as U+FFFD. */
void seo_utf8_stream_end(seo_utf8_stream *stream, seo_buf *out);

#ifdef __cplusplus
}
#endif
