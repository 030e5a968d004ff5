/* The matrix product by cuBLASLt: opened with dlopen when it is wanted, asked once for each kind of
 * product, and, where the choice is left to us, timed against our own kernels at the first meeting.
 *
 * It does what it can do with our meaning: sums with bias, += into f32, the tanh form's derivative;
 * GELU is the sum by the library and our elementwise operator behind it, so that it is taken of pre
 * as stored. The rest is done by our kernels, whatever the choice. */
#include "kernels/cuda/cublas.h"

#include <cublasLt.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "kernels/cuda/column_major.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/matmul_choices.h"
#include "kernels/cuda/memory.h"

enum {
    WORKSPACE_BYTES = 32 << 20,
    PRODUCT_MOST = 256, /* kinds that are remembered; what comes later is done by our kernels */
    ALIGNMENT_MOST = 256,
    KIND_BYTES = 384,
    WARM_UP_RUNS = 3,
    TIMED_RUNS = 10
};

/* The functions of the library that are used. */
#define FUNCTIONS(X)                                                                               \
    X(GetVersion)                                                                                  \
    X(GetStatusString)                                                                             \
    X(Create)                                                                                      \
    X(Destroy)                                                                                     \
    X(Matmul)                                                                                      \
    X(MatmulAlgoGetHeuristic)                                                                      \
    X(MatmulDescCreate)                                                                            \
    X(MatmulDescDestroy)                                                                           \
    X(MatmulDescSetAttribute)                                                                      \
    X(MatmulPreferenceCreate)                                                                      \
    X(MatmulPreferenceDestroy)                                                                     \
    X(MatmulPreferenceSetAttribute)                                                                \
    X(MatrixLayoutCreate)                                                                          \
    X(MatrixLayoutDestroy)

/* What makes two products the same to the library. Compared byte for byte: no padding. */
typedef struct product_key {
    int64_t m, n, k;
    int32_t layout, dtype, out_dtype, epilogue, gelu, accumulate, bias;
    int32_t a_alignment, b_alignment, out_alignment, pre_alignment, bias_alignment;
} product_key;
_Static_assert(sizeof(product_key) == 3 * 8 + 12 * 4, "no padding");

typedef struct product {
    product_key key;
    bool by_library;
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t left, right, out;
    cublasLtMatmulAlgo_t algo;
} product;

typedef struct seo_cublas {
    void *library;
    bool missing; /* it was looked for in vain */
#define X(name) __typeof__(&cublasLt##name) name;
    FUNCTIONS(X)
#undef X
    cublasLtHandle_t handle;
    void *workspace;
    int32_t count;
    product products[PRODUCT_MOST];
} seo_cublas;

/* ---- the library ---- */

/* A function's address arrives as an object's, which C does not let one cast. */
static bool find_function(void *library, const char *name, void *function) {
    void *symbol = dlsym(library, name);
    memcpy(function, &symbol, sizeof symbol);
    return symbol != NULL;
}

/* Only the major version that the header describes. */
static bool open_library(seo_cublas *blas, const char *path) {
    blas->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!blas->library) return false;
    bool all = true;
#define X(name) all = find_function(blas->library, "cublasLt" #name, &blas->name) && all;
    FUNCTIONS(X)
#undef X
    if (all && blas->GetVersion() / 10000 == CUBLAS_VER_MAJOR) return true;
    (void)dlclose(blas->library);
    blas->library = NULL;
    return false;
}

static seo_err find_library(seo_cublas *blas) {
#define TEXT_OF(x) #x
#define TEXT(x)    TEXT_OF(x)
    static const char name[] = "libcublasLt.so." TEXT(CUBLAS_VER_MAJOR);
    if (open_library(blas, name) ||
        open_library(blas, SEO_CUBLASLT_DIR "/libcublasLt.so." TEXT(CUBLAS_VER_MAJOR)) ||
        open_library(blas, "libcublasLt.so")) {
        return SEO_OK;
    }
#undef TEXT
#undef TEXT_OF
    return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                    "cuda: %s is not found: install CUDA's cuBLAS or add its folder to "
                    "LD_LIBRARY_PATH, or use kernels.matmul: own",
                    name);
}

