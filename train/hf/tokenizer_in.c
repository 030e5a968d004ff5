#include "train/hf/tokenizer_in.h"

#include <stdlib.h>

#include "base/file.h"
#include "base/json.h"

enum { CONFIG_BYTES_MAX = 16 << 20 };

static seo_err look(const char *dir, const char *name, char path[SEO_PATH_MAX], bool *there) {
    seo_path_kind kind = SEO_PATH_NONE;
    seo_err err = seo_path_join(path, dir, name);
    if (err == SEO_OK) err = seo_path_look(path, &kind);
    *there = kind == SEO_PATH_FILE;
    return err;
}

/* A switch of BERT's text rules; absent or null it has its default. */
static seo_err read_switch(const json_t *root, const char *path, const char *key, bool *value) {
    const json_t *given = json_object_get(root, key);
    if (!given || json_is_null(given)) return SEO_OK;
    if (!json_is_boolean(given)) {
        return SEO_FAIL(SEO_ERR_FORMAT, "%s: \"%s\" is not true or false", path, key);
    }
    *value = json_is_true(given);
    return SEO_OK;
}

/* transformers writes model_max_length as 10^30 where there is none, so numbers are read as reals.
 */
static seo_err load_settings(const char *path, json_t **out) {
    char *text = NULL;
    int64_t bytes = 0;
    json_error_t error;
    const seo_err err = seo_file_read(path, CONFIG_BYTES_MAX, &text, &bytes);
    if (err != SEO_OK) return err;
    *out =
        json_loadb(text, (size_t)bytes, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &error);
    free(text);
    if (*out) return SEO_OK;
    return SEO_FAIL(SEO_ERR_FORMAT, "%s:%d:%d: not valid JSON: %s", path, error.line, error.column,
                    error.text);
}

/* Whether the model is cased, by tokenizer_config.json; without one it is not, as transformers
 * takes it. */
static seo_err read_cased(const char *dir, bool *cased) {
    seo_err err = SEO_OK;
    char path[SEO_PATH_MAX];
    bool there, lower = true, basic = true, chinese = true;
    json_t *root = NULL;
    *cased = false;
    SEO_TRY(look(dir, "tokenizer_config.json", path, &there));
    if (!there) goto done;
    SEO_TRY(load_settings(path, &root));
    SEO_TRY(read_switch(root, path, "do_lower_case", &lower));
    SEO_TRY(read_switch(root, path, "do_basic_tokenize", &basic));
    SEO_TRY(read_switch(root, path, "tokenize_chinese_chars", &chinese));
    bool strip = lower; /* accents go where letters become small */
    SEO_TRY(read_switch(root, path, "strip_accents", &strip));
    if (!basic || !chinese || strip != lower) {
        err = SEO_FAIL(SEO_ERR_UNSUPPORTED,
                       "%s: its text rules are not read from a vocab.txt: let transformers write a "
                       "tokenizer.json",
                       path);
        goto done;
    }
    *cased = !lower;
done:
    json_decref(root);
    return err;
}

seo_err seo_hf_tokenizer_load(const char *dir, seo_tokenizer **out) {
    seo_err err = SEO_OK;
    char json[SEO_PATH_MAX], vocab[SEO_PATH_MAX], merges[SEO_PATH_MAX], text[SEO_PATH_MAX];
    bool has_json, has_vocab, has_merges, has_text, cased;
    SEO_TRY(look(dir, "tokenizer.json", json, &has_json));
    SEO_TRY(look(dir, "vocab.json", vocab, &has_vocab));
    SEO_TRY(look(dir, "merges.txt", merges, &has_merges));
    SEO_TRY(look(dir, "vocab.txt", text, &has_text));
    if (has_json) {
        SEO_TRY(seo_tokenizer_load(json, out));
    } else if (has_vocab && has_merges) {
        SEO_TRY(seo_tokenizer_load_gpt2(vocab, merges, out));
    } else if (has_text) {
        SEO_TRY(read_cased(dir, &cased));
        SEO_TRY(seo_tokenizer_load_bert(text, cased, out));
    } else {
        err = SEO_FAIL(SEO_ERR_MISSING,
                       "%s has no tokenizer.json, vocab.txt, or vocab.json with merges.txt: get "
                       "them from where the model is from, or let transformers write them with "
                       "AutoTokenizer.from_pretrained(...).save_pretrained(...)",
                       dir);
    }
done:
    return err;
}
