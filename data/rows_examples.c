/* Rows of examples: ids, what counts of them, and padding. */
#include <string.h>

#include "base/check.h"
#include "data/examples_internal.h"
#include "data/rows_internal.h"

/* The last id of prompt and completion is a target only, never an input. */
static int64_t inputs_of(const seo_examples *x, const seo_example *e) {
    return x->kind == SEO_EXAMPLES_PAIRS ? e->count - 1 : e->count;
}

static seo_err make_example(const seo_rows *rows, seo_order_place place, const seo_row *row) {
    const seo_examples *x = rows->args.examples;
    const seo_example *e = &x->items[place.window];
    const int32_t *ids = x->ids.items + e->first;
    const int64_t used = inputs_of(x, e);
    memcpy(row->ids, ids, (size_t)used * sizeof *ids);
    for (int64_t t = used; t < x->seq_len; t++) row->ids[t] = x->pad;
    seo_rows_span(row->spans, 0, used);
    seo_rows_span(row->spans, used, x->seq_len);
    for (int64_t t = 0; row->types != NULL && t < x->seq_len; t++) {
        row->types[t] = t >= e->second && t < used;
    }
    const int64_t from = x->kind == SEO_EXAMPLES_PAIRS ? e->second : 1;
    for (int64_t t = 0; row->targets != NULL && t < x->seq_len; t++) {
        const bool counts = t + 1 >= from && t + 1 < e->count;
        row->targets[t] = counts ? ids[t + 1] : SEO_ROW_IGNORE;
    }
    if (row->picks != NULL) {
        row->picks[0] = (int32_t)used - 1;
        row->pick_targets[0] = SEO_ROW_IGNORE;
    }
    if (row->label != NULL) *row->label = e->label;
    return SEO_OK;
}

static seo_err example_targets(const seo_rows *rows, seo_order_place place, int64_t *out) {
    const seo_examples *x = rows->args.examples;
    const seo_example *e = &x->items[place.window];
    *out = 0;
    if (x->encoder) return SEO_OK;
    *out = x->kind == SEO_EXAMPLES_PAIRS ? e->count - e->second : e->count - 1;
    return SEO_OK;
}

const seo_row_maker seo_rows_examples = {.make = make_example, .targets = example_targets};

seo_row_shape seo_examples_shape(const seo_examples *examples) {
    const int64_t seq_len = examples->seq_len;
    const bool classify = examples->kind == SEO_EXAMPLES_CLASSIFY, encoder = examples->encoder;
    return (seo_row_shape){.ids = seq_len,
                           .targets = encoder ? 0 : seq_len,
                           .types = encoder && examples->types >= 2 ? seq_len : 0,
                           .spans = 2 * seq_len,
                           .picks = classify && !encoder ? 1 : 0,
                           .label = classify};
}
