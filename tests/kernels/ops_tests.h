/* One test for each line of ops.def: an operator without one does not link. The depth of matmul and
 * attention is in their own programs. */
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

#define SEO_OP(op) void test_##op(void **state);
#include "kernels/ops.def"
#undef SEO_OP

#ifdef __cplusplus
}
#endif
