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

/* Values that print alike may differ in their bits, so both are shown. */
static void compare_values(comparison *c, const seo_ckpt_tensor *t, const float *a,
                           const float *b) {
    int64_t count, unequal = 0, first = 0;
    double largest = 0.0;
    SEO_ASSERT(seo_ckpt_shape_count(t->rank, t->dims, &count));
    for (int64_t i = 0; i < count; i++) {
        if (bits_of(a[i]) == bits_of(b[i])) continue;
        if (unequal++ == 0) first = i;
        largest = fmax(largest, fabs((double)a[i] - (double)b[i]));
    }
    if (unequal == 0 || c->different++ >= SHOWN_MAX) return;
    seo_buf_format(c->report, "%s: %" PRId64 " of %" PRId64 " values differ, first at ", t->name,
                   unequal, count);
    add_index(c->report, t, first);
    seo_buf_format(
        c->report,
        ": %.9g (0x%08" PRIx32 ") and %.9g (0x%08" PRIx32 "); largest absolute difference %.9g\n",
        (double)a[first], bits_of(a[first]), (double)b[first], bits_of(b[first]), largest);
}

static seo_err compare_tensor(comparison *c, seo_ckpt_tensor t) {
    seo_err err = SEO_OK;
    int64_t count;
    SEO_ASSERT(seo_ckpt_shape_count(t.rank, t.dims, &count));
    float *a = malloc((size_t)count * sizeof *a), *b = malloc((size_t)count * sizeof *b);
    if (!a || !b) {
        err = SEO_FAIL(SEO_ERR_MEMORY, "no memory to compare %s", t.name);
        goto done;
    }
    t.data = a;
    SEO_TRY(seo_ckpt_read(c->a, &t, 1));
    t.data = b;
    SEO_TRY(seo_ckpt_read(c->b, &t, 1));
    compare_values(c, &t, a, b);
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
            seo_err err = compare_tensor(c, seo_ckpt_tensor_at(c->a, i));
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

/* Opens the checkpoint and reads every tensor the way resuming does. */
static seo_err verify_step(const char *path, seo_buf *report) {
    seo_ckpt *ckpt = NULL;
    seo_err err = seo_ckpt_open_step(path, &ckpt);
    for (int64_t i = 0; err == SEO_OK && i < ckpt->manifest.entry_count; i++) {
        seo_ckpt_tensor t = seo_ckpt_tensor_at(ckpt, i);
        t.data = malloc((size_t)ckpt->manifest.entries[i].count * sizeof *t.data);
        err = t.data ? seo_ckpt_read(ckpt, &t, 1)
                     : SEO_FAIL(SEO_ERR_MEMORY, "%s: no memory to read %s", path, t.name);
        free(t.data);
    }
    if (err == SEO_OK) {
        seo_buf_format(report, "%s: good, %" PRId64 " tensors\n", path, ckpt->manifest.entry_count);
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
