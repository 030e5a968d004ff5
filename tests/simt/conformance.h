/* The cases of the conformance test of ptx.cuh: kernels that feed an instruction random inputs and
 * dump what it gives. The same kernels run on the CPU layer, which writes the expected file, and on
 * a GPU, which is compared with it. */
#pragma once

#include <stdint.h>

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

enum conformance_compare {
    COMPARE_BITS,
    COMPARE_PRODUCT, /* of matrices, see m, n, k */
    COMPARE_EXP2,
    COMPARE_TANH
};

/* Each block has its own words in and out. The inputs of a block are bf16_words of two bf16 each,
 * then float_words of f32, then random bits. A product reads a[m, k] and b[n, k] in bf16, then c[m,
 * n] in f32, which odd blocks leave out, and gives c + a b^T. */
struct conformance_case {
    const char *name;
    enum conformance_compare compare;
    int sm90a; /* needs compute capability 9.0 */
    int blocks, in_words, out_words;
    int bf16_words, float_words;
    int m, n, k;
    cudaError_t (*run)(const struct conformance_case *c, uint32_t *out, const uint32_t *in);
};
extern const struct conformance_case conformance_cases[];
extern const int conformance_case_count;

#ifdef __cplusplus
}
#endif
