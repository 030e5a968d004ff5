/* AdamW over the parameter table: both moments, global-norm clipping, and the values that change
 * from step to step in device memory. With whole moments (train/shard.h) the whole slab is updated
 * by one call; of a shard this rank's chunk of each segment. The update also writes the working
 * copies of a model that has them. */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "train/config.h"
#include "train/memory.h"
#include "train/models/model.h"
#include "train/parallel.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_optim seo_optim;

/* Adds what open takes of the device, without one. */
seo_err seo_optim_measure(const seo_params *params, const seo_shards *shards,
                          seo_memory_table *out);

/* Takes the moments (zero) and a few scalars on the model's device. The model is borrowed. */
seo_err seo_optim_open(seo_model *model, const seo_optimizer_config *config, seo_optim **out);
void seo_optim_close(seo_optim *optim); /* NULL is fine */

/* Through whom a sharded norm and update reach the other ranks; borrowed, before the first of them.
 * With whole moments it is not needed. */
void seo_optim_join(seo_optim *optim, seo_parallel *parallel);

/* In the layout of moments: whole, or this rank's shard. */
seo_param_set *seo_optim_moment1(seo_optim *optim);
seo_param_set *seo_optim_moment2(seo_optim *optim);

/* Norm of all gradients (seo_parallel_reduced) and the clip factor, the same on all ranks; *norm is
 * read back (this waits for the device). */
seo_err seo_optim_norm(seo_optim *optim, double *norm);

/* One update with the factor of the last seo_optim_norm. `update`: how many were made before, plus
 * 1; it decides the bias correction, where the configuration has it. */
seo_err seo_optim_update(seo_optim *optim, double lr, int64_t update);

#ifdef __cplusplus
}
#endif
