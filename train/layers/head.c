#include "train/layers/head.h"

#include "base/check.h"

/* Large enough that a product with the vocabulary runs at full speed, small enough to be a minor
 * part of a run's memory. */
enum { CHUNK_ROWS_MIN = 256, CHUNK_BYTES = 256 << 20 };

seo_err seo_head_plan(seo_slab *slab, int64_t rows, seo_head *head) {
    const int64_t fit = CHUNK_BYTES / (4 * head->vocab_size);
    head->chunk_rows = seo_min_i64(rows, seo_max_i64(fit, CHUNK_ROWS_MIN));
    return seo_plan_rows(slab, "head.logits", head->chunk_rows, head->vocab_size, &head->logits);
}

/* Rows [first, first + count) of a (R, width) f32 tensor. */
static seo_tensor rows_at(const seo_tensor *t, int64_t first, int64_t count, int64_t width) {
    return seo_tensor_2d((float *)t->data + first * width, SEO_DTYPE_F32, count, width);
}

seo_err seo_head_logits(const seo_pass *pass, const seo_head *head, const seo_tensor *inp,
                        int64_t first, int64_t count) {
    SEO_ASSERT(count <= head->chunk_rows && first + count <= seo_pass_rows(pass));
    return seo_matmul(pass->dev,
                      &(seo_matmul_args){.out = rows_at(&head->logits, 0, count, head->vocab_size),
                                         .a = rows_at(inp, first, count, head->width),
                                         .b = pass->params[head->wte],
                                         .layout = SEO_MATMUL_NT});
}

/* The chunk's logits have become their gradient: to inp and to wte. */
static seo_err chunk_backward(const seo_pass *pass, const seo_head *head, seo_tensor inp,
                              seo_tensor dinp) {
    seo_err err = SEO_OK;
    const seo_tensor dlogits = rows_at(&head->logits, 0, inp.dims[0], head->vocab_size);
    SEO_TRY(seo_matmul(pass->dev, &(seo_matmul_args){.out = dinp,
                                                     .a = dlogits,
                                                     .b = pass->params[head->wte],
                                                     .layout = SEO_MATMUL_NN}));
    SEO_TRY(seo_matmul(pass->dev, &(seo_matmul_args){.out = pass->grads[head->wte],
                                                     .a = dlogits,
                                                     .b = inp,
                                                     .layout = SEO_MATMUL_TN,
                                                     .accumulate = true}));
done:
    return err;
}

seo_err seo_head_loss(const seo_pass *pass, const seo_head *head, const seo_tensor *inp,
                      const seo_head_targets *targets, const seo_tensor *dinp) {
    seo_err err = SEO_OK;
    const int64_t rows = seo_pass_rows(pass);
    for (int64_t first = 0; first < rows; first += head->chunk_rows) {
        const int64_t count = seo_min_i64(head->chunk_rows, rows - first);
        SEO_TRY(seo_head_logits(pass, head, inp, first, count));
        SEO_TRY(seo_cross_entropy(
            pass->dev,
            &(seo_cross_entropy_args){
                .loss = seo_tensor_1d((float *)targets->losses.data + first, SEO_DTYPE_F32, count),
                .logits = rows_at(&head->logits, 0, count, head->vocab_size),
                .targets =
                    seo_tensor_1d((int32_t *)targets->ids.data + first, SEO_DTYPE_I32, count),
                .vocab_size = head->vocab_size,
                .ignore_index = targets->ignore_index,
                .grad_scale = targets->grad_scale,
                .with_gradient = dinp != NULL}));
        if (!dinp) continue;
        SEO_TRY(chunk_backward(pass, head, rows_at(inp, first, count, head->width),
                               rows_at(dinp, first, count, head->width)));
    }
done:
    return err;
}
