#include "data/byte_level.h"

enum { FIRST_STAND_IN = 0x100, STAND_IN_COUNT = 68 };

static bool stands_for_itself(int32_t byte) {
    return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xFF && byte != 0xAD);
}

/* The bytes without a printable form are 00-20, 7F-A0 and AD. */
int32_t seo_byte_level_char(unsigned char byte) {
    if (stands_for_itself(byte)) return byte;
    if (byte <= 0x20) return FIRST_STAND_IN + byte;
    if (byte <= 0xA0) return FIRST_STAND_IN + 0x21 + byte - 0x7F;
    return FIRST_STAND_IN + STAND_IN_COUNT - 1;
}

/* The byte that `cp` spells, or -1. */
static int32_t byte_of(int32_t cp) {
    if (cp < FIRST_STAND_IN) return cp >= 0 && stands_for_itself(cp) ? cp : -1;
    int32_t rank = cp - FIRST_STAND_IN;
    if (rank >= STAND_IN_COUNT) return -1;
    if (rank <= 0x20) return rank;
    return rank < STAND_IN_COUNT - 1 ? rank - 0x21 + 0x7F : 0xAD;
}

void seo_byte_level_spell(seo_buf *out, const unsigned char *bytes, size_t count) {
    for (size_t i = 0; i < count; i++) {
        unsigned char utf8[4];
        seo_buf_add(out, utf8, (size_t)seo_utf8_encode(seo_byte_level_char(bytes[i]), utf8));
    }
}

bool seo_byte_level_read(seo_buf *out, const char *text, size_t count) {
    const unsigned char *p = (const unsigned char *)text, *end = p + count;
    while (p < end) {
        int32_t cp;
        p += seo_utf8_decode(p, end, &cp);
        int32_t byte = byte_of(cp);
        if (byte < 0) return false;
        unsigned char b = (unsigned char)byte;
        seo_buf_add(out, &b, 1);
    }
    return true;
}
