/* How parameters lie in memory: a padded vocabulary, which of them decay, and what is said when
 * there is too little of it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "odd_device.h"
#include "tiny_model.h"

enum { ROW_TOKENS = TINY_POSITIONS + 1, MULTIPLE = 64 };

static void ok(seo_err err) {
    if (err != SEO_OK) fail_msg("%s", seo_err_detail());
}

static const seo_optimizer_config k_adamw = {.lr = 1e-2,
                                             .bias_correction = true,
                                             .beta1 = 0.9,
                                             .beta2 = 0.99,
                                             .eps = 1e-8,
                                             .weight_decay = 0.5,
                                             .clip = 1};

/* Sets of every type have the same offsets in elements, and each tensor begins a unit. */
static void offsets(void **state) {
    (void)state;
    const seo_model_config config = tiny_config(0);
    seo_params params;
    seo_shards shards;
    seo_param_set f32, bf16;
    ok(seo_model_params(&config, &params));
    ok(seo_shards_open(&params, &(seo_shard_wish){0}, &shards));
    ok(seo_param_set_plan(&f32, &params, &shards, SEO_LAYOUT_WHOLE, SEO_DTYPE_F32, "f32"));
    ok(seo_param_set_plan(&bf16, &params, &shards, SEO_LAYOUT_WHOLE, SEO_DTYPE_BF16, "bf16"));
    assert_int_equal(f32.bytes, 2 * bf16.bytes);
    seo_device *dev = odd_device_open((odd_options){.bf16 = true});
    ok(seo_param_set_bind(&f32, dev));
    ok(seo_param_set_bind(&bf16, dev));
    for (int64_t row = 0; row < params.count; row++) {
        const int64_t at = (float *)f32.tensors[row].data - (float *)f32.flat.data;
        assert_int_equal(at, (uint16_t *)bf16.tensors[row].data - (uint16_t *)bf16.flat.data);
        assert_int_equal(at, seo_shards_row_at(&shards, SEO_LAYOUT_WHOLE, row));
        assert_int_equal(at % SEO_ADAMW_UNIT, 0);
    }
    seo_param_set_free(&f32);
    seo_param_set_free(&bf16);
    seo_device_close(dev);
    seo_shards_free(&shards);
    seo_params_free(&params);
}

/* Without a gradient a step is the decay alone: exactly that of the matrices, and nothing else. */
static void decay(void **state) {
    (void)state;
    const seo_model_config config = tiny_config(0);
    const double lr = 0.1;
    const float keep = (float)(1.0 - (double)(float)lr * (double)(float)k_adamw.weight_decay);
    tiny_model t;
    seo_optim *optim = NULL;
    double norm = -1;
    tiny_open(&t, &config, SEO_MODEL_TRAIN, 1);
    ok(seo_optim_open(t.model, &k_adamw, &optim));
    const seo_params *params = seo_model_table(t.model);
    const seo_param_set *weights = seo_model_weights(t.model);
    float *values = weights->flat.data;
    for (int64_t row = 0; row < params->count; row++) {
        float *value = weights->tensors[row].data;
        for (int64_t i = 0; i < seo_tensor_count(&weights->tensors[row]); i++) {
            value[i] = 1.0f + (float)(row * 31 + i % 97) / 1024;
        }
    }
    float *before = malloc((size_t)weights->bytes);
    memcpy(before, values, (size_t)weights->bytes);
    ok(seo_model_zero_grads(t.model));
    ok(seo_optim_norm(optim, &norm));
    assert_true(norm == 0);
    ok(seo_optim_update(optim, lr, 1));
    for (int64_t row = 0; row < params->count; row++) {
        const float *value = weights->tensors[row].data, *was = before + (value - values);
        for (int64_t i = 0; i < seo_tensor_count(&weights->tensors[row]); i++) {
            const float want = params->items[row].decay ? was[i] * keep : was[i];
            if (value[i] != want) {
                fail_msg("%s[%lld]: %.9g, not %.9g", params->items[row].name, (long long)i,
                         (double)value[i], (double)want);
            }
        }
    }
    free(before);
    seo_optim_close(optim);
    tiny_close(&t);
}

/* A model on a device that pads rows. */
static void open_padded(tiny_model *t, const seo_model_config *config) {
    t->dev = odd_device_open((odd_options){.row_multiple = MULTIPLE});
    ok(seo_model_open(&(seo_model_args){.dev = t->dev,
                                        .config = config,
                                        .mode = SEO_MODEL_TRAIN,
                                        .batch = TINY_BATCH,
                                        .seed = 11},
                      &t->model));
    t->losses = seo_model_losses(t->model);
}

