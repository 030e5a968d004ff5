/* The matrix product: which kernel runs, how k is split, and the sum of the splits. */
#include "base/check.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/matmul_epilogue.cuh"

/* A kernel, and what it asks for. The first row that fits is taken; the last one of a dtype always
 * fits. A capability below `from` or above `to` is not served. */
struct matmul_variant {
    const char *name;
    seo_dtype dtype;
    bool aligned; /* needs 16-byte rows of both operands */
    int32_t from, to;
    int32_t tile_m, tile_n;
    int64_t blocks;               /* needs a grid of at least as many, to fill a large device */
    matmul_launch *const *launch; /* of each layout; NULL where it has none */
};

enum { ANY_CAPABILITY = 9999 };
/* The build holds the instructions of sm_90a. */
#if defined(SEO_SIMT) || (defined(SEO_CUDA_HAS_SM90A) && SEO_CUDA_HAS_SM90A)
enum { WGMMA_CAPABILITY = 90 };
#else
enum { WGMMA_CAPABILITY = 0 };
#endif
static const matmul_variant VARIANTS[] = {
    {"wgmma 256x128", SEO_DTYPE_BF16, true, WGMMA_CAPABILITY, WGMMA_CAPABILITY, 256, 128, 96,
     seo_matmul_wgmma},
    /* 96 KiB of shared memory leave room for one block on a multiprocessor of sm_86 and sm_89, and
     * they have less need of it: it pays from sm_80's ratio of flops to bytes on. */
    {"mma 128x256", SEO_DTYPE_BF16, true, 80, 80, 128, 256, 128, seo_matmul_mma_256},
    {"mma 128x256", SEO_DTYPE_BF16, true, 90, ANY_CAPABILITY, 128, 256, 128, seo_matmul_mma_256},
    {"mma 128x128", SEO_DTYPE_BF16, true, 80, ANY_CAPABILITY, 128, 128, 96, seo_matmul_mma_128},
    {"mma 64x64", SEO_DTYPE_BF16, true, 80, ANY_CAPABILITY, 64, 64, 0, seo_matmul_mma_64},
    {"mma 64x64 by element", SEO_DTYPE_BF16, false, 80, ANY_CAPABILITY, 64, 64, 0,
     seo_matmul_mma_elements},
    {"f32 128x128", SEO_DTYPE_F32, false, 80, ANY_CAPABILITY, 128, 128, 96, seo_matmul_f32_128},
    {"f32 64x64", SEO_DTYPE_F32, false, 80, ANY_CAPABILITY, 64, 64, 0, seo_matmul_f32_64},
};

/* A grid that leaves most of a device idle, over a long k, is multiplied by splitting k: the
 * gradients of weights, a few hundred rows and columns over tens of thousands of tokens. The count
 * depends on the shape alone, so that the order of the sum is the same on every device. */
enum { SPLIT_FILL = 512, SPLIT_TILE = 128, SPLIT_K = 1024, SPLIT_MOST = 32 };
static int32_t split_count(int64_t m, int64_t n, int64_t k) {
    const int64_t tiles = seo_div_up(m, SPLIT_TILE) * seo_div_up(n, SPLIT_TILE);
    int64_t splits = seo_min_i64(SPLIT_FILL / tiles, k / SPLIT_K);
    splits = seo_min_i64(splits, SEO_CUDA_SCRATCH_BYTES / (m * n * (int64_t)sizeof(float)));
    splits = seo_min_i64(splits, SPLIT_MOST);
    return splits < 2 ? 1 : (int32_t)splits;
}

/* Whether it can do it at all. */
static bool serves(const matmul_variant &v, const matmul_problem &p, const seo_matmul_args *a,
                   int32_t capability) {
    return v.dtype == a->a.dtype && capability >= v.from && capability <= v.to &&
           (p.aligned || !v.aligned) && v.launch[a->layout];
}

/* Whether it should: with enough blocks, and at most a sixteenth of the columns for padding. */
static bool suits(const matmul_variant &v, const matmul_problem &p) {
    const int64_t columns = seo_div_up(p.n, v.tile_n);
    return v.blocks == 0 || (columns * v.tile_n - p.n <= p.n / 16 &&
                             columns * seo_div_up(p.m, v.tile_m) * p.splits >= v.blocks);
}

static int32_t variant_for(const matmul_problem &p, const seo_matmul_args *a, int32_t capability) {
    int32_t i = 0;
    const int32_t last = (int32_t)SEO_COUNT_OF(VARIANTS) - 1;
    while (i < last && !(serves(VARIANTS[i], p, a, capability) && suits(VARIANTS[i], p))) i++;
    return i;
}

static bool vector_rows(const void *at, int64_t row_bytes) {
    return (uintptr_t)at % 16 == 0 && row_bytes % 16 == 0;
}

