#include "train/optim.h"

#include <math.h>
#include <stdlib.h>

#include "base/check.h"
#include "train/replay.h"
#include "train/shard.h"

_Static_assert((int)SEO_SHARD_UNIT == (int)SEO_SQUARES_UNIT, "a rank sums up whole units");

/* What one call updates: the whole slab, or this rank's chunk of a segment. */
typedef struct span {
    int64_t segment;             /* -1: all of them */
    int64_t first, count;        /* elements in the whole layout */
    int64_t at;                  /* in the moments */
    int64_t range_first, ranges; /* its part of the list of decay ends */
} span;

struct seo_optim {
    seo_model *model;
    seo_parallel *parallel; /* NULL: one rank */
    seo_device *dev;
    seo_optimizer_config config;
    uint64_t seed;
    seo_param_set moment1, moment2;
    span *spans;
    int64_t span_count;
    int64_t range_count;
    seo_slab slab;
    void *memory;
    seo_tensor hyper, norm;
    seo_tensor units;  /* (whole_count / SEO_SHARD_UNIT): sums of squares */
    seo_tensor ranges; /* of all spans: see seo_adamw_args */
    seo_replay measure, update;
};

/* The first row from `row` on that is trained, or the end of the table. */
static int64_t next_row(const seo_shards *shards, int64_t row) {
    while (row < shards->row_count && shards->rows[row].count == 0) row++;
    return row;
}

/* Where decay begins and ends along a span, in units from its start: each change from one parameter
 * to the next is an end. What lies beyond the last end has no decay, so the list is closed where it
 * would have; without any the list is one end at 0. Returns how many there are; ends NULL: only
 * counts. */
static int64_t decay_ends(const seo_params *params, const seo_shards *shards, const span *of,
                          int32_t *ends) {
    int64_t count = 0;
    bool decays = false;
    for (int64_t row = next_row(shards, 0), after; row <= params->count; row = after) {
        const bool beyond = row == params->count;
        const int64_t start = beyond ? INT64_MAX : seo_shards_row_at(shards, SEO_LAYOUT_WHOLE, row);
        const bool next = !beyond && start < of->first + of->count && params->items[row].decay;
        after = beyond ? row + 1 : next_row(shards, row + 1);
        /* A row that ends before the span is told by the one after it. */
        const bool before = after < params->count &&
                            seo_shards_row_at(shards, SEO_LAYOUT_WHOLE, after) <= of->first;
        if (before || next == decays) continue;
        const int64_t at = seo_min_i64(seo_max_i64(start - of->first, 0), of->count);
        if (ends) ends[count] = (int32_t)(at / SEO_ADAMW_UNIT);
        count++;
        decays = next;
    }
    if (count == 0 && ends) ends[0] = 0;
    return seo_max_i64(count, 1);
}

static seo_err write_ranges(seo_optim *o) {
    int32_t *ends = calloc((size_t)o->range_count, sizeof *ends);
    if (!ends) return SEO_FAIL(SEO_ERR_MEMORY, "an optimizer");
    for (int64_t i = 0; i < o->span_count; i++) {
        const span *of = &o->spans[i];
        (void)decay_ends(seo_model_table(o->model), seo_model_shards(o->model), of,
                         ends + of->range_first);
    }
    const seo_err err =
        seo_device_copy_in(o->dev, o->ranges.data, ends, o->range_count * (int64_t)sizeof *ends);
    free(ends);
    return err;
}

/* Whole moments are updated by one call, a shard chunk by chunk. */
static seo_err list_spans(seo_optim *o, const seo_params *params, const seo_shards *shards) {
    const bool whole = shards->zero == 0;
    o->span_count = whole ? 1 : shards->segment_count;
    o->spans = calloc((size_t)o->span_count, sizeof *o->spans);
    if (!o->spans) return SEO_FAIL(SEO_ERR_MEMORY, "an optimizer");
    o->range_count = 0;
    for (int64_t i = 0; i < o->span_count; i++) {
        const seo_segment *s = &shards->segments[i];
        span *of = &o->spans[i];
        *of = whole ? (span){.segment = -1, .count = shards->whole_count}
                    : (span){.segment = i,
                             .first = s->first + shards->rank * s->chunk,
                             .count = s->chunk,
                             .at = s->shard_first};
        of->range_first = o->range_count;
        of->ranges = decay_ends(params, shards, of, NULL);
        o->range_count += of->ranges;
    }
    return SEO_OK;
}

