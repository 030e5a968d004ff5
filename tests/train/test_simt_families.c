/* Every family through the real CUDA kernels, run by the test layer, against the CPU backend:
 * losses and gradients of small models in f32 and bf16, with dropout and documents; their recorded
 * passes. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <simt_options.h>

#include "base/bf16.h"
#include "base/check.h"
#include "base/rng.h"
#include "tests/simt/device.h"
#include "tiny_model.h"

enum { LAYERS = 2, WIDTH = 64 };

/* Operators that one number passes through: eight a layer, the embedding and its norm, the head's
 * four and the loss; as many again on the way back. And the longest of their sums. */
enum { FORWARD_DEPTH = 8 * LAYERS + 8, DEPTH = 2 * FORWARD_DEPTH, LONGEST_SUM = 4 * WIDTH };

/* As in test_simt_model.c: roundings go up as often as down, so n of them come to at most four
 * times the root of n units; in f32 every term of a sum is rounded, in bf16 an operator's result.
 */
static double growth(seo_dtype storage, double depth) {
    return storage == SEO_DTYPE_F32 ? 4 * sqrt(depth * LONGEST_SUM) / (1 << 24)
                                    : 4 * sqrt(depth) / (1 << 9);
}

static void ok(seo_err err) {
    if (err != SEO_OK) fail_msg("%s", seo_err_detail());
}

static float noise(uint32_t salt, int64_t index) {
    const seo_rng_key key = {.seed = salt, .purpose = SEO_PURPOSE_TEST, .step = 2};
    return 2 * seo_uniform_from(seo_rng_u32(key, (uint64_t)index)) - 1;
}

/* Numbers that bf16 has, so that both sides start from the same ones. */
static void enliven(seo_model *model) {
    const seo_params *params = seo_model_table(model);
    for (int64_t row = 0; row < params->count; row++) {
        const seo_param *p = &params->items[row];
        const int64_t count = seo_param_elements(p);
        float *values = malloc((size_t)count * sizeof *values);
        for (int64_t i = 0; i < count; i++) {
            const float base = p->init == SEO_INIT_ONES ? 1.0f : 0.0f;
            values[i] =
                seo_f32_from_bf16(seo_bf16_from_f32(base + 0.15f * noise((uint32_t)row, i)));
        }
        ok(seo_model_set_param(model, p->name, values, count));
        free(values);
    }
}

static void side_open(tiny_model *t, bool gpu, const seo_model_config *config, seo_dtype storage) {
    if (gpu) {
        ok(seo_device_open_simt(NULL, &t->dev));
    } else {
        ok(seo_device_open_cpu(&(seo_cpu_options){.threads = 1}, &t->dev));
    }
    ok(seo_model_open(&(seo_model_args){.dev = t->dev,
                                        .config = config,
                                        .mode = SEO_MODEL_TRAIN,
                                        .batch = TINY_BATCH,
                                        .seed = 11,
                                        .storage = gpu ? storage : SEO_DTYPE_F32},
                      &t->model));
    enliven(t->model);
}

/* Every tensor's gradient: the distance as a part of its length. */
static double compare_grads(const tiny_model *cpu, const tiny_model *gpu, double bound) {
    const seo_params *params = seo_model_table(cpu->model);
    double most = 0;
    for (int64_t row = 0; row < params->count; row++) {
        const seo_param *p = &params->items[row];
        const int64_t count = seo_param_elements(p);
        float *a = malloc((size_t)count * sizeof *a), *b = malloc((size_t)count * sizeof *b);
        double apart = 0, length = 0;
        ok(seo_model_get_grad(cpu->model, p->name, a, count));
        ok(seo_model_get_grad(gpu->model, p->name, b, count));
        for (int64_t i = 0; i < count; i++) {
            const double d = (double)a[i] - (double)b[i];
            apart += d * d;
            length += (double)a[i] * (double)a[i];
        }
        if (!(length > 0) || !(sqrt(apart) <= bound * sqrt(length))) {
            fail_msg("%s: %.3g apart of %.3g, bound %.3g", p->name, sqrt(apart), sqrt(length),
                     bound);
        }
        most = fmax(most, sqrt(apart / length));
        free(a);
        free(b);
    }
    return most;
}

/* Two passes of half a batch, as a step has them: the second time they are recorded, the third time
 * replayed, with other masks each time. */