static seo_err check(const seo_cublas *blas, cublasStatus_t status, const char *what) {
    if (status == CUBLAS_STATUS_SUCCESS) return SEO_OK;
    return SEO_FAIL(SEO_ERR_DEVICE, "cuda: cuBLASLt: %s: %s", what, blas->GetStatusString(status));
}

static void free_product(const seo_cublas *blas, product *p) {
    if (p->desc) (void)blas->MatmulDescDestroy(p->desc);
    if (p->left) (void)blas->MatrixLayoutDestroy(p->left);
    if (p->right) (void)blas->MatrixLayoutDestroy(p->right);
    if (p->out) (void)blas->MatrixLayoutDestroy(p->out);
    memset(p, 0, sizeof *p);
}

static void cublas_close(seo_device *dev) {
    seo_cublas *blas = seo_cuda_of(dev)->cublas;
    if (!blas) return;
    for (int32_t i = 0; i < blas->count; i++) free_product(blas, &blas->products[i]);
    if (blas->workspace) (void)cudaFree(blas->workspace);
    if (blas->handle) (void)blas->Destroy(blas->handle);
    if (blas->library) (void)dlclose(blas->library);
    free(blas);
    seo_cuda_of(dev)->cublas = NULL;
}

/* After a failure the structure stays, and says that there is nothing to be had. */
static seo_err cublas_open(seo_device *dev) {
    seo_err err = SEO_OK;
    seo_cublas *blas = calloc(1, sizeof *blas);
    if (!blas) return SEO_FAIL(SEO_ERR_MEMORY, "cuda: no memory for cuBLASLt");
    seo_cuda_of(dev)->cublas = blas;
    blas->missing = true;
    SEO_TRY(find_library(blas));
    SEO_TRY(check(blas, blas->Create(&blas->handle), "its start"));
    SEO_TRY(seo_cuda_take(dev, WORKSPACE_BYTES, &blas->workspace));
    blas->missing = false;
done:
    return err;
}

/* ---- one kind of product ---- */

/* The largest power of two, up to ALIGNMENT_MOST, that divides the address. */
static int32_t alignment_of(const void *at) {
    uintptr_t bits = (uintptr_t)at | ALIGNMENT_MOST;
    return (int32_t)(bits & (~bits + 1));
}

static product_key key_of(const seo_matmul_args *a) {
    product_key key = {.layout = (int32_t)a->layout,
                       .dtype = (int32_t)a->a.dtype,
                       .out_dtype = (int32_t)a->out.dtype,
                       .epilogue = (int32_t)a->epilogue,
                       .gelu = (int32_t)a->gelu,
                       .accumulate = a->accumulate,
                       .bias = seo_tensor_given(&a->bias),
                       .a_alignment = alignment_of(a->a.data),
                       .b_alignment = alignment_of(a->b.data),
                       .out_alignment = alignment_of(a->out.data),
                       .pre_alignment = alignment_of(a->pre.data),
                       .bias_alignment = alignment_of(a->bias.data)};
    key.n = a->out.dims[a->out.rank - 1];
    key.m = seo_tensor_count(&a->out) / key.n;
    key.k = seo_tensor_count(&a->a) / key.m;
    return key;
}

/* What the library does with our meaning. Its bias has the type of its output. Its derivative of
 * GELU is of the tanh form, and wants rows of pre that are multiples of 8 long. */
static bool library_can(const product_key *key) {
    const bool narrow = key->out_dtype == key->dtype;
    if (key->bias && !narrow) return false;
    if (key->epilogue != SEO_EPILOGUE_DGELU) return true;
    return key->dtype == SEO_DTYPE_BF16 && narrow && !key->bias && key->n % 8 == 0 &&
           key->gelu == SEO_GELU_TANH;
}

/* GELU by the library is a sum that goes to pre. */
static const seo_tensor *sum_of(const seo_matmul_args *a) {
    return a->epilogue == SEO_EPILOGUE_GELU ? &a->pre : &a->out;
}

