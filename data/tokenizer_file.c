/* Reads vocabularies that others made: Hugging Face's tokenizer.json, and GPT-2's encoder.json with
 * vocab.bpe. Only byte-level BPE with GPT-2's pre-tokenizer is taken; whatever would give other ids
 * than its maker's program (normalizers, other pre-tokenizers, prefixes, dropout ...) is refused by
 * name. Truncation and padding are uses of a tokenizer, not part of it, and are passed over. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "data/bpe.h"
#include "data/byte_level.h"

enum { FILE_BYTES_MAX = 64 << 20 };

/* One file being read. */
typedef struct reader {
    const char *path;
    seo_bpe_builder builder;
    json_t *specials;    /* content -> id */
    seo_buf left, right; /* pieces being decoded */
} reader;

static void reader_free(reader *r) {
    seo_bpe_builder_free(&r->builder);
    json_decref(r->specials);
    seo_buf_free(&r->left);
    seo_buf_free(&r->right);
}

/* Decodes one piece from the byte-level alphabet into `out`. */
static seo_err read_piece(seo_buf *out, const char *text, size_t count) {
    seo_buf_clear(out);
    if (count == 0) return SEO_FAIL(SEO_ERR_FORMAT, "a piece is empty");
    if (!seo_byte_level_read(out, text, count)) {
        return SEO_FAIL(SEO_ERR_FORMAT,
                        "'%.*s' has a character that stands for no byte: not a byte-level "
                        "vocabulary",
                        count < 60 ? (int)count : 60, text);
    }
    return seo_buf_check(out);
}

/* A merge written "left right". */
static seo_err read_spaced_merge(reader *r, const char *text, size_t count) {
    const char *space = memchr(text, ' ', count);
    if (space == NULL || memchr(space + 1, ' ', (size_t)(text + count - space - 1)) != NULL) {
        return SEO_FAIL(SEO_ERR_FORMAT, "'%.*s' is not two pieces with one space between them",
                        count < 60 ? (int)count : 60, text);
    }
    seo_err err = read_piece(&r->left, text, (size_t)(space - text));
    if (err != SEO_OK) return err;
    err = read_piece(&r->right, space + 1, (size_t)(text + count - space - 1));
    if (err != SEO_OK) return err;
    return seo_bpe_builder_merge(&r->builder, r->left.data, r->left.bytes, r->right.data,
                                 r->right.bytes);
}

/* A merge written as one string or as a list of two. */
static seo_err read_merge(reader *r, const json_t *merge) {
    if (json_is_string(merge)) {
        return read_spaced_merge(r, json_string_value(merge), json_string_length(merge));
    }
    const json_t *left = json_array_get(merge, 0), *right = json_array_get(merge, 1);
    if (json_array_size(merge) != 2 || !json_is_string(left) || !json_is_string(right)) {
        return SEO_FAIL(SEO_ERR_FORMAT, "neither \"left right\" nor [\"left\", \"right\"]");
    }
    seo_err err = read_piece(&r->left, json_string_value(left), json_string_length(left));
    if (err != SEO_OK) return err;
    err = read_piece(&r->right, json_string_value(right), json_string_length(right));
    if (err != SEO_OK) return err;
    return seo_bpe_builder_merge(&r->builder, r->left.data, r->left.bytes, r->right.data,
                                 r->right.bytes);
}

static seo_err read_vocabulary_entry(reader *r, const char *key, const json_t *id) {
    if (!json_is_integer(id)) return SEO_FAIL(SEO_ERR_FORMAT, "the id is no integer");
    const json_t *special = json_object_get(r->specials, key);
    if (special != NULL) {
        if (json_integer_value(special) == json_integer_value(id)) return SEO_OK;
        return SEO_FAIL(SEO_ERR_FORMAT, "special token '%s' has two ids, %lld and %lld", key,
                        (long long)json_integer_value(special), (long long)json_integer_value(id));
    }
    seo_err err = read_piece(&r->left, key, strlen(key));
    if (err != SEO_OK) return err;
    return seo_bpe_builder_piece(&r->builder, json_integer_value(id), r->left.data, r->left.bytes);
}

