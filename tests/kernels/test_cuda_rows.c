/* What the CUDA operators on rows and flat arrays promise beyond their contracts: the CPU's own
 * bits where no sum is rounded, the same bits on every GPU, and harmless rows where numbers are not
 * finite. */
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
#include "kernels/cuda/cuda.h"
#include "tests/simt/device.h"
#include "tests/support/compare.h"
#include "tests/support/fill.h"
#include "tests/support/op_check.h"

static seo_device *g_cpu, *g_cuda;

/* The i-th schedule, and another number of multiprocessors with each. */
static void set_run(int i) {
    static const int32_t counts[] = {132, 1, 3};
    simt_set_schedule(i);
    seo_cuda_of(g_cuda)->multiprocessors = counts[i % SEO_COUNT_OF(counts)];
}

/* A copy of `data` on dev; NULL: NaN all over. */
static seo_tensor put(seo_device *dev, seo_tensor shape, const void *data) {
    const int64_t bytes = seo_tensor_bytes(&shape);
    void *host = malloc((size_t)bytes);
    SEO_ASSERT(host != NULL);
    memset(host, 0xff, (size_t)bytes);
    if (data) memcpy(host, data, (size_t)bytes);
    must(seo_device_alloc(dev, bytes, &shape.data));
    must(seo_device_copy_in(dev, shape.data, host, bytes));
    must(seo_device_sync(dev));
    free(host);
    return shape;
}
static void get(seo_device *dev, const seo_tensor *t, void *out) {
    must(seo_device_copy_out(dev, out, t->data, seo_tensor_bytes(t)));
}
static seo_tensor f32_1d(int64_t n) {
    return seo_tensor_1d(NULL, SEO_DTYPE_F32, n);
}

/* Runs `op` on the CPU and on the GPU under every schedule: `count` floats must be equal. */
static void same_as_cpu(const char *what, int64_t count,
                        void (*op)(seo_device *, const void *, float *), const void *input) {
    float *want = new_f32(count), *got = new_f32(count);
    op(g_cpu, input, want);
    for (int i = 0; i < simt_schedule_count(); i++) {
        set_run(i);
        op(g_cuda, input, got);
        assert_true(same_bits(what, want, got, count));
    }
    free(want);
    free(got);
}

/* ---- normal, dropout ---- */

typedef struct draw {
    int64_t count, width, first_index;
    float rate;
    bool placed;
} draw;

static void run_normal(seo_device *dev, const void *input, float *out) {
    const draw *d = input;
    seo_normal_args a = {.out = put(dev, f32_1d(d->count), NULL),
                         .key = {.seed = 41, .purpose = SEO_PURPOSE_INIT | 7u << 8},
                         .first_index = d->first_index,
                         .std = 0.02f};
    must(seo_normal(dev, &a));
    get(dev, &a.out, out);
    seo_device_free(dev, a.out.data);
}

static void run_dropout(seo_device *dev, const void *input, float *out) {
    const draw *d = input;
    const int32_t place[SEO_PLACE_COUNT] = {9, 5, 3};
    const seo_tensor shape = seo_tensor_2d(NULL, SEO_DTYPE_F32, d->count / d->width, d->width);
    float *x = new_f32(d->count);
    fill_uniform(x, d->count, -1, 1, 3);
    seo_dropout_args a = {.out = put(dev, shape, NULL),
                          .inp = put(dev, shape, x),
                          .key = {.seed = 42, .purpose = SEO_PURPOSE_DROPOUT | 2u << 8, .step = 6},
                          .first_index = d->first_index,
                          .rate = d->rate};
    const seo_tensor places = seo_tensor_1d(NULL, SEO_DTYPE_I32, SEO_PLACE_COUNT);
    if (d->placed) a.place = put(dev, places, place);
    must(seo_dropout(dev, &a));
    get(dev, &a.out, out);
    seo_device_free(dev, a.out.data);
    seo_device_free(dev, a.inp.data);
    if (d->placed) seo_device_free(dev, a.place.data);
    free(x);
}

