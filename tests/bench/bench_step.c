/* Tokens a second of a whole training step of GPT-2 124M on the CPU: forward, backward, gradient
 * norm, AdamW.
 *
 * usage: bench_step [threads [sequences [positions]]]       0 threads: all; 4 sequences of 256
 * tokens
 *
 * Each figure is the best of several steps; all of them are printed, so that a busy neighbour
 * shows. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/text.h"
#include "kernels/kernels.h"
#include "train/models/model.h"
#include "train/optim.h"

enum { STEPS = 8 };

typedef struct bench {
    seo_device *dev;
    seo_model *model;
    seo_optim *optim;
    void *losses;
    int32_t *ids;
    int64_t batch, positions;
    double best_s;
} bench;

static const seo_model_config k_gpt2_124m = {.family = SEO_FAMILY_GPT2,
                                             .num_layers = 12,
                                             .num_heads = 12,
                                             .hidden_size = 768,
                                             .ffn_hidden_size = 3072,
                                             .seq_len = 1024,
                                             .vocab_size = 50257,
                                             .activation = SEO_GELU_TANH,
                                             .norm_eps = 1e-5};

static seo_err bench_open(bench *b, int32_t threads) {
    seo_err err = SEO_OK;
    static const seo_optimizer_config optimizer = {.lr = 6e-4,
                                                   .bias_correction = true,
                                                   .beta1 = 0.9,
                                                   .beta2 = 0.95,
                                                   .eps = 1e-8,
                                                   .weight_decay = 0.1,
                                                   .clip = 1.0};
    const int64_t rows = b->batch * b->positions, count = b->batch * (b->positions + 1);
    const double start = seo_clock_s();
    SEO_TRY(seo_device_open_cpu(&(seo_cpu_options){.threads = threads}, &b->dev));
    const seo_model_args args = {.dev = b->dev,
                                 .config = &k_gpt2_124m,
                                 .mode = SEO_MODEL_TRAIN,
                                 .batch = b->batch,
                                 .seed = 1};
    SEO_TRY(seo_model_open(&args, &b->model));
    SEO_TRY(seo_optim_open(b->model, &optimizer, &b->optim));
    SEO_TRY(seo_device_alloc(b->dev, rows * 4, &b->losses));
    b->ids = malloc((size_t)count * sizeof *b->ids);
    if (!b->ids) SEO_TRY(SEO_FAIL(SEO_ERR_MEMORY, "a batch of %lld ids", (long long)count));
    for (int64_t i = 0; i < count; i++) b->ids[i] = (int32_t)(i * 7919 % k_gpt2_124m.vocab_size);
    printf("GPT-2 124M, %lld sequences of %lld tokens, f32, %s\n", (long long)b->batch,
           (long long)b->positions, seo_device_name(b->dev));
    printf("  open model, set initial values   %8.3f s\n", seo_clock_s() - start);
done:
    return err;
}

static seo_err one_step(bench *b, int64_t number) {
    seo_err err = SEO_OK;
    const int64_t rows = b->batch * b->positions;
    double norm = 0;
    const double start = seo_clock_s();
    SEO_TRY(seo_model_zero_grads(b->model));
    SEO_TRY(seo_model_forward_backward(
        b->model, &(seo_pass_args){.ids = b->ids,
                                   .targets = b->ids + 1,
                                   .stride = b->positions + 1,
                                   .batch = b->batch,
                                   .positions = b->positions,
                                   .losses = seo_tensor_1d(b->losses, SEO_DTYPE_F32, rows),
                                   .grad_scale = 1.0f / (float)rows}));
    const double middle = seo_clock_s();
    SEO_TRY(seo_optim_norm(b->optim, &norm));
    SEO_TRY(seo_optim_update(b->optim, 6e-4, number));
    const double end = seo_clock_s();
    b->best_s = fmin(b->best_s, end - start);
    printf("  step %lld   forward and backward %8.3f s   norm and AdamW %8.3f s   %7.1f tokens/s\n",
           (long long)number, middle - start, end - middle, (double)rows / (end - start));
    fflush(stdout);
done:
    return err;
}

static seo_err run(bench *b, int32_t threads) {
    seo_err err = SEO_OK;
    SEO_TRY(bench_open(b, threads));
    for (int64_t i = 1; i <= STEPS; i++) SEO_TRY(one_step(b, i));
    /* Matrix products: 6 a parameter and token, the tied embedding counted once, plus causal
     * attention's two products forward and five backward over half of the square. */
    const double tokens = (double)(b->batch * b->positions),
                 width = (double)k_gpt2_124m.hidden_size;
    const double matrices = 12.0 * width * width * (double)k_gpt2_124m.num_layers +
                            width * (double)k_gpt2_124m.vocab_size;
    const double attention = 7.0 * (double)b->positions * width * (double)k_gpt2_124m.num_layers;
    const double flops = tokens * (6.0 * matrices + attention);
    printf("  best %.1f tokens/s, %.1f GFLOP/s over the whole step\n", tokens / b->best_s,
           flops / b->best_s * 1e-9);
done:
    return err;
}

int main(int argc, char **argv) {
    int64_t numbers[3] = {0, 4, 256};
    for (int i = 1; i < argc && i <= 3; i++) {
        if (!seo_parse_int(argv[i], &numbers[i - 1]) || numbers[i - 1] < (i > 1)) {
            fprintf(stderr, "usage: bench_step [threads [sequences [positions]]]\n");
            return 2;
        }
    }
    bench b = {.batch = numbers[1], .positions = numbers[2], .best_s = INFINITY};
    const seo_err err = run(&b, (int32_t)numbers[0]);
    if (err != SEO_OK) seo_log_failure();
    seo_optim_close(b.optim);
    seo_model_close(b.model);
    if (b.dev) seo_device_free(b.dev, b.losses);
    seo_device_close(b.dev);
    free(b.ids);
    return err == SEO_OK ? 0 : 1;
}
