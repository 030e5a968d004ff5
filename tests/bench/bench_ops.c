/* Bandwidth of the operators that are bound by memory, beside a copy measured on the same machine
 * just before: GB/s counts the bytes the contract makes an operator read and write.
 *
 * bench_ops [THREADS [LEVEL]]       LEVEL: 0 the best, 1 plain, 2 avx2, 3 avx512. Best of the
 * rounds.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/progress.h"
#include "kernels/kernels.h"

enum {
    B = 4,
    T = 1024,
    R = B * T,
    C = 768,
    F = 3072,
    VOCAB = 50257,
    PADDED = 50304,
    LOSS_ROWS = 256,
    PARAMS = 32 << 20,
    ROUNDS = 7
};

typedef struct bench {
    seo_device *dev;
    float *pool; /* PARAMS floats four times: x, y, z and one more */
    seo_tensor ids, hyper, sums;
    double copy; /* GB/s */
} bench;

static seo_tensor part(const bench *b, int which, int64_t rows, int64_t columns) {
    return seo_tensor_2d(b->pool + (int64_t)which * PARAMS, SEO_DTYPE_F32, rows, columns);
}
/* A row or column of per-row numbers, out of the way of the first three parts. */
static seo_tensor small(const bench *b, int which, int64_t count) {
    return seo_tensor_1d(b->pool + 3 * (int64_t)PARAMS + which * 65536, SEO_DTYPE_F32, count);
}

