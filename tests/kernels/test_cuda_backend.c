/* The CUDA backend's host side on the emulated GPU: opening and what stands against it, memory,
 * copies through pinned memory, capture and replay, errors that show later, events. Queued work
 * runs as late as it may, so that a wait that is missing shows. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <simt_options.h>

#include "base/check.h"
#include "base/rng.h"
#include "kernels/cuda/cuda.h"
#include "tests/simt/device.h"
#include "tests/support/op_check.h"

cudaError_t test_scale_add(float *y, const float *x, float a, int n, cudaStream_t stream);
cudaError_t test_trap(cudaStream_t stream);

enum { MIB = 1 << 20 };

static seo_device *open_emulated(void) {
    seo_device *dev = NULL;
    must(seo_device_open_simt(NULL, &dev));
    return dev;
}

/* What a test sets of the layer, put back after it; and nothing may be left on the device. */
static struct simt_options before;
static int set_up(void **state) {
    (void)state;
    before = *simt_options_get();
    simt_options_get()->late_streams = 1;
    return 0;
}
static int tear_down(void **state) {
    (void)state;
    *simt_options_get() = before;
    return simt_live_count();
}

static void says_what_it_is(void **state) {
    (void)state;
    const seo_simt_options options = {
        .capability = 89, .multiprocessors = 7, .memory_bytes = 64 * MIB};
    seo_device *dev = NULL;
    int64_t free_bytes = 0, total_bytes = 0;
    must(seo_device_open_simt(&options, &dev));
    assert_string_equal(seo_device_name(dev), "cuda SIMT emulation (sm_89), 7 SMs, sm_89");
    assert_false(seo_device_is_cpu(dev));
    assert_true(seo_device_has_bf16(dev));
    assert_true(seo_device_has_graphs(dev));
    assert_int_equal(seo_device_row_multiple(dev), 64);
    assert_int_equal(seo_device_bytes(dev), 0);
    must(seo_device_memory(dev, &free_bytes, &total_bytes));
    assert_int_equal(total_bytes, 64 * MIB);
    assert_int_equal(free_bytes, 64 * MIB - SEO_CUDA_SCRATCH_BYTES);
    seo_device_close(dev);
}

static void tells_what_is_missing(void **state) {
    (void)state;
    static const struct {
        int driver_version, device_count, capability, ordinal;
        const char *message;
    } cases[] = {
        {0, 1, 90, 0,
         "cuda: this machine has no NVIDIA driver; install one for CUDA 13.0 or later (or use "
         "device: cpu)"},
        {12040, 1, 90, 0,
         "cuda: the NVIDIA driver is for CUDA 12.4, this build needs 13.0; update the driver, or "
         "build with an older CUDA toolkit (or use device: cpu)"},
        {13000, 0, 90, 0,
         "cuda: the NVIDIA driver shows no GPU; nvidia-smi and CUDA_VISIBLE_DEVICES tell more (or "
         "use device: cpu)"},
        {13000, 1, 90, 1, "cuda: there is no GPU 1: the driver shows 1, numbered from 0"},
        {13000, 1, 90, -1, "cuda: there is no GPU -1: the driver shows 1, numbered from 0"},
        {13000, 1, 75, 0,
         "cuda: GPU 0, SIMT emulation (sm_75), has compute capability 7.5; 8.0 (Ampere) or later "
         "is "
         "needed (or use device: cpu)"},
    };
    for (int64_t i = 0; i < SEO_COUNT_OF(cases); i++) {
        simt_options_get()->driver_version = cases[i].driver_version;
        simt_options_get()->device_count = cases[i].device_count;
        const seo_simt_options options = {.capability = cases[i].capability,
                                          .cuda.ordinal = cases[i].ordinal};
        seo_device *dev = NULL;
        must_fail(seo_device_open_simt(&options, &dev), SEO_ERR_UNSUPPORTED, cases[i].message);
        assert_string_equal(seo_err_detail(), cases[i].message);
        assert_null(dev);
        assert_int_equal(simt_live_count(), 0);
    }
    *simt_options_get() = before;
    seo_device_close(open_emulated());
}

/* More ranks than GPUs: they count on from the first. */
static void ranks_share_gpus(void **state) {
    (void)state;
    simt_options_get()->device_count = 1;
    for (int32_t ordinal = 0; ordinal < 3; ordinal++) {
        seo_device *dev = NULL;
        const seo_simt_options options = {.capability = 90,
                                          .cuda = {.ordinal = ordinal, .around = true}};
        must(seo_device_open_simt(&options, &dev));
        seo_device_close(dev);
    }
    *simt_options_get() = before;
}

