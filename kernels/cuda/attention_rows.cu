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
    int64_t window; /* keys that a causal query sees at most */
    const int32_t *spans;
    attention_drops drops;
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
/* A row for the whole warp to read; seen by it after __syncwarp. */
template <class S> SEO_DEVICE void share_row(float *shared, const S *row, int width) {
    for (int d = (int)(threadIdx.x % WARP); d < width; d += WARP) shared[d] = to_f32(row[d]);
}
/* Each lane its own: a shared row times the row at `row`. */
template <class S> SEO_DEVICE float row_product(const float *shared, const S *row, int width) {
    float sum = 0.0f;
    for (int d = 0; d < width; d++) sum += shared[d] * to_f32(row[d]);
    return sum;
}
SEO_DEVICE void add_row(float (&sum)[SPREAD], float factor, const float (&x)[SPREAD]) {
#pragma unroll
    for (int e = 0; e < SPREAD; e++) sum[e] += factor * x[e];
}

/* What a warp has of a query: a maximum, and sums relative to it. */
struct row_state {
    float top, sum, out[SPREAD];
};

/* Takes in up to 32 keys, one a lane; then, one after the other, their values. `weights` is the
 * warp's own memory for 32 numbers, `factor` what dropout makes of the lane's probability. */
template <class S>
SEO_DEVICE void attend_keys(row_state &state, const float *q, const S *k, const S *v, int64_t ld,
                            int count, int width, float scale, float factor, float *weights) {
    const int lane = (int)(threadIdx.x % WARP);
    float score = lane < count ? row_product(q, k + lane * ld, width) * scale : -INFINITY;
    const float top = fmaxf(state.top, warp_max(score)), share = expf(state.top - top);
    const float p = expf(score - top);
    state.top = top;
    state.sum = state.sum * share + warp_sum(p);
    weights[lane] = p * factor;
    __syncwarp();
#pragma unroll
    for (int e = 0; e < SPREAD; e++) state.out[e] *= share;
    for (int j = 0; j < count; j++) {
        float x[SPREAD];
        load_row(x, v + j * ld, width);
        add_row(state.out, weights[j], x);
    }
    __syncwarp(); /* before the weights are overwritten */
}

/* A block for each query of each head. Its keys are dealt to 4 warps, 32 at a time, each warp takes
 * its own in ascending order, and the warps' sums are added in the order of the warps.
 * Shared bytes: 3,104. Bound: bytes of keys and values when there is one query. */
