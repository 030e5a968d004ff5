#include "train/layers/layer.h"

#include <stdio.h>

#include "base/check.h"
#include "train/layers/adapter.h"

seo_err seo_plan_rows(const seo_plan *plan, const char *name, int64_t width, seo_tensor *out) {
    const int64_t dims[2] = {seo_plan_row_count(plan), width};
    return seo_slab_add(plan->slab, name, plan->storage, 2, dims, out);
}

static seo_err add(seo_params *params, seo_scope scope, const char *name, seo_param *param,
                   int64_t *row) {
    const int length = scope.block == SEO_PARAM_NO_BLOCK
                           ? snprintf(param->name, sizeof param->name, "%s", name)
                           : snprintf(param->name, sizeof param->name, "blocks.%lld.%s",
                                      (long long)scope.block, name);
    SEO_ASSERT(length > 0 && (size_t)length < sizeof param->name);
    param->block = scope.block;
    return seo_params_add(params, param, row);
}

seo_err seo_scope_matrix(seo_params *params, seo_scope scope, const char *name, int64_t out,
                         int64_t in, double std, int64_t *row) {
    seo_param param = {
        .rank = 2, .dims = {out, in}, .init = SEO_INIT_NORMAL, .std = std, .decay = true};
    return add(params, scope, name, &param, row);
}

seo_err seo_scope_padded(seo_params *params, seo_scope scope, const char *name, int64_t out,
                         int64_t in, double std, int64_t *row) {
    const seo_err err = seo_scope_matrix(params, scope, name, out, in, std, row);
    if (err != SEO_OK) return err;
    params->items[*row].memory_rows = seo_round_up(out, seo_max_i64(params->row_multiple, 1));
    return SEO_OK;
}

seo_err seo_scope_vector(seo_params *params, seo_scope scope, const char *name, int64_t count,
                         seo_init init, int64_t *row) {
    seo_param param = {.rank = 1, .dims = {count, 0}, .init = init};
    return add(params, scope, name, &param, row);
}

seo_err seo_scope_padded_vector(seo_params *params, seo_scope scope, const char *name,
                                int64_t count, seo_init init, int64_t *row) {
    const seo_err err = seo_scope_vector(params, scope, name, count, init, row);
    if (err != SEO_OK) return err;
    params->items[*row].memory_rows = seo_round_up(count, seo_max_i64(params->row_multiple, 1));
    return SEO_OK;
}

seo_err seo_pass_dropout(const seo_pass *pass, uint32_t site, seo_tensor out, seo_tensor inp) {
    if (pass->dropout <= 0 && out.data == inp.data) return SEO_OK;
    return seo_dropout(
        pass->dev,
        &(seo_dropout_args){.out = out,
                            .inp = inp,
                            .place = pass->place,
                            .key = {.seed = pass->seed, .purpose = SEO_PURPOSE_DROPOUT | site << 8},
                            .rate = pass->dropout});
}

seo_err seo_linear_params(seo_params *params, seo_scope scope, const char *name, double std,
                          seo_linear *linear) {
    char full[SEO_PARAM_NAME_MAX];
    snprintf(full, sizeof full, "%s.weight", name);
    seo_err err =
        seo_scope_matrix(params, scope, full, linear->out, linear->in, std, &linear->weight);
    if (err != SEO_OK) return err;
    snprintf(full, sizeof full, "%s.bias", name);
    err = seo_scope_vector(params, scope, full, linear->out, SEO_INIT_ZEROS, &linear->bias);
    return err == SEO_OK ? seo_adapter_params(params, scope, name, linear) : err;
}

seo_err seo_linear_forward(const seo_pass *pass, const seo_linear *linear, const seo_tensor *inp,
                           const seo_tensor *out) {
    const seo_err err =
        seo_matmul(pass->dev, &(seo_matmul_args){.out = seo_view_rows(pass, out, linear->out),
                                                 .a = seo_view_rows(pass, inp, linear->in),
                                                 .b = pass->params[linear->weight],
                                                 .bias = pass->params[linear->bias],
                                                 .layout = SEO_MATMUL_NT});
    if (err != SEO_OK || linear->rank == 0) return err;
    return seo_adapter_forward(pass, linear, inp, out);
}

