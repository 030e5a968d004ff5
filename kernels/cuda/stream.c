/* The stream on which everything is queued: waiting for it and what came to light meanwhile, graphs
 * recorded from it, and events in it. */
#include "kernels/cuda/stream.h"

#include "base/check.h"

/* CUDA keeps the last error until it is asked for, and would show it at a later call that is
 * innocent; asking does not mend a device that is beyond use. */
seo_err seo_cuda_check(cudaError_t result, const char *what) {
    if (result == cudaSuccess) return SEO_OK;
    (void)cudaGetLastError();
    if (result == cudaErrorMemoryAllocation) {
        return SEO_FAIL(SEO_ERR_MEMORY, "cuda: %s: %s", what, cudaGetErrorString(result));
    }
    if (result == cudaErrorNoKernelImageForDevice) {
        return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                        "cuda: %s: this build has no code for this GPU; configure it with "
                        "-DSEODANG_CUDA_ARCH=native on this machine (or use device: cpu)",
                        what);
    }
    return SEO_FAIL(SEO_ERR_DEVICE, "cuda: %s: %s (%s)", what, cudaGetErrorString(result),
                    cudaGetErrorName(result));
}

static const char *fault_text(int32_t fault) {
    switch ((seo_cuda_fault)fault) {
    case SEO_CUDA_FAULT_EMBEDDING_ID: return "embedding: an id outside the embedding table";
    case SEO_CUDA_FAULT_TOKEN_TYPE: return "embedding: a token type outside its table";
    case SEO_CUDA_FAULT_ROW:
        return "gather_rows, scatter_rows: an index outside the rows that is not -1";
    case SEO_CUDA_FAULT_TARGET:
        return "cross_entropy: a target outside the vocabulary that is not the ignored one";
    case SEO_CUDA_FAULT_SPANS:
        return "attention: mask.spans whose parts do not lie in order and tile the sequence";
    case SEO_CUDA_FAULT_NONE: break;
    }
    return "a kernel reported a fault that has no name";
}

seo_err seo_cuda_report_fault(seo_device *dev) {
    volatile int32_t *word = seo_cuda_of(dev)->fault;
    const int32_t fault = *word;
    if (fault == SEO_CUDA_FAULT_NONE) return SEO_OK;
    *word = SEO_CUDA_FAULT_NONE;
    return SEO_FAIL(SEO_ERR_ARG, "%s", fault_text(fault));
}

seo_err seo_cuda_sync(seo_device *dev) {
    const seo_err err =
        seo_cuda_check(cudaStreamSynchronize(seo_cuda_of(dev)->stream), "queued work");
    return err != SEO_OK ? err : seo_cuda_report_fault(dev);
}

seo_err seo_cuda_capture_begin(seo_device *dev) {
    return seo_cuda_check(
        cudaStreamBeginCapture(seo_cuda_of(dev)->stream, cudaStreamCaptureModeThreadLocal),
        "the begin of a capture");
}

seo_err seo_cuda_capture_end(seo_device *dev, void **out) {
    seo_err err = SEO_OK;
    cudaGraph_t recorded = NULL;
    cudaGraphExec_t graph = NULL;
    *out = NULL;
    SEO_TRY(seo_cuda_check(cudaStreamEndCapture(seo_cuda_of(dev)->stream, &recorded),
                           "the end of a capture"));
    SEO_TRY(seo_cuda_check(cudaGraphInstantiate(&graph, recorded, 0), "a graph"));
    *out = graph;
done:
    if (recorded) (void)cudaGraphDestroy(recorded);
    return err;
}

seo_err seo_cuda_graph_launch(seo_device *dev, void *graph) {
    return seo_cuda_check(cudaGraphLaunch((cudaGraphExec_t)graph, seo_cuda_of(dev)->stream),
                          "the launch of a graph");
}

void seo_cuda_graph_free(seo_device *dev, void *graph) {
    (void)dev;
    if (graph) (void)cudaGraphExecDestroy((cudaGraphExec_t)graph);
}

seo_err seo_cuda_event_open(seo_device *dev, void **out) {
    (void)dev;
    cudaEvent_t event = NULL;
    const seo_err err = seo_cuda_check(cudaEventCreate(&event), "an event");
    *out = event;
    return err;
}

seo_err seo_cuda_event_record(seo_device *dev, void *event) {
    return seo_cuda_check(cudaEventRecord((cudaEvent_t)event, seo_cuda_of(dev)->stream),
                          "an event");
}

seo_err seo_cuda_event_elapsed(seo_device *dev, void *from, void *to, double *ms) {
    (void)dev;
    seo_err err = SEO_OK;
    float elapsed_ms = 0.0f;
    SEO_TRY(seo_cuda_check(cudaEventSynchronize((cudaEvent_t)to), "an event"));
    SEO_TRY(seo_cuda_check(cudaEventElapsedTime(&elapsed_ms, (cudaEvent_t)from, (cudaEvent_t)to),
                           "the time between events"));
    *ms = (double)elapsed_ms;
done:
    return err;
}

void seo_cuda_event_close(seo_device *dev, void *event) {
    (void)dev;
    if (event) (void)cudaEventDestroy((cudaEvent_t)event);
}