static void draws_what_the_cpu_draws(void **state) {
    (void)state;
    static const draw draws[] = {{1, 1, 0, 0.5f, false},
                                 {1003, 17, (int64_t)4 << 33, 0.1f, true},
                                 {1024, 64, (int64_t)1 << 40, 0.0f, true},
                                 {2200, 8, 12, 0.9f, false}};
    for (int64_t i = 0; i < SEO_COUNT_OF(draws); i++) {
        same_as_cpu("normal", draws[i].count, run_normal, &draws[i]);
        same_as_cpu("dropout", draws[i].count, run_dropout, &draws[i]);
        draw odd = draws[i];
        odd.first_index += 3; /* in the middle of a Philox block */
        same_as_cpu("dropout from the middle of a block", odd.count, run_dropout, &odd);
    }
}

/* ---- sums of whole numbers are exact, so that their order leaves no trace ---- */

typedef struct sums {
    int64_t rows, columns, vocab;
} sums;

static void run_bias_bwd(seo_device *dev, const void *input, float *out) {
    const sums *s = input;
    const seo_tensor shape = seo_tensor_2d(NULL, SEO_DTYPE_F32, s->rows, s->columns);
    float *dout = new_f32(s->rows * s->columns), *dbias = new_f32(s->columns);
    fill_whole(dout, s->rows * s->columns, -9, 9, 4);
    fill_whole(dbias, s->columns, -9, 9, 5);
    seo_bias_bwd_args a = {.dbias = put(dev, f32_1d(s->columns), dbias),
                           .dout = put(dev, shape, dout)};
    must(seo_bias_bwd(dev, &a));
    must(seo_bias_bwd(dev, &a));
    get(dev, &a.dbias, out);
    seo_device_free(dev, a.dbias.data);
    seo_device_free(dev, a.dout.data);
    free(dout);
    free(dbias);
}

static void run_sum_squares(seo_device *dev, const void *input, float *out) {
    const sums *s = input;
    float *x = new_f32(s->rows);
    fill_whole(x, s->rows, -3, 3, 6);
    const int64_t units = seo_div_up(s->rows, SEO_SQUARES_UNIT);
    seo_sum_squares_args a = {.out = put(dev, f32_1d(units), NULL),
                              .inp = put(dev, f32_1d(s->rows), x)};
    must(seo_sum_squares(dev, &a));
    get(dev, &a.out, out);
    seo_device_free(dev, a.out.data);
    seo_device_free(dev, a.inp.data);
    free(x);
}

/* Half of the rows have id 0, so that its group is split. */
static void run_embedding_bwd(seo_device *dev, const void *input, float *out) {
    const sums *s = input;
    const int64_t n = s->rows * s->columns, table = s->vocab * s->columns;
    float *dout = new_f32(n), *dwte = new_f32(table), *dwpe = new_f32(n);
    int32_t *ids = malloc((size_t)s->rows * sizeof *ids);
    int32_t *groups = malloc((size_t)seo_groups_size(s->rows) * sizeof *groups);
    SEO_ASSERT(ids != NULL && groups != NULL);
    fill_whole(dout, n, -9, 9, 7);
    fill_whole(dwte, table, -9, 9, 8);
    fill_ids(ids, s->rows, (int32_t)s->vocab, 9);
    for (int64_t r = 0; r < s->rows; r += 2) ids[r] = 0;
    memset(groups, 0xff, (size_t)seo_groups_size(s->rows) * sizeof *groups);
    seo_groups_build(ids, s->rows, groups);
    const int64_t positions = s->rows / 2;
    seo_embedding_bwd_args a = {
        .dwte = put(dev, seo_tensor_2d(NULL, SEO_DTYPE_F32, s->vocab, s->columns), dwte),
        .dwpe = put(dev, seo_tensor_2d(NULL, SEO_DTYPE_F32, positions, s->columns), dwpe),
        .dout = put(dev, seo_tensor_3d(NULL, SEO_DTYPE_F32, 2, positions, s->columns), dout),
        .ids = put(dev, seo_tensor_2d(NULL, SEO_DTYPE_I32, 2, positions), ids),
        .groups = put(dev, seo_tensor_1d(NULL, SEO_DTYPE_I32, seo_groups_size(s->rows)), groups)};
    must(seo_embedding_bwd(dev, &a));
    must(seo_embedding_bwd(dev, &a));
    get(dev, &a.dwte, out);
    get(dev, &a.dwpe, out + table);
    void *const taken[] = {a.dwte.data, a.dwpe.data, a.dout.data, a.ids.data, a.groups.data};
    for (int64_t i = 0; i < SEO_COUNT_OF(taken); i++) seo_device_free(dev, taken[i]);
    free(dout);
    free(dwte);
    free(dwpe);
    free(ids);
    free(groups);
}

