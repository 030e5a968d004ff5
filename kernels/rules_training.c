/* Rules of the elementwise operators, the loss, the reductions and the optimizer. */
#include <math.h>

#include "base/check.h"
#include "kernels/rules.h"

#define F32 SEO_DTYPE_F32
#define I32 SEO_DTYPE_I32

seo_err seo_rules_bias_bwd(const seo_backend *on, const seo_bias_bwd_args *a) {
    seo_rules r = {.op = "bias_bwd", .on = on};
    (void)seo_rule_storage(&r, SEO_NAMED(a, dout));
    seo_rule_shape(&r, SEO_NAMED(a, dbias), F32, (seo_shape){"(N)", 1, {seo_last_dim(&a->dout)}});
    seo_rule_apart(&r, &a->dbias, &a->dout);
    return r.err;
}

static void rule_gelu_kind(seo_rules *r, seo_gelu_kind kind) {
    seo_rule_arg(r, kind == SEO_GELU_TANH || kind == SEO_GELU_ERF, "there is no kind %d",
                 (int)kind);
}

seo_err seo_rules_gelu_fwd(const seo_backend *on, const seo_gelu_fwd_args *a) {
    seo_rules r = {.op = "gelu_fwd", .on = on};
    const seo_dtype s = seo_rule_storage(&r, SEO_NAMED(a, inp));
    seo_rule_same(&r, SEO_NAMED(a, out), s, SEO_NAMED(a, inp));
    rule_gelu_kind(&r, a->kind);
    seo_rule_apart(&r, &a->out, &a->inp);
    return r.err;
}

seo_err seo_rules_gelu_bwd(const seo_backend *on, const seo_gelu_bwd_args *a) {
    seo_rules r = {.op = "gelu_bwd", .on = on};
    const seo_dtype s = seo_rule_storage(&r, SEO_NAMED(a, inp));
    seo_rule_same(&r, SEO_NAMED(a, dout), s, SEO_NAMED(a, inp));
    seo_rule_same(&r, SEO_NAMED(a, dinp), s, SEO_NAMED(a, inp));
    rule_gelu_kind(&r, a->kind);
    seo_rule_apart_or_same(&r, &a->dinp, &a->dout);
    seo_rule_apart(&r, &a->dinp, &a->inp);
    return r.err;
}

seo_err seo_rules_tanh_fwd(const seo_backend *on, const seo_tanh_fwd_args *a) {
    seo_rules r = {.op = "tanh_fwd", .on = on};
    const seo_dtype s = seo_rule_storage(&r, SEO_NAMED(a, inp));
    seo_rule_same(&r, SEO_NAMED(a, out), s, SEO_NAMED(a, inp));
    seo_rule_apart_or_same(&r, &a->out, &a->inp);
    return r.err;
}

seo_err seo_rules_tanh_bwd(const seo_backend *on, const seo_tanh_bwd_args *a) {
    seo_rules r = {.op = "tanh_bwd", .on = on};
    const seo_dtype s = seo_rule_storage(&r, SEO_NAMED(a, out));
    seo_rule_same(&r, SEO_NAMED(a, dout), s, SEO_NAMED(a, out));
    seo_rule_same(&r, SEO_NAMED(a, dinp), s, SEO_NAMED(a, out));
    seo_rule_apart_or_same(&r, &a->dinp, &a->dout);
    seo_rule_apart(&r, &a->dinp, &a->out);
    return r.err;
}

seo_err seo_rules_add(const seo_backend *on, const seo_add_args *a) {
    seo_rules r = {.op = "add", .on = on};
    const seo_dtype s = seo_rule_storage(&r, SEO_NAMED(a, out));
    seo_rule_same(&r, SEO_NAMED(a, a), s, SEO_NAMED(a, out));
    seo_rule_same(&r, SEO_NAMED(a, b), s, SEO_NAMED(a, out));
    seo_rule_apart_or_same(&r, &a->out, &a->a);
    seo_rule_apart_or_same(&r, &a->out, &a->b);
    return r.err;
}

seo_err seo_rules_cast(const seo_backend *on, const seo_cast_args *a) {
    seo_rules r = {.op = "cast", .on = on};
    seo_rule_arg(&r, a->inp.dtype != I32 && a->out.dtype != I32, "only f32 and bf16 are cast");
    seo_rule_given(&r, SEO_NAMED(a, inp), a->inp.dtype);
    seo_rule_same(&r, SEO_NAMED(a, out), a->out.dtype, SEO_NAMED(a, inp));
    seo_rule_apart(&r, &a->out, &a->inp);
    return r.err;
}

