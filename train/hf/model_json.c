#include "train/hf/model_json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/file.h"
#include "base/json.h"

enum { CONFIG_BYTES_MAX = 16 << 20, FFN_MAX = 1 << 22, ROBERTA_PAD = 1, KEYS_MAX = 8 };

#define AT(member) offsetof(seo_model_config, member)

/* A size, or a rate, and its key; `more`: theirs is larger by so much. `most`: of ours, the ranges
 * of the configuration. */
typedef struct key {
    const char *name;
    size_t offset;
    int64_t more, most;
} key;

/* A switch that must have this value for the class to compute what ours does; absent is fine. */
typedef struct fixed {
    const char *name;
    enum { FIXED_TRUE, FIXED_FALSE, FIXED_TEXT } kind;
    const char *text;
} fixed;

/* One kind of config.json. */
typedef struct layout {
    const char *model_type, *architecture;
    const char *classifier; /* architecture with a head like ours; NULL: there is none */
    seo_family family;
    key sizes[KEYS_MAX], rates[KEYS_MAX];
    const char *activation, *tanh_name, *erf_name; /* NULL: the class has no such activation */
    const char *ffn;                               /* NULL: always 4 * hidden_size */
    const char *eps;                               /* NULL: always fixed_eps */
    double fixed_eps;
    fixed fixed[KEYS_MAX];
} layout;

#define GPT_SIZES                                                                                  \
    {                                                                                              \
        {"vocab_size", AT(vocab_size), 0, 1 << 24}, {"n_positions", AT(seq_len), 0, 1 << 20},      \
            {"n_embd", AT(hidden_size), 0, 1 << 20}, {"n_layer", AT(num_layers), 0, 1024},         \
            {"n_head", AT(num_heads), 0, 1024},                                                    \
    }
#define GPT_RATES                                                                                  \
    {                                                                                              \
        {"resid_pdrop", AT(dropout), 0, 0}, {"embd_pdrop", AT(dropout), 0, 0},                     \
            {"attn_pdrop", AT(attention_dropout), 0, 0},                                           \
    }
#define BERT_RATES                                                                                 \
    {                                                                                              \
        {"hidden_dropout_prob", AT(dropout), 0, 0},                                                \
            {"attention_probs_dropout_prob", AT(attention_dropout), 0, 0},                         \
    }
#define BERT_SIZES(more)                                                                           \
    {                                                                                              \
        {"vocab_size", AT(vocab_size), 0, 1 << 24},                                                \
            {"max_position_embeddings", AT(seq_len), (more), 1 << 20},                             \
            {"hidden_size", AT(hidden_size), 0, 1 << 20},                                          \
            {"num_hidden_layers", AT(num_layers), 0, 1024},                                        \
            {"num_attention_heads", AT(num_heads), 0, 1024},                                       \
            {"type_vocab_size", AT(type_vocab_size), 0, 1 << 20},                                  \
    }
#define BERT_FIXED                                                                                 \
    {                                                                                              \
        {"tie_word_embeddings", FIXED_TRUE, NULL}, {"is_decoder", FIXED_FALSE, NULL},              \
            {"add_cross_attention", FIXED_FALSE, NULL},                                            \
            {"position_embedding_type", FIXED_TEXT, "absolute"},                                   \
    }

