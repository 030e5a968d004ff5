/* Finds and opens the CUDA plug-in. It is a shared object of its own, so that a run on the CPU
 * loads nothing of CUDA, and one program serves a laptop and a cluster. */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "kernels/backend.h"

static const char k_plugin_name[] = "libseodang_cuda.so";

enum { PATH_BYTES = 4096 };

static seo_err fail_for_plugin(seo_err code, const char *file, int line, const char *message) {
    return seo_fail_at(code, file, line, "%s", message);
}

static seo_err context_for_plugin(seo_err code, const char *prefix) {
    return seo_err_context(code, "%s", prefix);
}

/* Beside the program: "/usr/bin/seodang" gives "/usr/bin/libseodang_cuda.so". */
static seo_err path_beside_program(char out[PATH_BYTES]) {
    char program[PATH_BYTES - sizeof k_plugin_name];
    const ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length <= 0) return SEO_FAIL(SEO_ERR_IO, "cuda: /proc/self/exe cannot be read");
    program[length] = '\0';
    char *slash = strrchr(program, '/');
    SEO_ASSERT(slash != NULL);
    slash[1] = '\0';
    snprintf(out, PATH_BYTES, "%s%s", program, k_plugin_name);
    return SEO_OK;
}

/* The plug-in stays loaded until the process ends: its devices hold pointers into it. */
static seo_err load(const char *path, const seo_backend **out) {
    const seo_plugin_host host = {.abi = SEO_PLUGIN_ABI,
                                  .layout = seo_plugin_layout(),
                                  .fail = fail_for_plugin,
                                  .context = context_for_plugin,
                                  .detail = seo_err_detail,
                                  .assert_failed = seo_assert_failed};
    if (access(path, F_OK) != 0) {
        return SEO_FAIL(SEO_ERR_MISSING,
                        "cuda: there is no plug-in %s; build with the cuda preset (or use device: "
                        "cpu)",
                        path);
    }
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) return SEO_FAIL(SEO_ERR_UNSUPPORTED, "cuda: %s", dlerror());
    void *symbol = dlsym(library, "seo_cuda_plugin");
    seo_plugin_entry *entry = NULL;
    memcpy(&entry, &symbol, sizeof entry);
    *out = entry ? entry(&host) : NULL;
    if (!*out) {
        return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                        "cuda: %s belongs to another version of this program; build both together",
                        path);
    }
    return SEO_OK;
}

seo_err seo_device_open_cuda(const seo_cuda_options *options, seo_device **out) {
    seo_err err = SEO_OK;
    char path[PATH_BYTES];
    const seo_backend *backend = NULL;
    *out = NULL;
    if (options->plugin) {
        snprintf(path, sizeof path, "%s", options->plugin);
    } else {
        SEO_TRY(path_beside_program(path));
    }
    SEO_TRY(load(path, &backend));
    SEO_TRY(seo_device_open_backend(backend, options, out));
done:
    return err;
}
