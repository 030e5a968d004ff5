#include "train/param_set.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/rng.h"

/* Initial values are made this many at a time: 16 MiB. */
enum { INIT_VALUES = 4 << 20 };

/* The vector [first, first + count) of the set. */
static seo_tensor flat_part(const seo_param_set *set, int64_t first, int64_t count) {
    const seo_dtype dtype = set->flat.dtype;
    char *data = set->flat.data ? (char *)set->flat.data + first * seo_dtype_bytes(dtype) : NULL;
    return seo_tensor_1d(data, dtype, count);
}

seo_err seo_param_set_plan(seo_param_set *set, const seo_params *params, const seo_shards *shards,
                           seo_layout layout, seo_dtype dtype, const char *name) {
    const int64_t elements = seo_shards_count(shards, layout);
    *set = (seo_param_set){.name = name,
                           .shards = shards,
                           .layout = layout,
                           .flat = seo_tensor_1d(NULL, dtype, elements),
                           .bytes = elements * seo_dtype_bytes(dtype)};
    if (layout == SEO_LAYOUT_SHARD) return SEO_OK;
    set->tensors = calloc((size_t)params->count, sizeof *set->tensors);
    if (!set->tensors) return SEO_FAIL(SEO_ERR_MEMORY, "the plan of the %s", name);
    set->count = params->count;
    for (int64_t row = 0; row < params->count; row++) {
        const seo_param *p = &params->items[row];
        set->tensors[row] = p->rank == 2 ? seo_tensor_2d(NULL, dtype, p->dims[0], p->dims[1])
                                         : seo_tensor_1d(NULL, dtype, p->dims[0]);
    }
    return SEO_OK;
}

seo_err seo_param_set_bind(seo_param_set *set, seo_device *dev) {
    const seo_err err = seo_device_alloc(dev, set->bytes, &set->flat.data);
    if (err != SEO_OK) return seo_err_context(err, "%s", set->name);
    set->dev = dev;
    for (int64_t row = 0; row < set->count; row++) {
        if (set->shards->rows[row].count == 0) continue;
        const int64_t at = seo_shards_row_at(set->shards, set->layout, row);
        set->tensors[row].data = flat_part(set, at, 1).data;
    }
    return SEO_OK;
}

void seo_param_set_free(seo_param_set *set) {
    if (set->dev) seo_device_free(set->dev, set->flat.data);
    free(set->tensors);
    *set = (seo_param_set){0};
}

seo_tensor seo_param_set_segment(const seo_param_set *set, int64_t segment) {
    return flat_part(set, seo_shards_segment_at(set->shards, set->layout, segment),
                     seo_shards_segment_count(set->shards, set->layout, segment));
}

seo_tensor seo_param_set_chunk(const seo_param_set *set, int64_t segment) {
    const int64_t chunk = seo_shards_segment_count(set->shards, SEO_LAYOUT_SHARD, segment);
    const int64_t first = seo_shards_segment_at(set->shards, set->layout, segment);
    const bool shard = set->layout == SEO_LAYOUT_SHARD;
    return flat_part(set, first + (shard ? 0 : set->shards->rank * chunk), chunk);
}

/* What initial values are made with: a vector of f32 on the device for a set of another type, and
 * one on the host that holds ones. */
typedef struct init_room {
    seo_param_set *set;
    uint64_t seed;
    void *values;
    float *ones;
} init_room;

static seo_err init_ones(const init_room *room, seo_tensor out) {
    return seo_device_copy_in(room->set->dev, out.data, room->ones, seo_tensor_bytes(&out));
}

/* Elements [offset, offset + out's count) of a row, in f32. */
static seo_err init_values(const init_room *room, const seo_param *param, int64_t row,
                           int64_t offset, seo_tensor out) {
    if (param->init == SEO_INIT_ZEROS) {
        return seo_device_zero(room->set->dev, out.data, seo_tensor_bytes(&out));
    }
    if (param->init == SEO_INIT_ONES) return init_ones(room, out);
    const seo_normal_args args = {
        .out = out,
        .key = {.seed = room->seed, .purpose = SEO_PURPOSE_INIT | (uint32_t)row << 8},
        .first_index = offset,
        .std = (float)param->std};
    return seo_normal(room->set->dev, &args);
}

/* Tensors begin at units of the update and chunks at units of the shard, both of which are
 * multiples of the four numbers that are drawn together: so do the pieces. */
static seo_err init_piece(const init_room *room, const seo_param *param,
                          const seo_shard_piece *piece) {
    seo_err err = SEO_OK;
    for (int64_t done = 0; done < piece->count; done += INIT_VALUES) {
        const int64_t count = seo_min_i64(INIT_VALUES, piece->count - done);
        const seo_tensor to = flat_part(room->set, piece->at + done, count);
        const seo_tensor made =
            room->values ? seo_tensor_1d(room->values, SEO_DTYPE_F32, count) : to;
        SEO_TRY(init_values(room, param, piece->row, piece->offset + done, made));
        if (room->values) {
            SEO_TRY(seo_cast(room->set->dev, &(seo_cast_args){.out = to, .inp = made}));
        }
    }
done:
    return err;
}

/* What of a row lies in the set. */
static bool piece_of(const seo_param_set *set, int64_t row, seo_shard_piece *out) {
    if (set->layout == SEO_LAYOUT_SHARD)
        return seo_shards_piece(set->shards, set->layout, row, out);
    *out = (seo_shard_piece){.row = row,
                             .count = set->shards->rows[row].count,
                             .at = seo_shards_row_at(set->shards, set->layout, row)};
    return out->count > 0;
}

seo_err seo_params_init(const seo_params *params, seo_param_set *set, uint64_t seed) {
    seo_err err = SEO_OK;
    init_room room = {.set = set, .seed = seed};
    SEO_ASSERT(set->layout != SEO_LAYOUT_WINDOWS);
    const int64_t most = seo_min_i64(INIT_VALUES, seo_tensor_count(&set->flat));
    room.ones = malloc((size_t)most * sizeof *room.ones);
    if (!room.ones) return SEO_FAIL(SEO_ERR_MEMORY, "initial values");
    for (int64_t i = 0; i < most; i++) room.ones[i] = 1.0f;
    if (set->flat.dtype != SEO_DTYPE_F32) {
        SEO_TRY(seo_device_alloc(set->dev, most * (int64_t)sizeof(float), &room.values));
    }
    for (int64_t row = 0; row < params->count; row++) {
        seo_shard_piece piece;
        if (piece_of(set, row, &piece)) SEO_TRY(init_piece(&room, &params->items[row], &piece));
    }
    SEO_TRY(seo_device_sync(set->dev));
done:
    seo_device_free(set->dev, room.values);
    free(room.ones);
    return err;
}
