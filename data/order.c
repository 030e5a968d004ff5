#include "data/order.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "base/check.h"

/* Below 2^16 the network mixes too little; the price is a few more walks on small counts. */
enum { PERMUTATION_ROUNDS = 6, PERMUTATION_MIN_BITS = 16 };

struct seo_order {
    int64_t source_count, cycle;
    int64_t windows[SEO_ORDER_SOURCES_MAX];
    int64_t draws[SEO_ORDER_SOURCES_MAX]; /* of each source in one cycle */
    uint64_t seed;
    bool shuffle;
    uint8_t source_of[SEO_ORDER_CYCLE]; /* position in the cycle -> source */
    uint16_t rank_of[SEO_ORDER_CYCLE];  /* how often that source was drawn before it */
};

/* The finaliser of SplitMix64 (Steele, Lea and Flood 2014): every input bit moves every output
 * bit. */
static uint64_t mix64(uint64_t x) {
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

void seo_permutation_init(seo_permutation *p, uint64_t count, uint64_t seed, uint64_t source,
                          uint64_t epoch) {
    const uint64_t golden = UINT64_C(0x9e3779b97f4a7c15);
    int32_t bits = PERMUTATION_MIN_BITS;
    while (bits < 64 && (UINT64_C(1) << bits) < count) bits += 2;
    p->count = count;
    p->half_bits = bits / 2;
    p->mask = (UINT64_C(1) << p->half_bits) - 1;
    uint64_t state = mix64(mix64(mix64(seed + golden) + source + golden) + epoch + golden);
    for (int i = 0; i < PERMUTATION_ROUNDS; i++) p->keys[i] = mix64(state += golden);
}

static uint64_t network(const seo_permutation *p, uint64_t x) {
    uint64_t left = x >> p->half_bits, right = x & p->mask;
    for (int i = 0; i < PERMUTATION_ROUNDS; i++) {
        const uint64_t next = left ^ (mix64(right ^ p->keys[i]) & p->mask);
        left = right;
        right = next;
    }
    return left << p->half_bits | right;
}

static uint64_t network_inverse(const seo_permutation *p, uint64_t x) {
    uint64_t left = x >> p->half_bits, right = x & p->mask;
    for (int i = PERMUTATION_ROUNDS - 1; i >= 0; i--) {
        const uint64_t before = right ^ (mix64(left ^ p->keys[i]) & p->mask);
        right = left;
        left = before;
    }
    return left << p->half_bits | right;
}

/* Cycle walking: the network permutes a larger set; following it from inside [0, count) until it is
 * inside again gives a bijection of [0, count). */
uint64_t seo_permutation_at(const seo_permutation *p, uint64_t index) {
    SEO_ASSERT(index < p->count);
    do {
        index = network(p, index);
    } while (index >= p->count);
    return index;
}

uint64_t seo_permutation_index_of(const seo_permutation *p, uint64_t position) {
    SEO_ASSERT(position < p->count);
    do {
        position = network_inverse(p, position);
    } while (position >= p->count);
    return position;
}

/* draws = share * cycle rounded, when that gives each source a draw and sums to cycle; *error is
 * the largest distance of a draw rate from its share. */
static bool draws_for_cycle(const double *share, int64_t count, int64_t cycle, int64_t *draws,
                            double *error) {
    int64_t sum = 0;
    *error = 0;
    for (int64_t s = 0; s < count; s++) {
        const double exact = share[s] * (double)cycle;
        draws[s] = llround(exact);
        if (draws[s] == 0) return false;
        sum += draws[s];
        *error = fmax(*error, fabs((double)draws[s] - exact) / (double)cycle);
    }
    return sum == cycle;
}

/* The cycle whose whole numbers come nearest to the shares; the shortest of those that are exact up
 * to rounding. */
static seo_err choose_cycle(seo_order *order, const double *share) {
    const double exact_enough = 1e-12;
    int64_t draws[SEO_ORDER_SOURCES_MAX];
    double best = INFINITY;
    for (int64_t cycle = 1; cycle <= SEO_ORDER_CYCLE && best > exact_enough; cycle++) {
        double error = 0;
        if (!draws_for_cycle(share, order->source_count, cycle, draws, &error)) continue;
        if (error >= best) continue;
        best = error;
        order->cycle = cycle;
        for (int64_t s = 0; s < order->source_count; s++) order->draws[s] = draws[s];
    }
    if (isfinite(best)) return SEO_OK;
    int64_t least = 0;
    for (int64_t s = 1; s < order->source_count; s++) {
        if (share[s] < share[least]) least = s;
    }
    return SEO_FAIL(SEO_ERR_USAGE,
                    "the sources' weights cannot be mixed in a cycle of %d samples: source %" PRId64
                    " has a share of %.3g; raise its weight or leave it out",
                    (int)SEO_ORDER_CYCLE, least, share[least]);
}

/* Fills the cycle so that after every prefix each source was drawn within one of its exact share.
 * Draw m of a source with d draws in a cycle of n may stand in positions [floor(m n / d),
 * ceil((m + 1) n / d)); taking the earliest end among those that may stand keeps all of them
 * (proportionate fairness: Baruah, Cohen, Plaxton and Varvel 1996). Drawing the largest deficit
 * looks alike but can miss by more than one sample with many sources. */
static void fill_cycle(seo_order *order) {
    int64_t drawn[SEO_ORDER_SOURCES_MAX] = {0};
    const int64_t n = order->cycle;
    for (int64_t i = 0; i < n; i++) {
        int64_t chosen = -1, chosen_end = INT64_MAX;
        for (int64_t s = 0; s < order->source_count; s++) {
            const int64_t d = order->draws[s];
            const int64_t end = seo_div_up((drawn[s] + 1) * n, d);
            if (drawn[s] * n < d * (i + 1) && end < chosen_end) {
                chosen = s;
                chosen_end = end;
            }
        }
        SEO_ASSERT(chosen >= 0);
        order->source_of[i] = (uint8_t)chosen;
        order->rank_of[i] = (uint16_t)drawn[chosen]++;
    }
}

static seo_err shares_of(const seo_order_args *args, double *share) {
    double sum = 0;
    for (int64_t s = 0; s < args->source_count; s++) {
        if (args->windows[s] < 1) {
            return SEO_FAIL(SEO_ERR_ARG, "source %" PRId64 " has no window", s);
        }
        share[s] = args->weights != NULL ? args->weights[s] : (double)args->windows[s];
        if (!(share[s] > 0) || !isfinite(share[s])) {
            return SEO_FAIL(SEO_ERR_USAGE,
                            "source %" PRId64 " has weight %g: weights must be above 0 and finite",
                            s, share[s]);
        }
        sum += share[s];
    }
    if (!isfinite(sum)) return SEO_FAIL(SEO_ERR_USAGE, "the sources' weights sum to infinity");
    for (int64_t s = 0; s < args->source_count; s++) share[s] /= sum;
    return SEO_OK;
}

seo_err seo_order_open(const seo_order_args *args, seo_order **out) {
    seo_err err = SEO_OK;
    seo_order *order = NULL;
    double share[SEO_ORDER_SOURCES_MAX] = {0};
    *out = NULL;
    if (args->source_count < 1 || args->source_count > SEO_ORDER_SOURCES_MAX) {
        return SEO_FAIL(SEO_ERR_ARG, "%" PRId64 " sources: a mix has 1 to %d", args->source_count,
                        (int)SEO_ORDER_SOURCES_MAX);
    }
    order = calloc(1, sizeof *order);
    if (order == NULL) return SEO_FAIL(SEO_ERR_MEMORY, "no memory for the order of samples");
    order->source_count = args->source_count;
    order->seed = args->seed;
    order->shuffle = args->shuffle;
    for (int64_t s = 0; s < args->source_count; s++) order->windows[s] = args->windows[s];
    SEO_TRY(shares_of(args, share));
    SEO_TRY(choose_cycle(order, share));
    fill_cycle(order);
    *out = order;
    order = NULL;
done:
    seo_order_close(order);
    return err;
}

void seo_order_close(seo_order *order) {
    free(order);
}

seo_order_place seo_order_at(const seo_order *order, int64_t g) {
    SEO_ASSERT(g >= 0);
    const int64_t at = g % order->cycle;
    const int64_t source = order->source_of[at];
    const int64_t k = g / order->cycle * order->draws[source] + order->rank_of[at];
    seo_order_place place = {.source = source,
                             .epoch = k / order->windows[source],
                             .window = k % order->windows[source]};
    if (order->shuffle) {
        seo_permutation p;
        seo_permutation_init(&p, (uint64_t)order->windows[source], order->seed, (uint64_t)source,
                             (uint64_t)place.epoch);
        place.window = (int64_t)seo_permutation_at(&p, (uint64_t)place.window);
    }
    return place;
}
