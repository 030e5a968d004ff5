/* What the operators refuse, and the words they say it with. The arguments are valid but for the
 * one thing that each case breaks. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/rules.h"
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

static seo_tensor bf16(seo_tensor t) {
    t.dtype = SEO_DTYPE_BF16;
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
    REFUSES(layernorm_bwd, back, a.dinp_sum = T(8, 9), SEO_ERR_SHAPE,
            "layernorm_bwd: dinp_sum must be (C) = (8), is (9)");
    REFUSES(layernorm_bwd, back, a.dinp_sum = bf16(T(8, 8)), SEO_ERR_SHAPE,
            "layernorm_bwd: dinp_sum must be f32, is bf16");
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
    const seo_tensor types = i32(T(4, 2, 3));
    REFUSES(embedding_fwd, ok, a.types = types, SEO_ERR_ARG, "types and wtt go together");
    REFUSES(embedding_fwd, ok, a.wtt = T(5, 2, 4), SEO_ERR_ARG, "types and wtt go together");
    REFUSES(embedding_fwd, ok, (a.types = types, a.wtt = T(5, 2, 5)), SEO_ERR_SHAPE,
            "wtt must be (K, C) = (2, 4), is (2, 5)");
    REFUSES(embedding_fwd, ok, (a.types = i32(T(4, 6)), a.wtt = T(5, 2, 4)), SEO_ERR_SHAPE,
            "types must be (B, T)");
    const seo_embedding_bwd_args back = {
        .dwte = T(2, 7, 4), .dwpe = T(3, 5, 4), .dout = T(0, 2, 3, 4), .ids = i32(T(1, 2, 3))};
    REFUSES(embedding_bwd, back, a.dwpe = T(3, 2, 4), SEO_ERR_ARG, "dwpe has 2 positions");
    REFUSES(embedding_bwd, back, a.first_position = 3, SEO_ERR_ARG,
            "dwpe has 5 positions, dout 3 from 3 on");
    REFUSES(embedding_bwd, back, a.first_position = -1, SEO_ERR_ARG, "from -1 on");
    REFUSES(embedding_bwd, back, a.types = types, SEO_ERR_ARG, "types and dwtt go together");
    REFUSES(embedding_bwd, back, (a.types = types, a.dwtt = bf16(T(5, 2, 4))), SEO_ERR_SHAPE,
            "dwtt must be f32, is bf16");
    REFUSES(embedding_bwd, back, a.dwte = T(2, 7, 3), SEO_ERR_SHAPE, "dwte must be (V, C)");
    REFUSES(embedding_bwd, back, a.ids = i32(T(1, 6)), SEO_ERR_SHAPE, "ids must be (B, T)");
    REFUSES(embedding_bwd, back, a.groups = i32(T(4, 6)), SEO_ERR_SHAPE,
            "embedding_bwd: groups must be (seo_groups_size(B*T)) = (40), is (6)");
    REFUSES(embedding_bwd, back, a.groups = T(4, 40), SEO_ERR_SHAPE, "groups must be i32, is f32");
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
    REFUSES(matmul, nt, a.pre = T(3, 2, 3), SEO_ERR_ARG, "pre is given without an epilogue");
    REFUSES(matmul, nt, a.out = bf16(a.out), SEO_ERR_SHAPE, "out must be f32, is bf16");
    seo_matmul_args gelu = nt;
    gelu.pre = T(3, 2, 3);
    gelu.epilogue = SEO_EPILOGUE_GELU;
    must(seo_matmul(g_dev, &gelu));
    REFUSES(matmul, gelu, a.pre.rank = 0, SEO_ERR_SHAPE, "pre must be given");
    REFUSES(matmul, gelu, a.pre = T(3, 3, 2), SEO_ERR_SHAPE,
            "matmul: pre must be (M, N) = (2, 3), is (3, 2)");
    REFUSES(matmul, gelu, a.pre = bf16(a.pre), SEO_ERR_SHAPE, "pre must be f32, is bf16");
    REFUSES(matmul, gelu, a.epilogue = (seo_matmul_epilogue)3, SEO_ERR_ARG, "no epilogue 3");
    REFUSES(matmul, gelu, a.gelu = (seo_gelu_kind)2, SEO_ERR_ARG, "there is no kind 2");
    REFUSES(matmul, gelu, a.accumulate = true, SEO_ERR_ARG,
            "an epilogue and accumulate do not go together");
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
    REFUSES(attention_fwd, ok, a.mask.spans = T(6, 2, 3, 2), SEO_ERR_SHAPE,
            "mask.spans must be i32, is f32");
    REFUSES(attention_fwd, ok, a.mask.spans = i32(T(6, 3, 2, 2)), SEO_ERR_SHAPE,
            "mask.spans must be (B, T, 2) = (2, 3, 2), is (3, 2, 2)");
    REFUSES(attention_fwd, ok, a.mask.window = 2, SEO_ERR_ARG,
            "mask.window is 2 without mask.causal: only causal attention has a window");
    REFUSES(attention_fwd, ok, a.mask.window = -1, SEO_ERR_ARG, "0 (none) or more, is -1");
    REFUSES(attention_fwd, ok, a.dropout.rate = 1, SEO_ERR_ARG,
            "dropout.rate must be in [0, 1), is 1");
    REFUSES(attention_fwd, ok, a.dropout.rate = NAN, SEO_ERR_ARG, "dropout.rate must be in [0, 1)");
    REFUSES(attention_fwd, ok, a.dropout.rate = 0.1f, SEO_ERR_SHAPE, "dropout.place must be given");
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
    REFUSES(attention_bwd, back, a.mask.spans = i32(T(6, 2, 3)), SEO_ERR_SHAPE, "mask.spans must");
    REFUSES(attention_bwd, back, a.mask.window = 1, SEO_ERR_ARG, "without mask.causal");
    REFUSES(attention_bwd, back, a.dropout.rate = -0.1f, SEO_ERR_ARG, "dropout.rate must be in");
    REFUSES(attention_bwd, back,
            (a.dropout.rate = 0.1f, a.dropout.place = i32(T(7, SEO_PLACE_COUNT + 1))),
            SEO_ERR_SHAPE, "dropout.place must be (SEO_PLACE_COUNT) = (3), is (4)");
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
    REFUSES(attention_cached, cached, a.window = -3, SEO_ERR_ARG, "0 (none) or more, is -3");
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
    REFUSES(dropout, drop, a.place = i32(T(1, 2)), SEO_ERR_SHAPE,
            "dropout: place must be (SEO_PLACE_COUNT) = (3), is (2)");
    REFUSES(dropout, drop, a.place = T(1, 3), SEO_ERR_SHAPE, "place must be i32, is f32");
    const seo_cast_args cast = {.out = bf16(T(0, 2, 3)), .inp = T(1, 2, 3)};
    must(seo_cast(g_dev, &cast));
    REFUSES(cast, cast, a.out = i32(a.out), SEO_ERR_ARG, "cast: only f32 and bf16 are cast");
    REFUSES(cast, cast, a.inp = i32(a.inp), SEO_ERR_ARG, "only f32 and bf16");
    REFUSES(cast, cast, a.out = bf16(T(0, 6)), SEO_ERR_SHAPE, "out must be shaped as inp = (2, 3)");
    const seo_normal_args normal = {.out = T(0, 6), .std = 1};
    REFUSES(normal, normal, a.std = -1, SEO_ERR_ARG, "normal: std must be 0 or more, is -1");
    REFUSES(normal, normal, a.std = NAN, SEO_ERR_ARG, "std");
    REFUSES(normal, normal, a.first_index = 2, SEO_ERR_ARG, "must be a multiple of 4, 0 or more");
    REFUSES(normal, normal, a.first_index = -4, SEO_ERR_ARG, "is -4");
    REFUSES(normal, normal, a.out = bf16(a.out), SEO_ERR_SHAPE, "out must be f32, is bf16");
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
    REFUSES(sum_squares, sum, a.out = T(0, 2), SEO_ERR_SHAPE, "out must be (units) = (1), is (2)");
    REFUSES(sum_squares, sum, a.inp = T(1, 3, 683), SEO_ERR_SHAPE, "out must be (units) = (2)");
    const seo_fold_args fold = {.out = T(0, 6), .inp = T(1, 4, 6)};
    REFUSES(fold, fold, a.out = T(0, 4), SEO_ERR_SHAPE, "out must be (n) = (6), is (4)");
    REFUSES(fold, fold, a.out = bf16(a.out), SEO_ERR_SHAPE, "out must be f32");
    REFUSES(fold, fold, a.inp = i32(a.inp), SEO_ERR_ARG, "only f32 and bf16");
    REFUSES(fold, fold, a.inp = T(1, 24), SEO_ERR_SHAPE, "inp must be (p, n)");
    REFUSES(fold, fold, a.order = (seo_sum_order)2, SEO_ERR_ARG, "there is no order 2");
    REFUSES(fold, fold, (a.inp = T(1, 3, 6), a.order = SEO_SUM_TREE), SEO_ERR_ARG,
            "a tree has a power of two of parts, up to 4096, not 3");
    REFUSES(fold, fold, (a.inp = T(1, 8192, 6), a.order = SEO_SUM_TREE), SEO_ERR_ARG, "not 8192");
    const seo_clip_factor_args clip = {
        .norm = T(0, 1), .hyper = T(1, SEO_HYPER_COUNT), .sum_squares = T(2, 1)};
    REFUSES(clip_factor, clip, a.hyper = T(1, 3), SEO_ERR_SHAPE, "hyper must be (SEO_HYPER_COUNT)");
    REFUSES(clip_factor, clip, a.max_norm = -1, SEO_ERR_ARG, "max_norm");
    REFUSES(clip_factor, clip, a.sum_squares = T(2, 2, 3), SEO_ERR_SHAPE,
            "sum_squares must be (units)");
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
    REFUSES(adamw, adamw, a.working = bf16(T(5, 6)), SEO_ERR_SHAPE,
            "working must be shaped as param = (2, 3), is (6)");
    REFUSES(adamw, adamw, a.working = T(5, 2, 3), SEO_ERR_SHAPE, "working must be bf16, is f32");
    REFUSES(adamw, adamw, a.working = bf16(T(5, 2, 3)), SEO_ERR_UNSUPPORTED,
            "adamw: working is bf16, and cpu plain computes in f32");
    REFUSES(adamw, adamw, a.ranges = T(5, 2), SEO_ERR_SHAPE, "ranges must be i32, is f32");
    REFUSES(adamw, adamw, a.ranges = i32(T(5, 2, 1)), SEO_ERR_SHAPE, "ranges must be (n)");
    REFUSES(adamw, adamw, a.first_index = 4, SEO_ERR_ARG,
            "adamw: first_index must be a multiple of 8, 0 or more, is 4");
    REFUSES(adamw, adamw, a.first_index = -8, SEO_ERR_ARG, "is -8");
}

static void rows_by_number(void **state) {
    (void)state;
    const seo_gather_rows_args out_of = {
        .out = T(0, 3, 4), .inp = T(1, 2, 5, 4), .index = i32(T(2, 3))};
    REFUSES(gather_rows, out_of, a.out = T(0, 4, 4), SEO_ERR_SHAPE, "out must be (N, C) = (3, 4)");
    REFUSES(gather_rows, out_of, a.out = T(0, 3, 5), SEO_ERR_SHAPE, "out must be (N, C) = (3, 4)");
    REFUSES(gather_rows, out_of, a.index = T(2, 3), SEO_ERR_SHAPE, "index must be i32, is f32");
    const seo_scatter_rows_args into = {
        .out = T(0, 2, 5, 4), .inp = T(1, 3, 4), .index = i32(T(2, 3))};
    REFUSES(scatter_rows, into, a.inp = T(1, 3, 5), SEO_ERR_SHAPE, "inp must be (N, C) = (3, 4)");
    REFUSES(scatter_rows, into, a.index = i32(T(2, 2)), SEO_ERR_SHAPE,
            "inp must be (N, C) = (2, 4), is (3, 4)");
}

static void distillation(void **state) {
    (void)state;
    const seo_distill_cross_entropy_args ok = {.loss = T(0, 3),
                                               .student = T(1, 3, 8),
                                               .teacher = T(2, 3, 6),
                                               .targets = i32(T(3, 3)),
                                               .vocab_size = 5,
                                               .temperature = 1};
    REFUSES(distill_cross_entropy, ok, a.teacher = T(2, 4, 6), SEO_ERR_SHAPE,
            "teacher must be (R, P') = (3, 6)");
    REFUSES(distill_cross_entropy, ok, a.targets = i32(T(3, 2)), SEO_ERR_SHAPE,
            "targets must be (R) = (3), is (2)");
    REFUSES(distill_cross_entropy, ok, a.hard = T(4, 2), SEO_ERR_SHAPE,
            "hard must be (R) = (3), is (2)");
    REFUSES(distill_cross_entropy, ok, a.counts = T(4, 3), SEO_ERR_SHAPE,
            "counts must be i32, is f32");
    REFUSES(distill_cross_entropy, ok, a.vocab_size = 7, SEO_ERR_ARG,
            "vocab_size must be between 1 and the fewer columns of student and teacher, 6, is 7");
    REFUSES(distill_cross_entropy, ok, a.vocab_size = 0, SEO_ERR_ARG, "is 0");
    REFUSES(distill_cross_entropy, ok, a.temperature = 0, SEO_ERR_ARG,
            "temperature must be above 0, is 0");
    REFUSES(distill_cross_entropy, ok, a.soft_weight = NAN, SEO_ERR_ARG,
            "the weights must be finite");
    REFUSES(distill_cross_entropy, ok, a.grad_scale = INFINITY, SEO_ERR_ARG,
            "grad_scale must be finite");
    const seo_cosine_loss_args cosine = {
        .loss = T(0, 3), .da = T(1, 3, 4), .a = T(2, 3, 4), .b = T(3, 3, 4)};
    REFUSES(cosine_loss, cosine, a.b = T(3, 3, 5), SEO_ERR_SHAPE, "b must be (R, C) = (3, 4)");
    REFUSES(cosine_loss, cosine, a.da = T(1, 4, 3), SEO_ERR_SHAPE, "da must be (R, C)");
    REFUSES(cosine_loss, cosine, a.loss = T(0, 4), SEO_ERR_SHAPE, "loss must be (R) = (3)");
    REFUSES(cosine_loss, cosine, a.counts = i32(T(4, 4)), SEO_ERR_SHAPE, "counts must be (R)");
    REFUSES(cosine_loss, cosine, a.weight = NAN, SEO_ERR_ARG, "weight and grad_scale must be");
    const seo_tanh_bwd_args tanh = {.dinp = T(0, 6), .dout = T(1, 6), .out = T(2, 6)};
    REFUSES(tanh_bwd, tanh, a.dout = T(1, 5), SEO_ERR_SHAPE,
            "tanh_bwd: dout must be shaped as out");
    REFUSES(tanh_bwd, tanh, a.dinp = T(0, 2, 3), SEO_ERR_SHAPE, "dinp must be shaped as out");
    const seo_tanh_fwd_args forward = {.out = T(0, 6), .inp = T(1, 6)};
    REFUSES(tanh_fwd, forward, a.out = T(0, 7), SEO_ERR_SHAPE, "out must be shaped as inp");
}

/* The tensor that gives a call its storage type decides whether the CPU can do it at all. */
static void bf16_where_there_is_none(void **state) {
    (void)state;
    assert_false(seo_device_has_bf16(g_dev));
    const seo_dtype f = SEO_DTYPE_BF16;
    float x[8] = {0};
    const seo_tensor t = seo_tensor_1d(x, f, 8), cube = seo_tensor_3d(x, f, 2, 2, 2);
#define UNSUPPORTED(op, tensor, ...)                                                               \
    must_fail(seo_##op(g_dev, &(seo_##op##_args){__VA_ARGS__}), SEO_ERR_UNSUPPORTED,               \
              #op ": " #tensor " is bf16, and cpu plain computes in f32")
    UNSUPPORTED(embedding_fwd, out, .out = cube);
    UNSUPPORTED(embedding_bwd, dout, .dout = cube);
    UNSUPPORTED(layernorm_fwd, inp, .inp = t);
    UNSUPPORTED(layernorm_bwd, inp, .inp = t);
    UNSUPPORTED(matmul, a, .a = t);
    UNSUPPORTED(bias_bwd, dout, .dout = t);
    UNSUPPORTED(attention_fwd, out, .out = cube);
    UNSUPPORTED(attention_bwd, out, .out = cube);
    UNSUPPORTED(attention_cached, out, .out = cube);
    UNSUPPORTED(gelu_fwd, inp, .inp = t);
    UNSUPPORTED(gelu_bwd, inp, .inp = t);
    UNSUPPORTED(tanh_fwd, inp, .inp = t);
    UNSUPPORTED(tanh_bwd, out, .out = t);
    UNSUPPORTED(gather_rows, inp, .inp = t);
    UNSUPPORTED(scatter_rows, out, .out = t);
    UNSUPPORTED(distill_cross_entropy, student, .student = t);
    UNSUPPORTED(cosine_loss, a, .a = t);
    UNSUPPORTED(add, out, .out = t);
    UNSUPPORTED(dropout, inp, .inp = t);
    UNSUPPORTED(cross_entropy, logits, .logits = t);
    UNSUPPORTED(adamw, param, .param = t);
#undef UNSUPPORTED
}

/* Where there is bf16, all S tensors of a call have it or none has; what is f32 stays f32. */
static void bf16_in_all_or_none(void **state) {
    (void)state;
    const seo_backend gpu = {.name = "a backend with bf16", .bf16 = true};
    seo_layernorm_fwd_args norm = {.out = bf16(T(0, 4, 8)),
                                   .inp = bf16(T(1, 4, 8)),
                                   .weight = bf16(T(2, 8)),
                                   .mean = T(3, 4),
                                   .eps = 1e-5f};
    must(seo_rules_layernorm_fwd(&gpu, &norm));
    norm.mean = bf16(T(3, 4));
    must_fail(seo_rules_layernorm_fwd(&gpu, &norm), SEO_ERR_SHAPE, "mean must be f32, is bf16");
    norm.mean = T(3, 4);
    norm.weight = T(2, 8);
    must_fail(seo_rules_layernorm_fwd(&gpu, &norm), SEO_ERR_SHAPE, "weight must be bf16, is f32");
    seo_matmul_args product = {
        .out = bf16(T(0, 2, 3)), .a = bf16(T(1, 2, 5)), .b = bf16(T(2, 3, 5))};
    must(seo_rules_matmul(&gpu, &product));
    product.accumulate = true;
    must_fail(seo_rules_matmul(&gpu, &product), SEO_ERR_SHAPE, "out must be f32, is bf16");
    product.out = T(0, 2, 3);
    must(seo_rules_matmul(&gpu, &product));
    product.b = T(2, 3, 5);
    must_fail(seo_rules_matmul(&gpu, &product), SEO_ERR_SHAPE, "b must be bf16, is f32");
    seo_adamw_args adamw = {.param = bf16(T(0, 6)),
                            .m = T(1, 6),
                            .v = T(2, 6),
                            .grad = T(3, 6),
                            .hyper = T(4, SEO_HYPER_COUNT),
                            .eps = 1};
    must(seo_rules_adamw(&gpu, &adamw));
    adamw.working = bf16(T(5, 6));
    must_fail(seo_rules_adamw(&gpu, &adamw), SEO_ERR_ARG, "a bf16 param is its own working copy");
    adamw.working = (seo_tensor){0};
    adamw.grad = bf16(T(3, 6));
    must_fail(seo_rules_adamw(&gpu, &adamw), SEO_ERR_SHAPE, "grad must be f32, is bf16");
    seo_bias_bwd_args bias = {.dbias = T(0, 3), .dout = bf16(T(1, 2, 3))};
    must(seo_rules_bias_bwd(&gpu, &bias));
    bias.dbias = bf16(T(0, 3));
    must_fail(seo_rules_bias_bwd(&gpu, &bias), SEO_ERR_SHAPE, "dbias must be f32, is bf16");
}

static int open_once(void **state) {
    (void)state;
    g_dev = open_device(SEO_CPU_PLAIN, 1);
    return g_dev ? 0 : 1;
}
static int close_once(void **state) {
    (void)state;
    seo_device_close(g_dev);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layernorm),
        cmocka_unit_test(embedding),
        cmocka_unit_test(matmul),
        cmocka_unit_test(attention),
        cmocka_unit_test(elementwise),
        cmocka_unit_test(training),
        cmocka_unit_test(rows_by_number),
        cmocka_unit_test(distillation),
        cmocka_unit_test(bf16_where_there_is_none),
        cmocka_unit_test(bf16_in_all_or_none),
    };
    return cmocka_run_group_tests(tests, open_once, close_once);
}
