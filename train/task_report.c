/* A task's evaluation for people, and as JSON. */
#include <math.h>
#include <string.h>

#include "base/check.h"
#include "train/task.h"

enum { DIGITS = 17, TABLE_CLASSES_MAX = 8 };

/* Rows: labels; columns: guesses. */
static void add_confusion(const seo_task *task, const seo_confusion *m, seo_buf *out) {
    if (m->classes > TABLE_CLASSES_MAX) return;
    seo_buf_text(out, "\nlabel \\ guess  ");
    for (int64_t c = 0; c < m->classes; c++) {
        seo_buf_format(out, "  %12.12s", seo_task_label(task, c));
    }
    seo_buf_text(out, "            F1\n");
    for (int64_t l = 0; l < m->classes; l++) {
        seo_buf_format(out, "%-16.16s", seo_task_label(task, l));
        for (int64_t g = 0; g < m->classes; g++) {
            seo_buf_format(out, "  %12lld", (long long)m->counts[l * m->classes + g]);
        }
        seo_buf_format(out, "  %12.4f\n", seo_confusion_f1(m, l));
    }
}

void seo_task_table(const seo_task *task, const seo_task_result *r, seo_buf *out) {
    char count[SEO_SHORT_TEXT], tokens[SEO_SHORT_TEXT];
    if (seo_task_label_count(task) == 0) {
        seo_buf_format(out, "loss            %.4f nats a token of the completions\n", r->loss);
        seo_buf_format(out, "perplexity      %.2f\n", r->perplexity);
        seo_buf_format(out, "scored          %s examples, %s tokens\n",
                       seo_format_count(count, r->examples), seo_format_count(tokens, r->tokens));
        return;
    }
    const seo_scores *s = &r->scores;
    seo_buf_format(out, "loss            %.4f nats an example\n", r->loss);
    seo_buf_format(out, "accuracy        %.4f   (always the most frequent label: %.4f)\n",
                   s->accuracy, s->majority);
    seo_buf_format(out, "F1              %.4f macro", s->f1_macro);
    if (!isnan(s->f1_second)) {
        seo_buf_format(out, ", %.4f of %s", s->f1_second, seo_task_label(task, 1));
    }
    seo_buf_format(out, "\nMatthews corr.  %.4f\n", s->matthews);
    seo_buf_format(out, "scored          %s examples\n", seo_format_count(count, r->examples));
    add_confusion(task, &r->confusion, out);
}

static void member(seo_buf *out, const char *key, double value) {
    seo_buf_format(out, ", \"%s\": ", key);
    seo_buf_json_float(out, value, DIGITS);
}

static void json_classes(const seo_task *task, const seo_task_result *r, seo_buf *out) {
    const seo_scores *s = &r->scores;
    const int64_t n = r->confusion.classes;
    member(out, "accuracy", s->accuracy);
    member(out, "majority", s->majority);
    member(out, "f1_macro", s->f1_macro);
    if (n == 2) member(out, "f1", s->f1_second);
    member(out, "matthews", s->matthews);
    seo_buf_text(out, ", \"labels\": [");
    for (int64_t c = 0; c < n; c++) {
        const char *label = seo_task_label(task, c);
        seo_buf_text(out, c > 0 ? ", " : "");
        seo_buf_json_string(out, label, strlen(label));
    }
    seo_buf_text(out, "], \"confusion\": [");
    for (int64_t i = 0; i < n * n; i++) {
        seo_buf_format(out, "%s%lld%s",
                       i == 0       ? "["
                       : i % n == 0 ? ", ["
                                    : ", ",
                       (long long)r->confusion.counts[i], i % n == n - 1 ? "]" : "");
    }
    seo_buf_text(out, "]");
}

void seo_task_json(const seo_task *task, const seo_task_result *r, int64_t step, seo_buf *out) {
    seo_buf_text(out, "{\"loss\": ");
    seo_buf_json_float(out, r->loss, DIGITS);
    if (seo_task_label_count(task) == 0) {
        member(out, "perplexity", r->perplexity);
        seo_buf_format(out, ", \"tokens\": %lld", (long long)r->tokens);
    } else {
        json_classes(task, r, out);
    }
    seo_buf_format(out, ", \"examples\": %lld, \"step\": %lld}\n", (long long)r->examples,
                   (long long)step);
}
