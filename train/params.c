#include "train/params.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/rng.h"

void seo_params_free(seo_params *params) {
    free(params->items);
    *params = (seo_params){0};
}

int64_t seo_param_elements(const seo_param *param) {
    return param->rank == 2 ? param->dims[0] * param->dims[1] : param->dims[0];
}

int64_t seo_params_elements(const seo_params *params) {
    int64_t total = 0;
    for (int64_t i = 0; i < params->count; i++) total += seo_param_elements(&params->items[i]);
    return total;
}

int64_t seo_params_find(const seo_params *params, const char *name) {
    for (int64_t i = 0; i < params->count; i++) {
        if (strcmp(params->items[i].name, name) == 0) return i;
    }
    return -1;
}

static int64_t memory_rows(const seo_param *param) {
    return seo_max_i64(param->dims[0], param->memory_rows);
}

/* The sum with a new row must stay below 2^59, so that four copies in bytes fit as well. */
static seo_err check_size(const seo_params *params, const seo_param *param) {
    int64_t elements = memory_rows(param), total = 0;
    const bool fits = (param->rank == 1 || seo_mul_ok(elements, param->dims[1], &elements)) &&
                      elements > 0 && seo_add_ok(seo_params_elements(params), elements, &total) &&
                      total < INT64_C(1) << 59;
    if (fits) return SEO_OK;
    return SEO_FAIL(SEO_ERR_SHAPE, "%s: %lld x %lld is no possible size", param->name,
                    (long long)param->dims[0], (long long)param->dims[1]);
}

seo_err seo_params_add(seo_params *params, const seo_param *param, int64_t *index) {
    SEO_ASSERT(param->rank == 1 || param->rank == 2);
    SEO_ASSERT(seo_params_find(params, param->name) < 0);
    const seo_err err = check_size(params, param);
    if (err != SEO_OK) return err;
    if (params->count == params->capacity) {
        const int64_t capacity = params->capacity ? params->capacity * 2 : 64;
        seo_param *items = realloc(params->items, (size_t)capacity * sizeof *items);
        if (!items)
            return SEO_FAIL(SEO_ERR_MEMORY, "a table of %lld parameters", (long long)capacity);
        params->items = items;
        params->capacity = capacity;
    }
    *index = params->count;
    params->items[params->count++] = *param;
    return SEO_OK;
}

seo_err seo_param_set_plan(seo_param_set *set, const seo_params *params, seo_dtype dtype,
                           const char *name) {
    *set = (seo_param_set){.count = params->count, .whole = {.dtype = dtype}};
    seo_slab_init(&set->slab, name);
    set->slab.align_bytes = SEO_ADAMW_UNIT * seo_dtype_bytes(dtype);
    set->tensors = calloc((size_t)params->count, sizeof *set->tensors);
    if (!set->tensors) return SEO_FAIL(SEO_ERR_MEMORY, "the plan of the %s", name);
    seo_err err = SEO_OK;
    for (int64_t i = 0; i < params->count && err == SEO_OK; i++) {
        const seo_param *p = &params->items[i];
        const int64_t dims[2] = {memory_rows(p), p->dims[1]};
        err = seo_slab_add(&set->slab, p->name, dtype, p->rank, dims, &set->tensors[i]);
        set->tensors[i].dims[0] = p->dims[0];
    }
    return err;
}

seo_tensor seo_param_padded(const seo_params *params, const seo_tensor *tensors, int64_t row) {
    seo_tensor t = tensors[row];
    t.dims[0] = memory_rows(&params->items[row]);
    return t;
}

seo_err seo_param_set_bind(seo_param_set *set, seo_device *dev) {
    void *base = NULL;
    const seo_err err = seo_device_alloc(dev, set->slab.bytes, &base);
    if (err != SEO_OK) return seo_err_context(err, "%s", set->slab.name);
    seo_slab_bind(&set->slab, base);
    const seo_dtype dtype = set->whole.dtype;
    set->whole = seo_tensor_1d(base, dtype, set->slab.bytes / seo_dtype_bytes(dtype));
    set->dev = dev;
    return SEO_OK;
}

void seo_param_set_free(seo_param_set *set) {
    if (set->dev) seo_device_free(set->dev, set->whole.data);
    seo_slab_free(&set->slab);
    free(set->tensors);
    *set = (seo_param_set){0};
}

static seo_err init_one(const seo_param *param, int64_t row, seo_tensor out, seo_device *dev,
                        uint64_t seed) {
    if (param->init == SEO_INIT_NORMAL) {
        const seo_normal_args args = {
            .out = out,
            .key = {.seed = seed, .purpose = SEO_PURPOSE_INIT | (uint32_t)row << 8},
            .std = (float)param->std};
        return seo_normal(dev, &args);
    }
    if (param->init == SEO_INIT_ZEROS)
        return seo_device_zero(dev, out.data, seo_tensor_bytes(&out));
    const int64_t count = seo_tensor_count(&out);
    float *ones = malloc((size_t)count * sizeof *ones);
    if (!ones) return SEO_FAIL(SEO_ERR_MEMORY, "initial values");
    for (int64_t i = 0; i < count; i++) ones[i] = 1.0f;
    const seo_err err = seo_device_copy_in(dev, out.data, ones, seo_tensor_bytes(&out));
    free(ones);
    return err;
}

seo_err seo_params_init(const seo_params *params, seo_param_set *set, uint64_t seed) {
    seo_err err = SEO_OK;
    SEO_ASSERT(set->whole.dtype == SEO_DTYPE_F32);
    for (int64_t row = 0; row < params->count && err == SEO_OK; row++) {
        err = init_one(&params->items[row], row, set->tensors[row], set->dev, seed);
    }
    return err;
}
