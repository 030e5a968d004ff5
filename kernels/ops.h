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
 *   - storage is f32 on the CPU (f32 or bf16 on devices that say so); statistics and sums are f32
 * or wider.
 *   - outputs may not overlap inputs unless the comment says "may be".
 *   - work is queued on the device's stream; errors found before it is queued: SEO_ERR_SHAPE for
 * shapes and dtypes, SEO_ERR_ARG for scalars, SEO_ERR_UNSUPPORTED for a variant the backend has
 * not.
 *   - the order of every sum is fixed: same inputs, same bits, for any number of threads. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/rng.h"
#include "base/tensor.h"
#include "kernels/device.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Token + position embedding, forward.
 *   out[b,t,c] = wte[ids[b,t],c] + wpe[first_position + t,c]
 * An id outside [0, V) is SEO_ERR_ARG. */
typedef struct seo_embedding_fwd_args {
    seo_tensor out; /* =  (B, T, C) */
    seo_tensor ids; /*    (B, T) i32 */
    seo_tensor wte; /*    (V or P, C) */
    seo_tensor wpe; /*    (positions, C), positions >= first_position + T */
    int64_t first_position;
} seo_embedding_fwd_args;

/* Its backward: dwte[ids[b,t]] += dout[b,t], in the order of (b, t); dwpe[t] += sum over b of
 * dout[b,t]. */
typedef struct seo_embedding_bwd_args {
    seo_tensor dwte; /* += (V or P, C) */
    seo_tensor dwpe; /* += (positions, C) */
    seo_tensor dout; /*    (B, T, C) */
    seo_tensor ids;  /*    (B, T) i32 */
} seo_embedding_bwd_args;

/* Layer norm over the last axis, with the residual add before it when `add` is given.
 *   x = inp (+ add);   sum = x (when given)
 *   out[r,c] = (x[r,c] - mean[r]) * rstd[r] * weight[c] + bias[c],   rstd = 1/sqrt(var + eps), var
 * biased Source: Ba, Kiros, Hinton 2016. */
typedef struct seo_layernorm_fwd_args {
    seo_tensor out;    /* =  (R, C) */
    seo_tensor sum;    /* =  (R, C) opt: x; needed when add is given; may be inp or add */
    seo_tensor mean;   /* =  (R) opt f32: kept for the backward */
    seo_tensor rstd;   /* =  (R) opt f32: kept for the backward */
    seo_tensor inp;    /*    (R, C) */
    seo_tensor add;    /*    (R, C) opt */
    seo_tensor weight; /*    (C) */
    seo_tensor bias;   /*    (C) opt */
    float eps;         /*    > 0 */
} seo_layernorm_fwd_args;

/* Its backward for x (both branches of a residual add receive dx).
 *   dnorm = dout * weight;  xhat = (x - mean) * rstd
 *   dx = rstd * (dnorm - mean_c(dnorm) - xhat * mean_c(dnorm * xhat))        dinp = dx, or += with
 * accumulate */
typedef struct seo_layernorm_bwd_args {
    seo_tensor dinp;    /* = or += (R, C), see accumulate */
    seo_tensor dweight; /* += (C) */
    seo_tensor dbias;   /* += (C) opt */
    seo_tensor dout;    /*    (R, C) */
    seo_tensor inp;     /*    (R, C): x, the sum that was normalised */
    seo_tensor weight;  /*    (C) */
    seo_tensor mean;    /*    (R) f32 */
    seo_tensor rstd;    /*    (R) f32 */
    bool accumulate;    /* dinp += instead of = (the residual stream's gradient is already there) */
} seo_layernorm_bwd_args;

/* Matrix product.   out[m,n] = (accumulate ? out[m,n] : 0) + sum_k A[m,k] * B[k,n] (+ bias[n])
 * The three layouts that training needs:
 *   NT  A (M,K), B given as (N,K): forward, out = x W^T           NN  A (M,K), B (K,N): dx = dy W
 *   TN  A given as (K,M), B (K,N): dW = dy^T x
 * Leading dimensions fold: a (B,T,C) tensor counts as (B*T, C). Each out element is summed over k
 * in one fixed order. */
typedef enum seo_matmul_layout { SEO_MATMUL_NT, SEO_MATMUL_NN, SEO_MATMUL_TN } seo_matmul_layout;
typedef struct seo_matmul_args {
    seo_tensor out;  /* = or += (M, N), see accumulate */
    seo_tensor a;    /*    (M, K), or (K, M) for TN */
    seo_tensor b;    /*    (K, N), or (N, K) for NT */
    seo_tensor bias; /*    (N) opt */
    seo_matmul_layout layout;
    bool accumulate;
} seo_matmul_args;

/* Gradient of a bias: dbias[n] += sum over rows of dout[r,n]. */
typedef struct seo_bias_bwd_args {
    seo_tensor dbias; /* += (N) */
    seo_tensor dout;  /*    (R, N) */
} seo_bias_bwd_args;

/* Multi-head self-attention from packed projections, in tiles: no T x T matrix is kept.
 *   q,k,v = qkv[b,t, 0:C], [C:2C], [2C:3C], head h in columns h*D..(h+1)*D
 *   s[i,j] = scale * q_i . k_j, j <= i when causal;  out_i = sum_j softmax_j(s[i,:]) v_j;  lse_i =
 * log sum_j exp s[i,j] Source: Vaswani et al. 2017 eq. 1; online softmax: Milakov & Gimelshein
 * 2018; tiles: Dao et al. 2022. */
