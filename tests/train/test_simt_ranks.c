/* Whole training steps on ranks with a GPU each, joined by NCCL: the real CUDA kernels on emulated
 * GPUs, and a library that stands in for NCCL (tests/simt/nccl.c); NVIDIA's own was never called.
 * What is compared: losses, norms and the parameters that passes read, as bytes. */
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>
#include <nccl.h>
#include <simt_options.h>

#include "base/check.h"
#include "kernels/cuda/nccl.h"
#include "parallel_fixture.h"
#include "tests/simt/device.h"
#include "tests/support/rank_processes.h"
#include "tiny_model.h"

enum { STEPS = 2 };

static const char *g_data;

typedef struct outcome {
    double losses[STEPS], norms[STEPS];
    uint64_t read_sum; /* of the parameters that passes read; 0 where no rank has all */
} outcome;

typedef struct course {
    int32_t ranks, zero;
    int64_t slots; /* 0: default mode */
    seo_dtype storage;
    outcome *out; /* memory that all processes share */
} course;

/* What a rank has open. */
typedef struct opened {
    seo_config config;
    seo_device *dev;
    seo_comm *comm;
    seo_dataset *dataset;
    seo_loader *loader;
    seo_model *model;
    seo_parallel *parallel;
    seo_optim *optim;
    seo_step *step;
} opened;

static void set_up_library(void) {
    void *library = dlopen(SEO_NCCL_DIR "/libnccl.so.99", RTLD_NOW | RTLD_LOCAL);
    void *symbol = library ? dlsym(library, "nccl_stand_in_get") : NULL;
    nccl_stand_in *(*get)(void) = NULL;
    memcpy(&get, &symbol, sizeof get);
    SEO_ASSERT(get != NULL);
    get()->launch = cudaLaunchHostFunc;
}

static seo_err open_device(opened *o, rank_process *self) {
    seo_err err = SEO_OK;
    const seo_simt_options options = {.capability = 80, .cuda.matmul = SEO_MATMUL_OWN};
    set_up_library();
    simt_set_schedule(self->rank % simt_schedule_count());
    SEO_TRY(seo_device_open_simt(&options, &o->dev));
    if (self->size == 1) goto done;
    SEO_TRY(seo_comm_open_backend(&seo_nccl_backend,
                                  &(seo_comm_nccl_options){.dev = o->dev,
                                                           .rank = self->rank,
                                                           .size = self->size,
                                                           .share = rank_process_share,
                                                           .share_context = self},
                                  &o->comm));
done:
    return err;
}

static seo_err open_data(opened *o, const rank_process *self) {
    const int64_t local = RANKS_SEQUENCES / self->size;
    const seo_err err = seo_dataset_open(g_data, "train", &o->dataset);
    if (err != SEO_OK) return err;
    return seo_loader_open(&(seo_loader_args){.datasets = &o->dataset,
                                              .dataset_count = 1,
                                              .seq_len = TINY_POSITIONS,
                                              .batch_sequences = RANKS_SEQUENCES,
                                              .first_sequence = self->rank * local,
                                              .local_count = local,
                                              .seed = 5,
                                              .shuffle = true,
                                              .prefetch = 2},
                           &o->loader);
}

static seo_err open_training(opened *o, const rank_process *self, const course *c) {
    seo_err err = SEO_OK;
    o->config.model = tiny_config(0.1);
    o->config.train = (seo_train_config){.steps = STEPS,
                                         .batch_tokens = RANKS_SEQUENCES * TINY_POSITIONS,
                                         .micro_batch = 2,
                                         .seed = 5};
    o->config.optimizer = (seo_optimizer_config){.lr = 1e-2,
                                                 .bias_correction = true,
                                                 .beta1 = 0.9,
                                                 .beta2 = 0.95,
                                                 .eps = 1e-8,
                                                 .weight_decay = 0.1,
                                                 .clip = 0.5};
    o->config.schedule =
        (seo_schedule_config){.name = SEO_SCHEDULE_LINEAR, .warmup_steps = 2, .decay_steps = STEPS};
    SEO_TRY(seo_model_open(
        &(seo_model_args){
            .dev = o->dev,
            .config = &o->config.model,
            .mode = SEO_MODEL_TRAIN,
            .batch = 2,
            .seed = 5,
            .storage = c->storage,
            .shard = {.rank = self->rank, .ranks = self->size, .zero = c->zero, .parts = c->slots}},
        &o->model));
    SEO_TRY(seo_parallel_open(
        &(seo_parallel_args){.model = o->model, .comm = o->comm, .slots = c->slots}, &o->parallel));
    SEO_TRY(seo_optim_open(o->model, &o->config.optimizer, &o->optim));
    seo_optim_join(o->optim, o->parallel);
    SEO_TRY(seo_step_open(&(seo_step_args){.config = &o->config,
                                           .model = o->model,
                                           .optim = o->optim,
                                           .parallel = o->parallel,
                                           .loader = o->loader},
                          &o->step));
    seo_device_seal(o->dev); /* a step may not allocate */
done:
    return err;
}

