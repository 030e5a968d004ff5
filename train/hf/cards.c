#include "train/hf/cards.h"

#include <inttypes.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "train/hf/model_json.h"

static seo_err write_text(const seo_hf_cards *cards, const char *name, seo_buf *text) {
    seo_err err = SEO_OK;
    char path[SEO_PATH_MAX];
    SEO_TRY(seo_buf_check(text));
    SEO_TRY(seo_path_join(path, cards->dir, name));
    SEO_TRY(seo_file_write_atomic(path, text->data, (int64_t)text->bytes));
done:
    seo_buf_clear(text);
    return err;
}

/* The names that transformers' tokenizers give the roles. */
static void add_special_names(const seo_tokenizer *tok, bool decoder, seo_buf *out) {
    static const struct {
        seo_role role;
        const char *key;
    } keys[] = {{SEO_ROLE_BOS, "bos_token"},  {SEO_ROLE_EOT, "eos_token"},
                {SEO_ROLE_UNK, "unk_token"},  {SEO_ROLE_PAD, "pad_token"},
                {SEO_ROLE_CLS, "cls_token"},  {SEO_ROLE_SEP, "sep_token"},
                {SEO_ROLE_MASK, "mask_token"}};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        int32_t id = seo_tokenizer_role(tok, keys[i].role);
        /* GPT-2's one special token begins texts as well. */
        if (id < 0 && decoder && keys[i].role == SEO_ROLE_BOS) id = seo_tokenizer_eot(tok);
        const unsigned char *bytes = NULL;
        size_t count = 0;
        if (id < 0 || !seo_tokenizer_piece(tok, id, &bytes, &count)) continue;
        seo_buf_format(out, "  \"%s\": ", keys[i].key);
        seo_buf_json_string(out, (const char *)bytes, count);
        seo_buf_text(out, ",\n");
    }
}

/* PreTrainedTokenizerFast takes tokenizer.json as it is. */
static void add_tokenizer_config(const seo_hf_cards *cards, seo_buf *out) {
    const bool decoder = !seo_family_is_encoder(cards->model->family);
    seo_buf_text(out, "{\n  \"tokenizer_class\": \"PreTrainedTokenizerFast\",\n");
    add_special_names(cards->tokenizer, decoder, out);
    if (cards->model->family == SEO_FAMILY_BERT) {
        seo_buf_text(out, "  \"model_input_names\": [\"input_ids\", \"token_type_ids\", "
                          "\"attention_mask\"],\n");
    } else {
        seo_buf_text(out, "  \"model_input_names\": [\"input_ids\", \"attention_mask\"],\n");
    }
    seo_buf_format(
        out, "  \"clean_up_tokenization_spaces\": false,\n  \"model_max_length\": %" PRId64 "\n}\n",
        cards->model->seq_len);
}

static seo_err write_tokenizer(const seo_hf_cards *cards, seo_buf *text) {
    seo_err err = SEO_OK;
    char path[SEO_PATH_MAX];
    if (!cards->tokenizer) return SEO_OK;
    SEO_TRY(seo_path_join(path, cards->dir, "tokenizer.json"));
    SEO_TRY(seo_tokenizer_save(cards->tokenizer, path));
    add_tokenizer_config(cards, text);
    SEO_TRY(write_text(cards, "tokenizer_config.json", text));
done:
    return err;
}

static void add_generation(const seo_hf_cards *cards, seo_buf *out) {
    const int32_t eot = cards->tokenizer ? seo_tokenizer_eot(cards->tokenizer) : -1;
    if (eot < 0) {
        seo_buf_text(out, "{}\n");
    } else {
        seo_buf_format(out, "{\n  \"bos_token_id\": %d,\n  \"eos_token_id\": %d\n}\n", (int)eot,
                       (int)eot);
    }
}

static void add_readme(const seo_hf_cards *cards, seo_buf *out) {
    char parameters[SEO_SHORT_TEXT], step[SEO_SHORT_TEXT], tokens[SEO_SHORT_TEXT];
    const seo_model_config *c = cards->model;
    seo_buf_format(out,
                   "---\nlibrary_name: transformers\n---\n\n# %s\n\nWritten by Seodang.\n\n"
                   "| | |\n|---|---|\n| parameters | %s |\n| layers x width x heads | %" PRId64
                   " x %" PRId64 " x %" PRId64 " |\n| context | %" PRId64
                   " tokens |\n| vocabulary | %" PRId64 " |\n",
                   seo_hf_architecture(c), seo_format_count(parameters, cards->parameters),
                   c->num_layers, c->hidden_size, c->num_heads, c->seq_len, c->vocab_size);
    /* Of an imported model nobody here knows. */
    if (cards->state->step > 0) {
        seo_buf_format(out, "| trained for | %s steps, %s tokens |\n",
                       seo_format_count(step, cards->state->step),
                       seo_format_count(tokens, cards->state->tokens));
    }
    if (cards->tokenizer) {
        seo_buf_format(out, "| SHA-256 of the tokenizer | %s |\n",
                       seo_tokenizer_sha256(cards->tokenizer));
    }
}

seo_err seo_hf_cards_write(const seo_hf_cards *cards) {
    seo_err err = SEO_OK;
    seo_buf text = {0};
    SEO_TRY(seo_hf_model_write(cards->model, cards->labels, cards->tokenizer, cards->dtype, &text));
    SEO_TRY(write_text(cards, "config.json", &text));
    SEO_TRY(write_tokenizer(cards, &text));
    if (!seo_family_is_encoder(cards->model->family)) {
        add_generation(cards, &text);
        SEO_TRY(write_text(cards, "generation_config.json", &text));
    }
    add_readme(cards, &text);
    SEO_TRY(write_text(cards, "README.md", &text));
done:
    seo_buf_free(&text);
    return err;
}
