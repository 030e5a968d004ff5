#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/slab.h"

static void tensors_get_aligned_disjoint_memory(void **state) {
    (void)state;
    seo_slab slab;
    seo_tensor tensors[100];
    seo_slab_init(&slab, "parameters");
    for (int64_t i = 0; i < 100; i++) {
        const int64_t dims[2] = {i + 1, 3};
        seo_dtype dtype = i % 2 == 0 ? SEO_DTYPE_F32 : SEO_DTYPE_BF16;
        assert_int_equal(seo_slab_add(&slab, "tensor", dtype, 2, dims, &tensors[i]), SEO_OK);
        assert_null(tensors[i].data);
        assert_int_equal(seo_tensor_count(&tensors[i]), (i + 1) * 3);
    }
    assert_int_equal(slab.count, 100);
    assert_int_equal(slab.bytes % SEO_SLAB_ALIGN_BYTES, 0);
    char *memory = aligned_alloc(SEO_SLAB_ALIGN_BYTES, (size_t)slab.bytes);
    assert_non_null(memory);
    seo_slab_bind(&slab, memory);
    char *end = memory;
    for (int64_t i = 0; i < 100; i++) {
        char *data = tensors[i].data;
        assert_int_equal((uintptr_t)data % SEO_SLAB_ALIGN_BYTES, 0);
        assert_true(data >= end);
        assert_ptr_equal(data, memory + slab.entries[i].offset_bytes);
        assert_int_equal(slab.entries[i].bytes, seo_tensor_bytes(&tensors[i]));
        end = data + slab.entries[i].bytes;
    }
    assert_true(end <= memory + slab.bytes);
    free(memory);
    seo_slab_free(&slab);
    assert_int_equal(slab.count, 0);
}

static void sizes_that_overflow_are_refused(void **state) {
    (void)state;
    seo_slab slab;
    seo_tensor t;
    seo_slab_init(&slab, "activations");
    const int64_t product[2] = {INT64_MAX / 2, 3}, zero[1] = {0}, half[1] = {INT64_MAX / 12};
    assert_int_equal(seo_slab_add(&slab, "a", SEO_DTYPE_F32, 2, product, &t), SEO_ERR_SHAPE);
    assert_int_equal(seo_slab_add(&slab, "b", SEO_DTYPE_F32, 1, zero, &t), SEO_ERR_SHAPE);
    assert_int_equal(seo_slab_add(&slab, "c", SEO_DTYPE_F32, 1, half, &t), SEO_OK);
    assert_int_equal(seo_slab_add(&slab, "d", SEO_DTYPE_F32, 1, half, &t), SEO_OK);
    assert_int_equal(seo_slab_add(&slab, "e", SEO_DTYPE_F32, 1, half, &t), SEO_ERR_SHAPE);
    assert_int_equal(slab.count, 2);
    seo_slab_free(&slab);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_get_aligned_disjoint_memory),
        cmocka_unit_test(sizes_that_overflow_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
