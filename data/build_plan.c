#include "data/build_plan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/rng.h"

/* What is chosen as a whole: a document or a block of one. */
typedef struct unit {
    int64_t document, start, bytes;
    uint64_t key; /* the order in which units are held out */
    bool held_out;
} unit;

typedef struct units {
    unit *items;
    int64_t count;
} units;

static uint64_t key_of(const seo_build_args *args, const seo_survey_document *document,
                       int64_t block) {
    const seo_rng_key key = {.seed = (uint64_t)args->seed ^ document->hash[1],
                             .purpose = SEO_PURPOSE_SPLIT,
                             .step = (uint32_t)block};
    const seo_u32x4 numbers = seo_philox(key, document->hash[0]);
    return (uint64_t)numbers.v[0] << 32 | numbers.v[1];
}

static seo_err list_units(const seo_survey *survey, const seo_build_args *args, units *out) {
    const bool cut = seo_survey_needs_cuts(survey);
    out->count = 0;
    out->items = calloc((size_t)(survey->stay_count + survey->cut_count + 1), sizeof *out->items);
    if (!out->items)
        return SEO_FAIL(SEO_ERR_MEMORY, "a plan of %lld pieces", (long long)survey->stay_count);
    for (int64_t i = 0; i < survey->count; i++) {
        const seo_survey_document *document = &survey->documents[i];
        if (document->duplicate) continue;
        const int64_t parts = cut ? document->cut_count + 1 : 1;
        int64_t start = 0;
        for (int64_t part = 0; part < parts; part++) {
            const int64_t end =
                part + 1 < parts ? survey->cuts[document->cut_first + part] : document->bytes;
            out->items[out->count++] = (unit){.document = i,
                                              .start = start,
                                              .bytes = end - start,
                                              .key = key_of(args, document, part)};
            start = end;
        }
    }
    return SEO_OK;
}

static int by_key(const void *a, const void *b) {
    const unit *x = *(const unit *const *)a, *y = *(const unit *const *)b;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    return (x > y) - (x < y);
}

/* Takes units in the order of their keys as long as each brings the sum nearer to the fraction
 * wanted. */
static seo_err choose_by_key(const seo_survey *survey, const seo_build_args *args, units *list) {
    const double wanted = (double)survey->stay_bytes * args->held_out;
    double sum = 0;
    unit **sorted = malloc((size_t)(list->count + 1) * sizeof *sorted);
    if (!sorted) return SEO_FAIL(SEO_ERR_MEMORY, "a plan of %lld pieces", (long long)list->count);
    for (int64_t i = 0; i < list->count; i++) sorted[i] = &list->items[i];
    qsort(sorted, (size_t)list->count, sizeof(unit *), by_key);
    for (int64_t i = 0; i < list->count && sum < wanted; i++) {
        const double with = sum + (double)sorted[i]->bytes;
        sorted[i]->held_out = fabs(with - wanted) <= fabs(sum - wanted);
        if (sorted[i]->held_out) sum = with;
    }
    free(sorted);
    return SEO_OK;
}

static void choose_tail(const seo_survey *survey, units *list) {
    int64_t before = 0;
    for (int64_t i = 0; i < list->count; i++) {
        list->items[i].held_out = before >= survey->boundary;
        before += list->items[i].bytes;
    }
}

static seo_err check_sides(const seo_survey *survey, const seo_build_args *args,
                           const units *list) {
    int64_t held_out = 0;
    for (int64_t i = 0; i < list->count; i++) held_out += list->items[i].held_out;
    if (list->count == 0)
        return SEO_FAIL(SEO_ERR_USAGE, "the text has no document with a byte in it");
    if (args->held_out <= 0 || (held_out > 0 && held_out < list->count)) return SEO_OK;
    return SEO_FAIL(SEO_ERR_USAGE,
                    "%g of the text cannot be held out: it has %lld %s of %lld bytes in all, and "
                    "one side would be empty. "
                    "Give more text, --held-out 0%s",
                    args->held_out, (long long)list->count,
                    survey->mode == SEO_HELD_OUT_BLOCK ? "block(s)" : "document(s)",
                    (long long)survey->stay_bytes,
                    survey->mode == SEO_HELD_OUT_DOCUMENT ? ", or --held-out-mode block"
                                                          : ", or another fraction");
}

static seo_err join_units(const units *list, seo_build_plan *out) {
    out->count = 0;
    out->pieces = calloc((size_t)list->count + 1, sizeof *out->pieces);
    if (!out->pieces)
        return SEO_FAIL(SEO_ERR_MEMORY, "a plan of %lld pieces", (long long)list->count);
    for (int64_t i = 0; i < list->count; i++) {
        const unit *u = &list->items[i];
        const seo_split split = u->held_out ? SEO_SPLIT_HELD_OUT : SEO_SPLIT_TRAIN;
        seo_piece_plan *last = out->count > 0 ? &out->pieces[out->count - 1] : NULL;
        if (last && last->document == u->document && last->split == split) {
            last->bytes += u->bytes;
        } else {
            out->pieces[out->count++] = (seo_piece_plan){u->document, u->start, u->bytes, split};
        }
    }
    return SEO_OK;
}

seo_err seo_build_plan_make(const seo_survey *survey, const seo_build_args *args,
                            seo_build_plan *out) {
    seo_err err = SEO_OK;
    units list = {0};
    SEO_TRY(list_units(survey, args, &list));
    if (survey->mode == SEO_HELD_OUT_TAIL) {
        choose_tail(survey, &list);
    } else {
        SEO_TRY(choose_by_key(survey, args, &list));
    }
    SEO_TRY(check_sides(survey, args, &list));
    SEO_TRY(join_units(&list, out));
done:
    free(list.items);
    return err;
}

void seo_build_plan_free(seo_build_plan *plan) {
    free(plan->pieces);
    *plan = (seo_build_plan){0};
}