static seo_err run_copy(const bench *b) {
    return seo_device_copy(b->dev, part(b, 0, 1, 1).data, part(b, 1, 1, 1).data,
                           (int64_t)PARAMS * 4);
}
static seo_err run_layernorm_fwd(const bench *b) {
    return seo_layernorm_fwd(b->dev, &(seo_layernorm_fwd_args){.out = part(b, 0, R, C),
                                                               .mean = small(b, 0, R),
                                                               .rstd = small(b, 1, R),
                                                               .inp = part(b, 1, R, C),
                                                               .weight = small(b, 2, C),
                                                               .bias = small(b, 3, C),
                                                               .eps = 1e-5f});
}
static seo_err run_layernorm_add(const bench *b) {
    return seo_layernorm_fwd(b->dev, &(seo_layernorm_fwd_args){.out = part(b, 0, R, C),
                                                               .sum = part(b, 1, R, C),
                                                               .mean = small(b, 0, R),
                                                               .rstd = small(b, 1, R),
                                                               .inp = part(b, 1, R, C),
                                                               .add = part(b, 2, R, C),
                                                               .weight = small(b, 2, C),
                                                               .bias = small(b, 3, C),
                                                               .eps = 1e-5f});
}
static seo_err run_layernorm_bwd(const bench *b) {
    return seo_layernorm_bwd(b->dev, &(seo_layernorm_bwd_args){.dinp = part(b, 0, R, C),
                                                               .dweight = small(b, 4, C),
                                                               .dbias = small(b, 5, C),
                                                               .dout = part(b, 1, R, C),
                                                               .inp = part(b, 2, R, C),
                                                               .weight = small(b, 2, C),
                                                               .mean = small(b, 0, R),
                                                               .rstd = small(b, 1, R),
                                                               .accumulate = true});
}
static seo_err run_embedding_fwd(const bench *b) {
    const float *wte = part(b, 2, 1, 1).data;
    seo_tensor out = seo_tensor_3d(part(b, 0, 1, 1).data, SEO_DTYPE_F32, B, T, C);
    seo_tensor table = seo_tensor_2d((void *)(uintptr_t)wte, SEO_DTYPE_F32, PARAMS / C, C);
    return seo_embedding_fwd(b->dev,
                             &(seo_embedding_fwd_args){
                                 .out = out, .ids = b->ids, .wte = table, .wpe = part(b, 1, T, C)});
}
static seo_err run_embedding_bwd(const bench *b) {
    seo_tensor dout = seo_tensor_3d(part(b, 0, 1, 1).data, SEO_DTYPE_F32, B, T, C);
    return seo_embedding_bwd(b->dev, &(seo_embedding_bwd_args){.dwte = part(b, 2, PARAMS / C, C),
                                                               .dwpe = part(b, 1, T, C),
                                                               .dout = dout,
                                                               .ids = b->ids});
}
static seo_err run_bias_bwd(const bench *b) {
    return seo_bias_bwd(b->dev,
                        &(seo_bias_bwd_args){.dbias = small(b, 4, F), .dout = part(b, 0, R, F)});
}
static seo_err run_add(const bench *b) {
    return seo_add(
        b->dev,
        &(seo_add_args){.out = part(b, 0, R, F), .a = part(b, 1, R, F), .b = part(b, 2, R, F)});
}
static seo_err run_gelu(const bench *b, seo_gelu_kind kind) {
    return seo_gelu_fwd(
        b->dev,
        &(seo_gelu_fwd_args){.out = part(b, 0, R, F), .inp = part(b, 1, R, F), .kind = kind});
}
static seo_err run_gelu_bwd(const bench *b, seo_gelu_kind kind) {
    return seo_gelu_bwd(b->dev, &(seo_gelu_bwd_args){.dinp = part(b, 0, R, F),
                                                     .dout = part(b, 0, R, F),
                                                     .inp = part(b, 1, R, F),
                                                     .kind = kind});
}
static seo_err run_gelu_fwd_tanh(const bench *b) {
    return run_gelu(b, SEO_GELU_TANH);
}
static seo_err run_gelu_fwd_erf(const bench *b) {
    return run_gelu(b, SEO_GELU_ERF);
}
static seo_err run_gelu_bwd_tanh(const bench *b) {
    return run_gelu_bwd(b, SEO_GELU_TANH);
}
static seo_err run_gelu_bwd_erf(const bench *b) {
    return run_gelu_bwd(b, SEO_GELU_ERF);
}
static seo_err run_dropout(const bench *b) {
    return seo_dropout(b->dev,
                       &(seo_dropout_args){.out = part(b, 0, R, F),
                                           .inp = part(b, 1, R, F),
                                           .key = {.seed = 1, .purpose = SEO_PURPOSE_DROPOUT},
                                           .rate = 0.1f});
}
static seo_err run_cross_entropy(const bench *b) {
    seo_tensor targets = seo_tensor_1d(b->ids.data, SEO_DTYPE_I32, LOSS_ROWS);
    return seo_cross_entropy(b->dev,
                             &(seo_cross_entropy_args){.loss = small(b, 0, LOSS_ROWS),
                                                       .logits = part(b, 0, LOSS_ROWS, PADDED),
                                                       .targets = targets,
                                                       .vocab_size = VOCAB,
                                                       .ignore_index = -1,
                                                       .grad_scale = 1e-3f,
                                                       .with_gradient = true});
}
static seo_err run_sum_squares(const bench *b) {
    return seo_sum_squares(b->dev,
                           &(seo_sum_squares_args){.out = b->sums, .inp = part(b, 0, 1, PARAMS)});
}
static seo_err run_fold(const bench *b) {
    seo_tensor parts = part(b, 0, 4, PARAMS / 4);
    return seo_fold(b->dev, &(seo_fold_args){.out = seo_tensor_1d(part(b, 1, 1, 1).data,
                                                                  SEO_DTYPE_F32, PARAMS / 4),
                                             .inp = parts,
                                             .order = SEO_SUM_TREE});
}
static seo_err run_adamw(const bench *b) {
    return seo_adamw(b->dev, &(seo_adamw_args){.param = part(b, 0, 1, PARAMS),
                                               .m = part(b, 1, 1, PARAMS),
                                               .v = part(b, 2, 1, PARAMS),
                                               .grad = part(b, 3, 1, PARAMS),
                                               .hyper = b->hyper,
                                               .beta1 = 0.9f,
                                               .beta2 = 0.95f,
                                               .eps = 1e-8f,
                                               .weight_decay = 0.1f});
}

