/* GPT-2 (Radford et al. 2019) and GPT-3 (Brown et al. 2020; every layer dense here): pre-norm
 * blocks, learned positions, tied head.
 *
 *   x_0 = wte[id] + wpe[t]
 *   mid_l = x_l + attn(norm1(x_l))        x_{l+1} = mid_l + mlp(norm2(mid_l))
 *   logits = norm_final(x_L) wte^T
 *
 * Each residual add is done by the norm that follows it. Dropout (embedding, both branches) as in
 * GPT-2. Initial values: N(0, 0.02), the projections into the residual stream N(0, 0.02 /
 * sqrt(2L)), biases 0, norms 1; positions also 0.02, as the open reproductions have it (the
 * released code says 0.01, the paper nothing). */
#include <math.h>
#include <stdlib.h>

#include "base/check.h"
#include "train/layers/attn.h"
#include "train/layers/embed.h"
#include "train/layers/head.h"
#include "train/layers/mlp.h"
#include "train/layers/norm.h"
#include "train/models/family.h"

static const double k_std = 0.02;

/* Generation asks for the last position's logits mostly; a test asks for more, chunk by chunk. */
enum { GENERATE_LOGIT_ROWS = 64 };

/* What a block keeps of its activations from forward to backward; the rest is in memory that all
 * blocks use in turn, and made again where it is missed. Of each position, in numbers of the
 * storage type for a feed-forward part of 4 C, and two f32 for each norm but with KEEP_INPUT:
 *   KEEP_ALL     16 C  x, norm1, qkv (3 C), mix, mid, norm2, fc (4 C), gelu (4 C)
 *   KEEP_COSTLY  10 C  without norm1, norm2 and gelu, which cost no product to make
 *   KEEP_INPUT      C  x alone
 *   KEEP_NOTHING    0  where there is no backward */
typedef enum gpt_keep { KEEP_NOTHING, KEEP_INPUT, KEEP_COSTLY, KEEP_ALL } gpt_keep;

typedef struct gpt_block {
    seo_norm norm1, norm2;
    seo_attn attn;
    seo_mlp mlp;
    seo_tensor x, mid; /* the residual stream before each norm */
    int64_t segment;   /* of the parameter table */
} gpt_block;

/* Gradients of activations, shared by all blocks. */
typedef struct gpt_scratch {
    seo_tensor dx;      /* of the residual stream */
    seo_tensor dbranch; /* of a norm's output */
    seo_tensor dmasked; /* dx under a dropout mask */
    seo_tensor dinner;
    seo_attn_scratch attn;
} gpt_scratch;

typedef struct gpt {
    seo_model_config config;
    seo_embed embed;
    gpt_block *blocks;
    seo_norm norm_final;
    seo_head head;
    seo_tensor branch, x_final; /* a branch's output on its way to the next norm */
    gpt_scratch scratch;
    gpt_keep keep;
    int64_t embed_segment, final_segment;
} gpt;

static seo_err gpt_check(const seo_model_config *m) {
    const int64_t sizes[] = {m->num_layers,      m->num_heads, m->hidden_size,
                             m->ffn_hidden_size, m->seq_len,   m->vocab_size};
    for (int64_t i = 0; i < SEO_COUNT_OF(sizes); i++) {
        if (sizes[i] < 1 || sizes[i] > INT32_MAX) {
            return SEO_FAIL(SEO_ERR_USAGE, "model: every size must be between 1 and 2^31 - 1");
        }
    }
    if (m->hidden_size % m->num_heads != 0) {
        return SEO_FAIL(SEO_ERR_USAGE, "model: hidden_size %lld is not divisible by num_heads %lld",
                        (long long)m->hidden_size, (long long)m->num_heads);
    }
    if (!(m->dropout >= 0 && m->dropout < 1) || !(m->norm_eps > 0)) {
        return SEO_FAIL(SEO_ERR_USAGE, "model: dropout must be in [0, 1) and norm_eps above 0");
    }
    return SEO_OK;
}

static void gpt_close(void *state) {
    gpt *g = state;
    if (g) free(g->blocks);
    free(g);
}