static const layout k_layouts[] = {
    {.model_type = "openai-gpt",
     .architecture = "OpenAIGPTLMHeadModel",
     .family = SEO_FAMILY_GPT1,
     .sizes = GPT_SIZES,
     .rates = GPT_RATES,
     .activation = "afn",
     .tanh_name = "gelu",
     .eps = "layer_norm_epsilon",
     .fixed = {{"tie_word_embeddings", FIXED_TRUE, NULL}}},
    {.model_type = "gpt2",
     .architecture = "GPT2LMHeadModel",
     .family = SEO_FAMILY_GPT2,
     .sizes = GPT_SIZES,
     .rates = GPT_RATES,
     .activation = "activation_function",
     .tanh_name = "gelu_new",
     .erf_name = "gelu",
     .ffn = "n_inner",
     .eps = "layer_norm_epsilon",
     .fixed = {{"tie_word_embeddings", FIXED_TRUE, NULL},
               {"scale_attn_weights", FIXED_TRUE, NULL},
               {"scale_attn_by_inverse_layer_idx", FIXED_FALSE, NULL},
               {"reorder_and_upcast_attn", FIXED_FALSE, NULL},
               {"add_cross_attention", FIXED_FALSE, NULL}}},
    {.model_type = "bert",
     .architecture = "BertForPreTraining",
     .classifier = "BertForSequenceClassification",
     .family = SEO_FAMILY_BERT,
     .sizes = BERT_SIZES(0),
     .rates = BERT_RATES,
     .activation = "hidden_act",
     .tanh_name = "gelu_new",
     .erf_name = "gelu",
     .ffn = "intermediate_size",
     .eps = "layer_norm_eps",
     .fixed = BERT_FIXED},
    /* The head of RoBERTa computes the exact GELU whatever hidden_act says, and its positions begin
     * behind the padding's id. */
    {.model_type = "roberta",
     .architecture = "RobertaForMaskedLM",
     .classifier = "RobertaForSequenceClassification",
     .family = SEO_FAMILY_ROBERTA,
     .sizes = BERT_SIZES(ROBERTA_PAD + 1),
     .rates = BERT_RATES,
     .activation = "hidden_act",
     .erf_name = "gelu",
     .ffn = "intermediate_size",
     .eps = "layer_norm_eps",
     .fixed = BERT_FIXED},
    {.model_type = "distilbert",
     .architecture = "DistilBertForMaskedLM",
     .family = SEO_FAMILY_DISTILBERT,
     .sizes = {{"vocab_size", AT(vocab_size), 0, 1 << 24},
               {"max_position_embeddings", AT(seq_len), 0, 1 << 20},
               {"dim", AT(hidden_size), 0, 1 << 20},
               {"n_layers", AT(num_layers), 0, 1024},
               {"n_heads", AT(num_heads), 0, 1024}},
     .rates = {{"dropout", AT(dropout), 0, 0}, {"attention_dropout", AT(attention_dropout), 0, 0}},
     .activation = "activation",
     .tanh_name = "gelu_new",
     .erf_name = "gelu",
     .ffn = "hidden_dim",
     .fixed_eps = 1e-12,
     .fixed = {{"tie_word_embeddings", FIXED_TRUE, NULL}}},
};

static const layout *layout_of(seo_family family) {
    const layout *found = NULL;
    if (family == SEO_FAMILY_GPT3) family = SEO_FAMILY_GPT2;
    for (int64_t i = 0; i < SEO_COUNT_OF(k_layouts); i++) {
        if (k_layouts[i].family == family) found = &k_layouts[i];
    }
    SEO_ASSERT(found);
    return found;
}

/* ---- reading ---- */

static seo_err find_layout(const json_t *root, const char *path, const layout **out) {
    const char *type = NULL;
    const seo_err err = seo_json_string(root, path, "model_type", &type);
    if (err != SEO_OK) return err;
    for (int64_t i = 0; i < SEO_COUNT_OF(k_layouts); i++) {
        if (strcmp(k_layouts[i].model_type, type) != 0) continue;
        *out = &k_layouts[i];
        return SEO_OK;
    }
    return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                    "%s: model_type is \"%.60s\"; what can be read: openai-gpt, gpt2, bert, "
                    "roberta, distilbert",
                    path, type);
}

static seo_err read_sizes(const layout *l, const json_t *root, const char *path,
                          seo_model_config *out) {
    for (const key *k = l->sizes; k->name; k++) {
        int64_t value = 0;
        const seo_err err =
            seo_json_int(root, path, k->name, 1 + k->more, k->most + k->more, &value);
        if (err != SEO_OK) return err;
        *(int64_t *)(void *)((char *)out + k->offset) = value - k->more;
    }
    out->ffn_hidden_size = 4 * out->hidden_size;
    if (!l->ffn) return SEO_OK;
    const json_t *ffn = json_object_get(root, l->ffn);
    if (l->family == SEO_FAMILY_GPT2 && (!ffn || json_is_null(ffn))) return SEO_OK;
    return seo_json_int(root, path, l->ffn, 1, FFN_MAX, &out->ffn_hidden_size);
}