seo_err seo_rules_dropout(const seo_backend *on, const seo_dropout_args *a) {
    seo_rules r = {.op = "dropout", .on = on};
    const seo_dtype s = seo_rule_storage(&r, SEO_NAMED(a, inp));
    if (r.err != SEO_OK) return r.err;
    seo_rule_same(&r, SEO_NAMED(a, out), s, SEO_NAMED(a, inp));
    if (seo_tensor_given(&a->place)) {
        seo_rule_shape(&r, SEO_NAMED(a, place), I32,
                       (seo_shape){"(SEO_PLACE_COUNT)", 1, {SEO_PLACE_COUNT}});
    }
    seo_rule_arg(&r, a->rate >= 0 && a->rate < 1, "rate must be in [0, 1), is %g", (double)a->rate);
    seo_rule_arg(&r, a->first_index >= 0 && a->first_index <= INT64_MAX - seo_tensor_count(&a->inp),
                 "first_index must be 0 or more and leave room for the elements, is %lld",
                 (long long)a->first_index);
    seo_rule_apart_or_same(&r, &a->out, &a->inp);
    return r.err;
}

seo_err seo_rules_normal(const seo_backend *on, const seo_normal_args *a) {
    seo_rules r = {.op = "normal", .on = on};
    seo_rule_given(&r, SEO_NAMED(a, out), F32);
    if (r.err != SEO_OK) return r.err;
    seo_rule_arg(&r, a->std >= 0 && isfinite(a->std), "std must be 0 or more, is %g",
                 (double)a->std);
    seo_rule_arg(&r,
                 a->first_index >= 0 && a->first_index % 4 == 0 &&
                     a->first_index <= INT64_MAX - seo_tensor_count(&a->out),
                 "first_index must be a multiple of 4, 0 or more, is %lld",
                 (long long)a->first_index);
    return r.err;
}

seo_err seo_rules_cross_entropy(const seo_backend *on, const seo_cross_entropy_args *a) {
    seo_rules r = {.op = "cross_entropy", .on = on};
    (void)seo_rule_storage(&r, SEO_NAMED(a, logits));
    int64_t rows = seo_folded_rows(&a->logits), p = seo_last_dim(&a->logits);
    seo_rule_folded(&r, SEO_NAMED(a, loss), F32, (seo_shape){"(R)", 1, {rows}});
    seo_rule_folded(&r, SEO_NAMED(a, targets), I32, (seo_shape){"(R)", 1, {rows}});
    seo_rule_arg(&r, a->vocab_size >= 1 && a->vocab_size <= p,
                 "vocab_size must be between 1 and P = %lld, is %lld", (long long)p,
                 (long long)a->vocab_size);
    seo_rule_arg(&r, isfinite(a->grad_scale), "grad_scale must be finite, is %g",
                 (double)a->grad_scale);
    seo_rule_apart(&r, &a->loss, &a->logits);
    seo_rule_apart(&r, &a->loss, &a->targets);
    seo_rule_apart(&r, &a->logits, &a->targets);
    return r.err;
}

static void rule_distill_scalars(seo_rules *r, const seo_distill_cross_entropy_args *a) {
    const int64_t least = seo_min_i64(seo_last_dim(&a->student), seo_last_dim(&a->teacher));
    seo_rule_arg(r, a->vocab_size >= 1 && a->vocab_size <= least,
                 "vocab_size must be between 1 and the fewer columns of student and teacher, %lld, "
                 "is %lld",
                 (long long)least, (long long)a->vocab_size);
    seo_rule_arg(r, a->temperature > 0 && isfinite(a->temperature),
                 "temperature must be above 0, is %g", (double)a->temperature);
    seo_rule_arg(r, isfinite(a->hard_weight) && isfinite(a->soft_weight),
                 "the weights must be finite, are %g and %g", (double)a->hard_weight,
                 (double)a->soft_weight);
    seo_rule_arg(r, isfinite(a->grad_scale), "grad_scale must be finite, is %g",
                 (double)a->grad_scale);
}

