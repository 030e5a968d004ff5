#include "data/basic_text.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "data/basic_text_table.h"

/* Hangul syllables by arithmetic (The Unicode Standard, section 3.12). */
enum {
    HANGUL = 0xAC00,
    HANGUL_COUNT = 11172,
    LEADING = 0x1100,
    VOWEL = 0x1161,
    TRAILING = 0x11A7,
    VOWELS = 21,
    TRAILINGS = 28
};

enum { DOTTED_CAPITAL_I = 0x130, DOT_ABOVE = 0x307 };

/* A decomposition has at most four parts. */
enum { PARTS_MAX = 4 };

static seo_basic_class class_at(const unsigned char *p, const unsigned char *end, int *length) {
    int32_t cp;
    *length = seo_utf8_decode(p, end, &cp);
    return cp < 0 ? SEO_BASIC_REMOVED : seo_basic_class_of(cp);
}

static bool is_alone(seo_basic_class class, bool chinese) {
    return class == SEO_BASIC_PUNCTUATION || (chinese && class == SEO_BASIC_CHINESE);
}

const unsigned char *seo_basic_end(const unsigned char *p, const unsigned char *end, bool chinese) {
    int length;
    seo_basic_class first = class_at(p, end, &length);
    p += length;
    if (is_alone(first, chinese)) return p;
    while (p < end) {
        seo_basic_class class = class_at(p, end, &length);
        bool space = class == SEO_BASIC_SPACE;
        if (space != (first == SEO_BASIC_SPACE) || is_alone(class, chinese)) break;
        p += length;
    }
    return p;
}

void seo_basic_words_free(seo_basic_words *words) {
    free(words->text);
    free(words->items);
    free(words->late);
    *words = (seo_basic_words){0};
}

/* ---- looking up ---- */

/* The decomposition of cp into one or two, or cp alone. */
static void split_once(int32_t cp, int32_t *first, int32_t *second) {
    int32_t low = 0, high = seo_basic_pair_count;
    *first = cp;
    *second = 0;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        uint64_t pair = seo_basic_pairs[middle];
        int32_t found = (int32_t)(pair >> 42);
        if (found == cp) {
            *first = (int32_t)(pair >> 21 & 0x1FFFFF);
            *second = (int32_t)(pair & 0x1FFFFF);
            return;
        }
        if (found < cp) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
}

/* Writes the full canonical decomposition and returns its length. */
static int decompose(int32_t cp, int32_t parts[PARTS_MAX]) {
    if (cp < 0xC0) {
        parts[0] = cp;
        return 1;
    }
    if (cp >= HANGUL && cp < HANGUL + HANGUL_COUNT) {
        int32_t index = cp - HANGUL;
        parts[0] = LEADING + index / (VOWELS * TRAILINGS);
        parts[1] = VOWEL + index % (VOWELS * TRAILINGS) / TRAILINGS;
        parts[2] = TRAILING + index % TRAILINGS;
        return parts[2] == TRAILING ? 2 : 3;
    }
    int count = 0;
    int32_t first = cp, second = 0, tail[PARTS_MAX];
    for (;;) {
        int32_t whole = first;
        split_once(whole, &first, &second);
        if (second != 0) tail[count++] = second;
        if (first == whole) break;
    }
    parts[0] = first;
    for (int i = 0; i < count; i++) parts[1 + i] = tail[count - 1 - i];
    return 1 + count;
}

static int32_t lower_of(int32_t cp) {
    if (cp < 0x80) return cp >= 'A' && cp <= 'Z' ? cp + ('a' - 'A') : cp;
    int32_t low = 0, high = seo_basic_lower_count;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        const seo_basic_lower *range = &seo_basic_lowers[middle];
        if (cp < range->first) {
            high = middle;
        } else if (cp > range->last) {
            low = middle + 1;
        } else {
            return (cp - range->first) % range->step == 0 ? cp + range->difference : cp;
        }
    }
    return cp;
}

static int32_t combining_class(int32_t cp) {
    int32_t low = 0, high = seo_basic_late_count - 1;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (seo_basic_lates[middle].cp < cp) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return seo_basic_lates[low].combining_class;
}

/* ---- writing words ---- */

static seo_err no_memory(void) {
    return SEO_FAIL(SEO_ERR_MEMORY, "not enough memory for the words of a text");
}

/* Makes room for `more` items of `size` bytes behind `count`. */
static seo_err grow(void **items, int64_t count, int64_t *capacity, int64_t more, size_t size) {
    if (*capacity - count >= more) return SEO_OK;
    int64_t larger = 2 * *capacity + more + 64;
    void *moved = realloc(*items, (size_t)larger * size);
    if (moved == NULL) return no_memory();
    *items = moved;
    *capacity = larger;
    return SEO_OK;
}

