/* Attention, forward, bf16 on tensor cores: a block of queries passes over the keys that it sees
 * with a running maximum and sum for each query, so no more than one step of scores exists at a
 * time. Heads of up to 128 numbers. f32 is in attention_rows.cu.
 *
 * Sources: Milakov & Gimelshein 2018 (online softmax), Dao 2023 (FlashAttention-2). */
#include "kernels/cuda/attention.cuh"

static const float LN_2 = 0.693147180559945309f, LOG2_E = 1.44269504088896341f;

/* Exponentials are taken relative to a maximum that may lag behind the true one by this power of 2:
 * sums stay far from overflow, and the accumulators are rescaled only a few times in a row's life.
 */
static const float LAG_LOG2 = 8.0f;

template <int D, bool ALIGNED> struct fwd_tile {
    static const int M = 2, WARPS = 4, THREADS = WARPS * WARP; /* 32 queries a warp */
    static const int QUERIES = 16 * M * WARPS, STEP = 32;
    static const int KEYS = D <= 64 ? 64 : 32; /* in one stage of shared memory; two stages */
    static const int OWN = own_rows<D>::IN_REGISTERS ? 0 : QUERIES * D;
    static const int SMEM_BYTES = (2 * 2 * KEYS * D + OWN) * (int)sizeof(bf16);
    /* That fit on a multiprocessor. */
    static const int BLOCKS = D > 64 || !ALIGNED ? 2 : D <= 32 ? 4 : 3;
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

/* Sums of whole rows; then out = accumulators / sum and lse = scale * maximum + log(sum). */
template <int M, int D, bool ALIGNED>
SEO_DEVICE void finish_rows(const head_rows<bf16> &to, float *lse, int32_t first,
                            const softmax_state<M> &state, const float (&out)[M][D / 8][4],
                            const attention_shape &s) {
    float factors[M][2];
#pragma unroll
    for (int i = 0; i < M * 2; i++) {
        float sum = state.sum[i / 2][i % 2];
        sum += __shfl_xor_sync(FULL_WARP, sum, 1);
        sum += __shfl_xor_sync(FULL_WARP, sum, 2);
        factors[i / 2][i % 2] = 1.0f / sum;
        int32_t row = first + lane_row() + i * 8;
        if (lane_column() == 0 && row < s.positions) {
            lse[row] = state.top[i / 2][i % 2] * LN_2 + logf(sum);
        }
    }
    store_rows<M, D, ALIGNED>(to, first, out, factors, s);
}

/* A block owns 128 queries of a head, a warp 32 of them, and walks over the keys in ascending
 * order, 64 (D > 64: 32) in a stage of shared memory, while the next stage is on its way. A warp
 * takes a stage in steps of 32 keys and leaves out those that none of its queries sees.
 *
 * Sums: a lane adds its 8 of every 32 exponentials of a row, the 4 lanes of a row are added at the
 * end; values are added by the tensor cores, 16 keys at a time, in ascending order.
 * Shared bytes: D 32: 16,384; 64: 32,768; 96: 49,152; 128: 65,536. Registers, at most: 128, 168,
 * 255, 255; not ALIGNED 255.
 * Bound: flops, 4 D for each visible pair of query and key, beside one exponential for each. */
template <int D, bool ALIGNED>
__global__ void __launch_bounds__(fwd_tile<D, ALIGNED>::THREADS, fwd_tile<D, ALIGNED>::BLOCKS)
    attention_fwd_kernel(bf16 *out, float *lse, const bf16 *qkv, attention_shape s) {
    typedef fwd_tile<D, ALIGNED> tile;
    const int M = tile::M, STEP = tile::STEP, KEYS = tile::KEYS, STAGE = 2 * KEYS * D;
    SEO_DYN_SMEM(smem);
    bf16 *stages = (bf16 *)smem, *own = stages + 2 * STAGE;
    const attention_place place = place_of_block(s);
    const int32_t first = (s.causal ? s.tiles - 1 - place.rank : place.rank) * tile::QUERIES;
    const int32_t end = s.causal ? min(first + tile::QUERIES, s.positions) : s.positions;
    const int own_row = (int)(threadIdx.x / WARP) * 16 * M;
    const int32_t warp_first = first + own_row,
                  seen = s.causal ? min(end, warp_first + 16 * M) : end;
    const head_rows<const bf16> q = rows_of_head(qkv, 3 * s.channels, s, place.pair, 0),
                                k = rows_of_head(qkv, 3 * s.channels, s, place.pair, 1);
    stage_rows<D, KEYS, tile::THREADS, ALIGNED, 2>(stages, k, 0, s);
    uint32_t queries[M][own_rows<D>::KEPT][4];
    if constexpr (own_rows<D>::IN_REGISTERS) {
        load_fragments<M, D, ALIGNED>(queries, q, warp_first, s);
    } else {
        stage_rows<D, tile::QUERIES, tile::THREADS, ALIGNED, 1>(own, q, first, s);
    }
    ptx_cp_async_commit();

    float sums[M][D / 8][4] = {};
    softmax_state<M> state;
#pragma unroll
    for (int i = 0; i < M * 2; i++) {
        state.top[i / 2][i % 2] = -INFINITY;
        state.sum[i / 2][i % 2] = 0.0f;
    }
    for (int32_t start = 0; start < end; start += KEYS) {
        bf16 *keys = stages + start / KEYS % 2 * STAGE, *values = keys + KEYS * D;
        ptx_cp_async_wait<0>();
        /* This stage has come, and everyone has left the one that is filled next. */
        __syncthreads();
        if (start + KEYS < end) {
            bf16 *next = stages + (start / KEYS + 1) % 2 * STAGE;
            stage_rows<D, KEYS, tile::THREADS, ALIGNED, 2>(next, k, start + KEYS, s);
        }
        ptx_cp_async_commit();
#pragma unroll 1
        for (int32_t key = start; key < min(start + KEYS, seen); key += STEP) {
            const int row = KEYS == STEP ? 0 : key % KEYS;
            float scores[M][STEP / 8][4];
            multiply_rows<M, STEP, D>(scores, queries, ptx_smem(own), own_row, ptx_smem(keys), row);
            if (key + STEP > s.positions || (s.causal && key + STEP - 1 > warp_first)) {
                hide_keys<M, STEP>(scores, warp_first + lane_row(), key + lane_column(), s);
            }
            raise_tops<M, STEP, D>(state, sums, scores, s.log2_scale);
            exponentiate<M, STEP>(state, scores, s.log2_scale);
            add_weighted_rows<M, STEP, D>(sums, scores, ptx_smem(values), row);
            if (KEYS == STEP) break; /* known to the compiler: there is no second step */
        }
    }
    finish_rows<M, D, ALIGNED>(rows_of_head(out, s.channels, s, place.pair, 0),
                               lse + (int64_t)place.pair * s.positions, warp_first, state, sums, s);
}

/* ---- host ---- */

seo_err seo_cuda_attention_plan(const seo_tensor *out, int64_t head_count, float scale, bool causal,
                                int32_t tile, attention_shape *shape) {
    const int64_t sequences = out->dims[0], positions = out->dims[1], channels = out->dims[2];
    const int64_t width = channels / head_count, most = INT32_MAX;
    if (width > 128) {
        return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                        "attention: heads of %lld numbers are wider than 128, the most the CUDA "
                        "kernels have; use more heads",
                        (long long)width);
    }
    const int64_t tiles = (positions + tile - 1) / tile;
    if (positions > most - 256 || channels > most / 3 || sequences > most / head_count / tiles) {
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
    shape->causal = causal;
    return SEO_OK;
}

seo_err seo_cuda_attention_plain(const seo_attention_mask *mask, const seo_attention_dropout *d) {
    if (!seo_tensor_given(&mask->spans) && mask->window == 0 && !(d->rate > 0)) return SEO_OK;
    return SEO_FAIL(SEO_ERR_UNSUPPORTED, "attention: the CUDA kernels have no spans, windows and "
                                         "dropout; use the CPU");
}

bool seo_cuda_attention_aligned(const seo_tensor *x, int64_t width) {
    return width % 8 == 0 && (uintptr_t)x->data % 16 == 0;
}

struct fwd_variant {
    int32_t width; /* of the heads it is for, at most */
    bool aligned;
    void (*kernel)(bf16 *, float *, const bf16 *, attention_shape);
    int32_t smem_bytes;
};
#define VARIANT(D, aligned)                                                                        \
    { D, aligned, attention_fwd_kernel<D, aligned>, fwd_tile<D, aligned>::SMEM_BYTES }
static const fwd_variant VARIANTS[] = {VARIANT(32, true),  VARIANT(64, true),  VARIANT(96, true),
                                       VARIANT(128, true), VARIANT(32, false), VARIANT(64, false),
                                       VARIANT(128, false)};
#undef VARIANT

seo_err seo_cuda_attention_fwd(seo_device *dev, const seo_attention_fwd_args *a) {
    const seo_err plain = seo_cuda_attention_plain(&a->mask, &a->dropout);
    if (plain != SEO_OK) return plain;
    if (a->out.dtype == SEO_DTYPE_F32) return seo_cuda_attention_fwd_f32(dev, a);
    attention_shape shape;
    seo_err err = seo_cuda_attention_plan(&a->out, a->head_count, a->scale, a->mask.causal,
                                          fwd_tile<64, true>::QUERIES, &shape);
    if (err != SEO_OK) return err;
    const bool aligned = seo_cuda_attention_aligned(&a->qkv, shape.width) &&
                         seo_cuda_attention_aligned(&a->out, shape.width);
    const fwd_variant *v = VARIANTS;
    while (v->width < shape.width || v->aligned != aligned) v++;
    const seo_grid grid = {dim3(shape.pairs * (uint32_t)shape.tiles),
                           dim3(fwd_tile<64, true>::THREADS), (size_t)v->smem_bytes,
                           seo_cuda_of(dev)->stream};
    return seo_cuda_check(seo_launch(grid, v->kernel, (bf16 *)a->out.data, (float *)a->lse.data,
                                     (const bf16 *)a->qkv.data, shape),
                          "attention_fwd");
}
