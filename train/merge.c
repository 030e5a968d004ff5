#include "train/merge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "train/checkpoint/remake.h"
#include "train/config.h"
#include "train/models/model.h"
#include "train/restore.h"

/* Where a tensor's values come from. */
typedef struct origin {
    seo_ckpt *ckpt;
    int64_t tensor;         /* in its table */
    int64_t lora_a, lora_b; /* of the adapters' table; -1: it has none */
    int64_t in;             /* width of a matrix */
} origin;

typedef struct merge {
    seo_ckpt *adapters, *base;
    seo_config config; /* without adapters */
    int64_t rank;
    double factor; /* alpha / rank */
    seo_ckpt_tensor *tensors;
    origin *origins;
    int64_t count;
    int64_t loaded; /* whose adapter is in a and b; -1: none is */
    float *a, *b;
    seo_buf yaml;
    char tokenizer[SEO_PATH_MAX];
} merge;

static int64_t find(const seo_ckpt *ckpt, const char *name) {
    for (int64_t i = 0; i < seo_ckpt_tensor_count(ckpt); i++) {
        if (strcmp(seo_ckpt_tensor_at(ckpt, i).name, name) == 0) return i;
    }
    return -1;
}

/* "parameters/blocks.0.mlp.fc.weight" has "parameters/blocks.0.mlp.fc.lora_a". */
static int64_t find_adapter(const seo_ckpt *ckpt, const char *weight, const char *leaf) {
    char name[SEO_CKPT_NAME_MAX];
    static const char tail[] = ".weight";
    const size_t length = strlen(weight);
    if (length < sizeof tail || strcmp(weight + length - (sizeof tail - 1), tail) != 0) return -1;
    const int stem = (int)(length - (sizeof tail - 1));
    const int bytes = snprintf(name, sizeof name, "%.*s.%s", stem, weight, leaf);
    return bytes > 0 && (size_t)bytes < sizeof name ? find(ckpt, name) : -1;
}

static seo_err add_row(merge *m, const seo_param *param) {
    seo_ckpt_tensor *t = &m->tensors[m->count];
    origin *o = &m->origins[m->count];
    *t = (seo_ckpt_tensor){.rank = param->rank};
    snprintf(t->name, sizeof t->name, "parameters/%s", param->name);
    for (int32_t d = 0; d < param->rank; d++) t->dims[d] = param->dims[d];
    *o = (origin){.ckpt = m->adapters,
                  .tensor = find(m->adapters, t->name),
                  .lora_a = find_adapter(m->adapters, t->name, "lora_a"),
                  .lora_b = find_adapter(m->adapters, t->name, "lora_b"),
                  .in = param->dims[1]};
    if (o->tensor < 0) {
        o->ckpt = m->base;
        o->tensor = find(m->base, t->name);
    }
    if (o->tensor < 0 || (o->lora_a < 0) != (o->lora_b < 0)) {
        return SEO_FAIL(SEO_ERR_FORMAT, "%s and %s together lack %s", seo_ckpt_path(m->adapters),
                        seo_ckpt_path(m->base), param->name);
    }
    m->count++;
    return SEO_OK;
}

static seo_err list_tensors(merge *m) {
    seo_params params = {0};
    seo_err err = seo_model_params(&m->config.model, &params);
    if (err != SEO_OK) return err;
    m->tensors = calloc((size_t)params.count, sizeof *m->tensors);
    m->origins = calloc((size_t)params.count, sizeof *m->origins);
    if (!m->tensors || !m->origins) {
        err = SEO_FAIL(SEO_ERR_MEMORY, "a list of %lld tensors", (long long)params.count);
        goto done;
    }
    for (int64_t row = 0; row < params.count; row++) SEO_TRY(add_row(m, &params.items[row]));
done:
    seo_params_free(&params);
    return err;
}

static seo_err read_whole(const merge *m, int64_t tensor, int64_t count, float **out) {
    if (seo_ckpt_tensor_at(m->adapters, tensor).rank != 2) {
        return SEO_FAIL(SEO_ERR_FORMAT, "%s: an adapter is no matrix", seo_ckpt_path(m->adapters));
    }
    free(*out);
    *out = malloc((size_t)count * sizeof **out);
    if (!*out) return SEO_FAIL(SEO_ERR_MEMORY, "an adapter of %lld numbers", (long long)count);
    const seo_ckpt_range range = {.tensor = tensor, .count = count, .data = *out};
    return seo_ckpt_read_ranges(m->adapters, &range, 1);
}

