/* The vocabulary that the operators' rules are written in, and the wording of their messages. */
#include "kernels/rules.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"

enum { SHAPE_TEXT_BYTES = 96 };

static const char *dtype_name(seo_dtype dtype) {
    switch (dtype) {
    case SEO_DTYPE_F32: return "f32";
    case SEO_DTYPE_BF16: return "bf16";
    case SEO_DTYPE_I32: return "i32";
    }
    return "an unknown dtype";
}

/* "(4, 768)" */
static const char *shape_text(char out[SHAPE_TEXT_BYTES], int32_t rank, const int64_t *dims) {
    int used = snprintf(out, SHAPE_TEXT_BYTES, "(");
    for (int32_t i = 0; i < rank && i < 4; i++) {
        used += snprintf(out + used, (size_t)(SHAPE_TEXT_BYTES - used), "%s%lld", i ? ", " : "",
                         (long long)dims[i]);
    }
    snprintf(out + used, (size_t)(SHAPE_TEXT_BYTES - used), ")");
    return out;
}

int64_t seo_last_dim(const seo_tensor *t) {
    return t->rank >= 1 && t->rank <= 4 ? t->dims[t->rank - 1] : 1;
}

int64_t seo_folded_rows(const seo_tensor *t) {
    int64_t rows = 1;
    for (int32_t i = 0; i + 1 < t->rank && i < 4; i++) {
        if (!seo_mul_ok(rows, t->dims[i], &rows)) return 0;
    }
    return rows;
}

void seo_rule_given(seo_rules *r, seo_named x, seo_dtype dtype) {
    if (r->err != SEO_OK) return;
    char is[SHAPE_TEXT_BYTES];
    if (x.t->rank < 1 || x.t->rank > 4) {
        r->err = SEO_FAIL(SEO_ERR_SHAPE, "%s: %s must be given with rank 1 to 4, has rank %d",
                          r->op, x.name, (int)x.t->rank);
        return;
    }
    int64_t bytes = seo_dtype_bytes(dtype);
    for (int32_t i = 0; i < x.t->rank; i++) {
        if (x.t->dims[i] >= 1 && seo_mul_ok(bytes, x.t->dims[i], &bytes)) continue;
        r->err = SEO_FAIL(SEO_ERR_SHAPE, "%s: every dimension of %s must be 1 or more, is %s",
                          r->op, x.name, shape_text(is, x.t->rank, x.t->dims));
        return;
    }
    if (x.t->dtype != dtype) {
        r->err = SEO_FAIL(SEO_ERR_SHAPE, "%s: %s must be %s, is %s", r->op, x.name,
                          dtype_name(dtype), dtype_name(x.t->dtype));
        return;
    }
    SEO_ASSERT(x.t->data != NULL);
}

seo_dtype seo_rule_storage(seo_rules *r, seo_named x) {
    if (x.t->dtype != SEO_DTYPE_BF16) {
        seo_rule_given(r, x, SEO_DTYPE_F32);
        return SEO_DTYPE_F32;
    }
    seo_rule_given(r, x, SEO_DTYPE_BF16);
    if (r->err == SEO_OK && !r->on->bf16) {
        r->err = SEO_FAIL(SEO_ERR_UNSUPPORTED, "%s: %s is bf16, and %s computes in f32", r->op,
                          x.name, r->on->name);
    }
    return SEO_DTYPE_BF16;
}

static void refuse_shape(seo_rules *r, seo_named x, const seo_shape *want) {
    char wanted[SHAPE_TEXT_BYTES], is[SHAPE_TEXT_BYTES];
    r->err =
        SEO_FAIL(SEO_ERR_SHAPE, "%s: %s must be %s = %s, is %s", r->op, x.name, want->letters,
                 shape_text(wanted, want->rank, want->dims), shape_text(is, x.t->rank, x.t->dims));
}

void seo_rule_shape(seo_rules *r, seo_named x, seo_dtype dtype, seo_shape want) {
    seo_rule_given(r, x, dtype);
    if (r->err != SEO_OK) return;
    bool same = x.t->rank == want.rank;
    for (int32_t i = 0; same && i < want.rank; i++) same = x.t->dims[i] == want.dims[i];
    if (!same) refuse_shape(r, x, &want);
}

void seo_rule_folded(seo_rules *r, seo_named x, seo_dtype dtype, seo_shape want) {
    seo_rule_given(r, x, dtype);
    if (r->err != SEO_OK) return;
    bool fits = want.rank == 1
                    ? seo_tensor_count(x.t) == want.dims[0]
                    : seo_folded_rows(x.t) == want.dims[0] && seo_last_dim(x.t) == want.dims[1];
    if (!fits) refuse_shape(r, x, &want);
}

void seo_rule_same(seo_rules *r, seo_named x, seo_dtype dtype, seo_named like) {
    seo_shape want = {.letters = like.name, .rank = like.t->rank};
    for (int32_t i = 0; i < 4; i++) want.dims[i] = like.t->dims[i];
    char letters[64];
    snprintf(letters, sizeof letters, "shaped as %s", like.name);
    want.letters = letters;
    seo_rule_shape(r, x, dtype, want);
}

void seo_rule_arg(seo_rules *r, bool holds, const char *fmt, ...) {
    if (r->err != SEO_OK || holds) return;
    char message[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    r->err = SEO_FAIL(SEO_ERR_ARG, "%s: %s", r->op, message);
}

void seo_rule_apart(const seo_rules *r, const seo_tensor *x, const seo_tensor *other) {
    if (r->err != SEO_OK || !seo_tensor_given(x) || !seo_tensor_given(other)) return;
    const char *x_from = x->data, *other_from = other->data;
    bool outputs_overlap_inputs =
        x_from < other_from + seo_tensor_bytes(other) && other_from < x_from + seo_tensor_bytes(x);
    SEO_ASSERT(!outputs_overlap_inputs);
}

void seo_rule_apart_or_same(const seo_rules *r, const seo_tensor *x, const seo_tensor *other) {
    if (x->data != other->data) seo_rule_apart(r, x, other);
}
