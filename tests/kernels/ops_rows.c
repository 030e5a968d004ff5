/* Rows by number: copies, so the values are exact; what accumulates is added once. */
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
    int64_t n, rows, c;
    int32_t every; /* index i is -1 where i % every is 1; 0: nowhere */
} shape;

static const shape g_shapes[] = {
    {"one of everything", 1, 1, 1, 0},   {"nothing but -1", 2, 3, 5, 1},
    {"off the vector", 7, 11, 13, 3},    {"as many as there are", 9, 9, 40, 0},
    {"a few of many", 20, 300, 136, 5},  {"two widths of a warp", 37, 64, 520, 2},
    {"many short rows", 900, 1024, 8, 7}};

/* Different rows of [0, rows), in an order that jumps; -1 among them. */
static int32_t *index_of(const shape *s) {
    int32_t *index = malloc((size_t)s->n * sizeof *index);
    assert_non_null(index);
    int64_t step = 7;
    while (s->rows % step == 0) step += 2;
    for (int64_t i = 0; i < s->n; i++) {
        const bool nowhere = s->every > 0 && i % s->every == 1 % s->every;
        index[i] = nowhere ? -1 : (int32_t)((3 + i * step) % s->rows);
    }
    return index;
}

static void run_gather(op_run *on, const void *input, float *out) {
    seo_gather_rows_args a = *(const seo_gather_rows_args *)input;
    a.out = poisoned_s(on, a.out);
    a.inp = to_device_s(on, a.inp);
    a.index = to_device(on, a.index);
    must(seo_gather_rows(on->dev, &a));
    to_host(on, &a.out, out);
}

static void gather_case(const shape *s, seo_dtype storage) {
    const int64_t count = s->n * s->c;
    float *inp = new_f32(s->rows * s->c);
    int32_t *index = index_of(s);
    double *want = new_f64(count), *bound = new_f64(count);
    fill_uniform(inp, s->rows * s->c, -1, 1, 51);
    to_storage(inp, s->rows * s->c, storage);
    for (int64_t i = 0; i < count; i++) {
        const int32_t row = index[i / s->c];
        want[i] = row < 0 ? 0 : (double)inp[row * s->c + i % s->c];
    }
    const seo_gather_rows_args a = {.out = seo_tensor_2d(NULL, SEO_DTYPE_F32, s->n, s->c),
                                    .inp = seo_tensor_2d(inp, SEO_DTYPE_F32, s->rows, s->c),
                                    .index = seo_tensor_1d(index, SEO_DTYPE_I32, s->n)};
    check_everywhere(&(op_case){s->what, run_gather, &a, count, want, bound, .storage = storage});
    free(inp);
    free(index);
    free(want);
    free(bound);
}

/* The outside index is reported; the other row is copied all the same where there is a queue. */
static void run_gather_outside(op_run *on, const void *input, float *out) {
    float rows[4] = {1, 2, 3, 4};
    const seo_gather_rows_args a = {
        .out = poisoned_s(on, seo_tensor_2d(NULL, SEO_DTYPE_F32, 2, 2)),
        .inp = to_device_s(on, seo_tensor_2d(rows, SEO_DTYPE_F32, 2, 2)),
        .index = to_device(on, seo_tensor_1d((void *)(uintptr_t)input, SEO_DTYPE_I32, 2))};
    must(seo_gather_rows(on->dev, &a));
    must_fail(seo_device_sync(on->dev), SEO_ERR_ARG, "index outside the rows");
    to_host(on, &a.out, out);
}

static void gather_outside_on_cpu(void) {
    float rows[4] = {1, 2, 3, 4}, out[4] = {9, 9, 9, 9};
    int32_t index[2] = {1, 2};
    seo_device *dev = open_device(SEO_CPU_AUTO, 2);
    const seo_gather_rows_args a = {.out = seo_tensor_2d(out, SEO_DTYPE_F32, 2, 2),
                                    .inp = seo_tensor_2d(rows, SEO_DTYPE_F32, 2, 2),
                                    .index = seo_tensor_1d(index, SEO_DTYPE_I32, 2)};
    must_fail(seo_gather_rows(dev, &a), SEO_ERR_ARG, "index[1] is 2, neither in [0, 2) nor -1");
    index[1] = -2;
    must_fail(seo_gather_rows(dev, &a), SEO_ERR_ARG, "index[1] is -2");
    for (int i = 0; i < 4; i++) assert_true(out[i] == 9.0f);
    seo_device_close(dev);
}

static const int32_t g_outside[][2] = {{1, 2}, {1, -2}, {1, INT32_MAX}, {1, INT32_MIN}};

