#include "base/slab.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

void seo_slab_init(seo_slab *slab, const char *name) {
    memset(slab, 0, sizeof *slab);
    slab->name = name;
    slab->align_bytes = SEO_SLAB_ALIGN_BYTES;
}

void seo_slab_free(seo_slab *slab) {
    free(slab->entries);
    memset(slab, 0, sizeof *slab);
}

static seo_err grow(seo_slab *slab) {
    if (slab->count < slab->capacity) return SEO_OK;
    const int64_t capacity = slab->capacity ? slab->capacity * 2 : 64;
    seo_slab_entry *entries = realloc(slab->entries, (size_t)capacity * sizeof(seo_slab_entry));
    if (!entries)
        return SEO_FAIL(SEO_ERR_MEMORY, "memory plan of %lld tensors", (long long)capacity);
    slab->entries = entries;
    slab->capacity = capacity;
    return SEO_OK;
}

seo_err seo_slab_add(seo_slab *slab, const char *name, seo_dtype dtype, int32_t rank,
                     const int64_t *dims, seo_tensor *tensor) {
    SEO_ASSERT(rank >= 1 && rank <= 4);
    seo_err err = grow(slab);
    if (err != SEO_OK) return err;
    int64_t bytes = seo_dtype_bytes(dtype), end = 0;
    memset(tensor, 0, sizeof *tensor);
    tensor->dtype = dtype;
    tensor->rank = rank;
    for (int32_t i = 0; i < rank; i++) {
        tensor->dims[i] = dims[i];
        if (dims[i] <= 0 || !seo_mul_ok(bytes, dims[i], &bytes)) {
            return SEO_FAIL(SEO_ERR_SHAPE, "%s: dimension %d is %lld or the size overflows", name,
                            i, (long long)dims[i]);
        }
    }
    if (!seo_add_ok(slab->bytes, bytes, &end) || end > INT64_MAX - slab->align_bytes) {
        return SEO_FAIL(SEO_ERR_SHAPE, "%s: the %s do not fit in 63 bits", name, slab->name);
    }
    seo_slab_entry *entry = &slab->entries[slab->count++];
    snprintf(entry->name, sizeof entry->name, "%s", name);
    entry->tensor = tensor;
    entry->offset_bytes = slab->bytes;
    entry->bytes = bytes;
    slab->bytes = seo_round_up(end, slab->align_bytes);
    return SEO_OK;
}

void seo_slab_bind(seo_slab *slab, void *base) {
    SEO_ASSERT((uintptr_t)base % SEO_SLAB_ALIGN_BYTES == 0);
    for (int64_t i = 0; i < slab->count; i++) {
        slab->entries[i].tensor->data = (char *)base + slab->entries[i].offset_bytes;
    }
}
