/* Comparing two checkpoints bit for bit, and verifying one or all of a run, in words for people. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "train/checkpoint.h"
#include "train/checkpoint/layout.h"
#include "train/checkpoint/open.h"

enum { SHOWN_MAX = 10 };

typedef struct comparison {
    seo_ckpt *a, *b;
    seo_buf *report;
    int64_t different; /* tensors */
} comparison;

static uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static void add_index(seo_buf *out, const seo_ckpt_tensor *t, int64_t flat) {
    int64_t index[4];
    for (int32_t d = t->rank - 1; d >= 0; d--) {
        index[d] = flat % t->dims[d];
        flat /= t->dims[d];
    }
    for (int32_t d = 0; d < t->rank; d++) {
        seo_buf_format(out, "%s%" PRId64, d ? ", " : "[", index[d]);
    }
    seo_buf_text(out, "]");
}

/* Where two tensors differ, as far as they were read. */
typedef struct differences {
    int64_t unequal, first;
    float a, b; /* at the first */
    double largest;
} differences;

static void compare_values(differences *d, int64_t at, int64_t count, const float *a,
                           const float *b) {
    for (int64_t i = 0; i < count; i++) {
        if (bits_of(a[i]) == bits_of(b[i])) continue;
        if (d->unequal++ == 0) {
            d->first = at + i;
            d->a = a[i];
            d->b = b[i];
        }
        d->largest = fmax(d->largest, fabs((double)a[i] - (double)b[i]));
    }
}

/* Values that print alike may differ in their bits, so both are shown. */
static void report_differences(comparison *c, const seo_ckpt_tensor *t, int64_t count,
                               const differences *d) {
    if (d->unequal == 0 || c->different++ >= SHOWN_MAX) return;
    seo_buf_format(c->report, "%s: %" PRId64 " of %" PRId64 " values differ, first at ", t->name,
                   d->unequal, count);
    add_index(c->report, t, d->first);
    seo_buf_format(c->report,
                   ": %.9g (0x%08" PRIx32 ") and %.9g (0x%08" PRIx32
                   "); largest absolute difference %.9g\n",
                   (double)d->a, bits_of(d->a), (double)d->b, bits_of(d->b), d->largest);
}

/* By pieces, so that neither checkpoint has to fit in memory nor be cut like the other. */
static seo_err compare_tensor(comparison *c, int64_t index_a) {
    seo_err err = SEO_OK;
    const seo_ckpt_tensor t = seo_ckpt_tensor_at(c->a, index_a);
    int64_t count, index_b;
    differences found = {0};
    SEO_ASSERT(seo_ckpt_shape_count(t.rank, t.dims, &count));
    float *a = malloc(SEO_CKPT_PIECE_VALUES * sizeof *a);
    float *b = malloc(SEO_CKPT_PIECE_VALUES * sizeof *b);
    if (!a || !b) {
        err = SEO_FAIL(SEO_ERR_MEMORY, "no memory to compare %s", t.name);
        goto done;
    }
    SEO_TRY(seo_ckpt_find(c->b, &t, &index_b));
    for (int64_t at = 0; at < count; at += SEO_CKPT_PIECE_VALUES) {
        seo_ckpt_range r = {.tensor = index_a,
                            .offset = at,
                            .count = seo_min_i64(SEO_CKPT_PIECE_VALUES, count - at),
                            .data = a};
        SEO_TRY(seo_ckpt_read_ranges(c->a, &r, 1));
        r.tensor = index_b;
        r.data = b;
        SEO_TRY(seo_ckpt_read_ranges(c->b, &r, 1));
        compare_values(&found, at, r.count, a, b);
    }
    report_differences(c, &t, count, &found);
done:
    free(a);
    free(b);
    return err;
}

static void add_shape(seo_buf *out, const seo_ckpt_entry *e) {
    for (int32_t d = 0; d < e->rank; d++) {
        seo_buf_format(out, "%s%" PRId64, d ? ", " : "[", e->dims[d]);
    }
    seo_buf_text(out, "]");
}

static bool same_shape(const seo_ckpt_entry *a, const seo_ckpt_entry *b) {
    return a->rank == b->rank && memcmp(a->dims, b->dims, (size_t)a->rank * sizeof *a->dims) == 0;
}