static void tells_how_much_is_missing(void **state) {
    (void)state;
    seo_device *dev = NULL;
    void *ptr = NULL;
    must_fail(seo_device_open_simt(&(seo_simt_options){.memory_bytes = MIB}, &dev), SEO_ERR_MEMORY,
              "sm_90: 0.0312 GiB cannot be had: 0.000977 of 0.000977 GiB are free; a smaller batch "
              "or model needs less");
    assert_null(dev);
    assert_int_equal(simt_live_count(), 0);
    must(seo_device_open_simt(&(seo_simt_options){.memory_bytes = 64 * MIB}, &dev));
    must(seo_device_alloc(dev, 16 * MIB, &ptr));
    must_fail(
        seo_device_alloc(dev, (int64_t)3 << 30, &ptr), SEO_ERR_MEMORY,
        "cuda SIMT emulation (sm_90), 4 SMs, sm_90: 3 GiB cannot be had: 0.0156 of 0.0625 GiB "
        "are free; a smaller batch or model needs less");
    assert_null(ptr);
    must_fail(seo_device_alloc(dev, INT64_MAX, &ptr), SEO_ERR_MEMORY, "cannot be had");
    assert_int_equal(seo_device_bytes(dev), 16 * MIB);
    must(seo_device_alloc(dev, 16 * MIB, &ptr));
    must(seo_device_sync(dev));
    seo_device_close(dev);
}

static void counts_and_seals_memory(void **state) {
    (void)state;
    static const int64_t sizes[] = {1, 256, 5000, 3 * MIB};
    seo_device *dev = open_emulated();
    unsigned char *host = malloc(3 * MIB);
    assert_non_null(host);
    void *ptr[4] = {0};
    int64_t total = 0;
    for (int i = 0; i < 4; i++) {
        must(seo_device_alloc(dev, sizes[i], &ptr[i]));
        assert_int_equal((uintptr_t)ptr[i] % 256, 0);
        memset(host, 1, (size_t)sizes[i]);
        must(seo_device_copy_out(dev, host, ptr[i], sizes[i]));
        for (int64_t b = 0; b < sizes[i]; b++) assert_int_equal(host[b], 0);
        total += sizes[i];
        assert_int_equal(seo_device_bytes(dev), total);
    }
    seo_device_free(dev, ptr[1]);
    assert_int_equal(seo_device_bytes(dev), total - 256);
    seo_device_seal(dev);
    must_fail(seo_device_alloc(dev, 1, &ptr[1]), SEO_ERR_MEMORY, "sealed");
    seo_device_close(dev);
    free(host);
}

static void fill(unsigned char *to, int64_t bytes, uint32_t seed) {
    for (int64_t i = 0; i < bytes; i++) {
        to[i] = (unsigned char)(((uint32_t)i * 2654435761u + seed * 40503u) >> 13);
    }
}

/* Copies from a buffer that is overwritten at once: 300 small ones, 300 of which more than a ring's
 * list holds are under way together, and large ones, some of more than the ring holds. Each must
 * arrive as it was when it was given. */
static void copies_what_was_given(void **state) {
    (void)state;
    enum { COUNT = 640, TOTAL = 144 * MIB, LONGEST = 18 * MIB };
    seo_device *dev = open_emulated();
    unsigned char *source = malloc(LONGEST), *back = malloc(TOTAL), *want = malloc(TOTAL);
    assert_true(source && back && want);
    unsigned char *ptr = NULL;
    must(seo_device_alloc(dev, TOTAL, (void **)&ptr));
    const seo_rng_key key = {.seed = 7};
    int64_t at = 0;
    memset(want, 0, TOTAL);
    for (int i = 0; i < COUNT; i++) {
        const uint32_t random = seo_rng_u32(key, i);
        int64_t bytes = random % (i < 300 ? 3000 : 400000);
        if (i >= 600) bytes = random % (i % 8 == 0 ? LONGEST : 300000);
        if (bytes > TOTAL - at) bytes = TOTAL - at;
        fill(source, bytes, (uint32_t)i);
        memcpy(want + at, source, (size_t)bytes);
        must(seo_device_copy_in(dev, ptr + at, source, bytes));
        memset(source, 0xee, (size_t)bytes);
        at += bytes;
    }
    assert_true(at > 40 * MIB);
    must(seo_device_copy_out(dev, back, ptr, TOTAL));
    assert_memory_equal(back, want, TOTAL);
    seo_device_close(dev);
    free(source);
    free(back);
    free(want);
}

