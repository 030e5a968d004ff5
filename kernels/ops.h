/* The operators: one argument struct and one function each. Called with designated initialisers, so
 * every argument is named; an argument left out is zero, and where zero has no meaning the shape
 * rules (rules.h) refuse it.
 *
 * Letters of dimensions, the only ones used:
 *   B sequences   T positions   R = B*T rows   C hidden size   H heads   D = C/H head size   F
 * feed-forward size V vocabulary  P = V padded  M N K matmul   S cached positions
 *
 * Contracts that hold for all:
 *   - `=` overwrites, `+=` accumulates; `opt` may be left out (a tensor of rank 0).
 *   - a tensor marked S has the storage type of the call: f32, or bf16 on devices that have it (the
 * CPU has not); all S tensors of a call have the same one. Statistics, losses, moments and the
 * gradients of parameters are f32 always. Sums are f32 or wider.
 *   - outputs may not overlap inputs unless the comment says "may be".
 *   - work is queued on the device's stream; errors found before it is queued: SEO_ERR_SHAPE for
 * shapes and dtypes, SEO_ERR_ARG for scalars, SEO_ERR_UNSUPPORTED for a variant the backend has
 * not. What only the data tells, an id outside its table, the CPU reports at once and changes
 * nothing; a device with a stream reports it at the next seo_device_sync or copy_out.
 *   - the order of every sum is fixed: same inputs, same bits, for any number of threads. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/groups.h"
#include "base/rng.h"
#include "base/tensor.h"
#include "kernels/device.h"
#include "kernels/sum_order.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Where a pass stands in its run, in device memory, so that a captured pass can be replayed for
 * another one. */
typedef enum seo_place {
    SEO_PLACE_STEP,
    SEO_PLACE_ROW_LOW, /* the pass's first row in the global batch, lower and upper 32 bits */
    SEO_PLACE_ROW_HIGH,
    SEO_PLACE_COUNT
} seo_place;

/* Token + position (+ token type) embedding, forward.
 *   out[b,t,c] = wte[ids[b,t],c] + wpe[first_position + t,c] (+ wtt[types[b,t],c])
 * An id outside [0, V), or a type outside [0, K), is SEO_ERR_ARG. */
typedef struct seo_embedding_fwd_args {
    seo_tensor out;   /* =  (B, T, C) S */
    seo_tensor ids;   /*    (B, T) i32 */
    seo_tensor wte;   /*    (V or P, C) S */
    seo_tensor wpe;   /*    (positions, C) S, positions >= first_position + T */
    seo_tensor types; /*    (B, T) i32, with wtt */
    seo_tensor wtt;   /*    (K, C) S opt */
    int64_t first_position;
} seo_embedding_fwd_args;

/* Its backward: dwte[ids[b,t]] += dout[b,t], in the order of (b, t); dwpe[first_position + t] +=
 * sum over b of dout[b,t]; dwtt[k] += sum over the (b, t) of type k of dout[b,t]. */
typedef struct seo_embedding_bwd_args {
    seo_tensor dwte;   /* += (V or P, C) f32 */
    seo_tensor dwpe;   /* += (positions, C) f32 */
    seo_tensor dwtt;   /* += (K, C) f32 opt */
    seo_tensor dout;   /*    (B, T, C) S */
    seo_tensor ids;    /*    (B, T) i32 */
    seo_tensor types;  /*    (B, T) i32, with dwtt */
    seo_tensor groups; /*    (seo_groups_size(B*T)) i32 opt: seo_groups_build of ids. The CPU does
                        *    without; the CUDA backend needs it */
    int64_t first_position;
} seo_embedding_bwd_args;

/* Rows by number: out[i] = inp[index[i]]; a row of zeros where index[i] is -1. Any other index
 * outside [0, R) is SEO_ERR_ARG. */
typedef struct seo_gather_rows_args {
    seo_tensor out;   /* =  (N, C) S */
    seo_tensor inp;   /*    (R, C) S */
    seo_tensor index; /*    (N) i32 */
} seo_gather_rows_args;

