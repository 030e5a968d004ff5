/* The decoders: GPT-1 (Radford et al. 2018), GPT-2 (Radford et al. 2019) and GPT-3 (Brown et al.
 * 2020): learned positions, causal attention, tied head.
 *
 *   x_0 = wte[id] + wpe[t];  the blocks of train/layers/block.h: post-norm of GPT-1, else pre-norm
 *   logits = y wte^T,  y = norm_final(x_L), and of GPT-1 x_L
 *
 * GPT-3's layers 1, 3, 5, ... attend to the last `band` positions alone ("locally banded", as in
 * Child et al. 2019). With classes the label is read off one position of each sequence (GPT-1,
 * section 3.2), and the language model's loss counts lm_weight beside it. Dropout as in GPT-2:
 * embedding, both branches, attention's probabilities, and before the product of the label. Initial
 * values: N(0, 0.02); but for GPT-1 the projections into the residual stream N(0, 0.02 / sqrt(2L));
 * biases 0, norms 1; positions also 0.02, as the open reproductions have it (GPT-2's released code
 * says 0.01, the paper nothing). */
#include <math.h>
#include <stdlib.h>

#include "base/check.h"
#include "train/layers/label.h"
#include "train/layers/stack.h"
#include "train/models/family.h"

static const double k_std = 0.02;

/* Generation asks for the last position's logits mostly; a test asks for more, chunk by chunk. */
enum { GENERATE_LOGIT_ROWS = 64 };

typedef struct gpt {
    seo_model_config config;
    seo_embed embed;
    seo_stack stack;
    seo_head head;
    seo_label label; /* with classes */
    int64_t embed_segment;
} gpt;

static bool classifies(const gpt *g) {
    return g->config.classes > 0;
}

/* Whether next tokens count. */
static bool predicts(const gpt *g) {
    return seo_model_loss_shape(&g->config).rows > 0;
}

static seo_err gpt_check(const seo_model_config *m) {
    const seo_err err = seo_family_check(m);
    if (err != SEO_OK) return err;
    if (m->band < 0 || (m->band > 0 && m->family != SEO_FAMILY_GPT3)) {
        return SEO_FAIL(SEO_ERR_USAGE, "model.band: only gpt3 has banded layers");
    }
    if (m->type_vocab_size != 0 || m->next_sentence || m->picks != 0) {
        return SEO_FAIL(SEO_ERR_USAGE, "model: a decoder has no token types, masked positions or "
                                       "next-sentence head; model.family: bert has");
    }
    return SEO_OK;
}

static void gpt_close(void *state) {
    gpt *g = state;
    if (g) seo_stack_close(&g->stack);
    free(g);
}

static seo_err gpt_open(const seo_model_config *config, void **state) {
    const seo_err checked = gpt_check(config);
    if (checked != SEO_OK) return checked;
    const bool post = config->family == SEO_FAMILY_GPT1;
    const seo_stack_shape shape = {.kind = post ? SEO_BLOCK_POST_NORM : SEO_BLOCK_PRE_NORM,
                                   .blocks = config->num_layers,
                                   .width = config->hidden_size,
                                   .inner = config->ffn_hidden_size,
                                   .head_count = config->num_heads,
                                   .gelu = config->activation,
                                   .eps = (float)config->norm_eps,
                                   .causal = true};
    gpt *g = calloc(1, sizeof *g);
    if (!g) return SEO_FAIL(SEO_ERR_MEMORY, "a model");
    const seo_err err = seo_stack_open(&shape, &g->stack);
    if (err != SEO_OK) {
        gpt_close(g);
        return err;
    }
    g->config = *config;
    g->embed.width = config->hidden_size;
    g->label = (seo_label){
        .width = config->hidden_size, .classes = config->classes, .drops = config->dropout > 0};
    for (int64_t l = 1; l < config->num_layers; l += 2) {
        g->stack.blocks[l].attn.window = config->band;
    }
    *state = g;
    return SEO_OK;
}

static seo_err gpt_params(void *state, seo_params *params) {
    seo_err err = SEO_OK;
    gpt *g = state;
    const seo_model_config *m = &g->config;
    const double residual_std =
        m->family == SEO_FAMILY_GPT1 ? k_std : k_std / sqrt(2.0 * (double)m->num_layers);
    SEO_TRY(seo_embed_params(params, m->vocab_size, seo_model_positions(m), k_std, &g->embed));
    SEO_TRY(seo_stack_params(params, k_std, residual_std, &g->stack));
    if (classifies(g)) SEO_TRY(seo_label_params(params, NULL, "classify.out", k_std, &g->label));
    seo_head_tie(params, g->embed.wte, &g->head);
    SEO_TRY(seo_family_projection(params, m, k_std));
    seo_stack_find_tail(params, &g->stack);
    g->embed_segment = seo_params_segment(params, g->embed.wte);
done:
    return err;
}

static seo_err gpt_plan(void *state, seo_model_mode mode, seo_recompute recompute,
                        const seo_plan *plan) {
    seo_err err = SEO_OK;
    gpt *g = state;
    const int64_t rows = seo_plan_row_count(plan);
    const bool generate = mode == SEO_MODEL_GENERATE, train = mode == SEO_MODEL_TRAIN;
    SEO_TRY(seo_stack_plan(plan, seo_family_keep(mode, recompute), &g->stack));
    if (generate) SEO_TRY(seo_stack_plan_cache(plan, &g->stack));
    if (predicts(g) || generate) {
        SEO_TRY(seo_head_plan(plan, generate ? seo_min_i64(rows, GENERATE_LOGIT_ROWS) : rows,
                              &g->head));
    }
    if (classifies(g) && !generate) SEO_TRY(seo_label_plan(plan, train, &g->label));
    if (train) SEO_TRY(seo_stack_plan_scratch(plan, g->config.dropout > 0, &g->stack));
done:
    return err;
}