static void copies_out_in_pieces(void **state) {
    (void)state;
    static const int64_t sizes[] = {0,           1,       4 * MIB - 1,  4 * MIB,
                                    4 * MIB + 1, 8 * MIB, 12 * MIB + 77};
    enum { TOTAL = 13 * MIB };
    seo_device *dev = open_emulated();
    unsigned char *host = malloc(TOTAL), *back = malloc(TOTAL);
    assert_true(host && back);
    unsigned char *a = NULL, *b = NULL;
    must(seo_device_alloc(dev, TOTAL, (void **)&a));
    must(seo_device_alloc(dev, TOTAL, (void **)&b));
    fill(host, TOTAL, 3);
    must(seo_device_copy_in(dev, a, host, TOTAL));
    for (int64_t i = 0; i < SEO_COUNT_OF(sizes); i++) {
        memset(back, 0xee, TOTAL);
        must(seo_device_zero(dev, b, TOTAL));
        must(seo_device_copy(dev, b, a, sizes[i]));
        must(seo_device_copy_out(dev, back, b + 1, sizes[i]));
        if (sizes[i] > 0) assert_memory_equal(back, host + 1, (size_t)sizes[i] - 1);
        if (sizes[i] > 0) assert_int_equal(back[sizes[i] - 1], 0);
        for (int64_t k = sizes[i]; k < TOTAL; k++) assert_int_equal(back[k], 0xee);
    }
    seo_device_close(dev);
    free(host);
    free(back);
}

static float *device_floats(seo_device *dev, float value, int count) {
    void *ptr = NULL;
    must(seo_device_alloc(dev, count * (int64_t)sizeof(float), &ptr));
    for (int i = 0; i < count; i++) {
        must(seo_device_copy_in(dev, (float *)ptr + i, &value, sizeof value));
    }
    return ptr;
}

static void expect_floats(seo_device *dev, const float *ptr, float want, int count) {
    float host[100];
    assert_true(count <= 100);
    must(seo_device_copy_out(dev, host, ptr, count * (int64_t)sizeof(float)));
    for (int i = 0; i < count; i++) assert_true(host[i] == want);
}

/* y = 2 y + x, then z = y: recorded once, run with what x holds at each launch. */
static void replays_with_new_inputs(void **state) {
    (void)state;
    enum { N = 70 };
    seo_device *dev = open_emulated();
    float *x = device_floats(dev, 1, N), *y = device_floats(dev, 3, N),
          *z = device_floats(dev, 0, N);
    seo_graph *graph = NULL;
    must(seo_device_capture_begin(dev));
    must(seo_cuda_check(test_scale_add(y, x, 2, N, seo_cuda_of(dev)->stream), "scale_add"));
    must(seo_device_copy(dev, z, y, N * sizeof(float)));
    must(seo_device_capture_end(dev, &graph));
    expect_floats(dev, y, 3, N);
    float want = 3;
    for (int i = 0; i < 5; i++) {
        const float input = (float)(10 - i);
        float host[N];
        for (int k = 0; k < N; k++) host[k] = input;
        must(seo_device_copy_in(dev, x, host, sizeof host));
        must(seo_graph_launch(graph));
        want = 2 * want + input;
        if (i % 2) expect_floats(dev, z, want, N);
    }
    expect_floats(dev, z, want, N);
    seo_graph_close(graph);
    seo_graph_close(NULL);
    seo_device_close(dev);
}

/* The operators of a clipped step, with what they read from device memory changed between launches:
 * norm and factor of g, then x += g, twice in one graph. */
