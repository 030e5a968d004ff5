#include "train/restore.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "train/values.h"

/* Numbers that are brought to the device at a time. */
enum { BUFFER_VALUES = 4 << 20, RANGES_MAX = 1024 };

static seo_err make_room(seo_restore_list *list, int64_t rows) {
    const size_t tensors = (size_t)(list->count + rows);
    const size_t saved = (size_t)(list->saved_count + rows),
                 read = (size_t)(list->read_count + rows);
    void *grown[5] = {realloc(list->tensors, tensors * sizeof *list->tensors),
                      realloc(list->saved, saved * sizeof *list->saved),
                      realloc(list->saved_at, saved * sizeof *list->saved_at),
                      realloc(list->read, read * sizeof *list->read),
                      realloc(list->read_to, read * sizeof *list->read_to)};
    if (grown[0]) list->tensors = grown[0];
    if (grown[1]) list->saved = grown[1];
    if (grown[2]) list->saved_at = grown[2];
    if (grown[3]) list->read = grown[3];
    if (grown[4]) list->read_to = grown[4];
    for (int i = 0; i < 5; i++) {
        if (!grown[i]) return SEO_FAIL(SEO_ERR_MEMORY, "a list of %zu tensors", tensors);
    }
    return SEO_OK;
}

/* Elements [at, at + count) of a set. */
static seo_tensor run_of(const seo_param_set *set, int64_t at, int64_t count) {
    const seo_tensor *flat = &set->flat;
    SEO_ASSERT(flat->data && at >= 0 && count <= flat->dims[0] - at);
    return seo_tensor_1d((char *)flat->data + at * seo_dtype_bytes(flat->dtype), flat->dtype,
                         count);
}

/* What this rank saves of the last tensor. */
static void add_saved(seo_restore_list *list, const seo_param_set *set, int64_t row) {
    seo_shard_piece piece;
    if (!seo_shards_piece(set->shards, set->layout, row, &piece)) return;
    list->saved_at[list->saved_count] = run_of(set, piece.at, piece.count);
    list->saved[list->saved_count++] =
        (seo_ckpt_range){.tensor = list->count - 1, .offset = piece.offset, .count = piece.count};
}

/* What it reads: of the first `values` of it. */
static void add_read(seo_restore_list *list, const seo_param_set *set, int64_t row,
                     int64_t values) {
    seo_shard_piece piece = {.count = values};
    if (set->layout == SEO_LAYOUT_WHOLE) {
        piece.at = seo_shards_row_at(set->shards, set->layout, row);
    } else if (!seo_shards_piece(set->shards, set->layout, row, &piece)) {
        return;
    }
    piece.count = seo_min_i64(piece.count, values - piece.offset);
    if (piece.count <= 0) return;
    list->read_to[list->read_count] = run_of(set, piece.at, piece.count);
    list->read[list->read_count++] =
        (seo_ckpt_range){.tensor = list->count - 1, .offset = piece.offset, .count = piece.count};
}

static void name_tensor(seo_ckpt_tensor *out, const char *prefix, const seo_param *param) {
    *out = (seo_ckpt_tensor){.rank = param->rank};
    const int length = snprintf(out->name, sizeof out->name, "%s/%s", prefix, param->name);
    SEO_ASSERT(length > 0 && (size_t)length < sizeof out->name);
    for (int32_t d = 0; d < param->rank; d++) out->dims[d] = param->dims[d];
}

seo_err seo_restore_add(seo_restore_list *list, const char *prefix, const seo_params *params,
                        const seo_param_set *set) {
    SEO_ASSERT(set->shards && set->layout != SEO_LAYOUT_WINDOWS);
    const seo_err err = make_room(list, params->count);
    if (err != SEO_OK) return err;
    for (int64_t row = 0; row < params->count; row++) {
        const seo_param *param = &params->items[row];
        if (set->shards->rows[row].count == 0) continue;
        name_tensor(&list->tensors[list->count++], prefix, param);
        add_saved(list, set, row);
        add_read(list, set, row, seo_param_elements(param));
    }
    return SEO_OK;
}