static double run_step(tiny_model *t, const tiny_inputs *in, int64_t step) {
    double loss = 0;
    ok(seo_model_zero_grads(t->model));
    for (int64_t first = 0; first < TINY_BATCH; first += 2) {
        seo_pass_args pass = tiny_inputs_pass(t, in, first, 2, TINY_BATCH);
        pass.step = step;
        ok(seo_model_forward_backward(t->model, &pass));
        loss += tiny_objective(t, 2, TINY_BATCH);
    }
    return loss;
}

typedef struct variant {
    double dropout;
    seo_dtype storage;
    int64_t steps;
} variant;

static void families(void **state) {
    const variant v = *(variant *)*state;
    for (int i = 0; i < TINY_CASES; i++) {
        seo_model_config config = tiny_case_config(&tiny_cases[i], v.dropout);
        tiny_model cpu, gpu;
        tiny_inputs in;
        config.num_layers = LAYERS;
        config.hidden_size = WIDTH;
        config.num_heads = 2;
        config.ffn_hidden_size = 4 * WIDTH;
        tiny_make_inputs(&config, 5, &in);
        side_open(&cpu, false, &config, v.storage);
        side_open(&gpu, true, &config, v.storage);
        seo_device_seal(gpu.dev);
        double want = 0, got = 0;
        for (int64_t step = 1; step <= v.steps; step++) {
            got = run_step(&gpu, &in, step);
            want = run_step(&cpu, &in, step);
        }
        /* A loss is the difference of two numbers as large as the largest logit, here below 8, and
         * a mean has the error of its addends over the root of their number. */
        const double numbers = (double)tiny_objective_numbers(&config, TINY_BATCH);
        const double loss_bound = growth(v.storage, FORWARD_DEPTH) * 2 * 8 / sqrt(numbers);
        if (!(fabs(got - want) <= loss_bound)) {
            fail_msg("%s: loss %.6f, on the CPU %.6f, bound %.2g", tiny_cases[i].name, got, want,
                     loss_bound);
        }
        const double bound = growth(v.storage, DEPTH), most = compare_grads(&cpu, &gpu, bound);
        print_message("%s: loss %.6f, %.2g apart (bound %.2g); gradients up to %.2g apart (bound "
                      "%.2g)\n",
                      tiny_cases[i].name, want, fabs(got - want), loss_bound, most, bound);
        tiny_close(&cpu);
        tiny_close(&gpu);
    }
}

/* Scales that change from step to step, more of them than there are records: the gradients are
 * those of the CPU, and of the scale of their own pass. */
static void changing_scales(void **state) {
    (void)state;
    const seo_model_config config = tiny_case_config(&tiny_cases[3], 0.25);
    const int64_t of_rows[] = {4, 8, 8, 4, 16, 16, 16, 8, 4, 4};
    tiny_model cpu, gpu;
    tiny_inputs in;
    tiny_make_inputs(&config, 5, &in);
    side_open(&cpu, false, &config, SEO_DTYPE_F32);
    side_open(&gpu, true, &config, SEO_DTYPE_F32);
    seo_device_seal(gpu.dev);
    for (int64_t step = 0; step < SEO_COUNT_OF(of_rows); step++) {
        tiny_model *sides[] = {&cpu, &gpu};
        for (int i = 0; i < 2; i++) {
            seo_pass_args pass = tiny_inputs_pass(sides[i], &in, 0, TINY_BATCH, of_rows[step]);
            pass.step = step;
            ok(seo_model_zero_grads(sides[i]->model));
            ok(seo_model_forward_backward(sides[i]->model, &pass));
        }
        (void)compare_grads(&cpu, &gpu, growth(SEO_DTYPE_F32, 3 * DEPTH / 2));
    }
    tiny_close(&cpu);
    tiny_close(&gpu);
}

int main(void) {
    /* What is queued runs only when somebody waits for it: a wait that is missing shows. */
    simt_options_get()->late_streams = 1;
    variant f32 = {.steps = 1}, bf16 = {.storage = SEO_DTYPE_BF16, .steps = 1};
    variant f32_masked = {.dropout = 0.25, .steps = 3};
    variant bf16_masked = {.dropout = 0.25, .storage = SEO_DTYPE_BF16, .steps = 3};
    const struct CMUnitTest tests[] = {cmocka_unit_test(changing_scales),
                                       cmocka_unit_test_prestate(families, &f32),
                                       cmocka_unit_test_prestate(families, &bf16),
                                       cmocka_unit_test_prestate(families, &f32_masked),
                                       cmocka_unit_test_prestate(families, &bf16_masked)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
