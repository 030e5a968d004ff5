/* The pre-tokenizer against GPT-2's regular expression in PCRE2, against a slow reading of the same
 * rules, and on damaged UTF-8; the class table against utf8proc. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include <cmocka.h>
#ifdef SEO_WITH_PCRE2
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#endif

#include "base/check.h"
#include "data/pretoken.h"
#include "data/unicode.h"
#include "text_maker.h"

typedef unsigned char byte;

static seo_char_class class_by_utf8proc(int32_t cp) {
    utf8proc_category_t category = utf8proc_category(cp);
    if (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO) {
        return SEO_CHAR_LETTER;
    }
    if (category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO) {
        return SEO_CHAR_NUMBER;
    }
    static const int32_t spaces[] = {0x09,   0x0A,   0x0B,   0x0C,   0x0D,   0x20,   0x85,
                                     0xA0,   0x1680, 0x2000, 0x2001, 0x2002, 0x2003, 0x2004,
                                     0x2005, 0x2006, 0x2007, 0x2008, 0x2009, 0x200A, 0x2028,
                                     0x2029, 0x202F, 0x205F, 0x3000};
    for (int64_t i = 0; i < SEO_COUNT_OF(spaces); i++) {
        if (cp == spaces[i]) return SEO_CHAR_SPACE;
    }
    return SEO_CHAR_OTHER;
}

/* Another Unicode version may know more characters, or fewer. */
static void classes_are_those_of_utf8proc(void **state) {
    (void)state;
    bool same_version = strcmp(utf8proc_unicode_version(), seo_unicode_version) == 0;
    for (int32_t cp = 0; cp <= 0x10FFFF; cp++) {
        seo_char_class ours = seo_char_class_of(cp), theirs = class_by_utf8proc(cp);
        bool known_to_both = ours != SEO_CHAR_OTHER && theirs != SEO_CHAR_OTHER;
        if (same_version || known_to_both) assert_int_equal(ours, theirs);
    }
    assert_int_equal(seo_char_class_of(-1), SEO_CHAR_OTHER);
}

/* The class of the next character and its length, by base/text.h; -1 at the end. */
static int next_class(const byte *p, const byte *end, int *length) {
    if (p == end) return -1;
    int32_t cp;
    *length = seo_utf8_decode(p, end, &cp);
    return (int)seo_char_class_of(cp);
}

static const byte *run_end(const byte *p, const byte *end, int class) {
    int length = 0;
    while (next_class(p, end, &length) == class) p += length;
    return p;
}