static void replays_operators(void **state) {
    (void)state;
    enum { N = 50 };
    seo_device *dev = open_emulated();
    float *g = device_floats(dev, 0, N), *x = device_floats(dev, 0, N),
          *squares = device_floats(dev, 9, 1), *norm = device_floats(dev, 9, 1),
          *hyper = device_floats(dev, 9, SEO_HYPER_COUNT);
    const seo_tensor grad = seo_tensor_1d(g, SEO_DTYPE_F32, N);
    const seo_tensor sum = seo_tensor_1d(x, SEO_DTYPE_F32, N);
    const seo_tensor of_squares = seo_tensor_1d(squares, SEO_DTYPE_F32, 1);
    const seo_clip_factor_args clip = {.norm = seo_tensor_1d(norm, SEO_DTYPE_F32, 1),
                                       .hyper =
                                           seo_tensor_1d(hyper, SEO_DTYPE_F32, SEO_HYPER_COUNT),
                                       .sum_squares = of_squares,
                                       .max_norm = 1};
    seo_graph *graph = NULL;
    must(seo_device_capture_begin(dev));
    must(seo_sum_squares(dev, &(seo_sum_squares_args){.out = of_squares, .inp = grad}));
    must(seo_clip_factor(dev, &clip));
    for (int i = 0; i < 2; i++)
        must(seo_add(dev, &(seo_add_args){.out = sum, .a = sum, .b = grad}));
    must(seo_device_capture_end(dev, &graph));
    expect_floats(dev, squares, 9, 1);
    float want = 0;
    for (int i = 0; i < 4; i++) {
        const float value = (float)(i + 1);
        float host[N], factor = 0;
        for (int k = 0; k < N; k++) host[k] = value;
        must(seo_device_copy_in(dev, g, host, sizeof host));
        must(seo_graph_launch(graph));
        want += 2 * value;
        expect_floats(dev, x, want, N);
        expect_floats(dev, squares, N * value * value, 1);
        must(seo_device_copy_out(dev, &factor, hyper + SEO_HYPER_GRAD_FACTOR, sizeof factor));
        assert_float_equal(factor, 1 / (sqrtf(N) * value), 1e-6);
    }
    seo_graph_close(graph);
    seo_device_close(dev);
}

static void refuses_while_capturing(void **state) {
    (void)state;
    seo_device *dev = open_emulated();
    float *x = device_floats(dev, 1, 2), value = 5;
    void *ptr = NULL;
    double ms = 0;
    seo_graph *graph = NULL, *other = NULL;
    seo_event *event = NULL;
    must(seo_event_open(dev, &event));
    must(seo_event_record(event));
    must(seo_device_capture_begin(dev));
    must(seo_device_copy(dev, x + 1, x, sizeof value));
    must(seo_device_capture_end(dev, &other));

    must(seo_device_capture_begin(dev));
    must(seo_device_copy(dev, x + 1, x, sizeof value));
    must_fail(seo_device_copy_in(dev, x, &value, sizeof value), SEO_ERR_ARG,
              "sm_90: a copy from the host cannot be part of a graph; end the capture first");
    must_fail(seo_device_copy_out(dev, &value, x, sizeof value), SEO_ERR_ARG, "a copy to the host");
    must_fail(seo_device_alloc(dev, 1, &ptr), SEO_ERR_ARG, "an allocation cannot");
    must_fail(seo_device_sync(dev), SEO_ERR_ARG, "sync cannot");
    must_fail(seo_device_capture_begin(dev), SEO_ERR_ARG, "another capture");
    must_fail(seo_graph_launch(other), SEO_ERR_ARG, "another graph");
    must_fail(seo_event_record(event), SEO_ERR_ARG, "an event");
    must_fail(seo_event_elapsed(event, event, &ms), SEO_ERR_ARG, "the time of an event");
    assert_int_equal(seo_device_capture_end(dev, &graph), SEO_ERR_ARG);
    assert_null(graph);

    /* the device goes on as if nothing had been */
    must(seo_device_copy_in(dev, x, &value, sizeof value));
    must(seo_graph_launch(other));
    expect_floats(dev, x, 5, 2);
    seo_event_close(event);
    seo_graph_close(other);
    seo_device_close(dev);
}

/* An operator that its rules refuse, and a capture that CUDA gave up. */
static void recovers_from_failed_captures(void **state) {
    (void)state;
    seo_device *dev = open_emulated();
    float *x = device_floats(dev, 2, 4);
    seo_graph *graph = NULL;
    must(seo_device_capture_begin(dev));
    must_fail(seo_add(dev, &(seo_add_args){.out = seo_tensor_1d(x, SEO_DTYPE_F32, 4),
                                           .a = seo_tensor_1d(x, SEO_DTYPE_F32, 4),
                                           .b = seo_tensor_1d(x, SEO_DTYPE_F32, 3)}),
              SEO_ERR_SHAPE, "add");
    must_fail(seo_device_capture_end(dev, &graph), SEO_ERR_SHAPE, "add");
    assert_null(graph);

    must(seo_device_capture_begin(dev));
    assert_int_equal(cudaStreamSynchronize(seo_cuda_of(dev)->stream),
                     cudaErrorStreamCaptureUnsupported);
    must_fail(seo_device_capture_end(dev, &graph), SEO_ERR_DEVICE,
              "cudaErrorStreamCaptureInvalidated");
    assert_null(graph);
    expect_floats(dev, x, 2, 4);

    must(seo_device_capture_begin(dev));
    must(seo_device_zero(dev, x, 2 * sizeof *x));
    must(seo_device_capture_end(dev, &graph));
    must(seo_graph_launch(graph));
    expect_floats(dev, x, 0, 2);
    expect_floats(dev, x + 2, 2, 2);
    seo_graph_close(graph);

    must(seo_device_capture_begin(dev));
    must(seo_device_zero(dev, x, 4 * sizeof *x));
    seo_device_close(dev);
}

