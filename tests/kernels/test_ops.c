/* Every operator against its formula in double, on every CPU level and with 1 to 3 threads. */
#include "tests/kernels/ops_tests.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

int main(void) {
    const struct CMUnitTest tests[] = {
#define SEO_OP(op) cmocka_unit_test(test_##op),
#include "kernels/ops.def"
#undef SEO_OP
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