static seo_err plan(seo_optim *o, const seo_params *params, const seo_shards *shards) {
    seo_err err = SEO_OK;
    const seo_layout layout = shards->zero == 0 ? SEO_LAYOUT_WHOLE : SEO_LAYOUT_SHARD;
    const int64_t one = 1, hyper = SEO_HYPER_COUNT, units = shards->whole_count / SEO_SHARD_UNIT;
    SEO_TRY(
        seo_param_set_plan(&o->moment1, params, shards, layout, SEO_DTYPE_F32, "first moments"));
    SEO_TRY(
        seo_param_set_plan(&o->moment2, params, shards, layout, SEO_DTYPE_F32, "second moments"));
    SEO_TRY(list_spans(o, params, shards));
    seo_slab_init(&o->slab, "optimizer scalars");
    SEO_TRY(seo_slab_add(&o->slab, "hyper", SEO_DTYPE_F32, 1, &hyper, &o->hyper));
    SEO_TRY(seo_slab_add(&o->slab, "units", SEO_DTYPE_F32, 1, &units, &o->units));
    SEO_TRY(seo_slab_add(&o->slab, "norm", SEO_DTYPE_F32, 1, &one, &o->norm));
    SEO_TRY(seo_slab_add(&o->slab, "ranges", SEO_DTYPE_I32, 1, &o->range_count, &o->ranges));
done:
    return err;
}

static seo_err plan_and_bind(seo_optim *o) {
    seo_err err = SEO_OK;
    SEO_TRY(plan(o, seo_model_table(o->model), seo_model_shards(o->model)));
    SEO_TRY(seo_param_set_bind(&o->moment1, o->dev));
    SEO_TRY(seo_param_set_bind(&o->moment2, o->dev));
    SEO_TRY(seo_device_alloc(o->dev, o->slab.bytes, &o->memory));
    seo_slab_bind(&o->slab, o->memory);
    SEO_TRY(write_ranges(o));
done:
    return err;
}

static void release(seo_optim *o) {
    seo_slab_free(&o->slab);
    seo_param_set_free(&o->moment2);
    seo_param_set_free(&o->moment1);
    free(o->spans);
}

seo_err seo_optim_measure(const seo_params *params, const seo_shards *shards,
                          seo_memory_table *out) {
    seo_optim o = {0};
    const seo_err err = plan(&o, params, shards);
    if (err == SEO_OK) {
        seo_memory_add(out, o.moment1.name, o.moment1.bytes);
        seo_memory_add(out, o.moment2.name, o.moment2.bytes);
        seo_memory_add(out, o.slab.name, o.slab.bytes);
    }
    release(&o);
    return err;
}

seo_err seo_optim_open(seo_model *model, const seo_optimizer_config *config, seo_optim **out) {
    *out = NULL;
    seo_optim *o = calloc(1, sizeof *o);
    if (!o) return SEO_FAIL(SEO_ERR_MEMORY, "an optimizer");
    o->model = model;
    o->dev = seo_model_device(model);
    o->config = *config;
    o->seed = seo_model_seed(model);
    const seo_err err = plan_and_bind(o);
    if (err != SEO_OK) {
        seo_optim_close(o);
        return err;
    }
    *out = o;
    return SEO_OK;
}

void seo_optim_close(seo_optim *o) {
    if (!o) return;
    seo_replay_free(&o->measure);
    seo_replay_free(&o->update);
    seo_device_free(o->dev, o->memory);
    release(o);
    free(o);
}

void seo_optim_join(seo_optim *o, seo_parallel *parallel) {
    SEO_ASSERT(seo_parallel_shards(parallel) == seo_model_shards(o->model));
    o->parallel = parallel;
}

seo_param_set *seo_optim_moment1(seo_optim *o) {
    return &o->moment1;
}
seo_param_set *seo_optim_moment2(seo_optim *o) {
    return &o->moment2;
}

/* This rank's gradients of a span: of a shard, or whole. */
static seo_tensor grads_of(const seo_optim *o, const span *of) {
    seo_tensor t = seo_model_grad_shard(o->model);
    const bool shard = seo_tensor_given(&t);
    if (!shard) t = seo_model_grads(o->model)->flat;
    return seo_tensor_1d((float *)t.data + (shard ? of->at : of->first), SEO_DTYPE_F32, of->count);
}

static seo_err queue_squares(seo_optim *o) {
    for (int64_t i = 0; i < o->span_count; i++) {
        const span *of = &o->spans[i];
        float *units = (float *)o->units.data + of->first / SEO_SHARD_UNIT;
        const seo_err err = seo_sum_squares(
            o->dev, &(seo_sum_squares_args){
                        .out = seo_tensor_1d(units, SEO_DTYPE_F32, of->count / SEO_SHARD_UNIT),
                        .inp = grads_of(o, of)});
        if (err != SEO_OK) return err;
    }
    return SEO_OK;
}

