/* What the rules over several fields share: asking what was given, and complaining. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "train/config_rules.h"

int64_t seo_key_index(const char *path) {
    const int64_t index = seo_field_find(path);
    SEO_ASSERT(index >= 0);
    return index;
}

bool seo_key_given(const seo_rules *rules, const char *path) {
    return rules->states[seo_key_index(path)] == SEO_FIELD_GIVEN;
}

bool seo_key_from_set(const seo_rules *rules, const char *path) {
    return rules->config->sources[seo_key_index(path)].origin == SEO_ORIGIN_SET;
}

void seo_key_complain(const seo_rules *rules, const char *path, const char *fmt, ...) {
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    rules->complain(rules->context, seo_key_index(path), text);
}

void seo_key_derive(const seo_rules *rules, const char *path) {
    const int64_t index = seo_key_index(path);
    if (rules->states[index] == SEO_FIELD_GIVEN) return;
    rules->config->sources[index] = (seo_config_source){.origin = SEO_ORIGIN_DERIVED};
}

const char *seo_key_blame(const seo_rules *rules, const char *first, const char *second) {
    if (seo_key_from_set(rules, second) && !seo_key_from_set(rules, first)) return second;
    return seo_key_given(rules, first) || !seo_key_given(rules, second) ? first : second;
}

void seo_key_near_divisors(int64_t n, int64_t wish, int64_t *below, int64_t *above) {
    *below = 0;
    *above = 0;
    for (int64_t d = 1; d <= n / d; d++) {
        if (n % d != 0) continue;
        const int64_t pair[] = {d, n / d};
        for (int i = 0; i < 2; i++) {
            if (pair[i] <= wish && pair[i] > *below) *below = pair[i];
            if (pair[i] >= wish && (*above == 0 || pair[i] < *above)) *above = pair[i];
        }
    }
}

const char *seo_key_near_multiples(char out[2 * SEO_SHORT_TEXT], int64_t n, int64_t of) {
    const int64_t below = n / of * of;
    if (below > 0) {
        snprintf(out, 2 * SEO_SHORT_TEXT, "%" PRId64 " and %" PRId64, below, below + of);
    } else {
        snprintf(out, 2 * SEO_SHORT_TEXT, "%" PRId64, of);
    }
    return out;
}

void seo_key_forget(seo_rules *rules, const char *path) {
    const int64_t index = seo_key_index(path);
    const seo_field *field = &seo_config_fields[index];
    rules->states[index] = SEO_FIELD_ABSENT;
    rules->config->sources[index] = (seo_config_source){0};
    char *at = (char *)rules->config + field->offset;
    if (field->type == SEO_FIELD_INT) memset(at, 0, sizeof(int64_t));
    if (field->type == SEO_FIELD_TEXT) memset(at, 0, SEO_CONFIG_TEXT_MAX);
    if (field->type == SEO_FIELD_MIX) rules->config->data.mix_count = 0;
}

const char *seo_config_family_name(seo_family family) {
    const seo_field_choice *choice = seo_config_fields[seo_key_index("model.family")].choices;
    while (choice->name && choice->value != (int)family) choice++;
    SEO_ASSERT(choice->name);
    return choice->name;
}
