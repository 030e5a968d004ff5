/* What a device refuses after it failed and while it captures, and what check_each adds, over a
 * backend that does nothing but answer as it is told. The CUDA backend goes through the same states
 * with real work where kernels can be emulated. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/backend.h"
#include "tests/support/op_check.h"

/* What the backend answers, and what it was asked. */
typedef struct script {
    seo_err add, sync, copy_in, capture_end;
    int adds, syncs, ends, graphs; /* graphs: made and not freed */
    bool check_each;
} script;
static script *g_script;

static seo_err answer(seo_err err, const char *what) {
    return err == SEO_OK ? SEO_OK : SEO_FAIL(err, "%s went wrong", what);
}
static seo_err fake_open(seo_device *dev, const void *options) {
    (void)options;
    dev->name[0] = 'f';
    dev->check_each = g_script->check_each;
    return SEO_OK;
}
static void fake_close(seo_device *dev) {
    (void)dev;
}
static seo_err fake_add(seo_device *dev, const seo_add_args *a) {
    (void)dev, (void)a;
    g_script->adds++;
    return answer(g_script->add, "add");
}
static seo_err fake_sync(seo_device *dev) {
    (void)dev;
    g_script->syncs++;
    return answer(g_script->sync, "queued work");
}
static seo_err fake_copy_in(seo_device *dev, void *dst, const void *src, int64_t bytes) {
    (void)dev, (void)dst, (void)src, (void)bytes;
    return answer(g_script->copy_in, "copy_in");
}
static seo_err fake_capture_begin(seo_device *dev) {
    (void)dev;
    return SEO_OK;
}
static seo_err fake_capture_end(seo_device *dev, void **graph) {
    (void)dev;
    g_script->ends++;
    if (g_script->capture_end != SEO_OK) return answer(g_script->capture_end, "capture_end");
    g_script->graphs++;
    *graph = g_script;
    return SEO_OK;
}
static void fake_graph_free(seo_device *dev, void *graph) {
    (void)dev;
    if (graph) g_script->graphs--;
}

static const seo_backend fake = {.name = "fake",
                                 .add = fake_add,
                                 .row_multiple = 1,
                                 .open = fake_open,
                                 .copy_in = fake_copy_in,
                                 .sync = fake_sync,
                                 .close = fake_close,
                                 .capture_begin = fake_capture_begin,
                                 .capture_end = fake_capture_end,
                                 .graph_free = fake_graph_free};

static seo_device *open_fake(script *s) {
    seo_device *dev = NULL;
    g_script = s;
    must(seo_device_open_backend(&fake, NULL, &dev));
    return dev;
}

static seo_err add(seo_device *dev) {
    float x[4] = {0};
    const seo_tensor t = seo_tensor_1d(x, SEO_DTYPE_F32, 4);
    return seo_add(dev, &(seo_add_args){.out = t, .a = t, .b = t});
}

static void a_lost_device_does_no_more(void **state) {
    (void)state;
    script s = {0};
    seo_device *dev = open_fake(&s);
    void *ptr = NULL;
    s.copy_in = SEO_ERR_ARG; /* an error of a caller: the device goes on */
    must_fail(seo_device_copy_in(dev, &s, &s, 1), SEO_ERR_ARG, "copy_in went wrong");
    must(add(dev));
    s.add = SEO_ERR_DEVICE;
    must_fail(add(dev), SEO_ERR_DEVICE, "add went wrong");
    s.add = SEO_OK;
    must_fail(add(dev), SEO_ERR_DEVICE, "f: closed to further work after an error: add went wrong");
    must_fail(seo_device_sync(dev), SEO_ERR_DEVICE, "after an error: add went wrong");
    must_fail(seo_device_alloc(dev, 1, &ptr), SEO_ERR_DEVICE, "after an error: add went wrong");
    must_fail(seo_device_capture_begin(dev), SEO_ERR_DEVICE, "after an error: add went wrong");
    assert_int_equal(s.adds, 2);
    assert_int_equal(s.syncs, 0);
    seo_device_close(dev);
}

/* Whatever fails inside, the graph is not handed out, the first error is told, and the device is as
 * it was. */
static void a_capture_is_whole_or_nothing(void **state) {
    (void)state;
    script s = {0};
    seo_device *dev = open_fake(&s);
    seo_graph *graph = NULL;
    assert_true(seo_device_has_graphs(dev));
    must(seo_device_capture_begin(dev));
    must(add(dev));
    must(seo_device_capture_end(dev, &graph));
    assert_non_null(graph);

    seo_graph *none = graph;
    must(seo_device_capture_begin(dev));
    s.add = SEO_ERR_DEVICE;
    must_fail(add(dev), SEO_ERR_DEVICE, "add went wrong");
    must_fail(seo_device_sync(dev), SEO_ERR_ARG,
              "f: sync cannot be part of a graph; end the capture first");
    assert_int_equal(s.syncs, 0);
    assert_int_equal(seo_device_capture_end(dev, &none), SEO_ERR_DEVICE);
    assert_null(none);
    s.add = SEO_OK;
    must(add(dev));

    must(seo_device_capture_begin(dev));
    s.capture_end = SEO_ERR_DEVICE;
    must_fail(seo_device_capture_end(dev, &none), SEO_ERR_DEVICE, "capture_end went wrong");
    assert_null(none);
    s.capture_end = SEO_OK;
    must(add(dev));
    assert_int_equal(s.graphs, 1);
    seo_graph_close(graph);

    must(seo_device_capture_begin(dev));
    seo_device_close(dev);
    assert_int_equal(s.ends, 4);
    assert_int_equal(s.graphs, 0);
}

static void check_each_names_the_operator(void **state) {
    (void)state;
    script s = {.check_each = true};
    seo_device *dev = open_fake(&s);
    assert_false(seo_device_has_graphs(dev));
    must(add(dev));
    assert_int_equal(s.syncs, 1);
    s.sync = SEO_ERR_ARG; /* what a kernel found in its input */
    must_fail(add(dev), SEO_ERR_ARG, "add: queued work went wrong");
    s.sync = SEO_OK;
    must(add(dev));
    s.sync = SEO_ERR_DEVICE;
    must_fail(add(dev), SEO_ERR_DEVICE, "add: queued work went wrong");
    must_fail(add(dev), SEO_ERR_DEVICE, "after an error: add: queued work went wrong");
    seo_device_close(dev);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lost_device_does_no_more),
        cmocka_unit_test(a_capture_is_whole_or_nothing),
        cmocka_unit_test(check_each_names_the_operator),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
