/* The operators that are bound by memory. Their bytes are what the contract makes them read and
 * write, each tensor once; what a kernel reads twice counts against it. */
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/groups.h"
#include "tests/bench/bench_gpu.h"

#define F32 SEO_DTYPE_F32

enum { WIDTH = 768, WIDTH_FFN = 4 * WIDTH, VOCAB = 50257, VOCAB_PADDED = 50304 };
enum { PARAMETERS = 124475904, PARAMETERS_TRY = 1 << 20 }; /* GPT-2 124M, padded; on the CPU */

static seo_tensor flat(seo_tensor t) {
    return seo_tensor_1d(t.data, t.dtype, seo_tensor_count(&t));
}

static double bytes_of(seo_tensor t) {
    return (double)seo_tensor_bytes(&t);
}

/* ---- layer norm ---- */

static seo_err run_layernorm_fwd(seo_device *dev, const void *args) {
    return seo_layernorm_fwd(dev, args);
}
static seo_err run_layernorm_bwd(seo_device *dev, const void *args) {
    return seo_layernorm_bwd(dev, args);
}

static seo_err make_layernorm(gpu_bench *b, int64_t width, seo_layernorm_fwd_args *fwd,
                              seo_layernorm_bwd_args *bwd) {
    seo_err err = SEO_OK;
    const int64_t rows = b->batch * b->positions;
    const seo_dtype s = b->storage;
    seo_tensor out, sum, mean, rstd, inp, add, weight, bias, dinp, dout, sums[3];
    SEO_TRY(gpu_bench_zeros(b, s, rows, width, &out));
    SEO_TRY(gpu_bench_zeros(b, s, rows, width, &sum));
    SEO_TRY(gpu_bench_zeros(b, F32, rows, 1, &mean));
    SEO_TRY(gpu_bench_zeros(b, F32, rows, 1, &rstd));
    SEO_TRY(gpu_bench_random(b, s, rows, width, 1.0f, &inp));
    SEO_TRY(gpu_bench_random(b, s, rows, width, 1.0f, &add));
    SEO_TRY(gpu_bench_random(b, s, 1, width, 1.0f, &weight));
    SEO_TRY(gpu_bench_random(b, s, 1, width, 1.0f, &bias));
    SEO_TRY(gpu_bench_random(b, s, rows, width, 1.0f, &dinp));
    SEO_TRY(gpu_bench_random(b, s, rows, width, 1.0f, &dout));
    for (int i = 0; i < 3; i++) SEO_TRY(gpu_bench_zeros(b, F32, 1, width, &sums[i]));
    *fwd = (seo_layernorm_fwd_args){.out = out,
                                    .sum = sum,
                                    .mean = flat(mean),
                                    .rstd = flat(rstd),
                                    .inp = inp,
                                    .add = add,
                                    .weight = flat(weight),
                                    .bias = flat(bias),
                                    .eps = 1e-5f};
    *bwd = (seo_layernorm_bwd_args){.dinp = dinp,
                                    .dweight = flat(sums[0]),
                                    .dbias = flat(sums[1]),
                                    .dinp_sum = flat(sums[2]),
                                    .dout = dout,
                                    .inp = sum,
                                    .weight = flat(weight),
                                    .mean = flat(mean),
                                    .rstd = flat(rstd),
                                    .accumulate = true};
done:
    return err;
}

static void bench_layernorm(gpu_bench *b, int64_t width) {
    seo_layernorm_fwd_args fwd;
    seo_layernorm_bwd_args bwd;
    gpu_line line = {.op = "layernorm_fwd", .run = run_layernorm_fwd, .args = &fwd};
    snprintf(line.what, sizeof line.what, "%lldx%lld with residual",
             (long long)(b->batch * b->positions), (long long)width);
    if (make_layernorm(b, width, &fwd, &bwd) != SEO_OK) {
        gpu_bench_failed(b, line.op, line.what);
    } else {
        const double rows = bytes_of(fwd.out), numbers = 2.0 * bytes_of(fwd.mean);
        line.bytes = 4.0 * rows + numbers; /* inp, add; sum, out */
        gpu_bench_line(b, &line);
        line.op = "layernorm_bwd";
        line.run = run_layernorm_bwd;
        line.args = &bwd;
        line.bytes = 4.0 * rows + numbers; /* dout, inp, dinp; dinp */
        snprintf(line.what, sizeof line.what, "%lldx%lld +=", (long long)(b->batch * b->positions),
                 (long long)width);
        gpu_bench_line(b, &line);
    }
    gpu_bench_release(b);
}

