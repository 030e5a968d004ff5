/* A device: memory, copies, and a stream on which operators run in order.
 *
 * On the CPU everything is done when a call returns; on a device with a stream calls are queued,
 * and results may be read after seo_device_sync or a copy_out. Callers write for the second case.
 *
 * A call that fails with SEO_ERR_DEVICE closes the device to further work: every later call but
 * close fails likewise, with the first message. One device is used by one thread, the one that
 * opened it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_device seo_device;

/* Which build of the CPU kernels runs. AUTO takes the best the processor has; a level it has not is
 * SEO_ERR_UNSUPPORTED. Bits may differ between levels, never between thread counts. */
typedef enum seo_cpu_level {
    SEO_CPU_AUTO,
    SEO_CPU_PLAIN,
    SEO_CPU_AVX2, /* AVX2 + FMA */
    SEO_CPU_AVX512
} seo_cpu_level;

typedef struct seo_cpu_options {
    int32_t threads; /* 0: what the affinity mask, the cgroup quota and OMP_NUM_THREADS allow */
    int32_t sharers; /* of what automatic allows, processes on the same cores; 0: this one alone */
    seo_cpu_level level;
} seo_cpu_options;

/* Opens the host's processor as a device; the caller closes it. */
seo_err seo_device_open_cpu(const seo_cpu_options *options, seo_device **out);
/* Whose matrix product a GPU uses: our kernels, NVIDIA's cuBLASLt, or for each shape whichever was
 * faster when it was first met. */
typedef enum seo_matmul_choice {
    SEO_MATMUL_AUTO,
    SEO_MATMUL_OWN,
    SEO_MATMUL_CUBLASLT
} seo_matmul_choice;

typedef struct seo_cuda_options {
    int32_t ordinal; /* which GPU of those that CUDA shows */
    bool around;     /* an ordinal beyond the last counts on from the first: more ranks than GPUs */
    seo_matmul_choice matmul;
    const char *plugin;  /* path of libseodang_cuda.so; NULL: beside the program */
    const char *choices; /* of SEO_MATMUL_AUTO: a text file that keeps them, so that a run which
                          * goes on later computes the same bits; NULL: none */
    bool check_each;     /* to hunt an error: wait after each operator and name the one that failed;
                          * without graphs, slow */
} seo_cuda_options;

/* Opens a GPU through the CUDA plug-in. SEO_ERR_MISSING when there is no plug-in, a build for the
 * CPU alone; SEO_ERR_UNSUPPORTED when there is no driver, no device, or one that is too old; both
 * with what is missing and what to do. A caller for whom the GPU is a wish goes on with the CPU
 * then. */
seo_err seo_device_open_cuda(const seo_cuda_options *options, seo_device **out);

/* Frees what is still allocated on it. NULL is fine. */
void seo_device_close(seo_device *dev);

/* "cpu avx512, 2 threads"; owned by the device. */
const char *seo_device_name(const seo_device *dev);
int32_t seo_device_threads(const seo_device *dev);
seo_cpu_level seo_device_cpu_level(const seo_device *dev);
bool seo_device_is_cpu(const seo_device *dev);
bool seo_device_has_bf16(const seo_device *dev); /* storage may be bf16 */
/* Matrices whose rows are a multiple of this many elements long are read fastest: 1 on the CPU,
 * SEO_CUDA_ROW_MULTIPLE on a GPU. */
enum { SEO_CUDA_ROW_MULTIPLE = 64 };
int64_t seo_device_row_multiple(const seo_device *dev);

/* Zeroed memory aligned to 256 bytes. More than there is: SEO_ERR_MEMORY with both figures. After
 * seo_device_seal a further allocation is refused with SEO_ERR_MEMORY: a training step must not
 * allocate. */
seo_err seo_device_alloc(seo_device *dev, int64_t bytes, void **out);
void seo_device_free(seo_device *dev, void *ptr);
void seo_device_seal(seo_device *dev);
int64_t seo_device_bytes(const seo_device *dev); /* allocated now */

/* host_src may be changed when the call returns. */
seo_err seo_device_copy_in(seo_device *dev, void *dst, const void *host_src, int64_t bytes);
/* Waits for queued work that precedes it. */
seo_err seo_device_copy_out(seo_device *dev, void *host_dst, const void *src, int64_t bytes);
seo_err seo_device_copy(seo_device *dev, void *dst, const void *src, int64_t bytes);
seo_err seo_device_zero(seo_device *dev, void *dst, int64_t bytes);
seo_err seo_device_sync(seo_device *dev);

/* What the device has in all, and what is left of it. */
seo_err seo_device_memory(seo_device *dev, int64_t *free_bytes, int64_t *total_bytes);

/* A graph: operators and copies on the device that are recorded once and then queued by one call.
 * Between begin and end they are recorded, not run; copies to or from the host, allocation, sync,
 * events and launches of graphs are refused with SEO_ERR_ARG, and memory is not freed. What the
 * operators read from device memory is read anew at each launch. What is recorded has run once
 * before, with the same shapes: at its first use a kernel is loaded, and a choice is measured. On a
 * device without graphs (seo_device_has_graphs) begin and end must not be called. */
typedef struct seo_graph seo_graph;
bool seo_device_has_graphs(const seo_device *dev);
seo_err seo_device_capture_begin(seo_device *dev);
/* To be called also when a call in between failed: then *out is NULL, and the first of their errors
 * is returned once more. */
seo_err seo_device_capture_end(seo_device *dev, seo_graph **out);
seo_err seo_graph_launch(seo_graph *graph);
void seo_graph_close(seo_graph *graph); /* NULL is fine; before its device is closed */

/* A point in the queue that knows its time. */
typedef struct seo_event seo_event;
seo_err seo_event_open(seo_device *dev, seo_event **out);
seo_err seo_event_record(seo_event *event);
/* Waits until `to` is reached; both were recorded, `from` first. */
seo_err seo_event_elapsed(const seo_event *from, const seo_event *to, double *ms);
void seo_event_close(seo_event *event); /* NULL is fine; before its device is closed */

#ifdef __cplusplus
}
#endif
