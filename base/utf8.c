/* UTF-8 as RFC 3629 defines it. Declared in base/text.h. */
#include <string.h>

#include "base/text.h"

int seo_utf8_decode(const unsigned char *p, const unsigned char *end, int32_t *cp) {
    const unsigned char lead = p[0];
    if (lead < 0x80) {
        *cp = lead;
        return 1;
    }
    *cp = -1;
    const int length = lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF5 ? 4 : 0;
    if (length == 0 || end - p < length) return 1;
    int32_t value = lead & (0xFF >> (length + 1));
    for (int i = 1; i < length; i++) {
        if ((p[i] & 0xC0) != 0x80) return 1;
        value = value << 6 | (p[i] & 0x3F);
    }
    static const int32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (value < least[length] || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) return 1;
    *cp = value;
    return length;
}

int seo_utf8_encode(int32_t cp, unsigned char out[4]) {
    if (cp < 0x80) {
        out[0] = (unsigned char)cp;
        return 1;
    }
    const int length = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    static const unsigned char leads[] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (int i = length - 1; i > 0; i--) {
        out[i] = (unsigned char)(0x80 | (cp & 0x3F));
        cp >>= 6;
    }
    out[0] = (unsigned char)(leads[length] | cp);
    return length;
}

int64_t seo_utf8_first_bad(const void *data, size_t bytes) {
    const unsigned char *start = data, *p = start, *end = start + bytes;
    while (p < end) {
        uint64_t word = 0;
        /* Eight ASCII bytes at once: most text. */
        while (end - p >= 8 && (memcpy(&word, p, 8), (word & 0x8080808080808080u) == 0)) p += 8;
        if (p == end) break;
        int32_t cp = 0;
        const int length = seo_utf8_decode(p, end, &cp);
        if (cp < 0) return p - start;
        p += length;
    }
    return -1;
}
