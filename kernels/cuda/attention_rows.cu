/* Attention row by row, in f32 arithmetic with the exact exponential: all of it for f32 storage,
 * and attention over a cache, where rows are few, for either storage. Made to be right, not fast: a
 * warp works on one row, its lanes on the numbers of a head, up to 128. */
#include "kernels/cuda/attention.cuh"

static const int WARPS = 4, THREADS = WARPS * WARP;
static const int SPREAD = 4; /* numbers of a head in each lane: lane, lane + 32, ... */

/* Queries [0, queries) of each head against the keys [0, keys); query i is at position ahead + i.
 * `ld` numbers from row to row, `_sequence` from sequence to sequence. */
template <class S> struct row_problem {
    const S *q, *k, *v;
    S *out;
    float *lse; /* null: not wanted */
    int64_t q_ld, k_ld, out_ld;
    int64_t q_sequence, k_sequence, out_sequence;
    int64_t queries, keys, ahead;
    int32_t heads, width;
    float scale;
    bool causal;
};

template <class S> SEO_DEVICE void load_row(float (&x)[SPREAD], const S *row, int width) {
    const int lane = (int)(threadIdx.x % WARP);
#pragma unroll
    for (int e = 0; e < SPREAD; e++) {
        int d = lane + e * WARP;
        x[e] = d < width ? to_f32(row[d]) : 0.0f;
    }
}
template <class S>
SEO_DEVICE void store_row(S *row, const float (&x)[SPREAD], float factor, int width) {
    const int lane = (int)(threadIdx.x % WARP);
#pragma unroll
    for (int e = 0; e < SPREAD; e++) {
        int d = lane + e * WARP;
        if (d < width) store_f32(row + d, x[e] * factor);
    }
}
SEO_DEVICE float row_product(const float (&x)[SPREAD], const float (&y)[SPREAD]) {
    float sum = 0.0f;
#pragma unroll
    for (int e = 0; e < SPREAD; e++) sum += x[e] * y[e];
    return warp_sum(sum);
}
SEO_DEVICE void add_row(float (&sum)[SPREAD], float factor, const float (&x)[SPREAD]) {
#pragma unroll
    for (int e = 0; e < SPREAD; e++) sum[e] += factor * x[e];
}

/* What a warp has of a query: a maximum, and sums relative to it. */
struct row_state {
    float top, sum, out[SPREAD];
};

/* Takes in up to 32 keys; lane j keeps the score of key j. */
template <class S>
SEO_DEVICE void attend_keys(row_state &state, const float (&q)[SPREAD], const S *k, const S *v,
                            int64_t ld, int count, int width, float scale) {
    const int lane = (int)(threadIdx.x % WARP);
    float own = -INFINITY, x[SPREAD];
    for (int j = 0; j < count; j++) {
        load_row(x, k + j * ld, width);
        float score = row_product(q, x) * scale;
        if (lane == j) own = score;
    }
    const float top = fmaxf(state.top, warp_max(own)), share = expf(state.top - top);
    const float p = expf(own - top);
    state.top = top;
    state.sum = state.sum * share + warp_sum(p);
#pragma unroll
    for (int e = 0; e < SPREAD; e++) state.out[e] *= share;
    for (int j = 0; j < count; j++) {
        load_row(x, v + j * ld, width);
        add_row(state.out, __shfl_sync(FULL_WARP, p, j), x);
    }
}

/* A block for each query of each head. Its keys are dealt to 4 warps, 32 at a time, each warp takes
 * its own in ascending order, and the warps' sums are added in the order of the warps.
 * Shared bytes: 2,080. Bound: bytes of keys and values when there is one query. */
template <class S>
__global__ void __launch_bounds__(THREADS) attention_rows_kernel(row_problem<S> p) {
    SEO_SHARED(float, tops, WARPS);
    SEO_SHARED(float, sums, WARPS);
    SEO_SHARED(float, outs, WARPS *SPREAD *WARP);
    const int warp = (int)(threadIdx.x / WARP), lane = (int)(threadIdx.x % WARP);
    const int64_t query = blockIdx.x % p.queries, pair = blockIdx.x / p.queries;
    const int64_t sequence = pair / p.heads, column = pair % p.heads * p.width;
    const int64_t seen = p.causal ? p.ahead + query + 1 : p.keys;
    const S *k = p.k + sequence * p.k_sequence + column;
    const S *v = p.v + sequence * p.k_sequence + column;
    float q[SPREAD];
    row_state state = {-INFINITY, 0.0f, {}};
    load_row(q, p.q + sequence * p.q_sequence + query * p.q_ld + column, p.width);
    for (int64_t key = warp * WARP; key < seen; key += WARPS * WARP) {
        const int count = (int)min(seen - key, (int64_t)WARP);
        attend_keys(state, q, k + key * p.k_ld, v + key * p.k_ld, p.k_ld, count, p.width, p.scale);
    }
    if (lane == 0) {
        tops[warp] = state.top;
        sums[warp] = state.sum;
    }
#pragma unroll
    for (int e = 0; e < SPREAD; e++) outs[(warp * SPREAD + e) * WARP + lane] = state.out[e];
    __syncthreads();
    if (warp > 0) return;
    /* Warp 0 has seen the first key, so its maximum is a number. */
    float top = tops[0], sum = 0.0f, out[SPREAD] = {};
    for (int w = 1; w < WARPS; w++) top = fmaxf(top, tops[w]);
    for (int w = 0; w < WARPS; w++) {
        float share = expf(tops[w] - top);
        sum += sums[w] * share;
#pragma unroll
        for (int e = 0; e < SPREAD; e++) out[e] += outs[(w * SPREAD + e) * WARP + lane] * share;
    }
    store_row(p.out + sequence * p.out_sequence + query * p.out_ld + column, out, 1.0f / sum,
              p.width);
    if (p.lse && lane == 0) p.lse[pair * p.queries + query] = top + logf(sum);
}

