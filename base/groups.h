/* Rows of a batch ordered by id, in pieces of bounded length: with it the gradient of an embedding
 * table is a sum in a fixed order without atomics, whoever adds which piece. A thread of the loader
 * makes it while the batch before is computed.
 *
 * One array of int32, so that it travels to a device in one copy:
 *   [0] pieces   [1] joins   [2], [3] 0
 *   rows     (n)           the numbers 0 .. n-1, ordered by id, equal ids ascending
 *   pieces   (n, 4)        id, first place in `rows`, length 1..SEO_GROUPS_PIECE, slot
 *   joins    (n / PIECE + 1, 4)  id, first slot, slots, 0
 * An id that is met at most PIECE times has one piece with slot -1. A more frequent one has several
 * whose slots are numbered on from those of the one before, and a join that names them. What lies
 * beyond the counts is not defined. */
#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { SEO_GROUPS_PIECE = 64, SEO_GROUPS_HEAD = 4, SEO_GROUPS_RECORD = 4 };

/* Where the three lists begin, and how many int32 the whole takes, for n rows. */
static inline int64_t seo_groups_rows_at(int64_t n) {
    (void)n;
    return SEO_GROUPS_HEAD;
}
static inline int64_t seo_groups_pieces_at(int64_t n) {
    return SEO_GROUPS_HEAD + (n + 3) / 4 * 4;
}
static inline int64_t seo_groups_joins_at(int64_t n) {
    return seo_groups_pieces_at(n) + SEO_GROUPS_RECORD * n;
}
static inline int64_t seo_groups_size(int64_t n) {
    return seo_groups_joins_at(n) + SEO_GROUPS_RECORD * (n / SEO_GROUPS_PIECE + 1);
}
/* The most slots there can be. */
static inline int64_t seo_groups_slots_max(int64_t n) {
    return 2 * (n / SEO_GROUPS_PIECE) + 1;
}

/* ids: n of them, any values; out: seo_groups_size(n) int32. Takes no memory. n < 2^31. */
void seo_groups_build(const int32_t *ids, int64_t n, int32_t *out);

#ifdef __cplusplus
}
#endif
