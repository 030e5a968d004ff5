/* How well labels are guessed: a table of true and guessed ones, and what follows from it. */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "base/text.h"

#ifdef __cplusplus
extern "C" {
#endif

/* counts[label * classes + guess]: examples of a label that got a guess. Zero-initialise, open,
 * free with seo_confusion_free. */
typedef struct seo_confusion {
    int64_t classes;
    int64_t *counts;
} seo_confusion;

seo_err seo_confusion_open(int64_t classes, seo_confusion *out);
void seo_confusion_free(seo_confusion *confusion);
/* SEO_ERR_ARG when one of the two is no class. */
seo_err seo_confusion_add(seo_confusion *confusion, int64_t label, int64_t guess);

/* accuracy    the share that is right
 * majority    the accuracy of always guessing the most frequent label: what has to be beaten
 * f1          of class c: 2 tp / (2 tp + fp + fn); macro: their mean over the classes that occur as
 *             label or guess
 * f1_second   of class 1 where there are two, as is usual for yes and no; NaN else
 * matthews    the correlation of labels and guesses (Matthews 1975; of several classes Gorodkin
 *             2004): 1 all right, 0 no better than chance, or where all labels or all guesses are
 *             one */
typedef struct seo_scores {
    int64_t examples;
    double accuracy, majority, f1_macro, f1_second, matthews;
} seo_scores;

/* NaN all over without an example. */
seo_scores seo_confusion_scores(const seo_confusion *confusion);
double seo_confusion_f1(const seo_confusion *confusion, int64_t c); /* NaN: it does not occur */

/* The class of the highest logit; of equal ones the first. */
int64_t seo_classify_guess(const float *logits, int64_t classes);

/* A probability for each class: softmax. out: (classes). */
void seo_classify_probabilities(const float *logits, int64_t classes, double *out);

#ifdef __cplusplus
}
#endif