/* Its backward: out = 0 but out[index[i]] = inp[i], (or +=, and the other rows stay as they are);
 * -1 goes nowhere. No two of the other indices are equal (the caller's promise). */
typedef struct seo_scatter_rows_args {
    seo_tensor out;   /* = or += (R, C) S, see accumulate */
    seo_tensor inp;   /*    (N, C) S */
    seo_tensor index; /*    (N) i32 */
    bool accumulate;
} seo_scatter_rows_args;

/* tanh, forward, and backward from its output: dinp = dout * (1 - out^2). */
typedef struct seo_tanh_fwd_args {
    seo_tensor out; /* =  any shape S; may be inp */
    seo_tensor inp; /*    same shape S */
} seo_tanh_fwd_args;
typedef struct seo_tanh_bwd_args {
    seo_tensor dinp; /* =  any shape S; may be dout */
    seo_tensor dout; /*    same shape S */
    seo_tensor out;  /*    same shape S: tanh of the input */
} seo_tanh_bwd_args;

/* Knowledge distillation over the first `vocab_size` of P columns (Hinton et al. 2015; weights as
 * in Sanh et al. 2019). With t and s the softmax of teacher and student logits at temperature T:
 *   hard[r] = cross entropy of the student at temperature 1 against targets[r]; 0 where ignored
 *   soft[r] = T^2 * sum_v t_v (log t_v - log s_v)
 *   loss[r] = hard_weight * hard[r] + soft_weight * soft[r]
 * with gradient: student[r,v] = grad_scale * (hard_weight * (softmax_v - [v == target]) +
 *   soft_weight * T * (s_v - t_v)); 0 in padded columns. A row whose `counts` is 0 has neither:
 * loss 0, gradient 0. Teacher and student have the same vocabulary; paddings may differ. */
typedef struct seo_distill_cross_entropy_args {
    seo_tensor loss;    /* =  (R) f32, nats */
    seo_tensor hard;    /* =  (R) f32 opt */
    seo_tensor student; /*    (R, P) S logits; overwritten by the gradient when with_gradient */
    seo_tensor teacher; /*    (R, P') S logits */
    seo_tensor targets; /*    (R) i32 */
    seo_tensor counts;  /*    (R) i32 opt: 0 or 1; all count without it */
    int64_t vocab_size;
    int32_t ignore_index;
    float temperature; /* > 0 */
    float hard_weight, soft_weight, grad_scale;
    bool with_gradient;
} seo_distill_cross_entropy_args;

/* Cosine distance of rows, and its gradient for a:
 *   loss[r] = weight * (1 - a.b / (|a| |b|)),   da[r] (= or +=) grad_scale * its gradient
 * A row whose `counts` is 0, or with a norm of 0, has loss and gradient 0. */
typedef struct seo_cosine_loss_args {
    seo_tensor loss;   /* =  (R) f32 */
    seo_tensor da;     /* = or += (R, C) S opt, see accumulate */
    seo_tensor a, b;   /*    (R, C) S */
    seo_tensor counts; /*    (R) i32 opt */
    float weight, grad_scale;
    bool accumulate;
} seo_cosine_loss_args;

/* Layer norm over the last axis, with the residual add before it when `add` is given.
 *   x = inp (+ add);   sum = x (when given)
 *   out[r,c] = (x[r,c] - mean[r]) * rstd[r] * weight[c] + bias[c],   rstd = 1/sqrt(var + eps), var
 * biased. When S is bf16, x is rounded to it before it is normalised: the backward starts from the
 * same numbers. Source: Ba, Kiros, Hinton 2016. */
