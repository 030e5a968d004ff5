/* The backend table of the CUDA plug-in, and the opening of a GPU: whatever stands against it is
 * told in one line with its remedy, and what was taken until then is given back by close. */
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "kernels/cuda/cublas.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/matmul_choices.h"
#include "kernels/cuda/memory.h"
#ifdef SEO_HAVE_NCCL
#include "kernels/cuda/nccl.h"
#endif
#include "kernels/cuda/stream.h"

enum { CAPABILITY_MIN = 80 };

/* CUDA writes 12.4 as 12040. */
static int major_of(int version) {
    return version / 1000;
}
static int minor_of(int version) {
    return version % 1000 / 10;
}

static seo_err fail_for_driver(cudaError_t result) {
    int driver = 0, runtime = 0;
    (void)cudaDriverGetVersion(&driver);
    (void)cudaRuntimeGetVersion(&runtime);
    (void)cudaGetLastError();
    if (result == cudaErrorInsufficientDriver && driver == 0) {
        return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                        "cuda: this machine has no NVIDIA driver; install one for CUDA %d.%d or "
                        "later (or use device: cpu)",
                        major_of(runtime), minor_of(runtime));
    }
    if (result == cudaErrorInsufficientDriver) {
        return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                        "cuda: the NVIDIA driver is for CUDA %d.%d, this build needs %d.%d; update "
                        "the driver, or build with an older CUDA toolkit (or use device: cpu)",
                        major_of(driver), minor_of(driver), major_of(runtime), minor_of(runtime));
    }
    if (result == cudaErrorNoDevice) {
        return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                        "cuda: the NVIDIA driver shows no GPU; nvidia-smi and CUDA_VISIBLE_DEVICES "
                        "tell more (or use device: cpu)");
    }
    return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                    "cuda: the NVIDIA driver does not start: %s (%s); nvidia-smi may tell more (or "
                    "use device: cpu)",
                    cudaGetErrorString(result), cudaGetErrorName(result));
}

static seo_err find_gpu(const seo_cuda_options *o, int32_t *out, struct cudaDeviceProp *gpu) {
    int count = 0;
    const cudaError_t result = cudaGetDeviceCount(&count);
    if (result != cudaSuccess) return fail_for_driver(result);
    if (count == 0) return fail_for_driver(cudaErrorNoDevice);
    const int32_t ordinal = o->around && o->ordinal >= count ? o->ordinal % count : o->ordinal;
    *out = ordinal;
    if (ordinal < 0 || ordinal >= count) {
        return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                        "cuda: there is no GPU %d: the driver shows %d, numbered from 0",
                        (int)ordinal, count);
    }
    const seo_err err = seo_cuda_check(cudaGetDeviceProperties(gpu, ordinal), "what the GPU is");
    if (err != SEO_OK) return err;
    if (gpu->major * 10 + gpu->minor < CAPABILITY_MIN) {
        return SEO_FAIL(
            SEO_ERR_UNSUPPORTED,
            "cuda: GPU %d, %s, has compute capability %d.%d; %d.%d (Ampere) or later is "
            "needed (or use device: cpu)",
            (int)ordinal, gpu->name, gpu->major, gpu->minor, CAPABILITY_MIN / 10,
            CAPABILITY_MIN % 10);
    }
    return SEO_OK;
}

static seo_err take_fault_word(seo_cuda *cuda) {
    void *word = NULL;
    const cudaError_t result =
        cudaHostAlloc(&word, sizeof *cuda->fault, cudaHostAllocMapped | cudaHostAllocPortable);
    const seo_err err = seo_cuda_check(result, "host memory for faults");
    if (err != SEO_OK) return err;
    cuda->fault = word;
    *cuda->fault = SEO_CUDA_FAULT_NONE;
    return SEO_OK;
}

/* One small kernel, waited for: a build without code for this GPU, and a GPU that is out of order,
 * show here and not in the middle of a run. */
static seo_err try_kernel(seo_device *dev) {
    seo_err err = SEO_OK;
    const seo_tensor x = seo_tensor_1d(dev->scratch, SEO_DTYPE_F32, 1);
    SEO_TRY(seo_cuda_zero(dev, x.data, seo_tensor_bytes(&x)));
    SEO_TRY(seo_cuda_add(dev, &(seo_add_args){.out = x, .a = x, .b = x}));
    SEO_TRY(seo_cuda_sync(dev));
done:
    return err == SEO_OK ? SEO_OK : seo_err_context(err, "%s", dev->name);
}

