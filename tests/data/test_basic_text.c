/* BERT's text rules: the table against utf8proc, with every way in which the reference departs from
 * the Unicode version of that library; words of texts; marks in canonical order; damaged UTF-8. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <utf8proc.h>

#include "base/check.h"
#include "base/text.h"
#include "data/basic_text.h"
#include "data/basic_text_table.h"

enum { CODE_POINTS = 0x110000 };

static const seo_basic_rules uncased = {true, true, true}, cased = {false, false, true};

/* ---- the table ---- */

static bool is_one_of(int32_t cp, const int32_t *list, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        if (list[i] == cp) return true;
    }
    return false;
}

static bool is_surrogate(int32_t cp) {
    return cp >= 0xD800 && cp < 0xE000;
}

/* The counts below are of this version of Unicode; a newer one has more characters that the
 * reference's older tables do not know. */
static bool same_version(void) {
    return strcmp(utf8proc_unicode_version(), "15.0.0") == 0;
}

/* The reference takes categories from an old version: what came later is a part of words. Nothing
 * else differs but three characters whose category was changed. */
static void later_categories_are_words(void **state) {
    (void)state;
    static const int32_t was_punctuation[] = {0x166D, 0x111C9}, was_mark[] = {0x1734};
    int64_t later_punctuation = 0, later_marks = 0, later_controls = 0;
    for (int32_t cp = 0; cp < CODE_POINTS; cp++) {
        if (is_surrogate(cp)) continue;
        seo_basic_class class = seo_basic_class_of(cp);
        utf8proc_category_t category = utf8proc_category(cp);
        bool ascii_sign = cp > ' ' && cp < 0x7F && !((cp | 32) >= 'a' && (cp | 32) <= 'z') &&
                          !(cp >= '0' && cp <= '9');
        bool punctuation =
            ascii_sign || (category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO);
        bool control = category == UTF8PROC_CATEGORY_CC || category == UTF8PROC_CATEGORY_CF ||
                       category == UTF8PROC_CATEGORY_CO || cp == 0xFFFD;
        bool mark = category == UTF8PROC_CATEGORY_MN;
        if (class == SEO_BASIC_PUNCTUATION)
            assert_true(punctuation || is_one_of(cp, was_punctuation, 2));
        if (class == SEO_BASIC_REMOVED) assert_true(control);
        if (class == SEO_BASIC_MARK || class == SEO_BASIC_MARK_STARTER)
            assert_true(mark || is_one_of(cp, was_mark, 1));
        later_punctuation += punctuation && class != SEO_BASIC_PUNCTUATION;
        later_controls += control && class != SEO_BASIC_REMOVED && class != SEO_BASIC_SPACE;
        later_marks += mark && class != SEO_BASIC_MARK && class != SEO_BASIC_MARK_STARTER;
    }
    if (!same_version()) skip();
    assert_int_equal(later_punctuation, 127);
    assert_int_equal(later_controls, 20);
    assert_int_equal(later_marks, 437);
}

static void white_space_is_that_of_unicode(void **state) {
    (void)state;
    int count = 0;
    for (int32_t cp = 0; cp < CODE_POINTS; cp++) {
        bool space = seo_basic_class_of(cp) == SEO_BASIC_SPACE;
        utf8proc_category_t category = utf8proc_category(cp);
        bool expected = category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL ||
                        category == UTF8PROC_CATEGORY_ZP || cp == '\t' || cp == '\n' || cp == '\r';
        assert_int_equal(space, expected);
        count += space;
    }
    assert_int_equal(count, 22);
}

/* Google's tokenizer has U+2B820..2CEAF; the reference begins that range at U+2B920. */
static void chinese_is_eight_ranges(void **state) {
    (void)state;
    static const int32_t ranges[][2] = {{0x3400, 0x4DBF},   {0x4E00, 0x9FFF},   {0xF900, 0xFAFF},
                                        {0x20000, 0x2A6DF}, {0x2A700, 0x2B73F}, {0x2B740, 0x2B81F},
                                        {0x2B920, 0x2CEAF}, {0x2F800, 0x2FA1F}};
    for (int32_t cp = 0; cp < CODE_POINTS; cp++) {
        bool expected = false;
        for (int i = 0; i < SEO_COUNT_OF(ranges); i++) {
            expected = expected || (cp >= ranges[i][0] && cp <= ranges[i][1]);
        }
        assert_int_equal(seo_basic_class_of(cp) == SEO_BASIC_CHINESE, expected);
    }
}

/* ---- words ---- */

