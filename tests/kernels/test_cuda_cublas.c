/* Whose matrix product runs: the CUDA backend with a library that stands in for cuBLASLt
 * (tests/simt/cublaslt.c). What the library is given, what our kernels keep, which one `auto` takes
 * and when, and that timing leaves every result right. Products of whole numbers, exact by either;
 * the derivative of GELU within its bound. */
#include <dlfcn.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <cublasLt.h>

#include "base/check.h"
#include "kernels/backend.h"
#include "kernels/cuda/cublas.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/matmul_choices.h"
#include "tests/kernels/gelu_oracle.h"
#include "tests/simt/device.h"
#include "tests/support/compare.h"
#include "tests/support/fill.h"

enum { M = 24, N = 16, K = 40, TIMINGS = 13 /* of each, before `auto` takes one */ };

static seo_device *g_dev;
static cublaslt_stand_in *g_blas;

#define OK(call) assert_int_equal(call, SEO_OK)

/* A device that would use the library, whatever the build has. */
static void open_with(seo_matmul_choice choice) {
    const seo_simt_options options = {.capability = 80, .cuda.matmul = SEO_MATMUL_OWN};
    OK(seo_device_open_simt(&options, &g_dev));
    seo_cuda_of(g_dev)->library = &seo_cublas_library;
    seo_cuda_of(g_dev)->matmul = choice;
    *g_blas = (cublaslt_stand_in){0};
}
/* Everything is given back. */
static void close_it(void) {
    seo_device_close(g_dev);
    assert_int_equal(g_blas->handles, 0);
    assert_int_equal(g_blas->objects, 0);
}

/* Whole numbers, in either type; `shift` elements behind an aligned address. */
static seo_tensor numbers(seo_dtype dtype, int64_t rows, int64_t columns, int64_t shift,
                          uint32_t stream) {
    const int64_t count = rows * columns, size = seo_dtype_bytes(dtype);
    float *x = new_f32(count);
    fill_whole(x, count, -2, 2, stream);
    void *at, *bytes = malloc((size_t)(count * 4));
    assert_non_null(bytes);
    memcpy(bytes, x, (size_t)(count * 4));
    for (int64_t i = 0; i < count && size == 2; i++) {
        memcpy((char *)bytes + 2 * i, (char *)&x[i] + 2, 2); /* the upper half: exact */
    }
    OK(seo_device_alloc(g_dev, (count + shift) * size, &at));
    at = (char *)at + shift * size;
    OK(seo_device_copy_in(g_dev, at, bytes, count * size));
    free(bytes);
    free(x);
    return seo_tensor_2d(at, dtype, rows, columns);
}
static void read_back(const seo_tensor *t, float *x) {
    const int64_t count = seo_tensor_count(t), size = seo_dtype_bytes(t->dtype);
    char *bytes = malloc((size_t)(count * size));
    assert_non_null(bytes);
    OK(seo_device_copy_out(g_dev, bytes, t->data, count * size));
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits = 0;
        memcpy((char *)&bits + 4 - size, bytes + i * size, (size_t)size);
        memcpy(&x[i], &bits, sizeof bits);
    }
    free(bytes);
}

typedef struct variant {
    seo_dtype dtype;
    bool wide, bias, accumulate;
    seo_matmul_epilogue epilogue;
    seo_gelu_kind gelu;
    bool by_library; /* what it has our meaning of */
} variant;
static const variant VARIANTS[] = {
    {.dtype = SEO_DTYPE_F32, .by_library = true},
    {.dtype = SEO_DTYPE_F32, .bias = true, .accumulate = true, .by_library = true},
    {.dtype = SEO_DTYPE_F32, .epilogue = SEO_EPILOGUE_DGELU},
    {.dtype = SEO_DTYPE_BF16, .by_library = true},
    {.dtype = SEO_DTYPE_BF16, .bias = true, .by_library = true},
    {.dtype = SEO_DTYPE_BF16, .wide = true, .by_library = true},
    {.dtype = SEO_DTYPE_BF16, .wide = true, .accumulate = true, .by_library = true},
    {.dtype = SEO_DTYPE_BF16, .wide = true, .bias = true},
    {.dtype = SEO_DTYPE_BF16, .bias = true, .epilogue = SEO_EPILOGUE_GELU, .by_library = true},
    {.dtype = SEO_DTYPE_BF16,
     .epilogue = SEO_EPILOGUE_GELU,
     .gelu = SEO_GELU_ERF,
     .by_library = true},
    {.dtype = SEO_DTYPE_BF16, .epilogue = SEO_EPILOGUE_DGELU, .by_library = true},
    {.dtype = SEO_DTYPE_BF16, .bias = true, .epilogue = SEO_EPILOGUE_DGELU},
    {.dtype = SEO_DTYPE_BF16, .epilogue = SEO_EPILOGUE_DGELU, .gelu = SEO_GELU_ERF},
};

