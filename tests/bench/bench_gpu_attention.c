/* Self-attention from packed projections, forward and backward. */
#include <math.h>
#include <stdio.h>

#include "base/check.h"
#include "tests/bench/bench_gpu.h"

#define F32 SEO_DTYPE_F32

typedef struct shape {
    int64_t batch, heads, positions, head_size;
    bool causal;
} shape;

typedef struct both_ways {
    seo_attention_fwd_args fwd;
    seo_attention_bwd_args bwd;
} both_ways;

static seo_err run_fwd(seo_device *dev, const void *args) {
    const both_ways *both = args;
    return seo_attention_fwd(dev, &both->fwd);
}

static seo_err run_bwd(seo_device *dev, const void *args) {
    const both_ways *both = args;
    return seo_attention_bwd(dev, &both->bwd);
}

static seo_err make(gpu_bench *b, shape s, both_ways *out) {
    seo_err err = SEO_OK;
    const int64_t rows = s.batch * s.positions, c = s.heads * s.head_size;
    seo_tensor o, lse, qkv, dqkv, delta, dout;
    SEO_TRY(gpu_bench_zeros(b, b->storage, rows, c, &o));
    SEO_TRY(gpu_bench_zeros(b, F32, s.batch * s.heads, s.positions, &lse));
    SEO_TRY(gpu_bench_random(b, b->storage, rows, 3 * c, 1.0f, &qkv));
    SEO_TRY(gpu_bench_zeros(b, b->storage, rows, 3 * c, &dqkv));
    SEO_TRY(gpu_bench_zeros(b, F32, s.batch * s.heads, s.positions, &delta));
    SEO_TRY(gpu_bench_random(b, b->storage, rows, c, 1.0f, &dout));
    out->fwd = (seo_attention_fwd_args){
        .out = seo_tensor_3d(o.data, b->storage, s.batch, s.positions, c),
        .lse = seo_tensor_3d(lse.data, F32, s.batch, s.heads, s.positions),
        .qkv = seo_tensor_3d(qkv.data, b->storage, s.batch, s.positions, 3 * c),
        .head_count = s.heads,
        .scale = 1.0f / sqrtf((float)s.head_size),
        .mask.causal = s.causal};
    out->bwd = (seo_attention_bwd_args){
        .dqkv = seo_tensor_3d(dqkv.data, b->storage, s.batch, s.positions, 3 * c),
        .delta = seo_tensor_3d(delta.data, F32, s.batch, s.heads, s.positions),
        .dout = seo_tensor_3d(dout.data, b->storage, s.batch, s.positions, c),
        .out = out->fwd.out,
        .qkv = out->fwd.qkv,
        .lse = out->fwd.lse,
        .head_count = s.heads,
        .scale = out->fwd.scale,
        .mask.causal = s.causal};
done:
    return err;
}

/* The count that published figures use: 2 products of T x T x D forward and 5 backward, 2
 * operations a term, and with a causal mask half of them. */
static void bench_shape(gpu_bench *b, shape s) {
    both_ways both;
    gpu_line line = {.args = &both, .op = "attention_fwd", .run = run_fwd};
    const double square = (double)s.positions * (double)s.positions * (s.causal ? 0.5 : 1.0);
    const double product = 2.0 * square * (double)(s.batch * s.heads * s.head_size);
    snprintf(line.what, sizeof line.what, "B=%lld H=%lld T=%lld D=%lld%s", (long long)s.batch,
             (long long)s.heads, (long long)s.positions, (long long)s.head_size,
             s.causal ? " causal" : "");
    if (make(b, s, &both) != SEO_OK) {
        gpu_bench_failed(b, "attention", line.what);
        gpu_bench_release(b);
        return;
    }
    const double qkv = (double)seo_tensor_bytes(&both.fwd.qkv);
    const double out = (double)seo_tensor_bytes(&both.fwd.out);
    const double lse = (double)seo_tensor_bytes(&both.fwd.lse);
    line.flop = 2.0 * product;
    line.bytes = qkv + out + lse;
    gpu_bench_line(b, &line);
    line.op = "attention_bwd";
    line.run = run_bwd;
    line.flop = 5.0 * product;
    line.bytes = 2.0 * qkv + 2.0 * out + 2.0 * lse;
    gpu_bench_line(b, &line);
    gpu_bench_release(b);
}

void gpu_bench_attention(gpu_bench *b) {
    const int64_t t = b->positions;
    const shape shapes[] = {
        {b->batch, 12, t, 64, true},          {b->batch, 12, t, 64, false},
        {b->batch, 25, t, 64, true},          {b->batch / 2, 12, 2 * t, 64, true},
        {b->batch, 6, t, 128, true},          {b->batch / 2, 6, 2 * t, 128, true},
        {b->batch / 2, 16, 2 * t, 128, true},
    };
    for (int64_t i = 0; i < SEO_COUNT_OF(shapes); i++) {
        if (shapes[i].batch > 0) bench_shape(b, shapes[i]);
    }
}