/* What becomes of one character, between two letters that keep it from being at an edge. */
static void one_character(const seo_basic_rules *rules, int32_t cp, seo_buf *out) {
    unsigned char text[8] = "a";
    int length = seo_utf8_encode(cp, text + 1);
    seo_basic_words words = {0};
    text[1 + length] = 'b';
    seo_buf_clear(out);
    assert_int_equal(seo_basic_split(rules, text, (size_t)length + 2, &words), SEO_OK);
    for (int64_t i = 0; i < words.count; i++) {
        seo_buf_add(out, words.text + words.items[i].begin,
                    (size_t)(words.items[i].end - words.items[i].begin));
    }
    seo_basic_words_free(&words);
}

/* Decomposition and lower case are those of utf8proc but for characters that one of the two does
 * not know yet: the reference lacks U+11938 and has the capital letters of Unicode 16 and 17. */
static void mappings_are_those_of_utf8proc(void **state) {
    (void)state;
    const seo_basic_rules strip = {false, true, false}, lower = {true, false, false};
    int64_t other_parts = 0, other_lower = 0;
    seo_buf got = {0}, expected = {0};
    for (int32_t cp = 0x80; cp < CODE_POINTS; cp++) {
        if (is_surrogate(cp) || seo_basic_class_of(cp) == SEO_BASIC_REMOVED ||
            seo_basic_class_of(cp) == SEO_BASIC_SPACE)
            continue;
        unsigned char utf8[4];
        utf8proc_int32_t parts[8];
        seo_buf_clear(&expected);
        seo_buf_text(&expected, "a");
        utf8proc_ssize_t count =
            utf8proc_decompose_char(cp, parts, 8, UTF8PROC_DECOMPOSE | UTF8PROC_STABLE, NULL);
        for (utf8proc_ssize_t i = 0; i < count; i++) {
            seo_basic_class class = seo_basic_class_of(parts[i]);
            if (class == SEO_BASIC_MARK || class == SEO_BASIC_MARK_STARTER) continue;
            seo_buf_add(&expected, utf8, (size_t)seo_utf8_encode(parts[i], utf8));
        }
        seo_buf_text(&expected, "b");
        one_character(&strip, cp, &got);
        other_parts += strcmp(got.data, expected.data) != 0;
        if (cp == 0x130) continue;
        one_character(&lower, cp, &got);
        seo_buf_clear(&expected);
        seo_buf_text(&expected, "a");
        seo_buf_add(&expected, utf8, (size_t)seo_utf8_encode(utf8proc_tolower(cp), utf8));
        seo_buf_text(&expected, "b");
        other_lower += strcmp(got.data, expected.data) != 0;
    }
    seo_buf_free(&got);
    seo_buf_free(&expected);
    if (!same_version()) skip();
    assert_int_equal(other_parts, 1);
    assert_int_equal(other_lower, 55);
}

/* The words of a text with spaces between them. */
static void check_split(const seo_basic_rules *rules, const char *text, size_t bytes,
                        const char *expected) {
    seo_basic_words words = {0};
    seo_buf got = {0};
    assert_int_equal(seo_basic_split(rules, (const unsigned char *)text, bytes, &words), SEO_OK);
    for (int64_t i = 0; i < words.count; i++) {
        const seo_basic_word *word = &words.items[i];
        if (i > 0) seo_buf_text(&got, " ");
        seo_buf_add(&got, words.text + word->begin, (size_t)(word->end - word->begin));
        assert_true(word->characters > 0 && word->characters <= word->end - word->begin);
    }
    assert_string_equal(got.data != NULL ? got.data : "", expected);
    seo_buf_free(&got);
    seo_basic_words_free(&words);
}

static void check_words(const seo_basic_rules *rules, const char *text, const char *expected) {
    check_split(rules, text, strlen(text), expected);
}

static void words_are_cut_and_cleaned(void **state) {
    (void)state;
    check_words(&uncased, "", "");
    check_words(&uncased, " \t\r\n\xC2\xA0\xE3\x80\x80", "");
    check_words(&uncased, "Hello, World!", "hello , world !");
    check_words(&cased, "Hello, World!", "Hello , World !");
    check_words(&uncased, "don't $5 a_b [UNK]", "don ' t $ 5 a _ b [ unk ]");
    check_words(&uncased,
                "zero\xE2\x80\x8Bwidth so\xC2\xAD"
                "ft",
                "zerowidth soft");
    check_words(&uncased,
                "a\x01\x1F\x7F"
                "b\xEF\xBF\xBD"
                "c",
                "abc");
    check_split(&uncased, "a\0b", 3, "ab");
    check_words(&uncased, "中文a字", "中 文 a 字");
    check_words(&(seo_basic_rules){true, true, false}, "中文a字", "中文a字");
    check_words(&uncased, "\xF0\xAB\xA0\xA0\xF0\xAB\xA4\xA0", "\xF0\xAB\xA0\xA0 \xF0\xAB\xA4\xA0");
}

