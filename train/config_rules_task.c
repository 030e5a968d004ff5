/* The rules of what a run learns from: text or examples, and of how it begins: adapters of a
 * finished model, a teacher. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "train/config_rules.h"
#include "train/layers/adapter.h"

bool seo_config_item(const char *list, int64_t index, char out[SEO_CONFIG_TEXT_MAX]) {
    const char *at = list;
    if (list[strspn(list, " \t\r\n")] == '\0') return false;
    for (int64_t i = 0; i < index; i++) {
        at = strchr(at, ',');
        if (!at) return false;
        at++;
    }
    at += strspn(at, " \t\r\n");
    size_t bytes = strcspn(at, ",");
    while (bytes > 0 && strchr(" \t\r\n", at[bytes - 1])) bytes--;
    SEO_ASSERT(bytes < SEO_CONFIG_TEXT_MAX);
    memcpy(out, at, bytes);
    out[bytes] = '\0';
    return true;
}

/* ---- data and examples ---- */

static bool has_text(const seo_rules *rules) {
    return rules->states[seo_key_index("data.path")] != SEO_FIELD_ABSENT ||
           rules->states[seo_key_index("data.mix")] != SEO_FIELD_ABSENT;
}

/* Examples need no dataset but for its tokenizer, where no earlier model has one. */
void seo_config_rule_data_source(seo_rules *rules) {
    const seo_config *config = rules->config;
    if (has_text(rules)) return;
    if (config->task.kind == SEO_TASK_PRETRAIN) {
        seo_key_complain(rules, "data.path",
                         "data.path is missing: the folder of a dataset (or data.mix); "
                         "give it in the file or with --set data.path=DIR");
    } else if (config->checkpoint.init_from[0] == '\0') {
        seo_key_complain(rules, "checkpoint.init_from",
                         "checkpoint.init_from is missing: the run or checkpoint to fine-tune, "
                         "whose tokenizer reads task.examples (or, to begin with random "
                         "parameters, data.path: a dataset whose tokenizer does)");
    }
}

static const char *kind_name(seo_task_kind kind) {
    return kind == SEO_TASK_PAIRS ? "pairs" : kind == SEO_TASK_CLASSIFY ? "classify" : "pretrain";
}

static void refuse_examples(const seo_rules *rules) {
    static const char *const paths[] = {"task.examples", "task.held_out", "task.labels"};
    for (int64_t i = 0; i < SEO_COUNT_OF(paths); i++) {
        if (!seo_key_given(rules, paths[i])) continue;
        seo_key_complain(rules, paths[i],
                         "%s is not used by task.kind: pretrain; give task.kind: pairs or "
                         "classify, or leave it out",
                         paths[i]);
    }
}

void seo_config_rule_task(seo_rules *rules) {
    seo_config *config = rules->config;
    seo_task_config *task = &config->task;
    const bool encoder = seo_family_is_encoder(config->model.family);
    const bool beside = task->kind == SEO_TASK_CLASSIFY && !encoder;
    if (!seo_key_given(rules, "task.lm_weight")) {
        task->lm_weight = beside && config->model.family == SEO_FAMILY_GPT1 ? 0.5 : 0;
    }
    seo_key_derive(rules, "task.lm_weight");
    config->model.lm_weight = task->lm_weight;
    if (task->lm_weight > 0 && !beside) {
        seo_key_complain(rules, "task.lm_weight",
                         "task.lm_weight is for task.kind: classify with a decoder (gpt1, gpt2, "
                         "gpt3); leave it out");
    }
    if (task->kind == SEO_TASK_PRETRAIN) {
        refuse_examples(rules);
        return;
    }
    if (task->examples[0] == '\0') {
        seo_key_complain(rules, "task.examples",
                         "task.examples is missing: the file that task.kind: %s learns from",
                         kind_name(task->kind));
    }
    if (task->kind == SEO_TASK_PAIRS && encoder) {
        seo_key_complain(rules, seo_key_blame(rules, "task.kind", "model.family"),
                         "task.kind: pairs: %s fills in masks and does not write completions; "
                         "fine-tune a decoder (gpt1, gpt2, gpt3), or use task.kind: classify",
                         seo_config_family_name(config->model.family));
    }
}

