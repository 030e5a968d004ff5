/* Token, position and token type embeddings. The backward takes the rows grouped by id
 * (base/groups.h), so that each sum has one owner and one order. */
#include <math.h>

#include "kernels/cuda/column_parts.cuh"

enum { EMBEDDING_THREADS = 256, EMBEDDING_WARPS = EMBEDDING_THREADS / WARP };

/* ---- forward ---- */

template <class T> struct embedding_rows {
    T *out;
    const int32_t *ids;
    const T *wte, *wpe; /* wpe from the first position on */
    const int32_t *types;
    const T *wtt; /* null, like types: there are none */
    int64_t rows, positions, columns, vocab, type_count;
    int32_t *fault;
};

/* One warp a row, N columns a lane at a time; grid-stride over the rows. The sum is rounded once. A
 * row whose id or type is outside its table becomes NaN, and the fault is reported. N = SPAN
 * demands rows that begin at multiples of 16 bytes. No shared memory. Bound: one element's bytes an
 * element written, and as much read of wte where rows do not repeat. */
template <int N, class T>
__global__ void __launch_bounds__(EMBEDDING_THREADS, ELEMENT_RESIDENT)
    embedding_fwd_kernel(const embedding_rows<T> a) {
    const int lane = (int)threadIdx.x % WARP;
    const int64_t step = threads_of_grid() / WARP;
    for (int64_t row = thread_of_grid() / WARP; row < a.rows; row += step) {
        const int64_t id = a.ids[row];
        const int64_t type = a.types ? a.types[row] : 0;
        const bool has_token = id >= 0 && id < a.vocab, has_type = type >= 0 && type < a.type_count;
        if (!has_token && lane == 0) *a.fault = SEO_CUDA_FAULT_EMBEDDING_ID;
        if (!has_type && lane == 0) *a.fault = SEO_CUDA_FAULT_TOKEN_TYPE;
        const bool known = has_token && has_type;
        const T *token = a.wte + (known ? id : 0) * a.columns;
        const T *of_type = a.wtt + (known ? type : 0) * a.columns;
        const T *position = a.wpe + row % a.positions * a.columns;
        for (int64_t c = lane * N; c < a.columns; c += WARP * N) {
            float x[N], y[N];
            load_f32(x, token + c);
            load_f32(y, position + c);
#pragma unroll
            for (int i = 0; i < N; i++) x[i] = known ? x[i] + y[i] : NAN;
            if (a.wtt) {
                load_f32(y, of_type + c);
#pragma unroll
                for (int i = 0; i < N; i++) x[i] += y[i];
            }
            store_f32(a.out + row * a.columns + c, x);
        }
    }
}

template <class T>
static cudaError_t embedding_fwd(seo_device *dev, const seo_embedding_fwd_args *a) {
    const int64_t columns = a->out.dims[2];
    const embedding_rows<T> x = {(T *)a->out.data,
                                 (const int32_t *)a->ids.data,
                                 (const T *)a->wte.data,
                                 (const T *)a->wpe.data + a->first_position * columns,
                                 (const int32_t *)a->types.data,
                                 (const T *)a->wtt.data,
                                 a->out.dims[0] * a->out.dims[1],
                                 a->out.dims[1],
                                 columns,
                                 a->wte.dims[0],
                                 a->types.data ? a->wtt.dims[0] : 1,
                                 seo_cuda_of(dev)->fault};
    const bool spans = columns % SPAN == 0 && spans_fit(x.out, x.wte, x.wpe, x.wtt);
    return seo_launch(grid_over(dev, x.rows, EMBEDDING_WARPS, EMBEDDING_THREADS),
                      spans ? embedding_fwd_kernel<SPAN, T> : embedding_fwd_kernel<1, T>, x);
}

seo_err seo_cuda_embedding_fwd(seo_device *dev, const seo_embedding_fwd_args *a) {
    return seo_cuda_check(a->out.dtype == SEO_DTYPE_BF16 ? embedding_fwd<bf16>(dev, a)
                                                         : embedding_fwd<float>(dev, a),
                          "embedding_fwd");
}

