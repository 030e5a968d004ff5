/* Opening a CPU device, what it says about itself, and its memory. */
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "kernels/device_limits.h"
#include "kernels/kernels.h"
#include "tests/support/op_check.h"

static void opens_what_was_asked(void **state) {
    (void)state;
    for (int level = SEO_CPU_PLAIN; level <= SEO_CPU_AVX512; level++) {
        seo_device *dev = open_device((seo_cpu_level)level, 3);
        if (!dev) continue;
        assert_int_equal(seo_device_threads(dev), 3);
        assert_int_equal(seo_device_cpu_level(dev), level);
        assert_non_null(strstr(seo_device_name(dev), seo_cpu_level_name((seo_cpu_level)level)));
        assert_non_null(strstr(seo_device_name(dev), "3 threads"));
        must(seo_device_sync(dev));
        seo_device_close(dev);
    }
    seo_device *best = open_device(SEO_CPU_AUTO, 0);
    assert_true(seo_device_threads(best) >= 1);
    assert_true(seo_cpu_level_available(seo_device_cpu_level(best)));
    for (int above = (int)seo_device_cpu_level(best) + 1; above <= SEO_CPU_AVX512; above++) {
        assert_false(seo_cpu_level_available((seo_cpu_level)above));
    }
    seo_device_close(best);
}

static void refuses_wrong_options(void **state) {
    (void)state;
    seo_device *dev = NULL;
    must_fail(seo_device_open_cpu(&(seo_cpu_options){.threads = -1}, &dev), SEO_ERR_ARG, "-1");
    assert_null(dev);
    must_fail(seo_device_open_cpu(&(seo_cpu_options){.level = (seo_cpu_level)9}, &dev), SEO_ERR_ARG,
              "9");
    for (int level = SEO_CPU_PLAIN; level <= SEO_CPU_AVX512; level++) {
        if (seo_cpu_level_available((seo_cpu_level)level)) continue;
        const seo_cpu_options options = {.level = (seo_cpu_level)level};
        must_fail(seo_device_open_cpu(&options, &dev), SEO_ERR_UNSUPPORTED, "available: plain");
        assert_null(dev);
    }
    seo_device_close(NULL);
}

static void counts_and_seals_memory(void **state) {
    (void)state;
    static const int64_t sizes[] = {1, 256, 5000, 3 << 20};
    seo_device *dev = open_device(SEO_CPU_AUTO, 2);
    void *ptr[4] = {0};
    int64_t total = 0;
    for (int i = 0; i < 4; i++) {
        must(seo_device_alloc(dev, sizes[i], &ptr[i]));
        assert_int_equal((uintptr_t)ptr[i] % 256, 0);
        for (int64_t b = 0; b < sizes[i]; b++) assert_int_equal(((char *)ptr[i])[b], 0);
        total += sizes[i];
        assert_int_equal(seo_device_bytes(dev), total);
    }
    seo_device_free(dev, ptr[1]);
    seo_device_free(dev, NULL);
    assert_int_equal(seo_device_bytes(dev), total - 256);
    must_fail(seo_device_alloc(dev, INT64_MAX / 2, &ptr[1]), SEO_ERR_MEMORY, "cannot be had");
    assert_null(ptr[1]);
    must_fail(seo_device_alloc(dev, INT64_MAX, &ptr[1]), SEO_ERR_MEMORY, "cannot be had");
    assert_int_equal(seo_device_bytes(dev), total - 256);
    seo_device_seal(dev);
    must_fail(seo_device_alloc(dev, 1, &ptr[1]), SEO_ERR_MEMORY, "sealed");
    seo_device_free(dev, ptr[0]);
    seo_device_close(dev); /* frees the other two: the address sanitizer would tell */
}

static void copies_and_zeroes(void **state) {
    (void)state;
    enum { BYTES = 5 * 1000 * 1000 + 3 };
    seo_device *dev = open_device(SEO_CPU_AUTO, 3);
    unsigned char *host = malloc(BYTES), *back = malloc(BYTES);
    assert_true(host && back);
    for (int i = 0; i < BYTES; i++) host[i] = (unsigned char)(i * 7 + i / 251 + 1);
    void *a = NULL, *b = NULL;
    must(seo_device_alloc(dev, BYTES, &a));
    must(seo_device_alloc(dev, BYTES, &b));
    must(seo_device_copy_in(dev, a, host, BYTES));
    must(seo_device_copy(dev, b, a, BYTES));
    must(seo_device_zero(dev, a, BYTES - 1));
    must(seo_device_copy_out(dev, back, b, BYTES));
    assert_memory_equal(host, back, BYTES);
    must(seo_device_copy_out(dev, back, a, BYTES));
    for (int i = 0; i < BYTES - 1; i++) assert_int_equal(back[i], 0);
    assert_int_equal(back[BYTES - 1], host[BYTES - 1]);
    must(seo_device_copy(dev, a, b, 0));
    seo_device_close(dev);
    free(host);
    free(back);
}