/* Without a key a class takes 0.1. Ours has one rate for the embedding and the two outputs. */
static seo_err read_rates(const layout *l, const json_t *root, const char *path,
                          seo_model_config *out) {
    for (const key *k = l->rates; k->name; k++) {
        double *at = (double *)(void *)((char *)out + k->offset), value = 0.1;
        if (json_object_get(root, k->name)) {
            const seo_err err = seo_json_float(root, path, k->name, &value);
            if (err != SEO_OK) return err;
        }
        if (!(value >= 0 && value < 1)) {
            return SEO_FAIL(SEO_ERR_FORMAT, "%s: \"%s\" is %g, not a rate in [0, 1)", path, k->name,
                            value);
        }
        if (k == l->rates || k->offset != l->rates[0].offset) *at = value;
        if (*at != value) {
            return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                            "%s: \"%s\" is %g and \"%s\" %g: there is one dropout rate for both "
                            "here; give them one value, the model computes the same without "
                            "dropout",
                            path, l->rates[0].name, *at, k->name, value);
        }
    }
    return SEO_OK;
}

static seo_err read_activation(const layout *l, const json_t *root, const char *path,
                               seo_model_config *out) {
    const char *name = NULL;
    const seo_err err = seo_json_string(root, path, l->activation, &name);
    if (err != SEO_OK) return err;
    const bool tanh = strcmp(name, "gelu_new") == 0 || strcmp(name, "gelu_pytorch_tanh") == 0;
    if (l->tanh_name && (tanh || strcmp(name, l->tanh_name) == 0)) {
        out->activation = SEO_GELU_TANH;
        return SEO_OK;
    }
    if (l->erf_name && strcmp(name, l->erf_name) == 0) {
        out->activation = SEO_GELU_ERF;
        return SEO_OK;
    }
    return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                    "%s: \"%s\" is \"%.40s\"; of a %s model %s%s%s can be read", path,
                    l->activation, name, l->model_type, l->tanh_name ? l->tanh_name : "",
                    l->tanh_name && l->erf_name ? " and " : "", l->erf_name ? l->erf_name : "");
}

static seo_err read_eps(const layout *l, const json_t *root, const char *path,
                        seo_model_config *out) {
    out->norm_eps = l->fixed_eps;
    return l->eps ? seo_json_float(root, path, l->eps, &out->norm_eps) : SEO_OK;
}

static seo_err check_fixed(const layout *l, const json_t *root, const char *path) {
    for (const fixed *f = l->fixed; f->name; f++) {
        const json_t *value = json_object_get(root, f->name);
        if (!value || json_is_null(value)) continue;
        const char *text = json_string_value(value);
        const bool fits = f->kind == FIXED_TRUE    ? json_is_true(value)
                          : f->kind == FIXED_FALSE ? json_is_false(value)
                                                   : text && strcmp(text, f->text) == 0;
        if (fits) continue;
        return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                        "%s: \"%s\" is not %s: such a model computes something else than is "
                        "computed here",
                        path, f->name,
                        f->kind == FIXED_TRUE    ? "true"
                        : f->kind == FIXED_FALSE ? "false"
                                                 : f->text);
    }
    return SEO_OK;
}

static seo_err check_roberta_pad(const layout *l, const json_t *root, const char *path) {
    const json_t *pad = json_object_get(root, "pad_token_id");
    if (l->family != SEO_FAMILY_ROBERTA || !pad) return SEO_OK;
    if (json_is_integer(pad) && json_integer_value(pad) == ROBERTA_PAD) return SEO_OK;
    return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                    "%s: \"pad_token_id\" is not %d: a RoBERTa's positions begin behind it, here "
                    "at %d",
                    path, (int)ROBERTA_PAD, (int)ROBERTA_PAD + 1);
}

