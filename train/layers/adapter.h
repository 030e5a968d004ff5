/* Low-rank adapters of linear layers (Hu et al. 2021): beside W, which is frozen, a product of two
 * narrow matrices is trained.
 *
 *   out = inp W^T + b + (alpha / r) (inp A^T) B^T        A (r, in), B (out, r)
 *
 * A begins with normal numbers and B with 0, so that training begins with the model as it was. The
 * factor is a multiple of the identity, (r, r), which the narrow side goes through: products are
 * all there is to it, on every device and in every storage type. */
#pragma once

#include "train/layers/layer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Which of SEO_LORA_... the linear layer "attn.qkv", "attn.proj", "mlp.fc" or "mlp.proj" is; 0:
 * none that can have adapters. */
int32_t seo_lora_target(const char *matrix);

/* Adds the rows "<name>.lora_a" and "<name>.lora_b" where the table has adapters for a linear layer
 * of this name; linear->rank tells. */
seo_err seo_adapter_params(seo_params *params, seo_scope scope, const char *name,
                           seo_linear *linear);

/* Declares what all adapters of a table use in turn. The identity's values are written by
 * seo_adapter_fill once there is memory. */
seo_err seo_adapter_plan(const seo_plan *plan, const seo_params *params, seo_adapter_room *room);
seo_err seo_adapter_fill(seo_device *dev, const seo_adapter_room *room, double alpha);

/* out (R, out) += the adapter's part. */
seo_err seo_adapter_forward(const seo_pass *pass, const seo_linear *linear, const seo_tensor *inp,
                            const seo_tensor *out);
/* Gradients of A and B +=, dinp (R, in) += the adapter's part; no GELU is looked at. */
seo_err seo_adapter_backward(const seo_pass *pass, const seo_linear *linear,
                             const seo_linear_bwd *bwd);

#ifdef __cplusplus
}
#endif
