/* The CUDA backend on the CPU: the very files of the plug-in, compiled against the test layer, as a
 * device like any other. */
#pragma once

#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What is 0 stays as simt_options.h has it. */
typedef struct seo_simt_options {
    int32_t capability;      /* of the GPU that is emulated: 80, 90 ... */
    int32_t multiprocessors; /* how many it has */
    int64_t memory_bytes;    /* of the device */
    seo_cuda_options cuda;   /* `plugin` is not looked at */
} seo_simt_options;

/* Opens it; one device at a time. NULL options: all 0. */
seo_err seo_device_open_simt(const seo_simt_options *options, seo_device **out);

#ifdef __cplusplus
}
#endif
