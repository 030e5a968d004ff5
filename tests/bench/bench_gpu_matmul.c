/* Matrix products: the yardstick, and those of a GPT-2 training step. */
#include <stdio.h>

#include "base/check.h"
#include "tests/bench/bench_gpu.h"

#define F32 SEO_DTYPE_F32

enum { VOCAB_PADDED = 50304, SQUARE = 8192, COPY_BYTES = 1 << 30 };

static seo_err run_matmul(seo_device *dev, const void *args) {
    return seo_matmul(dev, args);
}

static seo_err run_copy(seo_device *dev, const void *args) {
    const seo_tensor *pair = args;
    return seo_device_copy(dev, pair[0].data, pair[1].data, seo_tensor_bytes(&pair[0]));
}

/* What the device copies, bytes read plus written, and what NVIDIA's library multiplies. */
void gpu_bench_yardsticks(gpu_bench *b) {
    const bool real = !seo_device_is_cpu(b->own);
    const int64_t bytes = real ? COPY_BYTES : COPY_BYTES / 16, n = real ? SQUARE : SQUARE / 16;
    seo_tensor pair[2];
    if (gpu_bench_zeros(b, F32, 1, bytes / 4, &pair[0]) == SEO_OK &&
        gpu_bench_random(b, F32, 1, bytes / 4, 1, &pair[1]) == SEO_OK) {
        const gpu_line line = {.op = "copy",
                               .what = "device to device",
                               .run = run_copy,
                               .args = pair,
                               .bytes = 2.0 * (double)bytes};
        gpu_bench_line(b, &line);
    } else {
        gpu_bench_failed(b, "copy", "device to device");
    }
    gpu_bench_release(b);

    seo_matmul_args args = {.layout = SEO_MATMUL_NT};
    gpu_line line = {.op = "matmul",
                     .run = run_matmul,
                     .args = &args,
                     .flop = 2.0 * (double)n * (double)n * (double)n,
                     .bytes = 3.0 * (double)(n * n * seo_dtype_bytes(b->storage)),
                     .against_blas = true};
    snprintf(line.what, sizeof line.what, "square NT %lldx%lldx%lld", (long long)n, (long long)n,
             (long long)n);
    if (gpu_bench_zeros(b, b->storage, n, n, &args.out) == SEO_OK &&
        gpu_bench_random(b, b->storage, n, n, 1, &args.a) == SEO_OK &&
        gpu_bench_random(b, b->storage, n, n, 1, &args.b) == SEO_OK) {
        gpu_bench_line(b, &line);
    } else {
        gpu_bench_failed(b, line.op, line.what);
    }
    gpu_bench_release(b);
}

typedef enum extra { PLAIN, BIAS, BIAS_GELU, DGELU, ACCUMULATE } extra;

/* Sizes in terms of the hidden size C, the rows R and the padded vocabulary P, for any width. */
typedef enum size { R, C, C3, C4, P } size;

static const struct {
    const char *name;
    seo_matmul_layout layout;
    size m, n, k;
    extra extra;
} k_products[] = {
    {"qkv", SEO_MATMUL_NT, R, C3, C, BIAS},
    {"proj", SEO_MATMUL_NT, R, C, C, BIAS},
    {"fc", SEO_MATMUL_NT, R, C4, C, BIAS_GELU},
    {"fcproj", SEO_MATMUL_NT, R, C, C4, BIAS},
    {"head", SEO_MATMUL_NT, R, P, C, PLAIN},
    {"qkv dX", SEO_MATMUL_NN, R, C, C3, PLAIN},
    {"proj dX", SEO_MATMUL_NN, R, C, C, PLAIN},
    {"fc dX", SEO_MATMUL_NN, R, C, C4, PLAIN},
    {"fcproj dX", SEO_MATMUL_NN, R, C4, C, DGELU},
    {"head dX", SEO_MATMUL_NN, R, C, P, PLAIN},
    {"qkv dW", SEO_MATMUL_TN, C3, C, R, ACCUMULATE},
    {"proj dW", SEO_MATMUL_TN, C, C, R, ACCUMULATE},
    {"fc dW", SEO_MATMUL_TN, C4, C, R, ACCUMULATE},
    {"fcproj dW", SEO_MATMUL_TN, C, C4, R, ACCUMULATE},
    {"head dW", SEO_MATMUL_TN, P, C, R, ACCUMULATE},
};
static const char *const k_extra_names[] = {"", " bias", " bias gelu", " dgelu", " f32 +="};
static const char *const k_layout_names[] = {"NT", "NN", "TN"};

