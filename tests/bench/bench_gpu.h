/* Private to bench_gpu: how a call on a device is measured, and the groups of calls that are. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "kernels/kernels.h"

enum { GPU_ROUNDS_MAX = 200, GPU_TENSORS_MAX = 32 };

typedef struct gpu_bench {
    seo_device *own;  /* our kernels */
    seo_device *blas; /* the same GPU with cuBLASLt's matmul */
    bool has_blas;    /* it was opened and has not failed */
    seo_dtype storage;
    int64_t batch, positions; /* of the training shapes: rows = batch * positions */
    int64_t rounds;
    const char *only; /* the one group to run, or NULL */
    void *flush;      /* memory larger than the caches, written before each measured call */
    void *taken[GPU_TENSORS_MAX];
    int64_t taken_count;
    uint32_t stream; /* of the next random tensor */
    int64_t failures;
} gpu_bench;

/* One line of the report. */
typedef struct gpu_line {
    const char *op;
    char what[80]; /* "NT 16384x2304x768 bias" */
    seo_err (*run)(seo_device *dev, const void *args);
    /* Puts inputs back that `run` overwrites; not measured. NULL: none are. */
    seo_err (*prepare)(seo_device *dev, const void *args);
    const void *args;
    double flop;  /* multiplications and additions of the formula; 0: not of interest */
    double bytes; /* that the contract makes it read and write, each tensor once */
    bool against_blas;
} gpu_line;

/* Measures and prints one line of JSON; with against_blas cuBLASLt's as well, in turn with ours.
 * A call that fails is printed as one that failed, and the rest goes on. */
void gpu_bench_line(gpu_bench *b, const gpu_line *line);
void gpu_bench_failed(gpu_bench *b, const char *op, const char *what);

/* Device memory until gpu_bench_release. Random: normal numbers of this standard deviation, f32 or
 * bf16. */
seo_err gpu_bench_zeros(gpu_bench *b, seo_dtype dtype, int64_t rows, int64_t columns,
                        seo_tensor *out);
seo_err gpu_bench_random(gpu_bench *b, seo_dtype dtype, int64_t rows, int64_t columns, float std,
                         seo_tensor *out);
void gpu_bench_release(gpu_bench *b);

/* The groups. */
void gpu_bench_yardsticks(gpu_bench *b);
void gpu_bench_matmul(gpu_bench *b);
void gpu_bench_attention(gpu_bench *b);
void gpu_bench_rows(gpu_bench *b);
void gpu_bench_training(gpu_bench *b);
