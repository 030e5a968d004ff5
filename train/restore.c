#include "train/restore.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "train/values.h"

/* Numbers that are brought to the device at a time, or one tensor where that is more: a part file
 * is opened once for all of them. */
enum { BUFFER_VALUES = 16 << 20 };

seo_err seo_restore_add(seo_restore_list *list, const char *prefix, const seo_params *params,
                        const seo_param_set *set) {
    const size_t count = (size_t)(list->count + params->count);
    seo_ckpt_tensor *tensors = realloc(list->tensors, count * sizeof *tensors);
    if (tensors) list->tensors = tensors;
    seo_tensor *places = realloc(list->places, count * sizeof *places);
    if (places) list->places = places;
    if (!tensors || !places) return SEO_FAIL(SEO_ERR_MEMORY, "a list of %zu tensors", count);
    for (int64_t row = 0; row < params->count; row++) {
        const seo_tensor *t = &set->tensors[row];
        seo_ckpt_tensor *out = &list->tensors[list->count];
        *out = (seo_ckpt_tensor){.rank = t->rank};
        const int length =
            snprintf(out->name, sizeof out->name, "%s/%s", prefix, params->items[row].name);
        SEO_ASSERT(length > 0 && (size_t)length < sizeof out->name);
        memcpy(out->dims, t->dims, sizeof out->dims);
        list->places[list->count++] = *t;
    }
    return SEO_OK;
}

void seo_restore_list_free(seo_restore_list *list) {
    free(list->tensors);
    free(list->places);
    *list = (seo_restore_list){.dev = list->dev};
}

/* Reads tensors from `first` on, as many as the buffer holds; *end is where the next ones begin. */
static seo_err read_some(const seo_restore_list *list, seo_ckpt *ckpt, float *buffer,
                         int64_t capacity, int64_t first, int64_t *end) {
    int64_t used = 0, i = first;
    for (; i < list->count; i++) {
        const int64_t values = seo_tensor_count(&list->places[i]);
        if (values > capacity - used) break;
        list->tensors[i].data = buffer + used;
        used += values;
    }
    SEO_ASSERT(i > first);
    *end = i;
    seo_err err = seo_ckpt_read(ckpt, list->tensors + first, i - first);
    for (i = first; i < *end; i++) {
        const float *values = list->tensors[i].data;
        list->tensors[i].data = NULL;
        if (err == SEO_OK) err = seo_values_write(list->dev, &list->places[i], values);
    }
    return err;
}

seo_err seo_restore_read(const seo_restore_list *list, seo_ckpt *ckpt) {
    seo_err err = SEO_OK;
    int64_t most = 1, total = 0;
    for (int64_t i = 0; i < list->count; i++) {
        const int64_t values = seo_tensor_count(&list->places[i]);
        most = seo_max_i64(most, values);
        total += values;
    }
    const int64_t capacity = seo_max_i64(most, seo_min_i64(total, BUFFER_VALUES));
    float *buffer = malloc((size_t)capacity * sizeof *buffer);
    if (!buffer) {
        return SEO_FAIL(SEO_ERR_MEMORY, "no memory to read a checkpoint: %lld bytes",
                        (long long)capacity * 4);
    }
    for (int64_t first = 0, end = 0; first < list->count && err == SEO_OK; first = end) {
        err = read_some(list, ckpt, buffer, capacity, first, &end);
    }
    free(buffer);
    return err;
}

seo_err seo_restore_fetch(void *context, int64_t index, float *out) {
    const seo_restore_list *list = context;
    return seo_values_read(list->dev, &list->places[index], out);
}

static seo_err read_parameters(seo_ckpt *ckpt, seo_model *model) {
    seo_err err = SEO_OK;
    seo_restore_list list = {.dev = seo_model_device(model)};
    SEO_TRY(seo_restore_add(&list, "parameters", seo_model_table(model), seo_model_weights(model)));
    SEO_TRY(seo_restore_read(&list, ckpt));
    SEO_TRY(seo_model_refresh(model));
done:
    seo_restore_list_free(&list);
    return err;
}

static seo_err open_model(const seo_restore_args *args, seo_restored *out) {
    seo_err err = SEO_OK;
    const seo_config *c = &out->config;
    seo_dtype storage = SEO_DTYPE_F32;
    const bool f32 = c->precision == SEO_PRECISION_F32, own = c->kernels.matmul == SEO_MATMUL_OWN;
    const seo_device_wish wish = {.device = args->device,
                                  .precision = f32 ? SEO_PRECISION_F32 : SEO_PRECISION_AUTO,
                                  .matmul = own ? SEO_MATMUL_OWN : SEO_MATMUL_AUTO,
                                  .threads = args->threads,
                                  .open_cuda = args->open_cuda};
    SEO_TRY(seo_device_open_wish(&wish, &out->dev, &storage));
    const seo_model_args model = {.dev = out->dev,
                                  .config = &c->model,
                                  .mode = args->mode,
                                  .batch =
                                      args->mode == SEO_MODEL_GENERATE ? 1 : c->train.micro_batch,
                                  .seed = out->state.seed,
                                  .storage = storage,
                                  .uninitialised = true};
    SEO_TRY(seo_model_open(&model, &out->model));
done:
    return seo_device_too_small(err);
}

seo_err seo_restore(const seo_restore_args *args, seo_restored *out) {
    seo_err err = SEO_OK;
    seo_ckpt *ckpt = NULL;
    char config_path[SEO_PATH_MAX];
    *out = (seo_restored){0};
    SEO_TRY(seo_ckpt_open(args->path, &ckpt));
    out->state = *seo_ckpt_state_of(ckpt);
    snprintf(out->path, sizeof out->path, "%s", seo_ckpt_path(ckpt));
    SEO_TRY(seo_path_join(config_path, out->path, "config.yaml"));
    SEO_TRY(seo_path_join(out->tokenizer_path, out->path, "tokenizer.json"));
    SEO_TRY(seo_config_load(config_path, NULL, 0, &out->config));
    SEO_TRY(open_model(args, out));
    SEO_TRY(read_parameters(ckpt, out->model));
done:
    seo_ckpt_close(ckpt);
    return err;
}

void seo_restored_close(seo_restored *restored) {
    seo_model_close(restored->model);
    seo_device_close(restored->dev);
    restored->model = NULL;
    restored->dev = NULL;
}