void test_gather_rows(void **state) {
    (void)state;
    EACH_STORAGE(storage) {
        for (int i = 0; i < SEO_COUNT_OF(g_shapes); i++) gather_case(&g_shapes[i], storage);
    }
    if (g_targets.is_cpu) {
        gather_outside_on_cpu();
        return;
    }
    const double want[4] = {3, 4, NAN, NAN}, bound[4] = {0};
    for (int i = 0; i < SEO_COUNT_OF(g_outside); i++) {
        check_everywhere(&(op_case){"an index outside", run_gather_outside, g_outside[i], 4, want,
                                    bound, .storage = SEO_DTYPE_F32});
    }
}

/* Overwriting what was NaN, twice, so that the second call is seen not to add; then adding. */
static void run_scatter(op_run *on, const void *input, float *out) {
    seo_scatter_rows_args a = *(const seo_scatter_rows_args *)input;
    const seo_tensor start = to_device_s(on, a.out);
    a.out = poisoned_s(on, a.out);
    a.inp = to_device_s(on, a.inp);
    a.index = to_device(on, a.index);
    must(seo_scatter_rows(on->dev, &a));
    must(seo_scatter_rows(on->dev, &a));
    out = to_host(on, &a.out, out);
    a.out = start;
    a.accumulate = true;
    must(seo_scatter_rows(on->dev, &a));
    must(seo_scatter_rows(on->dev, &a));
    to_host(on, &a.out, out);
}

static void scatter_case(const shape *s, seo_dtype storage) {
    const int64_t count = s->rows * s->c;
    float *inp = new_f32(s->n * s->c), *start = new_f32(count);
    int32_t *index = index_of(s);
    double *want = new_f64(2 * count), *bound = new_f64(2 * count);
    /* Whole numbers below 64, of which bf16 holds sums of a few exactly. */
    fill_whole(inp, s->n * s->c, -20, 20, 52);
    fill_whole(start, count, -8, 8, 53);
    for (int64_t i = 0; i < count; i++) want[count + i] = (double)start[i];
    for (int64_t i = 0; i < s->n * s->c; i++) {
        const int32_t row = index[i / s->c];
        if (row < 0) continue;
        const int64_t to = row * s->c + i % s->c;
        want[to] = (double)inp[i];
        want[count + to] += 2 * (double)inp[i];
    }
    const seo_scatter_rows_args a = {.out = seo_tensor_2d(start, SEO_DTYPE_F32, s->rows, s->c),
                                     .inp = seo_tensor_2d(inp, SEO_DTYPE_F32, s->n, s->c),
                                     .index = seo_tensor_1d(index, SEO_DTYPE_I32, s->n)};
    check_everywhere(
        &(op_case){s->what, run_scatter, &a, 2 * count, want, bound, .storage = storage});
    free(inp);
    free(start);
    free(index);
    free(want);
    free(bound);
}

static void run_scatter_outside(op_run *on, const void *input, float *out) {
    float rows[4] = {1, 2, 3, 4};
    const seo_scatter_rows_args a = {
        .out = poisoned_s(on, seo_tensor_2d(NULL, SEO_DTYPE_F32, 2, 2)),
        .inp = to_device_s(on, seo_tensor_2d(rows, SEO_DTYPE_F32, 2, 2)),
        .index = to_device(on, seo_tensor_1d((void *)(uintptr_t)input, SEO_DTYPE_I32, 2))};
    must(seo_scatter_rows(on->dev, &a));
    must_fail(seo_device_sync(on->dev), SEO_ERR_ARG, "index outside the rows");
    to_host(on, &a.out, out);
}

static void scatter_outside_on_cpu(void) {
    float rows[4] = {1, 2, 3, 4}, out[4] = {9, 9, 9, 9};
    int32_t index[2] = {1, 2};
    seo_device *dev = open_device(SEO_CPU_AUTO, 2);
    const seo_scatter_rows_args a = {.out = seo_tensor_2d(out, SEO_DTYPE_F32, 2, 2),
                                     .inp = seo_tensor_2d(rows, SEO_DTYPE_F32, 2, 2),
                                     .index = seo_tensor_1d(index, SEO_DTYPE_I32, 2)};
    must_fail(seo_scatter_rows(dev, &a), SEO_ERR_ARG, "index[1] is 2, neither in [0, 2) nor -1");
    for (int i = 0; i < 4; i++) assert_true(out[i] == 9.0f);
    seo_device_close(dev);
}

void test_scatter_rows(void **state) {
    (void)state;
    EACH_STORAGE(storage) {
        for (int i = 0; i < SEO_COUNT_OF(g_shapes); i++) scatter_case(&g_shapes[i], storage);
    }
    if (g_targets.is_cpu) {
        scatter_outside_on_cpu();
        return;
    }
    const double want[4] = {0, 0, 1, 2}, bound[4] = {0};
    for (int i = 0; i < SEO_COUNT_OF(g_outside); i++) {
        check_everywhere(&(op_case){"an index outside", run_scatter_outside, g_outside[i], 4, want,
                                    bound, .storage = SEO_DTYPE_F32});
    }
}