bool seo_restore_find(const seo_ckpt *ckpt, const seo_param *param, seo_ckpt_tensor *out) {
    seo_ckpt_tensor wanted;
    name_tensor(&wanted, "parameters", param);
    for (int64_t i = 0; i < seo_ckpt_tensor_count(ckpt); i++) {
        *out = seo_ckpt_tensor_at(ckpt, i);
        if (strcmp(out->name, wanted.name) == 0) return true;
    }
    return false;
}

seo_err seo_restore_add_common(seo_restore_list *list, const seo_params *params,
                               const seo_param_set *set, const seo_ckpt *ckpt) {
    SEO_ASSERT(set->shards && set->layout != SEO_LAYOUT_WINDOWS);
    const seo_err err = make_room(list, params->count);
    if (err != SEO_OK) return err;
    for (int64_t row = 0; row < params->count; row++) {
        const seo_param *param = &params->items[row];
        seo_ckpt_tensor *out = &list->tensors[list->count];
        if (set->shards->rows[row].count == 0 || !seo_restore_find(ckpt, param, out)) continue;
        SEO_ASSERT(out->rank == param->rank && (out->rank == 1 || out->dims[1] == param->dims[1]));
        list->count++;
        const int64_t width = param->rank == 2 ? param->dims[1] : 1;
        add_read(list, set, row, seo_min_i64(out->dims[0], param->dims[0]) * width);
    }
    return SEO_OK;
}

void seo_restore_list_free(seo_restore_list *list) {
    free(list->tensors);
    free(list->saved);
    free(list->saved_at);
    free(list->read);
    free(list->read_to);
    *list = (seo_restore_list){.dev = list->dev};
}

/* A stretch of the ranges to read that fills the buffer: whole ranges, and parts of the first and
 * the last. */
typedef struct stretch {
    float *buffer;
    int64_t capacity, used;
    int64_t range, done; /* the next value to read */
    seo_ckpt_range wants[RANGES_MAX];
    seo_tensor to[RANGES_MAX];
    int64_t count;
} stretch;

static seo_err fill(const seo_restore_list *list, const seo_ckpt *ckpt, stretch *s) {
    s->used = s->count = 0;
    while (s->range < list->read_count && s->used < s->capacity && s->count < RANGES_MAX) {
        const seo_ckpt_range *r = &list->read[s->range];
        seo_ckpt_range *want = &s->wants[s->count];
        *want = (seo_ckpt_range){.offset = r->offset + s->done,
                                 .count = seo_min_i64(r->count - s->done, s->capacity - s->used),
                                 .data = s->buffer + s->used};
        const seo_err err = seo_ckpt_find(ckpt, &list->tensors[r->tensor], &want->tensor);
        if (err != SEO_OK) return err;
        const seo_tensor *to = &list->read_to[s->range];
        s->to[s->count++] = seo_tensor_1d((char *)to->data + s->done * seo_dtype_bytes(to->dtype),
                                          to->dtype, want->count);
        s->used += want->count;
        s->done += want->count;
        if (s->done < r->count) break;
        s->range++;
        s->done = 0;
    }
    return SEO_OK;
}

seo_err seo_restore_read(const seo_restore_list *list, seo_ckpt *ckpt) {
    seo_err err = SEO_OK;
    int64_t total = 0;
    for (int64_t i = 0; i < list->read_count; i++) total += list->read[i].count;
    if (total == 0) return SEO_OK;
    stretch *s = calloc(1, sizeof *s);
    if (s) s->capacity = seo_min_i64(total, BUFFER_VALUES);
    if (s) s->buffer = malloc((size_t)s->capacity * sizeof *s->buffer);
    if (!s || !s->buffer) {
        err = SEO_FAIL(SEO_ERR_MEMORY, "no memory to read a checkpoint");
        goto done;
    }
    while (s->range < list->read_count) {
        SEO_TRY(fill(list, ckpt, s));
        SEO_TRY(seo_ckpt_read_ranges(ckpt, s->wants, s->count));
        for (int64_t i = 0; i < s->count; i++) {
            SEO_TRY(seo_values_write(list->dev, &s->to[i], s->wants[i].data));
        }
    }
done:
    if (s) free(s->buffer);
    free(s);
    return err;
}

