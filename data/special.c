/* Special tokens: in what order a text is searched for them, and which of them plays which role. A
 * role belongs to a name: the tokenizers of GPT-2, RoBERTa and BERT each spell theirs in one way,
 * and everybody who trains such a model keeps the spelling. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "data/vocabulary.h"

enum { NAMES_MAX = 3 };

typedef struct role_names {
    const char *role;             /* as messages call it */
    const char *names[NAMES_MAX]; /* the first that the vocabulary has is taken */
} role_names;

static const role_names roles[SEO_ROLE_COUNT] = {
    [SEO_ROLE_EOT] = {"end of text", {SEO_EOT_TEXT, "</s>", "[SEP]"}},
    [SEO_ROLE_BOS] = {"beginning of text", {"<s>", "[CLS]"}},
    [SEO_ROLE_PAD] = {"padding", {"<pad>", "[PAD]"}},
    [SEO_ROLE_MASK] = {"mask", {"<mask>", "[MASK]"}},
    [SEO_ROLE_CLS] = {"classification", {"<s>", "[CLS]"}},
    [SEO_ROLE_SEP] = {"separator", {"</s>", "[SEP]"}},
    [SEO_ROLE_UNK] = {"unknown", {"<unk>", "[UNK]"}},
};

static const char *piece_bytes(const seo_tokenizer *tok, int32_t id) {
    return tok->bytes.data + tok->pieces[id].offset;
}

int32_t seo_tokenizer_special_find(const seo_tokenizer *tok, const char *text, size_t bytes) {
    for (int64_t i = 0; i < tok->special_count; i++) {
        int32_t id = tok->specials[i];
        if ((size_t)tok->pieces[id].bytes == bytes &&
            memcmp(piece_bytes(tok, id), text, bytes) == 0)
            return id;
    }
    return -1;
}

int32_t seo_tokenizer_role(const seo_tokenizer *tok, seo_role role) {
    SEO_ASSERT(role >= 0 && role < SEO_ROLE_COUNT);
    return tok->roles[role];
}

int32_t seo_tokenizer_eot(const seo_tokenizer *tok) {
    return tok->roles[SEO_ROLE_EOT];
}

/* By first byte, then the longest first, then equal ones side by side. */
static int compare_specials(const void *a, const void *b, void *context) {
    const seo_tokenizer *tok = context;
    int32_t one = *(const int32_t *)a, other = *(const int32_t *)b;
    int first = (unsigned char)*piece_bytes(tok, one) - (unsigned char)*piece_bytes(tok, other);
    if (first != 0) return first;
    int longer = tok->pieces[other].bytes - tok->pieces[one].bytes;
    if (longer != 0) return longer;
    int order =
        memcmp(piece_bytes(tok, one), piece_bytes(tok, other), (size_t)tok->pieces[one].bytes);
    return order != 0 ? order : (one > other) - (one < other);
}

static void find_roles(seo_tokenizer *tok) {
    for (int role = 0; role < SEO_ROLE_COUNT; role++) {
        tok->roles[role] = -1;
        for (int i = 0; i < NAMES_MAX && tok->roles[role] < 0; i++) {
            const char *name = roles[role].names[i];
            if (name != NULL)
                tok->roles[role] = seo_tokenizer_special_find(tok, name, strlen(name));
        }
    }
}

seo_err seo_tokenizer_index_specials(seo_tokenizer *tok) {
    int64_t count = 0;
    tok->specials = malloc((size_t)(tok->special_count + 1) * sizeof *tok->specials);
    if (tok->specials == NULL) {
        return SEO_FAIL(SEO_ERR_MEMORY, "not enough memory for the special tokens");
    }
    for (int32_t id = 0; id < tok->id_count; id++) {
        if (!tok->pieces[id].special) continue;
        tok->specials[count++] = id;
        tok->special_first[(unsigned char)*piece_bytes(tok, id)] = true;
    }
    SEO_ASSERT(count == tok->special_count);
    qsort_r(tok->specials, (size_t)count, sizeof *tok->specials, compare_specials, tok);
    for (int64_t i = 1; i < count; i++) {
        int32_t one = tok->specials[i - 1], other = tok->specials[i];
        int32_t bytes = tok->pieces[one].bytes;
        if (bytes == tok->pieces[other].bytes &&
            memcmp(piece_bytes(tok, one), piece_bytes(tok, other), (size_t)bytes) == 0)
            return SEO_FAIL(SEO_ERR_FORMAT, "special token '%.*s' has two ids, %d and %d",
                            bytes < 60 ? bytes : 60, piece_bytes(tok, one), one, other);
    }
    find_roles(tok);
    return SEO_OK;
}