seo_err seo_rules_distill_cross_entropy(const seo_backend *on,
                                        const seo_distill_cross_entropy_args *a) {
    seo_rules r = {.op = "distill_cross_entropy", .on = on};
    const seo_dtype s = seo_rule_storage(&r, SEO_NAMED(a, student));
    const int64_t rows = seo_folded_rows(&a->student);
    const seo_shape per_row = {"(R)", 1, {rows}};
    seo_rule_folded(&r, SEO_NAMED(a, teacher), s,
                    (seo_shape){"(R, P')", 2, {rows, seo_last_dim(&a->teacher)}});
    seo_rule_folded(&r, SEO_NAMED(a, loss), F32, per_row);
    if (seo_tensor_given(&a->hard)) seo_rule_folded(&r, SEO_NAMED(a, hard), F32, per_row);
    seo_rule_folded(&r, SEO_NAMED(a, targets), I32, per_row);
    if (seo_tensor_given(&a->counts)) seo_rule_folded(&r, SEO_NAMED(a, counts), I32, per_row);
    rule_distill_scalars(&r, a);
    seo_rule_apart(&r, &a->student, &a->teacher);
    seo_rule_apart(&r, &a->student, &a->targets);
    seo_rule_apart(&r, &a->student, &a->counts);
    seo_rule_apart(&r, &a->loss, &a->student);
    seo_rule_apart(&r, &a->loss, &a->hard);
    seo_rule_apart(&r, &a->hard, &a->student);
    return r.err;
}

seo_err seo_rules_cosine_loss(const seo_backend *on, const seo_cosine_loss_args *a) {
    seo_rules r = {.op = "cosine_loss", .on = on};
    const seo_dtype s = seo_rule_storage(&r, SEO_NAMED(a, a));
    const int64_t rows = seo_folded_rows(&a->a);
    const seo_shape rows_c = {"(R, C)", 2, {rows, seo_last_dim(&a->a)}},
                    per_row = {"(R)", 1, {rows}};
    seo_rule_folded(&r, SEO_NAMED(a, b), s, rows_c);
    seo_rule_folded(&r, SEO_NAMED(a, loss), F32, per_row);
    if (seo_tensor_given(&a->da)) seo_rule_folded(&r, SEO_NAMED(a, da), s, rows_c);
    if (seo_tensor_given(&a->counts)) seo_rule_folded(&r, SEO_NAMED(a, counts), I32, per_row);
    seo_rule_arg(&r, isfinite(a->weight) && isfinite(a->grad_scale),
                 "weight and grad_scale must be finite, are %g and %g", (double)a->weight,
                 (double)a->grad_scale);
    seo_rule_apart(&r, &a->loss, &a->a);
    seo_rule_apart(&r, &a->loss, &a->b);
    seo_rule_apart(&r, &a->da, &a->a);
    seo_rule_apart(&r, &a->da, &a->b);
    seo_rule_apart(&r, &a->da, &a->loss);
    return r.err;
}

/* Only a whole row of f32 may be overwritten by the sum. */
static bool fold_is_in_place(const seo_fold_args *a) {
    const int64_t row_bytes = seo_tensor_bytes(&a->out);
    const int64_t at = (const char *)a->out.data - (const char *)a->inp.data;
    return !a->accumulate && a->inp.dtype == F32 && at >= 0 && at < seo_tensor_bytes(&a->inp) &&
           at % row_bytes == 0;
}

seo_err seo_rules_fold(const seo_backend *on, const seo_fold_args *a) {
    seo_rules r = {.op = "fold", .on = on};
    seo_rule_arg(&r, a->inp.dtype != I32, "only f32 and bf16 are added");
    seo_rule_shape(&r, SEO_NAMED(a, inp), a->inp.dtype,
                   (seo_shape){"(p, n)", 2, {a->inp.dims[0], a->inp.dims[1]}});
    seo_rule_shape(&r, SEO_NAMED(a, out), F32, (seo_shape){"(n)", 1, {a->inp.dims[1]}});
    const int64_t parts = a->inp.dims[0];
    const bool tree = a->order == SEO_SUM_TREE;
    seo_rule_arg(&r, tree || a->order == SEO_SUM_SEQUENCE, "there is no order %d", (int)a->order);
    seo_rule_arg(&r, !tree || ((parts & (parts - 1)) == 0 && parts <= SEO_SUM_TREE_MAX),
                 "a tree has a power of two of parts, up to %d, not %lld", SEO_SUM_TREE_MAX,
                 (long long)parts);
    if (r.err == SEO_OK && !fold_is_in_place(a)) seo_rule_apart(&r, &a->out, &a->inp);
    return r.err;
}

