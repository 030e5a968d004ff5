/* BERT's basic text rules (Devlin et al. 2018, tokenization.py of the published model, as Hugging
 * Face's BertNormalizer and BertPreTokenizer carry them out): what becomes of a text before its
 * words are cut into pieces. In this order:
 *
 * 1. Cleaning: control and format characters, private use, NUL and U+FFFD go; white space is a
 *    space. A byte that is not part of valid UTF-8 counts as U+FFFD and goes, too.
 * 2. Every Chinese character is a word of its own, where rules.chinese says so.
 * 3. Accents are stripped: canonical decomposition, then nonspacing marks go.
 * 4. Lower case, character by character and without regard to what is around.
 * 5. Words are what stands between white space; each punctuation character (every printable ASCII
 *    character that is no letter, digit or space is one) is a word of its own.
 *
 * Categories are those of the reference, which is older than Unicode 15 in them: 127 punctuation
 * characters, 437 nonspacing marks and 20 formats that came later are parts of words, and U+2B820
 * to U+2B91F are no Chinese characters. tests/data/test_basic_text.c holds the table against
 * utf8proc and counts every difference. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_basic_rules {
    bool lower_case, strip_accents, chinese;
} seo_basic_rules;

/* The end of the first part of [p, end), p < end: a run of white space, one punctuation character,
 * one Chinese character (where asked for), or a run of anything else. Texts may be cut between
 * parts: the words of the parts are those of the whole. */
const unsigned char *seo_basic_end(const unsigned char *p, const unsigned char *end, bool chinese);

/* A word in `text`; `characters` are its code points. */
typedef struct seo_basic_word {
    int64_t begin, end, characters;
} seo_basic_word;

/* Zero-initialise; free with seo_basic_words_free. */
typedef struct seo_basic_words {
    unsigned char *text; /* UTF-8 of the words, end to end */
    int64_t text_bytes, text_capacity;
    seo_basic_word *items;
    int64_t count, capacity;
    int32_t *late; /* marks waiting to be ordered */
    int64_t late_count, late_capacity;
} seo_basic_words;
void seo_basic_words_free(seo_basic_words *words);

/* The words of text[0..bytes), in place of those before. Linear in bytes. */
seo_err seo_basic_split(const seo_basic_rules *rules, const unsigned char *text, size_t bytes,
                        seo_basic_words *out);

#ifdef __cplusplus
}
#endif
