/* What attention's queries see, and dropout on what they see, as kernels need it.
 *
 * A part of a sequence is worked on as a sequence of its own: its rows are counted from its begin,
 * and rows of other parts read as 0, so that nothing of another document, not even what is no
 * number, reaches a sum. */
#pragma once

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/tile.cuh"

/* Variants of a kernel: causal or not; with parts and windows as well; with dropout as well. */
enum { ATTENTION_PLAIN, ATTENTION_MASKED, ATTENTION_DROPPED };

/* The part that position t belongs to, [begin, end). `spans` (rows, 2), or null: the whole
 * sequence. A span that cannot be, which attention_spans_kernel reports, is taken for the position
 * alone. */
struct attention_part {
    int32_t begin, end;
};
SEO_DEVICE attention_part part_of(const int32_t *spans, int64_t row, int32_t t, int32_t positions) {
    attention_part part = {0, positions};
    if (!spans) return part;
    part = {spans[2 * row], spans[2 * row + 1]};
    const bool right = 0 <= part.begin && part.begin <= t && t < part.end && part.end <= positions;
    if (!right) part = {t, t + 1};
    return part;
}

/* Dropout on probabilities, of a call. */
struct attention_drops {
    const int32_t *place;
    seo_rng_key key;
    uint32_t least; /* of 24 random bits that keep a probability; 0: there is no dropout */
    float scale;    /* of what is kept */
};

/* The same of one part of one head; `first` is the number of its p[0, 0]. */
struct head_drops {
    seo_rng_key key;
    uint64_t first;
    uint32_t row; /* numbers of a query */
    uint32_t least;
};
SEO_DEVICE head_drops drops_of_head(const attention_drops &d, uint32_t pair, int32_t heads,
                                    int32_t positions, int32_t begin) {
    head_drops of = {d.key, 0, (uint32_t)positions, d.least};
    if (d.least == 0) return of;
    /* The first row divided by `positions`, from its halves: high * 2^32 + low. */
    const uint64_t whole = 0x100000000u / (uint32_t)positions;
    const uint64_t rest = 0x100000000u % (uint32_t)positions;
    const uint64_t high = (uint32_t)d.place[SEO_PLACE_ROW_HIGH];
    const uint64_t low = (uint32_t)d.place[SEO_PLACE_ROW_LOW];
    const uint64_t sequence =
        high * whole + (high * rest + low) / (uint32_t)positions + pair / (uint32_t)heads;
    const uint64_t head = sequence * (uint32_t)heads + pair % (uint32_t)heads;
    of.key.step = (uint32_t)d.place[SEO_PLACE_STEP];
    of.first = (head * of.row + (uint32_t)begin) * of.row + (uint32_t)begin;
    return of;
}
SEO_DEVICE uint64_t number_of(const head_drops &d, int32_t query, int32_t key) {
    return d.first + (uint64_t)(uint32_t)query * d.row + (uint32_t)key;
}

/* What p[query, key] is multiplied with. */
SEO_DEVICE float drop_factor(const head_drops &d, float scale, int32_t query, int32_t key) {
    if (d.least == 0) return 1.0f;
    const uint64_t number = number_of(d, query, key);
    const seo_u32x4 block = seo_philox(d.key, number / 4);
    const int lane = (int)(number % 4);
    const uint32_t bits = lane == 0   ? block.v[0]
                          : lane == 1 ? block.v[1]
                          : lane == 2 ? block.v[2]
                                      : block.v[3];
    return bits >> 8 >= d.least ? scale : 0.0f;
}

/* Bit e: whether number e of a block is kept. */
SEO_DEVICE uint32_t kept_of_block(const head_drops &d, uint64_t block) {
    const seo_u32x4 x = seo_philox(d.key, block);
    return (uint32_t)(x.v[0] >> 8 >= d.least) | (uint32_t)(x.v[1] >> 8 >= d.least) << 1 |
           (uint32_t)(x.v[2] >> 8 >= d.least) << 2 | (uint32_t)(x.v[3] >> 8 >= d.least) << 3;
}