static seo_err queue_clip(seo_optim *o) {
    return seo_clip_factor(o->dev, &(seo_clip_factor_args){.norm = o->norm,
                                                           .hyper = o->hyper,
                                                           .sum_squares = o->units,
                                                           .max_norm = (float)o->config.clip});
}

static seo_err queue_norm(void *context) {
    const seo_err err = queue_squares(context);
    return err != SEO_OK ? err : queue_clip(context);
}

/* Units of a shard come from everyone, and are added in the order of the whole layout. */
static seo_err norm_of_shards(seo_optim *o) {
    seo_err err = SEO_OK;
    SEO_ASSERT(o->parallel != NULL);
    SEO_TRY(queue_squares(o));
    SEO_TRY(seo_parallel_gather_units(o->parallel, o->units));
    SEO_TRY(queue_clip(o));
done:
    return err;
}

static bool is_sharded(const seo_optim *o) {
    return o->moment1.layout == SEO_LAYOUT_SHARD;
}

seo_err seo_optim_norm(seo_optim *o, double *norm) {
    seo_err err = SEO_OK;
    float value = 0;
    if (is_sharded(o)) {
        SEO_TRY(norm_of_shards(o));
    } else {
        SEO_TRY(seo_replay_run(&o->measure, o->dev, queue_norm, o));
    }
    SEO_TRY(seo_device_copy_out(o->dev, &value, o->norm.data, sizeof value));
    *norm = (double)value;
done:
    return err;
}

/* What a running mean is multiplied by, for its start at 0. */
static float correction(const seo_optim *o, double beta, int64_t update) {
    return o->config.bias_correction ? (float)(1 / (1 - pow(beta, (double)update))) : 1.0f;
}

/* The values a step brings, before the clip factor that is on the device already. */
static seo_err set_hyper(seo_optim *o, double lr, int64_t update) {
    SEO_ASSERT(update >= 1 && SEO_HYPER_GRAD_FACTOR == SEO_HYPER_COUNT - 1);
    float values[SEO_HYPER_GRAD_FACTOR];
    values[SEO_HYPER_LR] = (float)lr;
    values[SEO_HYPER_CORRECTION1] = correction(o, o->config.beta1, update);
    values[SEO_HYPER_CORRECTION2] = correction(o, o->config.beta2, update);
    values[SEO_HYPER_STEP] = (float)update;
    return seo_device_copy_in(o->dev, o->hyper.data, values, sizeof values);
}

static seo_tensor moment_of(const seo_param_set *set, const span *of) {
    return seo_tensor_1d((float *)set->flat.data + of->at, SEO_DTYPE_F32, of->count);
}

/* A span of a set that has it; none where only windows are kept. */
static seo_tensor values_of(const seo_param_set *set, const span *of) {
    if (!set || set->layout == SEO_LAYOUT_WINDOWS) return (seo_tensor){0};
    return of->segment < 0 ? set->flat : seo_param_set_chunk(set, of->segment);
}

static seo_err queue_span(seo_optim *o, const span *of) {
    int32_t *ranges = (int32_t *)o->ranges.data + of->range_first;
    return seo_adamw(o->dev,
                     &(seo_adamw_args){.param = values_of(seo_model_weights(o->model), of),
                                       .m = moment_of(&o->moment1, of),
                                       .v = moment_of(&o->moment2, of),
                                       .grad = grads_of(o, of),
                                       .working = values_of(seo_model_working(o->model), of),
                                       .ranges = seo_tensor_1d(ranges, SEO_DTYPE_I32, of->ranges),
                                       .hyper = o->hyper,
                                       .key = {.seed = o->seed, .purpose = SEO_PURPOSE_ROUNDING},
                                       .first_index = of->first,
                                       .beta1 = (float)o->config.beta1,
                                       .beta2 = (float)o->config.beta2,
                                       .eps = (float)o->config.eps,
                                       .weight_decay = (float)o->config.weight_decay});
}

static seo_err queue_update(void *context) {
    seo_optim *o = context;
    return queue_span(o, &o->spans[0]);
}

/* A segment goes to the others while the next one is updated. */
static seo_err update_shards(seo_optim *o) {
    for (int64_t i = 0; i < o->span_count; i++) {
        seo_err err = queue_span(o, &o->spans[i]);
        if (err == SEO_OK) err = seo_parallel_updated(o->parallel, o->spans[i].segment);
        if (err != SEO_OK) return err;
    }
    return SEO_OK;
}

seo_err seo_optim_update(seo_optim *o, double lr, int64_t update) {
    const seo_err err = set_hyper(o, lr, update);
    if (err != SEO_OK) return err;
    return is_sharded(o) ? update_shards(o) : seo_replay_run(&o->update, o->dev, queue_update, o);
}
