#include "train/classify.h"

#include <math.h>
#include <stdlib.h>

#include "base/check.h"

seo_err seo_confusion_open(int64_t classes, seo_confusion *out) {
    SEO_ASSERT(classes >= 1 && classes <= INT32_MAX);
    *out = (seo_confusion){.classes = classes};
    out->counts = calloc((size_t)(classes * classes), sizeof *out->counts);
    if (out->counts) return SEO_OK;
    return SEO_FAIL(SEO_ERR_MEMORY, "a table of %lld classes", (long long)classes);
}

void seo_confusion_free(seo_confusion *confusion) {
    free(confusion->counts);
    *confusion = (seo_confusion){0};
}

seo_err seo_confusion_add(seo_confusion *confusion, int64_t label, int64_t guess) {
    const int64_t n = confusion->classes;
    if (label < 0 || label >= n || guess < 0 || guess >= n) {
        return SEO_FAIL(SEO_ERR_ARG, "label %lld, guess %lld: classes are 0 to %lld",
                        (long long)label, (long long)guess, (long long)n - 1);
    }
    confusion->counts[label * n + guess]++;
    return SEO_OK;
}

/* How often a class is the label, and how often it is guessed. */
static int64_t labelled(const seo_confusion *m, int64_t c) {
    int64_t sum = 0;
    for (int64_t g = 0; g < m->classes; g++) sum += m->counts[c * m->classes + g];
    return sum;
}

static int64_t guessed(const seo_confusion *m, int64_t c) {
    int64_t sum = 0;
    for (int64_t l = 0; l < m->classes; l++) sum += m->counts[l * m->classes + c];
    return sum;
}

static int64_t right(const seo_confusion *m, int64_t c) {
    return m->counts[c * m->classes + c];
}

double seo_confusion_f1(const seo_confusion *m, int64_t c) {
    /* fp + fn are what is guessed and what is labelled without what is both. */
    const int64_t of_both = labelled(m, c) + guessed(m, c);
    return of_both > 0 ? 2.0 * (double)right(m, c) / (double)of_both : (double)NAN;
}

static double macro_f1(const seo_confusion *m) {
    double sum = 0;
    int64_t occur = 0;
    for (int64_t c = 0; c < m->classes; c++) {
        const double f1 = seo_confusion_f1(m, c);
        if (isnan(f1)) continue;
        sum += f1;
        occur++;
    }
    return sum / (double)occur;
}

/* With s examples, r of them right, l_c labels and g_c guesses of class c:
 *   (r s - sum l_c g_c) / sqrt((s^2 - sum g_c^2) (s^2 - sum l_c^2)) */
static double matthews(const seo_confusion *m, int64_t examples, int64_t all_right) {
    const double s = (double)examples;
    double both = 0, labels = 0, guesses = 0;
    for (int64_t c = 0; c < m->classes; c++) {
        const double l = (double)labelled(m, c), g = (double)guessed(m, c);
        both += l * g;
        labels += l * l;
        guesses += g * g;
    }
    const double under = (s * s - guesses) * (s * s - labels);
    return under > 0 ? ((double)all_right * s - both) / sqrt(under) : 0;
}

seo_scores seo_confusion_scores(const seo_confusion *m) {
    int64_t examples = 0, all_right = 0, most = 0;
    for (int64_t c = 0; c < m->classes; c++) {
        const int64_t l = labelled(m, c);
        examples += l;
        all_right += right(m, c);
        most = seo_max_i64(most, l);
    }
    if (examples == 0) {
        return (seo_scores){.accuracy = (double)NAN,
                            .majority = (double)NAN,
                            .f1_macro = (double)NAN,
                            .f1_second = (double)NAN,
                            .matthews = (double)NAN};
    }
    return (seo_scores){.examples = examples,
                        .accuracy = (double)all_right / (double)examples,
                        .majority = (double)most / (double)examples,
                        .f1_macro = macro_f1(m),
                        .f1_second = m->classes == 2 ? seo_confusion_f1(m, 1) : (double)NAN,
                        .matthews = matthews(m, examples, all_right)};
}

int64_t seo_classify_guess(const float *logits, int64_t classes) {
    int64_t best = 0;
    for (int64_t c = 1; c < classes; c++) {
        if (logits[c] > logits[best]) best = c;
    }
    return best;
}

void seo_classify_probabilities(const float *logits, int64_t classes, double *out) {
    const double top = (double)logits[seo_classify_guess(logits, classes)];
    double sum = 0;
    for (int64_t c = 0; c < classes; c++) {
        out[c] = exp((double)logits[c] - top);
        sum += out[c];
    }
    for (int64_t c = 0; c < classes; c++) out[c] /= sum;
}
