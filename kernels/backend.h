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
    bool bf16;            /* storage may be bf16 */
    int64_t row_multiple; /* see seo_device_row_multiple */
    /* Takes scratch and whatever else the backend needs; options are the backend's own. */
    seo_err (*open)(seo_device *, const void *options);
    seo_err (*alloc)(seo_device *, int64_t bytes, void **out); /* zeroed, 256-byte aligned */
    void (*free)(seo_device *, void *ptr);
    seo_err (*copy_in)(seo_device *, void *dst, const void *src, int64_t bytes);
    seo_err (*copy_out)(seo_device *, void *dst, const void *src, int64_t bytes);
    seo_err (*copy)(seo_device *, void *dst, const void *src, int64_t bytes);
    seo_err (*zero)(seo_device *, void *dst, int64_t bytes);
    seo_err (*sync)(seo_device *);
    seo_err (*memory)(seo_device *, int64_t *free_bytes, int64_t *total_bytes);
    void (*close)(seo_device *); /* gives back what open took; fine after an open that failed */
    /* NULL: the device runs what is queued at once, so there is nothing to capture. */
    seo_err (*capture_begin)(seo_device *);
    seo_err (*capture_end)(seo_device *, void **graph); /* also after an error inside */
    seo_err (*graph_launch)(seo_device *, void *graph);
    void (*graph_free)(seo_device *, void *graph);
    seo_err (*event_open)(seo_device *, void **event);
    seo_err (*event_record)(seo_device *, void *event);
    /* Waits for `to`. */
    seo_err (*event_elapsed)(seo_device *, void *from, void *to, double *ms);
    void (*event_close)(seo_device *, void *event);
    const struct seo_comm_backend *nccl; /* comm_backend.h; NULL: none between such devices */
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
    bool check_each;     /* wait after each operator, so that an error names it */
    bool capturing;      /* between capture_begin and capture_end */
    seo_err capture_err; /* the first error since capture_begin */
    bool lost;           /* failed with SEO_ERR_DEVICE; only close is left */
    char lost_why[256];
    int64_t bytes;               /* allocated now through seo_device_alloc */
    seo_allocation *allocations; /* what close has to free; kept on the host */
    int64_t allocation_count, allocation_capacity;
    void *scratch; /* the backend's own working memory, taken at open, never in an operator */
    int64_t scratch_bytes;
    void *impl; /* the backend's private state; NULL on the CPU */
};

/* Opens a device of this backend. */
seo_err seo_device_open_backend(const seo_backend *backend, const void *options, seo_device **out);

/* Every call that gives the device work stands between these two. seo_device_enter refuses it: with
 * SEO_ERR_DEVICE on a device that is lost, with SEO_ERR_ARG when a capture is under way and `call`
 * cannot be part of a graph. seo_device_leave takes the call's outcome, notes what it means for the
 * device or the capture, and returns it. */
typedef enum seo_device_call { SEO_CALL_CAPTURABLE, SEO_CALL_OUTSIDE_CAPTURE } seo_device_call;
seo_err seo_device_enter(seo_device *dev, seo_device_call kind, const char *call);
seo_err seo_device_leave(seo_device *dev, seo_err err);

/* The operators of each CPU level; the files in cpu/ are compiled once per level. */
extern const seo_backend seo_backend_cpu_plain;
extern const seo_backend seo_backend_cpu_avx2;
extern const seo_backend seo_backend_cpu_avx512;

#ifdef __cplusplus
}
#endif
