/* The way to NCCL, which lives in the CUDA plug-in: through the table of the device's backend. */
#include "base/check.h"
#include "kernels/backend.h"
#include "kernels/comm_backend.h"

seo_err seo_comm_find_nccl(const seo_device *dev) {
    if (seo_device_is_cpu(dev)) {
        return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                        "nccl: it joins GPUs, and the device is %s; use parallel.backend: mpi",
                        dev->name);
    }
    if (!dev->backend->nccl) {
        return SEO_FAIL(SEO_ERR_MISSING,
                        "nccl: this build has none: the machine that built it lacked nccl.h "
                        "(libnccl-dev); install it and build again, or use parallel.backend: mpi");
    }
    return dev->backend->nccl->find();
}

seo_err seo_comm_open_nccl(const seo_comm_nccl_options *o, seo_comm **out) {
    SEO_ASSERT(o->share != NULL && o->rank >= 0 && o->rank < o->size);
    *out = NULL;
    const seo_err err = seo_comm_find_nccl(o->dev);
    return err != SEO_OK ? err : seo_comm_open_backend(o->dev->backend->nccl, o, out);
}
