/* Who owns what: every element of a table once, for any number of ranks, parts and levels. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "kernels/kernels.h"
#include "train/models/model.h"
#include "train/shard.h"

static void ok(seo_err err) {
    if (err != SEO_OK) fail_msg("%s", seo_err_detail());
}

static seo_model_config gpt(int64_t layers, int64_t width, int64_t positions, int64_t vocab) {
    return (seo_model_config){.num_layers = layers,
                              .num_heads = 1,
                              .hidden_size = width,
                              .ffn_hidden_size = 4 * width,
                              .seq_len = positions,
                              .vocab_size = vocab,
                              .norm_eps = 1e-5};
}

static void table_of(const seo_model_config *config, int64_t row_multiple, seo_params *out) {
    ok(seo_model_params(config, out));
    const int64_t wte = seo_params_find(out, "wte");
    out->items[wte].memory_rows = seo_round_up(out->items[wte].dims[0], row_multiple);
}

/* Segments follow each other, are runs of one block, and divide. */
static void check_segments(const seo_params *params, const seo_shards *s) {
    int64_t whole = 0, shard = 0, row = 0;
    for (int64_t i = 0; i < s->segment_count; i++) {
        const seo_segment *g = &s->segments[i];
        assert_int_equal(g->first, whole);
        assert_int_equal(g->shard_first, shard);
        assert_int_equal(g->row_first, row);
        assert_true(g->row_end > g->row_first);
        assert_int_equal(g->first % (s->parts * SEO_SHARD_UNIT), 0);
        assert_int_equal(g->count % (s->parts * SEO_SHARD_UNIT), 0);
        assert_int_equal(g->chunk * s->ranks, g->count);
        for (; row < g->row_end; row++) {
            assert_int_equal(params->items[row].block, g->block);
            assert_int_equal(s->rows[row].segment, i);
            assert_int_equal(seo_params_segment(params, row), i);
        }
        if (i > 0) assert_int_not_equal(g->block, s->segments[i - 1].block);
        whole += g->count;
        shard += g->chunk;
    }
    assert_int_equal(row, params->count);
    assert_int_equal(whole, s->whole_count);
    assert_int_equal(shard, s->shard_count);
    assert_int_equal(shard * s->ranks, whole);
}

/* Rows have room for their padding, at units of the update, and do not overlap. */
static void check_rows(const seo_params *params, const seo_shards *s) {
    int64_t end = 0;
    for (int64_t row = 0; row < params->count; row++) {
        const seo_segment *g = &s->segments[s->rows[row].segment];
        const int64_t at = seo_shards_row_at(s, SEO_LAYOUT_WHOLE, row);
        assert_int_equal(at, g->first + s->rows[row].at);
        assert_int_equal(at % SEO_ADAMW_UNIT, 0);
        assert_true(at >= end);
        end = at + seo_param_memory_elements(&params->items[row]);
        assert_true(end <= g->first + g->count);
        const int64_t window = seo_shards_row_at(s, SEO_LAYOUT_WINDOWS, row);
        assert_int_equal(window, g->window_first + s->rows[row].at);
    }
}

/* In windows no two segments that may be in use together overlap, and blocks take two in turn. */
static void check_windows(const seo_shards *s) {
    int64_t most = 0;
    for (int64_t i = 0; i < s->segment_count; i++) {
        const seo_segment *a = &s->segments[i];
        most = seo_max_i64(most, a->window_first + a->count);
        assert_int_equal(a->window_first % SEO_SHARD_UNIT, 0);
        for (int64_t j = 0; j < i; j++) {
            const seo_segment *b = &s->segments[j];
            const bool blocks = a->block != SEO_PARAM_NO_BLOCK && b->block != SEO_PARAM_NO_BLOCK;
            if (blocks && a->block % 2 == b->block % 2) {
                assert_int_equal(a->window_first, b->window_first);
            } else {
                assert_true(a->window_first + a->count <= b->window_first ||
                            b->window_first + b->count <= a->window_first);
            }
        }
    }
    assert_int_equal(most, s->window_count);
}