static matmul_problem problem_of(const seo_matmul_args *a) {
    matmul_problem p = {};
    const bool transposed = a->layout == SEO_MATMUL_TN;
    p.n = a->out.dims[a->out.rank - 1];
    p.m = seo_tensor_count(&a->out) / p.n;
    p.k = seo_tensor_count(&a->a) / p.m;
    p.a = a->a.data;
    p.b = a->b.data;
    p.a_pitch = transposed ? p.m : p.k;
    p.b_pitch = a->layout == SEO_MATMUL_NT ? p.k : p.n;
    const int64_t size = seo_dtype_bytes(a->a.dtype);
    p.aligned = vector_rows(p.a, p.a_pitch * size) && vector_rows(p.b, p.b_pitch * size);
    p.splits = split_count(p.m, p.n, p.k);
    p.k_split = seo_round_up(seo_div_up(p.k, p.splits), MATMUL_K_UNIT);
    p.splits = (int32_t)seo_div_up(p.k, p.k_split);

    p.to.out = a->out.data;
    p.to.bias = seo_tensor_given(&a->bias) ? a->bias.data : nullptr;
    p.to.pre = seo_tensor_given(&a->pre) ? a->pre.data : nullptr;
    p.to.m = p.m;
    p.to.n = p.n;
    p.to.wide = a->out.dtype != a->a.dtype;
    const int64_t row_bytes = p.n * seo_dtype_bytes(a->out.dtype);
    p.to.vectors = vector_rows(p.to.out, row_bytes) && vector_rows(p.to.pre, row_bytes) &&
                   vector_rows(p.to.bias, 0);
    p.to.accumulate = a->accumulate;
    p.to.epilogue = a->epilogue;
    p.to.gelu = a->gelu;
    return p;
}

enum { JOIN_COLUMNS = 8, JOIN_THREADS = 256 };

/* The output from the sums of the splits, added in the order of k; a thread has 8 columns of a row.
 * Bound: bytes, of `splits` partial results and of what the epilogue moves. */
template <class S>
__global__ void __launch_bounds__(JOIN_THREADS)
    matmul_join_kernel(const float *parts, int32_t splits,
                       const __grid_constant__ matmul_output to) {
    const int64_t item = (int64_t)blockIdx.x * JOIN_THREADS + threadIdx.x;
    const int64_t per_row = (to.n + JOIN_COLUMNS - 1) / JOIN_COLUMNS;
    const matmul_span span =
        matmul_span_of<JOIN_COLUMNS>(to, item / per_row, item % per_row * JOIN_COLUMNS);
    if (span.count == 0) return;
    matmul_span from = span;
    from.vector = span.count == JOIN_COLUMNS && to.n % 4 == 0;
    float x[JOIN_COLUMNS], prior[JOIN_COLUMNS];
    matmul_prior<S>(prior, to, span);
    load_span<float>(x, parts, span.at, from);
    for (int32_t s = 1; s < splits; s++) {
        float more[JOIN_COLUMNS];
        load_span<float>(more, parts, s * to.m * to.n + span.at, from);
#pragma unroll
        for (int i = 0; i < JOIN_COLUMNS; i++) x[i] += more[i];
    }
    matmul_finish<S>(x, prior, to, span);
}

static cudaError_t join(const matmul_problem &p, seo_dtype dtype, const float *parts,
                        cudaStream_t stream) {
    const int64_t items = p.m * seo_div_up(p.n, JOIN_COLUMNS);
    const seo_grid grid = {dim3((unsigned)seo_div_up(items, JOIN_THREADS)), dim3(JOIN_THREADS), 0,
                           stream};
    return dtype == SEO_DTYPE_F32
               ? seo_launch(grid, matmul_join_kernel<float>, parts, p.splits, p.to)
               : seo_launch(grid, matmul_join_kernel<bf16>, parts, p.splits, p.to);
}

int32_t seo_matmul_variant_count(void) {
    return (int32_t)SEO_COUNT_OF(VARIANTS);
}

const char *seo_matmul_variant_name(int32_t variant) {
    return VARIANTS[variant].name;
}

int32_t seo_matmul_variant_capability(int32_t variant) {
    return VARIANTS[variant].from;
}

int32_t seo_matmul_variant_for(const seo_device *dev, const seo_matmul_args *a) {
    return variant_for(problem_of(a), a, seo_cuda_of(dev)->capability);
}

seo_err seo_matmul_own(seo_device *dev, const seo_matmul_args *a, int32_t variant) {
    const seo_cuda *cuda = seo_cuda_of(dev);
    const matmul_problem whole = problem_of(a);
    const bool by_table = variant == SEO_MATMUL_BY_TABLE;
    const matmul_variant &v =
        VARIANTS[by_table ? variant_for(whole, a, cuda->capability) : variant];
    if (!serves(v, whole, a, cuda->capability)) {
        return SEO_FAIL(SEO_ERR_UNSUPPORTED, "matmul: %s does not serve this product on sm_%d",
                        v.name, (int)cuda->capability);
    }
    matmul_problem p = whole;
    if (p.splits > 1) {
        p.to = {};
        p.to.out = dev->scratch;
        p.to.m = p.m;
        p.to.n = p.n;
        p.to.wide = 1;
        p.to.vectors = p.n % 4 == 0;
    }
    cudaError_t queued = v.launch[a->layout](p, cuda->stream);
    if (queued == cudaSuccess && p.splits > 1) {
        queued = join(whole, a->a.dtype, (const float *)dev->scratch, cuda->stream);
    }
    return seo_cuda_check(queued, v.name);
}

seo_err seo_cuda_matmul(seo_device *dev, const seo_matmul_args *a) {
    const seo_cuda *cuda = seo_cuda_of(dev);
    if (cuda->library && cuda->matmul != SEO_MATMUL_OWN) return cuda->library->matmul(dev, a);
    return seo_matmul_own(dev, a, SEO_MATMUL_BY_TABLE);
}