static seo_err gpt_open(const seo_model_config *config, void **state) {
    const seo_err err = gpt_check(config);
    if (err != SEO_OK) return err;
    gpt *g = calloc(1, sizeof *g);
    if (g) g->blocks = calloc((size_t)config->num_layers, sizeof *g->blocks);
    if (!g || !g->blocks) {
        gpt_close(g);
        return SEO_FAIL(SEO_ERR_MEMORY, "a model of %lld layers", (long long)config->num_layers);
    }
    g->config = *config;
    *state = g;
    const int64_t c = config->hidden_size;
    const float eps = (float)config->norm_eps;
    g->embed.width = c;
    for (int64_t l = 0; l < config->num_layers; l++) {
        const uint32_t site = 1 + 2 * (uint32_t)l;
        g->blocks[l] =
            (gpt_block){.norm1 = {.width = c, .eps = eps},
                        .norm2 = {.width = c, .eps = eps},
                        .attn = {.width = c, .head_count = config->num_heads, .site = site},
                        .mlp = {.width = c,
                                .inner = config->ffn_hidden_size,
                                .gelu = config->activation,
                                .site = site + 1}};
    }
    g->norm_final = (seo_norm){.width = c, .eps = eps};
    return SEO_OK;
}

static seo_err gpt_params(void *state, seo_params *params) {
    seo_err err = SEO_OK;
    gpt *g = state;
    const seo_model_config *m = &g->config;
    const double residual_std = k_std / sqrt(2.0 * (double)m->num_layers);
    SEO_TRY(seo_embed_params(params, m->vocab_size, m->seq_len, k_std, &g->embed));
    for (int64_t l = 0; l < m->num_layers; l++) {
        gpt_block *b = &g->blocks[l];
        const seo_scope scope = {.block = l};
        SEO_TRY(seo_norm_params(params, scope, "norm1", &b->norm1));
        SEO_TRY(seo_attn_params(params, scope, k_std, residual_std, &b->attn));
        SEO_TRY(seo_norm_params(params, scope, "norm2", &b->norm2));
        SEO_TRY(seo_mlp_params(params, scope, k_std, residual_std, &b->mlp));
        b->segment = seo_params_segment(params, b->norm1.weight);
    }
    SEO_TRY(seo_norm_params(params, (seo_scope){.block = SEO_PARAM_NO_BLOCK}, "norm_final",
                            &g->norm_final));
    seo_head_tie(params, g->embed.wte, &g->head);
    g->embed_segment = seo_params_segment(params, g->embed.wte);
    g->final_segment = seo_params_segment(params, g->norm_final.weight);
done:
    return err;
}

static seo_err plan_scratch(gpt *g, const seo_plan *plan) {
    seo_err err = SEO_OK;
    const int64_t c = g->config.hidden_size;
    gpt_scratch *s = &g->scratch;
    SEO_TRY(seo_plan_rows(plan, "dx", c, &s->dx));
    SEO_TRY(seo_plan_rows(plan, "dbranch", c, &s->dbranch));
    if (g->config.dropout > 0) SEO_TRY(seo_plan_rows(plan, "dmasked", c, &s->dmasked));
    SEO_TRY(seo_plan_rows(plan, "dinner", g->config.ffn_hidden_size, &s->dinner));
    SEO_TRY(seo_attn_plan_scratch(plan, &g->blocks[0].attn, &s->attn));
done:
    return err;
}

static seo_err plan_block(gpt_block *b, const seo_plan *plan, int64_t width, gpt_keep keep) {
    seo_err err = SEO_OK;
    if (keep >= KEEP_INPUT) SEO_TRY(seo_plan_rows(plan, "x", width, &b->x));
    if (keep >= KEEP_COSTLY) {
        SEO_TRY(seo_norm_plan_statistics(plan, &b->norm1));
        SEO_TRY(seo_attn_plan(plan, &b->attn));
        SEO_TRY(seo_plan_rows(plan, "mid", width, &b->mid));
        SEO_TRY(seo_norm_plan_statistics(plan, &b->norm2));
        SEO_TRY(seo_mlp_plan_fc(plan, &b->mlp));
    }
    if (keep >= KEEP_ALL) {
        SEO_TRY(seo_norm_plan_out(plan, &b->norm1));
        SEO_TRY(seo_norm_plan_out(plan, &b->norm2));
        SEO_TRY(seo_mlp_plan_gelu(plan, &b->mlp));
    }
done:
    return err;
}

