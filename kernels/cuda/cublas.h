/* Private to kernels/cuda: the matrix product by NVIDIA's cuBLASLt, which is opened when a device
 * wants it. */
#pragma once

#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Of a build whose toolkit has the library's header (SEO_HAVE_CUBLASLT). */
extern const seo_matmul_library seo_cublas_library;

#ifdef __cplusplus
}
#endif
