/* From a Hugging Face folder to a run: the tensors into a checkpoint of step 0. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "data/tokenizer.h"
#include "train/checkpoint.h"
#include "train/config_rules.h"
#include "train/hf/folder.h"
#include "train/hf/hf.h"
#include "train/hf/model_json.h"
#include "train/hf/source.h"
#include "train/hf/tokenizer_in.h"

typedef struct import {
    seo_hf_source source;
    seo_tokenizer *tokenizer;
    seo_config config;
    seo_buf yaml; /* the resolved configuration */
    seo_ckpt_tensor *tensors;
    char made[SEO_PATH_MAX];
} import;

static void import_free(import *m) {
    for (int64_t i = 0; m->tensors && i < m->source.params.count; i++) free(m->tensors[i].data);
    free(m->tensors);
    seo_hf_source_close(&m->source);
    seo_tokenizer_free(m->tokenizer);
    seo_buf_free(&m->yaml);
}

/* ---- what belongs together ---- */

static seo_err check_tokenizer(const import *m) {
    const int64_t ids = seo_tokenizer_vocab_size(m->tokenizer);
    const seo_model_config *c = &m->source.config;
    if (ids > c->vocab_size) {
        return SEO_FAIL(SEO_ERR_FORMAT,
                        "%s: its tokenizer has %" PRId64 " ids and the model has %" PRId64
                        ": they do not belong together",
                        m->source.dir, ids, c->vocab_size);
    }
    const seo_err err = seo_hf_model_check(c, m->tokenizer);
    return err == SEO_OK ? SEO_OK : seo_err_context(err, "%s", m->source.dir);
}

/* ---- the configuration ---- */

/* What the model is; of the rest the defaults, and a dataset and batch that a next run replaces. */
static void add_yaml(const seo_hf_source *source, seo_buf *out) {
    enum { MICRO_BATCH = 4 };
    const seo_model_config *c = &source->config;
    seo_buf_format(out,
                   "model:\n  family: %s\n  num_layers: %" PRId64 "\n  num_heads: %" PRId64
                   "\n  hidden_size: %" PRId64 "\n  ffn_hidden_size: %" PRId64
                   "\n  seq_len: %" PRId64 "\n  vocab_size: %" PRId64,
                   seo_config_family_name(c->family), c->num_layers, c->num_heads, c->hidden_size,
                   c->ffn_hidden_size, c->seq_len, c->vocab_size);
    seo_buf_format(out, "\n  activation: %s\n  dropout: %.17g\n  attention_dropout: %.17g",
                   c->activation == SEO_GELU_TANH ? "gelu_tanh" : "gelu_erf", c->dropout,
                   c->attention_dropout);
    seo_buf_format(out, "\n  norm_eps: %.17g\n  type_vocab_size: %" PRId64 "\n", c->norm_eps,
                   c->type_vocab_size);
    if (c->family == SEO_FAMILY_BERT) {
        seo_buf_format(out, "  next_sentence: %s\n", c->next_sentence ? "true" : "false");
    }
    if (c->classes > 0) {
        seo_buf_format(out,
                       "task:\n  kind: classify\n  examples: examples.jsonl\n  labels: \"%s\"\n",
                       source->labels);
    }
    seo_buf_format(out,
                   "data:\n  path: data\ntrain:\n  steps: 1\n  batch_tokens: %" PRId64
                   "\n  micro_batch: %d\noptimizer:\n  lr: 1e-4\nschedule:\n  name: constant\n",
                   MICRO_BATCH * c->seq_len, (int)MICRO_BATCH);
}

static seo_err make_config(import *m) {
    seo_err err = SEO_OK;
    seo_buf text = {0};
    add_yaml(&m->source, &text);
    SEO_TRY(seo_buf_check(&text));
    const seo_config_input input = {.name = m->source.dir, .text = text.data, .bytes = text.bytes};
    err = seo_config_parse(&input, &m->config);
    if (err != SEO_OK) {
        seo_err_context(err, "%s: its config.json makes no model of ours", m->source.dir);
        goto done;
    }
    SEO_TRY(seo_config_write(&m->config, &m->yaml));
done:
    seo_buf_free(&text);
    return err;
}

