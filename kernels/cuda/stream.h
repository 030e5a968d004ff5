/* Private to kernels/cuda: the stream, its graphs and its events. */
#pragma once

#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* SEO_ERR_ARG when a kernel found something wrong with its input; the note is cleared. Tells of all
 * work that the host has waited for. */
seo_err seo_cuda_report_fault(seo_device *dev);

/* What the backend table needs; see backend.h. */
seo_err seo_cuda_sync(seo_device *dev);
seo_err seo_cuda_capture_begin(seo_device *dev);
seo_err seo_cuda_capture_end(seo_device *dev, void **graph);
seo_err seo_cuda_graph_launch(seo_device *dev, void *graph);
void seo_cuda_graph_free(seo_device *dev, void *graph);
seo_err seo_cuda_event_open(seo_device *dev, void **event);
seo_err seo_cuda_event_record(seo_device *dev, void *event);
seo_err seo_cuda_event_elapsed(seo_device *dev, void *from, void *to, double *ms);
void seo_cuda_event_close(seo_device *dev, void *event);

#ifdef __cplusplus
}
#endif
