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
    int64_t b, t, c, vocab, positions, first;
} shape;

static const shape g_shapes[] = {
    {"one of everything", 1, 1, 1, 1, 1, 0},
    {"off the vector", 2, 3, 5, 7, 11, 4},
    {"all rows the same token", 4, 9, 33, 1, 9, 0},
    {"a thread's worth each", 3, 70, 129, 50, 80, 10},
};

static void run_fwd(seo_device *dev, const void *input, float *out) {
    seo_embedding_fwd_args a = *(const seo_embedding_fwd_args *)input;
    a.out = to_device(dev, a.out);
    a.ids = to_device(dev, a.ids);
    a.wte = to_device(dev, a.wte);
    a.wpe = to_device(dev, a.wpe);
    must(seo_embedding_fwd(dev, &a));
    to_host(dev, &a.out, out);
}

static void fwd_case(const shape *s) {
    const int64_t rows = s->b * s->t, count = rows * s->c;
    float *wte = new_f32(s->vocab * s->c), *wpe = new_f32(s->positions * s->c);
    float *zero = new_f32(count);
    int32_t *ids = malloc((size_t)rows * sizeof *ids);
    double *want = new_f64(count), *bound = new_f64(count);
    assert_non_null(ids);
    fill_uniform(wte, s->vocab * s->c, -1, 1, 1);
    fill_uniform(wpe, s->positions * s->c, -1, 1, 2);
    fill_ids(ids, rows, (int32_t)s->vocab, 3);
    for (int64_t i = 0; i < count; i++) {
        const int64_t r = i / s->c, c = i % s->c;
        want[i] = (double)wte[ids[r] * s->c + c] + (double)wpe[(s->first + r % s->t) * s->c + c];
        bound[i] = sum_bound(1, 0, fabs(want[i]));
    }
    const seo_embedding_fwd_args a = {.out = seo_tensor_3d(zero, SEO_DTYPE_F32, s->b, s->t, s->c),
                                      .ids = seo_tensor_2d(ids, SEO_DTYPE_I32, s->b, s->t),
                                      .wte = seo_tensor_2d(wte, SEO_DTYPE_F32, s->vocab, s->c),
                                      .wpe = seo_tensor_2d(wpe, SEO_DTYPE_F32, s->positions, s->c),
                                      .first_position = s->first};
    check_everywhere(&(op_case){s->what, run_fwd, &a, count, want, bound});
    free(wte);
    free(wpe);
    free(zero);
    free(ids);
    free(want);
    free(bound);
}

void test_embedding_fwd(void **state) {
    (void)state;
    for (int i = 0; i < SEO_COUNT_OF(g_shapes); i++) fwd_case(&g_shapes[i]);
    /* An id that is out of range is found before anything is written. */
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
    for (int i = 0; i < 4; i++) assert_true(out[i] == 9.0f);
    seo_device_close(dev);
}

/* Twice, so that += is seen to add to what the first call left. */
static void run_bwd(seo_device *dev, const void *input, float *out) {
    seo_embedding_bwd_args a = *(const seo_embedding_bwd_args *)input;
    a.dwte = to_device(dev, a.dwte);
    a.dwpe = to_device(dev, a.dwpe);
    a.dout = to_device(dev, a.dout);
    a.ids = to_device(dev, a.ids);
    must(seo_embedding_bwd(dev, &a));
    must(seo_embedding_bwd(dev, &a));
    to_host(dev, &a.dwpe, to_host(dev, &a.dwte, out));
}

static void bwd_case(const shape *s, bool whole) {
    const int64_t rows = s->b * s->t, wte_count = s->vocab * s->c;
    const int64_t count = wte_count + s->positions * s->c;
    float *start = new_f32(count), *dout = new_f32(rows * s->c);
    int32_t *ids = malloc((size_t)rows * sizeof *ids);
    double *want = new_f64(count), *bound = new_f64(count), *size = new_f64(count);
    assert_non_null(ids);
    fill_whole(start, count, -8, 8, 4);
    fill_ids(ids, rows, (int32_t)s->vocab, 3);
    if (whole)
        fill_whole(dout, rows * s->c, -8, 8, 5);
    else
        fill_uniform(dout, rows * s->c, -1, 1, 5);
    for (int64_t i = 0; i < count; i++) size[i] = fabs(want[i] = (double)start[i]);
    for (int64_t i = 0; i < rows * s->c; i++) {
        const int64_t r = i / s->c, c = i % s->c;
        const int64_t to[2] = {ids[r] * s->c + c, wte_count + r % s->t * s->c + c};
        for (int j = 0; j < 2; j++) {
            want[to[j]] += 2 * (double)dout[i];
            size[to[j]] += 2 * fabs((double)dout[i]);
        }
    }
    for (int64_t i = 0; i < count; i++) bound[i] = whole ? 0 : sum_bound(2 * rows, 0, size[i]);
    const seo_embedding_bwd_args a = {
        .dwte = seo_tensor_2d(start, SEO_DTYPE_F32, s->vocab, s->c),
        .dwpe = seo_tensor_2d(start + wte_count, SEO_DTYPE_F32, s->positions, s->c),
        .dout = seo_tensor_3d(dout, SEO_DTYPE_F32, s->b, s->t, s->c),
        .ids = seo_tensor_2d(ids, SEO_DTYPE_I32, s->b, s->t)};
    check_everywhere(&(op_case){s->what, run_bwd, &a, count, want, bound});
    free(start);
    free(dout);
    free(ids);
    free(want);
    free(bound);
    free(size);
}

void test_embedding_bwd(void **state) {
    (void)state;
    for (int i = 0; i < SEO_COUNT_OF(g_shapes); i++) {
        bwd_case(&g_shapes[i], true);
        bwd_case(&g_shapes[i], false);
    }
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
