/* Gradients on their way to their sum over the ranks. Whole (zero 0, 1): a segment is summed up
 * when the last pass of the step leaves it, while the backward goes on below it. In windows (zero
 * 2, 3): each pass' gradients are, and added to the shard. */
#include "base/check.h"
#include "train/parallel_state.h"

static bool windows(const seo_parallel *p) {
    return seo_model_grad_layout(p->model) == SEO_LAYOUT_WINDOWS;
}

static bool is_block(const seo_parallel *p, int64_t segment) {
    return p->shards->segments[segment].block != SEO_PARAM_NO_BLOCK;
}

/* Waits for whoever sends from the window, and zeroes it. */
static seo_err clear(seo_parallel *p, int64_t segment) {
    const int64_t at = p->shards->segments[segment].window_first;
    for (int64_t s = 0; s < p->shards->segment_count; s++) {
        if (p->shards->segments[s].window_first != at) continue;
        const seo_err err = seo_parallel_wait(p, &p->segments[s].grads_ticket);
        if (err != SEO_OK) return err;
    }
    const seo_tensor grads = seo_model_grad_segment(p->model, segment);
    return seo_device_zero(p->dev, grads.data, seo_tensor_bytes(&grads));
}

seo_err seo_grads_enter(seo_parallel *p, int64_t segment, bool backward) {
    return windows(p) && backward && is_block(p, segment) ? clear(p, segment) : SEO_OK;
}

/* Outside the blocks the backward begins when the last block's forward is over: until then the sums
 * of the pass before had time. */
static seo_err clear_outside(seo_parallel *p) {
    for (int64_t s = 0; s < p->shards->segment_count; s++) {
        const seo_err err = is_block(p, s) ? SEO_OK : clear(p, s);
        if (err != SEO_OK) return err;
    }
    return SEO_OK;
}

static bool is_last_block(const seo_parallel *p, int64_t segment) {
    if (!is_block(p, segment)) return false;
    return segment + 1 == p->shards->segment_count || !is_block(p, segment + 1);
}

static seo_comm_label label_of(const seo_parallel *p, int64_t segment) {
    const int64_t block = p->shards->segments[segment].block;
    return block == SEO_PARAM_NO_BLOCK ? (seo_comm_label){"sum gradients of segment", segment}
                                       : (seo_comm_label){"sum gradients of block", block};
}

static seo_err reduce(seo_parallel *p, int64_t segment, seo_tensor out, bool accumulate) {
    return seo_comm_reduce_scatter(
        p->comm,
        &(seo_reduce_scatter_args){.out = out,
                                   .inp = seo_model_grad_segment(p->model, segment),
                                   .wire = p->wire,
                                   .order = p->slots > 0 ? SEO_SUM_TREE : SEO_SUM_SEQUENCE,
                                   .accumulate = accumulate,
                                   .label = label_of(p, segment)},
        &p->segments[segment].grads_ticket);
}

static seo_err reduce_whole(seo_parallel *p, int64_t segment) {
    seo_err err = SEO_OK;
    const seo_segment *at = &p->shards->segments[segment];
    const seo_tensor whole = seo_model_grad_segment(p->model, segment);
    const seo_tensor own = seo_parallel_own(p, &whole, segment);
    if (p->slots > 0) SEO_TRY(seo_slots_finish(&p->tree, at->first, at->count));
    SEO_TRY(reduce(p, segment, own, false));
    if (p->shards->zero > 0) return SEO_OK;
    SEO_TRY(seo_comm_all_gather(
        p->comm, &(seo_all_gather_args){.whole = whole, .inp = own, .label = label_of(p, segment)},
        &p->segments[segment].grads_ticket));
done:
    return err;
}

static seo_err reduce_window(seo_parallel *p, int64_t segment) {
    const seo_segment *at = &p->shards->segments[segment];
    const seo_tensor shard = seo_model_grad_shard(p->model);
    const seo_tensor own =
        seo_tensor_1d((float *)shard.data + at->shard_first, SEO_DTYPE_F32, at->chunk);
    return reduce(p, segment, own, p->pass > 0);
}

seo_err seo_grads_leave(seo_parallel *p, int64_t segment, bool backward) {
    if (windows(p)) {
        if (backward) return reduce_window(p, segment);
        return is_last_block(p, segment) ? clear_outside(p) : SEO_OK;
    }
    return backward && p->pass == p->passes - 1 ? reduce_whole(p, segment) : SEO_OK;
}
