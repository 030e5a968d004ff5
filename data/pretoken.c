#include "data/pretoken.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "base/check.h"
#include "data/unicode.h"

typedef unsigned char byte;

/* Of a first byte: the class of an ASCII character, or that a longer sequence has to be read. */
enum { O = SEO_CHAR_OTHER, L = SEO_CHAR_LETTER, N = SEO_CHAR_NUMBER, S = SEO_CHAR_SPACE, M = 4 };
static const byte first_class[256] = {
    O, O, O, O, O, O, O, O, O, S, S, S, S, S, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O,
    S, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, N, N, N, N, N, N, N, N, N, N, O, O, O, O, O, O,
    O, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, O, O, O, O, O,
    O, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, O, O, O, O, O,
    M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M,
    M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M,
    M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M,
    M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M};

static inline bool is_tail(byte b) {
    return (b & 0xC0) == 0x80;
}

/* The code point of a sequence of two to four bytes at p, or -1 with a length of 1. base/text.h has
 * the same rule; this copy stands in the inner loop of everything that is not English. */
static inline int32_t decode_long(const byte *p, const byte *end, int *length) {
    byte b = *p;
    ptrdiff_t left = end - p;
    *length = 1;
    if (b < 0xC2 || b > 0xF4 || left < 2 || !is_tail(p[1])) return -1;
    if (b < 0xE0) {
        *length = 2;
        return (b & 0x1F) << 6 | (p[1] & 0x3F);
    }
    if (left < 3 || !is_tail(p[2])) return -1;
    int32_t cp = (b & 0x0F) << 12 | (p[1] & 0x3F) << 6 | (p[2] & 0x3F);
    if (b < 0xF0) {
        if (cp < 0x800 || (cp >= 0xD800 && cp <= 0xDFFF)) return -1;
        *length = 3;
        return cp;
    }
    if (left < 4 || !is_tail(p[3])) return -1;
    cp = (b & 0x07) << 18 | (p[1] & 0x3F) << 12 | (p[2] & 0x3F) << 6 | (p[3] & 0x3F);
    if (cp < 0x10000 || cp > 0x10FFFF) return -1;
    *length = 4;
    return cp;
}

static inline int class_at(const byte *p, const byte *end, int *length) {
    int class = first_class[*p];
    *length = 1;
    return class != M ? class : (int)seo_char_class_of(decode_long(p, end, length));
}

/* Skips ASCII letters, at least while 16 bytes are left. Most English words end in the first 16
 * bytes, so that wider registers gain nothing, and SSE2 needs no question to the CPU. */
static inline const byte *skip_ascii_letters(const byte *p, const byte *end) {
#ifdef __SSE2__
    const __m128i lower = _mm_set1_epi8(0x20), a = _mm_set1_epi8('a'), span = _mm_set1_epi8(25);
    while (end - p >= 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)p);
        __m128i from_a = _mm_sub_epi8(_mm_or_si128(bytes, lower), a);
        __m128i letter = _mm_cmpeq_epi8(_mm_min_epu8(from_a, span), from_a);
        unsigned others = (unsigned)_mm_movemask_epi8(letter) ^ 0xFFFFu;
        if (others != 0) return p + __builtin_ctz(others);
        p += 16;
    }
#endif
    while (p < end && first_class[*p] == L) p++;
    return p;
}

/* The first place in [p, end] whose character is not of `class`. */
static inline const byte *skip_class(const byte *p, const byte *end, int class) {
    for (;;) {
        if (class == L) p = skip_ascii_letters(p, end);
        while (p < end && first_class[*p] == class) p++;
        for (;;) {
            if (p == end) return end;
            if (first_class[*p] != M) break;
            int length;
            if (class_at(p, end, &length) != class) return p;
            p += length;
        }
        if (first_class[*p] != class) return p;
    }
}

/* The length of a contraction at the apostrophe p, or 0. */
static inline int contraction(const byte *p, const byte *end) {
    if (end - p < 2) return 0;
    byte b = p[1];
    if (b == 's' || b == 't' || b == 'm' || b == 'd') return 2;
    if (end - p < 3) return 0;
    byte c = p[2];
    return (b == 'l' && c == 'l') || ((b == 'r' || b == 'v') && c == 'e') ? 3 : 0;
}

/* A run of white space leaves its last character to what follows, unless it stands alone or ends
 * the text. */
static const byte *space_end(const byte *p, const byte *end) {
    const byte *start = p, *last = p;
    while (p < end) {
        int length;
        if (class_at(p, end, &length) != S) break;
        last = p;
        p += length;
    }
    return p == end || last == start ? p : last;
}

const byte *seo_pretoken_end(const byte *p, const byte *end) {
    SEO_ASSERT(p < end);
    int length;
    int class = class_at(p, end, &length);
    if (class == L) return skip_class(p + length, end, L);
    if (*p == ' ' && end - p > 1) {
        int next = class_at(p + 1, end, &length);
        if (next == L) return skip_class(p + 1 + length, end, L);
        if (next != S) return skip_class(p + 1 + length, end, next);
    }
    if (class == S) return space_end(p, end);
    if (*p == '\'') {
        int bytes = contraction(p, end);
        if (bytes != 0) return p + bytes;
    }
    return skip_class(p + length, end, class);
}

/* No white space ends right before `at`. Looked at backwards a sequence is ambiguous only where it
 * is damaged; then any reading as white space counts. */
static bool solid_before(const byte *text, size_t at) {
    for (size_t back = 1; back <= 4 && back <= at; back++) {
        int length;
        const byte *p = text + at - back;
        if (class_at(p, text + at, &length) == S && (size_t)length == back) return false;
    }
    return at > 0;
}

static bool solid_after(const byte *text, size_t bytes, size_t at) {
    int length;
    return at < bytes && class_at(text + at, text + bytes, &length) != S;
}

static bool is_cut(const byte *text, size_t bytes, size_t at) {
    if (text[at - 1] == '\n') return solid_before(text, at - 1) && solid_after(text, bytes, at);
    return text[at] == ' ' && solid_before(text, at) && solid_after(text, bytes, at + 1);
}

size_t seo_pretoken_cut(const byte *text, size_t bytes, size_t limit) {
    if (limit >= bytes) return bytes;
    for (size_t at = limit; at > 0; at--) {
        if (is_cut(text, bytes, at)) return at;
    }
    for (size_t at = limit + 1; at < bytes; at++) {
        if (is_cut(text, bytes, at)) return at;
    }
    return bytes;
}
