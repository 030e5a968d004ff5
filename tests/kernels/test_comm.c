/* Collectives without a library: one rank, and ranks that are threads. What an MPI comm shares with
 * them (checks of arguments, the queue, the record, sums) is tested here. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/check.h"
#include "kernels/backend.h"
#include "tests/kernels/comm_checks.h"
#include "tests/support/fill.h"
#include "tests/support/threads_comm.h"

static void ok(seo_err err) {
    if (err != SEO_OK) fail_msg("%s", seo_err_detail());
}

static void self_on(bool as_cpu) {
    seo_comm *comm = NULL;
    seo_device *dev = NULL;
    ok(seo_device_open_cpu(&(seo_cpu_options){.threads = 1}, &dev));
    /* A CPU that says it is none: what is done there is done by operators. */
    if (!as_cpu) dev->level = SEO_CPU_AUTO;
    ok(seo_comm_open_self(&comm));
    assert_string_equal(seo_comm_name(comm), "self");
    ok(seo_comm_attach(comm, dev));
    assert_int_equal(seo_device_bytes(dev),
                     seo_comm_memory_of(SEO_COMM_SELF, 1, as_cpu).device_bytes);
    ok(comm_checks(NULL, comm, dev));
    seo_comm_close(comm);
    seo_device_close(dev);
}

static void self_comm(void **state) {
    (void)state;
    self_on(true);
    self_on(false);
}

static void threads_comm(void **state) {
    (void)state;
    static const int32_t sizes[] = {1, 2, 3, 4, 8};
    for (int64_t i = 0; i < SEO_COUNT_OF(sizes); i++) ok(threads_run(sizes[i], comm_checks, NULL));
}

/* The same bits at any size of slices: all of them are compared with the same sums. */
static void threads_comm_slices(void **state) {
    (void)state;
    static const int64_t slices[] = {64, 100, 1024, 1 << 20};
    for (int64_t i = 0; i < SEO_COUNT_OF(slices); i++) {
        ok(threads_run_sliced(4, slices[i], comm_checks, NULL));
    }
}

static seo_err second_rank_fails(void *context, seo_comm *comm, seo_device *dev) {
    (void)context;
    (void)dev;
    int32_t mine = seo_comm_rank(comm), all[3];
    seo_err err = seo_comm_gather_host(comm, (seo_comm_label){"first", -1}, &mine, 4, all);
    if (err != SEO_OK) return err;
    if (seo_comm_rank(comm) == 1) return SEO_FAIL(SEO_ERR_NUMERIC, "the loss is not finite");
    err = seo_comm_gather_host(comm, (seo_comm_label){"second", 7}, &mine, 4, all);
    seo_comm_place place;
    seo_comm_place_of(comm, &place);
    if (place.number != 2 || strcmp(place.name, "second 7") != 0 || place.left_s != 0) {
        return SEO_FAIL(SEO_ERR_ARG, "the record is at %s", place.name);
    }
    /* What failed once fails again, and close returns. */
    const seo_err again = seo_comm_gather_host(comm, (seo_comm_label){"third", 0}, &mine, 4, all);
    return again == err ? err : SEO_FAIL(SEO_ERR_ARG, "a third call after an error went through");
}

static void lost_rank(void **state) {
    (void)state;
    assert_int_equal(threads_run(3, second_rank_fails, NULL), SEO_ERR_NUMERIC);
    assert_string_equal(seo_err_detail(), "rank 1: the loss is not finite");
}

static void *read_record(void *argument) {
    seo_comm *comm = argument;
    seo_comm_place place = {0};
    seo_comm_times times;
    while (place.number < 100) {
        seo_comm_place_of(comm, &place);
        seo_comm_times_of(comm, &times);
        usleep(100);
    }
    return NULL;
}

/* Read from another thread while it is written; the thread sanitizer looks on. */
static seo_err watched(void *context, seo_comm *comm, seo_device *dev) {
    (void)context;
    (void)dev;
    pthread_t watcher;
    int64_t mine = 1, all[2];
    seo_err err = SEO_OK;
    SEO_ASSERT(pthread_create(&watcher, NULL, read_record, comm) == 0);
    for (int i = 0; i < 100 && err == SEO_OK; i++) {
        err = seo_comm_gather_host(comm, (seo_comm_label){"losses", i}, &mine, 8, all);
    }
    pthread_join(watcher, NULL);
    return err;
}

static void record_from_another_thread(void **state) {
    (void)state;
    ok(threads_run(2, watched, NULL));
}

typedef struct bad_sum {
    int64_t out, inp, out_at; /* elements; out_at: where out begins in inp, -1: elsewhere */
    seo_dtype out_type, wire;
    int order;
    bool accumulate;
    const char *says;
} bad_sum;

