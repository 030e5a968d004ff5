/* GPT-2's pre-tokenizer: cuts text into the words that byte-pair merges never cross. It gives what
 * this regular expression gives, match after match, without a regex engine (Radford et al. 2019,
 * encoder.py of the published model):
 *
 *   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 *
 * Each byte of an invalid UTF-8 sequence is a code point of its own, of the class "other". The time
 * is linear: no byte is looked at more than a constant number of times. Nothing is read outside
 * [p, end). */
#pragma once

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The end of the first pre-token of [p, end); p < end. */
const unsigned char *seo_pretoken_end(const unsigned char *p, const unsigned char *end);

/* A place at which the text may be cut so that the pre-tokens of the two parts, one list after the
 * other, are those of the whole: the last such place in (0, limit], or the first one after it, or
 * `bytes`. A cut is made after a line feed between two characters that are no white space, or
 * before a space between two such. */
size_t seo_pretoken_cut(const unsigned char *text, size_t bytes, size_t limit);

#ifdef __cplusplus
}
#endif