static seo_err read_architecture(const json_t *root, const char *path, seo_hf_model *out) {
    const json_t *list = json_object_get(root, "architectures");
    const char *first = json_string_value(json_array_get(list, 0));
    snprintf(out->architecture, sizeof out->architecture, "%s", first ? first : "");
    if (!list || json_is_null(list) || first) return SEO_OK;
    return SEO_FAIL(SEO_ERR_FORMAT, "%s: \"architectures\" is no list of names", path);
}

/* A name that a list of names can hold: see seo_config_item. */
static bool fits_list(const char *name) {
    const size_t length = name ? strlen(name) : 0;
    if (length == 0 || strpbrk(name, ",\"\\\n\r\t")) return false;
    return name[0] != ' ' && name[length - 1] != ' ';
}

static bool in_list(const char *list, int64_t count, const char *name) {
    char item[SEO_CONFIG_TEXT_MAX];
    for (int64_t i = 0; i < count && seo_config_item(list, i, item); i++) {
        if (strcmp(item, name) == 0) return true;
    }
    return false;
}

/* The names of the classes; without them transformers has two, LABEL_0 and LABEL_1. */
static seo_err read_labels(const json_t *root, const char *path, seo_hf_model *out) {
    const json_t *names = json_object_get(root, "id2label");
    const int64_t count = names ? (int64_t)json_object_size(names) : 2;
    size_t used = 0;
    for (int64_t i = 0; i < count; i++) {
        char usual[SEO_SHORT_TEXT], number[SEO_SHORT_TEXT];
        snprintf(number, sizeof number, "%lld", (long long)i);
        snprintf(usual, sizeof usual, "LABEL_%lld", (long long)i);
        const char *name = names ? json_string_value(json_object_get(names, number)) : usual;
        if (!fits_list(name) || in_list(out->labels, i, name)) {
            return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                            "%s: \"id2label\" has no name for class %s that can be kept here: give "
                            "it one of its own, without commas, quotes and tabs",
                            path, number);
        }
        used += (size_t)snprintf(out->labels + used, sizeof out->labels - used, "%s%s",
                                 i > 0 ? ", " : "", name);
        if (used >= sizeof out->labels) {
            return SEO_FAIL(SEO_ERR_UNSUPPORTED, "%s: the names in \"id2label\" are too long",
                            path);
        }
    }
    out->config.classes = count;
    if (count >= 2) return SEO_OK;
    return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                    "%s: \"id2label\" has %lld classes: two or more can be told apart", path,
                    (long long)count);
}

static seo_err read_all(const layout *l, const json_t *root, const char *path, seo_hf_model *out) {
    seo_err err = SEO_OK;
    seo_model_config *c = &out->config;
    c->family = l->family;
    SEO_TRY(read_architecture(root, path, out));
    SEO_TRY(read_sizes(l, root, path, c));
    SEO_TRY(read_rates(l, root, path, c));
    SEO_TRY(read_activation(l, root, path, c));
    SEO_TRY(read_eps(l, root, path, c));
    SEO_TRY(check_fixed(l, root, path));
    SEO_TRY(check_roberta_pad(l, root, path));
    if (l->classifier && strcmp(l->classifier, out->architecture) == 0) {
        SEO_TRY(read_labels(root, path, out));
    }
done:
    return err;
}

seo_err seo_hf_model_parse(const char *name, const char *text, size_t bytes, seo_hf_model *out) {
    seo_err err = SEO_OK;
    json_t *root = NULL;
    const layout *l = NULL;
    *out = (seo_hf_model){0};
    SEO_TRY(seo_json_parse(name, text, bytes, &root));
    SEO_TRY(find_layout(root, name, &l));
    SEO_TRY(read_all(l, root, name, out));
done:
    json_decref(root);
    return err;
}

seo_err seo_hf_model_read(const char *dir, seo_hf_model *out) {
    seo_err err = SEO_OK;
    char path[SEO_PATH_MAX], *text = NULL;
    int64_t bytes = 0;
    SEO_TRY(seo_path_join(path, dir, "config.json"));
    err = seo_file_read(path, CONFIG_BYTES_MAX, &text, &bytes);
    if (err == SEO_ERR_MISSING) {
        err = SEO_FAIL(SEO_ERR_MISSING,
                       "%s is not there: %s is no Hugging Face model, or was not copied whole",
                       path, dir);
    }
    if (err != SEO_OK) goto done;
    SEO_TRY(seo_hf_model_parse(path, text, (size_t)bytes, out));
done:
    free(text);
    return err;
}

