/* Private to train/eval*.c: what an evaluation holds. */
#pragma once

#include "data/rows.h"
#include "train/eval.h"
#include "train/eval_round.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One dataset's part in the work. */
typedef struct seo_eval_part {
    seo_dataset *dataset;
    seo_dataset_info info;
    int64_t number;
    int64_t windows, chosen; /* of the split, and how many of them are scored */
    int64_t first_source;    /* of this dataset in the result's list */
} seo_eval_part;

/* What came of a window; ranks tell each other these. */
typedef struct seo_eval_score {
    double nats, tokens;
    double label_nats, right; /* of its label, if it has one; 1: it was told right */
} seo_eval_score;

typedef struct seo_evaluation {
    const seo_eval_args *a;
    int64_t positions;
    seo_loss_shape shape;
    seo_eval_part *parts;
    seo_rows *rows; /* of an encoder; NULL: windows of text */
    seo_row_shape row_shape;
    /* A pass: `batch` rows of each; NULL where there is nothing of the kind. */
    int32_t *ids, *targets, *types, *spans, *picks, *pick_targets, *labels;
    int32_t *window;      /* the tokens of a window and the one before it */
    float *losses;        /* (batch * rows of the shape) */
    float *label_losses;  /* (batch) */
    float *label_logits;  /* (batch * 2) */
    seo_eval_score *done; /* by scored window, in order */
    int64_t done_count;
    seo_eval_round round;       /* its numbers are the batch's scores */
    seo_document_span document; /* the last one looked up, of part `document_part` */
    const seo_eval_part *document_part;
    seo_eval_result *out;
} seo_evaluation;

/* Windows [first, first + count) of the part's chosen ones. */
typedef struct seo_eval_pass {
    const seo_eval_part *part;
    int64_t first, count;
} seo_eval_pass;

/* eval_windows.c: how many windows a part has; the same inputs for each rank and batch; their
 * scores. With `blank` a single row of which nothing counts. */
int64_t seo_eval_windows_of(const seo_evaluation *e, const seo_eval_part *part);
seo_err seo_eval_score_pass(seo_evaluation *e, const seo_eval_pass *pass, seo_eval_score *scores);
seo_err seo_eval_blank_pass(seo_evaluation *e);
/* Tokens of the text that a window scores. */
int64_t seo_eval_window_length(const seo_evaluation *e, const seo_eval_part *part, int64_t window);
/* The window that is scored as number i of the part: floor(i * windows / chosen). */
int64_t seo_eval_window_at(const seo_eval_part *part, int64_t i);

#ifdef __cplusplus
}
#endif
