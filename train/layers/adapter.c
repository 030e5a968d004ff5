#include "train/layers/adapter.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "train/config.h"
#include "train/values.h"

int32_t seo_lora_target(const char *matrix) {
    static const struct {
        const char *name;
        int32_t target;
    } targets[] = {{"attn.qkv", SEO_LORA_QKV},
                   {"attn.proj", SEO_LORA_PROJ},
                   {"mlp.fc", SEO_LORA_FC},
                   {"mlp.proj", SEO_LORA_MLP_PROJ}};
    for (int64_t i = 0; i < SEO_COUNT_OF(targets); i++) {
        if (strcmp(matrix, targets[i].name) == 0) return targets[i].target;
    }
    return 0;
}

/* The variance of A is 1 / (3 in), as in the authors' code. */
seo_err seo_adapter_params(seo_params *params, seo_scope scope, const char *name,
                           seo_linear *linear) {
    char full[SEO_PARAM_NAME_MAX];
    const int64_t rank = params->adapter_rank;
    if (rank == 0 || (params->adapted & seo_lora_target(name)) == 0) return SEO_OK;
    linear->rank = rank;
    snprintf(full, sizeof full, "%s.lora_a", name);
    seo_err err = seo_scope_matrix(params, scope, full, rank, linear->in,
                                   sqrt(1.0 / (3.0 * (double)linear->in)), &linear->lora_a);
    if (err != SEO_OK) return err;
    snprintf(full, sizeof full, "%s.lora_b", name);
    err = seo_scope_matrix(params, scope, full, linear->out, rank, 0, &linear->lora_b);
    if (err == SEO_OK) params->items[linear->lora_b].init = SEO_INIT_ZEROS;
    return err;
}

seo_err seo_adapter_plan(const seo_plan *plan, const seo_params *params, seo_adapter_room *room) {
    seo_err err = SEO_OK;
    const int64_t rank = params->adapter_rank, square[2] = {rank, rank};
    int64_t wide = 1, unread = 1;
    if (rank == 0) return SEO_OK;
    for (int64_t row = 0; row < params->count; row++) {
        const seo_param *p = &params->items[row];
        if (p->rank == 1) unread = seo_max_i64(unread, p->dims[0]);
        if (p->rank == 2 && strstr(p->name, ".lora_")) {
            wide = seo_max_i64(wide, seo_max_i64(p->dims[0], p->dims[1]));
        }
    }
    SEO_TRY(seo_slab_add(plan->slab, "adapter.scale", plan->storage, 2, square, &room->scale));
    SEO_TRY(seo_plan_rows(plan, "adapter.low", rank, &room->low));
    SEO_TRY(seo_plan_rows(plan, "adapter.scaled", rank, &room->scaled));
    SEO_TRY(seo_plan_rows(plan, "adapter.wide", wide, &room->wide));
    SEO_TRY(seo_slab_add(plan->slab, "adapter.unread", SEO_DTYPE_F32, 1, &unread, &room->unread));
done:
    return err;
}

seo_err seo_adapter_fill(seo_device *dev, const seo_adapter_room *room, double alpha) {
    if (!seo_tensor_given(&room->scale)) return SEO_OK;
    const int64_t rank = room->scale.dims[0];
    float *values = calloc((size_t)(rank * rank), sizeof *values);
    if (!values) return SEO_FAIL(SEO_ERR_MEMORY, "adapters of rank %lld", (long long)rank);
    for (int64_t i = 0; i < rank; i++) values[i * rank + i] = (float)(alpha / (double)rank);
    const seo_err err = seo_values_write(dev, &room->scale, values);
    free(values);
    return err;
}

/* room->scaled = (alpha / r) times the narrow product. */
static seo_err narrow(const seo_pass *pass, const seo_linear *linear, seo_tensor a, seo_tensor b,
                      seo_matmul_layout layout) {
    const seo_adapter_room *room = &pass->adapters;
    const seo_tensor low = seo_view_rows(pass, &room->low, linear->rank);
    const seo_err err =
        seo_matmul(pass->dev, &(seo_matmul_args){.out = low, .a = a, .b = b, .layout = layout});
    if (err != SEO_OK) return err;
    return seo_matmul(pass->dev,
                      &(seo_matmul_args){.out = seo_view_rows(pass, &room->scaled, linear->rank),
                                         .a = low,
                                         .b = room->scale,
                                         .layout = SEO_MATMUL_NN});
}

/* sum (R, width) += room->scaled times a matrix of parameters. */
static seo_err widen(const seo_pass *pass, const seo_linear *linear, seo_tensor b,
                     seo_matmul_layout layout, seo_tensor sum) {
    const seo_adapter_room *room = &pass->adapters;
    const seo_tensor wide = seo_view_rows(pass, &room->wide, sum.dims[1]);
    const seo_err err = seo_matmul(
        pass->dev, &(seo_matmul_args){.out = wide,
                                      .a = seo_view_rows(pass, &room->scaled, linear->rank),
                                      .b = b,
                                      .layout = layout});
    if (err != SEO_OK) return err;
    return seo_add(pass->dev, &(seo_add_args){.out = sum, .a = sum, .b = wide});
}

seo_err seo_adapter_forward(const seo_pass *pass, const seo_linear *linear, const seo_tensor *inp,
                            const seo_tensor *out) {
    seo_err err = SEO_OK;
    SEO_TRY(narrow(pass, linear, seo_view_rows(pass, inp, linear->in), pass->params[linear->lora_a],
                   SEO_MATMUL_NT));
    SEO_TRY(widen(pass, linear, pass->params[linear->lora_b], SEO_MATMUL_NT,
                  seo_view_rows(pass, out, linear->out)));
done:
    return err;
}

seo_err seo_adapter_backward(const seo_pass *pass, const seo_linear *linear,
                             const seo_linear_bwd *bwd) {
    seo_err err = SEO_OK;
    const seo_tensor x = seo_view_rows(pass, bwd->inp, linear->in);
    const seo_tensor dy = seo_view_rows(pass, bwd->dout, linear->out);
    const seo_tensor scaled = seo_view_rows(pass, &pass->adapters.scaled, linear->rank);
    SEO_TRY(narrow(pass, linear, x, pass->params[linear->lora_a], SEO_MATMUL_NT));
    SEO_TRY(seo_matmul(pass->dev, &(seo_matmul_args){.out = pass->grads[linear->lora_b],
                                                     .a = dy,
                                                     .b = scaled,
                                                     .layout = SEO_MATMUL_TN,
                                                     .accumulate = true}));
    SEO_TRY(narrow(pass, linear, dy, pass->params[linear->lora_b], SEO_MATMUL_NN));
    SEO_TRY(seo_matmul(pass->dev, &(seo_matmul_args){.out = pass->grads[linear->lora_a],
                                                     .a = scaled,
                                                     .b = x,
                                                     .layout = SEO_MATMUL_TN,
                                                     .accumulate = true}));
    SEO_TRY(widen(pass, linear, pass->params[linear->lora_a], SEO_MATMUL_NN,
                  seo_view_rows(pass, bwd->dinp, linear->in)));
done:
    return err;
}