typedef struct seo_layernorm_fwd_args {
    seo_tensor out;    /* =  (R, C) S */
    seo_tensor sum;    /* =  (R, C) S opt: x; needed when add is given; may be inp or add */
    seo_tensor mean;   /* =  (R) opt f32: kept for the backward */
    seo_tensor rstd;   /* =  (R) opt f32: kept for the backward */
    seo_tensor inp;    /*    (R, C) S */
    seo_tensor add;    /*    (R, C) S opt */
    seo_tensor weight; /*    (C) S */
    seo_tensor bias;   /*    (C) S opt */
    float eps;         /*    > 0 */
} seo_layernorm_fwd_args;

/* Its backward for x (both branches of a residual add receive dx).
 *   dnorm = dout * weight;  xhat = (x - mean) * rstd
 *   dx = rstd * (dnorm - mean_c(dnorm) - xhat * mean_c(dnorm * xhat))        dinp = dx, or += with
 * accumulate */
typedef struct seo_layernorm_bwd_args {
    seo_tensor dinp;     /* = or += (R, C) S, see accumulate */
    seo_tensor dweight;  /* += (C) f32 */
    seo_tensor dbias;    /* += (C) f32 opt */
    seo_tensor dinp_sum; /* += (C) f32 opt: the sum over rows of dinp as it is left (rounded to S):
                          *    the gradient of a bias that was added to x */
    seo_tensor dout;     /*    (R, C) S */
    seo_tensor inp;      /*    (R, C) S: x, the sum that was normalised */
    seo_tensor weight;   /*    (C) S */
    seo_tensor mean;     /*    (R) f32 */
    seo_tensor rstd;     /*    (R) f32 */
    bool accumulate; /* dinp += instead of = (the residual stream's gradient is already there) */
} seo_layernorm_bwd_args;

/* GELU (Hendrycks & Gimpel 2016).  ERF: x * Phi(x);  TANH: 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715
 * x^3))). */
typedef enum seo_gelu_kind { SEO_GELU_TANH, SEO_GELU_ERF } seo_gelu_kind;

/* Matrix product.   sum[m,n] = sum_k A[m,k] * B[k,n] (+ bias[n])
 *   out = sum, or out += sum with accumulate; with an epilogue, see there
 * The three layouts that training needs:
 *   NT  A (M,K), B given as (N,K): forward, out = x W^T           NN  A (M,K), B (K,N): dx = dy W
 *   TN  A given as (K,M), B (K,N): dW = dy^T x
 * Leading dimensions fold: a (B,T,C) tensor counts as (B*T, C). Each out element is summed over k
 * in one fixed order. */
typedef enum seo_matmul_layout { SEO_MATMUL_NT, SEO_MATMUL_NN, SEO_MATMUL_TN } seo_matmul_layout;

/* What becomes of a sum before it is stored. Not together with accumulate. */
typedef enum seo_matmul_epilogue {
    SEO_EPILOGUE_NONE,
    SEO_EPILOGUE_GELU, /* pre = sum, out = gelu(pre): of pre as it is stored, rounded to S */
    SEO_EPILOGUE_DGELU /* out = sum * gelu'(pre) */
} seo_matmul_epilogue;

typedef struct seo_matmul_args {
    seo_tensor out;  /* = or += (M, N) S, or f32; f32 with accumulate */
    seo_tensor a;    /*    (M, K), or (K, M) for TN, S */
    seo_tensor b;    /*    (K, N), or (N, K) for NT, S */
    seo_tensor bias; /*    (N) S opt */
    seo_tensor pre;  /*    (M, N) S, with an epilogue only: = with GELU, read with DGELU */
    seo_matmul_layout layout;
    seo_matmul_epilogue epilogue;
    seo_gelu_kind gelu; /* of the epilogue */
    bool accumulate;
} seo_matmul_args;

/* Gradient of a bias: dbias[n] += sum over rows of dout[r,n]. */
typedef struct seo_bias_bwd_args {
    seo_tensor dbias; /* += (N) f32 */
    seo_tensor dout;  /*    (R, N) S */
} seo_bias_bwd_args;

