/* The CUDA matrix product on the CPU layer: every kernel, layout, dtype and epilogue against the
 * formula in double, on shapes on and off the tiles, of size 1, misaligned, and with a split k.
 * Outputs are NaN before each run, twice gives the same bits, and accumulating twice adds twice. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <simt_options.h>

#include "base/check.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/matmul.h"
#include "tests/kernels/gelu_oracle.h"
#include "tests/simt/device.h"
#include "tests/support/compare.h"
#include "tests/support/fill.h"

enum { SPLITS = 32 }; /* the most parts of a sum over k */

typedef struct shape {
    int64_t m, n, k;
} shape;

/* What the epilogue does, apart from the layout and the storage type. */
typedef struct finish {
    const char *name;
    bool bias, accumulate, wide;
    seo_matmul_epilogue epilogue;
    seo_gelu_kind gelu;
} finish;
static const finish FINISHES[] = {
    {"=", false, false, false, SEO_EPILOGUE_NONE, SEO_GELU_TANH},
    {"bias", true, false, false, SEO_EPILOGUE_NONE, SEO_GELU_TANH},
    {"f32", false, false, true, SEO_EPILOGUE_NONE, SEO_GELU_TANH},
    {"+=", false, true, true, SEO_EPILOGUE_NONE, SEO_GELU_TANH},
    {"bias +=", true, true, true, SEO_EPILOGUE_NONE, SEO_GELU_TANH},
    {"bias gelu tanh", true, false, false, SEO_EPILOGUE_GELU, SEO_GELU_TANH},
    {"gelu erf", false, false, false, SEO_EPILOGUE_GELU, SEO_GELU_ERF},
    {"bias gelu tanh f32", true, false, true, SEO_EPILOGUE_GELU, SEO_GELU_TANH},
    {"dgelu tanh", false, false, false, SEO_EPILOGUE_DGELU, SEO_GELU_TANH},
    {"bias dgelu erf", true, false, false, SEO_EPILOGUE_DGELU, SEO_GELU_ERF},
    {"dgelu erf f32", false, false, true, SEO_EPILOGUE_DGELU, SEO_GELU_ERF},
};

typedef struct matmul_case {
    int32_t variant;
    seo_dtype dtype;
    seo_matmul_layout layout;
    shape s;
    const finish *f;
    int64_t shift_in, shift_out; /* elements by which views start off the alignment */
} matmul_case;

/* One tensor: host numbers as the device has them, in f32, and its place on the device. */
typedef struct operand {
    float *x;
    int64_t count;
    void *memory;
    seo_tensor t;
} operand;

static seo_device *g_dev;

#define OK(call) assert_int_equal(call, cudaSuccess)