/* All entries of `vocabulary` that are not among the special tokens, then the index over all. */
static seo_err read_vocabulary(reader *r, const char *place, json_t *vocabulary) {
    seo_err err = SEO_OK;
    const char *key;
    json_t *id;
    json_object_foreach(vocabulary, key, id) {
        err = read_vocabulary_entry(r, key, id);
        if (err != SEO_OK) return seo_err_context(err, "%s: %s[\"%.80s\"]", r->path, place, key);
    }
    err = seo_bpe_builder_index(&r->builder);
    return err == SEO_OK ? SEO_OK : seo_err_context(err, "%s: %s", r->path, place);
}

/* ---- Hugging Face ---- */

static seo_err refuse(const reader *r, const char *what, const char *remedy) {
    return SEO_FAIL(SEO_ERR_UNSUPPORTED, "%s: %s: %s", r->path, what, remedy);
}

static bool is_set(const json_t *value) {
    return value != NULL && !json_is_null(value);
}

/* The component `key` is null or a ByteLevel. */
static seo_err check_component(const reader *r, const json_t *root, const char *key) {
    const json_t *component = json_object_get(root, key);
    if (!is_set(component)) return SEO_OK;
    const char *type = json_string_value(json_object_get(component, "type"));
    if (type != NULL && strcmp(type, "ByteLevel") == 0) return SEO_OK;
    return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                    "%s: %s is '%.60s': only byte-level BPE as GPT-2's is read, where it is "
                    "'ByteLevel'",
                    r->path, key, type != NULL ? type : "(no type)");
}

static seo_err check_components(const reader *r, const json_t *root) {
    seo_err err = SEO_OK;
    if (is_set(json_object_get(root, "normalizer"))) {
        return refuse(r, "normalizer", "texts are read as they are, it must be null");
    }
    SEO_TRY(check_component(r, root, "pre_tokenizer"));
    SEO_TRY(check_component(r, root, "decoder"));
    const json_t *pre = json_object_get(root, "pre_tokenizer");
    if (!is_set(pre)) {
        return refuse(r, "pre_tokenizer", "words are cut as GPT-2 does, it must be a 'ByteLevel'");
    }
    if (!json_is_false(json_object_get(pre, "add_prefix_space"))) {
        return refuse(r, "pre_tokenizer.add_prefix_space",
                      "nothing is put before a text, it must "
                      "be false");
    }
    const json_t *regex = json_object_get(pre, "use_regex");
    if (regex != NULL && !json_is_true(regex)) {
        return refuse(r, "pre_tokenizer.use_regex", "words are cut as GPT-2 does, it must be true");
    }
done:
    return err;
}

static seo_err check_model(const reader *r, const json_t *model) {
    const json_t *type = json_object_get(model, "type");
    const char *name = json_string_value(type);
    if (type != NULL && (name == NULL || strcmp(name, "BPE") != 0)) {
        return SEO_FAIL(SEO_ERR_UNSUPPORTED, "%s: model.type is '%.60s': only 'BPE' is read",
                        r->path, name != NULL ? name : "(no string)");
    }
    const json_t *dropout = json_object_get(model, "dropout");
    if (is_set(dropout) && json_number_value(dropout) != 0.0) {
        return refuse(r, "model.dropout", "encoding is not random here, it must be null");
    }
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < sizeof affixes / sizeof affixes[0]; i++) {
        const json_t *affix = json_object_get(model, affixes[i]);
        if (is_set(affix) && (!json_is_string(affix) || json_string_length(affix) > 0)) {
            return refuse(r, affixes[i], "pieces are plain bytes, it must be empty");
        }
    }
    static const char *const flags[] = {"byte_fallback", "ignore_merges"};
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        const json_t *flag = json_object_get(model, flags[i]);
        if (is_set(flag) && !json_is_false(flag)) {
            return refuse(r, flags[i], "this changes the ids of some words, it must be false");
        }
    }
    return SEO_OK;
}