/* ---- what is asked for and not there ---- */

/* Appends "'<s>', '</s>' ...", the special tokens by id. */
static void list_specials(const seo_tokenizer *tok, seo_buf *out) {
    enum { LISTED = 12 };
    int64_t listed = 0;
    for (int32_t id = 0; id < tok->id_count && listed < LISTED; id++) {
        if (!tok->pieces[id].special) continue;
        int32_t bytes = tok->pieces[id].bytes;
        seo_buf_format(out, "%s'%.*s'", listed++ > 0 ? ", " : "", bytes < 40 ? bytes : 40,
                       piece_bytes(tok, id));
    }
    if (listed == 0) seo_buf_text(out, "none");
    if (tok->special_count > LISTED) seo_buf_text(out, " ...");
}

seo_err seo_tokenizer_require(const seo_tokenizer *tok, seo_role role, int32_t *out) {
    *out = seo_tokenizer_role(tok, role);
    if (*out >= 0) return SEO_OK;
    seo_buf names = {0}, there = {0};
    for (int i = 0; i < NAMES_MAX && roles[role].names[i] != NULL; i++) {
        seo_buf_format(&names, "%s%s", i > 0 ? " or " : "", roles[role].names[i]);
    }
    list_specials(tok, &there);
    seo_err err = SEO_FAIL(SEO_ERR_USAGE,
                           "the tokenizer has no %s token, %s (its special tokens: %s): train one "
                           "with 'tokenizer train --special roberta' or '--type wordpiece'",
                           roles[role].role, names.data != NULL ? names.data : "",
                           there.data != NULL ? there.data : "");
    seo_buf_free(&names);
    seo_buf_free(&there);
    return err;
}

/* The special tokens' texts as C strings, one block of memory; NULL without memory. */
static const char **special_names(const seo_tokenizer *tok) {
    size_t bytes = (size_t)(tok->special_count + 1) * sizeof(char *);
    for (int64_t i = 0; i < tok->special_count; i++) {
        bytes += (size_t)tok->pieces[tok->specials[i]].bytes + 1;
    }
    const char **names = malloc(bytes);
    if (names == NULL) return NULL;
    char *text = (char *)(names + tok->special_count + 1);
    for (int64_t i = 0; i < tok->special_count; i++) {
        size_t length = (size_t)tok->pieces[tok->specials[i]].bytes;
        memcpy(text, piece_bytes(tok, tok->specials[i]), length);
        text[length] = '\0';
        names[i] = text;
        text += length + 1;
    }
    return names;
}

seo_err seo_tokenizer_special_id(const seo_tokenizer *tok, const char *text, int32_t *out) {
    *out = seo_tokenizer_special_find(tok, text, strlen(text));
    if (*out >= 0) return SEO_OK;
    const char **names = special_names(tok);
    const char *nearest = names != NULL ? seo_nearest(text, names, tok->special_count) : NULL;
    seo_buf remedy = {0};
    if (nearest != NULL) {
        seo_buf_format(&remedy, "did you mean '%.60s'?", nearest);
    } else {
        seo_buf_text(&remedy, "it has ");
        list_specials(tok, &remedy);
    }
    seo_err err = SEO_FAIL(SEO_ERR_USAGE, "'%.60s' is not a special token of this tokenizer: %s",
                           text, remedy.data != NULL ? remedy.data : "");
    seo_buf_free(&remedy);
    free(names);
    return err;
}