/* ---- what can be expressed ---- */

static seo_err refuse(const char *what, const char *why) {
    return SEO_FAIL(SEO_ERR_UNSUPPORTED, "%s: %s", what, why);
}

static seo_err check_special(const seo_model_config *c) {
    if (c->lora_rank > 0) {
        return refuse("the checkpoint holds LoRA adapters alone",
                      "write the whole model first: seodang checkpoint merge RUN --out DIR");
    }
    if (c->classes > 0 && c->family == SEO_FAMILY_DISTILBERT) {
        return refuse("the model has a classification head",
                      "DistilBertForSequenceClassification has a ReLU where it has a tanh");
    }
    if (c->classes > 0 && !seo_family_is_encoder(c->family)) {
        return refuse("the model has a classification head",
                      "transformers' classes that classify with a decoder have no bias in theirs");
    }
    if (c->band > 0) {
        return refuse("model.band",
                      "transformers has no class whose layers alternate between dense and banded "
                      "attention; a model trained with model.band 0 can be exported");
    }
    return SEO_OK;
}

static seo_err check_types(const seo_model_config *c) {
    const bool none = c->family == SEO_FAMILY_DISTILBERT || !seo_family_is_encoder(c->family);
    if (none == (c->type_vocab_size == 0)) return SEO_OK;
    return none ? refuse("model.type_vocab_size", "this class has no token types; it must be 0")
                : refuse("model.type_vocab_size", "this class has token types; it must be 1 or "
                                                  "more");
}

seo_err seo_hf_model_check(const seo_model_config *c, const seo_tokenizer *tok) {
    seo_err err = SEO_OK;
    const layout *l = layout_of(c->family);
    SEO_TRY(check_special(c));
    SEO_TRY(check_types(c));
    if (!(c->activation == SEO_GELU_TANH ? l->tanh_name : l->erf_name)) {
        err = refuse("model.activation", c->activation == SEO_GELU_TANH
                                             ? "RoBERTa's head in transformers computes the exact "
                                               "GELU only: gelu_erf"
                                             : "OpenAIGPT in transformers computes GELU by tanh "
                                               "only: gelu_tanh");
    } else if (!l->ffn && c->ffn_hidden_size != 4 * c->hidden_size) {
        err = refuse("model.ffn_hidden_size", "OpenAIGPT's is always 4 x hidden_size");
    } else if (!l->eps && c->norm_eps != l->fixed_eps) {
        err = refuse("model.norm_eps", "DistilBERT's in transformers is always 1e-12");
    } else if (tok && c->family == SEO_FAMILY_ROBERTA &&
               seo_tokenizer_role(tok, SEO_ROLE_PAD) != ROBERTA_PAD) {
        err = refuse("the tokenizer", "RoBERTa's positions in transformers are counted from the "
                                      "padding's id, which must be 1");
    } else if (tok && seo_tokenizer_vocab_size(tok) > c->vocab_size) {
        err = SEO_FAIL(SEO_ERR_FORMAT, "the tokenizer has %" PRId64 " ids, the model %" PRId64,
                       seo_tokenizer_vocab_size(tok), c->vocab_size);
    }
done:
    return err;
}

const char *seo_hf_architecture(const seo_model_config *config) {
    const layout *l = layout_of(config->family);
    if (config->classes > 0) {
        SEO_ASSERT(l->classifier);
        return l->classifier;
    }
    if (config->family == SEO_FAMILY_BERT && !config->next_sentence) return "BertForMaskedLM";
    return l->architecture;
}

/* ---- writing ---- */

static void add_role(const seo_tokenizer *tok, seo_role role, const char *name, int32_t otherwise,
                     seo_buf *out) {
    const int32_t id = tok ? seo_tokenizer_role(tok, role) : -1;
    if (id < 0 && otherwise < 0) return;
    seo_buf_format(out, ",\n  \"%s\": %d", name, (int)(id < 0 ? otherwise : id));
}

