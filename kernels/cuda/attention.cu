/* Attention, forward, bf16 on tensor cores: a block of queries passes over the keys that it sees
 * with a running maximum and sum for each query, so no more than one step of scores exists at a
 * time. Heads of up to 128 numbers. f32 is in attention_rows.cu.
 *
 * Sources: Milakov & Gimelshein 2018 (online softmax), Dao 2023 (FlashAttention-2). */
#include <float.h>

#include "kernels/cuda/attention.cuh"

static const float LN_2 = 0.693147180559945309f, LOG2_E = 1.44269504088896341f;

/* Exponentials are taken relative to a maximum that may lag behind the true one by this power of 2:
 * sums stay far from overflow, and the accumulators are rescaled only a few times in a row's life.
 */
static const float LAG_LOG2 = 8.0f;

template <int D, bool ALIGNED, int KIND> struct fwd_tile {
    static const int M = 2, WARPS = 4, THREADS = WARPS * WARP; /* 32 queries a warp */
    static const int QUERIES = 16 * M * WARPS;
    /* 16 where registers are scarce. */
    static const bool SCARCE = KIND == ATTENTION_MASKED || (KIND == ATTENTION_DROPPED && D == 128);
    static const int STEP = SCARCE ? 16 : 32;
    static const int KEYS = D <= 64 ? 64 : 32; /* in one stage of shared memory; two stages */
    static const int OWN = own_rows<D>::IN_REGISTERS ? 0 : QUERIES * D;
    static const int SMEM_BYTES = (2 * 2 * KEYS * D + OWN) * (int)sizeof(bf16);
    /* That fit on a multiprocessor. */
    static const int MOST = D > 64 || !ALIGNED ? 2 : D <= 32 ? 4 : 3;
    static const int BLOCKS = KIND == ATTENTION_DROPPED ? 2 : MOST;
};

/* Running maximum (times log2_scale, equal in the 4 lanes of a row) and sum (each lane's own part)
 * of the lane's rows. */
template <int M> struct softmax_state { float top[M][2], sum[M][2]; };

/* Moves the maxima up, and what was taken relative to the old ones with them, as soon as a score
 * of the warp's rows is more than LAG_LOG2 above. */
template <int M, int STEP, int D>
SEO_DEVICE void raise_tops(softmax_state<M> &state, float (&out)[M][D / 8][4],
                           const float (&scores)[M][STEP / 8][4], float log2_scale) {
    float peak[M][2];
    bool above = false;
#pragma unroll
    for (int i = 0; i < M * 2; i++) {
        float x = -INFINITY;
#pragma unroll
        for (int n = 0; n < STEP / 4; n++) {
            x = fmaxf(x, scores[i / 2][n / 2][i % 2 * 2 + n % 2]);
        }
        peak[i / 2][i % 2] = x * log2_scale;
        above |= x * log2_scale > state.top[i / 2][i % 2] + LAG_LOG2;
    }
    if (!__any_sync(FULL_WARP, above)) return;
#pragma unroll
    for (int i = 0; i < M * 2; i++) {
        float &top = state.top[i / 2][i % 2], x = peak[i / 2][i % 2];
        x = fmaxf(x, __shfl_xor_sync(FULL_WARP, x, 1));
        x = fmaxf(x, __shfl_xor_sync(FULL_WARP, x, 2));
        x = fmaxf(x, top);
        float share = ptx_exp2(top - x);
        top = x;
        state.sum[i / 2][i % 2] *= share;
#pragma unroll
        for (int n = 0; n < D / 4; n++) out[i / 2][n / 2][i % 2 * 2 + n % 2] *= share;
    }
}

/* Scores become exp2(log2_scale * score - top). */
template <int M, int STEP>
SEO_DEVICE void exponentiate(softmax_state<M> &state, float (&scores)[M][STEP / 8][4],
                             float log2_scale) {
#pragma unroll
    for (int i = 0; i < M * 2; i++) {
        float sum = 0.0f;
#pragma unroll
        for (int n = 0; n < STEP / 4; n++) {
            float &x = scores[i / 2][n / 2][i % 2 * 2 + n % 2];
            x = ptx_exp2(x * log2_scale - state.top[i / 2][i % 2]);
            sum += x;
        }
        state.sum[i / 2][i % 2] += sum;
    }
}

/* Sums of whole rows; then out = accumulators * scale / sum and lse = scale of scores * maximum +
 * log(sum), for rows up to `end`. */
