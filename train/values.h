/* Numbers between a device and the host, as f32 whatever they are stored as. */
#pragma once

#include "base/error.h"
#include "base/tensor.h"
#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* out: seo_tensor_count(t) numbers. Waits for what was queued. */
seo_err seo_values_read(seo_device *dev, const seo_tensor *t, float *out);
/* A bf16 tensor gets the numbers rounded to nearest. */
seo_err seo_values_write(seo_device *dev, const seo_tensor *t, const float *values);

#ifdef __cplusplus
}
#endif
