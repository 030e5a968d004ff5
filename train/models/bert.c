/* The encoders: BERT (Devlin et al. 2019), RoBERTa (Liu et al. 2019) and DistilBERT (Sanh et al.
 * 2019): post-norm blocks that see both sides, trained on masked tokens.
 *
 *   x_0 = norm_embed(wte[id] + wpe[t] + wtt[type]);  the blocks of train/layers/block.h
 *   masked tokens: the head of train/layers/masked.h at the picked positions, tied to wte
 *   label: off the first position, through a tanh layer (the pooler of BERT)
 *
 * BERT has token types and, while it is pretrained with it, the next-sentence label. RoBERTa's
 * positions begin at row 2 of its table, as in fairseq, where the row of the padding's number, 1,
 * and those before it stand for no position. With classes the head of the masked tokens is left out
 * and the label is the class; dropout is then where the released models have it: before the last
 * product, of RoBERTa before the tanh layer as well. Elsewhere: embedding, both branches,
 * attention's probabilities. Initial values: N(0, 0.02), biases 0, norms 1; BERT's own code cuts
 * the normal numbers off at two standard deviations, which is not done here, as it is not in the
 * later ones. */
#include <stdlib.h>

#include "base/check.h"
#include "train/layers/label.h"
#include "train/layers/masked.h"
#include "train/layers/stack.h"
#include "train/models/family.h"

static const double k_std = 0.02;

enum { ROBERTA_FIRST_POSITION = 2 };

typedef struct bert {
    seo_model_config config;
    seo_embed embed;
    seo_stack stack;
    seo_masked masked;
    seo_label label;
    int64_t embed_segment;
} bert;

static bool is(const bert *b, seo_family family) {
    return b->config.family == family;
}

static bool classifies(const bert *b) {
    return b->config.classes > 0;
}

/* Whether a pass has masked tokens to predict. */
static bool predicts(const bert *b) {
    return b->config.picks > 0;
}

static bool labels(const bert *b) {
    return classifies(b) || b->config.next_sentence;
}

static seo_err bert_check(const seo_model_config *m) {
    const seo_err err = seo_family_check(m);
    if (err != SEO_OK) return err;
    if (m->band != 0) {
        return SEO_FAIL(SEO_ERR_USAGE, "model.band: only gpt3 has banded layers");
    }
    if (m->type_vocab_size < 0 || m->type_vocab_size > INT32_MAX) {
        return SEO_FAIL(SEO_ERR_USAGE, "model.type_vocab_size must be 0 (no token types) or more");
    }
    if (m->next_sentence && m->family != SEO_FAMILY_BERT) {
        return SEO_FAIL(SEO_ERR_USAGE, "model.next_sentence: only bert has that head");
    }
    if (m->picks < 0 || m->picks > m->seq_len || (m->picks > 0 && m->classes > 0)) {
        return SEO_FAIL(SEO_ERR_USAGE, "model: masked positions must be between 0 and seq_len, and "
                                       "are not predicted beside a class");
    }
    return SEO_OK;
}

static void bert_close(void *state) {
    bert *b = state;
    if (b) seo_stack_close(&b->stack);
    free(b);
}

static void shape_layers(bert *b) {
    const seo_model_config *m = &b->config;
    const int64_t c = m->hidden_size;
    const float eps = (float)m->norm_eps;
    const bool roberta = is(b, SEO_FAMILY_ROBERTA), dropout = m->dropout > 0;
    b->embed = (seo_embed){.width = c,
                           .first_position = roberta ? ROBERTA_FIRST_POSITION : 0,
                           .type_count = m->type_vocab_size,
                           .normed = true,
                           .norm = {.width = c, .eps = eps}};
    b->masked = (seo_masked){
        .width = c, .picks = m->picks, .gelu = m->activation, .norm = {.width = c, .eps = eps}};
    b->label = (seo_label){.width = c,
                           .classes = classifies(b) ? m->classes : 2,
                           .drops_input = classifies(b) && dropout && roberta,
                           .drops = classifies(b) && dropout};
}

