/* A teacher and its student, small models of any two families, and a batch that both read. */
#pragma once

#include "train/distill.h"

enum {
    DISTILL_BATCH = 3,
    DISTILL_POSITIONS = 12,
    DISTILL_PICKS = 4,
    DISTILL_VOCAB = 37,
    DISTILL_ROWS = DISTILL_BATCH * DISTILL_POSITIONS
};

/* Which student learns from which teacher. */
typedef struct distill_pair {
    const char *what;
    seo_family teacher, student;
    int64_t teacher_width, student_width;
    double soft, hard, cosine;
} distill_pair;

typedef struct distill_bench {
    const distill_pair *p;
    seo_config config; /* the student's */
    seo_model_config teacher_config;
    seo_device *dev; /* the bench's own */
    seo_model *teacher, *student;
    seo_distill *distill;
    int32_t ids[DISTILL_BATCH * (DISTILL_POSITIONS + 1)], types[DISTILL_ROWS],
        spans[2 * DISTILL_ROWS];
    int32_t picks[DISTILL_BATCH * DISTILL_PICKS], pick_targets[DISTILL_BATCH * DISTILL_PICKS];
    int64_t targets; /* that count */
    int64_t taken;   /* of the device by `distill` */
} distill_bench;

/* Sums of the tokens' losses of the last pass, of the hard ones, and of the cosines. */
typedef struct distill_total {
    double tokens, hard, cosine, loss;
} distill_total;

/* Opens a device of its own by `open`, and on it both models in this storage type, with weights
 * that bf16 holds, far from their initial values. */
typedef seo_err distill_device_opener(seo_device **out);
distill_bench *distill_bench_open(const distill_pair *p, bool next_sentence,
                                  distill_device_opener *open, seo_dtype storage);
void distill_bench_close(distill_bench *b);

/* A pass of one of both models over the batch, without a teacher. */
seo_pass_args distill_pass_of(const distill_bench *b, const seo_model *model);
/* The student's forward and backward beside its teacher; gradients +=. */
distill_total distill_student_pass(distill_bench *b);

/* Fails the test with the error's message. */
void distill_ok(seo_err err);