static cudaDataType_t type_of(int32_t dtype) {
    return dtype == SEO_DTYPE_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

/* The pointers are the call's, not the kind's; they are set before each call. */
static seo_err set_pointers(const seo_cublas *blas, const product *p, const seo_matmul_args *a) {
    seo_err err = SEO_OK;
    if (p->key.bias) {
        SEO_TRY(check(blas,
                      blas->MatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER,
                                                   &a->bias.data, sizeof a->bias.data),
                      "a bias"));
    }
    if (p->key.epilogue == SEO_EPILOGUE_DGELU) {
        SEO_TRY(
            check(blas,
                  blas->MatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER,
                                               &a->pre.data, sizeof a->pre.data),
                  "the input of GELU"));
    }
done:
    return err;
}

static seo_err make_layout(const seo_cublas *blas, cublasLtMatrixLayout_t *out, int32_t dtype,
                           const seo_column_major_matrix *matrix) {
    return check(blas,
                 blas->MatrixLayoutCreate(out, type_of(dtype), (uint64_t)matrix->rows,
                                          (uint64_t)matrix->columns, matrix->pitch),
                 "a matrix");
}

/* Describes the product. f32 operands are multiplied as f32, never as TF32. */
static seo_err describe(const seo_cublas *blas, product *p) {
    seo_err err = SEO_OK;
    const product_key *key = &p->key;
    const seo_column_major_product form =
        seo_column_major_product_of((seo_matmul_layout)key->layout, key->m, key->n, key->k);
    const int32_t left = form.left.transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    const int32_t right = form.right.transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    const bool dgelu = key->epilogue == SEO_EPILOGUE_DGELU;
    const uint32_t epilogue = key->bias ? CUBLASLT_EPILOGUE_BIAS
                              : dgelu   ? CUBLASLT_EPILOGUE_DGELU
                                        : CUBLASLT_EPILOGUE_DEFAULT;
    SEO_TRY(
        check(blas, blas->MatmulDescCreate(&p->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F), "a product"));
#define SET(attribute, value)                                                                      \
    SEO_TRY(check(blas, blas->MatmulDescSetAttribute(p->desc, attribute, &(value), sizeof(value)), \
                  #attribute))
    SET(CUBLASLT_MATMUL_DESC_TRANSA, left);
    SET(CUBLASLT_MATMUL_DESC_TRANSB, right);
    SET(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
    if (dgelu) SET(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, key->n);
#undef SET
    SEO_TRY(make_layout(blas, &p->left, key->dtype, &form.left));
    SEO_TRY(make_layout(blas, &p->right, key->dtype, &form.right));
    SEO_TRY(make_layout(blas, &p->out, key->out_dtype, &form.out));
done:
    return err;
}

/* Asks the library how it would do it. Parts of k may be added in f32 only, not in the type of the
 * output, and not in place. by_library says whether it can. */
static seo_err ask(const seo_cublas *blas, product *p) {
    seo_err err = SEO_OK;
    cublasLtMatmulPreference_t wish = NULL;
    cublasLtMatmulHeuristicResult_t found;
    const product_key *key = &p->key;
    const uint64_t workspace = WORKSPACE_BYTES;
    const uint32_t reduction = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    const int32_t out_alignment =
        key->epilogue == SEO_EPILOGUE_GELU ? key->pre_alignment : key->out_alignment;
    const uint32_t left = (uint32_t)key->b_alignment, right = (uint32_t)key->a_alignment;
    const uint32_t out = (uint32_t)out_alignment;
    int count = 0;
    SEO_TRY(check(blas, blas->MatmulPreferenceCreate(&wish), "a preference"));
#define SET(attribute, value)                                                                      \
    SEO_TRY(check(blas,                                                                            \
                  blas->MatmulPreferenceSetAttribute(wish, attribute, &(value), sizeof(value)),    \
                  #attribute))
    SET(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace);
    SET(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, reduction);
    SET(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, left);
    SET(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, right);
    SET(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, out);
    SET(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, out);
#undef SET
    const cublasStatus_t status = blas->MatmulAlgoGetHeuristic(
        blas->handle, p->desc, p->left, p->right, p->out, p->out, wish, 1, &found, &count);
    p->by_library =
        status == CUBLAS_STATUS_SUCCESS && count > 0 && found.state == CUBLAS_STATUS_SUCCESS;
    if (p->by_library) p->algo = found.algo;
done:
    if (wish) (void)blas->MatmulPreferenceDestroy(wish);
    return err;
}

static seo_err run_library(seo_device *dev, const seo_matmul_args *a, const product *p) {
    seo_err err = SEO_OK;
    const seo_cublas *blas = seo_cuda_of(dev)->cublas;
    const float one = 1.0f, zero = 0.0f;
    void *sum = sum_of(a)->data;
    SEO_TRY(set_pointers(blas, p, a));
    SEO_TRY(check(blas,
                  blas->Matmul(blas->handle, p->desc, &one, a->b.data, p->left, a->a.data, p->right,
                               a->accumulate ? &one : &zero, sum, p->out, sum, p->out, &p->algo,
                               blas->workspace, WORKSPACE_BYTES, seo_cuda_of(dev)->stream),
                  "a product"));
    if (a->epilogue == SEO_EPILOGUE_GELU) {
        SEO_TRY(seo_cuda_gelu_fwd(
            dev, &(seo_gelu_fwd_args){.out = a->out, .inp = a->pre, .kind = a->gelu}));
    }
done:
    return err;
}

static seo_err run(seo_device *dev, const seo_matmul_args *a, const product *p) {
    if (p && p->by_library) return run_library(dev, a, p);
    return seo_matmul_own(dev, a, SEO_MATMUL_BY_TABLE);
}

/* ---- which is faster ---- */

/* The time of TIMED_RUNS, back to back; p NULL: of our kernels. */
static seo_err time_of(seo_device *dev, const seo_matmul_args *a, const product *p, float *ms) {
    seo_err err = SEO_OK;
    cudaEvent_t from = NULL, to = NULL;
    cudaStream_t stream = seo_cuda_of(dev)->stream;
    SEO_TRY(seo_cuda_check(cudaEventCreate(&from), "an event"));
    SEO_TRY(seo_cuda_check(cudaEventCreate(&to), "an event"));
    for (int i = 0; i < WARM_UP_RUNS; i++) SEO_TRY(run(dev, a, p));
    SEO_TRY(seo_cuda_check(cudaEventRecord(from, stream), "an event"));
    for (int i = 0; i < TIMED_RUNS; i++) SEO_TRY(run(dev, a, p));
    SEO_TRY(seo_cuda_check(cudaEventRecord(to, stream), "an event"));
    SEO_TRY(seo_cuda_check(cudaEventSynchronize(to), "the timing of a product"));
    SEO_TRY(seo_cuda_check(cudaEventElapsedTime(ms, from, to), "the timing of a product"));
done:
    if (from) (void)cudaEventDestroy(from);
    if (to) (void)cudaEventDestroy(to);
    return err;
}

/* Runs both on the call's own tensors. That changes nothing but the output, which the call writes
 * anew, or, where it adds to it, which is put back from a copy; without memory for one our kernels
 * are taken unmeasured. The library is taken when it saves more than a fiftieth. */
static seo_err compare(seo_device *dev, const seo_matmul_args *a, product *p) {
    seo_err err = SEO_OK;
    const size_t bytes = (size_t)seo_tensor_bytes(&a->out);
    cudaStream_t stream = seo_cuda_of(dev)->stream;
    void *copy = NULL;
    float own_ms = 0.0f, library_ms = 0.0f;
    if (a->accumulate) {
        if (cudaMalloc(&copy, bytes) != cudaSuccess) {
            (void)cudaGetLastError();
            p->by_library = false;
            return SEO_OK;
        }
        SEO_TRY(seo_cuda_check(
            cudaMemcpyAsync(copy, a->out.data, bytes, cudaMemcpyDeviceToDevice, stream),
            "the copy of an output"));
    }
    SEO_TRY(time_of(dev, a, NULL, &own_ms));
    SEO_TRY(time_of(dev, a, p, &library_ms));
    if (copy) {
        SEO_TRY(seo_cuda_check(
            cudaMemcpyAsync(a->out.data, copy, bytes, cudaMemcpyDeviceToDevice, stream),
            "the copy of an output"));
        SEO_TRY(seo_cuda_check(cudaStreamSynchronize(stream), "the copy of an output"));
    }
    p->by_library = library_ms * 1.02f < own_ms;
done:
    if (copy) (void)cudaFree(copy);
    return err;
}

/* The remembered kind of this product; NULL when it is new. */
static const product *known(const seo_cublas *blas, const product_key *key) {
    for (int32_t i = 0; i < blas->count; i++) {
        if (memcmp(&blas->products[i].key, key, sizeof *key) == 0) return &blas->products[i];
    }
    return NULL;
}

/* The device, the library and the kind of product in words, as the file of choices has it. */
static void name_kind(const seo_device *dev, const product_key *key, char out[KIND_BYTES]) {
    static const char *const layouts[] = {"NT", "NN", "TN"}, *const dtypes[] = {"f32", "bf16"};
    static const char *const epilogues[] = {"", " gelu", " dgelu"};
    const int length = snprintf(
        out, KIND_BYTES, "%s, cuBLASLt %zu: %s %s to %s %lldx%lldx%lld%s%s%s%s, at %d %d %d %d %d",
        dev->name, seo_cuda_of(dev)->cublas->GetVersion(), layouts[key->layout],
        dtypes[key->dtype == SEO_DTYPE_BF16], dtypes[key->out_dtype == SEO_DTYPE_BF16],
        (long long)key->m, (long long)key->n, (long long)key->k, epilogues[key->epilogue],
        key->epilogue != SEO_EPILOGUE_NONE && key->gelu == SEO_GELU_ERF ? " erf" : "",
        key->accumulate ? " accumulate" : "", key->bias ? " bias" : "", (int)key->a_alignment,
        (int)key->b_alignment, (int)key->out_alignment, (int)key->pre_alignment,
        (int)key->bias_alignment);
    SEO_ASSERT(length > 0 && length < KIND_BYTES);
}

/* As the file has it, else by time, and into the file. */
static seo_err choose(seo_device *dev, const seo_matmul_args *a, product *p) {
    char kind[KIND_BYTES];
    seo_matmul_choices *choices = seo_cuda_of(dev)->choices;
    if (!choices) return compare(dev, a, p);
    name_kind(dev, &p->key, kind);
    if (seo_matmul_choices_find(choices, kind, &p->by_library)) return SEO_OK;
    const seo_err err = compare(dev, a, p);
    return err != SEO_OK ? err : seo_matmul_choices_add(choices, kind, p->by_library);
}

static seo_err meet(seo_device *dev, const seo_matmul_args *a, const product_key *key) {
    seo_err err = SEO_OK;
    seo_cublas *blas = seo_cuda_of(dev)->cublas;
    product *p = &blas->products[blas->count];
    p->key = *key;
    SEO_TRY(describe(blas, p));
    SEO_TRY(set_pointers(blas, p, a));
    SEO_TRY(ask(blas, p));
    if (p->by_library && seo_cuda_of(dev)->matmul == SEO_MATMUL_AUTO) SEO_TRY(choose(dev, a, p));
    blas->count++;
done:
    if (err != SEO_OK) free_product(blas, p);
    return err;
}

/* While a graph is captured nothing can be measured or taken, so that a product which is new then
 * goes to our kernels. */
static seo_err cublas_matmul(seo_device *dev, const seo_matmul_args *a) {
    seo_err err = SEO_OK;
    const seo_cuda *cuda = seo_cuda_of(dev);
    const product_key key = key_of(a);
    if (!library_can(&key)) return run(dev, a, NULL);
    if (!cuda->cublas && !dev->capturing) {
        err = cublas_open(dev);
        if (err != SEO_OK && cuda->matmul == SEO_MATMUL_CUBLASLT) return err;
    }
    if (!cuda->cublas || cuda->cublas->missing) return run(dev, a, NULL);
    const product *p = known(cuda->cublas, &key);
    if (!p && !dev->capturing && cuda->cublas->count < PRODUCT_MOST) {
        err = meet(dev, a, &key);
        if (err != SEO_OK) return err;
        p = known(cuda->cublas, &key);
    }
    return run(dev, a, p);
}

const seo_matmul_library seo_cublas_library = {
    .open = cublas_open, .matmul = cublas_matmul, .close = cublas_close};
