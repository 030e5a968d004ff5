/* What the attention kernels share: the problem as a kernel sees it, which block works on which
 * tile of which head, tiles of rows in shared memory, and the two products of a step on tensor
 * cores.
 *
 * A head's rows are read where they lie, in the packed projections (B, T, 3C), by strides. A head
 * of any width up to D is worked on as D columns, the missing ones 0. ALIGNED kernels want widths,
 * and so all rows, of a multiple of 8 numbers (16 bytes), and addresses of 16 bytes; the others
 * move single numbers. Sources: Dao 2023 (FlashAttention-2). */
#pragma once

#include "kernels/cuda/attention_mask.cuh"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/tile.cuh"

struct attention_shape {
    int32_t channels, heads, width, positions;
    int32_t tiles;    /* of a head: one block each */
    uint32_t pairs;   /* of sequence and head */
    uint32_t group;   /* pairs whose blocks follow one another, so that they share the L2 cache */
    float scale;      /* of scores */
    float log2_scale; /* scale * log2(e): exp(scale x) = exp2(log2_scale x) */
    bool causal;
    int32_t window;       /* keys that a causal query sees at most; `positions` where all */
    const int32_t *spans; /* null: none */
    attention_drops drops;
};

/* Rows of a tile that belong to one part, [first, end), counted from the part's begin. */
struct attention_rows {
    uint32_t pair;
    int32_t begin, first, end;
    int32_t stop; /* of the tile, counted from the sequence's begin */
};

/* Rows of one head of one sequence, `ld` numbers apart. */
template <class T> struct head_rows {
    T *data;
    int32_t ld;
};

/* `part` 0, 1, 2: queries, keys, values of packed projections; 0 for anything (B, T, C). */
template <class T>
SEO_DEVICE head_rows<T> rows_of_head(T *base, int32_t ld, const attention_shape &s, uint32_t pair,
                                     int part) {
    int64_t sequence = pair / (uint32_t)s.heads, head = pair % (uint32_t)s.heads;
    return {base + sequence * s.positions * ld + (int64_t)part * s.channels + head * s.width, ld};
}

/* The same from the begin of these rows' part on. */
template <class T>
SEO_DEVICE head_rows<T> rows_of_part(T *base, int32_t ld, const attention_shape &whole,
                                     const attention_rows &rows, int part) {
    const head_rows<T> all = rows_of_head(base, ld, whole, rows.pair, part);
    return {all.data + (int64_t)rows.begin * ld, ld};
}
/* Where the rows end that are stored. */
template <int KIND>
SEO_DEVICE int32_t stored_end(const attention_rows &rows, const attention_shape &s) {
    return KIND == ATTENTION_PLAIN ? s.positions : rows.end;
}

template <class T>
SEO_DEVICE head_rows<T> next_part(const head_rows<T> &rows, const attention_shape &s) {
    return {rows.data + s.channels, rows.ld};
}

/* A block's walk over the parts that have rows in its tile; a plain sequence is one part. `shape`
 * has the part's positions. `rows` lies in shared memory where parts may be many: registers are for
 * what the innermost loops need. */
template <int KIND> struct part_walk {
    attention_shape shape;
    attention_rows &rows;
};
template <> struct part_walk<ATTENTION_PLAIN> { attention_rows rows; };
template <int KIND>
SEO_DEVICE const attention_shape &shape_of(const part_walk<KIND> &walk, const attention_shape &s) {
    if constexpr (KIND == ATTENTION_PLAIN)
        return s;
    else
        return walk.shape;
}

