/* Attention, backward, bf16 on tensor cores: probabilities are made again, step by step, from the
 * saved log-sum of each query. Two kernels, so that every sum has one owner and one order: one owns
 * keys and walks over the queries, for the gradients of keys and values, the other owns queries and
 * walks over the keys. That is 7 products instead of the 5 that are enough for one kernel whose
 * blocks add to each other's queries. f32 is in attention_rows.cu.
 *
 * Source: Dao 2023 (FlashAttention-2). */
#include "kernels/cuda/attention.cuh"

static const float LOG2_E = 1.44269504088896341f;

/* ---- delta = sum over d of dout * out ---- */

static const int DELTA_THREADS = 256;

/* LANES lanes for each head of each row; 8 numbers of 16 bytes a lane, or single ones, and then a
 * butterfly. Bound: bytes. */
template <class S, int LANES, bool ALIGNED>
__global__ void __launch_bounds__(DELTA_THREADS)
    attention_delta_kernel(float *delta, const S *dout, const S *out, attention_shape s) {
    const int64_t item = ((int64_t)blockIdx.x * DELTA_THREADS + threadIdx.x) / LANES;
    const int lane = (int)threadIdx.x % LANES;
    const int64_t row = item / s.heads, head = item % s.heads;
    const int64_t sequence = row / s.positions, position = row % s.positions;
    const int64_t at = row * s.channels + head * s.width;
    const bool in = sequence < (int64_t)s.pairs / s.heads;
    float sum = 0.0f;
    if (ALIGNED) {
        if (in && lane * 8 < s.width) {
            const vec<S> x = *(const vec<S> *)(dout + at + lane * 8);
            const vec<S> y = *(const vec<S> *)(out + at + lane * 8);
#pragma unroll
            for (int e = 0; e < vec<S>::count; e++) sum += to_f32(x.x[e]) * to_f32(y.x[e]);
        }
    } else {
        for (int d = lane; in && d < s.width; d += LANES) {
            sum += to_f32(dout[at + d]) * to_f32(out[at + d]);
        }
    }
#pragma unroll
    for (int offset = LANES / 2; offset > 0; offset /= 2) {
        sum += __shfl_xor_sync(FULL_WARP, sum, offset);
    }
    if (in && lane == 0) delta[(sequence * s.heads + head) * s.positions + position] = sum;
}

/* What both kernels read, and what they write. */
struct bwd_tensors {
    bf16 *dqkv;
    const bf16 *dout, *qkv;
    const float *lse, *delta;
};

/* ---- keys and values ---- */

template <int D, bool ALIGNED, int KIND> struct keys_tile {
    static const int WARPS = 4, THREADS = WARPS * WARP, KEYS = 16 * WARPS;
    /* 16 where registers are scarce. */
    static const int STEP = D == 64 || (D == 32 && KIND == ATTENTION_MASKED) ? 16 : 32;
    static const int QUERIES = D <= 64 ? 64 : 32; /* in one stage of shared memory; two stages */
    static const int STAGE = 2 * QUERIES * D;     /* queries, then the gradients of their outputs */
    static const int OWN = own_rows<D>::IN_REGISTERS ? 0 : 2 * KEYS * D;
    static const int SMEM_BYTES =
        (2 * STAGE + OWN) * (int)sizeof(bf16) + 2 * 2 * QUERIES * (int)sizeof(float);
    /* That fit on a multiprocessor. */
    static const int MOST = D > 64 || !ALIGNED ? 2 : D <= 32 ? 4 : 3;
    static const int BLOCKS = KIND == ATTENTION_DROPPED ? 2 : MOST;
};

/* Queries [first, first + QUERIES), the gradients of their outputs, and their lse and delta into
 * the stage that is theirs. `statistic`: of query 0, of the kind that this thread brings, lse or
 * delta. What is beyond the last position is 0 and adds nothing. */
