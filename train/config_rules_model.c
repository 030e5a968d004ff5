/* The rules of the model and of what is learned from text: what each family decides, and which keys
 * it does not have.
 *
 * A key of another family is a mistake where its value is not the default: the resolved copy names
 * all keys, and has to read back. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "base/check.h"
#include "train/config_rules.h"

/* GPT-3's layers without a width in the paper; see model.band. */
enum { BAND = 256 };

void seo_config_rule_ffn(seo_rules *rules) {
    seo_model_config *model = &rules->config->model;
    if (!seo_key_given(rules, "model.ffn_hidden_size")) {
        model->ffn_hidden_size = 4 * model->hidden_size;
    }
    seo_key_derive(rules, "model.ffn_hidden_size");
}

void seo_config_rule_heads(seo_rules *rules) {
    const seo_model_config *model = &rules->config->model;
    const int64_t width = model->hidden_size, heads = model->num_heads;
    if (width % heads == 0) return;
    int64_t fewer = 0, more = 0;
    seo_key_near_divisors(width, heads, &fewer, &more);
    char widths[2 * SEO_SHORT_TEXT], counts[2 * SEO_SHORT_TEXT];
    seo_key_near_multiples(widths, width, heads);
    if (more > 0 && fewer > 0) {
        snprintf(counts, sizeof counts, "%" PRId64 " and %" PRId64, fewer, more);
    } else {
        snprintf(counts, sizeof counts, "%" PRId64, fewer > 0 ? fewer : more);
    }
    seo_key_complain(rules, seo_key_blame(rules, "model.num_heads", "model.hidden_size"),
                     "model.num_heads %" PRId64 " does not divide model.hidden_size %" PRId64
                     "; the nearest that do: %s heads; the nearest widths: %s",
                     heads, width, counts, widths);
}

/* A task on the command line replaces what the file, a recipe or a source's own config.yaml, says
 * of learning from masked text. */
static void forget_masks(seo_rules *rules) {
    static const char *const paths[] = {"model.next_sentence", "data.max_predictions"};
    if (rules->config->task.kind == SEO_TASK_PRETRAIN || !seo_key_from_set(rules, "task.kind")) {
        return;
    }
    for (int64_t i = 0; i < SEO_COUNT_OF(paths); i++) {
        const bool given = seo_key_given(rules, paths[i]);
        if (given && !seo_key_from_set(rules, paths[i])) seo_key_forget(rules, paths[i]);
    }
}

void seo_config_rule_family(seo_rules *rules) {
    seo_model_config *model = &rules->config->model;
    const seo_family family = model->family;
    const bool encoder = seo_family_is_encoder(family), bert = family == SEO_FAMILY_BERT;
    forget_masks(rules);
    if (!seo_key_given(rules, "model.activation")) {
        model->activation = encoder ? SEO_GELU_ERF : SEO_GELU_TANH;
    }
    if (!seo_key_given(rules, "model.norm_eps")) {
        model->norm_eps = bert || family == SEO_FAMILY_DISTILBERT ? 1e-12 : 1e-5;
    }
    if (!seo_key_given(rules, "model.band")) {
        const bool banded = family == SEO_FAMILY_GPT3 && !rules->resolved;
        model->band = banded ? seo_min_i64(BAND, model->seq_len) : 0;
    }
    if (!seo_key_given(rules, "model.type_vocab_size")) {
        model->type_vocab_size = bert ? 2 : family == SEO_FAMILY_ROBERTA ? 1 : 0;
    }
    if (!seo_key_given(rules, "model.next_sentence")) {
        model->next_sentence = bert && rules->config->task.kind == SEO_TASK_PRETRAIN;
    }
    static const char *const paths[] = {"model.activation", "model.norm_eps", "model.band",
                                        "model.type_vocab_size", "model.next_sentence"};
    for (int64_t i = 0; i < SEO_COUNT_OF(paths); i++) seo_key_derive(rules, paths[i]);
}

void seo_config_rule_positions(seo_rules *rules) {
    const seo_model_config *model = &rules->config->model;
    if (model->max_positions == 0 || model->max_positions >= model->seq_len) return;
    seo_key_complain(rules, seo_key_blame(rules, "model.max_positions", "model.seq_len"),
                     "model.max_positions %" PRId64 " is below model.seq_len %" PRId64
                     "; give as many or more, or 0 for as many",
                     model->max_positions, model->seq_len);
}

void seo_config_rule_band(seo_rules *rules) {
    const seo_model_config *model = &rules->config->model;
    if (model->band == 0) return;
    if (model->family != SEO_FAMILY_GPT3) {
        seo_key_complain(rules, seo_key_blame(rules, "model.band", "model.family"),
                         "model.band %" PRId64 ": the layers of %s are dense; leave it out, or "
                         "train model.family: gpt3",
                         model->band, seo_config_family_name(model->family));
    } else if (model->band > model->seq_len) {
        seo_key_complain(rules, seo_key_blame(rules, "model.band", "model.seq_len"),
                         "model.band %" PRId64 " is wider than model.seq_len %" PRId64
                         "; give at most %" PRId64 ", or 0 for dense layers",
                         model->band, model->seq_len, model->seq_len);
    }
}

