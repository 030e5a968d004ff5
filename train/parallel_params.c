/* Parameters on their way to where passes read them. Whole (zero 0 to 2): each segment is gathered
 * after its update, and the next forward waits for it when it comes there. In windows (zero 3): a
 * block is gathered before its use, while the block before it is at work; two are on the rank. */
#include "base/check.h"
#include "train/parallel_state.h"

static bool windows(const seo_parallel *p) {
    return seo_model_read_layout(p->model) == SEO_LAYOUT_WINDOWS;
}

static bool is_block(const seo_parallel *p, int64_t segment) {
    return segment >= 0 && segment < p->shards->segment_count &&
           p->shards->segments[segment].block != SEO_PARAM_NO_BLOCK;
}

/* Its own chunk is in its place. */
static seo_err gather(seo_parallel *p, int64_t segment) {
    const seo_tensor whole = seo_model_read_segment(p->model, segment);
    const int64_t block = p->shards->segments[segment].block;
    const seo_comm_label label = block == SEO_PARAM_NO_BLOCK
                                     ? (seo_comm_label){"gather parameters of segment", segment}
                                     : (seo_comm_label){"gather parameters of block", block};
    return seo_comm_all_gather(p->comm,
                               &(seo_all_gather_args){.whole = whole,
                                                      .inp = seo_parallel_own(p, &whole, segment),
                                                      .label = label},
                               &p->segments[segment].params_ticket);
}

/* The window is the segment's from here on; whoever had it has it no more. */
static seo_err take_window(seo_parallel *p, int64_t segment) {
    const int64_t at = p->shards->segments[segment].window_first;
    for (int64_t s = 0; s < p->shards->segment_count; s++) {
        if (s == segment || p->shards->segments[s].window_first != at) continue;
        const seo_err err = seo_parallel_wait(p, &p->segments[s].params_ticket);
        if (err != SEO_OK) return err;
        p->segments[s].fresh = false;
    }
    return seo_parallel_wait(p, &p->segments[segment].params_ticket);
}

seo_err seo_params_fetch(seo_parallel *p, int64_t segment) {
    seo_err err = SEO_OK;
    if (p->segments[segment].fresh) return SEO_OK;
    SEO_TRY(take_window(p, segment));
    SEO_TRY(seo_model_refresh_segment(p->model, segment));
    SEO_TRY(gather(p, segment));
    p->segments[segment].fresh = true;
done:
    return err;
}

/* In the forward the segment before this one is left: its window is the next one's. */
seo_err seo_params_enter(seo_parallel *p, int64_t segment, bool backward) {
    seo_err err = SEO_OK;
    SEO_TRY(seo_params_fetch(p, segment));
    const int64_t next = segment + 1;
    if (!backward && next < p->shards->segment_count) SEO_TRY(seo_params_fetch(p, next));
    SEO_TRY(seo_parallel_wait(p, &p->segments[segment].params_ticket));
done:
    return err;
}

/* In the backward the block below may have been entered: only now is a window free for the one
 * below that. */
seo_err seo_params_leave(seo_parallel *p, int64_t segment, bool backward) {
    const bool prefetch = backward && is_block(p, segment) && is_block(p, segment - 2);
    return prefetch ? seo_params_fetch(p, segment - 2) : SEO_OK;
}

seo_err seo_parallel_updated(seo_parallel *p, int64_t segment) {
    if (seo_parallel_alone(p) || p->shards->zero == 0) return SEO_OK;
    if (windows(p)) {
        p->segments[segment].fresh = false;
        return SEO_OK;
    }
    return gather(p, segment);
}

seo_err seo_parallel_settle(seo_parallel *p) {
    for (int64_t s = 0; s < p->shards->segment_count; s++) {
        const seo_err err = seo_parallel_wait(p, &p->segments[s].params_ticket);
        if (err != SEO_OK) return err;
    }
    return SEO_OK;
}

seo_err seo_parallel_refresh(seo_parallel *p) {
    seo_err err = SEO_OK;
    SEO_TRY(seo_parallel_settle(p));
    SEO_TRY(seo_model_refresh(p->model));
    for (int64_t s = 0; s < p->shards->segment_count; s++) {
        SEO_TRY(seo_parallel_updated(p, s));
    }
done:
    return err;
}