typedef struct seo_attention_fwd_args {
    seo_tensor out; /* =  (B, T, C) */
    seo_tensor lse; /* =  (B, H, T) f32: kept for the backward */
    seo_tensor qkv; /*    (B, T, 3C) */
    int64_t head_count;
    float scale; /*       > 0, usually 1/sqrt(D) */
    bool causal;
} seo_attention_fwd_args;

/* Its backward; probabilities are computed again from lse, tile by tile (Dao et al. 2022, algorithm
 * 4). */
typedef struct seo_attention_bwd_args {
    seo_tensor dqkv;  /* =  (B, T, 3C) */
    seo_tensor delta; /* =  (B, H, T) f32 scratch: sum over d of dout * out */
    seo_tensor dout;  /*    (B, T, C) */
    seo_tensor out;   /*    (B, T, C) */
    seo_tensor qkv;   /*    (B, T, 3C) */
    seo_tensor lse;   /*    (B, H, T) f32 */
    int64_t head_count;
    float scale;
    bool causal;
} seo_attention_bwd_args;

/* Causal attention of N new positions over a key-value cache, for generation.
 * Writes the new keys and values to cache rows [cached, cached + N), then attends: new position i
 * sees 0..cached+i. Equal to attention_fwd on the whole sequence up to the rounding of the
 * softmax's order. */
typedef struct seo_attention_cached_args {
    seo_tensor out;     /* =  (B, N, C) */
    seo_tensor cache_k; /* =  (B, S, C), rows [cached, cached+N) */
    seo_tensor cache_v; /* =  (B, S, C), likewise */
    seo_tensor qkv;     /*    (B, N, 3C) */
    int64_t cached;     /*    positions already there; cached + N <= S */
    int64_t head_count;
    float scale;
} seo_attention_cached_args;

/* GELU (Hendrycks & Gimpel 2016).  ERF: x * Phi(x);  TANH: 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715
 * x^3))). */
typedef enum seo_gelu_kind { SEO_GELU_TANH, SEO_GELU_ERF } seo_gelu_kind;
typedef struct seo_gelu_fwd_args {
    seo_tensor out; /* =  any shape */
    seo_tensor inp; /*    same shape */
    seo_gelu_kind kind;
} seo_gelu_fwd_args;
typedef struct seo_gelu_bwd_args {
    seo_tensor dinp; /* =  dout * gelu'(inp); may be dout */
    seo_tensor dout;
    seo_tensor inp;
    seo_gelu_kind kind;
} seo_gelu_bwd_args;

/* Residual: out = a + b, elementwise; out may be a or b. */
typedef struct seo_add_args {
    seo_tensor out; /* = */
    seo_tensor a, b;
} seo_add_args;

/* Dropout (Srivastava et al. 2014), forward and backward alike:
 *   out[i] = inp[i] / (1 - rate) when u(first_index + i) >= rate, else 0;   u =
 * seo_uniform_from(seo_rng_u32(key, index)) The mask is a pure function of (key, global element
 * index): the backward calls it again on the gradient. */
typedef struct seo_dropout_args {
    seo_tensor out; /* = may be inp */
    seo_tensor inp;
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
    seo_tensor logits;  /*    (R, P); overwritten by the gradient when with_gradient */
    seo_tensor targets; /*    (R) i32 */
    int64_t vocab_size; /*    1..P */
    int32_t ignore_index;
    float grad_scale; /*      usually 1 / (targets that count in the global batch) */
    bool with_gradient;
} seo_cross_entropy_args;

/* out[0] = (accumulate ? out[0] : 0) + sum of inp^2, in blocks of fixed size added in order, in f64
 * inside. */
typedef struct seo_sum_squares_args {
    seo_tensor out; /* = or += (1) f32 */
    seo_tensor inp; /*    any shape f32 */
    bool accumulate;
} seo_sum_squares_args;

/* Global-norm clipping (Pascanu et al. 2013), kept on the device so that a step needs no round
 * trip: norm = sqrt(sum_squares);  hyper[SEO_HYPER_GRAD_FACTOR] = max_norm > 0 ? min(1, max_norm /
 * (norm + 1e-6)) : 1 A norm that is not finite gives factor 0. */
typedef struct seo_clip_factor_args {
    seo_tensor norm;        /* =  (1) f32 */
    seo_tensor hyper;       /* =  (SEO_HYPER_COUNT) f32, the one element */
    seo_tensor sum_squares; /*    (1) f32 */
    float max_norm;         /*    0: no clipping */
} seo_clip_factor_args;

/* What an optimizer step reads from device memory, so that a captured step can be replayed with new
 * values. */
typedef enum seo_hyper {
    SEO_HYPER_LR,
    SEO_HYPER_CORRECTION1, /* 1 / (1 - beta1^step) */
    SEO_HYPER_CORRECTION2, /* 1 / (1 - beta2^step) */
    SEO_HYPER_GRAD_FACTOR, /* gradients are multiplied by it: the clip factor */
    SEO_HYPER_COUNT
} seo_hyper;

/* AdamW with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2), as PyTorch's:
 *   g = grad * factor;  m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2
 *   param = param (1 - lr * weight_decay) - lr * (m * correction1) / (sqrt(v * correction2) + eps)
 * A factor of 0 takes g as 0 whatever grad holds, so that one that is not finite spoils nothing. */
typedef struct seo_adamw_args {
    seo_tensor param; /* += any shape f32 */
    seo_tensor m, v;  /* =  same shape f32, first and second moment */
    seo_tensor grad;  /*    same shape f32 */
    seo_tensor hyper; /*    (SEO_HYPER_COUNT) f32 */
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
