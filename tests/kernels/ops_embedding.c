/* Embedding: additions only, so the forward is exact, and the backward of whole numbers too. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "tests/kernels/ops_tests.h"
#include "tests/support/compare.h"
#include "tests/support/fill.h"
#include "tests/support/op_check.h"

typedef struct shape {
    const char *what;
    int64_t b, t, c, vocab, positions, first, types; /* types 0: there are none */
} shape;

static const shape g_shapes[] = {
    {"one of everything", 1, 1, 1, 1, 1, 0, 0},
    {"one of everything, and one type", 1, 1, 1, 1, 1, 0, 1},
    {"off the vector", 2, 3, 5, 7, 11, 4, 3},
    {"all rows the same token", 4, 9, 33, 1, 9, 0, 2},
    {"a thread's worth each", 3, 70, 129, 50, 80, 10, 0},
    {"a thread's worth each, and two types", 3, 70, 136, 50, 72, 2, 2},
    {"pieces of 64 and joins of them", 5, 61, 40, 3, 61, 0, 5},
    {"a piece and one more", 1, 65, 8, 1, 65, 0, 0},
};

/* (b, t) types, or a tensor that is not given. */
static seo_tensor types_of(const shape *s) {
    if (s->types == 0) return (seo_tensor){0};
    int32_t *types = malloc((size_t)(s->b * s->t) * sizeof *types);
    assert_non_null(types);
    fill_ids(types, s->b * s->t, (int32_t)s->types, 6);
    return seo_tensor_2d(types, SEO_DTYPE_I32, s->b, s->t);
}
static seo_tensor table_of(const shape *s, float *table) {
    return s->types ? seo_tensor_2d(table, SEO_DTYPE_F32, s->types, s->c) : (seo_tensor){0};
}

static void run_fwd(op_run *on, const void *input, float *out) {
    seo_embedding_fwd_args a = *(const seo_embedding_fwd_args *)input;
    a.out = poisoned_s(on, a.out);
    a.ids = to_device(on, a.ids);
    a.wte = to_device_s(on, a.wte);
    a.wpe = to_device_s(on, a.wpe);
    a.types = to_device(on, a.types);
    a.wtt = to_device_s(on, a.wtt);
    must(seo_embedding_fwd(on->dev, &a));
    to_host(on, &a.out, out);
}

static void fwd_case(const shape *s, seo_dtype storage) {
    const int64_t rows = s->b * s->t, count = rows * s->c;
    float *wte = new_f32(s->vocab * s->c), *wpe = new_f32(s->positions * s->c);
    float *wtt = new_f32(s->types * s->c);
    const seo_tensor types = types_of(s);
    int32_t *ids = malloc((size_t)rows * sizeof *ids);
    double *want = new_f64(count), *bound = new_f64(count);
    assert_non_null(ids);
    fill_uniform(wte, s->vocab * s->c, -1, 1, 1);
    fill_uniform(wpe, s->positions * s->c, -1, 1, 2);
    fill_uniform(wtt, s->types * s->c, -1, 1, 7);
    to_storage(wtt, s->types * s->c, storage);
    to_storage(wte, s->vocab * s->c, storage);
    to_storage(wpe, s->positions * s->c, storage);
    fill_ids(ids, rows, (int32_t)s->vocab, 3);
    for (int64_t i = 0; i < count; i++) {
        const int64_t r = i / s->c, c = i % s->c;
        const double token = (double)wte[ids[r] * s->c + c];
        const double position = (double)wpe[(s->first + r % s->t) * s->c + c];
        const int32_t *is = types.data;
        const double type = is ? (double)wtt[is[r] * s->c + c] : 0;
        want[i] = token + position + type;
        /* One rounding for each addition. */
        bound[i] = stored_bound(storage, want[i],
                                sum_bound(is ? 2 : 1, 0, fabs(token + position) + fabs(type)));
    }
    const seo_embedding_fwd_args a = {.out = seo_tensor_3d(NULL, SEO_DTYPE_F32, s->b, s->t, s->c),
                                      .ids = seo_tensor_2d(ids, SEO_DTYPE_I32, s->b, s->t),
                                      .wte = seo_tensor_2d(wte, SEO_DTYPE_F32, s->vocab, s->c),
                                      .wpe = seo_tensor_2d(wpe, SEO_DTYPE_F32, s->positions, s->c),
                                      .types = types,
                                      .wtt = table_of(s, wtt),
                                      .first_position = s->first};
    check_everywhere(&(op_case){s->what, run_fwd, &a, count, want, bound, .storage = storage});
    free(wte);
    free(wpe);
    free(wtt);
    free(types.data);
    free(ids);
    free(want);
    free(bound);
}