static seo_err bert_open(const seo_model_config *config, void **state) {
    const seo_err checked = bert_check(config);
    if (checked != SEO_OK) return checked;
    const seo_stack_shape shape = {.kind = SEO_BLOCK_POST_NORM,
                                   .blocks = config->num_layers,
                                   .width = config->hidden_size,
                                   .inner = config->ffn_hidden_size,
                                   .head_count = config->num_heads,
                                   .gelu = config->activation,
                                   .eps = (float)config->norm_eps};
    bert *b = calloc(1, sizeof *b);
    if (!b) return SEO_FAIL(SEO_ERR_MEMORY, "a model");
    const seo_err err = seo_stack_open(&shape, &b->stack);
    if (err != SEO_OK) {
        bert_close(b);
        return err;
    }
    b->config = *config;
    shape_layers(b);
    *state = b;
    return SEO_OK;
}

static seo_err bert_params(void *state, seo_params *params) {
    seo_err err = SEO_OK;
    bert *b = state;
    const seo_model_config *m = &b->config;
    const char *dense = is(b, SEO_FAMILY_BERT) ? "pooler" : "classify.dense";
    SEO_TRY(seo_embed_params(params, m->vocab_size,
                             seo_model_positions(m) + b->embed.first_position, k_std, &b->embed));
    SEO_TRY(seo_stack_params(params, k_std, k_std, &b->stack));
    if (!classifies(b)) SEO_TRY(seo_masked_params(params, b->embed.wte, k_std, &b->masked));
    if (labels(b)) {
        SEO_TRY(seo_label_params(params, dense, classifies(b) ? "classify.out" : "next", k_std,
                                 &b->label));
    }
    SEO_TRY(seo_family_projection(params, m, k_std));
    seo_stack_find_tail(params, &b->stack);
    b->embed_segment = seo_params_segment(params, b->embed.wte);
done:
    return err;
}

static seo_err bert_plan(void *state, seo_model_mode mode, seo_recompute recompute,
                         const seo_plan *plan) {
    seo_err err = SEO_OK;
    bert *b = state;
    const bool train = mode == SEO_MODEL_TRAIN;
    SEO_TRY(seo_embed_plan(plan, &b->embed));
    SEO_TRY(seo_stack_plan(plan, seo_family_keep(mode, recompute), &b->stack));
    if (predicts(b)) SEO_TRY(seo_masked_plan(plan, train, &b->masked));
    if (labels(b)) SEO_TRY(seo_label_plan(plan, train, &b->label));
    if (train) SEO_TRY(seo_stack_plan_scratch(plan, b->config.dropout > 0, &b->stack));
done:
    return err;
}

static void bert_bound(void *state) {
    bert *b = state;
    seo_stack_bound(&b->stack);
    seo_embed_bound(&b->embed, seo_stack_input(&b->stack));
}

/* Up to what the heads read; both segments outside the blocks are entered. */
static seo_err trunk_forward(bert *b, const seo_pass *pass, const seo_family_io *io) {
    seo_err err = SEO_OK;
    SEO_TRY(seo_pass_enter(pass, b->embed_segment, false));
    SEO_TRY(seo_embed_forward(pass, &b->embed, &io->inputs, 0, seo_stack_input(&b->stack)));
    SEO_TRY(seo_stack_forward(pass, &b->stack, -1));
done:
    return err;
}