static uint16_t bf16_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (x != x) return 0x7fff;
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
static float f32_of(uint16_t half) {
    const uint32_t bits = (uint32_t)half << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Host numbers to the tensor; those of a bf16 one are rounded on both sides. */
static void upload(operand *o) {
    const size_t size = (size_t)seo_dtype_bytes(o->t.dtype);
    void *bytes = malloc((size_t)o->count * size);
    assert_non_null(bytes);
    memcpy(bytes, o->x, size == 4 ? (size_t)o->count * size : 0);
    for (int64_t i = 0; i < o->count && size == 2; i++) {
        ((uint16_t *)bytes)[i] = bf16_of(o->x[i]);
        o->x[i] = f32_of(((uint16_t *)bytes)[i]);
    }
    OK(cudaMemcpy(o->t.data, bytes, (size_t)o->count * size, cudaMemcpyHostToDevice));
    free(bytes);
}
static void download(const operand *o, float *x) {
    const size_t size = (size_t)seo_dtype_bytes(o->t.dtype);
    void *bytes = malloc((size_t)o->count * size);
    assert_non_null(bytes);
    OK(cudaMemcpy(bytes, o->t.data, (size_t)o->count * size, cudaMemcpyDeviceToHost));
    if (size == 4) memcpy(x, bytes, (size_t)o->count * size);
    for (int64_t i = 0; i < o->count && size == 2; i++) x[i] = f32_of(((uint16_t *)bytes)[i]);
    free(bytes);
}

/* stream 0: filled with NaN. */
static operand new_operand(seo_dtype dtype, int64_t rows, int64_t columns, int64_t shift,
                           uint32_t stream) {
    operand o = {.x = new_f32(rows * columns), .count = rows * columns};
    const int64_t size = seo_dtype_bytes(dtype);
    OK(cudaMalloc(&o.memory, (size_t)((o.count + shift) * size)));
    o.t = seo_tensor_2d((char *)o.memory + shift * size, dtype, rows, columns);
    if (stream)
        fill_uniform(o.x, o.count, -1.0f, 1.0f, stream);
    else
        for (int64_t i = 0; i < o.count; i++) o.x[i] = NAN;
    upload(&o);
    return o;
}
static void free_operand(operand *o) {
    if (o->memory) OK(cudaFree(o->memory));
    free(o->x);
}

typedef struct run_data {
    operand out, a, b, bias, pre;
    seo_matmul_args args;
    double *sum, *size; /* of the products and the bias, and of their absolute values */
} run_data;

static void free_run(run_data *r) {
    free_operand(&r->out);
    free_operand(&r->a);
    free_operand(&r->b);
    free_operand(&r->bias);
    free_operand(&r->pre);
    free(r->sum);
    free(r->size);
}

static void sum_products(run_data *r, const matmul_case *c) {
    const shape s = c->s;
    const bool a_across = c->layout == SEO_MATMUL_TN, b_across = c->layout != SEO_MATMUL_NT;
    r->sum = new_f64(s.m * s.n);
    r->size = new_f64(s.m * s.n);
    for (int64_t i = 0; i < s.m * s.n; i++) {
        const int64_t row = i / s.n, column = i % s.n;
        const float *a = r->a.x + (a_across ? row : row * s.k);
        const float *b = r->b.x + (b_across ? column : column * s.k);
        double sum = c->f->bias ? (double)r->bias.x[column] : 0.0, size = fabs(sum);
        for (int64_t j = 0; j < s.k; j++) {
            const double x = (double)a[a_across ? j * s.m : j] * (double)b[b_across ? j * s.n : j];
            sum += x;
            size += fabs(x);
        }
        r->sum[i] = sum;
        r->size[i] = size;
    }
}

static run_data new_run(const matmul_case *c) {
    const shape s = c->s;
    const bool tn = c->layout == SEO_MATMUL_TN, nt = c->layout == SEO_MATMUL_NT;
    const seo_dtype out = c->f->wide ? SEO_DTYPE_F32 : c->dtype;
    run_data r = {.args = {.layout = c->layout,
                           .epilogue = c->f->epilogue,
                           .gelu = c->f->gelu,
                           .accumulate = c->f->accumulate}};
    r.out = new_operand(out, s.m, s.n, c->shift_out, c->f->accumulate ? 1 : 0);
    r.a = new_operand(c->dtype, tn ? s.k : s.m, tn ? s.m : s.k, c->shift_in, 2);
    r.b = new_operand(c->dtype, nt ? s.n : s.k, nt ? s.k : s.n, c->shift_in, 3);
    r.args.out = r.out.t;
    r.args.a = r.a.t;
    r.args.b = r.b.t;
    if (c->f->bias) {
        r.bias = new_operand(c->dtype, 1, s.n, 0, 4);
        r.args.bias = seo_tensor_1d(r.bias.t.data, c->dtype, s.n);
    }
    if (c->f->epilogue != SEO_EPILOGUE_NONE) {
        r.pre = new_operand(out, s.m, s.n, 0, c->f->epilogue == SEO_EPILOGUE_DGELU ? 5 : 0);
        r.args.pre = r.pre.t;
    }
    sum_products(&r, c);
    return r;
}

/* GELU is compared from pre as the kernel stored it, which itself is compared with the sum. */
static bool check_values(const char *what, const run_data *r, const matmul_case *c, int times,
                         const float *out, const float *pre) {
    const int64_t count = c->s.m * c->s.n;
    const seo_dtype stored = r->out.t.dtype;
    const seo_gelu_kind kind = c->f->gelu;
    double *want = new_f64(count), *bound = new_f64(count);
    bool ok = true;
    for (int64_t i = 0; i < count; i++) {
        const double start = c->f->accumulate ? (double)r->out.x[i] : 0.0;
        want[i] = start + times * r->sum[i];
        bound[i] =
            dot_bound(c->dtype, c->s.k, 3 + times + SPLITS, fabs(start) + times * r->size[i]);
        if (c->f->epilogue == SEO_EPILOGUE_DGELU) {
            const double slope = gelu_slope_want((double)pre[i], kind);
            const double off = gelu_bound((double)pre[i], kind, true, c->dtype);
            bound[i] =
                (bound[i] + fabs(want[i]) * F32_ROUND) * (fabs(slope) + off) + fabs(want[i]) * off;
            want[i] *= slope;
        }
        bound[i] = stored_bound(stored, want[i], bound[i]);
    }
    if (c->f->epilogue == SEO_EPILOGUE_GELU) {
        ok = all_close(what, pre, want, bound, count);
        for (int64_t i = 0; i < count; i++) {
            want[i] = gelu_want((double)pre[i], kind);
            bound[i] =
                stored_bound(stored, want[i], gelu_bound((double)pre[i], kind, false, c->dtype));
        }
    }
    ok = all_close(what, out, want, bound, count) && ok;
    free(want);
    free(bound);
    return ok;
}

static void run_once(const char *what, const run_data *r, const matmul_case *c) {
    seo_cuda_of(g_dev)->capability =
        c->variant < 0 ? 90 : seo_matmul_variant_capability(c->variant);
    simt_stats_clear();
    const seo_err err = seo_matmul_own(g_dev, &r->args, c->variant);
    if (err != SEO_OK || simt_last_error() != SIMT_OK || cudaDeviceSynchronize() != cudaSuccess) {
        fail_msg("%s under %s: %s\n%s", what, simt_schedule_name(), seo_err_detail(),
                 simt_last_report());
    }
    if (simt_stats_get().ldmatrix_conflicts != 0) fail_msg("%s: bank conflicts of ldmatrix", what);
}

static void check_case(const matmul_case *c) {
    static const char *const LAYOUTS[] = {"NT", "NN", "TN"};
    char what[160];
    snprintf(what, sizeof what, "%s %s %s %lldx%lldx%lld %s",
             c->variant < 0 ? "table" : seo_matmul_variant_name(c->variant),
             c->dtype == SEO_DTYPE_BF16 ? "bf16" : "f32", LAYOUTS[c->layout], (long long)c->s.m,
             (long long)c->s.n, (long long)c->s.k, c->f->name);
    run_data r = new_run(c);
    const int64_t count = c->s.m * c->s.n;
    float *first = new_f32(count), *second = new_f32(count), *pre = new_f32(count);
    run_once(what, &r, c);
    download(&r.out, first);
    if (r.pre.memory) download(&r.pre, pre);
    bool ok = check_values(what, &r, c, 1, first, pre);
    if (c->f->accumulate) {
        run_once(what, &r, c);
        download(&r.out, second);
        ok = check_values(what, &r, c, 2, second, pre) && ok;
        upload(&r.out);
    }
    /* Other threads first, and another device, change no bit. */
    simt_options_get()->order = (simt_options_get()->order + 1) % 4;
    seo_cuda_of(g_dev)->multiprocessors = 7;
    run_once(what, &r, c);
    seo_cuda_of(g_dev)->multiprocessors = 132;
    download(&r.out, second);
    ok = same_bits(what, first, second, count) && ok;
    assert_true(ok);
    free(first);
    free(second);
    free(pre);
    free_run(&r);
}

/* The names tell what a kernel needs. */
static bool served(const matmul_case *c) {
    const char *name = seo_matmul_variant_name(c->variant);
    if (strstr(name, "f32")) return c->dtype == SEO_DTYPE_F32;
    if (c->dtype == SEO_DTYPE_F32) return false;
    if (strstr(name, "by element")) return true;
    if (strstr(name, "wgmma") && c->layout != SEO_MATMUL_NT) return false;
    const int64_t a = c->layout == SEO_MATMUL_TN ? c->s.m : c->s.k;
    const int64_t b = c->layout == SEO_MATMUL_NT ? c->s.k : c->s.n;
    return a % 8 == 0 && b % 8 == 0 && c->shift_in == 0;
}

/* Every kernel that serves it, each under another schedule than the one before. */
static void check_variants(matmul_case c) {
    static int schedule = 0;
    for (c.variant = 0; c.variant < seo_matmul_variant_count(); c.variant++) {
        if (!served(&c)) continue;
        simt_set_schedule(schedule++ % simt_schedule_count());
        check_case(&c);
    }
}

static void check_dtypes(seo_matmul_layout layout, shape s, const finish *f, int64_t shift_in,
                         int64_t shift_out) {
    matmul_case c = {.layout = layout, .s = s, .f = f, .shift_in = shift_in};
    c.shift_out = shift_out;
    for (c.dtype = SEO_DTYPE_F32; c.dtype <= SEO_DTYPE_BF16; c.dtype++) check_variants(c);
}

/* Every finish at one shape that leaves a rest in all directions, and at a misaligned one. */
static void test_finishes(void **unused) {
    (void)unused;
    for (int64_t i = 0; i < SEO_COUNT_OF(FINISHES); i++) {
        const seo_matmul_layout layout = (seo_matmul_layout)(i % 3);
        check_dtypes(layout, (shape){72, 88, 40}, &FINISHES[i], 0, 0);
        check_dtypes(layout, (shape){67, 75, 35}, &FINISHES[i], 0, 0);
    }
}

/* Sizes of 1, whole tiles, a column and a row more, long and short k, in every layout. */
static void test_shapes(void **unused) {
    (void)unused;
    static const shape SHAPES[] = {{1, 1, 1},    {8, 8, 8},      {1, 5, 33},     {65, 1, 16},
                                   {64, 64, 32}, {128, 256, 64}, {136, 264, 72}, {129, 65, 129},
                                   {8, 16, 296}, {200, 24, 104}};
    for (int64_t i = 0; i < SEO_COUNT_OF(SHAPES) * 3; i++) {
        check_dtypes((seo_matmul_layout)(i % 3), SHAPES[i / 3],
                     &FINISHES[i * 5 % SEO_COUNT_OF(FINISHES)], 0, 0);
    }
}

/* Views that start at any element: of the operands, and of the output alone. */
static void test_misaligned_views(void **unused) {
    (void)unused;
    for (int64_t i = 0; i < SEO_COUNT_OF(FINISHES); i++) {
        const seo_matmul_layout layout = (seo_matmul_layout)((i + 1) % 3);
        check_dtypes(layout, (shape){40, 72, 48}, &FINISHES[i], 1 + i % 7, 0);
        check_dtypes(layout, (shape){40, 72, 48}, &FINISHES[i], 0, 1 + i % 7);
    }
}

/* From k = 2048 on with few tiles the sum is split; the parts end on and off the tiles. The large
 * tiles do one of these. */
static void test_split_k(void **unused) {
    (void)unused;
    static const shape SHAPES[] = {{24, 40, 2048}, {16, 72, 2120}, {9, 21, 3083}};
    for (int i = 0; i < 9; i++) {
        matmul_case c = {.layout = (seo_matmul_layout)(i % 3), .s = SHAPES[i / 3]};
        c.f = &FINISHES[i % SEO_COUNT_OF(FINISHES)];
        for (c.variant = 0; c.variant < seo_matmul_variant_count(); c.variant++) {
            const char *name = seo_matmul_variant_name(c.variant);
            c.dtype = strstr(name, "f32") ? SEO_DTYPE_F32 : SEO_DTYPE_BF16;
            if (!served(&c) || (i != 3 && !strstr(name, "64x64"))) continue;
            simt_set_schedule(i % simt_schedule_count());
            check_case(&c);
        }
    }
}

/* One case of each kernel under each schedule. */
static void test_schedules(void **unused) {
    (void)unused;
    for (int i = 0; i < simt_schedule_count(); i++) {
        matmul_case c = {.s = {72, 80, 168}, .f = &FINISHES[i % SEO_COUNT_OF(FINISHES)]};
        for (c.variant = 0; c.variant < seo_matmul_variant_count(); c.variant++) {
            c.layout = (seo_matmul_layout)((i + c.variant) % 3);
            c.dtype =
                strstr(seo_matmul_variant_name(c.variant), "f32") ? SEO_DTYPE_F32 : SEO_DTYPE_BF16;
            if (!served(&c)) continue;
            simt_set_schedule(i);
            check_case(&c);
        }
    }
}

/* The kernel that the table has for a product of these sizes. */
static void expect_pick(const char *name, int32_t capability, seo_dtype dtype,
                        seo_matmul_layout layout, shape s) {
    const bool tn = layout == SEO_MATMUL_TN, nt = layout == SEO_MATMUL_NT;
    const seo_matmul_args a = {.out = seo_tensor_2d(NULL, dtype, s.m, s.n),
                               .a = seo_tensor_2d(NULL, dtype, tn ? s.k : s.m, tn ? s.m : s.k),
                               .b = seo_tensor_2d(NULL, dtype, nt ? s.n : s.k, nt ? s.k : s.n),
                               .layout = layout};
    seo_cuda_of(g_dev)->capability = capability;
    assert_string_equal(seo_matmul_variant_name(seo_matmul_variant_for(g_dev, &a)), name);
}

static void test_table(void **unused) {
    (void)unused;
    const seo_dtype f32 = SEO_DTYPE_F32, bf16 = SEO_DTYPE_BF16;
    const seo_matmul_layout nt = SEO_MATMUL_NT, nn = SEO_MATMUL_NN, tn = SEO_MATMUL_TN;
    expect_pick("wgmma 256x128", 90, bf16, nt, (shape){8192, 3072, 768});
    expect_pick("mma 128x256", 100, bf16, nt, (shape){8192, 3072, 768});
    expect_pick("mma 128x256", 80, bf16, nn, (shape){8192, 768, 3072});
    expect_pick("mma 128x256", 90, bf16, tn, (shape){768, 2304, 65536}); /* 4 parts of k */
    expect_pick("mma 128x128", 89, bf16, nn, (shape){8192, 768, 3072});
    expect_pick("mma 128x128", 80, bf16, nt, (shape){8192, 1600, 6400}); /* 256 pads too much */
    expect_pick("mma 64x64", 90, bf16, nt, (shape){1024, 384, 384});
    expect_pick("mma 64x64 by element", 90, bf16, nn, (shape){8192, 65, 384});
    expect_pick("f32 128x128", 86, f32, nn, (shape){8192, 768, 3072});
    expect_pick("f32 64x64", 100, f32, tn, (shape){7, 65, 3});
    for (seo_dtype dtype = f32; dtype <= bf16; dtype++) {
        const matmul_case c = {
            SEO_MATMUL_BY_TABLE, dtype, SEO_MATMUL_NN, {40, 48, 64}, FINISHES, 0, 0};
        simt_set_schedule(0);
        check_case(&c);
    }
}

static int open_device(void **unused) {
    (void)unused;
    const seo_simt_options options = {.capability = 90, .cuda.matmul = SEO_MATMUL_OWN};
    return seo_device_open_simt(&options, &g_dev) != SEO_OK;
}
static int close_device(void **unused) {
    (void)unused;
    seo_device_close(g_dev);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_finishes),         cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_misaligned_views), cmocka_unit_test(test_split_k),
        cmocka_unit_test(test_schedules),        cmocka_unit_test(test_table),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}
