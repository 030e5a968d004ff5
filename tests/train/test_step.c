/* The training step: micro-batches of any size, numbers that are not finite, a signal on the way.
 */
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../support/dataset_fixture.h"
#include "base/check.h"
#include "tiny_model.h"
#include "train/schedule.h"
#include "train/signal.h"
#include "train/step.h"

enum { SEQUENCES = 6 };

typedef struct bench {
    fixture data;
    seo_dataset *dataset;
    seo_loader *loader;
    seo_config config;
    seo_device *dev;
    seo_model *model;
    seo_optim *optim;
    seo_step *step;
    bool vetoed;
} bench;

static void ok(seo_err err) {
    if (err != SEO_OK) fail_msg("%s", seo_err_detail());
}

/* Leaves every update out while `*context` is true. */
static bool veto(void *context, double loss) {
    assert_true(isfinite(loss));
    return *(const bool *)context;
}

static void open_loader(bench *b) {
    b->data = fixture_usual();
    b->data.vocab_size = TINY_VOCAB;
    b->data.documents = 40;
    fixture_make(&b->data);
    ok(seo_dataset_open(b->data.folder, "train", &b->dataset));
    ok(seo_loader_open(&(seo_loader_args){.datasets = &b->dataset,
                                          .dataset_count = 1,
                                          .seq_len = TINY_POSITIONS,
                                          .batch_sequences = SEQUENCES,
                                          .local_count = SEQUENCES,
                                          .seed = 5,
                                          .shuffle = true,
                                          .prefetch = 2},
                       &b->loader));
}

static bench *bench_open_with(int64_t micro_batch, bool bias_correction) {
    bench *b = calloc(1, sizeof *b);
    open_loader(b);
    b->config.model = tiny_config(0.1);
    b->config.train = (seo_train_config){.steps = 10,
                                         .batch_tokens = SEQUENCES * TINY_POSITIONS,
                                         .micro_batch = micro_batch,
                                         .seed = 5};
    b->config.optimizer = (seo_optimizer_config){.lr = 1e-2,
                                                 .bias_correction = bias_correction,
                                                 .beta1 = 0.9,
                                                 .beta2 = 0.95,
                                                 .eps = 1e-8,
                                                 .weight_decay = 0.1,
                                                 .clip = 1};
    b->config.schedule =
        (seo_schedule_config){.name = SEO_SCHEDULE_LINEAR, .warmup_steps = 4, .decay_steps = 10};
    ok(seo_device_open_cpu(&(seo_cpu_options){.threads = 1}, &b->dev));
    ok(seo_model_open(&(seo_model_args){.dev = b->dev,
                                        .config = &b->config.model,
                                        .mode = SEO_MODEL_TRAIN,
                                        .batch = micro_batch,
                                        .seed = 5},
                      &b->model));
    ok(seo_optim_open(b->model, &b->config.optimizer, &b->optim));
    ok(seo_step_open(&(seo_step_args){.config = &b->config,
                                      .model = b->model,
                                      .optim = b->optim,
                                      .loader = b->loader,
                                      .veto = veto,
                                      .context = &b->vetoed},
                     &b->step));
    seo_device_seal(b->dev); /* a step may not allocate */
    return b;
}

static bench *bench_open(int64_t micro_batch) {
    return bench_open_with(micro_batch, true);
}

static void bench_close(bench *b) {
    seo_step_close(b->step);
    seo_optim_close(b->optim);
    seo_model_close(b->model);
    seo_device_close(b->dev);
    seo_loader_close(b->loader);
    seo_dataset_close(b->dataset);
    fixture_remove(&b->data);
    free(b);
}

/* Micro-batches of 1, 4 (a remainder of 2) and 6: the same course up to rounding. */
static void any_micro_batch(void **state) {
    (void)state;
    const int64_t sizes[] = {6, 4, 1};
    double losses[3][5], norms[3][5];
    for (int64_t i = 0; i < SEO_COUNT_OF(sizes); i++) {
        bench *b = bench_open(sizes[i]);
        for (int64_t step = 1; step <= 5; step++) {
            seo_step_result r;
            ok(seo_step_run(b->step, step, step - 1, &r));
            assert_true(r.finite && !r.vetoed);
            assert_int_equal(r.sequence_count, SEQUENCES);
            assert_int_equal(r.word_count, 1);
            assert_true(r.words[0].stop == 0 && r.words[0].save == 0 && r.words[0].own_s > 0);
            double nats = 0;
            for (int64_t s = 0; s < SEQUENCES; s++) nats += r.sequence_nats[s];
            assert_true(fabs(nats / (SEQUENCES * TINY_POSITIONS) - r.loss) < 1e-12);
            assert_int_equal(r.tokens, SEQUENCES * TINY_POSITIONS);
            assert_true(r.lr == seo_schedule_lr(&b->config.schedule, 1e-2, 10, step));
            losses[i][step - 1] = r.loss;
            norms[i][step - 1] = r.grad_norm;
        }
        bench_close(b);
    }
    assert_true(fabs(losses[0][0] - log(TINY_VOCAB)) < 0.1);
    assert_true(losses[0][4] != losses[0][0]);
    for (int i = 1; i < 3; i++) {
        for (int step = 0; step < 5; step++) {
            assert_true(fabs(losses[i][step] - losses[0][step]) < 2e-4);
            assert_true(fabs(norms[i][step] - norms[0][step]) < 2e-3 * norms[0][step]);
        }
    }
}

