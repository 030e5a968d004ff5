/* WordPiece from files that others made: the model of a tokenizer.json with BERT's text rules, and
 * BERT's vocab.txt. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "data/tokenizer_reader.h"

/* The component `key` is an object of the type, or the reason is told with what it is for. */
static seo_err check_type(const seo_tokenizer_reader *r, const json_t *component, const char *key,
                          const char *wanted) {
    const char *type = json_string_value(json_object_get(component, "type"));
    if (type != NULL && strcmp(type, wanted) == 0) return SEO_OK;
    return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                    "%s: %s is '%.60s': WordPiece is read with BERT's text rules, where it is '%s'",
                    r->path, key, type != NULL ? type : "(no type)", wanted);
}

/* A member that is true or false; `missing` where there is none. */
static seo_err read_flag(const seo_tokenizer_reader *r, const json_t *object, const char *key,
                         bool missing, bool *out) {
    const json_t *flag = json_object_get(object, key);
    *out = seo_json_is_set(flag) ? json_is_true(flag) : missing;
    if (!seo_json_is_set(flag) || json_is_boolean(flag)) return SEO_OK;
    return SEO_FAIL(SEO_ERR_FORMAT, "%s: normalizer.%s is neither true nor false", r->path, key);
}

static seo_err read_normalizer(seo_tokenizer_reader *r, const json_t *normalizer) {
    seo_err err = SEO_OK;
    seo_wordpiece_rules *rules = &r->builder.rules;
    bool clean = true;
    SEO_TRY(check_type(r, normalizer, "normalizer", "BertNormalizer"));
    SEO_TRY(read_flag(r, normalizer, "clean_text", true, &clean));
    SEO_TRY(read_flag(r, normalizer, "lowercase", true, &rules->lower_case));
    SEO_TRY(read_flag(r, normalizer, "handle_chinese_chars", true, &rules->chinese));
    SEO_TRY(read_flag(r, normalizer, "strip_accents", rules->lower_case, &rules->strip_accents));
    if (!clean) {
        err = seo_tokenizer_refuse(r, "normalizer.clean_text",
                                   "control characters are always dropped here, it must be true");
    }
done:
    return err;
}

static seo_err check_decoder(const seo_tokenizer_reader *r, const json_t *decoder) {
    if (!seo_json_is_set(decoder)) return SEO_OK;
    seo_err err = check_type(r, decoder, "decoder", "WordPiece");
    const char *prefix = json_string_value(json_object_get(decoder, "prefix"));
    if (err != SEO_OK || (prefix != NULL && strcmp(prefix, SEO_WORDPIECE_PREFIX) == 0)) return err;
    return seo_tokenizer_refuse(r, "decoder.prefix", "pieces inside of words begin with '##'");
}

static seo_err read_model(seo_tokenizer_reader *r, const json_t *model) {
    const json_t *prefix = json_object_get(model, "continuing_subword_prefix");
    const char *text = json_string_value(prefix);
    if (prefix != NULL && (text == NULL || strcmp(text, SEO_WORDPIECE_PREFIX) != 0)) {
        return seo_tokenizer_refuse(r, "model.continuing_subword_prefix",
                                    "pieces inside of words begin with '##'");
    }
    const json_t *longest = json_object_get(model, "max_input_chars_per_word");
    json_int_t characters = SEO_WORDPIECE_CHARACTERS_MAX;
    if (seo_json_is_set(longest)) characters = json_integer_value(longest);
    if (characters < 1 || characters > INT32_MAX) {
        return SEO_FAIL(SEO_ERR_FORMAT, "%s: model.max_input_chars_per_word is not in 1..%d",
                        r->path, INT32_MAX);
    }
    r->builder.rules.characters_max = (int32_t)characters;
    return SEO_OK;
}

/* The unknown token is a special one, also where the file does not list it as such. */
static seo_err read_unknown(seo_tokenizer_reader *r, const json_t *model) {
    const json_t *unknown = json_object_get(model, "unk_token");
    const char *text = unknown == NULL ? "[UNK]" : json_string_value(unknown);
    if (text == NULL || (strcmp(text, "[UNK]") != 0 && strcmp(text, "<unk>") != 0)) {
        return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                        "%s: model.unk_token is '%.60s': it must be [UNK] (or <unk>)", r->path,
                        text != NULL ? text : "(no string)");
    }
    if (strcmp(text, "[UNK]") == 0 && json_object_get(r->specials, "<unk>") != NULL) {
        return seo_tokenizer_refuse(r, "model.unk_token",
                                    "it is [UNK], but there is a special token <unk>, too");
    }
    const json_t *id = json_object_get(json_object_get(model, "vocab"), text);
    if (json_object_get(r->specials, text) != NULL) return SEO_OK;
    if (!json_is_integer(id)) {
        return SEO_FAIL(SEO_ERR_FORMAT, "%s: model.unk_token '%s' is not in model.vocab", r->path,
                        text);
    }
    seo_err err = seo_read_special(r, text, json_integer_value(id));
    return err == SEO_OK ? SEO_OK : seo_err_context(err, "%s: model.unk_token", r->path);
}

