/* What all layers share. A layer is a struct of table rows (its parameters) and tensors (its
 * activations) with up to four functions: params adds its rows, plan declares its activations for
 * the largest pass, forward and backward queue operators. Shapes are those of the pass, which may
 * be smaller than the plan. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/rng.h"
#include "base/slab.h"
#include "kernels/kernels.h"
#include "train/params.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What happens around the use of a segment of the parameter table (train/shard.h) in a pass: its
 * parameters may have to be fetched before they are read, its gradients may go to other ranks when
 * they are complete. A family calls them through seo_pass_enter and seo_pass_leave:
 *
 * segments outside the blocks: enter (backward false) before the first use in the forward pass,
 * leave after the last use of the whole pass: with backward true when the pass has a backward.
 *
 * blocks: enter and leave around each use: forward, and backward (which includes computing
 * activations again). In the backward a block may be entered before the one after it is left, since
 * what leads from one to the other adds to both: two blocks on end are in use then, and no third.
 *
 * Leave with backward true: the pass adds nothing more to the segment's gradients. Between enter
 * and leave with backward true it adds to them, and at no other time. */
typedef struct seo_pass_hooks {
    seo_err (*enter)(void *context, int64_t segment, bool backward);
    seo_err (*leave)(void *context, int64_t segment, bool backward);
    void *context;
} seo_pass_hooks;

/* What adapters (train/layers/adapter.h) use in turn; nothing without any. */
typedef struct seo_adapter_room {
    seo_tensor scale;       /* (r, r) S: alpha / r times the identity */
    seo_tensor low, scaled; /* (R, r) S: a narrow product, and alpha / r times it */
    seo_tensor wide;        /* (R, widest) S: what is added to a wide one */
    seo_tensor unread; /* (longest vector) f32: where operators that always make the gradient of
                        * a vector leave that of a frozen one */
} seo_adapter_room;

/* Where dropout happens, so that no two places share a mask; below 2^24. Of block l: BRANCH + 2 l
 * after attention, one more after the feed-forward part, PROBABILITIES + l inside attention. */
enum {
    SEO_SITE_EMBED = 0,
    SEO_SITE_BRANCH = 1,
    SEO_SITE_PROBABILITIES = 1 << 22,
    SEO_SITE_LABEL = 1 << 23, /* of a classification head: before its last product */
    SEO_SITE_LABEL_INPUT = SEO_SITE_LABEL + 1, /* and before its first */
    SEO_SITE_BLOCKS_MAX = 1 << 20              /* blocks that have sites of their own */
};

/* One pass over a micro-batch. */
typedef struct seo_pass {
    seo_device *dev;
    const seo_params *table;
    const seo_tensor *params;  /* by table row, in the storage type */
    const seo_tensor *grads;   /* by table row, f32; NULL without a backward; of frozen rows no
                                * memory */
    int64_t batch, positions;  /* B and T of this pass */
    float dropout;             /* rate; 0: none */
    float attention_dropout;   /* likewise, of attention's probabilities */
    uint64_t seed;             /* of the masks, with the place */
    seo_tensor place;          /* (SEO_PLACE_COUNT) i32: step and first row, in device memory */
    seo_tensor sequence_place; /* the same for tensors of one row a sequence */
    seo_tensor spans;          /* (B, T, 2) i32 opt: what positions see, see seo_attention_mask */
    seo_adapter_room adapters;
    const seo_pass_hooks *hooks; /* opt */
} seo_pass;

/* Whether a row has a gradient. */
static inline bool seo_pass_trains(const seo_pass *pass, int64_t row) {
    return !pass->table->items[row].frozen;
}

static inline seo_err seo_pass_enter(const seo_pass *pass, int64_t segment, bool backward) {
    return pass->hooks ? pass->hooks->enter(pass->hooks->context, segment, backward) : SEO_OK;
}
static inline seo_err seo_pass_leave(const seo_pass *pass, int64_t segment, bool backward) {
    return pass->hooks ? pass->hooks->leave(pass->hooks->context, segment, backward) : SEO_OK;
}

static inline int64_t seo_pass_rows(const seo_pass *pass) {
    return pass->batch * pass->positions;
}

/* The same pass over other rows than its positions: `rows` in place of B*T; without dropout. */
static inline seo_pass seo_pass_of_rows(const seo_pass *pass, int64_t rows) {
    seo_pass other = *pass;
    other.batch = rows;
    other.positions = 1;
    other.dropout = 0;
    other.spans = (seo_tensor){0};
    return other;
}
/* The same pass over one row a sequence. */
static inline seo_pass seo_pass_of_sequences(const seo_pass *pass) {
    seo_pass other = seo_pass_of_rows(pass, pass->batch);
    other.dropout = pass->dropout;
    other.place = pass->sequence_place;
    return other;
}

