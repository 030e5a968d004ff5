/* The sum of slots as a balanced binary tree, in the order in which slots come: a binary counter.
 * Beside the gradients of the slot that is being computed it keeps one set for each level of the
 * tree: the sum of 2^level slots that waits for its right neighbour. */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "base/slab.h"
#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_slots {
    seo_device *dev;
    int64_t count, levels; /* slots, 2^levels */
    seo_tensor grads;      /* (n) f32: where a slot's gradients are accumulated; borrowed */
    seo_tensor subtrees[SEO_SUM_TREE_LEVELS]; /* (n) f32 each */
    seo_slab slab;
    void *memory;
} seo_slots;

/* In tables of memory. */
#define SEO_SLOTS_NAME "gradients of slots that wait"

/* Bytes that open takes for `elements` gradients and `count` slots. */
int64_t seo_slots_measure(int64_t elements, int64_t count);

/* count: a power of two up to SEO_SUM_TREE_MAX. Free with seo_slots_close. */
seo_err seo_slots_open(seo_device *dev, seo_tensor grads, int64_t count, seo_slots *out);
void seo_slots_close(seo_slots *slots);

/* Slot `index`, not the last one, is complete: it is added to the subtrees that waited for it, and
 * the gradients are 0 for the next one. */
seo_err seo_slots_put(seo_slots *slots, int64_t index);
/* The last slot's elements [first, first + count) are complete: += all that waits, so that they are
 * the sum of the whole tree. */
seo_err seo_slots_finish(seo_slots *slots, int64_t first, int64_t count);

#ifdef __cplusplus
}
#endif
