/* Operators whose kernels have not been written yet: they refuse. Each definition gives way to the
 * real one as soon as that is linked. */
#include "kernels/cuda/cuda.h"

#define SEO_OP(op)                                                                                 \
    __attribute__((weak)) seo_err seo_cuda_##op(seo_device *dev, const seo_##op##_args *a) {       \
        (void)a;                                                                                   \
        return SEO_FAIL(SEO_ERR_UNSUPPORTED, "%s: %s has no CUDA kernel yet", dev->name, #op);     \
    }
#include "kernels/ops.def"
#undef SEO_OP