/* An id that is out of range: the CPU finds it before anything is written. */
static void fwd_outside_on_cpu(void) {
    float out[4] = {9, 9, 9, 9}, table[6] = {0};
    int32_t ids[2] = {0, 3};
    seo_device *dev = open_device(SEO_CPU_AUTO, 2);
    seo_embedding_fwd_args a = {.out = seo_tensor_3d(out, SEO_DTYPE_F32, 1, 2, 2),
                                .ids = seo_tensor_2d(ids, SEO_DTYPE_I32, 1, 2),
                                .wte = seo_tensor_2d(table, SEO_DTYPE_F32, 3, 2),
                                .wpe = seo_tensor_2d(table, SEO_DTYPE_F32, 3, 2)};
    must_fail(seo_embedding_fwd(dev, &a), SEO_ERR_ARG, "ids[0, 1] is 3, outside [0, 3)");
    ids[1] = -1;
    must_fail(seo_embedding_fwd(dev, &a), SEO_ERR_ARG, "ids[0, 1] is -1");
    ids[1] = 0;
    int32_t types[2] = {1, 2};
    a.types = seo_tensor_2d(types, SEO_DTYPE_I32, 1, 2);
    a.wtt = seo_tensor_2d(table, SEO_DTYPE_F32, 2, 2);
    must_fail(seo_embedding_fwd(dev, &a), SEO_ERR_ARG, "types[0, 1] is 2, outside [0, 2)");
    for (int i = 0; i < 4; i++) assert_true(out[i] == 9.0f);
    seo_device_close(dev);
}

/* A device with a queue tells of it at the next wait, and is fine afterwards. */
static void run_fwd_outside(op_run *on, const void *input, float *out) {
    const int32_t *ids = input;
    float table[6] = {0};
    const seo_embedding_fwd_args a = {
        .out = poisoned_s(on, seo_tensor_3d(NULL, SEO_DTYPE_F32, 1, 2, 2)),
        .ids = to_device(on, (seo_tensor){(void *)(uintptr_t)ids, SEO_DTYPE_I32, 2, {1, 2}}),
        .wte = to_device_s(on, seo_tensor_2d(table, SEO_DTYPE_F32, 3, 2)),
        .wpe = to_device_s(on, seo_tensor_2d(table, SEO_DTYPE_F32, 3, 2))};
    must(seo_embedding_fwd(on->dev, &a));
    must_fail(seo_device_sync(on->dev), SEO_ERR_ARG, "id");
    must(seo_device_sync(on->dev));
    *out = 0;
}

