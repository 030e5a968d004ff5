/* What a run takes of a device, slab by slab, and what has to be known of the device for that: so
 * that it can be told without one. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { SEO_MEMORY_ROWS = 24, SEO_MEMORY_NAME_MAX = 64 };

typedef struct seo_memory_row {
    char name[SEO_MEMORY_NAME_MAX];
    int64_t bytes;
} seo_memory_row;

/* Zero-initialise. Whoever takes memory of a run's device adds its own rows: the model
 * (seo_model_measure), the optimizer (seo_optim_measure), the step. */
typedef struct seo_memory_table {
    seo_memory_row rows[SEO_MEMORY_ROWS];
    int64_t count;
} seo_memory_table;

/* Adds a row, or nothing for 0 bytes. */
void seo_memory_add(seo_memory_table *table, const char *name, int64_t bytes);
/* Sum over all rows: what seo_device_bytes says once it is taken. */
int64_t seo_memory_total(const seo_memory_table *table);
/* Bytes of the row, 0 if there is none. */
int64_t seo_memory_of(const seo_memory_table *table, const char *name);

typedef struct seo_device_facts {
    bool is_cpu;
    int64_t row_multiple; /* see seo_device_row_multiple */
} seo_device_facts;

seo_device_facts seo_device_facts_of(const seo_device *dev);
/* Of a CPU, and of every GPU that the CUDA plug-in opens. */
seo_device_facts seo_device_facts_for(bool is_cpu);

#ifdef __cplusplus
}
#endif
