/* Reads Hugging Face's tokenizer.json: what all kinds of vocabulary have in it. Whatever would give
 * other ids than its maker's program is refused by name. Truncation, padding and what is put around
 * texts are uses of a tokenizer, not part of it: they are passed over. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "data/tokenizer_reader.h"

void seo_tokenizer_reader_free(seo_tokenizer_reader *r) {
    seo_vocab_builder_free(&r->builder);
    json_decref(r->specials);
    seo_buf_free(&r->left);
    seo_buf_free(&r->right);
}

seo_err seo_tokenizer_refuse(const seo_tokenizer_reader *r, const char *what, const char *remedy) {
    return SEO_FAIL(SEO_ERR_UNSUPPORTED, "%s: %s: %s", r->path, what, remedy);
}

/* A piece of WordPiece is text. */
static seo_err read_text_piece(seo_buf *out, const char *text, size_t count) {
    seo_buf_clear(out);
    if (count == 0) return SEO_FAIL(SEO_ERR_FORMAT, "a piece is empty");
    seo_buf_add(out, text, count);
    return seo_buf_check(out);
}

static seo_err read_vocabulary_entry(seo_tokenizer_reader *r, const char *key, const json_t *id) {
    if (!json_is_integer(id)) return SEO_FAIL(SEO_ERR_FORMAT, "the id is no integer");
    const json_t *special = json_object_get(r->specials, key);
    if (special != NULL) {
        if (json_integer_value(special) == json_integer_value(id)) return SEO_OK;
        return SEO_FAIL(SEO_ERR_FORMAT, "special token '%s' has two ids, %lld and %lld", key,
                        (long long)json_integer_value(special), (long long)json_integer_value(id));
    }
    bool bpe = r->builder.kind == SEO_TOKENIZER_BPE;
    seo_err err = bpe ? seo_read_byte_level(&r->left, key, strlen(key))
                      : read_text_piece(&r->left, key, strlen(key));
    if (err != SEO_OK) return err;
    return seo_vocab_builder_piece(&r->builder, json_integer_value(id), r->left.data,
                                   r->left.bytes);
}

/* All entries of `vocabulary` that are not among the special tokens, then the index over all. */
seo_err seo_read_vocabulary(seo_tokenizer_reader *r, const char *place, json_t *vocabulary) {
    seo_err err = SEO_OK;
    const char *key;
    json_t *id;
    json_object_foreach(vocabulary, key, id) {
        err = read_vocabulary_entry(r, key, id);
        if (err != SEO_OK) return seo_err_context(err, "%s: %s[\"%.80s\"]", r->path, place, key);
    }
    err = seo_vocab_builder_index(&r->builder);
    return err == SEO_OK ? SEO_OK : seo_err_context(err, "%s: %s", r->path, place);
}

seo_err seo_read_special(seo_tokenizer_reader *r, const char *text, int64_t id) {
    if (r->specials == NULL) r->specials = json_object();
    if (json_object_get(r->specials, text) != NULL) {
        return SEO_FAIL(SEO_ERR_FORMAT, "'%.60s' is there twice", text);
    }
    if (json_object_set_new(r->specials, text, json_integer(id)) != 0) {
        return SEO_FAIL(SEO_ERR_MEMORY, "not enough memory for the special tokens");
    }
    return seo_vocab_builder_special(&r->builder, id, text, strlen(text));
}

static seo_err read_added_token(seo_tokenizer_reader *r, const json_t *token) {
    const json_t *content = json_object_get(token, "content");
    const json_t *id = json_object_get(token, "id");
    if (!json_is_string(content) || !json_is_integer(id)) {
        return SEO_FAIL(SEO_ERR_FORMAT, "a string 'content' and an integer 'id' are needed");
    }
    const char *text = json_string_value(content);
    if (!json_is_true(json_object_get(token, "special"))) {
        return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                        "'%.60s' is not special: texts would be cut at it before words are looked "
                        "for, which is not done here",
                        text);
    }
    static const char *const flags[] = {"single_word", "rstrip"};
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        if (json_is_true(json_object_get(token, flags[i]))) {
            return SEO_FAIL(SEO_ERR_UNSUPPORTED, "'%.60s': %s must be false", text, flags[i]);
        }
    }
    seo_err err = seo_read_special(r, text, json_integer_value(id));
    if (err == SEO_OK && json_is_true(json_object_get(token, "lstrip")))
        seo_vocab_builder_strip_left(&r->builder);
    return err;
}

static seo_err read_added_tokens(seo_tokenizer_reader *r, const json_t *root) {
    r->specials = json_object();
    if (r->specials == NULL) return SEO_FAIL(SEO_ERR_MEMORY, "not enough memory for '%s'", r->path);
    const json_t *tokens = json_object_get(root, "added_tokens");
    if (seo_json_is_set(tokens) && !json_is_array(tokens)) {
        return SEO_FAIL(SEO_ERR_FORMAT, "%s: added_tokens is no list", r->path);
    }
    for (size_t i = 0; i < json_array_size(tokens); i++) {
        seo_err err = read_added_token(r, json_array_get(tokens, i));
        if (err != SEO_OK) return seo_err_context(err, "%s: added_tokens[%zu]", r->path, i);
    }
    return SEO_OK;
}

