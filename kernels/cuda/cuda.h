/* Private to kernels/cuda: what the backend keeps for an open device, and what launchers use of it.
 * Host code in C; the .cu files include it as well. */
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* dev->scratch: workspace of the operators that run one after the other on the stream (partial sums
 * of a split K, of columns, of buckets). A constant, because how work is split, and with it the
 * order of sums, may depend on its size but never on the device. */
enum { SEO_CUDA_SCRATCH_BYTES = 32 << 20 };

/* What a kernel found wrong with its input, seen by the next seo_device_sync or copy_out. */
typedef enum seo_cuda_fault {
    SEO_CUDA_FAULT_NONE,
    SEO_CUDA_FAULT_EMBEDDING_ID, /* an id outside the table */
    SEO_CUDA_FAULT_TOKEN_TYPE,   /* a token type outside its table */
    SEO_CUDA_FAULT_ROW,          /* a row's number outside the matrix */
    SEO_CUDA_FAULT_SPANS,        /* of attention, that do not tile the sequence */
    SEO_CUDA_FAULT_TARGET        /* a target outside the vocabulary */
} seo_cuda_fault;

/* A library whose matrix product stands beside our own kernels. */
typedef struct seo_matmul_library {
    /* SEO_ERR_UNSUPPORTED when it cannot be had, with what to do. */
    seo_err (*open)(seo_device *dev);
    /* seo_cuda_matmul where the choice is not SEO_MATMUL_OWN. */
    seo_err (*matmul)(seo_device *dev, const seo_matmul_args *a);
    void (*close)(seo_device *dev); /* also of one that was never opened */
} seo_matmul_library;

/* dev->impl. The GPU is the current one of the thread that opened it, and that thread uses it. */
typedef struct seo_cuda {
    cudaStream_t stream;
    int32_t ordinal;                    /* of the device */
    int32_t multiprocessors;            /* sizes grids, never the order of a sum */
    int32_t capability;                 /* 80, 89, 90, 100 ... */
    int32_t *fault;                     /* host memory that kernels can write: a seo_cuda_fault */
    seo_matmul_choice matmul;           /* own, cuBLASLt, or whichever was faster */
    const seo_matmul_library *library;  /* NULL in a build without one */
    struct seo_matmul_choices *choices; /* of SEO_MATMUL_AUTO; NULL: they are not kept */
    struct seo_cublas *cublas;          /* NULL until it is used */
    struct seo_cuda_staging *staging;   /* of copies from and to the host; see memory.c */
} seo_cuda;

static inline seo_cuda *seo_cuda_of(const seo_device *dev) {
    return (seo_cuda *)dev->impl;
}

/* SEO_OK, or SEO_ERR_DEVICE with CUDA's own words and `what` was queued. SEO_ERR_MEMORY when
 * memory ran out, SEO_ERR_UNSUPPORTED when this build has no code for the GPU. */
seo_err seo_cuda_check(cudaError_t result, const char *what);

extern const seo_backend seo_backend_cuda;

#define SEO_OP(op) seo_err seo_cuda_##op(seo_device *dev, const seo_##op##_args *a);
#include "kernels/ops.def"
#undef SEO_OP

#ifdef __cplusplus
}
#endif