/* Multi-head self-attention from packed projections, in tiles: no T x T matrix is kept.
 *   q,k,v = qkv[b,t, 0:C], [C:2C], [2C:3C], head h in columns h*D..(h+1)*D
 *   s[i,j] = scale * q_i . k_j over the keys j that i sees
 *   p[i,j] = softmax_j(s[i,:]);  out_i = sum_j drop(p[i,j]) v_j;  lse_i = log sum_j exp s[i,j]
 * What position i sees is one interval of keys, never empty: it always sees itself.
 *   causal: j <= i.   window W > 0 (causal only): i - j < W.
 *   spans: begin[b,i] <= j < end[b,i], the part of the sequence that i belongs to. Parts lie in
 *   order and tile the sequence: [begin, end) is the same for every position of a part. So
 *   documents do not see each other, and padding, a part of its own, is seen by itself alone.
 * Dropout on the probabilities: drop(p) is that of seo_dropout for element
 *   ((place's first row / T + b) * H + h) * T + i) * T + j, the global number of p[b,h,i,j].
 * Source: Vaswani et al. 2017 eq. 1; online softmax: Milakov & Gimelshein 2018; tiles: Dao et al.
 * 2022; bands: Child et al. 2019. */
typedef struct seo_attention_mask {
    seo_tensor spans; /* (B, T, 2) i32 opt: begin and end */
    int64_t window;   /* 0: none */
    bool causal;
} seo_attention_mask;

typedef struct seo_attention_dropout {
    seo_tensor place; /* (SEO_PLACE_COUNT) i32, with a rate: step and first row of the pass */
    seo_rng_key key;  /* purpose SEO_PURPOSE_DROPOUT | site << 8 */
    float rate;       /* 0: none */
} seo_attention_dropout;

typedef struct seo_attention_fwd_args {
    seo_tensor out; /* =  (B, T, C) S */
    seo_tensor lse; /* =  (B, H, T) f32: kept for the backward */
    seo_tensor qkv; /*    (B, T, 3C) S */
    int64_t head_count;
    float scale; /*       > 0, usually 1/sqrt(D) */
    seo_attention_mask mask;
    seo_attention_dropout dropout;
} seo_attention_fwd_args;

/* Its backward; probabilities are computed again from lse, tile by tile (Dao et al. 2022, algorithm
 * 4). The gradient of a key or value that a query does not see is exactly 0. */
typedef struct seo_attention_bwd_args {
    seo_tensor dqkv;  /* =  (B, T, 3C) S */
    seo_tensor delta; /* =  (B, H, T) f32 scratch: sum over d of dout * out */
    seo_tensor dout;  /*    (B, T, C) S */
    seo_tensor out;   /*    (B, T, C) S */
    seo_tensor qkv;   /*    (B, T, 3C) S */
    seo_tensor lse;   /*    (B, H, T) f32 */
    int64_t head_count;
    float scale;
    seo_attention_mask mask;       /* of the forward */
    seo_attention_dropout dropout; /* of the forward */
} seo_attention_bwd_args;

/* Causal attention of N new positions over a key-value cache, for generation.
 * Writes the new keys and values to cache rows [cached, cached + N), then attends: new position i
 * sees 0..cached+i, with a window W only the last W of them. Equal to attention_fwd on the whole
 * sequence up to the rounding of the softmax's order. */
typedef struct seo_attention_cached_args {
    seo_tensor out;     /* =  (B, N, C) S */
    seo_tensor cache_k; /* =  (B, S, C) S, rows [cached, cached+N) */
    seo_tensor cache_v; /* =  (B, S, C) S, likewise */
    seo_tensor qkv;     /*    (B, N, 3C) S */
    int64_t cached;     /*    positions already there; cached + N <= S */
    int64_t head_count;
    int64_t window; /*        0: none */
    float scale;
} seo_attention_cached_args;

/* GELU by itself, forward and backward. */
typedef struct seo_gelu_fwd_args {
    seo_tensor out; /* =  any shape S */
    seo_tensor inp; /*    same shape S */
    seo_gelu_kind kind;
} seo_gelu_fwd_args;
typedef struct seo_gelu_bwd_args {
    seo_tensor dinp; /* =  any shape S: dout * gelu'(inp); may be dout */
    seo_tensor dout; /*    same shape S */
    seo_tensor inp;  /*    same shape S */
    seo_gelu_kind kind;
} seo_gelu_bwd_args;

