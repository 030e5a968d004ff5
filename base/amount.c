/* Amounts as people write them, read exactly: the digits are kept as a decimal until the unit has
 * been multiplied in, so that 2.3M is 2300000 and not one less. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/text.h"

/* Wide enough for 19 digits times 2^40. */
__extension__ typedef __int128 wide;

typedef struct decimal {
    char text[64];    /* sign and digits, without point and underscores */
    int64_t exponent; /* value = text x 10^exponent */
    bool whole;       /* written with neither point nor exponent */
    const char *unit; /* what follows the number, one space skipped */
} decimal;

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* Digits, with single underscores between them; false when there is none or they do not fit. */
static bool take_digits(const char **text, decimal *d, size_t *used, int64_t *count) {
    const char *p = *text;
    for (*count = 0; is_digit(*p) || (*p == '_' && *count > 0 && is_digit(p[-1]) && is_digit(p[1]));
         p++) {
        if (*p == '_') continue;
        if (*used + 1 >= sizeof d->text) return false;
        d->text[(*used)++] = *p;
        ++*count;
    }
    *text = p;
    return true;
}

static bool take_exponent(const char **text, decimal *d) {
    char *end;
    const char *p = *text;
    if (*p != 'e' && *p != 'E') return true;
    if (!is_digit(p[1]) && !((p[1] == '-' || p[1] == '+') && is_digit(p[2]))) return false;
    long exponent = strtol(p + 1, &end, 10);
    if (exponent < -4000 || exponent > 4000) return false;
    d->exponent += exponent;
    d->whole = false;
    *text = end;
    return true;
}

static bool scan(const char *text, decimal *d) {
    size_t used = 0;
    int64_t before = 0, after = 0;
    *d = (decimal){.whole = true};
    if (*text == '-' || *text == '+') d->text[used++] = *text++;
    if (!take_digits(&text, d, &used, &before)) return false;
    if (*text == '.') {
        text++;
        d->whole = false;
        if (!take_digits(&text, d, &used, &after)) return false;
    }
    if (before + after == 0) return false;
    d->exponent = -after;
    if (!take_exponent(&text, d)) return false;
    d->text[used] = '\0';
    d->unit = *text == ' ' && text[1] != '\0' ? text + 1 : text;
    return true;
}

/* *out = d x scale when that is a whole number that fits. */
static bool to_whole(const decimal *d, int64_t scale, int64_t *out) {
    const char *p = d->text;
    bool negative = *p == '-';
    wide value = 0, limit = (wide)1 << 64;
    if (*p == '-' || *p == '+') p++;
    for (; *p != '\0'; p++) {
        value = value * 10 + (*p - '0');
        if (value > limit) return false;
    }
    value *= scale;
    for (int64_t i = d->exponent; i > 0 && value != 0; i--) {
        value *= 10;
        if (value > limit) return false;
    }
    for (int64_t i = d->exponent; i < 0 && value != 0; i++) {
        if (value % 10 != 0) return false;
        value /= 10;
    }
    if (value > INT64_MAX) return false;
    *out = negative ? -(int64_t)value : (int64_t)value;
    return true;
}

typedef struct unit {
    const char *name;
    int64_t scale;
} unit;

static const int64_t KILO = 1000, MEGA = 1000000, GIGA = 1000000000, TERA = 1000000000000;

static bool find_unit(const char *name, const unit *units, int64_t count, int64_t *scale) {
    for (int64_t i = 0; i < count; i++) {
        if (strcmp(units[i].name, name) != 0) continue;
        *scale = units[i].scale;
        return true;
    }
    return false;
}

static bool count_unit(const char *name, int64_t *scale) {
    const unit units[] = {{"", 1}, {"k", KILO}, {"K", KILO}, {"M", MEGA}, {"B", GIGA}, {"T", TERA}};
    return find_unit(name, units, SEO_COUNT_OF(units), scale);
}

bool seo_parse_int(const char *text, int64_t *out) {
    decimal d;
    int64_t scale;
    return scan(text, &d) && count_unit(d.unit, &scale) && to_whole(&d, scale, out);
}

/* The nearest double to d x scale, for a scale that is a power of ten times `rest`. */
static bool to_float(const decimal *d, int64_t tens, double *out) {
    char text[96];
    size_t bytes = strlen(d->text);
    memcpy(text, d->text, bytes);
    text[bytes++] = 'e';
    int64_t exponent = d->exponent + tens;
    if (exponent < 0) text[bytes++] = '-';
    char digits[24];
    int count = 0;
    for (int64_t left = exponent < 0 ? -exponent : exponent; count == 0 || left > 0; left /= 10)
        digits[count++] = (char)('0' + left % 10);
    while (count > 0) text[bytes++] = digits[--count];
    text[bytes] = '\0';
    double value = strtod(text, NULL);
    if (!(value >= -1.7976931348623157e308 && value <= 1.7976931348623157e308)) return false;
    *out = value;
    return true;
}

bool seo_parse_float(const char *text, double *out) {
    decimal d;
    int64_t scale, tens = 0;
    if (!scan(text, &d) || !count_unit(d.unit, &scale)) return false;
    for (; scale > 1; scale /= 10) tens++;
    return to_float(&d, tens, out);
}

bool seo_parse_bytes(const char *text, int64_t *out) {
    const unit units[] = {
        {"", 1},           {"B", 1},     {"kB", KILO},       {"KB", KILO},       {"MB", MEGA},
        {"GB", GIGA},      {"TB", TERA}, {"KiB", 1LL << 10}, {"MiB", 1LL << 20}, {"GiB", 1LL << 30},
        {"TiB", 1LL << 40}};
    decimal d;
    int64_t scale;
    return scan(text, &d) && d.text[0] != '-' &&
           find_unit(d.unit, units, SEO_COUNT_OF(units), &scale) && to_whole(&d, scale, out);
}

bool seo_parse_seconds(const char *text, double *out) {
    const unit units[] = {{"", 1},   {"s", 1},    {"min", 60}, {"sec", 1},
                          {"m", 60}, {"h", 3600}, {"d", 86400}};
    decimal d;
    int64_t scale = 1, tens = 0;
    if (!scan(text, &d) || d.text[0] == '-') return false;
    if (strcmp(d.unit, "ms") == 0)
        tens = -3;
    else if (!find_unit(d.unit, units, SEO_COUNT_OF(units), &scale))
        return false;
    if (!to_float(&d, tens, out)) return false;
    *out *= (double)scale;
    return true;
}
