/* A student's pass beside its teacher through the real CUDA kernels, run by the test layer, against
 * the CPU: the losses and every gradient, in f32 and bf16, with a projection and without. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/check.h"
#include "distill_fixture.h"
#include "tests/simt/device.h"

/* Operators that one number passes through on its way to a loss: of the teacher with two layers of
 * eight, its embedding, head and norms, and of the student as many at most; then back. */
enum { FORWARD_DEPTH = 2 * (2 * 8 + 8), DEPTH = 2 * FORWARD_DEPTH, LONGEST_SUM = 48 };

/* Roundings go up as often as down, so n of them come to at most four times the root of n units
 * (Higham and Mary 2019). f32: those of the sums as well. */
static double growth(seo_dtype storage, double depth) {
    return storage == SEO_DTYPE_BF16 ? 4 * sqrt(depth) / (1 << 9)
                                     : 4 * sqrt(depth * LONGEST_SUM) / (1 << 24);
}

static seo_err open_cpu(seo_device **out) {
    return seo_device_open_cpu(&(seo_cpu_options){.threads = 1}, out);
}
static seo_err open_simt(seo_device **out) {
    return seo_device_open_simt(NULL, out);
}

/* The gradient of a row, as far apart as its elements are together, in the length of the largest
 * row: small gradients are differences of large ones. */
static void compare_gradients(const distill_bench *cpu, const distill_bench *gpu, double bound) {
    const seo_params *table = seo_model_table(cpu->student);
    double longest = 0, worst = 0;
    for (int64_t row = 0; row < table->count; row++) {
        const char *name = table->items[row].name;
        const int64_t count = seo_param_elements(&table->items[row]);
        float *a = malloc((size_t)count * sizeof *a), *b = malloc((size_t)count * sizeof *b);
        double apart = 0, length = 0;
        assert_true(a && b);
        distill_ok(seo_model_get_grad(cpu->student, name, a, count));
        distill_ok(seo_model_get_grad(gpu->student, name, b, count));
        for (int64_t i = 0; i < count; i++) {
            apart += pow((double)a[i] - (double)b[i], 2);
            length += (double)a[i] * (double)a[i];
        }
        longest = fmax(longest, sqrt(length));
        worst = fmax(worst, sqrt(apart));
        free(a);
        free(b);
    }
    if (!(longest > 0 && worst <= bound * longest)) {
        fail_msg("%s: gradients up to %.3g, %.3g apart (bound %.3g)", cpu->p->what, longest, worst,
                 bound * longest);
    }
}

static void check(const distill_pair *p, seo_dtype storage) {
    distill_bench *cpu = distill_bench_open(p, false, open_cpu, SEO_DTYPE_F32);
    distill_bench *gpu = distill_bench_open(p, false, open_simt, storage);
    distill_ok(seo_model_zero_grads(cpu->student));
    distill_ok(seo_model_zero_grads(gpu->student));
    const distill_total want = distill_student_pass(cpu), got = distill_student_pass(gpu);
    const double bound = growth(storage, FORWARD_DEPTH);
    assert_true(want.hard > 0 && want.cosine > 0);
    assert_true(fabs(got.hard - want.hard) <= bound * want.hard);
    assert_true(fabs(got.tokens - want.tokens) <= bound * want.tokens);
    /* Angles, which are of the size of 1, and not their small cosine losses, are right to it. */
    assert_true(fabs(got.cosine - want.cosine) <= bound * DISTILL_BATCH * p->cosine);
    compare_gradients(cpu, gpu, growth(storage, DEPTH));
    distill_bench_close(cpu);
    distill_bench_close(gpu);
}

static void students(void **state) {
    (void)state;
    static const distill_pair pairs[] = {
        {"bert, narrower distilbert", SEO_FAMILY_BERT, SEO_FAMILY_DISTILBERT, 24, 16, 5, 2, 1},
        {"gpt2, gpt2", SEO_FAMILY_GPT2, SEO_FAMILY_GPT2, 24, 24, 2, 1, 1},
    };
    for (int i = 0; i < SEO_COUNT_OF(pairs); i++) {
        check(&pairs[i], SEO_DTYPE_F32);
        check(&pairs[i], SEO_DTYPE_BF16);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(students)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