static void adds_what_the_cpu_adds(void **state) {
    (void)state;
    static const sums columns[] = {{3000, 8, 0}, {2100, 5, 0}, {70, 264, 0}, {1, 1, 0}};
    for (int64_t i = 0; i < SEO_COUNT_OF(columns); i++) {
        same_as_cpu("bias_bwd", columns[i].columns, run_bias_bwd, &columns[i]);
    }
    static const sums flat[] = {{1, 0, 0}, {2049, 0, 0}, {70001, 0, 0}};
    for (int64_t i = 0; i < SEO_COUNT_OF(flat); i++) {
        const int64_t units = seo_div_up(flat[i].rows, SEO_SQUARES_UNIT);
        same_as_cpu("sum_squares", units, run_sum_squares, &flat[i]);
    }
    static const sums tables[] = {{2, 1, 1}, {400, 8, 5}, {300, 7, 90}, {140, 264, 3}};
    for (int64_t i = 0; i < SEO_COUNT_OF(tables); i++) {
        const sums *s = &tables[i];
        same_as_cpu("embedding_bwd", (s->vocab + s->rows / 2) * s->columns, run_embedding_bwd, s);
    }
}

static void needs_groups(void **state) {
    (void)state;
    const seo_tensor row = seo_tensor_2d(NULL, SEO_DTYPE_F32, 1, 1);
    const seo_embedding_bwd_args a = {
        .dwte = put(g_cuda, row, NULL),
        .dwpe = put(g_cuda, row, NULL),
        .dout = put(g_cuda, seo_tensor_3d(NULL, SEO_DTYPE_F32, 1, 1, 1), NULL),
        .ids = put(g_cuda, seo_tensor_2d(NULL, SEO_DTYPE_I32, 1, 1), NULL)};
    must_fail(seo_embedding_bwd(g_cuda, &a), SEO_ERR_ARG, "seo_groups_build");
    void *const taken[] = {a.dwte.data, a.dwpe.data, a.dout.data, a.ids.data};
    for (int64_t i = 0; i < SEO_COUNT_OF(taken); i++) seo_device_free(g_cuda, taken[i]);
}

/* ---- cross entropy ---- */

/* Losses and gradients of `rows` rows of `padded` columns, one after the other in out. */
static void run_loss(const float *logits, const int32_t *targets, int64_t rows, int64_t padded,
                     int64_t vocab, float *out) {
    seo_cross_entropy_args a = {
        .loss = put(g_cuda, f32_1d(rows), NULL),
        .logits = put(g_cuda, seo_tensor_2d(NULL, SEO_DTYPE_F32, rows, padded), logits),
        .targets = put(g_cuda, seo_tensor_1d(NULL, SEO_DTYPE_I32, rows), targets),
        .vocab_size = vocab,
        .ignore_index = -1,
        .grad_scale = 0.5f,
        .with_gradient = true};
    must(seo_cross_entropy(g_cuda, &a));
    get(g_cuda, &a.loss, out);
    get(g_cuda, &a.logits, out + rows);
    seo_device_free(g_cuda, a.loss.data);
    seo_device_free(g_cuda, a.logits.data);
    seo_device_free(g_cuda, a.targets.data);
}

