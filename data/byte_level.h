/* The alphabet in which byte-level vocabularies spell bytes as printable characters (Radford et al.
 * 2019): printable Latin-1 bytes stand for themselves, the other 68 are U+0100 and up in the order
 * of their values. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/text.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The code point that spells `byte`. */
int32_t seo_byte_level_char(unsigned char byte);

/* Appends the spelling of bytes[0..count). */
void seo_byte_level_spell(seo_buf *out, const unsigned char *bytes, size_t count);

/* Appends the bytes that text[0..count) spells; false where a character is not of the alphabet
 * (what was appended before it stays). */
bool seo_byte_level_read(seo_buf *out, const char *text, size_t count);

#ifdef __cplusplus
}
#endif
