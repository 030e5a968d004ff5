#include "train/shard.h"

#include <stdlib.h>

#include "base/check.h"
#include "kernels/kernels.h"

static seo_err take_lists(const seo_params *params, seo_shards *out) {
    out->row_count = params->count;
    out->segment_count = params->count > 0 ? seo_params_segment(params, params->count - 1) + 1 : 0;
    out->rows = calloc((size_t)seo_max_i64(out->row_count, 1), sizeof *out->rows);
    out->segments = calloc((size_t)seo_max_i64(out->segment_count, 1), sizeof *out->segments);
    if (out->rows && out->segments) return SEO_OK;
    return SEO_FAIL(SEO_ERR_MEMORY, "the places of %lld parameters", (long long)params->count);
}

/* Rows one after the other within their segments, each at a unit of the update; count becomes the
 * elements without the segment's own padding. */
static void place_rows(const seo_params *params, bool frozen, seo_shards *out) {
    int64_t s = -1;
    for (int64_t row = 0; row < params->count; row++) {
        const seo_param *param = &params->items[row];
        if (row == 0 || param->block != params->items[row - 1].block) {
            out->segments[++s] = (seo_segment){.block = param->block, .row_first = row};
        }
        seo_segment *segment = &out->segments[s];
        segment->row_end = row + 1;
        out->rows[row] = (seo_shard_row){.segment = s, .at = segment->count};
        if (param->frozen != frozen) continue;
        out->rows[row] =
            (seo_shard_row){.segment = s, .at = segment->count, .count = seo_param_elements(param)};
        segment->count =
            seo_round_up(segment->count + seo_param_memory_elements(param), SEO_ADAMW_UNIT);
    }
}

/* Pads segments and lays them out one after the other. The sums stay below 2^59, as those of the
 * table do, so that several copies in bytes fit as well. */
static seo_err place_segments(seo_shards *out) {
    const int64_t unit = out->parts * SEO_SHARD_UNIT;
    for (int64_t s = 0; s < out->segment_count; s++) {
        seo_segment *segment = &out->segments[s];
        segment->count = seo_round_up(seo_max_i64(segment->count, 1), unit);
        segment->chunk = segment->count / out->ranks;
        segment->first = out->whole_count;
        segment->shard_first = out->shard_count;
        out->whole_count += segment->count;
        out->shard_count += segment->chunk;
        if (out->whole_count >= INT64_C(1) << 59) {
            return SEO_FAIL(SEO_ERR_SHAPE, "parameters padded for %lld parts: no possible size",
                            (long long)out->parts);
        }
    }
    return SEO_OK;
}

/* What is outside the blocks has its place; blocks take two in turn. */
static void place_windows(seo_shards *out) {
    int64_t sizes[SEO_SHARD_WINDOWS] = {0}, firsts[SEO_SHARD_WINDOWS] = {0};
    for (int64_t s = 0; s < out->segment_count; s++) {
        seo_segment *segment = &out->segments[s];
        if (segment->block == SEO_PARAM_NO_BLOCK) {
            segment->window_first = out->window_count;
            out->window_count += segment->count;
        } else {
            int64_t *size = &sizes[segment->block % SEO_SHARD_WINDOWS];
            *size = seo_max_i64(*size, segment->count);
        }
    }
    out->resident_count = out->window_count;
    for (int64_t w = 0; w < SEO_SHARD_WINDOWS; w++) {
        firsts[w] = out->window_count;
        out->window_count += sizes[w];
    }
    for (int64_t s = 0; s < out->segment_count; s++) {
        seo_segment *segment = &out->segments[s];
        if (segment->block == SEO_PARAM_NO_BLOCK) continue;
        segment->window_first = firsts[segment->block % SEO_SHARD_WINDOWS];
    }
}

seo_err seo_shards_open(const seo_params *params, const seo_shard_wish *wish, seo_shards *out) {
    seo_err err = SEO_OK;
    const int32_t ranks = wish->ranks > 0 ? wish->ranks : 1;
    *out = (seo_shards){.rank = wish->rank,
                        .ranks = ranks,
                        .zero = ranks > 1 ? wish->zero : 0,
                        .parts = wish->parts > 0 ? wish->parts : ranks};
    SEO_ASSERT(out->rank >= 0 && out->rank < ranks && wish->zero >= 0 && wish->zero <= 3);
    SEO_ASSERT(out->parts % ranks == 0 && out->parts <= SEO_SHARD_PARTS_MAX);
    SEO_TRY(take_lists(params, out));
    place_rows(params, wish->frozen, out);
    SEO_TRY(place_segments(out));
    place_windows(out);
    return SEO_OK;
done:
    seo_shards_free(out);
    return err;
}

void seo_shards_free(seo_shards *shards) {
    free(shards->segments);
    free(shards->rows);
    *shards = (seo_shards){0};
}

int64_t seo_shards_count(const seo_shards *shards, seo_layout layout) {
    switch (layout) {
    case SEO_LAYOUT_WHOLE: return shards->whole_count;
    case SEO_LAYOUT_SHARD: return shards->shard_count;
    case SEO_LAYOUT_WINDOWS: return shards->window_count;
    }
    return 0;
}

int64_t seo_shards_segment_at(const seo_shards *shards, seo_layout layout, int64_t segment) {
    SEO_ASSERT(segment >= 0 && segment < shards->segment_count);
    const seo_segment *s = &shards->segments[segment];
    switch (layout) {
    case SEO_LAYOUT_WHOLE: return s->first;
    case SEO_LAYOUT_SHARD: return s->shard_first;
    case SEO_LAYOUT_WINDOWS: return s->window_first;
    }
    return 0;
}

int64_t seo_shards_segment_count(const seo_shards *shards, seo_layout layout, int64_t segment) {
    SEO_ASSERT(segment >= 0 && segment < shards->segment_count);
    const seo_segment *s = &shards->segments[segment];
    return layout == SEO_LAYOUT_SHARD ? s->chunk : s->count;
}

int64_t seo_shards_row_at(const seo_shards *shards, seo_layout layout, int64_t row) {
    SEO_ASSERT(row >= 0 && row < shards->row_count && layout != SEO_LAYOUT_SHARD);
    const seo_shard_row *r = &shards->rows[row];
    return seo_shards_segment_at(shards, layout, r->segment) + r->at;
}

bool seo_shards_piece(const seo_shards *shards, seo_layout layout, int64_t row,
                      seo_shard_piece *out) {
    SEO_ASSERT(row >= 0 && row < shards->row_count);
    const seo_shard_row *r = &shards->rows[row];
    const seo_segment *segment = &shards->segments[r->segment];
    const int64_t chunk_first = shards->rank * segment->chunk;
    const int64_t first = seo_max_i64(r->at, chunk_first);
    const int64_t end = seo_min_i64(r->at + r->count, chunk_first + segment->chunk);
    if (first >= end) return false;
    const int64_t base = seo_shards_segment_at(shards, layout, r->segment);
    *out =
        (seo_shard_piece){.row = row,
                          .offset = first - r->at,
                          .count = end - first,
                          .at = base + (layout == SEO_LAYOUT_SHARD ? first - chunk_first : first)};
    return true;
}
