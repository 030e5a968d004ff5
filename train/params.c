#include "train/params.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

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

int64_t seo_params_trained(const seo_params *params) {
    int64_t total = 0;
    for (int64_t i = 0; i < params->count; i++) {
        if (!params->items[i].frozen) total += seo_param_elements(&params->items[i]);
    }
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

int64_t seo_param_memory_elements(const seo_param *param) {
    return param->rank == 2 ? memory_rows(param) * param->dims[1] : memory_rows(param);
}

int64_t seo_params_segment(const seo_params *params, int64_t row) {
    int64_t segment = 0;
    SEO_ASSERT(row >= 0 && row < params->count);
    for (int64_t i = 1; i <= row; i++) {
        segment += params->items[i].block != params->items[i - 1].block;
    }
    return segment;
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

/* What is trained beside adapters' rows: heads of a task, which its base may not have. */
static bool is_frozen(const seo_params *params, const char *name) {
    static const char *const heads[] = {"classify.", "pooler."};
    const char *last = strrchr(name, '.');
    if (params->adapter_rank == 0) return false;
    if (last && (strcmp(last, ".lora_a") == 0 || strcmp(last, ".lora_b") == 0)) return false;
    for (int64_t i = 0; i < SEO_COUNT_OF(heads); i++) {
        if (strncmp(name, heads[i], strlen(heads[i])) == 0) return false;
    }
    return true;
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
    params->items[*index] = *param;
    params->items[*index].frozen = is_frozen(params, param->name);
    params->count++;
    return SEO_OK;
}

seo_tensor seo_param_padded(const seo_params *params, const seo_tensor *tensors, int64_t row) {
    seo_tensor t = tensors[row];
    t.dims[0] = memory_rows(&params->items[row]);
    return t;
}
