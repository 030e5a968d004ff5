/* Held-out evaluation: how well the model predicts text it has not seen. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/text.h"
#include "data/dataset.h"
#include "data/tokenizer.h"
#include "train/models/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Decoders. A split of N tokens t_0 .. t_{N-1} is cut into windows of seq_len targets; window w
 * scores tokens [w * seq_len, (w + 1) * seq_len), each from the tokens of its own window before it;
 * the token before the window (the end-of-text token before the first) is given as context. The
 * last window is padded with targets that do not count. So every token is scored exactly once, at
 * the cost that the first tokens of a window have little context. Part of a split: windows spread
 * evenly over it.
 *
 *   loss           nats per token: all window sums added in order, in f64, over the tokens
 *   perplexity     exp(loss)
 *   bits_per_byte  loss / ln 2 * tokens / text bytes of the split: does not depend on the tokenizer
 *   stderr         windows are the units, since tokens in one window depend on each other: with s_w
 *                  the sum and c_w the count of window w of n,
 *                  sqrt(n / (n - 1) * sum_w (s_w - loss * c_w)^2) / sum_w c_w  (ratio estimator);
 *                  ci95 is loss +- 1.96 stderr. NaN with one window.
 *
 * Encoders. The rows of the objective that the model was trained with (data/rows.h) on the split,
 * of epoch 0 and a seed that is always the same, whatever the run's: the same tokens are hidden,
 * and the same pairs are made, for any two models of a tokenizer and context. Tokens are those that
 * are to be predicted, a row counts for the source of its first token, and there are no bits per
 * byte: most of the text is given. With pairs of sentences also how many of them were told right.
 */
typedef struct seo_eval_source {
    const char *path; /* the dataset's, as given to `data build` */
    double nats;
    int64_t tokens;
} seo_eval_source;

typedef struct seo_eval_result {
    double loss, perplexity, bits_per_byte;
    double loss_stderr, ci_low, ci_high;
    int64_t tokens; /* scored */
    int64_t bytes;  /* of text they stand for: of a part, in proportion */
    int64_t windows;
    bool masked;   /* of an encoder: no bytes, and bits_per_byte is NaN */
    bool labelled; /* pairs of sentences: */
    double label_loss, label_accuracy;
    seo_eval_source *sources; /* those with scored tokens */
    int64_t source_count;
} seo_eval_result;

typedef struct seo_eval_args {
    seo_model *model; /* not SEO_MODEL_GENERATE */
    int64_t batch;    /* sequences of one pass: the model's */
    seo_dataset *const *datasets;
    int64_t dataset_count;
    const seo_data_config *data;    /* of masks and documents; NULL: those of a decoder's default */
    const seo_tokenizer *tokenizer; /* of the datasets; encoders only */
    int64_t tokens_max;             /* about this many of the text; 0: all */
    const char *label;              /* of the progress line; NULL: none */
    seo_comm *comm;                 /* ranks that share the work; NULL: this process alone */
    const seo_pass_hooks *hooks; /* of the passes, where parameters are not whole on a rank; opt */
} seo_eval_args;

/* Free the result with seo_eval_free. SEO_ERR_STOPPED when a signal asks to stop. With several
 * ranks all call it with the same arguments; the passes are dealt out in turn, every rank makes as
 * many, and all get the same result, to the last bit that of one rank, without its sources; a
 * signal to one of them stops all after the same pass. */
seo_err seo_eval(const seo_eval_args *args, seo_eval_result *out);
void seo_eval_free(seo_eval_result *result);

/* For people, and as one JSON object with a closing newline. */
void seo_eval_table(const seo_eval_result *result, seo_buf *out);
void seo_eval_json(const seo_eval_result *result, int64_t step, seo_buf *out);

#ifdef __cplusplus
}
#endif