/* The first rows of a planned tensor as (B*T, width). */
static inline seo_tensor seo_view_rows(const seo_pass *pass, const seo_tensor *t, int64_t width) {
    return seo_tensor_2d(t->data, t->dtype, seo_pass_rows(pass), width);
}
/* The same memory as (B, T, width). */
static inline seo_tensor seo_view_sequences(const seo_pass *pass, const seo_tensor *t,
                                            int64_t width) {
    return seo_tensor_3d(t->data, t->dtype, pass->batch, pass->positions, width);
}

/* What activations are planned for. */
typedef struct seo_plan {
    seo_slab *slab;
    seo_dtype storage;        /* of activations; statistics are f32 */
    int64_t batch, positions; /* of the largest pass */
    int64_t logits_bytes;     /* about the most that a chunk of logits may take */
} seo_plan;

static inline int64_t seo_plan_row_count(const seo_plan *plan) {
    return plan->batch * plan->positions;
}

/* The same plan for `rows` in place of B*T. */
static inline seo_plan seo_plan_of_rows(const seo_plan *plan, int64_t rows) {
    seo_plan other = *plan;
    other.batch = rows;
    other.positions = 1;
    return other;
}

/* Declares an activation of (B*T, width) in the storage type. */
seo_err seo_plan_rows(const seo_plan *plan, const char *name, int64_t width, seo_tensor *out);

/* Where a name stands in the table: prefix "blocks.3." or "", and the block's number. */
typedef struct seo_scope {
    int64_t block; /* or SEO_PARAM_NO_BLOCK */
} seo_scope;
/* Adds a row named scope + name: a matrix (out, in) of normal numbers with decay ... */
seo_err seo_scope_matrix(seo_params *params, seo_scope scope, const char *name, int64_t out,
                         int64_t in, double std, int64_t *row);
/* ... the same with its rows padded to the table's row_multiple ... */
seo_err seo_scope_padded(seo_params *params, seo_scope scope, const char *name, int64_t out,
                         int64_t in, double std, int64_t *row);
/* ... or a vector of one value without decay. */
seo_err seo_scope_vector(seo_params *params, seo_scope scope, const char *name, int64_t count,
                         seo_init init, int64_t *row);

/* ... of a vector whose elements are padded as the rows of seo_scope_padded are. */
seo_err seo_scope_padded_vector(seo_params *params, seo_scope scope, const char *name,
                                int64_t count, seo_init init, int64_t *row);

/* Dropout in place, or from `inp` to `out`; the mask depends on site and global element. Nothing
 * is done when the rate is 0 and out is inp. */
seo_err seo_pass_dropout(const seo_pass *pass, uint32_t site, seo_tensor out, seo_tensor inp);

/* out = inp W^T + b, with its adapter where it has one, and its backward. */
typedef struct seo_linear {
    int64_t weight, bias; /* rows */
    int64_t in, out;
    int64_t rank;           /* of the adapter; 0: none */
    int64_t lora_a, lora_b; /* its rows */
} seo_linear;
/* Rows "<name>.weight" and "<name>.bias", and those of an adapter; in and out are set before. */
seo_err seo_linear_params(seo_params *params, seo_scope scope, const char *name, double std,
                          seo_linear *linear);
/* out = (R, out), inp (R, in); only the widths of the views count. */
seo_err seo_linear_forward(const seo_pass *pass, const seo_linear *linear, const seo_tensor *inp,
                           const seo_tensor *out);

/* GELU between two linear layers, done by the products on its two sides. */
typedef struct seo_gelu {
    const seo_tensor *pre, *out; /* (R, width); out = gelu(pre) */
    seo_gelu_kind kind;
} seo_gelu;
/* pre = inp W^T + b and out = gelu(pre). */
seo_err seo_linear_forward_gelu(const seo_pass *pass, const seo_linear *linear,
                                const seo_tensor *inp, const seo_gelu *gelu);

/* What the backward of a linear layer, or of a branch that ends in one, reads and leaves. */
typedef struct seo_linear_bwd {
    const seo_tensor *inp;  /* (R, in): what the forward read */
    const seo_tensor *dout; /* (R, out); of a branch: the dropout mask is applied already */
    const seo_tensor *dinp; /* = (R, in) */
    const seo_gelu *gelu;   /* opt: inp is its out, and dinp is the gradient of its pre */
    bool bias_done; /* whoever made dout has added its sum over rows to the bias' gradient */
} seo_linear_bwd;
/* Gradients of weight and bias, or of the adapter, +=; dinp = . */
seo_err seo_linear_backward(const seo_pass *pass, const seo_linear *linear,
                            const seo_linear_bwd *bwd);

#ifdef __cplusplus
}
#endif