/* Looks one id up in a table of 3 rows. */
static seo_err look_up(seo_device *dev, int32_t id) {
    float *floats = device_floats(dev, 2, 8);
    void *ids = NULL;
    must(seo_device_alloc(dev, sizeof id, &ids));
    must(seo_device_copy_in(dev, ids, &id, sizeof id));
    const seo_embedding_fwd_args args = {.out = seo_tensor_3d(floats, SEO_DTYPE_F32, 1, 1, 2),
                                         .ids = seo_tensor_2d(ids, SEO_DTYPE_I32, 1, 1),
                                         .wte = seo_tensor_2d(floats + 2, SEO_DTYPE_F32, 3, 2),
                                         .wpe = seo_tensor_2d(floats + 2, SEO_DTYPE_F32, 1, 2)};
    return seo_embedding_fwd(dev, &args);
}

/* The loss of one row of 4 logits. */
static seo_err score(seo_device *dev, int32_t target) {
    float *floats = device_floats(dev, 2, 5);
    void *targets = NULL;
    must(seo_device_alloc(dev, sizeof target, &targets));
    must(seo_device_copy_in(dev, targets, &target, sizeof target));
    const seo_cross_entropy_args args = {.loss = seo_tensor_1d(floats, SEO_DTYPE_F32, 1),
                                         .logits = seo_tensor_2d(floats + 1, SEO_DTYPE_F32, 1, 4),
                                         .targets = seo_tensor_1d(targets, SEO_DTYPE_I32, 1),
                                         .vocab_size = 4,
                                         .ignore_index = -100,
                                         .grad_scale = 1};
    return seo_cross_entropy(dev, &args);
}

static void reports_faults_of_kernels(void **state) {
    (void)state;
    const char *const of_id = "embedding: an id outside the embedding table";
    const char *const of_target = "cross_entropy: a target outside the vocabulary";
    seo_device *dev = open_emulated();
    float *x = device_floats(dev, 2, 4), host[4];
    must(look_up(dev, 2));
    must(score(dev, -100));
    must(seo_device_sync(dev));
    must(look_up(dev, 3));
    must_fail(seo_device_sync(dev), SEO_ERR_ARG, of_id);
    must(seo_device_sync(dev));
    must(score(dev, 4));
    must_fail(seo_device_copy_out(dev, host, x, sizeof host), SEO_ERR_ARG, of_target);
    must(seo_device_copy_out(dev, host, x, sizeof host));
    must(score(dev, -1));
    must_fail(seo_device_copy_out(dev, host, x, 0), SEO_ERR_ARG, of_target);
    must(look_up(dev, -1));
    must_fail(seo_device_sync(dev), SEO_ERR_ARG, of_id);
    expect_floats(dev, x, 2, 4);
    seo_device_close(dev);
}

