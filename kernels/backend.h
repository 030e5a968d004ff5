/* Private to kernels/: what a backend provides. A CPU build level and the CUDA plug-in each fill
 * one table. */
#pragma once

#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_backend {
    const char *name;
#define SEO_OP(op) seo_err (*op)(seo_device *, const seo_##op##_args *);
#include "kernels/ops.def"
#undef SEO_OP
    seo_err (*open)(seo_device *); /* takes scratch and whatever else the backend needs */
    seo_err (*alloc)(seo_device *, int64_t bytes, void **out); /* zeroed, 256-byte aligned */
    void (*free)(seo_device *, void *ptr);
    seo_err (*copy_in)(seo_device *, void *dst, const void *src, int64_t bytes);
    seo_err (*copy_out)(seo_device *, void *dst, const void *src, int64_t bytes);
    seo_err (*copy)(seo_device *, void *dst, const void *src, int64_t bytes);
    seo_err (*zero)(seo_device *, void *dst, int64_t bytes);
    seo_err (*sync)(seo_device *);
    void (*close)(seo_device *); /* gives back what open took; fine after an open that failed */
} seo_backend;

typedef struct seo_allocation {
    void *ptr;
    int64_t bytes;
} seo_allocation;

struct seo_device {
    const seo_backend *backend;
    char name[96];
    int32_t threads;
    seo_cpu_level level;
    bool sealed;
    int64_t bytes;               /* allocated now through seo_device_alloc */
    seo_allocation *allocations; /* what close has to free; kept on the host */
    int64_t allocation_count, allocation_capacity;
    void *scratch; /* the backend's own working memory, taken at open, never in an operator */
    int64_t scratch_bytes;
    void *impl; /* the backend's private state; NULL on the CPU */
};

/* The operators of each CPU level; the files in cpu/ are compiled once per level. */
extern const seo_backend seo_backend_cpu_plain;
extern const seo_backend seo_backend_cpu_avx2;
extern const seo_backend seo_backend_cpu_avx512;

#ifdef __cplusplus
}
#endif
