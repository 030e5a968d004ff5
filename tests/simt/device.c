/* Sets up the emulated GPU and opens the CUDA backend's own table on it. */
#include "tests/simt/device.h"

#include <simt_options.h>

#include "kernels/cuda/cuda.h"

seo_err seo_device_open_simt(const seo_simt_options *options, seo_device **out) {
    const seo_simt_options o = options ? *options : (seo_simt_options){0};
    struct simt_options *layer = simt_options_get();
    if (o.capability) {
        layer->major = o.capability / 10;
        layer->minor = o.capability % 10;
    }
    if (o.multiprocessors) layer->sm_count = o.multiprocessors;
    if (o.memory_bytes) layer->memory_bytes = (size_t)o.memory_bytes;
    return seo_device_open_backend(&seo_backend_cuda, &o.cuda, out);
}