static void assert_near(const float *a, const float *b, int64_t count, const char *name) {
    double largest = 0, apart = 0;
    for (int64_t i = 0; i < count; i++) {
        largest = fmax(largest, fabs((double)a[i]));
        apart = fmax(apart, fabs((double)a[i] - (double)b[i]));
    }
    /* Sums of at most 64 numbers of f32, through three blocks. */
    if (!(apart <= largest * 3 * 64 * 1.2e-7)) fail_msg("%s: %g apart", name, apart);
}

/* What is padded stays 0 behind its end: the token embedding, and an encoder's bias of logits. */
static void check_tails(const tiny_model *t) {
    const seo_params *params = seo_model_table(t->model);
    for (int64_t row = 0; row < params->count; row++) {
        const seo_param *p = &params->items[row];
        const float *values = seo_model_weights(t->model)->tensors[row].data;
        if (p->memory_rows > 0) assert_int_equal(p->memory_rows, MULTIPLE);
        for (int64_t i = seo_param_elements(p); i < seo_param_memory_elements(p); i++) {
            assert_true(values[i] == 0);
        }
    }
}

static void check_padded_logits(const tiny_model *plain, const tiny_model *padded) {
    float logits[2][2 * TINY_VOCAB + 1] = {{0}};
    logits[1][2 * TINY_VOCAB] = 12345;
    ok(seo_model_logits(plain->model, 3, 2, logits[0]));
    ok(seo_model_logits(padded->model, 3, 2, logits[1]));
    assert_near(logits[0], logits[1], 2 * TINY_VOCAB, "logits");
    assert_true(logits[1][2 * TINY_VOCAB] == 12345);
}

static void check_padding(const seo_model_config *config) {
    tiny_model plain, padded;
    tiny_inputs in;
    seo_optim *optim = NULL;
    double norm = 0;
    tiny_make_inputs(config, 8, &in);
    tiny_open(&plain, config, SEO_MODEL_TRAIN, 1);
    open_padded(&padded, config);
    const seo_params *params = seo_model_table(padded.model);
    assert_int_equal(seo_params_elements(params),
                     seo_params_elements(seo_model_table(plain.model)));
    const int64_t wte = seo_params_find(params, "wte");
    assert_int_equal(params->items[wte].memory_rows, MULTIPLE);
    const seo_pass_args one = tiny_inputs_pass(&plain, &in, 0, TINY_BATCH, TINY_BATCH);
    const seo_pass_args two = tiny_inputs_pass(&padded, &in, 0, TINY_BATCH, TINY_BATCH);
    ok(seo_model_forward_backward(plain.model, &one));
    ok(seo_model_forward_backward(padded.model, &two));
    assert_true(fabs(tiny_objective(&plain, TINY_BATCH, TINY_BATCH) -
                     tiny_objective(&padded, TINY_BATCH, TINY_BATCH)) < 2e-6);
    const seo_param_set *a = seo_model_grads(plain.model), *b = seo_model_grads(padded.model);
    for (int64_t row = 0; row < params->count; row++) {
        assert_near(a->tensors[row].data, b->tensors[row].data, seo_tensor_count(&a->tensors[row]),
                    params->items[row].name);
    }
    if (seo_model_loss_shape(config).rows > 0) check_padded_logits(&plain, &padded);
    ok(seo_optim_open(padded.model, &k_adamw, &optim));
    for (int64_t step = 1; step <= 3; step++) {
        ok(seo_model_zero_grads(padded.model));
        ok(seo_model_forward_backward(padded.model, &two));
        ok(seo_optim_norm(optim, &norm));
        ok(seo_optim_update(optim, 1e-2, step));
    }
    check_tails(&padded);
    seo_optim_close(optim);
    tiny_close(&plain);
    tiny_close(&padded);
}

/* Gradients of a padded vocabulary are those of a plain one, padding stays 0 through steps with
 * decay, and nothing outside sees it. */
static void padding(void **state) {
    (void)state;
    for (int i = 0; i < TINY_CASES; i++) {
        const seo_model_config config = tiny_case_config(&tiny_cases[i], 0);
        check_padding(&config);
    }
}

static seo_err open_limited(int64_t memory_bytes, bool gpu, int64_t batch, seo_model_mode mode) {
    const seo_model_config config = tiny_config(0);
    seo_model *model = NULL;
    seo_device *dev = odd_device_open((odd_options){.memory_bytes = memory_bytes, .gpu = gpu});
    const seo_err err = seo_model_open(
        &(seo_model_args){.dev = dev, .config = &config, .mode = mode, .batch = batch, .seed = 1},
        &model);
    assert_int_equal(model != NULL, err == SEO_OK);
    if (err != SEO_OK) assert_int_equal(seo_device_bytes(dev), 0); /* all given back */
    seo_model_close(model);
    seo_device_close(dev);
    return err;
}