template <int M, int D, bool ALIGNED>
SEO_DEVICE void finish_rows(const head_rows<bf16> &to, float *lse, int32_t first, int32_t end,
                            const softmax_state<M> &state, const float (&out)[M][D / 8][4],
                            float scale, const attention_shape &s) {
    float factors[M][2];
#pragma unroll
    for (int i = 0; i < M * 2; i++) {
        float sum = state.sum[i / 2][i % 2];
        sum += __shfl_xor_sync(FULL_WARP, sum, 1);
        sum += __shfl_xor_sync(FULL_WARP, sum, 2);
        factors[i / 2][i % 2] = scale / sum;
        int32_t row = first + lane_row() + i * 8;
        if (lane_column() == 0 && row < end) {
            lse[row] = state.top[i / 2][i % 2] * LN_2 + logf(sum);
        }
    }
    store_rows<M, D, ALIGNED>(to, first, end, out, factors, s);
}

/* A block owns 128 queries of a head, a warp 32 of them, and walks over the keys in ascending
 * order, 64 (D > 64: 32) in a stage of shared memory, while the next stage is on its way. A warp
 * takes a stage in steps of 32 or 16 keys and leaves out those that none of its queries sees.
 * Unless the KIND is plain it does so for each part that has queries in the tile.
 *
 * Sums: a lane adds its 8 of every 32 exponentials of a row, the 4 lanes of a row are added at the
 * end; values are added by the tensor cores, 16 keys at a time, in ascending order.
 * Shared bytes: D 32: 16,384; 64: 32,768; 96: 49,152; 128: 65,536. Registers, at most: 128, 168,
 * 255, 255; not ALIGNED, or with dropout, 255.
 * Bound: flops, 4 D for each visible pair of query and key, beside one exponential for each; with
 * dropout, Philox, a quarter of its about 60 instructions for each. */
template <int D, bool ALIGNED, int KIND>
__global__ void __launch_bounds__(fwd_tile<D, ALIGNED, KIND>::THREADS,
                                  fwd_tile<D, ALIGNED, KIND>::BLOCKS)
    attention_fwd_kernel(bf16 *out, float *lse, const bf16 *qkv, attention_shape s) {
    typedef fwd_tile<D, ALIGNED, KIND> tile;
    const bool plain = KIND == ATTENTION_PLAIN;
    const int M = tile::M, STEP = tile::STEP, KEYS = tile::KEYS, STAGE = 2 * KEYS * D;
    SEO_DYN_SMEM(smem);
    bf16 *stages = (bf16 *)smem, *own = stages + 2 * STAGE;
    const attention_place place = place_of_block(s);
    const int32_t tile_first = (s.causal ? s.tiles - 1 - place.rank : place.rank) * tile::QUERIES;
    part_walk<KIND> walk = start_walk<KIND>(s, place.pair, tile_first, tile::QUERIES);
    do {
        const attention_shape &part = shape_of(walk, s);
        const attention_rows rows = walk.rows;
        const int32_t first = rows.first, end = part.causal ? rows.end : part.positions;
        const int own_row = (int)(threadIdx.x / WARP) * 16 * M;
        const int32_t warp_first = first + own_row;
        int32_t seen = part.causal ? min(end, warp_first + 16 * M) : end;
        if (!plain && warp_first >= rows.end) seen = 0;
        const int32_t begin = first_key<KIND>(first, KEYS, part);
        const int32_t sees = first_key<KIND>(warp_first, STEP, part);
        const int32_t ld = 3 * part.channels;
        const head_rows<const bf16> q = rows_of_part(qkv, ld, s, rows, 0),
                                    k = rows_of_part(qkv, ld, s, rows, 1);
        const head_drops drops = drops_of_part<KIND>(s, rows);
        stage_rows<D, KEYS, tile::THREADS, ALIGNED, 2>(stages + begin / KEYS % 2 * STAGE, k, begin,
                                                       part);
        uint32_t queries[M][own_rows<D>::KEPT][4];
        if constexpr (own_rows<D>::IN_REGISTERS) {
            load_fragments<M, D, ALIGNED>(queries, q, warp_first, part);
        } else {
            stage_rows<D, tile::QUERIES, tile::THREADS, ALIGNED, 1>(own, q, first, part);
        }
        ptx_cp_async_commit();

        float sums[M][D / 8][4] = {};
        softmax_state<M> state;
#pragma unroll
        for (int i = 0; i < M * 2; i++) {
            /* With a window a query may meet keys before it sees its first one. */
            state.top[i / 2][i % 2] = plain ? -INFINITY : -FLT_MAX;
            state.sum[i / 2][i % 2] = 0.0f;
        }
        for (int32_t start = begin; start < end; start += KEYS) {
            bf16 *keys = stages + start / KEYS % 2 * STAGE, *values = keys + KEYS * D;
            ptx_cp_async_wait<0>();
            /* This stage has come, and everyone has left the one that is filled next. */
            __syncthreads();
            if (start + KEYS < end) {
                bf16 *next = stages + (start / KEYS + 1) % 2 * STAGE;
                stage_rows<D, KEYS, tile::THREADS, ALIGNED, 2>(next, k, start + KEYS, part);
            }
            ptx_cp_async_commit();
#pragma unroll 1
            for (int32_t key = KIND == ATTENTION_PLAIN ? start : max(start, sees);
                 key < min(start + KEYS, seen); key += STEP) {
                const int row = KEYS == STEP ? 0 : key % KEYS;
                float scores[M][STEP / 8][4];
                multiply_rows<M, STEP, D>(scores, queries, ptx_smem(own), own_row, ptx_smem(keys),
                                          row);
                hide_unseen<KIND, M, STEP>(scores, warp_first, key, part);
                raise_tops<M, STEP, D>(state, sums, scores, part.log2_scale);
                exponentiate<M, STEP>(state, scores, part.log2_scale);
                if constexpr (KIND == ATTENTION_DROPPED) {
                    const uint32_t kept = kept_of_queries<M, STEP>(drops, warp_first, key);
                    drop_rest<M, STEP>(scores, kept, 1.0f);
                }
                add_weighted_rows<M, STEP, D>(sums, scores, ptx_smem(values), row);
                if (KEYS == STEP) break; /* known to the compiler: there is no second step */
            }
        }
        finish_rows<M, D, ALIGNED>(rows_of_part(out, part.channels, s, rows, 0),
                                   lse + (int64_t)rows.pair * s.positions + rows.begin, warp_first,
                                   stored_end<KIND>(rows, part), state, sums,
                                   KIND == ATTENTION_DROPPED ? part.drops.scale : 1.0f, part);
    } while (walk_on(walk, s));
}