static void closes_a_lost_device(void **state) {
    (void)state;
    const char *const closed = "closed to further work after an error: cuda: queued work: "
                               "unspecified launch failure (cudaErrorLaunchFailure)";
    seo_device *dev = open_emulated();
    float *x = device_floats(dev, 1, 4), host[4];
    void *ptr = NULL;
    int64_t free_bytes = 0, total_bytes = 0;
    double ms = 0;
    seo_event *event = NULL;
    seo_graph *graph = NULL;
    simt_options_get()->quiet = 1;
    must(seo_event_open(dev, &event));
    must(seo_device_capture_begin(dev));
    must(seo_device_zero(dev, x, sizeof host));
    must(seo_device_capture_end(dev, &graph));
    must(seo_device_sync(dev));
    must(seo_cuda_check(test_trap(seo_cuda_of(dev)->stream), "trap"));
    must_fail(seo_device_sync(dev), SEO_ERR_DEVICE, "cudaErrorLaunchFailure");
    must_fail(seo_device_sync(dev), SEO_ERR_DEVICE, closed);
    must_fail(seo_device_alloc(dev, 1, &ptr), SEO_ERR_DEVICE, closed);
    must_fail(seo_device_copy_in(dev, x, host, sizeof host), SEO_ERR_DEVICE, closed);
    must_fail(seo_device_copy_out(dev, host, x, sizeof host), SEO_ERR_DEVICE, closed);
    must_fail(seo_device_copy(dev, x, x + 1, 4), SEO_ERR_DEVICE, closed);
    must_fail(seo_device_zero(dev, x, 4), SEO_ERR_DEVICE, closed);
    must_fail(seo_device_memory(dev, &free_bytes, &total_bytes), SEO_ERR_DEVICE, closed);
    must_fail(seo_device_capture_begin(dev), SEO_ERR_DEVICE, closed);
    must_fail(seo_graph_launch(graph), SEO_ERR_DEVICE, closed);
    must_fail(seo_event_record(event), SEO_ERR_DEVICE, closed);
    must_fail(seo_event_elapsed(event, event, &ms), SEO_ERR_DEVICE, closed);
    must_fail(seo_add(dev, &(seo_add_args){.out = seo_tensor_1d(x, SEO_DTYPE_F32, 4)}),
              SEO_ERR_DEVICE, closed);
    seo_graph_close(graph);
    seo_event_close(event);
    seo_device_close(dev);
    simt_clear_error();

    dev = open_emulated();
    expect_floats(dev, device_floats(dev, 4, 3), 4, 3);
    seo_device_close(dev);
}

/* With check_each an error is told by the operator in which it came up. */
static void names_the_operator(void **state) {
    (void)state;
    seo_device *dev = NULL;
    must(seo_device_open_simt(&(seo_simt_options){.cuda.check_each = true}, &dev));
    assert_false(seo_device_has_graphs(dev));
    const seo_tensor x = seo_tensor_1d(device_floats(dev, 1, 4), SEO_DTYPE_F32, 4);
    const seo_add_args args = {.out = x, .a = x, .b = x};
    must(seo_add(dev, &args));
    expect_floats(dev, x.data, 2, 4);
    must(look_up(dev, 0));
    must_fail(look_up(dev, 3), SEO_ERR_ARG, "embedding_fwd: embedding: an id outside");
    must(seo_add(dev, &args));
    simt_options_get()->quiet = 1;
    must(seo_cuda_check(test_trap(seo_cuda_of(dev)->stream), "trap"));
    must_fail(seo_add(dev, &args), SEO_ERR_DEVICE, "add: cuda: queued work: unspecified launch");
    seo_device_close(dev);
    simt_clear_error();
}

static void tells_the_time(void **state) {
    (void)state;
    seo_device *dev = open_emulated();
    seo_event *from = NULL, *to = NULL, *never = NULL;
    double ms = -1, none = -1;
    void *ptr = NULL;
    must(seo_device_alloc(dev, 8 * MIB, &ptr));
    must(seo_event_open(dev, &from));
    must(seo_event_open(dev, &to));
    must(seo_event_open(dev, &never));
    must(seo_event_record(from));
    for (int i = 0; i < 10; i++) must(seo_device_zero(dev, ptr, 8 * MIB));
    must(seo_event_record(to));
    must(seo_event_elapsed(from, to, &ms));
    must(seo_event_elapsed(from, from, &none));
    assert_true(ms > 0 && ms < 60000);
    assert_true(none == 0);
    seo_event_close(never);
    seo_event_close(from);
    seo_event_close(to);
    seo_event_close(NULL);
    seo_device_close(dev);
}

#define BACKEND_TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        BACKEND_TEST(says_what_it_is),
        BACKEND_TEST(tells_what_is_missing),
        BACKEND_TEST(ranks_share_gpus),
        BACKEND_TEST(tells_how_much_is_missing),
        BACKEND_TEST(counts_and_seals_memory),
        BACKEND_TEST(copies_what_was_given),
        BACKEND_TEST(copies_out_in_pieces),
        BACKEND_TEST(replays_with_new_inputs),
        BACKEND_TEST(replays_operators),
        BACKEND_TEST(refuses_while_capturing),
        BACKEND_TEST(recovers_from_failed_captures),
        BACKEND_TEST(reports_faults_of_kernels),
        BACKEND_TEST(closes_a_lost_device),
        BACKEND_TEST(names_the_operator),
        BACKEND_TEST(tells_the_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
