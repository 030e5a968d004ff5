#include "train/optim.h"

#include <math.h>
#include <stdlib.h>

#include "base/check.h"

struct seo_optim {
    seo_model *model;
    seo_device *dev;
    seo_optimizer_config config;
    seo_param_set moment1, moment2;
    seo_slab slab;
    void *memory;
    seo_tensor hyper, sum_squares, norm;
};

static seo_err plan_and_bind(seo_optim *o) {
    seo_err err = SEO_OK;
    const seo_params *params = seo_model_table(o->model);
    const int64_t one = 1, hyper = SEO_HYPER_COUNT;
    SEO_TRY(seo_param_set_plan(&o->moment1, params, "first moment"));
    SEO_TRY(seo_param_set_plan(&o->moment2, params, "second moment"));
    seo_slab_init(&o->slab, "optimizer scalars");
    SEO_TRY(seo_slab_add(&o->slab, "hyper", SEO_DTYPE_F32, 1, &hyper, &o->hyper));
    SEO_TRY(seo_slab_add(&o->slab, "sum_squares", SEO_DTYPE_F32, 1, &one, &o->sum_squares));
    SEO_TRY(seo_slab_add(&o->slab, "norm", SEO_DTYPE_F32, 1, &one, &o->norm));
    SEO_TRY(seo_param_set_bind(&o->moment1, o->dev));
    SEO_TRY(seo_param_set_bind(&o->moment2, o->dev));
    SEO_TRY(seo_device_alloc(o->dev, o->slab.bytes, &o->memory));
    seo_slab_bind(&o->slab, o->memory);
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

seo_err seo_optim_norm(seo_optim *o, double *norm) {
    seo_err err = SEO_OK;
    float value = 0;
    SEO_TRY(
        seo_sum_squares(o->dev, &(seo_sum_squares_args){.out = o->sum_squares,
                                                        .inp = seo_model_grads(o->model)->whole}));
    SEO_TRY(seo_clip_factor(o->dev, &(seo_clip_factor_args){.norm = o->norm,
                                                            .hyper = o->hyper,
                                                            .sum_squares = o->sum_squares,
                                                            .max_norm = (float)o->config.clip}));
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

seo_err seo_optim_update(seo_optim *o, double lr, int64_t update) {
    seo_err err = SEO_OK;
    const seo_params *params = seo_model_table(o->model);
    const seo_param_set *weights = seo_model_weights(o->model), *grads = seo_model_grads(o->model);
    SEO_TRY(set_hyper(o, lr, update));
    for (int64_t row = 0; row < params->count; row++) {
        const double decay = params->items[row].decay ? o->config.weight_decay : 0;
        SEO_TRY(seo_adamw(o->dev, &(seo_adamw_args){.param = weights->tensors[row],
                                                    .m = o->moment1.tensors[row],
                                                    .v = o->moment2.tensors[row],
                                                    .grad = grads->tensors[row],
                                                    .hyper = o->hyper,
                                                    .beta1 = (float)o->config.beta1,
                                                    .beta2 = (float)o->config.beta2,
                                                    .eps = (float)o->config.eps,
                                                    .weight_decay = (float)decay}));
    }
done:
    return err;
}