/* ---- spans ---- */

static const int SPANS_THREADS = 256;

/* A thread for each position: its span holds it, and either goes on with that of the position
 * before or begins where that ends. So they tile. Bound: bytes. */
__global__ void __launch_bounds__(SPANS_THREADS)
    attention_spans_kernel(int32_t *fault, const int32_t *spans, int32_t positions, int64_t rows) {
    const int64_t row = (int64_t)blockIdx.x * SPANS_THREADS + threadIdx.x;
    if (row >= rows) return;
    const int32_t t = (int32_t)(row % positions), begin = spans[2 * row], end = spans[2 * row + 1];
    bool right = 0 <= begin && begin <= t && t < end && end <= positions;
    if (t > 0) {
        const int32_t begin_before = spans[2 * row - 2], end_before = spans[2 * row - 1];
        right &= t == begin ? end_before == t : begin_before == begin && end_before == end;
    }
    if (!right) *fault = SEO_CUDA_FAULT_SPANS;
}

/* ---- host ---- */

seo_err seo_cuda_attention_plan(const seo_tensor *out, int64_t head_count, float scale,
                                const seo_attention_mask *mask,
                                const seo_attention_dropout *dropout, int32_t tile,
                                attention_shape *shape) {
    const int64_t sequences = out->dims[0], positions = out->dims[1], channels = out->dims[2];
    const int64_t width = channels / head_count, most = INT32_MAX;
    if (width > 128) {
        return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                        "attention: heads of %lld numbers are wider than 128, the most the CUDA "
                        "kernels have; use more heads",
                        (long long)width);
    }
    const int64_t tiles = (positions + tile - 1) / tile;
    if (positions > most / 2 - 256 || channels > most / 3 ||
        sequences > most / head_count / tiles) {
        return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                        "attention: %lld sequences of %lld positions and %lld heads are more than "
                        "one launch can hold; use a smaller batch",
                        (long long)sequences, (long long)positions, (long long)head_count);
    }
    const int64_t pairs = sequences * head_count;
    /* Blocks of a group read the keys and values of its heads again and again: at most 16 MB of
     * them. */
    const int64_t fit = (16 << 20) / (positions * width * 2 * (int64_t)sizeof(bf16));
    const int64_t group = fit < 1 ? 1 : fit < pairs ? fit : pairs;
    shape->channels = (int32_t)channels;
    shape->heads = (int32_t)head_count;
    shape->width = (int32_t)width;
    shape->positions = (int32_t)positions;
    shape->tiles = (int32_t)tiles;
    shape->pairs = (uint32_t)pairs;
    shape->group = (uint32_t)group;
    shape->scale = scale;
    shape->log2_scale = scale * LOG2_E;
    shape->causal = mask->causal;
    shape->window = (int32_t)positions;
    if (mask->window > 0 && mask->window < positions) shape->window = (int32_t)mask->window;
    shape->spans = seo_tensor_given(&mask->spans) ? (const int32_t *)mask->spans.data : nullptr;
    shape->drops = {nullptr, dropout->key, 0, 1.0f};
    if (dropout->rate > 0) {
        shape->drops.place = (const int32_t *)dropout->place.data;
        shape->drops.least = seo_uniform_least(dropout->rate);
        shape->drops.scale = (float)(1.0 / (1.0 - (double)dropout->rate));
    }
    return SEO_OK;
}

