#include "text_maker.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/file.h"
#include "base/rng.h"

static const char *const snippets[] = {"a",
                                       "I",
                                       "the",
                                       "Hello",
                                       "zebra",
                                       "Z",
                                       "x",
                                       "don",
                                       "we",
                                       "internationalization",
                                       "0",
                                       "7",
                                       "42",
                                       "1984",
                                       "3.14",
                                       "'s",
                                       "'t",
                                       "'re",
                                       "'ve",
                                       "'m",
                                       "'ll",
                                       "'d",
                                       "'S",
                                       "'LL",
                                       "'x",
                                       "'",
                                       "''",
                                       "\xE2\x80\x99s",
                                       " ",
                                       " ",
                                       " ",
                                       " ",
                                       "  ",
                                       "   ",
                                       "\t",
                                       "\n",
                                       "\n\n",
                                       "\r\n",
                                       "\v",
                                       "\f",
                                       "\x1C",
                                       "\x1F",
                                       "\xC2\x85",
                                       "\xC2\xA0",
                                       "\xE1\x9A\x80",
                                       "\xE2\x80\x83",
                                       "\xE2\x80\x8A",
                                       "\xE2\x80\xA8",
                                       "\xE2\x80\xA9",
                                       "\xE2\x80\xAF",
                                       "\xE2\x81\x9F",
                                       "\xE3\x80\x80",
                                       "\xE2\x80\x8B",
                                       "\xEF\xBB\xBF",
                                       "\xE1\xA0\x8E",
                                       "!",
                                       "?!",
                                       ".",
                                       ",",
                                       "...",
                                       "-",
                                       "_",
                                       "()",
                                       "{",
                                       "\"",
                                       "$",
                                       "<|endoftext|>",
                                       "<|",
                                       "^^^^",
                                       "\xC3\xA9",
                                       "e\xCC\x81",
                                       "\xC3\x9F",
                                       "\xD0\x96\xD0\xB8",
                                       "\xD8\xA7\xD9\x84",
                                       "\xD9\xA3",
                                       "\xE0\xA4\x95\xE0\xA5\x8D",
                                       "\xE0\xB8\xA7\xE0\xB8\xB5",
                                       "\xED\x95\x9C\xEA\xB8\x80",
                                       "\xEA\xB0\x80",
                                       "\xE6\x97\xA5\xE6\x9C\xAC",
                                       "\xE3\x81\x82",
                                       "\xC2\xBD",
                                       "\xC2\xB2",
                                       "\xE2\x85\xA7",
                                       "\xE2\x91\xA0",
                                       "\xF0\x9D\x9F\x98",
                                       "\xF0\x90\x8D\x88",
                                       "\xF0\x9F\x98\x80",
                                       "\xF0\x9F\x8F\xBD",
                                       "\xE2\x80\x8D",
                                       "\xEF\xB7\xBA",
                                       "\xF0\xA0\x80\x80",
                                       "\xCA\xB0",
                                       "\xC2\xAA",
                                       "\xEF\xBF\xBD"};

uint32_t maker_draw(text_maker *m, uint32_t below) {
    seo_rng_key key = {.seed = m->seed, .purpose = SEO_PURPOSE_TEST};
    return (uint32_t)((uint64_t)seo_rng_u32(key, m->drawn++) * below >> 32);
}

void maker_text(text_maker *m, seo_buf *out, int count) {
    for (int i = 0; i < count; i++) {
        const char *snippet = snippets[maker_draw(m, (uint32_t)SEO_COUNT_OF(snippets))];
        uint32_t times = maker_draw(m, 40) == 0 ? 1 + maker_draw(m, 300) : 1;
        for (uint32_t t = 0; t < times; t++) seo_buf_text(out, snippet);
    }
}

void maker_bytes(text_maker *m, seo_buf *out, int count) {
    static const unsigned char edges[] = {0x00, 0x20, 0x27, 0x41, 0x7F, 0x80, 0x8F, 0x90,
                                          0x9F, 0xA0, 0xBF, 0xC1, 0xC2, 0xDF, 0xE0, 0xED,
                                          0xEF, 0xF0, 0xF4, 0xF5, 0xFE, 0xFF};
    for (int i = 0; i < count; i++) {
        unsigned char byte = maker_draw(m, 2) == 0
                                 ? (unsigned char)maker_draw(m, 256)
                                 : edges[maker_draw(m, (uint32_t)SEO_COUNT_OF(edges))];
        seo_buf_add(out, &byte, 1);
    }
}

bool test_data_path(char *out, const char *name) {
    const char *folder = getenv("SEODANG_TEST_DATA");
    if (folder == NULL) {
        printf("skipped: SEODANG_TEST_DATA is not set\n");
        return false;
    }
    seo_path_kind kind = SEO_PATH_NONE;
    if (seo_path_join(out, folder, name) != SEO_OK || seo_path_look(out, &kind) != SEO_OK ||
        kind != SEO_PATH_FILE) {
        printf("skipped: no file %s in %s\n", name, folder);
        return false;
    }
    return true;
}
