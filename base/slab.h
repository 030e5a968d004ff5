/* Plan, then bind: modules declare named tensors, the program sums and prints them, memory is taken
 * once, and only then does every tensor get its address. One slab per kind of memory. Works without
 * a device, so that `seodang plan` can print what a run will take. */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "base/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { SEO_SLAB_ALIGN_BYTES = 256, SEO_SLAB_NAME_MAX = 64 };

typedef struct seo_slab_entry {
    char name[SEO_SLAB_NAME_MAX];
    seo_tensor *tensor; /* the caller's; its data is set by seo_slab_bind */
    int64_t offset_bytes, bytes;
} seo_slab_entry;

typedef struct seo_slab {
    const char *name; /* "parameters", "activations" ...: not owned */
    seo_slab_entry *entries;
    int64_t count, capacity;
    int64_t bytes;       /* of the whole slab, alignment included */
    int64_t align_bytes; /* of tensors, relative to the base: SEO_SLAB_ALIGN_BYTES from init on; a
                          * multiple of it may be set before the first tensor */
} seo_slab;

void seo_slab_init(seo_slab *slab, const char *name);
void seo_slab_free(seo_slab *slab); /* the list, not the bound memory */

/* Declares a tensor of `dtype` and `rank` dims; *tensor gets its shape now and its address at bind,
 * so it must stay where it is until then. Sizes that overflow are SEO_ERR_SHAPE. */
seo_err seo_slab_add(seo_slab *slab, const char *name, seo_dtype dtype, int32_t rank,
                     const int64_t *dims, seo_tensor *tensor);

/* base: memory of slab->bytes, aligned to SEO_SLAB_ALIGN_BYTES; it stays the caller's. */
void seo_slab_bind(seo_slab *slab, void *base);

#ifdef __cplusplus
}
#endif
