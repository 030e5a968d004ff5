/* The memory that a rank of a run will take, to the byte, without taking it. */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "train/config.h"
#include "train/memory.h"
#include "train/models/model.h"
#include "train/teacher.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_plan_memory {
    seo_memory_table device; /* its total is what seo_device_bytes says when the run begins */
    int64_t host_bytes;      /* of the checkpoint writer's copy, of what exchanges take there */
} seo_plan_memory;

/* What is planned: this rank's part of a run. */
typedef struct seo_plan_rank {
    const seo_config *config;
    int32_t ranks;
    bool cpu;
    seo_dtype storage;
    int64_t micro_batch;        /* in place of the configuration's */
    const seo_teacher *teacher; /* NULL: there is none, or it is left out */
} seo_plan_rank;

/* How its model would be opened. */
seo_model_args seo_plan_model_args(const seo_plan_rank *rank);

seo_err seo_plan_memory_of(const seo_plan_rank *rank, seo_plan_memory *out);

/* The most sequences a pass that fits into `device_bytes` can have; 0: not even one. */
seo_err seo_plan_largest_micro_batch(const seo_plan_rank *rank, int64_t device_bytes, int64_t *out);

#ifdef __cplusplus
}
#endif