/* ---- backward ---- */

/* A slice of the columns, [from, from + width), that the slots of all split groups have room for in
 * the scratch. */
template <class T> struct embedding_slice {
    float *dwte, *slots; /* slots: (slot, width) */
    const T *dout;
    const int32_t *counts, *rows, *pieces, *joins; /* the lists of the groups */
    int64_t columns, from, width, vocab;
    int32_t *fault;
};

/* One warp has a piece of a group, at most 64 rows of one id, and WARP * N columns of the slice: it
 * adds the rows in their order. A group of one piece is added to dwte; the pieces of a larger one
 * go to slots. Warps take pieces until there are no more, as many as `groups` says. A group whose
 * id is outside the table is left out, and the fault is reported. N = SPAN demands that rows of the
 * slice begin at multiples of 16 bytes. No shared memory. Bound: one element's bytes an element of
 * dout, and 8 bytes an element of the rows of dwte that are met. */
template <int N, class T>
__global__ void __launch_bounds__(EMBEDDING_THREADS, ELEMENT_RESIDENT)
    embedding_pieces_kernel(const embedding_slice<T> a) {
    const int lane = (int)threadIdx.x % WARP;
    const int64_t tiles = (a.width + WARP * N - 1) / (WARP * N);
    const int64_t work = a.counts[0] * tiles, step = threads_of_grid() / WARP;
    for (int64_t w = thread_of_grid() / WARP; w < work; w += step) {
        const int32_t *piece = a.pieces + w / tiles * SEO_GROUPS_RECORD;
        const int64_t c = (w % tiles * WARP + lane) * N, id = piece[0];
        if (id < 0 || id >= a.vocab) {
            if (lane == 0) *a.fault = SEO_CUDA_FAULT_EMBEDDING_ID;
            continue;
        }
        if (c >= a.width) continue;
        const int32_t *list = a.rows + piece[1];
        const int length = piece[2], slot = piece[3];
        float total[N] = {};
#pragma unroll 4
        for (int r = 0; r < length; r++) {
            float x[N];
            load_f32(x, a.dout + list[r] * a.columns + a.from + c);
#pragma unroll
            for (int i = 0; i < N; i++) total[i] += x[i];
        }
        if (slot >= 0) {
            store_f32(a.slots + slot * a.width + c, total);
            continue;
        }
        float *to = a.dwte + id * a.columns + a.from + c, x[N];
        load_f32(x, to);
#pragma unroll
        for (int i = 0; i < N; i++) x[i] += total[i];
        store_f32(to, x);
    }
}

/* One warp has a group of several pieces and WARP * N columns of the slice: it adds the slots in
 * ascending order, and the sum to dwte. Otherwise as above. Bound: 4 bytes an element of a slot. */
template <int N, class T>
__global__ void __launch_bounds__(EMBEDDING_THREADS, ELEMENT_RESIDENT)
    embedding_joins_kernel(const embedding_slice<T> a) {
    const int lane = (int)threadIdx.x % WARP;
    const int64_t tiles = (a.width + WARP * N - 1) / (WARP * N);
    const int64_t work = a.counts[1] * tiles, step = threads_of_grid() / WARP;
    for (int64_t w = thread_of_grid() / WARP; w < work; w += step) {
        const int32_t *join = a.joins + w / tiles * SEO_GROUPS_RECORD;
        const int64_t c = (w % tiles * WARP + lane) * N, id = join[0], first = join[1];
        if (c >= a.width || id < 0 || id >= a.vocab) continue;
        float total[N] = {}, x[N];
#pragma unroll 4
        for (int s = 0; s < join[2]; s++) {
            load_f32(x, a.slots + (first + s) * a.width + c);
#pragma unroll
            for (int i = 0; i < N; i++) total[i] += x[i];
        }
        float *to = a.dwte + id * a.columns + a.from + c;
        load_f32(x, to);
#pragma unroll
        for (int i = 0; i < N; i++) x[i] += total[i];
        store_f32(to, x);
    }
}

