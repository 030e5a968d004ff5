#include "train/parallel.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "train/parallel_state.h"

/* Sums of squares in a message between hosts. */
enum { UNITS_AT_ONCE = SEO_COMM_HOST_BYTES_MAX / (int)sizeof(float) };

static seo_err enter_training(void *context, int64_t segment, bool backward) {
    const seo_err err = seo_params_enter(context, segment, backward);
    return err != SEO_OK ? err : seo_grads_enter(context, segment, backward);
}

/* What a segment's gradients wait for goes before what can wait itself. */
static seo_err leave_training(void *context, int64_t segment, bool backward) {
    const seo_err err = seo_params_leave(context, segment, backward);
    return err != SEO_OK ? err : seo_grads_leave(context, segment, backward);
}

static seo_err enter_reading(void *context, int64_t segment, bool backward) {
    return seo_params_enter(context, segment, backward);
}

static seo_err leave_reading(void *context, int64_t segment, bool backward) {
    return seo_params_leave(context, segment, backward);
}

static seo_err check_slots(const seo_parallel_args *args, const seo_shards *shards) {
    const int64_t slots = args->slots;
    if (slots == 0) return SEO_OK;
    if (slots < 0 || slots > SEO_SUM_TREE_MAX || (slots & (slots - 1)) != 0) {
        return SEO_FAIL(SEO_ERR_USAGE, "parallel.slots: %lld is not a power of two up to %d",
                        (long long)slots, SEO_SUM_TREE_MAX);
    }
    if (slots % shards->ranks != 0) {
        return SEO_FAIL(SEO_ERR_USAGE,
                        "parallel.invariant: %lld parallel.slots cannot be shared by %d ranks: "
                        "take a number of ranks that divides them",
                        (long long)slots, shards->ranks);
    }
    if (shards->zero >= 2) {
        return SEO_FAIL(SEO_ERR_USAGE,
                        "parallel.invariant goes with parallel.zero 0 and 1: level %d adds up each "
                        "pass over the ranks, before the slots are complete",
                        shards->zero);
    }
    if (args->wire != SEO_DTYPE_F32) {
        return SEO_FAIL(SEO_ERR_USAGE,
                        "parallel.invariant goes with parallel.reduce f32 alone: in bf16 each rank "
                        "rounds what it sends, so that the number of ranks shows");
    }
    SEO_ASSERT(shards->parts == slots);
    return SEO_OK;
}

static seo_err take_units(seo_parallel *p) {
    const int64_t own = p->shards->shard_count / SEO_SHARD_UNIT;
    const int64_t message = seo_min_i64(own, UNITS_AT_ONCE);
    if (p->shards->zero == 0) return SEO_OK;
    p->units = calloc((size_t)(p->shards->whole_count / SEO_SHARD_UNIT), sizeof *p->units);
    p->units_own = calloc((size_t)own, sizeof *p->units_own);
    p->units_all = calloc((size_t)(message * p->shards->ranks), sizeof *p->units_all);
    if (p->units && p->units_own && p->units_all) return SEO_OK;
    return SEO_FAIL(SEO_ERR_MEMORY, "the gradient's norm over all ranks");
}

static seo_err prepare(seo_parallel *p, const seo_parallel_args *args) {
    seo_err err = SEO_OK;
    const seo_shards *shards = p->shards;
    SEO_ASSERT((args->comm ? seo_comm_size(args->comm) : 1) == shards->ranks);
    SEO_ASSERT((args->comm ? seo_comm_rank(args->comm) : 0) == shards->rank);
    SEO_TRY(check_slots(args, shards));
    p->segments = calloc((size_t)shards->segment_count, sizeof *p->segments);
    if (!p->segments) err = SEO_FAIL(SEO_ERR_MEMORY, "the exchange between ranks");
    if (err != SEO_OK) goto done;
    const bool windows = seo_model_read_layout(p->model) == SEO_LAYOUT_WINDOWS;
    for (int64_t s = 0; s < shards->segment_count; s++) {
        p->segments[s] = (seo_exchange){
            .params_ticket = SEO_NO_TICKET, .grads_ticket = SEO_NO_TICKET, .fresh = !windows};
    }
    SEO_TRY(take_units(p));
    if (p->slots > 0) {
        SEO_TRY(seo_slots_open(p->dev, seo_model_grads(p->model)->flat, p->slots / shards->ranks,
                               &p->tree));
    }
done:
    return err;
}