template <int D, bool ALIGNED, int KIND>
SEO_DEVICE void stage_queries(bf16 *stages, float *statistics, const head_rows<const bf16> &q,
                              const head_rows<const bf16> &dout, const float *statistic,
                              int32_t first, const attention_shape &s) {
    typedef keys_tile<D, ALIGNED, KIND> tile;
    const int QUERIES = tile::QUERIES, turn = first / QUERIES % 2, i = (int)threadIdx.x;
    bf16 *stage = stages + turn * tile::STAGE;
    stage_rows<D, QUERIES, tile::THREADS, ALIGNED, 1>(stage, q, first, s);
    stage_rows<D, QUERIES, tile::THREADS, ALIGNED, 1>(stage + QUERIES * D, dout, first, s);
    if (tile::THREADS > 2 * QUERIES && i >= 2 * QUERIES) return;
    const int32_t query = first + i % QUERIES;
    const bool in = query < s.positions;
    ptx_cp_async4(ptx_smem(statistics + turn * 2 * QUERIES + i), statistic + (in ? query : 0),
                  in ? 4 : 0);
}

/* Scores, keys by queries, become 0 after the exponential where the query does not see the key.
 * `key` and `query` are those of the lane's first row and column. */
template <int STEP>
SEO_DEVICE void hide_queries(float (&scores)[1][STEP / 8][4], int32_t key, int32_t query) {
#pragma unroll
    for (int i = 0; i < STEP / 8 * 4; i++) {
        int32_t own = key + i % 4 / 2 * 8, other = query + i / 4 * 8 + i % 2;
        if (own > other) scores[0][i / 4][i % 4] = -INFINITY;
    }
}

/* The same where the query is too far behind the key as well. `distance`: of the lane's first query
 * from its first key. */
template <int STEP>
SEO_DEVICE void hide_far_queries(float (&scores)[1][STEP / 8][4], int32_t distance,
                                 int32_t window) {
#pragma unroll
    for (int i = 0; i < STEP / 8 * 4; i++) {
        /* Below 0, a huge number: the key comes after the query. */
        const uint32_t own = (uint32_t)(distance + i / 4 * 8 + i % 2 - i % 4 / 2 * 8);
        if (own >= (uint32_t)window) scores[0][i / 4][i % 4] = -INFINITY;
    }
}

/* Scores become probabilities, and the gradients of probabilities those of scores (without their
 * scale): keys by queries, so that lse and delta belong to columns. */
template <int STEP>
SEO_DEVICE void differentiate_columns(float (&scores)[1][STEP / 8][4],
                                      float (&gradients)[1][STEP / 8][4], const float *lse,
                                      const float *delta, float log2_scale) {
#pragma unroll
    for (int n = 0; n < STEP / 8; n++) {
        const float2 lses = *(const float2 *)(lse + n * 8 + lane_column());
        const float2 deltas = *(const float2 *)(delta + n * 8 + lane_column());
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float &p = scores[0][n][i], &gradient = gradients[0][n][i];
            p = ptx_exp2(p * log2_scale - (i % 2 ? lses.y : lses.x) * LOG2_E);
            gradient = p * (gradient - (i % 2 ? deltas.y : deltas.x));
        }
    }
}

/* Where the queries end that see one of these keys. */
template <int KIND>
SEO_DEVICE int32_t queries_end(const attention_rows &rows, const attention_shape &s) {
    if (KIND == ATTENTION_PLAIN || !s.causal) return s.positions;
    return min(s.positions, rows.end - 1 + s.window);
}

/* Whether a step of queries has one that sees one of the warp's 16 keys. Plain loops leave out the
 * others by themselves; here registers are too scarce for that. */
template <int KIND, int STEP>
SEO_DEVICE bool keys_are_seen(const attention_rows &rows, int32_t query, int32_t warp_first,
                              const attention_shape &s) {
    if (KIND == ATTENTION_PLAIN) return true;
    if (warp_first >= rows.end) return false;
    return !s.causal || (query + STEP > warp_first && query < warp_first + 15 + s.window);
}