/* A warp looks at 32 blocks of numbers, each once: of LINES queries, 128 / LINES keys each. In lane
 * l the bits of query l % LINES, whose first number is `number`, that of the first key in bit 0.
 * Where that is not the first of its block, each query has one block more. */
template <int LINES> SEO_DEVICE uint32_t kept_of_lines(const head_drops &d, uint64_t number) {
    const int block = (int)(threadIdx.x % WARP) / LINES, blocks = WARP / LINES;
    const int lead = (int)(number % 4);
    uint32_t kept = kept_of_block(d, number / 4 + (uint32_t)block) << 4 * block;
    if (block == 0 && lead > 0) {
        kept |= kept_of_block(d, number / 4 + (uint32_t)blocks) << 4 * blocks;
    }
    __syncwarp();
#pragma unroll
    for (int offset = LINES; offset < WARP; offset *= 2) {
        kept |= __shfl_xor_sync(FULL_WARP, kept, offset);
    }
    return kept >> lead;
}

/* Row of a lane in accumulators and A fragments (and, 8 further, its other row), and its first
 * column in each tile of 8. */
SEO_DEVICE int lane_row() {
    return (int)(threadIdx.x % WARP) / 4;
}
SEO_DEVICE int lane_column() {
    return (int)(threadIdx.x % 4) * 2;
}

/* Which of a lane's probabilities are kept: bit (m * STEP / 8 + n) * 4 + i for [m][n][i], of 16 M
 * queries by STEP keys. `query` and `key` are the first of the warp. */
template <int M, int STEP>
SEO_DEVICE uint32_t kept_of_queries(const head_drops &d, int32_t query, int32_t key) {
    static_assert(M * STEP <= 64, "a bit for each");
    if (d.least == 0) return 0xffffffffu;
    const int lane = (int)(threadIdx.x % WARP);
    uint32_t all = 0;
#pragma unroll
    for (int at = 0; at < M * STEP / 8; at++) {
        const int m = at / (STEP / 8), n = at % (STEP / 8);
        const uint32_t lines =
            kept_of_lines<16>(d, number_of(d, query + m * 16 + lane % 16, key + n * 8));
        const uint32_t low = __shfl_sync(FULL_WARP, lines, lane_row()) >> lane_column() & 3;
        const uint32_t high = __shfl_sync(FULL_WARP, lines, lane_row() + 8) >> lane_column() & 3;
        all |= (low | high << 2) << 4 * at;
    }
    return all;
}
/* The same of 16 keys by STEP queries. */
template <int STEP>
SEO_DEVICE uint32_t kept_of_keys(const head_drops &d, int32_t query, int32_t key) {
    if (d.least == 0) return 0xffffffffu;
    const int lane = (int)(threadIdx.x % WARP);
    uint32_t all = 0;
#pragma unroll
    for (int n = 0; n < STEP / 8; n++) {
        const uint32_t lines = kept_of_lines<8>(d, number_of(d, query + n * 8 + lane % 8, key));
        const uint32_t even = __shfl_sync(FULL_WARP, lines, lane_column()) >> lane_row();
        const uint32_t odd = __shfl_sync(FULL_WARP, lines, lane_column() + 1) >> lane_row();
        const uint32_t low = (even & 1) | (odd & 1) << 1;
        const uint32_t high = (even >> 8 & 1) | (odd >> 8 & 1) << 1;
        all |= (low | high << 2) << 4 * n;
    }
    return all;
}

/* What is kept is scaled, the rest becomes 0. */
template <int M, int STEP>
SEO_DEVICE void drop_rest(float (&x)[M][STEP / 8][4], uint32_t kept, float scale) {
#pragma unroll
    for (int i = 0; i < M * STEP / 2; i++) {
        float &at = x[i / (STEP / 2)][i / 4 % (STEP / 8)][i % 4];
        at = kept >> i & 1 ? at * scale : 0.0f;
    }
}
