#include "train/fill.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

/* Memory of one filling. */
typedef struct filling {
    seo_model *model;
    const seo_model_config *config;
    seo_fill_result *out;
    int64_t top;
    int32_t *picks; /* (config's picks): of one pass */
    float *logits;  /* (vocab_size): of one blank */
} filling;

/* Only an encoder with the head for masked tokens fills in. */
static seo_err check_model(const seo_model_config *config) {
    if (!seo_family_is_encoder(config->family)) {
        return SEO_FAIL(SEO_ERR_USAGE,
                        "this model predicts the next token and has no mask to fill in; use "
                        "seodang generate");
    }
    if (config->picks > 0) return SEO_OK;
    return SEO_FAIL(SEO_ERR_USAGE,
                    "this model was trained to label texts and has no head for masked tokens; "
                    "take the checkpoint that it began from");
}

static seo_err add_id(seo_ids *ids, int32_t id) {
    if (ids->count == ids->capacity) {
        const int64_t capacity = ids->capacity > 0 ? 2 * ids->capacity : 64;
        int32_t *items = realloc(ids->items, (size_t)capacity * sizeof *items);
        if (!items) return SEO_FAIL(SEO_ERR_MEMORY, "%lld tokens", (long long)capacity);
        ids->items = items;
        ids->capacity = capacity;
    }
    ids->items[ids->count++] = id;
    return SEO_OK;
}

/* A sequence as in training: CLS text SEP. Special tokens that the text spells are such. */
static seo_err encode(const seo_tokenizer *tokenizer, const char *text, seo_ids *out) {
    seo_err err = SEO_OK;
    seo_encoder *encoder = NULL;
    int32_t first = -1, last = -1;
    SEO_TRY(seo_tokenizer_require(tokenizer, SEO_ROLE_CLS, &first));
    SEO_TRY(seo_tokenizer_require(tokenizer, SEO_ROLE_SEP, &last));
    SEO_TRY(seo_encoder_open(tokenizer, &encoder));
    SEO_TRY(add_id(out, first));
    SEO_TRY(seo_encode(encoder, text, strlen(text), true, out));
    SEO_TRY(add_id(out, last));
done:
    seo_encoder_close(encoder);
    return err;
}

static seo_err find_blanks(const filling *f, const seo_tokenizer *tokenizer) {
    seo_err err = SEO_OK;
    int32_t mask = -1;
    const unsigned char *spelling = NULL;
    size_t bytes = 0;
    seo_fill_result *out = f->out;
    SEO_TRY(seo_tokenizer_require(tokenizer, SEO_ROLE_MASK, &mask));
    if (out->ids.count > f->config->seq_len) {
        return SEO_FAIL(SEO_ERR_USAGE,
                        "the text has %lld tokens with its beginning and end, and the model sees "
                        "%lld; shorten it",
                        (long long)out->ids.count, (long long)f->config->seq_len);
    }
    for (int64_t i = 0; i < out->ids.count; i++) out->count += out->ids.items[i] == mask;
    if (out->count == 0) {
        (void)seo_tokenizer_piece(tokenizer, mask, &spelling, &bytes);
        return SEO_FAIL(SEO_ERR_USAGE,
                        "there is no mask in the text; write %.*s for each token that is wanted",
                        (int)bytes, (const char *)spelling);
    }
    out->blanks = calloc((size_t)out->count, sizeof *out->blanks);
    if (!out->blanks) return SEO_FAIL(SEO_ERR_MEMORY, "%lld masks", (long long)out->count);
    int64_t blank = 0;
    for (int64_t i = 0; i < out->ids.count; i++) {
        if (out->ids.items[i] == mask) out->blanks[blank++].position = i;
    }
done:
    return err;
}

static bool is_better(const seo_fill_guess *a, const seo_fill_guess *b) {
    return a->probability > b->probability || (a->probability == b->probability && a->id < b->id);
}

