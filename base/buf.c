/* Growing byte strings. Declared in base/text.h. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

static bool reserve(seo_buf *b, size_t more) {
    if (b->failed) return false;
    if (more < b->capacity - b->bytes) return true;
    size_t capacity = b->capacity ? b->capacity : 256;
    while (capacity - b->bytes <= more) {
        if (capacity > SIZE_MAX / 2) {
            b->failed = true;
            return false;
        }
        capacity *= 2;
    }
    char *data = realloc(b->data, capacity);
    if (!data) {
        b->failed = true;
        return false;
    }
    b->data = data;
    b->capacity = capacity;
    return true;
}

void seo_buf_add(seo_buf *b, const void *data, size_t bytes) {
    if (!reserve(b, bytes)) return;
    if (bytes > 0) memcpy(b->data + b->bytes, data, bytes);
    b->bytes += bytes;
    b->data[b->bytes] = '\0';
}

void seo_buf_text(seo_buf *b, const char *text) {
    seo_buf_add(b, text, strlen(text));
}

void seo_buf_format(seo_buf *b, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    va_list again;
    va_copy(again, ap);
    const int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0) b->failed = true;
    if (n >= 0 && reserve(b, (size_t)n)) {
        vsnprintf(b->data + b->bytes, (size_t)n + 1, fmt, again);
        b->bytes += (size_t)n;
    }
    va_end(again);
}

static void json_escape(seo_buf *b, unsigned char c) {
    static const char *const names[] = {
        [8] = "\\b", [9] = "\\t", [10] = "\\n", [12] = "\\f", [13] = "\\r"};
    if (c == '"') {
        seo_buf_text(b, "\\\"");
    } else if (c == '\\') {
        seo_buf_text(b, "\\\\");
    } else if (c < 14 && names[c]) {
        seo_buf_text(b, names[c]);
    } else {
        seo_buf_format(b, "\\u%04x", c);
    }
}

void seo_buf_json_string(seo_buf *b, const char *text, size_t bytes) {
    const unsigned char *p = (const unsigned char *)text, *end = p + bytes, *plain = p;
    seo_buf_text(b, "\"");
    while (p < end) {
        int32_t cp = 0;
        const int length = seo_utf8_decode(p, end, &cp);
        const bool whole = cp >= 0x20 && cp != '"' && cp != '\\' && cp != 0x7f;
        if (!whole) {
            seo_buf_add(b, plain, (size_t)(p - plain));
            if (cp < 0) {
                seo_buf_text(b, "\xef\xbf\xbd");
            } else {
                json_escape(b, *p);
            }
            plain = p + length;
        }
        p += length;
    }
    seo_buf_add(b, plain, (size_t)(p - plain));
    seo_buf_text(b, "\"");
}

void seo_buf_json_float(seo_buf *b, double value, int digits) {
    if (!isfinite(value)) {
        seo_buf_text(b, "null");
        return;
    }
    char text[64];
    for (int precision = 1; precision <= digits; precision++) {
        snprintf(text, sizeof text, "%.*g", precision, value);
        const double back = strtod(text, NULL);
        if (digits > 9 ? back == value : (float)back == (float)value) break;
    }
    /* A float must look like one: some readers refuse an integer where a float is declared. */
    if (!strpbrk(text, ".en")) strcat(text, ".0");
    seo_buf_text(b, text);
}

seo_err seo_buf_check(const seo_buf *b) {
    return b->failed ? SEO_FAIL(SEO_ERR_MEMORY, "a text of %zu bytes", b->bytes) : SEO_OK;
}

void seo_buf_clear(seo_buf *b) {
    b->bytes = 0;
    b->failed = false;
    if (b->data) b->data[0] = '\0';
}

void seo_buf_free(seo_buf *b) {
    free(b->data);
    memset(b, 0, sizeof *b);
}