/* Hides, in the step of queries at `query`, what those from `query` on do not see of the warp's 16
 * keys. */
template <int KIND, int STEP>
SEO_DEVICE void hide_from_queries(float (&scores)[1][STEP / 8][4], int32_t query,
                                  int32_t warp_first, const attention_shape &s) {
    if (!s.causal) return;
    if constexpr (KIND == ATTENTION_PLAIN) {
        if (query >= warp_first + 16) return;
        hide_queries<STEP>(scores, warp_first + lane_row(), query + lane_column());
    } else {
        const int32_t distance = query - warp_first;
        if (distance >= 16 && distance + STEP <= s.window) return;
        hide_far_queries<STEP>(scores, distance + lane_column() - lane_row(), s.window);
    }
}

/* A block owns 64 keys of a head, a warp 16 of them, and walks over the queries that see them in
 * ascending order, 64 (D > 64: 32) in a stage of shared memory, while the next stage is on its way.
 * Scores are computed keys by queries: then probabilities and gradients of scores are, packed, the
 * fragments that the products with dout and with the queries want, and never leave registers.
 * Unless the KIND is plain it does so for each part that has keys in the tile.
 *
 * Sums: the tensor cores', 16 queries at a time, in ascending order.
 * Shared bytes: D 32: 17,408; 64: 33,792; 96: 49,664; 128: 66,048. Registers, at most: 128, 168,
 * 255, 255; not ALIGNED, or with dropout, 255.
 * Bound: flops, 8 D for each visible pair of query and key. */