static gpt_keep keep_of(seo_model_mode mode, seo_recompute recompute) {
    if (mode != SEO_MODEL_TRAIN) return KEEP_NOTHING;
    if (recompute == SEO_RECOMPUTE_FULL) return KEEP_INPUT;
    return recompute == SEO_RECOMPUTE_SELECTIVE ? KEEP_COSTLY : KEEP_ALL;
}

/* The first block's memory is what the others share. */
static seo_err gpt_plan(void *state, seo_model_mode mode, seo_recompute recompute,
                        const seo_plan *plan) {
    seo_err err = SEO_OK;
    gpt *g = state;
    const int64_t rows = seo_plan_row_count(plan), c = g->config.hidden_size;
    const bool generate = mode == SEO_MODEL_GENERATE;
    g->keep = keep_of(mode, recompute);
    for (int64_t l = 0; l < g->config.num_layers; l++) {
        SEO_TRY(plan_block(&g->blocks[l], plan, c, l == 0 ? KEEP_ALL : g->keep));
        if (generate) SEO_TRY(seo_attn_plan_cache(plan, &g->blocks[l].attn));
    }
    SEO_TRY(seo_plan_rows(plan, "branch", c, &g->branch));
    SEO_TRY(seo_plan_rows(plan, "x_final", c, &g->x_final));
    SEO_TRY(seo_norm_plan_out(plan, &g->norm_final));
    SEO_TRY(seo_norm_plan_statistics(plan, &g->norm_final));
    SEO_TRY(
        seo_head_plan(plan, generate ? seo_min_i64(rows, GENERATE_LOGIT_ROWS) : rows, &g->head));
    if (mode == SEO_MODEL_TRAIN) SEO_TRY(plan_scratch(g, plan));
done:
    return err;
}

static void share_statistics(seo_norm *norm, const seo_norm *from) {
    norm->mean = from->mean;
    norm->rstd = from->rstd;
}

static void share_block(gpt_block *b, const gpt_block *first, gpt_keep keep) {
    if (keep < KEEP_ALL) {
        b->norm1.out = first->norm1.out;
        b->norm2.out = first->norm2.out;
        b->mlp.gelu_out = first->mlp.gelu_out;
    }
    if (keep < KEEP_COSTLY) {
        share_statistics(&b->norm1, &first->norm1);
        share_statistics(&b->norm2, &first->norm2);
        b->attn.qkv_out = first->attn.qkv_out;
        b->attn.mix = first->attn.mix;
        b->attn.lse = first->attn.lse;
        b->mid = first->mid;
        b->mlp.fc_out = first->mlp.fc_out;
    }
    if (keep < KEEP_INPUT) b->x = first->x;
}

static void gpt_bound(void *state) {
    gpt *g = state;
    for (int64_t l = 1; l < g->config.num_layers; l++) {
        share_block(&g->blocks[l], &g->blocks[0], g->keep);
    }
}

/* cached < 0: whole sequences; else positions that follow `cached` earlier ones. */
static seo_err block_forward(gpt *g, const seo_pass *pass, int64_t l, int64_t cached) {
    seo_err err = SEO_OK;
    gpt_block *b = &g->blocks[l];
    SEO_TRY(seo_pass_enter(pass, b->segment, false));
    if (l == 0) {
        SEO_TRY(seo_norm_forward(pass, &b->norm1, &b->x, NULL, NULL));
    } else {
        SEO_TRY(seo_norm_forward(pass, &b->norm1, &g->blocks[l - 1].mid, &g->branch, &b->x));
    }
    if (cached < 0) {
        SEO_TRY(seo_attn_forward(pass, &b->attn, &b->norm1.out, &g->branch));
    } else {
        SEO_TRY(seo_attn_forward_cached(pass, &b->attn, &b->norm1.out, cached, &g->branch));
    }
    SEO_TRY(seo_norm_forward(pass, &b->norm2, &b->x, &g->branch, &b->mid));
    SEO_TRY(seo_mlp_forward(pass, &b->mlp, &b->norm2.out, &g->branch));
    SEO_TRY(seo_pass_leave(pass, b->segment, false));
done:
    return err;
}

