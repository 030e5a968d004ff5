/* Checks of our own mistakes, and sizes that cannot overflow unnoticed. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Prints the fact that does not hold and aborts. Never for what comes from outside. */
void seo_assert_failed(const char *fact, const char *file, int line) __attribute__((noreturn));

#define SEO_ASSERT(fact)    ((fact) ? (void)0 : seo_assert_failed(#fact, __FILE__, __LINE__))

#define SEO_COUNT_OF(array) ((int64_t)(sizeof(array) / sizeof((array)[0])))

static inline int64_t seo_min_i64(int64_t a, int64_t b) {
    return a < b ? a : b;
}
static inline int64_t seo_max_i64(int64_t a, int64_t b) {
    return a > b ? a : b;
}
/* a / b rounded up, for a >= 0, b > 0. */
static inline int64_t seo_div_up(int64_t a, int64_t b) {
    return a / b + (a % b != 0);
}
/* The smallest multiple of `to` that is >= a. */
static inline int64_t seo_round_up(int64_t a, int64_t to) {
    return seo_div_up(a, to) * to;
}
/* *out = a * b; false when it does not fit or a factor is negative. */
static inline bool seo_mul_ok(int64_t a, int64_t b, int64_t *out) {
    return a >= 0 && b >= 0 && !__builtin_mul_overflow(a, b, out);
}
/* *out = a + b; false when it does not fit or a term is negative. */
static inline bool seo_add_ok(int64_t a, int64_t b, int64_t *out) {
    return a >= 0 && b >= 0 && !__builtin_add_overflow(a, b, out);
}

#ifdef __cplusplus
}
#endif
