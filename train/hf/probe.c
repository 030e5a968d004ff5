#include "train/hf/probe.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "train/models/model.h"

static const char k_text[] =
    "It was the best of times, it was the worst of times; in 1859 she wrote: \"It is a far, far "
    "better thing that I do, than I have ever done\" -- and naïve readers wept.";

void seo_hf_logits_free(seo_hf_logits *logits) {
    free(logits->items);
    *logits = (seo_hf_logits){0};
}

seo_err seo_hf_probe_ids(const seo_model_config *config, const seo_tokenizer *tok,
                         int32_t ids[SEO_HF_PROBE_MAX], int64_t *count) {
    seo_err err = SEO_OK;
    seo_encoder *encoder = NULL;
    seo_ids text = {0};
    if (tok) {
        SEO_TRY(seo_encoder_open(tok, &encoder));
        SEO_TRY(seo_encode(encoder, k_text, sizeof k_text - 1, false, &text));
    }
    *count = seo_min_i64(SEO_HF_PROBE_MAX, config->seq_len);
    for (int64_t i = 0; i < *count; i++) {
        ids[i] = i < text.count ? text.items[i] : (int32_t)((7 * i + 3) % config->vocab_size);
    }
done:
    seo_encoder_close(encoder);
    seo_ids_free(&text);
    return err;
}

/* What a pass takes besides the ids: no target counts, every position has an output. */
typedef struct pass_rows {
    int32_t *targets, *types, *picks;
    int32_t label;
} pass_rows;

static seo_err make_rows(const seo_hf_probe_args *args, pass_rows *rows) {
    const int64_t count = args->count;
    int32_t *memory = malloc((size_t)count * 3 * sizeof *memory);
    if (!memory) return SEO_FAIL(SEO_ERR_MEMORY, "%lld positions", (long long)count);
    *rows = (pass_rows){.targets = memory,
                        .types = memory + count,
                        .picks = memory + 2 * count,
                        .label = SEO_TARGET_IGNORE};
    for (int64_t i = 0; i < count; i++) {
        rows->targets[i] = SEO_TARGET_IGNORE;
        rows->types[i] = args->config->type_vocab_size > 1 && 2 * i >= count;
        rows->picks[i] = (int32_t)i;
    }
    return SEO_OK;
}

static seo_err fill_model(seo_model *model, const seo_hf_probe_args *args) {
    seo_err err = SEO_OK;
    const seo_params *table = seo_model_table(model);
    float *row = NULL;
    for (int64_t i = 0; i < table->count; i++) {
        const seo_param *param = &table->items[i];
        const int64_t elements = seo_param_elements(param);
        free(row);
        row = malloc((size_t)elements * sizeof *row);
        if (!row) return SEO_FAIL(SEO_ERR_MEMORY, "the parameter %s", param->name);
        SEO_TRY(args->values(args->context, param, i, row));
        SEO_TRY(seo_model_set_param(model, param->name, row, elements));
    }
done:
    free(row);
    return err;
}

static seo_err run(seo_model *model, const seo_hf_probe_args *args, seo_hf_logits *out) {
    seo_err err = SEO_OK;
    const seo_model_config *c = seo_model_config_of(model);
    const bool encoder = seo_family_is_encoder(c->family), label = seo_model_loss_shape(c).label;
    const int64_t count = args->count, classes = !label ? 0 : c->classes > 0 ? c->classes : 2;
    const int64_t predicted = seo_model_loss_shape(c).rows > 0 ? count : 0;
    pass_rows rows = {0};
    SEO_TRY(make_rows(args, &rows));
    seo_pass_args pass = {
        .ids = args->ids, .targets = rows.targets, .stride = count, .batch = 1, .positions = count};
    if (c->type_vocab_size > 0) pass.types = rows.types;
    if (predicted > 0) {
        pass.losses = seo_tensor_1d(seo_model_losses(model).data, SEO_DTYPE_F32, count);
    }
    if (encoder && predicted > 0) {
        pass.picks = rows.picks;
        pass.pick_targets = rows.targets;
    }
    if (label) {
        pass.labels = &rows.label;
        pass.label_losses = seo_model_label_losses(model);
    }
    out->positions = count;
    out->count = predicted * c->vocab_size + classes;
    out->items = malloc((size_t)out->count * sizeof *out->items);
    if (!out->items) {
        err = SEO_FAIL(SEO_ERR_MEMORY, "the logits of a probe text");
        goto done;
    }
    SEO_TRY(seo_model_forward(model, &pass));
    if (predicted > 0) SEO_TRY(seo_model_logits(model, 0, count, out->items));
    if (label) SEO_TRY(seo_model_label_logits(model, out->items + predicted * c->vocab_size));
done:
    free(rows.targets);
    return err;
}

seo_err seo_hf_probe(const seo_hf_probe_args *args, seo_hf_logits *out) {
    seo_err err = SEO_OK;
    seo_device *dev = NULL;
    seo_model *model = NULL;
    seo_model_config c = *args->config;
    SEO_ASSERT(args->count >= 1 && args->count <= c.seq_len);
    *out = (seo_hf_logits){0};
    /* A pass of just these positions, all of them with an output. */
    c.picks = seo_family_is_encoder(c.family) && c.classes == 0 ? args->count : 0;
    SEO_TRY(seo_device_open_cpu(&(seo_cpu_options){0}, &dev));
    const seo_model_args model_args = {
        .dev = dev, .config = &c, .mode = SEO_MODEL_EVAL, .batch = 1, .uninitialised = true};
    SEO_TRY(seo_model_open(&model_args, &model));
    SEO_TRY(fill_model(model, args));
    SEO_TRY(run(model, args, out));
done:
    seo_model_close(model);
    seo_device_close(dev);
    return err;
}
