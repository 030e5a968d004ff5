/* The CUDA runtime on the emulated device: memory, streams, events, capture. Work of a stream runs
 * in its order; at once, or with late_streams when somebody waits for it, so that a missing wait
 * shows. A capture keeps what it is given and a graph's launch queues it again. */
#include "simt_internal.h"

#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <stdlib.h>

using namespace simt;

/* ---- state ---- */

typedef std::function<void()> stream_op;

/* Work of a stream in its order; events name a position in it and outlive the stream. */
struct stream_queue {
    std::deque<stream_op> waiting;
    uint64_t issued = 0, done = 0;
};
struct graph_capture;
struct CUstream_st {
    std::shared_ptr<stream_queue> queue = std::make_shared<stream_queue>();
    bool blocking = true; /* waits for the null stream, and it for this one */
    std::shared_ptr<graph_capture> capture;
};
struct graph_capture {
    CUstream_st *origin;
    cudaStreamCaptureMode mode;
    bool invalid = false;
    std::vector<stream_op> ops;
    std::map<CUstream_st *, bool> members; /* true: has work that origin has not joined */
};
struct CUevent_st {
    std::shared_ptr<stream_queue> queue; /* null before the first record */
    uint64_t position = 0;
    double seconds = 0;
    bool timed = true;
    std::shared_ptr<graph_capture> capture; /* where it was recorded last, if in a capture */
    CUstream_st *captured_from = nullptr;
};
struct CUgraph_st {
    std::vector<stream_op> ops;
};
struct CUgraphExec_st {
    std::vector<stream_op> ops;
};

static struct {
    std::recursive_mutex lock;
    cudaError_t last_error;
    CUstream_st null_stream;
    std::vector<CUstream_st *> streams;
    std::vector<std::shared_ptr<graph_capture>> captures; /* active */
    std::map<char *, size_t> device_memory, pinned_memory;
    size_t used_bytes;
} state;
#define HOLD() std::lock_guard<std::recursive_mutex> hold(state.lock)

static cudaError_t failed(cudaError_t error) {
    if (error != cudaSuccess) state.last_error = error;
    return error;
}
/* An error of a kernel stays: every later call returns it. */
static cudaError_t device_error() {
    switch (simt_last_error()) {
    case SIMT_OK: return cudaSuccess;
    case SIMT_LAUNCH: return cudaErrorInvalidConfiguration;
    case SIMT_OUT_OF_BOUNDS: return cudaErrorIllegalAddress;
    default: return cudaErrorLaunchFailure;
    }
}
static cudaError_t status() {
    if (options().driver_version == 0) return failed(cudaErrorInsufficientDriver);
    if (options().device_count == 0) return failed(cudaErrorNoDevice);
    return failed(device_error());
}

/* ---- queues ---- */

static void run_until(stream_queue &queue, uint64_t position) {
    while (queue.done < position) {
        stream_op op = std::move(queue.waiting.front());
        queue.waiting.pop_front();
        queue.done++;
        if (device_error() == cudaSuccess) op();
    }
}
static void run_all(CUstream_st &stream) {
    run_until(*stream.queue, stream.queue->issued);
}
static void run_blocking_streams() {
    for (CUstream_st *stream : state.streams) {
        if (stream->blocking) run_all(*stream);
    }
    run_all(state.null_stream);
}
static void run_everything() {
    for (CUstream_st *stream : state.streams) run_all(*stream);
    run_all(state.null_stream);
}

