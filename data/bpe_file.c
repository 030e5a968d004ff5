/* Byte-level BPE from files that others made: the model of a tokenizer.json, and GPT-2's
 * encoder.json with vocab.bpe. Words are cut as GPT-2 does; anything else is refused by name. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "data/byte_level.h"
#include "data/tokenizer_reader.h"

/* Decodes one piece from the byte-level alphabet into `out`. */
seo_err seo_read_byte_level(seo_buf *out, const char *text, size_t count) {
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
static seo_err read_spaced_merge(seo_tokenizer_reader *r, const char *text, size_t count) {
    const char *space = memchr(text, ' ', count);
    if (space == NULL || memchr(space + 1, ' ', (size_t)(text + count - space - 1)) != NULL) {
        return SEO_FAIL(SEO_ERR_FORMAT, "'%.*s' is not two pieces with one space between them",
                        count < 60 ? (int)count : 60, text);
    }
    seo_err err = seo_read_byte_level(&r->left, text, (size_t)(space - text));
    if (err != SEO_OK) return err;
    err = seo_read_byte_level(&r->right, space + 1, (size_t)(text + count - space - 1));
    if (err != SEO_OK) return err;
    return seo_vocab_builder_merge(&r->builder, r->left.data, r->left.bytes, r->right.data,
                                   r->right.bytes);
}

/* A merge written as one string or as a list of two. */
static seo_err read_merge(seo_tokenizer_reader *r, const json_t *merge) {
    if (json_is_string(merge)) {
        return read_spaced_merge(r, json_string_value(merge), json_string_length(merge));
    }
    const json_t *left = json_array_get(merge, 0), *right = json_array_get(merge, 1);
    if (json_array_size(merge) != 2 || !json_is_string(left) || !json_is_string(right)) {
        return SEO_FAIL(SEO_ERR_FORMAT, "neither \"left right\" nor [\"left\", \"right\"]");
    }
    seo_err err = seo_read_byte_level(&r->left, json_string_value(left), json_string_length(left));
    if (err != SEO_OK) return err;
    err = seo_read_byte_level(&r->right, json_string_value(right), json_string_length(right));
    if (err != SEO_OK) return err;
    return seo_vocab_builder_merge(&r->builder, r->left.data, r->left.bytes, r->right.data,
                                   r->right.bytes);
}

/* ---- Hugging Face ---- */

/* The component `key` is null or a ByteLevel. */
static seo_err check_component(const seo_tokenizer_reader *r, const json_t *root, const char *key) {
    const json_t *component = json_object_get(root, key);
    if (!seo_json_is_set(component)) return SEO_OK;
    const char *type = json_string_value(json_object_get(component, "type"));
    if (type != NULL && strcmp(type, "ByteLevel") == 0) return SEO_OK;
    return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                    "%s: %s is '%.60s': only byte-level BPE as GPT-2's is read, where it is "
                    "'ByteLevel'",
                    r->path, key, type != NULL ? type : "(no type)");
}

static seo_err check_components(const seo_tokenizer_reader *r, const json_t *root) {
    seo_err err = SEO_OK;
    if (seo_json_is_set(json_object_get(root, "normalizer"))) {
        return seo_tokenizer_refuse(r, "normalizer", "texts are read as they are, it must be null");
    }
    SEO_TRY(check_component(r, root, "pre_tokenizer"));
    SEO_TRY(check_component(r, root, "decoder"));
    const json_t *pre = json_object_get(root, "pre_tokenizer");
    if (!seo_json_is_set(pre)) {
        return seo_tokenizer_refuse(r, "pre_tokenizer",
                                    "words are cut as GPT-2 does, it must be a 'ByteLevel'");
    }
    if (!json_is_false(json_object_get(pre, "add_prefix_space"))) {
        return seo_tokenizer_refuse(r, "pre_tokenizer.add_prefix_space",
                                    "nothing is put before a text, it must "
                                    "be false");
    }
    const json_t *regex = json_object_get(pre, "use_regex");
    if (regex != NULL && !json_is_true(regex)) {
        return seo_tokenizer_refuse(r, "pre_tokenizer.use_regex",
                                    "words are cut as GPT-2 does, it must be true");
    }
done:
    return err;
}

static seo_err check_model(const seo_tokenizer_reader *r, const json_t *model) {
    const json_t *dropout = json_object_get(model, "dropout");
    if (seo_json_is_set(dropout) && json_number_value(dropout) != 0.0) {
        return seo_tokenizer_refuse(r, "model.dropout",
                                    "encoding is not random here, it must be null");
    }
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < sizeof affixes / sizeof affixes[0]; i++) {
        const json_t *affix = json_object_get(model, affixes[i]);
        if (seo_json_is_set(affix) && (!json_is_string(affix) || json_string_length(affix) > 0)) {
            return seo_tokenizer_refuse(r, affixes[i], "pieces are plain bytes, it must be empty");
        }
    }
    static const char *const flags[] = {"byte_fallback", "ignore_merges"};
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        const json_t *flag = json_object_get(model, flags[i]);
        if (seo_json_is_set(flag) && !json_is_false(flag)) {
            return seo_tokenizer_refuse(r, flags[i],
                                        "this changes the ids of some words, it must be false");
        }
    }
    return SEO_OK;
}

