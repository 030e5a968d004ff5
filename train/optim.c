#include "train/optim.h"

#include <math.h>
#include <stdlib.h>

#include "base/check.h"
#include "train/replay.h"
#include "train/shard.h"

_Static_assert((int)SEO_SHARD_UNIT == (int)SEO_SQUARES_UNIT, "a rank sums up whole units");

struct seo_optim {
    seo_model *model;
    seo_device *dev;
    seo_optimizer_config config;
    uint64_t seed;
    seo_param_set moment1, moment2;
    seo_slab slab;
    void *memory;
    seo_tensor hyper, sum_squares, norm;
    seo_tensor ranges; /* of the flat update: see seo_adamw_args */
    seo_replay measure, update;
};

/* Where decay begins and ends along the slab, in units: each change from one parameter to the next
 * is an end. Returns how many there are; ends NULL: only counts. What lies beyond the last end has
 * no decay, so the list is closed where it would have. */
static int64_t decay_ends(const seo_params *params, const seo_shards *shards, int32_t *ends) {
    int64_t count = 0;
    bool decays = false;
    for (int64_t row = 0; row <= params->count; row++) {
        const bool beyond = row == params->count;
        const bool next = !beyond && params->items[row].decay;
        if (next == decays) continue;
        const int64_t at = beyond ? seo_shards_count(shards, SEO_LAYOUT_WHOLE)
                                  : seo_shards_row_at(shards, SEO_LAYOUT_WHOLE, row);
        if (ends) ends[count] = (int32_t)(at / SEO_ADAMW_UNIT);
        count++;
        decays = next;
    }
    return count;
}

static seo_err write_ranges(seo_optim *o) {
    const int64_t count = seo_tensor_count(&o->ranges);
    int32_t *ends = calloc((size_t)count, sizeof *ends);
    if (!ends) return SEO_FAIL(SEO_ERR_MEMORY, "an optimizer");
    (void)decay_ends(seo_model_table(o->model), seo_model_shards(o->model), ends);
    const seo_err err =
        seo_device_copy_in(o->dev, o->ranges.data, ends, count * (int64_t)sizeof *ends);
    free(ends);
    return err;
}

static seo_err plan_and_bind(seo_optim *o) {
    seo_err err = SEO_OK;
    const seo_params *params = seo_model_table(o->model);
    const seo_shards *shards = seo_model_shards(o->model);
    const seo_tensor *grads = &seo_model_grads(o->model)->flat;
    const int64_t units = seo_div_up(seo_tensor_count(grads), SEO_SQUARES_UNIT);
    const int64_t one = 1, hyper = SEO_HYPER_COUNT;
    SEO_TRY(seo_param_set_plan(&o->moment1, params, shards, SEO_LAYOUT_WHOLE, SEO_DTYPE_F32,
                               "first moments"));
    SEO_TRY(seo_param_set_plan(&o->moment2, params, shards, SEO_LAYOUT_WHOLE, SEO_DTYPE_F32,
                               "second moments"));
    const int64_t ranges = seo_max_i64(decay_ends(params, shards, NULL), 1);
    seo_slab_init(&o->slab, "optimizer scalars");
    SEO_TRY(seo_slab_add(&o->slab, "hyper", SEO_DTYPE_F32, 1, &hyper, &o->hyper));
    SEO_TRY(seo_slab_add(&o->slab, "sum_squares", SEO_DTYPE_F32, 1, &units, &o->sum_squares));
    SEO_TRY(seo_slab_add(&o->slab, "norm", SEO_DTYPE_F32, 1, &one, &o->norm));
    SEO_TRY(seo_slab_add(&o->slab, "ranges", SEO_DTYPE_I32, 1, &ranges, &o->ranges));
    SEO_TRY(seo_param_set_bind(&o->moment1, o->dev));
    SEO_TRY(seo_param_set_bind(&o->moment2, o->dev));
    SEO_TRY(seo_device_alloc(o->dev, o->slab.bytes, &o->memory));
    seo_slab_bind(&o->slab, o->memory);
    SEO_TRY(write_ranges(o));
done:
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
    seo_slab_free(&o->slab);
    seo_param_set_free(&o->moment2);
    seo_param_set_free(&o->moment1);
    free(o);
}

seo_param_set *seo_optim_moment1(seo_optim *o) {
    return &o->moment1;
}
seo_param_set *seo_optim_moment2(seo_optim *o) {
    return &o->moment2;
}

static seo_err queue_norm(void *context) {
    seo_err err = SEO_OK;
    seo_optim *o = context;
    SEO_TRY(
        seo_sum_squares(o->dev, &(seo_sum_squares_args){.out = o->sum_squares,
                                                        .inp = seo_model_grads(o->model)->flat}));
    SEO_TRY(seo_clip_factor(o->dev, &(seo_clip_factor_args){.norm = o->norm,
                                                            .hyper = o->hyper,
                                                            .sum_squares = o->sum_squares,
                                                            .max_norm = (float)o->config.clip}));
done:
    return err;
}

seo_err seo_optim_norm(seo_optim *o, double *norm) {
    seo_err err = SEO_OK;
    float value = 0;
    SEO_TRY(seo_replay_run(&o->measure, o->dev, queue_norm, o));
    SEO_TRY(seo_device_copy_out(o->dev, &value, o->norm.data, sizeof value));
    *norm = (double)value;
done:
    return err;
}

/* The values a step brings, before the clip factor that is on the device already. */
static seo_err set_hyper(seo_optim *o, double lr, int64_t update) {
    SEO_ASSERT(update >= 1 && SEO_HYPER_GRAD_FACTOR == SEO_HYPER_COUNT - 1);
    float values[SEO_HYPER_GRAD_FACTOR];
    values[SEO_HYPER_LR] = (float)lr;
    values[SEO_HYPER_CORRECTION1] = (float)(1 / (1 - pow(o->config.beta1, (double)update)));
    values[SEO_HYPER_CORRECTION2] = (float)(1 / (1 - pow(o->config.beta2, (double)update)));
    values[SEO_HYPER_STEP] = (float)update;
    return seo_device_copy_in(o->dev, o->hyper.data, values, sizeof values);
}

static seo_err queue_update(void *context) {
    seo_optim *o = context;
    const seo_param_set *working = seo_model_working(o->model);
    return seo_adamw(o->dev,
                     &(seo_adamw_args){.param = seo_model_weights(o->model)->flat,
                                       .m = o->moment1.flat,
                                       .v = o->moment2.flat,
                                       .grad = seo_model_grads(o->model)->flat,
                                       .working = working ? working->flat : (seo_tensor){0},
                                       .ranges = o->ranges,
                                       .hyper = o->hyper,
                                       .key = {.seed = o->seed, .purpose = SEO_PURPOSE_ROUNDING},
                                       .beta1 = (float)o->config.beta1,
                                       .beta2 = (float)o->config.beta2,
                                       .eps = (float)o->config.eps,
                                       .weight_decay = (float)o->config.weight_decay});
}

seo_err seo_optim_update(seo_optim *o, double lr, int64_t update) {
    const seo_err err = set_hyper(o, lr, update);
    return err != SEO_OK ? err : seo_replay_run(&o->update, o->dev, queue_update, o);
}
