/* Private to kernels/: the shape, dtype and scalar rules of every operator, straight from the
 * contracts in ops.h, so that backends need no checks of their own and all give the same messages.
 *
 * What a caller may get wrong from a configuration is an error; a NULL address in a given tensor
 * and overlapping memory are mistakes of ours, hence assertions. */
#pragma once

#include "kernels/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One rule set under way: the first rule that is broken decides, the later ones are not looked at.
 */
typedef struct seo_rules {
    const char *op;
    const seo_backend *on;
    seo_err err;
} seo_rules;

/* A tensor with the name it has in the argument struct; SEO_NAMED(a, weight). */
typedef struct seo_named {
    const char *name;
    const seo_tensor *t;
} seo_named;
#define SEO_NAMED(args, field) ((seo_named){.name = #field, .t = &(args)->field})

/* The wanted shape in the contract's letters and in numbers. */
typedef struct seo_shape {
    const char *letters;
    int32_t rank;
    int64_t dims[4];
} seo_shape;

/* The call's storage type S: that of x, which must be f32, or bf16 where the backend has it. */
seo_dtype seo_rule_storage(seo_rules *r, seo_named x);
/* Given, of this dtype, of rank 1..4 with dims >= 1 whose product fits. */
void seo_rule_given(seo_rules *r, seo_named x, seo_dtype dtype);
/* Exactly this shape. */
void seo_rule_shape(seo_rules *r, seo_named x, seo_dtype dtype, seo_shape want);
/* (rows, columns) once the leading dimensions are folded; rank 1 in `want` asks for the count. */
void seo_rule_folded(seo_rules *r, seo_named x, seo_dtype dtype, seo_shape want);
/* The same shape as `like`. */
void seo_rule_same(seo_rules *r, seo_named x, seo_dtype dtype, seo_named like);
/* SEO_ERR_ARG with the operator's name before the message. */
void seo_rule_arg(seo_rules *r, bool holds, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Asserts that x's memory and other's do not overlap; tensors not given overlap nothing. */
void seo_rule_apart(const seo_rules *r, const seo_tensor *x, const seo_tensor *other);
/* The same, but x and other may be one tensor. */
void seo_rule_apart_or_same(const seo_rules *r, const seo_tensor *x, const seo_tensor *other);

/* The last dimension, and the product of those before it; 1 where the tensor is not given, 0 where
 * the product does not fit, so that rules can be written before the first one is known to hold. */
int64_t seo_last_dim(const seo_tensor *t);
int64_t seo_folded_rows(const seo_tensor *t);

#define SEO_OP(op) seo_err seo_rules_##op(const seo_backend *on, const seo_##op##_args *a);
#include "kernels/ops.def"
#undef SEO_OP

#ifdef __cplusplus
}
#endif