template <int D, bool ALIGNED, int KIND>
__global__ void __launch_bounds__(keys_tile<D, ALIGNED, KIND>::THREADS,
                                  keys_tile<D, ALIGNED, KIND>::BLOCKS)
    attention_bwd_keys_kernel(bwd_tensors x, attention_shape s) {
    typedef keys_tile<D, ALIGNED, KIND> tile;
    const int STEP = tile::STEP, QUERIES = tile::QUERIES, STAGE = tile::STAGE;
    SEO_DYN_SMEM(smem);
    bf16 *stages = (bf16 *)smem, *own = stages + 2 * STAGE;
    float *statistics = (float *)(own + tile::OWN);
    const attention_place place = place_of_block(s);
    part_walk<KIND> walk = start_walk<KIND>(s, place.pair, place.rank * tile::KEYS, tile::KEYS);
    do {
        const attention_shape &part = shape_of(walk, s);
        const attention_rows &rows = walk.rows;
        const int32_t first = rows.first, ld = 3 * part.channels;
        const int own_row = (int)(threadIdx.x / WARP) * 16;
        const int32_t warp_first = first + own_row;
        const head_rows<const bf16> q = rows_of_part(x.qkv, ld, s, rows, 0),
                                    k = rows_of_part(x.qkv, ld, s, rows, 1),
                                    g = rows_of_part(x.dout, part.channels, s, rows, 0);
        const float *statistic = (threadIdx.x < QUERIES ? x.lse : x.delta) +
                                 (int64_t)rows.pair * s.positions + rows.begin;
        const int32_t begin = part.causal ? first / QUERIES * QUERIES : 0;
        /* The first step with queries that see a key of the warp. */
        const int32_t sees = KIND == ATTENTION_PLAIN && part.causal ? warp_first / STEP * STEP : 0;
        const head_drops drops = drops_of_part<KIND>(s, rows);
        stage_queries<D, ALIGNED, KIND>(stages, statistics, q, g, statistic, begin, part);
        uint32_t keys[1][own_rows<D>::KEPT][4], values[1][own_rows<D>::KEPT][4];
        if constexpr (own_rows<D>::IN_REGISTERS) {
            load_fragments<1, D, ALIGNED>(keys, k, warp_first, part);
            load_fragments<1, D, ALIGNED>(values, next_part(k, part), warp_first, part);
        } else {
            stage_rows<D, tile::KEYS, tile::THREADS, ALIGNED, 2>(own, k, first, part);
        }
        ptx_cp_async_commit();

        float dk[1][D / 8][4] = {}, dv[1][D / 8][4] = {};
        for (int32_t start = begin; start < queries_end<KIND>(rows, part); start += QUERIES) {
            const int turn = start / QUERIES % 2;
            const uint32_t queries = ptx_smem(stages + turn * STAGE);
            const float *lses = statistics + turn * 2 * QUERIES;
            ptx_cp_async_wait<0>();
            /* This stage has come, and everyone has left the one that is filled next. */
            __syncthreads();
            if (start + QUERIES < queries_end<KIND>(rows, part)) {
                stage_queries<D, ALIGNED, KIND>(stages, statistics, q, g, statistic,
                                                start + QUERIES, part);
            }
            ptx_cp_async_commit();
#pragma unroll 1
            for (int32_t query = max(start, sees); query < min(start + QUERIES, part.positions);
                 query += STEP) {
                if (!keys_are_seen<KIND, STEP>(rows, query, warp_first, part)) continue;
                const int row = QUERIES == STEP ? 0 : query % QUERIES;
                float p[1][STEP / 8][4], ds[1][STEP / 8][4];
                multiply_rows<1, STEP, D>(p, keys, ptx_smem(own), own_row, queries, row);
                multiply_rows<1, STEP, D>(ds, values, ptx_smem(own + tile::OWN / 2), own_row,
                                          queries + QUERIES * D * 2, row);
                hide_from_queries<KIND, STEP>(p, query, warp_first, part);
                uint32_t kept = 0;
                if constexpr (KIND == ATTENTION_DROPPED) {
                    kept = kept_of_keys<STEP>(drops, query, warp_first);
                    drop_rest<1, STEP>(ds, kept, part.drops.scale);
                }
                differentiate_columns<STEP>(p, ds, lses + row, lses + QUERIES + row,
                                            part.log2_scale);
                if (KIND == ATTENTION_DROPPED) drop_rest<1, STEP>(p, kept, 1.0f);
                add_weighted_rows<1, STEP, D>(dv, p, queries + QUERIES * D * 2, row);
                add_weighted_rows<1, STEP, D>(dk, ds, queries, row);
                if (QUERIES == STEP) break; /* known to the compiler: there is no second step */
            }
        }
        const head_rows<bf16> to = rows_of_part(x.dqkv, ld, s, rows, 1);
        const int32_t stop = stored_end<KIND>(rows, part);
        const float kept = KIND == ATTENTION_DROPPED ? part.drops.scale : 1.0f;
        const float scales[1][2] = {{part.scale, part.scale}}, factors[1][2] = {{kept, kept}};
        store_rows<1, D, ALIGNED>(to, warp_first, stop, dk, scales, part);
        store_rows<1, D, ALIGNED>(next_part(to, part), warp_first, stop, dv, factors, part);
    } while (walk_on(walk, s));
}

/* ---- queries ---- */

template <int D, bool ALIGNED, int KIND> struct queries_tile {
    static const int WARPS = 4, THREADS = WARPS * WARP, QUERIES = 16 * WARPS, STEP = 32;
    static const int KEYS = D <= 64 ? 64 : 32; /* in one stage of shared memory; two stages */
    static const int STAGE = 2 * KEYS * D;     /* keys, then values */
    static const int OWN = own_rows<D>::IN_REGISTERS ? 0 : 2 * QUERIES * D;
    static const int SMEM_BYTES = (2 * STAGE + OWN) * (int)sizeof(bf16);
    static const int MOST = D > 64 || !ALIGNED ? 2 : D <= 32 ? 4 : 3;
    static const int BLOCKS = KIND == ATTENTION_DROPPED ? 2 : MOST; /* on a multiprocessor */
};