/* The adapter adds to what GELU is applied to, so that it is applied by itself. */
static seo_err adapted_forward_gelu(const seo_pass *pass, const seo_linear *linear,
                                    const seo_tensor *inp, const seo_gelu *gelu) {
    const seo_err err = seo_linear_forward(pass, linear, inp, gelu->pre);
    if (err != SEO_OK) return err;
    return seo_gelu_fwd(pass->dev,
                        &(seo_gelu_fwd_args){.out = seo_view_rows(pass, gelu->out, linear->out),
                                             .inp = seo_view_rows(pass, gelu->pre, linear->out),
                                             .kind = gelu->kind});
}

seo_err seo_linear_forward_gelu(const seo_pass *pass, const seo_linear *linear,
                                const seo_tensor *inp, const seo_gelu *gelu) {
    if (linear->rank > 0) return adapted_forward_gelu(pass, linear, inp, gelu);
    return seo_matmul(pass->dev,
                      &(seo_matmul_args){.out = seo_view_rows(pass, gelu->out, linear->out),
                                         .a = seo_view_rows(pass, inp, linear->in),
                                         .b = pass->params[linear->weight],
                                         .bias = pass->params[linear->bias],
                                         .pre = seo_view_rows(pass, gelu->pre, linear->out),
                                         .layout = SEO_MATMUL_NT,
                                         .epilogue = SEO_EPILOGUE_GELU,
                                         .gelu = gelu->kind});
}

/* Weight and bias, where they are trained. */
static seo_err backward_params(const seo_pass *pass, const seo_linear *linear,
                               const seo_linear_bwd *bwd) {
    seo_err err = SEO_OK;
    const seo_tensor dy = seo_view_rows(pass, bwd->dout, linear->out);
    if (!seo_pass_trains(pass, linear->weight)) return SEO_OK;
    SEO_TRY(seo_matmul(pass->dev, &(seo_matmul_args){.out = pass->grads[linear->weight],
                                                     .a = dy,
                                                     .b = seo_view_rows(pass, bwd->inp, linear->in),
                                                     .layout = SEO_MATMUL_TN,
                                                     .accumulate = true}));
    if (!bwd->bias_done) {
        SEO_TRY(seo_bias_bwd(pass->dev,
                             &(seo_bias_bwd_args){.dbias = pass->grads[linear->bias], .dout = dy}));
    }
done:
    return err;
}

seo_err seo_linear_backward(const seo_pass *pass, const seo_linear *linear,
                            const seo_linear_bwd *bwd) {
    seo_err err = SEO_OK;
    const bool adapted = linear->rank > 0;
    const seo_tensor dy = seo_view_rows(pass, bwd->dout, linear->out);
    seo_matmul_args to_inp = {.out = seo_view_rows(pass, bwd->dinp, linear->in),
                              .a = dy,
                              .b = pass->params[linear->weight],
                              .layout = SEO_MATMUL_NN};
    if (bwd->gelu && !adapted) {
        to_inp.epilogue = SEO_EPILOGUE_DGELU;
        to_inp.pre = seo_view_rows(pass, bwd->gelu->pre, linear->in);
        to_inp.gelu = bwd->gelu->kind;
    }
    SEO_TRY(backward_params(pass, linear, bwd));
    SEO_TRY(seo_matmul(pass->dev, &to_inp));
    if (!adapted) goto done;
    SEO_TRY(seo_adapter_backward(pass, linear, bwd));
    if (bwd->gelu) {
        SEO_TRY(seo_gelu_bwd(
            pass->dev, &(seo_gelu_bwd_args){.dinp = to_inp.out,
                                            .dout = to_inp.out,
                                            .inp = seo_view_rows(pass, bwd->gelu->pre, linear->in),
                                            .kind = bwd->gelu->kind}));
    }
done:
    return err;
}