/* To the part behind the last one; false when the tile has no more rows. All threads call it. */
template <int KIND> SEO_DEVICE bool walk_on(part_walk<KIND> &walk, const attention_shape &s) {
    if constexpr (KIND == ATTENTION_PLAIN)
        return false;
    else {
        attention_rows &rows = walk.rows;
        const int32_t t = rows.begin + rows.end;
        if (t >= rows.stop) return false;
        const int64_t sequence = rows.pair / (uint32_t)s.heads;
        const attention_part part = part_of(s.spans, sequence * s.positions + t, t, s.positions);
        walk.shape.positions = part.end - part.begin;
        __syncthreads(); /* everyone has read them, and left what the next part fills */
        if (threadIdx.x == 0) {
            rows.begin = part.begin;
            rows.first = t - part.begin;
            rows.end = min(part.end, rows.stop) - part.begin;
        }
        __syncthreads();
        return true;
    }
}
/* At the first part of the rows [first, first + count) of a sequence. */
template <int KIND>
SEO_DEVICE part_walk<KIND> start_walk(const attention_shape &s, uint32_t pair, int32_t first,
                                      int32_t count) {
    const int32_t stop = min(first + count, s.positions);
    if constexpr (KIND == ATTENTION_PLAIN)
        return {{pair, 0, first, stop, stop}};
    else {
        SEO_SHARED(attention_rows, shared, 1);
        if (threadIdx.x == 0) shared[0] = {pair, 0, 0, first, stop};
        __syncthreads();
        part_walk<KIND> walk = {s, shared[0]};
        walk_on(walk, s);
        return walk;
    }
}

/* Dropout of the part that rows belong to; nothing where the KIND has none. `whole`: the sequence's
 * shape. */
template <int KIND>
SEO_DEVICE head_drops drops_of_part(const attention_shape &whole, const attention_rows &rows) {
    if (KIND != ATTENTION_DROPPED) return {};
    return drops_of_head(whole.drops, rows.pair, whole.heads, whole.positions, rows.begin);
}

/* Block x works on tile `rank`, counted from the tile with the most work, of a head. Blocks start
 * in the order of x: within a group of heads the long ones first, so that no long one is left over
 * at the end. */
struct attention_place {
    uint32_t pair;
    int32_t rank;
};
SEO_DEVICE attention_place place_of_block(const attention_shape &s) {
    uint32_t tiles = (uint32_t)s.tiles, first = blockIdx.x / (s.group * tiles) * s.group;
    uint32_t left = s.pairs - first, count = left < s.group ? left : s.group;
    uint32_t rest = blockIdx.x - first * tiles;
    return {first + rest % count, (int32_t)(rest / count)};
}

/* Place of 16-byte chunk `chunk` of row `row` in a tile of rows of D numbers, in chunks: the chunks
 * of a row change places so that the 8 rows of an ldmatrix lie in 8 different groups of banks. */
template <int D> SEO_DEVICE int swizzled(int row, int chunk) {
    static_assert(D % 32 == 0 && D <= 128, "rows of 64, 128, 192 or 256 bytes");
    return row * (D / 8) + (chunk ^ (D % 64 == 0 ? row & 7 : row >> 1 & 3));
}
template <int D> SEO_DEVICE uint32_t chunk_address(uint32_t tile, int row, int chunk) {
    return tile + (uint32_t)swizzled<D>(row, chunk) * 16;
}
/* Address of chunk c + 2k of a row from that of its chunk c, 0 or 1; k a constant, `tile` at a
 * multiple of 256 bytes. */
template <int D> SEO_DEVICE uint32_t chunk_pair(uint32_t address, int k) {
    if (D % 64 == 0) return address ^ (uint32_t)k << 5;
    return (address ^ (uint32_t)(k & 1) << 5) + (uint32_t)(k >> 1) * 64;
}

/* All THREADS threads of the block: rows [first, first + ROWS) into `tile`, 0 beyond the last
 * position and the head's width. PARTS 2: and the same rows of the next part of the packed
 * projections into the tile behind it. They are there after ptx_cp_async_wait and a barrier. */