/* A special token that is looked for in the changed text would be found elsewhere. */
static seo_err check_added_tokens(const seo_tokenizer_reader *r, const json_t *tokens) {
    for (size_t i = 0; i < json_array_size(tokens); i++) {
        if (!json_is_true(json_object_get(json_array_get(tokens, i), "normalized"))) continue;
        return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                        "%s: added_tokens[%zu].normalized: special tokens are looked for in the "
                        "text as it is, it must be false",
                        r->path, i);
    }
    return SEO_OK;
}

seo_err seo_read_wordpiece(seo_tokenizer_reader *r, const json_t *root, const json_t *model) {
    seo_err err = SEO_OK;
    json_t *vocabulary = json_object_get(model, "vocab");
    SEO_TRY(read_model(r, model));
    SEO_TRY(read_normalizer(r, json_object_get(root, "normalizer")));
    SEO_TRY(
        check_type(r, json_object_get(root, "pre_tokenizer"), "pre_tokenizer", "BertPreTokenizer"));
    SEO_TRY(check_decoder(r, json_object_get(root, "decoder")));
    SEO_TRY(check_added_tokens(r, json_object_get(root, "added_tokens")));
    if (!json_is_object(vocabulary)) {
        return SEO_FAIL(SEO_ERR_FORMAT, "%s: model needs an object 'vocab'", r->path);
    }
    SEO_TRY(read_unknown(r, model));
    SEO_TRY(seo_read_vocabulary(r, "model.vocab", vocabulary));
done:
    return err;
}

/* ---- BERT's vocab.txt ---- */

static bool is_bert_special(const char *text, size_t count) {
    static const char *const names[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strlen(names[i]) == count && memcmp(names[i], text, count) == 0) return true;
    }
    return false;
}

static seo_err read_line(seo_tokenizer_reader *r, int64_t id, const char *text, size_t count) {
    if (count > 0 && text[count - 1] == '\r') count--;
    if (count == 0) {
        return SEO_FAIL(SEO_ERR_FORMAT, "an empty line: each line is the piece of one id");
    }
    if (seo_utf8_first_bad(text, count) >= 0) {
        return SEO_FAIL(SEO_ERR_FORMAT, "the piece is not UTF-8");
    }
    return is_bert_special(text, count) ? seo_vocab_builder_special(&r->builder, id, text, count)
                                        : seo_vocab_builder_piece(&r->builder, id, text, count);
}

static seo_err read_lines(seo_tokenizer_reader *r, const char *text, int64_t bytes) {
    int64_t id = 0;
    for (int64_t at = 0; at < bytes; id++) {
        const char *p = text + at, *stop = memchr(p, '\n', (size_t)(bytes - at));
        size_t length = stop != NULL ? (size_t)(stop - p) : (size_t)(bytes - at);
        at += (int64_t)length + 1;
        seo_err err = read_line(r, id, p, length);
        if (err != SEO_OK) return seo_err_context(err, "%s:%lld", r->path, (long long)id + 1);
    }
    return SEO_OK;
}

seo_err seo_tokenizer_parse_bert(const char *name, const char *text, size_t bytes, bool cased,
                                 seo_tokenizer **out) {
    seo_err err = SEO_OK;
    seo_tokenizer_reader r = {.path = name};
    r.builder.kind = SEO_TOKENIZER_WORDPIECE;
    r.builder.rules = (seo_wordpiece_rules){.lower_case = !cased,
                                            .strip_accents = !cased,
                                            .chinese = true,
                                            .characters_max = SEO_WORDPIECE_CHARACTERS_MAX};
    SEO_TRY(read_lines(&r, text, (int64_t)bytes));
    err = seo_vocab_builder_index(&r.builder);
    if (err == SEO_OK) err = seo_vocab_builder_finish(&r.builder, out);
    if (err != SEO_OK) seo_err_context(err, "%s", name);
done:
    seo_tokenizer_reader_free(&r);
    return err;
}

seo_err seo_tokenizer_load_bert(const char *vocab_txt, bool cased, seo_tokenizer **out) {
    char *text = NULL;
    int64_t bytes = 0;
    seo_err err = seo_file_read(vocab_txt, SEO_TOKENIZER_BYTES_MAX, &text, &bytes);
    if (err == SEO_OK) err = seo_tokenizer_parse_bert(vocab_txt, text, (size_t)bytes, cased, out);
    free(text);
    return err;
}
