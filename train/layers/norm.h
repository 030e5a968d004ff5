/* Layer norm with weight and bias, and the residual add before it. */
#pragma once

#include "train/layers/layer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seo_norm {
    int64_t weight, bias; /* rows */
    int64_t width;
    float eps;
    seo_tensor out, mean, rstd; /* activations */
} seo_norm;

seo_err seo_norm_params(seo_params *params, seo_scope scope, const char *name, seo_norm *norm);
/* The output, and the statistics that a backward needs besides it. */
seo_err seo_norm_plan_out(const seo_plan *plan, seo_norm *norm);
seo_err seo_norm_plan_statistics(const seo_plan *plan, seo_norm *norm);
/* norm->out = norm(x), x = inp (+ add); sum = x. add NULL: no addition, and sum may be NULL. */
seo_err seo_norm_forward(const seo_pass *pass, const seo_norm *norm, const seo_tensor *inp,
                         const seo_tensor *add, const seo_tensor *sum);
typedef struct seo_norm_bwd {
    const seo_tensor *x;      /* (R, width): what was normalised */
    const seo_tensor *dout;   /* (R, width) */
    const seo_tensor *dx;     /* = or += (R, width): the gradient of x */
    const seo_tensor *dx_sum; /* += (width) opt: dx summed over rows, the gradient of a bias whose
                               * sum x was */
    bool accumulate;          /* dx += */
} seo_norm_bwd;
/* Parameter gradients +=. */
seo_err seo_norm_backward(const seo_pass *pass, const seo_norm *norm, const seo_norm_bwd *bwd);

#ifdef __cplusplus
}
#endif