template <int D, int ROWS, int THREADS, bool ALIGNED, int PARTS>
SEO_DEVICE void stage_rows(bf16 *tile, const head_rows<const bf16> &from, int32_t first,
                           const attention_shape &s) {
    if constexpr (ALIGNED) {
        const int CHUNKS = D / 8;
        static_assert(ROWS * CHUNKS % THREADS == 0, "the same number of chunks for each thread");
        const int PASS = THREADS / CHUNKS; /* rows of a pass, where that is whole */
        const bool whole = THREADS % CHUNKS == 0 && PASS % 8 == 0;
        int row = (int)threadIdx.x / CHUNKS, chunk = (int)threadIdx.x % CHUNKS;
        uint32_t to = chunk_address<D>(ptx_smem(tile), row, chunk);
#pragma unroll
        for (int i = 0; i < ROWS * CHUNKS / THREADS; i++) {
            if (!whole) {
                row = ((int)threadIdx.x + i * THREADS) / CHUNKS;
                chunk = ((int)threadIdx.x + i * THREADS) % CHUNKS;
                to = chunk_address<D>(ptx_smem(tile), row, chunk);
            }
            int32_t at = first + row + (whole ? i * PASS : 0);
            bool in = at < s.positions && chunk * 8 < s.width;
            const bf16 *x = from.data + (in ? (int64_t)at * from.ld + chunk * 8 : 0);
            const uint32_t here = to + (whole ? i * PASS * D * 2 : 0);
            ptx_cp_async16(here, x, in ? 16 : 0);
            if (PARTS == 2) ptx_cp_async16(here + ROWS * D * 2, x + s.channels, in ? 16 : 0);
        }
    } else {
#pragma unroll 1
        for (int at = (int)threadIdx.x; at < ROWS * D; at += THREADS) {
            int row = at / D, d = at % D;
            bool in = first + row < s.positions && d < s.width;
            const bf16 *x = from.data + (in ? (int64_t)(first + row) * from.ld + d : 0);
            bf16 *to = tile + swizzled<D>(row, d / 8) * 8 + d % 8;
            store_f32(to, in ? to_f32(x[0]) : 0.0f);
            if (PARTS == 2) store_f32(to + ROWS * D, in ? to_f32(x[s.channels]) : 0.0f);
        }
    }
}

/* Numbers d and d + 1 of a row, packed. */
template <bool ALIGNED> SEO_DEVICE uint32_t load_pair(const bf16 *row, int d, int width) {
    if (ALIGNED) return d < width ? *(const uint32_t *)(row + d) : 0;
    float low = d < width ? to_f32(row[d]) : 0.0f;
    return pack_bf16(low, d + 1 < width ? to_f32(row[d + 1]) : 0.0f);
}
template <bool ALIGNED>
SEO_DEVICE void store_pair(bf16 *row, int d, int width, float low, float high) {
    if (ALIGNED) {
        if (d < width) *(uint32_t *)(row + d) = pack_bf16(low, high);
        return;
    }
    if (d < width) store_f32(row + d, low);
    if (d + 1 < width) store_f32(row + d + 1, high);
}

/* The rows that a warp owns, M times 16 of them, are the A operand of its products. Up to 64
 * columns they stay in registers; wider ones are kept in shared memory and read again for each
 * step, since the accumulators leave no room. */
template <int D> struct own_rows {
    static const bool IN_REGISTERS = D <= 64;
    static const int KEPT = IN_REGISTERS ? D / 16 : 1;
};

/* A fragments of rows from `first` on, straight from global memory. */
template <int M, int D, bool ALIGNED>
SEO_DEVICE void load_fragments(uint32_t (&a)[M][D / 16][4], const head_rows<const bf16> &from,
                               int32_t first, const attention_shape &s) {
#pragma unroll
    for (int i = 0; i < M * 2; i++) {
        int32_t row = first + lane_row() + i * 8;
        bool in = row < s.positions;
        const bf16 *at = from.data + (in ? (int64_t)row * from.ld : 0);
        int width = in ? s.width : 0;
#pragma unroll
        for (int k = 0; k < D / 16; k++) {
            int d = k * 16 + lane_column();
            a[i / 2][k][i % 2] = load_pair<ALIGNED>(at, d, width);
            a[i / 2][k][i % 2 + 2] = load_pair<ALIGNED>(at, d + 8, width);
        }
    }
}