static void add_fixed(const layout *l, seo_buf *out) {
    for (const fixed *f = l->fixed; f->name; f++) {
        seo_buf_format(out, ",\n  \"%s\": ", f->name);
        if (f->kind == FIXED_TEXT) {
            seo_buf_format(out, "\"%s\"", f->text);
        } else {
            seo_buf_text(out, f->kind == FIXED_TRUE ? "true" : "false");
        }
    }
}

static void add_labels(const char *labels, seo_buf *out) {
    char name[SEO_CONFIG_TEXT_MAX];
    for (int way = 0; way < 2; way++) {
        seo_buf_text(out, way == 0 ? ",\n  \"id2label\": {" : "},\n  \"label2id\": {");
        for (int64_t i = 0; seo_config_item(labels, i, name); i++) {
            seo_buf_text(out, i > 0 ? ", " : "");
            if (way == 0) seo_buf_format(out, "\"%" PRId64 "\": ", i);
            seo_buf_json_string(out, name, strlen(name));
            if (way == 1) seo_buf_format(out, ": %" PRId64, i);
        }
    }
    seo_buf_text(out, "},\n  \"problem_type\": \"single_label_classification\"");
}

static void add_float(const char *name, double value, seo_buf *out) {
    seo_buf_format(out, ",\n  \"%s\": ", name);
    seo_buf_json_float(out, value, 17);
}

/* Sizes are integers and rates are floats with a point: the classes' configurations are strict.
 * n_ctx is the older name of n_positions, which some readers ask for. */
seo_err seo_hf_model_write(const seo_model_config *config, const char *labels,
                           const seo_tokenizer *tok, seo_dtype dtype, seo_buf *out) {
    const layout *l = layout_of(config->family);
    const bool decoder = !seo_family_is_encoder(config->family);
    const char *type = dtype == SEO_DTYPE_BF16 ? "bfloat16" : "float32";
    seo_buf_format(out, "{\n  \"architectures\": [\"%s\"],\n  \"model_type\": \"%s\"",
                   seo_hf_architecture(config), l->model_type);
    for (const key *k = l->sizes; k->name; k++) {
        const int64_t value = *(const int64_t *)(const void *)((const char *)config + k->offset);
        seo_buf_format(out, ",\n  \"%s\": %" PRId64, k->name, value + k->more);
    }
    if (decoder) seo_buf_format(out, ",\n  \"n_ctx\": %" PRId64, config->seq_len);
    if (l->ffn) seo_buf_format(out, ",\n  \"%s\": %" PRId64, l->ffn, config->ffn_hidden_size);
    seo_buf_format(out, ",\n  \"%s\": \"%s\"", l->activation,
                   config->activation == SEO_GELU_TANH ? l->tanh_name : l->erf_name);
    for (const key *k = l->rates; k->name; k++) {
        add_float(k->name, *(const double *)(const void *)((const char *)config + k->offset), out);
    }
    if (l->eps) add_float(l->eps, config->norm_eps, out);
    add_float("initializer_range", 0.02, out);
    add_fixed(l, out);
    if (config->classes > 0) add_labels(labels, out);
    if (config->family == SEO_FAMILY_DISTILBERT) {
        seo_buf_text(out, ",\n  \"sinusoidal_pos_embds\": false");
    }
    if (decoder) {
        add_role(tok, SEO_ROLE_EOT, "bos_token_id", -1, out);
    } else {
        add_role(tok, SEO_ROLE_BOS, "bos_token_id", -1, out);
        add_role(tok, SEO_ROLE_PAD, "pad_token_id",
                 config->family == SEO_FAMILY_ROBERTA ? ROBERTA_PAD : 0, out);
    }
    add_role(tok, SEO_ROLE_EOT, "eos_token_id", -1, out);
    seo_buf_format(out, ",\n  \"dtype\": \"%s\",\n  \"torch_dtype\": \"%s\"\n}\n", type, type);
    return seo_buf_check(out);
}
