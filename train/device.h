/* Where to compute, and in which type: what was asked for, and what there is. The one place where
 * training, evaluation and generation open a device. */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "base/tensor.h"
#include "kernels/kernels.h"
#include "train/config.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How a GPU is opened: seo_device_open_cuda, or another way in tests. */
typedef seo_err seo_cuda_opener(const seo_cuda_options *options, seo_device **out);

typedef struct seo_device_wish {
    seo_device_choice device;
    seo_precision precision;
    seo_matmul_choice matmul;
    int32_t threads;            /* of the CPU; 0: automatic */
    int32_t sharers;            /* processes on the same cores, this one included; 0: it alone */
    int32_t local_rank;         /* among the ranks of this host: they take its GPUs in turn */
    const char *matmul_choices; /* file that keeps those of SEO_MATMUL_AUTO; NULL: none */
    seo_cuda_opener *open_cuda; /* NULL: seo_device_open_cuda */
} seo_device_wish;

/* Opens the device; *storage is the type of activations and of what passes read of the parameters:
 * with precision auto bf16 on a GPU and f32 on the CPU. With device auto the GPU when there is one,
 * else the CPU, and a line that says why (none where there is simply no plug-in). SEO_ERR_USAGE,
 * with the remedy, when what is asked for is not there. */
seo_err seo_device_open_wish(const seo_device_wish *wish, seo_device **out, seo_dtype *storage);

/* "auto", "cpu" or "cuda" of a command line; SEO_ERR_USAGE for any other word. */
seo_err seo_device_choice_parse(const char *word, seo_device_choice *out);

/* More memory than there is, met while a run, an evaluation or a generation is opened, is a wrong
 * configuration: SEO_ERR_USAGE with the same message. Any other code stays. */
seo_err seo_device_too_small(seo_err err);

#ifdef __cplusplus
}
#endif