/* products (16 M x STEP) = own rows * (rows [row, row + STEP) of `tile`)^T. The own rows are the
 * fragments `own` or, if those are not kept, rows from `own_row` on of `own_tile`. */
template <int M, int STEP, int D>
SEO_DEVICE void multiply_rows(float (&products)[M][STEP / 8][4],
                              uint32_t (&own)[M][own_rows<D>::KEPT][4], uint32_t own_tile,
                              int own_row, uint32_t tile, int row) {
    const int lane = (int)(threadIdx.x % WARP);
    const bool kept = own_rows<D>::IN_REGISTERS;
#pragma unroll
    for (int i = 0; i < M * (STEP / 8) * 4; i++)
        products[i / 4 / (STEP / 8)][i / 4 % (STEP / 8)][i % 4] = 0.0f;
    const uint32_t own_at = chunk_address<D>(own_tile, own_row + (lane & 15), lane >> 4);
    const uint32_t at = chunk_address<D>(tile, row + (lane & 7) + (lane >> 4) * 8, lane >> 3 & 1);
#pragma unroll
    for (int k = 0; k < D / 16; k++) {
#pragma unroll
        for (int m = 0; m < M && !kept; m++) {
            ptx_ldmatrix_x4(own[m][0], chunk_pair<D>(own_at, k) + m * 32 * D);
        }
#pragma unroll
        for (int n = 0; n < STEP / 16; n++) {
            uint32_t b[4];
            ptx_ldmatrix_x4(b, chunk_pair<D>(at, k) + n * 32 * D);
#pragma unroll
            for (int m = 0; m < M; m++) {
                ptx_mma_m16n8k16(products[m][2 * n], own[m][kept ? k : 0], b[0], b[1]);
                ptx_mma_m16n8k16(products[m][2 * n + 1], own[m][kept ? k : 0], b[2], b[3]);
            }
        }
    }
}

/* sums (16 M x D) += weights (16 M x STEP), rounded to bf16, * rows [row, row + STEP) of `tile`.
 * The accumulators of multiply_rows are, packed, the A fragments of this product. */
template <int M, int STEP, int D>
SEO_DEVICE void add_weighted_rows(float (&sums)[M][D / 8][4],
                                  const float (&weights)[M][STEP / 8][4], uint32_t tile, int row) {
    const int lane = (int)(threadIdx.x % WARP);
    const uint32_t at = chunk_address<D>(tile, row + (lane & 15), lane >> 4);
#pragma unroll
    for (int k = 0; k < STEP / 16; k++) {
        uint32_t a[M][4];
#pragma unroll
        for (int i = 0; i < M * 4; i++) {
            const float(&w)[4] = weights[i / 4][2 * k + i % 4 / 2];
            a[i / 4][i % 4] = pack_bf16(w[i % 2 * 2], w[i % 2 * 2 + 1]);
        }
#pragma unroll
        for (int n = 0; n < D / 16; n++) {
            uint32_t b[4];
            ptx_ldmatrix_x4_trans(b, chunk_pair<D>(at, n) + k * 32 * D);
#pragma unroll
            for (int m = 0; m < M; m++) {
                ptx_mma_m16n8k16(sums[m][2 * n], a[m], b[0], b[1]);
                ptx_mma_m16n8k16(sums[m][2 * n + 1], a[m], b[2], b[3]);
            }
        }
    }
}

/* Scores of keys that a query does not see become -infinity. `query` and `key` are those of the
 * lane's first row and column. */
template <int M, int STEP>
SEO_DEVICE void hide_keys(float (&scores)[M][STEP / 8][4], int32_t query, int32_t key,
                          const attention_shape &s) {
#pragma unroll
    for (int i = 0; i < M * 2; i++) {
        int32_t last = s.positions - 1, own = query + i * 8;
        if (s.causal && own < last) last = own;
#pragma unroll
        for (int n = 0; n < STEP / 4; n++) {
            float &score = scores[i / 2][n / 2][i % 2 * 2 + n % 2];
            if (key + n / 2 * 8 + n % 2 > last) score = -INFINITY;
        }
    }
}