static CUstream_st &stream_of(cudaStream_t stream) {
    return stream ? *stream : state.null_stream;
}
static bool is_capturing() {
    return !state.captures.empty();
}
/* A call that a capture forbids: it fails, and spoils the captures that it touches. */
static cudaError_t spoil(const std::shared_ptr<graph_capture> &capture) {
    capture->invalid = true;
    return failed(cudaErrorStreamCaptureUnsupported);
}
static cudaError_t spoil_strict_captures() {
    bool any = false;
    for (auto &capture : state.captures) {
        if (capture->mode == cudaStreamCaptureModeRelaxed) continue;
        capture->invalid = true;
        any = true;
    }
    return any ? failed(cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}

static cudaError_t enqueue(cudaStream_t handle, stream_op op) {
    CUstream_st &stream = stream_of(handle);
    if (stream.capture) {
        if (stream.capture->invalid) return failed(cudaErrorStreamCaptureInvalidated);
        stream.capture->ops.push_back(std::move(op));
        if (&stream != stream.capture->origin) stream.capture->members[&stream] = true;
        return cudaSuccess;
    }
    if (&stream == &state.null_stream) {
        for (auto &capture : state.captures) {
            if (!capture->origin->blocking) continue;
            capture->invalid = true;
            return failed(cudaErrorStreamCaptureImplicit);
        }
        run_blocking_streams();
    } else if (stream.blocking) {
        run_all(state.null_stream);
    }
    stream.queue->waiting.push_back(std::move(op));
    stream.queue->issued++;
    if (!options().late_streams) run_all(stream);
    return status();
}

cudaError_t simt::submit(const kernel_call &call, cudaStream_t stream) {
    HOLD();
    struct owned_call : kernel_call {
        explicit owned_call(const kernel_call &c) : kernel_call(c) {}
        owned_call(const owned_call &) = delete;
        ~owned_call() { drop(args); }
    };
    auto owned = std::make_shared<owned_call>(call);
    cudaError_t error = status();
    if (error != cudaSuccess) return error;
    return enqueue(stream, [owned] { run_grid(*owned); });
}

/* ---- errors and the device ---- */

static const struct {
    cudaError_t error;
    const char *name, *text;
} error_texts[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInitializationError, "cudaErrorInitializationError", "initialization error"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration",
     "invalid configuration argument"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorInvalidDeviceFunction, "cudaErrorInvalidDeviceFunction", "invalid device function"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorNoKernelImageForDevice, "cudaErrorNoKernelImageForDevice",
     "no kernel image is available for execution on the device"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress",
     "an illegal memory access was encountered"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {cudaErrorStreamCaptureUnmatched, "cudaErrorStreamCaptureUnmatched",
     "capture was not ended in the same stream as it began"},
    {cudaErrorStreamCaptureUnjoined, "cudaErrorStreamCaptureUnjoined",
     "capturing stream has unjoined work"},
    {cudaErrorStreamCaptureIsolation, "cudaErrorStreamCaptureIsolation",
     "dependency created on uncaptured work in another stream"},
    {cudaErrorStreamCaptureImplicit, "cudaErrorStreamCaptureImplicit",
     "operation would make the legacy stream depend on a capturing blocking stream"},
    {cudaErrorCapturedEvent, "cudaErrorCapturedEvent",
     "operation not permitted on an event last recorded in a capturing stream"},
};

const char *cudaGetErrorString(cudaError_t error) {
    for (const auto &row : error_texts) {
        if (row.error == error) return row.text;
    }
    return "unrecognized error code";
}
const char *cudaGetErrorName(cudaError_t error) {
    for (const auto &row : error_texts) {
        if (row.error == error) return row.name;
    }
    return "unrecognized error code";
}
cudaError_t cudaPeekAtLastError(void) {
    HOLD();
    cudaError_t sticky = device_error();
    return sticky != cudaSuccess ? sticky : state.last_error;
}
cudaError_t cudaGetLastError(void) {
    HOLD();
    cudaError_t error = cudaPeekAtLastError();
    state.last_error = cudaSuccess;
    return error;
}

cudaError_t cudaDriverGetVersion(int *version) {
    *version = options().driver_version;
    return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int *count) {
    HOLD();
    *count = 0;
    if (options().driver_version < CUDART_VERSION) return failed(cudaErrorInsufficientDriver);
    *count = options().device_count;
    return *count ? cudaSuccess : failed(cudaErrorNoDevice);
}
static cudaError_t check_device(int device) {
    HOLD();
    int count;
    cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess) return error;
    return device >= 0 && device < count ? cudaSuccess : failed(cudaErrorInvalidDevice);
}
cudaError_t cudaSetDevice(int device) {
    return check_device(device);
}
cudaError_t cudaGetDevice(int *device) {
    *device = 0;
    return check_device(0);
}
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *prop, int device) {
    cudaError_t error = check_device(device);
    if (error != cudaSuccess) return error;
    memset(prop, 0, sizeof *prop);
    snprintf(prop->name, sizeof prop->name, "SIMT emulation (sm_%d%d)", options().major,
             options().minor);
    prop->totalGlobalMem = options().memory_bytes;
    prop->sharedMemPerBlock = 48 << 10;
    prop->sharedMemPerBlockOptin = SMEM_LIMIT;
    prop->warpSize = LANES;
    prop->maxThreadsPerBlock = 1024;
    prop->maxThreadsPerMultiProcessor = 2048;
    prop->multiProcessorCount = options().sm_count;
    prop->l2CacheSize = 32 << 20;
    prop->major = options().major;
    prop->minor = options().minor;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attr, int device) {
    cudaDeviceProp prop;
    cudaError_t error = cudaGetDeviceProperties(&prop, device);
    if (error != cudaSuccess) return error;
    switch (attr) {
    case cudaDevAttrMaxThreadsPerBlock: *value = prop.maxThreadsPerBlock; break;
    case cudaDevAttrWarpSize: *value = prop.warpSize; break;
    case cudaDevAttrMultiProcessorCount: *value = prop.multiProcessorCount; break;
    case cudaDevAttrL2CacheSize: *value = prop.l2CacheSize; break;
    case cudaDevAttrMaxThreadsPerMultiProcessor: *value = prop.maxThreadsPerMultiProcessor; break;
    case cudaDevAttrComputeCapabilityMajor: *value = prop.major; break;
    case cudaDevAttrComputeCapabilityMinor: *value = prop.minor; break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = SMEM_LIMIT + 1024; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = SMEM_LIMIT; break;
    default: return failed(cudaErrorInvalidValue);
    }
    return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void *, enum cudaFuncAttribute attr, int value) {
    HOLD();
    bool too_much = attr == cudaFuncAttributeMaxDynamicSharedMemorySize &&
                    (value < 0 || (uint32_t)value > SMEM_LIMIT);
    return too_much ? failed(cudaErrorInvalidValue) : status();
}
cudaError_t cudaDeviceSynchronize(void) {
    HOLD();
    if (is_capturing()) return spoil(state.captures.front());
    run_everything();
    return status();
}

