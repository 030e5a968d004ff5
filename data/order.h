/* The order of samples, as a pure function: which window is the g-th sample of a run. Nothing is
 * stored and nothing is shuffled in memory; any position is reached in O(1), and the answer does
 * not depend on ranks or threads.
 *
 *   g = step * B + j                            the global sample number, j in [0, B)
 *   source and k from the mixing cycle          k = how often that source was drawn before g
 *   epoch e = k / n_s, i = k mod n_s            every window of a source exactly once an epoch
 *   window = permutation(seed, source, e)(i)    balanced Feistel network of 6 rounds with cycle
 * walking, >= 2^16 wide
 *
 * The mixing cycle has at most 65,536 samples; its length is the one whose whole numbers of draws
 * come nearest to the weights, and after any prefix of a run every source was drawn within one
 * sample of its rate in the cycle. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A keyed bijection of [0, count). */
typedef struct seo_permutation {
    uint64_t count, mask;
    int32_t half_bits;
    uint64_t keys[6];
} seo_permutation;
void seo_permutation_init(seo_permutation *p, uint64_t count, uint64_t seed, uint64_t source,
                          uint64_t epoch);
uint64_t seo_permutation_at(const seo_permutation *p, uint64_t index);          /* index < count */
uint64_t seo_permutation_index_of(const seo_permutation *p, uint64_t position); /* its inverse */

enum { SEO_ORDER_SOURCES_MAX = 64, SEO_ORDER_CYCLE = 65536 };

typedef struct seo_order seo_order;

typedef struct seo_order_args {
    int64_t source_count;   /* 1..SEO_ORDER_SOURCES_MAX */
    const int64_t *windows; /* windows of each source, > 0 */
    const double *weights;  /* relative, > 0; NULL: proportional to windows */
    uint64_t seed;
    bool shuffle; /* false: windows in file order */
} seo_order_args;
seo_err seo_order_open(const seo_order_args *args, seo_order **out);
void seo_order_close(seo_order *order);

typedef struct seo_order_place {
    int64_t source, epoch, window;
} seo_order_place;
/* Where the g-th sample of the run comes from, g >= 0. Thread safe. */
seo_order_place seo_order_at(const seo_order *order, int64_t g);

#ifdef __cplusplus
}
#endif
