/* What is special to the CUDA kernels of attention: which block works on what, shared memory read
 * without bank conflicts and filled again without races, refusals. That they are right is tested
 * with all operators. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <simt_options.h>

#include "base/check.h"
#include "kernels/cuda/cuda.h"
#include "tests/simt/device.h"
#include "tests/support/op_check.h"

cudaError_t test_attention_places(int32_t *out, int32_t tiles, int32_t pairs, int32_t group,
                                  cudaStream_t stream);

static seo_device *g_dev;

static int set_up(void **state) {
    (void)state;
    must(seo_device_open_simt(NULL, &g_dev));
    return 0;
}
static int tear_down(void **state) {
    (void)state;
    seo_device_close(g_dev);
    return simt_live_count();
}

/* Each tile of each head once; a group's heads after those of the group before, and within a group
 * no tile after one with less work. */
static void test_places(void **state) {
    (void)state;
    static const int32_t cases[][3] = {{1, 1, 1}, {3, 7, 2}, {3, 7, 7}, {5, 4, 1}, {1, 9, 4}};
    for (int i = 0; i < SEO_COUNT_OF(cases); i++) {
        const int32_t tiles = cases[i][0], pairs = cases[i][1], group = cases[i][2];
        const int64_t bytes = (int64_t)tiles * pairs * 2 * 4;
        int32_t places[64], met[32] = {0};
        void *on_device = NULL;
        must(seo_device_alloc(g_dev, bytes, &on_device));
        assert_int_equal(
            test_attention_places(on_device, tiles, pairs, group, seo_cuda_of(g_dev)->stream),
            cudaSuccess);
        must(seo_device_copy_out(g_dev, places, on_device, bytes));
        seo_device_free(g_dev, on_device);
        for (int32_t block = 0; block < tiles * pairs; block++) {
            const int32_t pair = places[2 * block], rank = places[2 * block + 1];
            assert_in_range(pair, 0, pairs - 1);
            assert_in_range(rank, 0, tiles - 1);
            assert_int_equal(met[pair * tiles + rank]++, 0);
            if (block == 0) continue;
            const int32_t last = places[2 * block - 2] / group;
            assert_true(pair / group >= last);
            assert_true(pair / group > last || rank >= places[2 * block - 1]);
        }
    }
}

static seo_tensor tensor(seo_dtype dtype, int64_t b, int64_t t, int64_t c) {
    seo_tensor x = seo_tensor_3d(NULL, dtype, b, t, c);
    must(seo_device_alloc(g_dev, seo_tensor_bytes(&x), &x.data));
    return x;
}

/* Masks of check_stages, one for each kind of kernel. */
enum { POSITIONS = 200, KINDS = 3 };
static seo_attention_mask mask_of_kind(int kind) {
    static const int32_t ends[] = {70, 71, 199, POSITIONS};
    seo_attention_mask mask = {.causal = kind < 2, .window = kind == 1 ? 50 : 0};
    if (kind == 0) return mask;
    int32_t spans[POSITIONS][2];
    for (int t = 0, part = 0; t < POSITIONS; t++) {
        if (t == ends[part]) part++;
        spans[t][0] = part ? ends[part - 1] : 0;
        spans[t][1] = ends[part];
    }
    mask.spans = tensor(SEO_DTYPE_I32, 1, POSITIONS, 2);
    must(seo_device_copy_in(g_dev, mask.spans.data, spans, sizeof spans));
    return mask;
}
static seo_attention_dropout dropout_of_kind(int kind) {
    seo_attention_dropout dropout = {.rate = kind == 2 ? 0.1f : 0.0f};
    if (kind < 2) return dropout;
    const int32_t place[SEO_PLACE_COUNT] = {1, 2 * POSITIONS, 0};
    dropout.place = seo_tensor_1d(NULL, SEO_DTYPE_I32, SEO_PLACE_COUNT);
    must(seo_device_alloc(g_dev, sizeof place, &dropout.place.data));
    must(seo_device_copy_in(g_dev, dropout.place.data, place, sizeof place));
    return dropout;
}

/* No bank conflict, forward and backward, in heads of `d` numbers; and, under the checker, no race
 * when the stages of shared memory are filled again and again. */
