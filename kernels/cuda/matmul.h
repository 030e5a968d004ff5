/* Private to kernels/cuda: the matrix product by our own kernels, without a library's. */
#pragma once

#include "kernels/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The kernels by number, so that tests can put each of them to every shape that it serves. */
int32_t seo_matmul_variant_count(void);
const char *seo_matmul_variant_name(int32_t variant);
/* The lowest compute capability that it serves, 80 for 8.0. */
int32_t seo_matmul_variant_capability(int32_t variant);

/* The one that the table picks for these arguments on this device. */
int32_t seo_matmul_variant_for(const seo_device *dev, const seo_matmul_args *a);

/* seo_cuda_matmul by one variant, or by the one that the table picks.
 * SEO_ERR_UNSUPPORTED when that variant does not serve the dtype, the layout, the alignment or the
 * GPU. */
enum { SEO_MATMUL_BY_TABLE = -1 };
seo_err seo_matmul_own(seo_device *dev, const seo_matmul_args *a, int32_t variant);

#ifdef __cplusplus
}
#endif
