/* Layer norm, forward and backward.
 *
 * A row lies in registers while it is worked on, in one warp where it fits and else in several; any
 * other width is read again from the cache in a loop. Which variant runs, and with it the order of
 * the sums, follows from the width and from whether rows begin at multiples of 16 bytes. */
#include "kernels/cuda/column_parts.cuh"

enum { SPAN_OF_WARP = SPAN * WARP /* columns that a warp holds with one span a lane */ };

/* The sum of x over the WARPS warps that share a row, the same in all of them: over the lanes as a
 * butterfly, over the warps in ascending order. part: a number for each warp, not in use by the
 * reduction before. */
template <int WARPS> SEO_DEVICE float row_sum(float x, float *part) {
    x = warp_sum(x);
    if constexpr (WARPS > 1) {
        if (threadIdx.x % WARP == 0) part[threadIdx.x / WARP] = x;
        __syncthreads();
        x = part[0];
#pragma unroll
        for (int w = 1; w < WARPS; w++) x += part[w];
    }
    return x;
}

/* ---- forward ---- */

enum {
    FWD_THREADS = 128, /* of a block whose warps have a row each */
    FWD_WARPS = 8,     /* that share a row in the wide variants */
    FWD_LOOP_THREADS = 256
};

/* Blocks that must be resident together, as the registers of a lane's spans allow. */
constexpr int fwd_resident(int spans, int warps, int bytes) {
    return warps > 1 ? 2 : spans <= 3 ? (bytes == 2 ? 8 : 6) : spans <= 5 ? 4 : 3;
}

template <class T> struct fwd_rows {
    T *out, *sum; /* sum, mean, rstd, add, bias: null when not given */
    float *mean, *rstd;
    const T *inp, *add, *weight, *bias;
    int64_t rows, columns;
    float eps;
};

/* out of N elements from column c on, x those of the row. */
template <int N, class T>
SEO_DEVICE void normalise(const fwd_rows<T> &a, int64_t row, int64_t c, const float (&x)[N],
                          float mean, float rstd) {
    float w[N], y[N];
    load_f32(w, a.weight + c);
#pragma unroll
    for (int i = 0; i < N; i++) y[i] = (x[i] - mean) * rstd * w[i];
    if (a.bias) {
        load_f32(w, a.bias + c);
#pragma unroll
        for (int i = 0; i < N; i++) y[i] += w[i];
    }
    store_f32(a.out + row * a.columns + c, y);
}

SEO_DEVICE float rstd_of(float variance, float eps) {
    return __fdiv_rn(1.0f, __fsqrt_rn(variance + eps));
}

/* A lane's share of a row: span s of lane l is span s * (lanes of the row) + l of the row; those
 * beyond the row are 0. */
template <class T, int SPANS, int WARPS>
SEO_DEVICE void take_row(float (&x)[SPANS][SPAN], const fwd_rows<T> &a, int64_t row, int lane) {
    const int64_t start = row * a.columns;
#pragma unroll
    for (int s = 0; s < SPANS; s++) {
        const int c = (s * WARPS * WARP + lane) * SPAN;
        if (c < a.columns) {
            load_f32(x[s], a.inp + start + c);
        } else {
#pragma unroll
            for (int i = 0; i < SPAN; i++) x[s][i] = 0.0f;
        }
    }
    if (a.add) {
#pragma unroll
        for (int s = 0; s < SPANS; s++) {
            const int c = (s * WARPS * WARP + lane) * SPAN;
            if (c >= a.columns) continue;
            float y[SPAN];
            load_f32(y, a.add + start + c);
#pragma unroll
            for (int i = 0; i < SPAN; i++) x[s][i] = rounded(x[s][i] + y[i], T());
        }
    }
    if (!a.sum) return;
#pragma unroll
    for (int s = 0; s < SPANS; s++) {
        const int c = (s * WARPS * WARP + lane) * SPAN;
        if (c < a.columns) store_f32(a.sum + start + c, x[s]);
    }
}

/* Rows of up to SPANS * WARPS * 256 columns, a multiple of 8, that begin at multiples of 16 bytes.
 * With WARPS = 1 each warp has a row, else the block has; grid-stride over the rows. A lane holds
 * SPANS spans of its row, so the variance is a second pass over registers, exact where the mean is
 * large. Sums: a span in halves, a lane's spans in ascending order, then as row_sum. 64 bytes of
 * shared memory where warps share a row. Bound: elements' bytes, 2 an element, 4 with add and sum.
 */