static void accents_and_case(void **state) {
    (void)state;
    check_words(&uncased, "ÀÉÎÕÜ naïve Ǖ Ḋ", "aeiou naive u d");
    check_words(&cased, "ÀÉ e\xCC\x81", "ÀÉ e\xCC\x81");
    check_words(&(seo_basic_rules){true, false, true}, "ÀÉ", "àé");
    check_words(&(seo_basic_rules){false, true, true}, "ÀÉ", "AE");
    /* Sigma is the same at the end of a word; the dotted capital I is two characters. */
    check_words(&uncased, "ΑΣ İ ẞ", "ασ i ß");
    check_words(&(seo_basic_rules){true, false, true}, "İ", "i\xCC\x87");
    check_words(&uncased, "각", "\xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8");
    check_words(&uncased, "가", "\xE1\x84\x80\xE1\x85\xA1");
    check_words(&cased, "각", "각");
    /* What decomposes into punctuation is cut there. */
    check_words(&uncased, "a≠b;c", "a = b ; c");
    check_words(&cased, "a≠b", "a≠b");
    check_words(&uncased, "豈", "豈");
}

/* U+302F (class 224), U+1B44 (9) and U+1D165 (216) are marks that stay; U+0301 goes, and U+094D
 * does not let marks pass. */
static void marks_that_stay_are_ordered(void **state) {
    (void)state;
#define TONE "\xE3\x80\xAF"
#define ADEG "\xE1\xAD\x84"
#define STEM "\xF0\x9D\x85\xA5"
    check_words(&uncased, "a" TONE ADEG STEM, "a" ADEG STEM TONE);
    check_words(&uncased, "a" TONE "\xCC\x81" ADEG, "a" ADEG TONE);
    check_words(&uncased, "a" TONE "b" ADEG, "a" TONE "b" ADEG);
    check_words(&uncased, TONE TONE ADEG ADEG, ADEG ADEG TONE TONE);
    check_words(&uncased, "a" TONE " " ADEG, "a" TONE " " ADEG);
    check_words(&cased, "a" TONE ADEG, "a" TONE ADEG);
    /* U+0B56 is a nonspacing mark of class 0. */
    check_words(&uncased, "a" TONE "\xE0\xAD\x96" ADEG, "a" TONE ADEG);
}

/* Every byte of an invalid sequence is dropped, and nothing around it. */
static void damaged_utf8_is_dropped(void **state) {
    (void)state;
    check_words(&uncased,
                "a\x80"
                "b\xFF"
                "c\xC3",
                "abc");
    check_words(&uncased, "\xED\xA0\x80x\xC0\xAFy\xF4\x90\x80\x80z\xE4\xB8", "xyz");
    check_words(&uncased, "\xC3 \xA9", "");
}

/* The words of the parts are those of the whole. */
static void parts_may_be_split_alone(void **state) {
    (void)state;
    static const char text[] = "Don't\xC3\xA9!  中文\xE3\x80\x80"
                               "a\xCC\x81≠" TONE ADEG "\xFF\x80 x";
    seo_buf whole = {0}, parts = {0};
    seo_basic_words words = {0};
    const unsigned char *p = (const unsigned char *)text, *end = p + sizeof text - 1;
    assert_int_equal(seo_basic_split(&uncased, p, sizeof text - 1, &words), SEO_OK);
    for (int64_t i = 0; i < words.count; i++) {
        seo_buf_add(&whole, words.text + words.items[i].begin,
                    (size_t)(words.items[i].end - words.items[i].begin));
        seo_buf_text(&whole, "|");
    }
    while (p < end) {
        const unsigned char *next = seo_basic_end(p, end, true);
        assert_true(next > p);
        assert_int_equal(seo_basic_split(&uncased, p, (size_t)(next - p), &words), SEO_OK);
        for (int64_t i = 0; i < words.count; i++) {
            seo_buf_add(&parts, words.text + words.items[i].begin,
                        (size_t)(words.items[i].end - words.items[i].begin));
            seo_buf_text(&parts, "|");
        }
        p = next;
    }
    assert_string_equal(whole.data, parts.data);
    seo_buf_free(&whole);
    seo_buf_free(&parts);
    seo_basic_words_free(&words);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(later_categories_are_words),
        cmocka_unit_test(white_space_is_that_of_unicode),
        cmocka_unit_test(chinese_is_eight_ranges),
        cmocka_unit_test(mappings_are_those_of_utf8proc),
        cmocka_unit_test(words_are_cut_and_cleaned),
        cmocka_unit_test(accents_and_case),
        cmocka_unit_test(marks_that_stay_are_ordered),
        cmocka_unit_test(damaged_utf8_is_dropped),
        cmocka_unit_test(parts_may_be_split_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