/* The same of types, in the forward and in the backward, which leaves such a row out. */
static void run_type_outside(op_run *on, const void *input, float *out) {
    const int32_t ids[2] = {0, 1};
    float table[6] = {0}, ones[4] = {1, 1, 1, 1};
    const seo_tensor pair = seo_tensor_2d((void *)(uintptr_t)ids, SEO_DTYPE_I32, 1, 2);
    const seo_tensor types =
        to_device(on, seo_tensor_2d((void *)(uintptr_t)input, SEO_DTYPE_I32, 1, 2));
    int32_t groups[64];
    SEO_ASSERT(seo_groups_size(2) <= SEO_COUNT_OF(groups));
    seo_groups_build(ids, 2, groups);
    const seo_embedding_fwd_args a = {
        .out = poisoned_s(on, seo_tensor_3d(NULL, SEO_DTYPE_F32, 1, 2, 2)),
        .ids = to_device(on, pair),
        .wte = to_device_s(on, seo_tensor_2d(table, SEO_DTYPE_F32, 3, 2)),
        .wpe = to_device_s(on, seo_tensor_2d(table, SEO_DTYPE_F32, 3, 2)),
        .types = types,
        .wtt = to_device_s(on, seo_tensor_2d(table, SEO_DTYPE_F32, 2, 2))};
    must(seo_embedding_fwd(on->dev, &a));
    must_fail(seo_device_sync(on->dev), SEO_ERR_ARG, "token type");
    const seo_embedding_bwd_args back = {
        .dwte = to_device(on, seo_tensor_2d(table, SEO_DTYPE_F32, 3, 2)),
        .dwpe = to_device(on, seo_tensor_2d(table, SEO_DTYPE_F32, 3, 2)),
        .dwtt = to_device(on, seo_tensor_2d(table, SEO_DTYPE_F32, 2, 2)),
        .dout = to_device_s(on, seo_tensor_3d(ones, SEO_DTYPE_F32, 1, 2, 2)),
        .ids = a.ids,
        .types = types,
        .groups = to_device(on, seo_tensor_1d(groups, SEO_DTYPE_I32, seo_groups_size(2)))};
    must(seo_embedding_bwd(on->dev, &back));
    must_fail(seo_device_sync(on->dev), SEO_ERR_ARG, "token type");
    to_host(on, &back.dwtt, out);
}

void test_embedding_fwd(void **state) {
    (void)state;
    EACH_STORAGE(storage) {
        for (int i = 0; i < SEO_COUNT_OF(g_shapes); i++) fwd_case(&g_shapes[i], storage);
    }
    if (g_targets.is_cpu) {
        fwd_outside_on_cpu();
        return;
    }
    static const int32_t outside[][2] = {{0, 3}, {-1, 0}, {INT32_MAX, 1}, {1, INT32_MIN}};
    const double zero = 0;
    for (int i = 0; i < SEO_COUNT_OF(outside); i++) {
        check_everywhere(&(op_case){"an id outside", run_fwd_outside, outside[i], 1, &zero, &zero,
                                    .storage = SEO_DTYPE_F32});
    }
    static const int32_t no_types[][2] = {{0, 2}, {0, -1}};
    const double left[4] = {1, 1, 0, 0}, exact[4] = {0};
    for (int i = 0; i < SEO_COUNT_OF(no_types); i++) {
        check_everywhere(&(op_case){"a type outside", run_type_outside, no_types[i], 4, left, exact,
                                    .storage = SEO_DTYPE_F32});
    }
}

/* Twice, so that += is seen to add to what the first call left. */
static void run_bwd(op_run *on, const void *input, float *out) {
    seo_embedding_bwd_args a = *(const seo_embedding_bwd_args *)input;
    a.dwte = to_device(on, a.dwte);
    a.dwpe = to_device(on, a.dwpe);
    a.dwtt = to_device(on, a.dwtt);
    a.dout = to_device_s(on, a.dout);
    a.ids = to_device(on, a.ids);
    a.types = to_device(on, a.types);
    a.groups = to_device(on, a.groups);
    must(seo_embedding_bwd(on->dev, &a));
    must(seo_embedding_bwd(on->dev, &a));
    to_host(on, &a.dwtt, to_host(on, &a.dwpe, to_host(on, &a.dwte, out)));
}