/* ---- elementwise, and column sums ---- */

typedef struct element {
    seo_tensor out, a, b, sums;
} element;

static seo_err run_gelu_fwd(seo_device *dev, const void *args) {
    const element *e = args;
    return seo_gelu_fwd(dev, &(seo_gelu_fwd_args){.out = e->out, .inp = e->a});
}
static seo_err run_gelu_bwd(seo_device *dev, const void *args) {
    const element *e = args;
    return seo_gelu_bwd(dev, &(seo_gelu_bwd_args){.dinp = e->out, .dout = e->a, .inp = e->b});
}
static seo_err run_add(seo_device *dev, const void *args) {
    const element *e = args;
    return seo_add(dev, &(seo_add_args){.out = e->out, .a = e->a, .b = e->b});
}
static seo_err run_dropout(seo_device *dev, const void *args) {
    const element *e = args;
    return seo_dropout(dev, &(seo_dropout_args){.out = e->out,
                                                .inp = e->a,
                                                .key = {.seed = 1, .purpose = SEO_PURPOSE_DROPOUT},
                                                .rate = 0.1f});
}
static seo_err run_bias_bwd(seo_device *dev, const void *args) {
    const element *e = args;
    return seo_bias_bwd(dev, &(seo_bias_bwd_args){.dbias = e->sums, .dout = e->a});
}

static void bench_elementwise(gpu_bench *b) {
    static const struct {
        const char *op;
        seo_err (*run)(seo_device *, const void *);
        double passes; /* over a tensor */
    } calls[] = {{"gelu_fwd", run_gelu_fwd, 2},
                 {"gelu_bwd", run_gelu_bwd, 3},
                 {"add", run_add, 3},
                 {"dropout", run_dropout, 2},
                 {"bias_bwd", run_bias_bwd, 1}};
    const int64_t rows = b->batch * b->positions;
    element e;
    gpu_line line = {.op = "elementwise", .args = &e};
    snprintf(line.what, sizeof line.what, "%lldx%d", (long long)rows, WIDTH_FFN);
    if (gpu_bench_zeros(b, b->storage, rows, WIDTH_FFN, &e.out) != SEO_OK ||
        gpu_bench_random(b, b->storage, rows, WIDTH_FFN, 1.0f, &e.a) != SEO_OK ||
        gpu_bench_random(b, b->storage, rows, WIDTH_FFN, 1.0f, &e.b) != SEO_OK ||
        gpu_bench_zeros(b, F32, 1, WIDTH_FFN, &e.sums) != SEO_OK) {
        gpu_bench_failed(b, line.op, line.what);
    } else {
        e.sums = flat(e.sums);
        for (int64_t i = 0; i < SEO_COUNT_OF(calls); i++) {
            line.op = calls[i].op;
            line.run = calls[i].run;
            line.bytes = calls[i].passes * bytes_of(e.out);
            gpu_bench_line(b, &line);
        }
    }
    gpu_bench_release(b);
}

/* ---- embedding and loss ---- */

/* Ids as unequal as words in a text: the number u in (0, 1) gives V u^4, so that half of the tokens
 * are a sixteenth of the vocabulary. */
static seo_err make_ids(gpu_bench *b, int64_t count, int64_t *distinct, seo_tensor *ids,
                        seo_tensor *groups) {
    seo_err err = SEO_OK;
    int32_t *host = malloc((size_t)(count + seo_groups_size(count)) * sizeof *host);
    bool *met = calloc(VOCAB, sizeof *met);
    if (!host || !met) SEO_TRY(SEO_FAIL(SEO_ERR_MEMORY, "%lld ids", (long long)count));
    const seo_rng_key key = {.seed = 2, .purpose = SEO_PURPOSE_TEST};
    *distinct = 0;
    for (int64_t i = 0; i < count; i++) {
        const float u = seo_uniform_from(seo_rng_u32(key, (uint64_t)i));
        host[i] = (int32_t)((float)VOCAB * u * u * u * u);
        *distinct += !met[host[i]];
        met[host[i]] = true;
    }
    int32_t *grouped = host + count;
    seo_groups_build(host, count, grouped);
    SEO_TRY(gpu_bench_zeros(b, SEO_DTYPE_I32, 1, count, ids));
    SEO_TRY(gpu_bench_zeros(b, SEO_DTYPE_I32, 1, seo_groups_size(count), groups));
    SEO_TRY(seo_device_copy_in(b->own, ids->data, host, seo_tensor_bytes(ids)));
    SEO_TRY(seo_device_copy_in(b->own, groups->data, grouped, seo_tensor_bytes(groups)));
    SEO_TRY(seo_device_sync(b->own));
done:
    free(met);
    free(host);
    return err;
}