/* dwpe[t] += the sum over sequences, ascending, of dout[b,t]. A thread has N elements of dwpe;
 * grid-stride. N = SPAN demands that both arrays begin at multiples of 16 bytes and hold positions
 * of a multiple of SPAN elements. No shared memory. Bound: one element's bytes an element of dout.
 */
template <int N, class T>
__global__ void __launch_bounds__(EMBEDDING_THREADS, ELEMENT_RESIDENT)
    embedding_positions_kernel(float *dwpe, const T *dout, int64_t sequences,
                               int64_t per_sequence) {
    const int64_t step = threads_of_grid() * N;
    for (int64_t i = thread_of_grid() * N; i < per_sequence; i += step) {
        float total[N] = {}, x[N];
#pragma unroll 4
        for (int64_t b = 0; b < sequences; b++) {
            load_f32(x, dout + b * per_sequence + i);
#pragma unroll
            for (int j = 0; j < N; j++) total[j] += x[j];
        }
        load_f32(x, dwpe + i);
#pragma unroll
        for (int j = 0; j < N; j++) x[j] += total[j];
        store_f32(dwpe + i, x);
    }
}

enum { TYPE_ROWS_LEAST = 64 };

/* A block of rows' sums for each type. Block (x, y, k) has 256 N columns of tile x, N a thread, and
 * adds the rows of row block y whose type is k in ascending order, 0 where there is none. A type
 * outside the table belongs to no k; the first column's thread of k = 0 reports it. N = SPAN
 * demands rows that begin at multiples of 16 bytes. No shared memory. Bound: one element's bytes an
 * element of dout, and 4 bytes a row for each type and tile. */
template <int N, class T>
__global__ void __launch_bounds__(EMBEDDING_THREADS, ELEMENT_RESIDENT)
    embedding_types_kernel(float *parts, const T *dout, const int32_t *types, column_plan plan,
                           int64_t rows, int64_t columns, int32_t *fault) {
    const int64_t column = thread_of_grid() * N;
    const int64_t from = blockIdx.y * plan.rows, end = min(rows, from + plan.rows);
    const int type = (int)blockIdx.z, type_count = (int)gridDim.z;
    if (column >= columns) return;
    float total[N] = {};
    for (int64_t r = from; r < end; r++) {
        const int is = types[r];
        if (column == 0 && type == 0 && (is < 0 || is >= type_count)) {
            *fault = SEO_CUDA_FAULT_TOKEN_TYPE;
        }
        if (is != type) continue;
        float x[N];
        load_f32(x, dout + r * columns + column);
#pragma unroll
        for (int i = 0; i < N; i++) total[i] += x[i];
    }
    float *part = parts + blockIdx.y * plan.part + type * columns + column;
#pragma unroll
    for (int i = 0; i < N; i++) part[i] = total[i];
}

template <int N, class T>
static cudaError_t embedding_types(seo_device *dev, const seo_embedding_bwd_args *a) {
    const int64_t columns = a->dout.dims[2], rows = a->dout.dims[0] * a->dout.dims[1];
    const int64_t sums = seo_tensor_count(&a->dwtt);
    const column_plan plan = plan_columns(rows, sums, TYPE_ROWS_LEAST);
    const int64_t tiles = seo_div_up(columns, EMBEDDING_THREADS * N);
    const seo_grid grid = {dim3((unsigned)tiles, (unsigned)plan.blocks, (unsigned)a->dwtt.dims[0]),
                           dim3(EMBEDDING_THREADS), 0, seo_cuda_of(dev)->stream};
    const cudaError_t queued = seo_launch(grid, embedding_types_kernel<N, T>, (float *)dev->scratch,
                                          (const T *)a->dout.data, (const int32_t *)a->types.data,
                                          plan, rows, columns, seo_cuda_of(dev)->fault);
    if (queued != cudaSuccess) return queued;
    return add_column_parts(dev, plan, {{(float *)a->dwtt.data, nullptr, nullptr}, 1, sums});
}

