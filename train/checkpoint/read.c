/* Reading the values of an opened checkpoint, whatever parts they lie in. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "train/checkpoint.h"
#include "train/checkpoint/open.h"

seo_err seo_ckpt_find(const seo_ckpt *ckpt, const seo_ckpt_tensor *tensor, int64_t *index) {
    const seo_ckpt_entry *entry = seo_ckpt_manifest_entry(&ckpt->manifest, tensor->name);
    if (!entry) {
        return SEO_FAIL(SEO_ERR_FORMAT, "%s: holds no tensor %s", ckpt->path, tensor->name);
    }
    bool same = entry->rank == tensor->rank;
    for (int32_t i = 0; same && i < entry->rank; i++) same = entry->dims[i] == tensor->dims[i];
    if (!same) {
        return SEO_FAIL(SEO_ERR_FORMAT, "%s: %s has another shape than the model wants", ckpt->path,
                        tensor->name);
    }
    *index = entry - ckpt->manifest.entries;
    return SEO_OK;
}

/* A run of elements in one part. */
typedef struct job {
    const seo_ckpt_entry *entry;
    const seo_ckpt_piece *piece;
    int64_t first, count;
    float *data;
} job;

static int by_part(const void *a, const void *b) {
    const job *x = a, *y = b;
    if (x->piece->part != y->piece->part) return x->piece->part < y->piece->part ? -1 : 1;
    return (x->data > y->data) - (x->data < y->data);
}

/* The piece that holds element `at`. */
static int64_t piece_at(const seo_ckpt_manifest *m, const seo_ckpt_entry *e, int64_t at) {
    int64_t low = 0, high = e->piece_count - 1;
    while (low < high) {
        const int64_t middle = (low + high + 1) / 2;
        if (m->pieces[e->piece_first + middle].offset <= at) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    return e->piece_first + low;
}

/* Fills `jobs` when it is not NULL; the number of them. */
static int64_t list_jobs(const seo_ckpt *ckpt, const seo_ckpt_range *ranges, int64_t count,
                         job *jobs) {
    const seo_ckpt_manifest *m = &ckpt->manifest;
    int64_t n = 0;
    for (int64_t i = 0; i < count; i++) {
        const seo_ckpt_range *r = &ranges[i];
        SEO_ASSERT(r->tensor >= 0 && r->tensor < m->entry_count);
        const seo_ckpt_entry *e = &m->entries[r->tensor];
        SEO_ASSERT(r->offset >= 0 && r->count >= 0 && r->count <= e->count - r->offset);
        int64_t done = 0, p = piece_at(m, e, r->offset);
        for (; done < r->count; p++, n++) {
            const int64_t at = r->offset + done;
            const int64_t left = m->pieces[p].offset + m->pieces[p].count - at;
            const int64_t values = seo_min_i64(left, r->count - done);
            if (jobs) jobs[n] = (job){e, &m->pieces[p], at, values, r->data + done};
            done += values;
        }
    }
    return n;
}

static seo_err use_part(seo_ckpt *ckpt, int64_t index) {
    char name[SEO_CKPT_FILE_NAME_MAX], path[SEO_PATH_MAX];
    if (ckpt->part && ckpt->part_index == index) return SEO_OK;
    seo_ckpt_part_close(ckpt->part);
    ckpt->part = NULL;
    ckpt->part_index = index;
    seo_ckpt_part_name(name, index, ckpt->manifest.part_count);
    const seo_err err = seo_path_join(path, ckpt->path, name);
    return err == SEO_OK ? seo_ckpt_part_open(path, &ckpt->part) : err;
}

static seo_err run_job(seo_ckpt *ckpt, const job *j) {
    char hash[SEO_XXH128_HEX];
    const seo_ckpt_held held = {.name = j->entry->name,
                                .rank = j->entry->rank,
                                .dims = j->entry->dims,
                                .offset = j->piece->offset,
                                .count = j->piece->count};
    seo_err err = use_part(ckpt, j->piece->part);
    if (err == SEO_OK) err = seo_ckpt_part_read(ckpt->part, &held, j->first, j->count, j->data);
    if (err != SEO_OK || j->count != j->piece->count) return err;
    seo_xxh128_hex(j->data, (size_t)j->count * sizeof *j->data, hash);
    if (strcmp(hash, j->piece->hash) == 0) return SEO_OK;
    return SEO_FAIL(SEO_ERR_FORMAT, "%s: the values of %s are not those saved", ckpt->path,
                    j->entry->name);
}

seo_err seo_ckpt_read_ranges(seo_ckpt *ckpt, const seo_ckpt_range *ranges, int64_t count) {
    seo_err err = SEO_OK;
    const int64_t n = list_jobs(ckpt, ranges, count, NULL);
    job *jobs = malloc(((size_t)n + 1) * sizeof *jobs);
    if (!jobs) return SEO_FAIL(SEO_ERR_MEMORY, "%s: no memory to read it", ckpt->path);
    list_jobs(ckpt, ranges, count, jobs);
    qsort(jobs, (size_t)n, sizeof *jobs, by_part);
    for (int64_t i = 0; i < n && err == SEO_OK; i++) err = run_job(ckpt, &jobs[i]);
    free(jobs);
    if (err != SEO_OK) {
        seo_ckpt_part_close(ckpt->part);
        ckpt->part = NULL;
    }
    return err;
}

seo_err seo_ckpt_read(seo_ckpt *ckpt, const seo_ckpt_tensor *tensors, int64_t count) {
    seo_err err = SEO_OK;
    seo_ckpt_range *ranges = calloc((size_t)count + 1, sizeof *ranges);
    if (!ranges) return SEO_FAIL(SEO_ERR_MEMORY, "%s: no memory to read it", ckpt->path);
    for (int64_t i = 0; i < count; i++) {
        seo_ckpt_range *r = &ranges[i];
        SEO_TRY(seo_ckpt_find(ckpt, &tensors[i], &r->tensor));
        r->count = ckpt->manifest.entries[r->tensor].count;
        r->data = tensors[i].data;
    }
    SEO_TRY(seo_ckpt_read_ranges(ckpt, ranges, count));
done:
    free(ranges);
    return err;
}

typedef struct hashing {
    seo_ckpt *ckpt;
    int64_t tensor, offset;
} hashing;

static seo_err read_run(void *context, int64_t first, int64_t count, float *out) {
    const hashing *h = context;
    const seo_ckpt_range range = {
        .tensor = h->tensor, .offset = h->offset + first, .count = count, .data = out};
    return seo_ckpt_read_ranges(h->ckpt, &range, 1);
}

seo_err seo_ckpt_hash_run(seo_ckpt *ckpt, int64_t tensor, int64_t offset, int64_t count,
                          char hash[SEO_XXH128_HEX]) {
    hashing h = {.ckpt = ckpt, .tensor = tensor, .offset = offset};
    return seo_ckpt_hash_values(read_run, &h, count, hash);
}