/* With all 256 bytes in the vocabulary it is never used, but it must be one of its tokens. */
static seo_err check_unknown(const seo_tokenizer_reader *r, const json_t *model) {
    const json_t *unknown = json_object_get(model, "unk_token");
    if (!seo_json_is_set(unknown)) return SEO_OK;
    const char *text = json_string_value(unknown);
    if (text != NULL && json_object_get(r->specials, text) != NULL) return SEO_OK;
    return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                    "%s: model.unk_token is '%.60s': it must be null or one of added_tokens",
                    r->path, text != NULL ? text : "(no string)");
}

static seo_err read_merges(seo_tokenizer_reader *r, const json_t *merges) {
    for (size_t i = 0; i < json_array_size(merges); i++) {
        seo_err err = read_merge(r, json_array_get(merges, i));
        if (err != SEO_OK) return seo_err_context(err, "%s: model.merges[%zu]", r->path, i);
    }
    return SEO_OK;
}

seo_err seo_read_bpe(seo_tokenizer_reader *r, const json_t *root, const json_t *model) {
    seo_err err = SEO_OK;
    json_t *vocabulary = json_object_get(model, "vocab");
    const json_t *merges = json_object_get(model, "merges");
    SEO_TRY(check_model(r, model));
    SEO_TRY(check_unknown(r, model));
    SEO_TRY(check_components(r, root));
    if (!json_is_object(vocabulary) || !json_is_array(merges)) {
        return SEO_FAIL(SEO_ERR_FORMAT, "%s: model needs an object 'vocab' and a list 'merges'",
                        r->path);
    }
    SEO_TRY(seo_read_vocabulary(r, "model.vocab", vocabulary));
    SEO_TRY(read_merges(r, merges));
done:
    return err;
}

/* ---- GPT-2's two files, which RoBERTa has as well ---- */

static seo_err read_named_special(seo_tokenizer_reader *r, const json_t *root, const char *name) {
    const seo_err err = seo_read_special(r, name, json_integer_value(json_object_get(root, name)));
    return err == SEO_OK ? SEO_OK : seo_err_context(err, "%s: [\"%s\"]", r->path, name);
}

/* The file does not say which pieces are special; RoBERTa's are where all five are, and then
 * GPT-2's is a piece like any other. */
static seo_err read_specials(seo_tokenizer_reader *r, const json_t *root) {
    static const char *const roberta[] = {"<s>", "<pad>", "</s>", "<unk>", "<mask>"};
    enum { COUNT = sizeof roberta / sizeof roberta[0] };
    int found = 0;
    for (int i = 0; i < COUNT; i++) found += json_is_integer(json_object_get(root, roberta[i]));
    if (found < COUNT) {
        const bool eot = json_is_integer(json_object_get(root, SEO_EOT_TEXT));
        return eot ? read_named_special(r, root, SEO_EOT_TEXT) : SEO_OK;
    }
    for (int i = 0; i < COUNT; i++) {
        const seo_err err = read_named_special(r, root, roberta[i]);
        if (err != SEO_OK) return err;
    }
    seo_vocab_builder_strip_left(&r->builder);
    return SEO_OK;
}

static seo_err read_encoder_json(seo_tokenizer_reader *r) {
    seo_err err = SEO_OK;
    json_t *root = NULL;
    SEO_TRY(seo_json_load(r->path, SEO_TOKENIZER_BYTES_MAX, &root));
    if (!json_is_object(root)) {
        err = SEO_FAIL(SEO_ERR_FORMAT, "%s: not an object of pieces and ids", r->path);
        goto done;
    }
    SEO_TRY(read_specials(r, root));
    SEO_TRY(seo_read_vocabulary(r, "vocabulary", root));
done:
    json_decref(root);
    return err;
}

/* An optional first line "#version: ...", then a merge a line. */
static seo_err read_vocab_bpe(seo_tokenizer_reader *r, const char *path) {
    char *text = NULL;
    int64_t bytes = 0, line = 0;
    seo_err err = SEO_OK;
    SEO_TRY(seo_file_read(path, SEO_TOKENIZER_BYTES_MAX, &text, &bytes));
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
    seo_tokenizer_reader r = {.path = encoder_json};
    SEO_TRY(read_encoder_json(&r));
    SEO_TRY(read_vocab_bpe(&r, vocab_bpe));
    err = seo_vocab_builder_finish(&r.builder, out);
    if (err != SEO_OK) seo_err_context(err, "%s", vocab_bpe);
done:
    seo_tokenizer_reader_free(&r);
    return err;
}