/* The alternatives of the expression one after the other, as they stand there. */
static const byte *slow_pretoken_end(const byte *p, const byte *end) {
    static const char *const contractions[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
    for (int64_t i = 0; i < SEO_COUNT_OF(contractions); i++) {
        size_t bytes = strlen(contractions[i]);
        if ((size_t)(end - p) >= bytes && memcmp(p, contractions[i], bytes) == 0) return p + bytes;
    }
    static const int classes[] = {SEO_CHAR_LETTER, SEO_CHAR_NUMBER, SEO_CHAR_OTHER};
    for (int64_t i = 0; i < SEO_COUNT_OF(classes); i++) {
        const byte *start = *p == ' ' ? p + 1 : p;
        const byte *stop = run_end(start, end, classes[i]);
        if (stop > start) return stop;
    }
    const byte *stop = run_end(p, end, SEO_CHAR_SPACE), *last = p;
    if (stop == end) return stop;
    int length = 0;
    for (const byte *at = p; at < stop; at += length) {
        last = at;
        next_class(at, end, &length);
    }
    return last > p ? last : stop;
}

static void check_against_slow(const seo_buf *text) {
    const byte *p = (const byte *)text->data, *end = p + text->bytes;
    while (p < end) {
        const byte *expected = slow_pretoken_end(p, end);
        assert_ptr_equal(seo_pretoken_end(p, end), expected);
        p = expected;
    }
}

static void words_are_those_of_the_rules(void **state) {
    (void)state;
    text_maker maker = {.seed = 11};
    for (int round = 0; round < 20000; round++) {
        seo_buf text = {0};
        if (round % 3 == 2) {
            maker_bytes(&maker, &text, 1 + (int)maker_draw(&maker, 60));
        } else {
            maker_text(&maker, &text, 1 + (int)maker_draw(&maker, 30));
        }
        /* An allocation of exactly the text lets the address sanitizer see a read behind it. */
        byte *exact = malloc(text.bytes);
        memcpy(exact, text.data, text.bytes);
        seo_buf view = {.data = (char *)exact, .bytes = text.bytes};
        check_against_slow(&view);
        free(exact);
        seo_buf_free(&text);
    }
}

static void check_words(const char *text, const char *const *words) {
    const byte *p = (const byte *)text, *end = p + strlen(text);
    for (; *words != NULL; words++) {
        assert_true(p < end);
        const byte *stop = seo_pretoken_end(p, end);
        assert_int_equal(stop - p, strlen(*words));
        assert_memory_equal(p, *words, strlen(*words));
        p = stop;
    }
    assert_ptr_equal(p, end);
}

static void known_words(void **state) {
    (void)state;
    check_words("Hello world", (const char *[]){"Hello", " world", NULL});
    check_words("we'll don't I'M",
                (const char *[]){"we", "'ll", " don", "'t", " I", "'", "M", NULL});
    check_words("a  b\n\nc ", (const char *[]){"a", " ", " b", "\n", "\n", "c", " ", NULL});
    check_words("x1y!?", (const char *[]){"x", "1", "y", "!?", NULL});
    check_words(" 's", (const char *[]){" '", "s", NULL});
    check_words("\xC2\xA0"
                "a",
                (const char *[]){"\xC2\xA0", "a", NULL});
    check_words("\xC3\xC3 b", (const char *[]){"\xC3\xC3", " b", NULL});
    check_words("\t\tx", (const char *[]){"\t", "\t", "x", NULL});
}

/* Cutting a text where the cutter says must not move a word. */
static void cuts_keep_words(void **state) {
    (void)state;
    text_maker maker = {.seed = 12};
    for (int round = 0; round < 4000; round++) {
        seo_buf text = {0};
        if (round % 4 == 3) maker_bytes(&maker, &text, 80);
        maker_text(&maker, &text, 1 + (int)maker_draw(&maker, 60));
        const byte *whole = (const byte *)text.data, *end = whole + text.bytes;
        const byte *part = whole, *part_end = whole;
        for (const byte *p = whole; p < end;) {
            if (p == part_end) {
                size_t left = (size_t)(end - part_end);
                part = part_end;
                part_end += seo_pretoken_cut(part, left, 1 + maker_draw(&maker, 50));
                assert_true(part_end > part && part_end <= end);
            }
            const byte *expected = seo_pretoken_end(p, end);
            assert_ptr_equal(seo_pretoken_end(p, part_end), expected);
            p = expected;
        }
        seo_buf_free(&text);
    }
}

static void cuts_are_found(void **state) {
    (void)state;
    const char *text = "one two\nthree four";
    assert_int_equal(seo_pretoken_cut((const byte *)text, strlen(text), 12), 8);
    assert_int_equal(seo_pretoken_cut((const byte *)text, strlen(text), 2), 3);
    assert_int_equal(seo_pretoken_cut((const byte *)text, strlen(text), 100), strlen(text));
    assert_int_equal(seo_pretoken_cut((const byte *)"abcdef", 6, 3), 6);
}

#ifdef SEO_WITH_PCRE2
/* \s and \S spelled out: PCRE2's own take U+180E for white space, which Unicode does not. */
#define SPACES                                                                                     \
    "\\x09-\\x0d "                                                                                 \
    "\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
static const char pattern[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" SPACES
                              "\\p{L}\\p{N}]+|[" SPACES "]+(?![^" SPACES "])|[" SPACES "]+";

static pcre2_code *compile(const char *expression) {
    int code;
    PCRE2_SIZE place;
    pcre2_code *regex = pcre2_compile((PCRE2_SPTR)expression, PCRE2_ZERO_TERMINATED,
                                      PCRE2_UTF | PCRE2_UCP, &code, &place, NULL);
    assert_non_null(regex);
    pcre2_jit_compile(regex, PCRE2_JIT_COMPLETE);
    return regex;
}

static void check_against_regex(const seo_buf *text, pcre2_code *regex, pcre2_match_data *match) {
    PCRE2_SPTR subject = (PCRE2_SPTR)text->data;
    size_t at = 0;
    while (at < text->bytes) {
        int found = pcre2_match(regex, subject, text->bytes, at, PCRE2_NO_UTF_CHECK, match, NULL);
        assert_true(found > 0);
        const PCRE2_SIZE *span = pcre2_get_ovector_pointer(match);
        assert_int_equal(span[0], at);
        const byte *stop = seo_pretoken_end(subject + at, subject + text->bytes);
        assert_int_equal(stop - subject, span[1]);
        at = span[1];
    }
}

static void words_are_those_of_the_regex(void **state) {
    (void)state;
    pcre2_code *regex = compile(pattern);
    pcre2_match_data *match = pcre2_match_data_create_from_pattern(regex, NULL);
    text_maker maker = {.seed = 13};
    for (int round = 0; round < 20000; round++) {
        seo_buf text = {0};
        maker_text(&maker, &text, 1 + (int)maker_draw(&maker, 30));
        check_against_regex(&text, regex, match);
        seo_buf_free(&text);
    }
    pcre2_match_data_free(match);
    pcre2_code_free(regex);
}

/* Every code point that PCRE2's Unicode version assigns, before and after a letter. A class that a
 * newer version than the table's assigns cannot be known to the table. */
static void every_character_as_in_the_regex(void **state) {
    (void)state;
    pcre2_code *regex = compile(pattern), *assigned = compile("\\P{Cn}");
    pcre2_match_data *match = pcre2_match_data_create_from_pattern(regex, NULL);
    int64_t compared = 0;
    for (int32_t cp = 1; cp <= 0x10FFFF; cp++) {
        byte utf8[4];
        if (cp >= 0xD800 && cp <= 0xDFFF) continue;
        size_t bytes = (size_t)seo_utf8_encode(cp, utf8);
        bool known = utf8proc_category(cp) != UTF8PROC_CATEGORY_CN &&
                     pcre2_match(assigned, utf8, bytes, 0, 0, match, NULL) > 0;
        if (!known) continue;
        seo_buf text = {0};
        seo_buf_text(&text, "a");
        seo_buf_add(&text, utf8, bytes);
        seo_buf_text(&text, "1 ");
        seo_buf_add(&text, utf8, bytes);
        seo_buf_text(&text, "a");
        check_against_regex(&text, regex, match);
        seo_buf_free(&text);
        compared++;
    }
    assert_true(compared > 100000);
    pcre2_match_data_free(match);
    pcre2_code_free(regex);
    pcre2_code_free(assigned);
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classes_are_those_of_utf8proc),
        cmocka_unit_test(known_words),
        cmocka_unit_test(words_are_those_of_the_rules),
        cmocka_unit_test(cuts_keep_words),
        cmocka_unit_test(cuts_are_found),
#ifdef SEO_WITH_PCRE2
        cmocka_unit_test(words_are_those_of_the_regex),
        cmocka_unit_test(every_character_as_in_the_regex),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