/* ---- memory ---- */

int simt_live_count(void) {
    HOLD();
    return (int)(state.device_memory.size() + state.pinned_memory.size() + state.streams.size());
}

static size_t rounded(size_t bytes) {
    return (bytes + 255) & ~(size_t)255;
}
/* Whether [ptr, ptr + bytes) lies in one allocation. */
static bool lies_in(const std::map<char *, size_t> &memory, const void *ptr, size_t bytes) {
    auto after = memory.upper_bound((char *)ptr);
    if (after == memory.begin()) return false;
    --after;
    size_t offset = (size_t)((const char *)ptr - after->first);
    return offset <= after->second && bytes <= after->second - offset;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes) {
    HOLD();
    *total_bytes = options().memory_bytes;
    *free_bytes = *total_bytes - state.used_bytes;
    return status();
}
static void *host_alloc(size_t bytes) {
    void *ptr;
    if (posix_memalign(&ptr, 256, bytes ? bytes : 1)) return nullptr;
    memset(ptr, 0xff, bytes);
    return ptr;
}
cudaError_t cudaMalloc(void **ptr, size_t bytes) {
    HOLD();
    *ptr = nullptr;
    cudaError_t error = status();
    if (error == cudaSuccess) error = spoil_strict_captures();
    if (error != cudaSuccess || bytes == 0) return error;
    if (state.used_bytes > options().memory_bytes ||
        rounded(bytes) > options().memory_bytes - state.used_bytes) {
        return failed(cudaErrorMemoryAllocation);
    }
    char *p = (char *)(checking ? checked_alloc(bytes) : host_alloc(bytes));
    if (!p) return failed(cudaErrorMemoryAllocation);
    if (checking) memset(p, 0xff, bytes);
    state.used_bytes += rounded(bytes);
    state.device_memory[p] = bytes;
    *ptr = p;
    return cudaSuccess;
}
cudaError_t cudaFree(void *ptr) {
    HOLD();
    if (!ptr) return cudaSuccess;
    cudaError_t error = spoil_strict_captures();
    if (error != cudaSuccess) return error;
    run_everything();
    auto found = state.device_memory.find((char *)ptr);
    if (found == state.device_memory.end()) return failed(cudaErrorInvalidValue);
    state.used_bytes -= rounded(found->second);
    state.device_memory.erase(found);
    if (checking) {
        checked_free(ptr);
    } else {
        free(ptr);
    }
    return status();
}
cudaError_t cudaHostAlloc(void **ptr, size_t bytes, unsigned) {
    HOLD();
    *ptr = nullptr;
    cudaError_t error = status();
    if (error == cudaSuccess) error = spoil_strict_captures();
    if (error != cudaSuccess || bytes == 0) return error;
    *ptr = host_alloc(bytes);
    if (!*ptr) return failed(cudaErrorMemoryAllocation);
    state.pinned_memory[(char *)*ptr] = bytes;
    return cudaSuccess;
}
cudaError_t cudaMallocHost(void **ptr, size_t bytes) {
    return cudaHostAlloc(ptr, bytes, cudaHostAllocDefault);
}
cudaError_t cudaHostGetDevicePointer(void **device, void *host, unsigned) {
    HOLD();
    *device = lies_in(state.pinned_memory, host, 1) ? host : nullptr;
    return *device ? status() : failed(cudaErrorInvalidValue);
}
cudaError_t cudaFreeHost(void *ptr) {
    HOLD();
    if (!ptr) return cudaSuccess;
    run_everything();
    if (!state.pinned_memory.erase((char *)ptr)) return failed(cudaErrorInvalidValue);
    free(ptr);
    return status();
}

