/* Which device is opened, and in which type it computes: every wish against every machine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/log.h"
#include "odd_device.h"
#include "train/device.h"

static seo_cuda_options g_asked;

static seo_err no_plugin(const seo_cuda_options *options, seo_device **out) {
    (void)options;
    *out = NULL;
    return SEO_FAIL(SEO_ERR_MISSING, "cuda: there is no plug-in");
}

static seo_err no_driver(const seo_cuda_options *options, seo_device **out) {
    (void)options;
    *out = NULL;
    return SEO_FAIL(SEO_ERR_UNSUPPORTED, "cuda: no driver; install one");
}

static seo_err broken(const seo_cuda_options *options, seo_device **out) {
    (void)options;
    *out = NULL;
    return SEO_FAIL(SEO_ERR_DEVICE, "cuda: it fell off the bus");
}

static seo_err good_gpu(const seo_cuda_options *options, seo_device **out) {
    g_asked = *options;
    *out = odd_device_open((odd_options){.gpu = true, .bf16 = true});
    return SEO_OK;
}

typedef struct opened {
    seo_err err;
    bool cpu;
    seo_dtype storage;
} opened;

static opened open_wish(seo_device_choice device, seo_precision precision, seo_cuda_opener *gpu) {
    seo_device *dev = NULL;
    opened o = {.storage = SEO_DTYPE_I32};
    const seo_device_wish wish = {
        .device = device, .precision = precision, .threads = 1, .open_cuda = gpu};
    o.err = seo_device_open_wish(&wish, &dev, &o.storage);
    assert_int_equal(dev != NULL, o.err == SEO_OK);
    if (dev) o.cpu = seo_device_is_cpu(dev);
    seo_device_close(dev);
    return o;
}

static void on_a_gpu(void **state) {
    (void)state;
    const seo_device_choice choices[] = {SEO_DEVICE_AUTO, SEO_DEVICE_CUDA};
    for (int64_t i = 0; i < SEO_COUNT_OF(choices); i++) {
        const opened a = open_wish(choices[i], SEO_PRECISION_AUTO, good_gpu);
        assert_true(a.err == SEO_OK && !a.cpu && a.storage == SEO_DTYPE_BF16);
        const opened b = open_wish(choices[i], SEO_PRECISION_F32, good_gpu);
        assert_true(b.err == SEO_OK && !b.cpu && b.storage == SEO_DTYPE_F32);
        const opened c = open_wish(choices[i], SEO_PRECISION_BF16, good_gpu);
        assert_true(c.err == SEO_OK && !c.cpu && c.storage == SEO_DTYPE_BF16);
    }
    const opened cpu = open_wish(SEO_DEVICE_CPU, SEO_PRECISION_AUTO, good_gpu);
    assert_true(cpu.err == SEO_OK && cpu.cpu && cpu.storage == SEO_DTYPE_F32);
    seo_device *dev = NULL;
    seo_dtype storage = SEO_DTYPE_F32;
    const seo_device_wish own = {.matmul = SEO_MATMUL_OWN, .open_cuda = good_gpu};
    assert_int_equal(seo_device_open_wish(&own, &dev, &storage), SEO_OK);
    assert_int_equal(g_asked.matmul, SEO_MATMUL_OWN);
    seo_device_close(dev);
}

static void without_one(void **state) {
    (void)state;
    seo_cuda_opener *const reasons[] = {no_plugin, no_driver};
    for (int64_t i = 0; i < SEO_COUNT_OF(reasons); i++) {
        const opened a = open_wish(SEO_DEVICE_AUTO, SEO_PRECISION_AUTO, reasons[i]);
        assert_true(a.err == SEO_OK && a.cpu && a.storage == SEO_DTYPE_F32);
        const opened b = open_wish(SEO_DEVICE_CUDA, SEO_PRECISION_AUTO, reasons[i]);
        assert_int_equal(b.err, SEO_ERR_USAGE);
        assert_int_equal(strncmp(seo_err_detail(), "cuda: ", 6), 0);
        const opened c = open_wish(SEO_DEVICE_AUTO, SEO_PRECISION_BF16, reasons[i]);
        assert_int_equal(c.err, SEO_ERR_USAGE);
        assert_non_null(strstr(seo_err_detail(), "bf16 needs a GPU, and there is none here"));
        seo_device *dev = NULL;
        seo_dtype storage = SEO_DTYPE_F32;
        const seo_device_wish lt = {.matmul = SEO_MATMUL_CUBLASLT, .open_cuda = reasons[i]};
        assert_int_equal(seo_device_open_wish(&lt, &dev, &storage), SEO_ERR_USAGE);
        assert_non_null(strstr(seo_err_detail(), "cublaslt needs a GPU"));
    }
}

/* A GPU that is there and fails is no reason to compute elsewhere in silence. */
static void one_that_fails(void **state) {
    (void)state;
    assert_int_equal(open_wish(SEO_DEVICE_AUTO, SEO_PRECISION_AUTO, broken).err, SEO_ERR_DEVICE);
    assert_int_equal(open_wish(SEO_DEVICE_CUDA, SEO_PRECISION_AUTO, broken).err, SEO_ERR_DEVICE);
    assert_int_equal(open_wish(SEO_DEVICE_CPU, SEO_PRECISION_AUTO, broken).err, SEO_OK);
}

static void words(void **state) {
    (void)state;
    seo_device_choice choice = SEO_DEVICE_AUTO;
    assert_int_equal(seo_device_choice_parse("cuda", &choice), SEO_OK);
    assert_int_equal(choice, SEO_DEVICE_CUDA);
    assert_int_equal(seo_device_choice_parse("cpu", &choice), SEO_OK);
    assert_int_equal(choice, SEO_DEVICE_CPU);
    assert_int_equal(seo_device_choice_parse("gpu", &choice), SEO_ERR_USAGE);
    assert_string_equal(seo_err_detail(), "--device is auto, cpu or cuda, not 'gpu'");
}

int main(void) {
    seo_log_setup(&(seo_log_options){.level = SEO_LOG_QUIET});
    const struct CMUnitTest tests[] = {cmocka_unit_test(on_a_gpu), cmocka_unit_test(without_one),
                                       cmocka_unit_test(one_that_fails), cmocka_unit_test(words)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
