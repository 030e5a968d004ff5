/* Private to kernels/: plug-ins, shared objects beside the program that hold what needs a foreign
 * library: libseodang_cuda.so and libseodang_mpi.so. A plug-in exports entries; each takes what the
 * plug-in needs of the program and returns a table of functions. So neither has to export symbols
 * to the other, and both write one error record. */
#pragma once

#include "kernels/backend.h"
#include "kernels/comm_backend.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { SEO_PLUGIN_ABI = 2 };
typedef struct seo_plugin_host {
    int32_t abi;
    uint64_t layout; /* seo_plugin_layout() as the program was compiled */
    seo_err (*fail)(seo_err code, const char *file, int line, const char *message);
    seo_err (*context)(seo_err code, const char *prefix);
    const char *(*detail)(void);
    void (*assert_failed)(const char *fact, const char *file, int line);
    double (*clock_s)(void);
    bool (*device_is_cpu)(const seo_device *dev);
    seo_err (*copy_in)(seo_device *dev, void *dst, const void *host_src, int64_t bytes);
    seo_err (*copy_out)(seo_device *dev, void *host_dst, const void *src, int64_t bytes);
} seo_plugin_host;

/* The program's own (plugin.c). */
void seo_plugin_host_fill(seo_plugin_host *host);

/* Returns the table; NULL when `abi` or `layout` is not the plug-in's. */
typedef const void *seo_plugin_entry(const seo_plugin_host *host);

/* Differs between two versions whose operators or shared structs differ in size or number. */
static inline uint64_t seo_plugin_layout(void) {
    uint64_t layout = sizeof(seo_device) + 1000003 * sizeof(seo_comm);
    layout = layout * 1000003 + sizeof(seo_backend);
    layout = layout * 1000003 + sizeof(seo_comm_backend);
    layout = layout * 1000003 + sizeof(seo_comm_record);
#define SEO_OP(op) layout = layout * 1000003 + sizeof(seo_##op##_args);
#include "kernels/ops.def"
#undef SEO_OP
    return layout;
}

/* A plug-in as the program asks for it. */
typedef struct seo_plugin {
    const char *what;   /* begins messages: "cuda" */
    const char *file;   /* "libseodang_cuda.so" */
    const char *entry;  /* the exported function */
    const char *remedy; /* what to do when there is no such file */
} seo_plugin;

/* Opens the plug-in at `path` (NULL: beside the program) and returns its table. It stays loaded
 * until the process ends. SEO_ERR_MISSING: no such file; SEO_ERR_UNSUPPORTED: a library that it
 * needs is not installed, or it belongs to another version. */
seo_err seo_plugin_open(const seo_plugin *plugin, const char *path, const void **table);

/* In the plug-in (plugin_host.c): takes what the program hands over; false: another version's. */
bool seo_plugin_accept(const seo_plugin_host *host);

#ifdef __cplusplus
}
#endif
