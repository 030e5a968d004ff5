/* Runs one operator case on every device there is (each CPU level, 1 to 3 threads, twice) and
 * compares: with the expected values on every level, and bit for bit within a level. Also the
 * check of an explicit gradient against finite differences, both in double. */
#pragma once

#include <stdint.h>

#include "base/tensor.h"
#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct op_case {
    const char *what; /* printed when it fails */
    /* Copies the inputs to the device, runs the operator, and copies all outputs into out, one
     * after the other. */
    void (*run)(seo_device *dev, const void *input, float *out);
    const void *input;
    int64_t count;              /* floats of out */
    const double *want, *bound; /* count each: |out - want| <= bound */
} op_case;
void check_everywhere(const op_case *c);

/* Opens level and threads; NULL when this machine has not got the level. */
seo_device *open_device(seo_cpu_level level, int32_t threads);

/* A copy of `host` on the device, freed with it; a tensor that is not given stays so. */
seo_tensor to_device(seo_device *dev, seo_tensor host);
/* Copies the tensor out; returns the place after it. */
float *to_host(seo_device *dev, const seo_tensor *t, float *out);
/* Prints the error record and fails the test when err is not SEO_OK. */
void must(seo_err err);
/* Fails the test unless err is `code` and the message contains `text`. */
void must_fail(seo_err err, seo_err code, const char *text);

/* gradient[i] must be df/dx[i]: compared with (f(x + h) - f(x - h)) / 2h at a few dozen places. x
 * is changed and put back. */
void check_gradient(const char *what, double (*f)(const double *x, const void *context),
                    const void *context, double *x, const double *gradient, int64_t count);

#ifdef __cplusplus
}
#endif