/* The grid of a kernel whose work only the device knows: at most `most` pieces or joins. */
template <int N, class T>
static cudaError_t launch_slice(seo_device *dev, void (*kernel)(const embedding_slice<T>),
                                const embedding_slice<T> &slice, int64_t most) {
    const int64_t tiles = seo_div_up(slice.width, WARP * N);
    return seo_launch(grid_over(dev, most * tiles, EMBEDDING_WARPS, EMBEDDING_THREADS), kernel,
                      slice);
}

template <int N, class T>
static cudaError_t embedding_bwd(seo_device *dev, const seo_embedding_bwd_args *a, int64_t width) {
    const int64_t columns = a->dout.dims[2], rows = a->dout.dims[0] * a->dout.dims[1];
    const int64_t per_sequence = a->dout.dims[1] * columns;
    const int32_t *groups = (const int32_t *)a->groups.data;
    embedding_slice<T> slice = {(float *)a->dwte.data,
                                (float *)dev->scratch,
                                (const T *)a->dout.data,
                                groups,
                                groups + seo_groups_rows_at(rows),
                                groups + seo_groups_pieces_at(rows),
                                groups + seo_groups_joins_at(rows),
                                columns,
                                0,
                                width,
                                a->dwte.dims[0],
                                seo_cuda_of(dev)->fault};
    cudaError_t queued = cudaSuccess;
    for (; queued == cudaSuccess && slice.from < columns; slice.from += width) {
        slice.width = seo_min_i64(width, columns - slice.from);
        queued = launch_slice<N>(dev, embedding_pieces_kernel<N, T>, slice, rows);
        const int64_t joins = rows / SEO_GROUPS_PIECE;
        if (queued != cudaSuccess || joins == 0) continue;
        queued = launch_slice<N>(dev, embedding_joins_kernel<N, T>, slice, joins);
    }
    if (queued != cudaSuccess) return queued;
    queued = seo_launch(
        grid_over(dev, seo_div_up(per_sequence, N), EMBEDDING_THREADS, EMBEDDING_THREADS),
        embedding_positions_kernel<N, T>, (float *)a->dwpe.data + a->first_position * columns,
        (const T *)a->dout.data, a->dout.dims[0], per_sequence);
    if (queued != cudaSuccess || !seo_tensor_given(&a->types)) return queued;
    return embedding_types<N, T>(dev, a);
}

seo_err seo_cuda_embedding_bwd(seo_device *dev, const seo_embedding_bwd_args *a) {
    if (!seo_tensor_given(&a->groups)) {
        return SEO_FAIL(SEO_ERR_ARG, "embedding_bwd: the CUDA backend needs groups: make them of "
                                     "the ids with seo_groups_build");
    }
    const int64_t columns = a->dout.dims[2], rows = a->dout.dims[0] * a->dout.dims[1];
    const int64_t slot_bytes = seo_groups_slots_max(rows) * (int64_t)sizeof(float);
    const int64_t room = SEO_CUDA_SCRATCH_BYTES / slot_bytes;
    if (room < 1) {
        return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                        "embedding_bwd: %lld rows at a time are more than the CUDA backend takes: "
                        "use a smaller micro-batch",
                        (long long)rows);
    }
    if (seo_tensor_bytes(&a->dwtt) > SEO_CUDA_SCRATCH_BYTES) {
        return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                        "embedding_bwd: %lld token types of %lld columns are more than the CUDA "
                        "backend takes",
                        (long long)a->dwtt.dims[0], (long long)columns);
    }
    const bool spans =
        columns % SPAN == 0 && room >= SPAN && spans_fit(a->dwte.data, a->dwpe.data, a->dout.data);
    const int64_t width = seo_min_i64(columns, spans ? room / SPAN * SPAN : room);
    cudaError_t queued;
    if (a->dout.dtype == SEO_DTYPE_BF16) {
        queued = spans ? embedding_bwd<SPAN, bf16>(dev, a, width)
                       : embedding_bwd<1, bf16>(dev, a, width);
    } else {
        queued = spans ? embedding_bwd<SPAN, float>(dev, a, width)
                       : embedding_bwd<1, float>(dev, a, width);
    }
    return seo_cuda_check(queued, "embedding_bwd");
}
