/* The plug-in as it was built: found beside the program, refused to another version, and on a
 * machine without a driver one clear line in the program's own error record. */
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/check.h"
#include "kernels/plugin.h"
#include "tests/support/op_check.h"

static seo_err fail_through(seo_err code, const char *file, int line, const char *message) {
    return seo_fail_at(code, file, line, "through the host: %s", message);
}
static seo_err context_through(seo_err code, const char *prefix) {
    return seo_err_context(code, "%s", prefix);
}

static void belongs_to_one_version(void **state) {
    (void)state;
    void *library = dlopen(SEO_CUDA_PLUGIN, RTLD_NOW | RTLD_LOCAL);
    if (!library) fail_msg("%s", dlerror());
    void *symbol = dlsym(library, "seo_cuda_plugin");
    assert_non_null(symbol);
    seo_plugin_entry *entry = NULL;
    memcpy(&entry, &symbol, sizeof entry);
    seo_plugin_host right;
    seo_plugin_host_fill(&right);
    right.fail = fail_through;
    right.context = context_through;
    seo_plugin_host wrong = right;
    wrong.abi = SEO_PLUGIN_ABI + 1;
    assert_null(entry(&wrong));
    wrong = right;
    wrong.layout ^= 8;
    assert_null(entry(&wrong));

    const seo_backend *backend = entry(&right);
    assert_non_null(backend);
    assert_string_equal(backend->name, "cuda");
    assert_true(backend->bf16);
#define SEO_OP(op) assert_true(backend->op != NULL);
#include "kernels/ops.def"
#undef SEO_OP
    if (backend->nccl && backend->nccl->find() != SEO_OK) { /* found, or told how to get it */
        assert_non_null(strstr(seo_err_detail(), "through the host: nccl: libnccl.so.2 is not"));
    }
    seo_device *dev = NULL;
    const seo_cuda_options no_such_gpu = {.ordinal = 1000};
    must_fail(seo_device_open_backend(backend, &no_such_gpu, &dev), SEO_ERR_UNSUPPORTED,
              "through the host: cuda: ");
    assert_null(dev);
}

/* With a GPU the device opens; without one, whatever is missing is told in one line. */
static void opens_or_says_why_not(void **state) {
    (void)state;
    const char *const paths[] = {NULL, SEO_CUDA_PLUGIN};
    for (int64_t i = 0; i < SEO_COUNT_OF(paths); i++) {
        seo_device *dev = NULL;
        const seo_cuda_options options = {.plugin = paths[i]};
        const seo_err err = seo_device_open_cuda(&options, &dev);
        if (err == SEO_OK) {
            assert_memory_equal(seo_device_name(dev), "cuda ", 5);
            must(seo_device_sync(dev));
            seo_device_close(dev);
            continue;
        }
        assert_int_equal(err, SEO_ERR_UNSUPPORTED);
        assert_null(dev);
        assert_memory_equal(seo_err_detail(), "cuda: ", 6);
        assert_null(strchr(seo_err_detail(), '\n'));
        assert_non_null(strstr(seo_err_where(), "kernels/cuda/backend.c"));
        assert_non_null(strstr(seo_err_detail(), "(or use device: cpu)"));
    }
}

/* The commonest machine: no NVIDIA driver at all. */
static void names_the_missing_driver(void **state) {
    (void)state;
    seo_device *dev = NULL;
    if (access("/proc/driver/nvidia", F_OK) == 0 || access("/dev/nvidiactl", F_OK) == 0 ||
        access("/dev/dxg", F_OK) == 0 || dlopen("libcuda.so.1", RTLD_LAZY)) {
        skip();
    }
    must_fail(seo_device_open_cuda(&(seo_cuda_options){0}, &dev), SEO_ERR_UNSUPPORTED,
              "cuda: this machine has no NVIDIA driver; install one for CUDA ");
    assert_null(dev);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(belongs_to_one_version),
        cmocka_unit_test(opens_or_says_why_not),
        cmocka_unit_test(names_the_missing_driver),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
