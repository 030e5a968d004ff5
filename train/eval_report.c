/* An evaluation for people and as JSON. */
#include <math.h>
#include <string.h>

#include "base/check.h"
#include "train/eval.h"

enum { TABLE_SOURCES_MAX = 20, DIGITS = 9, ALL_DIGITS = 17 };

void seo_eval_table(const seo_eval_result *r, seo_buf *out) {
    char tokens[SEO_SHORT_TEXT], bytes[SEO_SHORT_TEXT], windows[SEO_SHORT_TEXT];
    seo_buf_format(out, "loss            %.4f nats a %stoken", r->loss, r->masked ? "masked " : "");
    if (r->windows > 1) {
        seo_buf_format(out, "   (95 %%: %.4f to %.4f, from %s windows)", r->ci_low, r->ci_high,
                       seo_format_count(windows, r->windows));
    }
    seo_buf_format(out, "\nperplexity      %.2f\n", r->perplexity);
    if (r->masked) {
        seo_buf_format(out, "scored          %s masked tokens in %s sequences\n",
                       seo_format_count(tokens, r->tokens), seo_format_count(windows, r->windows));
    } else {
        seo_buf_format(out, "bits per byte   %.4f\n", r->bits_per_byte);
        seo_buf_format(out, "scored          %s tokens, %s bytes of text\n",
                       seo_format_count(tokens, r->tokens), seo_format_count(bytes, r->bytes));
    }
    if (r->labelled) {
        seo_buf_format(out, "next sentence   %.1f %% right, loss %.4f nats a pair\n",
                       100 * r->label_accuracy, r->label_loss);
    }
    if (r->source_count < 2) return;
    seo_buf_text(out, "\n    loss  perplexity        tokens  source\n");
    for (int64_t s = 0; s < seo_min_i64(r->source_count, TABLE_SOURCES_MAX); s++) {
        const seo_eval_source *source = &r->sources[s];
        const double loss = source->nats / (double)source->tokens;
        seo_buf_format(out, "%8.4f  %10.2f  %12s  %s\n", loss, exp(loss),
                       seo_format_count(tokens, source->tokens), source->path);
    }
    if (r->source_count > TABLE_SOURCES_MAX) {
        seo_buf_format(out, "and %lld more sources; --json has them all\n",
                       (long long)(r->source_count - TABLE_SOURCES_MAX));
    }
}

static void member(seo_buf *out, const char *key, double value, int digits) {
    seo_buf_format(out, "%s\"%s\": ", out->data[out->bytes - 1] == '{' ? "" : ", ", key);
    seo_buf_json_float(out, value, digits);
}

void seo_eval_json(const seo_eval_result *r, int64_t step, seo_buf *out) {
    seo_buf_text(out, "{");
    member(out, "loss", r->loss, ALL_DIGITS);
    member(out, "perplexity", r->perplexity, ALL_DIGITS);
    member(out, "bits_per_byte", r->bits_per_byte, ALL_DIGITS);
    if (r->labelled) {
        member(out, "next_sentence_accuracy", r->label_accuracy, ALL_DIGITS);
        member(out, "next_sentence_loss", r->label_loss, ALL_DIGITS);
    }
    seo_buf_format(out, ", \"tokens\": %lld, \"bytes\": %lld", (long long)r->tokens,
                   (long long)r->bytes);
    member(out, "loss_stderr", r->loss_stderr, DIGITS);
    seo_buf_text(out, ", \"loss_ci95\": [");
    seo_buf_json_float(out, r->ci_low, DIGITS);
    seo_buf_text(out, ", ");
    seo_buf_json_float(out, r->ci_high, DIGITS);
    seo_buf_format(out, "], \"windows\": %lld, \"step\": %lld, \"sources\": [",
                   (long long)r->windows, (long long)step);
    for (int64_t s = 0; s < r->source_count; s++) {
        const seo_eval_source *source = &r->sources[s];
        const double loss = source->nats / (double)source->tokens;
        seo_buf_text(out, s > 0 ? ", {\"path\": " : "{\"path\": ");
        seo_buf_json_string(out, source->path, strlen(source->path));
        member(out, "loss", loss, DIGITS);
        member(out, "perplexity", exp(loss), DIGITS);
        seo_buf_format(out, ", \"tokens\": %lld}", (long long)source->tokens);
    }
    seo_buf_text(out, "]}\n");
}
