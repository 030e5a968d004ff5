/* Sentence pairs: which two parts of the text a row is made of, and the row. */
#include "base/check.h"
#include "data/rows_internal.h"

enum { TRIES = 10, CHUNK = 64 };

/* Tokens [a, a + a_count) and [b, b + b_count) of the source. */
typedef struct pair {
    int64_t a, a_count, b, b_count;
    int32_t label; /* 0: B follows A; 1: it is from elsewhere */
} pair;

/* What a pair is looked for with. */
typedef struct search {
    const seo_rows *rows;
    int64_t source;
    seo_dataset *dataset;
    seo_dataset_info info;
    seo_row_random random;
} search;

/* Text of one document without its closing eot: tokens [begin, end). */
typedef struct stretch {
    int64_t document, begin, end;
} stretch;

static seo_err document_text(const search *s, int64_t at, stretch *out) {
    seo_document_span document = {0};
    const seo_err err = seo_dataset_document_at(s->dataset, at, &document);
    const int64_t closing = s->info.eot_id >= 0 ? 1 : 0;
    *out = (stretch){.document = document.index,
                     .begin = document.first_token,
                     .end = document.first_token + document.token_count - closing};
    return err;
}

/* The largest place of (low, from] that follows a sentence end, or -1. */
static seo_err start_before(const search *s, int64_t low, int64_t from, int64_t *out) {
    int32_t ids[CHUNK];
    *out = -1;
    for (int64_t end = from; end > low && *out < 0;) {
        const int64_t begin = seo_max_i64(low, end - CHUNK);
        const seo_err err = seo_dataset_read(s->dataset, begin, end - begin, ids);
        if (err != SEO_OK) return err;
        for (int64_t i = end; i > begin && *out < 0; i--) {
            if (seo_rows_traits(s->rows, ids[i - 1 - begin]) & SEO_TOKEN_ENDS_SENTENCE) *out = i;
        }
        end = begin;
    }
    return SEO_OK;
}

/* The smallest place of (from, high) that follows a sentence end, or -1. */
static seo_err start_after(const search *s, int64_t from, int64_t high, int64_t *out) {
    int32_t ids[CHUNK];
    *out = -1;
    for (int64_t begin = from; begin < high - 1 && *out < 0;) {
        const int64_t end = seo_min_i64(high - 1, begin + CHUNK);
        const seo_err err = seo_dataset_read(s->dataset, begin, end - begin, ids);
        if (err != SEO_OK) return err;
        for (int64_t i = begin; i < end && *out < 0; i++) {
            if (seo_rows_traits(s->rows, ids[i - begin]) & SEO_TOKEN_ENDS_SENTENCE) *out = i + 1;
        }
        begin = end;
    }
    return SEO_OK;
}

/* One document's part of the window, drawn by its length; a part that cannot be divided is drawn
 * again a few times. */
static seo_err choose_stretch(search *s, int64_t first, int64_t count, stretch *out) {
    for (int64_t i = 0; i < TRIES; i++) {
        const int64_t at = first + seo_row_below(&s->random, count);
        const seo_err err = document_text(s, at, out);
        if (err != SEO_OK) return err;
        out->begin = seo_max_i64(out->begin, first);
        out->end = seo_max_i64(seo_min_i64(out->end, first + count), out->begin);
        if (out->end - out->begin >= 2) break;
    }
    return SEO_OK;
}

/* A place inside (begin, end) where the text is cut in two: the nearest one to a random point. */
static seo_err choose_cut(search *s, int64_t begin, int64_t end, int64_t *out) {
    seo_err err = SEO_OK;
    int64_t before = -1, after = -1;
    const int64_t point = begin + 1 + seo_row_below(&s->random, end - begin - 1);
    SEO_TRY(start_before(s, begin, point, &before));
    SEO_TRY(start_after(s, point, end, &after));
    *out = point;
    if (before >= 0 && (after < 0 || point - before <= after - point)) {
        *out = before;
    } else if (after >= 0) {
        *out = after;
    }
done:
    return err;
}

/* A place far from `cut` in the one document there is; not the cut itself, however short it is. */
static int64_t far_away(search *s, const stretch *text, int64_t cut) {
    const int64_t length = text->end - text->begin;
    const int64_t ahead = length / 4 + seo_row_below(&s->random, seo_max_i64(1, length / 2));
    return text->begin + (cut - text->begin + ahead) % seo_max_i64(1, length);
}