template <class S>
__global__ void __launch_bounds__(THREADS) attention_rows_kernel(row_problem<S> p) {
    SEO_SHARED(float, tops, WARPS);
    SEO_SHARED(float, sums, WARPS);
    SEO_SHARED(float, outs, WARPS *SPREAD *WARP);
    SEO_SHARED(float, weights, WARPS *WARP);
    SEO_SHARED(float, q, SPREAD *WARP);
    const int warp = (int)(threadIdx.x / WARP), lane = (int)(threadIdx.x % WARP);
    const int64_t query = blockIdx.x % p.queries, pair = blockIdx.x / p.queries;
    const int64_t sequence = pair / p.heads, column = pair % p.heads * p.width;
    int64_t from = 0, to = p.keys;
    if (p.spans) {
        const attention_part part =
            part_of(p.spans, sequence * p.queries + query, (int32_t)query, (int32_t)p.queries);
        from = part.begin;
        to = part.end;
    }
    if (p.causal) {
        to = min(to, p.ahead + query + 1);
        from = max(from, p.ahead + query + 1 - p.window);
    }
    const head_drops drops = drops_of_head(p.drops, (uint32_t)pair, p.heads, (int32_t)p.queries, 0);
    const S *k = p.k + sequence * p.k_sequence + column;
    const S *v = p.v + sequence * p.k_sequence + column;
    row_state state = {-INFINITY, 0.0f, {}};
    if (warp == 0) share_row(q, p.q + sequence * p.q_sequence + query * p.q_ld + column, p.width);
    __syncthreads();
    for (int64_t key = from + warp * WARP; key < to; key += WARPS * WARP) {
        const int count = (int)min(to - key, (int64_t)WARP);
        const float factor =
            drop_factor(drops, p.drops.scale, (int32_t)query, (int32_t)(key + lane));
        attend_keys(state, q, k + key * p.k_ld, v + key * p.k_ld, p.k_ld, count, p.width, p.scale,
                    factor, weights + warp * WARP);
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

/* The warp's own rows of shared memory in the backward kernels: two rows of a head, and two numbers
 * for each of 32 rows that they meet. */
struct row_scratch {
    float first[SPREAD * WARP], second[SPREAD * WARP], p[WARP], ds[WARP];
};

/* A warp for each query of each head, over the keys it sees in ascending order, 32 at a time: first
 * a lane for each key, then the lanes for the numbers of a row. Shared bytes: 5,120. Bound: flops.
 */
__global__ void __launch_bounds__(THREADS)
    attention_bwd_query_rows_kernel(float *dqkv, const float *dout, const float *qkv,
                                    const float *lse, const float *delta, attention_shape s) {
    SEO_SHARED(row_scratch, scratch, WARPS);
    row_scratch &own = scratch[threadIdx.x / WARP];
    const int lane = (int)(threadIdx.x % WARP);
    const int64_t row = (int64_t)blockIdx.x * WARPS + threadIdx.x / WARP;
    const int64_t pair = row / s.positions, query = row % s.positions;
    if (pair >= s.pairs) return;
    const head_rows<const float> q = rows_of_head(qkv, 3 * s.channels, s, (uint32_t)pair, 0);
    const head_rows<const float> g = rows_of_head(dout, s.channels, s, (uint32_t)pair, 0);
    const head_rows<float> to = rows_of_head(dqkv, 3 * s.channels, s, (uint32_t)pair, 0);
    float dq[SPREAD] = {};
    share_row(own.first, q.data + query * q.ld, s.width);
    share_row(own.second, g.data + query * g.ld, s.width);
    __syncwarp();
    const attention_part part =
        part_of(s.spans, pair / s.heads * s.positions + query, (int32_t)query, s.positions);
    const int64_t begin = s.causal ? max((int64_t)part.begin, query + 1 - s.window) : part.begin;
    const int64_t end = s.causal ? query + 1 : part.end;
    const head_drops drops = drops_of_head(s.drops, (uint32_t)pair, s.heads, s.positions, 0);
    for (int64_t start = begin; start < end; start += WARP) {
        const float *k = q.data + start * q.ld + s.channels, *v = k + s.channels;
        if (start + lane < end) {
            float score = row_product(own.first, k + lane * (int64_t)q.ld, s.width) * s.scale;
            float dp = row_product(own.second, v + lane * (int64_t)q.ld, s.width);
            dp *= drop_factor(drops, s.drops.scale, (int32_t)query, (int32_t)start + lane);
            own.ds[lane] = expf(score - lse[row]) * (dp - delta[row]);
        }
        __syncwarp();
        for (int j = 0; j < WARP && start + j < end; j++) {
            float x[SPREAD];
            load_row(x, k + j * (int64_t)q.ld, s.width);
            add_row(dq, own.ds[j], x);
        }
        __syncwarp(); /* before the numbers are overwritten */
    }
    store_row(to.data + query * to.ld, dq, s.scale, s.width);
}

/* The same with a warp for each key of each head, over the queries that see it. Shared bytes:
 * 5,120. Bound: flops. */
__global__ void __launch_bounds__(THREADS)
    attention_bwd_key_rows_kernel(float *dqkv, const float *dout, const float *qkv,
                                  const float *lse, const float *delta, attention_shape s) {
    SEO_SHARED(row_scratch, scratch, WARPS);
    row_scratch &own = scratch[threadIdx.x / WARP];
    const int lane = (int)(threadIdx.x % WARP);
    const int64_t row = (int64_t)blockIdx.x * WARPS + threadIdx.x / WARP;
    const int64_t pair = row / s.positions, key = row % s.positions, first = pair * s.positions;
    if (pair >= s.pairs) return;
    const head_rows<const float> q = rows_of_head(qkv, 3 * s.channels, s, (uint32_t)pair, 0);
    const head_rows<const float> g = rows_of_head(dout, s.channels, s, (uint32_t)pair, 0);
    const head_rows<float> to = rows_of_head(dqkv, 3 * s.channels, s, (uint32_t)pair, 1);
    float dk[SPREAD] = {}, dv[SPREAD] = {};
    share_row(own.first, q.data + key * q.ld + s.channels, s.width);
    share_row(own.second, q.data + key * q.ld + 2 * (int64_t)s.channels, s.width);
    __syncwarp();
    const attention_part part =
        part_of(s.spans, pair / s.heads * s.positions + key, (int32_t)key, s.positions);
    const int64_t begin = s.causal ? key : part.begin;
    const int64_t end = s.causal ? min((int64_t)part.end, key + s.window) : part.end;
    const head_drops drops = drops_of_head(s.drops, (uint32_t)pair, s.heads, s.positions, 0);
    for (int64_t start = begin; start < end; start += WARP) {
        const int64_t query = start + lane;
        if (query < end) {
            float score = row_product(own.first, q.data + query * q.ld, s.width) * s.scale;
            float dp = row_product(own.second, g.data + query * g.ld, s.width);
            float p = expf(score - lse[first + query]);
            float factor = drop_factor(drops, s.drops.scale, (int32_t)query, (int32_t)key);
            own.p[lane] = p * factor;
            own.ds[lane] = p * (dp * factor - delta[first + query]);
        }
        __syncwarp();
        for (int j = 0; j < WARP && start + j < end; j++) {
            float x[SPREAD];
            load_row(x, g.data + (start + j) * g.ld, s.width);
            add_row(dv, own.p[j], x);
            load_row(x, q.data + (start + j) * q.ld, s.width);
            add_row(dk, own.ds[j], x);
        }
        __syncwarp(); /* before the numbers are overwritten */
    }
    store_row(to.data + key * to.ld, dk, s.scale, s.width);
    store_row(to.data + key * to.ld + s.channels, dv, 1.0f, s.width);
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
    seo_err err =
        seo_cuda_attention_plan(&a->out, a->head_count, a->scale, &a->mask, &a->dropout, 1, &s);
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
    p.window = s.window;
    p.spans = s.spans;
    p.drops = s.drops;
    return attend(dev, p, s.pairs);
}

seo_err seo_cuda_attention_bwd_f32(seo_device *dev, const seo_attention_bwd_args *a) {
    attention_shape s;
    seo_err err =
        seo_cuda_attention_plan(&a->out, a->head_count, a->scale, &a->mask, &a->dropout, 1, &s);
    if (err != SEO_OK) return err;
    const int64_t rows = (int64_t)s.pairs * s.positions;
    const seo_grid grid = {dim3((uint32_t)((rows + WARPS - 1) / WARPS)), dim3(THREADS), 0,
                           seo_cuda_of(dev)->stream};
    float *dqkv = (float *)a->dqkv.data;
    const float *dout = (const float *)a->dout.data, *qkv = (const float *)a->qkv.data;
    const float *lse = (const float *)a->lse.data, *delta = (const float *)a->delta.data;
    cudaError_t result =
        seo_launch(grid, attention_bwd_query_rows_kernel, dqkv, dout, qkv, lse, delta, s);
    if (result == cudaSuccess) {
        result = seo_launch(grid, attention_bwd_key_rows_kernel, dqkv, dout, qkv, lse, delta, s);
    }
    return seo_cuda_check(result, "attention_bwd");
}

template <class S> static seo_err cached(seo_device *dev, const seo_attention_cached_args *a) {
    attention_shape s;
    seo_attention_mask mask = {};
    mask.causal = true;
    const seo_attention_dropout none = {};
    seo_err err = seo_cuda_attention_plan(&a->out, a->head_count, a->scale, &mask, &none, 1, &s);
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
    p.window = a->window > 0 && a->window < p.keys ? a->window : p.keys;
    p.drops = s.drops;
    return attend(dev, p, s.pairs);
}

seo_err seo_cuda_attention_cached(seo_device *dev, const seo_attention_cached_args *a) {
    return a->out.dtype == SEO_DTYPE_F32 ? cached<float>(dev, a) : cached<bf16>(dev, a);
}
