/* Rules of the operators that layers are made of: embedding, layer norm, matmul, attention. */
#include <math.h>

#include "kernels/rules.h"

#define F32 SEO_DTYPE_F32
#define I32 SEO_DTYPE_I32

/* Token types come with their table, and a table with types. */
static void rule_types(seo_rules *r, seo_named types, seo_named table, seo_dtype dtype,
                       const int64_t *dout_dims) {
    const bool typed = seo_tensor_given(types.t), tabled = seo_tensor_given(table.t);
    seo_rule_arg(r, typed == tabled, "%s and %s go together", types.name, table.name);
    if (!typed || !tabled) return;
    seo_rule_shape(r, types, I32, (seo_shape){"(B, T)", 2, {dout_dims[0], dout_dims[1]}});
    seo_rule_shape(r, table, dtype, (seo_shape){"(K, C)", 2, {table.t->dims[0], dout_dims[2]}});
}

seo_err seo_rules_embedding_fwd(const seo_backend *on, const seo_embedding_fwd_args *a) {
    seo_rules r = {.op = "embedding_fwd", .on = on};
    const seo_dtype s = seo_rule_storage(&r, SEO_NAMED(a, out));
    if (r.err != SEO_OK) return r.err;
    int64_t b = a->out.dims[0], t = a->out.dims[1], c = a->out.dims[2];
    seo_rule_shape(&r, SEO_NAMED(a, out), s, (seo_shape){"(B, T, C)", 3, {b, t, c}});
    seo_rule_shape(&r, SEO_NAMED(a, ids), I32, (seo_shape){"(B, T)", 2, {b, t}});
    seo_rule_shape(&r, SEO_NAMED(a, wte), s, (seo_shape){"(V, C)", 2, {a->wte.dims[0], c}});
    seo_rule_shape(&r, SEO_NAMED(a, wpe), s, (seo_shape){"(positions, C)", 2, {a->wpe.dims[0], c}});
    seo_rule_arg(&r, a->first_position >= 0 && a->first_position <= a->wpe.dims[0] - t,
                 "%lld positions from %lld on are asked for, wpe has %lld", (long long)t,
                 (long long)a->first_position, (long long)a->wpe.dims[0]);
    rule_types(&r, SEO_NAMED(a, types), SEO_NAMED(a, wtt), s, a->out.dims);
    seo_rule_apart(&r, &a->out, &a->wtt);
    seo_rule_apart(&r, &a->out, &a->wte);
    seo_rule_apart(&r, &a->out, &a->wpe);
    seo_rule_apart(&r, &a->out, &a->ids);
    return r.err;
}

seo_err seo_rules_embedding_bwd(const seo_backend *on, const seo_embedding_bwd_args *a) {
    seo_rules r = {.op = "embedding_bwd", .on = on};
    const seo_dtype s = seo_rule_storage(&r, SEO_NAMED(a, dout));
    if (r.err != SEO_OK) return r.err;
    int64_t b = a->dout.dims[0], t = a->dout.dims[1], c = a->dout.dims[2];
    seo_rule_shape(&r, SEO_NAMED(a, dout), s, (seo_shape){"(B, T, C)", 3, {b, t, c}});
    seo_rule_shape(&r, SEO_NAMED(a, ids), I32, (seo_shape){"(B, T)", 2, {b, t}});
    seo_rule_shape(&r, SEO_NAMED(a, dwte), F32, (seo_shape){"(V, C)", 2, {a->dwte.dims[0], c}});
    seo_rule_shape(&r, SEO_NAMED(a, dwpe), F32,
                   (seo_shape){"(positions, C)", 2, {a->dwpe.dims[0], c}});
    if (seo_tensor_given(&a->groups)) {
        seo_rule_shape(&r, SEO_NAMED(a, groups), I32,
                       (seo_shape){"(seo_groups_size(B*T))", 1, {seo_groups_size(b * t)}});
    }
    seo_rule_arg(&r, a->first_position >= 0 && a->first_position <= a->dwpe.dims[0] - t,
                 "dwpe has %lld positions, dout %lld from %lld on", (long long)a->dwpe.dims[0],
                 (long long)t, (long long)a->first_position);
    rule_types(&r, SEO_NAMED(a, types), SEO_NAMED(a, dwtt), F32, a->dout.dims);
    seo_rule_apart(&r, &a->dwtt, &a->dout);
    seo_rule_apart(&r, &a->dwte, &a->dout);
    seo_rule_apart(&r, &a->dwpe, &a->dout);
    seo_rule_apart(&r, &a->dwte, &a->dwpe);
    return r.err;
}