void seo_config_rule_labels(seo_rules *rules) {
    seo_config *config = rules->config;
    char label[SEO_CONFIG_TEXT_MAX], other[SEO_CONFIG_TEXT_MAX];
    int64_t count = 0;
    if (config->task.kind != SEO_TASK_CLASSIFY) {
        if (config->task.kind == SEO_TASK_PAIRS && config->task.labels[0] != '\0') {
            seo_key_complain(rules, "task.labels",
                             "task.labels is for task.kind: classify; leave it out");
        }
        return;
    }
    for (; seo_config_item(config->task.labels, count, label); count++) {
        bool twice = false;
        for (int64_t i = 0; i < count && !twice; i++) {
            twice = seo_config_item(config->task.labels, i, other) && strcmp(label, other) == 0;
        }
        if (label[0] != '\0' && !twice) continue;
        seo_key_complain(rules, "task.labels", "task.labels: name %" PRId64 " is %s%s", count + 1,
                         twice ? "there twice: " : "empty", twice ? label : "");
        return;
    }
    config->model.classes = count;
    if (count >= 2) return;
    seo_key_complain(rules, "task.labels",
                     "task.labels has %" PRId64 " %s, task.kind: classify needs two or more: "
                     "\"first, second\"",
                     count, count == 1 ? "name" : "names");
}

/* ---- adapters ---- */

static void read_targets(seo_rules *rules) {
    seo_config *config = rules->config;
    char word[SEO_CONFIG_TEXT_MAX];
    config->model.lora_targets = 0;
    for (int64_t i = 0; seo_config_item(config->lora.targets, i, word); i++) {
        const int32_t flag = seo_lora_target(word);
        if (flag == 0 || (config->model.lora_targets & flag) != 0) {
            seo_key_complain(rules, "lora.targets",
                             "lora.targets: \"%.60s\" is %s; the words: attn.qkv, attn.proj, "
                             "mlp.fc, mlp.proj",
                             word, flag == 0 ? "no matrix that has adapters" : "there twice");
            return;
        }
        config->model.lora_targets |= flag;
    }
    if (config->model.lora_targets == 0) {
        seo_key_complain(rules, "lora.targets",
                         "lora.targets names no matrix; the words: attn.qkv, attn.proj, mlp.fc, "
                         "mlp.proj");
    }
}

void seo_config_rule_lora(seo_rules *rules) {
    seo_config *config = rules->config;
    const seo_lora_config *lora = &config->lora;
    const int64_t most = seo_min_i64(config->model.hidden_size, config->model.ffn_hidden_size);
    if (lora->rank == 0) return;
    config->model.lora_rank = lora->rank;
    config->model.lora_alpha = lora->alpha;
    read_targets(rules);
    if (lora->rank > most) {
        seo_key_complain(rules, seo_key_blame(rules, "lora.rank", "model.hidden_size"),
                         "lora.rank %" PRId64 ": adapters of matrices %" PRId64
                         " wide have a rank of at most that; 4 to 64 are usual",
                         lora->rank, most);
    }
    if (lora->alpha <= 0) {
        seo_key_complain(rules, "lora.alpha",
                         "lora.alpha 0: the adapters would count nothing; the rank, or twice the "
                         "rank, is usual");
    }
    if (config->checkpoint.init_from[0] == '\0') {
        seo_key_complain(rules, "checkpoint.init_from",
                         "checkpoint.init_from is missing: lora.rank %" PRId64
                         " trains adapters of a finished model; give its run or checkpoint",
                         lora->rank);
    }
}

/* ---- a teacher ---- */

static void check_layers(seo_rules *rules) {
    const seo_config *config = rules->config;
    char word[SEO_CONFIG_TEXT_MAX];
    int64_t count = 0, number = 0;
    if (config->distill.layers[0] == '\0' || strcmp(config->distill.layers, "none") == 0) return;
    for (; seo_config_item(config->distill.layers, count, word); count++) {
        if (seo_parse_int(word, &number) && number >= 0) continue;
        seo_key_complain(rules, "distill.layers",
                         "distill.layers: \"%.60s\" is no number of a layer; write them as 0, 2, "
                         "4 or none",
                         word);
        return;
    }
    if (count == config->model.num_layers) return;
    seo_key_complain(rules, seo_key_blame(rules, "distill.layers", "model.num_layers"),
                     "distill.layers has %" PRId64 " numbers, model.num_layers is %" PRId64
                     ": give one of the teacher's layers for each, null, or none",
                     count, config->model.num_layers);
}

void seo_config_rule_distill(seo_rules *rules) {
    const seo_config *config = rules->config;
    const seo_distill_config *distill = &config->distill;
    if (distill->teacher[0] == '\0') return;
    check_layers(rules);
    if (config->task.kind != SEO_TASK_PRETRAIN) {
        seo_key_complain(rules, seo_key_blame(rules, "distill.teacher", "task.kind"),
                         "distill.teacher is for task.kind: pretrain; distil first, then "
                         "fine-tune the student (checkpoint.init_from)");
    }
    if (config->lora.rank > 0) {
        seo_key_complain(rules, seo_key_blame(rules, "distill.teacher", "lora.rank"),
                         "distill.teacher with lora.rank: a student learns with all its "
                         "parameters; give one of the two");
    }
    if (distill->soft + distill->hard + distill->cosine <= 0) {
        seo_key_complain(rules, "distill.soft",
                         "distill.soft, hard and cosine are all 0: no loss is left to learn from");
    }
}