static seo_err load_adapter(merge *m, int64_t index) {
    seo_err err = SEO_OK;
    const origin *o = &m->origins[index];
    if (m->loaded == index) return SEO_OK;
    m->loaded = -1;
    const int64_t out = m->tensors[index].dims[0];
    const seo_ckpt_tensor a = seo_ckpt_tensor_at(m->adapters, o->lora_a),
                          b = seo_ckpt_tensor_at(m->adapters, o->lora_b);
    if (a.dims[0] != m->rank || a.dims[1] != o->in || b.dims[0] != out || b.dims[1] != m->rank) {
        return SEO_FAIL(SEO_ERR_FORMAT, "%s: the adapter of %s has another shape",
                        seo_ckpt_path(m->adapters), m->tensors[index].name);
    }
    SEO_TRY(read_whole(m, o->lora_a, m->rank * o->in, &m->a));
    SEO_TRY(read_whole(m, o->lora_b, out * m->rank, &m->b));
    m->loaded = index;
done:
    return err;
}

/* A seo_ckpt_source: elements [first, first + count) of a tensor. */
static seo_err read_merged(void *context, int64_t index, int64_t first, int64_t count, float *out) {
    merge *m = context;
    const origin *o = &m->origins[index];
    const seo_ckpt_range range = {
        .tensor = o->tensor, .offset = first, .count = count, .data = out};
    seo_err err = seo_ckpt_read_ranges(o->ckpt, &range, 1);
    if (err != SEO_OK || o->lora_a < 0) return err;
    err = load_adapter(m, index);
    if (err != SEO_OK) return err;
    for (int64_t i = 0; i < count; i++) {
        const float *b = m->b + (first + i) / o->in * m->rank;
        const float *a = m->a + (first + i) % o->in;
        double sum = 0;
        for (int64_t r = 0; r < m->rank; r++) sum += (double)b[r] * (double)a[r * o->in];
        out[i] = (float)((double)out[i] + m->factor * sum);
    }
    return SEO_OK;
}

static seo_err open_both(merge *m, const char *path) {
    seo_err err = SEO_OK;
    char config[SEO_PATH_MAX];
    SEO_TRY(seo_ckpt_open(path, NULL, &m->adapters));
    SEO_TRY(seo_path_join(config, seo_ckpt_path(m->adapters), "config.yaml"));
    SEO_TRY(seo_config_load_resolved(config, &m->config));
    if (m->config.lora.rank == 0) {
        err = SEO_FAIL(SEO_ERR_USAGE, "%s has no adapters (lora.rank): it is whole as it is",
                       seo_ckpt_path(m->adapters));
        goto done;
    }
    SEO_TRY(seo_restore_open_base(m->adapters, NULL, &m->base));
    m->rank = m->config.lora.rank;
    m->factor = m->config.lora.alpha / (double)m->rank;
    m->config.lora.rank = m->config.model.lora_rank = 0;
    SEO_TRY(seo_path_join(m->tokenizer, seo_ckpt_path(m->adapters), "tokenizer.json"));
done:
    return err;
}

seo_err seo_merge(const char *path, const char *dir) {
    seo_err err = SEO_OK;
    seo_path_kind tokenizer = SEO_PATH_NONE;
    merge *m = calloc(1, sizeof *m);
    if (!m) return SEO_FAIL(SEO_ERR_MEMORY, "no memory to merge");
    m->loaded = -1;
    SEO_TRY(open_both(m, path));
    SEO_TRY(list_tensors(m));
    SEO_TRY(seo_config_write(&m->config, &m->yaml));
    SEO_TRY(seo_buf_check(&m->yaml));
    SEO_TRY(seo_path_look(m->tokenizer, &tokenizer));
    seo_ckpt_snapshot snapshot = {.state = *seo_ckpt_state_of(m->adapters),
                                  .tensors = m->tensors,
                                  .tensor_count = m->count,
                                  .config_yaml = m->yaml.data,
                                  .tokenizer_path =
                                      tokenizer == SEO_PATH_FILE ? m->tokenizer : NULL};
    seo_config_hash(&m->config, snapshot.state.config_hash);
    const seo_ckpt_source source = {.read = read_merged, .context = m};
    SEO_TRY(seo_ckpt_write_anew(dir, &snapshot, 1, &source));
done:
    seo_ckpt_close(m->adapters);
    seo_ckpt_close(m->base);
    seo_buf_free(&m->yaml);
    free(m->tensors);
    free(m->origins);
    free(m->a);
    free(m->b);
    free(m);
    return err;
}