static bool copy_is_legal(const void *dst, const void *src, size_t bytes, cudaMemcpyKind kind) {
    bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (to_device && !lies_in(state.device_memory, dst, bytes)) return false;
    return !from_device || lies_in(state.device_memory, src, bytes);
}
static void copy_now(void *dst, const void *src, size_t bytes) {
    memmove(dst, src, bytes);
    note_host_write(dst, bytes);
}
cudaError_t cudaMemcpy(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind) {
    HOLD();
    if (bytes == 0) return status();
    if (!copy_is_legal(dst, src, bytes, kind)) return failed(cudaErrorInvalidValue);
    cudaError_t error = enqueue(nullptr, [=] { copy_now(dst, src, bytes); });
    if (error != cudaSuccess) return error;
    run_all(state.null_stream);
    return status();
}
cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream) {
    HOLD();
    if (bytes == 0) return status();
    if (!copy_is_legal(dst, src, bytes, kind)) return failed(cudaErrorInvalidValue);
    bool capturing = stream_of(stream).capture != nullptr;
    bool pageable_source =
        !lies_in(state.device_memory, src, bytes) && !lies_in(state.pinned_memory, src, bytes);
    bool pageable_target =
        !lies_in(state.device_memory, dst, bytes) && !lies_in(state.pinned_memory, dst, bytes);
    if (pageable_source && !capturing) {
        /* The runtime stages it before it returns. */
        auto staged =
            std::make_shared<std::vector<char>>((const char *)src, (const char *)src + bytes);
        return enqueue(stream, [=] { copy_now(dst, staged->data(), bytes); });
    }
    cudaError_t error = enqueue(stream, [=] { copy_now(dst, src, bytes); });
    /* To pageable memory the call returns when the copy is done. */
    if (error == cudaSuccess && pageable_target && !capturing) run_all(stream_of(stream));
    return error;
}
cudaError_t cudaMemsetAsync(void *dst, int value, size_t bytes, cudaStream_t stream) {
    HOLD();
    if (bytes == 0) return status();
    bool legal =
        lies_in(state.device_memory, dst, bytes) || lies_in(state.pinned_memory, dst, bytes);
    if (!legal) return failed(cudaErrorInvalidValue);
    return enqueue(stream, [=] {
        memset(dst, value, bytes);
        note_host_write(dst, bytes);
    });
}
cudaError_t cudaMemset(void *dst, int value, size_t bytes) {
    return cudaMemsetAsync(dst, value, bytes, nullptr);
}