static seo_matmul_args product_of(const variant *v, seo_matmul_layout layout) {
    const bool tn = layout == SEO_MATMUL_TN, nt = layout == SEO_MATMUL_NT;
    const seo_dtype out = v->wide ? SEO_DTYPE_F32 : v->dtype;
    seo_matmul_args a = {
        .layout = layout, .epilogue = v->epilogue, .gelu = v->gelu, .accumulate = v->accumulate};
    a.out = numbers(out, M, N, 0, 1);
    a.a = numbers(v->dtype, tn ? K : M, tn ? M : K, 0, 2);
    a.b = numbers(v->dtype, nt ? N : K, nt ? K : N, 0, 3);
    if (v->bias) {
        a.bias = numbers(v->dtype, 1, N, 0, 4);
        a.bias = seo_tensor_1d(a.bias.data, v->dtype, N);
    }
    if (v->epilogue != SEO_EPILOGUE_NONE) a.pre = numbers(out, M, N, 0, 5);
    return a;
}

/* Of the sums by our kernels, on tensors of their own, `times` times; GELU by its formula, from pre
 * as it was stored. */
static void expect_own(const variant *v, const seo_matmul_args *got, int times) {
    const bool gelu = v->epilogue == SEO_EPILOGUE_GELU, dgelu = v->epilogue == SEO_EPILOGUE_DGELU;
    seo_matmul_args own = product_of(v, got->layout);
    float x[M * N], y[M * N], pre[M * N];
    double want[M * N], bound[M * N];
    if (dgelu) own.out = numbers(SEO_DTYPE_F32, M, N, 0, 1);
    own.epilogue = SEO_EPILOGUE_NONE;
    own.pre = (seo_tensor){0};
    for (int i = 0; i < times; i++) OK(seo_matmul_own(g_dev, &own, SEO_MATMUL_BY_TABLE));
    read_back(&own.out, x);
    read_back(&got->out, y);
    if (gelu || dgelu) read_back(&got->pre, pre);
    if (gelu) assert_true(same_bits("pre", x, pre, M * N));
    for (int64_t i = 0; i < M * N; i++) {
        want[i] = (double)x[i];
        bound[i] = 0;
        if (!gelu && !dgelu) continue;
        const double term =
            dgelu ? gelu_slope_want((double)pre[i], v->gelu) : gelu_want((double)pre[i], v->gelu);
        const double off = gelu_bound((double)pre[i], v->gelu, dgelu, v->dtype);
        want[i] = dgelu ? want[i] * term : term;
        bound[i] = (dgelu ? fabs((double)x[i]) : 1) * off + fabs(want[i]) * F32_ROUND;
        bound[i] = stored_bound(v->dtype, want[i], bound[i]);
    }
    assert_true(all_close("a product", y, want, bound, M * N));
}

/* Asked for by name, the library does what it can, and our kernels the rest. */
static void test_by_name(void **unused) {
    (void)unused;
    open_with(SEO_MATMUL_CUBLASLT);
    for (int64_t i = 0; i < SEO_COUNT_OF(VARIANTS) * 3; i++) {
        const variant *v = &VARIANTS[i / 3];
        const seo_matmul_args a = product_of(v, (seo_matmul_layout)(i % 3));
        const int64_t products = g_blas->products, asked = g_blas->asked;
        OK(seo_cuda_matmul(g_dev, &a));
        OK(seo_cuda_matmul(g_dev, &a));
        assert_int_equal(g_blas->products - products, v->by_library ? 2 : 0);
        assert_int_equal(g_blas->asked - asked, v->by_library ? 1 : 0);
        expect_own(v, &a, 2);
    }
    close_it();
}

/* The faster one is taken at the first meeting, and kept; what is added to is added to once a
 * call. */
static void test_auto(void **unused) {
    (void)unused;
    for (int slow = 0; slow < 2; slow++) {
        open_with(SEO_MATMUL_AUTO);
        for (int64_t i = 0; i < SEO_COUNT_OF(VARIANTS); i++) {
            const variant *v = &VARIANTS[i];
            if (!v->by_library || (slow && i % 3 != 0)) continue;
            g_blas->delay_ms = slow ? 60 : 0;
            const seo_matmul_args a = product_of(v, SEO_MATMUL_TN);
            const int64_t before = g_blas->products;
            OK(seo_cuda_matmul(g_dev, &a));
            assert_int_equal(g_blas->products - before, TIMINGS + (slow ? 0 : 1));
            OK(seo_cuda_matmul(g_dev, &a));
            assert_int_equal(g_blas->products - before, TIMINGS + (slow ? 0 : 2));
            expect_own(v, &a, 2);
        }
        close_it();
    }
}