static void close_all(opened *o) {
    seo_step_close(o->step);
    seo_optim_close(o->optim);
    seo_parallel_close(o->parallel);
    seo_model_close(o->model);
    seo_loader_close(o->loader);
    seo_dataset_close(o->dataset);
    seo_comm_close(o->comm);
    seo_device_close(o->dev);
}

static seo_err sum_up(const opened *o, uint64_t *sum) {
    const seo_param_set *working = seo_model_working(o->model);
    const seo_param_set *read = working ? working : seo_model_weights(o->model);
    *sum = 0;
    if (read->layout != SEO_LAYOUT_WHOLE) return SEO_OK;
    const int64_t bytes = seo_tensor_bytes(&read->flat);
    unsigned char *host = malloc((size_t)bytes);
    SEO_ASSERT(host != NULL);
    const seo_err err = seo_device_copy_out(o->dev, host, read->flat.data, bytes);
    *sum = UINT64_C(1469598103934665603);
    for (int64_t i = 0; i < bytes; i++) *sum = (*sum ^ host[i]) * UINT64_C(1099511628211);
    free(host);
    return err;
}

static seo_err train_rank(rank_process *self, const void *context) {
    seo_err err = SEO_OK;
    const course *c = context;
    opened o = {0};
    SEO_TRY(open_device(&o, self));
    SEO_TRY(open_data(&o, self));
    SEO_TRY(open_training(&o, self, c));
    SEO_TRY(seo_parallel_refresh(o.parallel));
    outcome *out = &c->out[self->rank];
    for (int64_t i = 0; i < STEPS; i++) {
        seo_step_result result;
        SEO_TRY(seo_step_run(o.step, i + 1, i, &result));
        out->losses[i] = result.loss;
        out->norms[i] = result.grad_norm;
    }
    SEO_TRY(seo_parallel_settle(o.parallel));
    SEO_TRY(sum_up(&o, &out->read_sum));
done:
    close_all(&o);
    return err;
}

/* All ranks tell the same. */
static outcome train(course c) {
    const size_t bytes = RANK_PROCESSES_MAX * sizeof *c.out;
    c.out = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(c.out != MAP_FAILED);
    assert_int_equal(rank_processes_run(c.ranks, train_rank, &c), 0);
    const outcome first = c.out[0];
    for (int32_t r = 1; r < c.ranks; r++) assert_memory_equal(&c.out[r], &first, sizeof first);
    munmap(c.out, bytes);
    assert_true(first.norms[0] > 0 && first.losses[STEPS - 1] != first.losses[0]);
    return first;
}

static void assert_same(const outcome *a, const outcome *b) {
    assert_memory_equal(a->losses, b->losses, sizeof a->losses);
    assert_memory_equal(a->norms, b->norms, sizeof a->norms);
    if (a->read_sum != 0 && b->read_sum != 0) assert_true(a->read_sum == b->read_sum);
}

/* The same bits on 1, 2 and 4 GPUs, and others than those of the default mode. */
static void invariant(void **state) {
    (void)state;
    const outcome f32 = train((course){.ranks = 1, .slots = 4});
    const outcome two = train((course){.ranks = 2, .zero = 1, .slots = 4});
    const outcome usual = train((course){.ranks = 1});
    assert_same(&f32, &two);
    assert_memory_not_equal(&usual, &f32, sizeof f32);
    const outcome bf16 = train((course){.ranks = 1, .slots = 4, .storage = SEO_DTYPE_BF16});
    const outcome four =
        train((course){.ranks = 4, .zero = 1, .slots = 4, .storage = SEO_DTYPE_BF16});
    assert_same(&bf16, &four);
}

/* Levels that add up in the same order: 0 and 1, 2 and 3. */
static void levels(void **state) {
    (void)state;
    outcome of[4];
    for (int32_t zero = 0; zero <= 3; zero++) {
        of[zero] = train((course){.ranks = 2, .zero = zero, .storage = SEO_DTYPE_BF16});
    }
    assert_same(&of[0], &of[1]);
    assert_same(&of[2], &of[3]);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(invariant), cmocka_unit_test(levels)};
    g_data = ranks_data_make();
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    ranks_data_remove();
    return failed;
}