/* ---- the checkpoint ---- */

static seo_err read_tensors(import *m) {
    const seo_params *params = &m->source.params;
    m->tensors = calloc((size_t)params->count + 1, sizeof *m->tensors);
    if (!m->tensors) return SEO_FAIL(SEO_ERR_MEMORY, "a table of tensors");
    for (int64_t i = 0; i < params->count; i++) {
        const seo_param *param = &params->items[i];
        seo_ckpt_tensor *t = &m->tensors[i];
        const size_t bytes = (size_t)seo_param_elements(param) * sizeof *t->data;
        t->rank = param->rank;
        snprintf(t->name, sizeof t->name, "parameters/%s", param->name);
        for (int32_t d = 0; d < param->rank; d++) t->dims[d] = param->dims[d];
        t->data = malloc(bytes);
        if (!t->data) {
            return SEO_FAIL(SEO_ERR_MEMORY, "%zu bytes for %s", bytes, param->name);
        }
        const seo_err err = seo_hf_source_read(&m->source, i, t->data);
        if (err != SEO_OK) return err;
    }
    return SEO_OK;
}

static seo_err save(import *m) {
    seo_err err = SEO_OK;
    char config[SEO_PATH_MAX], tokenizer[SEO_PATH_MAX];
    SEO_TRY(seo_path_join(config, m->made, "config.yaml"));
    SEO_TRY(seo_path_join(tokenizer, m->made, "tokenizer.json"));
    SEO_TRY(seo_tokenizer_save(m->tokenizer, tokenizer));
    seo_ckpt_snapshot snapshot = {.state = {.seed = 1, .precision = "f32"},
                                  .tensors = m->tensors,
                                  .tensor_count = m->source.params.count,
                                  .config_yaml = m->yaml.data,
                                  .tokenizer_path = tokenizer};
    seo_config_hash(&m->config, snapshot.state.config_hash);
    snprintf(snapshot.state.tokenizer_sha256, sizeof snapshot.state.tokenizer_sha256, "%s",
             seo_tokenizer_sha256(m->tokenizer));
    SEO_TRY(seo_ckpt_save(m->made, 0, NULL, &snapshot));
    SEO_TRY(seo_file_write_atomic(config, m->yaml.data, (int64_t)m->yaml.bytes));
    /* The checkpoint has its own. */
    if (remove(tokenizer) != 0) err = SEO_FAIL(SEO_ERR_IO, "%s: cannot be removed", tokenizer);
done:
    return err;
}

seo_err seo_hf_import(const char *dir, const char *run, seo_buf *report) {
    seo_err err = SEO_OK;
    char count[SEO_SHORT_TEXT];
    import *m = calloc(1, sizeof *m);
    if (!m) return SEO_FAIL(SEO_ERR_MEMORY, "no memory to import a model");
    SEO_TRY(seo_hf_source_open(dir, &m->source));
    SEO_TRY(seo_hf_tokenizer_load(dir, &m->tokenizer));
    SEO_TRY(check_tokenizer(m));
    SEO_TRY(seo_hf_source_check_copies(&m->source));
    SEO_TRY(make_config(m));
    SEO_TRY(seo_hf_folder_begin(run, m->made));
    SEO_TRY(read_tensors(m));
    SEO_TRY(save(m));
    SEO_TRY(seo_hf_folder_commit(m->made, run));
    m->made[0] = '\0';
    seo_buf_format(report, "%s: %s of %s parameters from %s\n", run,
                   seo_hf_architecture(&m->source.config),
                   seo_format_count(count, seo_params_elements(&m->source.params)), dir);
    SEO_TRY(seo_buf_check(report));
done:
    if (err != SEO_OK) seo_hf_folder_drop(m->made);
    import_free(m);
    free(m);
    return err;
}