/* Residual: out = a + b, elementwise; out may be a or b. */
typedef struct seo_add_args {
    seo_tensor out;  /* =  any shape S */
    seo_tensor a, b; /*    same shape S */
} seo_add_args;

/* The same numbers in another type, f32 and bf16 in either direction (or the same one, a copy);
 * rounded to nearest, ties to even, NaN stays NaN. On every device. */
typedef struct seo_cast_args {
    seo_tensor out; /* = any shape */
    seo_tensor inp; /*   same shape */
} seo_cast_args;

/* Dropout (Srivastava et al. 2014), forward and backward alike:
 *   out[i] = inp[i] / (1 - rate) when u(first_index + i) >= rate, else 0;   u =
 * seo_uniform_from(seo_rng_u32(key, index)) The mask is a pure function of (key, global element
 * index): the backward calls it again on the gradient. */
typedef struct seo_dropout_args {
    seo_tensor out;      /* = any shape S; may be inp */
    seo_tensor inp;      /*   same shape S */
    seo_tensor place;    /*   (SEO_PLACE_COUNT) i32 opt: its step is taken for key.step, and its row
                          *   times inp's last dimension is added to first_index */
    seo_rng_key key;     /* purpose SEO_PURPOSE_DROPOUT | site << 8 */
    int64_t first_index; /* >= 0: global index of the first element, independent of sharding */
    float rate;          /* 0 <= rate < 1 */
} seo_dropout_args;

/* Normal numbers, for initial parameters (Box & Muller 1958):
 *   block j of Philox gives bits v[0..3] for elements 4j .. 4j+3; for p = 0, 1 with
 *   u1, u2 = seo_uniform_from(v[2p]), (v[2p+1]):
 *   out[4j + 2p], out[4j + 2p + 1] = std * sqrt(-2 ln u1) * (cos, sin)(2 pi u2)
 * The same bits on every CPU level: only IEEE's basic operations, none contracted. */
typedef struct seo_normal_args {
    seo_tensor out;      /* = any shape f32 */
    seo_rng_key key;     /* purpose SEO_PURPOSE_INIT | tensor number << 8 */
    int64_t first_index; /* global index of the first element, a multiple of 4 */
    float std;           /* >= 0 */
} seo_normal_args;

/* Softmax cross entropy over the first `vocab_size` of P columns, and its gradient over the logits,
 * in one pass. loss[r] = log sum_v exp logits[r,v] - logits[r,target[r]];   0 where target[r] ==
 * ignore_index with gradient: logits[r,v] = grad_scale * (softmax_v - [v == target]);  0 in ignored
 * rows and in padded columns A target outside [0, vocab_size) that is not ignore_index is
 * SEO_ERR_ARG. */
typedef struct seo_cross_entropy_args {
    seo_tensor loss;    /* =  (R) f32, nats */
    seo_tensor logits;  /*    (R, P) S; overwritten by the gradient when with_gradient */
    seo_tensor targets; /*    (R) i32 */
    int64_t vocab_size; /*    1..P */
    int32_t ignore_index;
    float grad_scale; /*      usually 1 / (targets that count in the global batch) */
    bool with_gradient;
} seo_cross_entropy_args;

/* out[i] (= or +=) the sum over the rows of inp[p, i], in f32, in the order of p or as a balanced
 * tree. The same bits as the collectives of comm.h have for the same parts and order. */
typedef struct seo_fold_args {
    seo_tensor out;      /* = or += (n) f32; may be one of inp's rows where it is overwritten */
    seo_tensor inp;      /*    (p, n) f32 or bf16, on every device */
    seo_sum_order order; /* TREE: p a power of two, up to SEO_SUM_TREE_MAX */
    bool accumulate;     /* out += the sum */
} seo_fold_args;