/* As differentiate_columns, queries by keys: lse (times log2 e) and delta belong to rows. */
template <int STEP>
SEO_DEVICE void differentiate_rows(float (&scores)[1][STEP / 8][4],
                                   float (&gradients)[1][STEP / 8][4], const float (&log2_lse)[2],
                                   const float (&delta)[2], float log2_scale) {
#pragma unroll
    for (int i = 0; i < STEP / 8 * 4; i++) {
        float p = ptx_exp2(scores[0][i / 4][i % 4] * log2_scale - log2_lse[i % 4 / 2]);
        float &gradient = gradients[0][i / 4][i % 4];
        gradient = p * (gradient - delta[i % 4 / 2]);
    }
}

/* lse (times log2 e) and delta of the lane's two rows, 0 beyond the last one; `at`: of row 0. */
SEO_DEVICE void load_statistics(float (&log2_lse)[2], float (&delta)[2], const bwd_tensors &x,
                                int64_t at, int32_t row, int32_t positions) {
#pragma unroll
    for (int i = 0; i < 2; i++, row += 8) {
        log2_lse[i] = row < positions ? x.lse[at + row] * LOG2_E : 0.0f;
        delta[i] = row < positions ? x.delta[at + row] : 0.0f;
    }
}

/* A block owns 64 queries of a head, a warp 16 of them, and walks over the keys that
 * they see in ascending order, 64 (D > 64: 32) in a stage of shared memory, while the next stage is
 * on its way.
 * Unless the KIND is plain it does so for each part that has queries in the tile.
 *
 * Sums: the tensor cores', 16 keys at a time, in ascending order.
 * Shared bytes: D 32: 16,384; 64: 32,768; 96: 49,152; 128: 65,536. Registers, at most: 128, 168,
 * 255, 255; not ALIGNED, or with dropout, 255.
 * Bound: flops, 6 D for each visible pair of query and key. */