seo_err seo_rules_gather_rows(const seo_backend *on, const seo_gather_rows_args *a) {
    seo_rules r = {.op = "gather_rows", .on = on};
    const seo_dtype s = seo_rule_storage(&r, SEO_NAMED(a, inp));
    const int64_t n = seo_tensor_count(&a->index), c = seo_last_dim(&a->inp);
    seo_rule_given(&r, SEO_NAMED(a, index), I32);
    seo_rule_folded(&r, SEO_NAMED(a, out), s, (seo_shape){"(N, C)", 2, {n, c}});
    seo_rule_apart(&r, &a->out, &a->inp);
    seo_rule_apart(&r, &a->out, &a->index);
    return r.err;
}

seo_err seo_rules_scatter_rows(const seo_backend *on, const seo_scatter_rows_args *a) {
    seo_rules r = {.op = "scatter_rows", .on = on};
    const seo_dtype s = seo_rule_storage(&r, SEO_NAMED(a, out));
    const int64_t n = seo_tensor_count(&a->index), c = seo_last_dim(&a->out);
    seo_rule_given(&r, SEO_NAMED(a, index), I32);
    seo_rule_folded(&r, SEO_NAMED(a, inp), s, (seo_shape){"(N, C)", 2, {n, c}});
    seo_rule_apart(&r, &a->out, &a->inp);
    seo_rule_apart(&r, &a->out, &a->index);
    return r.err;
}

seo_err seo_rules_layernorm_fwd(const seo_backend *on, const seo_layernorm_fwd_args *a) {
    seo_rules r = {.op = "layernorm_fwd", .on = on};
    const seo_dtype s = seo_rule_storage(&r, SEO_NAMED(a, inp));
    int64_t rows = seo_folded_rows(&a->inp), c = seo_last_dim(&a->inp);
    const seo_shape rows_c = {"(R, C)", 2, {rows, c}};
    const seo_shape per_row = {"(R)", 1, {rows}};
    seo_rule_folded(&r, SEO_NAMED(a, out), s, rows_c);
    seo_rule_shape(&r, SEO_NAMED(a, weight), s, (seo_shape){"(C)", 1, {c}});
    if (seo_tensor_given(&a->bias)) {
        seo_rule_shape(&r, SEO_NAMED(a, bias), s, (seo_shape){"(C)", 1, {c}});
    }
    if (seo_tensor_given(&a->add)) seo_rule_folded(&r, SEO_NAMED(a, add), s, rows_c);
    if (seo_tensor_given(&a->add) || seo_tensor_given(&a->sum)) {
        seo_rule_folded(&r, SEO_NAMED(a, sum), s, rows_c);
    }
    if (seo_tensor_given(&a->mean)) seo_rule_folded(&r, SEO_NAMED(a, mean), F32, per_row);
    if (seo_tensor_given(&a->rstd)) seo_rule_folded(&r, SEO_NAMED(a, rstd), F32, per_row);
    seo_rule_arg(&r, a->eps > 0 && isfinite(a->eps), "eps must be above 0, is %g", (double)a->eps);
    seo_rule_apart(&r, &a->out, &a->inp);
    seo_rule_apart(&r, &a->out, &a->add);
    seo_rule_apart(&r, &a->out, &a->sum);
    seo_rule_apart_or_same(&r, &a->sum, &a->inp);
    seo_rule_apart_or_same(&r, &a->sum, &a->add);
    return r.err;
}

seo_err seo_rules_layernorm_bwd(const seo_backend *on, const seo_layernorm_bwd_args *a) {
    seo_rules r = {.op = "layernorm_bwd", .on = on};
    const seo_dtype s = seo_rule_storage(&r, SEO_NAMED(a, inp));
    int64_t rows = seo_folded_rows(&a->inp), c = seo_last_dim(&a->inp);
    const seo_shape rows_c = {"(R, C)", 2, {rows, c}};
    const seo_shape per_row = {"(R)", 1, {rows}}, per_column = {"(C)", 1, {c}};
    seo_rule_folded(&r, SEO_NAMED(a, dinp), s, rows_c);
    seo_rule_folded(&r, SEO_NAMED(a, dout), s, rows_c);
    seo_rule_shape(&r, SEO_NAMED(a, weight), s, per_column);
    seo_rule_shape(&r, SEO_NAMED(a, dweight), F32, per_column);
    if (seo_tensor_given(&a->dbias)) seo_rule_shape(&r, SEO_NAMED(a, dbias), F32, per_column);
    if (seo_tensor_given(&a->dinp_sum)) {
        seo_rule_shape(&r, SEO_NAMED(a, dinp_sum), F32, per_column);
    }
    seo_rule_folded(&r, SEO_NAMED(a, mean), F32, per_row);
    seo_rule_folded(&r, SEO_NAMED(a, rstd), F32, per_row);
    seo_rule_apart(&r, &a->dinp, &a->dout);
    seo_rule_apart(&r, &a->dinp, &a->inp);
    return r.err;
}