/* Everything up to norm_final; both segments outside the blocks are entered. */
static seo_err trunk_forward(gpt *g, const seo_pass *pass, const seo_tensor *ids, int64_t cached) {
    seo_err err = SEO_OK;
    SEO_TRY(seo_pass_enter(pass, g->embed_segment, false));
    SEO_TRY(seo_embed_forward(pass, &g->embed, ids, seo_max_i64(cached, 0), &g->blocks[0].x));
    const int64_t layers = g->config.num_layers;
    for (int64_t l = 0; l < layers; l++) SEO_TRY(block_forward(g, pass, l, cached));
    SEO_TRY(seo_pass_enter(pass, g->final_segment, false));
    SEO_TRY(seo_norm_forward(pass, &g->norm_final, &g->blocks[layers - 1].mid, &g->branch,
                             &g->x_final));
done:
    return err;
}

static seo_head_targets targets_of(const seo_family_io *io) {
    return (seo_head_targets){.ids = io->targets,
                              .losses = io->losses,
                              .ignore_index = SEO_TARGET_IGNORE,
                              .grad_scale = io->grad_scale};
}

static seo_err gpt_forward(void *state, const seo_pass *pass, const seo_family_io *io) {
    seo_err err = SEO_OK;
    gpt *g = state;
    const seo_head_targets targets = targets_of(io);
    SEO_TRY(trunk_forward(g, pass, &io->ids, -1));
    SEO_TRY(seo_pass_leave(pass, g->final_segment, false));
    SEO_TRY(seo_head_loss(pass, &g->head, &g->norm_final.out, &targets, NULL));
    SEO_TRY(seo_pass_leave(pass, g->embed_segment, false));
done:
    return err;
}

/* The gradient of a branch's output: dx under the branch's dropout mask. */
static seo_err mask_gradient(gpt *g, const seo_pass *pass, uint32_t site, const seo_tensor **dout) {
    gpt_scratch *s = &g->scratch;
    *dout = &s->dx;
    if (pass->dropout <= 0) return SEO_OK;
    *dout = &s->dmasked;
    const int64_t c = g->config.hidden_size;
    return seo_pass_dropout(pass, site, seo_view_rows(pass, &s->dmasked, c),
                            seo_view_rows(pass, &s->dx, c));
}

/* The gradient of a branch's last bias is the sum over rows of the gradient of the branch's output.
 * Without a mask that is dx, and the norm that makes dx sums it in passing: the place for the sum,
 * or NULL where the branch has to add up its masked gradient itself, or nobody reads it. */
static const seo_tensor *bias_sum(const seo_pass *pass, const seo_linear *last) {
    const bool summed = pass->dropout <= 0 && seo_pass_trains(pass, last->bias);
    return summed ? &pass->grads[last->bias] : NULL;
}

/* Makes what the block did not keep: the same operators on the same numbers give the same bits. The
 * last block's activations are still there from the forward pass. */
static seo_err block_again(gpt *g, const seo_pass *pass, const gpt_block *b) {
    seo_err err = SEO_OK;
    if (g->keep == KEEP_ALL || b == &g->blocks[g->config.num_layers - 1]) return SEO_OK;
    SEO_TRY(seo_norm_forward(pass, &b->norm1, &b->x, NULL, NULL));
    if (g->keep == KEEP_COSTLY) {
        SEO_TRY(seo_norm_forward(pass, &b->norm2, &b->mid, NULL, NULL));
        SEO_TRY(seo_mlp_gelu_again(pass, &b->mlp));
    } else {
        SEO_TRY(seo_attn_forward(pass, &b->attn, &b->norm1.out, &g->branch));
        SEO_TRY(seo_norm_forward(pass, &b->norm2, &b->x, &g->branch, &b->mid));
        SEO_TRY(seo_mlp_again(pass, &b->mlp, &b->norm2.out));
    }
done:
    return err;
}

/* `before`: the block whose output this one's x is; NULL for the first. The norm that adds up the
 * gradient of its last bias makes that block's part begin here: it is entered before this one is
 * left. */