template <int D, bool ALIGNED, int KIND>
__global__ void __launch_bounds__(queries_tile<D, ALIGNED, KIND>::THREADS,
                                  queries_tile<D, ALIGNED, KIND>::BLOCKS)
    attention_bwd_queries_kernel(bwd_tensors x, attention_shape s) {
    typedef queries_tile<D, ALIGNED, KIND> tile;
    const int STEP = tile::STEP, KEYS = tile::KEYS, STAGE = tile::STAGE;
    SEO_DYN_SMEM(smem);
    bf16 *stages = (bf16 *)smem, *own = stages + 2 * STAGE;
    const bool plain = KIND == ATTENTION_PLAIN;
    const attention_place place = place_of_block(s);
    const int32_t tile_first = (s.causal ? s.tiles - 1 - place.rank : place.rank) * tile::QUERIES;
    part_walk<KIND> walk = start_walk<KIND>(s, place.pair, tile_first, tile::QUERIES);
    do {
        const attention_shape &part = shape_of(walk, s);
        const attention_rows rows = walk.rows;
        const int32_t first = rows.first, end = part.causal ? rows.end : part.positions;
        const int own_row = (int)(threadIdx.x / WARP) * 16;
        const int32_t warp_first = first + own_row;
        int32_t seen = part.causal ? min(end, warp_first + 16) : end;
        if (!plain && warp_first >= rows.end) seen = 0;
        const int32_t begin = first_key<KIND>(first, KEYS, part);
        const int32_t sees = first_key<KIND>(warp_first, STEP, part);
        const int32_t ld = 3 * part.channels;
        const head_rows<const bf16> q = rows_of_part(x.qkv, ld, s, rows, 0),
                                    k = rows_of_part(x.qkv, ld, s, rows, 1),
                                    g = rows_of_part(x.dout, part.channels, s, rows, 0);
        const head_drops drops = drops_of_part<KIND>(s, rows);
        stage_rows<D, KEYS, tile::THREADS, ALIGNED, 2>(stages + begin / KEYS % 2 * STAGE, k, begin,
                                                       part);
        uint32_t queries[1][own_rows<D>::KEPT][4], gradients[1][own_rows<D>::KEPT][4];
        if constexpr (own_rows<D>::IN_REGISTERS) {
            load_fragments<1, D, ALIGNED>(queries, q, warp_first, part);
            load_fragments<1, D, ALIGNED>(gradients, g, warp_first, part);
        } else {
            stage_rows<D, tile::QUERIES, tile::THREADS, ALIGNED, 1>(own, q, first, part);
            stage_rows<D, tile::QUERIES, tile::THREADS, ALIGNED, 1>(own + tile::OWN / 2, g, first,
                                                                    part);
        }
        ptx_cp_async_commit();

        float log2_lse[2], deltas[2];
        load_statistics(log2_lse, deltas, x, (int64_t)rows.pair * s.positions + rows.begin,
                        warp_first + lane_row(), part.positions);
        float dq[1][D / 8][4] = {};
        for (int32_t start = begin; start < end; start += KEYS) {
            const int turn = start / KEYS % 2;
            const uint32_t keys = ptx_smem(stages + turn * STAGE), values = keys + KEYS * D * 2;
            ptx_cp_async_wait<0>();
            /* This stage has come, and everyone has left the one that is filled next. */
            __syncthreads();
            if (start + KEYS < end) {
                stage_rows<D, KEYS, tile::THREADS, ALIGNED, 2>(stages + (1 - turn) * STAGE, k,
                                                               start + KEYS, part);
            }
            ptx_cp_async_commit();
#pragma unroll 1
            for (int32_t key = KIND == ATTENTION_PLAIN ? start : max(start, sees);
                 key < min(start + KEYS, seen); key += STEP) {
                const int row = KEYS == STEP ? 0 : key % KEYS;
                float p[1][STEP / 8][4], ds[1][STEP / 8][4];
                multiply_rows<1, STEP, D>(p, queries, ptx_smem(own), own_row, keys, row);
                multiply_rows<1, STEP, D>(ds, gradients, ptx_smem(own + tile::OWN / 2), own_row,
                                          values, row);
                hide_unseen<KIND, 1, STEP>(p, warp_first, key, part);
                if constexpr (KIND == ATTENTION_DROPPED) {
                    const uint32_t kept = kept_of_queries<1, STEP>(drops, warp_first, key);
                    drop_rest<1, STEP>(ds, kept, part.drops.scale);
                }
                differentiate_rows<STEP>(p, ds, log2_lse, deltas, part.log2_scale);
                add_weighted_rows<1, STEP, D>(dq, ds, keys, row);
                if (KEYS == STEP) break; /* known to the compiler: there is no second step */
            }
        }
        const float scales[1][2] = {{part.scale, part.scale}};
        store_rows<1, D, ALIGNED>(rows_of_part(x.dqkv, ld, s, rows, 0), warp_first,
                                  stored_end<KIND>(rows, part), dq, scales, part);
    } while (walk_on(walk, s));
}

/* ---- host ---- */

template <class S, int LANES, bool ALIGNED>
static seo_err compute_delta(seo_device *dev, const seo_attention_bwd_args *a) {
    attention_shape s;
    seo_err err = seo_cuda_attention_plan(&a->out, a->head_count, a->scale, &a->mask, &a->dropout,
                                          DELTA_THREADS / LANES, &s);
    if (err != SEO_OK) return err;
    const int64_t items = (int64_t)s.pairs * s.positions, each = DELTA_THREADS / LANES;
    const seo_grid grid = {dim3((uint32_t)((items + each - 1) / each)), dim3(DELTA_THREADS), 0,
                           seo_cuda_of(dev)->stream};
    return seo_cuda_check(seo_launch(grid, attention_delta_kernel<S, LANES, ALIGNED>,
                                     (float *)a->delta.data, (const S *)a->dout.data,
                                     (const S *)a->out.data, s),
                          "attention_bwd: delta");
}

