#include "train/slots.h"

#include "base/check.h"

static int64_t levels_of(int64_t count) {
    int64_t levels = 0;
    while (INT64_C(1) << levels < count) levels++;
    return levels;
}

static seo_err plan(seo_slots *slots, int64_t elements) {
    seo_slab_init(&slots->slab, SEO_SLOTS_NAME);
    for (int64_t l = 0; l < slots->levels; l++) {
        const seo_err err =
            seo_slab_add(&slots->slab, "subtree", SEO_DTYPE_F32, 1, &elements, &slots->subtrees[l]);
        if (err != SEO_OK) return err;
    }
    return SEO_OK;
}

int64_t seo_slots_measure(int64_t elements, int64_t count) {
    seo_slots slots = {.count = count, .levels = levels_of(count)};
    const seo_err err = plan(&slots, elements);
    const int64_t bytes = slots.slab.bytes;
    seo_slab_free(&slots.slab);
    return err == SEO_OK ? bytes : INT64_MAX;
}

seo_err seo_slots_open(seo_device *dev, seo_tensor grads, int64_t count, seo_slots *out) {
    SEO_ASSERT(count >= 1 && count <= SEO_SUM_TREE_MAX && (count & (count - 1)) == 0);
    *out = (seo_slots){.dev = dev, .count = count, .levels = levels_of(count), .grads = grads};
    seo_err err = plan(out, seo_tensor_count(&grads));
    if (err == SEO_OK && out->slab.bytes > 0) {
        err = seo_device_alloc(dev, out->slab.bytes, &out->memory);
        if (err != SEO_OK) {
            err = seo_err_context(err,
                                  "gradients of %lld slots that wait for each other (fewer "
                                  "parallel.slots, or more ranks, need less)",
                                  (long long)count);
        }
    }
    if (err != SEO_OK) {
        seo_slots_close(out);
        return err;
    }
    if (out->memory) seo_slab_bind(&out->slab, out->memory);
    return SEO_OK;
}

void seo_slots_close(seo_slots *slots) {
    if (slots->dev) seo_device_free(slots->dev, slots->memory);
    seo_slab_free(&slots->slab);
    *slots = (seo_slots){0};
}

static seo_tensor part(const seo_tensor *t, int64_t first, int64_t count) {
    return seo_tensor_1d((float *)t->data + first, SEO_DTYPE_F32, count);
}

seo_err seo_slots_put(seo_slots *slots, int64_t index) {
    seo_err err = SEO_OK;
    int64_t level = 0;
    SEO_ASSERT(index >= 0 && index < slots->count - 1);
    const seo_tensor grads = slots->grads;
    /* Every set bit is a subtree that waits. The last sum goes where it will wait itself. */
    for (; index >> level & 1; level++) {
        const bool more = (index >> (level + 1) & 1) != 0;
        SEO_TRY(
            seo_add(slots->dev, &(seo_add_args){.out = more ? grads : slots->subtrees[level + 1],
                                                .a = slots->subtrees[level],
                                                .b = grads}));
    }
    if (level == 0) {
        SEO_TRY(seo_device_copy(slots->dev, slots->subtrees[0].data, grads.data,
                                seo_tensor_bytes(&grads)));
    }
    SEO_TRY(seo_device_zero(slots->dev, grads.data, seo_tensor_bytes(&grads)));
done:
    return err;
}

seo_err seo_slots_finish(seo_slots *slots, int64_t first, int64_t count) {
    const seo_tensor sum = part(&slots->grads, first, count);
    for (int64_t level = 0; level < slots->levels; level++) {
        const seo_err err =
            seo_add(slots->dev, &(seo_add_args){.out = sum,
                                                .a = part(&slots->subtrees[level], first, count),
                                                .b = sum});
        if (err != SEO_OK) return err;
    }
    return SEO_OK;
}
