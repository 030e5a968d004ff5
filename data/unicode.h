/* What GPT-2's pre-tokenizer asks of a code point: is it a letter (\p{L}), a number (\p{N}), white
 * space (\s) or something else. The table is generated once (scripts/make_unicode_table.py) and
 * committed, so that ids do not depend on the Unicode version of the building machine. Code points
 * that this version does not assign are "other". */
#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum seo_char_class {
    SEO_CHAR_OTHER,
    SEO_CHAR_LETTER,
    SEO_CHAR_NUMBER,
    SEO_CHAR_SPACE
} seo_char_class;

/* Two stages: 256 code points a block, 2 bits each, equal blocks kept once. Code points above the
 * last block are all "other". */
enum { SEO_UNICODE_BLOCK_COUNT = 804, SEO_UNICODE_BLOCK_WORDS = 8 };
extern const char seo_unicode_version[];
extern const uint8_t seo_unicode_index[];
extern const uint64_t seo_unicode_blocks[][SEO_UNICODE_BLOCK_WORDS];

/* The class of code point `cp`; -1 (no code point) is "other". */
static inline seo_char_class seo_char_class_of(int32_t cp) {
    uint32_t block = (uint32_t)cp >> 8;
    if (block >= SEO_UNICODE_BLOCK_COUNT) return SEO_CHAR_OTHER;
    uint64_t word = seo_unicode_blocks[seo_unicode_index[block]][cp >> 5 & 7];
    return (seo_char_class)(word >> (2 * (cp & 31)) & 3);
}

#ifdef __cplusplus
}
#endif