/* The library is opened now where it was asked for by name, so that it is missed at once. */
static seo_err open_matmul(seo_device *dev, seo_cuda *cuda, const char *choices) {
#ifdef SEO_HAVE_CUBLASLT
    cuda->library = &seo_cublas_library;
#endif
    if (cuda->matmul == SEO_MATMUL_AUTO && choices) {
        return seo_matmul_choices_open(choices, &cuda->choices);
    }
    if (cuda->matmul != SEO_MATMUL_CUBLASLT) return SEO_OK;
    if (cuda->library) return cuda->library->open(dev);
    return SEO_FAIL(SEO_ERR_UNSUPPORTED, "cuda: this build has no cuBLASLt: the toolkit that built "
                                         "it lacks cublasLt.h; use kernels.matmul: auto or own");
}

static seo_err device_open(seo_device *dev, const void *options) {
    seo_err err = SEO_OK;
    const seo_cuda_options *o = options;
    struct cudaDeviceProp gpu = {0};
    int32_t ordinal = 0;
    SEO_TRY(find_gpu(o, &ordinal, &gpu));
    seo_cuda *cuda = calloc(1, sizeof *cuda);
    if (!cuda) return SEO_FAIL(SEO_ERR_MEMORY, "cuda: no memory for the device");
    dev->impl = cuda;
    dev->check_each = o->check_each;
    cuda->ordinal = ordinal;
    cuda->matmul = o->matmul;
    cuda->multiprocessors = gpu.multiProcessorCount;
    cuda->capability = gpu.major * 10 + gpu.minor;
    snprintf(dev->name, sizeof dev->name, "cuda %.48s, %d SMs, sm_%d", gpu.name,
             (int)cuda->multiprocessors, (int)cuda->capability);
    SEO_TRY(seo_cuda_check(cudaSetDevice(ordinal), "the use of the GPU"));
    SEO_TRY(seo_cuda_check(cudaStreamCreateWithFlags(&cuda->stream, cudaStreamNonBlocking),
                           "a stream"));
    SEO_TRY(take_fault_word(cuda));
    SEO_TRY(seo_cuda_staging_open(dev));
    dev->scratch_bytes = SEO_CUDA_SCRATCH_BYTES;
    SEO_TRY(seo_cuda_take(dev, dev->scratch_bytes, &dev->scratch));
    SEO_TRY(try_kernel(dev));
    SEO_TRY(open_matmul(dev, cuda, o->choices));
done:
    return err;
}

static void device_close(seo_device *dev) {
    seo_cuda *cuda = seo_cuda_of(dev);
    if (!cuda) return;
    if (cuda->library) cuda->library->close(dev);
    if (dev->scratch) (void)cudaFree(dev->scratch);
    seo_cuda_staging_close(cuda);
    if (cuda->fault) (void)cudaFreeHost(cuda->fault);
    if (cuda->stream) (void)cudaStreamDestroy(cuda->stream);
    seo_matmul_choices_close(cuda->choices);
    free(cuda);
    dev->impl = NULL;
}

const seo_backend seo_backend_cuda = {
    .name = "cuda",
#define SEO_OP(op) .op = seo_cuda_##op,
#include "kernels/ops.def"
#undef SEO_OP
    .bf16 = true,
    .row_multiple = SEO_CUDA_ROW_MULTIPLE,
    .open = device_open,
    .alloc = seo_cuda_alloc,
    .free = seo_cuda_free,
    .copy_in = seo_cuda_copy_in,
    .copy_out = seo_cuda_copy_out,
    .copy = seo_cuda_copy,
    .zero = seo_cuda_zero,
    .sync = seo_cuda_sync,
    .memory = seo_cuda_memory,
    .close = device_close,
    .capture_begin = seo_cuda_capture_begin,
    .capture_end = seo_cuda_capture_end,
    .graph_launch = seo_cuda_graph_launch,
    .graph_free = seo_cuda_graph_free,
    .event_open = seo_cuda_event_open,
    .event_record = seo_cuda_event_record,
    .event_elapsed = seo_cuda_event_elapsed,
    .event_close = seo_cuda_event_close,
#ifdef SEO_HAVE_NCCL
    .nccl = &seo_nccl_backend,
#endif
};