seo_err seo_cuda_attention_check(seo_device *dev, const seo_attention_mask *mask) {
    if (!seo_tensor_given(&mask->spans)) return SEO_OK;
    const int64_t rows = mask->spans.dims[0] * mask->spans.dims[1];
    const seo_grid grid = {dim3((uint32_t)((rows + SPANS_THREADS - 1) / SPANS_THREADS)),
                           dim3(SPANS_THREADS), 0, seo_cuda_of(dev)->stream};
    return seo_cuda_check(seo_launch(grid, attention_spans_kernel, seo_cuda_of(dev)->fault,
                                     (const int32_t *)mask->spans.data,
                                     (int32_t)mask->spans.dims[1], rows),
                          "attention: spans");
}

int seo_cuda_attention_kind(const seo_attention_mask *mask, const seo_attention_dropout *dropout,
                            bool aligned) {
    const bool masked = seo_tensor_given(&mask->spans) || mask->window > 0;
    if (dropout->rate > 0 || (masked && !aligned)) return ATTENTION_DROPPED;
    return masked ? ATTENTION_MASKED : ATTENTION_PLAIN;
}

bool seo_cuda_attention_aligned(const seo_tensor *x, int64_t width) {
    return width % 8 == 0 && (uintptr_t)x->data % 16 == 0;
}

struct fwd_variant {
    int32_t width; /* of the heads it is for, at most */
    bool aligned;
    int kind;
    void (*kernel)(bf16 *, float *, const bf16 *, attention_shape);
    int32_t smem_bytes;
};
#define VARIANT(D, aligned, kind)                                                                  \
    {                                                                                              \
        D, aligned, kind, attention_fwd_kernel<D, aligned, kind>,                                  \
            fwd_tile<D, aligned, kind>::SMEM_BYTES                                                 \
    }
#define ALIGNED_VARIANTS(kind)                                                                     \
    VARIANT(32, true, kind), VARIANT(64, true, kind), VARIANT(96, true, kind),                     \
        VARIANT(128, true, kind)
#define OTHER_VARIANTS(kind)                                                                       \
    VARIANT(32, false, kind), VARIANT(64, false, kind), VARIANT(128, false, kind)
/* Of what fits, the first is the narrowest. What is not aligned is rare, and has one variant for
 * all that is not plain. */
static const fwd_variant VARIANTS[] = {
    ALIGNED_VARIANTS(ATTENTION_PLAIN), ALIGNED_VARIANTS(ATTENTION_MASKED),
    ALIGNED_VARIANTS(ATTENTION_DROPPED), OTHER_VARIANTS(ATTENTION_PLAIN),
    OTHER_VARIANTS(ATTENTION_DROPPED)};
#undef VARIANT
#undef ALIGNED_VARIANTS
#undef OTHER_VARIANTS

seo_err seo_cuda_attention_fwd(seo_device *dev, const seo_attention_fwd_args *a) {
    attention_shape shape;
    seo_err err = seo_cuda_attention_plan(&a->out, a->head_count, a->scale, &a->mask, &a->dropout,
                                          fwd_tile<64, true, ATTENTION_PLAIN>::QUERIES, &shape);
    if (err == SEO_OK) err = seo_cuda_attention_check(dev, &a->mask);
    if (err != SEO_OK) return err;
    if (a->out.dtype == SEO_DTYPE_F32) return seo_cuda_attention_fwd_f32(dev, a);
    const bool aligned = seo_cuda_attention_aligned(&a->qkv, shape.width) &&
                         seo_cuda_attention_aligned(&a->out, shape.width);
    const int kind = seo_cuda_attention_kind(&a->mask, &a->dropout, aligned);
    const fwd_variant *v = VARIANTS;
    while (v->width < shape.width || v->aligned != aligned || v->kind != kind) v++;
    const seo_grid grid = {dim3(shape.pairs * (uint32_t)shape.tiles),
                           dim3(fwd_tile<64, true, ATTENTION_PLAIN>::THREADS),
                           (size_t)v->smem_bytes, seo_cuda_of(dev)->stream};
    return seo_cuda_check(seo_launch(grid, v->kernel, (bf16 *)a->out.data, (float *)a->lse.data,
                                     (const bf16 *)a->qkv.data, shape),
                          "attention_fwd");
}