/* out[j] = the sum of inp^2 over its j-th unit of SEO_SQUARES_UNIT elements, the last of which may
 * be shorter; in f64 inside. A unit's sum does not depend on what lies around it. */
enum { SEO_SQUARES_UNIT = 2048 };
typedef struct seo_sum_squares_args {
    seo_tensor out; /* =  (units) f32, units = ceil(elements / SEO_SQUARES_UNIT) */
    seo_tensor inp; /*    any shape f32 */
} seo_sum_squares_args;

/* Global-norm clipping (Pascanu et al. 2013), kept on the device so that a step needs no round
 * trip: norm = sqrt(sum over j of sum_squares[j]), in f64 inside;
 * hyper[SEO_HYPER_GRAD_FACTOR] = max_norm > 0 ? min(1, max_norm / (norm + 1e-6)) : 1
 * A norm that is not finite gives factor 0. */
typedef struct seo_clip_factor_args {
    seo_tensor norm;        /* =  (1) f32 */
    seo_tensor hyper;       /* =  (SEO_HYPER_COUNT) f32, the one element */
    seo_tensor sum_squares; /*    (units) f32, any number */
    float max_norm;         /*    0: no clipping */
} seo_clip_factor_args;

/* What an optimizer step reads from device memory, so that a captured step can be replayed with new
 * values. */
typedef enum seo_hyper {
    SEO_HYPER_LR,
    SEO_HYPER_CORRECTION1, /* 1 / (1 - beta1^step) */
    SEO_HYPER_CORRECTION2, /* 1 / (1 - beta2^step) */
    SEO_HYPER_STEP,        /* of the update, a whole number below 2^24: keys the rounding */
    SEO_HYPER_GRAD_FACTOR, /* gradients are multiplied by it: the clip factor */
    SEO_HYPER_COUNT
} seo_hyper;

/* AdamW with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2), as PyTorch's:
 *   g = grad * factor;  m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2
 *   param = param (1 - lr * weight_decay) - lr * (m * correction1) / (sqrt(v * correction2) + eps)
 * A factor of 0 takes g as 0 whatever grad holds, so that one that is not finite spoils nothing.
 *
 * One call takes any number of parameters that lie one after the other: `ranges` then tells which
 * of them decay. A bf16 param has no f32 master: the new value is rounded stochastically, up with
 * the probability of what is cut off. With j = first_index + i, element i adds 16 bits of
 *   seo_philox({key.seed, key.purpose, hyper's step}, j / 8).v[j % 8 / 2], the lower half for even
 * j, to the f32 bits before they are cut: a function of the element alone, not of grid or sharding.
 */
enum { SEO_ADAMW_UNIT = 128 };
typedef struct seo_adamw_args {
    seo_tensor param;    /* += any shape f32, or bf16 on devices that have it */
    seo_tensor m, v;     /* =  same shape f32, first and second moment */
    seo_tensor grad;     /*    same shape f32 */
    seo_tensor working;  /* =  same shape bf16 opt: param rounded to nearest, for the next pass */
    seo_tensor ranges;   /*    (n) i32 opt: ends, in units of SEO_ADAMW_UNIT elements and ascending,
                          *    of ranges that alternate: without decay, with decay, without ...;
                          *    what lies beyond the last has none. Left out: all decay */
    seo_tensor hyper;    /*    (SEO_HYPER_COUNT) f32 */
    seo_rng_key key;     /*    of the rounding, purpose SEO_PURPOSE_ROUNDING; for a bf16 param */
    int64_t first_index; /*    of the rounding: global index of the first element, multiple of 8 */
    float beta1, beta2;
    float eps; /*           > 0 */
    float weight_decay;
} seo_adamw_args;

#define SEO_OP(op) seo_err seo_##op(seo_device *dev, const seo_##op##_args *args);
#include "kernels/ops.def"
#undef SEO_OP

#ifdef __cplusplus
}
#endif
