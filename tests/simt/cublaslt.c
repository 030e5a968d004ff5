/* A library that stands in for cuBLASLt where there is no GPU: column-major products in double, on
 * the emulated device's memory, done at the call. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cublasLt.h"

static cublaslt_stand_in g_state;

cublaslt_stand_in *cublaslt_stand_in_get(void) {
    return &g_state;
}

size_t cublasLtGetVersion(void) {
    return CUBLAS_VER_MAJOR * 10000;
}
const char *cublasLtGetStatusString(cublasStatus_t status) {
    return status == CUBLAS_STATUS_SUCCESS ? "success" : "the stand-in refuses";
}

/* Any of the library's objects. */
static cublasStatus_t create(void *object, size_t bytes) {
    void *made = calloc(1, bytes);
    if (!made) return CUBLAS_STATUS_NOT_INITIALIZED;
    memcpy(object, &made, sizeof made);
    g_state.objects++;
    return CUBLAS_STATUS_SUCCESS;
}
static cublasStatus_t destroy(void *object) {
    free(object);
    g_state.objects--;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle) {
    if (g_state.fail_create) return CUBLAS_STATUS_NOT_INITIALIZED;
    *handle = (cublasLtHandle_t)(void *)&g_state;
    g_state.handles++;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
    (void)handle;
    g_state.handles--;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *desc, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
    if (compute != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F) return CUBLAS_STATUS_INVALID_VALUE;
    return create(desc, sizeof **desc);
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) {
    return destroy(desc);
}

static cublasStatus_t set(void *field, size_t field_bytes, const void *value, size_t bytes) {
    if (bytes != field_bytes) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(field, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}
#define SET(field) set(&(field), sizeof(field), value, bytes)

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void *value, size_t bytes) {
    switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA: return SET(desc->transposed[0]);
    case CUBLASLT_MATMUL_DESC_TRANSB: return SET(desc->transposed[1]);
    case CUBLASLT_MATMUL_DESC_EPILOGUE: return SET(desc->epilogue);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: return SET(desc->bias);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER: return SET(desc->aux);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD: return SET(desc->aux_pitch);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *layout, cudaDataType_t type,
                                          uint64_t rows, uint64_t columns, int64_t pitch) {
    const cublasStatus_t status = create(layout, sizeof **layout);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    **layout = (struct cublasLtMatrixLayout){type, rows, columns, pitch};
    return (int64_t)rows <= pitch ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
    return destroy(layout);
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *preference) {
    return create(preference, sizeof **preference);
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
    return destroy(preference);
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void *value, size_t bytes) {
    switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES: return SET(preference->workspace_bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK: return SET(preference->reduction);
    default: break;
    }
    const int which = (int)attribute - (int)CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES;
    if (which < 0 || which >= 4) return CUBLAS_STATUS_INVALID_VALUE;
    return SET(preference->alignments[which]);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[],
                                              int *count) {
    (void)handle;
    *count = 0;
    g_state.asked++;
    memcpy(g_state.alignments, preference->alignments, sizeof g_state.alignments);
    const uint64_t inner = desc->transposed[0] ? a->rows : a->columns;
    const uint64_t rows = desc->transposed[0] ? a->columns : a->rows;
    const bool match = inner == (desc->transposed[1] ? b->columns : b->rows) && rows == d->rows &&
                       d->columns == (desc->transposed[1] ? b->rows : b->columns) &&
                       a->type == b->type && c->type == d->type && wanted >= 1;
    if (!match) return CUBLAS_STATUS_INVALID_VALUE;
    if (g_state.refuse) return CUBLAS_STATUS_NOT_SUPPORTED;
    memset(results, 0, sizeof *results);
    *count = 1;
    return CUBLAS_STATUS_SUCCESS;
}

static double number_at(const void *x, cudaDataType_t type, int64_t at) {
    if (type == CUDA_R_32F) return (double)((const float *)x)[at];
    const uint32_t bits = (uint32_t)((const uint16_t *)x)[at] << 16;
    float number;
    memcpy(&number, &bits, sizeof number);
    return (double)number;
}
static void store(void *x, cudaDataType_t type, int64_t at, float number) {
    if (type == CUDA_R_32F) {
        ((float *)x)[at] = number;
        return;
    }
    uint32_t bits;
    memcpy(&bits, &number, sizeof bits);
    ((uint16_t *)x)[at] = (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static double gelu_slope(double x) {
    const double k = 0.79788456080286536, cubic = 0.044715;
    const double t = tanh(k * (x + cubic * x * x * x));
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * k * (1 + 3 * cubic * x * x);
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha,
                              const void *a, cublasLtMatrixLayout_t a_layout, const void *b,
                              cublasLtMatrixLayout_t b_layout, const void *beta, const void *c,
                              cublasLtMatrixLayout_t c_layout, void *d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *algo,
                              void *workspace, size_t workspace_bytes, cudaStream_t stream) {
    (void)handle;
    (void)algo;
    (void)stream;
    if (!workspace || workspace_bytes == 0) return CUBLAS_STATUS_INVALID_VALUE;
    g_state.products++;
    nanosleep(&(struct timespec){.tv_nsec = g_state.delay_ms * 1000000L}, NULL);
    const int64_t rows = (int64_t)d_layout->rows, columns = (int64_t)d_layout->columns;
    const int64_t inner = (int64_t)(desc->transposed[0] ? a_layout->rows : a_layout->columns);
    const double scale = (double)*(const float *)alpha, keep = (double)*(const float *)beta;
    for (int64_t i = 0; i < rows * columns; i++) {
        const int64_t row = i % rows, column = i / rows, at = column * d_layout->pitch + row;
        double sum = 0;
        for (int64_t k = 0; k < inner; k++) {
            const int64_t left =
                desc->transposed[0] ? row * a_layout->pitch + k : k * a_layout->pitch + row;
            const int64_t right =
                desc->transposed[1] ? k * b_layout->pitch + column : column * b_layout->pitch + k;
            sum += number_at(a, a_layout->type, left) * number_at(b, b_layout->type, right);
        }
        sum *= scale;
        if (keep != 0) sum += keep * number_at(c, c_layout->type, at);
        if (desc->epilogue == CUBLASLT_EPILOGUE_BIAS) {
            sum += number_at(desc->bias, d_layout->type, row);
        } else if (desc->epilogue == CUBLASLT_EPILOGUE_DGELU) {
            sum *= gelu_slope(number_at(desc->aux, d_layout->type, column * desc->aux_pitch + row));
        }
        store(d, d_layout->type, at, (float)sum);
    }
    return CUBLAS_STATUS_SUCCESS;
}