seo_err seo_restore_fetch(void *context, int64_t index, float *out) {
    const seo_restore_list *list = context;
    return seo_values_read(list->dev, &list->saved_at[index], out);
}

seo_err seo_restore_open_base(const seo_ckpt *adapters, seo_world *world, seo_ckpt **out) {
    const seo_ckpt_state *state = seo_ckpt_state_of(adapters);
    const char *path = seo_ckpt_path(adapters), *base = state->base_path;
    *out = NULL;
    if (base[0] == '\0') {
        return SEO_FAIL(SEO_ERR_FORMAT, "%s holds adapters and does not tell of what", path);
    }
    const seo_err err = seo_ckpt_open(base, world, out);
    if (err == SEO_ERR_MISSING) {
        return SEO_FAIL(SEO_ERR_MISSING,
                        "%s holds adapters of the parameters in %s, and these are gone. Put that "
                        "checkpoint back where it was (a link will do)",
                        path, base);
    }
    if (err != SEO_OK) return seo_err_context(err, "%s holds adapters of it", path);
    if (strcmp(seo_ckpt_hash(*out), state->base_hash) == 0) return SEO_OK;
    const seo_err changed =
        SEO_FAIL(SEO_ERR_USAGE,
                 "%s holds adapters of the parameters in %s, and another checkpoint stands there "
                 "now (manifest %.12s then, %.12s now). Put back the one that they belong to",
                 path, base, state->base_hash, seo_ckpt_hash(*out));
    seo_ckpt_close(*out);
    *out = NULL;
    return changed;
}

seo_err seo_restore_frozen(seo_model *model, seo_ckpt *base) {
    seo_err err = SEO_OK;
    seo_restore_list list = {.dev = seo_model_device(model)};
    const seo_params *params = seo_model_table(model);
    const seo_param_set *frozen = seo_model_frozen(model);
    seo_ckpt_tensor found;
    for (int64_t row = 0; row < params->count; row++) {
        const seo_param *param = &params->items[row];
        if (!param->frozen || seo_restore_find(base, param, &found)) continue;
        err = SEO_FAIL(SEO_ERR_FORMAT, "%s lacks %s, which is frozen beside the adapters",
                       seo_ckpt_path(base), param->name);
        goto done;
    }
    if (!frozen) goto done;
    SEO_TRY(seo_restore_add_common(&list, params, frozen, base));
    SEO_TRY(seo_restore_read(&list, base));
done:
    seo_restore_list_free(&list);
    return err;
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
    seo_ckpt *ckpt = NULL, *base = NULL;
    char config_path[SEO_PATH_MAX];
    *out = (seo_restored){0};
    SEO_TRY(seo_ckpt_open(args->path, NULL, &ckpt));
    out->state = *seo_ckpt_state_of(ckpt);
    snprintf(out->path, sizeof out->path, "%s", seo_ckpt_path(ckpt));
    SEO_TRY(seo_path_join(config_path, out->path, "config.yaml"));
    SEO_TRY(seo_path_join(out->tokenizer_path, out->path, "tokenizer.json"));
    SEO_TRY(seo_config_load_resolved(config_path, &out->config));
    if (out->config.lora.rank > 0) SEO_TRY(seo_restore_open_base(ckpt, NULL, &base));
    SEO_TRY(open_model(args, out));
    SEO_TRY(read_parameters(ckpt, out->model));
    if (base) SEO_TRY(seo_restore_frozen(out->model, base));
done:
    seo_ckpt_close(base);
    seo_ckpt_close(ckpt);
    return err;
}

void seo_restored_close(seo_restored *restored) {
    seo_model_close(restored->model);
    seo_device_close(restored->dev);
    restored->model = NULL;
    restored->dev = NULL;
}
