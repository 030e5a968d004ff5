/* What BERT's text rules do with each code point; made by scripts/make_basic_text_table.py, which
 * asks the reference (Hugging Face's `tokenizers`), so that ids do not depend on the Unicode
 * version of any library. Only data/basic_text.c uses this. */
#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum seo_basic_class {
    SEO_BASIC_WORD,
    SEO_BASIC_SPACE,        /* what cleaning makes a space */
    SEO_BASIC_PUNCTUATION,  /* a word of its own */
    SEO_BASIC_CHINESE,      /* a word of its own, where that is asked for */
    SEO_BASIC_REMOVED,      /* by cleaning: controls, formats, private use, NUL, U+FFFD */
    SEO_BASIC_MARK,         /* stripped with the accents */
    SEO_BASIC_MARK_STARTER, /* the same, of combining class 0: marks are not ordered across it */
    SEO_BASIC_LATE          /* a combining mark that stripping leaves */
} seo_basic_class;

/* Two stages: 256 code points a block, 4 bits each, equal blocks kept once. */
extern const uint8_t seo_basic_index[4352];
extern const uint64_t seo_basic_blocks[][16];

static inline seo_basic_class seo_basic_class_of(int32_t cp) {
    uint64_t word = seo_basic_blocks[seo_basic_index[cp >> 8]][cp >> 4 & 15];
    return (seo_basic_class)(word >> 4 * (cp & 15) & 15);
}

/* The combining class of each SEO_BASIC_LATE, by code point. */
typedef struct seo_basic_late {
    int32_t cp, combining_class;
} seo_basic_late;
extern const seo_basic_late seo_basic_lates[];
extern const int32_t seo_basic_late_count;

/* Canonical decompositions, by code point: cp << 42 | first << 21 | second, second 0 for none. The
 * first may decompose further. Hangul is arithmetic and not in here. */
extern const uint64_t seo_basic_pairs[];
extern const int32_t seo_basic_pair_count;

/* Lower case: first, first + step ... last have it `difference` away. U+0130, which becomes two
 * characters, is not in here. */
typedef struct seo_basic_lower {
    int32_t first, last, step, difference;
} seo_basic_lower;
extern const seo_basic_lower seo_basic_lowers[];
extern const int32_t seo_basic_lower_count;

#ifdef __cplusplus
}
#endif
