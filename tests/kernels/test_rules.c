/* What the operators refuse, and the words they say it with. The arguments are valid but for the
 * one thing that each case breaks. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/kernels.h"
#include "tests/support/op_check.h"

enum { POOL = 4096 };

/* Tensors over one pool: rules look at addresses only to see that outputs and inputs are apart. */
typedef struct pool {
    float data[16][POOL];
} pool;

static pool g_pool;
static seo_device *g_dev;

static seo_tensor f32(int slot, int32_t rank, const int64_t *dims) {
    seo_tensor t = {.data = g_pool.data[slot], .dtype = SEO_DTYPE_F32, .rank = rank};
    for (int32_t i = 0; i < rank; i++) t.dims[i] = dims[i];
    return t;
}
#define T(slot, ...)                                                                               \
    f32(slot, (int32_t)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),                       \
        (int64_t[]){__VA_ARGS__})
static seo_tensor i32(seo_tensor t) {
    t.dtype = SEO_DTYPE_I32;
    return t;
}

/* Calls op with `valid` changed by `change`. */
#define REFUSES(op, valid, change, code, text)                                                     \
    do {                                                                                           \
        seo_##op##_args a = valid;                                                                 \
        change;                                                                                    \
        must_fail(seo_##op(g_dev, &a), code, text);                                                \
    } while (0)

static void layernorm(void **state) {
    (void)state;
    const seo_layernorm_fwd_args ok = {.out = T(0, 4, 768),
                                       .inp = T(1, 4, 768),
                                       .weight = T(2, 768),
                                       .bias = T(3, 768),
                                       .eps = 1e-5f};
    seo_layernorm_fwd_args folded = ok;
    folded.out = T(0, 2, 2, 768);
    must(seo_layernorm_fwd(g_dev, &folded));
    REFUSES(layernorm_fwd, ok, a.weight = T(2, 512), SEO_ERR_SHAPE,
            "layernorm_fwd: weight must be (C) = (768), is (512)");
    REFUSES(layernorm_fwd, ok, a.out = T(0, 3, 768), SEO_ERR_SHAPE,
            "layernorm_fwd: out must be (R, C) = (4, 768), is (3, 768)");
    REFUSES(layernorm_fwd, ok, a.add = T(4, 4, 768), SEO_ERR_SHAPE,
            "layernorm_fwd: sum must be given");
    REFUSES(layernorm_fwd, ok, a.inp = i32(a.inp), SEO_ERR_SHAPE,
            "layernorm_fwd: inp must be f32, is i32");
    REFUSES(layernorm_fwd, ok, a.inp.dims[0] = 0, SEO_ERR_SHAPE,
            "every dimension of inp must be 1 or more, is (0, 768)");
    REFUSES(layernorm_fwd, ok, a.inp.dims[0] = INT64_MAX / 2, SEO_ERR_SHAPE, "dimension of inp");
    REFUSES(layernorm_fwd, ok, a.inp.rank = 5, SEO_ERR_SHAPE, "inp must be given with rank 1 to 4");
    REFUSES(layernorm_fwd, ok, a.bias = T(3, 1, 768), SEO_ERR_SHAPE, "bias must be (C)");
    REFUSES(layernorm_fwd, ok, a.mean = T(4, 5), SEO_ERR_SHAPE, "mean must be (R) = (4), is (5)");
    REFUSES(layernorm_fwd, ok, a.rstd = T(4, 5), SEO_ERR_SHAPE, "rstd must be (R)");
    REFUSES(layernorm_fwd, ok, a.eps = 0, SEO_ERR_ARG, "layernorm_fwd: eps must be above 0, is 0");
    REFUSES(layernorm_fwd, ok, a.eps = NAN, SEO_ERR_ARG, "eps");
    const seo_layernorm_bwd_args back = {.dinp = T(0, 4, 8),
                                         .dweight = T(1, 8),
                                         .dbias = T(2, 8),
                                         .dout = T(3, 4, 8),
                                         .inp = T(4, 4, 8),
                                         .weight = T(5, 8),
                                         .mean = T(6, 4),
                                         .rstd = T(7, 4)};
    REFUSES(layernorm_bwd, back, a.dinp = T(0, 4, 7), SEO_ERR_SHAPE, "dinp must be (R, C)");
    REFUSES(layernorm_bwd, back, a.dout = T(3, 8, 4), SEO_ERR_SHAPE, "dout must be (R, C)");
    REFUSES(layernorm_bwd, back, a.weight = T(5, 9), SEO_ERR_SHAPE, "weight must be (C)");
    REFUSES(layernorm_bwd, back, a.dweight.rank = 0, SEO_ERR_SHAPE, "dweight must be given");
    REFUSES(layernorm_bwd, back, a.dbias = T(2, 2), SEO_ERR_SHAPE, "dbias must be (C)");
    REFUSES(layernorm_bwd, back, a.mean.rank = 0, SEO_ERR_SHAPE, "mean must be given");
    REFUSES(layernorm_bwd, back, a.rstd = T(7, 3), SEO_ERR_SHAPE, "rstd must be (R) = (4)");
}

static void embedding(void **state) {
    (void)state;
    const seo_embedding_fwd_args ok = {
        .out = T(0, 2, 3, 4), .ids = i32(T(1, 2, 3)), .wte = T(2, 7, 4), .wpe = T(3, 5, 4)};
    REFUSES(embedding_fwd, ok, a.ids = T(1, 2, 3), SEO_ERR_SHAPE, "ids must be i32, is f32");
    REFUSES(embedding_fwd, ok, a.ids = i32(T(1, 3, 2)), SEO_ERR_SHAPE,
            "ids must be (B, T) = (2, 3)");
    REFUSES(embedding_fwd, ok, a.out = T(0, 6, 4), SEO_ERR_SHAPE, "out must be (B, T, C)");
    REFUSES(embedding_fwd, ok, a.out.rank = 0, SEO_ERR_SHAPE, "out must be given");
    REFUSES(embedding_fwd, ok, a.wte = T(2, 7, 5), SEO_ERR_SHAPE, "wte must be (V, C)");
    REFUSES(embedding_fwd, ok, a.wpe = T(3, 5, 3), SEO_ERR_SHAPE, "wpe must be (positions, C)");
    REFUSES(embedding_fwd, ok, a.first_position = 3, SEO_ERR_ARG,
            "3 positions from 3 on are asked for, wpe has 5");
    REFUSES(embedding_fwd, ok, a.first_position = -1, SEO_ERR_ARG, "positions from -1");
    REFUSES(embedding_fwd, ok, a.first_position = INT64_MAX, SEO_ERR_ARG, "wpe has 5");
    const seo_embedding_bwd_args back = {
        .dwte = T(2, 7, 4), .dwpe = T(3, 5, 4), .dout = T(0, 2, 3, 4), .ids = i32(T(1, 2, 3))};
    REFUSES(embedding_bwd, back, a.dwpe = T(3, 2, 4), SEO_ERR_ARG, "dwpe has 2 positions");
    REFUSES(embedding_bwd, back, a.dwte = T(2, 7, 3), SEO_ERR_SHAPE, "dwte must be (V, C)");
    REFUSES(embedding_bwd, back, a.ids = i32(T(1, 6)), SEO_ERR_SHAPE, "ids must be (B, T)");
}

static void matmul(void **state) {
    (void)state;
    const seo_matmul_args nt = {.out = T(0, 2, 3), .a = T(1, 2, 5), .b = T(2, 3, 5)};
    REFUSES(matmul, nt, a.b = T(2, 5, 3), SEO_ERR_SHAPE, "b must be (N, K) = (3, 5), is (5, 3)");
    REFUSES(matmul, nt, a.a = T(1, 3, 5), SEO_ERR_SHAPE, "a must be (M, K) = (2, 5), is (3, 5)");
    REFUSES(matmul, nt, a.bias = T(3, 2), SEO_ERR_SHAPE, "bias must be (N) = (3), is (2)");
    REFUSES(matmul, nt, a.layout = SEO_MATMUL_NN, SEO_ERR_SHAPE, "b must be (K, N) = (5, 3)");
    REFUSES(matmul, nt, a.layout = SEO_MATMUL_TN, SEO_ERR_SHAPE, "a must be (K, M) = (2, 2)");
    REFUSES(matmul, nt, a.layout = (seo_matmul_layout)7, SEO_ERR_ARG, "layout 7");
    REFUSES(matmul, nt, a.a.rank = 0, SEO_ERR_SHAPE, "a must be given");
}

static void attention(void **state) {
    (void)state;
    const seo_attention_fwd_args ok = {.out = T(0, 2, 3, 8),
                                       .lse = T(1, 2, 2, 3),
                                       .qkv = T(2, 2, 3, 24),
                                       .head_count = 2,
                                       .scale = 0.5f};
    REFUSES(attention_fwd, ok, a.head_count = 3, SEO_ERR_ARG, "head_count must divide C = 8, is 3");
    REFUSES(attention_fwd, ok, a.head_count = 0, SEO_ERR_ARG, "head_count");
    REFUSES(attention_fwd, ok, a.scale = 0, SEO_ERR_ARG, "scale must be above 0");
    REFUSES(attention_fwd, ok, a.qkv = T(2, 2, 3, 8), SEO_ERR_SHAPE, "qkv must be (B, T, 3C)");
    REFUSES(attention_fwd, ok, a.lse = T(1, 2, 3, 2), SEO_ERR_SHAPE, "lse must be (B, H, T)");
    const seo_attention_bwd_args back = {.dqkv = T(3, 2, 3, 24),
                                         .delta = T(4, 2, 2, 3),
                                         .dout = T(5, 2, 3, 8),
                                         .out = ok.out,
                                         .qkv = ok.qkv,
                                         .lse = ok.lse,
                                         .head_count = 2,
                                         .scale = 0.5f};
    REFUSES(attention_bwd, back, a.delta.rank = 0, SEO_ERR_SHAPE, "delta must be given");
    REFUSES(attention_bwd, back, a.dqkv = T(3, 2, 3, 8), SEO_ERR_SHAPE, "dqkv must be");
    REFUSES(attention_bwd, back, a.dout = T(5, 3, 2, 8), SEO_ERR_SHAPE, "dout must be");
    REFUSES(attention_bwd, back, a.scale = INFINITY, SEO_ERR_ARG, "scale");
    const seo_attention_cached_args cached = {.out = T(0, 2, 3, 8),
                                              .cache_k = T(1, 2, 5, 8),
                                              .cache_v = T(3, 2, 5, 8),
                                              .qkv = T(2, 2, 3, 24),
                                              .cached = 2,
                                              .head_count = 2,
                                              .scale = 1};
    REFUSES(attention_cached, cached, a.cached = 3, SEO_ERR_ARG,
            "3 cached and 3 new positions do not fit in a cache of 5");
    REFUSES(attention_cached, cached, a.cached = -1, SEO_ERR_ARG, "-1 cached");
    REFUSES(attention_cached, cached, a.cache_v = T(3, 2, 4, 8), SEO_ERR_SHAPE, "cache_v must be");
}

static void elementwise(void **state) {
    (void)state;
    const seo_gelu_fwd_args gelu = {.out = T(0, 2, 3), .inp = T(1, 2, 3)};
    REFUSES(gelu_fwd, gelu, a.out = T(0, 6), SEO_ERR_SHAPE, "out must be shaped as inp = (2, 3)");
    REFUSES(gelu_fwd, gelu, a.kind = (seo_gelu_kind)2, SEO_ERR_ARG, "kind 2");
    const seo_gelu_bwd_args back = {.dinp = T(0, 6), .dout = T(0, 6), .inp = T(1, 6)};
    must(seo_gelu_bwd(g_dev, &back));
    REFUSES(gelu_bwd, back, a.dout = T(0, 5), SEO_ERR_SHAPE, "dout must be shaped as inp");
    const seo_add_args add = {.out = T(0, 6), .a = T(0, 6), .b = T(1, 6)};
    must(seo_add(g_dev, &add));
    REFUSES(add, add, a.b = T(1, 7), SEO_ERR_SHAPE, "b must be shaped as out = (6), is (7)");
    const seo_dropout_args drop = {.out = T(0, 6), .inp = T(0, 6), .rate = 0.5f};
    must(seo_dropout(g_dev, &drop));
    REFUSES(dropout, drop, a.rate = 1, SEO_ERR_ARG, "dropout: rate must be in [0, 1), is 1");
    REFUSES(dropout, drop, a.rate = -0.1f, SEO_ERR_ARG, "rate");
    REFUSES(dropout, drop, a.rate = NAN, SEO_ERR_ARG, "rate");
    REFUSES(dropout, drop, a.first_index = -1, SEO_ERR_ARG, "first_index");
    REFUSES(dropout, drop, a.first_index = INT64_MAX, SEO_ERR_ARG, "first_index");
    const seo_bias_bwd_args bias = {.dbias = T(0, 3), .dout = T(1, 2, 3)};
    REFUSES(bias_bwd, bias, a.dbias = T(0, 2), SEO_ERR_SHAPE, "dbias must be (N) = (3), is (2)");
}

static void training(void **state) {
    (void)state;
    const seo_cross_entropy_args loss = {.loss = T(0, 4),
                                         .logits = T(1, 4, 8),
                                         .targets = i32(T(2, 2, 2)),
                                         .vocab_size = 7,
                                         .ignore_index = -1};
    REFUSES(cross_entropy, loss, a.vocab_size = 9, SEO_ERR_ARG, "between 1 and P = 8, is 9");
    REFUSES(cross_entropy, loss, a.vocab_size = 0, SEO_ERR_ARG, "vocab_size");
    REFUSES(cross_entropy, loss, a.loss = T(0, 3), SEO_ERR_SHAPE, "loss must be (R) = (4)");
    REFUSES(cross_entropy, loss, a.targets = T(2, 4), SEO_ERR_SHAPE, "targets must be i32");
    REFUSES(cross_entropy, loss, a.grad_scale = NAN, SEO_ERR_ARG, "grad_scale");
    const seo_sum_squares_args sum = {.out = T(0, 1), .inp = T(1, 9)};
    REFUSES(sum_squares, sum, a.out = T(0, 2), SEO_ERR_SHAPE, "out must be (1) = (1), is (2)");
    const seo_clip_factor_args clip = {
        .norm = T(0, 1), .hyper = T(1, SEO_HYPER_COUNT), .sum_squares = T(2, 1)};
    REFUSES(clip_factor, clip, a.hyper = T(1, 3), SEO_ERR_SHAPE, "hyper must be (SEO_HYPER_COUNT)");
    REFUSES(clip_factor, clip, a.max_norm = -1, SEO_ERR_ARG, "max_norm");
    REFUSES(clip_factor, clip, a.norm.rank = 0, SEO_ERR_SHAPE, "norm must be given");
    const seo_adamw_args adamw = {.param = T(0, 2, 3),
                                  .m = T(1, 2, 3),
                                  .v = T(2, 2, 3),
                                  .grad = T(3, 2, 3),
                                  .hyper = T(4, SEO_HYPER_COUNT),
                                  .beta1 = 0.9f,
                                  .beta2 = 0.95f,
                                  .eps = 1e-8f};
    REFUSES(adamw, adamw, a.m = T(1, 6), SEO_ERR_SHAPE,
            "m must be shaped as param = (2, 3), is (6)");
    REFUSES(adamw, adamw, a.v.rank = 0, SEO_ERR_SHAPE, "v must be given");
    REFUSES(adamw, adamw, a.grad = i32(a.grad), SEO_ERR_SHAPE, "grad must be f32");
    REFUSES(adamw, adamw, a.beta1 = 1, SEO_ERR_ARG, "beta1");
    REFUSES(adamw, adamw, a.beta2 = -1, SEO_ERR_ARG, "beta2");
    REFUSES(adamw, adamw, a.eps = 0, SEO_ERR_ARG, "eps");
    REFUSES(adamw, adamw, a.weight_decay = NAN, SEO_ERR_ARG, "weight_decay");
}

static int open_once(void **state) {
    (void)state;
    g_dev = open_device(SEO_CPU_AUTO, 1);
    return g_dev ? 0 : 1;
}
static int close_once(void **state) {
    (void)state;
    seo_device_close(g_dev);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layernorm), cmocka_unit_test(embedding),   cmocka_unit_test(matmul),
        cmocka_unit_test(attention), cmocka_unit_test(elementwise), cmocka_unit_test(training),
    };
    return cmocka_run_group_tests(tests, open_once, close_once);
}
