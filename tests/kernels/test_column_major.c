/* What a column-major library is asked for is the row-major product: a plain column-major one, as
 * the library's manual defines it, against the definition of seo_matmul. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/check.h"
#include "kernels/cuda/column_major.h"
#include "tests/support/fill.h"

static float at(const float *x, const seo_column_major_matrix *matrix, int64_t row,
                int64_t column) {
    const int64_t i = matrix->transposed ? column : row, j = matrix->transposed ? row : column;
    assert_true(i < matrix->rows && j < matrix->columns && matrix->rows <= matrix->pitch);
    return x[j * matrix->pitch + i];
}

/* out (rows x columns) = left * right. */
static void column_major_product(float *out, const float *left, const float *right, int64_t inner,
                                 const seo_column_major_product *p) {
    for (int64_t i = 0; i < p->out.rows; i++) {
        for (int64_t j = 0; j < p->out.columns; j++) {
            float sum = 0;
            for (int64_t k = 0; k < inner; k++) {
                sum += at(left, &p->left, i, k) * at(right, &p->right, k, j);
            }
            out[j * p->out.pitch + i] = sum;
        }
    }
}

static void check_layout(seo_matmul_layout layout) {
    enum { M = 5, N = 7, K = 11 };
    const bool a_is_km = layout == SEO_MATMUL_TN, b_is_nk = layout == SEO_MATMUL_NT;
    float *a = new_f32(M * K), *b = new_f32(K * N), *out = new_f32(M * N);
    fill_whole(a, M * K, -9, 9, 1);
    fill_whole(b, K * N, -9, 9, 2);
    const seo_column_major_product p = seo_column_major_product_of(layout, M, N, K);
    column_major_product(out, b, a, K, &p);
    for (int64_t m = 0; m < M; m++) {
        for (int64_t n = 0; n < N; n++) {
            float sum = 0;
            for (int64_t k = 0; k < K; k++) {
                sum += a[a_is_km ? k * M + m : m * K + k] * b[b_is_nk ? n * K + k : k * N + n];
            }
            assert_true(out[m * N + n] == sum);
        }
    }
    free(a);
    free(b);
    free(out);
}

static void test_layouts(void **unused) {
    (void)unused;
    for (int layout = SEO_MATMUL_NT; layout <= SEO_MATMUL_TN; layout++) {
        check_layout((seo_matmul_layout)layout);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_layouts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
