/* What the program calls to open the plug-in. Not part of the test layer, which links the backend's
 * table itself. */
#include "kernels/cuda/cuda.h"
#include "kernels/plugin.h"

__attribute__((visibility("default"))) const void *seo_cuda_plugin(const seo_plugin_host *host);

const void *seo_cuda_plugin(const seo_plugin_host *host) {
    return seo_plugin_accept(host) ? &seo_backend_cuda : NULL;
}