/* The same for training on a GPU as one of many ranks, or with recomputation. */
static seo_err open_shared(int64_t memory_bytes, int64_t batch, seo_recompute recompute,
                           seo_shard_wish shard) {
    const seo_model_config config = tiny_config(0);
    seo_model *model = NULL;
    seo_device *dev = odd_device_open((odd_options){.memory_bytes = memory_bytes, .gpu = true});
    const seo_err err = seo_model_open(&(seo_model_args){.dev = dev,
                                                         .config = &config,
                                                         .mode = SEO_MODEL_TRAIN,
                                                         .batch = batch,
                                                         .seed = 1,
                                                         .recompute = recompute,
                                                         .shard = shard},
                                       &model);
    seo_model_close(model);
    seo_device_close(dev);
    return err;
}

/* What a model of `batch` takes in all, moments included. */
static int64_t bytes_of(int64_t batch) {
    const seo_model_config config = tiny_config(0);
    seo_model *model = NULL;
    seo_device *dev = odd_device_open((odd_options){.gpu = true});
    ok(seo_model_open(
        &(seo_model_args){
            .dev = dev, .config = &config, .mode = SEO_MODEL_TRAIN, .batch = batch, .seed = 1},
        &model));
    const int64_t bytes = seo_device_bytes(dev) + 2 * seo_model_grads(model)->bytes;
    seo_model_close(model);
    seo_device_close(dev);
    return bytes;
}

/* The micro-batch that is named fits, and the state alone, too large, is said to be the state. */
static void too_little_memory(void **state) {
    (void)state;
    const int64_t room = bytes_of(11);
    for (int gpu = 0; gpu < 2; gpu++) {
        assert_int_equal(open_limited(room, gpu, 64, SEO_MODEL_TRAIN), SEO_ERR_MEMORY);
        const char *says = strstr(seo_err_detail(), "a train.micro_batch of ");
        assert_non_null(says);
        assert_non_null(strstr(seo_err_detail(), "the activations of 64 sequences want "));
        assert_non_null(strstr(seo_err_detail(), "are free"));
        const int64_t named = strtoll(says + strlen("a train.micro_batch of "), NULL, 10);
        if (named < 9 || named > 11) fail_msg("%s", seo_err_detail());
        assert_true(bytes_of(named) <= room);
        ok(open_limited(room, gpu, named, SEO_MODEL_TRAIN));
    }
    /* What is advised besides is true: with it the same micro-batch fits. */
    seo_recompute advised = SEO_RECOMPUTE_NONE;
    for (int64_t batch = 12; batch <= 18 && advised == SEO_RECOMPUTE_NONE; batch++) {
        assert_int_equal(open_limited(room, true, batch, SEO_MODEL_TRAIN), SEO_ERR_MEMORY);
        const char *level = strstr(seo_err_detail(), "or parallel.recompute: ");
        if (!level) continue;
        level += strlen("or parallel.recompute: ");
        advised = strcmp(level, "full") == 0 ? SEO_RECOMPUTE_FULL : SEO_RECOMPUTE_SELECTIVE;
        ok(open_shared(room, batch, advised, (seo_shard_wish){0}));
    }
    assert_int_not_equal(advised, SEO_RECOMPUTE_NONE);
    const int64_t sets = bytes_of(1) / 8;
    assert_int_equal(open_limited(sets, false, 1, SEO_MODEL_TRAIN), SEO_ERR_MEMORY);
    assert_non_null(strstr(seo_err_detail(), "model.num_layers"));
    assert_int_equal(open_limited(room, true, 1000, SEO_MODEL_EVAL), SEO_ERR_MEMORY);
    assert_non_null(strstr(seo_err_detail(), "--device cpu"));
}

/* With several ranks a higher level is named when a set does not fit, and only then. */
static void advises_zero(void **state) {
    (void)state;
    const int64_t little = bytes_of(1) / 16;
    seo_shard_wish wish = {.ranks = 4, .zero = 1};
    assert_int_equal(open_shared(little, 1, SEO_RECOMPUTE_NONE, wish), SEO_ERR_MEMORY);
    assert_non_null(strstr(seo_err_detail(), "parallel.zero: 3 takes "));
    assert_non_null(strstr(seo_err_detail(), "on each of 4 ranks"));
    wish.zero = 3;
    assert_int_equal(open_shared(little, 1, SEO_RECOMPUTE_NONE, wish), SEO_ERR_MEMORY);
    assert_null(strstr(seo_err_detail(), "parallel.zero"));
    assert_int_equal(open_shared(little, 1, SEO_RECOMPUTE_NONE, (seo_shard_wish){0}),
                     SEO_ERR_MEMORY);
    assert_non_null(strstr(seo_err_detail(), "more ranks"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(offsets), cmocka_unit_test(decay), cmocka_unit_test(padding),
        cmocka_unit_test(too_little_memory), cmocka_unit_test(advises_zero)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