/* 26,000 columns are 104 KB: more than a block has on sm_89, less than on the others. */
static void keeps_or_reads_again(void **state) {
    (void)state;
    enum { ROWS = 2, PADDED = 26000, VOCAB = 25990, COUNT = ROWS * (PADDED + 1) };
    static const int32_t capabilities[] = {80, 89, 90};
    float *logits = new_f32(ROWS * PADDED), *first = new_f32(COUNT), *again = new_f32(COUNT);
    const int32_t targets[ROWS] = {VOCAB - 1, 17};
    fill_uniform(logits, ROWS * PADDED, -5, 5, 10);
    const int32_t before = seo_cuda_of(g_cuda)->capability;
    for (int64_t i = 0; i < SEO_COUNT_OF(capabilities); i++) {
        set_run((int)i % simt_schedule_count());
        seo_cuda_of(g_cuda)->capability = capabilities[i];
        run_loss(logits, targets, ROWS, PADDED, VOCAB, i ? again : first);
        if (i > 0) assert_true(same_bits("cross_entropy kept or not", first, again, COUNT));
    }
    seo_cuda_of(g_cuda)->capability = before;
    free(logits);
    free(first);
    free(again);
}

/* A row of which nearly all is impossible, one with a number that is not one, one as usual. */
static void rows_do_not_spoil_each_other(void **state) {
    (void)state;
    enum { ROWS = 3, PADDED = 4112, VOCAB = 4099, LAST = VOCAB - 1 };
    float *logits = new_f32(ROWS * PADDED), *out = new_f32(ROWS * (PADDED + 1));
    const int32_t targets[ROWS] = {LAST, 0, 5};
    fill_uniform(logits, ROWS * PADDED, -1, 1, 11);
    for (int64_t c = 0; c < VOCAB - 2; c++) logits[c] = -INFINITY;
    logits[LAST - 1] = logits[LAST] = 3.0f;
    logits[PADDED + 9] = NAN;
    for (int i = 0; i < simt_schedule_count(); i++) {
        set_run(i);
        run_loss(logits, targets, ROWS, PADDED, VOCAB, out);
        const float *gradient = out + ROWS;
        /* Two equal chances: each step rounds once at most. */
        assert_true(fabs((double)out[0] - log(2)) <= 4 * F32_ROUND);
        for (int64_t c = 0; c < PADDED; c++) {
            const float want = c == LAST ? -0.25f : c == LAST - 1 ? 0.25f : 0.0f;
            assert_true(gradient[c] == want);
        }
        assert_true(isnan(out[1]));
        assert_true(isfinite(out[2]));
        for (int64_t c = VOCAB; c < PADDED; c++) {
            assert_true(gradient[PADDED + c] == 0.0f && gradient[2 * PADDED + c] == 0.0f);
        }
        for (int64_t c = 0; c < VOCAB; c++) assert_true(isfinite(gradient[2 * PADDED + c]));
    }
    free(logits);
    free(out);
}

static int set_up(void **state) {
    (void)state;
    const seo_cpu_options options = {.threads = 2, .level = SEO_CPU_AUTO};
    must(seo_device_open_cpu(&options, &g_cpu));
    must(seo_device_open_simt(NULL, &g_cuda));
    return 0;
}
static int tear_down(void **state) {
    (void)state;
    seo_device_close(g_cpu);
    seo_device_close(g_cuda);
    return simt_live_count();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draws_what_the_cpu_draws),
        cmocka_unit_test(adds_what_the_cpu_adds),
        cmocka_unit_test(needs_groups),
        cmocka_unit_test(keeps_or_reads_again),
        cmocka_unit_test(rows_do_not_spoil_each_other),
    };
    return cmocka_run_group_tests_name("cuda_rows", tests, set_up, tear_down);
}