template <class T, int SPANS, int WARPS>
__global__ void __launch_bounds__(WARPS == 1 ? FWD_THREADS : WARPS * WARP,
                                  fwd_resident(SPANS, WARPS, sizeof(T)))
    layernorm_fwd_kernel(const fwd_rows<T> a) {
    SEO_SHARED(float, part, 2 * FWD_WARPS);
    const int lanes = WARPS * WARP, lane = (int)threadIdx.x % lanes;
    const int in_block = (int)threadIdx.x / lanes, of_block = (int)blockDim.x / lanes;
    const int64_t step = (int64_t)gridDim.x * of_block;
    for (int64_t row = (int64_t)blockIdx.x * of_block + in_block; row < a.rows; row += step) {
        float x[SPANS][SPAN], total = 0.0f;
        take_row<T, SPANS, WARPS>(x, a, row, lane);
#pragma unroll
        for (int s = 0; s < SPANS; s++) total += sum_of(x[s]);
        const float mean = __fdiv_rn(row_sum<WARPS>(total, part), (float)a.columns);
        total = 0.0f;
#pragma unroll
        for (int s = 0; s < SPANS; s++) {
            float square[SPAN];
#pragma unroll
            for (int i = 0; i < SPAN; i++) square[i] = (x[s][i] - mean) * (x[s][i] - mean);
            if ((s * lanes + lane) * SPAN < a.columns) total += sum_of(square);
        }
        const float variance = __fdiv_rn(row_sum<WARPS>(total, part + FWD_WARPS), (float)a.columns);
        const float rstd = rstd_of(variance, a.eps);
#pragma unroll
        for (int s = 0; s < SPANS; s++) {
            const int c = (s * lanes + lane) * SPAN;
            if (c < a.columns) normalise(a, row, c, x[s], mean, rstd);
        }
        if (lane == 0 && a.mean) a.mean[row] = mean;
        if (lane == 0 && a.rstd) a.rstd[row] = rstd;
    }
}

/* Any width: one warp a row, N elements a lane at a time, in three passes of which the later two
 * find the row in the cache. x is read from `sum` when there is one: a lane reads what it wrote.
 * N = SPAN demands rows that begin at multiples of 16 bytes. Sums: a span in halves, a lane's spans
 * in ascending order, then over the lanes as a butterfly. */
template <int N, class T>
__global__ void __launch_bounds__(FWD_LOOP_THREADS, ELEMENT_RESIDENT)
    layernorm_fwd_loop_kernel(const fwd_rows<T> a) {
    const int lane = (int)threadIdx.x % WARP;
    const int64_t columns = a.columns;
    for (int64_t row = thread_of_grid() / WARP; row < a.rows; row += threads_of_grid() / WARP) {
        const int64_t start = row * columns;
        const T *from = a.sum ? a.sum + start : a.inp + start;
        float x[N], y[N], total = 0.0f;
        for (int64_t c = lane * N; c < columns; c += WARP * N) {
            load_f32(x, a.inp + start + c);
            if (a.add) {
                load_f32(y, a.add + start + c);
#pragma unroll
                for (int i = 0; i < N; i++) x[i] = rounded(x[i] + y[i], T());
            }
            if (a.sum) store_f32(a.sum + start + c, x);
            total += sum_of(x);
        }
        const float mean = __fdiv_rn(warp_sum(total), (float)columns);
        total = 0.0f;
        for (int64_t c = lane * N; c < columns; c += WARP * N) {
            load_f32(x, from + c);
#pragma unroll
            for (int i = 0; i < N; i++) x[i] = (x[i] - mean) * (x[i] - mean);
            total += sum_of(x);
        }
        const float rstd = rstd_of(__fdiv_rn(warp_sum(total), (float)columns), a.eps);
        for (int64_t c = lane * N; c < columns; c += WARP * N) {
            load_f32(x, from + c);
            normalise(a, row, c, x, mean, rstd);
        }
        if (lane == 0 && a.mean) a.mean[row] = mean;
        if (lane == 0 && a.rstd) a.rstd[row] = rstd;
    }
}