struct bwd_part {
    void (*kernel)(bwd_tensors, attention_shape);
    int32_t rows, threads, smem_bytes; /* of a block */
};
struct bwd_variant {
    int32_t width; /* of the heads it is for, at most */
    bool aligned;
    int kind;
    seo_err (*delta)(seo_device *, const seo_attention_bwd_args *);
    bwd_part keys, queries;
};
#define VARIANT(D, aligned, kind, lanes)                                                           \
    {                                                                                              \
        D, aligned, kind, compute_delta<bf16, lanes, aligned>,                                     \
            {attention_bwd_keys_kernel<D, aligned, kind>, keys_tile<D, aligned, kind>::KEYS,       \
             keys_tile<D, aligned, kind>::THREADS, keys_tile<D, aligned, kind>::SMEM_BYTES},       \
            {attention_bwd_queries_kernel<D, aligned, kind>,                                       \
             queries_tile<D, aligned, kind>::QUERIES, queries_tile<D, aligned, kind>::THREADS,     \
             queries_tile<D, aligned, kind>::SMEM_BYTES},                                          \
    }
#define ALIGNED_VARIANTS(kind)                                                                     \
    VARIANT(32, true, kind, 4), VARIANT(64, true, kind, 8), VARIANT(96, true, kind, 16),           \
        VARIANT(128, true, kind, 16)
#define OTHER_VARIANTS(kind)                                                                       \
    VARIANT(32, false, kind, 32), VARIANT(64, false, kind, 32), VARIANT(128, false, kind, 32)
/* Of what fits, the first is the narrowest. */
static const bwd_variant VARIANTS[] = {
    ALIGNED_VARIANTS(ATTENTION_PLAIN), ALIGNED_VARIANTS(ATTENTION_MASKED),
    ALIGNED_VARIANTS(ATTENTION_DROPPED), OTHER_VARIANTS(ATTENTION_PLAIN),
    OTHER_VARIANTS(ATTENTION_DROPPED)};
#undef VARIANT
#undef ALIGNED_VARIANTS
#undef OTHER_VARIANTS

static seo_err launch_part(seo_device *dev, const seo_attention_bwd_args *a, const bwd_part *part,
                           const char *what) {
    attention_shape s;
    seo_err err = seo_cuda_attention_plan(&a->out, a->head_count, a->scale, &a->mask, &a->dropout,
                                          part->rows, &s);
    if (err != SEO_OK) return err;
    const bwd_tensors x = {(bf16 *)a->dqkv.data, (const bf16 *)a->dout.data,
                           (const bf16 *)a->qkv.data, (const float *)a->lse.data,
                           (const float *)a->delta.data};
    const seo_grid grid = {dim3(s.pairs * (uint32_t)s.tiles), dim3((uint32_t)part->threads),
                           (size_t)part->smem_bytes, seo_cuda_of(dev)->stream};
    return seo_cuda_check(seo_launch(grid, part->kernel, x, s), what);
}

seo_err seo_cuda_attention_bwd(seo_device *dev, const seo_attention_bwd_args *a) {
    const int64_t width = a->out.dims[2] / a->head_count;
    const bool f32 = a->out.dtype == SEO_DTYPE_F32;
    bool aligned = true;
    const seo_tensor *const moved[] = {&a->dqkv, &a->dout, &a->out, &a->qkv};
    for (const seo_tensor *x : moved) aligned = aligned && seo_cuda_attention_aligned(x, width);
    const int kind = seo_cuda_attention_kind(&a->mask, &a->dropout, aligned);
    const bwd_variant *v = VARIANTS, *last = v + sizeof(VARIANTS) / sizeof(*VARIANTS) - 1;
    while (v < last && (v->width < width || v->aligned != aligned || v->kind != kind)) v++;
    seo_err err = f32 ? compute_delta<float, WARP, false>(dev, a) : v->delta(dev, a);
    if (err == SEO_OK) err = seo_cuda_attention_check(dev, &a->mask);
    if (err != SEO_OK) return err;
    if (f32) return seo_cuda_attention_bwd_f32(dev, a);
    err = launch_part(dev, a, &v->keys, "attention_bwd: keys and values");
    return err != SEO_OK ? err : launch_part(dev, a, &v->queries, "attention_bwd: queries");
}