/* B from elsewhere, up to `count` tokens from a sentence's start. */
static seo_err choose_other(search *s, int64_t document, int64_t cut, int64_t count, pair *out) {
    seo_err err = SEO_OK;
    stretch text = {0};
    int64_t at = 0, start = -1;
    bool other = false;
    for (int64_t i = 0; i < TRIES && !other; i++) {
        at = seo_row_below(&s->random, s->info.token_count);
        SEO_TRY(document_text(s, at, &text));
        other = text.document != document && text.end > text.begin;
    }
    if (!other) {
        SEO_TRY(document_text(s, cut, &text));
        if (text.end <= text.begin) return SEO_OK; /* a document without text: B stays empty */
        at = far_away(s, &text, cut);
    }
    at = seo_max_i64(text.begin, seo_min_i64(at, text.end - count));
    const int64_t low = seo_max_i64(text.begin, at - s->rows->step_tokens);
    SEO_TRY(start_before(s, low, at, &start));
    if (start < 0) start = low == text.begin ? low : at;
    if (start == cut && text.document == document) start = text.begin;
    out->b = start;
    out->b_count = seo_min_i64(count, text.end - start);
done:
    return err;
}

static seo_err choose_pair(const seo_rows *rows, seo_order_place place, pair *out) {
    seo_err err = SEO_OK;
    stretch part = {0};
    const int64_t most = rows->step_tokens;
    search s = {.rows = rows,
                .source = place.source,
                .dataset = rows->datasets[place.source],
                .info = seo_dataset_info_get(rows->datasets[place.source]),
                .random = seo_row_random_of(rows, SEO_PURPOSE_PAIR, place)};
    SEO_TRY(choose_stretch(&s, place.window * most, most, &part));
    const bool shorter = seo_row_chance(&s.random, rows->args.short_sequences);
    const int64_t target = shorter ? 2 + seo_row_below(&s.random, most - 1) : most;
    const int64_t length = part.end - part.begin, taken = seo_min_i64(length, target);
    const int64_t begin = part.begin + seo_row_below(&s.random, length - taken + 1);
    const bool divisible = taken >= 2;
    int64_t cut = begin + taken;
    if (divisible) SEO_TRY(choose_cut(&s, begin, begin + taken, &cut));
    const bool random = seo_row_chance(&s.random, 0.5) || !divisible;
    *out = (pair){.a = begin, .a_count = cut - begin, .b = cut, .b_count = begin + taken - cut};
    if (random) {
        out->label = 1;
        out->b_count = 0;
        const int64_t wanted = divisible ? begin + taken - cut : target - taken;
        SEO_TRY(choose_other(&s, part.document, divisible ? cut : part.begin, wanted, out));
    }
done:
    return err;
}

/* Places beyond the pair are padding, as a span of its own. */
static void dress(const seo_rows *rows, const pair *p, const seo_row *row) {
    const int64_t seq_len = rows->args.seq_len;
    const int64_t second = p->a_count + 2, used = second + p->b_count + 1;
    row->ids[0] = rows->cls;
    row->ids[second - 1] = rows->sep;
    row->ids[used - 1] = rows->sep;
    for (int64_t t = used; t < seq_len; t++) row->ids[t] = rows->pad;
    for (int64_t t = 0; t < seq_len; t++) row->types[t] = t >= second && t < used;
    seo_rows_span(row->spans, 0, used);
    seo_rows_span(row->spans, used, seq_len);
    *row->label = p->label;
}

static seo_err make_pair(const seo_rows *rows, seo_order_place place, const seo_row *row) {
    seo_err err = SEO_OK;
    pair p = {0};
    seo_dataset *dataset = rows->datasets[place.source];
    SEO_TRY(choose_pair(rows, place, &p));
    SEO_TRY(seo_dataset_read(dataset, p.a, p.a_count, row->ids + 1));
    SEO_TRY(seo_dataset_read(dataset, p.b, p.b_count, row->ids + 2 + p.a_count));
    dress(rows, &p, row);
    seo_rows_hide(rows, place, p.a_count + p.b_count + 3, row);
done:
    return err;
}

static seo_err pair_targets(const seo_rows *rows, seo_order_place place, int64_t *out) {
    seo_err err = SEO_OK;
    pair p = {0};
    int64_t a = 0, b = 0;
    SEO_TRY(choose_pair(rows, place, &p));
    SEO_TRY(seo_rows_count_ordinary(rows, place.source, p.a, p.a_count, &a));
    SEO_TRY(seo_rows_count_ordinary(rows, place.source, p.b, p.b_count, &b));
    *out = seo_rows_planned(rows, a + b);
done:
    return err;
}

const seo_row_maker seo_rows_pairs = {.make = make_pair, .targets = pair_targets};