template <class T> struct fwd_variant {
    int64_t columns; /* the most it takes */
    void (*kernel)(const fwd_rows<T>);
    int threads, rows; /* of a block */
};
#define FWD_VARIANT(spans, warps)                                                                  \
    {                                                                                              \
        (spans) * (warps)*SPAN_OF_WARP, layernorm_fwd_kernel<T, spans, warps>,                     \
            (warps) == 1 ? FWD_THREADS : (warps)*WARP, (warps) == 1 ? FWD_THREADS / WARP : 1       \
    }
/* The first that is wide enough runs. */
template <class T>
static const fwd_variant<T> g_fwd_variants[] = {
    FWD_VARIANT(1, 1), FWD_VARIANT(2, 1), FWD_VARIANT(3, 1), FWD_VARIANT(4, 1), FWD_VARIANT(5, 1),
    FWD_VARIANT(7, 1), FWD_VARIANT(9, 1), FWD_VARIANT(2, 8), FWD_VARIANT(3, 8), FWD_VARIANT(6, 8)};

template <class T>
static cudaError_t layernorm_fwd(seo_device *dev, const seo_layernorm_fwd_args *a) {
    const int64_t columns = a->weight.dims[0];
    const fwd_rows<T> rows = {(T *)a->out.data,
                              (T *)a->sum.data,
                              (float *)a->mean.data,
                              (float *)a->rstd.data,
                              (const T *)a->inp.data,
                              (const T *)a->add.data,
                              (const T *)a->weight.data,
                              (const T *)a->bias.data,
                              seo_tensor_count(&a->inp) / columns,
                              columns,
                              a->eps};
    const bool spans = columns % SPAN == 0 &&
                       spans_fit(rows.out, rows.sum, rows.inp, rows.add, rows.weight) &&
                       spans_fit(rows.bias);
    for (const fwd_variant<T> &v : g_fwd_variants<T>) {
        if (!spans || columns > v.columns) continue;
        return seo_launch(grid_over(dev, rows.rows, v.rows, v.threads), v.kernel, rows);
    }
    const seo_grid grid = grid_over(dev, rows.rows, FWD_LOOP_THREADS / WARP, FWD_LOOP_THREADS);
    return seo_launch(
        grid, spans ? layernorm_fwd_loop_kernel<SPAN, T> : layernorm_fwd_loop_kernel<1, T>, rows);
}

seo_err seo_cuda_layernorm_fwd(seo_device *dev, const seo_layernorm_fwd_args *a) {
    return seo_cuda_check(a->inp.dtype == SEO_DTYPE_BF16 ? layernorm_fwd<bf16>(dev, a)
                                                         : layernorm_fwd<float>(dev, a),
                          "layernorm_fwd");
}

/* ---- backward ---- */

enum {
    BWD_THREADS = 192, /* two such blocks leave a thread 168 registers, which bf16 needs */
    BWD_WARPS = BWD_THREADS / WARP,
    BWD_ROWS_LEAST = 4 * BWD_WARPS,
    BWD_SUMS = 3 /* dweight, dbias, dinp_sum: a part holds them in this order */
};

template <class T> struct bwd_rows {
    T *dinp;
    const T *dout, *inp, *weight;
    const float *mean, *rstd;
    float *parts;
    column_plan plan;
    int64_t rows, columns;
    bool accumulate;
};

/* Two sums of a row over the WARPS warps that share it, as row_sum; the block's warps hold several
 * rows, and all of them take part. part: 2 * BWD_WARPS numbers. */
template <int WARPS> SEO_DEVICE void row_sums(float &x, float &y, float *part) {
    x = warp_sum(x);
    y = warp_sum(y);
    if constexpr (WARPS > 1) {
        const int warp = (int)threadIdx.x / WARP, first = warp / WARPS * WARPS;
        if (threadIdx.x % WARP == 0) {
            part[2 * warp] = x;
            part[2 * warp + 1] = y;
        }
        __syncthreads();
        x = part[2 * first];
        y = part[2 * first + 1];
#pragma unroll
        for (int w = 1; w < WARPS; w++) {
            x += part[2 * (first + w)];
            y += part[2 * (first + w) + 1];
        }
    }
}