static void gpt_bound(void *state) {
    gpt *g = state;
    seo_stack_bound(&g->stack);
}

/* Up to what the heads read; both segments outside the blocks are entered. */
static seo_err trunk_forward(gpt *g, const seo_pass *pass, const seo_embed_inputs *inputs,
                             int64_t cached) {
    seo_err err = SEO_OK;
    SEO_TRY(seo_pass_enter(pass, g->embed_segment, false));
    SEO_TRY(seo_embed_forward(pass, &g->embed, inputs, seo_max_i64(cached, 0),
                              seo_stack_input(&g->stack)));
    SEO_TRY(seo_stack_forward(pass, &g->stack, cached));
done:
    return err;
}

/* Losses of both heads; with dhidden, its gradients too. */
static seo_err heads(gpt *g, const seo_pass *pass, const seo_family_io *io,
                     const seo_tensor *dhidden) {
    seo_err err = SEO_OK;
    const seo_tensor *hidden = seo_stack_output(&g->stack);
    const float weight = classifies(g) ? (float)g->config.lm_weight : 1.0f;
    const seo_head_targets targets = seo_family_targets(io, io->targets, weight * io->grad_scale);
    const seo_label_targets labels = {.rows = io->label_rows,
                                      .labels = io->labels,
                                      .losses = io->label_losses,
                                      .ignore_index = SEO_TARGET_IGNORE,
                                      .grad_scale = io->label_scale,
                                      .accumulate = predicts(g)};
    if (predicts(g) && io->targets.rank > 0) {
        SEO_TRY(seo_head_loss(pass, &g->head, hidden, &targets, dhidden));
    }
    if (classifies(g)) SEO_TRY(seo_label_forward(pass, &g->label, hidden, &io->label_rows));
    if (classifies(g) && io->labels.rank > 0) {
        SEO_TRY(seo_label_loss(pass, &g->label, &labels, dhidden));
    }
    SEO_TRY(seo_family_teach_hidden(io, pass, hidden, dhidden));
done:
    return err;
}

static seo_err leave_tail(const gpt *g, const seo_pass *pass) {
    return g->stack.tail_segment < 0 ? SEO_OK : seo_pass_leave(pass, g->stack.tail_segment, false);
}

static seo_err gpt_forward(void *state, const seo_pass *pass, const seo_family_io *io) {
    seo_err err = SEO_OK;
    gpt *g = state;
    SEO_TRY(trunk_forward(g, pass, &io->inputs, -1));
    SEO_TRY(heads(g, pass, io, NULL));
    SEO_TRY(leave_tail(g, pass));
    SEO_TRY(seo_pass_leave(pass, g->embed_segment, false));
done:
    return err;
}

static seo_err gpt_forward_backward(void *state, const seo_pass *pass, const seo_family_io *io) {
    seo_err err = SEO_OK;
    gpt *g = state;
    SEO_TRY(trunk_forward(g, pass, &io->inputs, -1));
    SEO_TRY(heads(g, pass, io, seo_stack_doutput(&g->stack)));
    SEO_TRY(seo_stack_backward(pass, &g->stack));
    SEO_TRY(seo_embed_backward(pass, &g->embed, &io->inputs, seo_stack_dinput(&g->stack),
                               seo_stack_spare(&g->stack)));
    SEO_TRY(seo_pass_leave(pass, g->embed_segment, true));
done:
    return err;
}

static seo_err gpt_forward_cached(void *state, const seo_pass *pass, const seo_tensor *ids,
                                  int64_t cached) {
    return trunk_forward(state, pass, &(seo_embed_inputs){.ids = *ids}, cached);
}

static seo_err gpt_logits(void *state, const seo_pass *pass, int64_t first, int64_t count,
                          seo_tensor *logits) {
    gpt *g = state;
    SEO_ASSERT(g->head.logits.rank > 0);
    const int64_t rows = seo_min_i64(count, g->head.chunk_rows);
    *logits = seo_tensor_2d(g->head.logits.data, g->head.logits.dtype, rows, g->head.padded);
    return seo_head_logits(pass, &g->head, seo_stack_output(&g->stack), first, rows);
}

static seo_tensor gpt_label_logits(const void *state) {
    const gpt *g = state;
    return g->label.logits;
}

static seo_tensor gpt_hidden(const void *state) {
    const gpt *g = state;
    return *seo_stack_output(&g->stack);
}

#define GPT_OPS(ops_name, ops_family)                                                              \
    {                                                                                              \
        .name = (ops_name), .family = (ops_family), .check = gpt_check, .open = gpt_open,          \
        .close = gpt_close, .params = gpt_params, .plan = gpt_plan, .bound = gpt_bound,            \
        .forward = gpt_forward, .forward_backward = gpt_forward_backward,                          \
        .forward_cached = gpt_forward_cached, .logits = gpt_logits,                                \
        .label_logits = gpt_label_logits, .hidden = gpt_hidden                                     \
    }

const seo_family_ops seo_family_gpt1 = GPT_OPS("gpt1", SEO_FAMILY_GPT1);
const seo_family_ops seo_family_gpt2 = GPT_OPS("gpt2", SEO_FAMILY_GPT2);
const seo_family_ops seo_family_gpt3 = GPT_OPS("gpt3", SEO_FAMILY_GPT3);