cudaError_t cudaGetDriverEntryPointByVersion(const char *symbol, void **func, unsigned,
                                             unsigned long long,
                                             enum cudaDriverEntryPointQueryResult *result) {
    HOLD();
    bool known = strcmp(symbol, "cuTensorMapEncodeTiled") == 0;
    *func = known ? (void *)cuTensorMapEncodeTiled : nullptr;
    if (result) {
        *result = known ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
    }
    return status();
}

/* ---- streams ---- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) {
    HOLD();
    *stream = nullptr;
    cudaError_t error = status();
    if (error != cudaSuccess) return error;
    *stream = new CUstream_st;
    (*stream)->blocking = !(flags & cudaStreamNonBlocking);
    state.streams.push_back(*stream);
    return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t *stream) {
    return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    HOLD();
    for (size_t i = 0; i < state.streams.size(); i++) {
        if (state.streams[i] != stream) continue;
        run_all(*stream);
        state.streams.erase(state.streams.begin() + (ptrdiff_t)i);
        delete stream;
        return status();
    }
    return failed(cudaErrorInvalidResourceHandle);
}
cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
    HOLD();
    CUstream_st &stream = stream_of(handle);
    if (stream.capture) return spoil(stream.capture);
    if (handle) {
        run_all(stream);
    } else {
        run_blocking_streams();
    }
    return status();
}
/* Each query lets one piece of work finish, so that a loop of queries ends. */
cudaError_t cudaStreamQuery(cudaStream_t handle) {
    HOLD();
    CUstream_st &stream = stream_of(handle);
    if (stream.capture) return spoil(stream.capture);
    stream_queue &queue = *stream.queue;
    if (queue.done == queue.issued) return status();
    run_until(queue, queue.done + 1);
    return cudaErrorNotReady;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *data) {
    HOLD();
    if (!function) return failed(cudaErrorInvalidValue);
    return enqueue(stream, [=] { function(data); });
}

/* ---- events ---- */

static double seconds_now() {
    auto since = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration<double>(since).count();
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) {
    HOLD();
    *event = nullptr;
    cudaError_t error = status();
    if (error != cudaSuccess) return error;
    *event = new CUevent_st;
    (*event)->timed = !(flags & cudaEventDisableTiming);
    return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t *event) {
    return cudaEventCreateWithFlags(event, cudaEventDefault);
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
    HOLD();
    if (!event) return failed(cudaErrorInvalidResourceHandle);
    /* Its record may still be queued. */
    if (event->queue) run_until(*event->queue, event->position);
    delete event;
    return status();
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t handle) {
    HOLD();
    CUstream_st &stream = stream_of(handle);
    if (stream.capture) {
        event->capture = stream.capture;
        event->captured_from = &stream;
        return cudaSuccess;
    }
    event->capture = nullptr;
    event->queue = stream.queue;
    event->position = stream.queue->issued + 1;
    return enqueue(handle, [event] { event->seconds = seconds_now(); });
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    HOLD();
    if (event->capture) return failed(cudaErrorCapturedEvent);
    if (event->queue) run_until(*event->queue, event->position);
    return status();
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
    HOLD();
    if (event->capture) return failed(cudaErrorCapturedEvent);
    if (!event->queue || event->queue->done >= event->position) return status();
    run_until(*event->queue, event->queue->done + 1);
    return cudaErrorNotReady;
}
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t stop) {
    HOLD();
    *ms = 0;
    bool recorded = start->queue && stop->queue && start->timed && stop->timed;
    if (!recorded) return failed(cudaErrorInvalidResourceHandle);
    bool finished = start->queue->done >= start->position && stop->queue->done >= stop->position;
    if (!finished) return cudaErrorNotReady;
    *ms = (float)((stop->seconds - start->seconds) * 1e3);
    return status();
}

