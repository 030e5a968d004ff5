#include "train/checkpoint/own.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "train/checkpoint/open.h"
#include "train/checkpoint/peers.h"

static seo_err check_snapshot(const seo_ckpt_snapshot *s) {
    int64_t elements;
    if (s->tensor_count < 1 || !s->config_yaml || s->state.step < 0 || s->state.spike_count < 0 ||
        s->state.spike_count > SEO_CKPT_SPIKE_MAX) {
        return SEO_FAIL(SEO_ERR_ARG, "a checkpoint needs a step, tensors and a configuration");
    }
    for (int64_t i = 0; i < s->tensor_count; i++) {
        const seo_ckpt_tensor *t = &s->tensors[i];
        if (!seo_ckpt_name_ok(t->name) || !seo_ckpt_shape_count(t->rank, t->dims, &elements)) {
            return SEO_FAIL(SEO_ERR_ARG, "tensor %lld of the checkpoint has a bad name or shape",
                            (long long)i);
        }
    }
    return SEO_OK;
}

static void add(seo_ckpt_own *own, const seo_ckpt_snapshot *s, int64_t part,
                const seo_ckpt_range *range) {
    const seo_ckpt_tensor *t = &s->tensors[range->tensor];
    own->writes[own->count] = (seo_ckpt_write){.held = {.name = t->name,
                                                        .rank = t->rank,
                                                        .dims = t->dims,
                                                        .offset = range->offset,
                                                        .count = range->count},
                                               .data = range->data,
                                               .index = range->tensor};
    own->told[own->count] = (seo_ckpt_told){
        .part = part, .tensor = range->tensor, .offset = range->offset, .count = range->count};
    own->count++;
}

/* A dataset is named by its tensor, so a part holds one run of each at most. */
static seo_err add_ranges(seo_ckpt_own *own, const seo_ckpt_snapshot *s) {
    int64_t elements = 0, before = -1;
    for (int64_t i = 0; i < s->range_count; i++) {
        const seo_ckpt_range *r = &s->ranges[i];
        const bool known = r->tensor > before && r->tensor < s->tensor_count;
        if (known) {
            const seo_ckpt_tensor *t = &s->tensors[r->tensor];
            SEO_ASSERT(seo_ckpt_shape_count(t->rank, t->dims, &elements));
        }
        if (!known || r->offset < 0 || r->count < 1 || r->count > elements - r->offset ||
            !r->data) {
            return SEO_FAIL(SEO_ERR_ARG, "range %lld of the checkpoint lies in no tensor",
                            (long long)i);
        }
        before = r->tensor;
        add(own, s, own->part_first, r);
    }
    return SEO_OK;
}

static seo_err add_whole(seo_ckpt_own *own, const seo_ckpt_snapshot *s) {
    for (int64_t i = 0; i < s->tensor_count; i++) {
        const seo_ckpt_tensor *t = &s->tensors[i];
        seo_ckpt_range whole = {.tensor = i, .data = t->data};
        SEO_ASSERT(seo_ckpt_shape_count(t->rank, t->dims, &whole.count));
        if (!t->data) {
            return SEO_FAIL(SEO_ERR_ARG, "tensor %s of the checkpoint has no values", t->name);
        }
        add(own, s, own->part_first, &whole);
    }
    return SEO_OK;
}

/* Every tensor in as many equal runs as there are parts. */
static void add_cut(seo_ckpt_own *own, const seo_ckpt_snapshot *s) {
    for (int64_t p = 0; p < own->part_count; p++) {
        for (int64_t i = 0; i < s->tensor_count; i++) {
            int64_t count;
            SEO_ASSERT(seo_ckpt_shape_count(s->tensors[i].rank, s->tensors[i].dims, &count));
            const int64_t chunk = seo_div_up(count, own->part_count), first = p * chunk;
            if (first >= count) continue;
            add(own, s, p,
                &(seo_ckpt_range){
                    .tensor = i, .offset = first, .count = seo_min_i64(chunk, count - first)});
        }
    }
}

typedef struct hashing {
    const seo_ckpt_source *source;
    const seo_ckpt_write *write;
} hashing;

static seo_err read_run(void *context, int64_t first, int64_t count, float *out) {
    const hashing *h = context;
    return h->source->read(h->source->context, h->write->index, h->write->held.offset + first,
                           count, out);
}