static seo_err compare_entries(comparison *c) {
    const seo_ckpt_manifest *ma = &c->a->manifest, *mb = &c->b->manifest;
    for (int64_t i = 0; i < ma->entry_count; i++) {
        const seo_ckpt_entry *a = &ma->entries[i];
        const seo_ckpt_entry *b = seo_ckpt_manifest_entry(mb, a->name);
        if (b && same_shape(a, b)) {
            seo_err err = compare_tensor(c, i);
            if (err != SEO_OK) return err;
        } else if (c->different++ < SHOWN_MAX) {
            seo_buf_format(c->report, "%s: ", a->name);
            add_shape(c->report, a);
            seo_buf_text(c->report, b ? " in the first, " : " in the first only");
            if (b) add_shape(c->report, b);
            seo_buf_text(c->report, b ? " in the second\n" : "\n");
        }
    }
    for (int64_t i = 0; i < mb->entry_count; i++) {
        if (seo_ckpt_manifest_entry(ma, mb->entries[i].name)) continue;
        if (c->different++ < SHOWN_MAX) {
            seo_buf_format(c->report, "%s: in the second only\n", mb->entries[i].name);
        }
    }
    return SEO_OK;
}

seo_err seo_ckpt_diff(const char *path_a, const char *path_b, bool *same, seo_buf *report) {
    seo_err err = SEO_OK;
    comparison c = {.report = report};
    *same = false;
    SEO_TRY(seo_ckpt_open(path_a, NULL, &c.a));
    SEO_TRY(seo_ckpt_open(path_b, NULL, &c.b));
    int64_t step_a = c.a->manifest.state.step, step_b = c.b->manifest.state.step;
    if (step_a != step_b) {
        seo_buf_format(report, "step: %" PRId64 " and %" PRId64 "\n", step_a, step_b);
    }
    SEO_TRY(compare_entries(&c));
    if (c.different > SHOWN_MAX) {
        seo_buf_format(report, "and %" PRId64 " tensors more\n", c.different - SHOWN_MAX);
    }
    *same = c.different == 0 && step_a == step_b;
    if (*same) seo_buf_text(report, "identical\n");
    SEO_TRY(seo_buf_check(report));
done:
    seo_ckpt_close(c.a);
    seo_ckpt_close(c.b);
    return err;
}

/* Every piece of a tensor, by the manifest's hash of it. */
static seo_err verify_tensor(seo_ckpt *ckpt, int64_t index) {
    const seo_ckpt_entry *e = &ckpt->manifest.entries[index];
    char hash[SEO_XXH128_HEX];
    for (int64_t i = 0; i < e->piece_count; i++) {
        const seo_ckpt_piece *p = &ckpt->manifest.pieces[e->piece_first + i];
        const seo_err err = seo_ckpt_hash_run(ckpt, index, p->offset, p->count, hash);
        if (err != SEO_OK) return err;
        if (strcmp(hash, p->hash) == 0) continue;
        return SEO_FAIL(SEO_ERR_FORMAT, "%s: the values of %s are not those saved", ckpt->path,
                        e->name);
    }
    return SEO_OK;
}

/* Opens the checkpoint and reads every tensor the way resuming does. */
static seo_err verify_step(const char *path, seo_buf *report) {
    seo_ckpt *ckpt = NULL;
    seo_err err = seo_ckpt_open_step(path, &ckpt);
    for (int64_t i = 0; err == SEO_OK && i < ckpt->manifest.entry_count; i++) {
        err = verify_tensor(ckpt, i);
    }
    if (err == SEO_OK) {
        seo_buf_format(report, "%s: good, %" PRId64 " tensors", path, ckpt->manifest.entry_count);
        if (ckpt->manifest.part_count > 1) {
            seo_buf_format(report, " in %" PRId64 " parts", ckpt->manifest.part_count);
        }
        seo_buf_text(report, "\n");
    } else {
        seo_buf_format(report, "%s\n", seo_err_detail());
    }
    seo_ckpt_close(ckpt);
    return err;
}

seo_err seo_ckpt_verify(const char *path, seo_buf *report) {
    seo_err err = SEO_OK, first = SEO_OK;
    char place_path[SEO_PATH_MAX], name[SEO_CKPT_STEP_NAME_MAX], step_path[SEO_PATH_MAX];
    seo_ckpt_place place;
    int64_t *steps = NULL, count = 0, bad = 0;
    SEO_TRY(seo_ckpt_locate(path, &place, place_path));
    if (place == SEO_CKPT_PLACE_STEP) return verify_step(place_path, report);
    SEO_TRY(seo_ckpt_list_steps(place_path, &steps, &count));
    if (count == 0) {
        err = SEO_FAIL(SEO_ERR_MISSING, "%s: no checkpoint in it", place_path);
        goto done;
    }
    for (int64_t i = 0; i < count; i++) {
        seo_ckpt_step_name(name, steps[i]);
        SEO_TRY(seo_path_join(step_path, place_path, name));
        seo_err found = verify_step(step_path, report);
        if (found == SEO_OK) continue;
        if (bad++ == 0) first = found;
    }
    if (bad > 0) {
        err = SEO_FAIL(first, "%s: %" PRId64 " of %" PRId64 " checkpoints are not good", path, bad,
                       count);
    }
done:
    free(steps);
    return err;
}
