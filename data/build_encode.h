/* Private to data/build: encodes pieces of text in parallel and writes them in order.
 *
 * Pieces are gathered to batches; a long piece is cut where the pre-tokenizer would cut anyway, so
 * the ids are those of the whole piece, and every thread takes the next part. What is written does
 * not depend on the number of threads. */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "data/dataset_writer.h"
#include "data/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_build_encoder seo_build_encoder;

/* threads >= 1. Tokenizer and writer are borrowed. */
seo_err seo_build_encoder_open(const seo_tokenizer *tok, seo_dataset_writer *writer,
                               int32_t threads, seo_build_encoder **out);

/* One piece; its text is copied. */
seo_err seo_build_encoder_add(seo_build_encoder *encoder, seo_split split, int64_t source,
                              const char *text, int64_t bytes);
/* Encodes and writes what is still gathered. */
seo_err seo_build_encoder_flush(seo_build_encoder *encoder);
void seo_build_encoder_close(seo_build_encoder *encoder);

#ifdef __cplusplus
}
#endif