static void check_stages(int64_t d, int kind) {
    enum { T = POSITIONS };
    const seo_tensor out = tensor(SEO_DTYPE_BF16, 1, T, d), dout = tensor(SEO_DTYPE_BF16, 1, T, d);
    const seo_tensor qkv = tensor(SEO_DTYPE_BF16, 1, T, 3 * d);
    const seo_tensor dqkv = tensor(SEO_DTYPE_BF16, 1, T, 3 * d);
    const seo_tensor lse = tensor(SEO_DTYPE_F32, 1, 1, T), delta = tensor(SEO_DTYPE_F32, 1, 1, T);
    const seo_attention_fwd_args fwd = {.out = out,
                                        .lse = lse,
                                        .qkv = qkv,
                                        .head_count = 1,
                                        .scale = 0.125f,
                                        .mask = mask_of_kind(kind),
                                        .dropout = dropout_of_kind(kind)};
    const seo_attention_bwd_args bwd = {.dqkv = dqkv,
                                        .delta = delta,
                                        .dout = dout,
                                        .out = out,
                                        .qkv = qkv,
                                        .lse = lse,
                                        .head_count = 1,
                                        .scale = 0.125f,
                                        .mask = fwd.mask,
                                        .dropout = fwd.dropout};
    for (int i = 0; i < 2; i++) {
        simt_stats_clear();
        must(i ? seo_attention_bwd(g_dev, &bwd) : seo_attention_fwd(g_dev, &fwd));
        must(seo_device_sync(g_dev));
        assert_true(simt_stats_get().ldmatrix_tiles > 0);
        assert_int_equal(simt_stats_get().ldmatrix_conflicts, 0);
    }
    const seo_tensor all[] = {out, dout, qkv, dqkv, lse, delta, fwd.mask.spans, fwd.dropout.place};
    for (int i = 0; i < SEO_COUNT_OF(all); i++) seo_device_free(g_dev, all[i].data);
}

static void test_stages(void **state) {
    (void)state;
    static const int64_t widths[] = {20, 32, 50, 64, 80, 96, 100, 128};
    for (int i = 0; i < SEO_COUNT_OF(widths) * KINDS; i++) {
        check_stages(widths[i / KINDS], i % KINDS);
    }
}

/* One new position after many, so that each warp takes keys more than once. */
static void test_long_cache(void **state) {
    (void)state;
    enum { S = 300, D = 20 };
    for (int i = 0; i < 2; i++) {
        const seo_dtype s = i ? SEO_DTYPE_BF16 : SEO_DTYPE_F32;
        const seo_attention_cached_args a = {.out = tensor(s, 1, 1, D),
                                             .cache_k = tensor(s, 1, S, D),
                                             .cache_v = tensor(s, 1, S, D),
                                             .qkv = tensor(s, 1, 1, 3 * D),
                                             .cached = S - 1,
                                             .head_count = 1,
                                             .scale = 1.0f};
        must(seo_attention_cached(g_dev, &a));
        must(seo_device_sync(g_dev));
        const seo_tensor all[] = {a.out, a.cache_k, a.cache_v, a.qkv};
        for (int j = 0; j < SEO_COUNT_OF(all); j++) seo_device_free(g_dev, all[j].data);
    }
}

static void test_refusals(void **state) {
    (void)state;
    float unused;
    for (int i = 0; i < 4; i++) {
        const seo_dtype s = i % 2 ? SEO_DTYPE_BF16 : SEO_DTYPE_F32;
        const int64_t b = i < 2 ? 1 : 1 << 20, t = 1 << 20, c = i < 2 ? 136 : 1;
        const seo_attention_fwd_args a = {.out = seo_tensor_3d(&unused, s, b, t, c),
                                          .lse = seo_tensor_3d(&unused, SEO_DTYPE_F32, b, 1, t),
                                          .qkv = seo_tensor_3d(&unused, s, b, t, 3 * c),
                                          .head_count = 1,
                                          .scale = 1.0f};
        must_fail(seo_cuda_attention_fwd(g_dev, &a), SEO_ERR_UNSUPPORTED,
                  i < 2 ? "wider than 128, the most the CUDA kernels have; use more heads"
                        : "more than one launch can hold; use a smaller batch");
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_places), cmocka_unit_test(test_stages),
                                       cmocka_unit_test(test_long_cache),
                                       cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
