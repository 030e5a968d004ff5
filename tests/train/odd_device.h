/* A CPU that answers like other devices: rows in multiples, memory that ends, or not being a CPU.
 */
#pragma once

#include "kernels/kernels.h"

typedef struct odd_options {
    int64_t row_multiple;
    int64_t memory_bytes; /* 0: what there is */
    bool gpu;             /* seo_device_is_cpu says no */
    bool bf16;            /* seo_device_has_bf16 says yes, though no operator has */
} odd_options;

/* One at a time. Closed with seo_device_close. */
seo_device *odd_device_open(odd_options options);