/* On the CPU an event's time is that of its record; there is no queue to capture. */
static void times_events(void **state) {
    (void)state;
    seo_device *dev = open_device(SEO_CPU_AUTO, 1);
    assert_false(seo_device_has_graphs(dev));
    assert_int_equal(seo_device_row_multiple(dev), 1);
    seo_event *from = NULL, *to = NULL;
    double ms = -1, none = -1;
    must(seo_event_open(dev, &from));
    must(seo_event_open(dev, &to));
    must(seo_event_record(from));
    nanosleep(&(struct timespec){.tv_nsec = 20 * 1000 * 1000}, NULL);
    must(seo_event_record(to));
    must(seo_event_elapsed(from, to, &ms));
    must(seo_event_elapsed(from, from, &none));
    assert_true(ms >= 20 && none == 0);
    double later = -1;
    must(seo_event_record(to)); /* takes the place of the first record */
    must(seo_event_elapsed(from, to, &later));
    assert_true(later >= ms);
    seo_event_close(from);
    seo_event_close(to);
    seo_event_close(NULL);
    seo_graph_close(NULL);
    seo_device_close(dev);
}

static void tells_memory(void **state) {
    (void)state;
    seo_device *dev = open_device(SEO_CPU_AUTO, 1);
    int64_t free_bytes = -1, total_bytes = -1;
    must(seo_device_memory(dev, &free_bytes, &total_bytes));
    assert_true(free_bytes > 0 && free_bytes <= total_bytes);
    seo_device_close(dev);
}

/* A path where there is no file, a file that is no library, and a library that is no plug-in. */
static void refuses_what_is_no_plugin(void **state) {
    (void)state;
    seo_device *dev = NULL;
    seo_cuda_options options = {.plugin = "no/such/folder/libseodang_cuda.so"};
    must_fail(seo_device_open_cuda(&options, &dev), SEO_ERR_MISSING,
              "cuda: there is no plug-in no/such/folder/libseodang_cuda.so; build with the cuda "
              "preset (or use device: cpu)");
    assert_null(dev);
    options.plugin = SEO_SOURCE_DIR "/README.md";
    must_fail(seo_device_open_cuda(&options, &dev), SEO_ERR_UNSUPPORTED,
              "README.md is no plug-in: not a shared object");
    assert_null(dev);
    options.plugin = "libcmocka.so.0"; /* loaded already: found by its name only */
    must_fail(seo_device_open_cuda(&options, &dev), SEO_ERR_MISSING, "there is no plug-in");
    assert_null(dev);
    Dl_info library;
    assert_true(dladdr(dlsym(RTLD_DEFAULT, "getpid"), &library) != 0);
    options.plugin = library.dli_fname;
    must_fail(seo_device_open_cuda(&options, &dev), SEO_ERR_UNSUPPORTED,
              "belongs to another version of this program");
    assert_null(dev);
}

static void reads_quotas(void **state) {
    (void)state;
    assert_int_equal(seo_cpu_quota_parse("max 100000"), 0);
    assert_int_equal(seo_cpu_quota_parse("200000 100000"), 2);
    assert_int_equal(seo_cpu_quota_parse("150000 100000"), 2);
    assert_int_equal(seo_cpu_quota_parse("1000 100000"), 1);
    assert_int_equal(seo_cpu_quota_parse("-1 100000"), 0);
    assert_int_equal(seo_cpu_quota_parse(""), 0);
    assert_int_equal(seo_cpu_quota_parse("5"), 0);
    assert_int_equal(seo_cpu_quota_parse("5 0"), 0);
    assert_true(seo_cpu_threads_allowed() >= 1);
}

/* Processes on the same cores divide them; one has a thread at least. */
static void sharers_divide_threads(void **state) {
    (void)state;
    const int32_t allowed = seo_cpu_threads_allowed();
    const int32_t sharers[] = {0, 1, 2, 3, 10000};
    for (int i = 0; i < 5; i++) {
        seo_device *dev = NULL;
        const int32_t share = sharers[i] > 1 ? allowed / sharers[i] : allowed;
        must(seo_device_open_cpu(&(seo_cpu_options){.sharers = sharers[i]}, &dev));
        assert_int_equal(seo_device_threads(dev), share > 0 ? share : 1);
        seo_device_close(dev);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sharers_divide_threads), cmocka_unit_test(opens_what_was_asked),
        cmocka_unit_test(refuses_wrong_options),  cmocka_unit_test(counts_and_seals_memory),
        cmocka_unit_test(copies_and_zeroes),      cmocka_unit_test(times_events),
        cmocka_unit_test(tells_memory),           cmocka_unit_test(refuses_what_is_no_plugin),
        cmocka_unit_test(reads_quotas),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