/* The same with a window. Causal rows beyond the last position see what they like: nobody reads
 * them. */
template <int M, int STEP>
SEO_DEVICE void hide_outside(float (&scores)[M][STEP / 8][4], int32_t query, int32_t key,
                             const attention_shape &s) {
#pragma unroll
    for (int i = 0; i < M * STEP / 2; i++) {
        const int row = i / (STEP / 2) * 16 + i % 4 / 2 * 8,
                  column = i / 4 % (STEP / 8) * 8 + i % 2;
        /* Below 0, a huge number: the key comes after the query. */
        const uint32_t distance = (uint32_t)(query - key + row - column);
        const bool hidden = s.causal ? distance >= (uint32_t)s.window : key + column >= s.positions;
        if (hidden) scores[i / (STEP / 2)][i / 4 % (STEP / 8)][i % 4] = -INFINITY;
    }
}
/* One or the other, where the step of keys at `key` has some that not all of the warp's queries,
 * from `query` on, see. */
template <int KIND, int M, int STEP>
SEO_DEVICE void hide_unseen(float (&scores)[M][STEP / 8][4], int32_t query, int32_t key,
                            const attention_shape &s) {
    bool some = key + STEP > s.positions || (s.causal && key + STEP - 1 > query);
    if constexpr (KIND == ATTENTION_PLAIN) {
        if (some) hide_keys<M, STEP>(scores, query + lane_row(), key + lane_column(), s);
    } else {
        some |= s.causal && query + 16 * M - 1 - key >= s.window;
        if (some) hide_outside<M, STEP>(scores, query + lane_row(), key + lane_column(), s);
    }
}

/* The keys that queries from `query` on see begin here, down to a multiple of `step`. */
template <int KIND>
SEO_DEVICE int32_t first_key(int32_t query, int32_t step, const attention_shape &s) {
    if (KIND == ATTENTION_PLAIN || !s.causal) return 0;
    return max(0, query - s.window + 1) / step * step;
}

/* Rows from `first` on, up to `end`, of `to` = sums * the row's factor, rounded. */
template <int M, int D, bool ALIGNED>
SEO_DEVICE void store_rows(const head_rows<bf16> &to, int32_t first, int32_t end,
                           const float (&sums)[M][D / 8][4], const float (&factors)[M][2],
                           const attention_shape &s) {
#pragma unroll
    for (int i = 0; i < M * 2; i++) {
        int32_t row = first + lane_row() + i * 8;
        if (row >= end) continue;
        float factor = factors[i / 2][i % 2];
#pragma unroll
        for (int n = 0; n < D / 8; n++) {
            const float(&x)[4] = sums[i / 2][n];
            store_pair<ALIGNED>(to.data + (int64_t)row * to.ld, n * 8 + lane_column(), s.width,
                                x[i % 2 * 2] * factor, x[i % 2 * 2 + 1] * factor);
        }
    }
}

/* ---- host ---- */

/* The problem for one block for every `tile` rows; refuses what the grid cannot hold. */
seo_err seo_cuda_attention_plan(const seo_tensor *out, int64_t head_count, float scale,
                                const seo_attention_mask *mask,
                                const seo_attention_dropout *dropout, int32_t tile,
                                attention_shape *shape);
/* Queues what reports, at the next sync, spans that do not tile. */
seo_err seo_cuda_attention_check(seo_device *dev, const seo_attention_mask *mask);
/* The variant for this problem. */
int seo_cuda_attention_kind(const seo_attention_mask *mask, const seo_attention_dropout *dropout,
                            bool aligned);
/* True when rows of this width at this address can be moved in pieces of 16 bytes. */
bool seo_cuda_attention_aligned(const seo_tensor *x, int64_t width);

/* f32, in plain loops: attention_rows.cu. */
seo_err seo_cuda_attention_fwd_f32(seo_device *dev, const seo_attention_fwd_args *a);
seo_err seo_cuda_attention_bwd_f32(seo_device *dev, const seo_attention_bwd_args *a);