typedef struct embedding {
    seo_embedding_fwd_args fwd;
    seo_embedding_bwd_args bwd;
} embedding;

static seo_err run_embedding_fwd(seo_device *dev, const void *args) {
    const embedding *e = args;
    return seo_embedding_fwd(dev, &e->fwd);
}
static seo_err run_embedding_bwd(seo_device *dev, const void *args) {
    const embedding *e = args;
    return seo_embedding_bwd(dev, &e->bwd);
}

static seo_err make_embedding(gpu_bench *b, embedding *e, int64_t *distinct) {
    seo_err err = SEO_OK;
    const int64_t rows = b->batch * b->positions;
    seo_tensor ids, groups, out, dout;
    SEO_TRY(make_ids(b, rows, distinct, &ids, &groups));
    SEO_TRY(gpu_bench_zeros(b, b->storage, rows, WIDTH, &out));
    SEO_TRY(gpu_bench_random(b, b->storage, rows, WIDTH, 1.0f, &dout));
    SEO_TRY(gpu_bench_random(b, b->storage, VOCAB_PADDED, WIDTH, 0.02f, &e->fwd.wte));
    SEO_TRY(gpu_bench_random(b, b->storage, b->positions, WIDTH, 0.02f, &e->fwd.wpe));
    SEO_TRY(gpu_bench_zeros(b, F32, VOCAB_PADDED, WIDTH, &e->bwd.dwte));
    SEO_TRY(gpu_bench_zeros(b, F32, b->positions, WIDTH, &e->bwd.dwpe));
    e->fwd.ids = seo_tensor_2d(ids.data, SEO_DTYPE_I32, b->batch, b->positions);
    e->fwd.out = seo_tensor_3d(out.data, b->storage, b->batch, b->positions, WIDTH);
    e->bwd.ids = e->fwd.ids;
    e->bwd.dout = seo_tensor_3d(dout.data, b->storage, b->batch, b->positions, WIDTH);
    e->bwd.groups = flat(groups);
done:
    return err;
}

static void bench_embedding(gpu_bench *b) {
    embedding e = {0};
    int64_t distinct = 0;
    const int64_t rows = b->batch * b->positions;
    gpu_line line = {.op = "embedding_fwd", .run = run_embedding_fwd, .args = &e};
    snprintf(line.what, sizeof line.what, "%lldx%d", (long long)rows, WIDTH);
    if (make_embedding(b, &e, &distinct) != SEO_OK) {
        gpu_bench_failed(b, line.op, line.what);
    } else {
        const double row = (double)(WIDTH * seo_dtype_bytes(b->storage));
        const double tables = (double)(distinct + b->positions);
        line.bytes = row * ((double)rows + tables);
        gpu_bench_line(b, &line);
        line.op = "embedding_bwd";
        line.run = run_embedding_bwd;
        line.bytes = row * 2.0 * (double)rows + 8.0 * WIDTH * tables; /* dout twice: wte, wpe */
        gpu_bench_line(b, &line);
    }
    gpu_bench_release(b);
}

typedef struct loss {
    seo_cross_entropy_args args;
    seo_tensor logits; /* as they were */
} loss;

static seo_err run_cross_entropy(seo_device *dev, const void *args) {
    const loss *l = args;
    return seo_cross_entropy(dev, &l->args);
}
static seo_err put_logits_back(seo_device *dev, const void *args) {
    const loss *l = args;
    return seo_device_copy(dev, l->args.logits.data, l->logits.data, seo_tensor_bytes(&l->logits));
}