static seo_err read_added_token(reader *r, const json_t *token) {
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
    if (json_object_get(r->specials, text) != NULL) {
        return SEO_FAIL(SEO_ERR_FORMAT, "'%.60s' is there twice", text);
    }
    if (json_object_set_new(r->specials, text, json_integer(json_integer_value(id))) != 0) {
        return SEO_FAIL(SEO_ERR_MEMORY, "not enough memory for the special tokens");
    }
    seo_err err = seo_bpe_builder_special(&r->builder, json_integer_value(id), text,
                                          json_string_length(content));
    if (err == SEO_OK && json_is_true(json_object_get(token, "lstrip")))
        seo_bpe_builder_strip_left(&r->builder);
    return err;
}

static seo_err read_added_tokens(reader *r, const json_t *root) {
    r->specials = json_object();
    if (r->specials == NULL) return SEO_FAIL(SEO_ERR_MEMORY, "not enough memory for '%s'", r->path);
    const json_t *tokens = json_object_get(root, "added_tokens");
    if (is_set(tokens) && !json_is_array(tokens)) {
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
static seo_err check_frame_token(const reader *r, const char *text, const json_t *id) {
    const json_t *special = text != NULL ? json_object_get(r->specials, text) : NULL;
    if (special != NULL && json_is_integer(id) &&
        json_integer_value(special) == json_integer_value(id))
        return SEO_OK;
    return SEO_FAIL(SEO_ERR_FORMAT,
                    "%s: post_processor: '%.60s' is not a special token of this file with that id",
                    r->path, text != NULL ? text : "(no string)");
}

static seo_err check_pair_frame(const reader *r, const json_t *processor) {
    static const char *const keys[] = {"cls", "sep"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const json_t *token = json_object_get(processor, keys[i]);
        seo_err err = check_frame_token(r, json_string_value(json_array_get(token, 0)),
                                        json_array_get(token, 1));
        if (err != SEO_OK) return err;
    }
    return SEO_OK;
}

static seo_err check_template(const reader *r, const json_t *processor) {
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

static seo_err check_post_processor(const reader *r, const json_t *processor) {
    if (!is_set(processor)) return SEO_OK;
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

/* With all 256 bytes in the vocabulary it is never used, but it must be one of its tokens. */
static seo_err check_unknown(const reader *r, const json_t *model) {
    const json_t *unknown = json_object_get(model, "unk_token");
    if (!is_set(unknown)) return SEO_OK;
    const char *text = json_string_value(unknown);
    if (text != NULL && json_object_get(r->specials, text) != NULL) return SEO_OK;
    return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                    "%s: model.unk_token is '%.60s': it must be null or one of added_tokens",
                    r->path, text != NULL ? text : "(no string)");
}

static seo_err read_merges(reader *r, const json_t *merges) {
    for (size_t i = 0; i < json_array_size(merges); i++) {
        seo_err err = read_merge(r, json_array_get(merges, i));
        if (err != SEO_OK) return seo_err_context(err, "%s: model.merges[%zu]", r->path, i);
    }
    return SEO_OK;
}

static seo_err read_hugging_face(reader *r, const json_t *root, seo_tokenizer **out) {
    seo_err err = SEO_OK;
    const json_t *model = json_object_get(root, "model");
    json_t *vocabulary = json_object_get(model, "vocab");
    const json_t *merges = json_object_get(model, "merges");
    if (!json_is_object(root) || !json_is_object(model)) {
        return SEO_FAIL(SEO_ERR_FORMAT,
                        "%s: no object 'model' in it: not a Hugging Face tokenizer.json", r->path);
    }
    SEO_TRY(check_model(r, model));
    SEO_TRY(check_components(r, root));
    if (!json_is_object(vocabulary) || !json_is_array(merges)) {
        return SEO_FAIL(SEO_ERR_FORMAT, "%s: model needs an object 'vocab' and a list 'merges'",
                        r->path);
    }
    SEO_TRY(read_added_tokens(r, root));
    SEO_TRY(check_unknown(r, model));
    SEO_TRY(check_post_processor(r, json_object_get(root, "post_processor")));
    SEO_TRY(read_vocabulary(r, "model.vocab", vocabulary));
    SEO_TRY(read_merges(r, merges));
    err = seo_bpe_builder_finish(&r->builder, out);
    if (err != SEO_OK) seo_err_context(err, "%s: model", r->path);
done:
    return err;
}

seo_err seo_tokenizer_load(const char *path, seo_tokenizer **out) {
    seo_err err = SEO_OK;
    json_t *root = NULL;
    reader r = {.path = path};
    SEO_TRY(seo_json_load(path, FILE_BYTES_MAX, &root));
    SEO_TRY(read_hugging_face(&r, root, out));
done:
    reader_free(&r);
    json_decref(root);
    return err;
}

seo_err seo_tokenizer_parse(const char *name, const char *text, size_t bytes, seo_tokenizer **out) {
    seo_err err = SEO_OK;
    json_t *root = NULL;
    reader r = {.path = name};
    SEO_TRY(seo_json_parse(name, text, bytes, &root));
    SEO_TRY(read_hugging_face(&r, root, out));
done:
    reader_free(&r);
    json_decref(root);
    return err;
}

/* ---- GPT-2's two files ---- */

static seo_err read_encoder_json(reader *r) {
    seo_err err = SEO_OK;
    json_t *root = NULL;
    SEO_TRY(seo_json_load(r->path, FILE_BYTES_MAX, &root));
    if (!json_is_object(root)) {
        err = SEO_FAIL(SEO_ERR_FORMAT, "%s: not an object of pieces and ids", r->path);
        goto done;
    }
    r->specials = json_object();
    json_t *eot = json_object_get(root, SEO_EOT_TEXT);
    if (json_is_integer(eot)) {
        json_object_set(r->specials, SEO_EOT_TEXT, eot);
        err = seo_bpe_builder_special(&r->builder, json_integer_value(eot), SEO_EOT_TEXT,
                                      strlen(SEO_EOT_TEXT));
        if (err != SEO_OK) seo_err_context(err, "%s: [\"" SEO_EOT_TEXT "\"]", r->path);
        if (err != SEO_OK) goto done;
    }
    SEO_TRY(read_vocabulary(r, "vocabulary", root));
done:
    json_decref(root);
    return err;
}

/* An optional first line "#version: ...", then a merge a line. */
static seo_err read_vocab_bpe(reader *r, const char *path) {
    char *text = NULL;
    int64_t bytes = 0, line = 0;
    seo_err err = SEO_OK;
    SEO_TRY(seo_file_read(path, FILE_BYTES_MAX, &text, &bytes));
    for (int64_t at = 0; at < bytes;) {
        const char *p = text + at;
        const char *stop = memchr(p, '\n', (size_t)(bytes - at));
        size_t length = stop != NULL ? (size_t)(stop - p) : (size_t)(bytes - at);
        at += (int64_t)length + 1;
        line++;
        if (length > 0 && p[length - 1] == '\r') length--;
        bool version = line == 1 && length >= 9 && memcmp(p, "#version:", 9) == 0;
        if (length > 0 && !version) err = read_spaced_merge(r, p, length);
        if (err != SEO_OK) {
            seo_err_context(err, "%s:%lld", path, (long long)line);
            goto done;
        }
    }
done:
    free(text);
    return err;
}

seo_err seo_tokenizer_load_gpt2(const char *encoder_json, const char *vocab_bpe,
                                seo_tokenizer **out) {
    seo_err err = SEO_OK;
    reader r = {.path = encoder_json};
    SEO_TRY(read_encoder_json(&r));
    SEO_TRY(read_vocab_bpe(&r, vocab_bpe));
    err = seo_bpe_builder_finish(&r.builder, out);
    if (err != SEO_OK) seo_err_context(err, "%s", vocab_bpe);
done:
    reader_free(&r);
    return err;
}