seo_err seo_ckpt_own_plan(const seo_ckpt_save_args *args, seo_ckpt_own *out) {
    seo_err err = SEO_OK;
    const seo_ckpt_snapshot *s = args->snapshot;
    const int32_t rank = seo_ckpt_rank(args->world);
    *out = (seo_ckpt_own){.part_first = rank, .part_end = rank + 1};
    out->part_count = seo_ckpt_ranks(args->world);
    if (args->parts > 0) out->part_count = out->part_end = args->parts;
    if (args->failed != SEO_OK) return SEO_FAIL(args->failed, "%s", args->failure);
    SEO_TRY(check_snapshot(s));
    const int64_t own_parts = out->part_end - out->part_first;
    int64_t most = 0;
    if (out->part_count > SEO_CKPT_PARTS_MAX || !seo_mul_ok(own_parts, s->tensor_count, &most)) {
        err = SEO_FAIL(SEO_ERR_USAGE, "a checkpoint of %lld parts: at most %d are possible",
                       (long long)out->part_count, SEO_CKPT_PARTS_MAX);
        goto done;
    }
    out->writes = calloc((size_t)most, sizeof *out->writes);
    out->told = calloc((size_t)most, sizeof *out->told);
    out->files = calloc((size_t)own_parts, sizeof *out->files);
    if (!out->writes || !out->told || !out->files) {
        err = SEO_FAIL(SEO_ERR_MEMORY, "no memory to list what a checkpoint holds");
        goto done;
    }
    if (args->parts > 0) {
        add_cut(out, s);
    } else {
        SEO_TRY(s->ranges ? add_ranges(out, s) : add_whole(out, s));
    }
    for (int64_t i = 0; i < out->count; i++) {
        const seo_ckpt_write *w = &out->writes[i];
        if (w->data) {
            seo_xxh128_hex(w->data, (size_t)w->held.count * sizeof(float), out->told[i].hash);
        } else {
            hashing h = {.source = args->source, .write = w};
            SEO_TRY(seo_ckpt_hash_values(read_run, &h, w->held.count, out->told[i].hash));
        }
    }
done:
    return err;
}

void seo_ckpt_own_free(seo_ckpt_own *own) {
    for (int64_t i = 0; own->files && i < own->part_end - own->part_first; i++) {
        seo_ckpt_digest_free(&own->files[i].digest);
    }
    free(own->writes);
    free(own->told);
    free(own->files);
    *own = (seo_ckpt_own){0};
}

/* One part: datasets [first, end) of the list. */
static seo_err write_part(seo_ckpt_own *own, const char *folder, int64_t step, int64_t part,
                          int64_t first, int64_t end, const seo_ckpt_source *source) {
    seo_err err = SEO_OK;
    char path[SEO_PATH_MAX], hash[SEO_XXH128_HEX];
    seo_ckpt_file *file = &own->files[part - own->part_first];
    seo_ckpt_part *again = NULL;
    seo_ckpt_part_name(file->name, part, own->part_count);
    SEO_TRY(seo_path_join(path, folder, file->name));
    SEO_TRY(seo_ckpt_part_write(path, step, own->writes + first, end - first, source));
    SEO_TRY(seo_ckpt_digest_file(path, &file->digest));
    SEO_TRY(seo_ckpt_part_open(path, &again));
    for (int64_t i = first; i < end; i++) {
        SEO_TRY(seo_ckpt_part_hash(again, &own->writes[i].held, hash));
        if (strcmp(hash, own->told[i].hash) == 0) continue;
        err = SEO_FAIL(SEO_ERR_IO, "%s: dataset %s does not read back as it was written", path,
                       own->writes[i].held.name);
        goto done;
    }
done:
    seo_ckpt_part_close(again);
    return err;
}

seo_err seo_ckpt_own_write(seo_ckpt_own *own, const char *folder, int64_t step,
                           const seo_ckpt_source *source) {
    int64_t at = 0;
    for (int64_t part = own->part_first; part < own->part_end; part++) {
        int64_t end = at;
        while (end < own->count && own->told[end].part == part) end++;
        const seo_err err = write_part(own, folder, step, part, at, end, source);
        if (err != SEO_OK) return err;
        at = end;
    }
    return SEO_OK;
}

seo_err seo_ckpt_own_compare(const seo_ckpt_own *own, seo_ckpt *there, bool *same) {
    char hash[SEO_XXH128_HEX];
    *same = true;
    for (int64_t i = 0; i < own->count && *same; i++) {
        const seo_ckpt_told *t = &own->told[i];
        const seo_err err = seo_ckpt_hash_run(there, t->tensor, t->offset, t->count, hash);
        if (err != SEO_OK) return err;
        *same = strcmp(hash, t->hash) == 0;
    }
    return SEO_OK;
}