/* What was chosen once is chosen again, however fast either is by then, and not timed again. */
static void test_kept(void **unused) {
    (void)unused;
    char path[64];
    snprintf(path, sizeof path, "matmul_kept.%d.txt", (int)getpid());
    for (int slow = 0; slow < 2; slow++) {
        for (int again = 0; again < 2; again++) {
            open_with(SEO_MATMUL_AUTO);
            OK(seo_matmul_choices_open(path, &seo_cuda_of(g_dev)->choices));
            g_blas->delay_ms = slow != again ? 60 : 0;
            const seo_matmul_args a = product_of(&VARIANTS[0], (seo_matmul_layout)slow);
            OK(seo_cuda_matmul(g_dev, &a));
            assert_int_equal(g_blas->products, (again ? 0 : TIMINGS) + (slow ? 0 : 1));
            expect_own(&VARIANTS[0], &a, 1);
            close_it();
        }
    }
    unlink(path);
}

/* A product that is met in a capture is ours; one that is known stays the library's. */
static void test_capture(void **unused) {
    (void)unused;
    open_with(SEO_MATMUL_AUTO);
    const seo_matmul_args a = product_of(&VARIANTS[0], SEO_MATMUL_NN);
    g_dev->capturing = true;
    OK(seo_cuda_matmul(g_dev, &a));
    assert_int_equal(g_blas->handles, 0);
    g_dev->capturing = false;
    OK(seo_cuda_matmul(g_dev, &a));
    const seo_matmul_args other = product_of(&VARIANTS[0], SEO_MATMUL_NT);
    const int64_t before = g_blas->products;
    g_dev->capturing = true;
    OK(seo_cuda_matmul(g_dev, &a));
    assert_int_equal(g_blas->products, before + 1);
    OK(seo_cuda_matmul(g_dev, &other));
    assert_int_equal(g_blas->products, before + 1);
    g_dev->capturing = false;
    expect_own(&VARIANTS[0], &other, 1);
    close_it();
}

/* The library learns how views are aligned, and another alignment is another product. */
static void test_alignment(void **unused) {
    (void)unused;
    static const uint32_t WANT[] = {2, 16, 256, 256}; /* of b, a, out and out */
    open_with(SEO_MATMUL_CUBLASLT);
    seo_matmul_args a = product_of(&VARIANTS[3], SEO_MATMUL_NN);
    OK(seo_cuda_matmul(g_dev, &a));
    a.b = numbers(SEO_DTYPE_BF16, K, N, 3, 3);
    a.a = numbers(SEO_DTYPE_BF16, M, K, 8, 2);
    OK(seo_cuda_matmul(g_dev, &a));
    assert_int_equal(g_blas->asked, 2);
    assert_memory_equal(g_blas->alignments, WANT, sizeof WANT);
    expect_own(&VARIANTS[3], &a, 1);
    close_it();
}

/* A library that does not start is an error where it was asked for, and else does without. */
static void test_missing(void **unused) {
    (void)unused;
    open_with(SEO_MATMUL_CUBLASLT);
    g_blas->fail_create = true;
    assert_int_equal(seo_cublas_library.open(g_dev), SEO_ERR_DEVICE);
    assert_non_null(strstr(seo_err_detail(), "cuBLASLt: its start: the stand-in refuses"));
    close_it();
    open_with(SEO_MATMUL_AUTO);
    g_blas->fail_create = true;
    const seo_matmul_args a = product_of(&VARIANTS[0], SEO_MATMUL_NT);
    OK(seo_cuda_matmul(g_dev, &a));
    OK(seo_cuda_matmul(g_dev, &a));
    expect_own(&VARIANTS[0], &a, 1);
    close_it();
    open_with(SEO_MATMUL_CUBLASLT);
    g_blas->refuse = true;
    const seo_matmul_args b = product_of(&VARIANTS[0], SEO_MATMUL_NT);
    OK(seo_cuda_matmul(g_dev, &b));
    assert_int_equal(g_blas->products, 0);
    expect_own(&VARIANTS[0], &b, 1);
    close_it();
}

/* The same library that the backend opens. */
static int find_stand_in(void **unused) {
    (void)unused;
    void *library = dlopen(SEO_CUBLASLT_DIR "/libcublasLt.so.99", RTLD_NOW);
    if (!library) return 1;
    cublaslt_stand_in *(*get)(void);
    void *symbol = dlsym(library, "cublaslt_stand_in_get");
    memcpy(&get, &symbol, sizeof get);
    g_blas = get();
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_name),   cmocka_unit_test(test_auto),
        cmocka_unit_test(test_kept),      cmocka_unit_test(test_capture),
        cmocka_unit_test(test_alignment), cmocka_unit_test(test_missing),
    };
    return cmocka_run_group_tests(tests, find_stand_in, NULL);
}