static void bwd_case(const shape *s, bool whole, seo_dtype storage) {
    const int64_t rows = s->b * s->t, wte_count = s->vocab * s->c;
    const int64_t wtt_at = wte_count + s->positions * s->c, count = wtt_at + s->types * s->c;
    const seo_tensor types = types_of(s);
    float *start = new_f32(count), *dout = new_f32(rows * s->c);
    int32_t *ids = malloc((size_t)rows * sizeof *ids);
    int32_t *groups = malloc((size_t)seo_groups_size(rows) * sizeof *groups);
    double *want = new_f64(count), *bound = new_f64(count), *size = new_f64(count);
    assert_true(ids && groups);
    fill_whole(start, count, -8, 8, 4);
    fill_ids(ids, rows, (int32_t)s->vocab, 3);
    seo_groups_build(ids, rows, groups);
    if (whole)
        fill_whole(dout, rows * s->c, -8, 8, 5);
    else
        fill_uniform(dout, rows * s->c, -1, 1, 5);
    to_storage(dout, rows * s->c, storage);
    for (int64_t i = 0; i < count; i++) size[i] = fabs(want[i] = (double)start[i]);
    for (int64_t i = 0; i < rows * s->c; i++) {
        const int64_t r = i / s->c, c = i % s->c;
        const int32_t *is = types.data;
        const int64_t to[3] = {ids[r] * s->c + c, wte_count + (s->first + r % s->t) * s->c + c,
                               is ? wtt_at + is[r] * s->c + c : 0};
        for (int j = 0; j < (is ? 3 : 2); j++) {
            want[to[j]] += 2 * (double)dout[i];
            size[to[j]] += 2 * fabs((double)dout[i]);
        }
    }
    for (int64_t i = 0; i < count; i++) bound[i] = whole ? 0 : sum_bound(2 * rows, 0, size[i]);
    const seo_embedding_bwd_args a = {
        .dwte = seo_tensor_2d(start, SEO_DTYPE_F32, s->vocab, s->c),
        .dwpe = seo_tensor_2d(start + wte_count, SEO_DTYPE_F32, s->positions, s->c),
        .dwtt = table_of(s, start + wtt_at),
        .dout = seo_tensor_3d(dout, SEO_DTYPE_F32, s->b, s->t, s->c),
        .ids = seo_tensor_2d(ids, SEO_DTYPE_I32, s->b, s->t),
        .types = types,
        .first_position = s->first,
        .groups = seo_tensor_1d(groups, SEO_DTYPE_I32, seo_groups_size(rows))};
    check_everywhere(&(op_case){s->what, run_bwd, &a, count, want, bound, .storage = storage});
    seo_embedding_bwd_args without = a; /* the CPU does without groups */
    without.groups = (seo_tensor){0};
    if (g_targets.is_cpu) {
        check_everywhere(
            &(op_case){s->what, run_bwd, &without, count, want, bound, .storage = SEO_DTYPE_F32});
    }
    free(start);
    free(dout);
    free(ids);
    free(types.data);
    free(groups);
    free(want);
    free(bound);
    free(size);
}

void test_embedding_bwd(void **state) {
    (void)state;
    EACH_STORAGE(storage) {
        for (int i = 0; i < SEO_COUNT_OF(g_shapes); i++) {
            bwd_case(&g_shapes[i], true, storage);
            bwd_case(&g_shapes[i], false, storage);
        }
    }
    if (!g_targets.is_cpu) return;
    float table[6] = {0}, dout[4] = {1, 1, 1, 1};
    int32_t ids[2] = {0, 3};
    seo_device *dev = open_device(SEO_CPU_AUTO, 2);
    const seo_embedding_bwd_args a = {.dwte = seo_tensor_2d(table, SEO_DTYPE_F32, 1, 2),
                                      .dwpe = seo_tensor_2d(table + 2, SEO_DTYPE_F32, 2, 2),
                                      .dout = seo_tensor_3d(dout, SEO_DTYPE_F32, 1, 2, 2),
                                      .ids = seo_tensor_2d(ids, SEO_DTYPE_I32, 1, 2)};
    must_fail(seo_embedding_bwd(dev, &a), SEO_ERR_ARG, "embedding_bwd: ids[0, 1] is 3");
    for (int i = 0; i < 6; i++) assert_true(table[i] == 0.0f);
    seo_device_close(dev);
}