/* One rank's pieces, marked in `owner`, an array over the whole layout; values[i] = i there is
 * found again where the shard layout says it lies. */
static void mark(const seo_params *params, const seo_shards *s, uint8_t *owner) {
    int64_t *shard = malloc((size_t)s->shard_count * sizeof *shard);
    for (int64_t i = 0; i < s->segment_count; i++) {
        const seo_segment *g = &s->segments[i];
        for (int64_t k = 0; k < g->chunk; k++) {
            shard[g->shard_first + k] = g->first + s->rank * g->chunk + k;
        }
    }
    for (int64_t row = 0; row < params->count; row++) {
        seo_shard_piece piece, whole, window;
        if (!seo_shards_piece(s, SEO_LAYOUT_SHARD, row, &piece)) {
            assert_false(seo_shards_piece(s, SEO_LAYOUT_WHOLE, row, &whole));
            continue;
        }
        assert_true(seo_shards_piece(s, SEO_LAYOUT_WHOLE, row, &whole));
        assert_true(seo_shards_piece(s, SEO_LAYOUT_WINDOWS, row, &window));
        assert_int_equal(piece.row, row);
        assert_true(piece.count > 0 && piece.offset >= 0 && piece.offset % 4 == 0);
        assert_true(piece.offset + piece.count <= seo_param_elements(&params->items[row]));
        assert_int_equal(whole.offset, piece.offset);
        assert_int_equal(window.count, piece.count);
        assert_int_equal(window.at, seo_shards_row_at(s, SEO_LAYOUT_WINDOWS, row) + piece.offset);
        assert_true(piece.at >= 0 && piece.at + piece.count <= s->shard_count);
        const int64_t at = seo_shards_row_at(s, SEO_LAYOUT_WHOLE, row) + piece.offset;
        assert_int_equal(whole.at, at);
        for (int64_t k = 0; k < piece.count; k++) {
            assert_int_equal(shard[piece.at + k], at + k);
            owner[at + k]++;
        }
    }
    free(shard);
}

static void check(const seo_params *params, int32_t ranks, int64_t parts, int32_t zero) {
    uint8_t *owner = NULL;
    seo_shards s = {0};
    for (int32_t rank = 0; rank < ranks; rank++) {
        ok(seo_shards_open(
            params, &(seo_shard_wish){.rank = rank, .ranks = ranks, .zero = zero, .parts = parts},
            &s));
        assert_int_equal(s.zero, ranks == 1 ? 0 : zero);
        assert_int_equal(s.parts, parts > 0 ? parts : ranks);
        if (!owner) owner = calloc((size_t)s.whole_count, 1);
        check_segments(params, &s);
        check_rows(params, &s);
        check_windows(&s);
        mark(params, &s, owner);
        if (rank < ranks - 1) seo_shards_free(&s);
    }
    int64_t owned = 0;
    for (int64_t i = 0; i < s.whole_count; i++) {
        assert_true(owner[i] <= 1);
        owned += owner[i];
    }
    assert_int_equal(owned, seo_params_elements(params));
    for (int64_t row = 0; row < params->count; row++) {
        const int64_t at = seo_shards_row_at(&s, SEO_LAYOUT_WHOLE, row);
        for (int64_t k = 0; k < s.rows[row].count; k++) assert_int_equal(owner[at + k], 1);
    }
    seo_shards_free(&s);
    free(owner);
}