/* What is put around a text is the user's matter and not done by encoding, but the tokens have to
 * be those of the vocabulary. */
static seo_err check_frame_token(const seo_tokenizer_reader *r, const char *text,
                                 const json_t *id) {
    const json_t *special = text != NULL ? json_object_get(r->specials, text) : NULL;
    if (special != NULL && json_is_integer(id) &&
        json_integer_value(special) == json_integer_value(id))
        return SEO_OK;
    return SEO_FAIL(SEO_ERR_FORMAT,
                    "%s: post_processor: '%.60s' is not a special token of this file with that id",
                    r->path, text != NULL ? text : "(no string)");
}

static seo_err check_pair_frame(const seo_tokenizer_reader *r, const json_t *processor) {
    static const char *const keys[] = {"cls", "sep"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const json_t *token = json_object_get(processor, keys[i]);
        seo_err err = check_frame_token(r, json_string_value(json_array_get(token, 0)),
                                        json_array_get(token, 1));
        if (err != SEO_OK) return err;
    }
    return SEO_OK;
}

static seo_err check_template(const seo_tokenizer_reader *r, const json_t *processor) {
    json_t *tokens = json_object_get(processor, "special_tokens");
    const char *name;
    json_t *token;
    json_object_foreach(tokens, name, token) {
        const json_t *ids = json_object_get(token, "ids"),
                     *texts = json_object_get(token, "tokens");
        size_t count = json_array_size(ids);
        if (count == 0 || json_array_size(texts) != count) {
            return SEO_FAIL(SEO_ERR_FORMAT,
                            "%s: post_processor.special_tokens: '%.60s' needs 'ids' and 'tokens'",
                            r->path, name);
        }
        for (size_t i = 0; i < count; i++) {
            seo_err err = check_frame_token(r, json_string_value(json_array_get(texts, i)),
                                            json_array_get(ids, i));
            if (err != SEO_OK) return err;
        }
    }
    return SEO_OK;
}

static seo_err check_post_processor(const seo_tokenizer_reader *r, const json_t *processor) {
    if (!seo_json_is_set(processor)) return SEO_OK;
    const char *type = json_string_value(json_object_get(processor, "type"));
    if (type == NULL) type = "(no type)";
    if (strcmp(type, "ByteLevel") == 0) return SEO_OK;
    if (strcmp(type, "TemplateProcessing") == 0) return check_template(r, processor);
    if (strcmp(type, "RobertaProcessing") == 0 || strcmp(type, "BertProcessing") == 0)
        return check_pair_frame(r, processor);
    return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                    "%s: post_processor is '%.60s': read are ByteLevel, RobertaProcessing, "
                    "BertProcessing and TemplateProcessing",
                    r->path, type);
}

static seo_err read_hugging_face(seo_tokenizer_reader *r, const json_t *root, seo_tokenizer **out) {
    seo_err err = SEO_OK;
    const json_t *model = json_object_get(root, "model");
    if (!json_is_object(root) || !json_is_object(model)) {
        return SEO_FAIL(SEO_ERR_FORMAT,
                        "%s: no object 'model' in it: not a Hugging Face tokenizer.json", r->path);
    }
    const json_t *type = json_object_get(model, "type");
    const char *name = type == NULL ? "BPE" : json_string_value(type);
    bool wordpiece = name != NULL && strcmp(name, "WordPiece") == 0;
    if (!wordpiece && (name == NULL || strcmp(name, "BPE") != 0)) {
        return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                        "%s: model.type is '%.60s': only 'BPE' and 'WordPiece' are read", r->path,
                        name != NULL ? name : "(no string)");
    }
    r->builder.kind = wordpiece ? SEO_TOKENIZER_WORDPIECE : SEO_TOKENIZER_BPE;
    SEO_TRY(read_added_tokens(r, root));
    SEO_TRY(wordpiece ? seo_read_wordpiece(r, root, model) : seo_read_bpe(r, root, model));
    SEO_TRY(check_post_processor(r, json_object_get(root, "post_processor")));
    err = seo_vocab_builder_finish(&r->builder, out);
    if (err != SEO_OK) seo_err_context(err, "%s: model", r->path);
done:
    return err;
}

seo_err seo_tokenizer_load(const char *path, seo_tokenizer **out) {
    seo_err err = SEO_OK;
    json_t *root = NULL;
    seo_tokenizer_reader r = {.path = path};
    SEO_TRY(seo_json_load(path, SEO_TOKENIZER_BYTES_MAX, &root));
    SEO_TRY(read_hugging_face(&r, root, out));
done:
    seo_tokenizer_reader_free(&r);
    json_decref(root);
    return err;
}

seo_err seo_tokenizer_parse(const char *name, const char *text, size_t bytes, seo_tokenizer **out) {
    seo_err err = SEO_OK;
    json_t *root = NULL;
    seo_tokenizer_reader r = {.path = name};
    SEO_TRY(seo_json_parse(name, text, bytes, &root));
    SEO_TRY(read_hugging_face(&r, root, out));
done:
    seo_tokenizer_reader_free(&r);
    json_decref(root);
    return err;
}