seo_err seo_parallel_open(const seo_parallel_args *args, seo_parallel **out) {
    *out = NULL;
    seo_parallel *p = calloc(1, sizeof *p);
    if (!p) return SEO_FAIL(SEO_ERR_MEMORY, "the exchange between ranks");
    p->model = args->model;
    p->dev = seo_model_device(args->model);
    p->shards = seo_model_shards(args->model);
    p->comm = seo_parallel_alone(p) ? NULL : args->comm;
    p->wire = args->wire;
    p->slots = args->slots;
    p->training = (seo_pass_hooks){.enter = enter_training, .leave = leave_training, .context = p};
    p->reading = (seo_pass_hooks){.enter = enter_reading, .leave = leave_reading, .context = p};
    const seo_err err = prepare(p, args);
    if (err != SEO_OK) {
        seo_parallel_close(p);
        return err;
    }
    *out = p;
    return SEO_OK;
}

void seo_parallel_close(seo_parallel *p) {
    if (!p) return;
    /* Memory that a collective still writes to may not be given back. */
    for (int64_t s = 0; p->segments && s < p->shards->segment_count; s++) {
        (void)seo_parallel_wait(p, &p->segments[s].params_ticket);
        (void)seo_parallel_wait(p, &p->segments[s].grads_ticket);
    }
    seo_slots_close(&p->tree);
    free(p->segments);
    free(p->units);
    free(p->units_own);
    free(p->units_all);
    free(p);
}

void seo_parallel_measure(const seo_shards *shards, int64_t slots, seo_memory_table *out) {
    if (slots == 0) return;
    seo_memory_add(out, SEO_SLOTS_NAME,
                   seo_slots_measure(shards->whole_count, slots / shards->ranks));
}

seo_comm *seo_parallel_comm(const seo_parallel *p) {
    return p->comm;
}
const seo_shards *seo_parallel_shards(const seo_parallel *p) {
    return p->shards;
}
int64_t seo_parallel_slots(const seo_parallel *p) {
    return p->slots;
}

seo_tensor seo_parallel_own(const seo_parallel *p, const seo_tensor *t, int64_t segment) {
    const int64_t chunk = p->shards->segments[segment].chunk;
    char *at = (char *)t->data + p->shards->rank * chunk * seo_dtype_bytes(t->dtype);
    return seo_tensor_1d(at, t->dtype, chunk);
}

seo_err seo_parallel_wait(seo_parallel *p, int64_t *ticket) {
    if (*ticket == SEO_NO_TICKET) return SEO_OK;
    const seo_err err = seo_comm_wait(p->comm, *ticket);
    *ticket = SEO_NO_TICKET;
    return err;
}

/* Windows of gradients are zeroed where they are entered, and a shard is overwritten by the first
 * pass. */
seo_err seo_parallel_begin(seo_parallel *p, int64_t passes) {
    SEO_ASSERT(passes >= 1 && (p->slots == 0 || passes % p->tree.count == 0));
    p->passes = passes;
    p->pass = 0;
    if (seo_model_grad_layout(p->model) == SEO_LAYOUT_WINDOWS) return SEO_OK;
    return seo_model_zero_grads(p->model);
}

static bool params_under_way(const seo_parallel *p) {
    for (int64_t s = 0; s < p->shards->segment_count; s++) {
        if (p->segments[s].params_ticket != SEO_NO_TICKET) return true;
    }
    return false;
}