static void owned_once(void **state) {
    (void)state;
    const seo_model_config models[] = {gpt(3, 24, 16, 37), gpt(1, 1, 1, 1), gpt(2, 8, 3, 501),
                                       gpt(4, 33, 7, 130)};
    const struct {
        int32_t ranks;
        int64_t parts;
    } cuts[] = {{1, 0}, {2, 0}, {3, 0}, {7, 0}, {16, 0}, {1, 8}, {2, 8}, {8, 8}, {4, 32}, {5, 15}};
    for (int64_t m = 0; m < SEO_COUNT_OF(models); m++) {
        for (int64_t multiple = 1; multiple <= 64; multiple *= 64) {
            seo_params params;
            table_of(&models[m], multiple, &params);
            for (int64_t c = 0; c < SEO_COUNT_OF(cuts); c++) {
                check(&params, cuts[c].ranks, cuts[c].parts, (int32_t)(c % 4));
            }
            seo_params_free(&params);
        }
    }
}

/* The layout of `parts` is the same for every number of ranks, which invariance rests on. */
static void parts_decide(void **state) {
    (void)state;
    const seo_model_config config = gpt(3, 24, 16, 37);
    seo_params params;
    seo_shards one, some;
    table_of(&config, 1, &params);
    ok(seo_shards_open(&params, &(seo_shard_wish){.parts = 8}, &one));
    for (int32_t ranks = 1; ranks <= 8; ranks *= 2) {
        ok(seo_shards_open(
            &params, &(seo_shard_wish){.rank = ranks - 1, .ranks = ranks, .zero = 1, .parts = 8},
            &some));
        assert_int_equal(some.whole_count, one.whole_count);
        for (int64_t row = 0; row < params.count; row++) {
            assert_int_equal(seo_shards_row_at(&some, SEO_LAYOUT_WHOLE, row),
                             seo_shards_row_at(&one, SEO_LAYOUT_WHOLE, row));
        }
        seo_shards_free(&some);
    }
    seo_shards_free(&one);
    seo_params_free(&params);
}

/* GPT-3 175B over 1,000 ranks: by table alone, and padding is small. */
static void largest(void **state) {
    (void)state;
    const seo_model_config config = gpt(96, 12288, 2048, 50257);
    const int32_t ranks = 1000;
    seo_params params;
    seo_shards s;
    int64_t owned = 0;
    table_of(&config, 64, &params);
    for (int32_t rank = 0; rank < ranks; rank += 1) {
        ok(seo_shards_open(&params, &(seo_shard_wish){.rank = rank, .ranks = ranks, .zero = 3},
                           &s));
        for (int64_t row = 0; row < params.count; row++) {
            seo_shard_piece piece;
            if (seo_shards_piece(&s, SEO_LAYOUT_SHARD, row, &piece)) owned += piece.count;
        }
        if (rank == 0) {
            assert_int_equal(s.segment_count, 98);
            const int64_t all = seo_params_elements(&params);
            assert_true(s.whole_count - all <
                        98 * (s.parts * SEO_SHARD_UNIT) + 64 * 12288 + 1200 * SEO_ADAMW_UNIT);
            assert_int_equal(s.window_count,
                             s.segments[0].count + s.segments[97].count + 2 * s.segments[1].count);
        }
        seo_shards_free(&s);
    }
    assert_int_equal(owned, seo_params_elements(&params));
    assert_int_equal(owned, INT64_C(174604259328));
    seo_params_free(&params);
}

/* Sizes that padding makes impossible are refused, not wrapped. */
static void refuses(void **state) {
    (void)state;
    seo_params params = {0};
    seo_shards s;
    int64_t index = 0;
    for (int64_t block = 0; block < 2; block++) {
        seo_param param = {.rank = 2, .dims = {INT64_C(1) << 30, (INT64_C(1) << 28) - 1}};
        param.block = block;
        param.name[0] = (char)('a' + block);
        ok(seo_params_add(&params, &param, &index));
    }
    ok(seo_shards_open(&params, &(seo_shard_wish){0}, &s));
    seo_shards_free(&s);
    const seo_shard_wish wish = {.parts = SEO_SHARD_PARTS_MAX};
    assert_int_equal(seo_shards_open(&params, &wish, &s), SEO_ERR_SHAPE);
    seo_params_free(&params);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(owned_once), cmocka_unit_test(parts_decide),
                                       cmocka_unit_test(largest), cmocka_unit_test(refuses)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