/* Losses of both heads; with dhidden, its gradients too. */
static seo_err heads(bert *b, const seo_pass *pass, const seo_family_io *io,
                     const seo_tensor *dhidden) {
    seo_err err = SEO_OK;
    const seo_tensor *hidden = seo_stack_output(&b->stack);
    const seo_head_targets targets = seo_family_targets(io, io->pick_targets, io->grad_scale);
    const seo_label_targets label = {.rows = io->label_rows,
                                     .labels = io->labels,
                                     .losses = io->label_losses,
                                     .ignore_index = SEO_TARGET_IGNORE,
                                     .grad_scale = io->label_scale,
                                     .accumulate = predicts(b)};
    if (predicts(b)) SEO_TRY(seo_masked_forward(pass, &b->masked, hidden, &io->pick_rows));
    if (predicts(b) && io->pick_targets.rank > 0) {
        SEO_TRY(seo_masked_loss(pass, &b->masked, &io->pick_rows, &targets, dhidden));
    }
    if (labels(b)) SEO_TRY(seo_label_forward(pass, &b->label, hidden, &io->label_rows));
    if (labels(b) && io->labels.rank > 0) {
        SEO_TRY(seo_label_loss(pass, &b->label, &label, dhidden));
    }
    SEO_TRY(seo_family_teach_hidden(io, pass, hidden, dhidden));
done:
    return err;
}

static seo_err leave_tail(const bert *b, const seo_pass *pass) {
    return b->stack.tail_segment < 0 ? SEO_OK : seo_pass_leave(pass, b->stack.tail_segment, false);
}

static seo_err bert_forward(void *state, const seo_pass *pass, const seo_family_io *io) {
    seo_err err = SEO_OK;
    bert *b = state;
    SEO_TRY(trunk_forward(b, pass, io));
    SEO_TRY(heads(b, pass, io, NULL));
    SEO_TRY(leave_tail(b, pass));
    SEO_TRY(seo_pass_leave(pass, b->embed_segment, false));
done:
    return err;
}

static seo_err bert_forward_backward(void *state, const seo_pass *pass, const seo_family_io *io) {
    seo_err err = SEO_OK;
    bert *b = state;
    SEO_TRY(trunk_forward(b, pass, io));
    SEO_TRY(heads(b, pass, io, seo_stack_doutput(&b->stack)));
    SEO_TRY(seo_stack_backward(pass, &b->stack));
    SEO_TRY(seo_embed_backward(pass, &b->embed, &io->inputs, seo_stack_dinput(&b->stack),
                               seo_stack_spare(&b->stack)));
    SEO_TRY(seo_pass_leave(pass, b->embed_segment, true));
done:
    return err;
}

static seo_err bert_logits(void *state, const seo_pass *pass, int64_t first, int64_t count,
                           seo_tensor *logits) {
    bert *b = state;
    const seo_head *head = &b->masked.head;
    SEO_ASSERT(predicts(b));
    const int64_t rows = seo_min_i64(count, head->chunk_rows);
    *logits = seo_tensor_2d(head->logits.data, head->logits.dtype, rows, head->padded);
    return seo_masked_logits(pass, &b->masked, first, rows);
}

static seo_tensor bert_label_logits(const void *state) {
    const bert *b = state;
    return b->label.logits;
}

static seo_tensor bert_hidden(const void *state) {
    const bert *b = state;
    return *seo_stack_output(&b->stack);
}

#define BERT_OPS(ops_name, ops_family)                                                             \
    {                                                                                              \
        .name = (ops_name), .family = (ops_family), .check = bert_check, .open = bert_open,        \
        .close = bert_close, .params = bert_params, .plan = bert_plan, .bound = bert_bound,        \
        .forward = bert_forward, .forward_backward = bert_forward_backward, .logits = bert_logits, \
        .label_logits = bert_label_logits, .hidden = bert_hidden                                   \
    }

const seo_family_ops seo_family_bert = BERT_OPS("bert", SEO_FAMILY_BERT);
const seo_family_ops seo_family_roberta = BERT_OPS("roberta", SEO_FAMILY_ROBERTA);
const seo_family_ops seo_family_distilbert = BERT_OPS("distilbert", SEO_FAMILY_DISTILBERT);