/* A pass that exchanges nothing is replayed where the device can. */
seo_err seo_parallel_pass(seo_parallel *p, int64_t index, const seo_pass_hooks **hooks) {
    SEO_ASSERT(index >= 0 && index < p->passes);
    p->pass = index;
    const bool exchanges = p->shards->zero >= 2 || index == p->passes - 1 || params_under_way(p);
    *hooks = exchanges && !seo_parallel_alone(p) ? &p->training : NULL;
    return SEO_OK;
}

seo_err seo_parallel_passed(seo_parallel *p, int64_t index) {
    if (p->slots == 0) return SEO_OK;
    const int64_t each = p->passes / p->tree.count, slot = index / each;
    if ((index + 1) % each != 0) return SEO_OK;
    if (slot < p->tree.count - 1) return seo_slots_put(&p->tree, slot);
    /* With other ranks the hooks of the last pass have done it, segment by segment. */
    return seo_parallel_alone(p) ? seo_slots_finish(&p->tree, 0, p->shards->whole_count) : SEO_OK;
}

seo_err seo_parallel_reduced(seo_parallel *p) {
    for (int64_t s = 0; s < p->shards->segment_count; s++) {
        const seo_err err = seo_parallel_wait(p, &p->segments[s].grads_ticket);
        if (err != SEO_OK) return err;
    }
    return SEO_OK;
}

const seo_pass_hooks *seo_parallel_reading(seo_parallel *p) {
    return seo_parallel_alone(p) ? NULL : &p->reading;
}

/* Units of this rank's chunks, segment after segment, between `units` on the host, in the order of
 * the whole layout, and a list of its own. */
static void pick_units(const seo_parallel *p, const float *units, float *own) {
    int64_t at = 0;
    for (int64_t s = 0; s < p->shards->segment_count; s++) {
        const seo_segment *segment = &p->shards->segments[s];
        const int64_t count = segment->chunk / SEO_SHARD_UNIT;
        memcpy(own + at, units + segment->first / SEO_SHARD_UNIT + p->shards->rank * count,
               (size_t)count * sizeof *own);
        at += count;
    }
}

/* Elements [from, from + count) of every rank's list, one rank after the other, go to their places.
 */
static void place_units(seo_parallel *p, int64_t from, int64_t count) {
    const float *all = p->units_all;
    for (int32_t rank = 0; rank < p->shards->ranks; rank++, all += count) {
        int64_t at = 0;
        for (int64_t s = 0; s < p->shards->segment_count; s++) {
            const seo_segment *segment = &p->shards->segments[s];
            const int64_t own = segment->chunk / SEO_SHARD_UNIT;
            const int64_t first = seo_max_i64(at, from), end = seo_min_i64(at + own, from + count);
            float *to = p->units + segment->first / SEO_SHARD_UNIT + rank * own;
            if (first < end) {
                memcpy(to + first - at, all + first - from, (size_t)(end - first) * sizeof *to);
            }
            at += own;
        }
    }
}

/* One number for 2,048 elements: through the host, in as few messages as may be. */
seo_err seo_parallel_gather_units(seo_parallel *p, seo_tensor units) {
    seo_err err = SEO_OK;
    const int64_t own = p->shards->shard_count / SEO_SHARD_UNIT;
    SEO_TRY(seo_device_copy_out(p->dev, p->units, units.data, seo_tensor_bytes(&units)));
    pick_units(p, p->units, p->units_own);
    for (int64_t from = 0; from < own; from += UNITS_AT_ONCE) {
        const int64_t count = seo_min_i64(UNITS_AT_ONCE, own - from);
        SEO_TRY(seo_comm_gather_host(p->comm, (seo_comm_label){"gather the gradient's norm", -1},
                                     p->units_own + from, count * (int64_t)sizeof(float),
                                     p->units_all));
        place_units(p, from, count);
    }
    SEO_TRY(seo_device_copy_in(p->dev, units.data, p->units, seo_tensor_bytes(&units)));
done:
    return err;
}
