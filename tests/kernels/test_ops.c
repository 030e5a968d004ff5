/* Every operator against its formula in double, on every target and in every storage type. With an
 * argument or several: only the operators of these names. */
#include "tests/kernels/ops_tests.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "tests/support/op_check.h"

static bool is_chosen(const char *name, int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        if (strcmp(name, argv[i]) == 0) return true;
    }
    return argc == 1;
}

int main(int argc, char **argv) {
    static const struct {
        const char *op;
        struct CMUnitTest test;
    } all[] = {
#define SEO_OP(op) {#op, cmocka_unit_test(test_##op)},
#include "kernels/ops.def"
#undef SEO_OP
    };
    struct CMUnitTest chosen[SEO_COUNT_OF(all)];
    int64_t count = 0;
    for (int i = 0; i < SEO_COUNT_OF(all); i++) {
        if (is_chosen(all[i].op, argc, argv)) chosen[count++] = all[i].test;
    }
    if (count == 0) return 1;
    return run_everywhere(chosen, count);
}