/* One span of a row as stored, and what a lane sums over its rows. */
template <class T> struct bwd_span { span<T> dout, inp, dinp; };
struct bwd_totals {
    float sum[BWD_SUMS][SPAN];
};

/* dweight and dbias of a span, and the two sums of its row. */
template <class T>
SEO_DEVICE void gather_span(const bwd_span<T> &row, const T *weight, float mean, float rstd,
                            bwd_totals &totals, float &dnorm_sum, float &dnorm_xhat_sum) {
    float dout[SPAN], x[SPAN], w[SPAN], dnorm_xhat[SPAN];
    span_unpack(dout, row.dout);
    span_unpack(x, row.inp);
    load_f32(w, weight);
#pragma unroll
    for (int i = 0; i < SPAN; i++) {
        const float xhat = (x[i] - mean) * rstd;
        totals.sum[0][i] += dout[i] * xhat;
        totals.sum[1][i] += dout[i];
        w[i] *= dout[i];
        dnorm_xhat[i] = w[i] * xhat;
    }
    dnorm_sum += sum_of(w);
    dnorm_xhat_sum += sum_of(dnorm_xhat);
}

/* dinp of a span, with the means over the row of dnorm and dnorm * xhat. */
template <class T>
SEO_DEVICE void write_span(const bwd_span<T> &row, const T *weight, float mean, float rstd,
                           float dnorm_mean, float dnorm_xhat_mean, bool accumulate,
                           bwd_totals &totals, T *dinp) {
    float dout[SPAN], x[SPAN], w[SPAN], to[SPAN];
    span_unpack(dout, row.dout);
    span_unpack(x, row.inp);
    load_f32(w, weight);
    if (accumulate) span_unpack(to, row.dinp);
#pragma unroll
    for (int i = 0; i < SPAN; i++) {
        const float xhat = (x[i] - mean) * rstd;
        const float dx = rstd * (dout[i] * w[i] - dnorm_mean - xhat * dnorm_xhat_mean);
        to[i] = rounded(accumulate ? to[i] + dx : dx, T());
        totals.sum[2][i] += to[i];
    }
    store_f32(dinp, to);
}

/* The totals of the block's row groups, added in ascending order, become the block's part. */
template <int SPANS, int WARPS>
SEO_DEVICE void fold_totals(const bwd_totals (&totals)[SPANS], float *folded, float *part,
                            int64_t columns) {
    const int lanes = WARPS * WARP, lane = (int)threadIdx.x % lanes;
    const int group = (int)threadIdx.x / lanes, groups = BWD_WARPS / WARPS;
    for (int g = 0; g < groups; g++) {
        if (groups > 1) __syncthreads();
        if (g != group) continue;
#pragma unroll
        for (int s = 0; s < SPANS; s++) {
            const int c = (s * lanes + lane) * SPAN;
#pragma unroll
            for (int k = 0; k < BWD_SUMS * SPAN; k++) {
                /* A word for each lane side by side: no bank is met twice. */
                float *at = folded + (s * BWD_SUMS * SPAN + k) * lanes + lane;
                float total = totals[s].sum[k / SPAN][k % SPAN];
                if (g > 0) total += *at;
                if (g < groups - 1) {
                    *at = total;
                } else if (c < columns) {
                    part[k / SPAN * columns + c + k % SPAN] = total;
                }
            }
        }
    }
}

/* Rows of up to SPANS * WARPS * 256 columns, a multiple of 8, that begin at multiples of 16 bytes.
 * Block b has the plan's row block b; its 6 / WARPS groups of warps take its rows in turn, so a
 * group's rows ascend. A lane holds its spans of the row, and the sums over its rows for its
 * columns; at the end the groups are added in ascending order and written as part b. Sums of a row:
 * as in the forward. 96 bytes of shared memory, and 12 for each column where there are several
 * groups. Bound: elements' bytes, 3 an element, 4 with accumulate. */
