#include "train/hf/names.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"

typedef enum row_kind {
    ROW_WHOLE, /* the names are whole */
    ROW_PAIR,  /* .weight and .bias follow */
    ROW_CONV1D /* likewise, and the weight is transposed */
} row_kind;

/* `*` is the number of a block, `@` the root. */
typedef struct row {
    row_kind kind;
    const char *ours;
    const char *theirs[SEO_HF_PARTS_MAX];
} row;

static const row k_gpt_blocks[] = {{ROW_PAIR, "blocks.*.norm1", {"@.h.*.ln_1"}},
                                   {ROW_CONV1D, "blocks.*.attn.qkv", {"@.h.*.attn.c_attn"}},
                                   {ROW_CONV1D, "blocks.*.attn.proj", {"@.h.*.attn.c_proj"}},
                                   {ROW_PAIR, "blocks.*.norm2", {"@.h.*.ln_2"}},
                                   {ROW_CONV1D, "blocks.*.mlp.fc", {"@.h.*.mlp.c_fc"}},
                                   {ROW_CONV1D, "blocks.*.mlp.proj", {"@.h.*.mlp.c_proj"}},
                                   {0}};

static const row k_gpt1_rest[] = {{ROW_WHOLE, "wte", {"@.tokens_embed.weight"}},
                                  {ROW_WHOLE, "wpe", {"@.positions_embed.weight"}},
                                  {0}};

static const row k_gpt2_rest[] = {{ROW_WHOLE, "wte", {"@.wte.weight"}},
                                  {ROW_WHOLE, "wpe", {"@.wpe.weight"}},
                                  {ROW_PAIR, "norm_final", {"@.ln_f"}},
                                  {0}};

#define BERT_SELF "@.encoder.layer.*.attention.self."

static const row k_bert_blocks[] = {
    {ROW_WHOLE, "wte", {"@.embeddings.word_embeddings.weight"}},
    {ROW_WHOLE, "wpe", {"@.embeddings.position_embeddings.weight"}},
    {ROW_WHOLE, "wtt", {"@.embeddings.token_type_embeddings.weight"}},
    {ROW_PAIR, "norm_embed", {"@.embeddings.LayerNorm"}},
    {ROW_PAIR, "blocks.*.attn.qkv", {BERT_SELF "query", BERT_SELF "key", BERT_SELF "value"}},
    {ROW_PAIR, "blocks.*.attn.proj", {"@.encoder.layer.*.attention.output.dense"}},
    {ROW_PAIR, "blocks.*.norm1", {"@.encoder.layer.*.attention.output.LayerNorm"}},
    {ROW_PAIR, "blocks.*.mlp.fc", {"@.encoder.layer.*.intermediate.dense"}},
    {ROW_PAIR, "blocks.*.mlp.proj", {"@.encoder.layer.*.output.dense"}},
    {ROW_PAIR, "blocks.*.norm2", {"@.encoder.layer.*.output.LayerNorm"}},
    {0}};

static const row k_bert_rest[] = {{ROW_PAIR, "head.dense", {"cls.predictions.transform.dense"}},
                                  {ROW_PAIR, "head.norm", {"cls.predictions.transform.LayerNorm"}},
                                  {ROW_WHOLE, "head.bias", {"cls.predictions.bias"}},
                                  {ROW_PAIR, "pooler", {"@.pooler.dense"}},
                                  {ROW_PAIR, "next", {"cls.seq_relationship"}},
                                  {ROW_PAIR, "classify.out", {"classifier"}},
                                  {0}};

static const row k_roberta_rest[] = {{ROW_PAIR, "head.dense", {"lm_head.dense"}},
                                     {ROW_PAIR, "head.norm", {"lm_head.layer_norm"}},
                                     {ROW_WHOLE, "head.bias", {"lm_head.bias"}},
                                     {ROW_PAIR, "classify.dense", {"classifier.dense"}},
                                     {ROW_PAIR, "classify.out", {"classifier.out_proj"}},
                                     {0}};

#define DISTIL_SELF "@.transformer.layer.*.attention."

static const row k_distilbert_blocks[] = {
    {ROW_PAIR,
     "blocks.*.attn.qkv",
     {DISTIL_SELF "q_lin", DISTIL_SELF "k_lin", DISTIL_SELF "v_lin"}},
    {ROW_PAIR, "blocks.*.attn.proj", {DISTIL_SELF "out_lin"}},
    {ROW_PAIR, "blocks.*.norm1", {"@.transformer.layer.*.sa_layer_norm"}},
    {ROW_PAIR, "blocks.*.mlp.fc", {"@.transformer.layer.*.ffn.lin1"}},
    {ROW_PAIR, "blocks.*.mlp.proj", {"@.transformer.layer.*.ffn.lin2"}},
    {ROW_PAIR, "blocks.*.norm2", {"@.transformer.layer.*.output_layer_norm"}},
    {0}};

static const row k_distilbert_rest[] = {
    {ROW_WHOLE, "wte", {"@.embeddings.word_embeddings.weight"}},
    {ROW_WHOLE, "wpe", {"@.embeddings.position_embeddings.weight"}},
    {ROW_PAIR, "norm_embed", {"@.embeddings.LayerNorm"}},
    {ROW_PAIR, "head.dense", {"vocab_transform"}},
    {ROW_PAIR, "head.norm", {"vocab_layer_norm"}},
    {ROW_WHOLE, "head.bias", {"vocab_projector.bias"}},
    {0}};

/* Tied copies, which some versions write besides; no `ours`: a buffer. */
typedef struct extra {
    const char *theirs, *ours;
} extra;

