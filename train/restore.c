#include "train/restore.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"

void seo_restore_names(const char *prefix, const seo_params *params, const seo_param_set *set,
                       seo_ckpt_tensor *list) {
    for (int64_t row = 0; row < params->count; row++) {
        const seo_tensor *t = &set->tensors[row];
        seo_ckpt_tensor *out = &list[row];
        const int length =
            snprintf(out->name, sizeof out->name, "%s/%s", prefix, params->items[row].name);
        SEO_ASSERT(length > 0 && (size_t)length < sizeof out->name);
        out->rank = t->rank;
        for (int32_t i = 0; i < 4; i++) out->dims[i] = t->dims[i];
        out->data = t->data; /* a CPU device's memory is the host's */
    }
}

static seo_err read_parameters(seo_ckpt *ckpt, seo_model *model) {
    const seo_params *params = seo_model_table(model);
    seo_ckpt_tensor *list = calloc((size_t)params->count, sizeof *list);
    if (!list) return SEO_FAIL(SEO_ERR_MEMORY, "a list of %lld tensors", (long long)params->count);
    seo_restore_names("parameters", params, seo_model_weights(model), list);
    const seo_err err = seo_ckpt_read(ckpt, list, params->count);
    free(list);
    return err;
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
    SEO_TRY(seo_device_open_cpu(&(seo_cpu_options){.threads = args->threads}, &out->dev));
    const seo_model_args model = {
        .dev = out->dev,
        .config = &out->config.model,
        .mode = args->mode,
        .batch = args->mode == SEO_MODEL_GENERATE ? 1 : out->config.train.micro_batch,
        .seed = out->state.seed,
        .uninitialised = true};
    SEO_TRY(seo_model_open(&model, &out->model));
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
