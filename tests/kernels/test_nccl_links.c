/* The real NCCL, as far as a machine without a GPU goes: every function that the plug-in looks up
 * by name exists in the library that this program is linked with, which is of the header's major
 * version, so that the types are those that nccl.c was compiled with. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "kernels/cuda/nccl.h"

static void is_of_the_headers_version(void **state) {
    (void)state;
    const seo_nccl_library linked = {
#define X(name) .name = nccl##name,
        SEO_NCCL_FUNCTIONS(X)
#undef X
    };
    int version = 0;
    assert_int_equal(linked.GetVersion(&version), ncclSuccess);
    printf("NCCL %d.%d.%d, header %d.%d.%d\n", version / 10000, version / 100 % 100, version % 100,
           NCCL_MAJOR, NCCL_MINOR, NCCL_PATCH);
    assert_int_equal(version / 10000, NCCL_MAJOR);
    assert_non_null(linked.GetErrorString(ncclRemoteError));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(is_of_the_headers_version)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