static seo_err refuses(void *context, seo_comm *comm, seo_device *dev) {
    (void)dev;
    static const bad_sum bad[] = {
        {.out = 100, .inp = 300, .out_at = -1, .says = "n a multiple of 128"},
        {.out = 128, .inp = 256, .out_at = -1, .says = "with 3 ranks"},
        {.out = 0, .inp = 0, .out_at = -1, .says = "0 elements"},
        {.out = 128, .inp = 384, .out_at = 64, .says = "overlap"},
        {.out = 128, .inp = 384, .out_at = 0, .accumulate = true, .says = "overlap"},
        {.out = 128, .inp = 384, .out_at = -1, .out_type = SEO_DTYPE_BF16, .says = "f32"},
        {.out = 128, .inp = 384, .out_at = -1, .wire = SEO_DTYPE_I32, .says = "f32 or bf16"},
        {.out = 128, .inp = 384, .out_at = -1, .order = SEO_SUM_TREE, .says = "power of two"},
        {.out = 128, .inp = 384, .out_at = -1, .order = 7, .says = "no order 7"},
    };
    float *memory = context;
    int64_t ticket = 0;
    for (int64_t i = 0; i < SEO_COUNT_OF(bad); i++) {
        const bad_sum *b = &bad[i];
        const int64_t at = b->out_at < 0 ? 512 : seo_comm_rank(comm) * 128 + b->out_at;
        const seo_reduce_scatter_args args = {.out =
                                                  seo_tensor_1d(memory + at, b->out_type, b->out),
                                              .inp = seo_tensor_1d(memory, SEO_DTYPE_F32, b->inp),
                                              .wire = b->wire,
                                              .order = (seo_sum_order)b->order,
                                              .accumulate = b->accumulate,
                                              .label = {"bad", -1}};
        if (seo_comm_reduce_scatter(comm, &args, &ticket) != SEO_OK &&
            strstr(seo_err_detail(), b->says) && ticket == 0) {
            continue;
        }
        return SEO_FAIL(SEO_ERR_ARG, "case %lld: %s", (long long)i, seo_err_detail());
    }
    const seo_all_gather_args types = {.whole = seo_tensor_1d(memory, SEO_DTYPE_F32, 384),
                                       .inp = seo_tensor_1d(memory + 512, SEO_DTYPE_I32, 128),
                                       .label = {"bad", -1}};
    if (seo_comm_all_gather(comm, &types, &ticket) != SEO_ERR_SHAPE) {
        return SEO_FAIL(SEO_ERR_ARG, "two types in one gather");
    }
    if (seo_comm_gather_host(comm, (seo_comm_label){"bad", -1}, memory, SEO_COMM_HOST_BYTES_MAX + 1,
                             memory) != SEO_ERR_ARG) {
        return SEO_FAIL(SEO_ERR_ARG, "too many bytes in a gather of the host");
    }
    return SEO_OK;
}

static void bad_arguments(void **state) {
    (void)state;
    float *memory = new_f32(1024);
    seo_comm *comm = NULL;
    int64_t ticket = 0;
    ok(threads_run(3, refuses, memory));
    ok(seo_comm_open_self(&comm));
    const seo_all_gather_args args = {.whole = seo_tensor_1d(memory, SEO_DTYPE_F32, 128),
                                      .inp = seo_tensor_1d(memory, SEO_DTYPE_F32, 128),
                                      .label = {"early", -1}};
    assert_int_equal(seo_comm_all_gather(comm, &args, &ticket), SEO_ERR_ARG);
    assert_non_null(strstr(seo_err_detail(), "no device is attached"));
    seo_comm_close(comm);
    seo_comm_close(NULL);
    free(memory);
}

static void memory_is_bounded(void **state) {
    (void)state;
    for (int32_t size = 1; size <= 1024; size *= 2) {
        const seo_comm_memory cpu = seo_comm_memory_of(SEO_COMM_MPI, size, true);
        const seo_comm_memory gpu = seo_comm_memory_of(SEO_COMM_MPI, size, false);
        assert_int_equal(cpu.device_bytes, 0);
        assert_true(cpu.host_bytes > 0 && cpu.host_bytes <= 64 << 20);
        assert_true(gpu.host_bytes > cpu.host_bytes && gpu.host_bytes <= 128 << 20);
        assert_int_equal(seo_comm_memory_of(SEO_COMM_SELF, 1, true).host_bytes, 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(self_comm),           cmocka_unit_test(threads_comm),
        cmocka_unit_test(threads_comm_slices), cmocka_unit_test(lost_rank),
        cmocka_unit_test(bad_arguments),       cmocka_unit_test(record_from_another_thread),
        cmocka_unit_test(memory_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
