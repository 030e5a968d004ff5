/* The emulated runtime: memory, streams, events, capture and replay, and the errors of a device. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <cuda_runtime_api.h>
#include <math.h>
#include <simt_options.h>
#include <string.h>

cudaError_t test_scale_add(float *y, const float *x, float a, int n, cudaStream_t stream);
cudaError_t test_trap(cudaStream_t stream);

enum { N = 100 };
static const size_t BYTES = N * sizeof(float);

#define OK(call) assert_int_equal(call, cudaSuccess)

static float *device_floats(float value) {
    float host[N];
    void *at;
    for (int i = 0; i < N; i++) host[i] = value;
    OK(cudaMalloc(&at, BYTES));
    OK(cudaMemcpy(at, host, BYTES, cudaMemcpyHostToDevice));
    return at;
}
static void expect(const float *device, float value) {
    float host[N];
    OK(cudaMemcpy(host, device, BYTES, cudaMemcpyDeviceToHost));
    for (int i = 0; i < N; i++) assert_true(host[i] == value);
}

static void test_memory(void **unused) {
    (void)unused;
    size_t free_before, free_now, total;
    unsigned char bytes[16];
    void *at, *more;
    OK(cudaMemGetInfo(&free_before, &total));
    assert_int_equal(total, simt_options_get()->memory_bytes);
    OK(cudaMalloc(&at, 1000));
    OK(cudaMemGetInfo(&free_now, &total));
    assert_true(free_before - free_now >= 1000);
    OK(cudaMemcpy(bytes, at, sizeof bytes, cudaMemcpyDeviceToHost));
    for (size_t i = 0; i < sizeof bytes; i++) assert_int_equal(bytes[i], 0xff);
    /* beyond the device's memory, and a copy beyond the allocation */
    assert_int_equal(cudaMalloc(&more, free_now + 1), cudaErrorMemoryAllocation);
    assert_null(more);
    assert_int_equal(cudaGetLastError(), cudaErrorMemoryAllocation);
    assert_int_equal(cudaGetLastError(), cudaSuccess);
    assert_int_equal(cudaMemcpy((char *)at + 990, bytes, 16, cudaMemcpyHostToDevice),
                     cudaErrorInvalidValue);
    OK(cudaFree(at));
    assert_int_equal(cudaFree(bytes), cudaErrorInvalidValue);
    OK(cudaMemGetInfo(&free_now, &total));
    assert_int_equal(free_now, free_before);
    (void)cudaGetLastError();
}

static void test_missing_device(void **unused) {
    (void)unused;
    struct simt_options saved = *simt_options_get();
    int count;
    simt_options_get()->device_count = 0;
    assert_int_equal(cudaGetDeviceCount(&count), cudaErrorNoDevice);
    assert_int_equal(count, 0);
    simt_options_get()->driver_version = 0;
    assert_int_equal(cudaGetDeviceCount(&count), cudaErrorInsufficientDriver);
    *simt_options_get() = saved;
    (void)cudaGetLastError();
    OK(cudaGetDeviceCount(&count));
    assert_int_equal(count, 1);
}

/* Without a wait the host must not see the work of a stream, when streams are late. */
static void test_late_stream(void **unused) {
    (void)unused;
    float *x = device_floats(1), *y = device_floats(2), *pinned;
    cudaStream_t stream;
    OK(cudaHostAlloc((void **)&pinned, BYTES, cudaHostAllocMapped));
    OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    simt_options_get()->late_streams = 1;
    OK(test_scale_add(y, x, 3, N, stream));
    OK(cudaMemcpyAsync(pinned, y, BYTES, cudaMemcpyDeviceToHost, stream));
    expect(y, 2);
    assert_true(isnan(pinned[0]));
    assert_int_equal(cudaStreamQuery(stream), cudaErrorNotReady);
    OK(cudaStreamSynchronize(stream));
    OK(cudaStreamQuery(stream));
    assert_true(pinned[0] == 7 && pinned[N - 1] == 7);
    simt_options_get()->late_streams = 0;
    OK(cudaStreamDestroy(stream));
    OK(cudaFreeHost(pinned));
    OK(cudaFree(x));
    OK(cudaFree(y));
}

/* The order between two streams is that of their event, however late they run. */
static void test_events(void **unused) {
    (void)unused;
    float *x = device_floats(1), *y = device_floats(2);
    cudaStream_t first, second;
    cudaEvent_t start, ready, unused_event;
    float ms;
    OK(cudaStreamCreateWithFlags(&first, cudaStreamNonBlocking));
    OK(cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking));
    OK(cudaEventCreate(&start));
    OK(cudaEventCreate(&ready));
    OK(cudaEventCreateWithFlags(&unused_event, cudaEventDisableTiming));
    simt_options_get()->late_streams = 1;
    OK(cudaEventRecord(start, first));
    OK(test_scale_add(y, x, 3, N, first));
    OK(cudaEventRecord(ready, first));
    OK(cudaStreamWaitEvent(second, ready, 0));
    OK(test_scale_add(y, x, 10, N, second));
    assert_int_equal(cudaEventElapsedTime(&ms, start, ready), cudaErrorNotReady);
    OK(cudaStreamSynchronize(second));
    expect(y, 71);
    OK(cudaEventSynchronize(ready));
    OK(cudaEventElapsedTime(&ms, start, ready));
    assert_true(ms >= 0);
    assert_int_equal(cudaEventElapsedTime(&ms, start, unused_event),
                     cudaErrorInvalidResourceHandle);
    simt_options_get()->late_streams = 0;
    OK(cudaEventDestroy(start));
    OK(cudaEventDestroy(ready));
    OK(cudaEventDestroy(unused_event));
    OK(cudaStreamDestroy(first));
    OK(cudaStreamDestroy(second));
    OK(cudaFree(x));
    OK(cudaFree(y));
    (void)cudaGetLastError();
}

