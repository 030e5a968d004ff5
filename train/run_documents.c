/* Where a step's sequences came from: a pure function of step and sequence, so that rank 0 names
 * documents that other ranks were fed. */
#include <math.h>
#include <stdio.h>

#include "base/check.h"
#include "base/log.h"
#include "train/run_state.h"

/* Sequences that one warning names. */
enum { NAMED_MAX = 4 };

/* "document 12 from corpus.txt" or "documents 12 to 14 ..." for the tokens [first, last]. */
static void add_documents(seo_dataset *dataset, int64_t first, int64_t last, seo_buf *out) {
    seo_document_span a = {0}, b = {0};
    if (seo_dataset_document_at(dataset, first, &a) != SEO_OK) return;
    if (seo_dataset_document_at(dataset, last, &b) != SEO_OK) return;
    if (a.index == b.index) {
        seo_buf_format(out, "document %lld", (long long)a.index);
    } else {
        seo_buf_format(out, "documents %lld to %lld", (long long)a.index, (long long)b.index);
    }
    seo_buf_format(out, " from %s", seo_dataset_source(dataset, a.source));
    if (a.source != b.source) seo_buf_format(out, " to %s", seo_dataset_source(dataset, b.source));
    seo_buf_text(out, ", ");
}

/* "sequence 3: document 12 from corpus.txt, tokens 768 to 832 of FOLDER (train)" */
static void add_sequence(const seo_run *run, int64_t step, int64_t sequence, seo_buf *out) {
    const seo_order_place place = seo_loader_place(run->loader, step - 1, sequence);
    if (run->task) {
        seo_buf_format(out, "sequence %lld: line %lld of %s", (long long)sequence,
                       (long long)seo_examples_line(seo_task_examples(run->task), place.window),
                       run->config.task.examples);
        return;
    }
    const seo_row_range range = seo_rows_range(seo_loader_rows(run->loader), place);
    const int64_t last = range.first + range.count - 1;
    seo_dataset *dataset = run->datasets[place.source];
    seo_buf_format(out, "sequence %lld: ", (long long)sequence);
    add_documents(dataset, range.first, last, out);
    seo_buf_format(out, "tokens %lld to %lld of %s", (long long)range.first, (long long)last,
                   seo_dataset_name(dataset));
}

void seo_run_add_suspects(const seo_run *run, seo_buf *out) {
    const int64_t named = seo_min_i64(run->suspect_count, SEO_RUN_SUSPECTS);
    for (int64_t i = 0; i < named; i++) {
        seo_buf_format(out, "\n  step %lld, ", (long long)run->suspects[i].step);
        add_sequence(run, run->suspects[i].step, run->suspects[i].sequence, out);
    }
    if (run->suspect_count > named) {
        seo_buf_format(out,
                       "\n  and %lld more sequences; the warnings above name the first of "
                       "each step",
                       (long long)(run->suspect_count - named));
    }
}

/* The `count` sequences of the step with the highest losses, not finite ones above all; among
 * equals the first. */
static void find_worst(const seo_step_result *r, int64_t count, int64_t *named) {
    for (int64_t n = 0; n < count; n++) {
        int64_t worst = -1;
        for (int64_t s = 0; s < r->sequence_count; s++) {
            bool taken = false;
            for (int64_t i = 0; i < n; i++) taken = taken || named[i] == s;
            const double nats = r->sequence_nats[s];
            const bool above = worst < 0 || (isfinite(r->sequence_nats[worst]) &&
                                             !(nats <= r->sequence_nats[worst]));
            if (!taken && above) worst = s;
        }
        named[n] = worst;
    }
}

static void add_worst(const seo_run *run, const seo_step_result *r, int64_t count, seo_buf *out) {
    int64_t named[NAMED_MAX];
    SEO_ASSERT(count <= NAMED_MAX);
    find_worst(r, count, named);
    for (int64_t n = 0; n < count; n++) {
        seo_buf_text(out, "\n  ");
        add_sequence(run, run->state.step, named[n], out);
        seo_buf_format(out, " (loss %.4g)",
                       r->sequence_nats[named[n]] / (double)r->sequence_losses);
    }
}

static int64_t bad_sequences(const seo_step_result *r) {
    int64_t count = 0;
    for (int64_t s = 0; s < r->sequence_count; s++) count += !isfinite(r->sequence_nats[s]);
    return count;
}

static void add_suspect(seo_run *run, int64_t sequence) {
    if (run->suspect_count < SEO_RUN_SUSPECTS) {
        run->suspects[run->suspect_count] =
            (seo_run_suspect){.step = run->state.step, .sequence = sequence};
    }
    run->suspect_count++;
}

void seo_run_note_suspects(seo_run *run, const seo_step_result *r) {
    int64_t worst = 0;
    if (run->state.bad_in_row == 1) run->suspect_count = 0;
    for (int64_t s = 0; s < r->sequence_count; s++) {
        if (!isfinite(r->sequence_nats[s])) add_suspect(run, s);
    }
    if (bad_sequences(r) > 0) return;
    find_worst(r, 1, &worst);
    add_suspect(run, worst);
}

/* A step's loss and what is done about it, then the sequences that are to be looked at. */
static void warn_of_step(const seo_run *run, const seo_step_result *r, int64_t shown,
                         const char *what) {
    seo_buf text = {0};
    if (!seo_run_speaks(run)) return;
    add_worst(run, r, seo_min_i64(seo_min_i64(shown, NAMED_MAX), r->sequence_count), &text);
    seo_warn("step %lld: %s%s", (long long)run->state.step, what,
             text.data && !text.failed ? text.data : "");
    seo_buf_free(&text);
}

void seo_run_show_bad_step(const seo_run *run, const seo_step_result *r) {
    char what[256];
    const int64_t bad = bad_sequences(r);
    snprintf(what, sizeof what,
             "loss %g, gradient norm %g: the update is left out (%lld in a row). %lld of %lld "
             "sequences have no finite loss%s",
             r->loss, r->grad_norm, (long long)run->state.bad_in_row, (long long)bad,
             (long long)r->sequence_count, bad > 0 ? ", the first:" : "; those with the highest:");
    warn_of_step(run, r, bad > 0 ? bad : NAMED_MAX, what);
}

void seo_run_show_spike(const seo_run *run, const seo_step_result *r) {
    char what[256];
    snprintf(what, sizeof what,
             "loss %.4f is a spike: %.4f was to be expected, it lies %.1f deviations above%s. The "
             "sequences with the highest loss:",
             r->loss, run->spike.expected, run->spike.sigmas,
             r->vetoed ? "; the update is left out" : "");
    warn_of_step(run, r, NAMED_MAX, what);
}
