/* Private to kernels/cuda: memory of the device, and copies within it and from and to the host. */
#pragma once

#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Device memory with whatever is in it. More than there is: SEO_ERR_MEMORY with both figures. */
seo_err seo_cuda_take(seo_device *dev, int64_t bytes, void **out);

seo_err seo_cuda_staging_open(seo_device *dev);
void seo_cuda_staging_close(seo_cuda *cuda); /* fine after an open that failed */

/* What the backend table needs; see backend.h. */
seo_err seo_cuda_alloc(seo_device *dev, int64_t bytes, void **out);
void seo_cuda_free(seo_device *dev, void *ptr);
seo_err seo_cuda_copy_in(seo_device *dev, void *dst, const void *src, int64_t bytes);
seo_err seo_cuda_copy_out(seo_device *dev, void *dst, const void *src, int64_t bytes);
seo_err seo_cuda_copy(seo_device *dev, void *dst, const void *src, int64_t bytes);
seo_err seo_cuda_zero(seo_device *dev, void *dst, int64_t bytes);
seo_err seo_cuda_memory(seo_device *dev, int64_t *free_bytes, int64_t *total_bytes);

#ifdef __cplusplus
}
#endif