/* New keys and values from packed projections to the rows [cached, cached + count) of the caches. A
 * block for each new row. Bound: bytes. */
template <class S>
__global__ void __launch_bounds__(THREADS)
    attention_extend_kernel(S *cache_k, S *cache_v, const S *qkv, int64_t room, int64_t cached,
                            int64_t count, int64_t channels) {
    const int64_t sequence = blockIdx.x / count, i = blockIdx.x % count;
    const S *from = qkv + (sequence * count + i) * 3 * channels + channels;
    const int64_t to = (sequence * room + cached + i) * channels;
    for (int64_t c = threadIdx.x; c < channels; c += THREADS) {
        cache_k[to + c] = from[c];
        cache_v[to + c] = from[channels + c];
    }
}

/* ---- host ---- */

template <class S> static seo_err attend(seo_device *dev, const row_problem<S> &p, int64_t pairs) {
    const seo_grid grid = {dim3((uint32_t)(pairs * p.queries)), dim3(THREADS), 0,
                           seo_cuda_of(dev)->stream};
    return seo_cuda_check(seo_launch(grid, attention_rows_kernel<S>, p), "attention");
}

seo_err seo_cuda_attention_fwd_f32(seo_device *dev, const seo_attention_fwd_args *a) {
    attention_shape s;
    seo_err err = seo_cuda_attention_plan(&a->out, a->head_count, a->scale, a->causal, 1, &s);
    if (err != SEO_OK) return err;
    const float *qkv = (const float *)a->qkv.data;
    const int64_t channels = s.channels, positions = s.positions;
    row_problem<float> p = {};
    p.q = qkv;
    p.k = qkv + channels;
    p.v = qkv + 2 * channels;
    p.out = (float *)a->out.data;
    p.lse = (float *)a->lse.data;
    p.q_ld = p.k_ld = 3 * channels;
    p.out_ld = channels;
    p.q_sequence = p.k_sequence = positions * 3 * channels;
    p.out_sequence = positions * channels;
    p.queries = p.keys = positions;
    p.heads = s.heads;
    p.width = s.width;
    p.scale = s.scale;
    p.causal = s.causal;
    return attend(dev, p, s.pairs);
}

template <class S> static seo_err cached(seo_device *dev, const seo_attention_cached_args *a) {
    attention_shape s;
    seo_err err = seo_cuda_attention_plan(&a->out, a->head_count, a->scale, true, 1, &s);
    if (err != SEO_OK) return err;
    const int64_t room = a->cache_k.dims[1], channels = s.channels, count = s.positions;
    S *k = (S *)a->cache_k.data, *v = (S *)a->cache_v.data;
    const S *qkv = (const S *)a->qkv.data;
    const seo_grid grid = {dim3((uint32_t)(a->out.dims[0] * count)), dim3(THREADS), 0,
                           seo_cuda_of(dev)->stream};
    err = seo_cuda_check(
        seo_launch(grid, attention_extend_kernel<S>, k, v, qkv, room, a->cached, count, channels),
        "attention_cached");
    if (err != SEO_OK) return err;
    row_problem<S> p = {};
    p.q = qkv;
    p.k = k;
    p.v = v;
    p.out = (S *)a->out.data;
    p.q_ld = 3 * channels;
    p.k_ld = p.out_ld = channels;
    p.q_sequence = count * 3 * channels;
    p.k_sequence = room * channels;
    p.out_sequence = count * channels;
    p.queries = count;
    p.keys = a->cached + count;
    p.ahead = a->cached;
    p.heads = s.heads;
    p.width = s.width;
    p.scale = s.scale;
    p.causal = true;
    return attend(dev, p, s.pairs);
}

seo_err seo_cuda_attention_cached(seo_device *dev, const seo_attention_cached_args *a) {
    return a->out.dtype == SEO_DTYPE_F32 ? cached<float>(dev, a) : cached<bf16>(dev, a);
}