/* Token types and the pairs of sentences that they tell apart. */
void seo_config_rule_sentences(seo_rules *rules) {
    const seo_config *config = rules->config;
    const seo_model_config *model = &config->model;
    const char *family = seo_config_family_name(model->family);
    const bool typed = model->family == SEO_FAMILY_BERT || model->family == SEO_FAMILY_ROBERTA;
    if (model->type_vocab_size > 0 && !typed) {
        seo_key_complain(rules, seo_key_blame(rules, "model.type_vocab_size", "model.family"),
                         "model.type_vocab_size %" PRId64 ": %s has no token types; leave it out",
                         model->type_vocab_size, family);
    }
    if (!model->next_sentence) return;
    if (model->family != SEO_FAMILY_BERT) {
        seo_key_complain(rules, seo_key_blame(rules, "model.next_sentence", "model.family"),
                         "model.next_sentence: true: %s has no head for it; leave it out, or "
                         "train model.family: bert",
                         family);
    } else if (config->task.kind != SEO_TASK_PRETRAIN) {
        seo_key_complain(rules, seo_key_blame(rules, "model.next_sentence", "task.kind"),
                         "model.next_sentence: true is for task.kind: pretrain, whose rows are "
                         "pairs of sentences; leave it out");
    } else if (model->type_vocab_size < 2) {
        seo_key_complain(rules,
                         seo_key_blame(rules, "model.type_vocab_size", "model.next_sentence"),
                         "model.type_vocab_size %" PRId64 ": pairs of sentences "
                         "(model.next_sentence) need 2 token types",
                         model->type_vocab_size);
    }
}

static bool is_masked(const seo_config *config) {
    return seo_family_is_encoder(config->model.family) && config->task.kind == SEO_TASK_PRETRAIN;
}

void seo_config_rule_masks(seo_rules *rules) {
    seo_data_config *data = &rules->config->data;
    seo_model_config *model = &rules->config->model;
    const bool masked = is_masked(rules->config), pairs = model->next_sentence;
    /* [CLS] A [SEP] B [SEP], or a beginning and an end, with a token of text in each. */
    const int64_t least = pairs ? 5 : 3;
    if (!seo_key_given(rules, "data.max_predictions")) {
        const int64_t all = (int64_t)ceil(data->mask_fraction * (double)model->seq_len);
        data->max_predictions = masked ? seo_max_i64(1, all) : 0;
    }
    seo_key_derive(rules, "data.max_predictions");
    model->picks = masked ? seo_min_i64(data->max_predictions, model->seq_len) : 0;
    model->has_spans = data->document_mask || rules->config->task.kind != SEO_TASK_PRETRAIN;
    if (!masked) return;
    if (data->mask_fraction <= 0) {
        seo_key_complain(rules, "data.mask_fraction",
                         "data.mask_fraction 0: %s would have nothing to learn; 0.15 is usual",
                         seo_config_family_name(model->family));
    }
    if (data->max_predictions == 0 || data->max_predictions > model->seq_len) {
        seo_key_complain(rules, "data.max_predictions",
                         "data.max_predictions %" PRId64 ": of a sequence of %" PRId64
                         " tokens 1 to %" PRId64 " can be predicted; null: as many as "
                         "data.mask_fraction says",
                         data->max_predictions, model->seq_len, model->seq_len);
    }
    if (model->seq_len < least) {
        seo_key_complain(rules, "model.seq_len",
                         "model.seq_len %" PRId64 " leaves no room for text between the special "
                         "tokens of a sequence; give %" PRId64 " or more",
                         model->seq_len, least);
    }
}

/* Keys that decide nothing here. */
void seo_config_rule_unmasked(seo_rules *rules) {
    const seo_config *config = rules->config;
    const bool masked = is_masked(config), pairs = config->model.next_sentence;
    const char *family = seo_config_family_name(config->model.family);
    if (!pairs && config->data.short_sequences != 0.1) {
        seo_key_complain(rules, "data.short_sequences",
                         "data.short_sequences is for pairs of sentences, which bert learns from "
                         "with model.next_sentence; leave it out");
    }
    if (masked) return;
    const char *why = config->task.kind == SEO_TASK_PRETRAIN
                          ? "predicts the next token and masks nothing"
                          : "is not trained on masked text by this task.kind";
    if (config->data.mask_fraction != 0.15) {
        seo_key_complain(rules, seo_key_blame(rules, "data.mask_fraction", "model.family"),
                         "data.mask_fraction: %s %s; leave it out", family, why);
    }
    if (config->data.max_predictions > 0) {
        seo_key_complain(rules, seo_key_blame(rules, "data.max_predictions", "model.family"),
                         "data.max_predictions: %s %s; leave it out", family, why);
    }
}

void seo_config_rule_documents(seo_rules *rules) {
    const seo_config *config = rules->config;
    if (!config->data.document_mask) return;
    if (config->model.next_sentence) {
        seo_key_complain(rules, seo_key_blame(rules, "data.document_mask", "model.next_sentence"),
                         "data.document_mask: true with model.next_sentence: the two sentences of "
                         "a pair see each other, wherever they come from; leave it out");
    } else if (config->task.kind != SEO_TASK_PRETRAIN) {
        seo_key_complain(rules, seo_key_blame(rules, "data.document_mask", "task.kind"),
                         "data.document_mask: true: each example of a task has a sequence of its "
                         "own; leave it out");
    }
}
