/* A matrix product in the terms of a column-major library. No CUDA in here. */
#pragma once

#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What lies in memory as (rows, columns) row-major is (columns, rows) to the library. So it is
 * asked for the transpose, out^T (N, M) = B^T A^T, and its left operand is our right one. */
typedef struct seo_column_major_matrix {
    int64_t rows, columns, pitch; /* as it lies in memory */
    bool transposed;              /* before it is multiplied */
} seo_column_major_matrix;
typedef struct seo_column_major_product {
    seo_column_major_matrix left, right, out; /* b, a and out of seo_matmul */
} seo_column_major_product;

static inline seo_column_major_product
seo_column_major_product_of(seo_matmul_layout layout, int64_t m, int64_t n, int64_t k) {
    const bool b_is_nk = layout == SEO_MATMUL_NT, a_is_km = layout == SEO_MATMUL_TN;
    const seo_column_major_matrix b_nk = {k, n, k, true}, b_kn = {n, k, n, false};
    const seo_column_major_matrix a_mk = {k, m, k, false}, a_km = {m, k, m, true};
    const seo_column_major_product p = {
        b_is_nk ? b_nk : b_kn, a_is_km ? a_km : a_mk, {n, m, n, false}};
    return p;
}

#ifdef __cplusplus
}
#endif