seo_err seo_rules_sum_squares(const seo_backend *on, const seo_sum_squares_args *a) {
    seo_rules r = {.op = "sum_squares", .on = on};
    seo_rule_given(&r, SEO_NAMED(a, inp), F32);
    if (r.err != SEO_OK) return r.err;
    const int64_t units = seo_div_up(seo_tensor_count(&a->inp), SEO_SQUARES_UNIT);
    seo_rule_shape(&r, SEO_NAMED(a, out), F32, (seo_shape){"(units)", 1, {units}});
    seo_rule_apart(&r, &a->out, &a->inp);
    return r.err;
}

seo_err seo_rules_clip_factor(const seo_backend *on, const seo_clip_factor_args *a) {
    seo_rules r = {.op = "clip_factor", .on = on};
    seo_rule_shape(&r, SEO_NAMED(a, norm), F32, (seo_shape){"(1)", 1, {1}});
    seo_rule_shape(&r, SEO_NAMED(a, sum_squares), F32,
                   (seo_shape){"(units)", 1, {a->sum_squares.dims[0]}});
    seo_rule_shape(&r, SEO_NAMED(a, hyper), F32,
                   (seo_shape){"(SEO_HYPER_COUNT)", 1, {SEO_HYPER_COUNT}});
    seo_rule_arg(&r, a->max_norm >= 0 && isfinite(a->max_norm),
                 "max_norm must be 0 (no clipping) or more, is %g", (double)a->max_norm);
    seo_rule_apart(&r, &a->norm, &a->sum_squares);
    seo_rule_apart(&r, &a->hyper, &a->sum_squares);
    seo_rule_apart(&r, &a->hyper, &a->norm);
    return r.err;
}

/* The rounding needs whole Philox blocks; flat ranges, whole units. */
static void rule_adamw_layout(seo_rules *r, const seo_adamw_args *a) {
    if (seo_tensor_given(&a->working)) {
        seo_rule_arg(r, a->param.dtype == F32, "a bf16 param is its own working copy");
        seo_rule_same(r, SEO_NAMED(a, working), SEO_DTYPE_BF16, SEO_NAMED(a, param));
        (void)seo_rule_storage(r, SEO_NAMED(a, working)); /* which the CPU would leave unwritten */
        seo_rule_apart(r, &a->working, &a->param);
        seo_rule_apart(r, &a->working, &a->grad);
    }
    if (seo_tensor_given(&a->ranges)) {
        seo_rule_shape(r, SEO_NAMED(a, ranges), I32, (seo_shape){"(n)", 1, {a->ranges.dims[0]}});
    }
    seo_rule_arg(r, a->first_index >= 0 && a->first_index % 8 == 0,
                 "first_index must be a multiple of 8, 0 or more, is %lld",
                 (long long)a->first_index);
}

seo_err seo_rules_adamw(const seo_backend *on, const seo_adamw_args *a) {
    seo_rules r = {.op = "adamw", .on = on};
    (void)seo_rule_storage(&r, SEO_NAMED(a, param));
    seo_rule_same(&r, SEO_NAMED(a, m), F32, SEO_NAMED(a, param));
    seo_rule_same(&r, SEO_NAMED(a, v), F32, SEO_NAMED(a, param));
    seo_rule_same(&r, SEO_NAMED(a, grad), F32, SEO_NAMED(a, param));
    rule_adamw_layout(&r, a);
    seo_rule_shape(&r, SEO_NAMED(a, hyper), F32,
                   (seo_shape){"(SEO_HYPER_COUNT)", 1, {SEO_HYPER_COUNT}});
    seo_rule_arg(&r, a->beta1 >= 0 && a->beta1 < 1, "beta1 must be in [0, 1), is %g",
                 (double)a->beta1);
    seo_rule_arg(&r, a->beta2 >= 0 && a->beta2 < 1, "beta2 must be in [0, 1), is %g",
                 (double)a->beta2);
    seo_rule_arg(&r, a->eps > 0 && isfinite(a->eps), "eps must be above 0, is %g", (double)a->eps);
    seo_rule_arg(&r, a->weight_decay >= 0 && isfinite(a->weight_decay),
                 "weight_decay must be 0 or more, is %g", (double)a->weight_decay);
    seo_rule_apart(&r, &a->param, &a->grad);
    seo_rule_apart(&r, &a->param, &a->m);
    seo_rule_apart(&r, &a->param, &a->v);
    seo_rule_apart(&r, &a->m, &a->v);
    seo_rule_apart(&r, &a->m, &a->grad);
    seo_rule_apart(&r, &a->v, &a->grad);
    return r.err;
}