/* Captured work does not run until its graph does, each time with the arguments of the capture and
 * the memory of the moment. */
static void test_capture(void **unused) {
    (void)unused;
    float *x = device_floats(1), *y = device_floats(2);
    cudaStream_t stream, side;
    cudaEvent_t forked, joined;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    enum cudaStreamCaptureStatus status;
    OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    OK(cudaStreamCreateWithFlags(&side, cudaStreamNonBlocking));
    OK(cudaEventCreate(&forked));
    OK(cudaEventCreate(&joined));
    OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    OK(cudaStreamIsCapturing(stream, &status));
    assert_int_equal(status, cudaStreamCaptureStatusActive);
    OK(test_scale_add(y, x, 3, N, stream));
    OK(cudaEventRecord(forked, stream));
    OK(cudaStreamWaitEvent(side, forked, 0));
    OK(cudaMemsetAsync(x, 0, BYTES, side));
    OK(cudaEventRecord(joined, side));
    OK(cudaStreamWaitEvent(stream, joined, 0));
    OK(cudaStreamEndCapture(stream, &graph));
    OK(cudaStreamIsCapturing(side, &status));
    assert_int_equal(status, cudaStreamCaptureStatusNone);
    expect(y, 2);
    OK(cudaGraphInstantiate(&exec, graph, 0));
    OK(cudaGraphDestroy(graph));
    OK(cudaGraphLaunch(exec, stream));
    OK(cudaStreamSynchronize(stream));
    expect(y, 7);
    expect(x, 0);
    OK(cudaGraphLaunch(exec, stream));
    OK(cudaStreamSynchronize(stream));
    expect(y, 21);
    OK(cudaGraphExecDestroy(exec));
    OK(cudaEventDestroy(forked));
    OK(cudaEventDestroy(joined));
    OK(cudaStreamDestroy(side));
    OK(cudaStreamDestroy(stream));
    OK(cudaFree(x));
    OK(cudaFree(y));
}

/* What a capture forbids fails and spoils it. */
static void test_spoiled_capture(void **unused) {
    (void)unused;
    float *x = device_floats(1), *y = device_floats(2);
    cudaStream_t stream, side;
    cudaEvent_t forked;
    cudaGraph_t graph;
    void *at;
    OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    OK(cudaStreamCreateWithFlags(&side, cudaStreamNonBlocking));
    OK(cudaEventCreate(&forked));
    OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    assert_int_equal(cudaStreamSynchronize(stream), cudaErrorStreamCaptureUnsupported);
    assert_int_equal(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);
    OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    assert_int_equal(cudaMalloc(&at, 16), cudaErrorStreamCaptureUnsupported);
    assert_int_equal(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);
    OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    OK(cudaEventRecord(forked, stream));
    OK(cudaStreamWaitEvent(side, forked, 0));
    OK(test_scale_add(y, x, 3, N, side));
    assert_int_equal(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureUnjoined);
    assert_null(graph);
    expect(y, 2);
    OK(cudaEventDestroy(forked));
    OK(cudaStreamDestroy(side));
    OK(cudaStreamDestroy(stream));
    OK(cudaFree(x));
    OK(cudaFree(y));
    (void)cudaGetLastError();
}

static void test_sticky_error(void **unused) {
    (void)unused;
    float *x = device_floats(1), *y = device_floats(2);
    simt_options_get()->quiet = 1;
    (void)test_trap(NULL);
    assert_int_equal(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
    assert_int_equal(cudaGetLastError(), cudaErrorLaunchFailure);
    assert_int_equal(test_scale_add(y, x, 3, N, NULL), cudaErrorLaunchFailure);
    assert_int_equal(simt_last_error(), SIMT_TRAP);
    assert_non_null(strstr(simt_last_report(), "[trap] kernel at runtime_kernels.cu"));
    simt_clear_error();
    (void)cudaGetLastError();
    simt_options_get()->quiet = 0;
    expect(y, 2);
    OK(cudaFree(x));
    OK(cudaFree(y));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory),      cmocka_unit_test(test_missing_device),
        cmocka_unit_test(test_late_stream), cmocka_unit_test(test_events),
        cmocka_unit_test(test_capture),     cmocka_unit_test(test_spoiled_capture),
        cmocka_unit_test(test_sticky_error)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