static const struct {
    const char *name;
    seo_err (*run)(const bench *b);
    double bytes; /* that must be read and written */
} g_rows[] = {
    {"copy", run_copy, 8.0 * PARAMS},
    {"embedding_fwd", run_embedding_fwd, 8.0 * R *C + 4.0 * T *C},
    {"embedding_bwd", run_embedding_bwd, 12.0 * R *C + 8.0 * T *C},
    {"layernorm_fwd", run_layernorm_fwd, 8.0 * R *C},
    {"layernorm_fwd + add", run_layernorm_add, 16.0 * R *C},
    {"layernorm_bwd +=", run_layernorm_bwd, 16.0 * R *C},
    {"bias_bwd", run_bias_bwd, 4.0 * R *F},
    {"add", run_add, 12.0 * R *F},
    {"gelu_fwd tanh", run_gelu_fwd_tanh, 8.0 * R *F},
    {"gelu_fwd erf", run_gelu_fwd_erf, 8.0 * R *F},
    {"gelu_bwd tanh", run_gelu_bwd_tanh, 12.0 * R *F},
    {"gelu_bwd erf", run_gelu_bwd_erf, 12.0 * R *F},
    {"dropout", run_dropout, 8.0 * R *F},
    {"cross_entropy", run_cross_entropy, 8.0 * LOSS_ROWS *PADDED},
    {"fold, tree of 4", run_fold, 5.0 * PARAMS},
    {"sum_squares", run_sum_squares, 4.0 * PARAMS},
    {"adamw", run_adamw, 28.0 * PARAMS},
};

static seo_err setup(bench *b) {
    seo_err err = SEO_OK;
    float hyper[SEO_HYPER_COUNT] = {1e-4f, 1, 1, 1, 1};
    int32_t *ids = NULL;
    void *memory = NULL;
    SEO_TRY(seo_device_alloc(b->dev, 16 * (int64_t)PARAMS, &memory));
    b->pool = memory;
    for (int64_t i = 0; i < 4 * (int64_t)PARAMS; i++) {
        b->pool[i] = (float)(uint32_t)(i * 2654435761) * 0x1p-31f - 1.0f;
        if (i / PARAMS == 2 && b->pool[i] < 0) b->pool[i] = -b->pool[i]; /* second moments */
    }
    SEO_TRY(seo_device_alloc(b->dev, sizeof hyper, &memory));
    SEO_TRY(seo_device_copy_in(b->dev, memory, hyper, sizeof hyper));
    b->hyper = seo_tensor_1d(memory, SEO_DTYPE_F32, SEO_HYPER_COUNT);
    SEO_TRY(seo_device_alloc(b->dev, PARAMS / SEO_SQUARES_UNIT * 4, &memory));
    b->sums = seo_tensor_1d(memory, SEO_DTYPE_F32, PARAMS / SEO_SQUARES_UNIT);
    SEO_TRY(seo_device_alloc(b->dev, R * sizeof *ids, &memory));
    ids = memory;
    for (int64_t i = 0; i < R; i++) ids[i] = (int32_t)((uint32_t)(i * 40503) % (PARAMS / C));
    b->ids = seo_tensor_2d(memory, SEO_DTYPE_I32, B, T);
done:
    return err;
}

static seo_err measure(bench *b, int row) {
    double best = 1e30;
    for (int round = 0; round < ROUNDS; round++) {
        const double start = seo_clock_s();
        seo_err err = g_rows[row].run(b);
        const double seconds = seo_clock_s() - start;
        if (err != SEO_OK) return err;
        if (seconds < best) best = seconds;
    }
    const double rate = g_rows[row].bytes / best * 1e-9;
    if (row == 0) b->copy = rate;
    printf("%-20s %8.2f ms %8.1f GB/s   %.2f of copy\n", g_rows[row].name, best * 1e3, rate,
           rate / b->copy);
    return SEO_OK;
}

int main(int argc, char **argv) {
    seo_err err = SEO_OK;
    bench b = {0};
    const seo_cpu_options options = {.threads = argc > 1 ? atoi(argv[1]) : 0,
                                     .level =
                                         argc > 2 ? (seo_cpu_level)atoi(argv[2]) : SEO_CPU_AUTO};
    SEO_TRY(seo_device_open_cpu(&options, &b.dev));
    SEO_TRY(setup(&b));
    printf("%s\n", seo_device_name(b.dev));
    for (int row = 0; row < (int)(sizeof g_rows / sizeof g_rows[0]); row++)
        SEO_TRY(measure(&b, row));
done:
    if (err != SEO_OK) seo_log_failure();
    seo_device_close(b.dev);
    return err == SEO_OK ? 0 : 1;
}
