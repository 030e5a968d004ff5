/* One set of the parameter table in device memory: the parameters themselves, what passes read of
 * them, their gradients. It is one run of memory in one of the layouts of train/shard.h, whatever
 * its type. */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "base/tensor.h"
#include "kernels/kernels.h"
#include "train/params.h"
#include "train/shard.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Parameters are stored in one of the two, what belongs to them in f32. */
static inline const char *seo_storage_name(seo_dtype dtype) {
    return dtype == SEO_DTYPE_BF16 ? "bf16" : "f32";
}

/* Zero-initialise, or plan; free with seo_param_set_free. */
typedef struct seo_param_set {
    const char *name;
    const seo_shards *shards; /* borrowed */
    seo_layout layout;
    seo_tensor *tensors; /* by row; shapes, without padding, from plan on, addresses from bind on;
                          * in windows those of blocks share their memory; no address where the
                          * shards have not the row; NULL for a shard */
    int64_t count;       /* rows; 0 for a shard */
    seo_tensor flat;     /* the set as one vector, padding (always 0) included */
    int64_t bytes;
    seo_device *dev; /* NULL until bound */
} seo_param_set;

/* Declares the tensors; `name` ("parameters", "gradients" ...) and the shards must outlive the set.
 */
seo_err seo_param_set_plan(seo_param_set *set, const seo_params *params, const seo_shards *shards,
                           seo_layout layout, seo_dtype dtype, const char *name);
/* Takes zeroed device memory and gives every tensor its address. */
seo_err seo_param_set_bind(seo_param_set *set, seo_device *dev);
void seo_param_set_free(seo_param_set *set);

/* A segment as a vector with its padding (in a shard: this rank's chunk of it). */
seo_tensor seo_param_set_segment(const seo_param_set *set, int64_t segment);
/* This rank's chunk of a segment, in any layout. */
seo_tensor seo_param_set_chunk(const seo_param_set *set, int64_t segment);

/* Initial values of a bound set, whole or shard: a pure function of (seed, row, element), the same
 * for any number of ranks and threads; of another type than f32 rounded. Normal numbers by the
 * operator `normal`, purpose SEO_PURPOSE_INIT | row << 8. Takes, and gives back, a bounded buffer.
 */
seo_err seo_params_init(const seo_params *params, seo_param_set *set, uint64_t seed);

#ifdef __cplusplus
}
#endif