static seo_err block_backward(gpt *g, const seo_pass *pass, const gpt_block *b,
                              const gpt_block *before) {
    seo_err err = SEO_OK;
    const gpt_scratch *s = &g->scratch;
    seo_linear_bwd branch = {.dinp = &s->dbranch, .bias_done = pass->dropout <= 0};
    seo_norm_bwd norm = {.dout = &s->dbranch, .dx = &s->dx, .accumulate = true};
    SEO_TRY(block_again(g, pass, b));
    SEO_TRY(mask_gradient(g, pass, b->mlp.site, &branch.dout));
    branch.inp = &b->norm2.out;
    SEO_TRY(seo_mlp_backward(pass, &b->mlp, &s->dinner, &branch));
    norm.x = &b->mid;
    norm.dx_sum = bias_sum(pass, &b->attn.proj);
    SEO_TRY(seo_norm_backward(pass, &b->norm2, &norm));
    SEO_TRY(mask_gradient(g, pass, b->attn.site, &branch.dout));
    branch.inp = &b->norm1.out;
    SEO_TRY(seo_attn_backward(pass, &b->attn, &s->attn, &branch));
    if (before) SEO_TRY(seo_pass_enter(pass, before->segment, true));
    norm.x = &b->x;
    norm.dx_sum = before ? bias_sum(pass, &before->mlp.proj) : NULL;
    SEO_TRY(seo_norm_backward(pass, &b->norm1, &norm));
    SEO_TRY(seo_pass_leave(pass, b->segment, true));
done:
    return err;
}

/* The last norm's, and the blocks' from last to first. */
static seo_err trunk_backward(gpt *g, const seo_pass *pass) {
    seo_err err = SEO_OK;
    const gpt_scratch *s = &g->scratch;
    const gpt_block *last = &g->blocks[g->config.num_layers - 1];
    SEO_TRY(seo_pass_enter(pass, last->segment, true));
    SEO_TRY(seo_norm_backward(pass, &g->norm_final,
                              &(seo_norm_bwd){.x = &g->x_final,
                                              .dout = &s->dbranch,
                                              .dx = &s->dx,
                                              .dx_sum = bias_sum(pass, &last->mlp.proj)}));
    SEO_TRY(seo_pass_leave(pass, g->final_segment, true));
    for (int64_t l = g->config.num_layers - 1; l >= 0; l--) {
        const gpt_block *before = l > 0 ? &g->blocks[l - 1] : NULL;
        SEO_TRY(block_backward(g, pass, &g->blocks[l], before));
    }
done:
    return err;
}

static seo_err gpt_forward_backward(void *state, const seo_pass *pass, const seo_family_io *io) {
    seo_err err = SEO_OK;
    gpt *g = state;
    const gpt_scratch *s = &g->scratch;
    const seo_head_targets targets = targets_of(io);
    SEO_TRY(trunk_forward(g, pass, &io->ids, -1));
    SEO_TRY(seo_head_loss(pass, &g->head, &g->norm_final.out, &targets, &s->dbranch));
    SEO_TRY(trunk_backward(g, pass));
    SEO_TRY(seo_embed_backward(pass, &g->embed, &io->ids, &io->groups, &s->dx));
    SEO_TRY(seo_pass_leave(pass, g->embed_segment, true));
done:
    return err;
}

static seo_err gpt_forward_cached(void *state, const seo_pass *pass, const seo_tensor *ids,
                                  int64_t cached) {
    return trunk_forward(state, pass, ids, cached);
}

static seo_err gpt_logits(void *state, const seo_pass *pass, int64_t first, int64_t count,
                          seo_tensor *logits) {
    gpt *g = state;
    const int64_t rows = seo_min_i64(count, g->head.chunk_rows);
    *logits = seo_tensor_2d(g->head.logits.data, g->head.logits.dtype, rows, g->head.padded);
    return seo_head_logits(pass, &g->head, &g->norm_final.out, first, rows);
}

#define GPT_OPS(ops_name, ops_family)                                                              \
    {                                                                                              \
        .name = (ops_name), .family = (ops_family), .check = gpt_check, .open = gpt_open,          \
        .close = gpt_close, .params = gpt_params, .plan = gpt_plan, .bound = gpt_bound,            \
        .forward = gpt_forward, .forward_backward = gpt_forward_backward,                          \
        .forward_cached = gpt_forward_cached, .logits = gpt_logits                                 \
    }

const seo_family_ops seo_family_gpt2 = GPT_OPS("gpt2", SEO_FAMILY_GPT2);
const seo_family_ops seo_family_gpt3 = GPT_OPS("gpt3", SEO_FAMILY_GPT3);
