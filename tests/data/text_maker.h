/* Texts for tests: random, from a seed, and full of what trips tokenizers up. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/text.h"

typedef struct text_maker {
    uint64_t seed, drawn;
} text_maker;

/* A number in [0, below). */
uint32_t maker_draw(text_maker *m, uint32_t below);

/* Appends `count` snippets of valid UTF-8: words, digits, contractions, all white space, many
 * scripts, marks, emoji, runs. */
void maker_text(text_maker *m, seo_buf *out, int count);

/* Appends `count` bytes: any, or, half of the time, from the edges of UTF-8. */
void maker_bytes(text_maker *m, seo_buf *out, int count);

/* The path of a file of the test data folder in `out` (SEO_PATH_MAX bytes); false, with a line that
 * says so, where the folder or the file is not there. */
bool test_data_path(char *out, const char *name);
