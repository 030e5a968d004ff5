/* Masking, and the rows that are nothing but masked text. */
#include <math.h>

#include "base/check.h"
#include "data/rows_internal.h"

int64_t seo_rows_planned(const seo_rows *rows, int64_t ordinary) {
    const int64_t share = llround(rows->args.mask_fraction * (double)ordinary);
    const int64_t wanted = seo_min_i64(seo_max_i64(share, 1), rows->args.max_predictions);
    return seo_min_i64(wanted, ordinary);
}

static bool is_ordinary(const seo_rows *rows, int32_t id) {
    return (seo_rows_traits(rows, id) & SEO_TOKEN_SPECIAL) == 0;
}

/* 8 of 10 become the mask, 1 of 10 another token, which may be the same by chance. */
static int32_t hidden(const seo_rows *rows, seo_row_random *random, int32_t id) {
    const int64_t tenth = seo_row_below(random, 10);
    if (tenth < 8) return rows->mask;
    if (tenth == 8) return rows->ordinary[seo_row_below(random, rows->ordinary_count)];
    return id;
}

/* Each ordinary token in turn is picked with the chance that gives every set of `wanted` of them
 * the same one (selection sampling, Knuth's algorithm S): no list of them is needed, and the picks
 * come in order. */
void seo_rows_hide(const seo_rows *rows, seo_order_place place, int64_t length,
                   const seo_row *row) {
    int64_t left = 0, picked = 0;
    for (int64_t t = 0; t < length; t++) left += is_ordinary(rows, row->ids[t]);
    const int64_t wanted = seo_rows_planned(rows, left);
    seo_row_random random = seo_row_random_of(rows, SEO_PURPOSE_MASK, place);
    for (int64_t t = 0; t < length && picked < wanted; t++) {
        if (!is_ordinary(rows, row->ids[t])) continue;
        if (seo_row_below(&random, left--) >= wanted - picked) continue;
        row->picks[picked] = (int32_t)t;
        row->pick_targets[picked++] = row->ids[t];
        row->ids[t] = hidden(rows, &random, row->ids[t]);
    }
    SEO_ASSERT(picked == wanted);
    for (; picked < rows->args.max_predictions; picked++) {
        row->picks[picked] = SEO_ROW_IGNORE;
        row->pick_targets[picked] = SEO_ROW_IGNORE;
    }
}

static seo_err make_masked(const seo_rows *rows, seo_order_place place, const seo_row *row) {
    const int64_t seq_len = rows->args.seq_len;
    const seo_row_text text = {.source = place.source,
                               .first = place.window * rows->step_tokens,
                               .count = seq_len - 2,
                               .lead = 1,
                               .tail = 1};
    const seo_err err =
        seo_dataset_read(rows->datasets[place.source], text.first, text.count, row->ids + 1);
    if (err != SEO_OK) return err;
    row->ids[0] = rows->bos;
    row->ids[seq_len - 1] = rows->eot;
    seo_rows_hide(rows, place, seq_len, row);
    return row->spans == NULL ? SEO_OK : seo_rows_document_spans(rows, text, row->spans);
}

static seo_err masked_targets(const seo_rows *rows, seo_order_place place, int64_t *out) {
    int64_t ordinary = 0;
    const seo_err err = seo_rows_count_ordinary(
        rows, place.source, place.window * rows->step_tokens, rows->read_tokens, &ordinary);
    *out = seo_rows_planned(rows, ordinary);
    return err;
}

const seo_row_maker seo_rows_masked = {.make = make_masked, .targets = masked_targets};