/* The last word is open while nothing has ended it. */
typedef struct splitter {
    const seo_basic_rules *rules;
    seo_basic_words *out;
    bool open;
} splitter;

static seo_err add_to_word(splitter *s, int32_t cp) {
    seo_basic_words *out = s->out;
    seo_err err = grow((void **)&out->text, out->text_bytes, &out->text_capacity, 4, 1);
    if (err == SEO_OK && !s->open)
        err = grow((void **)&out->items, out->count, &out->capacity, 1, sizeof *out->items);
    if (err != SEO_OK) return err;
    if (!s->open) {
        out->items[out->count++] = (seo_basic_word){out->text_bytes, out->text_bytes, 0};
        s->open = true;
    }
    seo_basic_word *word = &out->items[out->count - 1];
    out->text_bytes += seo_utf8_encode(cp, out->text + out->text_bytes);
    word->end = out->text_bytes;
    word->characters++;
    return SEO_OK;
}

/* Rule 5, for a character that went through the others. */
static seo_err add_character(splitter *s, int32_t cp) {
    bool alone = seo_basic_class_of(cp) == SEO_BASIC_PUNCTUATION;
    if (alone) s->open = false;
    seo_err err = add_to_word(s, cp);
    if (alone) s->open = false;
    return err;
}

/* Rule 4. */
static seo_err add_cased(splitter *s, int32_t cp) {
    if (!s->rules->lower_case) return add_character(s, cp);
    if (cp != DOTTED_CAPITAL_I) return add_character(s, lower_of(cp));
    seo_err err = add_character(s, 'i');
    return err == SEO_OK ? add_character(s, DOT_ABOVE) : err;
}

/* Writes the marks that wait, by combining class and then in their order. There are few classes,
 * so that this is linear. */
static seo_err add_late(splitter *s) {
    seo_basic_words *out = s->out;
    int32_t done = 0;
    for (int64_t left = out->late_count; left > 0;) {
        int32_t next = INT32_MAX;
        for (int64_t i = 0; i < out->late_count; i++) {
            int32_t class = combining_class(out->late[i]);
            if (class > done && class < next) next = class;
        }
        for (int64_t i = 0; i < out->late_count; i++) {
            if (combining_class(out->late[i]) != next) continue;
            seo_err err = add_cased(s, out->late[i]);
            if (err != SEO_OK) return err;
            left--;
        }
        done = next;
    }
    out->late_count = 0;
    return SEO_OK;
}

/* Rule 3. */
static seo_err add_stripped(splitter *s, int32_t cp) {
    seo_basic_words *out = s->out;
    int32_t parts[PARTS_MAX];
    int count = decompose(cp, parts);
    for (int i = 0; i < count; i++) {
        seo_err err = SEO_OK;
        switch (seo_basic_class_of(parts[i])) {
        case SEO_BASIC_MARK: break;
        case SEO_BASIC_MARK_STARTER: err = add_late(s); break;
        case SEO_BASIC_LATE:
            err = grow((void **)&out->late, out->late_count, &out->late_capacity, 1,
                       sizeof *out->late);
            if (err == SEO_OK) out->late[out->late_count++] = parts[i];
            break;
        default:
            err = add_late(s);
            if (err == SEO_OK) err = add_cased(s, parts[i]);
        }
        if (err != SEO_OK) return err;
    }
    return SEO_OK;
}

static seo_err end_word(splitter *s) {
    seo_err err = add_late(s);
    s->open = false;
    return err;
}

/* Rules 1 and 2. */
static seo_err add_raw(splitter *s, int32_t cp) {
    seo_basic_class class = seo_basic_class_of(cp);
    if (class == SEO_BASIC_REMOVED) return SEO_OK;
    if (class == SEO_BASIC_SPACE) return end_word(s);
    bool alone = class == SEO_BASIC_CHINESE && s->rules->chinese;
    seo_err err = alone ? end_word(s) : SEO_OK;
    if (err == SEO_OK) err = s->rules->strip_accents ? add_stripped(s, cp) : add_cased(s, cp);
    if (err == SEO_OK && alone) err = end_word(s);
    return err;
}

seo_err seo_basic_split(const seo_basic_rules *rules, const unsigned char *text, size_t bytes,
                        seo_basic_words *out) {
    const unsigned char *p = text, *end = text + bytes;
    splitter s = {.rules = rules, .out = out};
    out->text_bytes = 0;
    out->count = 0;
    out->late_count = 0;
    while (p < end) {
        int32_t cp;
        p += seo_utf8_decode(p, end, &cp);
        if (cp < 0) continue;
        seo_err err = add_raw(&s, cp);
        if (err != SEO_OK) return err;
    }
    return end_word(&s);
}