static void rule_epilogue(seo_rules *r, const seo_matmul_args *a, int64_t m, int64_t n) {
    if (a->epilogue == SEO_EPILOGUE_NONE) {
        seo_rule_arg(r, !seo_tensor_given(&a->pre), "pre is given without an epilogue");
        return;
    }
    seo_rule_arg(r, a->epilogue == SEO_EPILOGUE_GELU || a->epilogue == SEO_EPILOGUE_DGELU,
                 "there is no epilogue %d", (int)a->epilogue);
    seo_rule_arg(r, a->gelu == SEO_GELU_TANH || a->gelu == SEO_GELU_ERF, "there is no kind %d",
                 (int)a->gelu);
    seo_rule_arg(r, !a->accumulate, "an epilogue and accumulate do not go together");
    seo_rule_folded(r, SEO_NAMED(a, pre), a->out.dtype, (seo_shape){"(M, N)", 2, {m, n}});
    seo_rule_apart(r, &a->pre, &a->a);
    seo_rule_apart(r, &a->pre, &a->b);
    seo_rule_apart(r, &a->pre, &a->out);
}

seo_err seo_rules_matmul(const seo_backend *on, const seo_matmul_args *a) {
    seo_rules r = {.op = "matmul", .on = on};
    const seo_dtype s = seo_rule_storage(&r, SEO_NAMED(a, a));
    /* f32 may always be stored; to add to less would lose what is added. */
    const bool wide = a->out.dtype == SEO_DTYPE_F32 || a->accumulate;
    seo_rule_given(&r, SEO_NAMED(a, out), wide ? F32 : s);
    int64_t m = seo_folded_rows(&a->out), n = seo_last_dim(&a->out);
    int64_t k = a->layout == SEO_MATMUL_TN ? seo_folded_rows(&a->a) : seo_last_dim(&a->a);
    seo_rule_arg(&r, a->layout >= SEO_MATMUL_NT && a->layout <= SEO_MATMUL_TN,
                 "there is no layout %d", (int)a->layout);
    if (a->layout == SEO_MATMUL_TN) {
        seo_rule_folded(&r, SEO_NAMED(a, a), s, (seo_shape){"(K, M)", 2, {k, m}});
    } else {
        seo_rule_folded(&r, SEO_NAMED(a, a), s, (seo_shape){"(M, K)", 2, {m, k}});
    }
    if (a->layout == SEO_MATMUL_NT) {
        seo_rule_folded(&r, SEO_NAMED(a, b), s, (seo_shape){"(N, K)", 2, {n, k}});
    } else {
        seo_rule_folded(&r, SEO_NAMED(a, b), s, (seo_shape){"(K, N)", 2, {k, n}});
    }
    if (seo_tensor_given(&a->bias)) {
        seo_rule_shape(&r, SEO_NAMED(a, bias), s, (seo_shape){"(N)", 1, {n}});
    }
    rule_epilogue(&r, a, m, n);
    seo_rule_apart(&r, &a->out, &a->a);
    seo_rule_apart(&r, &a->out, &a->b);
    seo_rule_apart(&r, &a->out, &a->bias);
    return r.err;
}

static void rule_heads(seo_rules *r, int64_t c, int64_t head_count, float scale) {
    seo_rule_arg(r, head_count >= 1 && c % head_count == 0,
                 "head_count must divide C = %lld, is %lld", (long long)c, (long long)head_count);
    seo_rule_arg(r, scale > 0 && isfinite(scale), "scale must be above 0, is %g", (double)scale);
}

/* For queries of B sequences of T positions. */
static void rule_mask(seo_rules *r, const seo_attention_mask *m, int64_t b, int64_t t) {
    seo_rule_arg(r, m->window >= 0, "mask.window must be 0 (none) or more, is %lld",
                 (long long)m->window);
    seo_rule_arg(r, m->window == 0 || m->causal,
                 "mask.window is %lld without mask.causal: only causal attention has a window",
                 (long long)m->window);
    if (!seo_tensor_given(&m->spans)) return;
    seo_rule_shape(r, (seo_named){"mask.spans", &m->spans}, I32,
                   (seo_shape){"(B, T, 2)", 3, {b, t, 2}});
}

static void rule_dropout(seo_rules *r, const seo_attention_dropout *d) {
    seo_rule_arg(r, d->rate >= 0 && d->rate < 1, "dropout.rate must be in [0, 1), is %g",
                 (double)d->rate);
    if (!(d->rate > 0)) return;
    seo_rule_shape(r, (seo_named){"dropout.place", &d->place}, I32,
                   (seo_shape){"(SEO_PLACE_COUNT)", 1, {SEO_PLACE_COUNT}});
}

