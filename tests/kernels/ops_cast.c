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

/* Casts through device memory. */
static void cast(seo_device *dev, seo_tensor from, seo_tensor to) {
    seo_tensor inp = to_device(dev, from), out = to_device(dev, to);
    must(seo_cast(dev, &(seo_cast_args){.out = out, .inp = inp}));
    must(seo_device_copy_out(dev, to.data, out.data, seo_tensor_bytes(&out)));
    seo_device_free(dev, inp.data);
    seo_device_free(dev, out.data);
}

/* All 65,536 to f32 and back: the value is exact both ways, and NaN stays NaN. */
static void there_and_back(seo_device *dev) {
    enum { ALL = 65536 };
    uint16_t *every = calloc(ALL, sizeof *every), *back = calloc(ALL, sizeof *back);
    float *wide = new_f32(ALL);
    for (int i = 0; i < ALL; i++) every[i] = (uint16_t)i;
    cast(dev, seo_tensor_1d(every, SEO_DTYPE_BF16, ALL), seo_tensor_1d(wide, SEO_DTYPE_F32, ALL));
    cast(dev, seo_tensor_1d(wide, SEO_DTYPE_F32, ALL), seo_tensor_1d(back, SEO_DTYPE_BF16, ALL));
    for (int i = 0; i < ALL; i++) {
        const float want = from_bits((uint32_t)i << 16);
        if (isnan(want)) {
            assert_true(isnan(wide[i]) && (back[i] & 0x7fff) > 0x7f80);
            continue;
        }
        assert_memory_equal(&wide[i], &want, sizeof want);
        assert_int_equal(back[i], i);
    }
    free(every);
    free(back);
    free(wide);
}

/* Of two neighbours the nearer one, and in the middle the even one. */
static void rounds_to_nearest_even(seo_device *dev) {
    enum { COUNT = 4096 };
    float *x = new_f32(COUNT);
    uint16_t got[COUNT];
    for (int i = 0; i < COUNT; i++) {
        const uint32_t low[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff};
        const uint32_t upper = seo_rng_u32(fill_key(91), (uint64_t)i) % 0x7f00;
        x[i] = from_bits(upper << 16 | low[i % 6]);
    }
    cast(dev, seo_tensor_1d(x, SEO_DTYPE_F32, COUNT), seo_tensor_1d(got, SEO_DTYPE_BF16, COUNT));
    for (int i = 0; i < COUNT; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        const uint32_t below = bits >> 16, rest = bits & 0xffff;
        const uint32_t want = rest > 0x8000 || (rest == 0x8000 && below % 2) ? below + 1 : below;
        assert_int_equal(got[i], want);
    }
    free(x);
}

void test_cast(void **state) {
    (void)state;
    seo_device *dev = open_device(SEO_CPU_AUTO, 2);
    there_and_back(dev);
    rounds_to_nearest_even(dev);
    seo_device_close(dev);
}
