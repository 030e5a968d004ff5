#include "train/layers/head.h"

#include "base/check.h"

enum { CHUNK_ROWS_MIN = 256 };

void seo_head_tie(const seo_params *params, int64_t wte, seo_head *head) {
    const seo_param *param = &params->items[wte];
    *head = (seo_head){.wte = wte,
                       .bias = -1,
                       .width = param->dims[1],
                       .vocab_size = param->dims[0],
                       .padded = param->memory_rows};
}

seo_err seo_head_plan(const seo_plan *plan, int64_t rows, seo_head *head) {
    const int64_t fit = plan->logits_bytes / (seo_dtype_bytes(plan->storage) * head->padded);
    head->chunk_rows = seo_min_i64(rows, seo_max_i64(fit, CHUNK_ROWS_MIN));
    const int64_t dims[2] = {head->chunk_rows, head->padded};
    return seo_slab_add(plan->slab, "head.logits", plan->storage, 2, dims, &head->logits);
}

/* Rows [first, first + count) of a (R, width) tensor. */
static seo_tensor rows_at(const seo_tensor *t, int64_t first, int64_t count, int64_t width) {
    char *from = (char *)t->data + first * width * seo_dtype_bytes(t->dtype);
    return seo_tensor_2d(from, t->dtype, count, width);
}

static seo_tensor padded_wte(const seo_pass *pass, const seo_head *head,
                             const seo_tensor *tensors) {
    return seo_param_padded(pass->table, tensors, head->wte);
}

seo_err seo_head_logits(const seo_pass *pass, const seo_head *head, const seo_tensor *inp,
                        int64_t first, int64_t count) {
    SEO_ASSERT(count <= head->chunk_rows && first + count <= seo_pass_rows(pass));
    seo_matmul_args args = {.out = rows_at(&head->logits, 0, count, head->padded),
                            .a = rows_at(inp, first, count, head->width),
                            .b = padded_wte(pass, head, pass->params),
                            .layout = SEO_MATMUL_NT};
    if (head->bias >= 0) args.bias = seo_param_padded(pass->table, pass->params, head->bias);
    return seo_matmul(pass->dev, &args);
}

/* The chunk's logits have become their gradient: to inp and to wte. */
static seo_err chunk_backward(const seo_pass *pass, const seo_head *head, seo_tensor inp,
                              seo_tensor dinp) {
    seo_err err = SEO_OK;
    const seo_tensor dlogits = rows_at(&head->logits, 0, inp.dims[0], head->padded);
    SEO_TRY(seo_matmul(pass->dev, &(seo_matmul_args){.out = dinp,
                                                     .a = dlogits,
                                                     .b = padded_wte(pass, head, pass->params),
                                                     .layout = SEO_MATMUL_NN}));
    if (!seo_pass_trains(pass, head->wte)) return SEO_OK;
    SEO_TRY(seo_matmul(pass->dev, &(seo_matmul_args){.out = padded_wte(pass, head, pass->grads),
                                                     .a = dlogits,
                                                     .b = inp,
                                                     .layout = SEO_MATMUL_TN,
                                                     .accumulate = true}));
    if (head->bias >= 0) {
        SEO_TRY(seo_bias_bwd(
            pass->dev,
            &(seo_bias_bwd_args){.dbias = seo_param_padded(pass->table, pass->grads, head->bias),
                                 .dout = dlogits}));
    }
done:
    return err;
}

/* Cross entropy, as most passes have it. */
static seo_err score_chunk(const seo_pass *pass, const seo_head_chunk *chunk) {
    return seo_cross_entropy(pass->dev,
                             &(seo_cross_entropy_args){.loss = chunk->losses,
                                                       .logits = chunk->logits,
                                                       .targets = chunk->targets,
                                                       .vocab_size = chunk->vocab_size,
                                                       .ignore_index = chunk->ignore_index,
                                                       .grad_scale = chunk->grad_scale,
                                                       .with_gradient = chunk->with_gradient});
}

seo_err seo_head_loss(const seo_pass *pass, const seo_head *head, const seo_tensor *inp,
                      const seo_head_targets *targets, const seo_tensor *dinp) {
    seo_err err = SEO_OK;
    const int64_t rows = seo_pass_rows(pass);
    for (int64_t first = 0; first < rows; first += head->chunk_rows) {
        const int64_t count = seo_min_i64(head->chunk_rows, rows - first);
        SEO_TRY(seo_head_logits(pass, head, inp, first, count));
        const seo_head_chunk chunk = {
            .first = first,
            .losses = seo_tensor_1d((float *)targets->losses.data + first, SEO_DTYPE_F32, count),
            .logits = rows_at(&head->logits, 0, count, head->padded),
            .targets = seo_tensor_1d((int32_t *)targets->ids.data + first, SEO_DTYPE_I32, count),
            .vocab_size = head->vocab_size,
            .ignore_index = targets->ignore_index,
            .grad_scale = targets->grad_scale,
            .with_gradient = dinp != NULL};
        if (targets->score) {
            SEO_TRY(targets->score->chunk(targets->score->context, pass, &chunk));
        } else {
            SEO_TRY(score_chunk(pass, &chunk));
        }
        if (!dinp) continue;
        SEO_TRY(chunk_backward(pass, head, rows_at(inp, first, count, head->width),
                               rows_at(dinp, first, count, head->width)));
    }
done:
    return err;
}