static void bench_cross_entropy(gpu_bench *b) {
    const int64_t rows = b->batch * b->positions;
    int64_t distinct = 0;
    seo_tensor ids, groups, losses;
    loss l = {
        .args = {
            .vocab_size = VOCAB, .ignore_index = -1, .grad_scale = 1e-3f, .with_gradient = true}};
    gpu_line line = {
        .op = "cross_entropy", .run = run_cross_entropy, .prepare = put_logits_back, .args = &l};
    snprintf(line.what, sizeof line.what, "%lldx%d of %d, with gradient", (long long)rows, VOCAB,
             VOCAB_PADDED);
    if (make_ids(b, rows, &distinct, &ids, &groups) != SEO_OK ||
        gpu_bench_zeros(b, F32, 1, rows, &losses) != SEO_OK ||
        gpu_bench_random(b, b->storage, rows, VOCAB_PADDED, 1.0f, &l.logits) != SEO_OK ||
        gpu_bench_zeros(b, b->storage, rows, VOCAB_PADDED, &l.args.logits) != SEO_OK) {
        gpu_bench_failed(b, line.op, line.what);
    } else {
        l.args.targets = flat(ids);
        l.args.loss = flat(losses);
        line.bytes = 2.0 * bytes_of(l.logits);
        gpu_bench_line(b, &line);
    }
    gpu_bench_release(b);
}

void gpu_bench_rows(gpu_bench *b) {
    bench_layernorm(b, 768);
    bench_layernorm(b, 1600);
    bench_elementwise(b);
    bench_embedding(b);
    bench_cross_entropy(b);
}

/* ---- over all parameters ---- */

static seo_err run_adamw(seo_device *dev, const void *args) {
    return seo_adamw(dev, args);
}
static seo_err run_sum_squares(seo_device *dev, const void *args) {
    return seo_sum_squares(dev, args);
}

static seo_err make_adamw(gpu_bench *b, int64_t count, seo_adamw_args *a, seo_tensor *sums) {
    seo_err err = SEO_OK;
    const float hyper[SEO_HYPER_COUNT] = {1e-4f, 1, 1, 1, 1};
    SEO_TRY(gpu_bench_random(b, F32, 1, count, 0.02f, &a->param));
    SEO_TRY(gpu_bench_random(b, F32, 1, count, 0.01f, &a->grad));
    SEO_TRY(gpu_bench_zeros(b, F32, 1, count, &a->m));
    SEO_TRY(gpu_bench_zeros(b, F32, 1, count, &a->v));
    if (seo_device_has_bf16(b->own)) {
        SEO_TRY(gpu_bench_zeros(b, SEO_DTYPE_BF16, 1, count, &a->working));
    }
    SEO_TRY(gpu_bench_zeros(b, F32, 1, SEO_HYPER_COUNT, &a->hyper));
    SEO_TRY(seo_device_copy_in(b->own, a->hyper.data, hyper, sizeof hyper));
    a->hyper = flat(a->hyper);
    SEO_TRY(gpu_bench_zeros(b, F32, 1, seo_div_up(count, SEO_SQUARES_UNIT), sums));
    *sums = flat(*sums);
    SEO_TRY(seo_device_sync(b->own));
done:
    return err;
}

void gpu_bench_training(gpu_bench *b) {
    const int64_t count = seo_device_is_cpu(b->own) ? PARAMETERS_TRY : PARAMETERS;
    seo_adamw_args adamw = {.beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .weight_decay = 0.1f};
    seo_sum_squares_args squares = {0};
    gpu_line line = {.op = "adamw", .run = run_adamw, .args = &adamw};
    snprintf(line.what, sizeof line.what, "%lld parameters%s", (long long)count,
             seo_device_has_bf16(b->own) ? ", f32 master and bf16 copy" : "");
    if (make_adamw(b, count, &adamw, &squares.out) != SEO_OK) {
        gpu_bench_failed(b, line.op, line.what);
    } else {
        /* param, m and v read and written, grad read; working written */
        line.bytes = 7.0 * bytes_of(adamw.param) + bytes_of(adamw.working);
        gpu_bench_line(b, &line);
        squares.inp = adamw.grad;
        line.op = "sum_squares";
        line.run = run_sum_squares;
        line.args = &squares;
        line.bytes = bytes_of(squares.inp);
        snprintf(line.what, sizeof line.what, "%lld parameters", (long long)count);
        gpu_bench_line(b, &line);
    }
    gpu_bench_release(b);
}