seo_err seo_rules_attention_fwd(const seo_backend *on, const seo_attention_fwd_args *a) {
    seo_rules r = {.op = "attention_fwd", .on = on};
    const seo_dtype s = seo_rule_storage(&r, SEO_NAMED(a, out));
    if (r.err != SEO_OK) return r.err;
    int64_t b = a->out.dims[0], t = a->out.dims[1], c = a->out.dims[2];
    seo_rule_shape(&r, SEO_NAMED(a, out), s, (seo_shape){"(B, T, C)", 3, {b, t, c}});
    seo_rule_shape(&r, SEO_NAMED(a, qkv), s, (seo_shape){"(B, T, 3C)", 3, {b, t, 3 * c}});
    rule_heads(&r, c, a->head_count, a->scale);
    seo_rule_shape(&r, SEO_NAMED(a, lse), F32, (seo_shape){"(B, H, T)", 3, {b, a->head_count, t}});
    rule_mask(&r, &a->mask, b, t);
    rule_dropout(&r, &a->dropout);
    seo_rule_apart(&r, &a->out, &a->qkv);
    seo_rule_apart(&r, &a->out, &a->mask.spans);
    seo_rule_apart(&r, &a->lse, &a->qkv);
    seo_rule_apart(&r, &a->lse, &a->out);
    return r.err;
}

seo_err seo_rules_attention_bwd(const seo_backend *on, const seo_attention_bwd_args *a) {
    seo_rules r = {.op = "attention_bwd", .on = on};
    const seo_dtype s = seo_rule_storage(&r, SEO_NAMED(a, out));
    if (r.err != SEO_OK) return r.err;
    int64_t b = a->out.dims[0], t = a->out.dims[1], c = a->out.dims[2];
    seo_rule_shape(&r, SEO_NAMED(a, out), s, (seo_shape){"(B, T, C)", 3, {b, t, c}});
    seo_rule_shape(&r, SEO_NAMED(a, dout), s, (seo_shape){"(B, T, C)", 3, {b, t, c}});
    seo_rule_shape(&r, SEO_NAMED(a, qkv), s, (seo_shape){"(B, T, 3C)", 3, {b, t, 3 * c}});
    seo_rule_shape(&r, SEO_NAMED(a, dqkv), s, (seo_shape){"(B, T, 3C)", 3, {b, t, 3 * c}});
    rule_heads(&r, c, a->head_count, a->scale);
    seo_rule_shape(&r, SEO_NAMED(a, lse), F32, (seo_shape){"(B, H, T)", 3, {b, a->head_count, t}});
    seo_rule_shape(&r, SEO_NAMED(a, delta), F32,
                   (seo_shape){"(B, H, T)", 3, {b, a->head_count, t}});
    rule_mask(&r, &a->mask, b, t);
    rule_dropout(&r, &a->dropout);
    seo_rule_apart(&r, &a->dqkv, &a->mask.spans);
    seo_rule_apart(&r, &a->dqkv, &a->qkv);
    seo_rule_apart(&r, &a->dqkv, &a->dout);
    seo_rule_apart(&r, &a->dqkv, &a->out);
    return r.err;
}

seo_err seo_rules_attention_cached(const seo_backend *on, const seo_attention_cached_args *a) {
    seo_rules r = {.op = "attention_cached", .on = on};
    const seo_dtype s = seo_rule_storage(&r, SEO_NAMED(a, out));
    if (r.err != SEO_OK) return r.err;
    int64_t b = a->out.dims[0], n = a->out.dims[1], c = a->out.dims[2];
    seo_rule_shape(&r, SEO_NAMED(a, out), s, (seo_shape){"(B, N, C)", 3, {b, n, c}});
    seo_rule_shape(&r, SEO_NAMED(a, qkv), s, (seo_shape){"(B, N, 3C)", 3, {b, n, 3 * c}});
    const int64_t room = a->cache_k.dims[1];
    seo_rule_shape(&r, SEO_NAMED(a, cache_k), s, (seo_shape){"(B, S, C)", 3, {b, room, c}});
    seo_rule_shape(&r, SEO_NAMED(a, cache_v), s, (seo_shape){"(B, S, C)", 3, {b, room, c}});
    rule_heads(&r, c, a->head_count, a->scale);
    seo_rule_arg(&r, a->cached >= 0 && a->cached <= room - n,
                 "%lld cached and %lld new positions do not fit in a cache of %lld",
                 (long long)a->cached, (long long)n, (long long)room);
    seo_rule_arg(&r, a->window >= 0, "window must be 0 (none) or more, is %lld",
                 (long long)a->window);
    seo_rule_apart(&r, &a->out, &a->qkv);
    seo_rule_apart(&r, &a->cache_k, &a->qkv);
    seo_rule_apart(&r, &a->cache_v, &a->qkv);
    seo_rule_apart(&r, &a->cache_k, &a->cache_v);
    return r.err;
}
