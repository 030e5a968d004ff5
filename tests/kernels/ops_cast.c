/* Change of type: every bf16 there is, and f32 around the ties. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "tests/kernels/ops_tests.h"
#include "tests/support/fill.h"
#include "tests/support/op_check.h"

static float from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* input: the tensor to cast; its host memory is as it lies on the device. out: the result in the
 * other type, then that cast back, as f32 both. */
static void run(op_run *on, const void *input, float *out) {
    const seo_tensor *from = input;
    seo_tensor inp = to_device(on, *from), other = *from;
    other.dtype = from->dtype == SEO_DTYPE_F32 ? SEO_DTYPE_BF16 : SEO_DTYPE_F32;
    other = poisoned(on, other);
    must(seo_cast(on->dev, &(seo_cast_args){.out = other, .inp = inp}));
    const seo_tensor back = poisoned(on, *from);
    must(seo_cast(on->dev, &(seo_cast_args){.out = back, .inp = other}));
    to_host(on, &back, to_host(on, &other, out));
}

/* The values are exact, so the sign of a 0 must be there as well. */
static void same_signs(const void *input, const float *got, double *want, double *bound) {
    (void)bound;
    const int64_t count = 2 * seo_tensor_count(input);
    for (int64_t i = 0; i < count; i++) {
        const float x = (float)want[i];
        assert_true(isnan(x) || memcmp(&x, &got[i], sizeof x) == 0);
    }
}

/* All 65,536 to f32 and back: the value is exact both ways, and NaN stays NaN. */
static void there_and_back(void) {
    enum { ALL = 65536 };
    uint16_t *every = calloc(ALL, sizeof *every);
    double *want = calloc(2 * ALL, sizeof *want), *bound = calloc(2 * ALL, sizeof *bound);
    assert_true(every && want && bound);
    for (int i = 0; i < ALL; i++) {
        every[i] = (uint16_t)i;
        want[i] = want[ALL + i] = (double)from_bits((uint32_t)i << 16);
    }
    const seo_tensor t = seo_tensor_1d(every, SEO_DTYPE_BF16, ALL);
    check_everywhere(
        &(op_case){"cast of every bf16", run, &t, 2 * ALL, want, bound, .settle = same_signs});
    free(every);
    free(want);
    free(bound);
}

/* Of two neighbours the nearer one, and in the middle the even one. */
static void rounds_to_nearest_even(int64_t count) {
    float *x = new_f32(count);
    double *want = calloc((size_t)(2 * count), sizeof *want);
    double *bound = calloc((size_t)(2 * count), sizeof *bound);
    assert_true(want && bound);
    const seo_rng_key key = fill_key(91);
    for (int64_t i = 0; i < count; i++) {
        const uint32_t low[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff}, rest = low[i % 6];
        const uint32_t below = seo_rng_u32(key, (uint64_t)i) % 0x7f00;
        const bool up = rest > 0x8000 || (rest == 0x8000 && below % 2);
        x[i] = from_bits(below << 16 | rest);
        want[i] = want[count + i] = (double)from_bits((up ? below + 1 : below) << 16);
    }
    const seo_tensor t = seo_tensor_1d(x, SEO_DTYPE_F32, count);
    check_everywhere(
        &(op_case){"cast around the ties", run, &t, 2 * count, want, bound, .settle = same_signs});
    free(x);
    free(want);
    free(bound);
}

void test_cast(void **state) {
    (void)state;
    static const int64_t counts[] = {1, 7, 8, 129, 4096, 4099};
    there_and_back();
    for (int i = 0; i < SEO_COUNT_OF(counts); i++) rounds_to_nearest_even(counts[i]);
}