template <class T, int SPANS, int WARPS>
__global__ void __launch_bounds__(BWD_THREADS, sizeof(T) == 2 ? 2 : 1)
    layernorm_bwd_kernel(const bwd_rows<T> a) {
    const int lanes = WARPS * WARP, lane = (int)threadIdx.x % lanes, groups = BWD_WARPS / WARPS;
    SEO_SHARED(float, part, 4 * BWD_WARPS);
    SEO_SHARED(float, folded, (WARPS < BWD_WARPS ? SPANS * BWD_SUMS * SPAN * WARPS * WARP : 1));
    const int64_t from = blockIdx.x * a.plan.rows, end = min(a.rows, from + a.plan.rows);
    bwd_totals totals[SPANS] = {};
    for (int64_t base = from; base < end; base += groups) {
        /* A group without a row of its own goes along, for the barriers, and writes nothing. */
        const int64_t mine = base + (int)threadIdx.x / lanes;
        const bool given = mine < end;
        const int64_t row = given ? mine : base, start = row * a.columns;
        bwd_span<T> x[SPANS] = {};
#pragma unroll
        for (int s = 0; s < SPANS; s++) {
            const int c = (s * lanes + lane) * SPAN;
            if (!given || c >= a.columns) continue;
            x[s].dout = span_load(a.dout + start + c);
            x[s].inp = span_load(a.inp + start + c);
            if (a.accumulate) x[s].dinp = span_load(a.dinp + start + c);
        }
        const float mean = a.mean[row], rstd = a.rstd[row];
        float dnorm = 0.0f, dnorm_xhat = 0.0f;
#pragma unroll
        for (int s = 0; s < SPANS; s++) {
            const int c = (s * lanes + lane) * SPAN;
            if (!given || c >= a.columns) continue;
            gather_span(x[s], a.weight + c, mean, rstd, totals[s], dnorm, dnorm_xhat);
        }
        const int buffer = (int)((base - from) / groups % 2);
        row_sums<WARPS>(dnorm, dnorm_xhat, part + buffer * 2 * BWD_WARPS);
        dnorm = __fdiv_rn(dnorm, (float)a.columns);
        dnorm_xhat = __fdiv_rn(dnorm_xhat, (float)a.columns);
#pragma unroll
        for (int s = 0; s < SPANS; s++) {
            const int c = (s * lanes + lane) * SPAN;
            if (!given || c >= a.columns) continue;
            write_span(x[s], a.weight + c, mean, rstd, dnorm, dnorm_xhat, a.accumulate, totals[s],
                       a.dinp + start + c);
        }
    }
    fold_totals<SPANS, WARPS>(totals, folded, a.parts + blockIdx.x * a.plan.part, a.columns);
}

/* Any width: block b has the plan's row block b and takes its rows in ascending order, all threads
 * on one row; a thread has the same columns in every row and adds to them in part b itself, which
 * the cache holds. Two passes over the row. N = SPAN demands rows that begin at multiples of 16
 * bytes. Sums of a row: a thread's columns ascending, then as row_sums. 96 bytes of shared memory.
 */
template <int N, class T>
__global__ void __launch_bounds__(BWD_THREADS, 2) layernorm_bwd_loop_kernel(const bwd_rows<T> a) {
    SEO_SHARED(float, shared, 4 * BWD_WARPS);
    const int64_t columns = a.columns, stride = BWD_THREADS * N;
    const int64_t from = blockIdx.x * a.plan.rows, end = min(a.rows, from + a.plan.rows);
    float *dweight = a.parts + blockIdx.x * a.plan.part;
    float *dbias = dweight + columns, *dinp_sum = dbias + columns;
    float dout[N], x[N], w[N], to[N];
    for (int64_t row = from; row < end; row++) {
        const T *dout_row = a.dout + row * columns, *inp_row = a.inp + row * columns;
        T *dinp_row = a.dinp + row * columns;
        const float mean = a.mean[row], rstd = a.rstd[row];
        float dnorm = 0.0f, dnorm_xhat = 0.0f;
        for (int64_t c = (int64_t)threadIdx.x * N; c < columns; c += stride) {
            load_f32(dout, dout_row + c);
            load_f32(x, inp_row + c);
            load_f32(w, a.weight + c);
#pragma unroll
            for (int i = 0; i < N; i++) {
                const float xhat = (x[i] - mean) * rstd;
                dweight[c + i] = (row > from ? dweight[c + i] : 0.0f) + dout[i] * xhat;
                dbias[c + i] = (row > from ? dbias[c + i] : 0.0f) + dout[i];
                w[i] *= dout[i];
                x[i] = w[i] * xhat;
            }
            dnorm += sum_of(w);
            dnorm_xhat += sum_of(x);
        }
        row_sums<BWD_WARPS>(dnorm, dnorm_xhat, shared + (row - from) % 2 * 2 * BWD_WARPS);
        dnorm = __fdiv_rn(dnorm, (float)columns);
        dnorm_xhat = __fdiv_rn(dnorm_xhat, (float)columns);
        for (int64_t c = (int64_t)threadIdx.x * N; c < columns; c += stride) {
            load_f32(dout, dout_row + c);
            load_f32(x, inp_row + c);
            load_f32(w, a.weight + c);
            if (a.accumulate) load_f32(to, dinp_row + c);
#pragma unroll
            for (int i = 0; i < N; i++) {
                const float xhat = (x[i] - mean) * rstd;
                const float dx = rstd * (dout[i] * w[i] - dnorm - xhat * dnorm_xhat);
                to[i] = rounded(a.accumulate ? to[i] + dx : dx, T());
                dinp_sum[c + i] = (row > from ? dinp_sum[c + i] : 0.0f) + to[i];
            }
            store_f32(dinp_row + c, to);
        }
    }
}