static const extra k_gpt_extras[] = {
    {"lm_head.weight", "wte"}, {"@.h.*.attn.bias", NULL}, {"@.h.*.attn.masked_bias", NULL}, {0}};
static const extra k_bert_extras[] = {{"cls.predictions.decoder.weight", "wte"},
                                      {"cls.predictions.decoder.bias", "head.bias"},
                                      {"@.embeddings.position_ids", NULL},
                                      {"@.embeddings.token_type_ids", NULL},
                                      {0}};
static const extra k_roberta_extras[] = {{"lm_head.decoder.weight", "wte"},
                                         {"lm_head.decoder.bias", "head.bias"},
                                         {"@.embeddings.position_ids", NULL},
                                         {"@.embeddings.token_type_ids", NULL},
                                         {0}};
static const extra k_distilbert_extras[] = {
    {"vocab_projector.weight", "wte"}, {"@.embeddings.position_ids", NULL}, {0}};

typedef struct names {
    seo_family family;
    const char *root;
    const row *tables[2];
    const extra *extras;
} names;

/* GPT-3 without its bands is GPT-2. */
static const names k_names[] = {
    {SEO_FAMILY_GPT1, "transformer", {k_gpt_blocks, k_gpt1_rest}, k_gpt_extras},
    {SEO_FAMILY_GPT2, "transformer", {k_gpt_blocks, k_gpt2_rest}, k_gpt_extras},
    {SEO_FAMILY_GPT3, "transformer", {k_gpt_blocks, k_gpt2_rest}, k_gpt_extras},
    {SEO_FAMILY_BERT, "bert", {k_bert_blocks, k_bert_rest}, k_bert_extras},
    {SEO_FAMILY_ROBERTA, "roberta", {k_bert_blocks, k_roberta_rest}, k_roberta_extras},
    {SEO_FAMILY_DISTILBERT,
     "distilbert",
     {k_distilbert_blocks, k_distilbert_rest},
     k_distilbert_extras},
};

static const names *names_of(seo_family family) {
    const names *found = NULL;
    for (int64_t i = 0; i < SEO_COUNT_OF(k_names); i++) {
        if (k_names[i].family == family) found = &k_names[i];
    }
    SEO_ASSERT(found);
    return found;
}

const char *seo_hf_root(seo_family family) {
    return names_of(family)->root;
}

/* `name` is `pattern`, whose `*` stands for a number, which goes to `block`, and whose `@` for the
 * root; *rest: what follows it. */
static bool match(const char *pattern, const char *root, const char *name, char block[16],
                  const char **rest) {
    for (; *pattern; pattern++) {
        size_t length = 0;
        if (*pattern == '@') {
            length = strlen(root);
            if (strncmp(name, root, length) != 0) return false;
        } else if (*pattern == '*') {
            while (isdigit((unsigned char)name[length])) length++;
            if (length == 0 || length > 15) return false;
            memcpy(block, name, length);
            block[length] = '\0';
        } else {
            if (*name != *pattern) return false;
            length = 1;
        }
        name += length;
    }
    *rest = name;
    return true;
}

static void spell(char out[SEO_HF_NAME_MAX], const char *pattern, const char *root,
                  const char *block, const char *rest) {
    size_t used = 0;
    for (; *pattern; pattern++) {
        const char letter[2] = {*pattern, '\0'};
        const char *piece = *pattern == '@' ? root : *pattern == '*' ? block : letter;
        used += (size_t)snprintf(out + used, SEO_HF_NAME_MAX - used, "%s", piece);
        SEO_ASSERT(used < SEO_HF_NAME_MAX);
    }
    used += (size_t)snprintf(out + used, SEO_HF_NAME_MAX - used, "%s", rest);
    SEO_ASSERT(used < SEO_HF_NAME_MAX);
}

static bool link_row(const row *r, const char *root, const char *name, seo_hf_link *out) {
    char block[16] = "";
    const char *rest = "";
    if (!match(r->ours, root, name, block, &rest)) return false;
    const bool weight = strcmp(rest, ".weight") == 0, bias = strcmp(rest, ".bias") == 0;
    if (r->kind == ROW_WHOLE ? *rest != '\0' : !weight && !bias) return false;
    *out = (seo_hf_link){.transposed = r->kind == ROW_CONV1D && weight};
    while (out->parts < SEO_HF_PARTS_MAX && r->theirs[out->parts]) {
        spell(out->names[out->parts], r->theirs[out->parts], root, block, rest);
        out->parts++;
    }
    return true;
}

seo_err seo_hf_link_of(const seo_model_config *config, const seo_param *param, seo_hf_link *out) {
    const names *n = names_of(config->family);
    for (int t = 0; t < 2; t++) {
        for (const row *r = n->tables[t]; r->ours; r++) {
            if (link_row(r, n->root, param->name, out)) return SEO_OK;
        }
    }
    return SEO_FAIL(SEO_ERR_UNSUPPORTED, "transformers' class has no tensor for the parameter '%s'",
                    param->name);
}

seo_hf_extra seo_hf_extra_of(seo_family family, const char *theirs, const char **ours) {
    const names *n = names_of(family);
    for (const extra *e = n->extras; e->theirs; e++) {
        char block[16];
        const char *rest;
        if (!match(e->theirs, n->root, theirs, block, &rest) || *rest != '\0') continue;
        *ours = e->ours;
        return e->ours ? SEO_HF_EXTRA_COPY : SEO_HF_EXTRA_BUFFER;
    }
    return SEO_HF_EXTRA_UNKNOWN;
}