static void *copy_of(const seo_param_set *set) {
    void *copy = malloc((size_t)set->bytes);
    memcpy(copy, set->flat.data, (size_t)set->bytes);
    return copy;
}

/* A veto leaves parameters and moments as they are, and the next step as it would have been. */
static void vetoed(void **state) {
    (void)state;
    bench *b = bench_open(4);
    seo_step_result r;
    ok(seo_step_run(b->step, 1, 0, &r));
    seo_param_set *sets[] = {seo_model_weights(b->model), seo_optim_moment1(b->optim),
                             seo_optim_moment2(b->optim)};
    void *before[3];
    for (int i = 0; i < 3; i++) before[i] = copy_of(sets[i]);
    b->vetoed = true;
    ok(seo_step_run(b->step, 2, 1, &r));
    assert_true(r.finite && r.vetoed);
    for (int i = 0; i < 3; i++) {
        assert_memory_equal(before[i], sets[i]->flat.data, (size_t)sets[i]->bytes);
        free(before[i]);
    }
    b->vetoed = false;
    ok(seo_step_run(b->step, 3, 1, &r));
    assert_true(r.finite && !r.vetoed);
    bench_close(b);
}

/* One weight is not a number: the step says so and leaves parameters and moments as they are. */
static void not_finite(void **state) {
    (void)state;
    bench *b = bench_open(4);
    seo_step_result r;
    ok(seo_step_run(b->step, 1, 0, &r));
    float *weight = seo_model_weights(b->model)->tensors[5].data, good = weight[3];
    weight[3] = NAN;
    seo_param_set *sets[] = {seo_model_weights(b->model), seo_optim_moment1(b->optim),
                             seo_optim_moment2(b->optim)};
    void *before[3];
    for (int i = 0; i < 3; i++) before[i] = copy_of(sets[i]);
    ok(seo_step_run(b->step, 2, 1, &r));
    assert_false(r.finite);
    for (int64_t s = 0; s < r.sequence_count; s++) assert_false(isfinite(r.sequence_nats[s]));
    assert_int_equal(r.batch.step, 1);
    for (int i = 0; i < 3; i++) {
        assert_memory_equal(before[i], sets[i]->flat.data, (size_t)sets[i]->bytes);
        free(before[i]);
    }
    weight[3] = good;
    ok(seo_step_run(b->step, 3, 1, &r)); /* the gradient of the bad step is gone */
    assert_true(r.finite);
    bench_close(b);
}

/* Without bias correction the first update moves an element by lr (1 - beta1) / sqrt(1 - beta2),
 * whatever its gradient, against lr with it: eps is nothing beside the gradients here. */
static void first_move(void **state) {
    (void)state;
    for (int corrected = 0; corrected < 2; corrected++) {
        bench *b = bench_open_with(4, corrected != 0);
        const int64_t row = seo_params_find(seo_model_table(b->model), "blocks.0.mlp.fc.bias");
        const float *bias = seo_model_weights(b->model)->tensors[row].data;
        seo_step_result r;
        double most = 0;
        ok(seo_step_run(b->step, 1, 0, &r)); /* begins at 0 and has no decay */
        for (int64_t i = 0; i < 4 * TINY_WIDTH; i++) most = fmax(most, fabs((double)bias[i]));
        const double wanted = r.lr * (corrected ? 1 : (1 - 0.9) / sqrt(1 - 0.95));
        assert_true(fabs(most - wanted) < 1e-4 * wanted);
        bench_close(b);
    }
}

static void stopped(void **state) {
    (void)state;
    bench *b = bench_open(2);
    seo_step_result r;
    ok(seo_step_run(b->step, 1, 0, &r));
    void *before = copy_of(seo_model_weights(b->model));
    seo_signal_catch();
    assert_int_equal(seo_signal_asked(), 0);
    raise(SIGUSR1);
    assert_int_equal(seo_signal_asked(), SIGUSR1);
    assert_string_equal(seo_signal_name(seo_signal_asked()), "SIGUSR1");
    assert_int_equal(seo_step_run(b->step, 2, 1, &r), SEO_ERR_STOPPED);
    const seo_param_set *weights = seo_model_weights(b->model);
    assert_memory_equal(before, weights->flat.data, (size_t)weights->bytes);
    seo_signal_release();
    assert_int_equal(seo_signal_asked(), 0);
    free(before);
    bench_close(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(any_micro_batch), cmocka_unit_test(vetoed),
                                       cmocka_unit_test(not_finite), cmocka_unit_test(first_move),
                                       cmocka_unit_test(stopped)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