template <class T> struct bwd_variant {
    int64_t columns; /* the most it takes */
    void (*kernel)(const bwd_rows<T>);
};
#define BWD_VARIANT(spans, warps)                                                                  \
    { (spans) * (warps)*SPAN_OF_WARP, layernorm_bwd_kernel<T, spans, warps> }
/* The first that is wide enough runs. */
template <class T>
static const bwd_variant<T> g_bwd_variants[] = {
    BWD_VARIANT(1, 1), BWD_VARIANT(2, 1), BWD_VARIANT(3, 1), BWD_VARIANT(2, 2),
    BWD_VARIANT(3, 2), BWD_VARIANT(3, 3), BWD_VARIANT(2, 6), BWD_VARIANT(3, 6)};

template <class T>
static cudaError_t layernorm_bwd(seo_device *dev, const seo_layernorm_bwd_args *a,
                                 const column_plan &plan) {
    const int64_t columns = a->weight.dims[0];
    const bwd_rows<T> rows = {(T *)a->dinp.data,
                              (const T *)a->dout.data,
                              (const T *)a->inp.data,
                              (const T *)a->weight.data,
                              (const float *)a->mean.data,
                              (const float *)a->rstd.data,
                              (float *)dev->scratch,
                              plan,
                              seo_tensor_count(&a->inp) / columns,
                              columns,
                              a->accumulate};
    const bool spans =
        columns % SPAN == 0 && spans_fit(rows.dinp, rows.dout, rows.inp, rows.weight);
    const seo_grid grid = {dim3((unsigned)plan.blocks), dim3(BWD_THREADS), 0,
                           seo_cuda_of(dev)->stream};
    for (const bwd_variant<T> &v : g_bwd_variants<T>) {
        if (spans && columns <= v.columns) return seo_launch(grid, v.kernel, rows);
    }
    return seo_launch(
        grid, spans ? layernorm_bwd_loop_kernel<SPAN, T> : layernorm_bwd_loop_kernel<1, T>, rows);
}

seo_err seo_cuda_layernorm_bwd(seo_device *dev, const seo_layernorm_bwd_args *a) {
    const int64_t columns = a->weight.dims[0], rows = seo_tensor_count(&a->inp) / columns;
    const int64_t most = SEO_CUDA_SCRATCH_BYTES / (BWD_SUMS * (int64_t)sizeof(float));
    if (columns > most) {
        return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                        "layernorm_bwd: C is %lld, the CUDA backend takes up to %lld",
                        (long long)columns, (long long)most);
    }
    const column_plan plan = plan_columns(rows, BWD_SUMS * columns, BWD_ROWS_LEAST);
    cudaError_t queued = a->inp.dtype == SEO_DTYPE_BF16 ? layernorm_bwd<bf16>(dev, a, plan)
                                                        : layernorm_bwd<float>(dev, a, plan);
    if (queued == cudaSuccess) {
        queued = add_column_parts(
            dev, plan,
            {{(float *)a->dweight.data, (float *)a->dbias.data, (float *)a->dinp_sum.data},
             BWD_SUMS,
             columns});
    }
    return seo_cuda_check(queued, "layernorm_bwd");
}