/* A stream that waits for an event of a capture joins the capture; the stream that began it joins
 * that work by waiting for an event recorded after it. */
static cudaError_t wait_in_capture(CUstream_st &stream, cudaEvent_t event) {
    if (!event->capture) {
        stream.capture->invalid = true;
        return failed(cudaErrorStreamCaptureIsolation);
    }
    if (stream.capture && stream.capture != event->capture) {
        stream.capture->invalid = event->capture->invalid = true;
        return failed(cudaErrorStreamCaptureIsolation);
    }
    if (!stream.capture) {
        stream.capture = event->capture;
        stream.capture->members[&stream] = false;
    } else if (event->captured_from != stream.capture->origin) {
        stream.capture->members[event->captured_from] = false;
    }
    return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned) {
    HOLD();
    CUstream_st &stream = stream_of(handle);
    if (stream.capture || event->capture) return wait_in_capture(stream, event);
    if (!event->queue) return status();
    std::shared_ptr<stream_queue> queue = event->queue;
    uint64_t position = event->position;
    return enqueue(handle, [queue, position] { run_until(*queue, position); });
}

/* ---- capture and graphs ---- */

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode) {
    HOLD();
    if (!stream) return failed(cudaErrorStreamCaptureUnsupported);
    if (stream->capture) return failed(cudaErrorInvalidValue);
    auto capture = std::make_shared<graph_capture>();
    capture->origin = stream;
    capture->mode = mode;
    stream->capture = capture;
    state.captures.push_back(capture);
    return status();
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
    HOLD();
    *graph = nullptr;
    if (!stream || !stream->capture) return failed(cudaErrorInvalidValue);
    std::shared_ptr<graph_capture> capture = stream->capture;
    if (capture->origin != stream) return failed(cudaErrorStreamCaptureUnmatched);
    bool unjoined = false;
    for (auto &member : capture->members) {
        unjoined = unjoined || member.second;
        member.first->capture = nullptr;
    }
    stream->capture = nullptr;
    for (size_t i = 0; i < state.captures.size(); i++) {
        if (state.captures[i] != capture) continue;
        state.captures.erase(state.captures.begin() + (ptrdiff_t)i);
        break;
    }
    if (capture->invalid) return failed(cudaErrorStreamCaptureInvalidated);
    if (unjoined) return failed(cudaErrorStreamCaptureUnjoined);
    *graph = new CUgraph_st{std::move(capture->ops)};
    return status();
}
cudaError_t cudaStreamIsCapturing(cudaStream_t handle, enum cudaStreamCaptureStatus *result) {
    HOLD();
    const CUstream_st &stream = stream_of(handle);
    *result = cudaStreamCaptureStatusNone;
    if (stream.capture) {
        *result = stream.capture->invalid ? cudaStreamCaptureStatusInvalidated
                                          : cudaStreamCaptureStatusActive;
    }
    return status();
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long) {
    HOLD();
    *exec = nullptr;
    if (!graph) return failed(cudaErrorInvalidValue);
    *exec = new CUgraphExec_st{graph->ops};
    return status();
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
    HOLD();
    if (!exec) return failed(cudaErrorInvalidValue);
    if (stream_of(stream).capture) return failed(cudaErrorNotSupported);
    for (const stream_op &op : exec->ops) {
        cudaError_t error = enqueue(stream, op);
        if (error != cudaSuccess) return error;
    }
    return status();
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
    delete exec;
    return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete graph;
    return cudaSuccess;
}