static int64_t size_of(const gpu_bench *b, size s, int64_t width) {
    switch (s) {
    case R: return b->batch * b->positions;
    case C: return width;
    case C3: return 3 * width;
    case C4: return 4 * width;
    case P: return VOCAB_PADDED;
    }
    return 0;
}

static seo_err make_operands(gpu_bench *b, seo_matmul_args *a, extra with, int64_t m, int64_t n,
                             int64_t k) {
    seo_err err = SEO_OK;
    const bool at = a->layout == SEO_MATMUL_TN, bt = a->layout == SEO_MATMUL_NT;
    SEO_TRY(gpu_bench_zeros(b, with == ACCUMULATE ? F32 : b->storage, m, n, &a->out));
    SEO_TRY(gpu_bench_random(b, b->storage, at ? k : m, at ? m : k, 1.0f, &a->a));
    SEO_TRY(gpu_bench_random(b, b->storage, bt ? n : k, bt ? k : n, 0.02f, &a->b));
    if (with == BIAS || with == BIAS_GELU) {
        SEO_TRY(gpu_bench_random(b, b->storage, 1, n, 1.0f, &a->bias));
        a->bias = seo_tensor_1d(a->bias.data, b->storage, n);
    }
    if (with == BIAS_GELU) SEO_TRY(gpu_bench_zeros(b, b->storage, m, n, &a->pre));
    if (with == DGELU) SEO_TRY(gpu_bench_random(b, b->storage, m, n, 1.0f, &a->pre));
    a->accumulate = with == ACCUMULATE;
    if (with == BIAS_GELU) a->epilogue = SEO_EPILOGUE_GELU;
    if (with == DGELU) a->epilogue = SEO_EPILOGUE_DGELU;
done:
    return err;
}

static void bench_product(gpu_bench *b, int64_t which, int64_t width) {
    const extra with = k_products[which].extra;
    const int64_t m = size_of(b, k_products[which].m, width);
    const int64_t n = size_of(b, k_products[which].n, width);
    const int64_t k = size_of(b, k_products[which].k, width);
    seo_matmul_args args = {.layout = k_products[which].layout};
    gpu_line line = {.op = "matmul", .run = run_matmul, .args = &args, .against_blas = true};
    snprintf(line.what, sizeof line.what, "%s %s %lldx%lldx%lld%s", k_products[which].name,
             k_layout_names[args.layout], (long long)m, (long long)n, (long long)k,
             k_extra_names[with]);
    if (make_operands(b, &args, with, m, n, k) != SEO_OK) {
        gpu_bench_failed(b, line.op, line.what);
    } else {
        line.flop = 2.0 * (double)m * (double)n * (double)k;
        line.bytes = (double)(seo_tensor_bytes(&args.a) + seo_tensor_bytes(&args.b) +
                              seo_tensor_bytes(&args.out) * (args.accumulate ? 2 : 1) +
                              seo_tensor_bytes(&args.pre));
        gpu_bench_line(b, &line);
    }
    gpu_bench_release(b);
}

void gpu_bench_matmul(gpu_bench *b) {
    static const int64_t widths[] = {768, 1600}; /* GPT-2 124M, 1558M */
    for (int64_t w = 0; w < SEO_COUNT_OF(widths); w++) {
        for (int64_t i = 0; i < SEO_COUNT_OF(k_products); i++) bench_product(b, i, widths[w]);
    }
}