/* The best of all guesses, in order: each new one is let in at the end and rises to its place. */
static seo_err choose(const filling *f, seo_fill_blank *blank) {
    const int64_t vocab = f->config->vocab_size, top = seo_min_i64(f->top, vocab);
    double most = -INFINITY, sum = 0;
    blank->guesses = calloc((size_t)top, sizeof *blank->guesses);
    if (!blank->guesses) return SEO_FAIL(SEO_ERR_MEMORY, "%lld guesses", (long long)top);
    for (int64_t v = 0; v < vocab; v++) most = fmax(most, (double)f->logits[v]);
    for (int64_t v = 0; v < vocab; v++) sum += exp((double)f->logits[v] - most);
    if (!isfinite(sum)) {
        return SEO_FAIL(SEO_ERR_NUMERIC, "the model's output is not finite: the checkpoint of a "
                                         "run that diverged");
    }
    for (int64_t v = 0; v < vocab; v++) {
        seo_fill_guess guess = {.id = (int32_t)v,
                                .probability = exp((double)f->logits[v] - most) / sum};
        int64_t at = blank->count;
        if (at == top && !is_better(&guess, &blank->guesses[top - 1])) continue;
        if (at < top) blank->count++;
        at = blank->count - 1;
        for (; at > 0 && is_better(&guess, &blank->guesses[at - 1]); at--) {
            blank->guesses[at] = blank->guesses[at - 1];
        }
        blank->guesses[at] = guess;
    }
    return SEO_OK;
}

/* One pass for the blanks [first, first + count), no more than a sequence has picks. */
static seo_err fill_some(const filling *f, int64_t first, int64_t count) {
    seo_err err = SEO_OK;
    const seo_fill_result *out = f->out;
    const seo_tensor losses =
        seo_tensor_1d(seo_model_losses(f->model).data, SEO_DTYPE_F32, f->config->picks);
    for (int64_t n = 0; n < f->config->picks; n++) {
        f->picks[n] = n < count ? (int32_t)out->blanks[first + n].position : SEO_TARGET_IGNORE;
    }
    seo_pass_args pass = {.ids = out->ids.items,
                          .stride = out->ids.count,
                          .picks = f->picks,
                          .batch = 1,
                          .positions = out->ids.count,
                          .losses = losses};
    if (seo_model_loss_shape(f->config).label) {
        pass.label_losses = seo_tensor_1d(seo_model_label_losses(f->model).data, SEO_DTYPE_F32, 1);
    }
    SEO_TRY(seo_model_forward(f->model, &pass));
    for (int64_t n = 0; n < count; n++) {
        SEO_TRY(seo_model_logits(f->model, n, 1, f->logits));
        SEO_TRY(choose(f, &out->blanks[first + n]));
    }
done:
    return err;
}

seo_err seo_fill(seo_model *model, const seo_tokenizer *tokenizer, const char *text, int64_t top,
                 seo_fill_result *out) {
    seo_err err = SEO_OK;
    filling f = {.model = model, .config = seo_model_config_of(model), .out = out, .top = top};
    *out = (seo_fill_result){0};
    SEO_ASSERT(top >= 1);
    SEO_TRY(check_model(f.config));
    SEO_TRY(encode(tokenizer, text, &out->ids));
    SEO_TRY(find_blanks(&f, tokenizer));
    f.picks = calloc((size_t)f.config->picks, sizeof *f.picks);
    f.logits = malloc((size_t)f.config->vocab_size * sizeof *f.logits);
    if (!f.picks || !f.logits) {
        err = SEO_FAIL(SEO_ERR_MEMORY, "the logits of %lld ids", (long long)f.config->vocab_size);
        goto done;
    }
    for (int64_t first = 0; first < out->count; first += f.config->picks) {
        SEO_TRY(fill_some(&f, first, seo_min_i64(f.config->picks, out->count - first)));
    }
done:
    free(f.picks);
    free(f.logits);
    return err;
}

void seo_fill_free(seo_fill_result *result) {
    for (int64_t i = 0; result->blanks && i < result->count; i++) {
        free(result->blanks[i].guesses);
    }
    free(result->blanks);
    seo_ids_free(&result->ids);
    *result = (seo_fill_result){0};
}
